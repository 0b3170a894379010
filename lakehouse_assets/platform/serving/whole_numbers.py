"""Whole numbers that are written as floats, as clients do whose columns have nulls: 12.0 is 12.

Beyond 2^53 a float is not exact: it is refused.
"""

from collections.abc import Collection
from typing import Final

import msgspec

LARGEST: Final = 2.0**53
_ROWS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_FLOAT: Final = msgspec.json.Decoder(float)


def whole(value: float) -> int | None:
    """A float as the whole number that it is; None: it is none, or may not be exact."""
    return int(value) if abs(value) <= LARGEST and value.is_integer() else None


def as_float(raw: msgspec.Raw | bytes) -> float | None:
    """A number in JSON that is written with a point or an exponent; None: it is something else."""
    text = bytes(raw).strip()
    if text[:1] not in b"-0123456789" or not (b"." in text or b"e" in text or b"E" in text):
        return None
    try:
        return _FLOAT.decode(text)
    except msgspec.MsgspecError:
        return None


def with_whole_numbers(content: bytes | msgspec.Raw, names: Collection[str]) -> bytes | None:
    """Rows whose whole floats in some fields are whole numbers; None if there are none, or no rows.

    Args:
        content: A JSON array of objects.
        names: The fields.
    """
    try:
        rows = _ROWS.decode(content)
    except (msgspec.MsgspecError, RecursionError):
        return None
    changed = False
    for row in rows:
        for name in names:
            number = as_float(row[name]) if name in row else None
            if number is not None and (found := whole(number)) is not None:
                row[name] = msgspec.Raw(b"%d" % found)
                changed = True
    return msgspec.json.encode(rows) if changed else None
