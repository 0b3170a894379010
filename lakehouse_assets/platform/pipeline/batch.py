"""From which version to which the sources of one table are read in a batch. What is computed from them is in `refresh`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.kind import Inputs
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import contracts, source_ids
from lakehouse_assets.platform.quality.contract import key_columns
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import readable_from
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets.platform.storage.table import Table

BATCH_ROWS = 1_000_000
"""About so many rows are read at once where that can be: memory follows the batch, not what has piled up."""

Champions = Callable[[ModelDeclaration], Any | None]
"""Gives the champion of a model, or None while there is none."""


@dataclass(frozen=True)
class Batch:
    """One step of a table on its way to being up to date.

    Attributes:
        sources: What is read, by the name of the table.
        quarantine: The watermarks of the quarantine, by source. A run that died left them ahead of the table's.
        references: The versions of other tables that rows are checked against, by table.
    """

    sources: Mapping[str, Source]
    quarantine: Mapping[str, int | None]
    references: Mapping[str, int]

    @property
    def moved(self) -> tuple[Cursor, ...]:
        """The watermarks that this batch advances."""
        return tuple(source.cursor for source in self.sources.values() if source.moved)

    def quarantine_cursors(self, cursors: tuple[Cursor, ...]) -> tuple[Cursor, ...]:
        """The same watermarks as the quarantine advances them."""
        return tuple(Cursor(cursor.source, self.quarantine.get(cursor.source), cursor.after) for cursor in cursors)


@dataclass(frozen=True)
class Batches:
    """The batches of one table.

    Attributes:
        champions: For tables of predictions.
        rows: About how many rows are read at once; at least one commit of a source.
    """

    declaration: TableDeclaration
    lakehouse: Lakehouse
    champions: Champions
    rows: int = BATCH_ROWS

    @property
    def _stored(self) -> Table:
        return self.lakehouse.table(self.declaration.name)

    def behind(self) -> list[str]:
        """The sources that have something new, from watermarks and versions alone."""
        stored = self._stored
        return [source for source in self.declaration.sources() if self._is_behind(stored, source)]

    def _is_behind(self, stored: Table, source: str) -> bool:
        table = self.lakehouse.table(source)
        if not stored.exists() or not table.exists():
            return True
        at = stored.cursor(source)
        return at is None or source_ids.why_unreadable(stored, table) is not None or self.declaration.kind.changed_at(table, at) != at

    def next(self, *, from_scratch: bool = False) -> Batch:
        """What has to be read next: a batch that a run left unfinished, else what is new. If all is up to date, nothing has moved.

        Args:
            from_scratch: Whether the sources are read whole then, so that it does not matter what was read before.

        Raises:
            NoSuchVersion: A source was deleted and created again.
        """
        declaration, quarantine = self.declaration, self.lakehouse.table(self.declaration.quarantine)
        rejected = {source: quarantine.cursor(source) for source in declaration.sources()}
        before = {source: self._stored.cursor(source) for source in declaration.sources()}
        recreated = {source: why for source in before if (why := source_ids.why_unreadable(self._stored, self.lakehouse.table(source)))}
        if not from_scratch and recreated:  # stop before rows are missed
            raise NoSuchVersion(next(iter(recreated.values())))
        # Rejected rows are only ever added to the quarantine of such a table, so exactly the same batch has to be done again.
        ahead = {source: at for source, at in rejected.items() if at is not None and at > number(before[source])}
        if ahead and declaration.kind.takes_rows:
            after = {source: number(ahead.get(source, at)) for source, at in before.items()}
            references = contracts.references_before(declaration, quarantine)
        else:
            after = {source: self._until(source, None if source in recreated else at) for source, at in before.items()}
            references = contracts.references_now(declaration, self.lakehouse)
        return Batch({name: self._source(name, before[name], after[name]) for name in before}, rejected, references)

    def whole(self, batch: Batch) -> Batch:
        """All rows up to where a batch ends."""
        return Batch({name: Source(at.table, None, at.after) for name, at in batch.sources.items()}, batch.quarantine, batch.references)

    def following(self, batch: Batch) -> Batch | None:
        """What has to be read once a batch is written, if it follows from the sources alone: where rows are only added to the table."""
        if not self.declaration.kind.takes_rows:
            return None
        sources = {name: self._source(name, at.after, self._until(name, at.after)) for name, at in batch.sources.items()}
        following = Batch(sources, batch.quarantine, batch.references)
        is_plain = all(source.only_appended for source in sources.values()) and not self.inputs(following).restated
        return following if following.moved and is_plain else None

    def inputs(self, batch: Batch) -> Inputs:
        """The sources of a batch as the kind of the table takes them."""
        declaration = self.declaration
        read = {*declaration.inputs.values(), *(dimension.table for dimension in declaration.dimensions.values())}
        return Inputs(
            {parameter: batch.sources[name] for parameter, name in declaration.inputs.items()},
            {parameter: batch.sources[dimension.table] for parameter, dimension in declaration.dimensions.items()},
            {parameter: dimension.key for parameter, dimension in declaration.dimensions.items() if dimension.key},
            declaration,
            self._stored,
            key=key_columns(declaration.contract),
            extra=declaration.arguments(self.champions),
            others={name: source for name, source in batch.sources.items() if name not in read},
        )

    def _source(self, name: str, before: int | None, after: int) -> Source:
        return Source(self.lakehouse.table(name), before, after)

    def _until(self, name: str, before: int | None) -> int:
        """How far to read a source."""
        table = self.lakehouse.table(name)
        until = number(self.declaration.kind.changed_at(table, before))
        in_steps = self.declaration.kind.takes_rows and name in self.declaration.inputs.values()
        if not in_steps or until == number(before):
            return until
        if before is None and (whole_from := readable_from(table)):
            return whole_from
        return table.step(before, until, self.rows)


def number(cursor: int | None) -> int:
    """A watermark as a number below every version if the source was never read."""
    return -1 if cursor is None else cursor


def empty_rows(declaration: TableDeclaration) -> pl.DataFrame:
    """No rows, with the columns of the contract."""
    return pl.DataFrame(schema={name: column.dtype.type for name, column in declaration.contract.to_schema().columns.items()})
