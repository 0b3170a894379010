"""The model ledger: every decision about which version of a model is in use, with its reasons. MLflow's aliases have no history.

Here are its rows, their schema, and how the last decision is read. When a row is committed, and how MLflow follows, is in `decisions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

import polars as pl

from lakehouse_assets.platform.modelling.gate.guards import Guard
from lakehouse_assets.platform.modelling.gate.verdict import Decision
from lakehouse_assets.platform.registry.registry import Aliases, ModelVersion, features_of
from lakehouse_assets.platform.registry.training_run import (
    CANDIDATE,
    CODE_VERSION,
    DIGEST,
    ENVIRONMENT,
    FEATURES,
    RECIPE,
    SEED,
    TABLE_DIGESTS,
    TABLES,
)
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion

DecisionName = Literal[
    "promoted",
    "kept as challenger",
    "judged in a dry run",
    "awaits approval",
    "approved",
    "rejected",
    "called back",
    "rolled back",
    "promoted by hand",
    "promoted by hand in MLflow",
    "retired by hand in MLflow",
]

BY_HAND: Final = ("rolled back", "promoted by hand", "promoted by hand in MLflow")
"""The decisions by which a person chooses a champion, whatever the gate says."""

GATE: Final = "the gate"
PERSON: Final = "a person"
"""Who decided without a name: only the gate is asked a question, so who was asked none is a person."""

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
        "training_table_digests": pl.String(),
        "feature_versions": pl.String(),
        "code_version": pl.String(),
        "seed": pl.Int64(),
        "environment": pl.String(),
        "candidate": pl.String(),
        "recipe": pl.String(),
        "digest": pl.String(),
        "question": pl.String(),
        "numbers": pl.String(),
        "decided_by": pl.String(),
        "training_reason": pl.String(),
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
        training_table_digests: JSON object of what tells these versions from those of another Delta table of the same name.
        feature_versions: JSON object of the versions of its feature sets.
        code_version: Of the code that trained it.
        seed: Of the training.
        environment: Fingerprint of the interpreter and packages that trained it.
        candidate: `model`, or the name of the baseline that the version is.
        recipe: Of the training: see `TrainingRun`.
        digest: Of the files of its predictor.
        question: What the gate was asked: whether a `first` model, a `change` or a `refresh` may become champion; None by hand.
        numbers: JSON of what the gate compared; None by hand.
        decided_by: The person, for a decision by hand; None for the gate's, and where MLflow does not keep who it was.
        training_reason: Why the training was asked for that the decision ends; None: by schedule, or without a reason.
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
    training_table_digests: str | None
    feature_versions: str | None
    code_version: str | None
    seed: int | None
    environment: str | None
    candidate: str | None
    recipe: str | None
    digest: str | None
    question: str | None
    numbers: str | None
    decided_by: str | None
    training_reason: str | None

    def frame(self) -> pl.DataFrame:
        """The row as it is stored, with `LEDGER_SCHEMA`."""
        return pl.DataFrame([asdict(self)], schema=LEDGER_SCHEMA)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is decided about a version, and why.

    Attributes:
        decision: What was decided.
        reasons: Sentences.
        question: See `LedgerEntry`; so are the next two.
        numbers: What the gate compared.
        decided_by: Who decided.
        training_reason: See `LedgerEntry`.
    """

    decision: DecisionName
    reasons: Sequence[str]
    question: str | None = None
    numbers: str | None = None
    decided_by: str | None = None
    training_reason: str | None = None

    @property
    def table(self) -> str:
        """What the gate compared, as Markdown; empty for a decision by hand."""
        return table_of(self.numbers)


def table_of(numbers: str | None) -> str:
    """The numbers of a decision as Markdown; empty if there are none."""
    return "" if numbers is None else Decision.from_json(numbers).table()


def in_short_of(numbers: str | None) -> str:
    """What decided, in few words; empty if there are no numbers."""
    return "" if numbers is None else Decision.from_json(numbers).in_short


def leaks_of(numbers: str | None) -> tuple[Guard, ...]:
    """What a leakage report warned of, or refused, when a decision was made."""
    return () if numbers is None else Decision.from_json(numbers).leaks


def ledger_entry(
    verdict: Verdict,
    version: int,
    *,
    model_name: str,
    origin: ModelVersion | None,
    sequence: int,
    before: Aliases,
    after: Aliases,
    decided_at: datetime,
) -> LedgerEntry:
    """The row for a decision about a version.

    Args:
        verdict: What was decided, and why.
        version: The version that the decision is about.
        model_name: Of the registered model.
        origin: The version as MLflow has it: its tags say what made it. None if it was deleted from MLflow.
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
        decision=verdict.decision,
        reasons="\n".join(verdict.reasons),
        champion_before=before.champion,
        champion=after.champion,
        previous=after.previous,
        challenger=after.challenger,
        training_tables=tags.get(TABLES),
        training_table_digests=tags.get(TABLE_DIGESTS),
        feature_versions=tags.get(FEATURES),
        code_version=tags.get(CODE_VERSION),
        seed=int(tags[SEED]) if SEED in tags else None,
        environment=tags.get(ENVIRONMENT),
        candidate=tags.get(CANDIDATE),
        recipe=tags.get(RECIPE),
        digest=tags.get(DIGEST),
        question=verdict.question,
        numbers=verdict.numbers,
        decided_by=verdict.decided_by,
        training_reason=verdict.training_reason,
    )


def by_whom(decision: Mapping[str, Any]) -> str:
    """Who took a decision, in words: a person by name, the gate, or a person whose name is not known."""
    return decision["decided_by"] or (GATE if decision["question"] else PERSON)


def last_decision(ledger: pl.LazyFrame) -> dict[str, Any] | None:
    """The last decision of a ledger, by its sequence: its row as a dictionary; None if nothing was decided yet."""
    last = ledger.filter(pl.col("sequence") == pl.col("sequence").max()).collect()
    return None if last.is_empty() else last.row(0, named=True)


def last_move(ledger: pl.LazyFrame) -> dict[str, Any] | None:
    """The last decision that made another version champion, or none; its row as a dictionary."""
    return last_decision(ledger.filter(pl.col("champion").ne_missing(pl.col("champion_before"))))


def rejection_of(ledger: pl.LazyFrame, version: int) -> str | None:
    """By whom, when and why a version was rejected, if that is the last thing that a person decided about it; else None."""
    by_a_person = pl.col("decision").is_in(BY_HAND) | pl.col("decided_by").is_not_null()
    last = last_decision(ledger.filter(pl.col("version") == version, by_a_person))
    return f"{last['decided_at']:%Y-%m-%d}: {last['reasons']}" if last is not None and last["decision"] == "rejected" else None


def champion_candidate(ledger: pl.LazyFrame, champion: int | None) -> str | None:
    """Which candidate the champion was in its training: `model`, or the name of a baseline; None if that is not known."""
    return _of_version(ledger, champion, "candidate")


def features_of_version(ledger: pl.LazyFrame, version: int | None) -> dict[str, FeatureVersion]:
    """The versions of the feature sets that a version of the model was trained on, by name; none if they are not known."""
    return features_of(_of_version(ledger, version, "feature_versions"))


def _of_version(ledger: pl.LazyFrame, version: int | None, column: str) -> str | None:
    """What the training of a version of the model wrote into a column."""
    if column not in ledger.collect_schema():
        return None  # a ledger of an earlier release, before its next decision
    of_version = ledger.filter(pl.col("version").eq_missing(pl.lit(version)), pl.col(column).is_not_null())
    found: list[str] = of_version.select(column).head(1).collect()[column].to_list()
    return found[0] if found else None
