"""`lakehouse quarantine`: what a person sees of rejected rows, and how they bring them back."""

import json
from contextlib import suppress

import pytest
from click.testing import CliRunner

from lakehouse_assets.cli.main import main
from lakehouse_assets.client.status import status_of_table
from lakehouse_assets.platform.quality.split import MASK
from lakehouse_assets_tests.running import land_text, run_products, tables_of

LINES = "sales.silver.invoice_lines"
INVOICES = """Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country
489434,85048,CANDLE,12,2009-12-01 07:45:00,6.95,13085,United Kingdom
489434,79323P,CHERRY LIGHTS,"1,200",2009-12-01 07:45:00,6.75,13085,United Kingdom
489434,22041,RECORD FRAME,many,2009-12-01 07:45:00,2.1,13085,United Kingdom
"""
CUSTOMER = {"op": "upsert", "sequence": 1, "customer": 13085, "changed_at": "2009-12-01T00:00:00Z", "name": "Ann", "email": "no address"}


@pytest.fixture
def lakehouse(settings, monkeypatch):
    """Calls the command on a root with three invoice lines, two of them rejected, and a customer, also rejected."""
    land_text(settings, "invoices", "first.csv", INVOICES)
    land_text(settings, "customers", "first.jsonl", json.dumps(CUSTOMER | {"country": "UK"}) + "\n")
    run_products(settings, ["sales.bronze.invoices", "sales.bronze.customers", LINES, "sales.silver.customers"])
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(settings.root))

    def call(*words, code=0):
        result = CliRunner().invoke(main, ["quarantine", *words])
        assert result.exit_code == code, result.output
        with suppress(json.JSONDecodeError):
            return json.loads(result.stdout)
        return result.output

    return call


def test_rows_are_shown_with_their_rules_their_file_and_line_and_their_source(lakehouse):
    found = lakehouse("show", LINES, "--json")
    assert (found["table"], found["waiting"], found["released"]) == (LINES, 2, 0)
    assert {rule["rule"]: rule["rows"] for rule in found["rules"]} == {"readable": 2, "amount_not_null": 2}
    first = found["rows"][0]
    assert (first["rules"], first["file"], first["row"]) == (["readable", "amount_not_null"], "first.csv", 2)
    assert first["unparsed"] == {"quantity": "1,200"}
    assert (first["source"]["Quantity"], first["source"]["Description"]) == ("1,200", "CHERRY LIGHTS")
    said = lakehouse("show", LINES)
    for part in ("2 rows are in quarantine", "first.csv, row 2", "quantity could not be parsed from", "1,200", "many", "replay"):
        assert part in said


def test_rows_can_be_few_or_of_one_rule(lakehouse):
    few = lakehouse("show", LINES, "--limit", "1", "--json")
    assert (len(few["rows"]), few["matching"]) == (1, 2)
    for options in ((), ("--rule", "readable")):
        assert "1 of 2; --limit N shows more." in lakehouse("show", LINES, "--limit", "1", *options)
        assert "shows more" not in lakehouse("show", LINES, *options), "these are all"
    assert len(lakehouse("show", "--limit", "5", LINES, "--rule", "readable", "--json")["rows"]) == 2
    assert lakehouse("show", LINES, "--rule", "quantity_ne", "--json")["rows"] == []
    assert "has no rule 'nonsense'. There are: readable," in lakehouse("show", LINES, "--rule", "nonsense", code=1)


def test_personal_data_is_masked_in_the_row_and_in_its_source(lakehouse):
    found = lakehouse("show", "sales.silver.customers", "--json")
    (row,) = found["rows"]
    assert (row["source"]["name"], row["source"]["email"]) == (MASK, MASK)
    assert row["source"]["country"] == "UK"
    text = lakehouse("show", "sales.silver.customers")
    assert "Ann" not in text
    assert "no address" not in text
    notice = next(line for line in text.splitlines() if line.startswith("Personal data is masked ("))
    assert "email" in notice
    assert not any(inner in notice for inner in ("_unparsed", "_rescued", "_released_with", "source")), "these are no columns of anybody"


def test_a_line_that_could_not_be_read_has_a_source_row(lakehouse, settings):
    land_text(settings, "customers", "second.jsonl", f"no object\n{json.dumps(CUSTOMER)}\n")
    run_products(settings, ["sales.bronze.customers", "sales.silver.customers"])
    assert lakehouse("show", "sales.silver.customers", "--json")["rows"][0]["source"]["_rescued"] == MASK
    said = lakehouse("show", "sales.silver.customers")
    assert "_rescued=" in said
    assert "cannot be found" not in said


def test_rows_are_fixed_and_released(lakehouse, settings):
    change = ("--set", "Quantity=replace(Quantity, ',', '')")
    tried = lakehouse("replay", LINES, *change, "--dry-run", "--json")
    assert (tried["selected"], tried["released"], tried["rejected_by"], tried["dry_run"]) == (
        2,
        1,
        {"readable": 1, "amount_not_null": 1},
        True,
    )
    assert tables_of(settings).table(LINES).count() == 1

    said = lakehouse("replay", LINES, *change)
    assert "1 released" in said
    assert "1 written" in said
    assert "1 stays in quarantine, still rejected by: " in said
    assert "readable (1)" in said
    assert tables_of(settings).table(LINES).scan().select("quantity", "amount").sort("quantity").collect().rows()[1] == (1200, 8100.0)

    assert lakehouse("show", LINES, "--json")["waiting"] == 1
    everything = lakehouse("show", LINES, "--all", "--json")
    assert [row.get("released_in") for row in everything["rows"]] == [1, None]

    last = lakehouse("replay", LINES, "--where", "source.\"Quantity\" = 'many'", "--set", '"Quantity"=7', "--json")
    assert (last["released"], last["written"], last["rejected"]) == (1, 1, 0)
    assert "No row in the quarantine" in lakehouse("replay", LINES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "sales.silver.nothing"], "no product declares a table with a contract 'sales.silver.nothing'"),
        (["replay", "sales.gold.daily_revenue"], "`lakehouse run sales.gold.daily_revenue --"),
        (["replay", LINES, "--set", "Quantity"], "write COLUMN=EXPRESSION"),
        (["replay", LINES, "--set", "Quantity=1", "--set", "Quantity=2"], "--set names 'Quantity' twice"),
        (["replay", LINES, "--where", "nothing = 1"], "--where 'nothing = 1' cannot be understood"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_cannot_be_done_is_said_in_a_sentence(lakehouse, words, said):
    assert said in lakehouse(*words, code=1)


def test_the_status_counts_rows_that_wait(lakehouse, settings):
    lakehouse("replay", LINES, "--set", "Quantity=replace(Quantity, ',', '')")
    assert status_of_table(tables_of(settings), LINES)["quarantined"] == 1
