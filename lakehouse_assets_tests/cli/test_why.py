"""`lakehouse why`, what the alert says, and what Dagster shows: of a fault in a file of one of two tills."""

import json
import logging
import shutil
from datetime import UTC, datetime

import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.orchestration.monitors import result
from lakehouse_assets_tests.platform.monitoring.why import orders_of_two_tills as tills
from lakehouse_assets_tests.running import tables_of

MODULE = "lakehouse_assets_tests.platform.monitoring.why.orders_of_two_tills"


@pytest.fixture
def call(settings, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(settings.root))
    monkeypatch.setenv("COLUMNS", "250")
    return lambda *words: CliRunner().invoke(main, words)


def declare(tmp_path, monkeypatch, name: str) -> None:
    """A package of that name that has the tills."""
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").touch()
    names = "north, orders, silver_north, silver_south, south, watched"
    (package / "tills.py").write_text(f"from {MODULE} import {names}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LAKEHOUSE_PRODUCTS", name)


def test_a_wrong_unit_is_told_by_command_alert_and_check(settings, call, tmp_path, monkeypatch):
    declare(tmp_path, monkeypatch, "till_products")
    for till in tills.TILLS:
        for day in range(tills.BASE):
            tills.land(settings, till, day)
    tills.judged(settings)
    assert "has not failed" in call("why", "tills.monitors.orders_moved").output
    tills.land(settings, "north", tills.BASE)
    name = tills.land(settings, "south", tills.BASE, pl.col("Price") * 100)
    judgement = tills.judged(settings)
    origin = f"Price of tills.bronze.south: file {name} (sequence {tills.BASE + 1}), version 2, run test: median "

    shown = call("why", "orders_moved")
    assert shown.exit_code == 0, shown.output
    steps = [line.strip() for line in shown.output.splitlines() if "→" in line]
    assert [step.split(":")[0] for step in steps] == [
        "→ gross of tills.gold.orders",
        "→ amount of tills.silver.south",
        "→ Price of tills.bronze.south",
    ]
    assert origin in steps[-1]
    found = json.loads(call("why", "orders_moved", "--window", "2026-02-04", "--json").output)
    assert found["causes"][0]["column"] == "gross"
    wrong = call("why", "orders_moved", "--window", "2026-02-03")
    assert (wrong.exit_code, "has no failed window" in str(wrong.output)) == (1, True)

    tables, now = tables_of(settings), datetime(2026, 2, 1, tzinfo=UTC)
    taken = take(AlertLog(tables), [Verdicts(tables, {})], now, logging.getLogger("test"))
    (entry,) = [one for one in taken.entries if ":gross" in one.key]
    assert entry.event == "opened"
    assert entry.text.splitlines()[0].startswith(f"most likely: {origin}")
    assert origin in result(judgement).metadata["most likely"].value

    tills.land_text(settings, "south", "correction.csv", tills.rows_of("south", tills.BASE).write_csv())
    tills.judged(settings)
    lines = call("why", "orders_moved").output.splitlines()
    assert lines[0].startswith("tills.monitors.orders_moved passes now, judged at 2026-")
    assert json.loads(call("why", "orders_moved", "--json").output)["now"] == lines[0]
    for name in ("tills.gold.orders", "tills.gold.orders__quarantine"):
        shutil.rmtree(tables.table(name).uri)
    assert "tills.gold.orders does not exist any more." in call("why", "orders_moved").output
    assert "tills.gold.orders does not exist." in str(tills.evaluation_of(settings).run([tills.watched])[0].verdicts)
    gone = call("why", "orders_moved").output
    assert gone.startswith("tills.monitors.orders_moved could not be evaluated at 2026-")
    assert "whether what follows still holds is not known. tills.gold.orders does not exist any more." in gone
    assert "is over" not in gone, "it ends no alert"
    tills.judged(settings)
    assert "tills.gold.orders is another table now than the one that failed" in call("why", "orders_moved").output


def test_a_failure_with_gaps_is_explained_by_where_it_began(settings, call, tmp_path, monkeypatch):
    declare(tmp_path, monkeypatch, "till_products_with_gaps")
    for till in tills.TILLS:
        for day in range(tills.BASE):
            tills.land(settings, till, day)
    tills.judged(settings)
    names = []
    for day, factor in enumerate((100, 1, 100, 1, 100), tills.BASE):
        tills.land(settings, "north", day)
        names.append(tills.land(settings, "south", day, pl.col("Price") * factor))
    judgement = tills.judged(settings)

    found = json.loads(call("why", "orders_moved", "--json").output)
    assert [(one["column"], one["window"][:10]) for one in found["causes"]] == [("gross", "2026-02-04")]
    assert names[0] in found["causes"][0]["text"]
    assert found["newest"].startswith("2026-02-08")
    shown = call("why", "orders_moved").output
    assert "tills.gold.orders in the window from 2026-02-04 00:00 UTC" in shown
    assert "the newest window that failed: `lakehouse why tills.monitors.orders_moved --window 2026-02-08`" in shown

    # Who reads what failed reads of which day it is, wherever that is.
    said = "On 2026-02-08: gross drifted from the baseline"
    assert said in " ".join(call("monitors").output.split())
    assert said in result(judgement).description
    assert said in " ".join(call("status").output.split())
