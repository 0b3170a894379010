"""Whatever a plain asset is partitioned by, a run replaces the rows of its partitions and no others.

Every row carries the key of its partition in a column of its own, so that what should be left is known without the code under test.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from functools import cache
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest
from deltalake import QueryBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.orchestration.io_manager import TableIOManager
from lakehouse_assets.platform.orchestration.partitions import row_scope
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import fit, stored_schema
from lakehouse_assets_tests import sweeps

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Kind:
    """Partitions, the columns that they stand for, and for a key the values that rows of its partition have in these columns."""

    partitions: dg.PartitionsDefinition
    partition_expr: str | dict[str, str]
    values: Callable[[str], list[dict]]
    types: dict[str, pl.DataType]

    def rows(self, keys: Sequence[str], v: int) -> pl.DataFrame:
        schema = self.types | {"key": pl.String(), "v": pl.Int64()}
        return pl.DataFrame([{**row, "key": str(key), "v": v} for key in keys for row in self.values(key)], schema=schema)


def moments(partitions: dg.TimeWindowPartitionsDefinition, dtype: pl.Datetime) -> Kind:
    """Rows at the first, a middle and the last moment of the window; without a time zone they are read as UTC."""

    def values(key: str) -> list[dict]:
        start, end = (bound.astimezone(UTC) for bound in partitions.time_window_for_partition_key(key))
        zone = ZoneInfo(dtype.time_zone) if dtype.time_zone else None
        at = (start, start + (end - start) / 2, end - MICROSECOND)
        return [{"ts": moment.astimezone(zone) if zone else moment.replace(tzinfo=None)} for moment in at]

    return Kind(partitions, "ts", values, {"ts": dtype})


def days(partitions: dg.TimeWindowPartitionsDefinition) -> Kind:
    """A row on every day of the window."""

    def values(key: str) -> list[dict]:
        start, end = (bound.date() for bound in partitions.time_window_for_partition_key(key))
        return [{"day": start + timedelta(days=n)} for n in range((end - start).days)]

    return Kind(partitions, "day", values, {"day": pl.Date()})


def keys_as(partitions: dg.PartitionsDefinition, dtype: pl.DataType, parse: Callable[[str], object]) -> Kind:
    return Kind(partitions, "k", lambda key: [{"k": parse(key)}] * 2, {"k": dtype})


def crossed(first: Kind, second: Kind) -> Kind:
    partitions = dg.MultiPartitionsDefinition({"first": first.partitions, "second": second.partitions})

    def values(key: str) -> list[dict]:
        one, two = key.split("|")
        return [a | b for a in first.values(one) for b in second.values(two)]

    return Kind(partitions, {"first": first.partition_expr, "second": second.partition_expr}, values, first.types | second.types)


STATIC = keys_as(dg.StaticPartitionsDefinition(["de", "o'brien", "a b/c=d%e", "ü"]), pl.String(), str)
INTEGER = keys_as(dg.StaticPartitionsDefinition(["1", "2", "10", "-3"]), pl.Int8(), int)
DAILY = days(dg.DailyPartitionsDefinition("2024-02-27", end_date="2024-03-02"))
HOURLY = moments(dg.HourlyPartitionsDefinition("2024-01-01-22:00", end_date="2024-01-02-02:00"), pl.Datetime("us", "UTC"))

YEARLY = dg.TimeWindowPartitionsDefinition(start="2021", end="2025", fmt="%Y", cron_schedule="0 0 1 1 *")
KINDS = {
    "static string": STATIC,
    "static integer": INTEGER,
    "dynamic": keys_as(dg.DynamicPartitionsDefinition(name="shops"), pl.String(), str),
    "date": DAILY,
    "weekly over daily": days(dg.WeeklyPartitionsDefinition("2024-01-01", end_date="2024-01-29")),
    "naive timestamp": moments(dg.DailyPartitionsDefinition("2024-02-27", end_date="2024-03-02"), pl.Datetime("us")),
    "aware timestamp": moments(
        dg.DailyPartitionsDefinition("2024-03-30", end_date="2024-04-02", timezone="Europe/Berlin"), pl.Datetime("us", "Europe/Berlin")
    ),
    "hourly": HOURLY,
    "date by string": crossed(DAILY, STATIC),
    "hourly by integer": crossed(HOURLY, INTEGER),
}
OTHER_KINDS = {
    "static boolean": keys_as(dg.StaticPartitionsDefinition(["true", "false"]), pl.Boolean(), "true".__eq__),
    "static enum": keys_as(dg.StaticPartitionsDefinition(["a", "b", "c"]), pl.Enum(["a", "b", "c"]), str),
    "static date": keys_as(dg.StaticPartitionsDefinition(["2024-01-01", "2024-02-01"]), pl.Date(), date.fromisoformat),
    "yearly integer": keys_as(YEARLY, pl.Int32(), int),
    "daily string": keys_as(DAILY.partitions, pl.String(), str),
    "working days": days(dg.DailyPartitionsDefinition("2024-03-01", end_date="2024-03-06", exclusions=["0 0 * * 6", "0 0 * * 0"])),
    "date without a midnight": days(dg.DailyPartitionsDefinition("2024-09-07", end_date="2024-09-10", timezone="America/Santiago")),
    "monthly timestamp in milliseconds": moments(dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-05-01"), pl.Datetime("ms")),
    "hourly with an hour twice": moments(
        dg.HourlyPartitionsDefinition("2024-10-27-01:00", end_date="2024-10-27-04:00", timezone="Europe/Berlin"), pl.Datetime("us", "UTC")
    ),
}
ALL_KINDS = KINDS | OTHER_KINDS
DYNAMIC_KEYS = ["north", "south", "east"]


@pytest.fixture(scope="module")
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("shops", DYNAMIC_KEYS)
        yield instance


def dimensions(kind: Kind) -> list[list[str]]:
    """The keys of each dimension in their order."""
    if isinstance(kind.partitions, dg.MultiPartitionsDefinition):
        return [list(dimension.partitions_def.get_partition_keys()) for dimension in kind.partitions.partitions_defs]
    if isinstance(kind.partitions, dg.DynamicPartitionsDefinition):
        return [DYNAMIC_KEYS]
    return [list(kind.partitions.get_partition_keys())]


def keys_between(kind: Kind, first: int, last: int) -> list[str]:
    """The keys from the first to the last index, in each dimension."""
    return ["|".join(cell) for cell in product(*(keys[first : last + 1] for keys in dimensions(kind)))]


def run(kind: Kind, instance: dg.DagsterInstance, root: Path, keys: list[str], frame: pl.DataFrame) -> None:
    """One run of Dagster over the range from the first to the last key, with an asset that returns the frame."""

    @dg.asset(
        partitions_def=kind.partitions,
        metadata={"partition_expr": kind.partition_expr},
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def rows() -> pl.DataFrame:
        return frame

    manager = TableIOManager(Lakehouse(str(root)))
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    one_or_range = {"partition_key": keys[0]} if len(keys) == 1 else {"tags": tags}
    assert dg.materialize([rows], resources={"io_manager": manager}, instance=instance, **one_or_range).success


def stored(root: Path) -> Table:
    return Lakehouse(str(root)).table("plain.assets.rows")


def content(table: Table) -> list[tuple]:
    return sorted(table.scan().collect().rows())


def as_stored(*frames: pl.DataFrame) -> list[tuple]:
    return sorted(row for frame in frames for row in fit(frame, stored_schema(frame.schema), "expected").rows())


# Index ranges of keys: each is a run of its own.
SELECTIONS = {"one": [(1, 1)], "several": [(0, 0), (2, 2)], "range": [(1, 2)], "all": [(0, 2)]}


PAIRS = [(kind, selection) for kind in KINDS for selection in SELECTIONS]


@pytest.mark.parametrize(("kind", "selection"), sweeps.of([pair for place, pair in enumerate(PAIRS) if place % 5 in {0, 2}], PAIRS))
def test_a_run_changes_no_row_outside_its_partitions(kind, selection, instance, tmp_path):
    kind = KINDS[kind]
    runs = [keys_between(kind, first, last) for first, last in SELECTIONS[selection]]
    touched = [key for keys in runs for key in keys]
    others = kind.rows([key for key in keys_between(kind, 0, 2) if key not in touched], v=0)
    table = stored(tmp_path)

    for keys in runs:
        run(kind, instance, tmp_path, keys, kind.rows(keys, v=1))
    assert content(table) == as_stored(kind.rows(touched, v=1)), "created"

    table.append(others)
    for keys in runs:
        run(kind, instance, tmp_path, keys, kind.rows(keys, v=2))
    assert content(table) == as_stored(others, kind.rows(touched, v=2)), "replaced"

    for keys in runs:
        run(kind, instance, tmp_path, keys, kind.rows([], v=3))
    assert content(table) == as_stored(others), "replaced by nothing"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A table of each kind that holds the rows of all partitions in one file."""

    @cache
    def table(kind: str) -> Table:
        rows = ALL_KINDS[kind].rows(keys_between(ALL_KINDS[kind], 0, 2), v=0)
        made = stored(tmp_path_factory.mktemp("kind"))
        made.create(rows.schema)
        made.append(rows)
        return made

    return table


@pytest.mark.parametrize("name", ALL_KINDS)
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_delta_rs_and_polars_select_the_rows_of_any_set_of_partitions(name, tables, data):
    kind, table = ALL_KINDS[name], tables(name)
    keys = data.draw(st.sets(st.sampled_from(keys_between(kind, 0, 2)), min_size=1))
    condition = row_scope("rows", kind.partitions, kind.partition_expr, keys, table.schema()).condition

    by_polars = table.scan().filter(condition.expression).collect()
    by_delta_rs = pl.DataFrame(QueryBuilder().register("rows", table.delta()).execute(f"SELECT * FROM rows WHERE {condition.sql}"))

    expected = as_stored(kind.rows(sorted(keys), v=0))
    assert sorted(by_polars.rows()) == expected
    assert sorted(by_delta_rs.select(by_polars.columns).rows()) == expected
