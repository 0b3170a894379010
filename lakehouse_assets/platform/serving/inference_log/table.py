"""The tables of an endpoint's log: predictions `<product>.inference.<endpoint>`, labels `<product>.inference.<endpoint>_feedback`.

Here is how records become rows, and which columns the reader masks. Values by name (features, keys, predictions) are JSON objects: the
columns of models differ, and a table that gained some with each model would end with columns of none. Numbers keep all their digits; what
JSON has no number for stands as the text `NaN`, `Infinity` or `-Infinity`.

Both are partitioned by `date`: the day, in UTC, on which the request came.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Final

import msgspec
import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.endpoints import Endpoint, Roles
from lakehouse_assets.platform.features.online.codecs import micros, moment
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.serving.inference_log.records import FeedbackRecord, InferenceRecord, InferenceRows, Record
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.evolution import evolve
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.platform_tables import FEEDBACK_SUFFIX
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

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
_NESTED: Final = frozenset({dict, list})
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

    @classmethod
    def of(cls, endpoint: Endpoint, roles: Roles) -> "LoggedEndpoint":
        """Of a declaration."""
        event = [roles.event] if roles.event is not None else []
        return cls(endpoint.product, endpoint.word, personal=any(one.personal for one in [*roles.sets, *event]))

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


_ASKED: Final = _Kind(INFERENCE, "What was asked and answered: one row for each row of a request and each variant of the model.")
_KINDS: Mapping[type[Record], _Kind] = {
    InferenceRecord: _ASKED,
    InferenceRows: _ASKED,
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
        "recorded_at": clock.now(),
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
    count = 0
    for record in records:
        if isinstance(record, InferenceRows):
            for name, cells in _cells(record):
                columns[name] += cells
        else:
            for name in names:
                columns[name].append(_cell(getattr(record, name)))
        count += record.count
        if count >= _AT_ONCE:
            count = 0
            time.sleep(_PAUSE)
    del columns[DATE]
    plain = {name: pl.Int64() if dtype == TIMESTAMP else dtype for name, dtype in schema.items() if name != DATE}
    frame = pl.DataFrame(columns, schema=plain).cast({name: TIMESTAMP for name, dtype in schema.items() if dtype == TIMESTAMP})
    return frame.with_columns(pl.col("received_at").dt.date().alias(DATE))


def _cells(rows: InferenceRows) -> Iterator[tuple[str, list[Any]]]:
    """The cells of rows of one request, by column."""
    count, names = rows.count, rows.features[0]
    yield "row", rows.rows
    yield "event_time", [_cell(one) for one in rows.event_times]
    shared = (rows.request_id, rows.endpoint, _cell(rows.received_at), rows.model_name, rows.model_version, rows.variant, rows.requester)
    for name, value in zip(
        ("request_id", "endpoint", "received_at", "model_name", "model_version", "variant", "requester"), shared, strict=True
    ):
        yield name, [value] * count
    key = [(name, names.index(name)) for name in rows.key]
    keys = [{name: given[place] for name, place in key} for given in rows.features[1]]
    features = [dict(zip(names, given, strict=True)) for given in rows.features[1]]
    for at, unsent in rows.unsent:
        if not {*unsent}.isdisjoint(rows.key):
            keys[at] = {}
        for name in unsent:
            del features[at][name]
    yield "key", [as_json(one) for one in keys]
    yield "features", [as_json(one) for one in features]
    yield "prediction", [as_json(one) for one in rows.predictions]
    looked = [(name, its, rows.stamps.get(name) or [None] * count, _store(rows, name)) for name, its in rows.status.items()]
    words = [{name: _status(its[at], stamps[at]) | store for name, its, stamps, store in looked} for at in range(count)]
    yield "status", [_ENCODE(one).decode() for one in words]
    yield "seconds", [as_json(rows.seconds)] * count
    yield "status_code", [200] * count
    yield "error", [None] * count
    yield "request", _objects(*rows.requests)
    yield "form", [rows.form] * count


def _objects(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return [as_json(dict(zip(names, row, strict=True))) for row in rows]


def _store(rows: InferenceRows, name: str) -> dict[str, Any]:
    """What the online store knew of a feature set."""
    synced = rows.synced.get(name)
    table = {"table": rows.tables[name]} if name in rows.tables else {}
    return table if synced is None else table | {"synced_at": synced.isoformat()}


def _status(word: str, stamp: Sequence[Any] | None) -> dict[str, Any]:
    """What is known of a feature set that was looked up for a row."""
    if stamp is None:
        return {"status": word}
    time_, known, version = stamp
    return {"status": word, "event_time": _moment_text(time_), "known_at": _moment_text(known), "version": version}


@lru_cache(maxsize=10_000)
def _moment_text(microseconds: int) -> str:
    return moment(microseconds).isoformat()


def _cell(value: Any) -> Any:
    """A value as its column has it before its type: times as microseconds, which is faster by far."""
    kind = type(value)
    if kind is dict:
        return as_json(value)
    if kind is datetime:
        return micros(value.replace(tzinfo=UTC) if value.tzinfo is None else value)
    return value


def as_json(values: Mapping[str, Any]) -> str:
    """An object of JSON with every digit of its numbers."""
    return _ENCODE(values if _is_finite(values.values()) else _finite(values)).decode()


def _is_finite(values: Collection[Any]) -> bool:
    """Whether all numbers are finite; of very large ones it may say no."""
    kinds = {*map(type, values)}
    if float in kinds:
        total = sum([value for value in values if type(value) is float])
        if total - total != 0.0:
            return False
    if kinds.isdisjoint(_NESTED):
        return True
    return all(_is_finite(value.values() if type(value) is dict else value) for value in values if type(value) in _NESTED)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_finite(member) for member in value]
    if isinstance(value, float) and value - value != 0.0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 NaN alone differs from itself
    return value
