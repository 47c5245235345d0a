"""Measure again what studies recommend, on an idle machine: which trials truly differ?

    python -m codes.certify tuning_id=robertson                        # all its studies, side by side
    python -m codes.certify tuning_id=robertson surrogate=MultiONet    # the best trials of one
    python -m codes.certify tuning_id=robertson surrogate=MultiONet seeds=[1,2,3,4,5] k=3
    python -m codes.certify tuning_id=robertson surrogate=MultiONet search_space=fine device=cuda:0

Of one study: trains the Pareto front, or the k=5 best trials of a single objective, and the configuration that the
study started from, once more from each of seeds=[1,2,3], and times all of them in turn, rounds=30 times (at least 10),
on device=auto. Of all studies: the same with the trial that each of them recommends. The rest is what tune.py takes to
find the study. What was found is kept in the studies, and shown in their reports. Killed, the same command goes on;
seeds=[] times only.
"""

import sys
from collections.abc import Sequence
from typing import Any

K = 5  # best trials of a single objective


def main(values: dict[str, Any], overrides: Sequence[str]) -> str:
    """Certify; what was found, as text."""
    from tqdm import tqdm

    from codes.errors import UserError
    from codes.results.opening import names_one

    k = values.pop("k")
    if k is not None and (not isinstance(k, int) or k < 1):
        raise UserError(f"k must be an integer of at least 1, but is {k!r}")
    measuring = {**values, "say": lambda text: tqdm.write(text, file=sys.stderr)}
    if names_one(overrides):
        return _one(overrides, k or K, measuring)
    if k is not None:
        raise UserError("k: is of one study; give surrogate= too, or leave it out")
    return _all(overrides, measuring)


def _one(overrides: Sequence[str], k: int, measuring: dict[str, Any]) -> str:
    from codes.results.certificate import read_certificate
    from codes.results.certify import certify
    from codes.results.opening import opened_study
    from codes.results.report import write_report

    with opened_study(overrides) as kept:
        certify(kept, k=k, **measuring)
        found = read_certificate(kept.study, kept.trials(), kept.objective)
        return _in_words(found, write_report(kept))


def _all(overrides: Sequence[str], measuring: dict[str, Any]) -> str:
    from codes import storage
    from codes.errors import UserError
    from codes.results.certify import certify_side_by_side
    from codes.results.opening import compose_tune, studies
    from codes.results.report import write_reports
    from codes.results.report.findings import read
    from codes.results.side_by_side import read_side_by_side

    composed = compose_tune(overrides)
    settings = storage.settings(composed)
    with storage.existing(settings) as database:
        findings = [read(kept) for kept in studies(composed, database)]
        recommended = [(found.kept, found.chosen) for found in findings if found.chosen is not None]
        if len(recommended) < 2:
            there = ", ".join(study.name for study, _ in recommended) or "none"
            raise UserError(
                f"tuning_id={composed.tuning_id} has fewer than two studies with a complete trial to set side by side "
                f"(there are: {there}); certify one with surrogate=..."
            )
        certify_side_by_side(recommended, **measuring)
        measured = read_side_by_side([(found.kept, found.trials) for found in findings])
        return _in_words(measured, write_reports(composed, database)[-1])


def _in_words(found: Any, report: Any) -> str:
    from codes.tuning.tables import table

    tables = [(found.columns, found.rows()), *found.comparisons()]
    parts = [*(table(header, rows) for header, rows in tables), "\n".join(found.notes()), f"report  {report}"]
    return "\n\n".join(parts)


if __name__ == "__main__":
    from codes.results.command import run

    run(__doc__, {"k": None, "seeds": [1, 2, 3], "rounds": 30, "device": "auto"}, main)
