"""The two published files of the real shop, from the landing zone to gold: every row is accounted for, and every penny."""

from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text, run_products, tables_of

ROWS, LINES, AMOUNT = 1_067_370, 1_044_847, 18_909_744.12


@pytest.fixture(scope="module")
def landed(real_invoices, tmp_path_factory) -> tuple[Settings, dict]:
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("real") / "root")})
    for path in real_invoices:
        land_text(settings, "invoices", path.name, path.read_bytes())
    return settings, run_products(settings, ["sales"])


def versions(settings: Settings) -> dict[str, int]:
    return {table.name: table.version() for table in tables_of(settings).tables() if table.name != "platform.landing.log"}


def test_the_row_account_explains_every_row(landed):
    settings, done = landed
    account = done["sales.silver.invoice_lines"].account
    assert account.rows_in == ROWS
    assert account.written + account.quarantined == LINES
    assert account.duplicates == ROWS - LINES
    tables = tables_of(settings)
    assert tables.table("sales.bronze.invoices").count() == ROWS
    held = [tables.table(f"sales.silver.invoice_lines{suffix}").count() for suffix in ("", "__quarantine")]
    assert sum(held) == LINES


def test_every_penny_is_in_silver_or_quarantine_and_in_gold(landed):
    tables = tables_of(landed[0])
    amounts = [
        tables.table(f"sales.silver.invoice_lines{suffix}")
        .scan()
        .select((pl.col("quantity") * pl.col("unit_price")).sum())
        .collect()
        .item()
        for suffix in ("", "__quarantine")
    ]
    assert sum(amounts) == pytest.approx(AMOUNT, abs=0.01)
    lines = tables.table("sales.silver.invoice_lines").scan()
    gold = tables.table("sales.gold.daily_revenue").scan()
    assert gold.select(pl.col("net").sum()).collect().item() == pytest.approx(amounts[0], abs=0.01)

    apart = lines.filter(~pl.col("line_type").is_in(["sale", "cancellation", "write-off", "discount"]))
    expected = dict(apart.group_by("line_type").agg(pl.col("amount").sum()).collect().iter_rows())
    by_component = dict(gold.group_by("component").agg(pl.col("net").sum()).collect().iter_rows())
    for component, amount in expected.items():
        assert by_component[component] == pytest.approx(amount, abs=0.01), component
    goods = lines.filter(pl.col("line_type").is_in(["sale", "cancellation", "write-off", "discount"]))
    shared = goods.select(pl.col("amount").sum()).collect().item()
    assert by_component["base"] + by_component["discount"] == pytest.approx(shared, abs=0.01)


def test_revenue_by_month_is_that_of_the_published_description(landed):
    gold = tables_of(landed[0]).table("sales.gold.daily_revenue").scan()
    months = gold.group_by("month").agg(pl.col("net").sum() / 1000).sort("month").collect()["net"].round(0).cast(pl.Int64).to_list()
    year_one = [800, 624, 533, 766, 591, 615, 680, 575, 657, 854, 1045, 1423]
    year_two = [749, 560, 498, 683, 493, 723, 691, 681, 683, 1020, 1071, 1462, 434]
    assert months == pytest.approx([*year_one, *year_two], abs=1)


def test_landing_the_same_files_again_or_under_another_name_changes_no_table(landed, real_invoices: list[Path]):
    settings, _ = landed
    before = versions(settings)
    for path in real_invoices:
        land_text(settings, "invoices", path.name, path.read_bytes())
        land_text(settings, "invoices", f"again_{path.name}", path.read_bytes())
    run_products(settings, ["sales"])
    assert versions(settings) == before


def test_no_real_line_is_without_a_type_and_none_is_lost_to_a_rule(landed):
    tables = tables_of(landed[0])
    kinds = dict(tables.table("sales.silver.invoice_lines").scan().group_by("line_type").len().collect().iter_rows())
    assert kinds["cancellation"] + kinds["sale"] > 0.98 * LINES
    assert set(kinds) == {
        "sale", "cancellation", "write-off", "carriage", "discount", "fee", "adjustment", "sample", "gift voucher", "test", "other",
    }  # fmt: skip
    assert tables.table("sales.silver.invoice_lines__quarantine").count() == 0
