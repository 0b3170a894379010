"""Brings one declared model up to date: train on the newest features, register, compare at the gate, record the decision.

Every step can be repeated. A training is recognised by its fingerprint and not registered twice, and the ledger's commit carries the cursor
on the feature set, so of two runs at once one decides. How a model is trained is the product's business, which version is in use that of
`registry.decisions`.
"""

import getpass
import hashlib
import importlib.metadata
import inspect
import io
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.modelling.result import HistoryTooShort, Training
from lakehouse_assets.platform.pipeline.refresh import reads_of
from lakehouse_assets.platform.registry.decisions import ChampionChange, ModelDecisions, create_ledger
from lakehouse_assets.platform.registry.gate import Decision, decide
from lakehouse_assets.platform.registry.ledger import DecisionName, last_decision
from lakehouse_assets.platform.registry.registry import ModelVersion, Registry
from lakehouse_assets.platform.registry.training_run import FINGERPRINT, TrainingRun, TrainingTable
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

_BACKTEST = "backtest.parquet"
_CHAMPION = "champion"
_KEPT: Final = "kept as challenger"


@dataclass(frozen=True)
class Scorer:
    """A champion that is ready to score.

    Attributes:
        name: Of the registered model.
        version: Of the champion.
        folder: Gives the folder that the model was saved in.
        load: The product's own function that reads it.
    """

    name: str
    version: int
    folder: Callable[[], Path]
    load: Callable[[Path], Any]

    @cached_property
    def model(self) -> Any:
        """What `load` returns; read on first use.

        Raises:
            LookupError: The version holds no model that `load` can read, as one that was registered by other means.
        """
        try:
            return self.load(self.folder())
        except OSError as error:
            raise LookupError(
                f"version {self.version} of {self.name} holds no model that can be loaded here ({error}). "
                "`lakehouse models` lists the versions: promote one that was trained here"
            ) from error


@dataclass(frozen=True)
class ModelStepResult:
    """What a model step did.

    Attributes:
        promoted: Whether the version of the last decision is champion.
        reasons: The reasons of the last decision, or why there was nothing to decide.
        version: The version of the last decision, if there was one.
        champion: The champion's version, if there is one.
        metrics: Of the training, empty if none took place.
        plots: Of the training, PNG.
    """

    promoted: bool
    reasons: tuple[str, ...]
    version: int | None
    champion: int | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    plots: Mapping[str, bytes] = field(default_factory=dict)


def sync_aliases(lakehouse: Lakehouse, asset: ModelDeclaration, registry: Callable[[], Registry], run_id: str) -> ModelDecisions | None:
    """The decisions about a model, after a champion alias that was set by hand in MLflow became one of them: see `ModelDecisions.sync`.

    None if nothing was decided about the model yet; MLflow is opened only if something was.
    """
    ledger = lakehouse.table(asset.name)
    if not ledger.exists() or not ledger.count():
        return None
    decisions = ModelDecisions(ledger, asset.name, registry(), run_id)
    decisions.sync()
    return decisions


def champion_by_ledger(lakehouse: Lakehouse, asset: ModelDeclaration) -> int | None:
    """The version that is champion by the ledger; MLflow is not asked."""
    ledger = lakehouse.table(asset.name)
    last = last_decision(ledger.scan()) if ledger.exists() else None
    return None if last is None else last["champion"]


def champion_of(lakehouse: Lakehouse, registry: Callable[[], Registry], run_id: str = "") -> Callable[[ModelDeclaration], Scorer | None]:
    """How tables get their champions: by the ledger, once it knows an alias that was set by hand in MLflow.

    A model that was never trained gets an empty ledger: what its champion predicts has the ledger among its sources.
    """

    def champion(model: ModelDeclaration) -> Scorer | None:
        create_ledger(lakehouse.table(model.name))
        decisions = sync_aliases(lakehouse, model, registry, run_id)
        version = None if decisions is None else decisions.champion()
        if decisions is None or version is None:
            return None
        return Scorer(version.model_name, version.version, partial(decisions.registry.model_folder, version), model.load)

    return champion


