"""Readers of moments and days, in the formats that are declared. What readers have in common is in `readers`.

Whether the day or the month comes first is decided for a file, not for a row: `3/1/2011` alone does not say. If both orders are declared,
the rows of a file that only one of them reads decide; without such rows, or with rows of both, the others of the file are not believed. If
one order is declared, and a file has rows that only the other one reads, its rows that both read are not believed either.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from lakehouse_assets.platform.far_times import is_within, within_years
from lakehouse_assets.platform.quality.readers import Lenient, Reader, Settled

Ambiguous = Literal["reject", "earliest", "latest"]

_MICROSECONDS = 1_000_000
_NAIVE, _UTC = pl.Datetime("us"), pl.Datetime("us", "UTC")
# Days from 1970 back to day 0 of the calendar; spreadsheets of 1900 count a 29 February 1900 that never was.
_EXCEL = {"excel-1900": 25_569, "excel-1904": 24_107}
_UNREAL_DAY = 60
_UNIX = {"unix-s": _MICROSECONDS, "unix-ms": 1_000, "unix-us": 1}
COUNTED = (*_EXCEL, *_UNIX)
"""Formats that are counted from a day on, instead of being spelled."""
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # seconds: the years 1 to 9999
_DAY = 86_400
_COMMON = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y%m%d", "%d.%m.%Y")
_RARER = ("%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y")
_WITH_OFFSET = ("%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%z")
_YEAR_OF_FOUR_DIGITS = r"(^|[^0-9])[0-9]{4}([^0-9]|$)|[0-9]{8}"
_EARLY = 1_000


@dataclass(frozen=True)
class Moment(Lenient):
    """Moments as `Datetime("us", "UTC")`, in the years 1 to 9999 of UTC; others are none.

    Attributes:
        formats: In Polars' notation, or one of `COUNTED`; the first that fits the whole text counts.
        time_zone: Of texts without an offset from UTC.
        ambiguous: What an hour is that a zone has twice when clocks go back: not read, the first or the second one.
    """

    formats: tuple[str, ...]
    time_zone: str = "UTC"
    ambiguous: Ambiguous = "reject"

    @property
    def word(self) -> str:
        """See `Reader.word`."""
        return "timestamp"

    @property
    def decides_by_file(self) -> bool:
        """See `Reader.decides_by_file`."""
        return any(_swapped(pattern) in self.formats for pattern in self._ordered)

    @property
    def _ordered(self) -> list[str]:
        """The formats in which day and month can be mistaken for each other."""
        return [pattern for pattern in self.formats if _day_comes_first(pattern) is not None]

    @property
    def _marks(self) -> list[str]:
        """What stands between day and month; nothing can be mistaken in texts without it."""
        between = [re.split("%d|%m", pattern)[1] for pattern in self._ordered]
        return sorted({mark for mark in between if mark and "%" not in mark} or set("0123456789"))

    def read(self, given: pl.Expr) -> pl.Expr:
        """See `Reader.read`."""
        return given.map_batches(self._by_first_format, return_dtype=self._dtype, is_elementwise=True)

    @property
    def _dtype(self) -> pl.DataType:
        return _UTC

    def _by_first_format(self, texts: pl.Series) -> pl.Series:
        value = within_years(self._by_format(texts, self.formats[0]))
        for pattern in self.formats[1:]:
            rest = (value.is_null() & texts.is_not_null()).arg_true()
            if not rest.len():
                break
            # Only what no format before could read is tried again.
            value = value.scatter(rest, within_years(self._by_format(texts.gather(rest), pattern)))
        return value

    def _by_format(self, texts: pl.Series, pattern: str) -> pl.Series:
        """Values of the reader's type."""
        value = _counted(texts, pattern) if pattern in COUNTED else _spelled(texts, pattern)
        if value.dtype == _UTC:
            return value
        if self.time_zone == "UTC" or pattern in _UNIX:
            return value.dt.replace_time_zone("UTC")
        ambiguous: Literal["null", "earliest", "latest"] = "null" if self.ambiguous == "reject" else self.ambiguous
        local = value.dt.replace_time_zone(self.time_zone, ambiguous=ambiguous, non_existent="null")
        return local.dt.convert_time_zone("UTC")

    def settle(self, texts: pl.Series, values: pl.Series, failed: pl.Series, files: pl.Series) -> Settled:
        """See `Reader.settle`."""
        if not texts.str.contains_any(self._marks).any():
            return Settled(values)
        either = tuple(pattern for pattern in self._ordered if _day_comes_first(pattern) and _swapped(pattern) in self.formats)
        settled = Settled(values)
        if either:
            settled = self._decided(_Orders.of(self, either, texts, values, files))
        alone = [pattern for pattern in self._ordered if _swapped(pattern) not in self.formats]
        for order in (True, False):
            formats = tuple(pattern for pattern in alone if _day_comes_first(pattern) is order)
            if formats and failed.any():
                # Both at once are rare, and then the values are not believed for either reason.
                other = self._contradicted(_Orders.of(self, formats, texts, settled.values, files))
                settled = settled if other.doubted is None or not other.doubted.any() else other.also(settled.doubted)
        return settled

    def _decided(self, orders: "_Orders") -> Settled:
        """Both orders are declared: a file is read in the one that all its rows allow and some demand."""
        first, second = pl.col("first"), pl.col("second")
        values = orders.chosen(pl.when(first & ~second).then("as_declared").when(second & ~first).then("as_swapped"))
        why = "its file does not say whether the day or the month comes first: declare one of the formats alone"
        return Settled(values.to_series(0), values.to_series(1), why)

    def _contradicted(self, orders: "_Orders") -> Settled:
        """One order is declared: a file that has rows which only the other one reads contradicts it."""
        values = orders.chosen(pl.when(~pl.col("second")).then("value"))
        why = (
            f"other dates of its file are read by {_swapped(orders.formats[0])!r} alone: add that to formats in "
            f"{self.word}({self.sources[0]!r})"
        )
        return Settled(values.to_series(0), values.to_series(1), why)

    def alternatives(self) -> Mapping[str, Reader]:
        """See `Reader.alternatives`."""
        spelled = [pattern for pattern in self.formats if pattern not in COUNTED]
        swapped = [_swapped(pattern) for pattern in self._ordered]
        short = [pattern.replace("%Y", "%y") for pattern in [*spelled, *swapped] if "%Y" in pattern]
        offsets = [*(pattern + "%z" for pattern in spelled if "%z" not in pattern and "%H" in pattern), *_WITH_OFFSET]
        others = dict.fromkeys([*swapped, *short, *_COMMON, *offsets, *_RARER, "excel-1900", "unix-s", "unix-ms"])
        found: dict[str, Reader] = {}
        if self.time_zone != "UTC" and self.ambiguous == "reject":
            found["ambiguous='earliest' or 'latest'"] = replace(self, ambiguous="earliest")
        more = {f"formats=(…, {pattern!r})": replace(self, formats=(pattern,)) for pattern in others if pattern not in self.formats}
        return found | more

    def hints(self, texts: pl.Series) -> pl.Series:
        """See `Reader.hints`."""
        if self.time_zone == "UTC":
            return super().hints(texts)
        found, alone = super().hints(texts), replace(self, time_zone="UTC").values(texts)
        skipped = found.is_null() & alone.is_not_null()
        found = found.scatter(skipped.arg_true(), f"clocks in {self.time_zone} went forward over this hour: fix the source")
        # No clock went forward within a day of either end of the calendar.
        at_an_end = skipped & ~(is_within(alone.dt.offset_by("-1d")) & is_within(alone.dt.offset_by("1d")))
        return found.scatter(at_an_end.arg_true(), "in UTC it is outside of the years 1 to 9999: fix the source, or name it in nulls=…")


