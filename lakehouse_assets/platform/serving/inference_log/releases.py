"""Records that another release has written: which fields its records had stands at the beginning of each of its segments.

A field that is new is left out, one that is gone gets its default, wherever it stood. How a record stands in a file is in `records`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

Fields = Mapping[str, Sequence[str]]
"""By the tag of a sort of records, the names of its fields in their order."""


class _Said(msgspec.Struct, array_like=True, tag="fields"):
    """What a segment says of its records before the first one."""

    fields: dict[str, list[str]]


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE_SAID: Final = msgspec.msgpack.Decoder(_Said).decode
_DECODE: Final = msgspec.msgpack.Decoder(tuple[str, list[Any]]).decode


def fields_of(kinds: Sequence[type[msgspec.Struct]]) -> Fields:
    """The fields of sorts of records, as this release has them."""
    return {str(kind.__struct_config__.tag): kind.__struct_fields__ for kind in kinds}


def as_payload(fields: Fields) -> bytes:
    """What a segment says of the fields of its records."""
    return _ENCODE(_Said({tag: list(names) for tag, names in fields.items()}))


def from_payload(payload: bytes) -> Fields | None:
    """The fields of records; None if this is something else."""
    try:
        return _DECODE_SAID(payload).fields
    except msgspec.MsgspecError:
        return None


def translated(payload: bytes, fields: Fields, kinds: Sequence[type[msgspec.Struct]]) -> tuple[str, Any]:
    """A record of another release, with its table.

    Args:
        payload: Its values.
        fields: As its segment names them.
        kinds: The records that this release knows.

    Raises:
        ValueError: It cannot be read: of a sort that this release does not know, or without a field that a record needs.
    """
    table, (tag, *values) = _DECODE(payload)
    kind = {str(one.__struct_config__.tag): one for one in kinds}.get(str(tag))
    if kind is None or tag not in fields:
        raise ValueError(f"records of the sort {tag!r} are not known")
    given = dict(zip(fields[tag], values, strict=False))
    for field in msgspec.structs.fields(kind):
        if field.name not in given:
            if field.required:
                raise ValueError(f"there is no {field.name}")
            given[field.name] = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return table, msgspec.convert([tag, *(given[name] for name in kind.__struct_fields__)], kind)
