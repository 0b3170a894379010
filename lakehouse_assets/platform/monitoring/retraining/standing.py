"""How a model stands: gathers from verdicts, ledger, requests and runs what the decision is made of, and asks for trainings.

It reads no clock and does not know who runs trainings: runs are told by whoever asks, Dagster's instance or its databases.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.learning import NotEnoughData
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.monitors import AlertRule, Monitor
from lakehouse_assets.platform.declarations.retraining import Retrain
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.drift.importance import Importance
from lakehouse_assets.platform.monitoring.retraining import evidence
from lakehouse_assets.platform.monitoring.retraining.decision import Decision, Door, History, Reason, Request, State, decide
from lakehouse_assets.platform.monitoring.retraining.requests import ask, requests_of
from lakehouse_assets.platform.monitoring.retraining.runs import RunOfModels, Runs
from lakehouse_assets.platform.pipeline.champions import champion_by_ledger
from lakehouse_assets.platform.pipeline.functions import why_not_trained
from lakehouse_assets.platform.pipeline.model_step import REQUESTS, VERDICTS, newest_versions
from lakehouse_assets.platform.pipeline.model_training import ModelTraining
from lakehouse_assets.platform.registry.ledger import last_decision
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import listed

# What became of a request that has several runs, as where one was started again by hand.
_BEFORE: Final[Sequence[State]] = ("under way", "done", "failed")
_Versions = tuple[tuple[str, int], ...]
# By root, model, and the versions before and now: finding labels may mean joining all feature sets, and sensors ask each minute. Of the
# labels themselves nothing is kept: there may be millions of them.
_NEW_LABELS: Final[dict[tuple[str, str, _Versions, _Versions], int]] = {}
_MOST_KEPT: Final = 1_000
_MOST_NAMED: Final = 2


@dataclass(frozen=True)
class Standing:
    """One model at one moment.

    Attributes:
        model: The model, which has `retrain`.
        catalog: All declarations.
        lakehouse: The tables.
        registry: Opens MLflow; asked only where a verdict is about one column.
        runs: Gives the runs.
        now: The moment (UTC).
        door: Who asks.
    """

    model: ModelDeclaration
    catalog: Catalog
    lakehouse: Lakehouse
    registry: Callable[[], Registry]
    runs: Runs
    now: datetime
    door: Door

    @cached_property
    def decision(self) -> Decision:
        """Whether to train now, and why or why not."""
        return decide(self._declared, self.history, lambda: self.reasons, self.now, self.door)

    def ask(self) -> Request | None:
        """The request whose training is to start, made unless it was made already; None if none is to start, or somebody else has asked."""
        decision = self.decision
        if not decision.starts:
            return None
        if decision.again is not None:
            return decision.again
        number = self.history.requests[-1].number + 1 if self.history.requests else 1
        return ask(self.lakehouse, self.model.name, number, decision.reasons, self.door, champion=self.champion, now=self.now)

    @cached_property
    def champion(self) -> int | None:
        """The version that is champion by the ledger."""
        return champion_by_ledger(self.lakehouse, self.model)

    @cached_property
    def history(self) -> History:
        """What was done so far, and whether there is anything to learn."""
        requests = requests_of(self.lakehouse, self.model.name)
        runs = [run for run in self.runs(requests[-1].key if requests else None) if run.trains(self.model.name)]
        under_way = tuple(run.run_id for run in runs if run.state == "under way")
        known = [replace(one, state=self._state(one, runs, is_last=one is requests[-1])) for one in requests]
        return History(tuple(known), under_way, self.trained_at, self._blocked)

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """What speaks for a training, the heaviest first."""
        declared = self._declared
        bad = evidence.failing(self.verdicts, self._rules, self.champion)
        return (
            *evidence.of_verdicts(bad, self._importance.of, declared.important),
            *evidence.of_labels(self.new_labels, declared.new_labels),
            *evidence.of_time(self._since, declared.every, self.now),
        )

    @property
    def unheeded(self) -> list[str]:
        """What failed and is yet no reason, each with why."""
        return evidence.unheeded(self.verdicts, self._rules, self.champion, self._importance.of, self._declared.important)

    @cached_property
    def verdicts(self) -> pl.DataFrame:
        """What the monitors said since the last training chose the rows that it read: also what they said while it ran."""
        table, read = self.lakehouse.table(verdicts.TABLE), self._ledger.cursor(VERDICTS)
        if not self._declared.on or not table.exists():
            return pl.DataFrame(schema=verdicts.SCHEMA)
        is_known = read is not None and read <= table.version()
        rows = verdicts.scan(self.lakehouse, read if is_known else None)
        rows = rows.filter(pl.col("monitor").is_in(self._declared.on), pl.col("evaluated_at") <= self.now)
        if is_known:
            return rows.collect()
        # The last training was one of an earlier release, or the table was created again.
        return rows.filter(pl.col("evaluated_at") > self._began).collect() if self._began is not None else rows.collect()

    @cached_property
    def new_labels(self) -> int | None:
        """So many labels there are that the last training had not, each outcome once; None: nobody asks, or those of that time are gone."""
        if self._declared.new_labels is None or not self._exist:
            return None
        before = {name: version for name, version in self._trained_on.items() if version is not None}
        before = before if len(before) == len(self._trained_on) else {}
        key = (self.lakehouse.root, self.model.name, tuple(sorted(before.items())), tuple(sorted(self._newest.items())))
        if key not in _NEW_LABELS:
            try:
                found = self._labels_since(before)
            except NoSuchVersion:
                return None
            if len(_NEW_LABELS) >= _MOST_KEPT:
                _NEW_LABELS.clear()
            _NEW_LABELS[key] = found
        return _NEW_LABELS[key]

    @cached_property
    def trained_at(self) -> datetime | None:
        """When the last decision of the gate was recorded, if that is not after now."""
        last = self._last_training
        return None if last is None or last["decided_at"] > self.now else last["decided_at"]

    # --- what this is made of

    @property
    def _declared(self) -> Retrain:
        assert self.model.retrain is not None  # noqa: S101 others are not asked about
        return self.model.retrain

    @property
    def _rules(self) -> dict[str, AlertRule]:
        return {name: self._monitor(name).alert for name in self._declared.on}

    @cached_property
    def _importance(self) -> Importance:
        return Importance(self.model, self.champion, self.registry)

    def _monitor(self, name: str) -> Monitor:
        found: Any = self.catalog[name]
        return found  # type: ignore[no-any-return]  # `Retrain.problems_of` held it to be one

    @property
    def _ledger(self) -> Table:
        return self.lakehouse.table(self.model.name)

    @cached_property
    def _since(self) -> datetime | None:
        """When the last training ended, or was asked for that ended without a decision."""
        done = [one.at for one in self.history.requests if one.state == "done" and one.at <= self.now]
        return max([*done, *([self.trained_at] if self.trained_at is not None else [])], default=None)

    @cached_property
    def _began(self) -> datetime | None:
        """A moment at which the last training had read nothing yet: when it was asked for; if nobody wrote that down, when it ended."""
        asked = [one for one in self.history.requests if one.state == "done" and one.at <= self.now]
        last = self._last_training
        if self.trained_at is None or last is None:
            return self._since
        return asked[-1].at if asked and last.get("training_reason") == asked[-1].text else self.trained_at

    @cached_property
    def _last_training(self) -> dict[str, Any] | None:
        """The last decision of the gate, as a row of the ledger."""
        ledger = self._ledger
        return last_decision(ledger.scan().filter(pl.col("question").is_not_null())) if ledger.exists() else None

    def _state(self, request: Request, runs: Sequence[RunOfModels], *, is_last: bool) -> State:
        """What became of a request: the ledger says which are done, the runs what became of the last one."""
        if (self._ledger.cursor(REQUESTS) or 0) >= request.number:
            return "done"
        if not is_last:
            return "failed"  # or there would be no later one
        own = {run.state for run in runs if run.request == request.key}
        if found := next((state for state in _BEFORE if state in own), None):
            return found
        # Somebody trained the model meanwhile: what was asked for has come about.
        return "done" if self.trained_at is not None and self.trained_at > request.at else "open"

    @cached_property
    def _exist(self) -> bool:
        return all(self.lakehouse.table(name).exists() for name in self.model.sources())

    @cached_property
    def _trained_on(self) -> dict[str, int | None]:
        ledger = self._ledger
        return {name: ledger.cursor(name) for name in self.model.sources()}

    @cached_property
    def _newest(self) -> dict[str, int]:
        return newest_versions(self.lakehouse, self._trained_on)

    @cached_property
    def _blocked(self) -> str:
        missing = [name for name in self.model.sources() if not self.lakehouse.table(name).exists()]
        if missing:
            return f"It learns from {listed(missing, _MOST_NAMED)}, which {'does' if len(missing) == 1 else 'do'} not exist yet."
        if self._newest == self._trained_on:
            return "Nothing has changed that it learns from since the last training."
        why = why_not_trained(self.model, self.catalog.declarations, self.lakehouse)
        return "" if why is None else f"{why}."

    def _labels_since(self, before: Mapping[str, int]) -> int:
        """So many outcomes there are now that there were not at these versions; without versions, all."""
        now, known = self._labels(self._newest), self._labels(before) if before else pl.DataFrame()
        if now.is_empty() or known.is_empty():
            return now.height
        # A contract may have widened a type meanwhile, and a hash depends on the type.
        same = known.cast(now.schema, strict=False)
        hashes, known_hashes = (rows.select(pl.struct(pl.all()).hash()).to_series() for rows in (now, same))
        return int((~hashes.is_in(known_hashes.implode())).sum())

    def _labels(self, versions: Mapping[str, int]) -> pl.DataFrame:
        """The outcomes that there are to learn from at these versions, each once."""
        training = ModelTraining(self.model, self.lakehouse, versions, 0, Local(), "", self.now)
        outcome = [one.alias(f"{position}") for position, one in enumerate(self.model.examples.outcome)]
        try:
            return training.candidates.index.select(outcome).unique()
        except NotEnoughData:
            return pl.DataFrame()
