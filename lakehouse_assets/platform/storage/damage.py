"""The end of a table's log after a power failure: what of it is not intact, and the way back to the last version that is.

A machine that loses power may keep the name of a file and lose its content: a commit is empty or cut off, a checkpoint, or a data file
that the last commits added. A commit that is not intact cannot stay, and its number cannot go either, because others may have read up to
it: so it is replaced by a commit that changes nothing. Only folders are checked: an object of a bucket is put all at once. Which tables
have to go back together is decided in `operations.last_good`.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from pyarrow import ArrowInvalid, parquet

from lakehouse_assets.platform.storage.bucket import is_bucket
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.storage.table_cache import clear

SET_ASIDE: Final = "lakehouse.set_aside"
"""Marks a commit that stands for one that was not intact."""
_HINT: Final = "_last_checkpoint"
_LOOKED_AT: Final = 20
_DIGITS: Final = 20
_MAGIC: Final = b"PAR1"


@dataclass(frozen=True)
class Damage:
    """What is not intact at the end of a table's log.

    Attributes:
        table: Whose.
        what: What is wrong, for people.
        last_good: The last version that is intact; -1: there is none.
        newest: The number of the last commit.
        checkpoints: Files of the log that only make it faster to open and cannot be read.
    """

    table: Table
    what: str
    last_good: int
    newest: int
    checkpoints: tuple[Path, ...]

    @property
    def commits(self) -> range:
        """The commits that are lost."""
        return range(self.last_good + 1, self.newest + 1)

    def __str__(self) -> str:
        if not self.commits:
            return f"{self.what}. All {self.newest + 1} versions are intact."
        back = f"version {self.last_good} is the last good one" if self.last_good >= 0 else "no version is intact"
        return f"{self.what}; {back} (of {self.newest})"


def find(table: Table) -> Damage | None:
    """What is not intact among the last commits of a table, their data files and its checkpoints; None if all is well."""
    log = Path(table.uri, "_delta_log")
    if is_bucket(table.uri) or not log.is_dir():
        return None
    files = {int(path.name[:_DIGITS]): path for path in log.glob("*.json") if path.stem.isdecimal() and len(path.stem) == _DIGITS}
    if not files:
        return None
    newest = max(files)
    checkpoints = {path: int(path.name[:_DIGITS]) for path in log.glob("*.checkpoint*.parquet") if path.name[:_DIGITS].isdecimal()}
    damaged = [path for path in checkpoints if not _is_parquet(path)]
    first = max([0, *(version for path, version in checkpoints.items() if path not in damaged)])
    what = [f"{path.name} cannot be read" for path in damaged]
    hint = log / _HINT
    if hint.exists() and not _points_to(hint, {version for path, version in checkpoints.items() if path not in damaged}):
        damaged.append(hint)
        what.append(f"{_HINT} does not name a checkpoint that can be read")
    commits: dict[int, list[dict[str, Any]]] = {}
    good = newest
    for version in range(max(min(first + 1, newest), newest - _LOOKED_AT, min(files)), newest + 1):
        lines = _actions(files.get(version))
        if lines is None:
            what.append(f"the commit of version {version} is {_how(files.get(version))}")
            good = version - 1
            break
        commits[version] = lines
    while (damage := _damaged_file(Path(table.uri), commits, good)) is not None:
        version, path = damage
        what.append(f"{path}, which version {version} added, is not intact")
        good = version - 1
    if not what:
        return None
    later = [path for path, version in checkpoints.items() if version > good]
    if later:
        later.append(hint)
    return Damage(table, "; ".join(what), good, newest, tuple(dict.fromkeys([*damaged, *later])))


def set_aside(damage: Damage, folder: Path) -> None:
    """Bring a table back to its last good version; what was damaged is kept in `folder`. Killed anywhere, it can be done again.

    A table without a good version is moved away as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if damage.last_good < 0:
        target = folder / "table"
        shutil.rmtree(target, ignore_errors=True)  # of an earlier time
        shutil.move(damage.table.uri, target)
        clear()
        return
    for path in damage.checkpoints:
        if path.exists():
            shutil.move(path, folder / path.name)
    log = Path(damage.table.uri, "_delta_log")
    # The newest first: as long as the first one that is not intact stays, everything after it is known not to count.
    for version in reversed(damage.commits):
        path = log / f"{version:0{_DIGITS}d}.json"
        if path.exists() and _info(_actions(path)).get(SET_ASIDE) is None:
            shutil.copy2(path, folder / path.name)
        unfinished = path.with_suffix(".part")
        info = {"timestamp": _time_of(log, damage.last_good), "operation": "SET ASIDE", SET_ASIDE: str(damage.last_good)}
        unfinished.write_text(json.dumps({"commitInfo": info}, separators=(",", ":")))
        unfinished.replace(path)
    clear()


def _time_of(log: Path, version: int) -> int:
    """When the last good version was made, by its own words: the order of moments stays that of the commits."""
    return int(_info(_actions(log / f"{version:0{_DIGITS}d}.json")).get("timestamp", 0))


def _info(actions: Sequence[Mapping[str, Any]] | None) -> Mapping[str, Any]:
    return next((action["commitInfo"] for action in actions or () if "commitInfo" in action), {})


def _actions(path: Path | None) -> list[dict[str, Any]] | None:
    """The actions of a commit; None if it is not there or not intact."""
    if path is None:
        return None
    try:
        actions = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError):
        return None
    if not actions or not all(isinstance(action, dict) for action in actions):  # `commitInfo` is optional
        return None
    return None if _announced(_info(actions)) > sum("add" in action for action in actions) else actions


def _announced(info: Mapping[str, Any]) -> int:
    """How many files a commit says that it added; 0 if it does not. Other operations than appends count change files too."""
    is_append = info.get("operationParameters", {}).get("mode") == "Append"
    return int(info.get("operationMetrics", {}).get("num_added_files", 0)) if is_append else 0


def _how(path: Path | None) -> str:
    if path is None:
        return "not there"
    return "empty" if not path.stat().st_size else "cut off"


def _damaged_file(folder: Path, commits: Mapping[int, Sequence[Mapping[str, Any]]], good: int) -> tuple[int, str] | None:
    """The newest version up to `good` that added a data file that is still needed and is not intact, with its path."""
    gone: set[str] = set()
    for version in sorted((version for version in commits if version <= good), reverse=True):
        gone |= {action["remove"]["path"] for action in commits[version] if "remove" in action}
        for added in _added(commits[version]):
            if added["path"] not in gone and not _is_whole(folder / unquote(added["path"]), added["size"]):
                return version, unquote(added["path"])
    return None


def _added(actions: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (action["add"] for action in actions if "add" in action)


def _is_whole(path: Path, size: int) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(_MAGIC), 2)
            return file.read() == _MAGIC and file.tell() == size
    except OSError:
        return False


def _is_parquet(path: Path) -> bool:
    try:
        parquet.read_metadata(path)
    except (ArrowInvalid, OSError):
        return False
    return True


def _points_to(hint: Path, checkpoints: set[int]) -> bool:
    try:
        return json.loads(hint.read_text(encoding="utf-8"))["version"] in checkpoints
    except (OSError, ValueError, KeyError, TypeError):
        return False
