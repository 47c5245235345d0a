"""Trials per hour of two slots against one: ``python -m benchmarks.second_slot``.

Real studies with real workers, of the trials of ``benchmarks.steps``; only the learning rate is tuned, so that all
take the same time. One slot and two take turns. It needs a machine of two cores that does nothing else.
Target: 1.9 times for each surrogate.
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


def compare(surrogate: str, trials: int, repeats: int) -> dict[str, Any]:
    """Trials per hour of both, and how many times as many two slots do."""
    per_hour: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        data = ["dataset=hdf5", f"dataset.path={linear_dataset(Path(folder) / 'data.h5')}", "time_pruning=false"]
        for repeat in range(repeats):
            for number in (1, 2) if repeat % 2 == 0 else (2, 1):
                found = slots(number, trials, f"surrogate={surrogate}", *data, *SHARED, *TRIALS[surrogate])
                per_hour[number].append(found["trials_per_hour"])
    one, two = (statistics.median(per_hour[number]) for number in (1, 2))
    return {"surrogate": surrogate, "one": one, "two": two, "ratio": two / one, "runs": per_hour}


def main() -> None:
    """Compare for each surrogate, print a table, write one JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.second_slot", description=__doc__.splitlines()[0])
    parser.add_argument("--surrogates", nargs="*", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = [compare(name, arguments.trials, arguments.repeats) for name in arguments.surrogates]
    print(f"{'trials per hour':<20}{'one slot':>10}{'two slots':>10}{'times':>8}  (target 1.9)")
    for row in rows:
        print(f"{row['surrogate']:<20}{row['one']:>10.0f}{row['two']:>10.0f}{row['ratio']:>8.2f}")
    keep("second_slot", studies=rows)


if __name__ == "__main__":
    main()
