"""What the spool holds: a prediction that was answered, or a label that came back, and how either stands in a file as bytes.

A record in a file is a frame: the marker of its segment, its length, its checksum, and its values in MessagePack. A frame that was written
in part, or damaged, is recognised and passed over; the frames after it are read. Where files lie is in `places`.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final
from zlib import crc32

import msgspec

from lakehouse_assets.platform.serving.inference_log import releases

MARKER_BYTES: Final = 8
_FRAME = struct.Struct(f"<{MARKER_BYTES}sII")
_LONGEST = 256 * 1024 * 1024
_LARGEST_INTEGER, _SMALLEST_INTEGER = 2**64 - 1, -(2**63)


class InferenceRecord(msgspec.Struct, array_like=True, tag="inference", kw_only=True):
    """One row of a request, and what was answered. `request_id`, `row` and `variant` tell records apart.

    Fields may come and go: a segment names those of its release (`releases`), and one that is missing gets its default.

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
        form: What was sent: `rows` (events), `dry_run` (events that count in no window), `features` (full rows of them) or `keys`; empty of
            a request that was refused.
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

    @property
    def count(self) -> int:
        """How many rows of the table it becomes."""
        return 1


class InferenceRows(msgspec.Struct, array_like=True, tag="rows", kw_only=True):
    """Rows of one request that one version has scored: the same as an `InferenceRecord` for each, with what they share kept once.

    Fields may come and go: a segment names those of its release (`releases`), and one that is missing gets its default.

    Attributes:
        request_id: Of the request.
        rows: Number of each row in the request; what follows in lists is of each of these.
        endpoint: The endpoint's name.
        received_at: When the request came, with time zone.
        event_times: Each with time zone; None if the row has none.
        key: Which of the features are the key.
        unsent: Of those that came without all that tells them apart, by their place here, the columns that they lack.
        model_name: Of the registered model.
        model_version: Its version.
        variant: See `InferenceRecord`.
        features: Names, and the values of each row.
        predictions: By column.
        status: By feature set.
        stamps: By feature set, of the row that was used its event time and known-at, in microseconds since 1970, and its version; or None.
        requester: Name of the token, or of who asked.
        seconds: How long each part of the answer took.
        requests: Names of the fields that were sent, and the values of each row.
        form: See `InferenceRecord`.
        tables: By feature set, what the online store had it from, as `table@version`.
        synced: By feature set, until when it knew that table, with time zone; None: not yet.
    """

    request_id: str
    rows: list[int]
    endpoint: str
    received_at: datetime
    event_times: list[datetime | None]
    key: list[str]
    unsent: list[tuple[int, list[str]]]
    model_name: str
    model_version: int
    variant: str
    features: tuple[list[str], list[Any]]
    predictions: list[dict[str, Any]]
    status: dict[str, list[str]]
    stamps: dict[str, list[Any]]
    requester: str
    seconds: dict[str, float]
    requests: tuple[list[str], list[Any]]
    form: str = ""
    tables: dict[str, str] = {}
    synced: dict[str, datetime | None] = {}

    @property
    def count(self) -> int:
        """How many rows of the table it becomes."""
        return len(self.rows)


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

    @property
    def count(self) -> int:
        """How many rows of the table it becomes."""
        return 1


Record = InferenceRecord | InferenceRows | FeedbackRecord


def record_id(record: Record) -> str:
    """What tells a record apart from others of its segment, as a part of a file name."""
    return hashlib.sha256(_ENCODER.encode(record)).hexdigest()[:16]


class _Entry(msgspec.Struct, array_like=True):
    """A record with the table that it belongs to, so that a spool can be read without any declaration."""

    table: str
    record: InferenceRecord | InferenceRows | FeedbackRecord


def _scalar(value: Any) -> Any:
    """A value of NumPy as Python has it; anything else as text."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_scalar)
_DECODER = msgspec.msgpack.Decoder(_Entry)
_KINDS: Final = (InferenceRecord, InferenceRows, FeedbackRecord)
_FIELDS: Final = {tag: list(names) for tag, names in releases.fields_of(_KINDS).items()}


def frames(marker: bytes, entries: Sequence[tuple[str, Record]]) -> list[bytes]:
    """Each record, with its table, as it stands in a segment with this marker. A value that MessagePack cannot hold becomes text."""
    found = []
    for table, record in entries:
        found.append(_framed(marker, _encoded(_Entry(table, record))))
    return found


def fields_frame(marker: bytes) -> bytes:
    """What stands at the beginning of a segment: which fields its records have."""
    return _framed(marker, releases.as_payload(_FIELDS))


def _framed(marker: bytes, payload: bytes) -> bytes:
    return _FRAME.pack(marker, len(payload), crc32(payload)) + payload


def remarked(marker: bytes, frame: bytes) -> bytes:
    """A frame of one segment for another one."""
    return marker + frame[MARKER_BYTES:]


@dataclass
class Unreadable:
    """What cannot be read of a segment, as it stands there.

    Attributes:
        fields: The frame that names the fields of its records.
        frames: Frames of a release that this one does not understand, and damaged ones.
    """

    fields: bytes = b""
    frames: list[bytes] = field(default_factory=list)


def read(marker: bytes, content: bytes, unreadable: Unreadable | None = None) -> Iterator[tuple[str, Record]]:
    """The records of a segment, in their order. What was written in part at its end is passed over: nobody was told of it.

    Args:
        marker: Of the segment.
        content: Its frames.
        unreadable: Is given what cannot be read.
    """
    kept = Unreadable() if unreadable is None else unreadable
    at = 0
    fields: releases.Fields | None = None
    while (at := content.find(marker, at)) >= 0:
        payload = _payload(content, at)
        if payload is None:
            following = content.find(marker, at + 1)
            if following >= 0:
                kept.frames.append(content[at:following])
            at += 1
            continue
        end = at + _FRAME.size + len(payload)
        if (entry := _decoded(payload, fields)) is not None:
            yield entry
        elif (said := releases.from_payload(payload)) is not None:
            fields, kept.fields = said, content[at:end]
        else:
            kept.frames.append(content[at:end])
        at = end


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


def _decoded(payload: bytes, fields: releases.Fields | None) -> tuple[str, Record] | None:
    """A record with its table; None if it cannot be read."""
    try:
        if fields is None or fields == _FIELDS:
            entry = _DECODER.decode(payload)
            return entry.table, entry.record
        return releases.translated(payload, fields, _KINDS)
    except (msgspec.MsgspecError, ValueError, TypeError):
        return None


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
