"""Plain assets through Dagster: what is stored under which name, what is loaded, what is reported, and what is refused before a write."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest
from dagster_deltalake import LocalConfig, S3Config
from dagster_deltalake.config import ClientConfig
from polars.testing import assert_frame_equal

from lakehouse_assets.platform.orchestration.io_manager import LakehouseIOManager, TableIOManager
from lakehouse_assets.platform.storage.errors import NoSuchTable, ScopeError, StorageError, TypeNotStorable
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.s3 import KEY, SECRET

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
DAILY = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-15")
HOURLY = dg.HourlyPartitionsDefinition("2024-01-01-00:00", end_date="2024-01-02-00:00")
STATIC = dg.StaticPartitionsDefinition(["de", "fr", "it"])
NUMBERS = dg.StaticPartitionsDefinition(["1", "01", "300", "x"])
TWO = dg.MultiPartitionsDefinition({"day": DAILY, "country": STATIC})


@pytest.fixture
def lakehouse(tmp_path) -> Lakehouse:
    return Lakehouse(str(tmp_path))


def materialise(lakehouse: Lakehouse, *assets: dg.AssetsDefinition, **how) -> dg.ExecuteInProcessResult:
    return dg.materialize(list(assets), resources={"io_manager": TableIOManager(lakehouse)}, **how)


def returning(value: object, **declared) -> dg.AssetsDefinition:
    @dg.asset(**{"name": "rows", **declared})
    def asset():
        return value

    return asset


def days(*numbers: int, v: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"day": [date(2024, 1, n) for n in numbers], "v": [v] * len(numbers)}, schema={"day": pl.Date, "v": pl.Int64})


def rows(lakehouse: Lakehouse, name: str = "plain.assets.rows") -> list[tuple]:
    return sorted(lakehouse.table(name).scan().collect().rows())


# --- what is stored


@pytest.mark.parametrize(
    ("key", "table"),
    [(["x"], "plain.assets.x"), (["sales", "x"], "sales.assets.x"), (["sales", "silver", "x"], "sales.silver.x")],
)
def test_the_key_names_the_table(lakehouse, key, table):
    materialise(lakehouse, returning(days(1), name=None, key=key))
    assert rows(lakehouse, table) == days(1).rows()


def test_two_keys_never_share_a_table_by_their_ends(lakehouse):
    with pytest.raises(ScopeError, match="a/sales/silver/x has more parts"):
        materialise(lakehouse, returning(days(1), name=None, key=["a", "sales", "silver", "x"]))


@pytest.mark.parametrize("value", [days(1, 2), days(1, 2).lazy()], ids=["DataFrame", "LazyFrame"])
def test_a_frame_without_partitions_replaces_the_whole_table(lakehouse, value):
    materialise(lakehouse, returning(days(3, 4, 5)))
    materialise(lakehouse, returning(value))
    assert rows(lakehouse) == days(1, 2).rows()


def test_none_leaves_the_table_as_it_is(lakehouse):
    materialise(lakehouse, returning(None))
    assert not lakehouse.table("plain.assets.rows").exists()
    materialise(lakehouse, returning(days(1)))
    version = lakehouse.table("plain.assets.rows").version()

    materialise(lakehouse, returning(None))
    materialise(lakehouse, returning(dg.MaterializeResult(metadata={"note": "nothing new"})))
    materialise(lakehouse, returning(None, partitions_def=DAILY), partition_key="2024-01-01")

    assert lakehouse.table("plain.assets.rows").version() == version


def test_rows_without_a_value_and_of_other_windows_survive_in_the_same_file(lakehouse):
    midnight = datetime(2024, 1, 1, tzinfo=UTC)
    moments = [None, *(midnight + timedelta(minutes=n) for n in range(0, 24 * 60, 20))]
    materialise(lakehouse, returning(pl.DataFrame({"ts": moments, "v": [0] * len(moments)})))
    table = lakehouse.table("plain.assets.rows")
    assert len(table.delta().file_uris()) == 1

    hour = pl.DataFrame({"ts": [datetime(2024, 1, 1, 5, 59, tzinfo=UTC)], "v": [1]})
    materialise(lakehouse, returning(hour, partitions_def=HOURLY, metadata={"partition_expr": "ts"}), partition_key="2024-01-01-05:00")

    kept = [(at, 0) for at in moments if at is None or at.hour != 5]
    assert sorted(table.scan().collect().rows(), key=str) == sorted([*kept, *hour.rows()], key=str)
    changed = table.changes(table.version() - 1, table.version()).collect()
    assert changed.rows() == hour.rows(), "readers of changes see the window alone"


def test_a_backfill_in_a_single_run_replaces_the_range(lakehouse):
    asset = {"partitions_def": DAILY, "metadata": {"partition_expr": "day"}, "backfill_policy": dg.BackfillPolicy.single_run()}
    lakehouse.table("plain.assets.rows").create(days().schema)
    lakehouse.table("plain.assets.rows").append(days(1, 2, 3, 4, 5))
    tags = {"dagster/asset_partition_range_start": "2024-01-02", "dagster/asset_partition_range_end": "2024-01-04"}
    materialise(lakehouse, returning(days(2, 4, v=1), **asset), tags=tags)
    assert rows(lakehouse) == [*days(1).rows(), *days(2, 4, v=1).rows(), *days(5).rows()]


# --- what is refused, with no table made or moved


def test_a_run_without_a_partition_does_not_replace_all_of_them(lakehouse):
    with pytest.raises(ScopeError, match="rows has partitions, but the run has none"):
        materialise(lakehouse, returning(days(1), partitions_def=DAILY, metadata={"partition_expr": "day"}))
    assert not lakehouse.table("plain.assets.rows").exists()


REFUSED = {
    "row of another day": (days(2, 3), DAILY, "day", "2024-01-02", ScopeError, "1 rows lie outside .* day = 2024-01-03"),
    "row without a day": (pl.DataFrame({"day": [None]}, schema={"day": pl.Date}), DAILY, "day", "2024-01-02", ScopeError, "day = None"),
    "row of another cell": (
        pl.DataFrame({"day": [date(2024, 1, 2)], "c": ["it"]}),
        TWO,
        {"day": "day", "country": "c"},
        "de|2024-01-02",
        ScopeError,
        "c = it",
    ),
    "no column named": (days(2), DAILY, None, "2024-01-02", ScopeError, 'rows has partitions, .* metadata={"partition_expr": "<column>"}'),
    "no column for a dimension": (days(2), TWO, {"day": "day"}, "de|2024-01-02", ScopeError, '"country": "<column>", "day": "<column>"'),
    "one column for two dimensions": (days(2), TWO, "day", "de|2024-01-02", ScopeError, "several dimensions"),
    "the same column twice": (days(2), TWO, {"day": "day", "country": "day"}, "de|2024-01-02", ScopeError, "several dimensions"),
    "column unknown": (days(2), DAILY, "date", "2024-01-02", ScopeError, "'date', which is not a column of the table: day, v"),
    "hours of a column of days": (days(1), HOURLY, "day", "2024-01-01-05:00", ScopeError, "within a day, but 'day' holds whole days"),
    "number with a zero in front": (days(1), NUMBERS, "v", "01", ScopeError, "partition '01' is not written as a value of 'v'"),
    "word for a number": (days(1), NUMBERS, "v", "x", ScopeError, "partition 'x' is not written as a value of 'v'"),
    "number too large": (pl.DataFrame({"v": [1]}, schema={"v": pl.Int8}), NUMBERS, "v", "300", ScopeError, "partition '300'"),
    "static keys of moments": (pl.DataFrame({"ts": [datetime(2024, 1, 1, tzinfo=UTC)]}), STATIC, "ts", "de", TypeNotStorable, "'ts'"),
    "static keys of fractions": (pl.DataFrame({"x": [1.0]}), STATIC, "x", "de", TypeNotStorable, "'x' has type Float64"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_no_table(lakehouse, case):
    frame, partitions, partition_expr, key, error, message = REFUSED[case]
    metadata = {} if partition_expr is None else {"partition_expr": partition_expr}
    with pytest.raises(error, match=message):
        materialise(lakehouse, returning(frame, partitions_def=partitions, metadata=metadata), partition_key=key)
    assert not lakehouse.table("plain.assets.rows").exists()


@pytest.mark.parametrize(
    ("value", "declared", "error", "message"),
    [
        ([1, 2], {}, TypeError, "rows returned a list: return a Polars frame"),
        (days(1), {"metadata": {"mode": "append"}}, ScopeError, "asks for mode 'append'"),
    ],
)
def test_what_is_refused_leaves_the_version(lakehouse, value, declared, error, message):
    materialise(lakehouse, returning(days(1)))
    version = lakehouse.table("plain.assets.rows").version()
    with pytest.raises(error, match=message):
        materialise(lakehouse, returning(value, **declared))
    assert lakehouse.table("plain.assets.rows").version() == version


def test_an_output_of_an_op_has_no_table(lakehouse):
    @dg.op
    def part():
        return days(1)

    @dg.op
    def rest(part):
        return part

    @dg.graph_asset
    def whole():
        return rest(part())

    with pytest.raises(ScopeError, match="'result' is no asset, so it has no table"):
        materialise(lakehouse, whole)


def test_a_key_that_is_no_name_of_a_table_is_refused(lakehouse):
    with pytest.raises(StorageError, match=r"'plain\.assets\.Rows' is not a table's name"):
        materialise(lakehouse, returning(days(1), name="Rows"))


# --- what is reported


def test_the_materialisation_says_what_was_written(lakehouse):
    asset = {"partitions_def": DAILY, "metadata": {"partition_expr": "day"}, "description": "Days."}
    materialise(lakehouse, returning(days(1, 1), **asset), partition_key="2024-01-01")
    materialise(lakehouse, returning(days(2, 2), **asset), partition_key="2024-01-02")
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialise(lakehouse, returning(days(2, 2, 2), **asset), partition_key="2024-01-02", instance=instance)

    table = lakehouse.table("plain.assets.rows")
    (event,) = result.asset_materializations_for_node("rows")
    assert {key: value.value for key, value in event.metadata.items()} == {
        "dagster/column_schema": dg.TableSchema([dg.TableColumn("day", "Date"), dg.TableColumn("v", "Int64")]),
        "dagster/row_count": 5,
        "dagster/partition_row_count": 3,
        "dagster/table_name": "plain.assets.rows",
        "dagster/uri": table.uri,
        "delta_version": table.version(),
        "rows_written": 3,
        "rows_removed": 2,
    }
    assert event.tags["dagster/data_version"] == str(table.version())
    assert table.history(1)[0]["info"] == {"run_id": result.run_id}
    assert table.delta().metadata().description == "Days."


def test_a_data_version_of_the_asset_itself_stands(lakehouse):
    asset = returning(dg.Output(days(1), data_version=dg.DataVersion("mine")))
    (event,) = materialise(lakehouse, asset).asset_materializations_for_node("rows")
    assert event.tags["dagster/data_version"] == "mine"


# --- what is loaded


def loaded(lakehouse: Lakehouse, frame: pl.DataFrame, upstream: dict, key: str | None, **downstream) -> pl.LazyFrame | pl.DataFrame:
    """What an asset that names a stored one as its input is given, in a run of its own."""
    given = []
    mapping, annotation = downstream.pop("mapping", None), downstream.pop("annotation", pl.LazyFrame)

    def reader(source):
        given.append(source)

    reader.__annotations__ = {"source": annotation}
    source = returning(None, name="source", **upstream)
    reads = dg.asset(ins={"source": dg.AssetIn(partition_mapping=mapping, metadata=downstream.pop("metadata", None))}, **downstream)(reader)
    table = lakehouse.table("plain.assets.source")
    table.create(frame.schema)
    table.append(frame)
    materialise(lakehouse, source, reads, selection=[reads], **({"partition_key": key} if key else {}))
    return given[0]


BY_DAY = {"partitions_def": DAILY, "metadata": {"partition_expr": "day"}}


@pytest.mark.parametrize(
    ("downstream", "key", "expected"),
    [
        ({"partitions_def": DAILY}, "2024-01-03", [3]),
        ({"partitions_def": DAILY, "mapping": dg.TimeWindowPartitionMapping(start_offset=-2)}, "2024-01-05", [3, 4, 5]),
        ({"partitions_def": dg.WeeklyPartitionsDefinition("2023-12-31", end_date="2024-01-14")}, "2024-01-07", list(range(7, 14))),
        ({"partitions_def": STATIC, "mapping": dg.SpecificPartitionsPartitionMapping(["2024-01-02", "2024-01-09"])}, "de", [2, 9]),
        ({"partitions_def": DAILY, "mapping": dg.LastPartitionMapping()}, "2024-01-03", [14]),
        ({}, None, list(range(1, 15))),
    ],
    ids=["same day", "days before", "weekly over daily", "days apart", "last", "all"],
)
def test_an_input_is_the_partitions_that_the_mapping_asks_for(lakehouse, downstream, key, expected):
    source = days(*range(1, 20))
    given = loaded(lakehouse, source, BY_DAY, key, **downstream)
    assert sorted(given.collect().rows()) == days(*expected).rows()


def test_an_input_of_two_dimensions_is_the_cells_that_the_mapping_asks_for(lakehouse):
    cells = [(date(2024, 1, n), country) for n in (1, 2, 3) for country in ("de", "fr", "it")]
    source = pl.DataFrame(cells, schema={"d": pl.Date, "c": pl.String}, orient="row")
    upstream = {"partitions_def": TWO, "metadata": {"partition_expr": {"day": "d", "country": "c"}}}
    mapping = dg.SpecificPartitionsPartitionMapping(["de|2024-01-01", "fr|2024-01-03", "it|2024-01-03"])
    given = loaded(lakehouse, source, upstream, "fr", partitions_def=STATIC, mapping=mapping)
    assert sorted(given.collect().rows()) == [cells[0], cells[7], cells[8]]

    by_country = dg.MultiToSingleDimensionPartitionMapping("country")
    given = loaded(Lakehouse(lakehouse.root + "/other"), source, upstream, "fr", partitions_def=STATIC, mapping=by_country)
    assert sorted(given.collect().rows()) == [cell for cell in cells if cell[1] == "fr"]


def test_an_input_arrives_as_annotated_with_the_columns_asked_for(lakehouse):
    given = loaded(lakehouse, days(1, 2), {}, None, annotation=pl.DataFrame, metadata={"columns": ["day"]})
    assert_frame_equal(given, days(1, 2).select("day"), check_row_order=False)


def test_an_input_without_annotation_is_lazy_and_made_in_the_same_run(lakehouse):
    @dg.asset
    def longer(rows):
        assert isinstance(rows, pl.LazyFrame)
        return rows.filter(pl.col("day") > date(2024, 1, 1))

    materialise(lakehouse, returning(days(1, 2)), longer)
    assert rows(lakehouse, "plain.assets.longer") == days(2).rows()


def test_an_input_of_another_type_is_refused(lakehouse):
    with pytest.raises(TypeError, match=r"source is loaded as pl\.LazyFrame or pl\.DataFrame, not as .*dict"):
        loaded(lakehouse, days(1), {}, None, annotation=dict)


def test_an_input_that_was_never_made_says_so(lakehouse):
    @dg.asset
    def reads(rows): ...

    with pytest.raises(NoSuchTable, match=r"plain\.assets\.rows does not exist yet"):
        materialise(lakehouse, returning(days(1)), reads, selection=[reads])


# --- several runs at once


def at_once(*runs: Callable[[threading.Barrier], object]) -> None:
    """Run them in threads, each of which waits in its asset until all are there."""
    barrier = threading.Barrier(len(runs))
    with ThreadPoolExecutor(len(runs)) as pool:
        for future in [pool.submit(run, barrier) for run in runs]:
            future.result()


def meeting(lakehouse: Lakehouse, frame: pl.DataFrame, column: str, partitions: dg.PartitionsDefinition, key: str):
    def run(barrier: threading.Barrier) -> None:
        @dg.asset(partitions_def=partitions, metadata={"partition_expr": column})
        def rows() -> pl.DataFrame:
            barrier.wait(timeout=60)
            return frame

        materialise(lakehouse, rows, partition_key=key)

    return run


def test_runs_of_different_partitions_at_once_all_land_in_a_new_table(lakehouse):
    at_once(*(meeting(lakehouse, days(n), "day", DAILY, f"2024-01-0{n}") for n in (1, 2, 3, 4)))
    assert rows(lakehouse) == days(1, 2, 3, 4).rows()


def test_runs_of_different_windows_of_one_file_at_once_all_land(lakehouse):
    def hours(*numbers: int, v: int) -> pl.DataFrame:
        return pl.DataFrame({"ts": [datetime(2024, 1, 1, n, tzinfo=UTC) for n in numbers], "v": [v] * len(numbers)})

    materialise(lakehouse, returning(hours(*range(6), v=0)))
    at_once(*(meeting(lakehouse, hours(n, v=1), "ts", HOURLY, f"2024-01-01-0{n}:00") for n in (1, 2, 3, 4)))
    assert rows(lakehouse) == sorted([*hours(0, 5, v=0).rows(), *hours(1, 2, 3, 4, v=1).rows()])


def test_runs_of_one_partition_at_once_leave_the_rows_of_one_of_them(lakehouse):
    at_once(*(meeting(lakehouse, days(1, 1, v=v), "day", DAILY, "2024-01-01") for v in (1, 2, 3)))
    assert rows(lakehouse) in [days(1, 1, v=v).rows() for v in (1, 2, 3)]


# --- settings


def test_settings_are_those_of_dagster_deltalake(tmp_path, monkeypatch, s3):
    manager = LakehouseIOManager(root_uri=str(tmp_path), storage_options=LocalConfig())
    dg.materialize([returning(days(1))], resources={"io_manager": manager})
    assert rows(Lakehouse(str(tmp_path))) == days(1).rows()

    monkeypatch.setenv("KEY", SECRET)
    bucket = LakehouseIOManager(
        root_uri="s3://lake/tables",
        storage_options=S3Config(access_key_id=KEY, secret_access_key=dg.EnvVar("KEY"), endpoint=s3.endpoint),
        client_options=ClientConfig(allow_http=True),
    )

    @dg.asset
    def options(tables: dg.ResourceParam[TableIOManager]) -> None:
        assert tables.lakehouse.table("a.b.c").uri == "s3://lake/tables/a/b/c"
        assert tables.lakehouse.storage_options == {
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "endpoint": s3.endpoint,
            "imdsv1_fallback": "False",
            "allow_http": "True",
        }

    dg.materialize([options], resources={"tables": bucket})


@pytest.mark.parametrize("setting", [{"mode": "append"}, {"overwrite_schema": True}, {"schema": "sales"}])
def test_settings_that_would_widen_a_write_are_refused(tmp_path, setting):
    manager = LakehouseIOManager(root_uri=str(tmp_path), storage_options=LocalConfig(), **setting)
    with pytest.raises(ValueError, match=f"has no setting {next(iter(setting))}: what it writes follows"):
        manager.create_io_manager(dg.build_init_resource_context())
