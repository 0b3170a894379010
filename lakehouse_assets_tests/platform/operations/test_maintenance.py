"""Maintenance of a whole lakehouse: it knows its readers and its models, writes down what it did, and runs at its own time only."""

import os
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets import Drift, monitor, products
from lakehouse_assets.definitions import definitions
from lakehouse_assets.platform.monitoring.accuracy.table import SCHEMA as ACCURACY_SCHEMA
from lakehouse_assets.platform.monitoring.accuracy.table import accuracy_table
from lakehouse_assets.platform.monitoring.alerts.delivery_log import Delivery, DeliveryLog
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.machine import advance
from lakehouse_assets.platform.monitoring.alerts.signals import Signal
from lakehouse_assets.platform.operations import maintenance
from lakehouse_assets.platform.operations.maintenance import Maintenance
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.run import selection_of
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.platform.pipeline import commit_statistics
from lakehouse_assets.platform.pipeline.model_step import newest_features
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA
from lakehouse_assets.platform.registry.registry import Aliases
from lakehouse_assets.platform.storage import platform_tables, table_cache
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.maintenance import SMALL_FILES_A_PARTITION
from lakehouse_assets.platform.storage.platform_tables import FEEDBACK_SUFFIX
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text, run_products, tables_of

DECLARED = load(products).declarations
PRODUCTS = "stock_code,name,product_group,component,list_price\n"
LEDGER = "revenue_forecast.models.daily_revenue"


def no_model():
    raise AssertionError("no model was ever decided about")


def of(settings, registry=no_model):
    return Maintenance(tables_of(settings), DECLARED, registry, timedelta(days=7))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("maintenance") / "root")})
    for number in range(SMALL_FILES_A_PARTITION):
        land_text(settings, "products", f"{number}.csv", f"{PRODUCTS}{number},a,b,base,1\n")
        run_products(settings, ["sales.bronze.products", "sales.silver.products"])
    other = tables_of(settings).table("other.silver.table")
    other.create({"a": pl.Int64()})
    for number in range(SMALL_FILES_A_PARTITION):
        other.append(pl.DataFrame({"a": [number]}))
    return settings.root


@pytest.fixture
def busy(template, settings):
    """A root whose bronze and silver got a commit a file, as a sensor makes them, and a table that nobody declares."""
    shutil.copytree(template, settings.root)
    return settings


def test_every_table_is_maintained_and_the_next_run_goes_on(busy):
    lakehouse = tables_of(busy)
    maintained = {done.table: done for done in of(busy).run("maintenance-1")}
    assert set(maintained) == {table.name for table in lakehouse.tables()} - {maintenance.LOG, commit_statistics.TABLE}
    for name in ("sales.bronze.products", "other.silver.table"):
        assert (maintained[name].done, maintained[name].files_after) == (("compacted",), 1)
    log = lakehouse.table(maintenance.LOG).scan().collect()
    assert set(log["table"]) == set(maintained)
    assert set(log["run_id"]) == {"maintenance-1"}
    before = lakehouse.table("sales.silver.products").version()
    run_products(busy, ["sales.bronze.products", "sales.silver.products"])
    assert lakehouse.table("sales.silver.products").version() == before
    land_text(busy, "products", "new.csv", f"{PRODUCTS}99,a,b,base,1\n")
    run_products(busy, ["sales.bronze.products", "sales.silver.products"])
    assert set(lakehouse.table("sales.silver.products").scan().collect()["stock_code"]) == {*map(str, range(8)), "99"}
    assert [done.done for done in of(busy).run("maintenance-2") if done.table == "other.silver.table"] == [()]


def test_a_table_is_maintained_with_its_quarantine(busy):
    names = ["sales.silver.products", "sales.silver.products__quarantine"]
    assert [table.name for table in of(busy).tables(["sales.silver.products"])] == names
    with pytest.raises(LookupError, match=r"there is no table sales\.silver\.nothing"):
        of(busy).tables(["sales.silver.nothing"])


def test_a_table_that_cannot_be_maintained_does_not_keep_the_others_from_it(busy):
    lakehouse = tables_of(busy)
    broken = lakehouse.table("other.silver.broken")
    shutil.copytree(lakehouse.table("other.silver.table").uri, broken.uri)
    Path(broken.delta().file_uris()[0]).unlink()
    maintained = {done.table: done for done in of(busy).run("maintenance-1")}
    assert "not found" in maintained["other.silver.broken"].why_not
    assert maintained["other.silver.table"].done


