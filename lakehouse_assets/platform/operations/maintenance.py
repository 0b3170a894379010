"""Upkeep of the whole lakehouse: which cursors and pinned versions it has to respect, the log of what it did, and its asset.

What is done to one table is in `storage.upkeep`; when it runs, in `automation`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

import polars as pl
from deltalake.exceptions import DeltaError

from lakehouse_assets.platform.declarations.declare import QUARANTINE_SUFFIX, Champion, Declaration, ModelAsset, TableAsset
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.pipeline.model_step import newest_features
from lakehouse_assets.platform.registry.decisions import ModelDecisions
from lakehouse_assets.platform.registry.registry import ModelVersion, Registry
from lakehouse_assets.platform.storage import maintenance as upkeep
from lakehouse_assets.platform.storage.errors import StorageError
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import Need, Tended
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.types import TIMESTAMP

LOG: Final = "platform.upkeep.log"
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
DESCRIPTION: Final = "What upkeep did to which table: one row a table and run."
# What can be wrong with one table, and no reason to leave the others alone.
_TROUBLE = (StorageError, DeltaError, OSError, ValueError, pl.exceptions.PolarsError)


@dataclass(frozen=True)
class Upkeep:
    """The tables of one root, with all that keeps their versions from being deleted.

    Attributes:
        registry: Opens MLflow; asked only if there is a model.
        retention: How long a version stays readable after it was replaced.
    """

    lakehouse: Lakehouse
    declarations: Sequence[Declaration]
    registry: Callable[[], Registry]
    retention: timedelta

    def tables(self, names: Iterable[str] = ()) -> list[Table]:
        """The tables of these names, each with its quarantine; none given means all, the log of upkeep last.

        Raises:
            LookupError: There is no such table.
        """
        there = {table.name: table for table in self.lakehouse.tables()}
        wanted = [name for given in names for name in (given, given + QUARANTINE_SUFFIX)]
        unknown = [name for name in wanted if name not in there and not name.endswith(QUARANTINE_SUFFIX)]
        if unknown:
            raise LookupError(f"there is no table {', '.join(unknown)}. There are: {', '.join(there)}")
        chosen = [there[name] for name in wanted if name in there] if wanted else list(there.values())
        return sorted(chosen, key=lambda table: table.name == LOG)

    def needs(self, names: Iterable[str] = ()) -> Iterator[tuple[Table, Need]]:
        """What upkeep would do, table by table."""
        for table in self.tables(names):
            yield table, upkeep.look(table, **self._kept(table), retention=self.retention, now=datetime.now(UTC))

    def run(self, run_id: str, names: Iterable[str] = ()) -> Iterator[Tended]:
        """Tend the tables one by one, and write it down at the end. One that cannot be tended does not keep the others from it."""
        rows = []
        for table in self.tables(names):
            at = datetime.now(UTC)
            try:
                tended = upkeep.tend(table, **self._kept(table), retention=self.retention, run_id=run_id, now=at)
            except _TROUBLE as error:
                tended = Tended(table.name, 0, 0, 0, (), str(error), (datetime.now(UTC) - at).total_seconds())
            rows.append({**vars(tended), "at": at, "run_id": run_id, "done": ", ".join(tended.done)})
            yield tended
        log = self.lakehouse.table(LOG)
        log.create(SCHEMA, description=DESCRIPTION)
        log.append(pl.DataFrame(rows, schema=SCHEMA))

    def _kept(self, table: Table) -> dict[str, Any]:
        return {"keep_from": self.cursors.get(table.name), "pinned": self.pins.get(table.name, set())}

    @cached_property
    def cursors(self) -> dict[str, int]:
        """The smallest cursor of those who read a table, by its name."""
        found: dict[str, int] = {}
        for asset in self.declarations:
            read = self._read_by(asset) if isinstance(asset, TableAsset) else self._trained_on(asset)
            for source, cursor in read.items():
                found[source] = min(cursor, found.get(source, cursor))
        return found

    def _read_by(self, asset: TableAsset) -> dict[str, int]:
        """From which version on a table needs its sources."""
        reader, quarantine = self.lakehouse.table(asset.name), self.lakehouse.table(asset.quarantine)
        sources = {read.table for read in asset.reads.values() if not isinstance(read, Champion)}
        try:
            found = {source: cursor for source in sources if (cursor := reader.cursor(source)) is not None}
            if any((quarantine.cursor(source) or 0) > found.get(source, -1) for source in sources):
                # A batch that a run left unfinished is held again against the versions that it was held against.
                found |= {name: min(at, found.get(name, at)) for name, at in contracts.held_before(asset, quarantine).items()}
        except _TROUBLE:
            return dict.fromkeys(sources, 0)  # a reader that cannot be opened may need everything
        return found

    def _trained_on(self, asset: Declaration) -> dict[str, int]:
        """Which version of its features a model would be trained on next; what changed since the last training it does not ask."""
        if not isinstance(asset, ModelAsset):
            return {}
        features = self.lakehouse.table(asset.features)
        trained_on = self.lakehouse.table(asset.name).cursor(asset.features)
        return {} if trained_on is None or not features.exists() else {asset.features: newest_features(features, trained_on)}

    @cached_property
    def pins(self) -> dict[str, set[int]]:
        """The versions that a model in use was trained on, by table."""
        found: dict[str, set[int]] = {}
        for version in models_in_use(self.lakehouse, self.declarations, self.registry):
            for name, number in version.tables.items():
                found.setdefault(name, set()).add(number)
        return found


def models_in_use(lakehouse: Lakehouse, declarations: Iterable[Declaration], registry: Callable[[], Registry]) -> list[ModelVersion]:
    """The champions, challengers and previous champions. MLflow is opened only if a decision about a model was ever taken."""
    models = [asset for asset in declarations if isinstance(asset, ModelAsset)]
    decided = [model for model in models if (ledger := lakehouse.table(model.name)).exists() and ledger.count()]
    if not decided:
        return []
    opened = registry()
    decisions = (ModelDecisions(lakehouse.table(model.name), model.registered_name, opened, run_id="") for model in decided)
    return [version for of_a_model in decisions for version in of_a_model.versions_in_use()]
