"""Rows at the end of a file that add up the others: they are no rows of what the file lists, and nothing is guessed from them.

How a product keeps them out of its tables is in `render`: by a rule of the contract, so that they are in quarantine and not lost.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.scaffold.names import words_of
from lakehouse_assets.scaffold.samples import FILE, ROW
from lakehouse_assets.scaffold.vocabulary import TOTAL, TOTAL_BESIDE

_NUMBER = re.compile(r"[^0-9A-Za-z]*[0-9][0-9.,'\s]*[^0-9]{0,4}")
# Fewer rows do not say what is never empty.
_FEWEST = 3


@dataclass(frozen=True)
class Total:
    """One such row.

    Attributes:
        index: Its position in the sample.
        file: The name of its file.
        row: Its number in the file.
        column: The column that says so; None where it is known by what is empty.
        word: What stands there.
    """

    index: int
    file: str
    row: int
    column: str | None
    word: str

    @property
    def named(self) -> str:
        """For people; only words of sums are shown, no values."""
        said = f" ({self.word!r} in {self.column!r})" if self.column else ""
        return f"row {self.row:,} of {self.file}{said}"


def totals_in(rows: pl.DataFrame, columns: Sequence[str]) -> list[Total]:
    """The rows that add up others, at the ends of files.

    Args:
        rows: Texts without blanks around them, null where nothing is; with `_file` and `_row`.
        columns: The columns of the files.
    """
    numbered = rows.with_row_index("index")
    return [total for part in numbered.partition_by(FILE, maintain_order=True) for total in _of_file(part, columns)]


def pattern(words: Sequence[str]) -> str:
    """A regular expression for texts that are one of these words, with any case, signs and digits around it."""
    plain = sorted({re.sub(r"[\W\d_]+$|^[\W\d_]+", "", word).lower() for word in words})
    return rf"(?i)^\W*({'|'.join(map(re.escape, plain))})[\W\d]*$"


def _of_file(rows: pl.DataFrame, columns: Sequence[str]) -> Iterator[Total]:
    for last in range(rows.height - 1, _FEWEST - 1, -1):
        before = rows[:last]
        always = {name for name in columns if not before[name].null_count()}
        cells = {name: text for name, text in rows.select(columns).row(last, named=True).items() if text is not None}
        found = _says(cells, before, always) if cells else None
        if found is None:
            return
        index, file, row = (rows[name][last] for name in ("index", FILE, ROW))
        yield Total(index, file, row, *found)


def _says(cells: Mapping[str, Any], before: pl.DataFrame, always: set[str]) -> tuple[str | None, str] | None:
    """The column and word by which a row adds up others; None if it does not."""
    first = next(iter(cells))
    has_gaps = not always <= set(cells)
    for name, text in cells.items():
        # A thing may be called so in every row, and in a full row it is the name of one.
        if (name == first or has_gaps) and _is_total(text) and not before[name].is_in([text]).any():
            return name, text
    words = [name for name, text in cells.items() if not _NUMBER.fullmatch(text)]
    numbers = [name for name in cells if name not in words]
    is_empty = 2 * len(always - set(cells)) >= len(always) > 1
    is_label = not words or (words == [first] and not re.search("[0-9]", cells[first]))
    is_first_given = next(iter(before.columns[1:])) in numbers
    return (None, "") if numbers and is_empty and is_label and not is_first_given else None


def _is_total(text: str) -> bool:
    words = [word for word in words_of(text.title()) if not word.isdigit()]
    return bool(set(words) & TOTAL) and set(words) <= TOTAL | TOTAL_BESIDE
