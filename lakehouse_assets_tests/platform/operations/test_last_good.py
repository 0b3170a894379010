"""After a power failure one command and the next run end where a run without it would have: nothing is lost, nothing is there twice."""

import json
import shutil
from datetime import date
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pytest

from lakehouse_assets import products
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.operations.last_good import last_good
from lakehouse_assets.platform.operations.restore import RestoreRefused
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA
from lakehouse_assets.platform.storage import damage, inventory, table_cache
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.crash_child import TABLES
from lakehouse_assets_tests.running import run_products, tables_of
from lakehouse_assets_tests.test_crash import assert_same, content, settings_of

DECLARED = load(products).declarations
SILVER = "sales.silver.invoice_lines"
TABLE_NAMES = (landing.LOG, "sales.bronze.invoices", SILVER, f"{SILVER}__quarantine", "sales.silver.products", "sales.gold.daily_revenue")


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "root"
    settings = settings_of(root)
    for days, orders, start, name in ((21, 2, date(2024, 1, 4), "first-run"), (20, 3, date(2024, 2, 1), "second-run")):
        simulate(settings.landing, root / "truth.json", days=days, orders_per_day=orders, seed=1, start=start)
        run_products(settings, TABLES, name)
    return root


@pytest.fixture(scope="module")
def expected(ran):
    return content(ran)


@pytest.fixture
def root(ran, tmp_path) -> Path:
    return shutil.copytree(ran, tmp_path / "root")


def commit(root: Path, name: str) -> Path:
    table = tables_of(settings_of(root)).table(name)
    return Path(table.uri, "_delta_log", f"{table.version():020d}.json")


def empty_commit(root: Path, name: str) -> None:
    commit(root, name).write_bytes(b"")


def cut_commit(root: Path, name: str) -> None:
    path = commit(root, name)
    path.write_bytes(path.read_bytes()[:-40])


def empty_file(root: Path, name: str) -> None:
    table = tables_of(settings_of(root)).table(name)
    for version in range(table.version(), -1, -1):
        lines = Path(table.uri, "_delta_log", f"{version:020d}.json").read_text().splitlines()
        for added in {unquote(line["add"]["path"]) for line in map(json.loads, lines) if "add" in line} & inventory.files_of(table.delta()):
            Path(table.uri, added).write_bytes(b"")
            return
    pytest.skip(f"{name} has no rows")


def restore(root: Path, name: str | None = None) -> dict[str, int]:
    table_cache.clear()
    lakehouse = tables_of(settings_of(root))
    done = last_good(lakehouse, DECLARED, name).carry_out("by hand")
    assert [table.name for table in lakehouse.tables() if damage.find(table) is not None] == []
    return done


FAULTS = (empty_commit, cut_commit, empty_file)
WHOLE = [(name, fault) for name in TABLE_NAMES for fault in FAULTS]


@pytest.mark.parametrize(("name", "do"), sweeps.of([(name, FAULTS[place % 3]) for place, name in enumerate(TABLE_NAMES)], WHOLE))
def test_one_damaged_table(root, expected, name, do):
    do(root, name)
    assert restore(root, name).keys() >= {name}
    run_products(settings_of(root), TABLES, "third-run")
    assert_same(content(root), expected, f"{do.__name__} of {name}")
    assert last_good(tables_of(settings_of(root)), DECLARED).is_done


def test_the_last_commits_of_all_tables_at_once(root, expected):
    for position, table in enumerate(tables_of(settings_of(root)).tables()):
        (empty_commit, cut_commit)[position % 2](root, table.name)
    restore(root)
    run_products(settings_of(root), TABLES, "third-run")
    assert_same(content(root), expected, "all at once")


def test_killed_between_any_two_steps_it_comes_to_the_same_end(root, expected, monkeypatch):
    for name in TABLE_NAMES[1:4]:
        cut_commit(root, name)
    real, step = damage.set_aside, 0

    def dies(*arguments):
        nonlocal step
        step += 1
        if step % 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(damage, "set_aside", dies)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            restore(root)
    monkeypatch.undo()
    restore(root)
    run_products(settings_of(root), TABLES, "third-run")
    assert_same(content(root), expected, "killed")


def test_a_ledger_loses_the_decision_that_was_not_whole_and_takes_the_next(settings):
    ledger = tables_of(settings).table("revenue_forecast.models.daily_revenue")
    ledger.create(LEDGER_SCHEMA)
    first, second = Cursor("decisions", None, 1), Cursor("decisions", 1, 2)
    for cursor in (first, second):
        ledger.append(pl.DataFrame([{"sequence": cursor.after}], schema=LEDGER_SCHEMA), Commit((cursor,)))
    cut_commit(settings.root, ledger.name)
    assert restore(settings.root) == {ledger.name: 2}
    assert (ledger.count(), ledger.cursor("decisions")) == (1, 1)
    ledger.append(pl.DataFrame([{"sequence": 2}], schema=LEDGER_SCHEMA), Commit((second,)))
    assert ledger.scan().collect()["sequence"].sort().to_list() == [1, 2]


def test_a_whole_table_is_not_touched(root):
    before = tables_of(settings_of(root)).table(SILVER).version()
    with pytest.raises(RestoreRefused, match="is intact"):
        restore(root, SILVER)
    assert restore(root) == {}
    assert tables_of(settings_of(root)).table(SILVER).version() == before
