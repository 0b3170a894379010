"""Logged predictions with what became true of them: labels that came back over HTTP, and those of the table that the model learns from.

A label is of one row of a request, or of a key. Of several the one that became known last counts, as in training; what only follows from
silence counts against none that was said. Nothing is masked here:
who gives the result to a person takes the columns of predictions from the reader.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import polars as pl

from lakehouse_assets.platform.storage.types import TIMESTAMP

ROW: Final = ("request_id", "row", "variant")
"""What tells logged predictions apart."""
LABEL, KNOWN_AT, ORIGIN = "label", "label_known_at", "label_from"
LABELS: Final = pl.Schema({"request_id": pl.String(), "row": pl.Int64(), "variant": pl.String(), LABEL: pl.String(), KNOWN_AT: TIMESTAMP})
_SILENT: Final = "__silent"
FEEDBACK, TABLE = "feedback", "labels"
"""Where a label came from: `POST /feedback`, or the table that the model learns from."""


@dataclass(frozen=True)
class KnownLabels:
    """Labels of a table that a model learns from.

    Attributes:
        rows: Entity, target and `known_at`, one row an entity and moment.
        entity: The columns by which they meet the keys of predictions.
        target: The column of the label.
        known_at: The column that says since when it is known.
        silent: Whether a label only follows from silence, as that an order is honest of which nothing was heard: it does not count against
            one that was said, whenever that was.
    """

    rows: pl.LazyFrame
    entity: tuple[str, ...]
    target: str
    known_at: str
    silent: pl.Expr = field(default_factory=lambda: pl.lit(value=False))


def labels_of(
    predictions: pl.LazyFrame, target: str | None, feedback: pl.LazyFrame | None, known: KnownLabels | None, until: datetime | None = None
) -> pl.LazyFrame:
    """The label of each logged prediction that has one: `ROW`, and `label` (text), `label_known_at`, `label_from`.

    Args:
        predictions: Rows of the log.
        target: The column of the label in feedback; None: all that came, as JSON.
        feedback: Rows of the feedback table; None: there is none.
        known: Labels of the table that the model learns from; None: there is none.
        until: Labels count that were known then (naive: UTC); None: all.
    """
    predictions = predictions.filter(pl.col("status_code") == 200)  # what was refused has none
    keys = _keys(feedback) | ({known.entity} if known is not None else set())
    found = [_from_rows(predictions, target, feedback)] if feedback is not None else []
    for key in sorted(keys):
        asked = _with_key(predictions, key)
        if feedback is not None:
            of_key = feedback.filter(pl.col("request_id").is_null(), _names(pl.col("key")) == ",".join(sorted(key)))
            given = of_key.select(*(_value("key", name).alias(name) for name in key), *_label(target))
            found.append(asked.join(given.with_columns(pl.lit(FEEDBACK).alias(ORIGIN)), on=list(key)).drop(key))
        if known is not None and known.entity == key:
            table = known.rows.select(
                *(pl.col(name).cast(pl.String) for name in key),
                pl.col(known.target).cast(pl.String).alias(LABEL),
                pl.col(known.known_at).cast(TIMESTAMP).alias(KNOWN_AT),
                pl.lit(TABLE).alias(ORIGIN),
                known.silent.fill_null(value=False).alias(_SILENT),
            )
            found.append(asked.join(table, on=list(key)).drop(key))
    if not found:
        return pl.LazyFrame(schema={**LABELS, ORIGIN: pl.String()})
    labels = pl.concat(found, how="diagonal").filter(pl.col(LABEL).is_not_null())
    if _SILENT not in labels.collect_schema():
        labels = labels.with_columns(pl.lit(value=False).alias(_SILENT))
    if until is not None:
        labels = labels.filter(pl.col(KNOWN_AT) <= (until if until.tzinfo else until.replace(tzinfo=UTC)))
    # Of those that became known at one time the same one counts, whatever the order of rows.
    said_last = labels.with_columns(pl.col(_SILENT).fill_null(value=False)).sort(~pl.col(_SILENT), KNOWN_AT, ORIGIN, LABEL)
    return said_last.unique(ROW, keep="last", maintain_order=True).drop(_SILENT)


def _from_rows(predictions: pl.LazyFrame, target: str | None, feedback: pl.LazyFrame) -> pl.LazyFrame:
    of_rows = feedback.filter(pl.col("request_id").is_not_null()).select("request_id", "row", *_label(target))
    return predictions.select(ROW).join(of_rows.with_columns(pl.lit(FEEDBACK).alias(ORIGIN)), on=["request_id", "row"])


def _with_key(predictions: pl.LazyFrame, key: Sequence[str]) -> pl.LazyFrame:
    """The predictions whose key, or else whose request or features, has these columns."""
    values = [pl.coalesce(_value(column, name) for column in ("key", "request", "features")).alias(name) for name in key]
    return predictions.select(*ROW, *values).drop_nulls(list(key))


def _label(target: str | None) -> tuple[pl.Expr, ...]:
    value = pl.col("label") if target is None else _value("label", target)
    return value.alias(LABEL), pl.col("known_at").cast(TIMESTAMP).alias(KNOWN_AT)


def _value(column: str, name: str) -> pl.Expr:
    """A value of a JSON object, as text."""
    return pl.col(column).str.json_path_match(f"$['{name}']")


def _names(key: pl.Expr) -> pl.Expr:
    """The names of a flat JSON object, sorted, with commas between them."""
    return key.map_elements(lambda text: ",".join(_names_of(text)), return_dtype=pl.String)


def _names_of(text: str) -> list[str]:
    return sorted(json.loads(text))


def _keys(feedback: pl.LazyFrame | None) -> set[tuple[str, ...]]:
    """The keys that labels were sent for, each as its columns."""
    if feedback is None:
        return set()
    keys = feedback.filter(pl.col("request_id").is_null()).select(pl.col("key").unique()).collect()["key"]
    return {tuple(_names_of(text)) for text in keys}
