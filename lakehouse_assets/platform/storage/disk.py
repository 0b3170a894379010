"""Why something could not be written or opened on the disk of this machine: it is full, it can only be read, a file is damaged.

Errors of libraries say it in many words, and some not at all (SQLite: "disk I/O error"), so the disk itself is asked.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lakehouse_assets.platform.wording import size

LEAST_FREE: Final = 16_000_000
"""Bytes. With less free than this, commits and databases begin to fail."""
_FULL: Final = ("no space left", "disk is full", "disk quota exceeded", "os error 28", "os error 122")
_READ_ONLY: Final = ("read-only file system", "readonly database", "os error 30", "permission denied", "os error 13")
_DAMAGED: Final = ("malformed", "file is not a database", "disk image", "file is encrypted")
_OF_A_DATABASE: Final = ("sqlite3.", "disk i/o error", "unable to open database file")


def free(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, or of the nearest folder above it that exists."""
    return shutil.disk_usage(_existing(folder)).free


def device(folder: Path) -> int:
    """The number of the disk of a folder, or of the nearest folder above it that exists: those on one disk share what is free."""
    return _existing(folder).stat().st_dev


def is_read_only(folder: Path) -> bool:
    """Whether nothing can be written on the disk of a folder."""
    return bool(os.statvfs(_existing(folder)).f_flag & os.ST_RDONLY)


def reason(error: BaseException, folder: Path) -> str | None:
    """What the disk has to do with an error, in words that say what to do; None if nothing.

    Args:
        error: It, and the errors that it came from, are looked at.
        folder: Where was written.
    """
    words = " ".join(str(each).lower() for each in _chain(error))
    of_a_database = any(isinstance(each, sqlite3.Error) for each in _chain(error)) or any(text in words for text in _OF_A_DATABASE)
    if any(text in words for text in _FULL) or (of_a_database and free(folder) < LEAST_FREE):
        left = size(free(folder))
        return f"the disk of {folder} is full, {left} are free: make room, then run again. `lakehouse doctor` says what takes most"
    if any(text in words for text in _READ_ONLY) or (of_a_database and is_read_only(folder)):
        return f"{folder} can only be read: {_first_line(error)}"
    if any(text in words for text in _DAMAGED):
        return f"a database under {folder} is damaged: {_first_line(error)}. `lakehouse doctor` says which"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _existing(folder: Path) -> Path:
    return next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path("/"))
