"""Rows that were accepted and are on their way to a feed's landing zone: an outbox in SQLite, on the disk of this machine.

Rows and their ids are one transaction, flushed to the disk before it is answered; callers that wait at once share it. A thread turns rows
into files. Which rows a file holds is decided in the database first and its name follows from its number, so after a crash the same file is
put again and the zone recognises it. Several processes of one machine share an outbox. What a row may be is decided in `ingest`.
"""

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final
from uuid import uuid4

from lakehouse_assets.platform.ingestion.zone import NotLanded, Zone
from lakehouse_assets.platform.storage import disk

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS store (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (number INTEGER PRIMARY KEY AUTOINCREMENT, made_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    accepted_at REAL NOT NULL,
    content TEXT,
    file INTEGER
);
CREATE INDEX IF NOT EXISTS waiting ON rows (file) WHERE content IS NOT NULL;
"""
_BUSY_SECONDS = 10.0
_LONGEST_WAIT = 30.0
_ROWS_OF_A_COMMIT = 10_000
_FORGOTTEN_AT_ONCE = 2_000
_LONGEST_PAUSE = 30.0
_LOG = getLogger(__name__)


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
class OutboxBounds:
    """When files are made, and how much may wait.

    Attributes:
        seconds: For how long rows are collected before they become a file.
        rows: Most rows of a file.
        remembered_seconds: For how long an id is recognised after it was accepted.
        disk_bytes: Most bytes of the database.
    """

    seconds: float = 2.0
    rows: int = 5_000
    remembered_seconds: float = 7 * 86_400
    disk_bytes: int = 2 * 1024**3


@dataclass(frozen=True)
class OutboxState:
    """What an outbox tells of itself, for metrics: rows that wait, and why the last file could not be landed (empty: it could)."""

    waiting: int
    trouble: str


@dataclass(frozen=True)
class _Asked:
    rows: Sequence[PushedRow]
    accepted: "Future[int]"


class Outbox:
    """The outbox of one feed.

    Args:
        path: Of the database.
        zone: Opens the landing zone of the feed; asked each time, since a bucket may be away.
        name: The name of a file, from the id of the database and the file's number.
        content: The bytes of a file, from its number and its rows.
        bounds: When files are made.
        lands: Whether files are landed again and again, besides when `land` is called. A service lands in another process than it accepts.
    """

    def __init__(
        self,
        path: Path,
        zone: Callable[[], Zone],
        name: Callable[[str, int], str],
        content: Callable[[int, Sequence[str]], bytes],
        bounds: OutboxBounds | None = None,
        *,
        lands: bool = True,
    ) -> None:
        self.path, self.bounds = path, bounds or OutboxBounds()
        self._zone, self._name, self._content = zone, name, content
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._something, self._stop, self._landing = threading.Event(), threading.Event(), threading.Lock()
        self._trouble = ""
        self._writer = threading.Thread(target=self._write_regularly, name="outbox-write", daemon=True)
        self._lander = threading.Thread(target=self._land_regularly, name="outbox-land", daemon=True)
        self._something.set()  # what an earlier process left
        self._writer.start()
        self._lands = lands
        if lands:
            self._lander.start()

    def add(self, rows: Sequence[PushedRow]) -> int:
        """Accept rows, all or none, and wait until they are durable; how many are new. The others had been accepted before.

        Raises:
            SameIdOtherRow: An id was accepted with another content.
            OutboxUnavailable: They cannot be made durable.
        """
        if self._stop.is_set():
            raise OutboxUnavailable("the service is stopping: send the rows again")
        asked = _Asked(rows, Future())
        self._asked.put(asked)
        try:
            return asked.accepted.result(_LONGEST_WAIT)
        except TimeoutError:
            raise OutboxUnavailable("rows could not be made durable in time: send them again, each is taken once") from None

    def state(self) -> OutboxState:
        """What it tells of itself."""
        with suppress(sqlite3.Error, OSError), self._open() as database:
            (waiting,) = database.execute("SELECT count(*) FROM rows WHERE content IS NOT NULL").fetchone()
            return OutboxState(waiting, self._trouble)
        return OutboxState(0, self._trouble or "the database cannot be read")

    def land(self) -> bool:
        """Land all rows that wait, now; whether that succeeded."""
        with self._landing:
            try:
                with self._open() as database:
                    while self._land_one(database):
                        pass
                    self._forget(database)
            except Exception as error:  # noqa: BLE001 a bucket that is away raises what its client pleases; the rows stay
                lines = str(error).splitlines() or [type(error).__name__]
                if lines[0] != self._trouble:
                    _LOG.warning("rows wait to be landed in %s: %s", self.path.stem, lines[0])
                self._trouble = lines[0]
                return False
            self._trouble = ""
            return True

    def close(self, seconds: float = 10.0) -> bool:
        """Accept nothing more, and land what waits if it lands, for at most some seconds; whether that is done. The next one goes on."""
        self._stop.set()
        self._something.set()
        self._asked.put(None)
        self._writer.join(seconds)
        if not self._lands:
            return not self._writer.is_alive()
        done: list[bool] = []
        last = threading.Thread(target=lambda: done.append(self.land()), name="outbox-last", daemon=True)
        last.start()
        last.join(seconds)
        return done == [True]

    # --- accepting

    def _write_regularly(self) -> None:
        while (first := self._asked.get()) is not None:
            asked, rows = [first], len(first.rows)
            with suppress(queue.Empty):
                while rows < _ROWS_OF_A_COMMIT:
                    following = self._asked.get_nowait()
                    if following is None:
                        self._asked.put(None)
                        break
                    asked.append(following)
                    rows += len(following.rows)
            try:
                with self._open() as database:
                    answers = self._write(database, asked)
            except Exception as error:  # noqa: BLE001 each of those who wait has to hear of it
                why = disk.reason(error, self.path.parent) or str(error)
                answers = [OutboxUnavailable(f"rows cannot be accepted now: {why}")] * len(asked)
            for one, answer in zip(asked, answers, strict=True):
                one.accepted.set_exception(answer) if isinstance(answer, Exception) else one.accepted.set_result(answer)
            self._something.set()

    def _write(self, database: sqlite3.Connection, asked: Sequence[_Asked]) -> list[int | Exception]:
        """One transaction with the rows of all who wait; an answer for each."""
        (pages,), (free,), (page,) = (
            database.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * page > self.bounds.disk_bytes:
            return [OutboxUnavailable("too many rows wait to be landed: send them again later")] * len(asked)
        with _transaction(database):
            return [self._insert(database, one.rows) for one in asked]

    def _insert(self, database: sqlite3.Connection, rows: Sequence[PushedRow]) -> int | Exception:
        find = "SELECT digest FROM rows WHERE id = ?"
        known = {row.id: digest for row in rows if (digest := database.execute(find, (row.id,)).fetchone()) is not None}
        if other := [row.id for row in rows if row.id in known and known[row.id][0] != row.digest]:
            return SameIdOtherRow(other)
        new = [(row.id, row.digest, time.time(), row.content) for row in rows if row.id not in known]
        database.executemany("INSERT INTO rows (id, digest, accepted_at, content) VALUES (?, ?, ?, ?)", new)
        return len(new)

    # --- landing

    def _land_regularly(self) -> None:
        pause = 0.0
        while not self._stop.is_set():
            # Another process of this machine may have died with rows in the outbox: it is looked into now and then.
            self._something.wait(max(5 * self.bounds.seconds, 1.0))
            if self._stop.wait(pause):
                return
            self._something.clear()
            is_done = self.land()
            pause = self.bounds.seconds if is_done else min(max(2 * pause, self.bounds.seconds), _LONGEST_PAUSE)
            if not is_done:
                self._something.set()

    def _land_one(self, database: sqlite3.Connection) -> bool:
        """Land the next file; False if no row waits."""
        number = self._next_file(database)
        if number is None:
            return False
        (store,) = database.execute("SELECT id FROM store").fetchone()
        found = database.execute("SELECT content FROM rows WHERE file = ? AND content IS NOT NULL ORDER BY number", (number,))
        rows = [content for (content,) in found]
        if rows:  # otherwise another process landed it meanwhile
            self._put(self._content(number, rows), self._name(store, number))
        with _transaction(database):
            database.execute("UPDATE rows SET content = NULL WHERE file = ?", (number,))
            database.execute("DELETE FROM files WHERE number = ?", (number,))
        return True

    def _next_file(self, database: sqlite3.Connection) -> int | None:
        """The file to land: one that was begun, or a new one of the rows that wait."""
        with _transaction(database):
            begun: tuple[int | None] = database.execute("SELECT min(number) FROM files").fetchone()
            if begun[0] is not None:
                return begun[0]
            chosen = "SELECT number FROM rows WHERE content IS NOT NULL AND file IS NULL ORDER BY number LIMIT ?"
            numbers = database.execute(chosen, (self.bounds.rows,)).fetchall()
            if not numbers:
                return None
            file = database.execute("INSERT INTO files (made_at) VALUES (?)", (time.time(),)).lastrowid
            database.executemany("UPDATE rows SET file = ? WHERE number = ?", [(file, number) for (number,) in numbers])
            return file

    def _put(self, content: bytes, name: str) -> None:
        zone = self._zone()
        with NamedTemporaryFile(dir=self.path.parent, prefix=".", suffix=Path(name).suffix) as file:
            file.write(content)
            file.flush()
            try:
                zone.put(Path(file.name), name)
            except NotLanded:
                # The name is of this file alone. If it is there with other bytes, a release that spelled rows otherwise landed it.
                try:
                    zone.stat(name)
                except OSError:
                    pass
                else:
                    return
                raise

    def _forget(self, database: sqlite3.Connection) -> None:
        """Delete ids that were accepted long ago."""
        oldest = "SELECT number, accepted_at, content FROM rows ORDER BY number LIMIT ?"
        found = database.execute(oldest, (_FORGOTTEN_AT_ONCE,)).fetchall()
        until = time.time() - self.bounds.remembered_seconds
        old = [(number,) for number, accepted_at, content in found if accepted_at < until and content is None]
        if old:
            with _transaction(database):
                database.executemany("DELETE FROM rows WHERE number = ?", old)

    # --- the database

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # rows may be personal
        database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")  # a commit is on the disk before it is answered
            if database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'store'").fetchone() == (0,):
                with _transaction(database):
                    for statement in filter(str.strip, _SCHEMA.split(";")):
                        database.execute(statement)
                    if database.execute("SELECT count(*) FROM store").fetchone() == (0,):
                        database.execute("INSERT INTO store VALUES (?)", (uuid4().hex[:12],))
            yield database
        finally:
            database.close()


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
