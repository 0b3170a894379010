"""`lakehouse contracts` as a person uses it, on a product of two tables."""

import json
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
import yaml
from click.testing import CliRunner, Result

from lakehouse_assets.cli.main import main
from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.declarations.row_kinds import Append
from lakehouse_assets.platform.declarations.tables import Dimension, TableDeclaration, table
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, column, rule
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings

BRONZE = pl.Schema({"day": pl.Date(), "id": pl.String(), "amount": pl.Int64()})


class Sale(Contract, fresh_by="day", fresh_within=timedelta(days=2)):
    """A sale."""

    day: date = column(key=True, description="Day of the sale.")
    id: str = column(key=True, personal=True, description="Who bought [in person].")
    amount: int = column(ge=0, description="Pounds.")
    small = rule("a sale is small", pl.col("amount") < 100, level="warn")


class StrictSale(Sale):
    """A sale, checked more strictly."""

    amount: int = column(ge=10, description="Pounds.")


class Renamed(Contract):
    """A sale under other names."""

    day: date = column(key=True)
    id: str = column(key=True)
    pounds: int


class Total(Contract):
    """What was sold on a day."""

    day: date = column(key=True)
    amount: int


def sales(contract: type[Contract]) -> TableDeclaration:
    return table("shop.silver.sales", contract=contract, kind=Append(), inputs={"rows": "shop.bronze.sales"})(_sold)


