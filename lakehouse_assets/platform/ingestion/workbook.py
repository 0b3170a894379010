"""The first sheet of an XLSX workbook as records of text.

XLSX stores every number as a double, written without a fraction where it has none, and a date or time as such a number with a
format. So a whole number comes as "7", a date as a timestamp ("2009-12-01 00:00:00"), a time of day as one on 1899-12-31, a
formula as its stored result and an error as Excel shows it ("#N/A").
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import fastexcel
import polars as pl

from lakehouse_assets.platform.ingestion.compression import check_workbook
from lakehouse_assets.platform.ingestion.limits import Limits
from lakehouse_assets.platform.ingestion.records import NOTE, Records, check_header, header_names
from lakehouse_assets.platform.ingestion.refused import RefusedFile, not_whole

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


def read_xlsx(path: Path, required: Sequence[Sequence[str]], limits: Limits) -> Records:
    """Reads the first sheet of a workbook; its first row that is not blank is the header, and blank rows are no records.

    Args:
        path: The file.
        required: Header variants, as for `check_header`.
        limits: The limits on what the workbook unpacks to.

    Raises:
        RefusedFile: A file that is no whole workbook or too large, an empty sheet, or a header that does not fit.
    """
    check_workbook(path, limits)
    try:
        cells = _cells(path)
    except fastexcel.FastExcelError as error:
        raise not_whole(path.name, "XLSX workbook", error) from error
    if cells.is_empty():
        raise RefusedFile(f"{path.name}: the first sheet is empty. Land a workbook whose first sheet holds the table.")
    header = header_names(cells.row(0))
    check_header(path.name, header, required)
    frame = cells[1:].filter(pl.any_horizontal(pl.all().is_not_null())).with_columns(pl.lit(None, pl.String).alias(NOTE))
    return Records(header, frame.lazy(), frame.height)


def _cells(path: Path) -> pl.DataFrame:
    """Gives every cell of the first sheet as text, the header row among them.

    fastexcel rounds a number to nine decimals when it makes text of it: where that is not the number any more, the digits come from the
    number. A cell that holds an error it leaves out of the text and lists: its text comes from the list.
    """
    workbook = fastexcel.read_excel(path)
    shown, errors = workbook.load_sheet(0, header_row=None, dtypes="string").to_arrow_with_errors()
    numbers = pl.DataFrame(workbook.load_sheet(0, header_row=None, dtypes="float"))
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
    return pl.DataFrame([text.alias(str(position)) for position, text in enumerate(texts)])


def _error_text(detail: str) -> str:
    kind = re.search(r"Error\((\w+)\)", detail)
    return _ERRORS.get(kind[1], detail) if kind else detail
