"""After a restore the next run ends where it would have ended without: nothing is lost, nothing is there twice."""

import shutil
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse_assets import products
from lakehouse_assets.platform.operations import restore
from lakehouse_assets.platform.operations.maintenance import Maintenance
from lakehouse_assets.platform.operations.restore import RestoreRefused
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.storage import maintenance
from lakehouse_assets.platform.storage.errors import NoSuchTable, NoSuchVersion
from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.crash_child import TABLES
from lakehouse_assets_tests.running import run_products, tables_of
from lakehouse_assets_tests.test_crash import assert_same, content, settings_of

SILVER = "sales.silver.invoice_lines"
DECLARED = load(products).declarations
CHILD = """
import os, signal, sys
from deltalake import DeltaTable
from lakehouse_assets_tests.platform.operations.test_restore import back, of_run
real, left = DeltaTable.restore, [int(sys.argv[2])]

def restore(*args, **kwargs):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return real(*args, **kwargs)

DeltaTable.restore = restore
back(sys.argv[1], of_run(sys.argv[1]))
"""


def of_run(root, run="second-run"):
    return restore.of_run(tables_of(settings_of(root)), DECLARED, run)


def of_table(root, name, to):
    return restore.of_table(tables_of(settings_of(root)), DECLARED, name, lambda _: to)


def back(root, restoration):
    return restore.carry_out(tables_of(settings_of(root)), DECLARED, restoration, "by hand")


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """A root with two landings and a run for each; the second one has rows for the quarantine, merges and replacements."""
    root = tmp_path_factory.mktemp("restore") / "root"
    settings = settings_of(root)
    simulate(settings.landing, root / "truth.json", days=21, orders_per_day=2, seed=1, start=date(2024, 1, 4))
    run_products(settings, TABLES, "first-run")
    simulate(settings.landing, root / "truth2.json", days=20, orders_per_day=3, seed=1, start=date(2024, 2, 1))
    run_products(settings, TABLES, "second-run")
    return root


@pytest.fixture(scope="module")
def expected(ran):
    return content(ran)


@pytest.fixture
def root(ran, tmp_path) -> Path:
    shutil.copytree(ran, tmp_path / "root")
    return tmp_path / "root"


def versions(root):
    return {table.name: table.version() for table in tables_of(settings_of(root)).tables()}


def test_all_that_a_run_wrote_goes_back_and_comes_again(root, expected):
    lakehouse = tables_of(settings_of(root))
    plan = of_run(root)
    names = [step.table.name for step in plan.steps]
    assert {"sales.bronze.invoices", SILVER, f"{SILVER}__quarantine", "sales.gold.daily_revenue"} <= set(names)
    assert names.index("sales.bronze.invoices") < names.index(SILVER) < names.index(f"{SILVER}__quarantine")
    assert "platform.landing.log" not in names
    before = {step.table.name: (step.plan.to, step.table.scan(step.plan.to).collect()) for step in plan.steps}
    back(root, plan)
    for name, (_, rows) in before.items():
        table = lakehouse.table(name)
        assert sorted(table.scan().collect().rows(), key=repr) == sorted(rows.rows(), key=repr), name
    assert lakehouse.table(SILVER).history(1)[0]["info"] == {"run_id": "by hand", "restored_to": str(before[SILVER][0])}
    run_products(settings_of(root), TABLES, "third-run")
    assert_same(content(root), expected, "third run")


def test_tables_that_go_back_with_their_sources_read_only_what_comes_again(root):
    """Their watermarks are where the sources are as they had read them, so rows are counted and no key is computed again."""
    lakehouse = tables_of(settings_of(root))

    def account(run):
        commits = [commit["info"] for commit in lakehouse.table(SILVER).commits()]
        return sum((RowAccount.from_json(info["account"]) for info in commits if info.get("run_id") == run), RowAccount())

    back(root, of_run(root))
    run_products(settings_of(root), TABLES, "third-run")
    assert account("third-run").rows_in is not None
    assert account("third-run") == account("second-run")


