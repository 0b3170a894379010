"""A place holds backups of several roots, and several may be made into a bucket at once: none takes away what another one needs."""

from pathlib import Path

import pytest

from lakehouse_assets.platform.operations.backup import Backup
from lakehouse_assets.platform.operations.backup_copy import Copier
from lakehouse_assets.platform.operations.backup_manifest import MANIFESTS, Backups, object_path
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
