"""Follows a change of a column upstream: to the first table that has it, and there to the files, the commit or the function it came with.

Only rows of the window, and of those before it, are read, and of them one column. What a change is, is in `change`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial, reduce
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.governance.personal import PersonalColumns
from lakehouse_assets.platform.governance.policy import policy_of
from lakehouse_assets.platform.monitoring.profiling.groups import Groups, is_time
from lakehouse_assets.platform.monitoring.why.change import Change, comparable
from lakehouse_assets.platform.monitoring.why.columns import columns_read
from lakehouse_assets.platform.monitoring.why.made_of import Sides, of_file_rows, of_keys
from lakehouse_assets.platform.monitoring.why.origin import function_changed, lacking_files, of_files
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, as_known, of_version
from lakehouse_assets.platform.storage.known_at import VERSION as FEATURE_VERSION
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.lineage import LINEAGE
from lakehouse_assets.platform.storage.table import Table

Span = tuple[datetime, datetime | None]
"""From a moment on and before another; None: without an end."""
_Part = tuple[Sequence[str], Callable[[pl.LazyFrame], pl.LazyFrame]]
"""The columns that a choice of rows is by, and what leaves these rows."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DEPTH: Final = 10
_MOMENT: Final = "_moment"
NOTHING_KNOWN: Final = "nothing upstream of it is known here"
"""How the last step ends where no file and no function stands out."""
_MOST_COLUMNS: Final = 12
_OF_VERSIONS: Final = frozenset({KNOWN_AT, FEATURE_VERSION})


@dataclass(frozen=True)
class ChangedColumn:
    """A column of a table that has the change."""

    table: str
    column: str
    sides: Sides
    change: Change
    old: int | None = None
    """Version of the table at which all was well; None: not known."""
    is_rewritten: bool = False
    """Whether the rows before are those of that version, and not those of earlier windows."""


