"""The tables of an endpoint's log: predictions `<product>.inference.<endpoint>`, labels `<product>.inference.<endpoint>_feedback`.

Here is how records become rows, and which columns the reader masks. Values by name (features, keys, predictions) are JSON objects: the
columns of models differ, and a table that gained some with each model would end with columns of none. Numbers keep all their digits; what
JSON has no number for stands as the text `NaN`, `Infinity` or `-Infinity`.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec
import polars as pl

from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.serving.inference_log.records import FeedbackRecord, InferenceRecord, Record
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.evolution import evolve
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.platform_tables import FEEDBACK_SUFFIX
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

DATE: Final = "date"
"""The partition column: the day, in UTC, on which the request came."""

INFERENCE: Final = pl.Schema(
    {
        "request_id": pl.String(),
        "row": pl.Int64(),
        "endpoint": pl.String(),
        "received_at": TIMESTAMP,
        "event_time": TIMESTAMP,
        "key": pl.String(),
        "model_name": pl.String(),
        "model_version": pl.Int64(),
        "variant": pl.String(),
        "features": pl.String(),
        "prediction": pl.String(),
        "status": pl.String(),
        "requester": pl.String(),
        "seconds": pl.String(),
        "status_code": pl.Int64(),
        "error": pl.String(),
        "request": pl.String(),
        "form": pl.String(),
        DATE: pl.Date(),
    }
)
FEEDBACK: Final = pl.Schema(
    {
        "request_id": pl.String(),
        "row": pl.Int64(),
        "endpoint": pl.String(),
        "received_at": TIMESTAMP,
        "key": pl.String(),
        "label": pl.String(),
        "known_at": TIMESTAMP,
        "requester": pl.String(),
        DATE: pl.Date(),
    }
)
_PERSONAL = frozenset({"key", "features", "request"})
_AT_ONCE, _PAUSE = 32, 0.0005
_ENCODE = partial(msgspec.json.encode, enc_hook=str)


@dataclass(frozen=True)
class LoggedEndpoint:
    """An endpoint whose predictions are logged.

    Attributes:
        product: The first word of its tables.
        name: Of the endpoint.
        personal: Whether its events have personal columns: then the reader masks keys, features and requests.
    """

    product: str
    name: str
    personal: bool = True

    @property
    def table(self) -> str:
        """The table of its predictions."""
        return f"{self.product}.inference.{self.name}"

    @property
    def feedback_table(self) -> str:
        """The table of its labels."""
        return self.table + FEEDBACK_SUFFIX


@dataclass(frozen=True)
class _Kind:
    schema: pl.Schema
    description: str


_KINDS: Mapping[type[Record], _Kind] = {
    InferenceRecord: _Kind(INFERENCE, "What was asked and answered: one row for each row of a request and each variant of the model."),
    FeedbackRecord: _Kind(FEEDBACK, "Labels that came back for predictions: one row for each."),
}


def create(lakehouse: Lakehouse, name: str, kind: type[Record], *, personal: bool | None) -> Table:
    """The table of records of a kind, made unless it is there, with a record of which of its columns are personal.

    Args:
        lakehouse: Where it is.
        name: Of the table.
        kind: Of the records.
        personal: Whether keys, features and requests are personal; None: it is not known, so those of a new table are taken to be.
    """
    table, how = lakehouse.table(name), _KINDS[kind]
    exists = table.exists()
    if personal is not None or not exists:
        _record_contract(lakehouse, name, how, personal=personal is not False)  # first: no row is ever shown unmasked
    if not exists:
        table.create(how.schema, (DATE,), how.description)
    elif set(how.schema) - set(table.schema()):  # of a release that logged less
        evolve(table, how.schema, how.description)
    return table


def _record_contract(lakehouse: Lakehouse, name: str, kind: _Kind, *, personal: bool) -> None:
    """Write down which columns are personal, once: the reader asks there about tables that no product declares."""
    fingerprint = f"inference-log-{'personal' if personal else 'plain'}"
    log, cursor = lakehouse.table(contracts.LOG), Cursor(f"{name}/{fingerprint}", None, 0)
    if log.cursor(cursor.source) is not None:
        return
    columns = [{"name": column, "type": str(dtype), "personal": personal and column in _PERSONAL} for column, dtype in kind.schema.items()]
    log.create(contracts.SCHEMA, description=contracts.DESCRIPTION)
    row = {
        "table": name,
        "fingerprint": fingerprint,
        "contract": json.dumps({"contract": fingerprint, "description": kind.description, "columns": columns}),
        "recorded_at": datetime.now(UTC),
        "run_id": "serving",
    }
    log.append(pl.DataFrame([row], schema=contracts.SCHEMA), Commit((cursor,)))


def rows(records: Sequence[Record]) -> pl.DataFrame:
    """Records of one kind as rows of their table, in their order.

    It pauses now and then: it is Python, and threads that answer requests have to come in between.
    """
    schema = _KINDS[type(records[0])].schema
    columns: dict[str, list[Any]] = {name: [] for name in schema}
    names = [name for name in schema if name != DATE]
    for start in range(0, len(records), _AT_ONCE):
        part = records[start : start + _AT_ONCE]
        for name in names:
            columns[name] += [_cell(getattr(record, name)) for record in part]
        if len(part) == _AT_ONCE:
            time.sleep(_PAUSE)
    columns[DATE] = [received.date() for received in columns["received_at"]]
    return pl.DataFrame(columns, schema=schema)


def _cell(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return as_json(value)
    if kind is datetime and value.tzinfo is not UTC:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


def as_json(values: Mapping[str, Any]) -> str:
    """An object of JSON with every digit of its numbers."""
    return _ENCODE(values if _is_finite(values.values()) else _finite(values)).decode()


def _is_finite(values: Iterable[Any]) -> bool:
    for value in values:
        kind = type(value)
        if kind is float:
            if value - value != 0.0:
                return False
        elif (kind is dict and not _is_finite(value.values())) or (kind is list and not _is_finite(value)):
            return False
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_finite(member) for member in value]
    if isinstance(value, float) and value - value != 0.0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 NaN alone differs from itself
    return value