def _sold(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Every sale."""
    return rows


@table("shop.gold.totals", contract=Total, kind=Full(), inputs={"rows": "shop.silver.sales"}, owner="team:finance")
def totals(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales by day."""
    return rows.group_by("day").agg(pl.col("amount").sum())


def of_days(rows: pl.LazyFrame, sold: pl.LazyFrame) -> pl.LazyFrame:
    """Sales of days."""
    return rows


DAYS = {"sold": Dimension("shop.silver.sales", key="dya")}


class Shop:
    """The command on a root where the product has run once, under a contract that can be exchanged."""

    def __init__(self, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings.load({"LAKEHOUSE_ROOT": root})
        self.root, self.monkeypatch = root, monkeypatch
        self.declare(Sale)
        lakehouse = Lakehouse(str(self.settings.tables))
        lakehouse.table("shop.bronze.sales").create(BRONZE)
        rows = [(date(2024, 1, 1), "a", 5), (date(2024, 1, 1), "b", 50)]
        lakehouse.table("shop.bronze.sales").append(pl.DataFrame(rows, schema=BRONZE, orient="row"))
        for declaration in (sales(Sale), totals):
            Refresh(declaration, lakehouse, "run").run()

    def declare(self, contract: type[Contract]) -> None:
        opened = open_lakehouse(settings=self.settings, declarations=(sales(contract), totals))
        self.monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda: opened)

    def __call__(self, *words: str) -> Result:
        result = CliRunner(env={"LAKEHOUSE_ROOT": self.root}).invoke(main, ["contracts", *words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json").stdout)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    return Shop(str(tmp_path / "root"), monkeypatch)


def test_show_says_all_that_a_contract_does(shop):
    text = shop("show", "shop.silver.sales").stdout
    for part in (
        "Who bought [in person].",
        "personal",
        "amount_ge",
        "a sale is small",
        "kept unique by rule key_unique",
        "freshness",
        "50.0%",
    ):
        assert part in text
    found = shop.json("show", "shop.silver.sales")
    assert (found["contract"], found["key"], found["fresh"]["by"]) == ("Sale", ["day", "id"], "day")


def test_a_table_that_nobody_declares_is_answered_with_those_that_are(shop):
    result = shop("show", "shop.silver.sale")
    assert result.exit_code == 1
    assert result.stderr.endswith("'shop.silver.sale': did you mean shop.silver.sales?\n")


def test_contracts_of_declarations_that_do_not_fit_together_are_refused(shop):
    lacking = table("shop.gold.days", contract=Total, kind=Full(), inputs={"rows": "shop.gold.totals"}, dimensions=DAYS)(of_days)
    opened = open_lakehouse(settings=shop.settings, declarations=(sales(Sale), totals, lacking))
    shop.monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda: opened)
    for words in (("show", "shop.silver.sales"), ("diff",), ("export", "shop.silver.sales")):
        result = shop(*words)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ")
    assert "shop.gold.days: dimension sold (shop.silver.sales) has no column 'dya'" in result.stderr


def test_diff_of_unchanged_contracts_ends_well(shop):
    result = shop("diff")
    assert (result.exit_code, result.stdout) == (0, "2 contracts have not changed since the tables were last written.\n")


def test_diff_names_changes_and_the_stored_rows_that_break_them(shop):
    shop.declare(StrictSale)
    result = shop("diff", "shop.silver.sales")
    assert result.exit_code == 1
    assert "rule tightened: amount_ge: from 'amount >= 0' to 'amount >= 10'" in result.stdout
    assert "breaks stored rows (team:shop): 1 stored rows break amount_ge (amount >= 10)" in result.stdout


def test_diff_names_who_reads_a_column_that_goes(shop):
    shop.declare(Renamed)
    (found,) = shop.json("diff", "shop.silver.sales")
    assert {broken["whom"]: broken["owner"] for broken in found["breaks"]} == {
        "stored table": "team:shop",
        "shop.gold.totals": "team:finance",
    }
    assert ("column removed", "amount") in [(change["kind"], change["subject"]) for change in found["changes"]]


def test_a_change_that_breaks_nothing_ends_well(shop):
    shop.declare(type("Sale", (Sale,), {"__module__": __name__}, max_bad_rows=5))
    result = shop("diff")
    assert result.exit_code == 0
    assert "threshold changed: max_bad_rows: from None to 5" in result.stdout


def test_what_was_exported_is_kept(shop, tmp_path):
    written = shop("export", "--all", str(tmp_path / "contracts")).stdout.split()
    assert [path.rpartition("/")[2] for path in written] == ["shop.silver.sales.odcs.yaml", "shop.gold.totals.odcs.yaml"]
    for path in written:
        result = shop("check", path)
        assert result.exit_code == 0
        assert "keeps what is promised" in result.stdout


def test_export_prints_yaml_and_nothing_else(shop):
    document = yaml.safe_load(shop("export", "shop.silver.sales").stdout)
    assert document["schema"][0]["name"] == "shop.silver.sales"
    assert document["team"] == {"name": "shop"}
    assert shop("export").exit_code == 2


def test_check_says_what_a_table_does_not_keep(shop, tmp_path):
    path = tmp_path / "sales.yaml"
    path.write_text(shop("export", "shop.silver.sales").stdout)
    shop.declare(Renamed)
    result = shop("check", str(path))
    assert result.exit_code == 1
    assert "shop.silver.sales does not keep what is promised" in result.stdout
    assert "broken amount is promised and the table does not have it" in result.stdout
    (found,) = shop.json("check", str(path))
    assert not found["kept"]


def test_a_document_by_another_author_finds_its_table_by_its_last_word(shop, tmp_path):
    path = tmp_path / "theirs.yaml"
    columns = [{"name": "id", "logicalType": "string", "required": True}, {"name": "amount", "logicalType": "number"}]
    document = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "x", "schema": [{"name": "sales", "properties": columns}]}
    path.write_text(yaml.safe_dump(document))
    (found,) = shop.json("check", str(path))
    assert (found["table"], found["kept"]) == ("shop.silver.sales", True)
    path.write_text(yaml.safe_dump(document | {"schema": [{"name": "orders", "properties": columns}]}))
    result = shop("check", str(path))
    assert result.exit_code == 1
    assert "which is no declared table" in result.stderr


def test_a_file_that_is_no_contract_is_answered_with_a_sentence(shop, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: [")
    result = shop("check", str(path))
    assert result.exit_code == 1
    assert "is no YAML" in result.stderr
