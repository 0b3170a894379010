"""Whether the rows of a table are what its function gives now: a function that was changed computes only what comes from then on.

A commit carries which function computed all rows of the table, or that there were several. The function is compared without its comments
and its docstring, together with the functions and constants of its product that it uses.
"""

from collections.abc import Iterable
from contextlib import suppress

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline.marks import FUNCTION
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.errors import TableDamaged
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

_SEVERAL = 0


def has_changed(declaration: TableDeclaration, lakehouse: Lakehouse) -> bool:
    """Whether a table has rows that another function computed than the one that it has now."""
    stored = lakehouse.table(declaration.name)
    return stored.exists() and stored.cursor(FUNCTION) not in {None, declaration.function_number} and stored.count() > 0


def tables_with_changed(declarations: Iterable[Declaration], lakehouse: Lakehouse) -> list[str]:
    """The names of the tables for which `has_changed`; a damaged one is left to the doctor."""
    found = []
    for asset in declarations:
        with suppress(TableDamaged):
            if isinstance(asset, TableDeclaration) and has_changed(asset, lakehouse):
                found.append(asset.name)
    return found


def why_not_trained(model: ModelDeclaration, declarations: Iterable[Declaration], lakehouse: Lakehouse) -> str | None:
    """Why a model is not to be trained now, and what to do: a part of its rows is of another function. None if it may be."""
    sources = {*model.sources()}
    old = tables_with_changed((asset for asset in declarations if asset.name in sources), lakehouse)
    if not old:
        return None
    return (
        f"{model.name} is not trained: the function of {', '.join(old)} was changed, and rows that it computed before are as they "
        f"were: `lakehouse run {' '.join(old)} --full-refresh` first"
    )


def cursors(declaration: TableDeclaration, stored: Table, *, all_rows: bool) -> tuple[Cursor, ...]:
    """What a commit says of the function; nothing where that stands in the table already, or is not known of its rows.

    Args:
        declaration: Of the table.
        stored: The table.
        all_rows: Whether the commit computes all rows of the table.
    """
    if not stored.exists():
        return ()  # it is created with the number
    at, number = stored.cursor(FUNCTION), declaration.function_number
    if at == number:
        return ()
    if all_rows or not stored.count():
        return (Cursor(FUNCTION, at, number),)
    return () if at in {None, _SEVERAL} else (Cursor(FUNCTION, at, _SEVERAL),)
