"""Single guesses: names, personal data by content, dates, keys, and what is refused and why."""

import json
from itertools import product
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter
from click.testing import CliRunner, Result

from lakehouse_assets.cli.main import main
from lakehouse_assets.scaffold import personal
from lakehouse_assets.scaffold.dates import as_texts, dates_in
from lakehouse_assets.scaffold.names import column_names, feed_name, singular
from lakehouse_assets.scaffold.readings import Values, reading_of
from lakehouse_assets.scaffold.samples import read_samples
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.scaffold.files import write


def reading(*texts: str | None, column: str = "value", hidden: bool = False):
    values = pl.Series(texts, dtype=pl.String)
    return reading_of(Values(column, values, lambda index: f"row {index + 1}", hidden))


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("InvoiceDate", "invoice_date"),
        ("Customer ID", "customer_id"),
        ("HTTPStatus", "http_status"),
        ("Straße & Nr.", "strasse_nr"),
        ("order", "sale_order"),
        ("class", "sale_class"),
        ("2024", "sale_2024"),
        ("date", "sale_date"),
        ("to_schema", "sale_to_schema"),
        ("🙂", "sale_column_1"),
        ("id", "id"),
        ("text", "text"),
    ],
)
def test_a_column_has_a_name_that_python_and_sql_take(column, name):
    assert column_names([column], "sale") == {column: name}


def test_names_stay_apart():
    assert column_names(["a b", "a_b", "A-B"], "sale") == {"a b": "a_b", "a_b": "a_b_2", "A-B": "a_b_3"}


@pytest.mark.parametrize(
    ("file", "feed"),
    [
        ("loans_2024-01.csv", "loans"),
        ("Export Loans (2).CSV.gz", "export_loans"),
        ("2024.csv", "rows_of_library"),
        ("table.csv", "library_table"),
        ("list.parquet", "library_list"),
    ],
)
def test_a_feed_is_called_after_its_files(file, feed):
    assert feed_name(file, "library", []) == feed
    assert feed_name(file, "library", [feed]) not in {feed, ""}


def test_one_of_many():
    assert [singular(name) for name in ("loans", "categories", "boxes", "addresses", "bus", "news", "data")] == [
        *("loan", "category", "box", "address", "bus", "new", "data")
    ]


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ("e-mail", ["ann@example.org", "bob@example.org"]),
        ("IBAN", ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"]),
        ("card number", ["4111 1111 1111 1111", "378282246310005"]),
        ("IP address", ["10.0.0.1", "2001:db8::1"]),
        ("phone", ["+44 20 7946 0018", "0049 30 901820"]),
        ("e-mail address within the text of 1 of 3", ["call back", "write to ann@example.org", "done"]),
    ],
)
def test_personal_data_is_seen_in_its_values(said, values):
    found = personal.by_content(pl.Series(values))
    assert found is not None
    assert said in found
    assert not any(value in found for value in values)


@pytest.mark.parametrize(
    "values",
    [
        ["DE89370400440532013001"],
        ["4111111111111112"],
        ["256.1.1.1"],
        ["20240131", "20240201"],
        ["1.2.3"],
        ["12:30"],
        ["0301234567"],
        ["a@b"],
    ],
)
def test_what_only_looks_like_it_is_not(values):
    assert personal.by_content(pl.Series(values)) is None


@pytest.mark.parametrize(
    "column", ["Email", "e-mail", "Telefonnummer Telefon", "Vorname", "birth_date", "DateOfBirth", "IBAN", "customer_name", "ip"]
)
def test_personal_data_is_seen_in_a_name(column):
    assert personal.by_name(column) == "by its name"


@pytest.mark.parametrize("column", ["product_name", "depot", "shipping", "filename", "description"])
def test_other_names_say_nothing(column):
    assert personal.by_name(column) is None


