"""A backup is one consistent moment of a root, whatever goes on meanwhile, and a restored root is the same one at another place."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.operations import restore_backup
from lakehouse_assets.platform.operations.backup_copy import Copier
from lakehouse_assets.platform.operations.backup_manifest import BackupRefused
from lakehouse_assets.platform.operations.backup_pins import Pins
from lakehouse_assets.platform.operations.restore_backup import RestoreBackup
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.operations.unfinished import RootUnfinished
from lakehouse_assets.platform.pipeline.reproduction import reproduce
from lakehouse_assets.platform.storage import maintenance
from lakehouse_assets.platform.storage.errors import TableDamaged
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.operations.backups import (
    assert_same_history,
    back_up,
    files_of,
    restore,
    rows,
    settings_of,
    versions,
)
from lakehouse_assets_tests.platform.orchestration.level import (
    DAYS,
    FEATURES,
    GOLD,
    MODEL,
    PREDICTIONS,
    Demo,
    features,
    gold,
    level_model,
    scores,
)
from lakehouse_assets_tests.platform.pipeline.model_histories import promoted_twice

DECLARED = (gold, features, level_model, scores)
OF_A_RUN = ("scored_at", "decided_at", "run_id", "_run_id", "known_at", "environment")


@pytest.fixture
def demo(originals, tmp_path) -> Demo:
    """A root with two versions of a model, the second one champion, and predictions of both."""
    demo = Demo(tmp_path / "root", originals)
    promoted_twice(demo)
    return demo


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "backups"


def doctor(settings: Settings) -> list[str]:
    found = open_lakehouse(settings=settings, declarations=DECLARED, notice=lambda _: None).doctor()
    # Bronze is written by hand here, so nobody declares it.
    return [f"{one['table']}: {one['what']}" for one in found if one["severity"] != "note" and one["table"] != DAYS]


def test_a_restored_root_is_the_same_one_and_its_models_score_and_are_reproduced(demo, place, tmp_path):
    own, new = settings_of(demo.root), Demo(tmp_path / "elsewhere" / "new root")
    made = back_up(own, place)
    assert {name: version for name, (version, _) in versions(own).items()} == made["tables"]
    shutil.move(demo.root, tmp_path / "gone")  # nothing of it is asked
    restored = settings_of(new.root)
    done = restore(restored, place)
    assert (done["written_files"], done["written_bytes"]) == (made["files"], made["bytes"])
    assert_same_history(restored, settings_of(tmp_path / "gone"))
    assert doctor(restored) == []

    assert new.aliases() == {"champion": 2, "previous": 1}
    for version in new.registry.versions(MODEL):
        assert new.registry.model_folder(version).is_relative_to(new.root)
        assert reproduce(level_model, version, new.lakehouse, new.registry).equal
    before = versions(restored)
    assert new.run().champion == 2
    assert versions(restored) == before, "there was nothing to do"

    new.land(error=1.0, origins=7)
    assert (new.run().promoted, new.aliases()["champion"]) == (True, 3)
    assert not demo.root.exists()


def test_models_are_found_in_a_root_that_was_restored_into_a_bucket_and_back(demo, place, tmp_path, bucket):
    back_up(settings_of(demo.root), place)
    in_bucket = settings_of(f"{bucket}/root", tmp_path / "home")
    restore(in_bucket, place)
    shutil.move(demo.root, tmp_path / "gone")
    registry = Root(in_bucket).registry()
    champion = registry.version(MODEL, 2)
    assert champion.source.startswith(f"{bucket}/root/mlflow/artifacts/")
    assert reproduce(level_model, champion, Root(in_bucket).lakehouse, registry).equal
    back_up(in_bucket, tmp_path / "other backups")
    new = Demo(tmp_path / "new")
    restore(settings_of(new.root), tmp_path / "other backups")
    assert reproduce(level_model, new.registry.version(MODEL, 2), new.lakehouse, new.registry).equal
    assert new.registry.model_folder(new.registry.version(MODEL, 1)).is_relative_to(new.root)


def test_what_a_backup_has_is_not_copied_again(demo, place):
    settings = settings_of(demo.root)
    dry = back_up(settings, place, dry_run=True)
    assert not place.exists()
    first = back_up(settings, place)
    assert first["files"] == dry["files"]
    assert first["new_bytes"] <= dry["new_bytes"], "of equal files one is copied"
    objects = files_of(place / "objects")
    again = back_up(settings, place)
    assert (again["new_files"], again["files"]) == (1, first["files"] + 1), "the audit log, which says who made a backup"
    assert objects.items() <= files_of(place / "objects").items()

    demo.land(error=1.0, origins=7)
    assert back_up(settings, place)["new_files"] == 3, "a commit and its file, and the audit log"
    assert objects.items() <= files_of(place / "objects").items()


def test_backups_that_are_not_kept_go_with_what_they_alone_need(demo, place, tmp_path):
    settings = settings_of(demo.root)
    made = [back_up(settings, place)]
    for error in (3.0, 1.0):
        demo.land(error=error, origins=7)
        made.append(back_up(settings, place))
    lakehouse = tmp_path / "copy"
    shutil.copytree(demo.root, lakehouse)
    shutil.rmtree(demo.lakehouse.table(DAYS).uri)  # so that what it had is in the older backups alone
    demo.land(error=1.0, origins=8)
    assert back_up(settings, place, keep=2, dry_run=True)["deleted"] == [made[0]["backup"], made[1]["backup"]]
    last = back_up(settings, place, keep=2)
    assert last["deleted"] == [made[0]["backup"], made[1]["backup"]]
    assert sorted(path.stem for path in (place / "manifests").iterdir()) == [made[2]["backup"], last["backup"]]
    restore(settings_of(tmp_path / "two"), place, at=made[2]["backup"])
    assert_same_history(settings_of(tmp_path / "two"), settings_of(lakehouse))
    with_both = len(files_of(place / "objects"))
    assert back_up(settings, place, keep=1)["deleted"]
    assert len(files_of(place / "objects")) < with_both
    restore(settings_of(tmp_path / "one"), place)
    assert_same_history(settings_of(tmp_path / "one"), settings)


@pytest.mark.timeout(sweeps.of(300, 7200))
def test_a_backup_is_behind_a_writer_and_never_ahead_of_itself(demo, place, tmp_path, monkeypatch):
    """A whole training happens between any two looks at a table."""
    settings, at = settings_of(demo.root), Pins.at
    looks: list[str] = []
    monkeypatch.setattr(Pins, "at", lambda self, table, version: looks.append(table.name) or at(self, table, version))
    back_up(settings, tmp_path / "undisturbed")
    last_look = {name: number for number, name in enumerate(looks[:-1])}
    for number in sweeps.of([last_look[PREDICTIONS], last_look[MODEL]], range(len(looks))):
        busy = Demo(tmp_path / f"busy{number}")
        shutil.copytree(demo.root, busy.root)
        count = 0

        def look(self, table, version, number=number, busy=busy):
            nonlocal count
            found = at(self, table, version)
            if count == number:
                count += 1
                busy.land(error=1.0, origins=7)
                busy.run()
            count += 1
            return found

        monkeypatch.setattr(Pins, "at", look)
        back_up(settings_of(busy.root), place / str(number))
        new = Demo(tmp_path / f"new{number}")
        restored = settings_of(new.root)
        restore(restored, place / str(number))
        assert doctor(restored) == []
        ledger = new.ledger.scan().sort("sequence").collect()
        assert {"champion": ledger["champion"][-1]}.items() <= new.aliases().items(), "no decision by hand is to be recorded"
        # A run brings everything up to date, and what comes out is what the writer had.
        new.land(error=1.0, origins=7)
        new.run()
        assert new.aliases() == busy.aliases() == {"champion": 3, "previous": 2}
        assert [row["decision"] for row in new.decisions()] == ["promoted"] * 3
        expected = rows(settings_of(busy.root), *OF_A_RUN)
        for name in (DAYS, GOLD, FEATURES):
            assert_frame_equal(rows(restored, *OF_A_RUN)[name], expected[name], check_row_order=False)
        assert {row[:2] for row in new.predicted()} == {row[:2] for row in busy.predicted()}
        assert reproduce(level_model, new.registry.version(MODEL, 3), new.lakehouse, new.registry).equal


@pytest.mark.parametrize("when", ["before its files are listed", "while they are copied"])
def test_maintenance_at_the_same_moment_makes_it_look_again(demo, place, tmp_path, monkeypatch, when):
    settings, table = settings_of(demo.root), demo.lakehouse.table(GOLD)
    copied, immutable, vacuums = Copier.table, Copier.immutable, 0

    def vacuum() -> None:
        nonlocal vacuums
        if not vacuums:
            vacuums += 1
            keep = maintenance.Keep(None, (), timedelta(0), clock.now() + timedelta(days=3))
            assert "vacuumed" in maintenance.maintain(table, keep, "r").done

    def table_with_vacuum(self, files, pin, *rest):
        if pin.table.name == GOLD and when.startswith("before"):
            vacuum()
        return copied(self, files, pin, *rest)

    def file_with_vacuum(self, files, found):
        if "/gold/days/" in f"/{found.path}" and when.startswith("while"):
            vacuum()
        return immutable(self, files, found)

    monkeypatch.setattr(Copier, "table", table_with_vacuum)
    monkeypatch.setattr(Copier, "immutable", file_with_vacuum)
    back_up(settings, place)
    assert vacuums == 1
    restore(settings_of(tmp_path / "new"), place)
    assert_same_history(settings_of(tmp_path / "new"), settings)
    assert doctor(settings_of(tmp_path / "new")) == doctor(settings)


def test_a_table_that_is_not_whole_is_named_and_the_backup_before_stays(demo, place, tmp_path):
    settings = settings_of(demo.root)
    back_up(settings, place)
    shutil.copytree(demo.root, tmp_path / "copy")
    demo.land(error=1.0, origins=7)
    for path in Path(demo.lakehouse.table(DAYS).uri).glob("*.parquet"):
        path.unlink()
    with pytest.raises(TableDamaged, match=r"demo\.bronze\.days is not whole.*lakehouse doctor"):
        back_up(settings, place)
    restore(settings_of(tmp_path / "new"), place)
    assert_same_history(settings_of(tmp_path / "new"), settings_of(tmp_path / "copy"))


def test_a_root_that_was_moved_and_one_that_was_restored_are_backed_up_again(demo, place, tmp_path):
    back_up(settings_of(demo.root), place)
    moved = Demo(tmp_path / "moved")
    shutil.move(demo.root, moved.root)
    back_up(settings_of(moved.root), place)
    restore(settings_of(tmp_path / "one"), place)
    back_up(settings_of(tmp_path / "one"), tmp_path / "others")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    restore(settings_of(tmp_path / "two"), tmp_path / "others")
    for name in ("one", "copy", "two"):
        demo = Demo(tmp_path / name)
        assert_same_history(settings_of(demo.root), settings_of(moved.root))
        champion = demo.registry.version(MODEL, 2)
        assert demo.registry.model_folder(champion).is_relative_to(demo.root)
    shutil.rmtree(moved.root)
    assert Demo(tmp_path / "two").run().champion == 2


def test_what_a_backup_cannot_be_made_of_or_into_is_refused_with_what_to_do(demo, place, tmp_path):
    settings = settings_of(demo.root)
    for to in (demo.root / "backups", demo.root, tmp_path):
        with pytest.raises(BackupRefused, match="lie in each other"):
            back_up(settings, to)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(BackupRefused, match="something else than backups"):
        back_up(settings, other)
    with pytest.raises(BackupRefused, match="no place of backups"):
        restore(settings_of(tmp_path / "new"), other)
    with pytest.raises(BackupRefused, match=r"no tables and no landed files.*LAKEHOUSE_ROOT"):
        back_up(settings_of(tmp_path / "nothing"), place)
    server = Settings.load({"LAKEHOUSE_ROOT": str(demo.root), "LAKEHOUSE_MLFLOW_URI": "postgresql://user:secret@host/mlflow"})
    with pytest.raises(BackupRefused, match=r"--without-mlflow.*pg_dump") as refused:
        back_up(server, place)
    assert "secret" not in str(refused.value)
    assert back_up(server, place, without_mlflow=True)["without_mlflow"]
    back_up(settings, place)
    with pytest.raises(BackupRefused, match=r"mlflow\.db exists, and the backup has MLflow's database"):
        restore(settings, place)
    shutil.rmtree(demo.root / "mlflow")
    with pytest.raises(BackupRefused, match=r"holds something \(tables\)"):
        restore(settings, place)
    with pytest.raises(BackupRefused, match="LAKEHOUSE_MLFLOW_URI names a server"):
        restore(Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "new"), "LAKEHOUSE_MLFLOW_URI": "postgresql://host/mlflow"}), place)
    with pytest.raises(BackupRefused, match="there is no backup 2020"):
        restore(settings_of(tmp_path / "new"), place, at="2020")
    assert not (tmp_path / "new").exists()


def test_a_damaged_backup_is_named_and_leaves_a_root_that_says_so(demo, place, tmp_path):
    settings = settings_of(demo.root)
    backup = back_up(settings, place)["backup"]
    # The champion's file, which is among the last that are restored.
    level = next(path for path in demo.root.glob("mlflow/artifacts/**/level.json"))
    (damaged,) = (path for path in (place / "objects").glob("*/*") if path.read_bytes() == level.read_bytes())
    content = damaged.read_bytes()
    new = settings_of(tmp_path / "new")
    for broken, said in ((b"{}", "is not what was backed up"), (None, "is gone")):
        damaged.unlink() if broken is None else damaged.write_bytes(broken)
        with pytest.raises(BackupRefused, match=f"level.json.*{said}"):
            restore(new, place)
        client = open_lakehouse(settings=new, notice=lambda _: None)
        for look in (client.tables, client.status):
            with pytest.raises(RootUnfinished, match=f"lakehouse restore-backup {place} --at {backup}"):
                look()
    newer = back_up(settings, place)  # it copies again what is gone
    assert newer["new_files"] == 2, "that, and the audit log"
    assert damaged.read_bytes() == content
    with pytest.raises(BackupRefused, match=f"being restored from backup {backup}"):
        restore(new, place, at=newer["backup"])
    restore(new, place)
    assert_same_history(new, settings)
    assert doctor(new) == []


@pytest.mark.parametrize("interrupted", ["before the database", "after it"])
def test_a_restore_that_goes_on_takes_no_other_database_for_its_own(demo, place, tmp_path, monkeypatch, interrupted):
    back_up(settings_of(demo.root), place)
    prod = tmp_path / "prod" / "mlflow.db"
    shutil.copytree(demo.root / "mlflow", prod.parent)
    before, new = files_of(prod.parent), Demo(tmp_path / "new")
    other = Settings.load({"LAKEHOUSE_ROOT": str(new.root), "LAKEHOUSE_MLFLOW_URI": f"sqlite:///{prod}"})
    step = (RestoreBackup, "_mlflow") if interrupted.startswith("before") else (restore_backup.place, "note_products")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(*step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        restore(settings_of(new.root), place)
    with pytest.raises(
        BackupRefused, match=rf"prod/mlflow\.db exists.*at {new.root}/mlflow/mlflow\.db: let LAKEHOUSE_MLFLOW_URI name that"
    ):
        restore(other, place)
    assert files_of(prod.parent) == before
    restore(settings_of(new.root), place)
    assert_same_history(settings_of(new.root), settings_of(demo.root))
    assert new.aliases() == {"champion": 2, "previous": 1}
    assert new.registry.model_folder(new.registry.version(MODEL, 2)).is_relative_to(new.root)


def test_databases_tokens_and_what_waits_on_this_machine_come_along(demo, place, tmp_path):
    settings = settings_of(demo.root)
    client = open_lakehouse(settings=settings, declarations=DECLARED, notice=lambda _: None)
    client.tokens.create("shop", ["score"])
    segment = demo.root / "serving" / "spool" / "abc" / "000000000001.segment"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"rows")
    for name in ("cache/policy.json", "online/online.db", "reports/a.png", "landing/feed/.part", "landing/feed/a.csv"):
        (demo.root / name).parent.mkdir(parents=True, exist_ok=True)
        (demo.root / name).write_bytes(name.encode())
    back_up(settings, place)
    restore(settings_of(tmp_path / "new"), place)
    found = files_of(tmp_path / "new")
    for name in ("serving/spool/abc/000000000001.segment", "reports/a.png", "landing/feed/a.csv", "serving/tokens.json"):
        assert found[name] == files_of(demo.root)[name]
    assert not {"cache/policy.json", "online/online.db", "landing/feed/.part", "restore-backup.json"} & {*found}
    for name in ("serving", "audit", "reports"):
        for path in (tmp_path / "new" / name, *(tmp_path / "new" / name).rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path
    landed = ("landing/feed", "landing/feed/a.csv")
    assert [(tmp_path / "new" / name).stat().st_mode for name in landed] == [(demo.root / name).stat().st_mode for name in landed]
    tokens = open_lakehouse(settings=settings_of(tmp_path / "new"), notice=lambda _: None).tokens
    assert [one["name"] for one in tokens.list()] == ["shop"]


def test_a_manifest_is_plain_json(demo, place):
    backup = back_up(settings_of(demo.root), place)
    manifest = json.loads((place / "manifests" / f"{backup['backup']}.json").read_text())
    table = manifest["tables"][GOLD]
    assert table["version"] == demo.lakehouse.table(GOLD).version()
    assert {"deltalake", "lakehouse-assets", "mlflow", "polars", "python"} <= manifest["software"].keys()

    def content(digest: str) -> bytes:
        return (place / "objects" / digest[:2] / digest).read_bytes()

    for path, size, modified, digest in json.loads(content(table["list"]["digest"])):
        own = demo.root / "tables" / path
        assert (size, modified) == (own.stat().st_size, own.stat().st_mtime_ns)
        assert content(digest) == own.read_bytes()
