"""The audit log: one line of JSON for each read by a person or a service, and for each change of who may do what.

What is read, and what of it is masked, is decided in `reader`.

Lines are appended to one file a month, `audit/2026-11.jsonl`, in the folder of this machine that the settings call home. A line is one
write to a file that is opened for appending, so processes do not mix their lines.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lakehouse_assets.platform import clock

_as_json: Final = json.JSONEncoder(ensure_ascii=False, default=str).encode


@dataclass(frozen=True)
class Read:
    """One read.

    Attributes:
        principal: Who read.
        what: What was asked for: `scan`, or `sql: ` with the query.
        tables: The tables, with their versions as `name@version`.
        columns: The columns that were given.
        masked: The columns among them whose personal data was masked.
        unmasked: The columns whose personal data was shown.
        rows: How many rows were given; None where that is not known, because the frame is lazy.
    """

    principal: str
    what: str
    tables: tuple[str, ...]
    columns: tuple[str, ...]
    masked: tuple[str, ...]
    unmasked: tuple[str, ...] = ()
    rows: int | None = None


@dataclass(frozen=True)
class Action:
    """Something that was done and is no read of rows.

    Attributes:
        principal: Who did it.
        what: The command, as `token create shop`.
        details: What else is worth knowing; no secret.
    """

    principal: str
    what: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class AuditLog:
    """Where reads are written down.

    Attributes:
        folder: Of the files.
        warn: Told once if nothing can be written there: a read does not fail for that.
    """

    folder: Path
    warn: Callable[[str], None]

    def add(self, *entries: Read | Action) -> None:
        """Append a line for each, all by one write."""
        now = clock.now()
        lines = [_as_json({"at": now.isoformat(), **vars(one)}) + "\n" for one in entries]
        path = self.folder / f"{now:%Y-%m}.jsonl"
        try:
            try:
                descriptor = _opened(path)
            except FileNotFoundError:
                self.folder.mkdir(parents=True, exist_ok=True)
                descriptor = _opened(path)
            try:
                os.write(descriptor, "".join(lines).encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            self.warn(f"the audit log {path} cannot be written ({error.strerror}): this is not recorded")


def _opened(path: Path) -> int:
    # Queries may name people: the file is for its owner alone.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
