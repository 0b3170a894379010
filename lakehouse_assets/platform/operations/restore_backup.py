"""Puts a backup into an empty root, on a disk or in a bucket. How one is made is in `backup`.

A note in the home says from the first file on that the root is not whole, so that nothing else is done with it; the same command again goes
on where a killed one stopped. MLflow's database comes with a note of where its artifacts were: MLflow's addresses follow the root by that,
as they do where a root was moved (`registry.mlflow_store`).
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from lakehouse_assets.platform.operations import place, unfinished
from lakehouse_assets.platform.operations.backup import OF_THIS_MACHINE
from lakehouse_assets.platform.operations.backup_copy import Tell
from lakehouse_assets.platform.operations.backup_files import Files, FolderFiles, files_at
from lakehouse_assets.platform.operations.backup_manifest import BackupRefused, Backups, Entry, Manifest, object_path
from lakehouse_assets.platform.operations.backup_pins import AT_ONCE
from lakehouse_assets.platform.registry.mlflow_database import MlflowDatabase
from lakehouse_assets.platform.registry.mlflow_store import artifact_address, note_again, prepare_store
from lakehouse_assets.platform.storage import bucket, disk
from lakehouse_assets.platform.storage.paths import check_root
from lakehouse_assets.platform.wording import listed, size
from lakehouse_assets.settings import Location, Settings

# What a command that only looks leaves in an empty root.
_NO_MATTER: Final = {"root.json", "cache", "audit"}
_SAMPLE: Final = 3


@dataclass(frozen=True)
class Restored:
    """What became of a restore.

    Attributes:
        manifest: The backup.
        files: How many files were written; those that an earlier call had written are not among them.
        bytes: Of these.
        seconds: How long it took.
    """

    manifest: Manifest
    files: int
    bytes: int
    seconds: float


@dataclass
class RestoreBackup:
    """The restore of a backup into a root.

    Attributes:
        settings: Of the root.
        source: The place of backups.
        tell: Told where the work is.
    """

    settings: Settings
    source: Location
    tell: Tell = lambda _: None

    def ids(self) -> list[str]:
        """The backups, oldest first.

        Raises:
            BackupRefused: There is no place of backups.
        """
        if not self._backups.is_one():
            raise BackupRefused(f"{self.source} is no place of backups: name the one that `lakehouse backup` was given")
        return self._backups.ids()

    def manifest(self, at: str | None = None) -> Manifest:
        """A backup by its id, or how it begins; None: the one that this root is being restored from, else the newest.

        Raises:
            BackupRefused: There is none, or more than one.
        """
        ids = self.ids()
        if at is None:
            begun = unfinished.note_of(self.settings.home_folder)
            at = begun.backup if begun is not None and begun.source == self._address else next(reversed(ids), None)
        if at is None:
            raise BackupRefused(f"{self.source} has no backup that is whole: `lakehouse backup {self.source}` makes one")
        found = [one for one in ids if one.startswith(at)]
        if len(found) > 1 and at not in found:
            raise BackupRefused(f"more than one backup begins with {at}: {', '.join(found)}")
        return self._backups.manifest(at if at in found or not found else found[0])

    def check(self, manifest: Manifest) -> None:
        """Refuse a root that a backup cannot be restored into.

        Raises:
            BackupRefused: It holds something, a disk has no room, or MLflow's database is elsewhere.
        """
        root, home = self.settings.root, self.settings.home_folder
        for own in (str(root), str(home)):
            check_root(own)
        if bucket.is_bucket(str(root)):
            bucket.ready(str(self.settings.tables))
        begun = unfinished.note_of(home)
        if begun is not None and (begun.source, begun.backup) != (self._address, manifest.id):
            raise BackupRefused(
                f"{home} is being restored from backup {begun.backup} of {begun.source}: end that with `{begun.command}`, or delete "
                "what is there and begin again"
            )
        self._check_database(manifest, begun)
        if begun is not None:
            return
        for location in {str(root): root, str(home): home}.values():
            held = [name for name in _names(files_at(location)) if name not in _NO_MATTER]
            if held:
                raise BackupRefused(
                    f"{location} holds something ({listed(sorted(held), _SAMPLE)}), and a backup is restored into an empty root: name "
                    "another one with --root or LAKEHOUSE_ROOT, or move what is there away"
                )
        self._check_room(manifest)

    def _check_room(self, manifest: Manifest) -> None:
        """Refuse a backup that is larger than what is free on the disks that it goes to."""
        settings, database = self.settings, self._database(manifest)
        sizes: list[tuple[Location, int]] = [(settings.tables, sum(table.list.bytes for table in manifest.tables.values()))]
        sizes += [(settings.home_folder if name in OF_THIS_MACHINE else settings.root, area.bytes) for name, area in manifest.areas.items()]
        if manifest.mlflow is not None and database is not None:
            sizes.append((Path(database).parent, manifest.mlflow.size))
        needed: dict[int, int] = {}
        folders: dict[int, Path] = {}
        for location, count in sizes:
            if not bucket.is_bucket(str(location)):
                number = disk.device(Path(location))
                needed[number] = needed.get(number, 0) + count
                folders.setdefault(number, Path(location))
        for number, folder in folders.items():
            if (free := disk.free(folder)) < needed[number] + disk.LEAST_FREE:
                raise BackupRefused(
                    f"{size(needed[number])} are to be written to the disk of {folder}, and {size(free)} are free there: make room, or "
                    "name another place with --root or LAKEHOUSE_ROOT"
                )

    def _check_database(self, manifest: Manifest, begun: unfinished.Note | None) -> None:
        """Refuse a database of MLflow that this restore did not write."""
        database = MlflowDatabase.of(self.settings.tracking_uri)
        if manifest.mlflow is None:
            return
        if database is None:
            raise BackupRefused("the backup has MLflow's database, and LAKEHOUSE_MLFLOW_URI names a server: unset it to restore that too")
        if not database.exists():
            return
        if begun is None:
            raise BackupRefused(f"{database.path} exists, and the backup has MLflow's database: LAKEHOUSE_MLFLOW_URI names another place")
        if begun.database != self._database(manifest):
            raise BackupRefused(
                f"{database.path} exists, and the restore that was begun has MLflow's database at {begun.database}: let "
                "LAKEHOUSE_MLFLOW_URI name that, as it did then"
            )

    def carry_out(self, manifest: Manifest) -> Restored:
        """Restore. Killed anywhere, calling it again brings it to its end.

        Raises:
            BackupRefused: As `check`; or the backup is damaged, and the root stays unfinished.
        """
        began = time.monotonic()
        self.check(manifest)
        home = self.settings.home_folder
        unfinished.write(home, unfinished.Note(self._address, manifest.id, self._database(manifest)))
        # Tokens, and what was asked of services and tables, are for their owner alone.
        root, here = files_at(self.settings.root), FolderFiles(home, is_private=True)
        files = written_bytes = 0
        for number, (name, table) in enumerate(sorted(manifest.tables.items()), start=1):
            where = f"{name} ({number} of {len(manifest.tables)})"
            entries = self._backups.entries(table.list)
            # The log last: what it names is there.
            for part in (
                [one for one in entries if "/_delta_log/" not in one.path],
                [one for one in entries if "/_delta_log/" in one.path],
            ):
                count = self._write(files_at(self.settings.tables), part, name.replace(".", "/"), where)
                files, written_bytes = files + count[0], written_bytes + count[1]
        for name, area in manifest.areas.items():
            entries = self._backups.entries(area)
            for below in sorted({entry.path.split("/", 1)[0] for entry in entries}):
                part = [entry for entry in entries if entry.path.split("/", 1)[0] == below]
                count = self._write(here if name in OF_THIS_MACHINE else root, part, below, name)
                files, written_bytes = files + count[0], written_bytes + count[1]
        if manifest.mlflow is not None and self._mlflow(manifest):
            files, written_bytes = files + 1, written_bytes + manifest.mlflow.size
        for written in (root, here):
            if isinstance(written, FolderFiles):
                written.delete_parts()  # of a restore that was killed
        place.note_products(self.settings.root, manifest.products)
        unfinished.remove(home)
        return Restored(manifest, files, written_bytes, time.monotonic() - began)

    @property
    def _address(self) -> str:
        return self._backups.files.address

    @cached_property
    def _backups(self) -> Backups:
        return Backups(files_at(self.source))

    def _write(self, target: Files, entries: Sequence[Entry], below: str, where: str) -> tuple[int, int]:
        """Write files that are not there yet; how many, and their bytes."""
        self.tell(where)
        there = {found.path: found for found in target.listing(below)}
        keeps_times = isinstance(target, FolderFiles)

        def is_there(entry: Entry) -> bool:
            found = there.get(entry.path)
            return found is not None and found.size == entry.size and (not keeps_times or found.modified == entry.modified)

        missing = [entry for entry in entries if not is_there(entry)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                for number, _ in enumerate(pool.map(partial(self._write_one, target), missing), start=1):
                    if number % 100 == 0:
                        self.tell(f"{where}: {number:,} of {len(missing):,} files")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return len(missing), sum(entry.size for entry in missing)

    def _write_one(self, target: Files, entry: Entry) -> None:
        target.write(entry.path, self._content(entry), entry.modified)

    def _content(self, entry: Entry) -> Iterator[bytes]:
        """The bytes of a file of the backup.

        Raises:
            BackupRefused: After the last: they are not those that were backed up.
        """
        name, found, count = object_path(entry.digest), hashlib.sha256(), 0
        try:
            for chunk in self._backups.files.chunks(name):
                found.update(chunk)
                count += len(chunk)
                yield chunk
        except FileNotFoundError as error:
            raise BackupRefused(f"the backup is not whole: {entry.path} ({name} in {self._address}) is gone") from error
        if (found.hexdigest(), count) != (entry.digest, entry.size):
            raise BackupRefused(f"the backup is damaged: {entry.path} ({name} in {self._address}) is not what was backed up")

    def _database(self, manifest: Manifest) -> str | None:
        """Where MLflow's database goes."""
        database = MlflowDatabase.of(self.settings.tracking_uri)
        return None if manifest.mlflow is None or database is None else str(database.path.resolve())

    def _mlflow(self, manifest: Manifest) -> bool:
        """Put MLflow's database here, with addresses of artifacts below this root; whether it was not there yet."""
        database = MlflowDatabase.of(self.settings.tracking_uri)
        if manifest.mlflow is None or database is None:
            return False
        self.tell("MLflow's database")
        is_new = not database.exists()
        if is_new:
            note_again(database.path, manifest.mlflow_note)
            FolderFiles(database.path.parent).write(database.path.name, self._content(manifest.mlflow))
        prepare_store(self.settings.tracking_uri, artifact_address(str(self.settings.artifacts)))
        return is_new


def _names(files: Files) -> Iterable[str]:
    """What lies at a place, by the first word of each path."""
    if isinstance(files, FolderFiles):
        with suppress(FileNotFoundError):
            return [
                path.name for path in files.folder.iterdir() if not path.name.startswith(".") and (path.is_file() or any(path.iterdir()))
            ]
        return []
    return {found.path.split("/", 1)[0] for found in files.listing()}