@dataclass(frozen=True)
class _Orders:
    """What texts come to in some formats, and with day and month the other way round.

    Attributes:
        formats: The formats.
        rows: Of each text `value`, `as_declared` and `as_swapped`, and whether its file has texts that only the `first` or only the
            `second` way reads.
    """

    formats: tuple[str, ...]
    rows: pl.DataFrame

    @classmethod
    def of(cls, reader: Moment, formats: tuple[str, ...], texts: pl.Series, values: pl.Series, files: pl.Series) -> "_Orders":
        declared = replace(reader, formats=formats).values(texts)
        swapped = replace(reader, formats=tuple(map(_swapped, formats))).values(texts)
        rows = pl.DataFrame({"file": files, "value": values, "as_declared": declared, "as_swapped": swapped})
        first, second = pl.col("as_declared").is_not_null(), pl.col("as_swapped").is_not_null()
        found = rows.group_by("file").agg(first=(first & ~second).any(), second=(second & ~first).any())
        return cls(formats, rows.join(found, on="file", how="left", nulls_equal=True, maintain_order="left"))

    def chosen(self, believed: pl.Expr) -> pl.DataFrame:
        """The values, of texts that both ways read as `believed` says, and whether they are doubted: where it says nothing."""
        both = (pl.col("as_declared") != pl.col("as_swapped")).fill_null(value=False)
        value = pl.when(both).then(believed).otherwise("value")
        return self.rows.select(value.alias("value"), doubted=both & believed.is_null())