@pytest.mark.parametrize(
    ("texts", "reader", "formats"),
    [
        (["2024-01-31", "2024-02-01"], "day", ("%Y-%m-%d",)),
        (["31.01.2024", "1.2.2024"], "day", ("%d.%m.%Y",)),
        (["31/01/24", "01/02/24"], "day", ("%d/%m/%y",)),
        (["01/31/2024", "01/02/2024"], "day", ("%m/%d/%Y",)),
        (["3 Jan 2024", "14 Feb 2024"], "day", ("%d %b %Y",)),
        (["2024-01-31T10:00:00Z", "2024-01-31T10:00:00.5Z"], "timestamp", ("%Y-%m-%dT%H:%M:%S%.fZ",)),
        (["2024-01-31T10:00:00+01:00"], "timestamp", ("%Y-%m-%dT%H:%M:%S%.f%:z",)),
        (["31.01.2024 10:00", "01.02.2024 11:30"], "timestamp", ("%d.%m.%Y %H:%M",)),
        (["1/31/2024 3:05 PM"], "timestamp", ("%m/%d/%Y %I:%M %p",)),
        (["2024-01-31"] * 3 + ["31.01.2024"], "day", ("%Y-%m-%d", "%d.%m.%Y")),
    ],
)
def test_dates_are_read_by_their_formats(texts, reader, formats):
    found = dates_in(pl.Series(texts))
    assert found is not None
    assert (found.reader, found.formats, found.read) == (reader, formats, len(texts))
    values = pl.Series("value", texts).to_frame().select(found.conformed().read(pl.col("value"))).to_series()
    again = as_texts(values.drop_nulls().head(1), formats[0])
    assert dates_in(again) is not None, "what the generated test writes is read again"


def test_the_order_of_day_and_month_has_its_evidence():
    decided = dates_in(pl.Series(["01/02/2024", "13/02/2024", "03/04/2024"]))
    assert (decided.order, decided.decided_at, decided.is_doubtful) == ("day first: 2 of 3 values can be read either way", 1, False)
    assert dates_in(pl.Series(["01/02/2024", "03/04/2024"])).is_doubtful
    mixed = dates_in(pl.Series(["13/02/2024", "14/02/2024", "02/15/2024"]))
    assert mixed.formats == ("%d/%m/%Y",)
    assert "1 only fit the other order and are not read" in mixed.order


@pytest.mark.parametrize("texts", [["12", "13"], ["2024", "2025"], ["a", "b"], ["1.5", "2.5"], ["24:00", "11:30"], ["20240131"]])
def test_what_is_no_date(texts):
    assert dates_in(pl.Series(texts)) is None


@pytest.mark.parametrize(
    ("texts", "column", "reader"),
    [
        (["1", "2"], "n", "whole_number"),
        (["1.0", "2"], "n", "whole_number"),
        (["1.5", "2"], "n", "number"),
        (["01", "2"], "n", "code"),
        (["1", "2"], "customer_id", "code"),
        (["1234567890123456789", "1"], "n", "code"),
        (["yes", "no"], "n", "choice"),
        (["TRUE"], "n", "choice"),
        (["T"], "n", "text"),
        (["a", "1"], "n", "text"),
        ([None, None], "n", "text"),
        (["20240131"], "day", "day"),
        (["20240131"], "n", "whole_number"),
        (["-", "3"], "n", "whole_number"),
        (["-", "x"], "n", "text"),
    ],
)
def test_a_reader_is_chosen_by_values_and_name(texts, column, reader):
    assert reading(*texts, column=column).reader == reader


@pytest.mark.parametrize(
    ("texts", "reader", "options"),
    [
        (["12,5", "3,75"], "number", {"decimal": ","}),
        (["1.234,50", "3,75"], "number", {"decimal": ",", "thousands": "."}),
        (["1,234.50", "3.75"], "number", {"thousands": ","}),
        (["£12.50", "£3"], "number", {"currency": "£"}),
        (["12 %", "3.5 %"], "number", {"percent": True}),
        (["1 234", "12"], "whole_number", {"thousands": " "}),
        (["1,234", "5,678"], "whole_number", {"thousands": ","}),
        (["?", "3"], "whole_number", {"nulls": ("?",)}),
    ],
)
def test_a_notation_is_found(texts, reader, options):
    found = reading(*texts)
    assert (found.reader, found.options) == (reader, options)
    assert (found.doubt is not None) == (texts == ["1,234", "5,678"]), "what has two meanings is said"


