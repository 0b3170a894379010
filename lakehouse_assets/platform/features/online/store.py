"""What an online store does, whichever it is: values and events by entity, ordered by time, read within a request.

A store knows nothing of feature sets: it keeps items of an entity in a set. What the bytes of an item mean is in `codecs`, which items
there have to be in `sync`, what is asked in `lookup`. The stores themselves are `embedded` (SQLite) and `redis_store`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from lakehouse_assets.platform.storage.errors import StorageError


class StoreUnavailable(StorageError):
    """The store cannot be reached or used now. The message says which one, and what to do."""


class StoreDamaged(StoreUnavailable):
    """The file of the store is damaged. What it held is in the tables: a sync fills a new one."""


class TakenOver(RuntimeError):
    """Another sync of the same set goes on in place of this one."""


class Item(NamedTuple):
    """What is stored of an entity at a time.

    Attributes:
        time: Microseconds since 1970 (UTC).
        id: Tells items of an entity apart; of values that is their time alone, so it is empty.
        payload: The values, as `codecs` writes them.
        pushed: When it was pushed, in microseconds; 0: it is from the table.
    """

    time: int
    id: bytes
    payload: bytes
    pushed: int = 0


class Put(NamedTuple):
    """An item that is to be stored, unless a newer one with its id is there.

    Attributes:
        entity: Whose it is.
        time: See `Item`.
        id: See `Item`. Of an entity there is one item with an id; with an empty one, one at a time.
        stamp: The larger one is newer: of values when they became known, of events whether they are from the table (1) or pushed (0).
        payload: See `Item`. None: an item that is not newer is removed, and nothing is stored.
    """

    entity: bytes
    time: int
    id: bytes
    stamp: int
    payload: bytes | None


EARLIEST: Final = -(2**63)
"""No limit below."""


class Query(NamedTuple):
    """Questions about entities of one set: of each its items with low < time ≤ high, oldest first, or only the last of them.

    Attributes:
        name: The set.
        entities: Of each question; so are the next.
        lows: In microseconds; `EARLIEST`: no limit.
        highs: In microseconds.
        only_last: Whether only the newest item is asked for.
    """

    name: str
    entities: Sequence[bytes]
    lows: Sequence[int]
    highs: Sequence[int]
    only_last: bool


class QueryResult(NamedTuple):
    """Items by question, in the order of the questions.

    Attributes:
        ends: For each question the place after its last item.
        times: Of all items; see `Item`, also for the next.
        ids: See `times`.
        payloads: See `times`.
        pushed: See `times`.
    """

    ends: Sequence[int]
    times: Sequence[int]
    ids: Sequence[bytes]
    payloads: Sequence[bytes]
    pushed: Sequence[int]

    @classmethod
    def of(cls, ends: Sequence[int], items: Sequence[tuple[Any, ...]]) -> "QueryResult":
        """From items in their order."""
        return cls(ends, *zip(*items, strict=True)) if items else cls(ends, (), (), (), ())


@dataclass(frozen=True)
class Retention:
    """Which items of an entity are kept, counted back from its newest one that is not after now.

    Attributes:
        back: Microseconds; older ones go.
        one_before: Whether the newest one among those that would go stays: it is the value that still holds at the beginning.
        now: Microseconds since 1970. Items after it are known ahead, and stay.
    """

    back: int
    one_before: bool
    now: int


@dataclass(frozen=True)
class Batch:
    """A change of one set, which happens as a whole or not at all if it is not larger than `OnlineStore.at_once`.

    Attributes:
        puts: Items that are added, never older over newer. What was pushed with the id of one under another entity goes.
        replaced: By entity, its items: what else the sync had stored of it goes. What was pushed stays if it is newer.
        sweep: Whether entities that no batch of this sync named go, apart from what was pushed.
        expired: Entities without an item after this time go; None: none.
        pushed_until: What was pushed until this time, and is not in the table, goes; None: nothing.
        state: What the set is from now on, as `SetState` writes it; None: as before.
    """

    puts: Sequence[Put] = ()
    replaced: Mapping[bytes, Sequence[Put]] = field(default_factory=lambda: MappingProxyType({}))
    sweep: bool = False
    expired: int | None = None
    pushed_until: int | None = None
    state: bytes | None = None


class Push(NamedTuple):
    """Items that are added to a set ahead of the next sync.

    Attributes:
        name: The set; if it does not exist, nothing is added.
        puts: The items.
        retention: Which items stay. They are pushed at its `now`.
    """

    name: str
    puts: Sequence[Put]
    retention: Retention


class ReadResult(NamedTuple):
    """What `OnlineStore.read` gives: the items of each set that was asked, and for each set its state."""

    found: list[QueryResult]
    states: list[bytes | None]


class OnlineStore(Protocol):
    """A store. It may be used by several threads and processes at once. All that it does may raise `StoreUnavailable`, within a second."""

    @property
    def at_once(self) -> int:
        """So many items and entities are written in one transaction; more may be several, so that others do not wait for all of it."""
        ...

    def read(self, asked: Sequence[Query], states: Sequence[str]) -> ReadResult:
        """Answer all questions in one round trip, as of one moment, and give the states of some sets."""
        ...

    def begin(self, name: str, lease: float = 0.0) -> int:
        """Begin to sync a set, which is made if it does not exist, and return a number that its writes carry, its claim.

        A sync that began before can write no more.

        Args:
            name: The set.
            lease: For so many seconds no other sync can begin; 0: any can, at once.

        Raises:
            TakenOver: The lease of another sync is not over.
        """
        ...

    def renew(self, name: str, claim: int, lease: float) -> None:
        """Let a lease be over in so many seconds from now; 0: it is over.

        Raises:
            TakenOver: Another sync began.
        """
        ...

    def write(self, name: str, claim: int, batch: Batch, retention: Retention) -> None:
        """Change a set: in one transaction, or in several if it is more than `at_once`; the state comes with the last one.

        Raises:
            TakenOver: Another sync began.
        """
        ...

    def push(self, pushes: Sequence[Push]) -> None:
        """Add items at once, ahead of the next sync, never older over newer."""
        ...

    def names(self) -> list[str]:
        """The sets that exist."""
        ...

    def items(self, name: str, entity: bytes | None = None) -> Iterator[tuple[bytes, Item]]:
        """All items of a set, or of one entity, with their entities: for people and tests."""
        ...

    def drop(self, name: str) -> None:
        """Remove a set with all items."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class SetState(msgspec.Struct, frozen=True):
    """What a set in the store is made from.

    Attributes:
        table: The name of the table.
        table_id: Its id in Delta: a table that was made again has another one.
        cursor: The version of the table that the set agrees with.
        made_of: What says which items there have to be, besides the table: another text asks for another scan.
        columns: The columns of payloads, in their order.
        kinds: How each is written.
        entity_kinds: How the columns of the entity are written.
        key: Of events, the columns that tell them apart.
        key_kinds: How these are written.
        counting: Of events, what says which of them count and which values they have, see `readers.counting`.
        version: Of values, the feature_set_version; None: the table has none.
        newest: The newest time that was seen, not after now, in microseconds; None: none.
        pruned: Up to where entities that are over were removed: of no entity all items until this time are sure to be there.
        synced_at: Up to when the set agrees with the table, in microseconds; 0: it never did.
        rows: Items that the last scan stored and all syncs since then.
        back: For how long items are kept, see `Retention`. Of an entity, items are whole after its newest one less this.
    """

    table: str
    table_id: str
    cursor: int
    made_of: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    entity_kinds: tuple[str, ...]
    key: tuple[str, ...] = ()
    key_kinds: tuple[str, ...] = ()
    counting: str = ""
    version: int | None = None
    newest: int | None = None
    pruned: int | None = None
    synced_at: int = 0
    rows: int = 0
    back: int = 0

    def written(self) -> bytes:
        """As bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def read(cls, written: bytes | None) -> "SetState | None":
        """From bytes; None if there are none, or if they are of another release: then the set is synced from a scan."""
        if written is None:
            return None
        try:
            return msgspec.msgpack.decode(written, type=cls)
        except msgspec.MsgspecError:
            return None
