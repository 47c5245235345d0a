"""Write report.html of a study, or of all studies of a tuning_id and one that compares them; also while they run.

    python -m codes.report tuning_id=robertson                        # all its studies
    python -m codes.report tuning_id=robertson surrogate=MultiONet    # one
    python -m codes.report tuning_id=robertson surrogate=MultiONet search_space=fine

Takes what tune.py takes to find the study. The pages need no network.
"""

from collections.abc import Sequence
from typing import Any


def main(values: dict[str, Any], overrides: Sequence[str]) -> str:
    """Write the pages; where they are."""
    from codes import storage
    from codes.errors import UserError
    from codes.results.opening import compose_tune, names_one, opened_study
    from codes.results.report import write_report, write_reports

    if names_one(overrides):
        with opened_study(overrides) as kept:
            return str(write_report(kept))
    composed = compose_tune(overrides)
    settings = storage.settings(composed)
    with storage.existing(settings) as database:
        paths = write_reports(composed, database)
    if not paths:
        raise UserError(f"there is no study with tuning_id={composed.tuning_id} in {database.address}")
    return "\n".join(map(str, paths))


if __name__ == "__main__":
    from codes.results.command import run

    run(__doc__, {}, main)