@pytest.mark.parametrize("damage", ["garbage", "cut", "gone", "no commit"])
@pytest.mark.parametrize("name", [platform_tables.CHECKS, "sales.silver.products", platform_tables.CACHE, maintenance.LOG])
def test_whichever_table_is_damaged_the_others_are_maintained_and_it_says_what_to_do(busy, name, damage):
    lakehouse = tables_of(busy)
    by = platform_tables.BY_DAY.get(name, "at")
    old = pl.DataFrame({by: [datetime(2020, 1, 1, tzinfo=UTC)]}).with_columns(
        pl.col(by).cast(pl.Date if by == DATE else pl.Datetime("us", "UTC"))
    )
    table = lakehouse.table(name)
    if name == maintenance.LOG:
        list(of(busy).run("maintenance-0", ["sales.bronze.products"]))
    elif not table.exists():
        table.create(old.schema)
        table.append(old)
    (file, *_) = (Path(uri) for uri in table.delta().file_uris())
    if damage == "no commit":
        Path(table.uri, "_delta_log", f"{table.version():020d}.json").write_bytes(b"")
    elif damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"garbage" if damage == "garbage" else file.read_bytes()[:-7])
    table_cache.clear()
    done = replace(of(busy), days_kept=timedelta(days=90))
    maintained = {one.table: one for one in done.run("maintenance-1")}
    assert maintained["other.silver.table"].done
    assert set(maintained) >= {table.name for table in lakehouse.tables()} - {maintenance.LOG, commit_statistics.TABLE}
    if name == platform_tables.CACHE:
        assert not table.exists(), "it is rebuilt by the next evaluation"
    elif (why := maintained[name].why_not) is not None and why:
        assert f"`lakehouse restore {name} --last-good`" in why
        assert "\n" not in why


def test_the_slowest_reader_counts(busy):
    lakehouse = tables_of(busy)
    at = lakehouse.table("sales.silver.products").cursor("sales.bronze.products")
    assert of(busy).cursors["sales.bronze.products"] == at
    assert "other.silver.table" not in of(busy).cursors


def test_a_reader_that_cannot_be_opened_may_need_everything(busy):
    log = Path(tables_of(busy).table("sales.silver.products").uri, "_delta_log", f"{0:020d}.json")
    log.write_text(log.read_text().replace('"configuration":{', '"configuration":{"delta.columnMapping.mode":"name",'))
    assert of(busy).cursors["sales.bronze.products"] == 0


def test_versions_of_models_in_use_are_pinned(busy):
    ledger = tables_of(busy).table(LEDGER)
    ledger.create(LEDGER_SCHEMA)
    assert of(busy).pins == {}
    ledger.append(pl.DataFrame([{"sequence": 1, "version": 1, "champion": 1}], schema=LEDGER_SCHEMA))
    tables = {3: {"sales.gold.a": 3}, 2: {"sales.gold.a": 2}, 1: {"sales.gold.a": 1, "sales.gold.b": 0}}
    registry = SimpleNamespace(
        aliases=lambda _: Aliases(champion=3),
        versions=lambda _: [SimpleNamespace(version=number, tables=tables[number]) for number in tables],
    )
    # The ledger's champion counts although its alias was not set yet.
    assert of(busy, lambda: registry).pins == {"sales.gold.a": {1, 3}, "sales.gold.b": {0}}


def test_the_version_that_a_monitor_compares_with_is_pinned(busy):
    drifts = monitor("sales.monitors.drift", of="sales.silver.payments", kind=Drift("paid_at", against="sales.silver.payments@4"))
    newest = monitor("sales.monitors.newest", of="sales.silver.payments", kind=Drift("paid_at", against="sales.silver.payments"))
    assert replace(of(busy), declarations=[*DECLARED, drifts, newest]).pins == {"sales.silver.payments": {4}}


def test_a_log_is_cleaned_up_once_its_commits_are_in_the_statistics(busy):
    lakehouse = tables_of(busy)
    table = lakehouse.table("other.silver.table")
    for number in range(60):
        table.append(pl.DataFrame({"a": [number]}))
    old = time.time() - timedelta(days=40).total_seconds()
    commits = [commit["version"] for commit in table.commits()]
    for path in Path(table.uri).rglob("*.*"):
        os.utime(path, (old, old))
    done = {done.table: done for done in of(busy).run("first")}[table.name]
    assert "log cleaned up" in done.done, done.why_not
    assert len(list(table.commits())) < 20
    recorded = lakehouse.table(commit_statistics.TABLE).scan().filter(pl.col("table") == table.name).collect()
    assert set(recorded["version"]) >= set(commits)
    assert {done.table: done.done for done in of(busy).run("second")}[table.name] == ()


def test_maintenance_has_a_job_and_a_schedule_of_its_own(settings):
    found = definitions(settings, load(products))
    key = key_of(maintenance.LOG)
    graph = found.resolve_asset_graph()
    assert key in graph.get_all_asset_keys()
    assert key not in selection_of([], found, [])
    assert selection_of([maintenance.LOG], found, []) == {key}
    assert found.resolve_job_def("maintenance").asset_layer.executable_asset_keys == {key}
    for job in ("refresh", "train"):
        assert key not in found.resolve_job_def(job).asset_layer.executable_asset_keys
    assert found.resolve_schedule_def("nightly_maintenance").cron_schedule == "30 3 * * *"
    assert Settings.load({"LAKEHOUSE_RETENTION_DAYS": "30"}).retention_days == 30


