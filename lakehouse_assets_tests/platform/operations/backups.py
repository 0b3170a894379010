"""What tests of backups share: backing up and restoring a root, comparing two roots, and processes that die while they do it.

`carry_out` takes orders of `forks`: `words`, of a command, which runs as it is; `fatal`, the number of the file at which it is killed, and
`when`, before that file has its name or after it.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.platform.operations.backup_files import BucketFiles, FolderFiles
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.maintenance import readable_from
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import tables_of


def settings_of(root: Path | str, home: Path | None = None) -> Settings:
    return Settings.load({"LAKEHOUSE_ROOT": str(root)} | ({} if home is None else {"LAKEHOUSE_HOME": str(home)}))


def back_up(settings: Settings, to: Path | str, **how: Any) -> dict[str, Any]:
    return open_lakehouse(settings=settings, declarations=(), notice=lambda _: None).backup(str(to), **how)


def restore(settings: Settings, source: Path | str, **how: Any) -> dict[str, Any]:
    return open_lakehouse(settings=settings, declarations=(), notice=lambda _: None).restore_backup(str(source), **how).carry_out()


def versions(settings: Settings) -> dict[str, tuple[int, str]]:
    """Version and Delta id of each table that a backup has."""
    tables = (table.now() and table for table in tables_of(settings).tables())
    return {table.name: (table.version(), str(table.now().metadata().id)) for table in tables if table.name != platform_tables.CACHE}


def assert_same_history(found: Settings, expected: Settings) -> None:
    """Both roots have the same tables, at the same versions, with the same rows at each version that can be read."""
    assert versions(found) == versions(expected)
    for name, (version, _) in versions(expected).items():
        one, other = tables_of(found).table(name), tables_of(expected).table(name)
        for number in range(readable_from(other), version + 1):
            assert_frame_equal(one.scan(number).collect(), other.scan(number).collect())
        assert [commit["at"] for commit in one.commits()] == [commit["at"] for commit in other.commits()]


def rows(settings: Settings, *without: str) -> dict[str, pl.DataFrame]:
    """The rows of all tables."""
    return {table.name: table.scan().collect().drop(without, strict=False) for table in tables_of(settings).tables()}


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that is not hidden, but of the audit log, in which each backup has a line."""

    def found() -> Iterator[Path]:
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".") and path.parent.name != "audit")

    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in found()}


def carry_out(order: dict[str, Any]) -> int:
    """In the fork: run a command until it dies; how many files it wrote."""
    from lakehouse_assets.cli.main import main

    count = 0

    def dying(write: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count != order["fatal"]:
                return write(*args, **kwargs)
            if order["when"] == "during":
                self, path, content, *rest = args
                write(self, path, _cut(content), *rest, **kwargs)
            write(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        return counted

    for files in (FolderFiles, BucketFiles):
        files.write = dying(files.write)  # type: ignore[method-assign]
    os.environ["DAGSTER_HOME"] = ""
    os.environ.update(order.get("environment", {}))
    os.dup2(2, 1)
    main(order["words"], standalone_mode=False)
    return count


def _cut(content: Any) -> Iterator[bytes]:
    """The first bytes of a file, and then death."""
    yield next(iter(content), b"")[:10]
    os.kill(os.getpid(), signal.SIGKILL)
