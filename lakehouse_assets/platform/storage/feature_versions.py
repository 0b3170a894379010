"""The versions of a feature set, as watermarks of its table on itself: which is the newest, and which one a model is given.

A version has the rows that one code computes. Where new code gives the same values of the same facts, as after code was rewritten or a
column was added, the two versions mean the same, and so do two versions of one code. Rows of a version are written by `known_at`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.platform.storage import known_at
from lakehouse_assets.platform.storage.change_feed import last_change
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor, cursor_of
from lakehouse_assets.platform.storage.commit_log import INFO_PREFIX
from lakehouse_assets.platform.storage.table import Table

PREFIX: Final = "feature-set"
"""How the names of these watermarks begin."""
_DELETED: Final = "deleted_versions"
_NUMBER, _CODE, _MEANING = f"{PREFIX}/version", f"{PREFIX}/code", f"{PREFIX}/meaning"


@dataclass(frozen=True)
class FeatureVersion:
    """A version of a feature set.

    Attributes:
        number: As `feature_set_version` has it.
        meaning: Equal for versions whose values mean the same: the number of the code that first gave them.
    """

    number: int
    meaning: int

    @classmethod
    def of(cls, table: Table, at: int | None = None) -> "FeatureVersion | None":
        """The newest version in a table, at a Delta version or now; None if it has none, as it is no feature set or has no rows yet."""
        if not table.exists():
            return None
        delta = table.now() if at in {None, table.version()} else table.delta(at)
        number, meaning = cursor_of(delta, _NUMBER), cursor_of(delta, _MEANING)
        return None if number is None or meaning is None else cls(number, meaning)

    def means(self, other: "FeatureVersion | None") -> bool:
        """Whether values of another version may stand for those of this one; where there are no versions, there is one meaning."""
        return other is None or other.meaning == self.meaning

    def number_in(self, table: Table, at: int | None = None) -> int | None:
        """The newest version in a table, at a Delta version or now, that means the same as this one.

        None if there is none, as after the table was dropped and made again by other code, if its rows are deleted, or if it lacks a column
        that the newest version has values in.
        """
        number = table.cursor(_newest_of(self.meaning), at)
        if number is None:
            return None
        version = table.version() if at is None else at
        given = (table.name, table.uri, tuple(table.storage_options.items()), str(table.now().metadata().id), version)
        return number if _has_all_columns(given, number) else None


def meaning_of(table: Table, code: int) -> int | None:
    """What the values of some code mean: see `FeatureVersion`. None if no row of it was ever written."""
    return table.cursor(_of_code(code))


@dataclass(frozen=True)
class ReadVersion:
    """The version of a feature set that a model is given.

    Attributes:
        number: As `feature_set_version` has it; None: the table has no versions.
        is_newest: Whether it is the newest, so that it gets the new rows.
    """

    number: int | None
    is_newest: bool

    @property
    def older(self) -> int | None:
        """Its number where it is not the newest; None: the newest."""
        return None if self.is_newest else self.number


def version_to_read(table: Table, learnt: FeatureVersion | None, at: int | None = None) -> ReadVersion | None:
    """Which version of a feature set a model is given: the newest, if it means what the model has learnt, else the newest one that does.

    Batch, requests and the online store ask this, for champions and challengers alike.

    Args:
        table: Of the feature set.
        learnt: The version that the model was trained on; None: it is not known, so the newest.
        at: The Delta version of the table; None: now.

    Returns:
        None if there is none that means what was learnt.
    """
    newest = FeatureVersion.of(table, at)
    if learnt is None or learnt.means(newest):
        return ReadVersion(None if newest is None else newest.number, is_newest=True)
    number = learnt.number_in(table, at)
    return None if number is None else ReadVersion(number, is_newest=False)


def is_of(table: Table, code: int) -> bool:
    """Whether the newest version of a table is of some code."""
    return table.cursor(_CODE) == code


def begin(table: Table, code: int, is_same: Callable[[int], bool]) -> tuple[int, tuple[Cursor, ...]]:
    """The number of the version that has the rows of some code, and the watermarks that its first commit carries.

    Args:
        table: Of the feature set.
        code: A number for it.
        is_same: Says whether the version with a number gives the same values of the same facts. Only asked of new code.
    """
    number, before, meaning = (table.cursor(name) for name in (_NUMBER, _CODE, _MEANING))
    if before == code:
        return number or 1, ()
    known = table.cursor(_of_code(code))
    if known is None:
        known = meaning if number is not None and meaning is not None and is_same(number) else code
    marks = [Cursor(_NUMBER, number, (number or 0) + 1), Cursor(_CODE, before, code)]
    if known != meaning:
        marks.append(Cursor(_MEANING, meaning, known))
    if table.cursor(_of_code(code)) is None:
        marks.append(Cursor(_of_code(code), None, known))
    begun = (number or 0) + 1
    return begun, (*marks, Cursor(_newest_of(known), table.cursor(_newest_of(known)), begun))


def changed_at(table: Table, after: int | None) -> int:
    """The newest Delta version that changed something for a reader of one version, if it is above `after`; else `after`.

    Any table may be asked: see `Table.changed_at`. That old versions were deleted is no change.
    """
    if after is None:
        return table.version()
    newest = table.changed_at(after) or 0
    while newest > after and _DELETED in next(table.commits(newest), {"info": {}})["info"]:
        newest = last_change(table.now(), after, newest - 1, table.storage_options)
    return newest


def delete_unneeded(table: Table, models: Iterable[FeatureVersion], run_id: str) -> int:
    """Delete the rows of the versions that nobody reads any more, and return how many.

    The newest version stays, and of each version that a model was trained on the newest one that means the same. Models are trained again
    on Delta versions of the table, which have all rows that they had.

    Args:
        table: Of the feature set.
        models: The versions that models in use were trained on.
        run_id: Is written into the commit.
    """
    newest = FeatureVersion.of(table)
    if newest is None:
        return 0
    needed = {newest.number, *(table.cursor(_newest_of(version.meaning)) for version in models)}
    numbers = table.scan().select(pl.col(known_at.VERSION).unique()).collect(engine="streaming").to_series()
    gone = sorted(number for number in numbers if number is not None and number < newest.number and number not in needed)
    if not gone:
        return 0

    deleted = ", ".join(map(str, gone))
    info = {f"{INFO_PREFIX}run_id": run_id, f"{INFO_PREFIX}{_DELETED}": deleted}
    commit = Commit(info=lambda _: info)

    def attempt(delta: DeltaTable) -> Counts:
        rows = pl.scan_delta(delta).filter(pl.col(known_at.VERSION).is_in(gone)).select(pl.len()).collect(engine="streaming").item()
        counts = Counts(removed=int(rows))
        delta.delete(f"{known_at.VERSION} IN ({deleted})", commit_properties=commit.properties(delta, counts, read_before_write=True))
        return counts

    written = table.write(commit, attempt)
    return 0 if written.counts is None else written.counts.removed


@lru_cache(maxsize=256)
def _has_all_columns(given: tuple[str, str, tuple[tuple[str, str], ...], str, int], number: int) -> bool:
    """See `known_at.has_all_columns`; of a table at a version it stays as it is, and is asked every second."""
    name, uri, options, _, at = given
    return known_at.has_all_columns(Table(name, uri, dict(options)).scan(at), number)


def _of_code(code: int) -> str:
    """The watermark that says what the values of some code mean."""
    return f"{_MEANING}/{code}"


def _newest_of(meaning: int) -> str:
    """The watermark that says which version with some meaning is the newest."""
    return f"{_NUMBER}/{meaning}"
