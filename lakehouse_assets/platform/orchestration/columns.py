"""The columns of assets in Dagster: types in words of SQL, and a description for each, the platform's own columns included.

What a column of a product means is in its contract.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.quality.contract import ColumnInfo, columns_of, rules_of

OF_PLATFORM: Mapping[str, str] = {
    "_file": "Path of the file that the row came from, in the feed's folder.",
    "_row": "Number of the row in its file.",
    "_sequence": "Number of the file: files of a feed are numbered in the order in which they are read.",
    "_ingested_at": "When the row came into bronze.",
    "_run_id": "Run that brought the row into bronze.",
    "_rescued": "Values of the file that have no column here, as a JSON object; null if there are none.",
    "_unparsed": "Texts that could not be read as the type of their column, as a JSON object by column.",
    "_broken": "Names of all rules that the row breaks.",
    "_released_at": "When the row was released into the table by `lakehouse quarantine replay`; null while it waits.",
    "_released_in": "Version of the table that the row was released in.",
    "_released_with": "Values that were changed for the release, as a JSON object by column.",
}
"""Columns that the platform adds to bronze tables and quarantines."""

OF_HISTORY: Mapping[str, str] = {
    "valid_from": "From when on the row is the state of its key.",
    "valid_to": "Until when the row was the state of its key; null while it still is.",
    "is_current": "Whether the row is the state of its key now.",
    "repeats": "Later events that said the same, by sequence and time.",
    "snapshots": "Snapshots that had the row, by sequence and time.",
    "assumed": "Numbers of snapshots in which the row was rejected, and counts as still there.",
    "is_deleted": "Whether the newest event of the key deleted it.",
    "known_at": "When the values of the row became known.",
    "known_at_assumed": "Whether `known_at` is the end of the event time, because the row was loaded as history, in order.",
    "feature_set_version": "Number of the code that computed the row; another function or other columns are another version.",
    "replaced_known_at": "From when on the value of the version before was known, if the row stands in its place.",
    "is_retracted": "Whether the row says that an earlier one no longer holds.",
}
"""Columns that kinds of tables add to those of a contract."""

OF_LANDING: Mapping[str, str] = {
    "feed": "Feed whose folder the file was found in.",
    "path": "Path of the file in the feed's folder.",
    "sequence": "Number of the file in its feed.",
    "event_number": "Number of the event in its feed.",
    "event": "What happened to the file: discovered, read, refused, and so on.",
    "reason": "Why, where the event needs a reason.",
    "rows": "Rows that were read from the file.",
    "size": "Size of the file in bytes.",
    "modified": "When the file was last modified.",
    "content_hash": "Hash of the content, by which a file that comes twice is known.",
    "at": "When the event was recorded.",
    "run_id": "Run that recorded the event.",
}
OF_MAINTENANCE: Mapping[str, str] = {
    "at": "When the table was examined.",
    "run_id": "Run that did the maintenance.",
    "table": "Table.",
    "done": "What was done: compacted, checkpointed, vacuumed, log cleaned up.",
    "why_not": "Why something was not done; null if nothing stood in the way.",
    "files_before": "Data files before.",
    "files_after": "Data files after.",
    "bytes_freed": "Bytes that were freed.",
    "seconds": "Seconds that it took.",
}
OF_INFERENCE: Mapping[str, str] = {
    "request_id": "Id of the request, which the answer names.",
    "row": "Number of the row in the request, from 0.",
    "endpoint": "The endpoint that was asked.",
    "received_at": "When the request came.",
    "event_time": "When what was scored happened: features are as of then.",
    "key": "What tells the scored row apart, as JSON.",
    "model_name": "Name of the registered model in MLflow.",
    "model_version": "Version that scored.",
    "variant": "champion, challenger, or shadow (a challenger whose answer nobody got).",
    "features": "What the model was given, as JSON.",
    "prediction": "What was answered, as JSON.",
    "status": "Of each feature set that was looked up: ok, missing, expired or unavailable, and which row of it was used, as JSON.",
    "requester": "Name of the token that asked.",
    "seconds": "How long the parts of the answer took, as JSON.",
    "status_code": "Status of the HTTP answer.",
    "error": "What went wrong; null if nothing did.",
    "request": "The row as it was sent, as JSON.",
    "form": "What was sent: rows (events), features (full rows of them) or keys.",
    "date": "Day of the request, in UTC; the log is partitioned by it.",
}
OF_LEDGER: Mapping[str, str] = {
    "sequence": "Number of the decision.",
    "decided_at": "When the decision was recorded.",
    "model_name": "Name of the registered model in MLflow.",
    "version": "Version of the model that the decision is about.",
    "run_id": "MLflow run that trained the version.",
    "decision": (
        "promoted, kept as challenger, judged in a dry run, awaits approval, approved, rejected, called back, rolled back, or "
        "promoted by hand."
    ),
    "reasons": "Reasons of the decision, a line each.",
    "champion_before": "Version that was champion before the decision.",
    "champion": "Version that is champion since.",
    "previous": "Version that a rollback goes back to.",
    "challenger": "Newest version that is not champion.",
    "training_tables": "Tables and versions that the version was trained on, as JSON.",
    "training_table_digests": "What tells these versions from those of a table that was created again, as JSON.",
    "feature_versions": "Versions of the feature sets that the version was trained on, as JSON.",
    "code_version": "Hash of the code that trained the version.",
    "seed": "Seed of the training.",
    "environment": "Python and package versions of the training.",
    "candidate": "`model`, or the name of the baseline that the version is.",
    "recipe": "Hash of what the product declares: examples, learner and parameters.",
    "digest": "Hash of the files of the predictor.",
    "question": "What the gate was asked: first, change or refresh.",
    "numbers": "What the gate compared, as JSON.",
    "decided_by": "The person who decided, by hand.",
    "training_reason": "Why the training was asked for that the decision ends; null: by schedule, or without a reason.",
}
_OF_BRONZE = "As it is in the files, as text."
_OF_QUARANTINE = "As in the table; null where the value could not be read."


def described(schema: Mapping[str, pl.DataType], texts: Mapping[str, str], otherwise: str | None = None) -> dict[str, Any]:
    """The columns of a table without a contract, as the metadata that Dagster shows.

    Args:
        schema: Columns and types.
        texts: By column, what it holds.
        otherwise: What a column holds that is in none of the texts.
    """
    return _schema([dg.TableColumn(name, sql_type(dtype), description=texts.get(name, otherwise)) for name, dtype in schema.items()])


def of_feed(asset: FeedDeclaration, schema: Mapping[str, pl.DataType] | None = None) -> dict[str, Any]:
    """The columns of a bronze table: those of its files as text, then the platform's."""
    shown = asset.schema if schema is None else schema
    personal = dict.fromkeys(asset.personal, f"{_OF_BRONZE} Personal data.")
    return described(shown, {**OF_PLATFORM, **personal}, _OF_BRONZE)


