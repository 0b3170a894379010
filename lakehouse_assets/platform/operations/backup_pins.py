"""Versions of all tables that fit together, found without stopping a writer.

A table keeps how far it has read each source, in its own commits. So versions fit if no table has read more of a source than the version of
the source that goes with it; a table that has read less is only behind, as after a run that was killed, and the next run brings it up to
date. Readers are therefore looked at before their sources, and where a source turns out to be too old all the same, it is taken at exactly
the version that was read: that was there before, so looking for it ends, however busy the writers are.
"""

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import polars as pl
from deltalake.exceptions import DeltaError

from lakehouse_assets.platform.operations.backup_files import Files, read
from lakehouse_assets.platform.pipeline.marks import is_on_a_source
from lakehouse_assets.platform.pipeline.model_step import REQUESTS, VERDICTS
from lakehouse_assets.platform.pipeline.replay import paired_cursors
from lakehouse_assets.platform.storage import platform_tables, restore
from lakehouse_assets.platform.storage.commit import NEVER
from lakehouse_assets.platform.storage.commit_log import INFO_PREFIX
from lakehouse_assets.platform.storage.errors import NoSuchTable, NoSuchVersion, StorageError
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.table import QUARANTINE_SUFFIX, Table

AT_ONCE: Final = 8
_LOG: Final = "_delta_log"
_VERSION: Final = re.compile(r"(\d{20})\.(json|checkpoint\.parquet)")
_PARTS: Final = re.compile(r"[/:]")
# Marks of a ledger that are versions of a table under another name.
_OTHER_NAMES: Final = {VERDICTS: platform_tables.VERDICTS, REQUESTS: platform_tables.TRAINING_REQUESTS}
_OF_A_LEDGER: Final = {"champion_before", "training_tables", "decision"}


class Vanished(Exception):
    """Maintenance took away what was being looked at: look again."""


@dataclass(frozen=True)
class Pin:
    """A table at a version.

    Attributes:
        table: The table.
        version: The version.
        cursors: How far it has read, by the names of its watermarks.
    """

    table: Table
    version: int
    cursors: Mapping[str, int]


@dataclass
class Pins:
    """The versions that were taken so far.

    Attributes:
        lakehouse: The tables.
        files: The place in which they lie.
        taken: By name.
    """

    lakehouse: Lakehouse
    files: Files
    taken: dict[str, Pin] = field(default_factory=dict)
    _read: dict[tuple[str, int], Mapping[str, int]] = field(default_factory=dict)
    _paired: dict[str, tuple[int, int]] = field(default_factory=dict)

    def forget(self) -> None:
        """Begin again."""
        self.taken.clear()
        self._paired.clear()

    def now(self, names: Iterable[str]) -> dict[str, Pin]:
        """Tables as they are now, one after the other; one that is gone is missing. Nothing is taken."""
        found = {}
        for name in names:
            table = self.lakehouse.table(name)
            try:
                found[name] = self.at(table, table.version())
            except NoSuchTable:
                continue
        return found

    def take(self, names: Iterable[str]) -> None:
        """Take tables as they are now."""
        self.taken |= self.now(names)

    def at(self, table: Table, version: int) -> Pin:
        """A table at a version.

        Raises:
            Vanished: Its log was cleaned up at this moment.
        """
        key = (table.name, version)
        if key not in self._read:
            self._read[key] = _cursors(self.files, table, version)
        return Pin(table, version, self._read[key])

    def close(self) -> None:
        """Take sources, and quarantines, at the versions that belong to what was taken.

        Raises:
            Vanished: As `at`.
        """
        while self._close_sources() or self._close_quarantines():
            pass

    def reads(self, pin: Pin) -> Iterator[tuple[str, int]]:
        """The tables that a table has read, with the versions."""
        for name, at in pin.cursors.items():
            if not is_on_a_source(name):  # such as which Delta table a source was: it names the source, and its number is no version
                continue
            for word in _PARTS.split(_OTHER_NAMES.get(name, name)):
                # A quarantine knows of itself and its table by numbers that are no versions.
                if word.count(".") == 2 and word.removesuffix(QUARANTINE_SUFFIX) != pin.table.name.removesuffix(QUARANTINE_SUFFIX):
                    yield word, at

    def _close_sources(self) -> bool:
        has_changed = False
        waiting = [*self.taken]
        while waiting:
            for source, version in self.reads(self.taken[waiting.pop()]):
                before = self.taken.get(source)
                if (before is None or before.version < version) and (pin := self._exactly(source, version)) is not None:
                    self.taken[source] = pin
                    waiting.append(source)
                    has_changed = True
        return has_changed

    def _exactly(self, name: str, version: int) -> Pin | None:
        """A table at a version; None if it has none such, as after it was deleted and made again."""
        try:
            table = self.lakehouse.table(name)
            return None if version < 0 or version > table.version() else self.at(table, version)
        except (NoSuchTable, StorageError):
            return None

    def _close_quarantines(self) -> bool:
        """Take the quarantine of each table at the version that belongs to it, neither behind nor ahead: it is written first."""
        has_changed = False
        for name, pin in list(self.taken.items()):
            quarantine = self.lakehouse.table(name + QUARANTINE_SUFFIX)
            if name.endswith(QUARANTINE_SUFFIX) or not quarantine.exists():
                continue
            read_up_to = (at for other in self.taken.values() for source, at in self.reads(other) if source == quarantine.name)
            read_by_others = max(read_up_to, default=-1)
            if self._paired.get(name) == (pin.version, read_by_others):
                continue
            now = self.at(quarantine, quarantine.version())
            version = max(now.version if _is_within(now, pin) else self._with(pin, quarantine), min(read_by_others, now.version))
            self._paired[name] = (pin.version, read_by_others)
            self.taken[quarantine.name] = self.at(quarantine, version)
            has_changed = True
        return has_changed

    def _with(self, pin: Pin, quarantine: Table) -> int:
        try:
            return restore.paired(pin.table, pin.version, quarantine, paired_cursors(quarantine.name))
        except NoSuchVersion:  # it is ahead then, as after a run that was killed between the two
            return quarantine.version()


