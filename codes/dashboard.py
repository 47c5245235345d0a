"""Open optuna-dashboard on the storage of a study, on this machine only; Ctrl-C ends it. Needs the extra `dashboard`.

    python -m codes.dashboard tuning_id=robertson
    python -m codes.dashboard tuning_id=robertson storage=postgres port=9000

Takes what tune.py takes to find the storage. No password is shown or written.
"""

import sys
from collections.abc import Sequence
from typing import Any


def main(values: dict[str, Any], overrides: Sequence[str]) -> str:
    """Serve until Ctrl-C."""
    from codes import storage
    from codes.errors import UserError
    from codes.results.opening import compose_tune

    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise UserError("the dashboard is not installed; pip install -e '.[dashboard]'") from None
    if not isinstance(values["port"], int) or not 0 < values["port"] < 65536:
        raise UserError(f"port must be an integer from 1 to 65535, but is {values['port']!r}")
    settings = storage.settings(compose_tune(overrides))
    with storage.existing(settings) as database:
        sys.stdout.write(f"{database.address} on http://127.0.0.1:{values['port']}/ (Ctrl-C ends it)\n")
        sys.stdout.flush()
        run_server(database.storage, host="127.0.0.1", port=values["port"])
    return ""


if __name__ == "__main__":
    from codes.results.command import run

    run(__doc__, {"port": 8080}, main)
