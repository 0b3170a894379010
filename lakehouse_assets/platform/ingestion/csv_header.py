"""Where the header of a CSV file stands, and which separator it is written with.

The declared columns decide: the first line that holds a header variant, split at one of the usual separators. What stands above it must be
less than a record, as a title or a comment. The records below are split in `csv_text`.
"""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lakehouse_assets.platform.ingestion.header import LOOKED_THROUGH, Expected, check_width, header_names, likely_header
from lakehouse_assets.platform.ingestion.refused import RefusedFile

SEPARATORS = (b",", b";", b"\t", b"|")
_SEPARATOR_NAMES = {b"\t": "'\\t'"}

Fields = list[bytes | None]
# One column may be anything; a table below a title has more.
_FEWEST_FIELDS = 3
_NOTHING: tuple[Fields | None, bytes] = (None, b"")


@dataclass(frozen=True)
class CsvHeader:
    """The header of a CSV file.

    Attributes:
        names: Of the columns, those that mean a declared one as it is declared.
        fields: The header's fields as they stand in the file; None: it has no header.
        separator: One character.
        start: Where the header begins, in bytes; without one, where the first record does.
        lines: How many lines stand above that.
        remarks: See `Records.remarks`.
    """

    names: list[str]
    fields: Fields | None
    separator: bytes
    start: int = 0
    lines: int = 0
    remarks: tuple[str, ...] = ()


def find_header(
    name: str, beginning: bytes, expected: Expected, *, most: int, separator: str | None = None, has_header: bool = True
) -> CsvHeader:
    """Finds the header in the first lines of a file.

    Args:
        name: The name of the file, for messages.
        beginning: Its first lines, in UTF-8.
        expected: The declared columns.
        most: The most columns.
        separator: The one that the feed declares; None: the one with which the header fits.
        has_header: Whether the file has a header; without one its columns are those of the first header variant.

    Raises:
        RefusedFile: No header, or none that fits.
    """
    separators = SEPARATORS if separator is None else (separator.encode(),)
    if b"\r" in beginning and b"\n" not in beginning:
        raise RefusedFile(f"{name}: its lines end with CR alone. Convert it (tr '\\r' '\\n') and land it again.")
    start, end = _first_filled(beginning)
    check_width(name, 1 + max(beginning.count(each, start, end) for each in separators), most)  # before it is split
    found = _fitting(beginning, expected, separators)
    if found is not None:
        return found
    if not has_header:
        return _without_header(name, beginning, expected, separators)
    header = _first_line(name, beginning, expected, separators)
    expected.check(name, header.names, _hint(beginning, expected, header))
    return header


def _fitting(beginning: bytes, expected: Expected, separators: tuple[bytes, ...]) -> CsvHeader | None:
    """The first line that fits, if those above have fewer fields than it has."""
    start = lines = most = above = 0
    for _ in range(LOOKED_THROUGH):
        if start >= len(beginning):
            return None
        splits = [split for split in (_split(beginning, start, expected, each) for each in separators) if split is not None]
        fitting = [(expected.known(names), -rank) for rank, (names, _, _) in enumerate(splits) if expected.fits(names)]
        if fitting:
            best = max(fitting)
            names, fields, separator = splits[-best[1]]
            if above and most >= len(fields):
                return None  # what stands above could be a record
            return CsvHeader(names, fields, separator, start, lines, (_skipped_lines(above, lines),) if above else ())
        end = beginning.find(b"\n", start)
        end = len(beginning) if end < 0 else end
        line = beginning[start:end].strip()
        above += bool(line)
        if not _is_remark(line):
            most = max([most, *(sum(field is not None for field in fields) for _, fields, _ in splits)])
        start, lines = end + 1, lines + 1
    return None


def _first_filled(beginning: bytes) -> tuple[int, int]:
    """Where the first line that is not blank starts and ends."""
    start = len(beginning) - len(beginning.lstrip())
    end = beginning.find(b"\n", start)
    return start, len(beginning) if end < 0 else end


def _is_remark(line: bytes) -> bool:
    """A comment, or what Excel writes to say which separator follows."""
    return line.startswith((b"#", b"//", b"--", b"sep="))


def _split(beginning: bytes, start: int, expected: Expected, separator: bytes) -> tuple[list[str], Fields, bytes] | None:
    fields, _, _ = record(beginning, start, math.inf, separator)
    return None if fields is None else (_names(fields, expected), fields, separator)


def _names(fields: Fields, expected: Expected) -> list[str]:
    return expected.recognised(header_names(None if field is None else field.decode() for field in fields))


def _first_line(name: str, beginning: bytes, expected: Expected, separators: tuple[bytes, ...]) -> CsvHeader:
    """The header of a file in which none fits, or any does."""
    split = {each: next(records(beginning, each), _NOTHING)[0] for each in separators}
    headers = {each: (_names(fields, expected), fields) for each, fields in split.items() if fields is not None}
    if separators[0] not in headers or not beginning.strip():
        raise RefusedFile(f"{name}: no header, for the file is blank or a quote in its first line is not closed. Land it with its header.")
    if not expected.required and len(separators) == 1 and (below := _below_a_title(beginning, expected, separators)) is not None:
        return below
    separator = max(headers, key=lambda each: expected.known(headers[each][0]))  # the first of those that are as good
    return CsvHeader(*headers[separator], separator)


