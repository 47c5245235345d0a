"""Versions of what a result was made with."""

from importlib import metadata


def version_of(package: str) -> str:
    """As it is installed; this one can be run from a clone without being so."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