def test_a_few_values_that_do_not_fit_are_named_or_counted():
    texts = [*map(str, range(19)), "x9"]
    open_, hidden = reading(*texts), reading(*texts, hidden=True)
    assert open_.reader == hidden.reader == "whole_number"
    assert "('x9' in row 20)" in open_.evidence
    assert "(row 20)" in hidden.evidence
    assert open_.doubt == "1 of 20 values is not a whole number and goes to quarantine ('x9' in row 20)"
    assert hidden.doubt == "1 of 20 values is not a whole number and goes to quarantine (row 20)"
    two = reading(*texts, "x9")
    assert two.doubt == "2 of 21 values are not a whole number and go to quarantine ('x9' in row 20)"
    assert reading("1", "2", "x9").reader == "text", "of three values one is no slip"


# --- the command


def package(folder: Path) -> Path:
    """Of this test alone: Python imports one package of a name."""
    return folder / f"guessed_{folder.name}"


def new(folder: Path, *words: str) -> Result:
    environment = {"LAKEHOUSE_ROOT": str(folder / "root"), "LAKEHOUSE_PRODUCTS": str(package(folder))}
    return CliRunner(env=environment).invoke(main, ["new", *words], catch_exceptions=False)


@pytest.fixture
def sales(tmp_path) -> str:
    lines = [[row, row % 5, f"2026-01-{row + 1:02d}", f"2026-02-{row + 1:02d}", row * 2] for row in range(25)]
    return str(write(tmp_path, "sales.csv", [["number", "till", "sold", "booked", "amount"], *lines]))


@pytest.mark.parametrize("name", ["Sales", "my-shop", "2nd", "a__b", "class", "platform", "a.b", "../x", "_x"])
def test_a_name_that_cannot_be_one(tmp_path, sales, name):
    result = new(tmp_path, name, "--from", sales)
    assert result.exit_code == 1
    assert "name" in result.output
    assert not package(tmp_path).exists()


def test_nothing_is_overwritten(tmp_path, sales):
    assert new(tmp_path, "shop", "--from", sales).exit_code == 0
    mine = package(tmp_path) / "shop" / "gold.py"
    mine.write_text("# mine")
    again = new(tmp_path, "shop", "--from", sales)
    assert again.exit_code == 1
    assert "exists, and nothing is written over it" in again.output
    assert mine.read_text() == "# mine"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", "", "empty.csv is empty"),
        ("header.csv", "a,b\n", "there is a header and no row"),
        ("twice.csv", "a,a\n1,2\n", "names 'a' more than once"),
        ("picture.png", "x", "no known format ends in '.png'"),
        ("broken.parquet", "x", "broken.parquet"),
        ("missing.csv", None, "missing.csv"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    result = new(tmp_path, "shop", "--from", str(tmp_path / name))
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output
    assert not package(tmp_path).exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--key", "numbr"), "no file has a column 'numbr'. Did you mean number?"),
        (("--time", "when"), "no file has a column 'when'. There are: number, till"),
        (("--time", "amount"), "--time amount: its values are not read as dates"),
        (("--key", "number,sold,nope"), "no file has a column 'nope'"),
    ],
)
def test_a_declared_column_that_is_not_there(tmp_path, sales, words, said):
    result = new(tmp_path, "shop", "--from", sales, *words)
    assert result.exit_code == 1
    assert said in result.output


