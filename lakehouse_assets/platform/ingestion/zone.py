"""The landing folder of one feed: which files are there, how they are opened, moved to the archive, and put there whole.

Only places and bytes belong here. Which files were seen before is in `landing`, what they say in `parse`; a bucket has its own module.
"""

import errno
import filecmp
import os
import shlex
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from uuid import uuid4

import polars as pl

from lakehouse_assets.platform.ingestion.feed import is_seen_name
from lakehouse_assets.platform.storage.types import TIMESTAMP

FILES_AT_ONCE = 4
"""So many files are hashed and opened at a time: a disk has several cores to feed, and a bucket takes its time."""

_LAST_MICROSECOND = 253_402_300_799_000_000  # of the last second of the year 9999, the last that a timestamp has
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A folder that was modified less than this ago may gain another file without getting a later time: file systems count in steps.
_CLOCK_TICK_NS = 2_000_000_000
# Of so many files, the newest, it is checked each time that they were not modified in place.
_NEWEST = 10
_READ_AT_ONCE = 1024 * 1024
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class NotLanded(ValueError):
    """A file was not put into the landing zone."""


class NotListed(OSError, ValueError):
    """The files of a feed cannot be listed."""


@dataclass(frozen=True)
class LandedFile:
    """A file below a feed's folder, as it is there now. `path` is relative to the folder, with forward slashes."""

    path: str
    size: int
    modified: datetime


LISTED = pl.Schema({"path": pl.String(), "size": pl.Int64(), "modified": TIMESTAMP})


@dataclass(frozen=True)
class Listing:
    """The files of a feed at one moment.

    Attributes:
        files: `path`, `size`, `modified`, oldest first, then by path.
        folders: The modification times of the folders that were listed, in nanoseconds, taken before they were listed; 0: not there. None
            where they cannot tell whether a file was added since: in a bucket, or just after a change.
    """

    files: pl.DataFrame
    folders: Mapping[Path, int] | None = None


class Zone(Protocol):
    """The landing folder of one feed, on a disk or in a bucket. Paths are relative to it, with forward slashes."""

    def listing(self) -> Listing:
        """The seen files (`feed.is_seen`).

        Raises:
            NotListed: The folder is out of reach. One that is not there has no files.
        """

    def is_unchanged(self, listing: Listing) -> bool:
        """Whether a new listing would most likely be the same, at a cost that does not grow with the number of files.

        True means that no file was added, removed or renamed, and that the newest ones were not modified; an older file may have been
        modified in place.
        """

    def files(self) -> list[LandedFile]:
        """The files of `listing`.

        Raises:
            NotListed: As `listing`.
        """

    def stat(self, path: str) -> LandedFile:
        """A file as it is there now.

        Raises:
            OSError: It is gone (FileNotFoundError) or out of reach; `strerror` says why.
        """

    def open(self, path: str) -> BinaryIO:
        """The bytes of a file.

        Raises:
            OSError: As `stat`.
        """

    def local(self, path: str) -> AbstractContextManager[Path]:
        """The file on this machine, as long as the context lasts.

        Raises:
            OSError: As `stat`.
        """

    def archive(self, path: str, to: str) -> None:
        """Move a file into the archive, as `to` there. One that is gone, or is in the archive already, is fine.

        Raises:
            FileExistsError: Another content is there under that name; nothing was moved.
            OSError: It cannot be moved.
        """

    def put(self, source: Path, path: str, *, replace: bool = False) -> bool:
        """Land a file whole or not at all, with `replace` over another content of its name; False if the same content is there already.

        Raises:
            NotLanded: Another content has its name there, or the file cannot be read or written.
        """


