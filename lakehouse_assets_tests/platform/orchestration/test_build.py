"""What a run shows in Dagster: evidence, versions, and that a broken contract stops what depends on it, then and later."""

from contextlib import contextmanager

import dagster as dg
import pytest

from lakehouse_assets import products
from lakehouse_assets.definitions import definitions
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text, tables_of

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"
GOOD = "489434,85048,BALL,12,2009-12-01 07:45:00,6.95,13085,United Kingdom"
BAD = "489434,85048,BALL,twelve,2009-12-01 07:45:00,6.95,13085,United Kingdom"
SALES = (dg.AssetSelection.key_prefixes("sales") | dg.AssetSelection.key_prefixes("platform")).materializable()
# What some tests need of it.
REVENUE = (
    dg.AssetSelection.assets(*map(key_of, ("sales.gold.daily_revenue", "sales.silver.customers"))).upstream()
    & dg.AssetSelection.key_prefixes("sales")
).materializable()


@contextmanager
def running(settings: Settings, tables: dg.AssetSelection = SALES):
    """Runs tables of the sales product in Dagster; gives its result."""
    found = definitions(settings, load(products))
    keys = list(tables.resolve(found.resolve_asset_graph()))
    job = found.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        yield lambda: job.execute_in_process(instance=instance, asset_selection=keys, raise_on_error=False)


@pytest.fixture
def run(settings):
    with running(settings, REVENUE) as runs:
        yield runs


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A root of good rows, a broken one and a refused file; and the results of two runs, of which the second had nothing to do."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("ran") / "root")})
    land(settings, "1.csv", GOOD, GOOD, BAD)
    land_text(settings, "invoices", "2.csv", b"")
    with running(settings) as runs:
        yield settings, runs(), runs()


def land(settings, name: str, *lines: str) -> None:
    land_text(settings, "invoices", name, "\n".join([HEADER, *lines]) + "\n")


def checks(result) -> dict[str, object]:
    key = key_of("sales.silver.invoice_lines")
    return {check.check_name: check for check in result.get_asset_check_evaluations() if check.asset_key == key}


def materialized(result) -> dict[str, dict]:
    return {
        ".".join(event.asset_key.path): event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
    }


def test_a_materialization_says_where_the_rows_went(ran):
    settings, result, _ = ran
    made = materialized(result)["sales.silver.invoice_lines"]
    said = {name: value.value for name, value in made.metadata.items()}
    assert (said["rows_in"], said["rows_written"], said["rows_quarantined"]) == (3, 2, 1)
    assert said["dagster/row_count"] == 2
    table = tables_of(settings).table("sales.silver.invoice_lines")
    assert said["delta_version"] == str(table.version()), "a text, because the web UI plots numbers"
    assert said["dagster/size_bytes"] > 0
    assert said["dagster/uri"] == table.uri
    assert made.tags["dagster/data_version"].startswith(f"{table.version()}-")


def test_a_quarantine_shows_its_columns(ran):
    made = materialized(ran[1])["sales.silver.invoice_lines__quarantine"]
    names = [column.name for column in made.metadata["dagster/column_schema"].value.columns]
    assert {"invoice", "_file", "_row", "_unparsed", "_broken"} <= set(names)