def test_declared_columns_count(tmp_path, sales):
    result = new(tmp_path, "shop", "--from", sales, "--key", "till,sold", "--time", "booked")
    assert result.exit_code == 0, result.output
    code = (package(tmp_path) / "shop" / "silver.py").read_text()
    assert 'kind=Upsert(key=("till", "sold"))' in code
    assert "# till, sold: declared; unique in 25 of 25 rows" in code
    assert 'month=pl.col("booked")' in code


def test_a_declared_key_that_repeats_is_said(tmp_path, sales):
    result = new(tmp_path, "shop", "--from", sales, "--key", "till")
    assert "key till: declared; 5 different in 25 rows: of rows with one key the later one counts" in result.output.replace("\n", "")


def test_what_is_printed_can_be_typed(tmp_path, sales):
    output = new(tmp_path, "shop", "--from", sales).output
    assert f"lakehouse land sales {sales}" in output
    assert "lakehouse run group:shop" in output
    assert "lakehouse show shop.gold.daily_sales" in output
    assert "LAKEHOUSE_PRODUCTS" not in output, "the setting names the package already"


def test_a_feed_of_another_product_keeps_its_name(tmp_path, sales):
    assert new(tmp_path, "shop", "--from", sales).exit_code == 0
    result = new(tmp_path, "second", "--from", sales)
    assert result.exit_code == 0, result.output
    assert 'Feed(\n        "second_sales"' in (package(tmp_path) / "second" / "bronze.py").read_text()


def test_a_word_for_a_missing_value_makes_a_column_nullable(tmp_path):
    lines = [[f"K{row}", "N/A" if row == 3 else row, "n/a" if row == 4 else "yes"] for row in range(25)]
    file = write(tmp_path, "stock.csv", [["ref", "units", "note"], *lines])
    assert new(tmp_path, "shop", "--from", str(file)).exit_code == 0
    code = (package(tmp_path) / "shop" / "contracts.py").read_text()
    assert "units: int = column(nullable=True, description=\"TODO describe 'units'.\")" in code
    assert "missing in 1 of 25 rows" in code


def test_a_column_that_is_almost_a_key_is_named(tmp_path):
    lines = [[f"R{3 if row == 9 else row:04d}", f"M{row % 5}", f"2026-01-{row + 1:02d}", row] for row in range(30)]
    said = new(tmp_path, "choir", "--from", str(write(tmp_path, "fees.csv", [["receipt", "member", "paid", "amount"], *lines])))
    assert "receipt is almost a key: 29 different in 30 rows ('R0003' 2 times)." in said.output
    assert "--key receipt" in said.output
    declared = new(tmp_path, "again", "--from", str(tmp_path / "fees.csv"), "--key", "receipt").output
    assert "almost a key" not in declared


def test_what_is_said_of_a_column_and_of_a_missing_key_agrees(tmp_path):
    lines = [[1_000 + 7 * row, f"M{row % 5}", row % 3, row + 0.5] for row in range(30)]
    file = write(tmp_path, "parcels.csv", [["length", "member", "size", "grams"], *lines])
    assert new(tmp_path, "post", "--from", str(file)).exit_code == 0
    contracts, silver = ((package(tmp_path) / "post" / f"{name}.py").read_text() for name in ("contracts", "silver"))
    assert contracts.count("no value twice") == 2
    said = " ".join(silver.replace("#", " ").split())
    assert "length and grams have no value twice, as quantities have by chance: if length is the key, --key length" in said
    assert "no column" not in said


def workbook(folder: Path, sheets: dict[str, list[list[object]]]) -> str:
    path = folder / "members.xlsx"
    with xlsxwriter.Workbook(str(path)) as book:
        for name, lines in sheets.items():
            sheet = book.add_worksheet(name)
            for row, line in enumerate(lines):
                sheet.write_row(row, 0, line)
    return str(path)


_MEMBERS = [["Nr", "Stimme", "Seit"], *([f"M{row:03d}", ["Alt", "Bass"][row % 2], f"2020-01-{row + 1:02d}"] for row in range(25))]