def of_table(asset: TableDeclaration) -> dict[str, Any]:
    """The columns of a table with what its contract says of them; those that the write adds come last."""
    infos = columns_of(asset.contract)
    promised = {info.name for info in infos}
    added = [
        dg.TableColumn(name, sql_type(dtype), description={**OF_HISTORY, **OF_PLATFORM}.get(name))
        for name, dtype in asset.schema.items()
        if name not in promised
    ]
    constraints = dg.TableConstraints(other=[rule.text for rule in rules_of(asset.contract) if rule.column is None])
    return _schema([*map(_promised, infos), *added], constraints)


def of_quarantine(asset: TableDeclaration, schema: Mapping[str, pl.DataType] | None = None) -> dict[str, Any]:
    """The columns of a quarantine: those of the contract, then those that say where the row came from and what it breaks."""
    texts = {info.name: _text(info) for info in columns_of(asset.contract)}
    shown = {**asset.schema, "_broken": pl.List(pl.String())} if schema is None else schema
    return described(shown, {**OF_HISTORY, **OF_PLATFORM, **texts}, _OF_QUARANTINE)


def sql_type(dtype: Any) -> str:
    """A type in words of SQL."""
    match dtype:
        case pl.Datetime():
            return f"timestamp ({dtype.time_zone or 'no time zone'})"
        case pl.Decimal():
            return f"decimal({dtype.precision}, {dtype.scale})"
        case pl.List() | pl.Array():
            return f"array<{sql_type(dtype.inner)}>"
        case pl.Struct():
            return f"struct<{', '.join(f'{field.name}: {sql_type(field.dtype)}' for field in dtype.fields)}>"
    return _SQL.get(dtype.base_type(), str(dtype).lower())


_SQL: Mapping[Any, str] = {
    pl.String: "string",
    pl.Categorical: "string",
    pl.Enum: "string",
    pl.Boolean: "boolean",
    pl.Date: "date",
    pl.Binary: "binary",
    pl.Int8: "tinyint",
    pl.Int16: "smallint",
    pl.Int32: "int",
    pl.Int64: "bigint",
    pl.Float32: "float",
    pl.Float64: "double",
}


def _promised(info: ColumnInfo) -> dg.TableColumn:
    rules = [text for text in info.rules if not text.endswith(": not null")]
    tags = {name: "" for name, has in {"key": info.key, "pii": info.personal}.items() if has}
    constraints = dg.TableColumnConstraints(nullable=info.nullable, other=rules)
    return dg.TableColumn(info.name, sql_type(info.dtype), description=_text(info), constraints=constraints, tags=tags)


def _text(info: ColumnInfo) -> str:
    return info.description + (" Personal data." if info.personal else "")


def _schema(columns: Iterable[dg.TableColumn], constraints: dg.TableConstraints | None = None) -> dict[str, Any]:
    return {"dagster/column_schema": dg.TableSchema(list(columns), constraints=constraints)}
