"""Backups of a root: made into a place, and restored into an empty root. What is done is in `operations.backup` and `restore_backup`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse_assets.client.context import Context
from lakehouse_assets.platform.governance.audit import Action
from lakehouse_assets.settings import parse_location

if TYPE_CHECKING:
    from lakehouse_assets.platform.operations.backup_manifest import Manifest

Tell = Callable[[str], None]


def backup(context: Context, to: str, *, keep: int | None, without_mlflow: bool, dry_run: bool, tell: Tell) -> dict[str, Any]:
    """Make a backup: see `Client.backup`."""
    from lakehouse_assets.platform.operations.backup import Backup

    made = Backup(context.root, parse_location("TO", to), without_mlflow=without_mlflow, is_dry=dry_run, tell=tell).make(keep)
    if not dry_run:  # personal data is in it as it is stored
        context.reader.audit.add(Action(context.reader.principal.name, f"backup {to}", {"id": made.manifest.id, "deleted": [*made.pruned]}))
    return {
        **_values(made.manifest),
        "new_files": made.new_files,
        "new_bytes": made.new_bytes,
        "left_out": [*made.left_out],
        "deleted": [*made.pruned],
        "seconds": round(made.seconds, 3),
        "done": not dry_run,
    }


@dataclass(frozen=True)
class PlannedBackupRestore:
    """A backup that is to be restored into this root."""

    restore: Any
    manifest: "Manifest"

    def carry_out(self) -> dict[str, Any]:
        """Restore it; what `as_values` gives, and how much was written. Killed anywhere, doing it again brings it to its end.

        Raises:
            BackupRefused: The backup is damaged.
        """
        done = self.restore.carry_out(self.manifest)
        return {
            **self.as_values(),
            "written_files": done.files,
            "written_bytes": done.bytes,
            "seconds": round(done.seconds, 3),
            "done": True,
        }

    def as_values(self) -> dict[str, Any]:
        """The backup as plain values, with the ids of all that are there."""
        return {**_values(self.manifest), "backups": self.restore.ids(), "done": False}


def plan_backup_restore(context: Context, source: str, at: str | None, tell: Tell) -> PlannedBackupRestore:
    """What a restore would do: see `Client.restore_backup`."""
    from lakehouse_assets.platform.operations.restore_backup import RestoreBackup

    restore = RestoreBackup(context.settings, parse_location("FROM", source), tell)  # not the root: it would be opened, and noted
    manifest = restore.manifest(at)
    restore.check(manifest)
    return PlannedBackupRestore(restore, manifest)


def _values(manifest: "Manifest") -> dict[str, Any]:
    return {
        "backup": manifest.id,
        "at": manifest.at,
        "root": manifest.root,
        "tables": {name: table.version for name, table in manifest.tables.items()},
        "files": manifest.file_count,
        "bytes": manifest.byte_count,
        "without_mlflow": manifest.without_mlflow,
        "software": dict(manifest.software),
    }
