"""A declaration that changed under a stored table: no change does nothing in silence, and one command carries out what a run refuses.

A renamed column is such a change: the table and all that read it are computed again, in place, with their versions.
"""

import importlib
import sys
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.settings import SettingError, Settings

SHOP = """
import polars as pl
from lakehouse_assets import Append, ByKey, Contract, Feed, Full, column, conform, feed, number, table, text

orders = feed("shop.bronze.orders", Feed("orders", headers=(("order", "customer", "amount"),)), "Orders.")


class Order(Contract):
    order: str = column(key=True)
    customer: str = column()
    amount: float = column(ge=0)


class Customer(Contract):
    customer: str = column(key=True)
    amount: float = column()


@table("shop.silver.orders", contract=Order, kind=Append(), inputs={"rows": "shop.bronze.orders"})
def clean(rows):
    return conform(rows, order=text("order"), customer=text("customer"), amount=number("amount"))


@table("shop.gold.customers", contract=Customer, kind=ByKey("customer"), inputs={"lines": "shop.silver.orders"})
def customers(lines):
    return lines.group_by("customer").agg(pl.col("amount").sum())


@table("shop.gold.top", contract=Customer, kind=Full(), inputs={"rows": "shop.gold.customers"})
def top(rows):
    return rows
"""


@pytest.fixture
def shop(tmp_path, monkeypatch, originals):
    """A function that opens the lakehouse with the product of a text. Three orders have come and were run, one of them was rejected."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "changing_products").mkdir()
    (tmp_path / "landed").mkdir()

    def opened(source: str, root: Path = tmp_path / "root"):
        (tmp_path / "changing_products" / "shop.py").write_text(source, encoding="utf-8")
        forget_products()
        client = open_lakehouse(settings=Settings.load({"LAKEHOUSE_PRODUCTS": "changing_products", "LAKEHOUSE_ROOT": str(root)}))
        assert not client.context.loaded.broken, client.context.loaded.broken
        return client

    def run_first(root: Path) -> None:
        client = opened(SHOP, root)
        land(client, tmp_path / "landed", "1.csv", "A,Ann,1\nB,Bob,2\nC,Bob,-1\n")
        assert not client.run().failed

    originals.copy("changing shop", run_first, tmp_path / "root")
    return opened


def forget_products() -> None:
    """As in a process that has imported none."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "changing_products"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def land(client, folder, name: str, rows: str) -> None:
    (folder / name).write_text(f"order,customer,amount\n{rows}")
    client.land("orders", [folder / name])


RENAMED = (
    SHOP.replace("    customer: str", "    client: str")
    .replace(", customer=text", ", client=text")
    .replace('ByKey("customer")', 'ByKey("client")')
    .replace('group_by("customer")', 'group_by("client")')
)


def test_a_renamed_column_is_carried_out_by_one_command_and_versions_and_rows_stay(shop, tmp_path):
    client = shop(SHOP)
    before = {name: client.context.root.lakehouse.table(name) for name in ("shop.silver.orders", "shop.gold.customers", "shop.gold.top")}
    ids = {name: table.delta().metadata().id for name, table in before.items()}
    versions = {name: table.version() for name, table in before.items()}

    client = shop(RENAMED)
    assert client.pending().keys() == before.keys()
    [failed] = client.run().failed
    assert failed.name == "shop.silver.orders"
    assert "`lakehouse run 'shop.silver.orders+' --full-refresh`" in failed.error
    done = client.run(["shop.silver.orders+"], full_refresh=True)
    assert not done.failed, done.failed
    assert client.pending() == {}
    for name in before:
        table = client.context.root.lakehouse.table(name)
        assert table.delta().metadata().id == ids[name]
        assert table.version() > versions[name]
        assert "customer" in table.scan(versions[name]).collect().columns
        assert "client" in table.schema()
    land(client, tmp_path / "landed", "2.csv", "D,Ann,5\n")
    assert not client.run().failed
    rows = client.context.root.lakehouse.table("shop.gold.top").scan().select("client", "amount").sort("client").collect()
    assert rows.rows() == [("Ann", 6.0), ("Bob", 2.0)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('inputs={"lines": "shop.silver.orders"}', 'inputs={"lines": "shop.silver.orders"}, partition_by=("customer",)', "partitioned by"),
        ("    amount: float = column()", "    amount: int = column()", "amount is Float64 instead of Int64"),
        (
            "    amount: float = column()",
            "    order: str = column(key=True)\n    amount: float = column()",
            "its key was customer, and now is",
        ),
        ("    amount: float = column()", "    amount: float = column()\n    more: str = column()", "more is new and may not be null"),
        ("    amount: float = column()", "    amount: float = column()\n    more: str = column(nullable=True)", None),
    ],
    ids=["partition column", "narrower type", "key", "column that is not null", "nullable column"],
)
def test_a_change_is_carried_out_or_refused_by_the_next_run_though_nothing_has_landed(shop, tmp_path, old, new, said):
    client = shop(SHOP)
    assert client.pending() == {}
    source = SHOP.replace(old, new)
    assert source != SHOP
    if "key=True" in new:
        source = source.replace('group_by("customer")', 'group_by("customer", "order")')
    if "more" in new:
        source = source.replace(".sum())", ".sum()).with_columns(more=pl.lit('x'))")
    client = shop(source)
    assert "shop.gold.customers" in client.pending()
    outcome = client.run()
    if said is None:
        assert not outcome.failed, outcome.failed
        assert client.context.root.lakehouse.table("shop.gold.customers").schema()["more"] == pl.String
        return
    failed = next(table for table in outcome.failed if table.name == "shop.gold.customers")
    assert said in failed.error
    assert "`lakehouse run shop.gold.customers --full-refresh`" in failed.error


