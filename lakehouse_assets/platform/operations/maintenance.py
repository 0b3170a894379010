"""Maintenance of the whole lakehouse: which cursors and pinned versions it has to respect, and the log of what it did.

What is done to one table is in `storage.maintenance`; when it runs, in `orchestration.automation`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

import polars as pl
from deltalake.exceptions import DeltaError

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX, Declaration
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.monitoring import cache
from lakehouse_assets.platform.monitoring.alerts.log import ALERT_ID, open_ids
from lakehouse_assets.platform.monitoring.reasons import reason
from lakehouse_assets.platform.pipeline import commit_statistics, contracts, swap
from lakehouse_assets.platform.pipeline.model_step import newest_versions
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.registry.registry import ModelVersion, Registry
from lakehouse_assets.platform.storage import feature_versions, platform_tables
from lakehouse_assets.platform.storage import maintenance as storage
from lakehouse_assets.platform.storage.errors import CommitConflict, StorageError
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import Keep, Maintained, State
from lakehouse_assets.platform.storage.retention import DATE, delete_before
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

LOG: Final = platform_tables.MAINTENANCE
SCHEMA: Final = pl.Schema(
    {
        "at": TIMESTAMP,
        "run_id": pl.String(),
        "table": pl.String(),
        "done": pl.String(),
        "why_not": pl.String(),
        "files_before": pl.Int64(),
        "files_after": pl.Int64(),
        "bytes_freed": pl.Int64(),
        "seconds": pl.Float64(),
    }
)
DESCRIPTION: Final = "What maintenance did to which table: one row a table and run."
OLD_FEATURES: Final = "old versions of features deleted"
OLD_DAYS: Final = "days beyond the retention deleted"
KEEP_ALL: Final = timedelta(days=36_500)
"""The retention while a product is broken: what its tables have not read yet, and what its models were trained on, is not known."""
# Errors of one table, which do not keep the others from being maintained. A panic of Polars, as over a file of garbage, is no Exception.
_TROUBLE = (StorageError, DeltaError, OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


@dataclass(frozen=True)
class Maintenance:
    """The tables of one root, with all that keeps their versions from being deleted.

    Attributes:
        registry: Opens MLflow; asked only if there is a model.
        retention: How long a version stays readable after it was replaced.
        log_retention: How long a commit stays in the log of its table; at least as long as versions stay readable.
        days_kept: How long the days of the platform's own tables stay (`platform_tables.BY_DAY`); None: for ever.
    """

    lakehouse: Lakehouse
    declarations: Sequence[Declaration]
    registry: Callable[[], Registry]
    retention: timedelta
    log_retention: timedelta = timedelta(days=30)
    days_kept: timedelta | None = None

    def tables(self, names: Iterable[str] = ()) -> list[Table]:
        """The tables of these names, each with its quarantine; none given means all, the logs of maintenance last.

        Raises:
            LookupError: There is no such table.
        """
        there = {table.name: table for table in self.lakehouse.tables()}
        wanted = [name for given in names for name in (given, given + QUARANTINE_SUFFIX)]
        unknown = [name for name in wanted if name not in there and not name.endswith(QUARANTINE_SUFFIX)]
        if unknown:
            raise LookupError(f"there is no table {', '.join(unknown)}. There are: {', '.join(there)}")
        chosen = [there[name] for name in wanted if name in there] if wanted else list(there.values())
        return sorted(chosen, key=lambda table: table.name in {LOG, commit_statistics.TABLE})

    def states(self, names: Iterable[str] = ()) -> Iterator[tuple[Table, State]]:
        """The state of each table, with what maintenance would do."""
        for table in self.tables(names):
            yield table, storage.state(table, self._keep(table, clock.now(), table.version()))

    def run(self, run_id: str, names: Iterable[str] = ()) -> Iterator[Maintained]:
        """Maintain the tables one by one, and log it at the end. One that fails does not keep the others from it."""
        rows = []
        cache.delete_if_damaged(self.lakehouse)  # it heals by itself; else its rows would be looked at by Polars, which panics
        for table in self.tables(names):
            at = clock.now()
            try:
                old = [*self._delete_old_features(table, run_id), *self._delete_old_days(table, at, run_id)]
                done = storage.maintain(table, self._keep(table, at, self._recorded(table)), run_id)
                done = replace(done, done=(*old, *done.done))
            except _TROUBLE as error:
                done = Maintained(table.name, 0, 0, 0, (), _why_not(table.name, error), (clock.now() - at).total_seconds())
            rows.append({**vars(done), "at": at, "run_id": run_id, "done": ", ".join(done.done)})
            yield done
        log, at = self.lakehouse.table(LOG), clock.now()
        try:
            log.create(SCHEMA, description=DESCRIPTION)
            log.append(pl.DataFrame(rows, schema=SCHEMA))
        except _TROUBLE as error:
            if not any(row["table"] == LOG and row["why_not"] for row in rows):
                yield Maintained(LOG, 0, 0, 0, (), _why_not(LOG, error), (clock.now() - at).total_seconds())

    def _delete_old_features(self, table: Table, run_id: str) -> list[str]:
        """Delete the rows of versions of a feature set that no model in use needs; what was done."""
        if self.retention >= KEEP_ALL or not any(isinstance(one, FeatureSet) and one.name == table.name for one in self.declarations):
            return []
        needed = [version.features[table.name] for version in self.models if table.name in version.features]
        return [OLD_FEATURES] if feature_versions.delete_unneeded(table, needed, run_id) else []

    def _delete_old_days(self, table: Table, now: datetime, run_id: str) -> list[str]:
        """Delete the days of a table that are not kept any more; what was done."""
        keep = self._retention.get(table.name)
        if keep is None:
            return []
        kept = (ALERT_ID, open_ids) if table.name == platform_tables.ALERTS else None
        by = platform_tables.BY_DAY.get(table.name, DATE)
        return [OLD_DAYS] if delete_before(table, (now - keep).date(), run_id, by, kept) else []

    @cached_property
    def _retention(self) -> dict[str, timedelta]:
        declared = {name: keep for one in self.declarations for name, keep in one.retention().items()}
        return declared if self.days_kept is None else dict.fromkeys(platform_tables.BY_DAY, self.days_kept) | declared

    def _keep(self, table: Table, now: datetime, log_from: int | None) -> Keep:
        log_retention = max(self.log_retention, self.retention)
        return Keep(self.cursors.get(table.name), self.pins.get(table.name, set()), self.retention, now, log_retention, log_from)

    def _recorded(self, table: Table) -> int | None:
        """The version up to which commits may leave the log of a table, since what they did is in the statistics."""
        if table.name == commit_statistics.TABLE:
            return None
        with suppress(CommitConflict):
            commit_statistics.record(self.lakehouse, [table])
        until = commit_statistics.recorded_until(self.lakehouse, table)
        return 0 if until is None else until

    @cached_property
    def cursors(self) -> dict[str, int]:
        """The smallest cursor of those who read a table, by its name."""
        smallest: dict[str, int] = {}
        for asset in self.declarations:
            for read in self._reads_of(asset):
                for source, cursor in read.items():
                    smallest[source] = min(cursor, smallest.get(source, cursor))
        return smallest

    def _reads_of(self, asset: Declaration) -> Iterator[dict[str, int]]:
        """From which version on a declaration needs its sources; a full refresh that was interrupted needs its own."""
        if not isinstance(asset, TableDeclaration):
            yield self._trained_on(asset)
            return
        yield self._read_by(asset)
        if swap.built_for(asset, self.lakehouse) is not None:
            yield self._read_by(swap.staging(asset))

    def _read_by(self, asset: TableDeclaration) -> dict[str, int]:
        """From which version on a table needs its sources."""
        reader, quarantine = self.lakehouse.table(asset.name), self.lakehouse.table(asset.quarantine)
        sources = set(asset.sources())
        try:
            needed = {source: cursor for source in sources if (cursor := reader.cursor(source)) is not None}
            if any((quarantine.cursor(source) or 0) > needed.get(source, -1) for source in sources):
                # A batch that a run left unfinished is judged again by the versions that it was judged by.
                needed |= {name: min(at, needed.get(name, at)) for name, at in contracts.references_before(asset, quarantine).items()}
        except _TROUBLE:
            return dict.fromkeys(sources, 0)  # a reader that cannot be opened may need everything
        return needed

    def _trained_on(self, asset: Declaration) -> dict[str, int]:
        """Which versions of its tables a model would be trained on next; what changed since the last training it does not ask."""
        if not isinstance(asset, ModelDeclaration):
            return {}
        ledger = self.lakehouse.table(asset.name)
        trained_on = {name: ledger.cursor(name) for name in asset.sources() if self.lakehouse.table(name).exists()}
        return newest_versions(self.lakehouse, {name: version for name, version in trained_on.items() if version is not None})

    @cached_property
    def models(self) -> list[ModelVersion]:
        """The versions of models that are in use."""
        return models_in_use(self.lakehouse, self.declarations, self.registry)

    @cached_property
    def pins(self) -> dict[str, set[int]]:
        """By table the versions that a model in use was trained on, and those that a declaration names, as the baseline of a monitor."""
        pins: dict[str, set[int]] = {}
        for versions in (*(version.tables for version in self.models), *(declared.pinned() for declared in self.declarations)):
            for name, number in versions.items():
                pins.setdefault(name, set()).add(number)
        return pins


def _why_not(name: str, error: BaseException) -> str:
    """Why a table was not maintained, and what to do."""
    if isinstance(error, StorageError):
        return str(error)  # it says what to do
    why = reason(error) if isinstance(error, pl.exceptions.PolarsError | pl.exceptions.PanicException) else " ".join(str(error).split())
    how = f"`lakehouse doctor` examines it, and `lakehouse restore {name} --last-good` goes back to its last good version"
    return f"it cannot be read: {why}. {how}"


def models_in_use(lakehouse: Lakehouse, declarations: Iterable[Declaration], registry: Callable[[], Registry]) -> list[ModelVersion]:
    """The champions, challengers and previous champions. MLflow is opened only if a decision about a model was ever taken."""
    models = [asset for asset in declarations if isinstance(asset, ModelDeclaration)]
    decided = [model for model in models if (ledger := lakehouse.table(model.name)).exists() and ledger.count()]
    if not decided:
        return []
    opened = registry()
    decisions = (ModelDecisions(lakehouse.table(model.name), model.name, opened, run_id="") for model in decided)
    return [version for of_a_model in decisions for version in of_a_model.versions_in_use()]
