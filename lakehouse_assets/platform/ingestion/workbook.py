"""The sheets of an XLSX workbook as records of text.

XLSX stores every number as a double, written without a fraction where it has none, and a date or time as such a number with a
format. So a whole number comes as "7", a date as a timestamp ("2009-12-01 00:00:00"), a time of day as one on 1899-12-31, a
formula as its stored result and an error as Excel shows it ("#N/A"). Hidden rows and columns are read as others are. What a workbook holds
besides values is found in `sheets`.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import fastexcel
import polars as pl

from lakehouse_assets.platform.ingestion.compression import check_workbook
from lakehouse_assets.platform.ingestion.header import LOOKED_THROUGH, Expected, check_width, header_names, likely_header
from lakehouse_assets.platform.ingestion.limits import Limits
from lakehouse_assets.platform.ingestion.records import NOTE, Records, note
from lakehouse_assets.platform.ingestion.refused import RefusedFile, not_whole
from lakehouse_assets.platform.ingestion.sheets import Sheet, place, read_sheets

_ERRORS = {
    "Div0": "#DIV/0!",
    "GettingData": "#GETTING_DATA",
    "NA": "#N/A",
    "Name": "#NAME?",
    "Null": "#NULL!",
    "Num": "#NUM!",
    "Ref": "#REF!",
    "Value": "#VALUE!",
}


def read_xlsx(path: Path, expected: Expected, limits: Limits, *, sheets: Sequence[str] = (), has_header: bool = True) -> Records:
    """Reads the sheets of a workbook that have the feed's header, one after the other; blank rows are no records.

    The header is the first row that fits, if those above have fewer cells. A row that repeats it has null columns and the note `_line`, and
    a formula whose result is not stored is in the note as `_formula`, by column.

    Args:
        path: The file.
        expected: The declared columns.
        limits: The limits on what the workbook unpacks to and what its cells take.
        sheets: Which to read, by their names, or patterns as `20*`; none: all visible ones, and each that holds something must fit.
        has_header: Whether sheets have a header; without one the columns are those of the first header variant.

    Raises:
        RefusedFile: A file that is no whole workbook or too large, nothing in it, or a header that does not fit.
    """
    check_workbook(path, limits)
    there = read_sheets(path)
    chosen = _chosen(path.name, there, sheets)
    for sheet in chosen:
        _check_extent(path.name, sheet, limits)
    try:
        workbook = fastexcel.read_excel(path)
        tables = [_Table.of(path.name, sheet, _cells(workbook, sheet), expected, has_header=has_header) for sheet in chosen]
    except fastexcel.FastExcelError as error:
        raise not_whole(path.name, "XLSX workbook", error) from error
    _check_headers(path.name, tables, expected, is_chosen=bool(sheets))
    header = list(dict.fromkeys(name for table in tables for name in table.header))
    check_width(path.name, len(header), limits.columns)
    frame = pl.concat([table.rows(header) for table in tables])
    hidden = [sheet.name for sheet in there if sheet.is_hidden and sheet.cells and sheet not in chosen]
    return Records(
        header, frame.lazy(), frame.height, remarks=[*_about_hidden(hidden), *(each for table in tables for each in table.remarks)]
    )


def _about_hidden(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    which = f"hidden sheet {names[0]!r} was" if len(names) == 1 else f"hidden sheets {', '.join(map(repr, names))} were"
    return [f"the {which} not read (declare sheets=… in the feed to read them)"]


def _chosen(file: str, there: Sequence[Sheet], sheets: Sequence[str]) -> list[Sheet]:
    """The sheets to read."""
    if sheets:
        absent = [pattern for pattern in sheets if not any(fnmatchcase(sheet.name, pattern) for sheet in there)]
        if absent:
            raise RefusedFile(
                f"{file} has no sheet {', '.join(map(repr, absent))}; it has {_names(there)}. Correct the name, or sheets=… of the feed."
            )
        chosen = [sheet for sheet in there if any(fnmatchcase(sheet.name, pattern) for pattern in sheets)]
    else:
        chosen = [sheet for sheet in there if not sheet.is_hidden]
    filled = [sheet for sheet in chosen if sheet.cells or sheet.formulas]
    if not filled:
        hidden = [sheet for sheet in there if sheet.cells and sheet not in chosen]
        which = (
            f" Cells with values are on {_names(hidden)}, which no one sees: show them, or declare sheets=… in the feed." if hidden else ""
        )
        raise RefusedFile(f"{file}: no cell of its {'chosen ' if sheets else ''}sheets has a value.{which} Land a workbook with the table.")
    return filled


def _check_extent(file: str, sheet: Sheet, limits: Limits) -> None:
    if sheet.box > limits.cells:
        raise RefusedFile(
            f"{file}: the sheet {sheet.name!r} has {sheet.cells:,} cells with a value, and the last is {sheet.end}, so that "
            f"{sheet.box:,} would be laid out; at most {limits.cells:,} are. Delete the cells far out (Ctrl+End goes there), or land it as "
            "CSV or in smaller files."
        )
    (top, left), (bottom, right) = sheet.first, sheet.last
    outside = [at for at in sheet.formulas if not (top <= at[0] <= bottom and left <= at[1] <= right)]
    if outside:
        raise RefusedFile(
            f"{file}: the sheet {sheet.name!r} has a formula in {place(*outside[0])} whose result is not stored, outside of all values. "
            "Open the file in Excel or LibreOffice, which compute it, and save it again."
        )


def _check_headers(file: str, tables: Sequence["_Table"], expected: Expected, *, is_chosen: bool) -> None:
    """Refuses a workbook in which a sheet that is read does not have the header."""
    if not expected.required:
        return
    others = [table for table in tables if not expected.fits(table.header)]
    if not others:
        return
    if len(others) == len(tables):
        several = f" (values are on {_names([table.sheet for table in tables])})" if len(tables) > 1 else ""
        expected.check(f"{file}, sheet {others[0].sheet.name!r}{several}", others[0].header)
    fitting = [table.sheet.name for table in tables if expected.fits(table.header)]
    named = f"({', '.join(map(repr, fitting))}{',' if len(fitting) == 1 else ''})"
    remedy = "Correct its header" if is_chosen else f"Correct its header, or declare which sheets are read in the feed: sheets={named}"
    raise RefusedFile(
        f"{file}: {_names([table.sheet for table in others])} has cells with values and not the header of the feed, which "
        f"{_names([table.sheet for table in tables if table not in others])} has. {remedy}."
    )


def _names(sheets: Sequence[Sheet]) -> str:
    noun = "the sheet " if len(sheets) == 1 else "the sheets "
    return noun + ", ".join(f"{sheet.name!r}{' (hidden)' if sheet.is_hidden else ''}" for sheet in sheets)


@dataclass(frozen=True)
class _Table:
    """The table of one sheet.

    Attributes:
        header: Its column names.
        cells: Its rows below the header, as text, with `_note`.
        remarks: See `Records.remarks`.
    """

    sheet: Sheet
    header: list[str]
    cells: pl.DataFrame
    remarks: tuple[str, ...]

    @staticmethod
    def of(file: str, sheet: Sheet, cells: pl.DataFrame, expected: Expected, *, has_header: bool) -> "_Table":
        """Finds the header among the first rows, and puts notes to the rows below."""
        at, header = _header(file, sheet, cells, expected, has_header=has_header)
        titles = cells.row(at) if at >= 0 else None
        body = cells[at + 1 :]
        notes = pl.Series(NOTE, [None], pl.String).new_from_index(0, body.height)
        formulas = _formulas(file, sheet, at, header)
        if formulas:
            notes = notes.scatter(list(formulas), [note({"_formula": members}) for members in formulas.values()])
        repeated = _repeated(body, titles)
        if repeated.any():
            line = note({"_line": ",".join(text or "" for text in titles or ())})
            body = body.with_columns(pl.when(~repeated).then(pl.all()))
            notes = notes.zip_with(~repeated, pl.Series([line]))
        rows = body.with_columns(notes).filter(pl.any_horizontal(pl.all().is_not_null()))
        kept = [
            index for index, column in enumerate(body.columns) if not titles or titles[index] is not None or rows[column].count()
        ]  # not what is blank from top to bottom
        above = cells[: max(at, 0)].filter(pl.any_horizontal(pl.all().is_not_null())).height
        said = "1 row above the header was not read" if above == 1 else f"{above} rows above the header were not read"
        remarks = (f"sheet {sheet.name!r}: {said}",) if above else ()
        return _Table(sheet, [header[index] for index in kept], rows.select(pl.nth(*kept), NOTE), remarks)

    def rows(self, header: Sequence[str]) -> pl.DataFrame:
        """The rows as `Records` has them, for a header that has these columns and perhaps others."""
        own = dict(zip(self.header, self.cells.columns, strict=False))
        columns = [
            pl.col(own[name]).alias(f"{index}") if name in own else pl.lit(None, pl.String).alias(f"{index}")
            for index, name in enumerate(header)
        ]
        return self.cells.select(*columns, NOTE)


def _formulas(file: str, sheet: Sheet, at: int, header: Sequence[str]) -> dict[int, dict[str, str]]:
    """The formulas without a stored result below the header, by row and the name of the column."""
    formulas: dict[int, dict[str, str]] = defaultdict(dict)
    for (row, column), text in sheet.formulas.items():
        below = row - sheet.first[0] - at - 1
        if below == -1:
            raise RefusedFile(f"{file}: {place(row, column)}, in the header, is a formula without a stored result. Save the file in Excel.")
        if below >= 0:
            formulas[below][header[column - sheet.first[1]]] = text
    return formulas


def _repeated(body: pl.DataFrame, titles: Sequence[str | None] | None) -> pl.Series:
    """Which rows are the header once more; in a single column, a value may well be the name of the column."""
    if titles is None or sum(title is not None for title in titles) < 2:
        return pl.Series([False]).new_from_index(0, body.height)
    return body.select(
        pl.all_horizontal(pl.nth(index).eq_missing(pl.lit(title, pl.String)) for index, title in enumerate(titles))
    ).to_series()


def _header(file: str, sheet: Sheet, cells: pl.DataFrame, expected: Expected, *, has_header: bool) -> tuple[int, list[str]]:
    """The row of the header, or -1, and the names of the columns."""
    most = 0
    first = None
    for index, row in enumerate(cells.head(LOOKED_THROUGH).iter_rows()):
        filled = sum(text is not None for text in row)
        if not filled:
            continue
        names = expected.recognised(header_names(row))
        if first is None:
            first = index, names
        if expected.fits(names) and filled > most:
            return index, names
        most = max(most, filled)
    if not expected.required and first is not None:
        at = likely_header(cells.iter_rows())
        return at, expected.recognised(header_names(cells.row(at)))
    if first is None:
        raise RefusedFile(f"{file}: the sheet {sheet.name!r} has no header in its first {LOOKED_THROUGH} rows. Land it with one.")
    if has_header:
        return first
    names = list(expected.required[0])
    if cells.width > len(names):
        raise RefusedFile(f"{file}: the sheet {sheet.name!r} has {cells.width} columns, the feed's header has {len(names)}. Correct one.")
    return -1, names[: cells.width]


def _cells(workbook: fastexcel.ExcelReader, sheet: Sheet) -> pl.DataFrame:
    """Gives every cell of a sheet as text, from the first to the last that has a value.

    fastexcel rounds a number to nine decimals when it makes text of it: where that is not the number any more, the digits come from the
    number. A cell that holds an error it leaves out of the text and lists: its text comes from the list.
    """
    shown, errors = workbook.load_sheet(sheet.name, header_row=None, dtypes="string").to_arrow_with_errors()
    numbers = pl.DataFrame(workbook.load_sheet(sheet.name, header_row=None, dtypes="float"))
    texts = []
    for text, number in zip(pl.DataFrame(shown), numbers, strict=True):
        rounded = (text.cast(pl.Float64, strict=False) != number).fill_null(value=False)
        texts.append(number.cast(pl.String).zip_with(rounded, text))
    failed: dict[int, dict[int, str]] = defaultdict(dict)
    for error in errors.errors if errors else ():
        row, column = error.position
        failed[column][row] = _error_text(error.detail)
    for column, cells in failed.items():
        texts[column].scatter(list(cells), list(cells.values()))
    frame = pl.DataFrame([text.alias(str(position)) for position, text in enumerate(texts)])
    height, width = sheet.last[0] - sheet.first[0] + 1, sheet.last[1] - sheet.first[1] + 1
    if sheet.formulas and frame.shape != (height, width):
        raise fastexcel.FastExcelError(f"the sheet {sheet.name!r} is read as {frame.shape}, and written as {(height, width)}")
    return frame


def _error_text(detail: str) -> str:
    kind = re.search(r"Error\((\w+)\)", detail)
    return _ERRORS.get(kind[1], detail) if kind else detail
