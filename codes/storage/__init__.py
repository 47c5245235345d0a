"""Where Optuna keeps studies. A backend is a module with a function ``opened``, to which this package dispatches."""

from contextlib import AbstractContextManager

from codes.errors import UserError
from codes.schema import StorageConfig
from codes.storage import journal, memory, postgres, sqlite
from codes.storage.database import Database
from codes.storage.existing import existing
from codes.storage.postgres import serving

__all__ = ["BACKENDS", "Database", "existing", "opened", "serving"]

BACKENDS = {"sqlite": sqlite, "postgres": postgres, "journal": journal, "memory": memory}


def opened(config: StorageConfig) -> AbstractContextManager[Database]:
    """Open the storage that ``config`` describes, its tables made, and close it again.

    Turns failures of the database, also later ones inside the ``with``, into a ``UserError`` that names it.
    """
    if config.backend not in BACKENDS:
        raise UserError(f"storage.backend must be one of {', '.join(BACKENDS)}, but is {config.backend!r}")
    return BACKENDS[config.backend].opened(config)
