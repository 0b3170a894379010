"""Alerts about what exists no more are over where that is certain, and stay open elsewhere."""

import importlib
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from lakehouse_assets import open_lakehouse
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.orchestration.existing import Existing
from lakehouse_assets.settings import Settings

LOADED = datetime(2026, 3, 1, tzinfo=UTC)
BEFORE = LOADED - timedelta(hours=1)
EXISTING = Existing(
    LOADED,
    assets=frozenset({"shop.silver.lines", "shop.gold.days"}),
    refreshed=frozenset({"shop.gold.days"}),
    checks=frozenset({"shop.silver.lines:contract"}),
    steps=frozenset({"shop.silver.lines", "shop.gold.days", "shop.of_several"}),
    monitors=frozenset({"shop.monitors.lines"}),
)
THERE = (
    "step:shop.silver.lines",
    "step:shop.of_several.one",
    "step:shop.of_several[3]",
    "check:shop.silver.lines:contract",
    "freshness:shop.gold.days",
    "quarantine:shop.silver.lines",
    "monitor:shop.monitors.lines:amount:country=GB",
    "evaluation:shop.monitors.lines",
)
GONE = (
    "step:shop.silver.old",
    "step:shop.silver.lines_too",
    "check:shop.silver.lines:old",
    "check:shop.silver.old:contract",
    "freshness:shop.silver.lines",
    "quarantine:shop.silver.old",
    "monitor:shop.monitors.old:amount",
    "evaluation:shop.monitors.old",
)
OF_OTHERS = ("step:bakery.silver.lines", "step:bakery.broken", "run:refresh", "files:lines", "step:load", "test:lakehouse")


@pytest.mark.parametrize("key", [*THERE, *OF_OTHERS])
def test_what_exists_and_what_nobody_knows_of_stays(key):
    assert EXISTING.why_gone(key, BEFORE) == ""


@pytest.mark.parametrize("key", [*GONE, "step:shop.broken"])
def test_what_a_product_that_loads_has_no_more_is_over(key):
    assert "shop" in EXISTING.why_gone(key, BEFORE)
    assert EXISTING.why_gone(key, LOADED) == "", "newer code may have it"


@pytest.mark.parametrize("key", [*THERE, *GONE, *OF_OTHERS])
@pytest.mark.parametrize("product", ["shop", "bakery"])
def test_while_a_product_is_broken_nothing_else_is_over(product, key):
    broken = replace(EXISTING, assets=EXISTING.assets | {f"{product}.broken"}, steps=EXISTING.steps | {f"{product}.broken"})
    assert broken.why_gone(key, BEFORE) == ""
    assert broken.why_gone(f"step:{product}.broken", BEFORE) == ""
    assert bool(broken.why_gone("step:shop.broken", BEFORE)) is (product != "shop")


WHOLE = replace(
    EXISTING, feeds=frozenset({"lines", "shop"}), jobs=frozenset({"refresh"}), gates=frozenset({"shop.models.fraud:gate"}), is_whole=True
)


@pytest.mark.parametrize("key", [*THERE, "files:lines", "files:shop", "run:refresh", "run:a selection", "step:load", "test:lakehouse"])
def test_where_all_packages_are_loaded_what_there_is_stays(key):
    assert WHOLE.why_gone(key, BEFORE) == ""


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("files:payments", "Feed payments is not declared any more."),
        ("run:shop", "There is no job shop any more."),
        ("step:bakery.silver.lines", "It is over, as there is no product bakery any more."),
        ("step:bakery.broken", "It is over, as there is no product bakery any more."),
        ("monitor:bakery.monitors.lines:amount", "It is over, as there is no product bakery any more."),
    ],
)
def test_feeds_jobs_and_products_are_gone_only_where_all_packages_are_loaded(key, why):
    assert WHOLE.why_gone(key, BEFORE) == why
    assert WHOLE.why_gone(key, LOADED) == "", "newer code may have it"
    assert replace(WHOLE, is_whole=False).why_gone(key, BEFORE) == ""
    broken = replace(WHOLE, assets=WHOLE.assets | {"cafe.broken"}, steps=WHOLE.steps | {"cafe.broken"})
    assert broken.why_gone(key, BEFORE) == "", "it may be the broken product's"


def test_that_a_gate_refuses_is_no_alert_any_more():
    assert "a normal answer" in WHOLE.why_gone("check:shop.models.fraud:gate", BEFORE)
    assert WHOLE.why_gone("check:shop.silver.lines:contract", BEFORE) == ""


PRODUCT = '"""A depot."""\n\nfrom lakehouse_assets import Feed, feed\n\n'
PRODUCT += (
    'parcels = feed("depot.bronze.parcels", Feed("parcels", headers=(("parcel", "town"),)), "Parcels as the warehouse wrote them.")\n'
)


class Depot:
    """A product of its own on a root, and commands, each of which imports the product again, as one from cron does."""

    def __init__(self, folder: Path) -> None:
        self.package = f"{folder.name}_depots"  # a name of its own: this process knows the packages of all tests
        self.file = folder / self.package / "depot" / "bronze.py"
        self.file.parent.mkdir(parents=True)
        self.root = folder / "root"
        self.environment = {"LAKEHOUSE_ROOT": str(self.root), "LAKEHOUSE_PRODUCTS": str(folder / self.package), "DAGSTER_HOME": ""}

    def call(self, *words: str) -> str:
        for name in [name for name in sys.modules if name.partition(".")[0] == self.package]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return CliRunner(env=self.environment).invoke(main, list(words)).output

    def write(self, *, broken: bool) -> None:
        self.file.write_text(PRODUCT + ("1 / 0\n" if broken else ""))

    def events(self) -> list[tuple[str, str]]:
        alerts = open_lakehouse(settings=Settings.load({"LAKEHOUSE_ROOT": str(self.root)}), declarations=()).alerts
        return [(alert["key"], alert["event"]) for alert in alerts.list()]


def test_a_product_that_was_broken_and_is_repaired_leaves_no_alert_open(tmp_path):
    depot = Depot(tmp_path)
    depot.write(broken=True)
    depot.call("run")
    assert "1 event" in depot.call("alerts", "send")
    assert depot.events() == [("step:depot.broken", "opened")]
    assert "0 events" in depot.call("alerts", "send"), "it is still broken"
    depot.write(broken=False)
    assert "1 event" in depot.call("alerts", "send")
    assert depot.events() == [("step:depot.broken", "resolved")]


def test_a_product_that_was_repaired_before_anybody_listened_is_not_told(tmp_path):
    depot = Depot(tmp_path)
    depot.write(broken=True)
    depot.call("run")
    depot.write(broken=False)
    assert "0 events, 0 deliveries." in depot.call("alerts", "send")
    assert depot.events() == []


def test_a_feed_that_is_not_declared_any_more_leaves_no_alert_open(tmp_path):
    depot = Depot(tmp_path)
    depot.write(broken=False)
    file = depot.root / "landing" / "parcels" / "a.csv"
    file.parent.mkdir(parents=True)
    file.write_text("no,such,header\n1,2,3\n")
    depot.call("run")
    depot.call("alerts", "send")
    assert depot.events() == [("files:parcels", "opened")]
    depot.file.write_text(PRODUCT.replace("parcels", "letters").replace("1 / 0", ""))
    depot.call("alerts", "send")
    assert depot.events() == [("files:parcels", "resolved")]
