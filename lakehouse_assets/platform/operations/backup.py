"""Makes a backup of a root at one consistent moment, while others go on writing, and deletes old backups.

A backup shows what a process leaves behind that dies: what is done later is looked at first, so it is behind what it was made of and never
ahead, and the next run of a restored root goes on as after a crash. In this order:

1. what waits on this machine to get into the lake: the spool and the outboxes of the service;
2. the system tables, then Dagster's databases, whose events they have read;
3. tables that depend on a decision about a model, the ledgers of these decisions, then MLflow's database, which has what they name;
4. all other tables, so that what MLflow names is in them; at last the landing log, which knows all files that bronze has read;
5. the files of these versions, models, and what is in the landing zone by then.
"""

import fcntl
import platform as python
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Final

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.compute.packages import version
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.operations import place
from lakehouse_assets.platform.operations.backup_copy import Copier, Tell
from lakehouse_assets.platform.operations.backup_files import FolderFiles, Found, files_at, is_within
from lakehouse_assets.platform.operations.backup_landing import ARCHIVE, LANDING, LandedFiles
from lakehouse_assets.platform.operations.backup_manifest import (
    FORMAT,
    MANIFESTS,
    MARK,
    OBJECTS,
    BackedUpTable,
    BackupRefused,
    Backups,
    Entry,
    Manifest,
)
from lakehouse_assets.platform.operations.backup_pins import Pins, Vanished, is_ledger, readers_first, readers_of
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.registry.mlflow_database import MlflowDatabase
from lakehouse_assets.platform.registry.mlflow_store import noted
from lakehouse_assets.platform.storage import bucket, platform_tables
from lakehouse_assets.platform.storage.table import QUARANTINE_SUFFIX
from lakehouse_assets.settings import Location

SERVING, DAGSTER, HOME, ARTIFACTS = "serving", "dagster", "home", "artifacts"
OF_THIS_MACHINE: Final = (SERVING, DAGSTER, HOME)
"""Areas whose files lie below the home; those of the others lie below the root."""
_MLFLOW: Final = "mlflow"
_ARTIFACTS: Final = "mlflow/artifacts"
# Below the home: what has an area of its own, and what is computed again.
_NOT_OF_THE_HOME: Final = {SERVING, DAGSTER, LANDING, ARCHIVE, "tables", _MLFLOW, "cache", "online", "damaged", "root.json"}
# What is done later is copied first here too: a tick of a sensor, the state of a run, its events.
_DAGSTER_FIRST: Final = ("dagster/schedules/", "dagster/history/runs.db", "dagster/history/runs/index.db")
_RUN_LOCKS: Final = "dagster/run_locks"
_PLATFORM: Final = "platform."
_ROUNDS: Final = 10
_SOFTWARE: Final = ("lakehouse-assets", "dagster", "deltalake", "mlflow", "polars")
_YOUNG: Final = timedelta(days=1)


@dataclass(frozen=True)
class Made:
    """What became of a backup.

    Attributes:
        manifest: The backup.
        new_files: Files that the place did not have yet.
        new_bytes: Of these.
        left_out: Files that could not be copied, each with why.
        pruned: The backups that were deleted.
        seconds: How long it took.
    """

    manifest: Manifest
    new_files: int
    new_bytes: int
    left_out: tuple[str, ...]
    pruned: tuple[str, ...]
    seconds: float


@dataclass
class _Before:
    """The backup before: what it has need not be copied again."""

    backups: Backups
    manifest: Manifest | None

    def table(self, name: str) -> BackedUpTable | None:
        return None if self.manifest is None else self.manifest.tables.get(name)

    def area(self, name: str) -> dict[str, Entry]:
        files = None if self.manifest is None else self.manifest.areas.get(name)
        return {} if files is None else {entry.path: entry for entry in self.backups.entries(files)}

    @property
    def mlflow(self) -> Entry | None:
        return None if self.manifest is None else self.manifest.mlflow


