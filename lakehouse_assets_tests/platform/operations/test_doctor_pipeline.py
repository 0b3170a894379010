"""The doctor sees a pipeline that stopped: a run that failed, a table that stays behind, a model that nothing is scored with."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse_assets.platform.operations.doctor.examine import examine
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA, Verdict, ledger_entry
from lakehouse_assets.platform.registry.registry import Aliases
from lakehouse_assets_tests.platform.operations.test_doctor import BRONZE, INVOICES, LEDGER, SILVER, checkup, template  # noqa: F401
from lakehouse_assets_tests.running import land_text, run_products, tables_of


@pytest.fixture
def healthy(template, settings):  # noqa: F811
    shutil.copytree(template, settings.root, copy_function=shutil.copy2)
    return settings


def found(checkup):
    return {(finding.severity, finding.table): finding for finding in examine(checkup) if finding.severity != "note"}


def test_a_run_that_failed(healthy):
    failed = replace(checkup(healthy), failures={SILVER: f"{SILVER}: 3 rows have no price"})
    finding = found(failed)["error", SILVER]
    assert finding.what == "the last run failed here: 3 rows have no price"
    assert "lakehouse run" in finding.fix
    assert found(replace(failed, is_running=True))["error", SILVER].fix == ""


def test_a_table_that_stays_behind_its_source(healthy):
    land_text(healthy, "invoices", "third.csv", INVOICES.replace("489434", "489437"))
    run_products(healthy, [BRONZE])
    assert ("warning", SILVER) not in found(checkup(healthy)), "the next run may be on its way"
    late = replace(checkup(healthy), now=datetime.now(UTC) + timedelta(hours=2))
    finding = found(late)["warning", SILVER]
    assert finding.fix == f"lakehouse run {SILVER}"
    assert f"when {BRONZE} changed" in finding.what
    assert ("warning", SILVER) not in found(replace(late, is_running=True))
    run_products(healthy, ["sales"])
    assert found(replace(checkup(healthy), now=datetime.now(UTC) + timedelta(hours=2))) == {}


@pytest.mark.parametrize("champion", [None, 1])
def test_a_model_without_a_champion(healthy, champion):
    ledger = tables_of(healthy).table(LEDGER)
    ledger.create(LEDGER_SCHEMA)
    entry = ledger_entry(
        Verdict(decision="kept as challenger" if champion is None else "promoted", reasons=["It is worse than the naive one."]),
        1,
        model_name="revenue_forecast.models.daily_revenue",
        origin=None,
        sequence=1,
        before=Aliases(),
        after=Aliases(champion=champion, challenger=1),
        decided_at=datetime.now(UTC),
    )
    ledger.append(entry.frame())
    findings = found(replace(checkup(healthy, registry=NoModels), failures={}))
    if champion is not None:
        assert ("warning", LEDGER) not in findings
        return
    finding = findings["warning", LEDGER]
    assert "It is worse than the naive one." in finding.what
    assert finding.fix == f"lakehouse models promote {LEDGER} 1 --reason TEXT"


class NoModels:
    """A registry without versions."""

    def versions(self, _):
        return []

    def aliases(self, _):
        return Aliases()