@dataclass(frozen=True)
class ModelStep:
    """One model of one root."""

    asset: ModelDeclaration
    lakehouse: Lakehouse
    registry: Registry
    seed: int
    run_id: str

    @property
    def ledger(self) -> Table:
        """The table of all decisions about the model."""
        return self.lakehouse.table(self.asset.name)

    def open_ledger(self) -> ModelDecisions:
        """The decisions about the model; the ledger is created if it does not exist."""
        decisions = ModelDecisions(self.ledger, self.asset.name, self.registry, self.run_id)
        decisions.create()
        return decisions

    def run(self, *, retrain: bool = False) -> ModelStepResult:
        """Train if the feature set has moved since the last training.

        Args:
            retrain: Train even if nothing has moved, as after a change of the code.
        """
        decisions = self.open_ledger()
        champion = decisions.sync().aliases.champion
        features = self.lakehouse.table(self.asset.features)
        before = self.ledger.cursor(features.name)
        now = newest_features(features, before)
        if not retrain and before == now:
            return self.last_result()
        self.registry.prepare()  # what is missing to keep a model is said before it is trained
        cursors = () if before == now else (Cursor(features.name, before, now),)
        started_at = datetime.now(UTC)
        try:
            training = self.asset.train(features.scan(now), self.seed)
        except HistoryTooShort as short:
            decisions.advance(cursors)
            return ModelStepResult(promoted=False, reasons=(str(short),), version=None, champion=champion)
        version = self.registry.log_training(self._training_run(training, features, now, started_at))
        decided = self._record(decisions, version, training, cursors)
        result = self.last_result()
        # If another run decided on the same features first, its version counts, and the one of this run stays without an alias.
        return replace(result, metrics=training.metrics, plots=training.plots) if decided else result

    def promote(self, version: int, reason: str) -> ChampionChange:
        """Make a version the champion by hand: see `ModelDecisions.promote`."""
        return self.open_ledger().promote(version, reason)

    def rollback(self) -> ChampionChange:
        """Make the previous champion the champion again: see `ModelDecisions.rollback`."""
        return self.open_ledger().rollback()

    def _record(self, decisions: ModelDecisions, version: ModelVersion, training: Training, cursors: tuple[Cursor, ...]) -> bool:
        """Let the gate decide and record it; again if the champion changed meanwhile. False if another run decided on these features."""
        while all(self.ledger.cursor(cursor.source) == cursor.before for cursor in cursors):
            state = decisions.sync()
            number = state.aliases.champion
            champion = None if number is None else self.registry.version(self.asset.name, number)
            decision = self._decide(training, champion)
            aliases = state.aliases.promote(version.version) if decision.promote else state.aliases.challenge(version.version)
            name: DecisionName = "promoted" if decision.promote else _KEPT
            if decisions.record(state, name, version.version, reasons=decision.reasons, aliases=aliases, cursors=cursors):
                return True
        return False

    def _decide(self, training: Training, champion: ModelVersion | None) -> Decision:
        """Compare on rows that neither model had seen: those that are in both backtests, the challenger's and the champion's.

        A champion without a backtest, or with none of these rows in it, cannot be compared; that does not keep it in use.
        """
        row, models = list(training.row), ["model", *training.baselines]
        compared = training.backtest.select(*row, "actual", *models)
        opponent = None
        if champion is not None and FINGERPRINT in champion.tags:
            theirs = pl.read_parquet(io.BytesIO((self.registry.run_folder(champion) / _BACKTEST).read_bytes()))
            shared = compared.join(theirs.select(*row, pl.col("model").alias(_CHAMPION)), on=row)
            if shared.height:
                compared, opponent = shared, _CHAMPION
        names = [*models, *([opponent] if opponent else [])]
        errors = compared.with_columns((pl.col(name) - pl.col("actual")).abs() for name in names)
        errors = errors.with_columns(pl.col("actual").abs())
        decision = decide(
            errors, origin=row[0], scale="actual", challenger="model", baselines=training.baselines, champion=opponent, metric="WAPE"
        )
        if champion is None or opponent is not None or not decision.promote:
            return decision
        instead = f"It becomes champion: the champion so far, version {champion.version}, was tested on none of the same rows."
        return replace(decision, reasons=(*decision.reasons[:-1], instead))

    def _training_run(self, training: Training, features: Table, version: int, started_at: datetime) -> TrainingRun:
        tables = [_training_table(features, version), *_sources(self.lakehouse, features, version)]
        code = _code_version(self.asset.train)
        identity = [self.asset.name, str(self.seed), *(f"{table.name}@{table.digest}" for table in tables)]
        backtest = io.BytesIO()
        training.backtest.write_parquet(backtest)
        return TrainingRun(
            model_name=self.asset.name,
            model=training.model,
            loader=training.loader,
            packages=training.packages,
            input_example=training.input_example,
            fingerprint=_hash("\n".join(identity).encode()),
            code_version=code,
            seed=self.seed,
            environment=_environment(training.packages),
            started_at=started_at,
            tables=tables,
            parameters=training.parameters,
            metrics=training.metrics,
            breakdowns=training.breakdowns,
            files={_BACKTEST: backtest.getvalue(), **{f"{name}.png": png for name, png in training.plots.items()}},
            description=self.asset.description,
            owner=self.asset.owner,
            user=_user(),
            asset=self.asset.name,
            orchestrator_run=self.run_id,
        )

    def last_result(self) -> ModelStepResult:
        """What the last decision was; nothing is trained."""
        last = last_decision(self.ledger.scan()) if self.ledger.exists() else None
        if last is None:
            reason = "No version was trained yet: at the last try there was too little history."
            return ModelStepResult(promoted=False, reasons=(reason,), version=None, champion=None)
        promoted = last["decision"] != _KEPT and last["champion"] == last["version"]
        return ModelStepResult(promoted, tuple(last["reasons"].split("\n")), last["version"], last["champion"])


