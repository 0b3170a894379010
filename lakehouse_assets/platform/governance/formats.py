"""Rows as files for other programs: CSV, parquet, Excel. Which rows a person may have is decided in `reader`.

CSV and parquet stream, so that a table may be larger than memory. Excel holds a million rows and has types of its own, so what it lacks is
written as text. A file appears whole under its name, or not at all.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

import polars as pl

from lakehouse_assets.platform.far_times import as_python_holds
from lakehouse_assets.platform.wording import counted

_MOST_EXCEL_ROWS = 1_048_575
_LONGEST_EXCEL_TEXT = 32_767
_LARGEST_EXCEL_INTEGER = 10**15


class ExportRefused(ValueError):
    """Rows that cannot be written as was asked, with what to ask instead."""


def check_name(path: Path) -> None:
    """Refuse a file whose name ends in no known format, before anything is computed.

    Raises:
        ExportRefused: So it does, its folder does not exist, or the format needs a package that is not installed.
    """
    if path.suffix.lower() not in _WRITERS:
        raise ExportRefused(f"{path}: the end of the name says the format: {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise ExportRefused(f"{path}: there is no folder {path.parent}")
    if path.suffix.lower() == ".xlsx":
        try:
            import xlsxwriter  # noqa: F401 whether it is there
        except ImportError:
            raise ExportRefused(f"{path}: Excel files need a package more: pip install 'lakehouse-assets[excel]'") from None


def write(rows: pl.LazyFrame, path: Path) -> None:
    """Write rows to a file in the format that the end of its name says; a file of this name is replaced.

    Raises:
        ExportRefused: As `check_name`, or Excel cannot hold the rows.
    """
    check_name(path)
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=path.suffix, delete=False) as opened:
        part = Path(opened.name)
    try:
        _WRITERS[path.suffix.lower()](rows, part)
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def flat(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Lists and structs as JSON and bytes in hexadecimal, for formats that have none of these."""
    schema = rows.collect_schema()
    nested = [name for name, dtype in schema.items() if dtype.is_nested()]
    rows = rows.with_columns(pl.col(name).bin.encode("hex") for name, dtype in schema.items() if dtype == pl.Binary)
    return rows.with_columns(
        pl.when(pl.col(name).is_not_null())
        .then(pl.struct(pl.col(name).alias("x")).struct.json_encode().str.strip_prefix('{"x":').str.strip_suffix("}"))
        .alias(name)
        for name in nested
    )


def _csv(rows: pl.LazyFrame, path: Path) -> None:
    flat(rows).sink_csv(path)


def _parquet(rows: pl.LazyFrame, path: Path) -> None:
    rows.sink_parquet(path)


def _excel(rows: pl.LazyFrame, path: Path) -> None:
    """Moments are written without their time zone, which is UTC: Excel knows none."""
    frame = flat(as_python_holds(rows.head(_MOST_EXCEL_ROWS + 1).collect(engine="streaming")).lazy()).collect()
    if frame.height > _MOST_EXCEL_ROWS:
        raise ExportRefused(f"Excel holds {counted(_MOST_EXCEL_ROWS, 'row')}, and there are more: choose some with --where, or write .csv")
    folded: dict[str, str] = {}
    for name, dtype in frame.schema.items():
        if (other := folded.setdefault(name.lower(), name)) != name:
            raise ExportRefused(f"columns {other!r} and {name!r} have one name for Excel: choose others with --columns, or write .csv")
        if dtype == pl.String and (frame[name].str.len_chars() > _LONGEST_EXCEL_TEXT).any():
            raise ExportRefused(f"column {name!r} has texts longer than Excel holds ({_LONGEST_EXCEL_TEXT:,} characters): write .csv")
    # Numbers have 15 digits there: identifiers with more would be changed, so they are texts.
    large = [name for name, dtype in frame.schema.items() if dtype.is_integer() and _largest(frame[name]) >= _LARGEST_EXCEL_INTEGER]
    frame = frame.with_columns(pl.col(large).cast(pl.String))
    frame.select(_excel_column(name, dtype) for name, dtype in frame.schema.items()).write_excel(path, autofit=True, autofilter=False)


def _largest(column: pl.Series) -> int:
    values = [value for value in (column.min(), column.max()) if isinstance(value, int)]
    return max((abs(value) for value in values), default=0)


def _excel_column(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    elif dtype.is_float():
        column = pl.when(column.is_finite()).then(column)  # Excel has no NaN and no infinity
    return column.alias(name)


_WRITERS: Mapping[str, Callable[[pl.LazyFrame, Path], None]] = {".csv": _csv, ".parquet": _parquet, ".xlsx": _excel}
