"""Invented sample files of many shops, machines and registers, as people have them; all small, and always the same."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import xlsxwriter

ROWS = 60
PATIENTS = ("Ann Lee", "Bob O'Neill", "Maria-Jo van Dyk")
_START = datetime(2026, 1, 3, 8, 15, tzinfo=UTC)


def write(folder: Path, name: str, lines: list[list[object]], separator: str = ",", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text("".join(separator.join("" if cell is None else str(cell) for cell in line) + "\n" for line in lines), encoding=encoding)
    return path


def at(row: int, pattern: str) -> str:
    return (_START + timedelta(days=row, minutes=7 * row)).strftime(pattern)


def shop(folder: Path) -> list[Path]:
    """Orders in two files, and their lines: a key of two columns."""
    orders = [
        [f"A-{row:04d}", f"Person {row % 9}", at(row, "%Y-%m-%d %H:%M:%S"), ["DE", "GB", "FR"][row % 3], row * 1.5] for row in range(ROWS)
    ]
    header = ["Order ID", "Customer Name", "Ordered At", "Country", "Net"]
    lines = [[f"A-{row // 3:04d}", row % 3 + 1, f"SKU{row % 7}", row % 4 + 1, 9.95] for row in range(ROWS)]
    return [
        write(folder, "orders_2026-01.csv", [header, *orders[:40]]),
        write(folder, "orders_2026-02.csv", [header, *orders[40:]]),
        write(folder, "order_lines.csv", [["order_id", "line", "sku", "quantity", "price"], *lines]),
    ]


def sensors(folder: Path) -> list[Path]:
    """JSON Lines with a moment and a sensor as the key, and a field that some lines lack."""
    path = folder / "readings.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for row in range(ROWS):
            value = {"sensor": f"s{row % 2}", "measured_at": at(row // 2, "%Y-%m-%dT%H:%M:%SZ"), "temperature": 20 + row / 8}
            file.write(json.dumps(value | ({"note": "calibrated"} if row % 10 == 0 else {})) + "\n")
    return [path]


def library(folder: Path) -> list[Path]:
    """Days with the day first, numbers with zeros in front, a reference, e-mail addresses under another name."""
    loans = [
        [f"{row:05d}", f"97800{row % 5}", f"r{row % 8}@mail.example", at(row, "%d/%m/%Y"), ["North", "South"][row % 2]]
        for row in range(ROWS)
    ]
    books = [[f"97800{row}", f"Book {row}", ["poem", "novel"][row % 2], 100 + row] for row in range(5)]
    return [
        write(folder, "loans.csv", [["Loan", "ISBN", "Reader", "Borrowed", "Branch"], *loans]),
        write(folder, "books.csv", [["ISBN", "Title", "Genre", "Pages"], *books]),
    ]


def hospital(folder: Path) -> list[Path]:
    """A workbook: dates as cells, yes and no, names and birth dates of patients."""
    path = folder / "beds.xlsx"
    with xlsxwriter.Workbook(str(path)) as book:
        sheet, dated = book.add_worksheet(), book.add_format({"num_format": "yyyy-mm-dd"})
        for column, name in enumerate(["Bed No", "Ward", "Patient", "Date of birth", "Admitted", "Isolated", "Nights"]):
            sheet.write(0, column, name)
        for row in range(ROWS):
            bed = [f"B{row:03d}", f"Ward {row % 4}", PATIENTS[row % 3], date(1950 + row, 2, 3), date(2026, 1, 1 + row % 20)]
            for column, value in enumerate([*bed, ["yes", "no"][row % 2], row % 9]):
                is_date = column in {3, 4}
                sheet.write_datetime(row + 1, column, value, dated) if is_date else sheet.write(row + 1, column, value)
    return [path]


def trips(folder: Path) -> list[Path]:
    """Parquet with types."""
    path = folder / "trips.parquet"
    pl.DataFrame(
        {
            "trip_id": range(1, ROWS + 1),
            "day": [date(2026, 1, 1) + timedelta(days=row) for row in range(ROWS)],
            "started": [_START + timedelta(days=row) for row in range(ROWS)],
            "kilometres": [row / 4 for row in range(ROWS)],
            "is_night": [row % 2 == 0 for row in range(ROWS)],
            "line": [f"L{row % 3}" for row in range(ROWS)],
            "driver_phone": [f"+4420794600{row:02d}" for row in range(ROWS)],
        }
    ).write_parquet(path)
    return [path]


def log(folder: Path) -> list[Path]:
    """Rows that nothing tells apart, no dates, missing values in words."""
    lines = [["warn" if row % 4 else "error", ["api", "web"][row // 2 % 2], "N/A" if row % 5 == 0 else row % 3] for row in range(ROWS)]
    return [write(folder, "log.csv", [["level", "service", "retries"], *lines])]


def oddities(folder: Path) -> list[Path]:
    """Names that are keywords, numbers, nothing or differ in case only; quotes and backslashes; a column without a value."""
    header = [
        "order",
        "group",
        "class",
        "2024",
        "Größe (cm)",
        "",
        '"say ""hi"""',
        "date",
        "date!",
        "Empty",
        "str",
        "to_schema",
        "back\\slash",
        "_own",
        "x",
        "X",
    ]
    lines = [
        [row, "a,b"[0] + str(row % 3), "c", row, row, 1, "q", at(row, "%m/%d/%Y"), at(row, "%Y%m%d"), None, "s", "t", "u", 7, 1, 2]
        for row in range(ROWS)
    ]
    return [write(folder, "Select.csv", [header, *lines])]


def wide(folder: Path) -> list[Path]:
    """200 columns."""
    header = ["id", "day", *(f"value {number}" for number in range(198))]
    return [write(folder, "wide.csv", [header, *([f"W{row:02d}", at(row, "%Y-%m-%d"), *range(row, row + 198)] for row in range(ROWS))])]


def accounts(folder: Path) -> list[Path]:
    """Account numbers, card numbers and IP addresses under names that say nothing; dates that decide nothing; some that are mistyped."""
    ibans = ["DE89370400440532013000", "GB82WEST12345698765432", "FR1420041010050500013M02606"]
    cards = ["4111 1111 1111 1111", "5555555555554444", "378282246310005"]
    lines = [
        [f"K{row:03d}", ibans[row % 3], cards[row % 3], f"10.0.{row}.1", f"0{row % 9 + 1}/0{row % 7 + 1}/2026", "soon" if row == 9 else row]
        for row in range(ROWS)
    ]
    return [write(folder, "accounts.csv", [["ref", "a", "b", "c", "opened", "balance"], *lines])]


def german(folder: Path) -> list[Path]:
    """Semicolons, another encoding, days with dots, decimal commas."""
    header = ["Auftrag-Nr", "Straße", "Bestellt am", "Filiale", "Stück", "Betrag"]
    lines = [
        [f"{row:06d}", f"Lindenallee {row}", at(row, "%d.%m.%Y"), ["Köln", "Düren"][row % 2], row % 7, f"1.{row + 100},5"]
        for row in range(ROWS)
    ]
    return [write(folder, "aufträge.csv", [header, *lines], ";", "cp1252")]


ALL = (german, shop, sensors, library, hospital, trips, log, oddities, wide, accounts)
