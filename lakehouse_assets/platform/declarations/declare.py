"""How a product says what its tables are: one declaration from which the asset, its checks, its quarantine and the write follow.

Only the words of a declaration belong here: what it reads, how it writes. They are carried out in `refresh` and shown to Dagster in
`build`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.quality.contract import Contract, key_columns, schema_of
from lakehouse_assets.platform.storage.known_at import KNOWN_AT
from lakehouse_assets.platform.storage.scd1 import Latest
from lakehouse_assets.platform.storage.scd2 import IS_DELETED, VALID_FROM, History
from lakehouse_assets.platform.storage.snapshots import Snapshots

QUARANTINE_SUFFIX = "__quarantine"
RETIRE_AT_MOST = 0.2


@dataclass(frozen=True)
class Changes:
    """Reads the rows of `table` that are new or changed since the cursor."""

    table: str


@dataclass(frozen=True)
class Snapshot:
    """Reads the whole of `table`.

    Attributes:
        version_as: Name of a column that says which version of the table was read.
    """

    table: str
    version_as: str | None = None


@dataclass(frozen=True)
class Touched:
    """Reads all rows of `table` whose value of `by` stands in a row that came, changed or went since the cursor."""

    table: str
    by: str


@dataclass(frozen=True)
class Since:
    """Reads the whole of `table`, for a function that looks back only.

    Of what the function returns, only the rows count whose `by` is after that of the last row before all that came, changed or went: no
    other row can have changed. So `by` is a column of the source and of the result.
    """

    table: str
    by: str


@dataclass(frozen=True)
class Lookup:
    """Reads the whole of `table`.

    Rows of the input `of` (a `Touched`) that have the value of `on` of a changed row here count as touched.
    """

    table: str
    on: str
    of: str


@dataclass(frozen=True)
class Champion:
    """Hands over the champion of a model, a `platform.pipeline.model_step.Scorer`; without a champion nothing is written."""

    model: "ModelAsset"

    @property
    def table(self) -> str:
        """The model's ledger: every decision about its champion is a version of it."""
        return self.model.name


Read = Changes | Snapshot | Touched | Since | Lookup | Champion


@dataclass(frozen=True)
class Append:
    """Every row is new."""


@dataclass(frozen=True)
class Merge:
    """One row a key: new keys come in, changed rows are updated, the rest are duplicates.

    Attributes:
        on: The key.
        newest_by: Of two rows with one key, the one with the larger value counts; without it, the later one.
        stamps: Columns that say when or from what a row was written. A row that differs in nothing else did not change.
    """

    on: tuple[str, ...]
    newest_by: str | None = None
    stamps: tuple[str, ...] = ()


@dataclass(frozen=True)
class SCD1:
    """Change events or snapshots, in any order, become the latest state of each key; a key that went stays as a tombstone.

    Attributes:
        on: The key.
        sequence_by: The number of an event, or of a snapshot.
        snapshot: Whether rows with one number are a snapshot, which is whole: a key that it lacks is retired.
        retire_at_most: A snapshot that would retire a larger share of the current keys is refused; its rows go into the quarantine.
    """

    on: tuple[str, ...]
    sequence_by: str
    snapshot: bool = False
    retire_at_most: float = RETIRE_AT_MOST

    @property
    def storage(self) -> Latest | Snapshots:
        """The same for the storage room."""
        return Snapshots(self.on, self.sequence_by, history=False) if self.snapshot else Latest(self.on, self.sequence_by)


@dataclass(frozen=True)
class SCD2:
    """Change events or snapshots, in any order, become intervals of validity; what they have in common with `SCD1` means the same.

    Attributes:
        on: The key.
        sequence_by: The number of an event, or of a snapshot.
        unversioned: Columns that open no new interval when they change: an interval shows their latest value.
        snapshot: As in `SCD1`.
        retire_at_most: As in `SCD1`.
    """

    on: tuple[str, ...]
    sequence_by: str
    unversioned: tuple[str, ...] = ()
    snapshot: bool = False
    retire_at_most: float = RETIRE_AT_MOST

    @property
    def storage(self) -> History | Snapshots:
        """The same for the storage room."""
        kind = Snapshots if self.snapshot else History
        return kind(self.on, self.sequence_by, self.unversioned)


@dataclass(frozen=True)
class Replace:
    """The rows with the touched values of the partition column `by` are replaced; without `by` the whole table is."""

    by: str | None = None


@dataclass(frozen=True)
class Revise:
    """One row a key and time of knowledge: a value that changes is added beside the one that was known before."""

    on: tuple[str, ...]


Write = Append | Merge | SCD1 | SCD2 | Replace | Revise

Picture = Callable[[Callable[[str], pl.LazyFrame]], bytes]
"""Draws a table (PNG), from a function that gives the rows of any table by its name."""


@dataclass(frozen=True)
class FeedAsset:
    """The bronze table of a feed."""

    name: str
    feed: Feed
    description: str
    owner: str
    kind: str = "bronze"


@dataclass(frozen=True)
class TableAsset:
    """A table that is worked out from other tables. Calling it calls the function, which is pure."""

    name: str
    contract: type[Contract]
    reads: Mapping[str, Read]
    write: Write
    function: Callable[..., pl.LazyFrame]
    description: str
    owner: str
    partition_by: tuple[str, ...] = ()
    stamped_at: str | None = None
    row_for_row: bool = True
    picture: Picture | None = None

    def __call__(self, *frames: Any, **named: Any) -> pl.LazyFrame:
        """The rows, from the frames that the function reads."""
        return self.function(*frames, **named)

    @property
    def layer(self) -> str:
        """The middle word of the name."""
        return self.name.split(".")[1]

    @property
    def quarantine(self) -> str:
        """The name of the sibling table that holds rejected rows."""
        return self.name + QUARANTINE_SUFFIX

    @property
    def schema(self) -> pl.Schema:
        """The columns that the contract promises, with those that the write adds."""
        schema = schema_of(self.contract)
        return self.write.storage.schema(schema) if isinstance(self.write, SCD1 | SCD2) else schema


