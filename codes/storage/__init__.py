"""Where Optuna keeps studies. A backend is a module with a function ``opened``, to which this package dispatches."""

from contextlib import AbstractContextManager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from codes import limits
from codes.errors import UserError
from codes.schema import FileStorageConfig, StorageConfig
from codes.storage import journal, memory, postgres, sqlite
from codes.storage.database import Database
from codes.storage.existing import existing
from codes.storage.postgres import serving

__all__ = ["BACKENDS", "Database", "existing", "opened", "serving", "settings"]

BACKENDS = {"sqlite": sqlite, "postgres": postgres, "journal": journal, "memory": memory}
DEFAULT = Path(__file__).parents[2] / "conf/storage/sqlite.yaml"


def settings(config: DictConfig) -> StorageConfig:
    """``config.storage``, typed and resolved; a config that leaves it out means ``storage=sqlite``."""
    if OmegaConf.is_missing(config.storage, "backend"):
        chosen = OmegaConf.to_container(OmegaConf.load(DEFAULT))
        assert isinstance(chosen, dict)
        del chosen["defaults"]
        config.storage = OmegaConf.merge(OmegaConf.structured(FileStorageConfig), chosen)
    typed: StorageConfig = OmegaConf.to_object(config.storage)  # type: ignore[assignment]
    return typed


def opened(config: StorageConfig) -> AbstractContextManager[Database]:
    """Open the storage that ``config`` describes, its tables made, and close it again.

    Turns failures of the database, also later ones inside the ``with``, into a ``UserError`` that names it.
    """
    if config.backend not in BACKENDS:
        raise UserError(f"storage.backend must be one of {', '.join(BACKENDS)}, but is {config.backend!r}")
    limits.check(config, "storage")
    return BACKENDS[config.backend].opened(config)
