"""Drills with the real command: backup and restore, on disks and in buckets, each killed by `kill -9` in the middle and done again.

Source and target stay whole: the root is as it was, the backup before can be restored, and an unfinished root says how it is ended.
"""

import json
import shutil
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import polars as pl
import pytest
from click.testing import CliRunner, Result
from polars.testing import assert_frame_equal

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.storage import maintenance
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.forks import Forks
from lakehouse_assets_tests.platform.operations import backups
from lakehouse_assets_tests.platform.operations.backups import assert_same_history, files_of, rows, settings_of
from lakehouse_assets_tests.running import land_text, run_products, tables_of
from lakehouse_assets_tests.s3 import BUCKET, S3

HEADER = "stock_code,name,product_group,component,list_price\n"
OF_A_LANDING = ("_run_id", "_ingested_at", "_sequence", "sequence", "snapshots", "repeats", "assumed")
"""When a file was read, and as which: in a bucket files that a restore wrote are touched."""
TABLES = ("sales.bronze.products", "sales.silver.products")


def land(settings: Settings, number: int) -> None:
    land_text(settings, "products", f"{number}.csv", f"{HEADER}{number},a,b,base,{number}\n")


def environment_of(root: Path | str, home: Path | None = None) -> dict[str, str]:
    return {"LAKEHOUSE_ROOT": str(root), "DAGSTER_HOME": ""} | ({} if home is None else {"LAKEHOUSE_HOME": str(home)})


