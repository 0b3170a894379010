"""The lakehouse that pages show: opened once a process, so that products are imported once for all who look."""

import warnings
from functools import cache

from lakehouse_assets.client import Client, open_lakehouse


@cache
def lakehouse() -> Client:
    """The lakehouse of this process's settings."""
    return open_lakehouse()


def warm_up() -> None:
    """Import what the first page would wait for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import altair  # noqa: F401, ICN001 it takes half a second

        lakehouse().context.loaded.catalog  # noqa: B018 imports the products