def test_the_job_maintains(busy, tmp_path):
    job = definitions(busy, load(products)).resolve_job_def("maintenance")
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        result = job.execute_in_process(instance=instance)
    assert result.success
    metadata = result.asset_materializations_for_node("platform__maintenance__log")[0].metadata
    assert metadata["maintained"].value >= 2
    assert len(tables_of(busy).table("other.silver.table").delta().file_uris()) == 1


def test_maintenance_of_its_features_is_no_reason_to_train_again(busy):
    features, ledger = tables_of(busy).table("revenue_forecast.features.daily_revenue"), tables_of(busy).table(LEDGER)
    features.create({"a": pl.Int64()})
    ledger.create(LEDGER_SCHEMA)
    for number in range(SMALL_FILES_A_PARTITION):
        features.append(pl.DataFrame({"a": [number]}))
    at = features.version()
    ledger.append(ledger.scan().collect(), Commit((Cursor(features.name, None, at),)))
    assert "compacted" in next(done.done for done in of(busy).run("maintenance-1") if done.table == features.name)
    assert features.version() > at
    assert newest_features(features, at) == of(busy).cursors[features.name] == at
    features.append(pl.DataFrame({"a": [99]}))
    assert newest_features(features, at) == of(busy).cursors[features.name] == features.version()


def test_days_beyond_the_retention_of_an_endpoint_are_deleted_and_others_stay(settings):
    endpoint = replace(next(one for one in DECLARED if one.name == "order_fraud.inference.order_fraud"), log_retention=timedelta(days=30))
    lakehouse = tables_of(settings)
    today = datetime.now(UTC).date()
    names = [endpoint.name, endpoint.name + FEEDBACK_SUFFIX, "order_fraud.inference.other"]
    for name in names:
        table = lakehouse.table(name)
        table.create({"request_id": pl.String(), DATE: pl.Date()}, (DATE,))
        for age in (0, 29, 30, 31, 400):
            table.append(pl.DataFrame({"request_id": [f"{age}"], DATE: [today - timedelta(days=age)]}))
    kept = Maintenance(lakehouse, [endpoint], no_model, timedelta(days=7))
    done = {one.table: one.done for one in kept.run("r")}
    assert [maintenance.OLD_DAYS in done[name] for name in names] == [True, True, False]
    ages = {name: sorted(int(age) for age in lakehouse.table(name).scan().collect()["request_id"]) for name in names}
    assert ages == {names[0]: [0, 29, 30], names[1]: [0, 29, 30], names[2]: [0, 29, 30, 31, 400]}
    versions = [lakehouse.table(name).version() for name in names]
    assert not any(maintenance.OLD_DAYS in one.done for one in kept.run("again"))
    assert versions == [lakehouse.table(name).version() for name in names], "nothing is left to delete"


def test_old_accuracy_and_alerts_that_are_over_are_deleted_and_open_alerts_stay(settings):
    lakehouse, now = tables_of(settings), datetime.now(UTC)
    old = now - timedelta(days=500)
    alerts = AlertLog(lakehouse)
    signals = [Signal("a", is_bad=True, at=old, text="bad"), Signal("b", is_bad=True, at=old, text="bad")]
    opened = advance({}, signals, 0)
    alerts.append(opened, [], lambda _: (), old, 0)
    over = advance({"a": opened[0]}, [Signal("a", is_bad=False, at=old, text="well")], 2)
    alerts.append(over, [], lambda _: (), old, 2)
    DeliveryLog(lakehouse).add([Delivery("log", "x", 1, at, "delivered", 1) for at in (old, now)])
    windows = [{"model": "m", "window_start": at} for at in (old, now, None)]
    accuracy_table(lakehouse).append(pl.DataFrame(windows, schema=ACCURACY_SCHEMA))
    maintained = Maintenance(lakehouse, [], no_model, timedelta(days=7), days_kept=timedelta(days=400))
    done = {one.table: one.done for one in maintained.run("r")}
    names = [platform_tables.ALERTS, platform_tables.ALERT_DELIVERIES, platform_tables.ACCURACY]
    assert all(maintenance.OLD_DAYS in done[name] for name in names)
    rows = [lakehouse.table(name).scan().collect() for name in names]
    assert rows[0]["key"].to_list() == ["b"]
    assert rows[1]["at"].to_list() == [now]
    assert set(rows[2]["window_start"]) == {now, None}
    assert [entry.key for entry in alerts.snapshot().open_alerts()] == ["b"]
    assert alerts.snapshot().sequence == 3, "the next event has the next number"
    assert not any(maintenance.OLD_DAYS in one.done for one in maintained.run("again"))
