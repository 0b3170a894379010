"""One declared model on its way to being up to date: train on the newest features, register, let the gate decide, write it down.

The steps can be repeated. A training is found again by its fingerprint and not registered twice; the ledger's commit carries the cursor
on the feature set, so of two runs at once one decides; an alias that a crash left behind is set by the next run, one that was set by hand
stays. How a model is trained is the product's business, what MLflow keeps the registry's.
"""

import hashlib
import importlib.metadata
import inspect
import io
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.declare import Champion, ModelAsset
from lakehouse_assets.platform.modelling.result import HistoryTooShort, Training
from lakehouse_assets.platform.pipeline.refresh import reads_of
from lakehouse_assets.platform.registry.gate import Decision, decide
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA, LedgerEntry, ledger_entry, ledger_frame
from lakehouse_assets.platform.registry.registry import PREVIOUS, AliasChange, ModelVersion, Registry
from lakehouse_assets.platform.registry.training_run import TrainingRun, TrainingTable
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table

_BACKTEST = "backtest.parquet"
_CHAMPION = "champion"
_KEPT: Final = "kept as challenger"
# A cursor of the ledger on itself: how many of its entries were carried out in MLflow. It is committed after the aliases are set, so the
# ledger also gets a version then, and a table that was scored between decision and aliases is scored anew.
_ALIASES = "mlflow.aliases"


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

    def run(self, *, only_without_champion: bool = False, anew: bool = False) -> Trained:
        """Train if the feature set has moved since the last training.

        Args:
            only_without_champion: Leave a model alone that has a champion; its next training is scheduled.
            anew: Train even so, as after a change of the code.
        """
        self._open_ledger()
        features = self.lakehouse.table(self.asset.features)
        before = self.ledger.cursor(features.name)
        now = newest_features(features, before)
        champion = self.registry.champion(self.asset.registered_name)
        if not anew and (before == now or (only_without_champion and champion is not None)):
            return self._as_decided()
        commit = Commit(() if before == now else (Cursor(features.name, before, now),), self._info)
        started_at = datetime.now(UTC)
        try:
            training = self.asset.train(features.scan(now), self.seed)
        except HistoryTooShort as short:
            self._write_down([], commit)
            return Trained(promoted=False, reasons=(str(short),), version=None, champion=_number(champion))
        return self._register(training, self._training_run(training, features, now, started_at), champion, commit)

    def rollback(self) -> AliasChange:
        """Make the previous champion the champion again, and write that down; done twice, it undoes itself.

        Raises:
            LookupError: There is no previous champion.
        """
        self._open_ledger()
        name = self.asset.registered_name
        champion, previous = self.registry.champion(name), self.registry.with_alias(name, PREVIOUS)
        if champion is None or previous is None or previous.version == champion.version:
            raise LookupError(f"{name} has no previous champion to go back to")
        reasons = [f"Version {champion.version} was rolled back to version {previous.version} by hand."]
        entry = ledger_entry(previous, "rolled back", reasons=reasons, champion_before=champion.version, decided_at=datetime.now(UTC))
        self._write_down([entry], Commit(info=self._info))
        self._carry_out()
        return AliasChange(model_name=name, champion=previous.version, champion_before=champion.version)

    def _register(self, training: Training, run: TrainingRun, champion: ModelVersion | None, commit: Commit) -> Trained:
        version = self.registry.log_training(run)
        decision = self._decide(training, champion)
        entry = ledger_entry(
            version,
            "promoted" if decision.promote else _KEPT,
            reasons=decision.reasons,
            champion_before=_number(champion),
            decided_at=datetime.now(UTC),
        )
        decided_here = self._write_down([entry], commit)
        self._carry_out()
        done = self._as_decided()
        # If another run decided on the same features first, its version counts, and the one of this run stays without an alias.
        return replace(done, metrics=training.metrics, plots=training.plots) if decided_here else done

    def _decide(self, training: Training, champion: ModelVersion | None) -> Decision:
        """The gate on rows that neither model had seen: those of the challenger's backtest that the champion's has as well.

        A champion that was tested on none of them cannot be compared, and does not stay in use for that.
        """
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
            started_at=started_at,
            tables=tables,
            parameters=training.parameters,
            metrics=training.metrics,
            breakdowns=training.breakdowns,
            files={_BACKTEST: backtest.getvalue(), **{f"{name}.png": png for name, png in training.plots.items()}},
        )

    def _open_ledger(self) -> None:
        self.ledger.create(LEDGER_SCHEMA, description=f"Every decision about the champion of {self.asset.registered_name}.")
        self._carry_out()  # what a run that died had decided

    def _carry_out(self) -> None:
        """Set the aliases as the last decision says, once: what somebody set by hand since then is left alone."""
        carried_out, entries = self.ledger.cursor(_ALIASES), self.ledger.count()
        last = self._last_entry()
        if last is None or carried_out == entries:
            return
        name = self.asset.registered_name
        standing = _number(self.registry.champion(name))
        decided = next((v for v in self.registry.versions(name) if v.version == last["version"]), None)
        if decided is not None and last["decision"] == _KEPT and standing == last["champion_before"]:
            self.registry.challenge(decided)
        elif decided is not None and last["decision"] != _KEPT and standing in (last["champion_before"], decided.version):
            self.registry.promote(decided)
        self._write_down([], Commit((Cursor(_ALIASES, carried_out, entries),), self._info))

    def _write_down(self, entries: list[LedgerEntry], commit: Commit) -> bool:
        """Commit to the ledger, and say whether this run did it or another one had done it before."""
        try:
            return self.ledger.append(ledger_frame(entries), commit).counts is not None
        except CursorMoved:
            return False

    def _info(self, _: Counts) -> dict[str, str]:
        return {"lakehouse.run_id": self.run_id}

    def _as_decided(self) -> Trained:
        champion, last = _number(self.registry.champion(self.asset.registered_name)), self._last_entry()
        if last is None:
            return Trained(
                promoted=False,
                reasons=("No version was trained yet: at the last try there was too little history.",),
                version=None,
                champion=champion,
            )
        return Trained(last["decision"] != _KEPT, tuple(last["reasons"].split("\n")), last["version"], champion)

    def _last_entry(self) -> dict[str, Any] | None:
        entries = self.ledger.scan().sort("decided_at").tail(1).collect()
        return entries.row(0, named=True) if entries.height else None


def newest_features(features: Table, before: int | None) -> int:
    """The version of a feature set to train on when the last training was on `before`: maintenance alone makes no new one."""
    newest = features.version()
    if before is None or before > newest:
        return newest
    return features.changed_at(before) or 0


def _number(version: ModelVersion | None) -> int | None:
    return None if version is None else version.version


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
    import lakehouse_assets.platform.modelling as room

    folders = (Path(inspect.getfile(function)).parent, Path(next(iter(room.__path__))))
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    return _hash(b"\0".join(file.read_bytes() for file in files))


def _environment(packages: tuple[str, ...]) -> str:
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in sorted(packages)]
    return f"Python {sys.version.split()[0]} on {platform.machine()}, {', '.join(versions)}"


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
