"""The servers of the tests of storages."""

from tests.storage.conftest import binaries, foreign, fresh, open_folder, template

__all__ = ["binaries", "foreign", "fresh", "open_folder", "template"]
