"""The database of an outbox, in SQLite: rows that wait to be landed, in which file each lands, and the ids that were accepted.

Rows go once they have landed, and they alone count against a bound. Ids are kept by age, in a table for each part of that time: to forget
is to drop a table, whatever the number of ids. Threads and files are the business of `outbox`.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

Result = TypeVar("Result")
_SCHEMA: Final = """
CREATE TABLE store (id TEXT NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE files (number INTEGER PRIMARY KEY AUTOINCREMENT, first INTEGER, last INTEGER, rows INTEGER, bytes INTEGER);
CREATE TABLE waiting (number INTEGER PRIMARY KEY AUTOINCREMENT, accepted_at REAL NOT NULL, content TEXT NOT NULL);
"""
_PARTS: Final = 4
"""Tables among which the ids of the whole time are divided: each look-up asks all of them."""
_SHORTEST_PART: Final = 0.1
_CACHE_KIB: Final = 16_384
_LONGEST_PAUSE: Final = 0.1
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


class OutboxUnavailable(Exception):
    """Rows cannot be made durable now: the disk is full, or too many wait for a landing zone that is away. Nothing was accepted."""


class SameIdOtherRow(ValueError):
    """An id was accepted before with another row.

    Attributes:
        ids: These ids.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(f"{len(ids)} ids were accepted before with other rows")
        self.ids = ids


@dataclass(frozen=True)
class PushedRow:
    """A row to land: its id, what its content is recognised by, and the content."""

    id: str
    digest: bytes
    content: str


@dataclass(frozen=True)
class OutboxFile:
    """Rows that land as one file: the id of the store, its number, and their contents."""

    store: str
    number: int
    contents: Sequence[str]


class OutboxStore:
    """The database of one outbox; several processes may have it open. One thread at a time uses an object of this.

    Args:
        path: Of the database.
        waiting_bytes: Most bytes of rows that wait.
        remembered_seconds: For how long an id is recognised after it was accepted.
    """

    def __init__(self, path: Path, waiting_bytes: int, remembered_seconds: float) -> None:
        self.path, self._waiting_bytes, self._remembered = path, waiting_bytes, remembered_seconds
        self._database: sqlite3.Connection | None = None
        self._inode = 0

    def accept(self, asked: Sequence[Sequence[PushedRow]], seconds: float) -> list[int | Exception]:
        """Accept the rows of several requests in one transaction, which is on the disk when this returns.

        Args:
            asked: The rows of each request.
            seconds: For how long other processes are waited for.

        Returns:
            For each request how many rows are new, or why none was taken.

        Raises:
            sqlite3.Error, OSError: Nothing was accepted.
        """

        def accept(database: sqlite3.Connection) -> list[int | Exception]:
            with _transaction(database):
                ids = _Ids(database, self._remembered)
                return [self._insert(database, ids, rows) for rows in asked]

        return self._patiently(accept, seconds)

    def next_file(self, rows: int, seconds: float) -> OutboxFile | None:
        """The file to land: one that was begun, or a new one of at most so many rows that wait; None: no row waits."""

        def choose(database: sqlite3.Connection) -> tuple[int, int, int] | None:
            with _transaction(database):
                begun: tuple[int, int, int] | None = database.execute("SELECT number, first, last FROM files ORDER BY number").fetchone()
                if begun is not None:
                    return begun
                chosen = "SELECT number, length(CAST(content AS BLOB)) AS bytes FROM waiting ORDER BY number LIMIT ?"
                sums = f"SELECT min(number), max(number), count(*), sum(bytes) FROM ({chosen})"  # noqa: S608 fixed text
                first, last, count, size = database.execute(sums, (rows,)).fetchone()
                if not count:
                    return None
                insert = "INSERT INTO files (first, last, rows, bytes) VALUES (?, ?, ?, ?)"
                number = database.execute(insert, (first, last, count, size)).lastrowid
                assert number is not None  # noqa: S101 it was inserted
                return number, first, last

        def read(database: sqlite3.Connection) -> OutboxFile | None:
            found = choose(database)
            if found is None:
                return None
            contents = database.execute("SELECT content FROM waiting WHERE number BETWEEN ? AND ? ORDER BY number", found[1:])
            (store,) = database.execute("SELECT id FROM store").fetchone()
            return OutboxFile(store, found[0], [content for (content,) in contents])

        return self._patiently(read, seconds)

    def landed(self, number: int, seconds: float) -> None:
        """Forget the rows of a file, which is in the landing zone; their ids are remembered."""

        def delete(database: sqlite3.Connection) -> None:
            with _transaction(database):
                found = database.execute("SELECT first, last, rows, bytes FROM files WHERE number = ?", (number,)).fetchone()
                if found is None:  # another process has landed it meanwhile
                    return
                first, last, rows, size = found
                database.execute("DELETE FROM waiting WHERE number BETWEEN ? AND ?", (first, last))
                database.execute("DELETE FROM files WHERE number = ?", (number,))
                database.execute("UPDATE store SET rows = rows - ?, bytes = bytes - ?", (rows, size))

        self._patiently(delete, seconds)

    def waiting(self, seconds: float) -> int:
        """How many rows wait."""
        (rows,) = self._patiently(lambda database: database.execute("SELECT rows FROM store").fetchone(), seconds)
        return int(rows)

    def close(self) -> None:
        """Close the database; it is opened again when it is needed."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _insert(self, database: sqlite3.Connection, ids: "_Ids", rows: Sequence[PushedRow]) -> int | Exception:
        known = {row.id: digest for row in rows if (digest := ids.digest(row.id)) is not None}
        if other := [row.id for row in rows if row.id in known and known[row.id] != row.digest]:
            return SameIdOtherRow(other)
        new = [row for row in rows if row.id not in known]
        size = sum(len(row.content.encode()) for row in new)
        (waiting,) = database.execute("SELECT bytes FROM store").fetchone()
        if new and waiting and waiting + size > self._waiting_bytes:
            return OutboxUnavailable("too many rows wait to be landed: send them again later")
        ids.add(new)
        insert = "INSERT INTO waiting (accepted_at, content) VALUES (?, ?)"
        database.executemany(insert, [(ids.now, row.content) for row in new])
        database.execute("UPDATE store SET rows = rows + ?, bytes = bytes + ?", (len(new), size))
        return len(new)

    # --- the database

    def _patiently(self, act: Callable[[sqlite3.Connection], Result], seconds: float) -> Result:
        """Do something with the database; where another process has it to itself, again and again for some time."""
        until, pause = time.monotonic() + seconds, 0.002
        while True:
            try:
                return act(self._opened(max(until - time.monotonic(), 0.0)))
            except sqlite3.Error as error:
                self.close()
                # SQLite itself does not wait for those who open a database, bring it into WAL mode or clean up after the last one.
                is_busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY
                if not is_busy or time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _opened(self, seconds: float) -> sqlite3.Connection:
        """The open database, which waits so long for a lock."""
        with suppress(FileNotFoundError):
            if self._database is not None and self.path.stat().st_ino == self._inode:
                self._database.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")
                return self._database
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # rows may be personal
        database = sqlite3.connect(self.path, timeout=seconds, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")  # a commit is on the disk before it is answered
            database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if not _has(database, "store"):
                with _transaction(database):
                    if not _has(database, "store"):
                        for statement in filter(str.strip, _SCHEMA.split(";")):
                            database.execute(statement)
                        database.execute("INSERT INTO store VALUES (?, 0, 0)", (uuid4().hex[:12],))
        except BaseException:
            database.close()
            raise
        self._database, self._inode = database, self.path.stat().st_ino
        return database


class _Ids:
    """The ids that were accepted, within one transaction.

    Args:
        database: In a transaction.
        remembered_seconds: For how long an id is recognised; while its row waits it is longer.
    """

    def __init__(self, database: sqlite3.Connection, remembered_seconds: float) -> None:
        self.now = time.time()
        self._database = database
        (oldest,) = database.execute("SELECT min(accepted_at) FROM (SELECT accepted_at FROM waiting ORDER BY number LIMIT 1)").fetchone()
        since = self.now - remembered_seconds
        self._since = since if oldest is None else min(since, oldest)
        part = max(remembered_seconds / _PARTS, _SHORTEST_PART)
        names = database.execute("SELECT name FROM sqlite_master WHERE name GLOB 'ids_*'").fetchall()
        begun = sorted(int(name.removeprefix("ids_")) for (name,) in names)  # when each was begun, in milliseconds
        while len(begun) > 1 and begun[1] / 1000 < self._since:  # all of its ids came before the next one was begun
            database.execute(f"DROP TABLE ids_{begun.pop(0)}")
        if not begun or begun[-1] / 1000 + part < self.now:
            begun.append(max(int(self.now * 1000), begun[-1] + 1 if begun else 0))
            create = f"CREATE TABLE ids_{begun[-1]} (id TEXT PRIMARY KEY, digest BLOB NOT NULL, accepted_at REAL NOT NULL) WITHOUT ROWID"
            database.execute(create)
        self._newest = f"ids_{begun[-1]}"
        each = (f"SELECT digest, accepted_at FROM ids_{one} WHERE id = ?1 AND accepted_at >= ?2" for one in reversed(begun))  # noqa: S608 numbers
        self._find = f"{' UNION ALL '.join(each)} ORDER BY accepted_at DESC LIMIT 1"

    def digest(self, identity: str) -> bytes | None:
        """What the row of an id is recognised by; None: the id is not known."""
        found: tuple[bytes, float] | None = self._database.execute(self._find, (identity, self._since)).fetchone()
        return None if found is None else found[0]

    def add(self, rows: Sequence[PushedRow]) -> None:
        """Remember the ids of rows."""
        insert = f"INSERT OR REPLACE INTO {self._newest} VALUES (?, ?, ?)"  # noqa: S608 a number
        self._database.executemany(insert, [(row.id, row.digest, self.now) for row in rows])


def _has(database: sqlite3.Connection, table: str) -> bool:
    return database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