@dataclass(frozen=True)
class Day(Moment):
    """Days as `Date`."""

    @property
    def word(self) -> str:
        """See `Reader.word`."""
        return "day"

    @property
    def _dtype(self) -> pl.DataType:
        return pl.Date()

    def _by_format(self, texts: pl.Series, pattern: str) -> pl.Series:
        value = _counted(texts, pattern) if pattern in COUNTED else _spelled(texts, pattern)
        return value.dt.date()


def _day_comes_first(pattern: str) -> bool | None:
    """Whether the day is before the month; None where they cannot be mistaken for each other."""
    day, month, year = pattern.find("%d"), pattern.find("%m"), max(pattern.find("%Y"), pattern.find("%y"))
    return None if min(day, month) < 0 or 0 <= year < max(day, month) else day < month


def _swapped(pattern: str) -> str:
    return pattern.replace("%d", "\0").replace("%m", "%d").replace("\0", "%m")


def _spelled(texts: pl.Series, pattern: str) -> pl.Series:
    """Moments as a pattern spells them: in UTC if it has an offset, else without a zone."""
    value = _strictly_spelled(texts, pattern)
    rest = (value.is_null() & texts.is_not_null()).arg_true()
    if not rest.len() or "%H" not in pattern:
        return value
    failed = texts.gather(rest)
    midnight = failed.str.contains("24:00", literal=True) & failed.str.contains(r"[ T]24:00(:00(\.0+)?)?([^0-9:.]|$)")
    if midnight.any():  # the end of a day is the start of the next
        started = _strictly_spelled(failed.filter(midnight).str.replace("24:00", "00:00", literal=True), pattern)
        value = value.scatter(rest.filter(midnight), started.dt.offset_by("1d"))
    zulu = failed.str.ends_with("Z")
    if value.dtype == _UTC and zulu.any():
        offset = _strictly_spelled(failed.filter(zulu).str.replace("Z$", "+0000"), pattern.replace("%:z", "%z"))
        value = value.scatter(rest.filter(zulu), offset)
    return value


def _strictly_spelled(texts: pl.Series, pattern: str) -> pl.Series:
    value = within_years(texts.str.to_datetime(pattern, time_unit="us", strict=False))
    if "%Y" in pattern and (value.dt.year() < _EARLY).any():  # `%Y` also takes `11` for the year 11
        early = (value.dt.year() < _EARLY).fill_null(value=False) & ~texts.str.contains(_YEAR_OF_FOUR_DIGITS)
        value = value.zip_with(~early, value.clear(value.len()))
    return value


def _counted(texts: pl.Series, pattern: str) -> pl.Series:
    """Moments without a zone that are counted from a day on."""
    number = pl.when(pl.col("text").str.contains(r"^-?[0-9]{1,18}(\.[0-9]*)?$")).then("text")
    rows = texts.alias("text").to_frame()
    if pattern in _UNIX:
        ticks = (number.cast(pl.Decimal(38, 6), strict=False) * _UNIX[pattern]).cast(pl.Decimal(38, 0)).cast(pl.Int64, strict=False)
    else:
        days = number.cast(pl.Float64, strict=False)
        first = 0 if pattern == "excel-1904" else 1
        real = (days >= first) & (days < _LAST / _DAY + _EXCEL[pattern] + 1)
        if pattern == "excel-1900":
            real &= (days < _UNREAL_DAY) | (days >= _UNREAL_DAY + 1)
            days = pl.when(days < _UNREAL_DAY).then(days + 1).otherwise(days)
        # A spreadsheet keeps a time as a fraction of a day: milliseconds are all that it knows for certain.
        milliseconds = ((days - _EXCEL[pattern]) * _DAY * 1_000).round().cast(pl.Int64, strict=False)
        ticks = pl.when(real).then(milliseconds * 1_000)
    in_range = ticks.is_between(_FIRST * _MICROSECONDS, (_LAST + 1) * _MICROSECONDS - 1)
    return rows.select(pl.when(in_range).then(ticks).cast(_NAIVE)).to_series()


def check_formats(reader: str, formats: Sequence[str]) -> None:
    """Refuse what can be no list of formats.

    Raises:
        ValueError: With the remedy.
    """
    if isinstance(formats, str) or not formats:
        raise ValueError(f"{reader}: formats={formats!r}: write a tuple, as in formats=('%Y-%m-%d',)")
    for pattern in formats:
        if "%" not in pattern and pattern not in COUNTED:
            raise ValueError(f"{reader}: the format {pattern!r} reads nothing: write one as '%Y-%m-%d', or one of {', '.join(COUNTED)}")
