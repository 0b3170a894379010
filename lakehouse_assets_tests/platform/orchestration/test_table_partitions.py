"""One partition of a table is computed again, by command or in the web UI, which shows the partitions that there are."""

import shutil
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from lakehouse_assets import Append, ByPartition, Contract, Feed, column, conform, feed, open_lakehouse, table, whole_number
from lakehouse_assets import day as day_of
from lakehouse_assets.client import Client
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.platform.orchestration.instance import instance
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.storage.partition_keys import NO_VALUE, existing, key, value
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text

BRONZE, SILVER, GOLD = "shop.bronze.sales", "shop.silver.sales", "shop.gold.months"
MONTHS = ["2026-01-01", "2026-02-01", "2026-03-01"]
PARTITIONS = f"{GOLD}__partitions"


class Sale(Contract):
    """A sale."""

    month: date
    amount: int


class Month(Contract):
    """The sales of a month."""

    month: date = column(key=True)
    amount: int = column(lt=1_000)


sales_feed = feed(BRONZE, Feed("sales", headers=(("month", "amount"),)), "Sales.")


@table(SILVER, contract=Sale, kind=Append(), inputs={"rows": BRONZE})
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return conform(rows, month=day_of("month", formats=["%Y-%m-%d"]), amount=whole_number("amount"))


