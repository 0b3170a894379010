"""The names of the tables that the platform writes for itself. What is in each is said where it is written."""

from collections.abc import Mapping
from typing import Final

PLATFORM: Final = "platform."
"""With what the names of its tables begin."""
LANDING: Final = "platform.landing.log"
CONTRACTS: Final = "platform.contracts.log"
COMMITS: Final = "platform.tables.commits"
MAINTENANCE: Final = "platform.maintenance.log"
ALERTS: Final = "platform.alerts.log"
ALERT_DELIVERIES: Final = "platform.alerts.deliveries"
VERDICTS: Final = "platform.monitoring.verdicts"
TRAINING_REQUESTS: Final = "platform.monitoring.training_requests"
ACCURACY: Final = "platform.monitoring.accuracy"
RUNS: Final = "platform.system.runs"
STEPS: Final = "platform.system.steps"
CHECKS: Final = "platform.system.checks"
PROFILES: Final = "platform.monitoring.profiles"
DRIFT: Final = "platform.monitoring.drift"
CACHE: Final = "platform.monitoring.cache"

FEEDBACK_SUFFIX: Final = "_feedback"
"""Ends the name of the table with the labels that came back for the predictions in the table of the same name without it."""

BY_DAY: Final[Mapping[str, str]] = {
    **dict.fromkeys((VERDICTS, PROFILES, DRIFT, RUNS, STEPS, CHECKS), "date"),
    ACCURACY: "window_start",
    CACHE: "cached_at",
    ALERTS: "logged_at",
    ALERT_DELIVERIES: "at",
}
"""By which column rows are of a day; maintenance deletes days that are older than LAKEHOUSE_SYSTEM_RETENTION_DAYS."""

NOT_YET: Final = "does not exist yet: it comes with the first row that the platform writes into it"
"""What is said of one of them that is asked for before."""

ALL: Final = frozenset(
    {LANDING, CONTRACTS, COMMITS, MAINTENANCE, VERDICTS, PROFILES, DRIFT, ACCURACY, TRAINING_REQUESTS, ALERTS, ALERT_DELIVERIES}
    | {RUNS, STEPS, CHECKS, CACHE}
)


def own_first(table: str) -> tuple[bool, str]:
    """Sorts names of tables: those of products by name, then the platform's."""
    return table.startswith(PLATFORM), table
