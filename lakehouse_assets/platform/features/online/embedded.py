"""The online store that needs no server: one SQLite file in WAL mode, which several processes of a machine share.

Readers never wait for writers. What is kept and when it is written is not decided here: see `store` and `sync`.
"""

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from lakehouse_assets.platform.features.online.statements import COPIES, ENDS, INSERT, SAME, Execute, query, together
from lakehouse_assets.platform.features.online.store import (
    Batch,
    Item,
    Push,
    Put,
    Query,
    ReadResult,
    Retention,
    StoreDamaged,
    StoreUnavailable,
    TakenOver,
)

_FORMAT: Final = 3
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sets (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, claim INTEGER NOT NULL, state BLOB);
CREATE TABLE IF NOT EXISTS items (
    set_id INTEGER NOT NULL, entity BLOB NOT NULL, time INTEGER NOT NULL, id BLOB NOT NULL, stamp INTEGER NOT NULL,
    pushed INTEGER NOT NULL, claim INTEGER NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (set_id, entity, time, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_id ON items (set_id, entity, id) WHERE id <> x'';
CREATE INDEX IF NOT EXISTS pushed_at ON items (set_id, pushed) WHERE pushed > 0;
CREATE INDEX IF NOT EXISTS pushed_ids ON items (set_id, id) WHERE pushed > 0;
CREATE TABLE IF NOT EXISTS leases (name TEXT PRIMARY KEY, until REAL NOT NULL, seconds REAL NOT NULL);
"""
_NO_SET: Final[tuple[int, None]] = (-1, None)
"""The number and the state of a set that does not exist."""
_READ_SECONDS, _PUSH_SECONDS, _WRITE_SECONDS = 0.05, 0.5, 30.0
_LOOKS_EVERY: Final = 1.0


class EmbeddedStore:
    """See `OnlineStore`. Each thread that reads has a connection of its own, and waits for no writer."""

    at_once = sys.maxsize

    def __init__(self, path: Path) -> None:
        self.path = path
        self._own = threading.local()
        self._writing = threading.Lock()
        self._all: list[sqlite3.Connection] = []
        self._written_by: tuple[tuple[int, tuple[int, int] | None], sqlite3.Connection] | None = None
        self._waits = 0.0

    def read(self, asked: Sequence[Query], states: Sequence[str]) -> ReadResult:
        """See `OnlineStore.read`."""
        with self._errors():
            execute = self._reader().execute
            execute("BEGIN")  # all answers are of one moment
            try:
                sets = self._sets(execute, (*states, *(one.name for one in asked)))
                answers = [query(execute, sets[one.name][0], one) for one in asked]
            finally:
                execute("COMMIT")
        return ReadResult(answers, [sets[name][1] for name in states])

    def _sets(self, execute: Execute, names: Sequence[str]) -> Mapping[str, tuple[int, bytes | None]]:
        """The numbers and states of some sets, read again if anything was committed since this thread read them."""
        own = self._own.__dict__
        version = execute("PRAGMA data_version").fetchone()[0]
        if own.get("sets_of") != version:
            own.update(sets={}, sets_of=version)
        known: dict[str, tuple[int, bytes | None]] = own["sets"]
        if new := [name for name in dict.fromkeys(names) if name not in known]:
            known.update(dict.fromkeys(new, _NO_SET))
            rows = execute(f"SELECT name, id, state FROM sets WHERE name IN ({', '.join('?' * len(new))})", new)
            known.update({name: (id_, state) for name, id_, state in rows})
        return known

    def begin(self, name: str, lease: float = 0.0) -> int:
        """See `OnlineStore.begin`."""
        with self._transaction(_WRITE_SECONDS) as execute:
            now = time.time()
            held = execute("SELECT until, seconds FROM leases WHERE name = ?", (name,)).fetchone()
            # A clock that was set back keeps nobody out for longer than a lease.
            if held is not None and now < held[0] <= now + held[1]:
                raise TakenOver(f"another sync of {name} goes on")
            # By the clock, so that a set that was dropped and made again does not give a number twice.
            execute(
                "INSERT INTO sets (name, claim) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET claim = max(claim + 1, excluded.claim)",
                (name, time.time_ns() // 1000),
            )
            claim: int = execute("SELECT claim FROM sets WHERE name = ?", (name,)).fetchone()[0]
            _lease(execute, name, lease)
        return claim

    def renew(self, name: str, claim: int, lease: float) -> None:
        """See `OnlineStore.renew`."""
        with self._transaction(_WRITE_SECONDS) as execute:
            if execute("SELECT claim FROM sets WHERE name = ?", (name,)).fetchone() != (claim,):
                raise TakenOver(f"another sync of {name} began, and goes on in place of this one")
            _lease(execute, name, lease)

    def write(self, name: str, claim: int, batch: Batch, retention: Retention) -> None:
        """See `OnlineStore.write`."""
        with self._transaction(_WRITE_SECONDS) as execute:
            own = execute("SELECT id, claim FROM sets WHERE name = ?", (name,)).fetchone()
            if own is None or own[1] != claim:
                raise TakenOver(f"another sync of {name} began, and goes on in place of this one")
            writer = _Writer(execute, own[0], claim, retention)
            for entity, puts in batch.replaced.items():
                writer.replace(entity, puts)
            writer.put(batch.puts, pushed=False)
            if batch.sweep:
                execute("DELETE FROM items WHERE set_id = ? AND NOT pushed AND claim <> ?", (own[0], claim))
            if batch.expired is not None:
                over = "SELECT entity FROM items WHERE set_id = ? GROUP BY entity HAVING max(time) <= ?"
                execute(f"DELETE FROM items WHERE set_id = ? AND entity IN ({over})", (own[0], own[0], batch.expired))
            if batch.pushed_until is not None:
                execute("DELETE FROM items WHERE set_id = ? AND pushed > 0 AND pushed <= ?", (own[0], batch.pushed_until))
            if batch.state is not None:
                execute("UPDATE sets SET state = ? WHERE id = ?", (batch.state, own[0]))

    def push(self, pushes: Sequence[Push]) -> None:
        """See `OnlineStore.push`."""
        pushes = [one for one in pushes if one.puts]
        if not pushes:
            return
        with self._transaction(_PUSH_SECONDS) as execute:
            names = [one.name for one in pushes]
            known = execute(f"SELECT name, id, claim FROM sets WHERE name IN ({', '.join('?' * len(names))})", names).fetchall()
            own = {name: (id_, claim) for name, id_, claim in known}
            for name, puts, retention in pushes:
                if name in own:
                    _Writer(execute, *own[name], retention).put(puts, pushed=True)

    def names(self) -> list[str]:
        """See `OnlineStore.names`."""
        with self._errors():
            return [name for (name,) in self._reader().execute("SELECT name FROM sets ORDER BY name")]

    def items(self, name: str, entity: bytes | None = None) -> Iterator[tuple[bytes, Item]]:
        """See `OnlineStore.items`."""
        with self._errors():
            chosen, given = ("", ()) if entity is None else (" AND entity = ?", (entity,))
            query = f"SELECT entity, time, id, payload, pushed FROM items WHERE set_id = (SELECT id FROM sets WHERE name = ?){chosen}"
            for owner, *item in self._reader().execute(f"{query} ORDER BY entity, time, id", (name, *given)):
                yield owner, Item(*item)

    def drop(self, name: str) -> None:
        """See `OnlineStore.drop`."""
        with self._transaction(_WRITE_SECONDS) as execute:
            execute("DELETE FROM items WHERE set_id = (SELECT id FROM sets WHERE name = ?)", (name,))
            execute("DELETE FROM sets WHERE name = ?", (name,))
            execute("DELETE FROM leases WHERE name = ?", (name,))

    def close(self) -> None:
        """See `OnlineStore.close`. Threads that go on open new connections."""
        with self._writing:
            for connection in self._all:
                with suppress(sqlite3.Error):
                    connection.close()
            self._all.clear()
            self._written_by = None
        self._own = threading.local()

    # --- connections

    def _reader(self) -> sqlite3.Connection:
        """The connection of this thread: another one after a fork, or after the file was replaced."""
        own = self._own.__dict__
        connection: sqlite3.Connection | None = own.get("connection")
        now = time.monotonic()
        if connection is not None and own["process"] == os.getpid():
            if now < own["look_at"]:
                return connection
            if own["file"] == _identity(self.path):
                own["look_at"] = now + _LOOKS_EVERY
                return connection
        connection = self._open(_READ_SECONDS)
        own.update(connection=connection, process=os.getpid(), file=_identity(self.path), look_at=now + _LOOKS_EVERY, sets_of=None)
        return connection

    def _open(self, seconds: float) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=seconds, isolation_level=None, check_same_thread=False, cached_statements=64)
        try:
            self._prepare(connection, seconds)
        except BaseException:
            connection.close()
            raise
        self._all.append(connection)
        return connection

    def _prepare(self, connection: sqlite3.Connection, seconds: float) -> None:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > _FORMAT:
            raise StoreUnavailable(
                f"the online store {self.path} was made by a newer release: use that one, or delete the file, which a sync fills again"
            )
        if found < _FORMAT or connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute(f"PRAGMA busy_timeout = {round(_WRITE_SECONDS * 1000)}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
            connection.execute("COMMIT")
            connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -32000")

    @contextmanager
    def _transaction(self, seconds: float) -> Iterator[Execute]:
        """One transaction of a writer; it waits so long for others."""
        with self._errors(), self._alone(seconds):
            connection = self._writer(seconds)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection.execute
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _alone(self, seconds: float) -> Iterator[None]:
        """One thread of this process writes at a time."""
        if not self._writing.acquire(timeout=seconds):
            raise StoreUnavailable(f"the online store {self.path} is being written by another thread")
        try:
            yield
        finally:
            self._writing.release()

    def _writer(self, seconds: float) -> sqlite3.Connection:
        """The connection of this process that writes: another one after a fork, or after the file was replaced."""
        place = (os.getpid(), _identity(self.path))
        if self._written_by is None or self._written_by[0] != place:
            connection = self._open(seconds)
            self._written_by, self._waits = ((os.getpid(), _identity(self.path)), connection), seconds
        connection = self._written_by[1]
        if self._waits != seconds:
            connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            self._waits = seconds
        return connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"the online store {self.path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            # Connections of a file that someone repairs or deletes are of no use any more.
            self._own, self._written_by = threading.local(), None
            raise StoreDamaged(
                f"the online store {self.path} is damaged ({error}): delete it with the files that begin with its name, and "
                "`lakehouse features sync` fills it again"
            ) from error
        except OSError as error:
            raise StoreUnavailable(f"the online store {self.path} cannot be used: {error}") from error


class _Writer:
    """Puts items of one set within a transaction."""

    def __init__(self, execute: Execute, set_id: int, claim: int, retention: Retention) -> None:
        self._execute, self._set, self._claim, self._retention = execute, set_id, claim, retention

    def replace(self, entity: bytes, puts: Sequence[Put]) -> None:
        """Put all items of an entity in the place of those that are there."""
        self._execute("DELETE FROM items WHERE set_id = ? AND entity = ? AND NOT pushed", (self._set, entity))
        self.put(puts, pushed=False)

    def put(self, puts: Sequence[Put], *, pushed: bool) -> None:
        """Add items, never older over newer."""
        wanted = _newest(puts)
        same = self._same(wanted)
        newer = {number for number, _, _, stamp in same if stamp > wanted[number].stamp}
        for number, when, id_, _ in same:
            entity, its_time, _, _, payload = wanted[number]
            if number not in newer and (payload is None or when != its_time):  # what is at the same place is written over
                self._execute("DELETE FROM items WHERE set_id = ? AND entity = ? AND time = ? AND id = ?", (self._set, entity, when, id_))
        pushed_at, claim = self._retention.now if pushed else 0, self._claim
        added = [
            (entity, when, id_, stamp, pushed_at, claim, payload)
            for number, (entity, when, id_, stamp, payload) in enumerate(wanted)
            if payload is not None and number not in newer
        ]
        self._together(INSERT, added)
        if not pushed:
            self._together(COPIES, [(put.entity, put.id) for put in wanted if put.id])
        self._trim_all({one[0] for one in added} if pushed else {put.entity for put in puts}, only_pushed=pushed)

    def _together(self, text: str, given: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return together(self._execute, text, given, self._set)

    def _same(self, puts: Sequence[Put]) -> list[tuple[int, int, bytes, int]]:
        """The items in whose place puts come: for each the number of the put, its own time, id and stamp."""
        # With an id there is one item at any time, without one there is one at each time.
        by_id = [(number, entity, id_) for number, (entity, _, id_, _, _) in enumerate(puts) if id_]
        by_time = [(number, entity, when) for number, (entity, when, id_, _, _) in enumerate(puts) if not id_]
        return self._together(SAME["id"], by_id) + self._together(SAME["time"], by_time)

    def _trim_all(self, entities: Collection[bytes], *, only_pushed: bool) -> None:
        """Remove what is too old of some entities; mostly there is nothing."""
        some = [(entity, self._retention.now) for entity in entities]
        for entity, oldest, newest in self._together(ENDS, some):
            if newest is not None and oldest <= newest - self._retention.back:
                self._trim(entity, only_pushed=only_pushed)

    def _trim(self, entity: bytes, *, only_pushed: bool) -> None:
        """Remove what is too old."""
        keep, which = self._retention, "" if only_pushed else " AND NOT pushed"
        of = (self._set, entity)
        (newest,) = self._execute(
            f"SELECT max(time) FROM items WHERE set_id = ? AND entity = ? AND time <= ?{which}", (*of, keep.now)
        ).fetchone()
        if newest is None:
            return
        before, compared = newest - keep.back, "<="
        if keep.one_before:
            (stays,) = self._execute("SELECT max(time) FROM items WHERE set_id = ? AND entity = ? AND time <= ?", (*of, before)).fetchone()
            if stays is None:
                return
            before, compared = stays, "<"
        pushed = " AND pushed" if only_pushed else ""
        self._execute(f"DELETE FROM items WHERE set_id = ? AND entity = ? AND time {compared} ?{pushed}", (*of, before))


def _newest(puts: Sequence[Put]) -> list[Put]:
    """Of puts in the place of each other the one that stays: of an entity and id, or time, the last of those with the largest stamp."""
    found: dict[tuple[bytes, bytes | int], Put] = {}
    for put in puts:
        entity, when, id_, stamp, _ = put
        if found.setdefault(place := (entity, id_ or when), put).stamp <= stamp:
            found[place] = put
    return [*found.values()]


def _lease(execute: Execute, name: str, seconds: float) -> None:
    if seconds:
        execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (name, time.time() + seconds, seconds))
    else:
        execute("DELETE FROM leases WHERE name = ?", (name,))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
