"""What is guessed of a product's tables: columns, key, time, gold. How it is guessed is in `guess` and `keys`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from lakehouse_assets.platform.declarations.base import nearest
from lakehouse_assets.scaffold import vocabulary
from lakehouse_assets.scaffold.names import singular, words_of
from lakehouse_assets.scaffold.readings import Reading
from lakehouse_assets.scaffold.samples import Sample
from lakehouse_assets.scaffold.totals import Total

FEW_ROWS = 20
"""What fewer rows show, they may show by chance."""


@dataclass(frozen=True)
class Column:
    """A column of a file and of silver.

    Attributes:
        source: Its name in the file.
        name: In silver.
        reading: How its texts become values.
        evidence: What is known of its values.
        missing: In how many rows it has no value.
        distinct: How many different values it has.
        personal: Why it is taken for personal data; None if it is not.
        references: A column of another table that has all of its values, and what says so.
    """

    source: str
    name: str
    reading: Reading
    evidence: str
    missing: int
    distinct: int
    personal: str | None = None
    references: tuple[str, str] | None = None


@dataclass(frozen=True)
class Gold:
    """What a table of gold says: rows counted and numbers added up, by day where rows have a time, and by group."""

    name: str
    by: Column | None
    count: str
    measures: tuple[tuple[str, Column, str], ...]
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Forecast:
    """What is forecast of a table of gold.

    Attributes:
        value: The column with the value of a day.
        by: That of the groups, if there are any.
        why: What to say if it is not the column that was named.
    """

    value: str
    by: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Table:
    """One feed with its tables.

    Attributes:
        sample: Its files.
        columns: By their names in silver.
        key: Names of the key's columns; none where rows are only added.
        key_evidence: What says so.
        time: The column that says when; None if there is none.
        time_evidence: What says so.
        gold: None if there is nothing to add up by.
        forecast: None if nothing of gold is forecast.
        totals: Rows that add up others; the sample is without them.
        hints: What else might be meant.
        doubts: What a person should look at first.
    """

    sample: Sample
    columns: Mapping[str, Column]
    key: tuple[str, ...] = ()
    key_evidence: str = ""
    time: Column | None = None
    time_evidence: str = ""
    gold: Gold | None = None
    forecast: Forecast | None = None
    totals: tuple[Total, ...] = ()
    hints: tuple[str, ...] = ()
    doubts: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """The name of the feed, and of its tables in bronze and silver."""
        return self.sample.name

    @property
    def total_words(self) -> dict[str, list[str]]:
        """By columns of silver that hold texts: the words that stand there in rows that add up others. Other columns refuse the words."""
        found: dict[str, list[str]] = {}
        for total in self.totals:
            column = next((column for column in self.columns.values() if column.source == total.column), None)
            if column is not None and column.reading.is_text:
                found.setdefault(column.name, []).append(total.word)
        return found

    @property
    def without_time(self) -> str:
        """What to say of rows that have no time, in tables that are laid out by it; empty if every row has to have one."""
        if self.time is None or not (self.time.missing or self.time.source in self.sample.optional):
            return ""
        counted = f"{self.time.missing:,} of {self.sample.rows.height:,} rows" if self.time.missing else "those of files without the column"
        return f"rows without {self.time.name} are not in it ({counted}); they stay in silver"

    def doubting(self, *doubts: str) -> "Table":
        """The same with more to look at."""
        return replace(self, doubts=(*self.doubts, *doubts))


def named(table: Table, word: str) -> str | None:
    """The column of silver that a person calls by its name there or in the file."""
    return next((column.name for column in table.columns.values() if word in {column.source, column.name}), None)


def unknown(tables: Sequence[Table], words: Sequence[str]) -> str:
    """What to say of names that no file has."""
    known = [name for table in tables for column in table.columns.values() for name in (column.source, column.name)]
    missing = next((word for word in words if word not in known), None)
    if missing is None:
        return "no file has all of these columns"
    hint = nearest(missing, known) or f" There are: {', '.join(dict.fromkeys(known))}"
    return f"no file has a column {missing!r}.{hint}"


def is_called_key(column: Column) -> bool:
    """Whether a column is called like one that tells rows apart."""
    words = words_of(column.source)
    return bool(vocabulary.KEY & set(words))


def numbers_rows(table: Table, column: Column) -> bool:
    """Whether a column of whole numbers has another one in each row, and is called like one: `repair` of `repairs` or `bike_repairs`."""
    words = words_of(column.source)
    return bool(words) and _is_unique_number(table, column) and words_of(singular(table.name))[-len(words) :] == words


def is_running(table: Table, column: Column) -> bool:
    """Whether a column of whole numbers has another one in each row, and these follow each other without a gap."""
    if table.sample.rows.height < FEW_ROWS or not _is_unique_number(table, column):
        return False
    values = table.sample.rows[column.source].cast(pl.Int64, strict=False)
    first, last = values.min(), values.max()
    return isinstance(first, int) and isinstance(last, int) and not values.null_count() and last - first + 1 == values.len()


def _is_unique_number(table: Table, column: Column) -> bool:
    is_whole = column.reading.reader == "whole_number" and not column.reading.unread
    return is_whole and not column.missing and 1 < table.sample.rows.height == column.distinct
