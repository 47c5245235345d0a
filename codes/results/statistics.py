"""What can be said of a few noisy numbers: intervals, and whether two samples differ.

``scipy.stats`` takes 0.7 s to import, which the report of a study without a certificate does not need.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

LEVEL = 0.95  # of every interval; 1 - LEVEL is the error rate of every family of tests


def median_interval(values: Sequence[float], resamples: int = 2000) -> tuple[float, float]:
    """Confidence interval of the median: percentiles of the medians of bootstrap samples, the same for the same values.

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    draws = np.random.default_rng(0).choice(np.asarray(values), (resamples, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def ratio_of_means(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of ``other`` over that of ``one``, with its confidence interval.

    Of independent, about log-normal samples of two or more positive numbers each, whose spreads may differ. Source:
    B. L. Welch, The generalization of "Student's" problem when several different population variances are involved,
    Biometrika 34, 28-35 (1947), on logarithms.
    """
    from scipy import stats

    a, b = np.log(one), np.log(other)
    ratio = math.exp(b.mean() - a.mean())
    if a.std() == b.std() == 0:
        return ratio, ratio, ratio
    interval = stats.ttest_ind(b, a, equal_var=False).confidence_interval(LEVEL)
    return ratio, math.exp(interval.low), math.exp(interval.high)


def p_independent(one: Sequence[float], other: Sequence[float]) -> float:
    """How likely independent samples differ as much or more if their geometric means are equal: Welch's t-test."""
    from scipy import stats

    a, b = np.log(one), np.log(other)
    if a.std() == b.std() == 0:
        return float(a[0] == b[0])
    return float(stats.ttest_ind(a, b, equal_var=False).pvalue)


def p_paired(one: Sequence[float], other: Sequence[float]) -> float:
    """How likely pairs differ as much or more if neither tends to be larger: Wilcoxon's signed-rank test.

    Source: F. Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1, 80-83 (1945).
    """
    from scipy import stats

    differences = np.log(one) - np.log(other)
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def rejected(p_values: Mapping[str, float]) -> set[str]:
    """Names of the hypotheses that fall, so that with probability ``LEVEL`` none of them is true.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6,
    65-70 (1979).
    """
    fallen: set[str] = set()
    for name in sorted(p_values, key=p_values.__getitem__):
        if p_values[name] > (1 - LEVEL) / (len(p_values) - len(fallen)):
            break
        fallen.add(name)
    return fallen
