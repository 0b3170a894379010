"""The table of trainings that were asked for because of a reason: each is asked for once, whoever is killed and however many ask at once.

A request is committed before Dagster is asked for its run, and has a number of its own for each model, which is a cursor of the table: of
two that ask at once one is refused. A run has the request's key, so one that was not started is asked for again, and none twice.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.monitoring.retraining.decision import SENSOR, Door, Reason, Request, text_of
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.types import TIMESTAMP

TABLE: Final = platform_tables.TRAINING_REQUESTS
DESCRIPTION: Final = "Trainings that monitors, new labels and declared spans of time have asked for: one row each, with the reason."
SCHEMA: Final = pl.Schema(
    {
        "requested_at": TIMESTAMP,
        "model": pl.String(),
        "number": pl.Int64(),
        "cause": pl.String(),
        "reason": pl.String(),
        "evidence": pl.String(),
        "champion": pl.Int64(),
        "asked_by": pl.String(),
    }
)
COLUMNS: Final = {
    "requested_at": "When the training was asked for, in UTC.",
    "model": "Name of the model.",
    "number": "Counts from 1 for each model; the run of Dagster has the tag lakehouse/training_request with model and number.",
    "cause": "What weighed most: schedule, new labels, or the kind of the monitor that failed, as drift or accuracy.",
    "reason": "Why, in sentences: they stand on the runs of Dagster and MLflow and in the model's ledger too.",
    "evidence": "JSON list of all reasons: monitor, window, slice, column, metric, value, threshold, importance of the column.",
    "champion": "Version that was champion.",
    "asked_by": "Who asked, and alone starts the run: sensor, or command (`lakehouse train --due`); null in rows of earlier releases.",
}


def requests_of(lakehouse: Lakehouse, model: str) -> list[Request]:
    """The requests for a model, in order; their state is `open`, as only runs and the ledger know more."""
    table = lakehouse.table(TABLE)
    if not table.exists():
        return []
    rows = table.scan().filter(pl.col("model") == model).sort("number").collect().to_dicts()
    return [Request(model, row["number"], row["requested_at"], row["reason"], door=row.get("asked_by") or SENSOR) for row in rows]


def ask(
    lakehouse: Lakehouse, model: str, number: int, reasons: Sequence[Reason], door: Door, *, champion: int | None, now: datetime
) -> Request | None:
    """Ask for a training; None if somebody else did at the same moment.

    Args:
        lakehouse: Has the table.
        model: Name of the model.
        number: Of the request: one more than that of the last one.
        reasons: The heaviest first.
        door: Who asks, and alone starts the run.
        champion: Version that is champion.
        now: The moment (UTC).
    """
    table = lakehouse.table(TABLE)
    table.create(SCHEMA, description=DESCRIPTION)
    table.add_columns(SCHEMA)
    request = Request(model, number, now, text_of(reasons), door=door)
    row = {
        "requested_at": now,
        "model": model,
        "number": number,
        "cause": reasons[0].cause,
        "reason": request.text,
        "evidence": json.dumps([_stored(one) for one in reasons], default=datetime.isoformat),
        "champion": champion,
        "asked_by": door,
    }
    try:
        written = table.append(pl.DataFrame([row], schema=SCHEMA), Commit((Cursor(model, number - 1 or None, number),)))
    except CursorMoved:
        return None
    return None if written.counts is None else request


def _stored(reason: Reason) -> dict[str, Any]:
    return {name: value for name, value in asdict(reason).items() if value is not None}