@dataclass(frozen=True)
class ModelAsset:
    """A model: what it learns from and how. Its table is the ledger of every decision about it.

    Attributes:
        features: The feature set.
        train: From the feature set's rows and a seed to a `platform.modelling.result.Training`.
        load: From a folder to what `predict` of the product takes.
    """

    name: str
    features: str
    train: Callable[[pl.LazyFrame, int], Any]
    load: Callable[[Any], Any]
    description: str
    owner: str

    @property
    def registered_name(self) -> str:
        """The name in MLflow's registry."""
        return self.name.replace(".models.", ".")


Declaration = FeedAsset | TableAsset | ModelAsset


def feed(name: str, feed: Feed, description: str, owner: str | None = None) -> FeedAsset:
    """Declare the bronze table of a feed; `name` is `product.bronze.name`."""
    return FeedAsset(name, feed, description, owner or _owner_of(name))


def table(
    name: str,
    *,
    contract: type[Contract],
    reads: Mapping[str, Read],
    write: Write,
    partition_by: tuple[str, ...] = (),
    stamped_at: str | None = None,
    row_for_row: bool = True,
    picture: Picture | None = None,
    owner: str | None = None,
) -> Callable[[Callable[..., pl.LazyFrame]], TableAsset]:
    """Declare a table by the pure function that works it out; its docstring describes the table to people.

    Args:
        name: `product.layer.name`.
        contract: Columns, types, rules, key.
        reads: What the function is given, by its parameters' names.
        write: What becomes of the rows that the contract lets through.
        partition_by: Columns by which the table is partitioned.
        stamped_at: A timestamp column that the platform fills with the moment of the write.
        row_for_row: Whether the function returns one row for each row of its `Changes`; then no row can get lost in it unseen.
        picture: Draws the table for people, after each change.
        owner: Who answers for it; the product's team by default.

    Raises:
        TypeError: The contract's key is not the one that the write keeps unique.
    """
    _check_key(name, contract, write)

    def declare(function: Callable[..., pl.LazyFrame]) -> TableAsset:
        description = " ".join((function.__doc__ or "").split())
        return TableAsset(
            name,
            contract,
            reads,
            write,
            function,
            description,
            owner or _owner_of(name),
            partition_by,
            stamped_at,
            row_for_row,
            picture,
        )

    return declare


def model(
    name: str, *, features: str, load: Callable[[Any], Any], owner: str | None = None
) -> Callable[[Callable[[pl.LazyFrame, int], Any]], ModelAsset]:
    """Declare a model by the function that trains it; `name` is `product.models.name`."""

    def declare(function: Callable[[pl.LazyFrame, int], Any]) -> ModelAsset:
        return ModelAsset(name, features, function, load, " ".join((function.__doc__ or "").split()), owner or _owner_of(name))

    return declare


def _owner_of(name: str) -> str:
    return f"team:{name.split('.', maxsplit=1)[0]}"


def _check_key(name: str, contract: type[Contract], write: Write) -> None:
    """The columns by which the write tells rows apart are the contract's key."""
    match write:
        case Merge():
            keys = [write.on]
        case SCD1():
            keys = [write.on, (*write.on, write.sequence_by)]
            _check_changes(name, contract, write)
        case SCD2():
            keys = [(*write.on, write.sequence_by)]
            _check_changes(name, contract, write)
        case Revise():
            keys = [write.on, (*write.on, KNOWN_AT)]
        case _:
            return
    if set(key_columns(contract)) not in [set(key) for key in keys]:
        held = ", ".join(key_columns(contract)) or "no column"
        wanted = " or ".join(", ".join(key) for key in keys)
        raise TypeError(
            f"{name}: contract {contract.__name__} has the key {held}, but {type(write).__name__} tells rows apart by {wanted}. "
            "Mark exactly these columns with column(key=True), or change the write."
        )


def _check_changes(name: str, contract: type[Contract], write: SCD1 | SCD2) -> None:
    """The contract has what a row of a change feed needs, and the declaration means something."""
    where, kind = f"{name}, contract {contract.__name__}", type(write).__name__
    columns = contract.to_schema().columns
    for column in (*write.on, write.sequence_by, VALID_FROM, IS_DELETED):
        if column not in columns or columns[column].nullable:
            raise TypeError(f"{where}: {kind} needs a column {column} that is never null")
    if columns[IS_DELETED].dtype.type != pl.Boolean:
        raise TypeError(f"{where}: {IS_DELETED} says whether a key is gone: give it the type bool")
    if not isinstance(columns[VALID_FROM].dtype.type, pl.Datetime):
        raise TypeError(f"{where}: {VALID_FROM} says from when on a row holds: give it the type Timestamp")
    if not 0 <= write.retire_at_most <= 1:
        raise TypeError(f"{name}: retire_at_most is a share between 0 and 1, not {write.retire_at_most}")
    own = {*write.on, write.sequence_by, VALID_FROM, IS_DELETED}
    for column in write.unversioned if isinstance(write, SCD2) else ():
        if column not in columns or column in own:
            values = ", ".join(name for name in columns if name not in own)
            raise TypeError(f"{where}: unversioned names {column!r}, which is no value of a row; there are {values}")
