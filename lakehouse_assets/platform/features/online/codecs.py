"""Rows of feature tables and events as bytes, and back, exactly: what the online store keeps.

A value is msgpack: text, whole numbers, floats to the bit, Booleans and null as they are, times as whole numbers. Which columns are times
is said by the kinds of a codec, which are stored with the rows, so that rows are read as they were written.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, Final

import msgspec
import polars as pl

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
DAY: Final = 86_400_000_000
"""Microseconds of a day."""
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 of columns without a time zone
_FIRST_DAY: Final = date(1970, 1, 1).toordinal()
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(list[Any]).decode
_DECODE_ALL: Final = msgspec.msgpack.Decoder(list[list[Any]]).decode
_ARRAY: Final = b"\xdd"
"""With which an array of MessagePack begins; four bytes with its length follow."""
PLAIN: Final = ""


class NotServable(ValueError):
    """A column has a type that the online store does not keep. The message names it."""


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a moment with a time zone."""
    return (moment - EPOCH) // MICROSECOND


def moment(microseconds: int) -> datetime:
    """The moment (UTC) that is so many microseconds after 1970, as near as Python holds it."""
    try:
        return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if microseconds > 0 else datetime.min.replace(tzinfo=UTC)


_ENCODERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "moment": micros,
    "naive": lambda value: (value - _NAIVE_EPOCH) // MICROSECOND,
    "date": lambda value: value.toordinal() - _FIRST_DAY,
    "duration": lambda value: value // MICROSECOND,
    "decimal": str,
}
_DECODERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "moment": moment,
    "naive": lambda value: _NAIVE_EPOCH + timedelta(microseconds=value),
    "date": lambda value: date.fromordinal(value + _FIRST_DAY),
    "duration": lambda value: timedelta(microseconds=value),
    "decimal": Decimal,
}


def kind_of(name: str, dtype: pl.DataType) -> str:
    """How a column is written: `PLAIN` or the name of a way to write times and decimals.

    Raises:
        NotServable: It is of no type that is kept.
    """
    if isinstance(dtype, pl.Datetime):
        return "naive" if dtype.time_zone is None else "moment"
    for type_, kind in ((pl.Date, "date"), (pl.Duration, "duration"), (pl.Decimal, "decimal")):
        if dtype == type_:
            return kind
    if isinstance(dtype, pl.List | pl.Array):
        dtype = dtype.inner  # type: ignore[assignment]
    if dtype.is_integer() or dtype.is_float() or dtype in (pl.String, pl.Boolean, pl.Binary, pl.Null, pl.Categorical, pl.Enum):
        return PLAIN
    raise NotServable(
        f"{name} is {dtype}, which the online store does not keep: leave it out of the contract, or store its parts as columns"
    )


def as_written(column: str, dtype: pl.DataType) -> pl.Expr:
    """A column as plain values of the same meaning that `Codec` gives Python values."""
    kind, value = kind_of(column, dtype), pl.col(column)
    if kind == "date":
        return value.to_physical()
    if kind == "decimal":
        return value.cast(pl.String)
    return value if kind == PLAIN else value.dt.cast_time_unit("us").to_physical()


def encoded(frame: pl.DataFrame, columns: Sequence[str]) -> list[bytes]:
    """The values of some columns, row by row, as a `Codec` of their kinds writes them."""
    return [_ENCODE(row) for row in frame.select(as_written(name, frame.schema[name]) for name in columns).rows()]


def kinds_of(schema: Mapping[str, pl.DataType], columns: Sequence[str]) -> tuple[str, ...]:
    """The kinds of some columns.

    Raises:
        NotServable: One is of no type that is kept.
    """
    return tuple(kind_of(name, schema[name]) for name in columns)


class Codec(msgspec.Struct, frozen=True, dict=True):
    """Writes and reads the values of some columns.

    Attributes:
        kinds: How each column is written, see `kind_of`.
    """

    kinds: tuple[str, ...]

    @cached_property
    def _special(self) -> tuple[tuple[int, str], ...]:
        return tuple((place, kind) for place, kind in enumerate(self.kinds) if kind != PLAIN)

    @cached_property
    def encode(self) -> Callable[[Sequence[Any]], bytes]:
        """Python values as bytes. It raises `TypeError` where a value is not of its column's kind."""
        return self._encode if self._special else _ENCODE

    @cached_property
    def decode(self) -> Callable[[bytes], list[Any]]:
        """Bytes as Python values. It raises `msgspec.DecodeError` where they are damaged."""
        return self._decode if self._special else _DECODE

    def columns(self, written: Sequence[bytes]) -> list[Sequence[Any]]:
        """The values of many rows by column, all read at once.

        Raises:
            msgspec.DecodeError, ValueError: They are damaged.
        """
        if not written:
            return [()] * len(self.kinds)
        rows = _DECODE_ALL(b"".join((_ARRAY, len(written).to_bytes(4, "big"), *written)))
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for place, kind in self._special:
            read = _DECODERS[kind]
            columns[place] = [None if value is None else read(value) for value in columns[place]]
        return columns

    def _encode(self, values: Sequence[Any]) -> bytes:
        plain = list(values)
        for place, kind in self._special:
            if plain[place] is not None:
                plain[place] = _ENCODERS[kind](plain[place])
        return _ENCODE(plain)

    def _decode(self, written: bytes) -> list[Any]:
        values = _DECODE(written)
        for place, kind in self._special:
            if values[place] is not None:
                values[place] = _DECODERS[kind](values[place])
        return values


@lru_cache(maxsize=256)
def codec(kinds: tuple[str, ...]) -> Codec:
    """The codec of some kinds, made once."""
    return Codec(kinds)


def instant(value: Any) -> int | None:
    """A moment, a naive one (UTC) or a date (its beginning) as microseconds since 1970; None for anything else."""
    if isinstance(value, datetime):
        return micros(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return (value.toordinal() - _FIRST_DAY) * DAY
    return None
