"""The tables against the truth about a simulated shop: what was written, what was wrong with it, what was really earned."""

import json
from datetime import date, timedelta

import polars as pl
import pytest

from lakehouse_assets.settings import Settings
from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets_tests.running import run_products, tables_of

# Forty days after the catalogue of a quarter: what is cancelled was sold with it, and so its group is known.
START, DAYS, ORDERS, SEED = date(2024, 2, 12), 150, 8, 3
# The simulator's kinds by what the business calls them.
KINDS = {
    "sale": ("sale", "free"),
    "cancellation": ("cancellation",),
    "write-off": ("write-off",),
    "carriage": ("carriage",),
    "discount": ("discount",),
    "fee": ("fee",),
    "adjustment": ("adjustment", "found"),
    "sample": ("sample",),
    "gift voucher": ("gift voucher",),
    "test": ("test",),
    "other": ("manual",),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    root = tmp_path_factory.mktemp("shop")
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root / "root")})
    simulate(settings.landing, root / "truth.json", days=DAYS, orders_per_day=ORDERS, seed=SEED, start=START)
    run_products(settings, ["sales"])
    return tables_of(settings), json.loads((root / "truth.json").read_text())


def test_every_row_is_where_it_belongs(shop):
    tables, truth = shop
    invoices = truth["invoices"]
    assert tables.table("sales.bronze.invoices").count() == invoices["rows"]
    assert tables.table("sales.silver.invoice_lines").count() == invoices["lines"]
    rejected = tables.table("sales.silver.invoice_lines__quarantine").scan().collect()
    assert set(rejected["_broken"].explode().unique()) >= {"readable"}
    texts = rejected["_unparsed"].str.json_decode(pl.Struct({"quantity": pl.String, "unit_price": pl.String, "invoiced_at": pl.String}))
    assert rejected.height >= sum(invoices["bad_lines"].values())
    assert texts.struct.unnest().null_count().row(0) != (rejected.height,) * 3


def test_line_types_are_the_truth(shop):
    tables, truth = shop
    found = dict(tables.table("sales.silver.invoice_lines").scan().group_by("line_type").len().collect().iter_rows())
    expected = {name: sum(truth["invoices"]["lines_by_kind"].get(kind, 0) for kind in kinds) for name, kinds in KINDS.items()}
    assert found == {name: count for name, count in expected.items() if count}


def test_revenue_is_the_truth_to_the_penny(shop):
    tables, truth = shop
    gold = tables.table("sales.gold.daily_revenue").scan().collect()
    assert gold["net"].sum() == pytest.approx(truth["invoices"]["amount"] / 100, abs=0.01)
    expected = {
        (group, component): values
        for group, components in truth["invoices"]["revenue_by_group"].items()
        for component, values in components.items()
    }
    goods = gold.filter(pl.col("component").is_in(["base", "add-on"]))
    for (group, component), rows in goods.group_by("product_group", "component"):
        assert rows["gross"].sum() == pytest.approx(expected[group, component]["gross"] / 100, abs=0.01), (group, component)
        assert rows["returned"].sum() == pytest.approx(expected[group, component]["returned"] / 100, abs=0.01), (group, component)


def test_the_register_is_the_truth(shop):
    tables, truth = shop
    history = tables.table("sales.silver.customers").scan().collect()
    assert history["customer_id"].n_unique() == truth["customers"]["customers"]
    assert history.filter("is_current").height == truth["customers"]["remaining"]
    for _, versions in history.sort("sequence").group_by("customer_id", maintain_order=True):
        ends = versions["valid_to"].to_list()
        assert ends[:-1] == versions["valid_from"].to_list()[1:], "intervals follow each other without a gap"
        assert ends[-1] is None


def test_payments_and_chargebacks_are_the_truth(shop):
    tables, truth = shop
    payments = tables.table("sales.silver.payments").scan().collect()
    assert payments.height == truth["payments"]["rows"]
    assert payments["amount"].sum() == pytest.approx(truth["payments"]["amount"] / 100, abs=0.01)
    assert dict(payments.group_by("method").len().iter_rows()) == truth["payments"]["by_method"]
    chargebacks = tables.table("sales.silver.chargebacks").scan().collect()
    by_reason = dict(chargebacks.group_by("reason").len().iter_rows())
    assert by_reason == {reason: count for reason, count in truth["chargebacks"]["by_reason"].items() if count}
    for name in ("payments", "chargebacks"):
        rejected = tables.table(f"sales.silver.{name}__quarantine")
        assert not rejected.exists() or not rejected.count()


def test_each_order_has_one_payment_of_the_sum_of_its_lines(shop):
    tables, _ = shop
    lines = tables.table("sales.silver.invoice_lines").scan().filter(pl.col("invoice").str.contains(r"^\d"))
    bills = lines.group_by("invoice").agg(pl.col("amount").sum(), sold=((pl.col("line_type") == "sale") & (pl.col("quantity") > 0)).any())
    broken = tables.table("sales.silver.invoice_lines__quarantine").scan().select("invoice").collect()
    joined = tables.table("sales.silver.payments").scan().join(bills, on="invoice", how="full", suffix="_of_lines").collect()
    assert joined.filter("sold")["invoice"].null_count() == 0
    paid = joined.filter(pl.col("invoice").is_not_null(), ~pl.col("invoice").is_in(broken["invoice"].to_list()))
    assert (paid["amount"] - paid["amount_of_lines"]).abs().max() < 0.001


def test_a_new_day_is_added_to_what_is_there(shop, tmp_path):
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")})
    half = DAYS // 2
    simulate(settings.landing, tmp_path / "1.json", days=half, orders_per_day=ORDERS, seed=SEED, start=START)
    run_products(settings, ["sales"])
    simulate(settings.landing, tmp_path / "2.json", days=DAYS - half, orders_per_day=ORDERS, seed=SEED, start=START + timedelta(days=half))
    run_products(settings, ["sales"])
    columns = ["day", "product_group", "component"]
    two_steps, one_step = (
        tables.table("sales.gold.daily_revenue").scan().sort(columns).collect() for tables in (tables_of(settings), shop[0])
    )
    assert two_steps.select(columns).equals(one_step.select(columns))
    assert (two_steps["net"] - one_step["net"]).abs().max() < 1e-6