def newest_features(features: Table, before: int | None) -> int:
    """The version of a feature set to train on when the last training was on `before`: maintenance alone makes no new one."""
    newest = features.version()
    if before is None or before > newest:
        return newest
    return features.changed_at(before) or 0


def _training_table(table: Table, version: int) -> TrainingTable:
    # Two roots have tables of one name and version; the table's own id tells them apart.
    digest = _hash(f"{table.delta().metadata().id}@{version}".encode())
    return TrainingTable(name=table.name, version=version, uri=table.uri, digest=digest, rows=table.count(version))


def _sources(lakehouse: Lakehouse, table: Table, version: int) -> list[TrainingTable]:
    """The tables that a version was computed from, down to the landing log, as the commits record it."""
    sources: dict[str, TrainingTable] = {}
    waiting = [(table, version)]
    while waiting:
        reader, its_version = waiting.pop()
        for name, source_version in reads_of(reader, its_version).items():
            source = lakehouse.table(name)
            if name not in sources and source.exists():
                sources[name] = _training_table(source, source_version)
                waiting.append((source, source_version))
    return list(sources.values())


def _code_version(function: Callable[..., Any]) -> str:
    """A hash over the modules of the function's package and of `platform.modelling`, and over what a recipe made the function with."""
    import lakehouse_assets.platform.modelling as room

    folders = (Path(inspect.getfile(function)).parent, Path(next(iter(room.__path__))))
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    return _hash(b"\0".join([places.parameters_of(function).encode(), *(file.read_bytes() for file in files)]))


def _environment(packages: tuple[str, ...]) -> str:
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in sorted(packages)]
    return f"Python {sys.version.split()[0]} on {platform.machine()}, {', '.join(versions)}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        return ""


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