_OTHERS = ([["please call Ann"]], [["Nr", "Betrag"], ["M001", 3]], [["a title"], [], ["x", "y", "z", "u"]])


@pytest.mark.parametrize(
    ("other", "is_first"), sweeps.of([*zip(_OTHERS, (True, False, True), strict=True)], [*product(_OTHERS, (True, False))])
)
def test_a_sheet_without_the_header_is_left_out_and_said(tmp_path, other, is_first):
    sheets = {"Notes (1)": other, "Mitglieder": _MEMBERS} if is_first else {"Mitglieder": _MEMBERS, "Notes (1)": other}
    result = new(tmp_path, "choir", "--from", workbook(tmp_path, sheets))
    assert result.exit_code == 0, result.output
    assert "'Notes (1)' has another header and is not read" in result.output
    bronze = (package(tmp_path) / "choir" / "bronze.py").read_text()
    assert 'headers=(("Nr", "Stimme", "Seit"),)' in bronze
    assert 'sheets=("Mitglieder",)' in bronze
    environment = {"LAKEHOUSE_ROOT": str(tmp_path / "root"), "LAKEHOUSE_PRODUCTS": str(package(tmp_path))}
    planned = CliRunner(env=environment).invoke(main, ["land", "members", str(tmp_path / "members.xlsx"), "--dry-run"])
    assert "1 new; 25 rows for bronze" in planned.output, planned.output


def test_sheets_of_one_header_are_all_read(tmp_path):
    file = workbook(tmp_path, {"2024": _MEMBERS[:14], "2025": [_MEMBERS[0], *_MEMBERS[14:]]})
    assert "25" in new(tmp_path, "choir", "--from", file).output
    assert "sheets=" not in (package(tmp_path) / "choir" / "bronze.py").read_text()


TITLES = {
    "none": [],
    "one cell": [["Prices of 2026"], []],
    "several cells": [["Prices", "as of", "2026-01-31"], [None], ["in euros"]],
    "a separator": [["Prices of 2026"], ["Made by", " Ann"], []],
    "two lines": [["Prices"], [], ["Region", "North"]],
}


@pytest.mark.parametrize("above", TITLES)
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_a_title_above_the_header_is_not_taken_for_it(tmp_path, above, ending):
    rows = [*TITLES[above], ["code", "name", "price", None], *([f"A{number}", "x", number + 0.5, "kg"] for number in range(8))]
    file = tmp_path / f"prices.{ending}"
    if ending == "xlsx":
        workbook(tmp_path, {"first": rows, "second": [*TITLES["one cell"], *rows[len(TITLES[above]) :]]})
        (tmp_path / "members.xlsx").rename(file)
    else:
        file.write_text("".join(";".join("" if cell is None else str(cell) for cell in row) + "\n" for row in rows))
    (sample,) = read_samples([file], "shop", [])
    assert sample.all_columns[:3] == ("code", "name", "price")
    assert sample.total == 8 * (1 + (ending == "xlsx"))
    assert sample.rows["price"].to_list()[:8] == [f"{number + 0.5}" for number in range(8)]


@pytest.mark.parametrize("header", ["2024;2025;2026", "Title\n2024;2025;2026", "a;b;c", "a", "a;b;;d"])
def test_a_header_of_years_or_without_a_name_is_one(tmp_path, header):
    file = tmp_path / "years.csv"
    width = header.count(";") + 1
    file.write_text(header + "\n" + "".join(";".join(["7"] * width) + "\n" for _ in range(5)))
    (sample,) = read_samples([file], "shop", [])
    assert sample.total == 5


# --- rows that do not fit, numbers of rows, declared keys


def code_of(folder: Path, product: str) -> dict[str, str]:
    return {file.stem: file.read_text() for file in (package(folder) / product).glob("*.py")}