@dataclass(frozen=True)
class Trace:
    """Where the change of a column is looked for.

    Attributes:
        lakehouse: The tables.
        catalog: All declarations.
        time: The column that windows are cut by.
        after: The windows that have the change, as one span.
        before: The windows before it.
        chosen: The value of a slice, by its column.
        since: Version of the watched table at which all was well; None: not known.
    """

    lakehouse: Lakehouse
    catalog: Catalog
    time: str
    after: Span
    before: Span
    chosen: Mapping[str, str | None] = field(default_factory=dict)
    since: int | None = None

    def follow(self, table: str, column: str) -> list[str]:
        """The steps from a column of a table to where the change came in, each a sentence; the last one is the origin.

        Empty if the rows of the window do not differ from those before.
        """
        found = self._begin(table, column)
        if found is None:
            return []
        steps = [f"{found.column} of {found.table}: {found.change.words}"]
        for _ in range(_DEPTH):
            upstream = self._upstream(found)
            if upstream is None:
                break
            found = upstream
            steps.append(f"{found.column} of {found.table}: {found.change.words}")
        origin = self._origin(found)
        # What is said of files says the change of the table again.
        return [*(steps[:-1] if origin.startswith(f"{found.column} of {found.table}: ") else steps), origin]

    def lacking(self, table: str, column: str, items: Sequence[str]) -> str | None:
        """Which files of the windows have no row of values that were there before, as a sentence; None if no files are known of them."""
        handle = self.lakehouse.table(table)
        if not handle.exists() or column not in handle.schema():
            return None
        sides = self._by_time(handle)
        for _ in range(_DEPTH):
            if all(name in sides.after.collect_schema() for name in LINEAGE):
                return lacking_files(
                    table, column, items, *(self._valued(table, column, rows, *LINEAGE[:2]) for rows in (sides.before, sides.after))
                )
            found = self._input_with(table, column, sides, items)
            if found is None:
                return None
            table, column, sides = found
        return None

    def when(self, table: str, column: str, items: Sequence[str]) -> pl.DataFrame:
        """When there are rows of some values, from the windows before on: `value` and `moment` (UTC)."""
        rows = self._chosen(self.lakehouse.table(table), (self.before[0], None))
        near = rows.with_columns(Groups(self.time).moment(rows.collect_schema()).alias(_MOMENT))
        found = self._valued(table, column, near, _MOMENT).filter(pl.col("value").is_in(list(items)))
        return found.rename({_MOMENT: "moment"})

    def _input_with(self, table: str, column: str, below: Sides, items: Sequence[str]) -> tuple[str, str, Sides] | None:
        """The column of an input that had these values most often before."""
        declared = self.catalog.get(table)
        if not isinstance(declared, TableDeclaration):
            return None
        tables = [self.lakehouse.table(name) for name in declared.sources()]
        schemas = {one.name: one.schema() for one in tables if one.exists()}
        read = columns_read(declared, column, schemas) if len(schemas) == len(tables) else None
        most = 0
        best: tuple[str, str, Sides] | None = None
        for source, schema in schemas.items():
            sides = self._sides(declared, below, source, schema)
            if sides is None:
                continue
            for name in self._candidates(declared, column, schema, None if read is None else read.get(source, [])):
                rows = self._valued(source, name, sides.before).filter(pl.col("value").is_in(list(items))).height
                if rows > most:
                    most, best = rows, (source, name, sides)
        return best

    def _valued(self, table: str, column: str, rows: pl.LazyFrame, *also: str) -> pl.DataFrame:
        """The values of a column as texts, masked as the reader masks them, with other columns."""
        masked = self._personal.masked(rows.select(column, *also), table)
        return masked.select(pl.col(column).cast(pl.String, strict=False).alias("value"), *also).collect(engine="streaming")

    # --- which rows

    def _begin(self, table: str, column: str) -> ChangedColumn | None:
        """The column in the watched table: the windows against those before, or against what they were at an earlier version."""
        handle = self.lakehouse.table(table)
        if not handle.exists() or column not in handle.schema():
            return None
        by_time = self._changed_column(table, column, self._by_time(handle), old=self.since)
        rewritten = self._rewritten(handle, self.since)
        by_version = None if rewritten is None else self._changed_column(table, column, rewritten, old=self.since, is_rewritten=True)
        found = [one for one in (by_time, by_version) if one is not None and one.change.carries(one.change)]
        return max(found, key=lambda one: (round(one.change.distance, 1), one is by_time), default=None)

    def _by_time(self, table: Table) -> Sides:
        return Sides(self._chosen(table, self.before), self._chosen(table, self.after))

    def _rewritten(self, table: Table, version: int | None) -> Sides | None:
        """The same windows, as they were at a version, and now."""
        if version is None or version > table.version():
            return None
        if not is_time(table.schema().get(self.time)):
            return None
        try:
            return Sides(*(self._chosen(table, self.after, at) for at in (version, None)))
        except NoSuchVersion:
            return None

    def _within(self, span: Span, rows: pl.LazyFrame) -> pl.LazyFrame:
        groups, schema = Groups(self.time), rows.collect_schema()
        start, end = (None if one is None else (one - _EPOCH) // timedelta(microseconds=1) for one in span)
        moment = groups.moment(schema)
        exact = [moment >= span[0], *([] if span[1] is None else [moment < span[1]])]
        # By the bounds files of other times are left out, which no expression of a moment does.
        return rows.filter(groups.within(schema, [(start, end)])).filter(*exact)

    def _chosen(self, table: Table, span: Span, version: int | None = None) -> pl.LazyFrame:
        """The rows of a table that count: of some windows, of the newest version of a feature set, of the slice."""
        schema = table.scan(version).collect_schema()
        given: list[_Part] = [((self.time,), partial(self._within, span))]
        for key, value in self.chosen.items():
            if key in schema:
                is_chosen = pl.col(key).cast(pl.String).eq_missing(pl.lit(value, pl.String))
                given.append(((key,), partial(_filtered, is_chosen)))
        return self._counting(table, given, version)

    def _counting(self, table: Table, parts: Sequence[_Part] = (), version: int | None = None) -> pl.LazyFrame:
        """Some of the rows of a table that hold: of a feature set of its newest version, each as it was known last and not as before.

        All revisions of a row have one key: what is chosen by columns of it is chosen first, so that the history is not sorted for it.
        """
        declared, rows = self.catalog.get(table.name), table.scan(version)
        key: tuple[str, ...] = ()
        if isinstance(declared, FeatureSet) and KNOWN_AT in rows.collect_schema():
            key = (*declared.entity, declared.event_time)
            newest = FeatureVersion.of(table, version)
            rows = of_version(rows, None if newest is None else newest.number)
        first = [choose for columns, choose in parts if set(columns) <= set(key)]
        then = [choose for columns, choose in parts if not set(columns) <= set(key)]
        rows = reduce(lambda left, choose: choose(left), first, rows)
        return reduce(lambda left, choose: choose(left), then, as_known(rows, key) if key else rows)

    # --- one table further up

    def _upstream(self, found: ChangedColumn) -> ChangedColumn | None:
        """The column of an input from which the change comes: the one with most of it."""
        declared = self.catalog.get(found.table)
        if not isinstance(declared, TableDeclaration):
            return None
        tables = [self.lakehouse.table(name) for name in declared.sources()]
        schemas = {one.name: one.schema() for one in tables if one.exists()}
        read = columns_read(declared, found.column, schemas) if len(schemas) == len(tables) else None
        read_then = {} if found.old is None else _read_by(self.lakehouse.table(found.table), found.old)
        carrying = []
        for source, schema in schemas.items():
            old = read_then.get(source)
            is_number = found.change.before.dtype.is_numeric() and not isinstance(self.catalog.get(source), TableDeclaration)
            if found.is_rewritten:
                sides = self._rewritten(self.lakehouse.table(source), old)
            else:
                sides = self._sides(declared, found.sides, source, schema)
            if sides is None:
                continue
            columns = self._candidates(declared, found.column, schema, None if read is None else read.get(source, []))
            among = len(columns) * len(schemas)
            for column in columns:
                one = self._changed_column(source, column, sides, among, as_number=is_number, old=old, is_rewritten=found.is_rewritten)
                is_same = column == found.column
                if one is not None and one.change.carries(found.change) and (is_same or not one.change.is_no_sign):
                    carrying.append((is_same, one.change.distance, one))
        return max(carrying, key=lambda one: one[:2], default=(False, 0.0, None))[2]

    def _candidates(self, declared: TableDeclaration, column: str, schema: pl.Schema, read: Sequence[str] | None) -> list[str]:
        """The columns of an input that a column may come from: of its own name, or those that are read for it."""
        if column in schema and (read is None or column in read):
            return [column]
        left_out = {self.time, *declared.identity}
        return [name for name in read or () if name in schema and name not in left_out and not name.startswith("_")][:_MOST_COLUMNS]

    def _sides(self, declared: TableDeclaration, below: Sides, source: str, schema: pl.Schema) -> Sides | None:
        """The rows of an input that those of a table were made of: of the same file rows, times, or keys."""
        table = self.lakehouse.table(source)
        names = below.after.collect_schema().names()
        if all(name in schema and name in names for name in LINEAGE):
            return below.upstream(partial(of_file_rows, self._counting(table)))
        if is_time(schema.get(self.time)):
            return self._by_time(table)
        keys = [name for name in declared.identity if name in schema and name in names and name not in _OF_VERSIONS]
        return below.upstream(lambda side: self._counting(table, [(keys, lambda rows: of_keys(rows, keys, side))])) if keys else None

    # --- values

    def _changed_column(
        self,
        table: str,
        column: str,
        sides: Sides,
        among: int = 1,
        *,
        as_number: bool = False,
        old: int | None = None,
        is_rewritten: bool = False,
    ) -> ChangedColumn | None:
        if column not in sides.before.collect_schema() or column not in sides.after.collect_schema():
            return None
        values = [self.values(table, column, rows, as_number=as_number) for rows in (sides.before, sides.after)]
        if values[0].dtype != values[1].dtype:
            return None
        return ChangedColumn(table, column, sides, Change(values[0], values[1], self._shows(table, column), among), old, is_rewritten)

    def values(self, table: str, column: str, rows: pl.LazyFrame, *, as_number: bool = False) -> pl.Series:
        """The values of a column of some rows, masked as the reader masks them."""
        masked = self._personal.masked(rows.select(column), table)
        return masked.select(comparable(masked, column, as_number=as_number)).collect(engine="streaming").to_series()

    def _shows(self, table: str, column: str) -> bool:
        personal = self._personal.known(table)
        return personal is not None and not personal.hides(column)

    @cached_property
    def _personal(self) -> PersonalColumns:
        return PersonalColumns(self.lakehouse, lambda: policy_of(self.catalog.declarations))

    def _origin(self, found: ChangedColumn) -> str:
        declared = self.catalog.get(found.table)
        table = self.lakehouse.table(found.table)
        if isinstance(declared, TableDeclaration) and (changed := function_changed(table, found.old)):
            return f"the function of {found.table} was changed: {changed}"
        if not found.is_rewritten and all(name in found.sides.after.collect_schema() for name in LINEAGE):
            by_file = of_files(table, found.column, found.change, self._with_files(found))
            if by_file is not None:
                return by_file
        if isinstance(declared, TableDeclaration):
            return f"{found.column} of {found.table} changed, and none of the columns that it is computed from did alike"
        return f"{found.column} of {found.table} came so: {NOTHING_KNOWN}"

    def _with_files(self, found: ChangedColumn) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The values of both sides with file and sequence."""
        sides = (found.sides.before, found.sides.after)
        is_number = found.change.before.dtype.is_numeric()
        frames = []
        for rows in sides:
            masked = self._personal.masked(rows.select(found.column, *LINEAGE[:2]), found.table)
            value = comparable(masked, found.column, as_number=is_number)
            frames.append(masked.select(value.alias("value"), *LINEAGE[:2]).collect(engine="streaming"))
        return frames[0], frames[1]


def _filtered(which: pl.Expr, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.filter(which)


def _read_by(table: Table, version: int) -> dict[str, int]:
    """The versions of its sources that a table was last computed from, at a version."""
    for commit in table.commits(version):
        if "reads" in commit["info"]:
            return dict(json.loads(commit["info"]["reads"]))
    return {}
