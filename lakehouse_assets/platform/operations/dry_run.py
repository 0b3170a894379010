"""What a run would make of files that have not landed yet, down to the tables that read their feed. Nothing is written.

How a file would be read is in `ingestion.preview`; printing is in `cli`.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.ingestion.preview import Preview, preview
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.quality.contract import ContractBroken
from lakehouse_assets.platform.quality.masking import without_values
from lakehouse_assets.platform.quality.split import BROKEN
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@dataclass(frozen=True)
class Judged:
    """What a table that reads a feed would do with the rows of files.

    Attributes:
        quarantined: How many rows it would quarantine.
        rules: How many rows each rule would reject; a row may break several.
        files: How many rows of each file would be quarantined.
        stops: Why the write would fail and none be written; None if it would not.
    """

    table: str
    quarantined: int = 0
    rules: tuple[tuple[str, int], ...] = ()
    files: tuple[tuple[str, int], ...] = ()
    stops: str | None = None


def dry_run(root: Root, declarations: Sequence[Declaration], asset: FeedDeclaration, files: list[Path]) -> dict[str, Any]:
    """What a run would make of files of a feed: one entry a file, the total, and what the tables that read the feed would reject."""
    with ExitStack() as opened:
        found = list(preview(root.ingestion(asset), files, opened))
        frames = [one.frame for one in found if one.frame is not None]
        rows = pl.concat(frames, how="diagonal") if frames else None
        tables = [] if rows is None else [judged(reader, rows, root.lakehouse) for reader in _readers(declarations, asset)]
    return {
        "feed": asset.feed.name,
        "policy": asset.feed.new_columns,
        "files": [_plain(one, {table.table: dict(table.files).get(one.name, 0) for table in tables}) for one in found],
        "total": {
            "files": {kind: sum(one.becomes == kind for one in found) for kind in dict.fromkeys(one.becomes for one in found)},
            "rows": sum(one.rows for one in found),
            "rescued": sum(one.rescued for one in found),
            "new_columns": sorted({name for one in found for name in one.new_columns}),
        },
        "tables": [{"table": one.table, "quarantined": one.quarantined, "rules": dict(one.rules), "stops": one.stops} for one in tables],
    }


def _readers(declarations: Sequence[Declaration], asset: FeedDeclaration) -> list[TableDeclaration]:
    tables = [table for table in declarations if isinstance(table, TableDeclaration)]
    return [table for table in tables if table.kind.takes_rows and asset.name in table.inputs.values()]


def _plain(one: Preview, quarantined: dict[str, int]) -> dict[str, Any]:
    return {f.name: getattr(one, f.name) for f in fields(one) if f.name != "frame"} | {"quarantined": quarantined}


def judged(asset: TableDeclaration, rows: pl.LazyFrame, lakehouse: Lakehouse) -> Judged:
    """Put bronze rows through a table's function and contract, in memory."""
    frames: dict[str, Any] = dict.fromkeys(asset.inputs, rows)
    for name, dimension in asset.dimensions.items():
        if not lakehouse.table(dimension.table).exists():
            return Judged(asset.name, stops=f"{dimension.table} does not exist yet: `lakehouse run {dimension.table}` first")
        frames[name] = lakehouse.table(dimension.table).scan()
    try:
        computed = asset(**frames).collect(engine="streaming")
        bad = contracts.judge(asset, lakehouse, computed, contracts.references_now(asset, lakehouse), limited=False).bad
        stops = None
        try:
            contracts.judge(asset, lakehouse, computed, contracts.references_now(asset, lakehouse))
        except ContractBroken as broken:
            stops = str(broken)
    except ContractBroken as error:
        return Judged(asset.name, stops=str(error))
    except pl.exceptions.PolarsError as error:
        return Judged(asset.name, stops=without_values(error))
    rules = bad[BROKEN].explode().drop_nulls().value_counts(sort=True).rows()
    files = bad["_file"].value_counts(sort=True).rows() if "_file" in bad.columns else []
    return Judged(asset.name, bad.height, tuple(rules), tuple(files), stops)