def bookings(folder: Path, ending: str, broken: str) -> list[str]:
    """Two files of bookings, of which one has a line that cannot be read."""
    files = []
    for part in range(2):
        rows = [
            {"booking": f"B{20 * part + row:04d}", "made_at": f"2026-0{part + 1}-{row + 1:02d}", "kind": "ab"[row % 2]} for row in range(20)
        ]
        lines = [json.dumps(row) if ending == "jsonl" else ";".join(row.values()) for row in rows]
        lines[3:3] = [broken] * part
        header = [] if ending == "jsonl" else ["booking;made_at;kind"]
        file = folder / f"bookings_{part}.{ending}"
        file.write_text("\n".join([*header, *lines]) + "\n")
        files.append(str(file))
    return files


@pytest.mark.parametrize(
    ("ending", "broken"),
    [("jsonl", "{broken"), ("jsonl", "[1, 2]"), ("csv", 'B9999;"2026-02-03;a'), ("csv", "B9999"), ("csv", "B9;2026-02-03;a;b;c")],
)
def test_a_line_that_does_not_fit_is_left_out_of_all_guesses(tmp_path, ending, broken):
    result = new(tmp_path, "shop", "--from", *bookings(tmp_path, ending, broken))
    assert result.exit_code == 0, result.output
    code = code_of(tmp_path, "shop")
    assert 'kind=Upsert(key=("booking",))' in code["silver"]
    assert "nullable=True" not in code["contracts"]
    assert "is_not_null" not in code["gold"]
    assert f"1 row does not fit the header (row 4 of bookings_1.{ending}): nothing is guessed from it" in result.output


def test_a_file_of_rows_that_all_do_not_fit_is_guessed_from_them(tmp_path):
    file = tmp_path / "bookings.csv"
    file.write_text("a,b,c\n" + "x,1\n" * 5)
    assert new(tmp_path, "shop", "--from", str(file)).exit_code == 0


def numbered(called: str) -> list[list[object]]:
    """Rows of which one number is another in each; it is not the first column, and has gaps unless it is called a counter."""
    gap = 1 if called == "counter" else 7
    return [
        ["bike", called, "opened", "cost"],
        *([f"B{row % 6}", 100 + gap * row, f"2026-01-{row + 1:02d}", 2.5 * (row % 4)] for row in range(25)),
    ]


@pytest.mark.parametrize(("feed", "column"), [("repairs", "repair"), ("bike_repairs", "repair"), ("bike_repairs", "bike_repair")])
def test_a_number_of_rows_is_the_key_and_in_no_sum(tmp_path, feed, column):
    file = write(tmp_path, f"{feed}.csv", numbered(column))
    assert new(tmp_path, "shop", "--from", str(file)).exit_code == 0
    code = code_of(tmp_path, "shop")
    assert f'kind=Upsert(key=("{column}",))' in code["silver"]
    assert new(tmp_path, "other", "--from", str(file), "--key", "bike,opened").exit_code == 0
    assert f"total_{column}" not in code["gold"] + code_of(tmp_path, "other")["gold"]


def test_a_number_that_refers_to_another_table_is_in_no_sum(tmp_path):
    repairs = write(tmp_path, "repairs.csv", numbered("repair"))
    parts = write(
        tmp_path,
        "parts.csv",
        [["repair", "part", "used", "pieces"], *([100 + 7 * (row % 9), "ab"[row % 2], "2026-01-02", 2] for row in range(30))],
    )
    assert new(tmp_path, "shop", "--from", str(repairs), str(parts)).exit_code == 0
    gold = code_of(tmp_path, "shop")["gold"]
    assert "total_pieces" in gold
    assert "total_repair" not in gold


def test_a_number_without_gaps_is_told_as_a_possible_key(tmp_path):
    file = write(tmp_path, "visits.csv", numbered("counter"))
    assert "if it numbers the rows, --key counter" in " ".join(new(tmp_path, "shop", "--from", str(file)).output.split())
    declared = new(tmp_path, "other", "--from", str(file), "--key", "counter").output
    assert "numbers the rows" not in declared
    assert "total_counter" not in code_of(tmp_path, "other")["gold"]


