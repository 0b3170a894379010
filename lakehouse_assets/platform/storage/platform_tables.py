"""The names of the tables that the platform writes for itself. What is in each is said where it is written."""

from typing import Final

LANDING: Final = "platform.landing.log"
CONTRACTS: Final = "platform.contracts.log"
COMMITS: Final = "platform.tables.commits"
MAINTENANCE: Final = "platform.maintenance.log"
VERDICTS: Final = "platform.monitoring.verdicts"
TRAINING_REQUESTS: Final = "platform.monitoring.training_requests"
ACCURACY: Final = "platform.monitoring.accuracy"

FEEDBACK_SUFFIX: Final = "_feedback"
"""Ends the name of the table with the labels that came back for the predictions in the table of the same name without it."""

BY_DAY: Final = frozenset({VERDICTS})
"""Tables that are partitioned by the day in their column `date`; maintenance deletes days that are older than LAKEHOUSE_MONITORING_DAYS."""

ALL: Final = frozenset({LANDING, CONTRACTS, COMMITS, MAINTENANCE, VERDICTS, TRAINING_REQUESTS, ACCURACY})
