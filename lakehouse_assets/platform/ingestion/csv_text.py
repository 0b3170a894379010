r"""CSV (RFC 4180: double quotes, lines that end with "\n" or "\r\n"; any separator) as records of text.

A file whose quotes are all where they should be is left to Polars, and Python looks only at records that are too long or too short. Where
they do not, Python splits the records around, so that nothing is lost or moves to another column, and Polars gets a copy of the file in
which they are fixed. An unquoted empty field is null, a quoted one is "", and a blank line is no record. Where the header stands is in
`csv_header`.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.ingestion.csv_header import CsvHeader, Fields, find_header, record, records
from lakehouse_assets.platform.ingestion.header import Expected
from lakehouse_assets.platform.ingestion.limits import Limits
from lakehouse_assets.platform.ingestion.records import NOTE, Records, note
from lakehouse_assets.platform.ingestion.scratch import Scratch
from lakehouse_assets.platform.ingestion.text import pieces

_NEWLINE, _QUOTE = b'\n"'
_LONGEST_OPEN_RECORD = 16 * 1024 * 1024  # a quote that is not closed within so many bytes is taken for one that never is
_MOST_WIDTHS = 2  # a record that runs over lines and has more fields than twice the header is taken for an unclosed quote
_RECORD = "record"
_BLANK = ""  # instead of a note: this is a blank line
_NOTHING: tuple[Fields | None, bytes] = (None, b"")

_Layout = tuple[npt.NDArray[np.intp], npt.NDArray[Any]]


def read_csv(
    path: Path, expected: Expected, scratch: Scratch, limits: Limits, *, separator: str | None = None, has_header: bool = True
) -> Records:
    """Reads a CSV file.

    A record that is too long or too short fills the columns that it has, and its note holds `_extra` (the fields beyond the header, unless
    all are empty) or `_missing` (the columns that it lacks) and `_line` (its text). Where a quote is not closed or is in the way, and where
    the header is repeated, the line is a record with null columns and the note `_line`, and reading goes on with the next line.

    Args:
        path: The file, in UTF-8.
        expected: The declared columns.
        scratch: Where a file with quotes in the way is repaired.
        limits: The limits on the length of a line and the number of columns.
        separator: One character; None: that with which the header fits.
        has_header: Whether there is a header; without one the columns are those of the first header variant.

    Raises:
        RefusedFile: No header, a header that does not fit, or bytes that are not text.
    """
    beginning = next(pieces(path, limits), b"")
    header = find_header(path.name, beginning, expected, most=limits.columns, separator=separator, has_header=has_header)
    with ExitStack() as files:
        reading = _Reading(path, header, scratch, limits, files)
        reading.read(pieces(path, limits, header.start))
    return Records(header.names, reading.scan(), reading.rows, remarks=header.remarks)


class _Reading:
    """One pass over a CSV file that finds out what Polars has to be told to read it.

    Attributes:
        scanned: The file that Polars reads: the landed one, or its fixed copy.
        width: The number of columns in it. At least two in a fixed copy, where a null in a single column would be a blank line.
        count: The number of records in it, blank lines and the header, or the place where one would be, among them.
        blank: The number of blank lines among these.
        notes: By number (0 is the header), the notes of records that did not have the width of the header, and `_BLANK` for blank lines.
    """

    def __init__(self, path: Path, header: CsvHeader, scratch: Scratch, limits: Limits, files: ExitStack) -> None:
        self.scanned = self._path = path
        self.width = len(header.names)
        self.blank = 0
        self.count = int(header.fields is None)
        self.notes: dict[int, str | None] = {}
        self._has_longer = False
        self._dialect = header
        self._separator = header.separator
        self._beside_a_quote = np.isin(np.arange(256), list(header.separator + b'\n\r"'))
        self._header = header.names
        # In a single column, a value may well be the name of the column.
        self._repeated = header.fields if len(header.names) > 1 else None
        self._first_field = header.fields[0] if header.fields else None
        self._scratch = scratch
        self._limits = limits
        self._files = files
        self._copy: BinaryIO | None = None
        self._seen = 0  # bytes of the landed file from the header on

    @property
    def rows(self) -> int:
        """How many records there are, without the header and blank lines."""
        return self.count - 1 - self.blank

    def scan(self) -> pl.LazyFrame:
        """Lets Polars split the file that was counted, and puts the notes to its misfits."""
        is_copy = self._copy is not None
        scan = pl.scan_csv(
            self.scanned,
            infer_schema=False,
            separator=self._separator.decode(),
            has_header=is_copy or self._dialect.fields is not None,
            skip_lines=0 if is_copy else self._dialect.lines,
            new_columns=[str(index) for index in range(self.width)],
            truncate_ragged_lines=bool(self.notes) or self._has_longer,
            glob=False,
        )
        if not self.notes:
            return scan.with_columns(pl.lit(None, pl.String).alias(NOTE))
        notes = {_RECORD: list(self.notes), NOTE: list(self.notes.values())}
        noted = pl.LazyFrame(notes, schema={_RECORD: pl.get_index_type(), NOTE: pl.String})
        numbered = scan.with_row_index(_RECORD, offset=1).join(noted, on=_RECORD, how="left", maintain_order="left")
        return numbered.filter(pl.col(NOTE).ne_missing(_BLANK))

    def read(self, content: Iterator[bytes]) -> None:
        """Reads all pieces of the file, each of which ends where a line ends."""
        rest = b""
        for part in content:
            piece = rest + part if part.endswith(b"\n") else rest + part + b"\n"
            used = None if len(rest) > _LONGEST_OPEN_RECORD else self._leave_to_polars(piece)
            if used is None:
                self._repair(piece, content)
                rest = b""
            else:
                rest = piece[used:]
        if rest:
            self._repair(rest, content)

    def _leave_to_polars(self, piece: bytes) -> int | None:
        """Counts the records of a piece; gives where the last one ends, which is not where the piece ends if its quotes are still open.

        Gives None for content that Polars might split in another way than `_records`: where a quote is in the way or seems not to
        be closed, a CR is no line end, the header is not the first line or comes again, or in a single column, where a blank line would
        pass for an empty field.
        """
        by_python = len(self._header) == 1 or _has_lone_cr(piece) or self._may_repeat_the_header(piece)
        layout = None if by_python else self._layout(piece)
        if layout is None:
            return None
        ends, fields = layout
        misfits = {}
        for index in np.flatnonzero(fields != len(self._header)).tolist():
            start = ends[index - 1] + 1 if index else 0
            misfits[index] = raw = piece[start : ends[index]].removesuffix(b"\r")
            if (fields[index] > _MOST_WIDTHS * len(self._header) and b"\n" in raw) or self.count + index == 0:
                return None
        for index, raw in misfits.items():
            is_endless = fields[index] > len(self._header) + self._limits.columns  # not worth a list of its fields
            split = (None, raw) if is_endless else next(records(raw, self._separator), _NOTHING)
            self._keep_note(self.count + index, *split, is_copied=False)
        self.blank += sum(raw == b"" for raw in misfits.values())
        self.count += len(ends)
        used = int(ends[-1]) + 1 if len(ends) else 0
        self._seen += used
        if self._copy is not None:
            self._copy.write(piece[:used])
        return used

    def _layout(self, piece: bytes) -> _Layout | None:
        """Finds where the records of a piece end, and how many fields each has; None if a quote neither opens nor closes a field.

        Args:
            piece: UTF-8 that begins with a record and ends with a newline; the last record may go on after it, inside quotes.
        """
        characters = np.frombuffer(piece, dtype=np.uint8)
        is_separator = (characters == self._separator[0]).view(np.uint8)
        ends = np.flatnonzero(characters == _NEWLINE)
        lengths = np.diff(ends, prepend=-1)
        number = np.min_scalar_type(int(lengths.max()) + 1)  # small numbers are added faster
        separators = np.add.reduceat(is_separator, ends - lengths + 1, dtype=number)
        if _QUOTE in piece:
            quotes = np.flatnonzero(characters == _QUOTE)
            # Before the first character (index -1) comes a newline, as at the end. A doubled quote closes and opens again.
            before, after = characters[quotes[::2] - 1], characters[quotes[1::2] + 1]
            if not (self._beside_a_quote[before].all() and self._beside_a_quote[after].all()):
                return None
            lines = np.searchsorted(ends, quotes)
            opened, closed = lines[::2], lines[1::2]
            if len(opened) > len(closed) or (opened != closed).any():
                return self._layout_over_lines(characters)
            quoted = np.add.reduceat(is_separator, quotes, dtype=number)[::2]
            separators -= np.bincount(opened, quoted, len(ends)).astype(number)
        return ends, separators + 1

    def _layout_over_lines(self, characters: npt.NDArray[np.uint8]) -> _Layout:
        """What `_layout` finds where a newline is inside quotes; the quotes are known to open and close fields."""
        at = np.flatnonzero((characters == self._separator[0]) | (characters == _NEWLINE) | (characters == _QUOTE))
        marks = characters[at]
        is_quote = marks == _QUOTE
        outside = ~(np.logical_xor.accumulate(is_quote) | is_quote)
        at, marks = at[outside], marks[outside]
        ends = np.flatnonzero(marks == _NEWLINE)
        return at[ends], np.diff(ends, prepend=-1)

    def _repair(self, content: bytes, following: Iterator[bytes]) -> None:
        """Splits all records of some pieces, and of as many more as it takes to close their quotes, and copies them so that Polars can."""
        copy = self._copy or self._begin_copy()
        start = 0
        while start < len(content):
            fields, end, is_open = record(content, start, _MOST_WIDTHS * len(self._header), self._separator)
            if is_open and len(content) - start <= _LONGEST_OPEN_RECORD:
                # Twice as much each time, or a long record would be split again from its start for every piece.
                more = list(_at_least(len(content) - start, following))
                if more:
                    content, start = content[start:] + b"".join(more), 0
                    continue
            raw = content[start:end].removesuffix(b"\r")
            if raw and self.count == 0:
                self._write_header(copy)
            elif raw:
                fields = None if fields == self._repeated else fields
                copy.write(self._repaired(fields, raw))
                self._keep_note(self.count, fields, raw, is_copied=True)
            self.count += bool(raw)
            start = end + 1
        self._seen += len(content)

    def _begin_copy(self) -> BinaryIO:
        self.width = max(2, self.width)
        self.scanned = self._scratch.file("fixed", self._path.name)
        self._copy = self._files.enter_context(self.scanned.open("xb"))
        if self._dialect.fields is None:
            self._write_header(self._copy)
        left = self._seen
        for piece in pieces(self._path, self._limits, self._dialect.start):
            self._copy.write(piece[:left])
            left -= len(piece)
            if left <= 0:
                break
        return self._copy

    def _write_header(self, copy: BinaryIO) -> None:
        copy.write(self._separator.join(b"%d" % position for position in range(self.width)) + b"\n")

    def _may_repeat_the_header(self, piece: bytes) -> bool:
        """Whether a line begins as the header does."""
        first = self._first_field
        if first is None or self._repeated is None:
            return False
        begun = any(b"\n" + quote + first + quote + self._separator in piece for quote in (b"", b'"'))
        return begun or (self.count > 0 and piece.startswith((first + self._separator, b'"' + first + b'"')))

    def _keep_note(self, number: int, fields: Fields | None, raw: bytes, *, is_copied: bool) -> None:
        """Keeps what a record has besides its columns, unless that is nothing, or only empty fields beyond them."""
        if fields is not None and len(fields) > len(self._header) and not any(field is not None for field in fields[len(self._header) :]):
            self._has_longer |= not is_copied
            return
        text = _note(fields, raw, self._header, self._limits.columns)
        if text is not None:
            self.notes[number] = text

    def _repaired(self, fields: Fields | None, raw: bytes) -> bytes:
        if fields is not None and len(fields) == self.width and b'"' not in raw and b"\r" not in raw:
            return raw + b"\n"
        kept = fields[: len(self._header)] if fields else []
        kept += [None] * (self.width - len(kept))
        return self._separator.join(b"" if field is None else b'"%b"' % field.replace(b'"', b'""') for field in kept) + b"\n"


def _at_least(size: int, content: Iterator[bytes]) -> Iterator[bytes]:
    """Takes pieces of so many bytes together, or all that are left."""
    while size > 0 and (piece := next(content, b"")):
        size -= len(piece)
        yield piece


def _has_lone_cr(piece: bytes) -> bool:
    return b"\r" in piece and piece.count(b"\r") != piece.count(b"\r\n")


def _note(fields: Fields | None, raw: bytes, header: Sequence[str], most: int) -> str | None:
    if not raw:
        return _BLANK
    if fields is None or len(fields) > len(header) + most:
        return note({"_line": raw.decode()})
    if len(fields) > len(header):
        return note({"_extra": [(field or b"").decode() for field in fields[len(header) :]]})
    if len(fields) < len(header):
        return note({"_missing": header[len(fields) :], "_line": raw.decode()})
    return None
