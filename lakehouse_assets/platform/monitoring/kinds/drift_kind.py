"""The monitor of drift: whether the columns of a table are still distributed as in what a model learnt from, window by window."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.monitors import MOST_BETWEEN, Cause, Monitor, MonitorKind, Verdict, Watched
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.governance.personal import PersonalColumns
from lakehouse_assets.platform.governance.policy import policy_of
from lakehouse_assets.platform.monitoring.drift.drift_verdicts import judged
from lakehouse_assets.platform.monitoring.drift.profile_tables import Profiled
from lakehouse_assets.platform.monitoring.drift.watched_rows import TableRows
from lakehouse_assets.platform.monitoring.profiling.groups import CannotProfile, Groups
from lakehouse_assets.platform.monitoring.why.drifted import Drifted
from lakehouse_assets.platform.pipeline.model_training import digest_of
from lakehouse_assets.platform.quality.contract import key_columns
from lakehouse_assets.platform.registry.ledger import last_decision
from lakehouse_assets.platform.storage.known_at import OWN_COLUMNS
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import Table


@dataclass(frozen=True)
class Drift(MonitorKind):
    """The columns of a table are distributed as in a baseline, and as in the window before.

    Attributes:
        time: The column of dates or timestamps that windows are cut by.
        every: The length of a window: `1h`, `1d`, `1w`, `1mo`.
        slices: Columns whose values are compared each by itself as well.
        against: The baseline as `TABLE` or `TABLE@VERSION`; None: the table as it was when the champion of a model learnt from it.
        keys: Columns of the table's key, or entity, whose distribution is tested too. Of the others only nulls and values that
            vanish are tested: new rows have new keys.

    Raises:
        DeclarationError: They cannot be meant.
    """

    time: str
    every: str = "1d"
    slices: tuple[str, ...] = ()
    against: str | None = None
    keys: tuple[str, ...] = ()

    word: ClassVar[str] = "drift"
    judges_changes: ClassVar[bool] = True
    resolve_after: ClassVar[int] = 3

    def __post_init__(self) -> None:
        try:
            self.groups  # noqa: B018 it checks the length
        except CannotProfile as error:
            raise DeclarationError(f"Drift: every={self.every!r}: {error}") from None
        _, at, version = (self.against or "").partition("@")
        if at and not version.isdecimal():
            raise DeclarationError(f"Drift: against={self.against!r}: what follows the @ is a version, as in TABLE@3")

    @property
    def groups(self) -> Groups:
        """The windows and slices."""
        return Groups(self.time, self.every, self.slices)

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        baseline = self.against or "what the champion learnt from"
        return f"Each column is distributed as in {baseline} and as in the window before, by windows of {self.every}."

    @property
    def often(self) -> timedelta:
        """See `MonitorKind.often`: as often as windows end."""
        return min(self.groups.length or MOST_BETWEEN, MOST_BETWEEN)

    def problems_with(self, monitor: Monitor, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """See `MonitorKind.problems_with`."""
        yield from monitor.problems_with_column("time", self.time, declared, (pl.Date, pl.Datetime), "dates or timestamps")
        for name in self.slices:
            yield from monitor.problems_with_column("slices", name, declared)
        for name in self.keys:
            yield from monitor.problems_with_column("keys", name, declared)

    def pinned(self) -> Mapping[str, int]:
        """See `Declaration.pinned`."""
        name, at, version = (self.against or "").partition("@")
        return {name: int(version)} if at else {}

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        of, lakehouse = watched.monitor.of, watched.lakehouse
        name, version, trouble = self._baseline(watched)
        if version is None:
            return [
                Verdict(passed=None, text=f"Not evaluated: {trouble}, or name a baseline: Drift({self.time!r}, against='{of}@VERSION').")
            ]

        # What the platform adds says how rows came, not what they say: of what is loaded late, other things are assumed.
        added = tuple(column for column in lakehouse.table(of).schema() if column.startswith("_") or column in OWN_COLUMNS)
        baseline = _rows(watched, name, version)
        profiled = Profiled(
            monitor=watched.monitor.name,
            watched=_rows(watched, of),
            groups=self.groups,
            baseline=lambda: baseline.rows(self.groups),
            baseline_name=f"{name}@{version}",
            baseline_made_of=baseline.made_of,
            untested=added,
            keys=tuple(column for column in keys_of(watched.catalog.get(of)) if column not in self.keys),
        )
        return judged(watched, profiled)

    def why(self, watched: Watched, bad: Sequence[Mapping[str, Any]]) -> Sequence[Cause]:
        """See `MonitorKind.why`."""
        return Drifted(watched, self.time, bad).causes()

    def _baseline(self, watched: Watched) -> tuple[str, int | None, str]:
        """The table of the baseline and its version; if there is none no version, and why."""
        of, lakehouse = watched.monitor.of, watched.lakehouse
        if self.against is not None:
            name, at, version = self.against.partition("@")
            return name, int(version) if at else lakehouse.table(name).version(), ""
        models = [one.name for one in watched.catalog.declarations if isinstance(one, ModelDeclaration)]
        champions = [found for model in models if (found := learnt_from(lakehouse, model, of)) is not None]
        if not champions:
            return of, None, f"no model that learns from {of} has a champion. Train one"
        table, first = lakehouse.table(of), champions[0]
        learnt = next((one for one in champions if one.is_of(table)), None)
        if learnt is None:
            why = f"the champion of {first.model} learnt from version {first.version} of {of}, which was deleted and created again since"
            return of, None, f"{why}. Train it again (`lakehouse train {first.model} --force`)"
        return of, learnt.version, ""


@dataclass(frozen=True)
class Learnt:
    """A version of a table that the champion of a model was trained on.

    Attributes:
        model: The model.
        version: Of the table.
        digest: What tells it from the same version of a table that was created again; None: the training has not said.
    """

    model: str
    version: int
    digest: str | None

    def is_of(self, table: Table) -> bool:
        """Whether a table is the one that was learnt from."""
        return self.digest in {None, digest_of(table, self.version)}


def learnt_from(lakehouse: Lakehouse, model: str, table: str) -> Learnt | None:
    """What the champion of a model was trained on of a table; None if it has no champion, or was trained on others."""
    ledger = lakehouse.table(model)
    last = last_decision(ledger.scan()) if ledger.exists() else None
    if last is None or last["champion"] is None:
        return None
    rows = ledger.scan().filter(pl.col("version") == last["champion"], pl.col("training_tables").is_not_null()).head(1).collect()
    found = rows.row(0, named=True) if rows.height else {}
    version = json.loads(found.get("training_tables") or "{}").get(table)
    return None if version is None else Learnt(model, int(version), json.loads(found.get("training_table_digests") or "{}").get(table))


def keys_of(declared: Declaration | None) -> tuple[str, ...]:
    """The columns by which rows of a declared table are told apart: its key, and of a feature set what it is about."""
    if not isinstance(declared, TableDeclaration):
        return ()
    entity = declared.entity if isinstance(declared, FeatureSet) else ()
    return tuple(dict.fromkeys((*key_columns(declared.contract), *entity)))


def _rows(watched: Watched, name: str, version: int | None = None) -> TableRows:
    """The rows of a table at a version, as the reader masks them; of a feature set each once, as it is known."""
    declared = watched.catalog.get(name)
    personal = PersonalColumns(watched.lakehouse, lambda: policy_of(watched.catalog.declarations))
    revised = (*declared.entity, declared.event_time) if isinstance(declared, FeatureSet) else ()

    def masked(rows: pl.LazyFrame) -> pl.LazyFrame:
        return personal.masked(rows, name)

    hidden = personal.of(name)
    masks = repr((sorted(hidden.columns), sorted(hidden.not_personal)))
    return TableRows(watched.lakehouse.table(name), masked, revised, version, masks)
