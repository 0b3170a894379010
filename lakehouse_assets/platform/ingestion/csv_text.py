r"""CSV (RFC 4180: commas, double quotes, lines that end with "\n" or "\r\n") as records of text.

A file whose quotes all stand where they should is left to Polars, and Python looks only at records that are too long or too short;
any other file is split here, so that nothing in it is lost or moves to another column. An unquoted empty field is null, a quoted one
is "", and a blank line is no record.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from lakehouse_assets.platform.ingestion.records import NOTE, Records, check_header, frame_of, header_names, note
from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets.platform.ingestion.text import pieces, utf8_source

_COMMA, _NEWLINE, _QUOTE = b',\n"'
_MAY_STAND_BESIDE_A_QUOTE = np.isin(np.arange(256), list(b',\n\r"'))
_LONGEST_OPEN_RECORD = 16 * 1024 * 1024
_MOST_WIDTHS = 2  # a record that runs over lines and has more fields than twice the header is taken for an unclosed quote
_RECORD = "record"
_BLANK = ""  # instead of a note: this is a blank line

_FIELD = re.compile(
    rb"""(?:"([^"]*+(?:""[^"]*+)*+)"  # quoted, with each quote in it doubled
          |(?!")([^,\n]*?))           # or not: then a quote after the first character is a character like any other
         (?=,|\r?(?:\n|\Z))           # up to where a field may end""",
    re.VERBOSE,
)

_Fields = list[bytes | None]
_NOTHING: tuple[_Fields | None, bytes] = (None, b"")


def read_csv(path: Path, required: Sequence[Sequence[str]], encoding: str) -> Records:
    """Reads a CSV file whose first record is its header.

    A record that is too long or too short fills the columns that it has, and its note holds `_extra` (the fields beyond the header) or
    `_missing` (the columns that it lacks) and `_line` (its text). Where a quote is not closed or stands in the way, the line is a
    record with null columns and the note `_line`, and reading goes on with the next line.

    Args:
        path: The file.
        required: Header variants, as for `check_header`.
        encoding: A Python codec. UTF-8 streams; a file in any other encoding is converted in memory.

    Raises:
        RefusedFile: No header, a header that does not fit, or bytes that are not text in `encoding`.
    """
    source = utf8_source(path, encoding)
    content = pieces(path.name, source)
    beginning = next(content, b"")
    header = _header(path.name, beginning)
    check_header(path.name, header, required)
    counted = _count(chain([beginning], content), len(header))
    if counted is None:
        frame = frame_of(_fitted(b"".join(pieces(path.name, source)), header), len(header), pl.Binary)
        return Records(header, frame.lazy(), frame.height)
    count, misfits = counted
    notes = {number: _note(*next(_records(raw), _NOTHING), header) for number, raw in misfits.items()}
    blank = sum(raw == b"" for raw in misfits.values())
    return Records(header, _scan(source, len(header), notes), count - blank)


def _header(name: str, beginning: bytes) -> list[str]:
    fields, _ = next(_records(beginning), _NOTHING)
    if fields is None:
        raise RefusedFile(f"{name}: no header, for the file is blank or a quote in its first line is not closed. Land it with its header.")
    if b"\r" in beginning and b"\n" not in beginning:
        raise RefusedFile(f"{name}: its lines end with CR alone. Convert it (tr '\\r' '\\n') and land it again.")
    return header_names(None if field is None else field.decode() for field in fields)


def _count(content: Iterable[bytes], width: int) -> tuple[int, dict[int, bytes]] | None:
    """Counts the records after the header and picks those that do not have `width` fields, by their number, blank lines among them.

    Gives None for content that Polars might split in another way than `_records`: where a quote stands in the way or seems not to be
    closed, a CR is no line end, the header is not the first line, or in a single column, where a blank line would pass for an empty field.
    """
    if width == 1:
        return None
    count, misfits, rest = 0, dict[int, bytes](), b""
    for part in content:
        piece = rest + part if part.endswith(b"\n") else rest + part + b"\n"
        layout = None if len(rest) > _LONGEST_OPEN_RECORD or _has_lone_cr(piece) else _layout(piece)
        if layout is None:
            return None
        ends, fields = layout
        for index in np.flatnonzero(fields != width).tolist():
            start = ends[index - 1] + 1 if index else 0
            raw = piece[start : ends[index]].removesuffix(b"\r")
            if fields[index] > _MOST_WIDTHS * width and b"\n" in raw:
                return None
            misfits[count + index] = raw
        count += len(ends)
        rest = piece[ends[-1] + 1 :] if len(ends) else piece
    return None if rest or 0 in misfits else (count - 1, misfits)


def _has_lone_cr(piece: bytes) -> bool:
    return b"\r" in piece and piece.count(b"\r") != piece.count(b"\r\n")


def _layout(piece: bytes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None:
    """Finds where the records of a piece end, and how many fields each has; None if a quote neither opens nor closes a field.

    Args:
        piece: UTF-8 that begins with a record and ends with a newline; the last record may go on after it, inside quotes.
    """
    characters = np.frombuffer(piece, dtype=np.uint8)
    at = np.flatnonzero((characters == _COMMA) | (characters == _NEWLINE) | (characters == _QUOTE))
    marks = characters[at]
    is_quote = marks == _QUOTE
    if is_quote.any():
        quotes = at[is_quote]
        # Before the first character (index -1) comes a newline, as at the end. A doubled quote closes and opens again.
        before, after = characters[quotes[::2] - 1], characters[quotes[1::2] + 1]
        if not (_MAY_STAND_BESIDE_A_QUOTE[before].all() and _MAY_STAND_BESIDE_A_QUOTE[after].all()):
            return None
        outside = ~(np.logical_xor.accumulate(is_quote) | is_quote)
        at, marks = at[outside], marks[outside]
    ends = np.flatnonzero(marks == _NEWLINE)
    return at[ends], np.diff(ends, prepend=-1)


def _scan(source: Path | bytes, width: int, notes: Mapping[int, str | None]) -> pl.LazyFrame:
    """Lets Polars split a file that `_count` has counted, and puts the notes to its misfits."""
    positions = [str(index) for index in range(width)]
    scan = pl.scan_csv(source, infer_schema=False, new_columns=positions, truncate_ragged_lines=bool(notes), glob=False)
    if not notes:
        return scan.with_columns(pl.lit(None, pl.String).alias(NOTE))
    noted = pl.LazyFrame({_RECORD: list(notes), NOTE: list(notes.values())}, schema={_RECORD: pl.get_index_type(), NOTE: pl.String})
    numbered = scan.with_row_index(_RECORD, offset=1).join(noted, on=_RECORD, how="left", maintain_order="left")
    return numbered.filter(pl.col(NOTE).ne_missing(_BLANK))


def _fitted(content: bytes, header: Sequence[str]) -> Iterator[list[bytes | str | None]]:
    """Gives each record after the header the width of the header, and a note if it did not have it."""
    width = len(header)
    records = _records(content, _MOST_WIDTHS * width)
    next(records)
    for fields, raw in records:
        kept = fields[:width] if fields else []
        yield [*kept, *[None] * (width - len(kept)), _note(fields, raw, header)]


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


def _records(content: bytes, most_fields: float = math.inf) -> Iterator[tuple[_Fields | None, bytes]]:
    """Splits UTF-8 into records: the fields, None where the quotes do not work out, and the text without its line end."""
    start = 0
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        fields: _Fields | None
        if content.find(b'"', start, end) < 0:
            fields = [field or None for field in content[start:end].removesuffix(b"\r").split(b",")]
        else:
            fields, end = _split_quoted(content, start, end, most_fields)
        raw = content[start:end].removesuffix(b"\r")
        if raw:
            yield fields, raw
        start = end + 1


def _split_quoted(content: bytes, start: int, line_end: int, most_fields: float) -> tuple[_Fields | None, int]:
    """Splits one record that holds quotes; gives its fields and its end, or None and the end of its first line.

    A record that runs over lines and has more than `most_fields` is taken for a quote that was not closed: without this bound, a file full
    of such quotes would take quadratic time.
    """
    fields: _Fields = []
    position = start
    while field := _FIELD.match(content, position):
        quoted, plain = field.groups()
        fields.append(plain or None if quoted is None else quoted.replace(b'""', b'"'))
        position = field.end()
        if content[position : position + 1] != b",":
            end = content.find(b"\n", position)
            return fields, len(content) if end < 0 else end
        if position > line_end and len(fields) > most_fields:
            break
        position += 1
    return None, line_end
