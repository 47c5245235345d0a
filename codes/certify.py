"""Measure again what a study recommends, on an idle machine: which of its trials truly differ?

    python -m codes.certify tuning_id=robertson surrogate=MultiONet
    python -m codes.certify tuning_id=robertson surrogate=MultiONet seeds=[1,2,3,4,5] k=3
    python -m codes.certify tuning_id=robertson surrogate=MultiONet search_space=fine device=cuda:0

Trains the Pareto front, or the k=5 best trials of a single objective, and the configuration that the study started
from, once more from each of seeds=[1,2,3], and times all of them in turn, rounds=30 times (at least 10), on
device=auto. The rest is what tune.py takes to find the study. What was found is kept in the study, and shown in its
report. Killed, the same command goes on; seeds=[] times only.
"""

import sys
from collections.abc import Sequence
from typing import Any


def main(values: dict[str, Any], overrides: Sequence[str]) -> str:
    """Certify; what was found, as text."""
    from tqdm import tqdm

    from codes.errors import UserError
    from codes.results.certificate import read_certificate
    from codes.results.certify import certify
    from codes.results.opening import opened_study
    from codes.results.report import write_report
    from codes.results.report.write import NAME
    from codes.tuning.tables import table

    if not isinstance(values["k"], int) or values["k"] < 1:
        raise UserError(f"k must be an integer of at least 1, but is {values['k']!r}")
    with opened_study(overrides) as kept:
        certify(kept, **values, say=lambda text: tqdm.write(text, file=sys.stderr))
        found = read_certificate(kept.study, kept.trials(), kept.objective)
        assert found is not None
        together = kept.folder.parent / NAME
        report = write_report(kept, together if together.exists() else None)
    tables = [(found.columns, found.rows()), *found.comparisons()]
    parts = [*(table(header, rows) for header, rows in tables), "\n".join(found.notes()), f"report  {report}"]
    return "\n\n".join(parts)


if __name__ == "__main__":
    from codes.results.command import run

    run(__doc__, {"k": 5, "seeds": [1, 2, 3], "rounds": 30, "device": "auto"}, main)
