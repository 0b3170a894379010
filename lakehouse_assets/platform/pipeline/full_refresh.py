"""Computes a whole table again from all that its sources have, whatever its watermarks say.

The rows are computed into a table next to the stored one, by the same steps as a refresh; then that table takes its place (`swap`). Readers
see the old rows until then, and a run that died is resumed where it stopped.

Row kinds are computed batch by batch and `ByPartition` by groups of partitions, so memory follows the batch. `ByKey`, `Trailing` and `Full`
compute all rows at once; the swap has the quarantine in memory, and, to compare a table without a key, all of its rows.
"""

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import quarantine, source_ids, swap
from lakehouse_assets.platform.pipeline.marks import FULL_REFRESH
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.quality.contract import ContractBroken, fingerprint
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted

_CODE = "full-refresh/code"


def full_refresh(refresh: Refresh) -> Refreshed:
    """Compute a table again, in place. Rows that do not come out again go; those that come out as they were are not written.

    Tables that keep what was once known, as feature sets and predictions do, are computed again in place.

    Raises:
        ContractBroken: The table was not changed.
    """
    declaration, lakehouse = refresh.declaration, refresh.lakehouse
    orphaned = quarantine.has_no_table(declaration, lakehouse)
    if not refresh.stored.exists() and not (orphaned and declaration.kind.rewrites):
        if orphaned:
            quarantine.read_again(declaration, lakehouse)
        return refresh.run()
    if not declaration.kind.rewrites:
        return refresh.recompute()
    swap.finish(declaration, lakehouse, refresh.run_id)
    staged = swap.staging(declaration)
    number = max(table.cursor(FULL_REFRESH) or 0 for table in (refresh.stored, refresh.quarantine)) + 1
    marks = {FULL_REFRESH: number, _CODE: _code(declaration)}
    _drop_other(declaration, marks, refresh)
    staged_refresh = Refresh(staged, lakehouse, refresh.run_id, refresh.champions, refresh.batch_rows, marks)
    try:
        built = staged_refresh.run()
        _check_not_emptied(refresh, staged_refresh.stored, built)
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


def bring_up_to_date(refresh: Refresh) -> Refreshed:
    """Bring a table up to date. One that was deleted while its quarantine stayed is fully refreshed.

    Its quarantine has read what the table has not, maybe under another contract: rows would be in both or in neither.

    Raises:
        ContractBroken: The table was not changed.
        RowsLost: The rows do not add up; the table was not changed.
        FullRefreshNeeded: The declaration changed in a way that the stored table cannot follow.
    """
    return full_refresh(refresh) if quarantine.has_no_table(refresh.declaration, refresh.lakehouse) else refresh.run()


def _check_not_emptied(refresh: Refresh, staged: Table, built: Refreshed) -> None:
    """Stop before a table that has rows would have none, because each row was rejected: so few rows are not judged by their share.

    Raises:
        ContractBroken: So it is.
    """
    if staged.count() or not refresh.stored.exists() or not refresh.stored.count() or not built.account.quarantined:
        return
    worst = max(built.evidence, key=lambda evidence: evidence.broken)
    raise ContractBroken(
        f"{staged.name}: all {counted(built.account.quarantined, 'row')} would be rejected, most often by {worst.rule.name}, and the table "
        f"would be empty. Fix the contract, the function or the source; if a header of the feed has changed, reread its files first "
        "(`lakehouse files reread FEED/FILE`). Nothing was written",
        built.evidence,
    )


def _drop_other(declaration: TableDeclaration, marks: Mapping[str, int], refresh: Refresh) -> None:
    """Delete what an interrupted full refresh left, unless it was of the same code and sources and waits to be taken up."""
    built = swap.built_for(declaration, refresh.lakehouse)
    if built is None:
        return
    sources = [table for name in declaration.sources() if (table := refresh.lakehouse.table(name)).exists()]
    is_other = any(built.cursor(name) != number for name, number in marks.items())
    if is_other or any(source_ids.why_unreadable(built, source) for source in sources):
        swap.drop(declaration, refresh.lakehouse)


def _code(declaration: TableDeclaration) -> int:
    """A number that other code of the product, or another contract, would not have: helpers of a function are mostly in its product."""
    parts = [
        fingerprint(declaration.contract),
        repr(declaration.kind),
        declaration.layout,
        repr(declaration.inputs),
        repr(declaration.dimensions),
        places.parameters_of(declaration.function),
    ]
    try:
        parts.append(inspect.getsource(declaration.function))
        file = Path(inspect.getfile(declaration.function))
        product = next((folder for folder in file.parents if folder.name == declaration.product), None)
        files = file.parent.glob("*.py") if product is None else product.rglob("*.py")
        parts += [file.read_text(encoding="utf-8") for file in sorted(files)]
    except OSError:  # typed into a console
        parts.append(declaration.function.__code__.co_code.hex())
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=6).digest())
