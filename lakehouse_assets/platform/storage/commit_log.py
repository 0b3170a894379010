"""The commits of a table's log with their info, newest first, read only as far as somebody asks.

`DeltaTable.history` reads the same, but numbers commits by counting down from the version that was opened, which is wrong for an older
version and where the log has a hole, as it has below a pinned version. Files and cursors that commits name are read by `inventory` and
`change_feed`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from lakehouse_assets.platform.storage.bucket import is_bucket, open_store, split_address

INFO_PREFIX = "lakehouse."
_REQUESTS_AT_ONCE = 16
_MARK = '{"commitInfo"'
_ADD = '{"add"'


def commits(uri: str, options: Mapping[str, str], newest: int, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The commits from `newest` down to the oldest one that the log has without a hole, at most `limit`.

    Args:
        uri: Of the table.
        options: As delta-rs takes them.
        newest: The version to begin with.
        limit: The most to read.

    Yields:
        `version`, `at` (UTC, by the clock of the writer), `operation`, `metrics`, and under `info` what the platform wrote into the commit.
    """
    last = -1 if limit is None else max(newest - limit, -1)
    read = partial(_in_bucket, uri, options) if is_bucket(uri) else partial(_in_folder, Path(uri, "_delta_log"))
    for version, text in _texts(read, range(newest, last, -1), at_once=_REQUESTS_AT_ONCE if is_bucket(uri) else 1):
        if text is None:
            return
        yield _parsed(version, text)


def _texts(read: Callable[[int], str | None], versions: range, at_once: int) -> Iterator[tuple[int, str | None]]:
    if at_once == 1:
        yield from ((version, read(version)) for version in versions)
        return
    for start in range(0, len(versions), at_once):
        page = versions[start : start + at_once]
        with ThreadPoolExecutor(at_once) as pool:  # each is a request
            yield from zip(page, pool.map(read, page), strict=True)


def _in_folder(log: Path, version: int) -> str | None:
    try:
        return (log / f"{version:020d}.json").read_text()
    except FileNotFoundError:
        return None


def _in_bucket(uri: str, options: Mapping[str, str], version: int) -> str | None:
    try:
        file = open_store(uri, options).get(f"{split_address(uri)[1]}/_delta_log/{version:020d}.json")
    except FileNotFoundError:
        return None
    return bytes(file.bytes()).decode()


def _parsed(version: int, text: str) -> dict[str, Any]:
    line = next((line for line in text.splitlines() if line.startswith(_MARK)), f"{_MARK}:{{}}}}")
    info = json.loads(line)["commitInfo"]
    return {
        "version": version,
        "at": datetime.fromtimestamp(info.get("timestamp", 0) / 1000, UTC),
        "operation": info.get("operation", ""),
        "metrics": info.get("operationMetrics", {}),
        "info": {key.removeprefix(INFO_PREFIX): value for key, value in info.items() if key.startswith(INFO_PREFIX)},
    }


def added_bytes(uri: str, options: Mapping[str, str], after: int, until: int, run_id: str) -> int:
    """Bytes of the data files that a run added in the versions above `after` up to `until`, as far as the log still has them.

    Files with changes for readers of the change feed are not counted.

    Args:
        uri: Of the table.
        options: As delta-rs takes them.
        after: The version before the first that is looked at; -1: from the beginning.
        until: The last one.
        run_id: As it stands in the commits.
    """
    total = 0
    read = partial(_in_bucket, uri, options) if is_bucket(uri) else partial(_in_folder, Path(uri, "_delta_log"))
    for version, text in _texts(read, range(until, after, -1), at_once=_REQUESTS_AT_ONCE if is_bucket(uri) else 1):
        if text is None:
            break
        if _parsed(version, text)["info"].get("run_id") == run_id:
            total += sum(json.loads(line)["add"]["size"] for line in text.splitlines() if line.startswith(_ADD))
    return total
