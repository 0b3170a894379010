"""A disk that is full or can only be read: no traceback reaches a person, what can be read is read, and afterwards a run goes on."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakehouse_assets.cli.main import main
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text, tables_of

BRONZE, SILVER = "sales.bronze.products", "sales.silver.products"
HEADER = "stock_code,name,product_group,component,list_price\n"
READERS = (("status",), ("show", SILVER), ("history", SILVER), ("files",), ("sql", f"select count(*) as rows from {SILVER}"))
SIZE = 200_000  # kB


def call(root: Path, *words: str) -> Result:
    result = CliRunner(env={"LAKEHOUSE_ROOT": str(root), "DAGSTER_HOME": ""}).invoke(main, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception  # a person would see a traceback
    return result


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A root with a run, and a file that waits."""
    root = tmp_path_factory.mktemp("disk") / "root"
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    land_text(settings, "products", "1.csv", f"{HEADER}1,a,b,base,1\n")
    assert call(root, "run", BRONZE, SILVER).exit_code == 0
    land_text(settings, "products", "2.csv", HEADER + "".join(f"{number},a,b,base,1\n" for number in range(2000)))
    return root


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}k", "tmpfs", folder], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def leave_free(disk: Path, kilobytes: int) -> None:
    used = shutil.disk_usage(disk).used // 1024
    remount(disk, f"size={used + kilobytes}k")


@pytest.mark.parametrize("kilobytes", [0, 60])
def test_a_full_disk(template, disk, kilobytes):
    root = disk / "root"
    shutil.copytree(template, root)
    for words in READERS:
        assert call(root, *words).exit_code == 0
    leave_free(disk, kilobytes)

    ran = call(root, "run", BRONZE, SILVER)
    assert "disk" in ran.output + ran.stderr
    assert ran.exit_code == 1
    for words in READERS:
        assert call(root, *words).exit_code == 0, words
    findings = {finding["what"] for finding in json.loads(call(root, "doctor", "--json").stdout)}
    assert any("is full" in what and "Most is taken by" in what for what in findings), findings

    remount(disk, f"size={SIZE}k")
    again = call(root, "run", BRONZE, SILVER)
    assert again.exit_code == 0, again.output
    assert tables_of(Settings.load({"LAKEHOUSE_ROOT": str(root)})).table(SILVER).count() == 2000
    assert [finding for finding in json.loads(call(root, "doctor", "--json").stdout) if finding["severity"] == "error"] == []


def test_a_disk_that_can_only_be_read(template, disk):
    root = disk / "root"
    shutil.copytree(template, root)
    remount(disk, "ro")
    for words in READERS:
        result = call(root, *words)
        assert result.exit_code == 0, words
    ran = call(root, "run", BRONZE, SILVER)
    assert ran.exit_code == 1
    assert "can only be read" in ran.stderr
    assert "can only be read" in call(root, "doctor").stdout


@pytest.mark.parametrize("database", ["dagster/history/runs.db", "dagster/history/runs/index.db", "mlflow/mlflow.db"])
def test_a_damaged_database(template, tmp_path, database):
    """Tables do not need it: everything is read, and what cannot go on says which file it is."""
    root = tmp_path / "root"
    shutil.copytree(template, root)
    for suffix in ("-wal", "-shm"):
        (root / f"{database}{suffix}").unlink(missing_ok=True)
    (root / database).parent.mkdir(parents=True, exist_ok=True)
    (root / database).write_bytes(os.urandom(5000))
    for words in READERS:
        assert call(root, *words).exit_code == 0, words
    for words in (("models",), ("run", BRONZE, SILVER)):
        call(root, *words)
    if database != "dagster/history/runs/index.db":  # Dagster makes a new one by itself
        findings = json.loads(call(root, "doctor", "--json").stdout)
        (finding,) = [finding for finding in findings if finding["severity"] == "error"]
        assert "damaged" in finding["what"]
        assert finding["fix"].startswith("mv ")
