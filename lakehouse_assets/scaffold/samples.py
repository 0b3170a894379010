"""The sample files as bronze will hold them: read by the platform's own parser, and sorted into feeds by their headers.

What the values mean is decided in `guess`.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.child import Child
from lakehouse_assets.platform.ingestion.parse import ReadOptions, RefusedFile, parse
from lakehouse_assets.platform.ingestion.sheets import read_sheets
from lakehouse_assets.platform.quality.split import misfit
from lakehouse_assets.scaffold.names import feed_name

FILE, ROW = "_file", "_row"
# Of one feed; beyond that a guess does not get better.
_MOST_ROWS = 200_000
# The second is for a text file that is not UTF-8; spreadsheets write it so in Western Europe.
_ENCODINGS = (None, "cp1252")
# A feed finds the separator by its header; here it is found by what it makes of the file.
_SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Sample:
    """The rows of files with one header.

    Attributes:
        name: Of the feed.
        files: Where they come from.
        columns: What every file has.
        optional: What some files have besides.
        rows: Texts, with `_file` and `_row`; at most `_MOST_ROWS`. Without those that do not fit the header, as they come into quarantine.
        total: How many rows the files have.
        options: What the feed has to be told to read them, by the names of `Feed`'s parameters.
        left_out: Columns that a table cannot have; their values come into `_rescued`.
        whole: The share of rows that fit the header.
        misfits: File and number of the rows that do not.
        remarks: What the parser says, and of which files.
    """

    name: str
    files: tuple[Path, ...]
    columns: tuple[str, ...]
    rows: pl.DataFrame
    total: int
    optional: tuple[str, ...] = ()
    options: Mapping[str, Any] | tuple[()] = ()
    left_out: tuple[str, ...] = ()
    whole: float = 1.0
    misfits: tuple[tuple[str, int], ...] = ()
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def all_columns(self) -> tuple[str, ...]:
        """The columns of all files."""
        return (*self.columns, *self.optional)


def read_samples(files: Iterable[Path], product: str, taken: Collection[str]) -> list[Sample]:
    """Read files, and put those with the same columns together.

    Args:
        files: CSV, JSON Lines, XLSX or parquet.
        product: Its name, for feeds that cannot be called after their files.
        taken: Names of feeds that exist already.

    Raises:
        RefusedFile: A file cannot be read, or the files of a feed have no rows.
    """
    found: list[Sample] = []
    with Child() as child:
        read = [_read(file, child) for file in dict.fromkeys(files)]
    for sample in read:
        file = sample.files[0]
        name = feed_name(file.name, product, taken)
        alike = next((index for index, other in enumerate(found) if _are_alike(other, sample, name)), None)
        if alike is None:
            found.append(replace(sample, name=feed_name(file.name, product, [*taken, *(other.name for other in found)])))
        else:
            found[alike] = _together(found[alike], sample)
    for sample in found:
        names = ", ".join(file.name for file in sample.files)
        if not sample.all_columns:
            raise RefusedFile(f"{names}: a table can have none of its columns: give them names that begin with a letter.")
        if not sample.total:
            raise RefusedFile(f"{names}: there is a header and no row, and types cannot be guessed from that. Give a file with rows.")
    return found


def _read(file: Path, child: Child) -> Sample:
    refused: RefusedFile | None = None
    for encoding in _ENCODINGS:
        read = []
        for separator in _SEPARATORS if ".csv" in file.name.lower() else _SEPARATORS[:1]:
            try:
                read.append(_read_as(file, ReadOptions(encoding=encoding, separator=separator), child))
            except RefusedFile as error:
                refused = refused or error
        best = max(read, key=lambda sample: (sample.whole * len(sample.columns), sample.whole), default=None)
        # A header that is refused with commas is one column with anything else.
        if best is not None and (refused is None or len(best.columns) > 1):
            return _of_sheets(best, child) if file.name.lower().endswith(".xlsx") else best
    raise refused or RefusedFile(f"{file} cannot be read")


def _of_sheets(whole: Sample, child: Child) -> Sample:
    """A workbook without the sheets that have another header than the one with the most cells: a feed refuses a file that has such."""
    file = whole.files[0]
    sheets = [sheet for sheet in read_sheets(file) if not sheet.is_hidden and (sheet.cells or sheet.formulas)]
    if len(sheets) == 1:
        return whole
    columns: dict[str, frozenset[str]] = {}
    for sheet in sheets:
        try:
            columns[sheet.name] = frozenset(_read_as(file, ReadOptions(sheets=(sheet.name,)), child).all_columns)
        except RefusedFile:
            columns[sheet.name] = frozenset()
    main = columns[max(sheets, key=lambda sheet: sheet.cells).name]
    others = [name for name, its in columns.items() if its != main]
    if not others:
        return whole
    chosen = tuple(name for name, its in columns.items() if its == main)
    sample = _read_as(file, ReadOptions(sheets=chosen), child)
    named = ", ".join(map(repr, others))
    is_one = len(others) == 1
    said = f"{named} {'has' if is_one else 'have'} another header and {'is' if is_one else 'are'} not read: sheets={chosen}"
    return replace(sample, options={**dict(sample.options), "sheets": chosen}, remarks={**sample.remarks, said: (file.name,)})


def _read_as(file: Path, read_options: ReadOptions, child: Child) -> Sample:
    with ExitStack() as files:
        columns = files.enter_context(parse(file, columns=(), required=(), read_options=read_options, child=child)).unknown
        parsed = files.enter_context(parse(file, columns=columns, required=(), read_options=read_options, child=child))
        rows = parsed.frame.head(_MOST_ROWS).collect()
        is_misfit = misfit(rows["_rescued"])
        misfits = rows.clear() if is_misfit is None else rows.filter(is_misfit)
        fitting = rows if is_misfit is None or misfits.height == rows.height else rows.filter(~is_misfit)
        return Sample(
            "",
            (file,),
            columns,
            fitting.select(*columns, pl.lit(file.name).alias(FILE), ROW),
            parsed.rows,
            options={"encoding": read_options.encoding} if read_options.encoding else {},
            left_out=_left_out(rows["_rescued"]),
            whole=1 - misfits.height / max(rows.height, 1),
            misfits=tuple((file.name, row) for row in misfits[ROW]),
            remarks=dict.fromkeys(parsed.remarks, (file.name,)),
        )


def _left_out(rescued: pl.Series) -> tuple[str, ...]:
    """The names of columns in what was rescued."""
    named = [name for text in rescued.drop_nulls().head(100) for name in json.loads(text).get("_columns", {})]
    return _distinct(named)


def _are_alike(one: Sample, other: Sample, name: str) -> bool:
    """Whether two files are of one feed: they have the same columns, or the same name and most columns in common."""
    if dict(one.options) != dict(other.options):
        return False
    columns, others = set(one.all_columns), set(other.columns)
    return columns == others or (one.name == name and len(columns & others) * 2 > len(columns | others))


def _together(one: Sample, other: Sample) -> Sample:
    columns = tuple(name for name in one.columns if name in other.columns)
    every = _distinct([*one.all_columns, *other.columns])
    rows = pl.concat([one.rows, other.rows], how="diagonal").head(_MOST_ROWS).select(*every, FILE, ROW)
    return replace(
        one,
        files=(*one.files, *other.files),
        columns=columns,
        optional=tuple(name for name in every if name not in columns),
        rows=rows,
        total=one.total + other.total,
        left_out=_distinct([*one.left_out, *other.left_out]),
        whole=min(one.whole, other.whole),
        misfits=(*one.misfits, *other.misfits),
        remarks={text: (*one.remarks.get(text, ()), *other.remarks.get(text, ())) for text in _distinct([*one.remarks, *other.remarks])},
    )


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
