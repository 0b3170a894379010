"""Rows of a quarantine computed again: from their source rows, with the changes of a person, to rows of the table.

Which rows are released, and in which commits, is in `replay`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import polars as pl

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline.contracts import judge, references_now
from lakehouse_assets.platform.pipeline.quarantine import RELEASED_IN, RELEASED_WITH, with_marks
from lakehouse_assets.platform.pipeline.selection import ReplayRefused, changed
from lakehouse_assets.platform.quality.account import RowsLost
from lakehouse_assets.platform.quality.masking import without_values
from lakehouse_assets.platform.quality.split import Split
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.lineage import LINEAGE
from lakehouse_assets.platform.storage.lineage import ORDER as ROW
from lakehouse_assets.platform.storage.table import Table


@dataclass(frozen=True)
class ReplayedRows:
    """The rejected rows of one table as the current function and contract have them."""

    declaration: TableDeclaration
    lakehouse: Lakehouse

    def marked(self) -> pl.LazyFrame:
        """The rows of the quarantine, with the columns that say whether they were released."""
        return with_marks(self.quarantine.scan())

    def replays_of(self, rows: pl.Expr) -> pl.DataFrame:
        """The keys of some of the rejected rows, with the replay that released them, if one has, and its changes to their source rows."""
        return self.marked().filter(rows).select(*ROW, RELEASED_IN, RELEASED_WITH).collect()

    def work_out(self, keys: pl.DataFrame, sets: Mapping[str, str], number: int) -> pl.DataFrame:
        """The rows of the table from the source rows with these keys.

        A function may look at the rows of a file together, as one that numbers equal lines. So it is given the rows of these files that the
        table has taken, in the order in which it took them, and of what comes out only the rows with these keys count.
        """
        in_files = pl.col("_sequence").is_in(keys["_sequence"].unique().implode())
        source = self.source.scan().filter(in_files)
        before = self._taken_before(source, self.replays_of(in_files), number)
        made = self._call(pl.concat([*before, self._changed(source, keys, sets)]))
        rows = self._collected(made.join(keys.lazy(), on=list(ROW), how="semi"), sets)
        there = source.join(keys.lazy(), on=list(ROW), how="semi").select(pl.len()).collect().item()
        if rows.height != there:
            raise RowsLost(
                f"{self.declaration.name}: its function returned {rows.height} rows for {there} rejected ones. Return one row each, with "
                f"its columns {', '.join(LINEAGE)}"
            )
        return rows

    def taken_since(self, rows: pl.DataFrame, at: int, number: int) -> pl.DataFrame | None:
        """The rows with contested keys that the table has taken from the source up to a version, in the files of these rows and later ones.

        Of their columns those that the kind asks for. None if no key is contested: then the source is not read.
        """
        kind = self.declaration.kind
        keys = kind.contested(self.target, rows)
        if not keys.height:
            return None
        since = pl.col("_sequence") >= rows.join(keys, on=keys.columns, how="semi")["_sequence"].min()
        marks = self.replays_of(since)
        released = marks.filter(pl.col(RELEASED_IN) < number)
        taken = [self._call(self.source.scan(at).filter(since).sort(ROW)).join(marks.lazy(), on=list(ROW), how="anti")]
        if released.height:
            before = self._taken_before(self.source.scan().filter(since), marks, number)
            taken.append(self._call(pl.concat(before)).join(released.lazy(), on=list(ROW), how="semi"))
        needed = pl.concat([frame.select(kind.taken_columns) for frame in taken])
        return self._collected(needed.join(keys.lazy(), on=keys.columns, how="semi"))

    def _taken_before(self, source: pl.LazyFrame, marks: pl.DataFrame, number: int) -> list[pl.LazyFrame]:
        """The source rows that the table has taken before a replay: those that were never rejected, then those of each earlier replay."""
        never_rejected = source.join(marks.lazy(), on=list(ROW), how="anti").sort(ROW)
        released = marks.filter(pl.col(RELEASED_IN) < number)
        if not released.height:
            return [never_rejected]
        # Read once, however many replays there were.
        rows = source.join(released.lazy(), on=list(ROW), how="semi").collect(engine="streaming").lazy()
        return [never_rejected, *(self._changed(rows, keys, sets) for keys, sets in _earlier_replays(released))]

    def _collected(self, made: pl.LazyFrame, sets: Mapping[str, str] = MappingProxyType({})) -> pl.DataFrame:
        """What the function has made of source rows.

        Raises:
            ReplayRefused: It failed, or a change to a source row did; no values of rows are shown.
        """
        try:
            return made.collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            changes = f"--set {' '.join(f'{name}={value}' for name, value in sets.items())}"
            at = changes if sets else f"{self.declaration.name}: its function failed with {type(error).__name__}"
            raise ReplayRefused(f"{at}: {without_values(error)}") from None

    def _call(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """What the function makes of source rows, with its dimensions as they are now."""
        dimensions = {name: self.lakehouse.table(dimension.table).scan() for name, dimension in self.declaration.dimensions.items()}
        return self.declaration(**{next(iter(self.declaration.inputs)): rows}, **dimensions)

    def _changed(self, source: pl.LazyFrame, keys: pl.DataFrame, sets: Mapping[str, str]) -> pl.LazyFrame:
        """The source rows with these keys, in the order of the files, with changes."""
        rows = source.join(keys.lazy(), on=list(ROW), how="semi").sort(ROW)
        return changed(rows, sets)

    def split(self, rows: pl.DataFrame, waiting: pl.DataFrame | None = None) -> Split:
        """Rows by whether they pass; `waiting` rows of their files count as rejected with them."""
        # A quarantine holds what is bad: that much of it still is says nothing about the source.
        parts = judge(self.declaration, self.lakehouse, rows, references_now(self.declaration, self.lakehouse), limited=False)
        if waiting is not None:
            parts = replace(parts, bad=pl.concat([parts.bad, _as_returned(waiting, parts.bad.schema)]))
        return self.declaration.kind.settle(parts, self.target, replaces_all=False)

    @property
    def target(self) -> Table:
        """The table."""
        return self.lakehouse.table(self.declaration.name)

    @property
    def quarantine(self) -> Table:
        """Its rejected rows."""
        return self.lakehouse.table(self.declaration.quarantine)

    @property
    def source(self) -> Table:
        """The table that it is computed from."""
        return self.lakehouse.table(next(iter(self.declaration.inputs.values())))


def _earlier_replays(released: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, Mapping[str, str]]]:
    """The replays that released these rows, in order: their rows, and the changes to the source rows."""
    for rows in released.sort(RELEASED_IN).partition_by(RELEASED_IN, maintain_order=True):
        yield rows, json.loads(rows[RELEASED_WITH][0] or "{}")


def _as_returned(stored: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Rows of a quarantine with the columns and types that the function returns now; what cannot be told in these is null."""
    return stored.select(
        pl.col(name).cast(dtype, strict=False) if name in stored.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in schema.items()
    )
