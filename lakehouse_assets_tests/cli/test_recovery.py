"""Recovery as a person does it: a power failure, a copy of the root, a move, a restore elsewhere, with the real command."""

import json
import shutil
from pathlib import Path

import pytest

from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.cli.test_disk import BRONZE, HEADER, SILVER, call
from lakehouse_assets_tests.platform.registry.test_moved_store import content_of
from lakehouse_assets_tests.running import land_text, tables_of


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("recovery") / "root"
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    for number in range(2):
        land_text(settings, "products", f"{number}.csv", f"{HEADER}{number},a,b,base,1\n")
        assert call(root, "run", BRONZE, SILVER).exit_code == 0
    return root


@pytest.fixture
def root(template, tmp_path) -> Path:
    shutil.copytree(template, tmp_path / "root")
    call(tmp_path / "root", "status")
    return tmp_path / "root"


def rows(root: Path) -> list[str]:
    """The products, those among them that a later snapshot has retired."""
    return sorted(tables_of(Settings.load({"LAKEHOUSE_ROOT": str(root)})).table(SILVER).scan().collect()["stock_code"].unique())


def test_a_last_commit_that_is_not_whole(root):
    """It was cut; of empty ones `operations.test_last_good` holds the same."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    table = tables_of(settings).table(SILVER)
    Path(table.uri, "_delta_log", f"{table.version():020d}.json").write_bytes(b'{"commitInfo":{"timest')
    land_text(settings, "products", "3.csv", f"{HEADER}3,a,b,base,1\n")

    command = f"lakehouse restore {SILVER} --last-good"
    for words in (("status",), ("show", SILVER), ("run", BRONZE, SILVER), ("run", SILVER)):
        result = call(root, *words)
        said = " ".join((result.stdout + result.stderr).split())
        assert command in said, words
    found = {finding["table"]: finding for finding in json.loads(call(root, "doctor", "--json").stdout) if finding["severity"] == "error"}
    assert found[SILVER]["fix"] in {command, "fix the cause, then: lakehouse run"}
    assert command in call(root, "doctor").stdout

    assert call(root, "restore", "--last-good", "--dry-run").exit_code == 0
    restored = call(root, "restore", SILVER, "--last-good", "--yes")
    assert restored.exit_code == 0, restored.output
    assert call(root, "run", BRONZE, SILVER).exit_code == 0
    assert rows(root) == ["0", "1", "3"]
    assert "Nothing to do" in call(root, "restore", "--last-good", "--yes").stdout
    assert call(root, "doctor").exit_code == 0
    assert "is intact" in call(root, "restore", SILVER, "--last-good").stderr


def test_a_run_over_a_data_file_of_garbage_says_what_to_do(root):
    for uri in tables_of(Settings.load({"LAKEHOUSE_ROOT": str(root)})).table(BRONZE).delta().file_uris():
        Path(uri).write_bytes(b"garbage")
    failed = call(root, "run", SILVER, "--full-refresh")
    assert failed.exit_code == 1
    said = " ".join((failed.stdout + failed.stderr).split())
    assert f"{SILVER}: Polars broke off: " in said
    assert "If a table cannot be read, `lakehouse doctor` says which one, and what to do" in said
    assert f"lakehouse restore {BRONZE} --last-good" in call(root, "doctor").stdout


@pytest.mark.parametrize("gone", ["", "__quarantine"])
def test_a_table_or_its_quarantine_that_was_deleted_is_built_again_by_the_command_that_the_doctor_names(root, gone):
    shutil.rmtree(tables_of(Settings.load({"LAKEHOUSE_ROOT": str(root)})).table(SILVER + gone).uri)
    (found,) = (one for one in json.loads(call(root, "doctor", "--json").stdout) if one["severity"] == "error" and SILVER in one["table"])
    built = call(root, *found["fix"].split()[1:])
    assert built.exit_code == 0, built.output
    assert rows(root) == ["0", "1"]
    assert call(root, "doctor").exit_code == 0


def test_last_good_finds_the_version_itself(root):
    assert call(root, "restore", SILVER, "--last-good", "--version", "1").exit_code == 2


def test_a_copy_is_a_root_of_its_own(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "copy")
    before = content_of(root)
    assert f"copy of {root}" in " ".join(call(copy, "status").stderr.split())
    land_text(Settings.load({"LAKEHOUSE_ROOT": str(copy)}), "products", "3.csv", f"{HEADER}3,a,b,base,1\n")
    ran = call(copy, "run", BRONZE, SILVER)
    assert ran.exit_code == 0
    assert "copy of" not in ran.stderr
    assert rows(copy) == ["0", "1", "3"]
    assert call(copy, "doctor").exit_code == 0
    assert content_of(root) == before
    addresses = [path for path in copy.rglob("*.json") if path.name == "root.json" and str(root) in path.read_text().replace(str(copy), "")]
    assert addresses == []


def test_a_root_that_was_moved_goes_on(root, tmp_path):
    moved = root.rename(tmp_path / "elsewhere")
    assert "was moved" in call(moved, "status").stderr
    assert call(moved, "restore", SILVER, "--version", "1", "--yes").exit_code == 0
    assert call(moved, "run", BRONZE, SILVER).exit_code == 0
    assert rows(moved) == ["0", "1"]
    assert call(moved, "doctor").exit_code == 0
    assert not root.exists()


def test_a_backup_put_back_goes_on_from_its_day(root, tmp_path):
    backup = shutil.copytree(root, tmp_path / "backup")
    land_text(Settings.load({"LAKEHOUSE_ROOT": str(root)}), "products", "3.csv", f"{HEADER}3,a,b,base,1\n")
    assert call(root, "run", BRONZE, SILVER).exit_code == 0
    landed = (root / "landing" / "products" / "3.csv").read_text()
    shutil.rmtree(root)
    shutil.move(backup, root)
    (root / "landing" / "products" / "3.csv").write_text(landed)
    assert call(root, "run", BRONZE, SILVER).exit_code == 0
    assert rows(root) == ["0", "1", "3"]
