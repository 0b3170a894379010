r"""CSV (RFC 4180: commas, double quotes, lines that end with "\n" or "\r\n") as records of text.

A file whose quotes are all where they should be is left to Polars, and Python looks only at records that are too long or too short. Where
they do not, Python splits the records around, so that nothing is lost or moves to another column, and Polars gets a copy of the file in
which they are fixed. An unquoted empty field is null, a quoted one is "", and a blank line is no record.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.ingestion.limits import Limits
from lakehouse_assets.platform.ingestion.records import NOTE, Records, check_header, header_names, note
from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets.platform.ingestion.scratch import Scratch
from lakehouse_assets.platform.ingestion.text import pieces

_COMMA, _NEWLINE, _QUOTE = b',\n"'
_MAY_STAND_BESIDE_A_QUOTE = np.isin(np.arange(256), list(b',\n\r"'))
_LONGEST_OPEN_RECORD = 16 * 1024 * 1024  # a quote that is not closed within so many bytes is taken for one that never is
_MOST_WIDTHS = 2  # a record that runs over lines and has more fields than twice the header is taken for an unclosed quote
_RECORD = "record"
_BLANK = ""  # instead of a note: this is a blank line

_FIELD = re.compile(
    rb"""(?:"([^"]*+(?:""[^"]*+)*+)"  # quoted, with each quote in it doubled
          |(?!")([^,\n]*?))           # or not: then a quote after the first character is a character like any other
         (?=,|\r?(?:\n|\Z))           # up to where a field may end""",
    re.VERBOSE,
)
_OPEN_FIELD = re.compile(rb'"[^"]*+(?:""[^"]*+)*+\Z')

_Fields = list[bytes | None]
_NOTHING: tuple[_Fields | None, bytes] = (None, b"")


def read_csv(path: Path, required: Sequence[Sequence[str]], scratch: Scratch, limits: Limits) -> Records:
    """Reads a CSV file whose first record is its header.

    A record that is too long or too short fills the columns that it has, and its note holds `_extra` (the fields beyond the header) or
    `_missing` (the columns that it lacks) and `_line` (its text). Where a quote is not closed or is in the way, the line is a
    record with null columns and the note `_line`, and reading goes on with the next line.

    Args:
        path: The file, in UTF-8.
        required: Header variants, as for `check_header`.
        scratch: Where a file with quotes in the way is repaired.
        limits: The limit on the length of a line.

    Raises:
        RefusedFile: No header, a header that does not fit, or bytes that are not text.
    """
    content = pieces(path, limits)
    beginning = next(content, b"")
    header = _header(path.name, beginning)
    check_header(path.name, header, required)
    with ExitStack() as files:
        reading = _Reading(path, header, scratch, limits, files)
        reading.read(chain([beginning], content))
    return Records(header, _scan(reading.scanned, reading.width, reading.notes), reading.count - 1 - reading.blank)


def _header(name: str, beginning: bytes) -> list[str]:
    fields, _ = next(_records(beginning), _NOTHING)
    if fields is None or not beginning.strip():
        raise RefusedFile(f"{name}: no header, for the file is blank or a quote in its first line is not closed. Land it with its header.")
    if b"\r" in beginning and b"\n" not in beginning:
        raise RefusedFile(f"{name}: its lines end with CR alone. Convert it (tr '\\r' '\\n') and land it again.")
    return header_names(None if field is None else field.decode() for field in fields)


class _Reading:
    """One pass over a CSV file that finds out what Polars has to be told to read it.

    Attributes:
        scanned: The file that Polars reads: the landed one, or its fixed copy.
        width: The number of columns in it. At least two in a fixed copy, where a null in a single column would be a blank line.
        count: The number of records in it, header and blank lines among them.
        blank: The number of blank lines among these.
        notes: By number (0 is the header), the notes of records that did not have the width of the header, and `_BLANK` for blank lines.
    """

    def __init__(self, path: Path, header: Sequence[str], scratch: Scratch, limits: Limits, files: ExitStack) -> None:
        self.scanned = self._path = path
        self.width = len(header)
        self.count = self.blank = 0
        self.notes: dict[int, str | None] = {}
        self._header = header
        self._scratch = scratch
        self._limits = limits
        self._files = files
        self._copy: BinaryIO | None = None
        self._seen = 0  # bytes of the landed file, a byte order mark not counted

    def read(self, content: Iterator[bytes]) -> None:
        """Reads all pieces of the file, each of which ends where a line ends."""
        rest = b""
        for part in content:
            piece = rest + part if part.endswith(b"\n") else rest + part + b"\n"
            used = None if len(rest) > _LONGEST_OPEN_RECORD else self._leave_to_polars(piece)
            if used is None:
                self._mend(piece, content)
                rest = b""
            else:
                rest = piece[used:]
        if rest:
            self._mend(rest, content)

    def _leave_to_polars(self, piece: bytes) -> int | None:
        """Counts the records of a piece; gives where the last one ends, which is not where the piece ends if its quotes are still open.

        Gives None for content that Polars might split in another way than `_records`: where a quote is in the way or seems not to
        be closed, a CR is no line end, the header is not the first line, or in a single column, where a blank line would pass for an
        empty field.
        """
        layout = None if len(self._header) == 1 or _has_lone_cr(piece) else _layout(piece)
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
            self.notes[self.count + index] = _note(*next(_records(raw), _NOTHING), self._header)
        self.blank += sum(raw == b"" for raw in misfits.values())
        self.count += len(ends)
        used = int(ends[-1]) + 1 if len(ends) else 0
        self._seen += used
        if self._copy is not None:
            self._copy.write(piece[:used])
        return used

    def _mend(self, content: bytes, following: Iterator[bytes]) -> None:
        """Splits all records of some pieces, and of as many more as it takes to close their quotes, and copies them so that Polars can."""
        copy = self._copy or self._begin_copy()
        start = 0
        while start < len(content):
            fields, end, is_open = _record(content, start, _MOST_WIDTHS * len(self._header))
            if is_open and len(content) - start <= _LONGEST_OPEN_RECORD:
                # Twice as much each time, or a long record would be split again from its start for every piece.
                more = list(_at_least(len(content) - start, following))
                if more:
                    content, start = content[start:] + b"".join(more), 0
                    continue
            raw = content[start:end].removesuffix(b"\r")
            if raw and self.count == 0:
                copy.write(b",".join(b"%d" % position for position in range(self.width)) + b"\n")
            elif raw:
                copy.write(self._mended(fields, raw))
                text = _note(fields, raw, self._header)
                if text is not None:
                    self.notes[self.count] = text
            self.count += bool(raw)
            start = end + 1
        self._seen += len(content)

    def _begin_copy(self) -> BinaryIO:
        self.width = max(2, self.width)
        self.scanned = self._scratch.file("fixed", self._path.name)
        self._copy = self._files.enter_context(self.scanned.open("xb"))
        left = self._seen
        for piece in pieces(self._path, self._limits):
            self._copy.write(piece[:left])
            left -= len(piece)
            if left <= 0:
                break
        return self._copy

    def _mended(self, fields: _Fields | None, raw: bytes) -> bytes:
        if fields is not None and len(fields) == self.width and b'"' not in raw and b"\r" not in raw:
            return raw + b"\n"
        kept = fields[: len(self._header)] if fields else []
        kept += [None] * (self.width - len(kept))
        return b",".join(b"" if field is None else b'"%b"' % field.replace(b'"', b'""') for field in kept) + b"\n"


def _at_least(size: int, content: Iterator[bytes]) -> Iterator[bytes]:
    """Takes pieces of so many bytes together, or all that are left."""
    while size > 0 and (piece := next(content, b"")):
        size -= len(piece)
        yield piece


def _has_lone_cr(piece: bytes) -> bool:
    return b"\r" in piece and piece.count(b"\r") != piece.count(b"\r\n")


_Layout = tuple[npt.NDArray[np.intp], npt.NDArray[Any]]


def _layout(piece: bytes) -> _Layout | None:
    """Finds where the records of a piece end, and how many fields each has; None if a quote neither opens nor closes a field.

    Args:
        piece: UTF-8 that begins with a record and ends with a newline; the last record may go on after it, inside quotes.
    """
    characters = np.frombuffer(piece, dtype=np.uint8)
    is_comma = (characters == _COMMA).view(np.uint8)
    ends = np.flatnonzero(characters == _NEWLINE)
    lengths = np.diff(ends, prepend=-1)
    number = np.min_scalar_type(int(lengths.max()) + 1)  # small numbers are added faster
    commas = np.add.reduceat(is_comma, ends - lengths + 1, dtype=number)
    if _QUOTE in piece:
        quotes = np.flatnonzero(characters == _QUOTE)
        # Before the first character (index -1) comes a newline, as at the end. A doubled quote closes and opens again.
        before, after = characters[quotes[::2] - 1], characters[quotes[1::2] + 1]
        if not (_MAY_STAND_BESIDE_A_QUOTE[before].all() and _MAY_STAND_BESIDE_A_QUOTE[after].all()):
            return None
        lines = np.searchsorted(ends, quotes)
        opened, closed = lines[::2], lines[1::2]
        if len(opened) > len(closed) or (opened != closed).any():
            return _layout_over_lines(characters)
        quoted = np.add.reduceat(is_comma, quotes, dtype=number)[::2]
        commas -= np.bincount(opened, quoted, len(ends)).astype(number)
    return ends, commas + 1


def _layout_over_lines(characters: npt.NDArray[np.uint8]) -> _Layout:
    """What `_layout` finds where a newline is inside quotes; the quotes are known to open and close fields."""
    at = np.flatnonzero((characters == _COMMA) | (characters == _NEWLINE) | (characters == _QUOTE))
    marks = characters[at]
    is_quote = marks == _QUOTE
    outside = ~(np.logical_xor.accumulate(is_quote) | is_quote)
    at, marks = at[outside], marks[outside]
    ends = np.flatnonzero(marks == _NEWLINE)
    return at[ends], np.diff(ends, prepend=-1)


def _scan(path: Path, width: int, notes: Mapping[int, str | None]) -> pl.LazyFrame:
    """Lets Polars split a file that `_count` has counted, and puts the notes to its misfits."""
    positions = [str(index) for index in range(width)]
    scan = pl.scan_csv(path, infer_schema=False, new_columns=positions, truncate_ragged_lines=bool(notes), glob=False)
    if not notes:
        return scan.with_columns(pl.lit(None, pl.String).alias(NOTE))
    noted = pl.LazyFrame({_RECORD: list(notes), NOTE: list(notes.values())}, schema={_RECORD: pl.get_index_type(), NOTE: pl.String})
    numbered = scan.with_row_index(_RECORD, offset=1).join(noted, on=_RECORD, how="left", maintain_order="left")
    return numbered.filter(pl.col(NOTE).ne_missing(_BLANK))


def _note(fields: _Fields | None, raw: bytes, header: Sequence[str]) -> str | None:
    if not raw:
        return _BLANK
    if fields is None:
        return note({"_line": raw.decode()})
    if len(fields) > len(header):
        return note({"_extra": [(field or b"").decode() for field in fields[len(header) :]]})
    if len(fields) < len(header):
        return note({"_missing": header[len(fields) :], "_line": raw.decode()})
    return None


def _records(content: bytes) -> Iterator[tuple[_Fields | None, bytes]]:
    """Splits UTF-8 into records: the fields, None where the quotes do not work out, and the text without its line end."""
    start = 0
    while start < len(content):
        fields, end, _ = _record(content, start, math.inf)
        raw = content[start:end].removesuffix(b"\r")
        if raw:
            yield fields, raw
        start = end + 1


def _record(content: bytes, start: int, most_fields: float) -> tuple[_Fields | None, int, bool]:
    """Splits the record at `start`; a blank line is one too.

    A record that runs over lines and has more than `most_fields` is taken for a quote that was not closed: without this bound, a file full
    of such quotes would take quadratic time.

    Returns:
        Its fields, or None where the quotes do not work out; where it ends, or else its first line does; whether that is because the
        content ends within quotes.
    """
    line_end = content.find(b"\n", start)
    line_end = len(content) if line_end < 0 else line_end
    if content.find(b'"', start, line_end) < 0:
        return [field or None for field in content[start:line_end].removesuffix(b"\r").split(b",")], line_end, False
    fields: _Fields = []
    position = start
    while field := _FIELD.match(content, position):
        quoted, plain = field.groups()
        fields.append(plain or None if quoted is None else quoted.replace(b'""', b'"'))
        position = field.end()
        if content[position : position + 1] != b",":
            end = content.find(b"\n", position)
            return fields, len(content) if end < 0 else end, False
        if position > line_end and len(fields) > most_fields:
            return None, line_end, False
        position += 1
    return None, line_end, _OPEN_FIELD.match(content, position) is not None
