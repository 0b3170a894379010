"""Brings one declared model up to date: test and train on the newest data, register, compare at the gate, record the decision.

Every step can be repeated. A training that gave the same predictor is not registered twice, and the ledger's commit carries the cursors on
the tables that it learnt from, so of two runs at once one decides. How candidates are tested is in `model_training`, what they have to pass
in `modelling.gate`, which version is in use in `registry.decisions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import MODEL, NotEnoughData
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.retraining import TrainingReason
from lakehouse_assets.platform.modelling.gate.guards import Guard
from lakehouse_assets.platform.modelling.gate.verdict import Decision
from lakehouse_assets.platform.pipeline.compared_version import ComparedVersion
from lakehouse_assets.platform.pipeline.fallback import Fallback
from lakehouse_assets.platform.pipeline.gate_step import GateStep
from lakehouse_assets.platform.pipeline.model_training import Challenger, ModelTraining
from lakehouse_assets.platform.pipeline.shadow import CalledBack, Shadow
from lakehouse_assets.platform.registry.approvals import Approvals
from lakehouse_assets.platform.registry.decisions import ChampionChange, ModelDecisions
from lakehouse_assets.platform.registry.ledger import (
    BY_HAND,
    DecisionName,
    Verdict,
    in_short_of,
    last_decision,
    leaks_of,
    rejection_of,
    table_of,
)
from lakehouse_assets.platform.registry.registry import ModelVersion, NoSuchModelVersion, Registry, nothing_known
from lakehouse_assets.platform.storage import feature_versions, platform_tables
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

_PROMOTIONS = {"promoted", "approved", "called back", *BY_HAND}
_NAMES: Mapping[str, DecisionName] = {"promoted": "promoted", "awaits approval": "awaits approval"}
_CHALLENGES = {"kept as challenger", "awaits approval"}
REQUESTS: Final = "lakehouse.training-requests"
"""The cursor of a ledger on the requests for trainings that are done: their numbers."""
VERDICTS: Final = "lakehouse.verdicts"
"""The cursor of a ledger on the table of verdicts: its version when the last training chose the rows that it read, 0 if there was none."""


@dataclass(frozen=True)
class ModelStepResult:
    """What a model step did.

    Attributes:
        promoted: Whether the version of the last decision is champion, and a model: a baseline only stands in for one.
        reasons: The reasons of the last decision, or why there was nothing to decide.
        version: The version of the last decision, if there was one.
        champion: The champion's version, if there is one.
        table: What the gate compared, as Markdown; empty for a decision by hand.
        in_short: What decided, in few words; empty for a decision by hand.
        leaks: What gives the target away in the training set of the last decision: what only warns passed.
        metrics: Of the training, empty if none took place.
        plots: Of the training, PNG.
    """

    promoted: bool
    reasons: tuple[str, ...]
    version: int | None
    champion: int | None
    table: str = ""
    in_short: str = ""
    leaks: tuple[Guard, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    plots: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelStep:
    """One model of one root.

    Attributes:
        asset: The model.
        lakehouse: The tables.
        registry: MLflow.
        seed: Of trainings.
        run_id: Of the orchestrator's run.
        compute: Where a training works.
    """

    asset: ModelDeclaration
    lakehouse: Lakehouse
    registry: Registry
    seed: int
    run_id: str
    compute: Compute = field(default_factory=Local)

    @property
    def ledger(self) -> Table:
        """The table of all decisions about the model."""
        return self.lakehouse.table(self.asset.name)

    def open_ledger(self) -> ModelDecisions:
        """The decisions about the model; the ledger is created if it does not exist."""
        decisions = ModelDecisions(self.ledger, self.asset.name, self.registry, self.run_id)
        decisions.create()
        return decisions

    def run(self, *, retrain: bool = False, because: TrainingReason | None = None) -> ModelStepResult:
        """Train if a table that the model learns from has moved since the last training.

        Args:
            retrain: Train even if nothing has moved, as after a change of the code, or MLflow has lost its models.
            because: Why it is asked for. A request that was done already is not done again.

        Raises:
            NoSuchModelVersion: MLflow has nothing of a model that has a champion.
        """
        decisions = self.open_ledger()
        state = decisions.sync(is_lost=retrain)
        if self._is_done(because):
            return self.last_result()
        done = self._done(because)
        before = {name: self.ledger.cursor(name) for name in self.asset.sources()}
        verdicts = self._verdicts()  # before the tables: what is said in between may be about rows that the training does not read
        now = newest_versions(self.lakehouse, before)
        if not retrain and before == now:
            decisions.advance(done)
            return self.last_result()
        if (needed := state.aliases.champion) is not None and not self.registry.versions(self.asset.name):
            raise NoSuchModelVersion(nothing_known(self.asset.name, needed))
        self.registry.prepare()  # what is missing to keep a model is said before it is trained
        cursors = tuple(Cursor(name, before[name], version) for name, version in now.items() if before[name] != version)
        cursors += (*done, *verdicts)
        reason = "" if because is None else because.text
        training = ModelTraining(self.asset, self.lakehouse, now, self.seed, self.compute, self.run_id, clock.now(), reason)
        if not self._is_dry and Shadow(decisions, training, training.started_at).call_back():
            state = decisions.sync()
        champion = ComparedVersion.of(self.registry, self.asset, state.aliases.champion)
        try:
            challenger = training.challenger(champion.folds if champion else ())
        except NotEnoughData as short:
            return self._without_a_test(decisions, training, short, cursors)
        run = training.run(challenger.predictor, MODEL, challenger.evaluation)
        version = self.registry.log_training(run)
        decided = self._record(decisions, version, challenger, cursors)
        decisions.advance(self._done(because))  # unless the decision has said so
        result = self.last_result()
        # If another run decided on the same data first, its version counts, and the one of this run stays without an alias.
        return replace(result, metrics=run.metrics, plots=run.pictures) if decided else result

    def leave(self, why: str, because: TrainingReason | None = None) -> ModelStepResult:
        """Train nothing for a reason: the last decision stays, and the reason is told in the place of those of it."""
        decisions = self.open_ledger()
        decisions.sync()
        decisions.advance(self._done(because))
        return replace(self.last_result(), promoted=False, reasons=(why,), in_short="")

    def promote(self, version: int, reason: str, by: str | None = None) -> ChampionChange:
        """Make a version the champion by hand: see `ModelDecisions.promote`."""
        return self.open_ledger().promote(version, reason, by)

    def rollback(self, by: str | None = None) -> ChampionChange:
        """Make the previous champion the champion again: see `ModelDecisions.rollback`."""
        return self.open_ledger().rollback(by)

    def approve(self, version: int, by: str, reason: str) -> ChampionChange:
        """Approve a version that passed the gate: see `Approvals.approve`."""
        return Approvals(self.open_ledger()).approve(version, by, reason)

    def reject(self, version: int, by: str, reason: str) -> None:
        """Reject a version: see `Approvals.reject`."""
        Approvals(self.open_ledger()).reject(version, by, reason)

    def last_result(self) -> ModelStepResult:
        """What the last decision was; nothing is trained."""
        last = last_decision(self.ledger.scan()) if self.ledger.exists() else None
        if last is None:
            reason = "No version was trained yet: at the last try there was too little history."
            return ModelStepResult(promoted=False, reasons=(reason,), version=None, champion=None)
        champion = last["decision"] in _PROMOTIONS and last["champion"] == last["version"]
        promoted = champion and last.get("candidate") in {None, MODEL}
        numbers = last.get("numbers")
        reasons, leaks = tuple(last["reasons"].split("\n")), leaks_of(numbers)
        return ModelStepResult(promoted, reasons, last["version"], last["champion"], table_of(numbers), in_short_of(numbers), leaks)

    def _record(self, decisions: ModelDecisions, version: ModelVersion, challenger: Challenger, cursors: tuple[Cursor, ...]) -> bool:
        """Let the gate decide and record it; again if the champion changed meanwhile. False if another run decided on these data."""
        while all(self.ledger.cursor(cursor.source) == cursor.before for cursor in cursors):
            state = decisions.sync()
            champion = ComparedVersion.of(self.registry, self.asset, state.aliases.champion)
            rejected = rejection_of(self.ledger.scan(), version.version)
            decision = GateStep(self.asset, challenger, champion, CalledBack.of(self.ledger.scan())).decide()
            if rejected is not None:
                refused = f"Refused: version {version.version}, which the same training gave before, was rejected on {rejected}"
                decision = replace(decision, promote=False, verdict="refused", reasons=(*decision.reasons, refused))
            if not decision.promote and (champion is None or champion.is_a_baseline):
                Fallback(self.registry, decisions, challenger.training).use_the_best(challenger.evaluation, is_leaking=decision.is_leaking)
                state = decisions.sync()
            name = "rejected" if rejected is not None else "judged in a dry run" if self._is_dry else _NAMES.get(decision.verdict)
            verdict = _verdict(decision, name or "kept as challenger", challenger.training.reason)
            aliases = state.aliases.promote(version.version) if decision.promote else state.aliases
            if verdict.decision in _CHALLENGES:
                aliases = aliases.challenge(version.version)
            if decisions.record(state, verdict, version.version, aliases=aliases, cursors=cursors):
                return True
        return False

    def _done(self, because: TrainingReason | None) -> tuple[Cursor, ...]:
        """The cursor that says that a request for a training is done; none if it was none, or the ledger knows."""
        if because is None or because.number is None or self._is_done(because):
            return ()
        return (Cursor(REQUESTS, self.ledger.cursor(REQUESTS), because.number),)

    def _verdicts(self) -> tuple[Cursor, ...]:
        """The cursor that says what monitors had said before a training that begins now; none if that is all that the ledger knows."""
        table, before = self.lakehouse.table(platform_tables.VERDICTS), self.ledger.cursor(VERDICTS)
        now = table.version() if table.exists() else 0
        return () if before == now else (Cursor(VERDICTS, before, now),)

    def _is_done(self, because: TrainingReason | None) -> bool:
        """Whether the ledger knows that a request for a training is done, or a later one."""
        return because is not None and because.number is not None and (self.ledger.cursor(REQUESTS) or 0) >= because.number

    @property
    def _is_dry(self) -> bool:
        return self.asset.gate.mode == "dry run"

    def _without_a_test(
        self, decisions: ModelDecisions, training: ModelTraining, short: NotEnoughData, cursors: tuple[Cursor, ...]
    ) -> ModelStepResult:
        """There is too little history to test a model: a baseline predicts, if it can."""
        reasons = Fallback(self.registry, decisions, training).use_the_first([str(short)])
        decisions.advance(cursors)
        last = self.last_result()
        return replace(last, promoted=False, reasons=tuple(reasons), in_short="")


def newest_versions(lakehouse: Lakehouse, before: Mapping[str, int | None]) -> dict[str, int]:
    """The versions of tables to train on when the last training was on those `before`: maintenance alone makes no new one."""
    return {name: newest_features(lakehouse.table(name), version) for name, version in before.items()}


def newest_features(features: Table, before: int | None) -> int:
    """The version of a table to train on when the last training was on `before`: maintenance alone makes no new one."""
    newest = features.version()
    if before is None or before > newest:
        return newest
    return feature_versions.changed_at(features, before)


def _verdict(decision: Decision, name: DecisionName, training_reason: str) -> Verdict:
    return Verdict(
        decision=name,
        reasons=decision.reasons,
        question=decision.question,
        numbers=decision.to_json(),
        training_reason=training_reason or None,
    )
