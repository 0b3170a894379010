"""What is wrong with a lakehouse, and how to fix it: small checks, each for one kind of trouble, in two lists at the end.

A check only looks. What it finds says what to do as a command that can be run as it stands.
"""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import PurePosixPath
from typing import Final, Literal

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX, Declaration
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.operations.maintenance import Maintenance, models_in_use
from lakehouse_assets.platform.pipeline import layout, swap
from lakehouse_assets.platform.pipeline.marks import FULL_REFRESH
from lakehouse_assets.platform.pipeline.quarantine import unreleased
from lakehouse_assets.platform.storage import inventory, maintenance
from lakehouse_assets.platform.storage.errors import NoSuchVersion, StorageError
from lakehouse_assets.platform.storage.inventory import Inventory
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.maintenance import State
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted

_MANY: Final = 4

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final = ("error", "warning", "note")

_PLATFORM = "platform."
# Maintenance comes at night; only what it should have found by then is a finding.
_LONG_LOG = 2 * maintenance.LOG_ENTRIES
_LONG_WAIT = timedelta(hours=1)
_SAMPLE = 3
_READER, _WRITER = 1, 4
# What a writer of the floor knows under other names.
_PLAIN_FEATURES = frozenset({"appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "timestampNtz"})


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing.

    Attributes:
        severity: `error`: data or a table is at stake; `warning`: it will be; `note`: only so that it is known.
        table: Its name.
        what: What is wrong.
        fix: A command, or what else to do; empty if nothing has to be done.
    """

    severity: Severity
    table: str
    what: str
    fix: str = ""


@dataclass(frozen=True)
class Checkup:
    """A lakehouse to look at.

    Attributes:
        lakehouse: Its tables.
        declarations: Of all products.
        known: Tables besides the declared ones that somebody answers for, as assets with Dagster's own means.
        maintenance: Whose cursors and pins count.
        is_running: Whether a run is under way, which explains what is unfinished.
        now: With time zone.
        dead_runs: By id, the runs that have not ended and whose process is gone, in words.
    """

    lakehouse: Lakehouse
    declarations: Sequence[Declaration]
    known: frozenset[str]
    maintenance: Maintenance
    is_running: bool
    now: datetime
    dead_runs: Mapping[str, str] = field(default_factory=dict)

    def examine(self) -> Iterator[Finding]:
        """All that is found, table by table, the lakehouse as a whole first."""
        for whole in OF_THE_LAKEHOUSE:
            yield from _guarded("lakehouse", lambda whole=whole: whole(self))  # type: ignore[misc]
        for table in self.lakehouse.tables():
            patient = Patient(self, table)
            if reason := unopened(table):
                yield patient.finding("error", f"it cannot be opened: {reason}", _rebuild(patient))
                continue
            for check in OF_A_TABLE:
                yield from _guarded(table.name, lambda check=check, patient=patient: check(patient))  # type: ignore[misc]

    @cached_property
    def declared(self) -> Mapping[str, Declaration]:
        """The declarations by the names of their tables."""
        return {asset.name: asset for asset in self.declarations}

    @cached_property
    def files(self) -> pl.DataFrame:
        """What last became of every landed file."""
        return landing.latest(self.lakehouse.table(landing.LOG))


@dataclass(frozen=True)
class Patient:
    """One table that is looked at."""

    checkup: Checkup
    table: Table

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def asset(self) -> Declaration | None:
        """What a product declares about it, if it is the table and not its quarantine."""
        return self.checkup.declared.get(self.name)

    @cached_property
    def delta(self) -> DeltaTable:
        """The table at its newest version."""
        return self.table.delta()

    @cached_property
    def stock(self) -> Inventory:
        """Its folder."""
        return inventory.take(self.table)

    @cached_property
    def state(self) -> State:
        """Its state, with what maintenance would do."""
        return next(state for table, state in self.checkup.maintenance.states([self.name]) if table.name == self.name)

    def finding(self, severity: Severity, what: str, fix: str = "") -> Finding:
        """A finding about this table."""
        return Finding(severity, self.name, what, fix)


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds; one that cannot be made is a finding itself and does not keep the others from being made."""
    try:
        return list(look())
    except (StorageError, DeltaError, OSError, pl.exceptions.PolarsError) as error:
        return [Finding("error", name, f"it cannot be looked at: {str(error).splitlines()[0]}", f"lakehouse history {name}")]


def unopened(table: Table) -> str:
    """Why a table cannot be opened; empty if it can."""
    try:
        table.delta()
    except (StorageError, DeltaError, OSError) as error:
        return str(error).splitlines()[0]
    return ""


def move_away(lakehouse: Lakehouse, table: Table) -> str:
    """The command that takes a table and its quarantine out of the lakehouse without deleting them."""
    quarantine = lakehouse.table(table.name + QUARANTINE_SUFFIX) if not table.name.endswith(QUARANTINE_SUFFIX) else table
    moved = [table, *([quarantine] if quarantine != table and quarantine.exists() else [])]
    if "://" in table.uri:
        return f"move all objects below {' and '.join(each.uri + '/' for each in moved)} to a place outside {lakehouse.root}"
    root = lakehouse.root.rstrip("/")
    return " && ".join(f"mv {shlex.quote(each.uri)} {shlex.quote(f'{root}/../{each.name}.moved')}" for each in moved)


# --- of the lakehouse as a whole


def dead_runs(checkup: Checkup) -> Iterator[Finding]:
    """Runs that were killed: recorded as under way, with nobody working on them."""
    for run_id, words in checkup.dead_runs.items():
        what = f"{words} has not ended, and its process is gone; the next run ends it and frees the pool slots that it holds"
        yield Finding("warning", "lakehouse", what, f"lakehouse runs end {run_id[:8]}")


def stuck_files(checkup: Checkup) -> Iterator[Finding]:
    """Files that were refused, that changed after they were read, or that wait though nothing runs."""
    for event, severity, problem, fix in (
        (landing.REFUSED, "warning", "could not be read", "fix the file and land it again, or: lakehouse files retry {path}"),
        (landing.CHANGED, "warning", "changed after it was read, so its new content is in no table", "lakehouse files reread {path}"),
    ):
        for (feed,), files in checkup.files.filter(pl.col("event") == event).group_by("feed", maintain_order=True):
            reasons = "; ".join(_with_path(row["path"], row["reason"]) for row in files.head(_SAMPLE).to_dicts())
            more = f" and {files.height - _SAMPLE} more" if files.height > _SAMPLE else ""
            what = f"{counted(files.height, 'file')} of feed {feed} {problem} ({reasons}{more})"
            yield Finding(severity, landing.LOG, what, fix.format(path=shlex.quote(files["path"][0])))  # type: ignore[arg-type]
    waiting = checkup.files.filter(pl.col("event").is_in([landing.FOUND, landing.REREAD]) & (pl.col("at") < checkup.now - _LONG_WAIT))
    if not checkup.is_running and waiting.height:
        paths = ", ".join(waiting["path"].head(_SAMPLE))
        yield Finding(
            "warning",
            landing.LOG,
            f"{counted(waiting.height, 'file was', 'files were')} found and not read, and nothing runs: {paths}",
            "lakehouse run",
        )


def _with_path(path: str, reason: str) -> str:
    """A reason with the whole path of its file in front; most begin with the path or the file's name already."""
    begun = next((name for name in (path, PurePosixPath(path).name) if reason.startswith(name)), None)
    return f"{path}: {reason}" if begun is None else path + reason.removeprefix(begun)


def orphans(checkup: Checkup) -> Iterator[Finding]:
    """Tables that nobody declares any more, each with its quarantine; a product of which all are so is one finding, with one command."""
    stored: dict[str, dict[str, Table]] = {}
    for table in checkup.lakehouse.tables():
        base = table.name.removesuffix(QUARANTINE_SUFFIX)
        if not base.startswith(_PLATFORM):
            stored.setdefault(base.split(".")[0], {}).setdefault(base, table)
    for product, tables in stored.items():
        lost = [name for name, table in tables.items() if name not in checkup.declared and not checkup.known & {name, table.name}]
        if len(lost) == len(tables) > 1:
            what = f"no product declares its {len(lost)} tables any more: {', '.join(sorted(lost))}"
            yield Finding("warning", product, what, _move_product(checkup.lakehouse, product))
            continue
        for name in lost:
            yield Finding("warning", name, "no product declares this table", move_away(checkup.lakehouse, tables[name]))


def _move_product(lakehouse: Lakehouse, product: str) -> str:
    """The command that takes all tables of a product out of the lakehouse without deleting them."""
    root = lakehouse.root.rstrip("/")
    if "://" in root:
        return f"move all objects below {root}/{product}/ to a place outside {root}"
    return f"mv {shlex.quote(f'{root}/{product}')} {shlex.quote(f'{root}/../{product}.removed')}"


def lost_pins(checkup: Checkup) -> Iterator[Finding]:
    """Models in use whose training tables cannot be read any more at the versions that they were trained on."""
    models = {asset.name: asset for asset in checkup.declarations if isinstance(asset, ModelDeclaration)}
    for version in models_in_use(checkup.lakehouse, checkup.declarations, checkup.maintenance.registry):
        for name, number in version.tables.items():
            if not _is_readable(checkup.lakehouse.table(name), number):
                model = models[version.model_name]
                yield Finding(
                    "error",
                    model.name,
                    f"version {version.version} of {version.model_name} ({', '.join(version.aliases)}) was trained on version {number} of "
                    f"{name}, which cannot be read any more: it cannot be reproduced",
                    f"lakehouse train {model.name} --force",
                )


def _is_readable(table: Table, version: int) -> bool:
    try:
        return inventory.files_of(table.delta(version)) <= set(inventory.take(table).data)
    except StorageError:
        return False


# --- of one table


def missing_files(patient: Patient) -> Iterator[Finding]:
    """Data files that the newest version names and that are not there."""
    missing = inventory.files_of(patient.delta) - set(patient.stock.data)
    if missing:
        what = f"{len(missing)} of its files are gone, so it cannot be read: {min(missing)}"
        yield patient.finding("error", what, _rebuild(patient))


def small_files(patient: Patient) -> Iterator[Finding]:
    """Partitions with so many small files that maintenance cannot have looked at them for long; what the next night puts right is none."""
    if patient.state.crowded and patient.state.small_files >= _MANY * maintenance.SMALL_FILES_A_PARTITION * len(patient.state.crowded):
        what = f"{patient.state.small_files} small files, and {len(patient.state.crowded)} partitions with too many of them"
        yield patient.finding("warning", what, f"lakehouse maintenance {_base(patient)}")


def long_log(patient: Patient) -> Iterator[Finding]:
    """A log that readers have to read commit by commit."""
    if patient.stock.log_entries > _LONG_LOG:
        what = f"{patient.stock.log_entries} commits since the last checkpoint: opening it takes longer than it has to"
        yield patient.finding("warning", what, f"lakehouse maintenance {_base(patient)}")


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Files that no commit names."""
    try:
        left = maintenance.unlogged(patient.table, patient.checkup.now, patient.checkup.maintenance.pins.get(patient.name, ()))
    except NoSuchVersion as error:
        yield patient.finding("note", f"{error}: vacuum leaves this table alone")
        return
    if left:
        what = f"{len(left)} files ({sum(left.values()):,} bytes) that no commit names, as a killed write leaves them: {min(left)}"
        yield patient.finding("warning", what, f"lakehouse maintenance {_base(patient)}")


def protocol(patient: Patient) -> Iterator[Finding]:
    """What keeps other readers out."""
    version = patient.delta.protocol()
    features = {*(version.reader_features or ()), *(version.writer_features or ())} - _PLAIN_FEATURES
    if version.min_reader_version > _READER or features or (version.min_writer_version > _WRITER and not version.writer_features):
        stands = ", ".join([f"reader {version.min_reader_version}", f"writer {version.min_writer_version}", *sorted(features)])
        what = f"its protocol ({stands}) is above what every reader knows (reader {_READER}, writer {_WRITER})"
        yield patient.finding("error", what, _rebuild(patient))


def contract(patient: Patient) -> Iterator[Finding]:
    """Columns, types, keys or partitions that are not those of the declaration, and that the next run cannot change by itself."""
    asset = patient.asset
    if isinstance(asset, TableDeclaration):
        if needed := list(layout.needs_full_refresh(asset, patient.checkup.lakehouse)):
            what = f"its declaration changed in a way that the stored table cannot follow: {'; '.join(needed)}"
            yield patient.finding("error", what, f"lakehouse run {patient.name} --full-refresh")
    elif isinstance(asset, FeedDeclaration):
        stored = patient.table.schema()
        other = [f"{name} is {stored[name]} instead of {dtype}" for name, dtype in asset.schema.items() if stored.get(name, dtype) != dtype]
        if other:
            yield patient.finding("error", f"it disagrees with its declaration: {'; '.join(other)}", _rebuild(patient))


def interrupted_full_refresh(patient: Patient) -> Iterator[Finding]:
    """A full refresh that was begun and not ended: the table is as it was before."""
    asset = patient.asset
    if patient.checkup.is_running or not isinstance(asset, TableDeclaration):
        return
    built = swap.built_for(asset, patient.checkup.lakehouse)
    if built is not None and swap.number_of(built) > (patient.table.cursor(FULL_REFRESH) or 0):
        yield patient.finding(
            "warning", "a full refresh was interrupted; the next one takes it up", f"lakehouse run {patient.name} --full-refresh"
        )


def cursors(patient: Patient) -> Iterator[Finding]:
    """Cursors that point to where their source has nothing to be read (any more)."""
    asset = patient.asset
    if isinstance(asset, FeedDeclaration):
        yield from _landing_cursor(patient, asset)
    if not isinstance(asset, TableDeclaration):
        return
    for name in asset.sources():
        at, source = patient.table.cursor(name), patient.checkup.lakehouse.table(name)
        if at is None:
            continue
        if not source.exists():
            yield patient.finding("error", f"it has read {name} up to version {at}, but that is gone", f"lakehouse run {name}")
        elif unopened(source):
            continue  # that is a finding of its own
        elif at > source.version():
            what = f"it has read {name} up to version {at}, but that is at version {source.version()}: it was deleted and created again"
            yield patient.finding("error", what, _rebuild(patient))
        elif at < maintenance.readable_from(source) and source.changed_at(at) != at:
            what = f"it has read {name} up to version {at}, and what changed since then was vacuumed"
            yield patient.finding("error", what, f"lakehouse run {patient.name} --full-refresh")


def _landing_cursor(patient: Patient, asset: FeedDeclaration) -> Iterator[Finding]:
    at = patient.table.cursor(f"landing/{asset.feed.name}")
    numbered = patient.checkup.lakehouse.table(landing.LOG).cursor(f"numbered/{asset.feed.name}")
    if at is not None and at > (numbered or 0):
        what = (
            f"it has read the files of feed {asset.feed.name} up to number {at}, but the landing log has given {numbered or 0}: the log "
            "was deleted and created again, and new files with lower numbers would not be read"
        )
        yield patient.finding("error", what, _rebuild(patient))


def interrupted(patient: Patient) -> Iterator[Finding]:
    """A batch whose rejected rows are in the quarantine and whose other rows are not in the table."""
    asset = patient.asset
    if patient.checkup.is_running or not isinstance(asset, TableDeclaration):
        return
    quarantine = patient.checkup.lakehouse.table(asset.quarantine)
    ahead = []
    for name in asset.sources():
        set_aside, at = quarantine.cursor(name), patient.table.cursor(name)
        if set_aside is not None and set_aside > (-1 if at is None else at):
            ahead.append(name)
    if ahead:
        what = f"a run died between its quarantine and the table, in a batch of {', '.join(ahead)}"
        yield patient.finding("warning", what, f"lakehouse run {patient.name}")


def quarantined(patient: Patient) -> Iterator[Finding]:
    """Rows that wait to be fixed."""
    if not patient.name.endswith(QUARANTINE_SUFFIX):
        return
    rows = unreleased(patient.table).select(pl.len()).collect().item()
    if rows:
        base = _base(patient)
        yield patient.finding(
            "note", f"{counted(rows, 'row was', 'rows were')} rejected and not released", f"lakehouse quarantine show {base}"
        )


def _base(patient: Patient) -> str:
    return patient.name.removesuffix(QUARANTINE_SUFFIX)


def _rebuild(patient: Patient) -> str:
    return f"{move_away(patient.checkup.lakehouse, patient.table)} && lakehouse run {_base(patient)}"


OF_THE_LAKEHOUSE: Final[Sequence[Callable[[Checkup], Iterator[Finding]]]] = (dead_runs, stuck_files, orphans, lost_pins)
OF_A_TABLE: Final[Sequence[Callable[[Patient], Iterator[Finding]]]] = (
    protocol,
    missing_files,
    contract,
    interrupted_full_refresh,
    cursors,
    interrupted,
    small_files,
    long_log,
    leftovers,
    quarantined,
)
