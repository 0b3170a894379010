"""Copies files of a root into a place of backups: tables at a version, folders, databases. What was copied before is not read again.

Which versions of tables fit together is in `backup_pins`, in which order all of it happens in `backup`.
"""

import hashlib
import io
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Final
from urllib.parse import unquote

import polars as pl

from lakehouse_assets.platform.operations.backup_files import CHUNK, IN_MEMORY, Files, FolderFiles, Found, gathered, read
from lakehouse_assets.platform.operations.backup_manifest import BackedUpTable, Backups, Entry, FileList, list_json
from lakehouse_assets.platform.operations.backup_pins import AT_ONCE, Pin, Vanished, log_of
from lakehouse_assets.platform.storage import inventory
from lakehouse_assets.platform.storage.errors import NoSuchTable, NoSuchVersion, TableDamaged
from lakehouse_assets.platform.storage.maintenance import READABLE_FROM, readable_from
from lakehouse_assets.platform.wording import counted, listed

_TRIES: Final = 5
_ACTIONS: Final = ("add", "remove", "cdc")
_SQLITE: Final = b"SQLite format 3\0"
_BESIDE_A_DATABASE: Final = ("-wal", "-shm", "-journal")
# Files of this machine to which others only append, without a pause under load: segments of the spool, the audit log, what runs print.
_APPENDED: Final = re.compile(r"serving/.*\.segment|audit/[^/]*\.jsonl|dagster/.*\.(out|err)")
_SAMPLE: Final = 3

Tell = Callable[[str], None]


class _Changed(Exception):
    """A file is not as it was when it was listed."""


