"""Trials per hour of two slots, and of one with two threads, against one: ``python -m benchmarks.second_slot``.

Real studies with real workers, of the trials of ``benchmarks.steps``; only the learning rate is tuned, so that all
take the same time. The three take turns. It needs a machine of two cores that does nothing else.
Target: 1.9 times for each surrogate with the second slot.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import optuna

from benchmarks.record import keep
from benchmarks.steps import SHARED, TRIALS
from benchmarks.tuner import slots
from benchmarks.workload import linear_dataset

WAYS = {"one": (1, 1), "two": (2, 1), "two_threads": (1, 2)}  # slots, and CPU threads of each


def compare(surrogate: str, trials: int, repeats: int) -> dict[str, Any]:
    """Trials per hour of each way, and how many times as many as one slot the two others do."""
    per_hour: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        data = ["dataset=hdf5", f"dataset.path={linear_dataset(Path(folder) / 'data.h5')}", "time_pruning=false"]
        for repeat in range(repeats):
            for way in list(WAYS) if repeat % 2 == 0 else reversed(WAYS):
                number, threads = WAYS[way]
                own = [*SHARED, *TRIALS[surrogate], f"trainer.threads={threads}"]
                found = slots(number, trials, f"surrogate={surrogate}", *data, *own)
                per_hour[way].append(found["trials_per_hour"])
    median = {way: statistics.median(runs) for way, runs in per_hour.items()}
    ratios = {way: median[way] / median["one"] for way in ("two", "two_threads")}
    return {"surrogate": surrogate, "median": median, "ratios": ratios, "runs": per_hour}


def main() -> None:
    """Compare for each surrogate, print a table, write one JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.second_slot", description=__doc__.splitlines()[0])
    parser.add_argument("--surrogates", nargs="*", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = [compare(name, arguments.trials, arguments.repeats) for name in arguments.surrogates]
    print(f"{'trials per hour':<20}{'one slot':>10}{'two slots':>10}{'times':>8}{'two threads':>13}{'times':>8}")
    for row in rows:
        line = f"{row['surrogate']:<20}{row['median']['one']:>10.0f}"
        line += f"{row['median']['two']:>10.0f}{row['ratios']['two']:>8.2f}"
        print(f"{line}{row['median']['two_threads']:>13.0f}{row['ratios']['two_threads']:>8.2f}")
    keep("second_slot", studies=rows)


if __name__ == "__main__":
    main()
