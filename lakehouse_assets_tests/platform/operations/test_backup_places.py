"""A place holds backups of several roots, and several may be made into a bucket at once: none takes away what another one needs."""

from pathlib import Path

import pytest

from lakehouse_assets.platform.operations import backup_landing
from lakehouse_assets.platform.operations.backup import Backup
from lakehouse_assets.platform.operations.backup_copy import Copier
from lakehouse_assets.platform.operations.backup_files import FolderFiles
from lakehouse_assets.platform.operations.backup_landing import LandedFiles
from lakehouse_assets.platform.operations.backup_manifest import MANIFESTS, BackupRefused, Backups, object_path
from lakehouse_assets.platform.operations.backup_pins import Vanished
from lakehouse_assets.platform.storage import disk
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.operations.backups import back_up, restore, settings_of
from lakehouse_assets_tests.running import land_text


def landed(root: Path, content: str) -> Settings:
    """A root that has landed files alone."""
    settings = settings_of(root)
    land_text(settings, "feed", "a.csv", content)
    return settings


def test_roots_that_share_a_place_keep_and_reuse_their_own_backups(tmp_path, monkeypatch):
    place, roots = tmp_path / "backups", [landed(tmp_path / name, name) for name in ("prod", "staging")]
    made = [back_up(settings, place, keep=1) for _ in range(2) for settings in roots]
    assert [one["deleted"] for one in made] == [[], [], [made[0]["backup"]], [made[1]["backup"]]]
    copied, file = list[str](), Copier.file
    monkeypatch.setattr(Copier, "file", lambda self, files, found: copied.append(found.path) or file(self, files, found))
    for settings, one in zip(roots, made[2:], strict=True):
        assert back_up(settings, place, keep=1, dry_run=True)["deleted"] == [one["backup"]]
        name = Path(settings.root).name
        restore(settings_of(tmp_path / "new" / name), place, at=one["backup"])
        assert (tmp_path / "new" / name / "landing" / "feed" / "a.csv").read_text() == name
    assert "landing/feed/a.csv" not in copied, "the backup before has it, whoever made the newest"


@pytest.mark.parametrize("which", ["a file", "a list"])
def test_what_another_backup_into_a_bucket_deletes_meanwhile_is_copied_again(tmp_path, bucket, monkeypatch, which):
    settings, put_together, gone = landed(tmp_path / "root", "rows"), Backup._manifest, list[str]()
    before = back_up(settings, bucket)["backup"]

    def and_then_it_goes(self, *rest):
        manifest = put_together(self, *rest)
        if not gone:
            area = manifest.areas["landing"]
            backups = Backups(self._backups.files)
            gone.append(area.digest if which == "a list" else backups.entries(area)[0].digest)
            backups.files.delete([f"{MANIFESTS}/{before}.json", object_path(gone[0])])
        return manifest

    monkeypatch.setattr(Backup, "_manifest", and_then_it_goes)
    made = back_up(settings, bucket)
    assert gone
    restore(settings_of(tmp_path / "new"), bucket, at=made["backup"])
    assert (tmp_path / "new" / "landing" / "feed" / "a.csv").read_text() == "rows"


@pytest.mark.parametrize("is_dry", [False, True])
def test_what_was_copied_at_a_moment_that_did_not_fit_is_not_counted(tmp_path, monkeypatch, is_dry):
    settings, copy, moments = landed(tmp_path / "root", "rows"), LandedFiles.copy, list[int]()

    def once_more(self, *rest):
        found = copy(self, *rest)
        moments.append(1)
        if len(moments) == 1:
            land_text(settings, "feed", "a.csv", "other rows")
            raise Vanished("old files are being deleted")
        return found

    monkeypatch.setattr(LandedFiles, "copy", once_more)
    made = back_up(settings, tmp_path / "backups", dry_run=is_dry)
    assert len(moments) == 2
    assert (made["new_files"], made["new_bytes"]) == (made["files"], made["bytes"])


def test_a_restore_asks_for_room_before_it_writes(tmp_path, monkeypatch):
    back_up(landed(tmp_path / "root", "rows"), tmp_path / "backups")
    monkeypatch.setattr(disk, "free", lambda _: disk.LEAST_FREE + 3)
    with pytest.raises(BackupRefused, match="are free there: make room"):
        restore(settings_of(tmp_path / "new"), tmp_path / "backups")
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    restore(settings_of(tmp_path / "new"), tmp_path / "backups")


def test_the_landing_log_is_read_once_a_feed(tmp_path, monkeypatch):
    files, asked, discoveries = FolderFiles(tmp_path / "root"), list[str](), backup_landing._discoveries
    for path in ("a/1.csv", "a/2.csv", "b/1.csv"):
        files.write(f"archive/{path}", [path.encode()])
    monkeypatch.setattr(backup_landing, "_discoveries", lambda pins, feed: asked.append(feed) or discoveries(pins, feed))
    copier = Copier(Backups(FolderFiles(tmp_path / "backups")))
    back, archived = LandedFiles(files, frozenset()).copy(copier, {}, {}, lambda _: None)
    assert (len(back), archived, asked) == (3, [], ["a", "b"])