@dataclass
class Copier:
    """Copies into a place of backups.

    Attributes:
        backups: The place.
        is_dry: Whether nothing is written: files that are new are counted, and not read.
        left_out: Files that were not copied, each with why.
    """

    backups: Backups
    is_dry: bool = False
    left_out: list[str] = field(default_factory=list)
    _new: dict[str, int] = field(default_factory=dict, repr=False)
    _used: set[str] = field(default_factory=set, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def begin(self) -> None:
        """Begin, or begin again: what was written before counts as new if it is used this time."""
        self.left_out.clear()
        self._used.clear()
        if self.is_dry:
            self._new.clear()

    @property
    def new_files(self) -> int:
        """How many objects were, or would be, written since the beginning, and are used; lists are not among them."""
        return len(self._new.keys() & self._used)

    @property
    def new_bytes(self) -> int:
        """Of these."""
        return sum(self._new[digest] for digest in self._new.keys() & self._used)

    # --- one file

    def file(self, files: Files, found: Found) -> Entry | None:
        """Copy a file that may still change; None if it is gone, or is being written."""
        for _ in range(_TRIES):
            try:
                return self.immutable(files, found)
            except FileNotFoundError:
                return None
            except _Changed:
                again = next((one for one in files.listing(found.path.rpartition("/")[0]) if one.path == found.path), None)
                if again is None:
                    return None
                found = again
            except PermissionError:
                break
        self.left_out.append(f"{files.address}/{found.path} cannot be read, or is still being written")
        return None

    def immutable(self, files: Files, found: Found) -> Entry:
        """Copy a file that is as it was listed.

        Raises:
            FileNotFoundError: It is gone.
        """
        if self.is_dry:
            self._count(found.size)
            return Entry(found.path, found.size, found.modified, "")
        if isinstance(files, FolderFiles) and found.size > IN_MEMORY:
            opened: AbstractContextManager[bytes | Path] = nullcontext(files.folder / found.path)  # it is read twice, not copied twice
        else:
            opened = gathered(files.chunks(found.path))
        with opened as content:
            digest, _ = _identity(content)
            if not files.is_as_listed(found):
                raise _Changed
            self._put(digest, found.size, content)
        return Entry(found.path, found.size, found.modified, digest)

    def appended(self, files: Files, found: Found) -> Entry | None:
        """Copy a file to which others only append, as far as it was when it was listed; None if it is gone.

        What is appended meanwhile is left out, and its last line or frame may be torn, as after a crash.
        """
        if self.is_dry:
            return self.immutable(files, found)
        try:
            with gathered(_first(files.chunks(found.path), found.size)) as content:
                digest, size = _identity(content)
                self._put(digest, size, content)
        except FileNotFoundError:
            return None
        except PermissionError:
            self.left_out.append(f"{files.address}/{found.path} cannot be read")
            return None
        return Entry(found.path, size, found.modified, digest)

    def content(self, path: str, content: bytes, modified: int) -> Entry:
        """Copy bytes."""
        digest = hashlib.sha256(content).hexdigest()
        if self.is_dry:
            self._count(len(content))
        else:
            self._put(digest, len(content), content)
        return Entry(path, len(content), modified, digest)

    def file_list(self, entries: Iterable[Entry]) -> FileList:
        """Write a list of files."""
        entries = [*entries]
        content = list_json(entries)
        digest = hashlib.sha256(content).hexdigest()
        if not self.is_dry:
            self.backups.put(digest, len(content), [content])
        return FileList(digest, len(entries), sum(entry.size for entry in entries))

    def has(self, entry: Entry) -> bool:
        """Whether the object of a file is there, as it was written."""
        self._used.add(entry.digest)
        return self.backups.known().get(entry.digest) == entry.size

    def _put(self, digest: str, size: int, content: bytes | Path) -> None:
        self._used.add(digest)
        if self.backups.known().get(digest) != size:
            with self._lock:
                self._new[digest] = size
            self.backups.put(digest, size, [content] if isinstance(content, bytes) else _verified(content, digest))

    def _count(self, size: int) -> None:
        """In a dry run files have no digest."""
        with self._lock:
            number = str(len(self._new))
            self._new[number] = size
            self._used.add(number)

    # --- many files

    def folder(self, files: Files, found: Sequence[Found], before: Mapping[str, Entry], tell: Tell) -> list[Entry]:
        """Copy files, those alone that are not as they were copied before."""

        def one(file: Found) -> Entry | None:
            known = before.get(file.path)
            if known is not None and (known.size, known.modified) == (file.size, file.modified) and self.has(known):
                return known
            return (self.appended if _APPENDED.fullmatch(file.path) else self.file)(files, file)

        return [entry for entry in _mapped(one, found, tell, "") if entry is not None]

    def home(self, home: Path, found: Sequence[Found], before: Mapping[str, Entry], tell: Tell) -> list[Entry]:
        """Copy files of this machine; databases of SQLite by SQLite itself, each at one moment, one after the other."""
        files, others, entries = FolderFiles(home), list[Found](), list[Entry]()
        for file in found:
            if file.path.endswith(_BESIDE_A_DATABASE):
                continue
            if _is_database(home / file.path):
                if (entry := self.database(home / file.path, file, before.get(file.path))) is not None:
                    entries.append(entry)
            else:
                others.append(file)
        return entries + self.folder(files, others, before, tell)

    def database(self, path: Path, found: Found, before: Entry | None) -> Entry | None:
        """Copy a database of SQLite while others write it; None if it is gone."""
        wal = path.with_name(path.name + "-wal")
        is_settled = not wal.exists() or not wal.stat().st_size
        if before is not None and before.modified == found.modified and is_settled and self.has(before):
            return before
        if self.is_dry:
            self._count(found.size)
            return Entry(found.path, found.size, found.modified, "")
        with TemporaryDirectory(prefix="lakehouse-") as folder:
            copy = Path(folder) / "copy.db"
            try:
                own = f"{path.absolute().as_uri()}?mode=ro"
                with closing(sqlite3.connect(own, uri=True, timeout=30)) as source, closing(sqlite3.connect(copy)) as target:
                    source.backup(target)
            except sqlite3.OperationalError:
                if path.exists():
                    raise
                return None
            digest, count = _digest_of(copy), copy.stat().st_size
            self._put(digest, count, copy)
            return Entry(found.path, count, found.modified, digest)

    # --- a table

    def table(self, files: Files, pin: Pin, before: BackedUpTable | None, tell: Tell) -> BackedUpTable:
        """Copy a table up to a version, with all files that its log names and that are still there: history that can be read stays so.

        Args:
            files: The place of all tables.
            pin: The version.
            before: The table in the backup before.
            tell: Told how far it is.

        Raises:
            Vanished: Maintenance deleted a file meanwhile, or the table is gone.
            TableDamaged: A file of the version is not there.
        """
        try:
            return self._table(files, pin, before, tell)
        except (FileNotFoundError, NoSuchTable, NoSuchVersion, _Changed) as error:
            raise Vanished(f"a file of {pin.table.name} went away") from error

    def _table(self, files: Files, pin: Pin, before: BackedUpTable | None, tell: Tell) -> BackedUpTable:
        delta = pin.table.now()
        if delta.version() != pin.version:
            delta = pin.table.delta(pin.version)
        table_id, base = str(delta.metadata().id), pin.table.name.replace(".", "/") + "/"
        known: dict[str, Entry] = {}
        if before is not None and before.id == table_id:
            known = {entry.path: entry for entry in self.backups.entries(before.list) if self.has(entry)}
            if before.version == pin.version and len(known) == before.list.files:
                return before
        there = {found.path: found for found in files.listing(base.rstrip("/"))}
        if readable_from(pin.table) > pin.cursors.get(READABLE_FROM, 0):
            raise Vanished(f"old files of {pin.table.name} are being deleted")  # the pinned version does not know that yet
        commits, checkpoints = log_of(files, pin.table)
        log = [
            there[path]
            for by_version in (commits, checkpoints)
            for version, path in by_version.items()
            if version <= pin.version and path in there
        ]
        named = set(known)

        def of_log(file: Found) -> Entry:
            if (entry := known.get(file.path)) is not None and (entry.size, entry.modified) == (file.size, file.modified):
                return entry
            content = read(files, file.path)
            named.update(base + path for path in _paths(file.path, content))
            return self.content(file.path, content, file.modified)

        def of_data(path: str) -> Entry:
            return known.get(path) or self.immutable(files, there[path])

        entries = _mapped(of_log, log, tell, "commits")
        active = {base + path for path in inventory.files_of(delta)}
        _check(pin, base, there, active)
        data = sorted(path for path in named | active if path in there and "/_delta_log/" not in path)
        entries += _mapped(of_data, data, tell, "files")
        return BackedUpTable(pin.version, table_id, self.file_list(entries))


def _check(pin: Pin, base: str, there: Mapping[str, Found], active: set[str]) -> None:
    """Refuse a version whose files are not all there."""
    if missing := sorted(active - there.keys()):
        if pin.table.version() > pin.version:
            raise Vanished(f"files of version {pin.version} of {pin.table.name} went away")
        paths = listed([path.removeprefix(base) for path in missing], _SAMPLE)
        raise TableDamaged(f"table {pin.table.name} is not whole, {paths} is not there: `lakehouse doctor` says what to do")


def _mapped(function: Callable[[Any], Any], items: Sequence[Any], tell: Tell, what: str) -> list[Any]:
    """The results of a function for items, several at once."""
    done = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for result in pool.map(function, items):
                done.append(result)
                if len(done) % 100 == 0:
                    tell(f"{len(done):,} of {counted(len(items), 'file')}{f' ({what})' if what else ''}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return done


def _paths(log_file: str, content: bytes) -> Iterator[str]:
    """The data and change files that a commit or a checkpoint names, as they are called in the folder."""
    if log_file.endswith(".json"):
        for line in content.splitlines():
            for action, value in json.loads(line).items() if line.strip() else ():
                if action in _ACTIONS:
                    yield unquote(value["path"])
        return
    actions = pl.read_parquet(io.BytesIO(content))
    for name in _ACTIONS:
        if name in actions.columns:
            yield from (unquote(path) for path in actions[name].struct.field("path").drop_nulls())


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def _identity(content: bytes | Path) -> tuple[str, int]:
    """Digest and size."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest(), len(content)
    return _digest_of(content), content.stat().st_size


def _first(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The first bytes of a content."""
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verified(path: Path, digest: str) -> Iterator[bytes]:
    """The bytes of a file.

    Raises:
        _Changed: After the last, if it is another content than its digest says.
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            yield chunk
    if found.hexdigest() != digest:
        raise _Changed
