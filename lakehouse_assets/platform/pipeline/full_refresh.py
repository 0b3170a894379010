"""Computes a whole table again from all that its sources have, whatever its watermarks say.

The rows are computed batch by batch, or partition by partition, into a table next to the stored one, by the same steps as a refresh; then
that table takes its place (`swap`). Readers see the old rows until then, memory follows the batch, and a run that died is taken up where it
stopped.
"""

import hashlib
import inspect
from collections.abc import Mapping

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import swap
from lakehouse_assets.platform.pipeline.marks import FULL_REFRESH
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.quality.contract import fingerprint
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.table import Table

_CODE = "full-refresh/code"


def full_refresh(refresh: Refresh) -> Refreshed:
    """Compute a table again, in place. Rows that do not come out again go; those that come out as they were are not written.

    Tables that keep what they once said, as feature sets and predictions do, are computed again in place.

    Raises:
        ContractBroken: The table was not changed.
    """
    declaration, lakehouse = refresh.declaration, refresh.lakehouse
    if not refresh.stored.exists():
        return refresh.run()
    if not declaration.kind.rewrites:
        return refresh.recompute()
    swap.finish(declaration, lakehouse, refresh.run_id)
    staged = swap.staging(declaration)
    number = (refresh.stored.cursor(FULL_REFRESH) or 0) + 1
    marks = {FULL_REFRESH: number, _CODE: _code(declaration)}
    _drop_other(lakehouse.table(staged.name), declaration, marks, refresh)
    staged_refresh = Refresh(staged, lakehouse, refresh.run_id, refresh.champions, refresh.batch_rows, marks)
    try:
        built = staged_refresh.run()
    except Exception as error:
        # People know the table by the name that it is declared under.
        error.args = tuple(text.replace(staged.name, declaration.name) if isinstance(text, str) else text for text in error.args)
        raise
    try:
        version = swap.swap(declaration, lakehouse, refresh.run_id, built.account)
    except CursorMoved:
        if (refresh.stored.cursor(FULL_REFRESH) or 0) < number:
            raise
        version = refresh.stored.version()  # another process has swapped the tables of the same full refresh
    return Refreshed(version, built.account, built.evidence, max(built.batches, 1))


def _drop_other(built: Table, declaration: TableDeclaration, marks: Mapping[str, int], refresh: Refresh) -> None:
    """Delete what an interrupted full refresh left, unless it was of the same code and waits to be taken up."""
    if built.exists() and any(built.cursor(name) != number for name, number in marks.items()):
        swap.drop(declaration, refresh.lakehouse)


def _code(declaration: TableDeclaration) -> int:
    """A number that another function or contract would not have."""
    try:
        source = inspect.getsource(declaration.function)
    except OSError:  # typed into a console
        source = declaration.function.__code__.co_code.hex()
    text = f"{source}\0{fingerprint(declaration.contract)}\0{declaration.kind!r}\0{declaration.layout}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())
