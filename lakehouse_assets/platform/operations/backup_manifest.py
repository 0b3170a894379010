"""What a place of backups holds: manifests, each of one backup, and objects, the files of all of them by the SHA-256 of their content.

    lakehouse-backup.json       what this place is
    manifests/ID.json           one backup: written last, so what is there is whole
    objects/AB/ABCDEF…          a file, or the list of the files of a table, by its digest

An object is written once, whatever number of backups need it. A manifest names lists, and a list names files, so an unchanged table costs
a backup one line. How a backup is made is in `backup`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from lakehouse_assets.platform.operations.backup_files import Files, read

FORMAT: Final = 1
MARK: Final = "lakehouse-backup.json"
MANIFESTS: Final = "manifests"
OBJECTS: Final = "objects"


class BackupRefused(ValueError):
    """A backup cannot be made or restored, with what to do instead."""


@dataclass(frozen=True)
class Entry:
    """A file of a backup.

    Attributes:
        path: In its area.
        size: Bytes of its object.
        modified: When the file was modified, in nanoseconds since 1970.
        digest: SHA-256 of its content, the name of its object.
    """

    path: str
    size: int
    modified: int
    digest: str


@dataclass(frozen=True)
class FileList:
    """The files of a table or of an area.

    Attributes:
        digest: Of the object that is the list.
        files: How many there are.
        bytes: Of all of them.
    """

    digest: str
    files: int
    bytes: int


@dataclass(frozen=True)
class BackedUpTable:
    """A table at its pinned version.

    Attributes:
        version: Of the table.
        id: Its Delta id.
        list: Its files: of this version and of the older ones that could be read.
    """

    version: int
    id: str
    list: FileList


@dataclass(frozen=True)
class Manifest:
    """One backup.

    Attributes:
        id: Its name.
        at: The moment that it shows, in UTC as text.
        root: The root that it was made of.
        tables: By name.
        areas: Other files, by the name of their area.
        mlflow: MLflow's database; None if it was left out, or there is none.
        mlflow_note: What `registry.mlflow_store` noted about that database.
        without_mlflow: Whether it was left out, because a server keeps it.
        products: The products that the root was run with, each with its package.
        software: Versions.
        format: Of this file.
    """

    id: str
    at: str
    root: str
    tables: Mapping[str, BackedUpTable]
    areas: Mapping[str, FileList]
    mlflow: Entry | None
    mlflow_note: str
    without_mlflow: bool
    products: Mapping[str, str]
    software: Mapping[str, str]
    format: int = FORMAT

    @property
    def lists(self) -> Iterator[FileList]:
        """All lists of files."""
        yield from (table.list for table in self.tables.values())
        yield from self.areas.values()

    @property
    def file_count(self) -> int:
        """How many files it has."""
        return sum(one.files for one in self.lists) + (self.mlflow is not None)

    @property
    def byte_count(self) -> int:
        """Of all files, also of those that other backups share with it."""
        return sum(one.bytes for one in self.lists) + (0 if self.mlflow is None else self.mlflow.size)

    def as_json(self) -> bytes:
        """As it is stored."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, name: str) -> "Manifest":
        """A stored one.

        Raises:
            BackupRefused: It cannot be read, or a newer release wrote it.
        """
        try:
            values = json.loads(content)
            if values["format"] > FORMAT:
                raise BackupRefused(f"{name} was written by a newer release (format {values['format']}): restore it with that")
            tables = {
                key: BackedUpTable(table["version"], table["id"], FileList(**table["list"])) for key, table in values["tables"].items()
            }
            areas = {key: FileList(**area) for key, area in values["areas"].items()}
            mlflow = None if values["mlflow"] is None else Entry(**values["mlflow"])
            return cls(**{**values, "tables": tables, "areas": areas, "mlflow": mlflow})
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, BackupRefused):
                raise
            raise BackupRefused(f"{name} cannot be read: {error}") from error


def list_json(entries: Iterable[Entry]) -> bytes:
    """A list of files as it is stored: equal files give equal bytes."""
    rows = sorted([one.path, one.size, one.modified, one.digest] for one in entries)
    return json.dumps(rows, separators=(",", ":")).encode()


@dataclass
class Backups:
    """A place of backups.

    Attributes:
        files: Where it is.
    """

    files: Files
    _known: dict[str, int] | None = field(default=None, repr=False)

    def ids(self) -> list[str]:
        """The backups, oldest first."""
        return sorted(found.path.split("/")[1].removesuffix(".json") for found in self.files.listing(MANIFESTS))

    def is_one(self) -> bool:
        """Whether this is a place of backups; one without any is one too."""
        return any(found.path == MARK for found in self.files.listing())

    def manifest(self, backup: str) -> Manifest:
        """One backup.

        Raises:
            BackupRefused: There is none of this id, or it cannot be read.
        """
        name = f"{MANIFESTS}/{backup}.json"
        try:
            return Manifest.from_json(read(self.files, name), f"{self.files.address}/{name}")
        except FileNotFoundError as error:
            known = ", ".join(self.ids()) or "none"
            raise BackupRefused(f"there is no backup {backup} in {self.files.address}. There are: {known}") from error

    def of_root(self, root: str) -> Iterator[Manifest]:
        """The backups of a root, newest first: a place may hold those of several."""
        return (one for backup in reversed(self.ids()) if (one := self.manifest(backup)).root == root)

    def entries(self, files: FileList) -> list[Entry]:
        """The files of a list.

        Raises:
            BackupRefused: The list is not there, or not as it was written.
        """
        try:
            content = read(self.files, object_path(files.digest))
        except FileNotFoundError as error:
            raise BackupRefused(f"{self.files.address} is not whole: {object_path(files.digest)} is gone") from error
        if hashlib.sha256(content).hexdigest() != files.digest:
            raise BackupRefused(f"{self.files.address} is damaged: {object_path(files.digest)} is not what was written")
        return [Entry(*row) for row in json.loads(content)]

    def known(self, *, again: bool = False) -> dict[str, int]:
        """The objects that are there, by their digest, with their bytes."""
        if self._known is None or again:
            self._known = {found.path.rsplit("/", 1)[1]: found.size for found in self.files.listing(OBJECTS)}
        return self._known

    def put(self, digest: str, size: int, content: Iterable[bytes]) -> None:
        """Write an object, unless it is there."""
        if self.known().get(digest) != size:
            self.files.write(object_path(digest), content)
            self.known()[digest] = size

    def needed(self, backups: Iterable[Manifest]) -> set[str]:
        """The digests of all objects that some backups need."""
        needed, read_lists = set[str](), set[str]()
        for manifest in backups:
            needed |= {one.digest for one in manifest.lists} | ({manifest.mlflow.digest} if manifest.mlflow else set())
            for files in manifest.lists:
                if files.digest not in read_lists:
                    read_lists.add(files.digest)
                    needed |= {entry.digest for entry in self.entries(files)}
        return needed


def object_path(digest: str) -> str:
    """Where an object is."""
    return f"{OBJECTS}/{digest[:2]}/{digest}"
