"""Run the studies that are missing, seed by seed, so that all arms have equally many at any time; then tell."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import optuna
import torch
from tqdm import tqdm

import benchmarks.search
from benchmarks.search.analysis import Results, latency_noise
from benchmarks.search.problems import PROBLEMS, Problem
from benchmarks.search.studies import ARMS, Setting, as_row, calibrate, run_study
from benchmarks.search.table import Table
from benchmarks.search.tell import tables
from codes.training import warm_up

RESULTS = Path(__file__).parents[1] / "results"
STUDIES, TRAININGS = RESULTS / "search.jsonl", RESULTS / "search_trainings"


def read(path: Path) -> list[dict[str, Any]]:
    """Lines of results."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wanted(seeds: int, problems: Sequence[Problem], arms: Sequence[str]) -> Iterator[tuple[Setting, int]]:
    """Every study, all of one seed before those of the next."""
    for seed in range(seeds):
        for problem in problems:
            yield from (
                (Setting(problem, goal, arm), seed) for goal in ARMS for arm in ARMS[goal] if not arms or arm in arms
            )


def missing(seeds: int, problems: Sequence[Problem], arms: Sequence[str]) -> list[tuple[Setting, int]]:
    """Those that no line is there of."""
    done = {(f"{row['problem']}/{row['goal']}/{row['arm']}", row["seed"]) for row in read(STUDIES)}
    return [(setting, seed) for setting, seed in wanted(seeds, problems, arms) if (setting.name, seed) not in done]


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=benchmarks.search.__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=60.0, help="no study is started after them")
    parser.add_argument("--arms", nargs="*", default=[], help="names, all by default")
    names = {problem.name: problem for problem in PROBLEMS}
    parser.add_argument(
        "--problems",
        nargs="*",
        default=list(names),
        choices=list(names),
        help="all by default; processes with different ones may run at once",
    )
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    warm_up()
    RESULTS.mkdir(exist_ok=True)
    table, end = Table(TRAININGS), monotonic() + 60 * arguments.minutes
    problems = [names[name] for name in arguments.problems]
    for problem in problems:
        calibrate(problem, table)
    for setting, seed in tqdm(missing(arguments.seeds, problems, arguments.arms), unit="study", disable=None):
        if monotonic() > end:
            break
        row = as_row(setting, seed, list(run_study(setting, seed, table)), table)
        with STUDIES.open("a") as file:
            file.write(json.dumps(row, separators=(",", ":")) + "\n")
    table = Table(TRAININGS)  # with what other processes have added
    print(tables(Results(read(STUDIES), table)))
    low, high = latency_noise(table)
    trainings = sum(len(table.of(problem.name)) for problem in PROBLEMS)
    print(f"\n{trainings} trainings; 90 % of inference times within {low:.2f} and {high:.2f} of their median")


if __name__ == "__main__":
    main()
