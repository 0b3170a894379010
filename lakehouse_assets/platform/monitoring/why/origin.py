"""What a change came in with, in the first table that has it: files, by comparing each with the rows before, or a changed function."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.monitoring.why.change import LEAST_ROWS, Change
from lakehouse_assets.platform.pipeline.marks import FUNCTION
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted, listed

_MOST_FILES: Final = 500
_NAMED: Final = 3
File = tuple[int, str]
"""Sequence number and name."""
_COMMITS: Final = 1_000


def of_files(table: Table, column: str, found: Change, rows: tuple[pl.DataFrame, pl.DataFrame]) -> str | None:
    """The files that the change stands in, and whether others of the same time have it; None if no file stands out.

    Args:
        table: The table.
        column: The column.
        found: The change of all its rows.
        rows: Before and after: `value`, `_file`, `_sequence`.
    """
    before, after = rows[0], _as_read_last(rows[1])
    of_all = after.group_by("_sequence", "_file").agg("value").sort(pl.col("value").list.len(), descending=True)
    files = of_all.head(_MOST_FILES)
    changes = {
        (int(row["_sequence"]), str(row["_file"])): Change(
            before["value"], pl.Series(row["value"], dtype=before["value"].dtype), found.shows, files.height, least=1
        )
        for row in files.iter_rows(named=True)
    }
    judged = {file: one for file, one in changes.items() if len(one.after) >= LEAST_ROWS}
    alike = _alike({file: one for file, one in judged.items() if one.carries(found)})
    if not alike:
        small = _that_carry_all(after, {file: one for file, one in changes.items() if file not in judged}, found)
        judged, alike = judged | small, _alike(small)
    if not alike:
        return _none_of(table, column, of_all) if of_all.height else None
    shown = sorted(alike[:_NAMED], key=min)
    told = "; ".join(_told(table, group, set(judged), of_all.height, before) for group in shown)
    others = sum(map(len, alike[_NAMED:]))
    more = f"; and {counted(others, 'file')} that {'differs' if others == 1 else 'differ'} in other ways" if others else ""
    return f"{column} of {table.name}: {told}{more}"


def _as_read_last(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the number by which their file was read last: those that a file brought again as they were keep the one before."""
    return rows.with_columns(pl.col("_sequence").max().over("_file"))


def _that_carry_all(after: pl.DataFrame, small: Mapping[File, Change], found: Change) -> dict[File, Change]:
    """Of files with few rows those that differ by no chance, if the change is gone without them; none otherwise."""
    bad = {file: one for file, one in small.items() if one.carries(found)}
    left = after.join(pl.DataFrame({"_file": [name for _, name in bad]}, schema={"_file": pl.String}), on="_file", how="anti")
    rest = Change(found.before, left["value"].cast(found.before.dtype), found.shows, found.among)
    return {} if rest.carries(found) else bad


def _none_of(table: Table, column: str, files: pl.DataFrame) -> str:
    """That no file stands out, and of how many that could hardly be told."""
    few = files.filter(pl.col("value").list.len() < LEAST_ROWS).height
    which = (
        "the only file of that time does not show"
        if files.height == 1
        else f"none of the {files.height:,} files of that time shows"
        if files.height <= _MOST_FILES
        else f"none of the {_MOST_FILES:,} largest of the {files.height:,} files of that time shows"
    )
    small = f"; {few:,} of them {'has' if few == 1 else 'have'} fewer than {LEAST_ROWS} rows there" if few else ""
    return f"{column} of {table.name} came so: {which} the change by itself{small}"


def _alike(bad: Mapping[File, Change]) -> list[dict[File, Change]]:
    """The files grouped by what differs in them, those with most of a change first."""
    groups = list[dict[File, Change]]()
    for file, change in sorted(bad.items(), key=lambda one: (-one[1].distance, one[0])):
        of = next((group for group in groups if change.differs_as(next(iter(group.values())))), None)
        if of is not None:
            of[file] = change
        else:
            groups.append({file: change})
    return groups


def _told(table: Table, group: Mapping[File, Change], judged: set[File], files: int, before: pl.DataFrame) -> str:
    """The files that differ alike, in what, and how sure that is."""
    named = sorted(group)
    shown = ", ".join(_file(number, name) for number, name in named[:_NAMED])
    more = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
    worst = max(group.values(), key=lambda one: one.distance)
    word = "file" if len(named) == 1 else "files"
    commit = _commit_of(table, named[0][0])
    rows = sum(len(one.after) for one in group.values())
    few = f"in {counted(rows, 'row')}, " if all(len(one.after) < LEAST_ROWS for one in group.values()) else ""
    unjudged = files - len(judged)
    others = f"; {counted(unjudged, 'file')} with fewer rows {'does' if unjudged == 1 else 'do'} not tell" if unjudged else ""
    return f"{word} {shown}{more}{commit}: {worst.words} ({few}{_certainty(set(group), judged, before, is_only=files == 1)}{others})"


