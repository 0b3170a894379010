"""What the web UI says of checks stays true: after an idle run, after another step failed, after a run was interrupted."""

import asyncio
from dataclasses import replace

import dagster as dg
import polars as pl
import pytest
from dagster._core.loader import LoadingContextForTest

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.declarations.row_kinds import Append
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.orchestration.assets import build
from lakehouse_assets.platform.orchestration.planned import KEPT, settle
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.quality.contract import Contract, column, rule
from lakehouse_assets_tests.running import tables_of

BRONZE = pl.Schema({"name": pl.String(), "age": pl.Int64()})
SOURCES = frozenset({"club.bronze.members", "club.bronze.visits"})


class Person(Contract):
    """Somebody."""

    name: str = column(key=True)
    age: int = column(ge=0)
    young = rule("nobody is older than 50", pl.col("age") <= 50, level="warn")
    sane = rule("nobody is older than 150", pl.col("age") <= 150, level="fail")


def people(rows: pl.LazyFrame) -> pl.LazyFrame:
    """People."""
    return rows


TABLES = [
    table("club.silver.members", contract=Person, kind=Append(), inputs={"rows": "club.bronze.members"})(people),
    table("club.gold.members", contract=Person, kind=Full(), inputs={"rows": "club.silver.members"})(people),
    table("club.silver.visits", contract=Person, kind=Append(), inputs={"rows": "club.bronze.visits"})(people),
    table("club.gold.visits", contract=Person, kind=Full(), inputs={"rows": "club.silver.visits"})(people),
]


class Club:
    """Two chains of tables on one root, in Dagster."""

    def __init__(self, settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance = settings, instance
        self.tables = list(TABLES)
        for name in SOURCES:
            tables_of(settings).table(name).create(BRONZE)

    def land(self, feed: str, *rows: tuple[str, int]) -> None:
        tables_of(self.settings).table(f"club.bronze.{feed}").append(pl.DataFrame(rows, schema=BRONZE, orient="row"))

    def job(self) -> dg.JobDefinition:
        assets = build(Catalog(tuple(self.tables), SOURCES))[1:]
        return dg.Definitions(assets=assets, resources=resources(self.settings)).resolve_implicit_global_asset_job_def()

    def run(self) -> dg.ExecuteInProcessResult:
        assets = build(Catalog(tuple(self.tables), SOURCES))[1:]
        return dg.materialize(assets, resources=resources(self.settings), instance=self.instance, raise_on_error=False)

    def records(self) -> dict[tuple[str, str], object]:
        keys = [key for asset in build(Catalog(tuple(self.tables), SOURCES))[1:] for key in asset.check_keys]
        found = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        return {(".".join(key.asset_key.path), key.name): record for key, record in found.items()}

    def statuses(self) -> dict[tuple[str, str], str]:
        """As the web UI shows them."""

        async def resolved() -> dict[tuple[str, str], str]:
            context = LoadingContextForTest(self.instance)
            return {key: (await record.resolve_status(context)).value for key, record in self.records().items()}

        return asyncio.run(resolved())


@pytest.fixture
def club(settings):
    with dg.DagsterInstance.ephemeral() as instance:
        opened = Club(settings, instance)
        opened.land("members", ("a", 30), ("b", -1), ("c", 60))
        opened.land("visits", ("d", 70), ("e", 5))
        yield opened


def test_an_idle_run_changes_no_status(club):
    assert club.run().success
    before = club.statuses()
    assert set(before.values()) == {"SUCCEEDED", "FAILED"}
    assert club.run().success
    assert club.statuses() == before


def test_a_step_that_fails_changes_the_statuses_of_what_it_broke_alone(club):
    club.run()
    before = club.statuses()
    club.land("members", ("f", 200), ("g", -1))
    failed = club.run()
    assert not failed.success
    settle(club.instance, failed.run_id)
    after = club.statuses()
    broken = {("club.silver.members", "contract"), ("club.silver.members", "sane")}
    assert {key for key in before if before[key] != after[key]} == broken
    assert {after[key] for key in broken} == {"FAILED"}
    skipped = club.records()["club.gold.members", "young"]
    assert skipped.run_id == failed.run_id
    assert "before the step of this check was done" in skipped.evaluation.metadata[KEPT].value


def test_an_error_of_the_function_changes_no_status(club):
    club.run()
    before = club.statuses()
    club.land("members", ("f", 20))
    club.tables[0] = replace(TABLES[0], function=lambda rows: rows.select("nothing"))
    failed = club.run()
    settle(club.instance, failed.run_id)
    after = club.statuses()
    assert {key for key in before if before[key] != after[key]} == set()


def test_a_check_that_was_never_evaluated_says_so_and_only_warns(club):
    club.land("members", ("f", 200))
    failed = club.run()
    settled = settle(club.instance, failed.run_id)
    assert {".".join(check.asset_key.path) for check in settled} == {"club.gold.members"}
    evaluation = club.records()["club.gold.members", "young"].evaluation
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert evaluation.description.startswith("not evaluated: run ")
    assert "EXECUTION_FAILED" not in club.statuses().values()


def test_settling_twice_is_settling_once_and_a_run_under_way_is_left_alone(club):
    club.land("members", ("f", 200))
    failed = club.run()
    assert settle(club.instance, failed.run_id)
    assert settle(club.instance, failed.run_id) == []
    run = club.instance.create_run_for_job(club.job())
    assert settle(club.instance, run.run_id) == []


def test_checks_of_a_run_that_was_interrupted_keep_their_results(club):
    club.run()
    before = club.statuses()
    run = club.instance.create_run_for_job(club.job())
    assert set(club.statuses().values()) == {"IN_PROGRESS"}
    club.instance.report_run_canceled(run)
    assert set(club.statuses().values()) == {"SKIPPED"}, "what Dagster shows by itself"
    settle(club.instance, run.run_id)
    assert club.statuses() == before
