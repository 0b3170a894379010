"""A baseline as champion while no model has passed the gate, so that there are predictions from the first day.

Which model passes is for the gate; this is asked only where there is no champion, or the champion is a baseline itself. What a person
chose or rejected stays so, and a dry run only fills an empty place.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from lakehouse_assets.platform.declarations.learning import NotEnoughData
from lakehouse_assets.platform.declarations.models import ONE_LINE_RULE
from lakehouse_assets.platform.modelling.evaluation import Evaluation
from lakehouse_assets.platform.pipeline.compared_version import ComparedVersion
from lakehouse_assets.platform.pipeline.model_training import ModelTraining
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.registry.ledger import BY_HAND, Verdict, last_move, rejection_of
from lakehouse_assets.platform.registry.registry import Registry


@dataclass(frozen=True)
class Fallback:
    """The baselines of a training.

    Attributes:
        registry: Where they are registered.
        decisions: About the model.
        training: Fits them.
    """

    registry: Registry
    decisions: ModelDecisions
    training: ModelTraining

    def use_the_best(self, evaluation: Evaluation, *, is_leaking: bool) -> None:
        """Make the baseline with the least loss champion; where a column gives the target away, only one that reads no column."""
        metric = self.training.asset.metric
        best = self.training.best_baseline(evaluation.own.losses(metric))
        because = f"it has the best {metric.name}"
        if is_leaking:
            best, because = self._blind(), "a column gives the target away, and this baseline reads none"
        if best is not None:
            reason = f"No model has passed the gate yet. Until one does, the baseline {best} predicts: {because}."
            self._use(best, evaluation, [reason])

    def use_the_first(self, reasons: Sequence[str]) -> list[str]:
        """Make the first baseline champion, untested, unless a model is; what was done is added to the reasons.

        The best rule of one column is never it: untested, it may be a column that gives the target away.
        """
        for name in self._declared[:1]:
            because = [*reasons, f"Until then the baseline {name} predicts. It was not tested."]
            try:
                return because if self._use(name, None, because) else [*reasons]
            except NotEnoughData as short:
                return [*reasons, f"The baseline {name} cannot predict either: {short}"]
        return [*reasons]

    @property
    def _declared(self) -> list[str]:
        """The baselines without the best rule of one column."""
        return [name for name in self.training.baselines if name != ONE_LINE_RULE]

    def _blind(self) -> str | None:
        """The first baseline that predicts the same for every row, so that it knows nothing of a column; None if there is none."""
        rows = self.training.candidates.training_rows().rows
        for name in self._declared:
            with suppress(NotEnoughData):
                predictor = self.training.candidates.fit(name)
                if not predictor.inputs or predictor.predict(rows.select(predictor.inputs).collect()).unique().height == 1:
                    return name
        return None

    def _stays(self, champion: ComparedVersion) -> bool:
        """Whether a champion keeps its place: a model, what a person chose, and any in a dry run."""
        if not champion.is_a_baseline or self.training.asset.gate.mode == "dry run":
            return True
        move = last_move(self.decisions.ledger.scan())
        return move is not None and move["decision"] in BY_HAND

    def _use(self, name: str, evaluation: Evaluation | None, reasons: Sequence[str]) -> bool:
        """Whether a baseline is champion now. One that is the same to the byte is not registered again."""
        state = self.decisions.sync()
        champion = ComparedVersion.of(self.registry, self.training.asset, state.aliases.champion)
        if champion is not None and self._stays(champion):
            return False
        predictor = self.training.candidates.fit(name)
        if champion is not None and champion.candidate == name and champion.is_equal_to(predictor) and champion.reads(self.training):
            return True
        version = self.registry.log_training(self.training.run(predictor, name, evaluation))
        if rejection_of(self.decisions.ledger.scan(), version.version) is not None:
            return False
        verdict = Verdict(decision="promoted", reasons=reasons, question="first", training_reason=self.training.reason or None)
        return self.decisions.record(state, verdict, version.version, aliases=state.aliases.promote(version.version))
