"""The note of a restore that is under way: it lies in the home of the root, and while it does, nothing else is done with the root."""

import json
import shlex
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lakehouse_assets.platform.storage.errors import StorageError

_FILE: Final = "restore-backup.json"


class RootUnfinished(StorageError):
    """A root into which a backup is being restored, or was until the restore was killed."""


@dataclass(frozen=True)
class Note:
    """What is being restored.

    Attributes:
        source: The place of backups.
        backup: The id of the backup.
        database: Where MLflow's database goes; nothing was there when the restore began. None if it is not restored.
    """

    source: str
    backup: str
    database: str | None = None

    @property
    def command(self) -> str:
        """What ends it."""
        return f"lakehouse restore-backup {shlex.quote(self.source)} --at {self.backup}"


def note_of(home: Path) -> Note | None:
    """The restore that is under way in a home, if one is."""
    try:
        return Note(**json.loads((home / _FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (NotADirectoryError, ValueError, TypeError):
        return None


def check(home: Path) -> None:
    """Refuse a root whose restore has not ended; it costs a look at one file.

    Raises:
        RootUnfinished: So it is.
    """
    if (note := note_of(home)) is not None:
        raise RootUnfinished(
            f"{home} is not whole: backup {note.backup} is being restored, or that was interrupted. `{note.command}` ends it"
        )


def write(home: Path, note: Note) -> None:
    """Begin a restore."""
    home.mkdir(parents=True, exist_ok=True)
    part = home / f".{_FILE}.part"
    part.write_text(json.dumps(asdict(note)) + "\n", encoding="utf-8")
    part.replace(home / _FILE)


def remove(home: Path) -> None:
    """End it."""
    with suppress(FileNotFoundError):
        (home / _FILE).unlink()
