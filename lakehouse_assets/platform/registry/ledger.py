"""The model ledger: every decision about which version of a model is in use, with its reasons. MLflow's aliases have no history.

Here are its rows, their schema, and how the last decision is read. When a row is committed, and how MLflow follows, is in `decisions`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

import polars as pl

from lakehouse_assets.platform.registry.registry import Aliases, ModelVersion
from lakehouse_assets.platform.registry.training_run import CODE_VERSION, ENVIRONMENT, SEED, TABLES

DecisionName = Literal[
    "promoted", "kept as challenger", "rolled back", "promoted by hand", "promoted by hand in MLflow", "retired by hand in MLflow"
]

LEDGER_SCHEMA: Final = pl.Schema(
    {
        "sequence": pl.Int64(),
        "decided_at": pl.Datetime("us", "UTC"),
        "model_name": pl.String(),
        "version": pl.Int64(),
        "run_id": pl.String(),
        "decision": pl.String(),
        "reasons": pl.String(),
        "champion_before": pl.Int64(),
        "champion": pl.Int64(),
        "previous": pl.Int64(),
        "challenger": pl.Int64(),
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
        sequence: Counts from 1, in the order of the ledger's commits. This is the order of decisions; clocks may step back.
        decided_at: When the entry was made, with time zone.
        model_name: Of the registered model.
        version: The version that the decision is about.
        run_id: Of the MLflow run that made the version; this and what follows `challenger` is None where MLflow does not say.
        decision: What was decided.
        reasons: Sentences, one a line.
        champion_before: The champion until then, if any.
        champion: The champion since then, if any.
        previous: The previous champion since then, if any.
        challenger: The challenger since then, if any.
        training_tables: JSON object of the tables that the version was trained on and their Delta versions.
        code_version: Of the code that trained it.
        seed: Of the training.
        environment: Fingerprint of the interpreter and packages that trained it.
    """

    sequence: int
    decided_at: datetime
    model_name: str
    version: int
    run_id: str | None
    decision: DecisionName
    reasons: str
    champion_before: int | None
    champion: int | None
    previous: int | None
    challenger: int | None
    training_tables: str | None
    code_version: str | None
    seed: int | None
    environment: str | None

    def frame(self) -> pl.DataFrame:
        """The row as it is stored, with `LEDGER_SCHEMA`."""
        return pl.DataFrame([asdict(self)], schema=LEDGER_SCHEMA)


def ledger_entry(
    decision: DecisionName,
    version: int,
    *,
    model_name: str,
    origin: ModelVersion | None,
    reasons: Sequence[str],
    sequence: int,
    before: Aliases,
    after: Aliases,
    decided_at: datetime,
) -> LedgerEntry:
    """The row for a decision about a version.

    Args:
        decision: What was decided.
        version: The version that the decision is about.
        model_name: Of the registered model.
        origin: The version as MLflow has it: its tags say what made it. None if it was deleted from MLflow.
        reasons: Sentences.
        sequence: The entry's number.
        before: The aliases before the decision.
        after: The aliases after it.
        decided_at: With time zone.
    """
    tags = {} if origin is None else origin.tags
    return LedgerEntry(
        sequence=sequence,
        decided_at=decided_at,
        model_name=model_name,
        version=version,
        run_id=None if origin is None else origin.run_id,
        decision=decision,
        reasons="\n".join(reasons),
        champion_before=before.champion,
        champion=after.champion,
        previous=after.previous,
        challenger=after.challenger,
        training_tables=tags.get(TABLES),
        code_version=tags.get(CODE_VERSION),
        seed=int(tags[SEED]) if SEED in tags else None,
        environment=tags.get(ENVIRONMENT),
    )


def last_decision(ledger: pl.LazyFrame) -> dict[str, Any] | None:
    """The last decision of a ledger, by its sequence: its row as a dictionary; None if nothing was decided yet."""
    last = ledger.filter(pl.col("sequence") == pl.col("sequence").max()).collect()
    return None if last.is_empty() else last.row(0, named=True)
