"""The landing folder of one feed: which files lie there, how they are opened, moved to the archive, and put there whole.

Only places and bytes belong here. Which files were seen before is in `landing`, what they say in `parse`; a bucket has its own module.
"""

import errno
import filecmp
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from uuid import uuid4

from lakehouse_assets.platform.ingestion.feed import is_seen

FILES_AT_ONCE = 4
"""So many files are hashed and opened at a time: a disk has several cores to feed, and a bucket takes its time."""

_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that a timestamp has
_READ_AT_ONCE = 1024 * 1024
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class NotLanded(ValueError):
    """A file was not put into the landing zone."""


class NotListed(OSError, ValueError):
    """The files of a feed cannot be listed."""


@dataclass(frozen=True)
class LandedFile:
    """A file below a feed's folder, as it lies there now. `path` is relative to the folder, with forward slashes."""

    path: str
    size: int
    modified: datetime


class Zone(Protocol):
    """The landing folder of one feed, on a disk or in a bucket. Paths are relative to it, with forward slashes."""

    def files(self) -> list[LandedFile]:
        """The seen files (`feed.is_seen`), oldest first, then by path.

        Raises:
            NotListed: The folder is out of reach. One that is not there has no files.
        """

    def stat(self, path: str) -> LandedFile:
        """A file as it lies there now.

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
        """Move a file into the archive, as `to` there. One that is gone, or lies in the archive already, is fine.

        Raises:
            FileExistsError: Another content lies there under that name; nothing was moved.
            OSError: It cannot be moved.
        """

    def put(self, source: Path, path: str) -> bool:
        """Land a file whole or not at all; False if the same content lies there already.

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

    def files(self) -> list[LandedFile]:
        """As `Zone.files`."""
        return sorted(_walk(self.folder, self.folder), key=lambda file: (file.modified, file.path))

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

    def put(self, source: Path, path: str) -> bool:
        """As `Zone.put`."""
        if not source.is_file():
            raise NotLanded(f"{source} is not a file")
        target = self.folder / _relative(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _copy_whole(source, target)
            except FileExistsError:
                if filecmp.cmp(source, target, shallow=False):
                    return False
                raise NotLanded(
                    f"{target} exists with other content, and what was read from it stays: land {source} under a new name"
                ) from None
        except OSError as error:
            raise NotLanded(f"{source} cannot be landed as {target} ({error.strerror}). Nothing lies there half written.") from error
        return True

    def _inside(self, path: str) -> Path:
        """Where a path really lies."""
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
            raise OSError(errno.EACCES, f"it is a folder that cannot be listed ({status.st_mode & 0o777:o}): allow reading it", path)
        return real


def content_hash(content: BinaryIO) -> str:
    """By what a content is known again under another name."""
    digest = blake2b(digest_size=16)
    while piece := content.read(_READ_AT_ONCE):
        digest.update(piece)
    return digest.hexdigest()


def _walk(folder: Path, top: Path) -> Iterator[LandedFile]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if folder == top:
            raise NotListed(f"{folder} cannot be listed ({error.strerror}): allow this process to read it, then run again") from error
        # Listed itself, so that it is refused and not overlooked.
        yield _landed(_name(folder, top), folder.stat())
        return
    within = "" if folder == top else _name(folder, top) + "/"
    for entry in entries:
        if not is_seen(PurePosixPath(entry.name)):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), top)
            elif entry.is_symlink():
                yield from _link(Path(entry.path), top)
            elif entry.is_file(follow_symlinks=False):
                yield _landed(within + _spelled(entry.name), entry.stat())
        except FileNotFoundError:
            continue  # gone since the folder was listed


def _link(path: Path, top: Path) -> Iterator[LandedFile]:
    """A link as what it leads to; one that leads nowhere or out of the folder as itself."""
    inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(top))
    if inside and path.is_file():
        yield _landed(_name(path, top), path.stat())
    elif not inside or not path.exists():
        yield _landed(_name(path, top), path.lstat())
    # To a folder of the zone: its files are seen where they are.


def _name(path: Path, top: Path) -> str:
    return _spelled(path.relative_to(top).as_posix())


def _spelled(name: str) -> str:
    """A name as text, whatever its bytes are."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _landed(path: str, status: os.stat_result) -> LandedFile:
    return LandedFile(path, status.st_size, datetime.fromtimestamp(min(max(status.st_mtime, 0), _LAST_SECOND), UTC))


def _relative(path: str) -> PurePosixPath:
    name = PurePosixPath(path)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise NotLanded(f"{path!r} is not a path below the landing zone")
    return name


def _copy_whole(source: Path, target: Path) -> None:
    """Copy to a name that nobody has yet; the copy is seen only when it is whole."""
    part = target.with_name(f".{uuid4().hex}.part")  # names that start with a dot are not seen
    try:
        with source.open("rb") as read, part.open("xb") as written:
            shutil.copyfileobj(read, written, _READ_AT_ONCE)
            written.flush()
            os.fsync(written.fileno())
        _move_to_new(part, target)
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
