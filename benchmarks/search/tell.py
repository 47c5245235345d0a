"""Tables of what came out, as Markdown."""

import math
from collections.abc import Callable, Iterator

from benchmarks.search.analysis import END, REFERENCE, THIRD, Interval, Results
from benchmarks.search.studies import ARMS

Show = Callable[[Interval], str]
DEFAULTS = {"lae99": "TPE + Hyperband", "dual": "TPE + halving"}  # of the project


def ratio(lead: Interval) -> str:
    """A difference of logarithms of LAE99 as the quotient that it stands for; less is better."""
    return _range(lead.map(lambda value: 10**-value), "{:.3f}")


def difference(lead: Interval) -> str:
    """A difference of hypervolumes; more is better."""
    return _range(lead, "{:+.3f}")


SHOWN: dict[str, tuple[str, Show]] = {
    "lae99": ("LAE99 in multiples", ratio),
    "dual": ("hypervolume, difference", difference),
}


def tables(results: Results) -> str:
    """One table for each goal."""
    return "\n\n".join("\n".join(_table(results, goal)) for goal in ARMS if (goal, REFERENCE) in results.curves)


def _table(results: Results, goal: str) -> Iterator[str]:
    measure, show = SHOWN[goal]
    default = DEFAULTS[goal]
    yield (
        f"| {measure} | after a third | at the end | {REFERENCE}, is reached after "
        f"| at the end, against {default} | trials | ms to ask | seeds |"
    )
    yield "|---" * 8 + "|"
    yield from (_row(results, goal, arm, show) for arm in ARMS[goal] if (goal, arm) in results.curves)


def _row(results: Results, goal: str, arm: str, show: Show) -> str:
    compared, against = results.compared(goal, arm), results.compared(goal, arm, DEFAULTS[goal])
    cells = [show(compared.lead(THIRD)), show(compared.lead(END)), _range(compared.time_to_reference(), "{:.0%}")]
    cells.append(show(against.gain(END)))
    cells += [f"{results.mean_of(goal, arm, field):.0f}" for field in ("trials", "asked")]
    return f"| {arm} | {' | '.join(cells)} | {compared.arm.shape[1]} |"


def _range(interval: Interval, form: str) -> str:
    def shown(number: float) -> str:
        return "never" if math.isinf(number) else form.format(number)

    return f"{shown(interval.value)} ({shown(interval.low)} to {shown(interval.high)})"
