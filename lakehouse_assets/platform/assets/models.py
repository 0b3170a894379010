"""One declared model on its way to being up to date: train on the newest features, register, let the gate decide, write it down.

The steps can be repeated. A training is found again by its fingerprint and not registered twice; the ledger's commit carries the cursor
on the feature set; an alias that a crash left behind is set by the next run. How a model is trained is the product's business, what
MLflow keeps the registry's.
"""

import hashlib
import importlib.metadata
import inspect
import io
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse_assets.platform.assets.declare import Champion, ModelAsset
from lakehouse_assets.platform.assets.refresh import reads_of
from lakehouse_assets.platform.registry.gate import Decision, decide
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA, ledger_entry, ledger_frame
from lakehouse_assets.platform.registry.registry import PREVIOUS, AliasChange, ModelVersion, Registry
from lakehouse_assets.platform.registry.training_run import TrainingRun, TrainingTable
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.training.result import HistoryTooShort, Training

_BACKTEST = "backtest.parquet"
_CHAMPION = "champion"


@dataclass(frozen=True)
class Scorer:
    """A champion that is ready to score: what its product's `load` returned, under its name and version."""

    model: Any
    name: str
    version: int


@dataclass(frozen=True)
class Trained:
    """What a model step did.

    Attributes:
        promoted: Whether the newest version is champion.
        reasons: The gate's sentences, or why there was nothing to decide.
        version: The newest version, if there is one.
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


def champion_of(lakehouse: Lakehouse, registry: Callable[[], Registry]) -> Callable[[Champion], Scorer | None]:
    """How tables get at champions. MLflow is opened only when one asks, and only if a decision about that model was ever taken."""

    def champion(read: Champion) -> Scorer | None:
        ledger = lakehouse.table(read.model.name)
        if not ledger.exists() or not ledger.count():
            return None
        opened = registry()
        found = opened.champion(read.model.registered_name)
        if found is None:
            return None
        return Scorer(read.model.load(opened.model_folder(found)), read.model.registered_name, found.version)

    return champion


@dataclass(frozen=True)
class ModelStep:
    """One model of one root."""

    asset: ModelAsset
    lakehouse: Lakehouse
    registry: Registry
    seed: int
    run_id: str

    @property
    def ledger(self) -> Table:
        """The table of all decisions about the model."""
        return self.lakehouse.table(self.asset.name)

    def run(self, *, only_without_champion: bool = False) -> Trained:
        """Train if the feature set has moved since the last training.

        Args:
            only_without_champion: Leave a model alone that has a champion; its next training is scheduled.
        """
        self.ledger.create(LEDGER_SCHEMA, description=f"Every decision about the champion of {self.asset.registered_name}.")
        self._mend_aliases()
        features = self.lakehouse.table(self.asset.features)
        before, now = self.ledger.cursor(features.name), features.version()
        champion = self.registry.champion(self.asset.registered_name)
        if before == now or (only_without_champion and champion is not None):
            return self._as_decided(champion)
        commit = Commit((Cursor(features.name, before, now),), lambda _: {"lakehouse.run_id": self.run_id})
        try:
            training = self.asset.train(features.scan(now), self.seed)
        except HistoryTooShort as short:
            self.ledger.append(ledger_frame([]), commit)
            return Trained(promoted=False, reasons=(str(short),), version=None, champion=champion.version if champion else None)
        return self._register(training, self._training_run(training, features, now), champion, commit)

    def rollback(self) -> AliasChange:
        """Make the previous champion the champion again, and write that down; done twice, it undoes itself.

        Raises:
            LookupError: There is no previous champion.
        """
        name = self.asset.registered_name
        champion, previous = self.registry.champion(name), self.registry.with_alias(name, PREVIOUS)
        if champion is None or previous is None or previous.version == champion.version:
            raise LookupError(f"{name} has no previous champion to go back to")
        reasons = [f"Version {champion.version} was rolled back to version {previous.version} by hand."]
        entry = ledger_entry(previous, "rolled back", reasons=reasons, champion_before=champion.version, decided_at=datetime.now(UTC))
        self.ledger.append(ledger_frame([entry]))
        self._mend_aliases()
        return AliasChange(model_name=name, champion=previous.version, champion_before=champion.version)

    def _register(self, training: Training, run: TrainingRun, champion: ModelVersion | None, commit: Commit) -> Trained:
        version = self.registry.log_training(run)
        decision = self._decide(training, champion if champion is None or champion.version != version.version else None)
        before = champion.version if champion else None
        entry = ledger_entry(
            version,
            "promoted" if decision.promote else "kept as challenger",
            reasons=decision.reasons,
            champion_before=before,
            decided_at=datetime.now(UTC),
        )
        try:
            self.ledger.append(ledger_frame([entry]), commit)
        except CursorMoved:
            return self._as_decided(self.registry.champion(self.asset.registered_name))  # another run decided on the same features
        self._mend_aliases()
        now = self.registry.champion(self.asset.registered_name)
        return Trained(decision.promote, decision.reasons, version.version, now.version if now else None, training.metrics, training.plots)

    def _decide(self, training: Training, champion: ModelVersion | None) -> Decision:
        """The gate on rows that neither model had seen: those of the challenger's backtest that the champion's has as well."""
        row, models = list(training.row), ["model", *training.baselines]
        compared = training.backtest.select(*row, "actual", *models)
        opponent = None
        if champion is not None:
            theirs = pl.read_parquet(io.BytesIO((self.registry.run_folder(champion) / _BACKTEST).read_bytes()))
            shared = compared.join(theirs.select(*row, pl.col("model").alias(_CHAMPION)), on=row)
            if shared.height:
                compared, opponent = shared, _CHAMPION
        names = [*models, *([opponent] if opponent else [])]
        errors = compared.with_columns((pl.col(name) - pl.col("actual")).abs() for name in names)
        errors = errors.with_columns(pl.col("actual").abs())
        return decide(
            errors, origin=row[0], scale="actual", challenger="model", baselines=training.baselines, champion=opponent, metric="WAPE"
        )

    def _training_run(self, training: Training, features: Table, version: int) -> TrainingRun:
        tables = [_training_table(features, version), *_sources(self.lakehouse, features, version)]
        code = _code_version(self.asset.train)
        said = [self.asset.name, str(self.seed), *(f"{table.name}@{table.digest}" for table in tables)]
        backtest = io.BytesIO()
        training.backtest.write_parquet(backtest)
        return TrainingRun(
            model_name=self.asset.registered_name,
            model=training.model,
            loader=training.loader,
            packages=training.packages,
            input_example=training.input_example,
            fingerprint=_hash("\n".join(said).encode()),
            code_version=code,
            seed=self.seed,
            environment=_environment(training.packages),
            started_at=datetime.now(UTC),
            tables=tables,
            parameters=training.parameters,
            metrics=training.metrics,
            breakdowns=training.breakdowns,
            files={_BACKTEST: backtest.getvalue(), **{f"{name}.png": png for name, png in training.plots.items()}},
        )

    def _mend_aliases(self) -> None:
        """Carry out the ledger's last decision if a crash came before that; one that was carried out or overruled is left alone."""
        last = self._last_entry()
        if last is None:
            return
        name = self.asset.registered_name
        champion = self.registry.champion(name)
        decided = next((v for v in self.registry.versions(name) if v.version == last["version"]), None)
        if decided is None or (champion.version if champion else None) != last["champion_before"]:
            return
        if last["decision"] == "kept as challenger":
            self.registry.challenge(decided)
        else:
            self.registry.promote(decided)

    def _as_decided(self, champion: ModelVersion | None) -> Trained:
        last = self._last_entry()
        if last is None:
            return Trained(promoted=False, reasons=("No version was trained yet.",), version=None, champion=None)
        reasons = tuple(str(last["reasons"]).split("\n"))
        return Trained(last["decision"] != "kept as challenger", reasons, last["version"], champion.version if champion else None)

    def _last_entry(self) -> dict[str, Any] | None:
        entries = self.ledger.scan().sort("decided_at").tail(1).collect()
        return entries.row(0, named=True) if entries.height else None


