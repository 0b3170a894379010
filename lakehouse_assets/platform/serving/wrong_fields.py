"""What is wrong with rows that cannot be read, field by field, in words with an example. Only rows that were refused come here.

A decoder stops at the first wrong value; a client wants to hear of all. How rows are read is in `rows`.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec
import polars as pl

from lakehouse_assets.platform.declarations.base import nearest
from lakehouse_assets.platform.serving.refused import FieldError
from lakehouse_assets.platform.serving.whole_numbers import as_float, whole

_MOST: Final = 20
_ROWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LONGEST: Final = 100
_NAMED: Final[Mapping[Any, str]] = {
    pl.Datetime: "no moment",
    pl.Date: "no date",
    pl.Boolean: "neither true nor false",
    pl.Enum: "none of the values that there are",
    pl.List: "no such list",
}


def wrong(
    content: bytes | msgspec.Raw, columns: Mapping[str, pl.DataType], optional: Collection[str], kinds: Mapping[str, Any], what: str
) -> list[FieldError]:
    """What is wrong, at most the first twenty things; empty if nothing is found.

    Args:
        content: A JSON array.
        columns: Types of the fields.
        optional: Fields that may be null or left out.
        kinds: The Python type of each field, by which it is read.
        what: A row is, for messages.
    """
    try:
        rows = _ROWS.decode(content)
    except msgspec.MsgspecError:
        return [FieldError("send a list of rows, each a JSON object")]
    found: list[FieldError] = []
    for number, raw in enumerate(rows):
        try:
            given = _FIELDS.decode(raw)
        except msgspec.MsgspecError:
            found.append(FieldError("a row is a JSON object with a value by field", None, number))
            continue
        for name in (name for name in given if name not in columns):
            known = f"there are {', '.join(columns)}"
            found.append(FieldError(f"{what} has no field {name[:_LONGEST]!r}: {known}.{nearest(name, columns)}", name[:_LONGEST], number))
        for name, dtype in columns.items():
            if (text := _wrong(given.get(name), dtype, kinds[name], what, optional=name in optional)) is not None:
                found.append(FieldError(text, name, number))
        if len(found) >= _MOST:
            break
    return found[:_MOST]


def _wrong(raw: msgspec.Raw | None, dtype: pl.DataType, kind: Any, what: str, *, optional: bool) -> str | None:
    """What is wrong with a value; None: nothing."""
    if raw is None:
        return None if optional else f"it is missing, and {what} needs it: {_how(dtype)}"
    number = as_float(raw) if dtype.is_integer() else None
    if number is not None:
        found = whole(number)
        if found is None:
            return f"it is {'too large to be exact as a float' if number.is_integer() else 'not whole'}: {_how(dtype)}"
        raw = msgspec.Raw(b"%d" % found)
    try:
        msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, RecursionError):
        if bytes(raw).strip() == b"null":
            return f"it is null, and {what} needs a value: {_how(dtype)}"
        if dtype.is_integer() and _is_integer(raw):
            return f"it is too large or too small for this column: {_how(dtype)}, {_range(dtype)}"
        return f"it is {_article(dtype)}: {_how(dtype)}"
    return None


def _is_integer(raw: msgspec.Raw) -> bool:
    return bytes(raw).strip().removeprefix(b"-").isdigit()


def _article(dtype: pl.DataType) -> str:
    if (named := _NAMED.get(dtype.base_type())) is not None:
        return named
    if dtype.is_integer():
        return "no whole number"
    return "no number" if dtype.is_numeric() else "no text"


def _how(dtype: pl.DataType) -> str:  # noqa: PLR0911 one for each sort of type
    """How a value of a type is written, with an example."""
    if isinstance(dtype, pl.Datetime):
        zone = dtype.time_zone is not None
        example = '"2024-01-02T10:05:12Z"' if zone else '"2024-01-02T10:05:12"'
        return f"write it as {example}, {'with' if zone else 'without'} a time zone"
    if dtype == pl.Date:
        return 'write it as "2024-01-02"'
    if dtype == pl.Boolean:
        return "write true or false, without quotes"
    if isinstance(dtype, pl.Enum):
        shown = ", ".join(f'"{one}"' for one in dtype.categories.head(_MOST))
        return f"write one of {shown}{', …' if len(dtype.categories) > _MOST else ''}"
    if isinstance(dtype, pl.List):
        inner = dtype.inner
        return f"write a list in brackets; of each value: {_how(inner() if isinstance(inner, type) else inner)}"
    if dtype.is_integer():
        return "write it as 12, without quotes and decimals"
    if dtype == pl.Decimal:
        return 'write it as "12.50"'
    return "write it as 12.5, without quotes" if dtype.is_numeric() else 'write it in quotes, as "abc"'


def _range(dtype: pl.DataType) -> str:
    sort = str(dtype)  # as Int8 or UInt32
    bits, signed = int(sort.removeprefix("U").removeprefix("Int")), not sort.startswith("U")
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return f"from {least} to {most}"
