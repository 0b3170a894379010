"""The landing prefix of one feed in a bucket: the same as a landing folder, by requests.

A store has no folders, and no rename: a file is copied, then deleted. What a bucket is and how one is opened is in `storage.bucket`.
"""

import errno
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO, cast
from uuid import uuid4

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.ingestion.feed import is_seen
from lakehouse_assets.platform.ingestion.zone import LandedFile, Listing, NotLanded, listed, name_is_taken
from lakehouse_assets.platform.storage.bucket import error_text, open_store, split_address
from lakehouse_assets.platform.storage.errors import BucketRefused

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# A larger file is uploaded in parts under a hidden name first: one request would hold all of it in memory.
_IN_ONE_REQUEST = 64 * 1024 * 1024
_CHUNK = 8 * 1024 * 1024
_LOCKED_FOR = timedelta(hours=1)


@dataclass(frozen=True)
class BucketZone:
    """A landing prefix in a bucket. Names are taken as they are, also with blanks and percent signs.

    Attributes:
        address: Of the feed in the landing zone, as `s3://bucket/root/landing/invoices`.
        archive_address: Of the feed in the archive, in the same bucket.
    """

    address: str
    archive_address: str

    def listing(self) -> Listing:
        """As `Zone.listing`.

        Raises:
            BucketRefused: An object below the prefix has a name that no client here can ask for.
        """
        from obstore.exceptions import InvalidPathError

        prefix = self._key("")
        paths, sizes, modified = [], [], []
        try:
            for page in self._store.list(prefix):
                for entry in page:
                    name = PurePosixPath(entry["path"].removeprefix(prefix).lstrip("/"))
                    # Empty objects without an ending are what web consoles make for a folder.
                    if name.parts and is_seen(name) and (entry["size"] or name.suffix):
                        paths.append(str(name))
                        sizes.append(entry["size"])
                        modified.append(int(entry["last_modified"].timestamp()) * 1_000_000)
        except InvalidPathError as error:
            raise BucketRefused(f"{self.address} cannot be listed ({error_text(error)}): rename or delete that object") from error
        return Listing(listed(paths, sizes, modified))

    def is_unchanged(self, listing: Listing) -> bool:
        """As `Zone.is_unchanged`: a bucket lists its objects, a thousand a request. An archive keeps them few."""
        return listing.folders is not None

    def files(self) -> list[LandedFile]:
        """As `Zone.files`."""
        return [LandedFile(*row) for row in self.listing().files.iter_rows()]

    def stat(self, path: str) -> LandedFile:
        """As `Zone.stat`."""
        with _as_os_errors(path):
            entry = self._store.head(self._key(path))
        return _landed(path, entry["size"], entry["last_modified"])

    def open(self, path: str) -> BinaryIO:
        """As `Zone.open`."""
        return cast("BinaryIO", io.BufferedReader(_Chunks(self._chunks(path), path), _CHUNK))

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """As `Zone.local`: a copy, which is deleted at the end."""
        with TemporaryDirectory(prefix="lakehouse-") as folder:
            copy = Path(folder) / PurePosixPath(path).name
            chunks = self._chunks(path)
            with copy.open("wb") as written, _as_os_errors(path):
                for chunk in chunks:
                    written.write(chunk)
            yield copy

    def archive(self, path: str, to: str) -> None:
        """As `Zone.archive`."""
        source, target = self._key(path), f"{split_address(self.archive_address)[1]}/{to}"
        with _as_os_errors(path):
            try:
                if not self._copy_to_new(source, target) and not self._same(self._chunks(path), target):
                    raise FileExistsError(errno.EEXIST, "another content is in the archive under this name", to)
            except FileNotFoundError:
                return
            self._store.delete(source)

    def put(self, source: Path, path: str, *, replace: bool = False) -> bool:
        """As `Zone.put`."""
        if not source.is_file():
            raise NotLanded(f"{source.absolute()} is not a file")
        target = self._key(path)
        try:
            with _as_os_errors(path):
                if self._create(source, target):
                    return True
                with source.open("rb") as content:
                    if self._same(iter(lambda: content.read(_CHUNK), b""), target):
                        return False
                if replace:
                    self._store.put(target, source)
                    return True
        except OSError as error:
            raise NotLanded(
                f"{source} cannot be landed as {self.address}/{path} ({error.strerror}). Nothing is there half written."
            ) from error
        raise NotLanded(name_is_taken(f"{self.address}/{path}", PurePosixPath(self.address).name, source))

    @cached_property
    def _store(self) -> "ObjectStore":
        return open_store(self.address)

    def _key(self, path: str) -> str:
        prefix = split_address(self.address)[1]
        return f"{prefix}/{path}" if path else prefix

    def _chunks(self, path: str) -> Iterator[bytes]:
        with _as_os_errors(path):
            stream = self._store.get(self._key(path)).stream(min_chunk_size=_CHUNK)
        return (bytes(chunk) for chunk in stream)

    def _create(self, source: Path, target: str) -> bool:
        """Upload a file to a name that nobody has yet; whether it was free."""
        from obstore.exceptions import AlreadyExistsError

        if source.stat().st_size <= _IN_ONE_REQUEST:
            try:
                self._store.put(target, source, mode="create")
            except AlreadyExistsError:
                return False
            return True
        part = self._key(f".{uuid4().hex}.part")  # names that start with a dot are not seen
        try:
            self._store.put(part, source)
            with self._alone(target):
                return self._copy_to_new(part, target)
        finally:
            self._store.delete(part)

    def _copy_to_new(self, source: str, target: str) -> bool:
        """Copy within the bucket to a name that nobody has yet; whether it was free."""
        from obstore.exceptions import AlreadyExistsError

        try:
            self._store.head(target)
        except FileNotFoundError:
            try:
                self._store.copy(source, target, overwrite=False)
            except AlreadyExistsError:
                return False
            return True
        return False

    @contextmanager
    def _alone(self, target: str) -> Iterator[None]:
        """Keep others from landing a file under this name meanwhile: a store whose puts have conditions may forget those of copies.

        Raises:
            BlockingIOError: Another process lands one. The lock of one that died counts for an hour.
        """
        from obstore.exceptions import AlreadyExistsError

        folder, _, name = target.rpartition("/")
        lock = f"{folder}/.{name}.lock"  # not seen, as of the dot
        try:
            self._store.put(lock, b"", mode="create")
        except AlreadyExistsError:
            with suppress(FileNotFoundError):
                if clock.now() - self._store.head(lock)["last_modified"] > _LOCKED_FOR:
                    self._store.delete(lock)
            raise BlockingIOError(
                errno.EAGAIN, "another process lands a file under this name, or died while it did: try again later", target
            ) from None
        try:
            yield
        finally:
            self._store.delete(lock)

    def _same(self, chunks: Iterator[bytes], target: str) -> bool:
        """Whether an object holds these bytes."""
        other = (bytes(chunk) for chunk in self._store.get(target).stream(min_chunk_size=_CHUNK))
        return _digest(chunks) == _digest(other)


class _Chunks(io.RawIOBase):
    """What is streamed from a store, as a file that can be read once."""

    def __init__(self, chunks: Iterator[bytes], path: str) -> None:
        self._chunks, self._path, self._rest = chunks, path, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        if not self._rest:
            with _as_os_errors(self._path):
                self._rest = memoryview(next(self._chunks, b""))
        given = min(len(buffer), len(self._rest))
        buffer[:given] = self._rest[:given]
        self._rest = self._rest[given:]
        return given


def _digest(chunks: Iterator[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


def _landed(path: str, size: int, modified: datetime) -> LandedFile:
    # Listings of some stores say milliseconds where the object itself says seconds.
    return LandedFile(path, size, modified.replace(microsecond=0))


@contextmanager
def _as_os_errors(path: str) -> Iterator[None]:
    """The errors of a store as those of a disk, which say in `strerror` why."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except FileNotFoundError as error:
        raise error if error.strerror else FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    except (PermissionDeniedError, UnauthenticatedError):
        raise PermissionError(errno.EACCES, "the bucket does not allow it with these credentials", path) from None
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no object can have this name: {error_text(error)}", path) from None
    except BaseError as error:
        raise OSError(errno.EIO, error_text(error), path) from None
