"""What contracts look like in Dagster: checks with their levels, references in the graph, monitors that only warn."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.row_kinds import Append
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.orchestration.assets import build
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column, rule
from lakehouse_assets_tests.running import tables_of

NAME = "shop.silver.sales"
BRONZE = pl.Schema({"id": pl.String(), "product": pl.String(), "amount": pl.Int64(), "sold_at": pl.Datetime("us", "UTC")})


class Sale(Contract, fresh_by="sold_at", fresh_within=timedelta(days=2)):
    """A sale."""

    id: str = column(key=True)
    product: str = column(references="shop.silver.products.code", level="warn")
    amount: int = column(ge=0)
    sold_at: Timestamp
    sane = rule("no sale is above a million", pl.col("amount") < 1_000_000, level="fail")


@table(NAME, contract=Sale, kind=Append(), inputs={"rows": "shop.bronze.sales"})
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return rows


class Product(Contract):
    """A product."""

    code: str = column(key=True)


@table("shop.silver.products", contract=Product, kind=Append(), inputs={"rows": "shop.bronze.products"})
def products(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Products."""
    return rows


EXTERNAL = frozenset({"shop.bronze.sales", "shop.bronze.products"})
ASSET = next(asset for asset in build(Catalog((sales, products), EXTERNAL)) if key_of(NAME) in asset.keys)


@pytest.fixture
def run(settings):
    """Lands rows and runs the table; gives the checks by name."""
    bronze = tables_of(settings).table("shop.bronze.sales")
    bronze.create(BRONZE)

    def run(*rows: tuple[str, str, int, datetime]) -> dict[str, dg.AssetCheckEvaluation]:
        bronze.append(pl.DataFrame(rows, schema=BRONZE, orient="row"))
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize([ASSET], resources=resources(settings), instance=instance, raise_on_error=False)
        return {check.check_name: check for check in result.get_asset_check_evaluations()}

    return run


OLD, NOW = datetime(2024, 1, 1, tzinfo=UTC), datetime.now(UTC)


def test_a_check_says_beforehand_what_becomes_of_rows():
    said = {spec.name: spec.description for spec in ASSET.check_specs}
    assert said["amount_ge"] == "amount >= 0. A row that breaks it goes into quarantine; the rest is written."
    assert said["product_references"].endswith("A row that breaks it is written all the same, and counted.")
    assert said["sane"] == "No sale is above a million. One row that breaks it stops the write; the table stays as it was."
    assert said["key_unique"].startswith("No two rows have the same id.")
    assert "only warns" in said["volume"]
    assert "only warns" in said["freshness"]
    assert [spec.name for spec in ASSET.check_specs if spec.blocking] == ["contract", "row_account"]


def test_a_referenced_table_stands_in_the_graph_and_freshness_in_the_asset():
    assert ASSET.asset_deps[key_of(NAME)] == {key_of("shop.bronze.sales"), key_of("shop.silver.products")}
    assert ASSET.specs_by_key[key_of(NAME)].freshness_policy == dg.FreshnessPolicy.time_window(fail_window=timedelta(days=2))


def test_the_check_of_a_rule_says_what_became_of_the_rows(run):
    checks = run(("1", "p", 5, NOW), ("2", "p", -1, NOW), ("1", "p", 7, NOW))
    assert checks["amount_ge"].description == "1 row breaks this rule: in quarantine."
    assert checks["key_unique"].description == "1 row breaks this rule: in quarantine."
    assert checks["product_references"].description == "not applied: shop.silver.products has no rows yet"
    assert checks["product_references"].passed


def test_a_broken_fail_rule_is_an_error_of_its_own_check_and_nothing_was_written(run, settings):
    checks = run(("1", "p", 5, NOW), ("2", "p", 2_000_000, NOW))
    assert (checks["contract"].passed, checks["sane"].passed) == (False, False)
    assert checks["sane"].severity == dg.AssetCheckSeverity.ERROR
    assert checks["sane"].description == "1 row breaks this rule: nothing of the batch was written."
    assert "2000000" in checks["sane"].metadata["sample"].value
    assert tables_of(settings).table(NAME).count() == 0


def test_a_stale_table_warns_at_every_run_and_stops_nothing(run):
    for rows in ([("1", "p", 5, OLD)], []):
        stale = run(*rows)["freshness"]
        assert not stale.passed
        assert stale.severity == dg.AssetCheckSeverity.WARN
        assert not stale.blocking
    assert run(("2", "p", 5, NOW))["freshness"].passed


def test_a_reference_that_no_row_could_keep_is_refused_when_the_graph_is_built():
    class Wrong(Contract):
        """Wrong."""

        day: date = column(references=f"{NAME}.day")

    wrong = table("shop.silver.wrong", contract=Wrong, kind=Append(), inputs={"rows": "shop.bronze.sales"})(lambda rows: rows)
    with pytest.raises(DeclarationError, match="which that table does not have"):
        Catalog((sales, products, wrong), EXTERNAL)