def command(root: Path | str, *words: str, home: Path | None = None, code: int = 0) -> Result:
    result = CliRunner(env=environment_of(root, home)).invoke(main, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def odd_table(settings: Settings) -> None:
    """A table with names that paths escape, and with a log whose beginning was cleaned up."""
    odd = tables_of(settings).table("other.silver.odd")
    odd.create({"number": pl.Int64(), "part": pl.String()}, partition_by=("part",))
    for number, part in enumerate(["a b", "50%", "a/b", "x=y", "é", "#", "+", "a%20b"] * 4):
        odd.append(pl.DataFrame({"number": [number], "part": [part]}))
    odd.replace(pl.DataFrame({"number": [100], "part": ["50%"]}), {"part": ["50%"]})
    keep = maintenance.Keep(None, (), timedelta(0), clock.now() + timedelta(days=3), log_retention=timedelta(0))
    assert {"log cleaned up"} <= {*maintenance.maintain(odd, keep, "r").done}
    odd.replace(pl.DataFrame({"number": [101], "part": ["a/b"]}), {"part": ["a/b"]})


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A root with Dagster's databases, two files that were read and one that waits."""
    root = tmp_path_factory.mktemp("drill") / "root"
    settings = settings_of(root)
    land(settings, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        command(root, "run", *TABLES)
    land(settings, 2)
    run_products(settings, TABLES)
    land(settings, 3)
    odd_table(settings)
    return root


@pytest.fixture
def root(template, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(template, tmp_path / "root")
    command(tmp_path / "root", "status")
    return tmp_path / "root"


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path, s3) -> Iterator[tuple[str, dict[str, str]]]:
    """Where backups go, and what a process needs to reach it."""
    if request.param == "disk":
        yield str(tmp_path / "backups"), {}
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment().items():
            patch.setenv(name, value)
        yield f"s3://{BUCKET}/backups-{uuid4().hex}", s3.environment()


def killed(forks: tuple[Forks, Forks], root: Path, words: list[str], environment: dict[str, str], fatal: int, when: str) -> int:
    """Run a command in a process that is killed at a file; the number of files if it comes to its end."""
    order = {"words": words, "environment": {"LAKEHOUSE_ROOT": str(root), **environment}, "fatal": fatal, "when": when}
    ended = forks[0](backups, **order)
    assert ended.signal == (signal.SIGKILL if fatal else 0)
    return int(ended.result or 0)


def copy_of(place: tuple[str, dict[str, str]], tmp_path: Path, s3: S3, name: str) -> str:
    """A copy of the place of backups, to be broken."""
    to, environment = place
    if not environment:
        return str(shutil.copytree(to, tmp_path / name))
    prefix = to.removeprefix(f"s3://{BUCKET}/")
    s3.copy(f"{prefix}/", f"{prefix}-{name}/")
    return f"{to}-{name}"


def places_of(count: int) -> list[tuple[int, str]]:
    """At which of some files a process is killed: in the suite in the middle of one in between, and of the last."""
    every = [(number, when) for number in range(1, count + 1) for when in ("during", "after")]
    return sweeps.of([(count // 2, "during"), (count, "during")], every[:-1])


@pytest.mark.timeout(sweeps.of(300, 7200))
def test_a_backup_and_a_restore_that_were_killed_are_ended_by_the_same_command(root, place, tmp_path, forks, s3):
    to, environment = place
    settings = settings_of(root)
    first = json.loads(command(root, "backup", to, "--json").stdout)
    first_root = shutil.copytree(root, tmp_path / "first")
    run_products(settings, TABLES)
    before = files_of(root)

    count = killed(forks, root, ["backup", copy_of(place, tmp_path, s3, "counted")], environment, 0, "during")
    for fatal, when in places_of(count):
        target = copy_of(place, tmp_path, s3, f"to-{fatal}-{when}")
        killed(forks, root, ["backup", target], environment, fatal, when)
        assert files_of(root) == before
        look = command(tmp_path / "look", "restore-backup", target, "--dry-run", "--json")
        assert json.loads(look.stdout)["backups"] == [first["backup"]], "the killed one does not count"
        made = json.loads(command(root, "backup", target, "--json").stdout)
        assert not [*Path(target).rglob(".*.part")]
    for backup, expected in ((first["backup"], settings_of(first_root)), (made["backup"], settings)):
        command(tmp_path / backup, "restore-backup", target, "--at", backup)
        assert_same_history(settings_of(tmp_path / backup), expected)

    command(root, "backup", to)
    count = killed(forks, tmp_path / "whole", ["restore-backup", to], environment, 0, "during")
    for fatal, when in places_of(count):
        new = tmp_path / f"restored-{fatal}-{when}"
        killed(forks, new, ["restore-backup", to], environment, fatal, when)
        assert files_of(root) == before
        for words in (("status",), ("run",), ("backup", str(tmp_path / "more"))):
            said = " ".join(command(new, *words, code=1).stderr.split())
            assert f"lakehouse restore-backup {to} --at" in said
        command(new, "restore-backup", to)
        assert_same_history(settings_of(new), settings)
        assert files_of(new).keys() == files_of(tmp_path / "whole").keys()
        assert not [*new.rglob(".*.part")]
    assert_well(tmp_path / "whole")
    taken_up(tmp_path / "whole", settings)


def assert_well(root: Path | str, home: Path | None = None) -> None:
    """The doctor finds nothing but that nobody declares the odd table."""
    found = json.loads(CliRunner(env=environment_of(root, home)).invoke(main, ["doctor", "--json"]).stdout)
    assert [(one["table"], one["what"]) for one in found] == [("other.silver.odd", "no product declares this table")]


def taken_up(root: Path | str, own: Settings, home: Path | None = None) -> None:
    """The next run of a restored root takes the files that wait, as that of its original does, and each file once."""
    restored = settings_of(root, home)
    for each in (restored, own):
        run_products(each, TABLES)
        run_products(each, TABLES)
    found, expected = (rows(each, *OF_A_LANDING) for each in (restored, own))
    for name in TABLES:
        assert_frame_equal(found[name], expected[name], check_row_order=False)


def test_from_a_disk_into_a_bucket_and_back_with_the_bucket_as_root_in_between(root, tmp_path, bucket):
    settings, home = settings_of(root), tmp_path / "home"
    said = command(root, "backup", f"{bucket}/backups").stdout
    assert f"Bring it back: lakehouse restore-backup {bucket}/backups --at" in " ".join(said.split())
    in_bucket = f"{bucket}/root"
    command(in_bucket, "restore-backup", f"{bucket}/backups", home=home)
    assert_same_history(settings_of(in_bucket, home), settings)
    assert_well(in_bucket, home)
    assert "holds something" in command(in_bucket, "restore-backup", f"{bucket}/backups", home=home, code=1).stderr

    command(in_bucket, "backup", str(tmp_path / "backups"), home=home)
    command(tmp_path / "new", "restore-backup", str(tmp_path / "backups"))
    assert_same_history(settings_of(tmp_path / "new"), settings)
    taken_up(tmp_path / "new", settings)
    assert_well(tmp_path / "new")
