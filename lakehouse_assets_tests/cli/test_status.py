"""`lakehouse status` shows whatever has failed of what Dagster shows, whichever declaration it belongs to."""

import json

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets import products
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.declarations.check_names import GATE_CHECK, LEAKAGE_CHECK, PARITY_CHECK
from lakehouse_assets.platform.monitoring.kinds.implied import all_monitors
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.platform.orchestration.instance import instance
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA
from lakehouse_assets_tests.running import tables_of


@pytest.fixture
def failed(settings, monkeypatch) -> dict[str, set[str]]:
    """By table, the checks of the shipped products, which all have failed, but for those that are told elsewhere."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(settings.root))
    declared = load(products)
    monitored = {(one.of, one.word) for one in all_monitors(declared.declarations)}
    models, checks = {one.name for one in declared.catalog.models}, dict[str, set[str]]()
    with instance(settings) as opened:
        for key in definitions(settings, declared).resolve_asset_graph().asset_check_keys:
            table = ".".join(key.asset_key.path)
            opened.report_runless_asset_event(dg.AssetCheckEvaluation(key.asset_key, key.name, passed=False, metadata={}))
            if (table, key.name) not in monitored and key.name != GATE_CHECK:
                checks.setdefault(table, set()).add(key.name)
    for table in checks:
        tables_of(settings).table(table).create(pl.Schema(LEDGER_SCHEMA if table in models else {"id": pl.Int64()}))
    return checks


def test_every_failed_check_is_shown(failed):
    assert {LEAKAGE_CHECK, PARITY_CHECK} <= set().union(*failed.values())
    done = CliRunner().invoke(main, ["status", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["table"]: row for row in json.loads(done.stdout)["tables"]}
    assert {table: set(rows[table]["failed_checks"]) for table in failed} == failed
    shown = CliRunner(env={"COLUMNS": "300"}).invoke(main, ["status"]).stdout
    for table, names in failed.items():
        if names <= {LEAKAGE_CHECK, PARITY_CHECK}:
            assert f"stopped {table}: {', '.join(names)}\n" in shown
