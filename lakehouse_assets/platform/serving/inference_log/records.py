"""What the spool holds: a prediction that was answered, or a label that came back, and how either stands in a file as bytes.

A record in a file is a frame: the marker of its segment, its length, its checksum, and its values in MessagePack. A frame that was written
in part, or damaged, is recognised and passed over; the frames after it are read. Where files lie and when they are closed is in `spool`.
"""

import struct
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any, Final
from zlib import crc32

import msgspec

MARKER_BYTES: Final = 8
_FRAME = struct.Struct(f"<{MARKER_BYTES}sII")
_LONGEST = 256 * 1024 * 1024
_LARGEST_INTEGER, _SMALLEST_INTEGER = 2**64 - 1, -(2**63)


class InferenceRecord(msgspec.Struct, array_like=True, tag="inference", kw_only=True):
    """One row of a request, and what was answered. `request_id`, `row` and `variant` tell records apart.

    Fields may be added at the end, with a default: a spool of an earlier release is read by this one.

    Attributes:
        request_id: Of the request.
        row: Number of the row in the request, from 0.
        endpoint: The endpoint's name.
        received_at: When the request came, with time zone.
        event_time: Of the row, with time zone; None if it has none.
        key: Values of the key of the row, by column.
        model_name: Of the registered model.
        model_version: Its version; None where no model answered.
        variant: `champion`, `challenger` or `shadow`.
        features: What the model was given, by name.
        prediction: What was answered, or in the shadow would have been, by column.
        status: Of each feature set: `ok`, `missing`, `expired` or `unavailable`, and what else is known of it, as values of JSON.
        requester: Name of the token, or of who asked.
        seconds: How long each part of the answer took.
        status_code: Of the HTTP answer.
        error: What went wrong; None if nothing.
        request: The row as it was sent, by field.
        form: What was sent: `rows` (events), `features` (full rows of them) or `keys`; empty of a request that was refused.
    """

    request_id: str
    row: int
    endpoint: str
    received_at: datetime
    event_time: datetime | None = None
    key: dict[str, Any] = {}
    model_name: str = ""
    model_version: int | None = None
    variant: str = "champion"
    features: dict[str, Any] = {}
    prediction: dict[str, Any] = {}
    status: dict[str, Any] = {}
    requester: str = ""
    seconds: dict[str, float] = {}
    status_code: int = 200
    error: str | None = None
    request: dict[str, Any] = {}
    form: str = ""


class FeedbackRecord(msgspec.Struct, array_like=True, tag="feedback", kw_only=True):
    """What became of something that was predicted: a label, for one row of a request or for a key.

    Attributes:
        endpoint: The endpoint's name.
        received_at: When it came, with time zone.
        label: The true value or values, by column.
        known_at: Since when this was known, with time zone.
        request_id: Of the request; None if the label is for a key.
        row: Number of the row in the request.
        key: Values of the key, by column; empty if the label is for a request.
        requester: Who sent it.
    """

    endpoint: str
    received_at: datetime
    label: dict[str, Any]
    known_at: datetime
    request_id: str | None = None
    row: int | None = None
    key: dict[str, Any] = {}
    requester: str = ""


Record = InferenceRecord | FeedbackRecord


class _Entry(msgspec.Struct, array_like=True):
    """A record with the table that it belongs to, so that a spool can be read without any declaration."""

    table: str
    record: InferenceRecord | FeedbackRecord


def _scalar(value: Any) -> Any:
    """A value of NumPy as Python has it; anything else as text."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_scalar)
_DECODER = msgspec.msgpack.Decoder(_Entry)


def frames(marker: bytes, entries: Sequence[tuple[str, Record]]) -> list[bytes]:
    """Each record, with its table, as it stands in a segment with this marker. A value that MessagePack cannot hold becomes text."""
    found = []
    for table, record in entries:
        payload = _encoded(_Entry(table, record))
        found.append(_FRAME.pack(marker, len(payload), crc32(payload)) + payload)
    return found


def remarked(marker: bytes, frame: bytes) -> bytes:
    """A frame of one segment for another one."""
    return marker + frame[MARKER_BYTES:]


def read(marker: bytes, content: bytes) -> Iterator[tuple[str, Record]]:
    """The whole records of a segment, in their order. What is torn or damaged is passed over."""
    at = 0
    while (at := content.find(marker, at)) >= 0:
        payload = _payload(content, at)
        entry = None if payload is None else _decoded(payload)
        if entry is None or payload is None:
            at += 1
            continue
        yield entry.table, entry.record
        at += _FRAME.size + len(payload)


def _payload(content: bytes, at: int) -> bytes | None:
    """The values of the frame that begins at a place; None if it is not whole."""
    if len(content) - at < _FRAME.size:
        return None
    _, length, checksum = _FRAME.unpack_from(content, at)
    start = at + _FRAME.size
    if not 0 < length <= min(_LONGEST, len(content) - start):
        return None
    payload = content[start : start + length]
    return payload if crc32(payload) == checksum else None


def _encoded(entry: _Entry) -> bytes:
    try:
        return _ENCODER.encode(entry)
    except Exception:  # noqa: BLE001 a value of any type may be in a record, and no answer fails for that
        return _ENCODER.encode(_Entry(entry.table, _plain(entry.record)))


def _decoded(payload: bytes) -> _Entry | None:
    try:
        return _DECODER.decode(payload)
    except msgspec.MsgspecError:
        return None  # of a release that knew other records


def _plain(record: Record) -> Record:
    """A record whose values MessagePack holds: integers beyond 64 bits, keys that are no text, and all else become text."""
    changed = {name: _plain_value(getattr(record, name)) for name in record.__struct_fields__}
    return msgspec.structs.replace(record, **changed)


def _plain_value(value: Any, depth: int = 0) -> Any:
    if isinstance(value, dict) and depth < 50:
        return {str(key): _plain_value(member, depth + 1) for key, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < 50:
        return [_plain_value(member, depth + 1) for member in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if _SMALLEST_INTEGER <= value <= _LARGEST_INTEGER else str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | float | bytes | datetime | date):
        return value
    scalar = _scalar(value)
    return scalar if isinstance(scalar, int | float) else str(scalar)
