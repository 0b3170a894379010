"""Labels that come back over HTTP, `POST /feedback`: what a row of it may be, with errors by row and field.

They take the way of the inference log: on the disk when they are answered, and from there into the table
`<product>.inference.<endpoint>_feedback`. How they meet predictions is in `labelled`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final

import msgspec
import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.base import Declaration, nearest_or_all
from lakehouse_assets.platform.serving.door import is_request_id
from lakehouse_assets.platform.serving.inference_log.log import InferenceLog
from lakehouse_assets.platform.serving.inference_log.records import FeedbackRecord
from lakehouse_assets.platform.serving.ingest_rows import MOST_ERRORS, split_rows
from lakehouse_assets.platform.serving.refused import FieldError, Refused, refused
from lakehouse_assets.platform.serving.rows import Row, RowType
from lakehouse_assets.platform.serving.served import Served

_AHEAD: Final = timedelta(minutes=5)
"""So much may the clock of who sends labels be ahead of ours."""
_PATH = re.compile(r"`\$\.?([^`]*)`")
_NAMED = re.compile(r"(?:unknown|required) field `([^`]*)`")


class FeedbackUnavailable(Exception):
    """Labels cannot be made durable now: the disk of the service is full. Send them again. HTTP 503."""


@dataclass(frozen=True)
class FeedbackReceipt:
    """Labels that are durable: how many."""

    accepted: int


class _Row(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    label: msgspec.Raw
    endpoint: str | None = None
    request_id: str | None = None
    row: int = 0
    key: msgspec.Raw = msgspec.Raw(b"null")
    known_at: datetime | None = None

    @property
    def has_key(self) -> bool:
        """Whether it is for a key."""
        return bytes(self.key).strip() != b"null"


_NO_LABEL: Final = "it is no label: send a value, or an object with the value by its column"


@dataclass(frozen=True)
class LabelType:
    """What labels of an endpoint may be.

    Attributes:
        target: The column that its model predicts; a label that is a plain value is one of it.
        dtype: Of that column; None: no product declares the table that has it, so that any number, text, true or false is one.
        keys: The columns by which a label may be sent, with their types: each is a whole key.
    """

    target: str
    dtype: pl.DataType | None
    keys: Sequence[Mapping[str, pl.DataType]]

    def label(self, raw: msgspec.Raw) -> Row:
        """The label that was sent, by column.

        Raises:
            Refused: It is none.
        """
        text = bytes(raw).strip()
        row = text if text.startswith(b"{") else b"{%b:%b}" % (msgspec.json.encode(self.target), text)
        if self._labels is not None:
            return self._read(self._labels, row, "label" if row is text else None)
        try:
            found = msgspec.json.decode(row, type=dict[str, str | int | float | bool])
        except (msgspec.MsgspecError, RecursionError):
            found = {}
        if set(found) != {self.target}:
            raise refused(422, f"{_NO_LABEL}, {self.target}", "label")
        return found

    def key(self, raw: msgspec.Raw) -> Row:
        """The key that was sent, by column.

        Raises:
            Refused: It is none.
        """
        try:
            names = set(msgspec.json.decode(raw, type=dict[str, msgspec.Raw]))
        except msgspec.MsgspecError:
            names = set()
        nearest = max(self._keys, key=lambda kind: (names == set(kind.columns), len(names & set(kind.columns)), -len(kind.columns)))
        return self._read(nearest, bytes(raw), "key")

    def _read(self, kind: RowType, row: bytes, within: str | None) -> Row:
        try:
            return kind.read(b"[" + row + b"]")[0]
        except Refused as error:
            raise Refused(error.status, [_within(one, within) for one in error.errors]) from None

    @cached_property
    def _labels(self) -> RowType | None:
        return None if self.dtype is None else RowType("a label", {self.target: self.dtype})

    @cached_property
    def _keys(self) -> tuple[RowType, ...]:
        return tuple(RowType("a key", one) for one in self.keys)


def label_types(served: Mapping[str, Served], declared: Mapping[str, Declaration]) -> dict[str, LabelType]:
    """What labels of endpoints may be, by their names.

    Args:
        served: The endpoints.
        declared: All declarations by name.
    """
    return {name: _label_type(one, declared) for name, one in served.items()}


def _label_type(served: Served, declared: Mapping[str, Declaration]) -> LabelType:
    """What follows from the contracts of the event, of the feature set that is scored, and of the table that the model learns from."""
    examples, roles = served.endpoint.model.examples, served.roles
    learnt = [declared[name].schema for name in examples.sources() if name in declared]
    schemas = [*([roles.event.schema] if roles.event is not None else []), roles.driving.schema, *learnt]
    known = {name: dtype for schema in reversed(schemas) for name, dtype in schema.items()}
    of_labels = getattr(getattr(examples, "labels", None), "entity", ())
    names = dict.fromkeys(
        [served.key, tuple(of_labels), tuple(served.entity), (*served.entity, roles.driving.event_time)]
        if served.endpoint.by_keys
        else [served.key, tuple(of_labels)]
    )
    keys = [{name: known[name] for name in one} for one in names if one and all(name in known for name in one)]
    return LabelType(examples.target, known.get(examples.target), keys)


class Feedback:
    """Takes labels.

    Args:
        log: Where they go.
        types: What labels of each endpoint may be, by its name.
        request_rows: Most rows of a request for predictions.
    """

    def __init__(self, log: InferenceLog, types: Mapping[str, LabelType], request_rows: int = 1_000) -> None:
        self._log, self.types, self._request_rows = log, types, request_rows

    def take(self, body: bytes, requester: str = "", endpoint: str | None = None) -> FeedbackReceipt:
        """Accept the labels of a request, all or none, and wait until they are durable.

        Args:
            body: An array of objects, `{"rows": [...]}`, or one object a line. Each has `label` (a value, or an object of values by
                column), and `request_id` with `row` (0 by default) or `key` (an object of columns); `known_at` (default: now), `endpoint`.
            requester: Name of the token.
            endpoint: Of rows that name none; None: the only one there is.

        Raises:
            Refused: What is wrong, by row and field. Nothing was accepted.
            FeedbackUnavailable: They cannot be made durable now.
        """
        now = clock.now()
        records, errors = [], list[FieldError]()
        default = endpoint or (next(iter(self.types)) if len(self.types) == 1 else None)
        for number, raw in enumerate(split_rows(body)):
            try:
                row = msgspec.json.decode(bytes(raw), type=_Row)
            except (ValueError, RecursionError) as error:
                errors.append(_unreadable(number, error))
            else:
                wrong = list(self._wrong_place(row, now))
                name = row.endpoint or default
                label, key = self._read(row, name, wrong)
                errors += [FieldError(f"row {number}: {one.message}", one.field, number) for one in wrong]
                records.append(
                    FeedbackRecord(
                        endpoint=name or "",
                        received_at=now,
                        label=label,
                        known_at=row.known_at or now,
                        request_id=row.request_id,
                        row=None if row.request_id is None else row.row,
                        key=key,
                        requester=requester,
                    )
                )
            if len(errors) >= MOST_ERRORS:
                break
        if errors:
            raise Refused(422, errors[:MOST_ERRORS])
        if not self._log.append_feedback(records):
            raise FeedbackUnavailable("labels cannot be made durable now, for the disk of the service takes nothing: send them again")
        return FeedbackReceipt(len(records))

    def _read(self, row: _Row, name: str | None, wrong: list[FieldError]) -> tuple[Row, Row]:
        """The label and the key of a row by column; what is wrong with them is added to `wrong`."""
        kind = None if name is None else self.types.get(name)
        if kind is None:
            text = f"say which endpoint predicted it: {', '.join(self.types)}"
            if name is not None:
                text = f"there is no endpoint {name[:100]!r}{nearest_or_all(name, self.types)}"
            wrong.append(FieldError(text, "endpoint"))
            return {}, {}
        label: Row = {}
        key: Row = {}
        try:
            label = kind.label(row.label)
        except Refused as error:
            wrong += error.errors
        try:
            key = kind.key(row.key) if row.has_key else {}
        except Refused as error:
            wrong += error.errors
        return label, key

    def _wrong_place(self, row: _Row, now: datetime) -> Iterator[FieldError]:
        """What is wrong with what a label is for, and with its time."""
        if (row.request_id is None) == (not row.has_key):
            yield FieldError("give the request_id of the prediction, with its row, or a key: one of the two", "request_id")
        elif row.request_id is not None and not is_request_id(row.request_id):
            yield FieldError("it is no id of a request: take the request_id of the answer", "request_id")
        if not 0 <= row.row < self._request_rows:
            yield FieldError(f"the number of a row counts from 0, and a request has at most {self._request_rows} rows", "row")
        elif row.row and row.request_id is None:
            yield FieldError("a label for a key has no row", "row")
        if row.known_at is not None and (text := _wrong_moment(row.known_at, now)):
            yield FieldError(text, "known_at")


def _within(error: FieldError, place: str | None) -> FieldError:
    """What is wrong with a field of a label or a key, by its path; None: the label is one value."""
    field = "label" if place is None else place if error.field is None else f"{place}.{error.field}"
    return FieldError(error.message, field)


def _wrong_moment(moment: datetime, now: datetime) -> str:
    """What is wrong with the time since when something is known; empty: nothing."""
    if moment.tzinfo is None:
        return "a moment has a time zone, as in 2026-03-01T12:00:00Z"
    try:
        moment.astimezone(UTC)
    except OverflowError:
        return "a moment is within the years 1 to 9999 in UTC"
    return "nothing is known before its time: known_at is in the future" if moment > now + _AHEAD else ""


def _unreadable(number: int, error: Exception) -> FieldError:
    text = str(error)
    field = found.group(1) or None if (found := _NAMED.search(text) or _PATH.search(text)) else None
    return FieldError(f"row {number}: {_PATH.sub(lambda path: path.group(1) or 'the row', text)}", field, number)