@dataclass(frozen=True)
class LocalZone:
    """A landing folder on a disk.

    Links are followed within the folder; one that leads out of it is listed and cannot be opened, so that it is refused with its reason.

    Attributes:
        folder: Of the feed in the landing zone.
        archive_folder: Of the feed in the archive.
    """

    folder: Path
    archive_folder: Path

    def listing(self) -> Listing:
        """As `Zone.listing`."""
        walk, latest = _Walk(self.folder), time.time_ns() - _CLOCK_TICK_NS
        walk.add(self.folder, "")
        is_safe = all(modified < latest for modified in walk.folders.values())
        return Listing(listed(walk.paths, walk.sizes, walk.microseconds), walk.folders if is_safe else None)

    def is_unchanged(self, listing: Listing) -> bool:
        """As `Zone.is_unchanged`."""
        if listing.folders is None:
            return False
        newest = [LandedFile(*row) for row in listing.files.tail(_NEWEST).iter_rows()]
        try:
            if any(_modified_ns(folder) != modified for folder, modified in listing.folders.items()):
                return False
            return all(_landed(file.path, (self.folder / file.path).stat()) == file for file in newest)
        except OSError:
            return False

    def files(self) -> list[LandedFile]:
        """As `Zone.files`."""
        return [LandedFile(*row) for row in self.listing().files.iter_rows()]

    def stat(self, path: str) -> LandedFile:
        """As `Zone.stat`."""
        return _landed(path, self._inside(path).stat())

    def open(self, path: str) -> BinaryIO:
        """As `Zone.open`."""
        return self._inside(path).open("rb")

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """As `Zone.local`."""
        self._inside(path)
        yield self.folder / path  # not where a link leads: the format goes by the name

    def archive(self, path: str, to: str) -> None:
        """As `Zone.archive`."""
        try:
            source = self._inside(path)
        except FileNotFoundError:
            return
        target = self.archive_folder / _relative(to)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _copy_whole(source, target) if (self.folder / path).is_symlink() else _move_to_new(source, target)
        except FileNotFoundError:
            return  # another run moved it
        except FileExistsError:
            if not filecmp.cmp(source, target, shallow=False):
                raise
        (self.folder / path).unlink(missing_ok=True)

    def put(self, source: Path, path: str, *, replace: bool = False) -> bool:
        """As `Zone.put`."""
        if not source.is_file():
            raise NotLanded(f"{source.absolute()} is not a file")
        target = self.folder / _relative(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _copy_whole(source, target)
            except FileExistsError:
                if filecmp.cmp(source, target, shallow=False):
                    return False
                if not replace:
                    raise NotLanded(name_is_taken(str(target), self.folder.name, source)) from None
                _copy_whole(source, target, move=Path.replace)
        except OSError as error:
            raise NotLanded(f"{source} cannot be landed as {target} ({error.strerror}). Nothing is there half written.") from error
        return True

    def _inside(self, path: str) -> Path:
        """Where a path really leads."""
        name = _relative(path)
        real = Path(os.path.realpath(self.folder / name))
        if not real.is_relative_to(os.path.realpath(self.folder)):
            raise OSError(errno.ELOOP, "it is a symbolic link that leads out of the feed's landing folder: land the file itself", path)
        try:
            status = real.stat()
        except FileNotFoundError:
            if (self.folder / name).is_symlink():
                raise OSError(errno.ELOOP, "it is a symbolic link to nothing", path) from None
            if "\\x" in path:
                raise OSError(errno.EILSEQ, "its name is not UTF-8: rename it", path) from None
            raise
        if real.is_dir():
            raise _folder_in_place_of_a_file(real, path)
        if not stat.S_ISREG(status.st_mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "no file")
            raise OSError(
                errno.EINVAL, f"it is {kind}, from which nothing is read: write what comes from it to a file, and land that", path
            )
        return real


def _folder_in_place_of_a_file(folder: Path, path: str) -> OSError:
    try:
        is_empty = not any(folder.iterdir())
    except OSError as error:
        mode = folder.stat().st_mode & 0o777
        return OSError(error.errno or errno.EACCES, f"it is a folder that cannot be listed ({mode:o}): allow reading it", path)
    why = "an empty folder: land a file" if is_empty else "a folder now: the next run reads the files in it"
    return OSError(errno.EISDIR, f"it is {why}", path)


def content_hash(content: BinaryIO) -> str:
    """By what a content is known again under another name."""
    digest = blake2b(digest_size=16)
    while piece := content.read(_READ_AT_ONCE):
        digest.update(piece)
    return digest.hexdigest()


def listed(paths: list[str], sizes: list[int], microseconds: list[int]) -> pl.DataFrame:
    """The files of a listing, oldest first, then by path."""
    columns = {"path": paths, "size": sizes, "modified": microseconds}
    frame = pl.DataFrame(columns, schema={"path": pl.String(), "size": pl.Int64(), "modified": pl.Int64()})
    return frame.cast({"modified": TIMESTAMP}).sort("modified", "path")


class _Walk:
    """Lists a folder and those below it. Ten thousand files are usual, so there is one pass and no object for a file."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self.paths: list[str] = []
        self.sizes: list[int] = []
        self.microseconds: list[int] = []
        self.folders: dict[Path, int] = {}

    def add(self, folder: Path, within: str) -> None:
        """List a folder whose files have names that begin with `within`."""
        try:
            self.folders[folder] = _modified_ns(folder)  # before it is listed: a file that is added meanwhile makes it newer
            entries = os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if folder == self._top:
                raise NotListed(f"{folder} cannot be listed ({error.strerror}): allow this process to read it, then run again") from error
            # Listed itself, so that it is refused and not overlooked.
            self._add_file(_name(folder, self._top), folder.stat())
            return
        is_empty = True
        with entries:
            for entry in entries:
                name, is_empty = entry.name, False
                if not is_seen_name(name):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        self.add(Path(entry.path), f"{within}{_spelled(name)}/")
                    elif entry.is_symlink():
                        self._add_link(Path(entry.path))
                    else:
                        # Also pipes, sockets and devices: they cannot be read, and are refused and not overlooked.
                        self._add_file(within + _spelled(name), entry.stat())
                except FileNotFoundError:
                    continue  # gone since the folder was listed
        if is_empty and folder.suffix and folder != self._top:
            self._add_file(_name(folder, self._top), folder.stat())  # it is named as a file is

    def _add_link(self, path: Path) -> None:
        """A link as what it leads to; one that leads nowhere or out of the folder as itself."""
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._top))
        if inside and path.exists() and not path.is_dir():
            self._add_file(_name(path, self._top), path.stat())
        elif not inside or not path.exists():
            self._add_file(_name(path, self._top), path.lstat())
        # To a folder of the zone: its files are seen where they are.

    def _add_file(self, path: str, status: os.stat_result) -> None:
        self.paths.append(path)
        self.sizes.append(status.st_size)
        self.microseconds.append(_microseconds(status))


def _modified_ns(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _name(path: Path, top: Path) -> str:
    return _spelled(path.relative_to(top).as_posix())


def _spelled(name: str) -> str:
    """A name as text, whatever its bytes are."""
    return name if name.isascii() else os.fsencode(name).decode(errors="backslashreplace")


def _landed(path: str, status: os.stat_result) -> LandedFile:
    return LandedFile(path, status.st_size, _EPOCH + timedelta(microseconds=_microseconds(status)))


def _microseconds(status: os.stat_result) -> int:
    return min(max(status.st_mtime_ns // 1000, 0), _LAST_MICROSECOND)


def _relative(path: str) -> PurePosixPath:
    name = PurePosixPath(path)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise NotLanded(f"{path!r} is not a path below the landing zone")
    return name


def name_is_taken(target: str, feed: str, source: Path) -> str:
    """What to do where another content has the name of a file that is to land."""
    command = f"lakehouse land {feed} {shlex.quote(str(source))} --replace"
    return f"{target} exists with other content. If this corrects it: `{command}`. If it is another delivery, land it under a new name"


def _copy_whole(source: Path, target: Path, move: Callable[[Path, Path], object] | None = None) -> None:
    """Copy to a name that nobody has yet, or as `move` takes it; the copy is seen only when it is whole."""
    part = target.with_name(f".{uuid4().hex}.part")  # names that start with a dot are not seen
    try:
        with source.open("rb") as read, part.open("xb") as written:
            shutil.copyfileobj(read, written, _READ_AT_ONCE)
            written.flush()
            os.fsync(written.fileno())
        (move or _move_to_new)(part, target)
    finally:
        part.unlink(missing_ok=True)


def _move_to_new(source: Path, target: Path) -> None:
    """Rename, unless the name is taken: a link, unlike a rename, never replaces a file."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno == errno.EXDEV:
            _copy_whole(source, target)
        elif error.errno in _NO_HARD_LINKS:
            if target.exists():
                raise FileExistsError(errno.EEXIST, "exists", str(target)) from error
            source.rename(target)
            return
        else:
            raise
    source.unlink(missing_ok=True)
