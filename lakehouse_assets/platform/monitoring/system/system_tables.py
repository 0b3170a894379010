"""The system tables: what ran, what it used, what was checked, what became of rows, who decided, what was asked. Here are their columns.

Three are written (`system_log`), the others are views of tables that exist anyway (`system_views`). docs/system_tables.md is held equal to
what stands here by a test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.types import TIMESTAMP

_TEXT, _WHOLE, _NUMBER, _YES_NO, _DAY = pl.String(), pl.Int64(), pl.Float64(), pl.Boolean(), pl.Date()


@dataclass(frozen=True)
class Column:
    """A column of a system table.

    Attributes:
        dtype: Of its values.
        text: What it says.
        unit: Of a number; empty where it counts, or is no number.
    """

    dtype: pl.DataType
    text: str
    unit: str = ""


@dataclass(frozen=True)
class SystemTable:
    """A system table, written or a view.

    Attributes:
        name: As `lakehouse sql` knows it.
        description: What a row of it is.
        columns: In their order.
    """

    name: str
    description: str
    columns: Mapping[str, Column]

    @cached_property
    def schema(self) -> pl.Schema:
        """Names and types of the columns."""
        return pl.Schema({name: column.dtype for name, column in self.columns.items()})


_RUN = Column(_TEXT, "The run, as in `lakehouse runs` and the web UI.")
_DATE_OF_RUN = Column(_DAY, "The day on which the run ended, in UTC: the partition.")
_OWNER = Column(_TEXT, "Who answers for the table, as declared when the run was recorded.")
_PRODUCT = Column(_TEXT, "The first word of the table.")

RUNS: Final = SystemTable(
    platform_tables.RUNS,
    "One row a run that has ended, whoever started it.",
    {
        "run_id": _RUN,
        "job": Column(_TEXT, "`refresh`, `train`, `maintenance`, a job of a product, or `selection` for a selection of assets."),
        "status": Column(_TEXT, "`success`, `failure` or `canceled`."),
        "trigger": Column(_TEXT, "`command`, `schedule`, `sensor`, `backfill` or `web UI`."),
        "launched_by": Column(_TEXT, "Which schedule or sensor, or which user."),
        "code": Column(_TEXT, "The commit of the code, where it is a checkout."),
        "requested_at": Column(TIMESTAMP, "When it was asked for."),
        "started_at": Column(TIMESTAMP, "When it started; null if it never did."),
        "ended_at": Column(TIMESTAMP, "When it ended; of a run that died, when that was noticed."),
        "duration": Column(_NUMBER, "From its start to its end.", "seconds"),
        "steps": Column(_WHOLE, "Steps that it was to do."),
        "steps_failed": Column(_WHOLE, "Steps of it that failed."),
        "checks_failed": Column(_WHOLE, "Checks of it that failed."),
        "reason": Column(_TEXT, "Why it failed or was canceled; null for success."),
        DATE: _DATE_OF_RUN,
    },
)
STEPS: Final = SystemTable(
    platform_tables.STEPS,
    "One row a step of a run that has ended: one table, model or plain asset.",
    {
        "run_id": _RUN,
        "step": Column(_TEXT, "The step as Dagster names it."),
        "table": Column(_TEXT, "The table, model or plain asset that it wrote."),
        "product": _PRODUCT,
        "owner": _OWNER,
        "status": Column(_TEXT, "`success`, `failure`, `skipped`, or `interrupted` where its process ended before it did."),
        "attempts": Column(_WHOLE, "How often it was tried."),
        "started_at": Column(TIMESTAMP, "When it started; null if it never did."),
        "ended_at": Column(TIMESTAMP, "When it ended."),
        "duration": Column(_NUMBER, "From its start to its end, all tries together.", "seconds"),
        "cpu": Column(_NUMBER, "CPU time of its process and of child processes that ended.", "seconds"),
        "peak_memory": Column(_WHOLE, "The most memory that its process had resident.", "bytes"),
        "bytes_read": Column(_WHOLE, "What its process read from files; null in a bucket.", "bytes"),
        "bytes_written": Column(_WHOLE, "Data files that it added to its table and the quarantine.", "bytes"),
        "rows_in": Column(_WHOLE, "Rows that came; null where they are not counted."),
        "rows_written": Column(_WHOLE, "New rows of the table."),
        "rows_updated": Column(_WHOLE, "Rows that changed a row of the table."),
        "rows_duplicate": Column(_WHOLE, "Rows that the table, or its quarantine, had already, or had newer."),
        "rows_quarantined": Column(_WHOLE, "Rows that broke an error rule."),
        "version_before": Column(_WHOLE, "Version of the table before; null if there was none."),
        "version_after": Column(_WHOLE, "Version of the table after."),
        "reason": Column(_TEXT, "Why it failed; null if it did not."),
        DATE: _DATE_OF_RUN,
    },
)
CHECKS: Final = SystemTable(
    platform_tables.CHECKS,
    "One row a check that was evaluated in a run that has ended.",
    {
        "run_id": _RUN,
        "table": Column(_TEXT, "The table that was checked."),
        "product": _PRODUCT,
        "owner": _OWNER,
        "check": Column(_TEXT, "The check."),
        "passed": Column(_YES_NO, "Whether it passed."),
        "severity": Column(_TEXT, "`error` stops what is downstream, `warn` does not."),
        "text": Column(_TEXT, "What it said; null where it had nothing to say."),
        "rows_checked": Column(_WHOLE, "Rows that it looked at; null where it is not about rows."),
        "rows_broken": Column(_WHOLE, "Rows that broke its rule; null where it is not about rows."),
        "at": Column(TIMESTAMP, "When it was evaluated."),
        DATE: _DATE_OF_RUN,
    },
)
ROW_ACCOUNTS: Final = SystemTable(
    "platform.system.row_accounts",
    "One row a commit that has a row account: rows_in = written + updated + duplicates + quarantined, where rows_in is counted.",
    {
        "table": Column(_TEXT, "The table."),
        "product": _PRODUCT,
        "version": Column(_WHOLE, "Version that the commit made."),
        "at": Column(TIMESTAMP, "When it was committed."),
        "run_id": Column(_TEXT, "The run, or whatever else made the commit."),
        "repeated": Column(_YES_NO, "Whether its rows had all come before, as in a full refresh."),
        "rows_in": Column(_WHOLE, "Rows that came; null where they are not counted."),
        "written": Column(_WHOLE, "New rows of the table."),
        "updated": Column(_WHOLE, "Rows that changed a row of the table."),
        "duplicates": Column(_WHOLE, "Rows that the table, or its quarantine, had already, or had newer."),
        "quarantined": Column(_WHOLE, "Rows that broke an error rule."),
        "removed": Column(_WHOLE, "Rows of the table that went."),
    },
)
DECISIONS: Final = SystemTable(
    "platform.system.decisions",
    "One row a decision about a version of a model: the ledgers of all models.",
    {
        "model": Column(_TEXT, "The model."),
        "product": _PRODUCT,
        "sequence": Column(_WHOLE, "Number of the decision in the model's ledger."),
        "decided_at": Column(TIMESTAMP, "When it was decided."),
        "decision": Column(_TEXT, "`promoted`, `kept as challenger`, `rolled back`, …"),
        "version": Column(_WHOLE, "The version that it is about."),
        "decided_by": Column(_TEXT, "The person, for a decision by hand; null for the gate's, and by hand where it is not known who."),
        "reasons": Column(_TEXT, "Sentences, one a line."),
        "question": Column(_TEXT, "What the gate was asked: `first`, `change` or `refresh`; null by hand."),
        "champion_before": Column(_WHOLE, "The champion until then."),
        "champion": Column(_WHOLE, "The champion since then."),
        "challenger": Column(_WHOLE, "The challenger since then."),
        "candidate": Column(_TEXT, "`model`, or the name of the baseline that the version is."),
        "code_version": Column(_TEXT, "Of the code that trained it."),
        "training_tables": Column(_TEXT, "JSON object of the tables that it was trained on and their versions."),
        "training_table_digests": Column(_TEXT, "JSON object of what tells these versions from those of a table that was created again."),
        "run_id": Column(_TEXT, "The run of MLflow that made the version."),
    },
)
REQUESTS: Final = SystemTable(
    "platform.system.requests",
    "One row a row that an endpoint was asked, and a variant of the model: the inference logs of all endpoints, without what was sent, "
    "looked up and answered.",
    {
        "table": Column(_TEXT, "The inference log that has the whole row."),
        "product": _PRODUCT,
        "endpoint": Column(_TEXT, "The endpoint."),
        "request_id": Column(_TEXT, "The request."),
        "row": Column(_WHOLE, "Number of the row in the request."),
        "received_at": Column(TIMESTAMP, "When it came."),
        "event_time": Column(TIMESTAMP, "For which time it asked."),
        "model_name": Column(_TEXT, "Name of the registered model."),
        "model_version": Column(_WHOLE, "The version that answered."),
        "variant": Column(_TEXT, "`champion`, `challenger` or `shadow`."),
        "requester": Column(_TEXT, "The token or user who asked."),
        "seconds": Column(_TEXT, "JSON object of how long each part took.", "seconds"),
        "status_code": Column(_WHOLE, "How the request ended, as in HTTP."),
        DATE: Column(_DAY, "The day on which the request came, in UTC."),
    },
)

WRITTEN: Final = (RUNS, STEPS, CHECKS)
VIEWED: Final = (ROW_ACCOUNTS, DECISIONS, REQUESTS)
"""What stands in no table of its own: these names are resolved when they are read."""
