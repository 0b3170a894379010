"""What MLflow keeps in its SQLite database, read without importing MLflow, which takes seconds.

Only questions that commands ask again and again are here, and nothing is written: MLflow's own client does that. That its tables are as
they are read here is held by a test against the client.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SQLITE: Final = "sqlite:///"


@dataclass(frozen=True)
class MlflowDatabase:
    """The database of one tracking URI."""

    path: Path

    @classmethod
    def of(cls, tracking_uri: str) -> "MlflowDatabase | None":
        """The database behind a tracking URI; None if it is none on this disk."""
        return cls(Path(tracking_uri.removeprefix(SQLITE))) if tracking_uri.startswith(SQLITE) else None

    def exists(self) -> bool:
        """Whether it was created."""
        return self.path.exists()

    def is_damaged(self) -> bool:
        """Whether the file is there and is no database any more."""
        if not self.exists():
            return False
        try:
            self._rows("SELECT count(*) FROM sqlite_master")
        except sqlite3.OperationalError:
            return False  # the disk is full or read-only, or the file is locked: it may be whole
        except sqlite3.DatabaseError:
            return True
        return False

    def aliases(self, model: str) -> dict[str, int]:
        """The version of each alias of a model."""
        return dict(self._rows("SELECT alias, version FROM registered_model_aliases WHERE name = ?", model))

    def versions(self, model: str) -> list[dict[str, Any]]:
        """The versions of a model, newest first: `version`, `run_id`, `created_at` (milliseconds since 1970), `source`."""
        query = (
            "SELECT version, run_id, creation_time, source FROM model_versions "
            "WHERE name = ? AND current_stage != 'Deleted_Internal' ORDER BY version DESC"
        )
        names = ("version", "run_id", "created_at", "source")
        return [dict(zip(names, row, strict=True)) for row in self._rows(query, model)]

    def description(self, model: str, version: int) -> str:
        """What people read of a version of a model; empty where there is nothing."""
        query = "SELECT description FROM model_versions WHERE name = ? AND version = ?"
        rows = self._rows(query, model, version)
        return rows[0][0] or "" if rows else ""

    def tags(self, model: str) -> dict[int, dict[str, str]]:
        """The tags of each version of a model."""
        found: dict[int, dict[str, str]] = {}
        for version, key, value in self._rows("SELECT version, key, value FROM model_version_tags WHERE name = ?", model):
            found.setdefault(version, {})[key] = value
        return found

    def metrics(self, run_id: str) -> dict[str, float]:
        """The last value of each metric of a run."""
        rows = self._rows("SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?", run_id)
        return {key: float("nan") if is_nan else value for key, value, is_nan in rows}

    def _rows(self, query: str, *arguments: str | int) -> list[Any]:
        with self._opened() as connection:
            return connection.execute(query, arguments).fetchall()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            yield connection
