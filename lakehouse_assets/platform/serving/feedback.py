"""Labels that come back over HTTP, `POST /feedback`: what a row of it may be, with errors by row and field.

They take the way of the inference log: on the disk when they are answered, and from there into the table
`<product>.inference.<endpoint>_feedback`. How they meet predictions is in `labelled`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from lakehouse_assets.platform.declarations.base import nearest_or_all
from lakehouse_assets.platform.serving.inference_log.log import InferenceLog
from lakehouse_assets.platform.serving.inference_log.records import FeedbackRecord
from lakehouse_assets.platform.serving.ingest_rows import MOST_ERRORS, FieldError, RowsRefused, split_rows

_AHEAD: Final = timedelta(minutes=5)
"""So much may the clock of who sends labels be ahead of ours."""
_NOT_IN_A_NAME = re.compile(r"""['"\\\[\],\x00-\x1f]""")
_PATH = re.compile(r"`\$\.?([^`]*)`")


class FeedbackUnavailable(Exception):
    """Labels cannot be made durable now: the disk of the service is full. Send them again. HTTP 503."""


@dataclass(frozen=True)
class FeedbackReceipt:
    """Labels that are durable: how many."""

    accepted: int


class _Row(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    label: Any
    endpoint: str | None = None
    request_id: str | None = None
    row: int = 0
    key: dict[str, str | int | float | bool | None] | None = None
    known_at: datetime | None = None


class Feedback:
    """Takes labels.

    Args:
        log: Where they go.
        targets: By the name of an endpoint, the column that its model predicts: a label that is a plain value is one of this column.
    """

    def __init__(self, log: InferenceLog, targets: Mapping[str, str]) -> None:
        self._log, self._targets = log, targets

    def take(self, body: bytes, requester: str = "", endpoint: str | None = None) -> FeedbackReceipt:
        """Accept the labels of a request, all or none, and wait until they are durable.

        Args:
            body: An array of objects, `{"rows": [...]}`, or one object a line. Each has `label` (a value, or an object of values by
                column), and `request_id` with `row` (0 by default) or `key` (an object of columns); `known_at` (default: now), `endpoint`.
            requester: Name of the token.
            endpoint: Of rows that name none; None: the only one there is.

        Raises:
            RowsRefused: What is wrong, by row and field. Nothing was accepted.
            FeedbackUnavailable: They cannot be made durable now.
        """
        now = datetime.now(UTC)
        records, errors = [], list[FieldError]()
        default = endpoint or (next(iter(self._targets)) if len(self._targets) == 1 else None)
        for number, raw in enumerate(split_rows(body)):
            try:
                row = msgspec.json.decode(bytes(raw), type=_Row)
            except (ValueError, RecursionError) as error:
                errors.append(_unreadable(number, error))
                continue
            before = len(errors)
            self._check(number, row, default, now, errors)
            if len(errors) == before:
                records.append(self._record(row, row.endpoint or default or "", requester, now))
            if len(errors) >= MOST_ERRORS:
                break
        if errors:
            raise RowsRefused(errors)
        if not self._log.append_feedback(records):
            raise FeedbackUnavailable("labels cannot be made durable now, for the disk of the service takes nothing: send them again")
        return FeedbackReceipt(len(records))

    def _check(self, number: int, row: _Row, default: str | None, now: datetime, errors: list[FieldError]) -> None:
        def wrong(field: str, text: str) -> None:
            errors.append(FieldError(number, field, f"row {number}: {text}"))

        endpoint = row.endpoint or default
        if endpoint is None:
            wrong("endpoint", f"say which endpoint predicted it: {', '.join(self._targets)}")
        elif endpoint not in self._targets:
            wrong("endpoint", f"there is no endpoint {endpoint!r}{nearest_or_all(endpoint, self._targets)}")
        if (row.request_id is None) == (not row.key):
            wrong("request_id", "give the request_id of the prediction, with its row, or a key: one of the two")
        if any(_NOT_IN_A_NAME.search(name) or not name for name in row.key or ()):
            wrong("key", "the names of a key are columns, without quotes, brackets, commas and backslashes")
        if row.row < 0:
            wrong("row", "the number of a row counts from 0")
        if row.label is None or row.label == {}:
            wrong("label", "a label has a value")
        if row.known_at is not None and (text := _wrong_moment(row.known_at, now)):
            wrong("known_at", text)

    def _record(self, row: _Row, endpoint: str, requester: str, now: datetime) -> FeedbackRecord:
        return FeedbackRecord(
            endpoint=endpoint,
            received_at=now,
            label=row.label if isinstance(row.label, dict) else {self._targets[endpoint]: row.label},
            known_at=row.known_at or now,
            request_id=row.request_id,
            row=None if row.request_id is None else row.row,
            key=row.key or {},
            requester=requester,
        )


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
    field = found.group(1) or None if (found := _PATH.search(text)) else None
    return FieldError(number, field, f"row {number}: {_PATH.sub(lambda path: path.group(1) or 'the row', text)}")
