"""A computed table whose function returns a key twice is not written: which of the rows is right cannot be known."""

import json
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.platform.declarations.computed_kinds import ByKey, ByPartition, Full, Trailing
from lakehouse_assets.platform.declarations.features import feature_set
from lakehouse_assets.platform.declarations.feeds import feed
from lakehouse_assets.platform.declarations.row_kinds import Append
from lakehouse_assets.platform.declarations.tables import TableDeclaration, table
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.conform import conform, text, whole_number
from lakehouse_assets.platform.quality.contract import Contract, ContractBroken, Timestamp, column
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings

SOURCE = "shop.silver.sales"
SCHEMA = pl.Schema({"month": pl.Int64(), "code": pl.String(), "buyer": pl.String(), "amount": pl.Int64()})


class Sum(Contract, max_bad_share=1.0):
    """What was sold of a product in a month."""

    month: int = column(key=True)
    code: str = column(key=True)
    amount: int = column(ge=0)


class Known(Sum):
    """The same, as it was known."""

    known_at: Timestamp


def sums(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Grouped by one column too many: two buyers of one product in one month are two rows with one key."""
    return rows.group_by("month", "code", "buyer").agg(pl.col("amount").sum()).drop("buyer")


def known(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The same, known when the month ended."""
    return sums(rows).with_columns(known_at=pl.datetime(2024, pl.col("month"), 1, time_unit="us", time_zone="UTC"))


def declared(kind: Any) -> TableDeclaration:
    return table("shop.gold.sums", contract=Sum, kind=kind, inputs={"rows": SOURCE})(sums)


def features(kind: Any) -> TableDeclaration:
    how = {"contract": Known, "entity": ("code",), "event_time": "month"}
    return feature_set("shop.features.sums", **how, kind=kind, inputs={"rows": SOURCE})(known)


KINDS = (Full(), ByKey("month"), ByKey("month", "code"), ByPartition("month"), Trailing("month", 1))
DECLARED = [*map(declared, KINDS), *map(features, KINDS)]
IDS = [f"{one.name} {kind}" for one, kind in zip(DECLARED, KINDS * 2, strict=True)]


@pytest.fixture
def shop(tmp_path):
    lakehouse = Lakehouse(str(tmp_path))
    lakehouse.table(SOURCE).create(SCHEMA)
    land(lakehouse, (1, "tea", "ann", 1), (1, "jam", "ann", -1), (2, "tea", "bob", 2))
    return lakehouse


def land(shop: Lakehouse, *rows: tuple[int, str, str, int]) -> None:
    shop.table(SOURCE).append(pl.DataFrame(rows, schema=SCHEMA, orient="row"))


def state(shop: Lakehouse, declaration: TableDeclaration) -> list[tuple[int, list[tuple]]]:
    tables = [shop.table(name) for name in declaration.outputs()]
    return [(one.version(), sorted(one.scan().collect().rows(), key=repr)) for one in tables]


@pytest.mark.parametrize("declaration", DECLARED, ids=IDS)
@pytest.mark.parametrize("amount", [5, -5], ids=["both rows pass", "one breaks a rule"])
def test_nothing_is_written_when_a_key_comes_twice(shop, declaration, amount):
    Refresh(declaration, shop, "run").run()
    before = state(shop, declaration)
    assert [len(rows) for _, rows in before] == [2, 1]
    land(shop, (2, "tea", "ann", amount))
    for attempt in (Refresh(declaration, shop, "run").run, lambda: full_refresh(Refresh(declaration, shop, "run"))):
        with pytest.raises(ContractBroken) as error:
            attempt()
        assert f"{declaration.name}: its function returned 1 keys more than once" in str(error.value)
        assert "month = 2" in str(error.value)
        assert "group by exactly these columns, or add one to the key" in str(error.value)
        assert state(shop, declaration) == before
    assert Refresh(declaration, shop, "run").pending() == [SOURCE]


def test_rows_without_a_key_are_quarantined_and_do_not_repeat_one(shop):
    class Nullable(Sum):
        """A sum whose product may be unknown to the function."""

    declaration = table("shop.gold.sums", contract=Nullable, kind=Full(), inputs={"rows": SOURCE})(sums)
    land(shop, (3, None, "ann", 1), (3, None, "bob", 1))
    Refresh(declaration, shop, "run").run()
    assert [len(rows) for _, rows in state(shop, declaration)] == [2, 3]


# --- as a person meets it

RAW = feed("shop.bronze.sales", Feed("sales", headers=(("month", "code", "buyer", "amount"),)), "Sales.")


class Sale(Contract):
    """A sale."""

    month: int = column()
    code: str = column()
    buyer: str = column()
    amount: int = column(ge=0)


@table(SOURCE, contract=Sale, kind=Append(), inputs={"rows": RAW.name})
def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return conform(rows, month=whole_number("month"), code=text("code"), buyer=text("buyer"), amount=whole_number("amount"))


def test_the_command_says_what_is_wrong_and_its_exit_code_is_one(tmp_path, monkeypatch):
    gold = declared(ByPartition("month"))
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root")})
    monkeypatch.setenv("DAGSTER_HOME", "")
    opened = open_lakehouse(settings=settings, declarations=(RAW, sales, gold), notice=lambda _: None)
    monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda: opened)

    def run(name: str, *rows: str):
        file = tmp_path / name
        file.write_text("\n".join(["month,code,buyer,amount", *rows]) + "\n")
        opened.land("sales", [file])
        return CliRunner().invoke(main, ["run", "--json"])

    first = run("first.csv", "1,tea,ann,1", "2,tea,bob,2")
    assert first.exit_code == 0, first.output
    shop = Lakehouse(str(settings.tables))
    before = state(shop, gold)

    second = run("second.csv", "2,tea,ann,5")
    assert second.exit_code == 1, second.output
    values = json.loads(second.stdout)
    assert values["failed"] == [gold.name]
    (failed,) = [one for one in values["tables"] if one["table"] == gold.name]
    assert "its function returned 1 keys more than once (2 of 2 rows), the first: month = 2, code = tea" in failed["error"]
    assert state(shop, gold) == before
    assert shop.table(SOURCE).count() == 3
