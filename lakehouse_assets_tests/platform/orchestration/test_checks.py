"""Every check that a run plans has a result that is true of the table: with new rows, without, selected alone, and where the run fails."""

from dataclasses import replace

import dagster as dg
import polars as pl
import pytest
from dagster._serdes import serialize_value

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.declarations.row_kinds import Append
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.operations import run_records
from lakehouse_assets.platform.orchestration.assets import build
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.orchestration.run import execute
from lakehouse_assets.platform.orchestration.steps import FULL_REFRESH_TAG, key_of
from lakehouse_assets.platform.quality.contract import Contract, column, rule
from lakehouse_assets_tests.running import tables_of

NAME, SOURCE = "club.silver.members", "club.bronze.members"
KEY = key_of(NAME)
BRONZE = pl.Schema({"email": pl.String(), "age": pl.Int64(), "fee": pl.Int64()})
SECRET = "ada@example.org"


class Member(Contract):
    """A member of a club, by a key that is personal."""

    email: str = column(key=True, personal=True)
    age: int = column(ge=0)
    fee: int = column(le=100, level="warn")
    sane = rule("nobody is older than 150", pl.col("age") <= 150, level="fail")


@table(NAME, contract=Member, kind=Append(), inputs={"rows": SOURCE})
def members(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Members."""
    return rows


@table(NAME, contract=Member, kind=Full(), inputs={"rows": SOURCE})
def all_members(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Members, computed as a whole."""
    return rows


class Run:
    """One run: its checks by name, and all that Dagster recorded of it."""

    def __init__(self, result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> None:
        self.success = result.success
        self.checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
        self.materialized = {event.asset_key for event in result.get_asset_materialization_events()}
        logs = instance.all_logs(result.run_id)
        self.recorded = "\n".join(serialize_value(entry) for entry in logs)
        self.failures = [
            entry.dagster_event.step_failure_data.user_failure_data.description
            for entry in logs
            if entry.dagster_event is not None
            and entry.dagster_event.is_step_failure
            # A blocking check that fails is a failure of Dagster's own.
            and entry.dagster_event.step_failure_data.user_failure_data is not None
        ]

    @property
    def seen(self) -> dict[str, tuple[bool, str]]:
        return {name: (check.passed, check.severity.value) for name, check in self.checks.items()}


class Club:
    """The table on one root, in Dagster."""

    def __init__(self, settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance = settings, instance
        self.bronze = tables_of(settings).table(SOURCE)
        self.bronze.create(BRONZE)

    @property
    def stored(self):
        return tables_of(self.settings).table(NAME)

    def land(self, *rows: tuple[str, int | None, int]) -> None:
        self.bronze.append(pl.DataFrame(rows, schema=BRONZE, orient="row"))

    def __call__(self, selection: dg.AssetSelection | None = None, declared: TableDeclaration = members, **tags: str) -> Run:
        asset = next(asset for asset in build(Catalog((declared,), frozenset({SOURCE}))) if KEY in asset.keys)
        result = dg.materialize(
            [asset], selection=selection, resources=resources(self.settings), instance=self.instance, raise_on_error=False, tags=tags
        )
        return Run(result, self.instance)


@pytest.fixture
def club(settings):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Club(settings, instance)


PLANNED = {"contract", "row_account", "readable", "fits_header", "not_null", "age_ge", "fee_le", "sane", "key_unique", "volume"}


def only(*names: str) -> dg.AssetSelection:
    return dg.AssetSelection.checks(*(dg.AssetCheckKey(KEY, name) for name in names))


@pytest.mark.parametrize("declared", [members, all_members], ids=["append", "full"])
def test_an_idle_run_gives_the_results_of_the_last_run_again(club, declared):
    club.land((SECRET, 36, 10), ("b@b.b", -1, 10), ("c@c.c", 5, 500), ("c2@c.c", 5, 600))
    first = club(declared=declared)
    assert set(first.checks) == {spec.name for spec in build(Catalog((declared,), frozenset({SOURCE})))[1].check_specs}
    assert {name for name, (passed, _) in first.seen.items() if not passed} == {"age_ge", "fee_le"}
    again = club(declared=declared)
    assert again.seen == first.seen
    numbers = [{name: run.checks[name].metadata["rows_broken"].value for name in ("age_ge", "fee_le")} for run in (first, again)]
    assert numbers == [{"age_ge": 1, "fee_le": 2}] * 2
    assert (
        again.checks["age_ge"].description
        == f"1 row breaks this rule: in quarantine; nothing was new since version {club.stored.version()}."
    )


def test_nulls_are_counted_as_values_because_one_row_may_lack_several(club):
    club.land((SECRET, None, 10))
    checked = club().checks["not_null"]
    assert checked.description == "1 missing value breaks this rule: in quarantine."
    assert checked.metadata["values_missing"].value == 1


def test_the_results_of_a_run_are_those_of_all_its_batches_and_of_no_run_before_it(club):
    club.land(("a@a.a", -1, 10))
    club()
    club.land(("b@b.b", 1, 500))
    club.land(("c@c.c", 1, 500))
    assert not club().checks["fee_le"].passed
    idle = club()
    assert {name for name, (passed, _) in idle.seen.items() if not passed} == {"fee_le"}
    assert idle.checks["fee_le"].metadata["rows_broken"].value == 2


def test_after_a_full_refresh_an_idle_run_gives_its_results(club):
    club.land(("a@a.a", -1, 10), ("b@b.b", 1, 10))
    club()
    refreshed = club(**{FULL_REFRESH_TAG: "true"})
    assert not refreshed.checks["age_ge"].passed
    assert club().seen == refreshed.seen


def test_a_rule_that_is_new_is_evaluated_over_the_stored_rows_of_an_idle_table(club):
    club.land(("a@a.a", 1, 50), ("b@b.b", 1, 60))
    club()

    class Stricter(Member):
        """The same with a lower fee."""

        fee: int = column(le=55, level="warn")

    idle = club(declared=replace(members, contract=Stricter))
    assert idle.checks["fee_le"].metadata["rows_broken"].value == 1
    assert not idle.checks["fee_le"].passed


def test_a_check_selected_alone_looks_at_the_stored_rows_and_refreshes_nothing(club):
    club.land(("a@a.a", 1, 500), ("b@b.b", -1, 10))
    club()
    version = club.stored.version()
    club.land(("c@c.c", 1, 500))
    run = club(only("fee_le"))
    assert run.success
    assert run.seen == {"fee_le": (False, "WARN")}
    assert run.checks["fee_le"].metadata["rows_broken"].value == 1
    assert not run.materialized
    assert club.stored.version() == version


def test_a_selected_subset_of_checks_gives_exactly_those(club):
    club.land(("a@a.a", 1, 10), ("b@b.b", -1, 10))
    club()
    wanted = {"contract", "age_ge", "row_account", "key_unique", "readable", "volume"}
    run = club(only(*wanted))
    assert set(run.checks) == wanted
    assert all(check.passed for check in run.checks.values()), "stored rows keep these rules; what broke them is in quarantine"
    assert run.checks["age_ge"].metadata["rows_in_quarantine"].value == 1
    assert "is about rows on their way" in run.checks["readable"].description


def test_the_check_of_the_contract_selected_alone_compares_the_stored_columns(club):
    club.land(("a@a.a", 1, 10))
    club()

    class Wider(Member):
        """The same with one more column."""

        city: str = column(nullable=True)

    run = club(only("contract"), replace(members, contract=Wider))
    assert not run.checks["contract"].passed
    assert "column city (String) is missing" in run.checks["contract"].description


def test_a_check_of_a_table_that_does_not_exist_says_so(club):
    run = club(only("age_ge"))
    assert not run.success
    assert run.seen == {"age_ge": (False, "WARN")}
    assert run.checks["age_ge"].description.startswith(f"not evaluated: table {NAME}")


def test_where_a_contract_breaks_the_rules_that_were_applied_pass_and_the_others_say_that_they_were_not(club):
    club.land(("a@a.a", 1, 10), ("b@b.b", 151, 500))
    run = club()
    assert not run.success
    assert set(run.checks) == PLANNED
    failed = {name for name, (passed, severity) in run.seen.items() if not passed and severity == "ERROR"}
    assert failed == {"contract", "sane"}
    assert run.seen["age_ge"] == (True, "WARN")
    assert run.seen["row_account"] == (False, "WARN")
    assert run.checks["row_account"].description.startswith("not evaluated: ")
    assert club.stored.count() == 0


def test_columns_that_do_not_fit_leave_every_rule_unevaluated(club):
    club.land(("a@a.a", 1, 10))

    def renamed(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.rename({"age": "years"})

    run = club(declared=replace(members, function=renamed))
    assert set(run.checks) == PLANNED
    assert run.seen["contract"] == (False, "ERROR")
    assert all(run.checks[name].description.startswith("not evaluated: ") for name in PLANNED - {"contract", "volume"})


def test_rows_that_get_lost_fail_the_check_of_the_row_account(club):
    club.land(("a@a.a", 1, 10), ("b@b.b", 1, 10))

    def first(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.head(1)

    run = club(declared=replace(members, function=first))
    assert run.seen["row_account"] == (False, "ERROR")
    assert "given 2 rows and returned 1" in run.checks["row_account"].description
    assert run.seen["contract"] == (False, "WARN")


def twice(rows: pl.LazyFrame) -> pl.LazyFrame:
    return pl.concat([rows, rows])


def numbers(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(age=pl.col("email").cast(pl.Int64))


@pytest.mark.parametrize(
    "declared",
    [members, all_members, replace(all_members, function=twice), replace(members, function=numbers)],
    ids=["quarantine", "computed", "repeated keys", "error of Polars"],
)
def test_no_value_of_a_personal_column_is_in_what_dagster_records(club, declared):
    club.land((SECRET, -1, 500), (SECRET, 1, 500), ("b@b.b", 1, 10))
    run = club(declared=declared)
    assert run.checks
    assert SECRET not in run.recorded
    assert SECRET not in club(declared=declared).recorded
    assert SECRET not in club(only("age_ge", "not_null"), declared).recorded


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (numbers, "InvalidOperationError: conversion from `str` to `i64` failed"),
        (lambda rows: rows.select("nothing"), "names the column 'nothing'"),
        (lambda rows: rows.collect(), "call .lazy() on it"),
    ],
    ids=["values", "columns", "no lazy frame"],
)
def test_a_failure_is_one_line_that_names_the_table_and_is_not_retried(club, function, text):
    club.land((SECRET, 1, 10))
    run = club(declared=replace(members, function=function))
    [failure] = run.failures
    assert failure.startswith(f"{NAME}: ")
    assert text in failure
    assert "\n" not in failure
    assert "STEP_UP_FOR_RETRY" not in run.recorded


def test_what_was_not_evaluated_is_reported_by_the_failed_step_alone(settings, monkeypatch):
    """The command line and the status do not list each check that a broken contract left without a result."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    tables_of(settings).table(SOURCE).create(BRONZE)
    tables_of(settings).table(SOURCE).append(pl.DataFrame([("a@a.a", 151, 1)], schema=BRONZE, orient="row"))
    defs = dg.Definitions(assets=build(Catalog((members,), frozenset({SOURCE})))[1:], resources=resources(settings))
    outcome = execute(settings, defs, {KEY})
    assert [failed.name for failed in outcome.failed] == [NAME]
    assert "\n" not in outcome.failed[0].error
    assert {warning.split(":")[0] for warning in outcome.warnings} == {f"{NAME}, check contract", f"{NAME}, check sane"}
    recorded = run_records.failed_checks(settings.dagster_home, {NAME: PLANNED})
    assert [(check.name, check.stops) for check in recorded[NAME]] == [("contract", True), ("sane", True)]
