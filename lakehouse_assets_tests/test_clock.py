"""The clock steps back by a day between two runs: order is that of commits, so nothing is skipped and nothing is done twice."""

import json
import os
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse_assets import products
from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.operations.maintenance import Maintenance
from lakehouse_assets.platform.operations.pending import pending
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.storage import table_cache
from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets_tests.crash_child import TABLES
from lakehouse_assets_tests.running import run_products, tables_of
from lakehouse_assets_tests.test_crash import assert_same, content, settings_of

DAY = timedelta(days=1)
DECLARED = load(products).declarations


def set_forward(root: Path) -> None:
    """What a clock that is a day ahead would have written: times of files, and those that delta-rs puts into commits."""
    for path in root.rglob("*"):
        if path.parent.name == "_delta_log" and path.suffix == ".json":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            for line in lines:
                if "commitInfo" in line:
                    line["commitInfo"]["timestamp"] += DAY // timedelta(milliseconds=1)
            path.write_text("\n".join(json.dumps(line, separators=(",", ":")) for line in lines))
    for path in [root, *root.rglob("*")]:
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + DAY // timedelta(microseconds=1) * 1000))
    table_cache.clear()


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> tuple[Path, Path]:
    """Two landings, each with a run: in one root the clock was a day ahead at the first."""
    folder = tmp_path_factory.mktemp("clock")
    steady, stepped = folder / "steady", folder / "stepped"
    for root in (steady, stepped):
        with pytest.MonkeyPatch.context() as patched:
            if root == stepped:
                patched.setattr(clock, "now", lambda: datetime.now(UTC) + DAY)
            simulate(settings_of(root).landing, root / "truth.json", days=14, orders_per_day=2, seed=1, start=date(2024, 1, 4))
            run_products(settings_of(root), TABLES, "first-run")
        if root == stepped:
            set_forward(root)
        simulate(settings_of(root).landing, root / "truth.json", days=20, orders_per_day=2, seed=1, start=date(2024, 2, 1))
        run_products(settings_of(root), TABLES, "second-run")
    return steady, stepped


def test_the_tables_are_the_same(roots):
    steady, stepped = roots
    assert_same(content(stepped), content(steady), "stepped back")
    assert pending(Root(settings_of(stepped)), [asset for asset in DECLARED if asset.name in TABLES]) == {}
    log = tables_of(settings_of(stepped)).table("platform.landing.log").history()
    assert log[0]["at"] < log[-1]["at"], "the clock did step back"


def test_history_and_moments(roots):
    table = tables_of(settings_of(roots[1])).table("sales.silver.invoice_lines")
    assert [commit["version"] for commit in table.history()] == [*range(table.version(), -1, -1)]
    assert table.version_at(datetime.now(UTC)) == table.version(), "what is there now was there now"


def test_maintenance_deletes_nothing_that_is_needed(roots, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(roots[1], root)
    settings, before = settings_of(root), content(root)
    kept = Maintenance(tables_of(settings), DECLARED, lambda: None, timedelta(days=7))
    assert [done.why_not for done in kept.run("maintenance") if done.why_not] == []
    after = content(root)
    assert_same({name: after[name] for name in before}, before, "maintained")
    run_products(settings, TABLES, "third-run")
    after = content(root)
    assert_same({name: after[name] for name in before}, before, "and run again")


def test_a_person_sees_no_error(roots, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    lakehouse = open_lakehouse(roots[1])
    assert {row["table"] for row in lakehouse.status()["tables"]} >= {"sales.silver.invoice_lines"}
    assert [finding for finding in lakehouse.doctor() if finding["severity"] == "error"] == []