def test_a_unique_quantity_is_no_key(tmp_path):
    file = write(tmp_path, "parcels.csv", numbered("length"))
    assert new(tmp_path, "shop", "--from", str(file)).exit_code == 0
    assert "total_length" in code_of(tmp_path, "shop")["gold"]


# Two feeds with a column `booking`; how often it repeats in the second: never, seldom, mostly.
@pytest.mark.parametrize(("repeats", "taken"), [(0, True), (1, True), (25, False)])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_declared_key_is_taken_or_it_is_said_why_not(tmp_path, repeats, taken, is_first):
    outcomes = write(tmp_path, "outcomes.csv", [["booking", "outcome"], *([f"B{row:03d}", "ab"[row % 2]] for row in range(30))])
    made = [["made", "booking"], *([f"2026-01-{row + 1:02d} 10:00", f"B{max(0, row - repeats):03d}"] for row in range(30))]
    files = [str(outcomes), str(write(tmp_path, "bookings.csv", made))]
    result = new(tmp_path, "shop", "--from", *(reversed(files) if is_first else files), "--key", "booking")
    assert result.exit_code == 0, result.output
    silver, said = code_of(tmp_path, "shop")["silver"], " ".join(result.output.split())
    assert silver.count('kind=Upsert(key=("booking",))') == 1 + taken
    assert ("shop.silver.bookings: --key booking is not taken here: 5 different in 30 rows" in said) == (not taken)
    assert ("shop.silver.bookings: key booking: declared; 29 different in 30 rows" in said) == (repeats == 1)


@pytest.mark.parametrize("keys", [("till,sold", "booked"), ("booked", "till,sold"), ("till", "booked"), ("booked", "till")])
def test_a_second_key_of_one_table_is_said_not_to_be_taken(tmp_path, sales, keys):
    result = new(tmp_path, "shop", "--from", sales, *(word for key in keys for word in ("--key", key)))
    assert result.exit_code == 0, result.output
    taken = next(key for key in keys if key != "till")
    (left,) = set(keys) - {taken}
    assert f"--key {left} is not taken: its key is {taken.replace(',', ', ')}, as declared" in " ".join(result.output.split())


def test_a_declared_key_may_have_another_name_in_each_table(tmp_path):
    kinds = {"sales": "till", "lines": "part"}
    rows = {name: [["order", kind], *([f"{name}{row}", "ab"[row % 2]] for row in range(30))] for name, kind in kinds.items()}
    files = [str(write(tmp_path, f"{name}.csv", lines)) for name, lines in rows.items()]
    assert new(tmp_path, "shop", "--from", *files, "--key", "order").exit_code == 0
    silver = code_of(tmp_path, "shop")["silver"]
    assert 'key=("sale_order",)' in silver
    assert 'key=("line_order",)' in silver


def test_remarks_name_their_files(tmp_path):
    lines = "code;kind;price\n" + "".join(f"A{row};x;{row}\n" for row in range(20))
    for name, above in (("prices_1", "a title\n"), ("prices_2", ""), ("prices_3", "a title\n")):
        (tmp_path / f"{name}.csv").write_text(above + lines)
    output = new(tmp_path, "shop", "--from", *(str(tmp_path / f"prices_{part}.csv") for part in (1, 2, 3))).output
    assert "prices_1.csv, prices_3.csv: 1 line above the header was not read" in " ".join(output.split())


def test_gold_is_not_grouped_by_what_most_rows_lack(tmp_path):
    lines = [[f"2026-01-{row // 5 + 1:02d}", "ios" if row < 3 else "web" if row < 5 else "", "abc"[row % 3], row % 4] for row in range(25)]
    file = write(tmp_path, "visits.csv", [["day", "app", "branch", "pages"], *lines])
    assert new(tmp_path, "shop", "--from", str(file)).exit_code == 0
    assert "# branch: 3 different values" in code_of(tmp_path, "shop")["gold"]
