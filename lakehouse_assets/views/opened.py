"""The lakehouse that pages show: opened once a process, so that products are imported once for all who look."""

import warnings
from contextlib import suppress
from functools import cache

from lakehouse_assets.client import Client, open_lakehouse


@cache
def lakehouse() -> Client:
    """The lakehouse of this process's settings."""
    return open_lakehouse()


def warm_up() -> None:
    """Import what the first page would wait for, by making it once. What fails fails again, with its reason, for who opens it."""
    from lakehouse_assets.views import overview
    from lakehouse_assets.views.in_html import content

    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        content(overview.page(lakehouse()))
        import altair  # noqa: F401, ICN001 it takes half a second