def lacking_files(table: str, column: str, items: Sequence[str], before: pl.DataFrame, after: pl.DataFrame) -> str | None:
    """Which files have no row of values that earlier ones had, as a sentence; None if there is no such file, or the earlier ones had none.

    Args:
        table: Its name.
        column: The column.
        items: The values.
        before: `value`, `_file` and `_sequence` of the rows before.
        after: The same of the rows in which the values are missing.
    """
    has = pl.col("value").is_in(list(items))
    had = _as_read_last(before).filter(has).sort("_sequence")
    lacking = _as_read_last(after).filter(~has.fill_null(value=False).any().over("_file"))
    if had.is_empty() or (lacking.is_empty() and not after.is_empty()):
        return None
    last = _file(had["_sequence"][-1], had["_file"][-1])
    files = [_file(number, name) for number, name in lacking.select("_sequence", "_file").unique().sort("_sequence").iter_rows()]
    of, said = f"{column} of {table}", listed([repr(item) for item in items], _NAMED)
    if not files:
        return f"{of}: there is no file of that time. The last with {said} is {last}"
    some = "" if lacking.height == after.height else f"{len(files):,} of the {after['_file'].n_unique():,} files of that time, "
    lacks = (
        f"{some or 'the file of that time, '}{files[0]}, has"
        if len(files) == 1
        else f"{some or f'the {len(files):,} files of that time, '}{listed(files, _NAMED)}, have"
    )
    return f"{of}: {lacks} no row of {said}. The last with one is {last}"


def _file(sequence: int, name: str) -> str:
    return f"{name} (sequence {sequence})"


def _certainty(bad: set[File], judged: set[File], before: pl.DataFrame, *, is_only: bool) -> str:
    """How sure that is: whether other files of the same time have the change."""
    first = min(bad)
    since = {file for file in judged if file >= first}
    quiet = len(judged) - len(bad)
    if len(bad) == 1 and quiet:
        return f"seen in this file alone, {counted(quiet, 'other file')} of the same time not"
    if len(bad) == 1:
        only = "the only file of that time" if is_only else "the only file of that time that was judged"
        return f"{only}, {counted(before['_file'].n_unique(), 'file')} before not"
    if bad == since:
        return f"seen in all {len(bad):,} files since"
    return f"seen in {len(bad):,} of {len(judged):,} files of that time"


def _commit_of(table: Table, sequence: int) -> str:
    """The commit that a file came with, for a text; empty if the log does not say so."""
    for number, commit in enumerate(table.commits()):
        if number >= _COMMITS:
            break
        span = commit["info"].get("sequences")
        if span is not None and (ends := json.loads(span))[0] < sequence <= ends[1]:
            return f", version {commit['version']}, run {commit['info'].get('run_id', '?')}"
    return ""


def function_changed(table: Table, since: int | None) -> str | None:
    """When the function that computes a table was changed after a version, as "from version 3 on, run …"; None if it was not."""
    now = table.version()
    if since is None or since >= now or (mark := _mark(table, now)) == _mark(table, since):
        return None
    low, high = since, now  # the mark is another one at `high` than at `low`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _mark(table, middle) == mark else (middle, high)
    commit = next(table.commits(high), None)
    run = "" if commit is None else f", {commit['at']:%Y-%m-%d %H:%M}, run {commit['info'].get('run_id', '?')}"
    return f"from version {high} on{run}"


def column_gone(table: Table, column: str, since: int | None) -> str:
    """From which version on a table lacks a column, and whether its function was changed with it.

    Args:
        table: The table.
        column: Its name.
        since: A version at which the table had it; None: not known.
    """
    said = f"{column} of {table.name}: the column is gone"
    low, high = since, table.version()
    try:
        if low is None or low >= high or column not in table.scan(low).collect_schema():
            return said
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if column in table.scan(middle).collect_schema() else (low, middle)
    except NoSuchVersion:
        return said
    commit = next(table.commits(high), None)
    made = "" if commit is None else f", {commit['at']:%Y-%m-%d %H:%M}, run {commit['info'].get('run_id', '?')}"
    function = ", with which its function was changed" if _mark(table, high) != _mark(table, low) else ""
    return f"{said} from version {high} on{made}{function}"


def _mark(table: Table, version: int) -> Any:
    """What tells the functions apart that a table's rows are of."""
    of_features = FeatureVersion.of(table, version)
    return (table.cursor(FUNCTION, version), None if of_features is None else of_features.meaning)
