"""What a training set is made of, so that it can be made again and told from another: pinned tables and the manifest.

How the rows are made is in `training_set`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@dataclass(frozen=True)
class PinnedTable:
    """A table at a version. Its id stays the same as long as it is the same table."""

    name: str
    id: str
    version: int


@dataclass(frozen=True)
class PinnedTables:
    """Tables that stay as they are while they are read, whatever is written meanwhile."""

    lakehouse: Lakehouse
    tables: tuple[PinnedTable, ...]

    def read(self, name: str) -> pl.LazyFrame:
        """The rows of one of the tables.

        Raises:
            LookupError: It is none of them.
        """
        for table in self.tables:
            if table.name == name:
                return self.lakehouse.table(name).scan(table.version)
        raise LookupError(f"{name} is not among the tables that were pinned: {', '.join(table.name for table in self.tables)}")


def pin(lakehouse: Lakehouse, names: Sequence[str], versions: Mapping[str, int] | None = None) -> PinnedTables:
    """Tables at their newest versions, or at those that are given by name.

    Raises:
        NoSuchTable: A table does not exist.
        NoSuchVersion: It has no such version.
    """

    def pinned(name: str) -> PinnedTable:
        delta = lakehouse.table(name).delta((versions or {}).get(name))
        return PinnedTable(name, str(delta.metadata().id), delta.version())

    return PinnedTables(lakehouse, tuple(pinned(name) for name in dict.fromkeys(names)))


@dataclass(frozen=True)
class JoinedFeatures:
    """A feature set as it was joined.

    Attributes:
        name: Of its table.
        version: Which of its versions was read; None if it has none.
        code: Digest of the function and columns that its declaration has now.
        entity: The columns that it was joined by, besides the time.
        event_time: Its column.
        ttl_seconds: Its time to live; None: without end.
        defaults: By column, what stands for labels of which nothing was known.
        columns: Of the training set that come from it.
        found: Share of rows for which it had something.
        assumed: Share of rows whose values are only assumed to have been known.
        late: Share of rows that are about an event which came after its own time: they have its row as it was known first.
    """

    name: str
    version: int | None
    code: str
    entity: tuple[str, ...]
    event_time: str
    ttl_seconds: float | None
    defaults: Mapping[str, Any]
    columns: tuple[str, ...]
    found: float
    assumed: float
    late: float = 0.0

    @property
    def sentence(self) -> str:
        """The join in words."""
        live = "" if self.ttl_seconds is None else f", not older than {_span(self.ttl_seconds)}"
        late = f"; of {self.late:.1%} of the rows, whose event came late, the row of the event as it was known first" if self.late else ""
        return f"{self.name}: by {', '.join(self.entity)}, the newest {self.event_time} that had happened and was known{live}{late}"


def _span(seconds: float) -> str:
    """A span of time as people say it."""
    return f"{seconds / 86_400:.4g} days" if seconds >= 2 * 86_400 else f"{seconds / 3_600:.4g} hours"


@dataclass(frozen=True)
class Manifest:
    """What a training set is made of.

    Attributes:
        tables: Every table that was read, with its id and version.
        features: Every feature set, as it was joined.
        labels: What was predicted, of which table, and when its target counts as known.
        known_until: Targets are as they were known then (ISO 8601, UTC); None: as of the versions.
        columns: Names and types of the columns.
        rows: How many.
        digest: Of the content of the rows; it depends on neither their order nor the number of threads.
        assumed: Share of rows with at least one value that is only assumed to have been known.
        packages: Versions of the packages that joined.
    """

    tables: tuple[PinnedTable, ...]
    features: tuple[JoinedFeatures, ...]
    labels: Mapping[str, Any]
    known_until: str | None
    columns: Mapping[str, str]
    rows: int
    digest: str
    assumed: float
    packages: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """As a text; equal manifests give equal texts."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read what `to_json` wrote."""
        parts = json.loads(text)
        parts["tables"] = tuple(PinnedTable(**table) for table in parts["tables"])
        parts["features"] = tuple(
            JoinedFeatures(**(feature | {"entity": tuple(feature["entity"]), "columns": tuple(feature["columns"])}))
            for feature in parts["features"]
        )
        return cls(**parts)

    def differences(self, other: "Manifest") -> tuple[str, ...]:
        """What differs in another manifest, each as a sentence; nothing if the rows are made of the same and are equal."""
        mine, theirs = asdict(self), asdict(other)
        said = [
            f"{table.name}: version {table.version} of {table.id} here, {now.version} of {now.id} there"
            for table in self.tables
            for now in other.tables
            if now.name == table.name and now != table
        ]
        rest = [name for name in mine if name != "tables" and mine[name] != theirs[name]]
        names = {table.name for table in self.tables} ^ {table.name for table in other.tables}
        said += [f"{name} is read by one of them alone" for name in sorted(names)]
        return (*said, *(f"{name}: {mine[name]!r} here, {theirs[name]!r} there" for name in rest))
