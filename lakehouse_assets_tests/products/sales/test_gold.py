"""Revenue means what the business means, and every penny of it stands in a silver line."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse_assets.platform.quality.contract import schema_of
from lakehouse_assets.products.sales import gold, revenue
from lakehouse_assets.products.sales.contracts import Customer, InvoiceLine, ProductGroup

AT = datetime(2024, 5, 6, 10, tzinfo=UTC)


def silver_lines(*rows: dict) -> pl.LazyFrame:
    filled = [
        {
            "line_id": str(number),
            "month": date(2024, 5, 1),
            "invoice": "500001",
            "stock_code": "22123",
            "description": "X",
            "quantity": 1,
            "unit_price": 10.0,
            "customer_id": "1",
            "country": "France",
            "invoiced_at": AT,
            "line_type": "sale",
        }
        | row
        for number, row in enumerate(rows)
    ]
    return pl.LazyFrame(filled, schema_overrides=schema_of(InvoiceLine)).with_columns(amount=pl.col("quantity") * pl.col("unit_price"))


def groups(*rows: tuple[str, str, str, str]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema=schema_of(ProductGroup), orient="row")


def daily(lines: pl.LazyFrame, *listed: tuple[str, str, str, str]) -> dict[tuple[str, str], dict]:
    rows = gold.daily_revenue(lines, groups(*listed)).collect()
    return {(row["product_group"], row["component"]): row for row in rows.to_dicts()}


def test_a_discount_is_shared_out_over_its_bill_in_proportion():
    lines = silver_lines(
        {"stock_code": "22001", "unit_price": 30.0},
        {"stock_code": "23001", "unit_price": 10.0},
        {"stock_code": "D", "line_type": "discount", "quantity": -1, "unit_price": 4.0},
    )
    found = daily(lines)
    assert found["22", "base"]["discount"] == pytest.approx(3.0)
    assert found["23", "base"]["net"] == pytest.approx(9.0)
    assert set(found) == {("22", "base"), ("23", "base")}


def test_a_discount_on_a_bill_of_its_own_stands_for_itself():
    found = daily(silver_lines({"stock_code": "D", "line_type": "discount", "quantity": -1, "unit_price": 4.0}))
    assert found["discount", "discount"]["net"] == -4.0


def test_cancellations_are_netted_where_they_belong_and_carriage_stands_apart():
    lines = silver_lines(
        {},
        {"invoice": "C500002", "line_type": "cancellation", "quantity": -1},
        {"stock_code": "POST", "line_type": "carriage", "unit_price": 18.0},
    )
    found = daily(lines)
    assert (found["22", "base"]["gross"], found["22", "base"]["returned"], found["22", "base"]["net"]) == (10.0, 10.0, 0.0)
    assert (found["22", "base"]["units"], found["22", "base"]["orders"]) == (0, 1)
    assert found["carriage", "carriage"]["net"] == 18.0


def test_a_product_counts_in_its_group_and_component():
    found = daily(silver_lines({"stock_code": "10001"}), ("10001", "10004", "garden", "add-on"))
    assert set(found) == {("garden", "add-on")}


def test_without_a_catalogue_the_group_is_the_first_two_digits():
    codes = pl.DataFrame({"code": ["22123", "85123A", "DCGS0058", "1234"]}).select(revenue.group_of(pl.col("code")))
    assert codes.to_series().to_list() == ["22", "85", "unlisted", "unlisted"]


kinds = st.sampled_from(revenue.LINE_TYPES)
pence = st.integers(0, 100_000).map(lambda value: value / 100)
some_lines = st.lists(
    st.builds(
        lambda kind, quantity, price, invoice, code: {
            "line_type": kind, "quantity": quantity, "unit_price": price, "invoice": invoice, "stock_code": code,
        },
        kinds, st.integers(-50, 50), pence, st.sampled_from(["500001", "500002", "C500003"]), st.sampled_from(["22001", "23001", "PADS"]),
    ),
    min_size=1,
    max_size=30,
)  # fmt: skip


@settings(deadline=None)
@given(some_lines)
def test_net_revenue_adds_up_to_the_lines_it_came_from(rows):
    lines = silver_lines(*rows)
    found = gold.daily_revenue(lines, groups()).collect()
    assert found["net"].sum() == pytest.approx(lines.collect()["amount"].sum(), abs=1e-6)
    assert (found["gross"] - found["discount"] - found["returned"] - found["net"]).abs().max() < 1e-6


def test_customer_360():
    register = pl.LazyFrame(
        [{"customer_id": "1", "segment": "trade", "country": "Spain", "is_current": True}],
        schema_overrides={"segment": pl.String},
    )
    lines = silver_lines(
        {"unit_price": 30.0},
        {"invoice": "500002", "stock_code": "23001", "invoiced_at": datetime(2024, 5, 9, tzinfo=UTC)},
        {"invoice": "C500003", "line_type": "cancellation", "quantity": -1, "unit_price": 30.0},
        {"customer_id": None},
        {"customer_id": "2", "invoice": "C500004", "line_type": "cancellation", "quantity": -1},
    )
    found = {row["customer_id"]: row for row in gold.customer_360(gold.customer_months(lines), register).collect().to_dicts()}
    assert set(found) == {"1", "2"}
    assert found["1"]["orders"] == 2
    assert (found["1"]["gross"], found["1"]["returned"], found["1"]["net"], found["1"]["average_order"]) == (40.0, 30.0, 10.0, 20.0)
    assert (found["1"]["segment"], found["1"]["country"]) == ("trade", "Spain")
    assert (found["2"]["orders"], found["2"]["average_order"], found["2"]["country"]) == (0, None, "France")


@settings(deadline=None)
@given(some_lines, st.data())
def test_a_customer_is_the_same_whatever_months_the_lines_stand_in(rows, data):
    at = st.sampled_from([datetime(2024, month, 6, 10, tzinfo=UTC) for month in (3, 4, 5)])
    dated = silver_lines(*({**row, "invoiced_at": data.draw(at)} for row in rows))
    apart = dated.with_columns(month=pl.col("invoiced_at").dt.date().dt.month_start())
    register = pl.LazyFrame(schema={"customer_id": pl.String, "segment": pl.String, "country": pl.String, "is_current": pl.Boolean})
    one, three = (gold.customer_360(gold.customer_months(lines), register).collect() for lines in (dated, apart))
    by_month = ["orders", "monthly_products", "average_order"]
    assert_frame_equal(one.drop(by_month), three.drop(by_month), abs_tol=1e-3)
    sold = apart.filter(pl.col("line_type") == "sale").group_by("month").agg(pl.col("invoice", "stock_code").n_unique()).collect()
    assert three["orders"].item() == sold["invoice"].sum()
    assert three["monthly_products"].item() == sold["stock_code"].mean()


def test_the_register_says_who_a_customer_is_but_not_where_to_write():
    personal = {name for name, info in Customer.to_schema().columns.items() if (info.metadata or {}).get("personal")}
    assert personal == {"name", "email"}
    assert not personal & set(gold.customer_360.schema)
