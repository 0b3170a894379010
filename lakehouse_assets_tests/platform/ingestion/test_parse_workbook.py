"""XLSX: a sheet comes as text, cell by cell, as the workbook holds it."""

from datetime import date, datetime, time

import polars as pl
import pytest
import xlsxwriter

from lakehouse_assets.platform.ingestion.parse import RefusedFile, parse
from lakehouse_assets.platform.ingestion.records import RESCUED, ROW


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.xlsx"


def write(path, rows, first=(0, 0)) -> None:
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd hh:mm"}) as workbook:
        sheet = workbook.add_worksheet()
        for index, row in enumerate(rows):
            sheet.write_row(first[0] + index, first[1], row)


def bronze(path, columns=("a", "b"), required=(("a",),)) -> pl.DataFrame:
    parsed = parse(path, columns=columns, required=required)
    frame = parsed.frame.collect()
    assert parsed.rows == frame.height
    assert frame[ROW].to_list() == list(range(1, frame.height + 1))
    return frame.drop(ROW)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("85123A", "85123A"),
        (" 1.10 ", " 1.10 "),
        (489434, "489434"),
        (7.0, "7"),
        (-0.5, "-0.5"),
        (2.55, "2.55"),
        (1 / 3, "0.3333333333333333"),
        (1e-300, "1e-300"),
        (1e22, "10000000000000000000000"),
        (True, "true"),
        (datetime.fromisoformat("2009-12-01 07:45"), "2009-12-01 07:45:00"),
        (datetime.fromisoformat("2009-12-01 07:45:00.500"), "2009-12-01 07:45:00.500"),
        (date(2009, 12, 1), "2009-12-01 00:00:00"),
        (time(7, 45), "1899-12-31 07:45:00"),
        ("=1/0", "#DIV/0!"),
        ("=NA()", "#N/A"),
        ('="x"&"y"', "xy"),
        (None, None),
    ],
)
def test_cells_as_text(path, value, text):
    results = {"=1/0": "#DIV/0!", "=NA()": "#N/A", '="x"&"y"': "xy"}
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd hh:mm"}) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, ["a", "b"])
        for row in (1, 3):
            sheet.write(row, 1, "x")
            if value in results:
                sheet.write_formula(row, 0, value, value=results[value])
            elif value is not None:
                sheet.write(row, 0, value)
        sheet.write_row(2, 0, ["text between", "x"])
    assert bronze(path)["a"].to_list() == [text, "text between", text]


def test_a_table_is_read_wherever_it_stands(path):
    write(path, [["a", "b"], [1, "x"], [None, None], [2, None]], first=(3, 2))
    assert bronze(path).rows() == [("1", "x", None), ("2", None, None)]


def test_undeclared_and_nameless_columns_are_rescued(path):
    write(path, [["a", "x", None], [1, 2.5, None], [2, None, 3], [4, None, None]])
    assert bronze(path, columns=["a"]).rows() == [("1", '{"_columns":{"x":"2.5"}}'), ("2", '{"_columns":{"_column_3":"3"}}'), ("4", None)]


def test_header_without_rows_gives_no_rows(path):
    write(path, [["a", "b"]])
    assert bronze(path).rows() == []


def test_header_that_does_not_fit_is_refused(path):
    write(path, [["b", "x"], [1, 2]])
    with pytest.raises(RefusedFile, match=r"a\.xlsx, sheet 'Sheet1': the header lacks 'a'; it has 'b', 'x' instead"):
        bronze(path)
    write(path, [["a", "b", "a"], [1, 2, 3]])
    with pytest.raises(RefusedFile, match="'a' more than once"):
        bronze(path)


def test_empty_sheet_is_refused(path):
    write(path, [])
    with pytest.raises(RefusedFile, match=r"a\.xlsx: no cell of its sheets has a value"):
        bronze(path)


def test_truncated_or_other_file_is_refused(path):
    write(path, [["a", "b"], *[[number, "x"] for number in range(1000)]])
    content = path.read_bytes()
    for damaged in (content[:10], content[: len(content) // 2], content[:-1], b"a,b\n1,2\n"):
        path.write_bytes(damaged)
        with pytest.raises(RefusedFile, match=r"a\.xlsx is not a whole XLSX workbook"):
            bronze(path)


def test_damage_in_the_middle_is_refused(path):
    write(path, [["a", "b"], *[[number, f"text {number}"] for number in range(1000)]])
    content = bytearray(path.read_bytes())
    at = content.index(b"xl/worksheets/sheet1.xml") + 500
    content[at : at + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(RefusedFile, match=r"a\.xlsx is not a whole XLSX workbook"):
        bronze(path)


def test_column_of_all_kinds_of_cells_keeps_each(path):
    write(path, [["a"], [1], ["1.10"], [0.1], [datetime.fromisoformat("2009-12-01")], [False], [12345678901234.5]])
    expected = ["1", "1.10", "0.1", "2009-12-01 00:00:00", "false", "12345678901234.5"]
    assert bronze(path)["a"].to_list() == expected
    assert bronze(path)[RESCUED].is_null().all()
