"""How studies are getting on: valid trials, outcomes, best, live coordinators, time left, last error. Reads only.

python -m codes.status                                          # all studies under outputs/
python -m codes.status tuning_id=robertson                      # those of one tuning_id
python -m codes.status tuning_id=robertson storage=postgres     # in another storage
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(values: dict[str, Any], overrides: Sequence[str]) -> str:
    """A table of all studies that there are."""
    from codes import storage
    from codes.errors import UserError
    from codes.results.opening import compose_tune
    from codes.results.status import COLUMNS, found_storages, statuses
    from codes.tuning.tables import table

    found, unread = [], []
    if overrides:
        composed = compose_tune(overrides)
        settings = storage.settings(composed)
        named = any(text.startswith("tuning_id=") for text in overrides)
        found = list(statuses(settings, composed.tuning_id if named else None))
    else:
        for settings in found_storages(Path("outputs")):
            try:
                found += statuses(settings)
            except UserError as error:  # which is no reason to say nothing of the others
                unread.append(f"not read: {error}")
    if unread and not found:
        raise UserError("\n".join(unread))
    if not found:
        return "no studies here; studies of another folder or storage: python -m codes.status storage=..."
    columns = list(zip(COLUMNS, *(status.row() for status in found), strict=True))
    shown = [column for column in columns if any(column[1:])]
    rows = list(zip(*(column[1:] for column in shown), strict=True))
    left = [text for status in found if (text := status.left())]
    return "\n".join([table([column[0] for column in shown], rows), *left, *unread])


if __name__ == "__main__":
    from codes.results.command import run

    run(__doc__, {}, main)
