"""Back to the last good version after a power failure: which tables go back together, so that the next run brings everything up to date.

A table whose last commits are not intact loses them. Who had read them goes back to before that, a table and its quarantine go back to the
same batch, and watermarks do the rest: what was lost is read again from its source. What is damaged in one table is found in
`storage.damage`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deltalake import DeltaTable

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX, Declaration
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.operations.restore import RestoreRefused, never_restored
from lakehouse_assets.platform.pipeline.replay import paired_cursors
from lakehouse_assets.platform.storage import damage as storage
from lakehouse_assets.platform.storage import restore
from lakehouse_assets.platform.storage.commit import NEVER
from lakehouse_assets.platform.storage.damage import Damage
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import readable_from
from lakehouse_assets.platform.storage.table import Table

Cursors = Mapping[str, int]


@dataclass(frozen=True)
class LastGood:
    """The damaged tables of a lakehouse, and what has to go back with them.

    Attributes:
        damages: Of each damaged table, readers before their sources.
    """

    lakehouse: Lakehouse
    declarations: Sequence[Declaration]
    damages: tuple[Damage, ...]

    @property
    def is_done(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages

    def carry_out(self, run_id: str) -> dict[str, int]:
        """Go back; the version of each table that did. Killed anywhere, doing it again brings it to its end.

        Raises:
            NoSuchVersion: A table that read what is lost cannot go back so far any more: it has to be fully refreshed.
        """
        done: dict[str, int] = {}
        for found in self.damages:
            table, damage = found.table, self._paired(found)
            # First those that go back with it: until the table itself is intact again, they are found again.
            for reader, limits in self._followers(damage):
                done |= self._back(reader, limits, run_id)
            storage.set_aside(damage, _folder(self.lakehouse, table))
            done[table.name] = damage.last_good if damage.last_good < 0 else table.version()
        return done

    def _paired(self, damage: Damage) -> Damage:
        """The damage with a last version that is not ahead of the table, for a quarantine whose table has gone back already."""
        base = damage.table.name.removesuffix(QUARANTINE_SUFFIX)
        if base == damage.table.name or damage.last_good < 0 or not (table := self.lakehouse.table(base)).exists():
            return damage
        sources = next((asset.sources() for asset in self.declarations if asset.name == base), ())
        limits = {source: _at(table.delta(), source) for source in sources}
        versions = range(damage.last_good, -1, -1)
        return replace(damage, last_good=next((v for v in versions if _is_within(damage.table, v, limits)), damage.last_good))

    def _followers(self, damage: Damage) -> Iterator[tuple[Table, Cursors]]:
        """The tables that may have read what is lost, with how far each may have read."""
        if not damage.commits:
            return
        name, is_quarantine = damage.table.name, damage.table.name.endswith(QUARANTINE_SUFFIX)
        sibling = name.removesuffix(QUARANTINE_SUFFIX) if is_quarantine else name + QUARANTINE_SUFFIX
        asset = next((asset for asset in self.declarations if asset.name == name.removesuffix(QUARANTINE_SUFFIX)), None)
        for reader in self.declarations:
            if name in reader.sources() and not never_restored(reader.name, self.declarations):
                yield self.lakehouse.table(reader.name), {name: damage.last_good}
            if name == landing.LOG and isinstance(reader, FeedDeclaration):
                # The log says what became of files before their rows are written: it is never behind.
                cursor = f"landing/{reader.feed.name}"
                yield self.lakehouse.table(reader.name), {cursor: self._cursor(damage, cursor)}
        if asset is not None and self.lakehouse.table(sibling).exists() and storage.find(self.lakehouse.table(sibling)) is None:
            limits = {source: self._cursor(damage, source) for source in asset.sources()}
            own = paired_cursors(sibling if not is_quarantine else name)
            other = own.items() if not is_quarantine else ((mine, its) for its, mine in own.items())
            limits |= {its: self._cursor(damage, mine) for its, mine in other if self._cursor(damage, mine) != NEVER}
            yield self.lakehouse.table(sibling), limits

    def _cursor(self, damage: Damage, source: str) -> int:
        return NEVER if damage.last_good < 0 else _at(damage.table.delta(damage.last_good), source)

    def _back(self, table: Table, limits: Cursors, run_id: str) -> dict[str, int]:
        """Bring a table and its quarantine back to where they had read no more than `limits`."""
        if not table.exists() or _is_within(table, None, limits):
            return {}
        to = _newest_within(table, limits)
        done = {table.name: restore.restore(table, to, run_id)}
        quarantine = self.lakehouse.table(table.name + QUARANTINE_SUFFIX)
        if not table.name.endswith(QUARANTINE_SUFFIX) and quarantine.exists() and storage.find(quarantine) is None:
            paired = restore.paired(table, to, quarantine, paired_cursors(quarantine.name))
            done[quarantine.name] = restore.restore(quarantine, paired, run_id)
        return done


def last_good(lakehouse: Lakehouse, declarations: Sequence[Declaration], name: str | None = None) -> LastGood:
    """The damaged tables: all of them, or those of one name with its quarantine.

    Raises:
        RestoreRefused: The named table is not damaged.
    """
    order = {asset.name: position for position, asset in enumerate(_sources_first(declarations))}
    found = [damage for table in lakehouse.tables() if (damage := storage.find(table)) is not None]
    if name is not None:
        wanted = {name, name.removesuffix(QUARANTINE_SUFFIX), name + QUARANTINE_SUFFIX}
        found = [damage for damage in found if damage.table.name in wanted]
        if not found:
            raise RestoreRefused(f"{name} is intact: `lakehouse history {name}` lists its versions, `--version` goes back to one")
    # Readers first, a quarantine after its table: what goes back is intact by then.
    found.sort(key=lambda d: (-order.get(d.table.name.removesuffix(QUARANTINE_SUFFIX), -1), d.table.name))
    return LastGood(lakehouse, declarations, tuple(found))


def _sources_first(declarations: Sequence[Declaration]) -> list[Declaration]:
    done: dict[str, Declaration] = {}
    by_name = {asset.name: asset for asset in declarations}

    def visit(asset: Declaration) -> None:
        for source in asset.sources():
            if source in by_name and source not in done:
                visit(by_name[source])
        done.setdefault(asset.name, asset)

    for asset in declarations:
        visit(asset)
    return list(done.values())


def _newest_within(table: Table, limits: Cursors) -> int:
    for version in range(table.version(), readable_from(table) - 1, -1):
        if _is_within(table, version, limits):
            return version
    raise NoSuchVersion(
        f"{table.name} has read what is lost ({', '.join(limits)}), and has no version any more from before that: "
        f"`lakehouse run {table.name} --full-refresh` computes it from its sources"
    )


def _is_within(table: Table, version: int | None, limits: Cursors) -> bool:
    delta = table.delta(version)
    return all(_at(delta, source) <= limit for source, limit in limits.items())


def _at(delta: DeltaTable, source: str) -> int:
    at = delta.transaction_version(source)
    return NEVER if at is None else int(at)


def _folder(lakehouse: Lakehouse, table: Table) -> Path:
    return Path(lakehouse.root).absolute().parent / "damaged" / table.name
