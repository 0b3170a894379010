"""How texts are read as days or moments: the formats that fit, and whether day or month comes first.

A format is tried by the platform's own readers, after a pattern: `%Y` would take `24` for the year 24.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import polars as pl

from lakehouse_assets.platform.quality.conform import day, timestamp
from lakehouse_assets.platform.quality.readers import Reader

_PATTERNS = {
    "%Y": "[0-9]{4}",
    "%y": "[0-9]{2}",
    "%m": "[0-9]{1,2}",
    "%d": "[0-9]{1,2}",
    "%b": "[A-Za-z]{3}",
    "%B": "[A-Za-z]{4,}",
    "%H": "[0-9]{1,2}",
    "%I": "[0-9]{1,2}",
    "%M": "[0-9]{2}",
    "%S": "[0-9]{2}",
    "%p": "[AaPp][Mm]",
    "%.f": r"(\.[0-9]+)?",
    "%:z": "[+-][0-9]{2}:[0-9]{2}",
    "%z": "[+-][0-9]{4}",
}
_DAYS = (
    *("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%b %d, %Y", "%B %d, %Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y"),
)
_TIMES = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
_OFFSETS = ("", "Z", "%:z", "%z")
_MOMENTS = tuple(
    f"{days}{between}{time}{offset}"
    for days, between, time, offset in product(_DAYS, (" ", "T"), _TIMES, _OFFSETS)
    # Only ISO 8601 has a T or an offset.
    if days == "%Y-%m-%d" or (between == " " and not offset)
)
_COMPACT = "%Y%m%d"
# Two numbers with something between them, or eight digits: what has neither is tried with no format.
_MAY_BE_ONE = re.compile(r"[0-9][./, -].*[0-9]|^[0-9]{8}$")
_TRIED_FIRST = 200
_MOST_FORMATS = 4
_ENOUGH = 0.98


@dataclass(frozen=True)
class Dates:
    """How a column is read as dates.

    Attributes:
        reader: `day` or `timestamp`.
        formats: In the order in which they are tried.
        read: How many values they read.
        order: Whether the day or the month comes first and what says so, with a colon between; None if there is no such question.
        is_doubtful: Whether nothing in the values decides that.
        decided_at: The position of a value that decides it.
    """

    reader: str
    formats: tuple[str, ...]
    read: int
    order: str | None = None
    is_doubtful: bool = False
    decided_at: int | None = None

    def conformed(self) -> Reader:
        """The reader, of a column that is called `value`."""
        return (day if self.reader == "day" else timestamp)("value", formats=self.formats)


def dates_in(texts: pl.Series, *, compact: bool = False) -> Dates | None:
    """How texts are read as dates; None if most are none.

    Args:
        texts: Without blanks around them, none empty.
        compact: Whether `20240131` may be a day.
    """
    first = [text for text in texts.head(_TRIED_FIRST) if _MAY_BE_ONE.search(text)]
    for reader, formats in (("day", (*_DAYS, _COMPACT) if compact else _DAYS), ("timestamp", _MOMENTS)):
        fitting = [name for name in formats if any(map(re.compile(_pattern(name)).match, first))]
        if fitting:
            found = _chosen(texts, reader, fitting)
            if found is not None and found.read * 2 > texts.len():
                return found
    return None


def as_texts(moments: pl.Series, pattern: str) -> pl.Series:
    """Dates or moments written in a format."""
    return moments.dt.strftime(pattern.replace("%.f", ""))


def _chosen(texts: pl.Series, reader: str, formats: list[str]) -> Dates | None:
    """The formats that together read the most, the best one first."""
    read = {name: _read(texts, reader, name) for name in formats}
    chosen: list[str] = []
    rest = pl.repeat(value=True, n=texts.len(), dtype=pl.Boolean, eager=True)
    while formats and len(chosen) < _MOST_FORMATS and rest.sum() > (1 - _ENOUGH) * texts.len() * bool(chosen):
        best = max(formats, key=lambda name: int((read[name] & rest).sum()))
        if not (read[best] & rest).any():
            break
        chosen.append(best)
        rest &= ~read[best]
        # A column has one order of day and month: what the other order would add are mistakes.
        formats = [name for name in formats if name not in {best, _swapped(best)}]
    if not chosen:
        return None
    count = texts.len() - int(rest.sum())
    first, other = chosen[0], _swapped(chosen[0])
    if other == first or other not in read:
        return Dates(reader, tuple(chosen), count)
    by_other = int(read[other].sum())
    decides = (read[first] & ~read[other]).arg_true()
    order = "day first" if _is_day_first(first) else "month first"
    if decides.is_empty():
        return Dates(reader, tuple(chosen), count, f"{order} is assumed: each value can be read either way", is_doubtful=True)
    contrary = int((read[other] & ~read[first]).sum())
    against = f"; {contrary:,} only fit the other order and are not read" if contrary else ""
    text = f"{by_other:,} of {texts.len():,} values can be read either way{against}"
    return Dates(reader, tuple(chosen), count, f"{order}: {text}", is_doubtful=bool(contrary), decided_at=int(decides[0]))


def _read(texts: pl.Series, reader: str, pattern: str) -> pl.Series:
    """Which texts a format reads."""
    fits = texts.str.contains(_pattern(pattern))
    if not fits.any():
        return fits
    tried = texts.set(~fits, None).alias("value").to_frame()
    return tried.select(Dates(reader, (pattern,), 0).conformed().read(pl.col("value"))).to_series().is_not_null()


@cache
def _pattern(pattern: str) -> str:
    return "^" + "".join(_PATTERNS.get(part, re.escape(part)) for part in _parts(pattern)) + "$"


def _parts(pattern: str) -> Iterator[str]:
    yield from re.findall(r"%[.:]?[A-Za-z]|[^%]", pattern)


def _is_day_first(pattern: str) -> bool:
    return pattern.find("%d") < pattern.find("%m")


def _swapped(pattern: str) -> str:
    """The same format with day and month changed; itself where they are told apart by letters, or the year comes first."""
    if pattern.startswith("%Y") or "%m" not in pattern:
        return pattern
    return pattern.replace("%d", "%#").replace("%m", "%d").replace("%#", "%m")
