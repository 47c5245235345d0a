"""The picture of docs/performance.md, from the results in ``benchmarks/results``: ``python docs/search_picture.py``.

Needs the extra ``docs``, and this folder's parent on the path of modules.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter, ScalarFormatter

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.search.__main__ import STUDIES, TRAININGS, read
from benchmarks.search.analysis import REFERENCE, TIMES, Results
from benchmarks.search.studies import ARMS
from benchmarks.search.table import Table

PICTURE = Path(__file__).parent / "pictures" / "search.svg"
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "codes"}
COLOURS = {
    REFERENCE: "#000000",
    "NSGA-II": "#0072B2",
    "NSGA-II + halving": "#56B4E9",
    "TPE + Hyperband": "#D55E00",
    "TPE + halving": "#D55E00",
    "TPE, multivariate + halving": "#E69F00",
    "TPE": "#009E73",
    "GP": "#CC79A7",
    "random": "#999999",
}
LABELS = {"lae99": f"best LAE99 / {REFERENCE}, at its end", "dual": "hypervolume"}


def main() -> None:
    """Draw the mean over problems and seeds of each arm against time."""
    results = Results(read(STUDIES), Table(TRAININGS))
    plt.rcParams.update(STYLE)
    figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained")
    for axes, goal in zip(panels, ARMS, strict=True):
        draw(axes, results, goal)
    figure.savefig(PICTURE, metadata={"Date": None})


def draw(axes: Axes, results: Results, goal: str) -> None:
    """One goal: a line for each arm, what the reference ends with, and a third of the time."""
    for arm in ARMS[goal]:
        if (goal, arm) in results.curves:
            axes.plot(TIMES, mean_curve(results, goal, arm), color=COLOURS[arm], label=arm, linewidth=1.3)
    axes.axhline(mean_curve(results, goal, REFERENCE)[-1], color="black", linewidth=0.6, linestyle=":")
    axes.axvline(1 / 3, color="black", linewidth=0.6, linestyle=":")
    axes.set(xlabel="CPU time, share of the budget", ylabel=LABELS[goal], xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    if goal == "lae99":
        axes.set(yscale="log", ylim=(None, 2.0))
        for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            formatter(ScalarFormatter())
    axes.legend(frameon=False, fontsize=8)


def mean_curve(results: Results, goal: str, arm: str) -> list[float]:
    """LAE99 as a multiple of what the reference ends with (geometric mean), or the hypervolume (mean)."""
    if goal == "dual":
        return list(results.curves[goal, arm].mean((0, 1)))
    compared = results.compared(goal, arm)
    return list(10 ** -(compared.arm - compared.reference[:, :, -1:]).mean((0, 1)))


if __name__ == "__main__":
    main()
