"""The shadow of a promotion: for a while the previous champion predicts too, and the losses of both on what came since may call it back.

Nothing has to be stored for it: both predictors are at hand, and neither has seen what came after the promotion. The test is in
`modelling.gate.shadow`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT
from lakehouse_assets.platform.declarations.models import CHAMPION
from lakehouse_assets.platform.modelling.evaluation import Evaluation, predicted
from lakehouse_assets.platform.modelling.gate.shadow import recall
from lakehouse_assets.platform.pipeline.compared_version import ComparedVersion
from lakehouse_assets.platform.pipeline.model_training import ModelTraining
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.registry.ledger import Verdict, last_decision, last_move

_PREVIOUS: Final = "previous"
_DAY: Final = timedelta(days=1)
_PERIODS: Final = 14  # within a shadow: at an error rate of 5 % seven that are lost in full are proof, and fewer cannot be
_BY_THE_GATE: Final = ("promoted", "approved")


@dataclass(frozen=True)
class CalledBack:
    """A version that was champion until its live losses called the previous one back.

    Attributes:
        version: Its number.
        recipe: That made it.
        at: When it was called back.
    """

    version: int
    recipe: str | None
    at: datetime

    @classmethod
    def of(cls, ledger: pl.LazyFrame) -> "CalledBack | None":
        """The version of the last change of champions, if that was a call-back."""
        move = last_move(ledger)
        if move is None or move["decision"] != "called back":
            return None
        rows = ledger.filter(pl.col("version") == move["champion_before"], pl.col("recipe").is_not_null())
        made = last_decision(rows)
        return None if made is None else cls(made["version"], made["recipe"], move["decided_at"])

    def __str__(self) -> str:
        return (
            f"version {self.version} of the same recipe was called back on {self.at:%Y-%m-%d}, because it did worse on what came after its "
            "promotion. Change the recipe, or let a person decide: `lakehouse models promote MODEL VERSION --reason TEXT`."
        )


@dataclass(frozen=True)
class Shadow:
    """The promotion that is still in doubt, if one is.

    Attributes:
        decisions: About the model.
        training: Its examples, on the newest data.
        now: With time zone.
    """

    decisions: ModelDecisions
    training: ModelTraining
    now: datetime

    def call_back(self) -> bool:
        """Make the previous champion champion again where the live losses say so. Returns whether that was done."""
        state = self.decisions.sync()
        entry = self._promotion()
        if entry is None or state.aliases.champion is None or state.aliases.previous is None:
            return False
        asset, registry = self.training.asset, self.decisions.registry
        champion, previous = (ComparedVersion.of(registry, asset, one) for one in (state.aliases.champion, state.aliases.previous))
        if champion is None or previous is None or previous.is_a_baseline or champion.predictor is None or previous.predictor is None:
            return False
        if not champion.reads(self.training) or not previous.reads(self.training):
            return False  # features have another meaning since, and what the one or the other says of them means nothing
        live = self._live(entry["decided_at"])
        if live.is_empty() or not {*champion.predictor.inputs, *previous.predictor.inputs} <= {*live.columns}:
            return False
        both = {CHAMPION: champion.predictor, _PREVIOUS: previous.predictor}
        parts = [
            predicted(name, f"{period[0]:%Y-%m-%d}", predictor, rows.drop("__period"), asset.examples)
            for period, rows in live.group_by("__period", maintain_order=True)
            for name, predictor in both.items()
        ]
        losses = Evaluation(pl.concat(parts, how="diagonal_relaxed")).losses(asset.metric)
        over = self.now - entry["decided_at"] > asset.gate.shadow
        found = recall(losses, asset.gate, champion=CHAMPION, previous=_PREVIOUS, metric=asset.metric.name, shadow_over=over)
        if found.verdict != "call back":
            return False
        verdict = Verdict(decision="called back", reasons=found.reasons, question="change")
        aliases = state.aliases.promote(state.aliases.previous)
        return self.decisions.record(state, verdict, state.aliases.previous, aliases=aliases)

    def _promotion(self) -> dict[str, Any] | None:
        """The last promotion by the gate of another recipe, while its shadow lasts; None if a person decided since."""
        last = last_move(self.decisions.ledger.scan())
        if last is None or last["decision"] not in _BY_THE_GATE or last["champion_before"] is None or last["question"] != "change":
            return None
        shadow = self.training.asset.gate.shadow
        # The outcomes of the last period that begins in it have to come.
        return last if shadow and self.now - last["decided_at"] <= shadow + self._period + self._settled_after else None

    @property
    def _period(self) -> timedelta:
        """How long the live losses are that count as one."""
        return max(_DAY, timedelta(days=self.training.asset.gate.shadow.days // _PERIODS))

    @cached_property
    def _settled_after(self) -> timedelta:
        """How long after a prediction its outcomes are all known."""
        training = self.training
        return training.asset.split.settled_after(training.candidates.index, at=training.asset.examples.at)

    def _live(self, since: datetime) -> pl.DataFrame:
        """The examples of predictions that were made after a moment, by period: those alone that are over, and whose outcomes all came."""
        examples = self.training.asset.examples
        at = pl.col(examples.at)
        if self.training.candidates.all.collect_schema()[examples.at] == pl.Date:
            at = at.cast(pl.Datetime("us")).dt.replace_time_zone("UTC") + _DAY - timedelta(microseconds=1)
        first = datetime.combine(since.date() + _DAY, time(), UTC)
        period = pl.lit(first) + (at - first).dt.total_days() // self._period.days * pl.lit(self._period)
        rows = self.training.candidates.all.filter(at >= first, pl.col(LABEL_KNOWN_AT) >= first).with_columns(__period=period.dt.date())
        known = self.training.candidates.index[LABEL_KNOWN_AT].max()
        over = min(self.now, known) if isinstance(known, datetime) else self.now
        whole = pl.col("__period") <= pl.lit((over - self._period - self._settled_after).date())
        return rows.filter(whole).sort(examples.at, *examples.key).collect()