@table(GOLD, contract=Month, kind=ByPartition("month"), inputs={"rows": SILVER})
def months(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Months."""
    return rows.group_by("month").agg(pl.col("amount").sum())


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A root that was run once, to copy."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("partitions") / "root")})
    land(settings, "first", *((month, amount) for amount, month in enumerate(MONTHS, start=1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        assert not opened(settings).run().failed
    return settings.root


@pytest.fixture
def lakehouse(template: Path, settings: Settings, monkeypatch) -> Client:
    monkeypatch.setenv("DAGSTER_HOME", "")
    shutil.copytree(template, settings.root)
    return opened(settings)


def opened(settings: Settings) -> Client:
    return open_lakehouse(settings=settings, declarations=(sales_feed, sales, months))


def land(settings: Settings, name: str, *rows: tuple[str, int]) -> None:
    land_text(settings, "sales", f"{name}.csv", "\n".join(["month,amount", *(f"{month},{amount}" for month, amount in rows)]) + "\n")


def damage(lakehouse: Client) -> None:
    """Write something wrong into every month."""
    wrong = pl.DataFrame({"month": [date.fromisoformat(month) for month in MONTHS], "amount": [77] * 3})
    lakehouse.context.root.lakehouse.table(GOLD).replace(wrong, {"month": wrong["month"].to_list()})


def amounts(lakehouse: Client) -> list[int]:
    return lakehouse.table(GOLD).scan().sort("month").collect()["amount"].to_list()


def stored(lakehouse: Client):
    return existing(lakehouse.context.root.lakehouse.table(GOLD), "month")


def shown(lakehouse: Client) -> tuple[set[str], set[str]]:
    """The partitions that Dagster knows, and those that it shows as materialized."""
    with instance(lakehouse.settings) as opened:
        return set(opened.get_dynamic_partitions(PARTITIONS)), set(opened.get_materialized_partitions(key_of(PARTITIONS)))


@pytest.mark.parametrize("spelled", ["2026-02", "2026-02-01"])
def test_one_partition_computed_again_is_as_after_a_full_refresh_and_the_others_stay_in_their_files(lakehouse, spelled):
    damage(lakehouse)
    before = stored(lakehouse)
    done = lakehouse.run([GOLD], partition=spelled)
    assert {name: step.state for name, step in done.tables.items()} == {PARTITIONS: "done"}
    assert amounts(lakehouse) == [77, 2, 77]
    after = stored(lakehouse)
    assert {month for month in MONTHS if before[month] != after[month]} == {"2026-02-01"}
    lakehouse.run([GOLD], full_refresh=True)
    assert amounts(lakehouse) == [1, 2, 3]


def test_the_web_ui_shows_each_partition_and_what_is_asked_for_in_one_run_is_computed_in_one(lakehouse):
    assert shown(lakehouse) == (set(MONTHS), set(MONTHS))
    damage(lakehouse)
    defs = definitions(lakehouse.settings, lakehouse.context.products)
    tags = {ASSET_PARTITION_RANGE_START_TAG: MONTHS[0], ASSET_PARTITION_RANGE_END_TAG: MONTHS[1]}
    with instance(lakehouse.settings) as opened:
        job = defs.resolve_implicit_global_asset_job_def()
        done = job.execute_in_process(instance=opened, tags=tags, asset_selection=[key_of(PARTITIONS)])
        events = done.get_asset_materialization_events()
    assert amounts(lakehouse) == [1, 2, 77]
    assert {event.partition for event in events if event.asset_key == key_of(PARTITIONS)} == set(MONTHS[:2])
    assert {event.asset_key for event in events if event.partition is None} >= {key_of(GOLD)}


def test_partitions_that_come_and_go_come_and_go_in_the_web_ui(lakehouse):
    land(lakehouse.settings, "second", ("2026-04-01", 4))
    lakehouse.run()
    assert shown(lakehouse) == ({*MONTHS, "2026-04-01"},) * 2
    lakehouse.context.root.lakehouse.table(GOLD).replace(pl.DataFrame(schema={"month": pl.Date, "amount": pl.Int64}), None)
    lakehouse.run([GOLD])
    assert shown(lakehouse)[0] == set()


def test_partitions_that_dagster_was_not_told_of_are_told_by_the_next_run(lakehouse):
    with instance(lakehouse.settings) as opened:
        opened.wipe_assets([key_of(PARTITIONS)])
        opened.delete_dynamic_partition(PARTITIONS, MONTHS[0])
    assert shown(lakehouse)[1] == set()
    lakehouse.run([GOLD])
    assert shown(lakehouse) == (set(MONTHS), set(MONTHS))


def test_runs_without_a_partition_are_as_if_there_were_none(lakehouse):
    defs = definitions(lakehouse.settings, lakehouse.context.products)
    assert key_of(PARTITIONS) not in defs.resolve_job_def("refresh").asset_layer.executable_asset_keys
    assert set(lakehouse.run([f"{GOLD}+"]).tables) == {GOLD}
    with instance(lakehouse.settings) as opened:
        assert defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=opened).success
    graph = defs.resolve_asset_graph()
    assert {pool for name in (GOLD, PARTITIONS) for pool in graph.get(key_of(name)).pools} == {"shop__gold__months"}


@pytest.mark.parametrize(
    ("names", "partition", "said"),
    [
        ([GOLD], "2026-07", "shop.gold.months has no partition '2026-07'"),
        ([GOLD], "may", "shop.gold.months has partitions by month: 'may' is no Date, as 2026-01-31 is"),
        ([SILVER], "2026-01", "none of shop.silver.sales has partitions: leave --partition out"),
        (
            [PARTITIONS],
            None,
            "shop.gold.months__partitions has partitions: say which one, as in `lakehouse run shop.gold.months --partition",
        ),
    ],
)
def test_what_is_no_partition_is_refused(lakehouse, names, partition, said):
    with pytest.raises(ValueError, match="^" + said.replace(".", r"\.")):
        lakehouse.run(names, partition=partition)


def test_what_another_run_commits_meanwhile_is_not_overwritten(lakehouse):
    tables = lakehouse.context.root.lakehouse
    meanwhile = [(date(2026, 2, 1), 40)]

    def slow(rows: pl.LazyFrame) -> pl.LazyFrame:
        """Months, while another run goes on."""
        if meanwhile:
            row = pl.DataFrame([meanwhile.pop()], schema={"month": pl.Date, "amount": pl.Int64}, orient="row")
            tables.table(SILVER).append(pl.concat([tables.table(SILVER).scan().limit(0).collect(), row], how="diagonal"))
            Refresh(months, tables, "other").run()
        return months.function(rows)

    declared = table(GOLD, contract=Month, kind=ByPartition("month"), inputs={"rows": SILVER})(slow)
    Refresh(declared, tables, "run").recompute_partitions([date(2026, 2, 1)])
    assert not meanwhile
    assert amounts(lakehouse) == [1, 42, 3]


@pytest.mark.parametrize(
    ("text", "dtype", "meant"),
    [
        ("2026-01", pl.Date(), date(2026, 1, 1)),
        ("7", pl.Int64(), 7),
        ("true", pl.Boolean(), True),
        ("false", pl.Boolean(), False),
        ("a b", pl.String(), "a b"),
        (NO_VALUE, pl.Int64(), None),
    ],
)
def test_a_key_is_read_as_the_value_that_is_written_so(text, dtype, meant):
    assert value(text, dtype) == meant
    assert value(key(meant), dtype) == meant


@pytest.mark.parametrize(("text", "dtype"), [("x", pl.Int64()), ("1", pl.Boolean()), ("2026-13", pl.Date())])
def test_a_key_that_is_no_value_is_refused(text, dtype):
    with pytest.raises(ValueError, match=f"'{text}' is no "):
        value(text, dtype)
