"""What odd values do to the tables of the shop: a mistyped year, a group that a product leaves, months before days."""

from datetime import date, timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.storage.known_at import as_known
from lakehouse_assets.products.revenue_forecast.forecast import revenue
from lakehouse_assets.products.sales import bronze, silver
from lakehouse_assets_tests.products.sales.test_silver import HEADER, bronze_lines, line
from lakehouse_assets_tests.running import land_text, run_products, tables_of

FEATURES, KEY = revenue.features.name, revenue.series.stored_key
TABLES = ["sales", FEATURES]
CATALOGUE = "stock_code,name,product_group,component,list_price\n85120A,LANTERN,lighting,base,2.55\n85121A,CANDLE,{group},base,1.25\n"


def invoices(last: date) -> str:
    """Two products, sold on each of twenty days and on a last one."""
    days = [date(2025, 1, 1) + timedelta(days=number) for number in range(20)]
    rows = [line(f"{500000 + 2 * n + k}", f"8512{k}A", at=f"{day} 10:00:00") for n, day in enumerate([*days, last]) for k in (0, 1)]
    return "\n".join([HEADER, *rows]) + "\n"


def known(settings) -> pl.DataFrame:
    return as_known(tables_of(settings).table(FEATURES).scan(), KEY).sort(KEY).select("product_group", "day", "net").collect()


def replaced(settings, last: date) -> None:
    """Land the same file with other content and read it in the place of the old one."""
    land_text(settings, "invoices", "a.csv", invoices(last))
    Root(settings).ingestion(bronze.invoices).request_read("a.csv", reread=True, run_id="reread")


def test_a_mistyped_year_is_held_back(settings):
    land_text(settings, "invoices", "a.csv", invoices(date(2095, 1, 1)))
    run_products(settings, TABLES)
    lines = tables_of(settings).table("sales.silver.invoice_lines")
    assert lines.count() == 40
    rejected = tables_of(settings).table("sales.silver.invoice_lines__quarantine").scan().collect()
    assert rejected["_broken"].list.sort().to_list() == [["invoiced_at_not_far_future", "month_not_far_future"]] * 2
    assert known(settings)["day"].max() == date(2025, 1, 20)


def test_a_feature_set_shrinks_again_when_its_source_does(settings):
    """A date that is not beyond the limit, but wrong all the same, leaves nothing behind once its file was fixed."""
    land_text(settings, "invoices", "a.csv", invoices(date(2025, 6, 30)))
    run_products(settings, TABLES)
    assert known(settings)["day"].max() == date(2025, 6, 30)
    replaced(settings, date(2025, 1, 20))
    run_products(settings, TABLES)
    shrunk = known(settings)
    assert shrunk["day"].max() == date(2025, 1, 20)
    assert shrunk.height == 20


def test_rows_of_a_group_that_its_products_left_are_retracted(settings):
    land_text(settings, "invoices", "a.csv", invoices(date(2025, 1, 21)))
    land_text(settings, "products", "products_2025-01-01.csv", CATALOGUE.format(group="candles"))
    run_products(settings, TABLES)
    assert set(known(settings)["product_group"]) == {"candles", "lighting"}
    land_text(settings, "products", "products_2025-02-01.csv", CATALOGUE.format(group="lighting"))
    run_products(settings, TABLES)
    joined = known(settings)
    assert set(joined["product_group"]) == {"lighting"}
    assert joined["net"].to_list() == pytest.approx([2 * 12 * 6.95] * 21)


@pytest.mark.parametrize(("last", "read"), [("3/13/2011 9:15", date(2011, 3, 1)), ("13/3/2011 9:15", date(2011, 1, 3))])
def test_the_rows_of_a_file_say_whether_months_come_first(last, read):
    made = silver.invoice_lines(bronze_lines(line(at="3/1/2011 9:15"), line(at=last))).collect()
    assert made["invoiced_at"].dt.date().to_list() == [read, date(2011, 3, 13)]


def test_a_file_that_does_not_say_it_is_not_read():
    made = silver.invoice_lines(bronze_lines(*(line(at=f"3/{day}/2011 9:15") for day in range(1, 13)))).collect()
    assert made["invoiced_at"].dt.date().to_list() == [None, None, date(2011, 3, 3), *[None] * 9]
    assert made["_hint"].drop_nulls().str.contains("does not say whether the day or the month comes first").all()


def priced(*rows: str) -> str:
    return "\n".join(["stock_code,name,product_group,component,list_price", *rows]) + "\n"


@pytest.mark.parametrize("names", [("products_2024-01-01.csv", "products_2024-01-01_corrected.csv"), ("list_a.csv", "list_b.csv")])
@pytest.mark.parametrize("together", [True, False])
def test_of_two_snapshots_of_one_day_the_later_one_counts(settings, names, together):
    first, second = names
    land_text(settings, "products", first, priced("A,Lamp,Light,base,10.00", "B,Vase,Deco,base,4.00", "C,Bowl,Deco,base,6.00"))
    if not together:
        run_products(settings, ["sales"])
    land_text(settings, "products", second, priced("A,Lamp,Light,base,8.00", "B,Vase,Deco,base,4.00"))
    account = run_products(settings, ["sales"])["sales.silver.products"].account
    products = tables_of(settings).table("sales.silver.products").scan().filter("is_current").sort("stock_code").collect()
    assert products.select("stock_code", "list_price").rows() == [("A", 8.0), ("B", 4.0)]
    assert account.duplicates == 1  # B, which says what was known


def test_a_barcode_that_was_typed_as_a_price_is_held_back(settings):
    land_text(settings, "invoices", "a.csv", invoices(date(2025, 1, 20)))
    land_text(settings, "invoices", "b.csv", "\n".join([HEADER, line("990002", quantity="200", price="5012345678900")]) + "\n")
    run_products(settings, TABLES)
    rejected = tables_of(settings).table("sales.silver.invoice_lines__quarantine").scan().collect()
    assert rejected["_broken"].to_list() == [["possible_amount"]]
    assert known(settings)["day"].max() == date(2025, 1, 20)
