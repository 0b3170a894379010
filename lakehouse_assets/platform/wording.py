"""Words of messages: counts with their noun, lists, sizes in bytes, spans of time, and text of data for a terminal.

It knows nothing of tables or files. What a message says belongs to where it is raised.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import timedelta

# Joiners of emoji and of scripts that need them: they change no direction and move no cursor.
_HARMLESS = "\u200c\u200d"
_UNITS = ("B", "kB", "MB", "GB", "TB")
_SPANS = (("second", 60), ("minute", 60), ("hour", 24), ("day", math.inf))
"""Each with how many of it are one of the next."""
_PLAIN = re.compile(r"[\x20-\x7e]*")


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: `1 file`, `2 files`, `1,200 files`.

    Args:
        count: How many.
        noun: For one.
        plural: For any other count; the noun with an s by default.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def size(count: float) -> str:
    """Bytes in the largest unit that says enough."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def span(length: timedelta) -> str:
    """A span of time in the largest unit that it fills, with one decimal at most: `1 day`, `2 minutes`, `1.5 hours`, `30 days`."""
    value = abs(length.total_seconds())
    for unit, most in _SPANS:  # noqa: B007 the one that it stops at is told
        if round(value, 1) < most:
            break
        value /= most
    told = f"{value:,.1f}".removesuffix(".0")
    return f"{'-' if length < timedelta(0) else ''}{told} {unit if told == '1' else unit + 's'}"


def listed(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """The first of some texts, and how many more there are: `a, b and 4 more`."""
    more = len(texts) - most
    return separator.join(texts[:most]) + (f" and {more:,} more" if more > 0 else "")


def slice_in_words(key: str, value: str | None) -> str:
    """Rows by the value of a column: `country=GB`, and of those without a value `country is null`, which no text looks like."""
    return f"{key} is null" if value is None else f"{key}={value}"


def printable(text: object) -> str:
    r"""Text of data as a terminal may be given it: control characters, line breaks and changes of direction are escaped, as in `\x1b`."""
    text = str(text)
    if _PLAIN.fullmatch(text):
        return text
    return "".join(character if _is_printable(character) else _escaped(character) for character in text)


def _is_printable(character: str) -> bool:
    return character.isprintable() or character in _HARMLESS or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