def _training_table(table: Table, version: int) -> TrainingTable:
    # Two roots have tables of one name and version; the table's own id tells them apart.
    digest = _hash(f"{table.delta().metadata().id}@{version}".encode())
    return TrainingTable(name=table.name, version=version, uri=table.uri, digest=digest, rows=table.count(version))


def _sources(lakehouse: Lakehouse, table: Table, version: int) -> list[TrainingTable]:
    """What a version was worked out from, down to the files' own table, as the commits say."""
    found: dict[str, TrainingTable] = {}
    waiting = [(table, version)]
    while waiting:
        at, its_version = waiting.pop()
        for name, source_version in reads_of(at, its_version).items():
            source = lakehouse.table(name)
            if name not in found and source.exists():
                found[name] = _training_table(source, source_version)
                waiting.append((source, source_version))
    return list(found.values())


def _code_version(function: Callable[..., Any]) -> str:
    """A hash over the modules of the function's package and of the training room."""
    import lakehouse_assets.platform.training as room

    own = Path(inspect.getfile(function)).parent
    files = sorted([*own.glob("*.py"), *Path(next(iter(room.__path__))).glob("*.py")])
    return _hash(b"\0".join(file.read_bytes() for file in files))


def _environment(packages: tuple[str, ...]) -> str:
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in sorted(packages)]
    return f"Python {sys.version.split()[0]} on {platform.machine()}, {', '.join(versions)}"


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