def test_one_table_goes_back_and_its_readers_see_it(root, expected):
    table = tables_of(settings_of(root)).table(SILVER)
    plan = of_table(root, SILVER, 1)
    assert "sales.gold.daily_revenue" in plan.readers
    assert [step.table.name for step in plan.steps] == [SILVER, f"{SILVER}__quarantine"]
    back(root, plan)
    assert table.count() == table.count(1)
    run_products(settings_of(root), TABLES, "third-run")
    assert_same(content(root), expected, "third run")


def test_a_table_goes_back_to_its_beginning(root, expected):
    back(root, of_table(root, "sales.bronze.invoices", 0))
    back(root, of_table(root, SILVER, 0))
    assert tables_of(settings_of(root)).table(SILVER).count() == 0
    run_products(settings_of(root), ["sales"], "third-run")
    assert_same(content(root), expected, "third run")


@pytest.mark.parametrize("after", sweeps.of([5], [*range(8)]))
def test_a_restore_that_was_killed_is_finished_by_doing_it_again(root, expected, after):
    dead = subprocess.run([sys.executable, "-c", CHILD, str(root), str(after)], capture_output=True, cwd=Path(__file__).parents[3])
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    plan = of_run(root)
    assert sum(step.plan.done_at is not None for step in plan.steps) >= after
    back(root, plan)
    assert of_run(root).is_done
    stand = versions(root)
    back(root, of_run(root))
    assert versions(root) == stand
    run_products(settings_of(root), TABLES, "third-run")
    assert_same(content(root), expected, "third run")


def test_a_run_that_comes_before_a_killed_restore_is_finished_puts_all_right(root, expected):
    subprocess.run([sys.executable, "-c", CHILD, str(root), "4"], capture_output=True, cwd=Path(__file__).parents[3])
    run_products(settings_of(root), TABLES, "third-run")
    assert_same(content(root), expected, "third run")


def test_maintenance_between_two_runs_and_a_restore_change_nothing(root, expected):
    lakehouse = tables_of(settings_of(root))
    maintained = Maintenance(lakehouse, DECLARED, lambda: None, timedelta(days=7))
    assert maintained.cursors["sales.bronze.invoices"] == lakehouse.table(SILVER).cursor("sales.bronze.invoices")
    back(root, of_run(root))
    later = datetime.now(UTC) + timedelta(days=30)
    for table in lakehouse.tables():
        cursor = Maintenance(lakehouse, DECLARED, lambda: None, timedelta(days=7)).cursors.get(table.name)
        maintenance.maintain(table, maintenance.Keep(cursor, (), timedelta(days=7), later), "maintenance")
    run_products(settings_of(root), TABLES, "third-run")
    assert_same(content(root), expected, "third run")


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("platform.landing.log", "restore their table: sales.bronze"),
        ("revenue_forecast.models.daily_revenue", "lakehouse models rollback revenue_forecast.models.daily_revenue"),
        (f"{SILVER}__quarantine", f"lakehouse restore {SILVER}"),
        ("platform.maintenance.log", "is a log of the platform"),
    ],
)
def test_what_is_not_restored_says_what_to_do_instead(ran, name, instead):
    with pytest.raises(RestoreRefused, match=instead):
        of_table(ran, name, 0)


def test_what_is_not_there_is_refused(ran):
    with pytest.raises(NoSuchTable):
        of_table(ran, "sales.silver.nothing", 0)
    with pytest.raises(NoSuchVersion):
        of_table(ran, SILVER, 99)
    for run in ("nobody-ran", "f"):
        with pytest.raises(RestoreRefused, match="no table has a commit of run"):
            of_run(ran, run)


def test_the_beginning_of_a_run_is_enough(ran):
    assert [step.plan.to for step in of_run(ran, "second-r").steps] == [step.plan.to for step in of_run(ran).steps]
