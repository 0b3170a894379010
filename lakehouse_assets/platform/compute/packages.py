"""Versions of installed packages. Which of them count is for those to say who ask."""

import importlib.metadata
from functools import cache


@cache
def version(package: str) -> str:
    """The installed version of a package, looked up once: on a slow disk each look costs a second.

    Raises:
        PackageNotFoundError: It is not installed.
    """
    return importlib.metadata.version(package)
