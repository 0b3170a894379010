"""The Delta table of what became of telling people of alerts: each try of a sink with an event. It is only added to.

What is told to whom, and when it is tried again, is decided in `delivery`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, Literal

import polars as pl

from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.types import TIMESTAMP

TABLE: Final = platform_tables.ALERT_DELIVERIES
DESCRIPTION: Final = "Each try to tell a sink of an event, and what came of it."
SCHEMA: Final = pl.Schema(
    {
        "sink": pl.String(),
        "alert_id": pl.String(),
        "number": pl.Int64(),
        "at": TIMESTAMP,
        "outcome": pl.String(),
        "attempt": pl.Int64(),
        "reason": pl.String(),
    }
)
COLUMNS: Final[Mapping[str, str]] = {
    "sink": "Who was told: log, webhook, slack or mail, with the owner where a route names one.",
    "alert_id": "Id of the alert.",
    "number": "Number of the event in its alert.",
    "at": "When it was tried, in UTC.",
    "outcome": "delivered; unreachable: no answer, or one that asks to come again; refused: it will not be taken as it is.",
    "attempt": "How often it was tried, with this time.",
    "reason": "Why it was not delivered.",
}


@dataclass(frozen=True)
class Delivery:
    """What came of one try to tell a sink of an event. The attributes are the columns of the table."""

    sink: str
    alert_id: str
    number: int
    at: datetime
    outcome: Literal["delivered", "unreachable", "refused"]
    attempt: int
    reason: str = ""


@dataclass(frozen=True)
class DeliveryLog:
    """The tries of a lakehouse."""

    lakehouse: Lakehouse

    def tries(self, since: datetime | None = None, alert_id: str | None = None) -> pl.DataFrame:
        """The tries to tell of events, in the order in which they were made.

        Args:
            since: Those that were made from this moment on (UTC).
            alert_id: Those of one alert.
        """
        table = self.lakehouse.table(TABLE)
        if not table.exists():
            return pl.DataFrame(schema=SCHEMA)
        rows = table.scan()
        if since is not None:
            rows = rows.filter(pl.col("at") >= since)
        if alert_id is not None:
            rows = rows.filter(pl.col("alert_id") == alert_id)
        return rows.sort("at", "attempt").collect()

    def add(self, made: Sequence[Delivery]) -> None:
        """Add what came of tries.

        Raises:
            CommitConflict: Other writers did not let this one through.
        """
        if made:
            table = self.lakehouse.table(TABLE)
            table.create(SCHEMA, description=DESCRIPTION)
            table.append(pl.DataFrame([asdict(one) for one in made], schema=SCHEMA))