def _is_within(quarantine: Pin, table: Pin) -> bool:
    """Whether a quarantine has certainly read no more than its table: see `restore.paired`."""
    own = paired_cursors(quarantine.table.name)
    names = {name: own.get(name, name) for name in quarantine.cursors if not name.startswith(INFO_PREFIX)}
    return all(quarantine.cursors[name] <= table.cursors.get(other, NEVER) for name, other in names.items())


def is_ledger(table: Table) -> bool:
    """Whether a table is the ledger of a model, whether a product declares it or not."""
    return {column.name for column in table.now().schema().fields} >= _OF_A_LEDGER


def readers_of(names: Iterable[str], pins: Mapping[str, Pin], reads: Mapping[str, set[str]]) -> set[str]:
    """Tables and all that read them, also by way of others."""
    found = set(names)
    while more := {name for name in pins if reads[name] & found} - found:
        found |= more
    return found


def readers_first(names: Iterable[str], reads: Mapping[str, set[str]]) -> list[str]:
    """Tables, each before what it reads, as far as no circle stands against that."""
    ordered: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        for source in sorted(reads.get(name, ())):
            visit(source)
        ordered.append(name)

    for name in names:
        visit(name)
    return [name for name in reversed(ordered) if name in set(names)]


def log_of(files: Files, table: Table) -> tuple[dict[int, str], dict[int, str]]:
    """The paths of the commits and of the checkpoints of a table, by version."""
    commits: dict[int, str] = {}
    checkpoints: dict[int, str] = {}
    for found in files.listing(f"{table.name.replace('.', '/')}/{_LOG}"):
        if match := _VERSION.fullmatch(found.path.rsplit("/", 1)[1]):
            (commits if match[2] == "json" else checkpoints)[int(match[1])] = found.path
    return commits, checkpoints


def _cursors(files: Files, table: Table, version: int) -> dict[str, int]:
    """The watermarks of a table at a version: those of the last checkpoint, and of the commits since."""
    commits, checkpoints = log_of(files, table)
    begin = max((number for number in checkpoints if number <= version), default=-1)
    try:
        cursors = {} if begin < 0 else _of_checkpoint(read(files, checkpoints[begin]))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for content in pool.map(lambda number: read(files, commits[number]), range(begin + 1, version + 1)):
                for line in content.splitlines():
                    if line.startswith(b'{"txn"'):
                        one = json.loads(line)["txn"]
                        cursors[one["appId"]] = int(one["version"])
    except (KeyError, FileNotFoundError) as error:
        raise Vanished(f"the log of {table.name} has not all commits up to version {version}") from error
    return cursors


def _of_checkpoint(content: bytes) -> dict[str, int]:
    try:
        rows = pl.read_parquet(io.BytesIO(content), columns=["txn"])["txn"].drop_nulls().struct.unnest()
    except (pl.exceptions.PolarsError, DeltaError) as error:
        raise StorageError(f"a checkpoint cannot be read: {error}. `lakehouse doctor` says of which table") from error
    rows = rows.drop_nulls("appId")
    return {name: int(at) for name, at in rows.select("appId", "version").iter_rows()}