def test_a_check_shows_its_evidence(ran):
    found = checks(ran[1])["readable"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert found.metadata["rows_broken"].value == 1
    assert "twelve" in found.metadata["sample"].value
    assert "quarantine" in found.description


def test_personal_data_is_masked_in_evidence(settings, run):
    event = '{"op":"upsert","sequence":1,"customer":1,"name":"Some Body","email":"no address","changed_at":"2024-01-01T00:00:00"}'
    land_text(settings, "customers", "1.jsonl", event + "\n")
    samples = [check.metadata["sample"].value for check in run().get_asset_check_evaluations() if "sample" in check.metadata]
    assert samples
    assert not any("Some Body" in sample or "no address" in sample for sample in samples)


def test_nothing_new_leaves_every_check_as_it_was(ran):
    _, first, again = ran
    assert again.success
    seen = [
        {(c.asset_key, c.check_name): (c.passed, c.severity) for c in result.get_asset_check_evaluations()} for result in (first, again)
    ]
    assert seen[1] == seen[0]
    assert not checks(again)["readable"].passed
    assert "nothing was new since version" in checks(again)["readable"].description


def test_a_broken_contract_stops_what_depends_on_it_then_and_on_later_ticks(settings, run):
    land(settings, "1.csv", GOOD)
    assert run().success
    gold = tables_of(settings).table("sales.gold.daily_revenue").version()
    land(settings, "2.csv", *([BAD.replace("489434", f"{489500 + n}") for n in range(200)]))
    for _ in range(2):
        result = run()
        assert not result.success
        assert not checks(result)["contract"].passed
        assert "200 of 200 rows" in checks(result)["contract"].description
        made = materialized(result)
        assert "sales.silver.invoice_lines" not in made
        assert "sales.gold.daily_revenue" not in made
        assert "sales.silver.customers" in made, "what does not depend on it goes on"
    assert tables_of(settings).table("sales.gold.daily_revenue").version() == gold


def test_a_refused_file_is_a_warning_and_the_run_goes_on(ran):
    result = ran[1]
    assert result.success
    found = next(c for c in result.get_asset_check_evaluations() if c.check_name == "files_read" and not c.passed)
    assert "empty" in found.metadata["2.csv"].value


def test_a_quarantine_is_materialized_with_its_table_and_not_by_itself(settings):
    found = definitions(settings, load(products))
    job = found.resolve_implicit_global_asset_job_def()
    quarantine = key_of("sales.silver.products__quarantine")
    assert quarantine not in found.resolve_asset_graph().executable_asset_keys
    with dg.DagsterInstance.ephemeral() as instance:
        keys = [key_of("sales.bronze.products"), key_of("sales.silver.products")]
        result = job.execute_in_process(instance=instance, asset_selection=keys)
    assert set(materialized(result)) == {*(".".join(key.path) for key in keys), "sales.silver.products__quarantine"}


def test_a_full_refresh_is_asked_for_in_the_launchpad(settings, run):
    land(settings, "1.csv", GOOD)
    run()
    job = definitions(settings, load(products)).resolve_implicit_global_asset_job_def()
    step = "sales__silver__invoice_lines"
    with dg.DagsterInstance.ephemeral() as instance:
        keys = [key_of("sales.silver.invoice_lines")]
        asked = {"ops": {step: {"config": {"full_refresh": True}}}}
        refreshed = job.execute_in_process(run_config=asked, instance=instance, asset_selection=keys)
    assert materialized(refreshed)["sales.silver.invoice_lines"].metadata["rows_in"].value == 1, "it was given all rows again"


def test_checks_of_a_feed_and_of_a_model_selected_alone_read_no_file_and_train_nothing(settings, run):
    land_text(settings, "invoices", "1.csv", b"")
    run()
    land(settings, "2.csv", GOOD)
    selected = {"sales.bronze.invoices": "files_read", "revenue_forecast.models.daily_revenue": "gate"}
    selection = dg.AssetSelection.checks(*(dg.AssetCheckKey(key_of(table), check) for table, check in selected.items()))
    defs = dg.Definitions.merge(definitions(settings, load(products)), dg.Definitions(jobs=[dg.define_asset_job("look", selection)]))
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("look").execute_in_process(instance=instance)
    seen = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert set(seen) == set(selected.values())
    assert "empty" in seen["files_read"].metadata["1.csv"].value
    assert not seen["gate"].passed
    assert "No version was trained yet" in seen["gate"].description
    assert not materialized(result)
    assert not tables_of(settings).table("sales.bronze.invoices").count()
    assert not tables_of(settings).table("revenue_forecast.models.daily_revenue").exists()
