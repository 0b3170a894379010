"""The model ledger: every decision about a champion, with its reasons. MLflow's aliases keep no history, this does.

It gives the rows and their schema. The Delta table that holds them is written by whoever took the decision.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

import polars as pl

from lakehouse_assets.platform.registry.registry import CHALLENGER, CHAMPION, ModelVersion
from lakehouse_assets.platform.registry.training_run import CODE_VERSION, ENVIRONMENT, SEED, TABLES

DecisionName = Literal["promoted", "kept as challenger", "rolled back"]

LEDGER_SCHEMA: Final = pl.Schema(
    {
        "decided_at": pl.Datetime("us", "UTC"),
        "model_name": pl.String(),
        "version": pl.Int64(),
        "run_id": pl.String(),
        "decision": pl.String(),
        "alias": pl.String(),
        "reasons": pl.String(),
        "champion_before": pl.Int64(),
        "training_tables": pl.String(),
        "code_version": pl.String(),
        "seed": pl.Int64(),
        "environment": pl.String(),
    }
)


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One decision: a row of the ledger.

    Attributes:
        decided_at: With time zone.
        model_name: Of the registered model.
        version: That was decided about.
        run_id: Of the MLflow run that made the version.
        decision: What was decided.
        alias: That the version has since then.
        reasons: Sentences, one a line.
        champion_before: Version that was champion until then, if any.
        training_tables: JSON object of the tables that the version was trained on and their Delta versions.
        code_version: Of the code that trained it.
        seed: Of the training.
        environment: Fingerprint of the interpreter and packages that trained it.
    """

    decided_at: datetime
    model_name: str
    version: int
    run_id: str
    decision: DecisionName
    alias: str
    reasons: str
    champion_before: int | None
    training_tables: str
    code_version: str
    seed: int
    environment: str


def ledger_entry(
    version: ModelVersion,
    decision: DecisionName,
    *,
    reasons: Sequence[str],
    champion_before: int | None,
    decided_at: datetime,
) -> LedgerEntry:
    """The row for a decision about a registered version, with what the version says about its own origin."""
    return LedgerEntry(
        decided_at=decided_at,
        model_name=version.model_name,
        version=version.version,
        run_id=version.run_id,
        decision=decision,
        alias=CHALLENGER if decision == "kept as challenger" else CHAMPION,
        reasons="\n".join(reasons),
        champion_before=champion_before,
        training_tables=version.tags[TABLES],
        code_version=version.tags[CODE_VERSION],
        seed=int(version.tags[SEED]),
        environment=version.tags[ENVIRONMENT],
    )


def ledger_frame(entries: Iterable[LedgerEntry]) -> pl.DataFrame:
    """The rows as they are stored, with `LEDGER_SCHEMA`."""
    return pl.DataFrame([asdict(entry) for entry in entries], schema=LEDGER_SCHEMA)


def last_decision(ledger: pl.LazyFrame) -> dict[str, Any] | None:
    """The newest row of a ledger, with `champion`: the version that is champion since then; None if nothing was decided yet."""
    newest = ledger.sort("decided_at").tail(1).collect()
    if newest.is_empty():
        return None
    row = newest.row(0, named=True)
    return row | {"champion": row["champion_before"] if row["alias"] == CHALLENGER else row["version"]}