def test_a_changed_function_is_told_until_a_full_refresh_has_computed_its_rows_again(shop, tmp_path):
    client = shop(SHOP.replace('pl.col("amount").sum()', 'pl.col("amount").sum() * 10'))
    assert client.run() is None
    assert client.with_changed_function() == ["shop.gold.customers"]
    [finding] = [one for one in client.doctor() if one["severity"] == "warning"]
    assert finding["what"] == "its function was changed, and rows that it computed before are as they were"
    assert finding["fix"] == "lakehouse run shop.gold.customers --full-refresh"
    assert not client.run(["shop.gold.customers+"], full_refresh=True).failed
    assert client.with_changed_function() == []
    assert client.context.root.lakehouse.table("shop.gold.top").scan().sort("customer").collect()["amount"].to_list() == [10.0, 20.0]


def test_a_change_that_failed_and_was_taken_back_leaves_no_failed_run_behind(shop, tmp_path):
    client = shop(SHOP.replace('pl.col("amount").sum()', 'pl.col("amuont").sum()'))
    assert [table.name for table in client.run(["shop.gold.customers"], full_refresh=True).failed] == ["shop.gold.customers"]
    client = shop(SHOP)
    assert any("the last run failed here" in one["what"] for one in client.doctor())
    again = client.run()
    assert list(again.tables) == ["shop.gold.customers"]
    assert not again.failed
    assert [one for one in client.doctor() if one["severity"] == "error"] == []
    assert client.run() is None


def test_a_product_that_was_broken_and_is_well_again_leaves_no_failed_run_behind(shop, tmp_path):
    client = shop(SHOP)
    file = tmp_path / "changing_products" / "shop.py"
    file.write_text("def f(:\n")
    forget_products()
    assert [table.name for table in open_lakehouse(settings=client.settings).run().failed] == ["shop.broken"]
    client = shop(SHOP)
    assert not client.run().failed
    assert [one for one in client.doctor() if one["severity"] == "error"] == []
    assert client.run() is None


def test_a_full_refresh_that_would_reject_all_rows_stops(shop):
    client = shop(SHOP.replace("amount: float = column(ge=0)", "amount: float = column(ge=100)"))
    (failed,) = client.run(["shop.silver.orders"], full_refresh=True).failed
    assert "all 3 rows would be rejected, most often by amount_ge" in failed.error
    assert client.context.root.lakehouse.table("shop.silver.orders").count() == 2


def test_rows_that_were_there_before_a_rule_are_not_said_to_be_in_quarantine(shop, tmp_path):
    client = shop(SHOP)
    stricter = SHOP.replace("amount: float = column(ge=0)", "amount: float = column(ge=2)\n    note: str = column(nullable=True)")
    client = shop(stricter.replace('amount=number("amount"))', 'amount=number("amount")).with_columns(note=pl.lit(None, pl.String))'))
    (warning,) = [text for text in client.run(["shop.silver.orders"]).warnings if "amount_ge" in text]
    assert "1 row breaks this rule: in the table since before the rule was as it is; a full refresh applies it to them" in warning


def test_a_root_knows_whose_products_it_was_run_with(shop, tmp_path):
    client = shop(SHOP)
    forgotten = open_lakehouse(settings=Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")}))
    with pytest.raises(
        SettingError, match=r"LAKEHOUSE_PRODUCTS is not set, and this root was run with LAKEHOUSE_PRODUCTS=.*changing_products"
    ):
        forgotten.run()
    assert "is not set, and this root was run with" in forgotten.forgotten_products()
    assert client.forgotten_products() == ""
    (lost,) = [one for one in forgotten.doctor() if one["severity"] == "warning" and one["table"] == "shop"]
    assert lost["fix"].startswith("export LAKEHOUSE_PRODUCTS=")
    assert not [table for table in forgotten.context.root.lakehouse.tables() if table.name.startswith("sales.")]
    assert client.run() is None
    place = tmp_path / "root" / "root.json"
    for content in ('{"id": 5, "folder": 7, "products": 3}', "[1,2", "null", '{"id": "x"}'):
        place.write_text(content)
        assert open_lakehouse(settings=client.settings).status()["tables"]
    assert client.run() is None
    assert "changing_products" in place.read_text()


def test_a_removed_product_is_one_warning_with_one_command(shop, tmp_path):
    client = shop("")
    [finding] = [one for one in client.doctor() if one["severity"] == "warning"]
    assert finding["table"] == "shop"
    assert "its 4 tables any more: shop.bronze.orders, shop.gold.customers, shop.gold.top, shop.silver.orders" in finding["what"]
    source, target = finding["fix"].removeprefix("mv ").split()
    importlib.import_module("shutil").move(source, target)
    assert [one for one in client.doctor() if one["severity"] != "note"] == []
