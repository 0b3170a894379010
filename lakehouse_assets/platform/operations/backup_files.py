"""A folder of this machine or a prefix of a bucket as a place of files: listed, read, and written whole or not at all.

A backup reads a root through it and writes the place of backups, a restore does the reverse. What the files mean is in `backup` and
`restore_backup`, landing zones and tables have readers of their own.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final, Protocol
from uuid import uuid4

from lakehouse_assets.platform.storage.bucket import is_bucket, open_store, split_address
from lakehouse_assets.settings import Location

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHUNK: Final = 4 * 1024 * 1024
_PART: Final = ".part"
"""Ends the hidden name under which a file is written before it is whole."""
_IS_PART: Final = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(_PART)}")
IN_MEMORY: Final = 16 * 1024 * 1024


@dataclass(frozen=True)
class Found:
    """A file as it was listed: its path with forward slashes, its bytes, and when it was modified, in nanoseconds since 1970."""

    path: str
    size: int
    modified: int


class Files(Protocol):
    """A place of files. Paths are relative to it."""

    @property
    def address(self) -> str:
        """Of the place, for messages."""

    def listing(self, below: str = "") -> Iterator[Found]:
        """The files below a folder of the place, hidden ones left out; none where it is not there."""

    def is_as_listed(self, found: Found) -> bool:
        """Whether a file still has the size and the time that it was listed with."""

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file.

        Raises:
            FileNotFoundError: It is gone.
        """

    def write(self, path: str, content: Iterable[bytes], modified: int | None = None) -> None:
        """Write a file. It has its name only when it is whole: until the content has come to its end without an error.

        Args:
            path: Where to; what is there is replaced.
            content: Its bytes.
            modified: In nanoseconds since 1970, where the place can keep that.
        """

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files; one that is gone is fine."""


def files_at(location: Location) -> Files:
    """The files at a place."""
    address = str(location)
    return BucketFiles(address.rstrip("/")) if is_bucket(address) else FolderFiles(Path(address))


def read(files: Files, path: str) -> bytes:
    """A whole file.

    Raises:
        FileNotFoundError: It is gone.
    """
    return b"".join(files.chunks(path))


@dataclass(frozen=True)
class FolderFiles:
    """A folder of this machine.

    Attributes:
        folder: It.
        is_private: Whether what is written is for the owner of the process alone, from its first byte on.
    """

    folder: Path
    is_private: bool = False

    @property
    def address(self) -> str:
        """Its absolute path."""
        return str(self.folder.absolute())

    def listing(self, below: str = "") -> Iterator[Found]:
        """As `Files.listing`. Links count as the files that they lead to within the place; others are left out."""
        yield from self._below(self.folder / below, f"{below}/" if below else "")

    def _below(self, folder: Path, within: str) -> Iterator[Found]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            with suppress(FileNotFoundError):  # gone since the folder was listed
                if entry.is_dir(follow_symlinks=False):
                    yield from self._below(Path(entry.path), f"{within}{entry.name}/")
                elif entry.is_file() and (not entry.is_symlink() or self._is_inside(entry.path)):
                    status = entry.stat()
                    yield Found(within + entry.name, status.st_size, status.st_mtime_ns)

    def _is_inside(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.folder))

    def is_as_listed(self, found: Found) -> bool:
        """As `Files.is_as_listed`."""
        try:
            status = (self.folder / found.path).stat()
        except FileNotFoundError:
            return False
        return (status.st_size, status.st_mtime_ns) == (found.size, found.modified)

    def chunks(self, path: str) -> Iterator[bytes]:
        """As `Files.chunks`."""
        with (self.folder / path).open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def write(self, path: str, content: Iterable[bytes], modified: int | None = None) -> None:
        """As `Files.write`."""
        target = self.folder / path
        self._make(target.parent)
        part = target.with_name(f".{uuid4().hex}{_PART}")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if self.is_private else 0o666), "wb") as file:
                for chunk in content:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if modified is not None:
                os.utime(part, ns=(modified, modified))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make(folder.parent)  # `mkdir(parents=True)` would give the mode to the last alone
            folder.mkdir(mode=0o700 if self.is_private else 0o777, exist_ok=True)

    def delete(self, paths: Sequence[str]) -> None:
        """As `Files.delete`."""
        for path in paths:
            (self.folder / path).unlink(missing_ok=True)

    def delete_parts(self) -> None:
        """Delete what `write` left unfinished in killed processes, and no hidden file of others; no other `write` may be under way here."""
        for part in self.folder.glob(f"**/.*{_PART}"):
            if _IS_PART.fullmatch(part.name):
                part.unlink(missing_ok=True)


@dataclass(frozen=True)
class BucketFiles:
    """A prefix of a bucket."""

    address: str

    @cached_property
    def _store(self) -> "ObjectStore":
        return open_store(self.address)

    def _key(self, path: str) -> str:
        return "/".join(part for part in (split_address(self.address)[1], path) if part)

    def listing(self, below: str = "") -> Iterator[Found]:
        """As `Files.listing`."""
        prefix = self._key("")
        begin = f"{prefix}/" if prefix else ""
        for page in self._store.list(self._key(below) or None):
            for entry in page:
                path = entry["path"].removeprefix(begin)
                if not any(name.startswith(".") for name in path.split("/")):
                    yield Found(path, entry["size"], _nanoseconds(entry["last_modified"].timestamp()))

    def is_as_listed(self, found: Found) -> bool:
        """As `Files.is_as_listed`."""
        try:
            entry = self._store.head(self._key(found.path))
        except FileNotFoundError:
            return False
        # Listings of some stores say milliseconds where the object itself says seconds.
        return entry["size"] == found.size and _nanoseconds(entry["last_modified"].timestamp()) == found.modified

    def chunks(self, path: str) -> Iterator[bytes]:
        """As `Files.chunks`."""
        yield from (bytes(chunk) for chunk in self._store.get(self._key(path)).stream(min_chunk_size=CHUNK))

    def write(self, path: str, content: Iterable[bytes], modified: int | None = None) -> None:  # noqa: ARG002 a store takes no times
        """As `Files.write`: an object is put all at once."""
        with gathered(content) as whole:
            self._store.put(self._key(path), whole)

    def delete(self, paths: Sequence[str]) -> None:
        """As `Files.delete`."""
        for start in range(0, len(paths), 1000):
            with suppress(FileNotFoundError):
                self._store.delete([self._key(path) for path in paths[start : start + 1000]])


def _nanoseconds(seconds: float) -> int:
    return int(seconds) * 1_000_000_000


@contextmanager
def gathered(content: Iterable[bytes]) -> Iterator[bytes | Path]:
    """All of a content: in memory, or if it is large in a file, which the store reads in parts."""
    parts, count = list[bytes](), 0
    rest = iter(content)
    for chunk in rest:
        parts.append(chunk)
        count += len(chunk)
        if count > IN_MEMORY:
            break
    else:
        yield b"".join(parts)
        return
    with NamedTemporaryFile(prefix="lakehouse-") as file:
        for chunk in parts:
            file.write(chunk)
        parts.clear()
        for chunk in rest:
            file.write(chunk)
        file.flush()
        yield Path(file.name)


def is_within(place: str, other: str) -> bool:
    """Whether a place is another one or lies below it."""
    if is_bucket(place) or is_bucket(other):
        return f"{place.rstrip('/')}/".startswith(f"{other.rstrip('/')}/")
    return Path(place).resolve().is_relative_to(Path(other).resolve())