def _below_a_title(beginning: bytes, expected: Expected, separators: tuple[bytes, ...]) -> CsvHeader | None:
    """The header of a file of which no column is declared, if other lines stand above it; None where it is the first line."""
    lines = list(_lines(beginning))
    for separator in separators:
        split = [next(records(line, separator), _NOTHING)[0] or [] for _, line in lines]
        widths = [sum(field is not None for field in fields) for fields in split]
        if max(widths, default=0) < _FEWEST_FIELDS:
            continue
        at = likely_header([[None if field is None else field.decode(errors="replace") for field in fields] for fields in split])
        if at == 0 or len(split[at]) < _FEWEST_FIELDS:
            continue
        above = sum(bool(line.strip()) for _, line in lines[:at])
        return CsvHeader(_names(split[at], expected), split[at], separator, lines[at][0], at, (_skipped_lines(above, at),) if above else ())
    return None


def _lines(beginning: bytes) -> Iterator[tuple[int, bytes]]:
    """The first lines, each with where it starts."""
    start = 0
    for _ in range(LOOKED_THROUGH):
        if start >= len(beginning):
            return
        end = beginning.find(b"\n", start)
        end = len(beginning) if end < 0 else end
        yield start, beginning[start:end]
        start = end + 1


def _skipped_lines(above: int, lines: int) -> str:
    what = "1 line above the header was" if above == 1 else f"{above} lines above the header were"
    return f"{what} not read; the header is line {lines + 1}"


def _hint(beginning: bytes, expected: Expected, header: CsvHeader) -> str:
    """What the feed could be told, if its first line shows it."""
    for each in SEPARATORS:
        fields = next(records(beginning, each), _NOTHING)[0]
        if each != header.separator and fields is not None and expected.fits(_names(fields, expected)):
            name = _name_of(each)
            return f"Its separator is {name}: land it with {_name_of(header.separator)}, or declare separator={name} in the feed."
    widths = {len(variant) for variant in expected.required}
    if not expected.known(header.names) and len(header.names) in widths:
        return (
            "Land the file with these columns, or add its header to the feed; if its first line is a record, declare has_header=False in "
            "the feed."
        )
    return ""


def _without_header(name: str, beginning: bytes, expected: Expected, separators: tuple[bytes, ...]) -> CsvHeader:
    names = list(expected.required[0])
    widths = {each: next((len(fields) for fields, _ in records(beginning, each) if fields is not None), 0) for each in separators}
    fitting = [each for each, width in widths.items() if width == len(names)]
    if not fitting and len(separators) > 1:
        found = ", ".join(f"{width} with {_name_of(each)}" for each, width in widths.items())
        raise RefusedFile(
            f"{name}: its first record does not have the {len(names)} fields of the feed's header ({found}). Correct the file, or declare "
            "its columns and its separator in the feed."
        )
    return CsvHeader(names, None, fitting[0] if fitting else separators[0])


def _name_of(separator: bytes) -> str:
    return _SEPARATOR_NAMES.get(separator, repr(separator.decode()))


@functools.cache
def _patterns(separator: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """A field, and one whose quote is not closed."""
    one = re.escape(separator)
    field = re.compile(
        rb"""(?:"([^"]*+(?:""[^"]*+)*+)"  # quoted, with each quote in it doubled
              |(?!")([^%b\n]*?))          # or not: then a quote after the first character is a character like any other
             (?=%b|\r?(?:\n|\Z))          # up to where a field may end"""
        % (one, one),
        re.VERBOSE,
    )
    return field, re.compile(rb'"[^"]*+(?:""[^"]*+)*+\Z')


def records(content: bytes, separator: bytes) -> Iterator[tuple[Fields | None, bytes]]:
    """Splits UTF-8 into records: the fields, None where the quotes do not work out, and the text without its line end."""
    start = 0
    while start < len(content):
        fields, end, _ = record(content, start, math.inf, separator)
        raw = content[start:end].removesuffix(b"\r")
        if raw:
            yield fields, raw
        start = end + 1


def record(content: bytes, start: int, most_fields: float, separator: bytes) -> tuple[Fields | None, int, bool]:
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
        return [field or None for field in content[start:line_end].removesuffix(b"\r").split(separator)], line_end, False
    a_field, an_open_field = _patterns(separator)
    fields: Any = []
    position = start
    while field := a_field.match(content, position):
        quoted, plain = field.groups()
        fields.append(plain or None if quoted is None else quoted.replace(b'""', b'"'))
        position = field.end()
        if content[position : position + 1] != separator:
            end = content.find(b"\n", position)
            return fields, len(content) if end < 0 else end, False
        if position > line_end and len(fields) > most_fields:
            return None, line_end, False
        position += 1
    return None, line_end, an_open_field.match(content, position) is not None