@dataclass
class Backup:
    """The backup of a root into a place.

    Attributes:
        root: What is backed up.
        to: The place: a folder or an address in a bucket.
        without_mlflow: Whether MLflow's database is left out.
        is_dry: Whether nothing is written.
        tell: Told where the work is.
    """

    root: Root
    to: Location
    without_mlflow: bool = False
    is_dry: bool = False
    tell: Tell = lambda _: None
    _areas: dict[str, list[Entry]] = field(default_factory=dict)
    _mlflow: Entry | None = None
    _note: str = ""

    def make(self, keep: int | None = None) -> Made:
        """Make it.

        Args:
            keep: How many backups of this root stay, this one among them; None: all. Those of other roots stay anyway.

        Raises:
            BackupRefused: The place or the root does not fit; the text says why, and what to do.
            StorageError: A table cannot be read.
        """
        began = time.monotonic()
        self._check()
        with self._alone():
            if not self.is_dry and not self._backups.is_one():
                self._backups.files.write(MARK, [b'{"format": %d, "what": "backups of a lakehouse"}\n' % FORMAT])
            self._backups.known()
            manifest, copier = self._whole()
            if not self.is_dry:
                self._backups.files.write(f"{MANIFESTS}/{manifest.id}.json", [manifest.as_json()])
            pruned = () if keep is None else self._pruned(keep)
        return Made(manifest, copier.new_files, copier.new_bytes, tuple(copier.left_out), pruned, time.monotonic() - began)

    # --- the place

    @cached_property
    def _backups(self) -> Backups:
        return Backups(files_at(self.to))

    def _check(self) -> None:
        settings, to = self.root.settings, str(self.to)
        for own in (str(settings.root), str(settings.home_folder)):
            if is_within(to, own) or is_within(own, to):
                raise BackupRefused(f"{to} and {own} lie in each other: keep backups apart from what they are of, best on another disk")
        if MlflowDatabase.of(settings.tracking_uri) is None and not self.without_mlflow:
            raise BackupRefused(
                "MLflow's database is kept by a server, which backs it up with a tool of its own. Say `--without-mlflow`, and dump the "
                "database afterwards, before the next training (PostgreSQL: `pg_dump`): what a dump has more than a backup does no harm"
            )
        if bucket.is_bucket(to):
            bucket.ready(to)
        if not self._backups.is_one() and next(self._backups.files.listing(), None) is not None:
            raise BackupRefused(f"{to} holds something else than backups: name an empty place, or one that `lakehouse backup` made")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One backup at a time into a folder. What a killed one left half written goes."""
        files = self._backups.files
        if self.is_dry or not isinstance(files, FolderFiles):
            yield
            return
        files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds what readers see masked
        with (files.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupRefused(
                    f"another process makes a backup into {files.folder} at this moment: try again when it is done"
                ) from None
            files.delete_parts()
            yield

    def _pruned(self, keep: int) -> tuple[str, ...]:
        """Delete the oldest backups of this root, then all files that no other one needs."""
        own = [one.id for one in self._backups.of_root(str(self._address))][::-1]
        if self.is_dry:
            return tuple(own[: len(own) + 1 - keep]) if len(own) >= keep else ()
        files, old = self._backups.files, own[:-keep]
        files.delete([f"{MANIFESTS}/{backup}.json" for backup in old])
        kept: list[str] = []
        while (now := self._backups.ids()) != kept:  # of another one in a bucket that has ended meanwhile all is needed too
            kept = now
            needed = self._backups.needed(map(self._backups.manifest, kept))
            objects = [found for found in files.listing(OBJECTS) if found.path.rsplit("/", 1)[1] not in needed]
        if not isinstance(files, FolderFiles):  # another backup may be under way, whose manifest is still to come
            young = (clock.now() - _YOUNG).timestamp() * 1e9
            objects = [found for found in objects if found.modified < young]
        files.delete([found.path for found in objects])
        return tuple(old)

    # --- the root

    def _whole(self) -> tuple[Manifest, Copier]:
        """Copy everything, and again where old objects that are used again went meanwhile: in a bucket another backup may delete some."""
        copier = Copier(self._backups, self.is_dry)
        for _ in range(_ROUNDS):
            manifest = self._copied(copier)
            if self.is_dry or isinstance(self._backups.files, FolderFiles):
                return manifest, copier
            self.tell("looking whether all is there")
            try:
                if self._backups.needed([manifest]) <= self._backups.known(again=True).keys():
                    return manifest, copier
            except BackupRefused:  # a list went
                self._backups.known(again=True)
        raise BackupRefused(f"other backups into {self.to} delete what this one uses: give each root a place of its own")

    def _copied(self, copier: Copier) -> Manifest:
        """Copy everything at one moment; where maintenance takes away what is being copied, at a later one."""
        before = _Before(self._backups, next(self._backups.of_root(str(self._address)), None))
        pins = Pins(self.root.lakehouse, files_at(self.root.settings.tables))
        why = "models were decided about all the time"
        for _ in range(_ROUNDS):
            copier.begin()
            try:
                landed = LandedFiles.begin(files_at(self.root.settings.root))
                if (at := self._take(pins, copier, before)) is not None:
                    return self._manifest(at, pins, copier, before, landed)
            except Vanished as vanished:
                why = str(vanished)
        raise BackupRefused(f"no moment was found at which all fits together: {why}. Try again when maintenance and trainings have ended")

    @property
    def _address(self) -> Location:
        own = self.root.settings.root
        return own.resolve() if isinstance(own, Path) else own

    def _take(self, pins: Pins, copier: Copier, before: _Before) -> str | None:
        """Take versions that fit together, and copy the databases in between; the moment, or None if a model was decided about meanwhile.

        Raises:
            Vanished: Maintenance cleaned a log up.
        """
        self.tell("looking for versions that fit together")
        lakehouse = self.root.lakehouse
        pins.forget()
        self._of_home(SERVING, copier, before)
        draft = pins.now([table.name for table in lakehouse.tables(staging=True) if table.name != platform_tables.CACHE])
        names = [name for name in draft if not name.endswith(QUARANTINE_SUFFIX) or name.removesuffix(QUARANTINE_SUFFIX) not in draft]
        if not names and next(files_at(self.root.settings.root).listing(LANDING), None) is None:
            raise BackupRefused(f"{self._address} holds no tables and no landed files: is that the root? LAKEHOUSE_ROOT names another one")
        reads = {name: {source.removesuffix(QUARANTINE_SUFFIX) for source, _ in pins.reads(draft[name])} for name in names}
        system = [name for name in names if name.startswith(_PLATFORM) and name != landing.LOG]
        pins.take(readers_first(system, reads))
        self._of_home(DAGSTER, copier, before)
        ledgers = [name for name in names if name not in system and is_ledger(lakehouse.table(name))]
        decided = readers_of(ledgers, {name: draft[name] for name in names}, reads) - {*system, landing.LOG}
        pins.take(readers_first([name for name in names if name in decided], reads))
        self._mlflow = self._database(copier, before)
        of_ledgers = {name: pin.version for name, pin in pins.taken.items() if name in ledgers}
        if {name: pin.version for name, pin in pins.now(of_ledgers).items()} != of_ledgers:
            return None  # MLflow may know more than its ledger
        pins.take(readers_first([name for name in names if name not in {*system, *decided, landing.LOG}], reads))
        pins.close()
        at = clock.now()
        pins.take([landing.LOG])
        return at.isoformat() if all(pins.taken[name].version == number for name, number in of_ledgers.items()) else None

    def _tables(self, pins: Pins, copier: Copier, before: _Before) -> dict[str, BackedUpTable]:
        done = {}
        for number, (name, pin) in enumerate(sorted(pins.taken.items()), start=1):
            where = f"{name} ({number} of {len(pins.taken)})"
            self.tell(where)
            done[name] = copier.table(pins.files, pin, before.table(name), lambda far, where=where: self.tell(f"{where}: {far}"))  # type: ignore[misc]
        return done

    def _manifest(self, at: str, pins: Pins, copier: Copier, before: _Before, landed: LandedFiles) -> Manifest:
        """Copy the files of all of it, and put the backup together."""
        tables = self._tables(pins, copier, before)
        settings, root = self.root.settings, files_at(self.root.settings.root)
        self.tell(ARTIFACTS)
        self._areas[ARTIFACTS] = copier.folder(root, [*root.listing(_ARTIFACTS)], before.area(ARTIFACTS), self._told(ARTIFACTS))
        known = before.area(LANDING) | before.area(ARCHIVE)
        self._areas[LANDING], self._areas[ARCHIVE] = landed.copy(copier, pins.taken, known, self._told("landed files"))
        self._of_home(HOME, copier, before)
        newest = next(reversed(self._backups.ids()), "0-")
        return Manifest(
            # In the order in which they are made, whatever the clock says.
            id=f"{int(newest.split('-')[0]) + 1:06d}-{clock.now():%Y%m%dT%H%M%SZ}",
            at=at,
            root=str(self._address),
            tables=tables,
            areas={name: copier.file_list(entries) for name, entries in sorted(self._areas.items())},
            mlflow=self._mlflow,
            mlflow_note=self._note,
            without_mlflow=self.without_mlflow,
            products=dict(place.products_of(settings.root)),
            software=_software(),
        )

    def _of_home(self, area: str, copier: Copier, before: _Before) -> None:
        """Copy an area of this machine."""
        self.tell(area)
        home, known = self.root.settings.home_folder, before.area(area)
        # A run that is under way in the copy of the databases needs its lock, or nobody would know that it is dead.
        locks = copier.folder(FolderFiles(home), [*FolderFiles(home).listing(_RUN_LOCKS)], {}, self.tell) if area == DAGSTER else []
        entries = copier.home(home, [*_home_files(home, area)], known, self._told(area))
        self._areas[area] = [*{entry.path: entry for entry in [*locks, *entries]}.values()]

    def _database(self, copier: Copier, before: _Before) -> Entry | None:
        """Copy MLflow's database."""
        database = None if self.without_mlflow else MlflowDatabase.of(self.root.settings.tracking_uri)
        if database is None or not database.exists():
            return None
        with noted(database.path) as self._note:
            status = database.path.stat()
            return copier.database(database.path, Found("mlflow.db", status.st_size, status.st_mtime_ns), before.mlflow)

    def _told(self, what: str) -> Tell:
        return lambda far: self.tell(f"{what}: {far}")


def _home_files(home: Path, area: str) -> Iterator[Found]:
    files = FolderFiles(home)
    if area != HOME:
        yield from sorted(files.listing(area), key=_turn)
        return
    with suppress(FileNotFoundError):
        for entry in sorted(home.iterdir()):
            if entry.name in _NOT_OF_THE_HOME or entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from files.listing(entry.name)
            elif entry.is_file():
                status = entry.stat()
                yield Found(entry.name, status.st_size, status.st_mtime_ns)


def _turn(found: Found) -> int:
    return next((number for number, begin in enumerate(_DAGSTER_FIRST) if found.path.startswith(begin)), len(_DAGSTER_FIRST))


def _software() -> dict[str, str]:
    found = {"python": python.python_version()}
    for name in _SOFTWARE:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
