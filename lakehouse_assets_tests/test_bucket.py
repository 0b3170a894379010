"""The whole pipeline with its root in a bucket: the same tables as with a folder, run by the commands that a person uses."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakehouse_assets import products
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.settings import SettingError, Settings
from lakehouse_assets_tests.crash_child import TABLES
from lakehouse_assets_tests.running import run_products, tables_of
from lakehouse_assets_tests.s3 import SECRET
from lakehouse_assets_tests.test_crash import assert_same, content

NAMES = [asset.name for asset in load(products).declarations if asset.name.startswith(TABLES)]
OF_RUNS = re.compile(r"platform\.(contracts|tables|monitoring|system)\.")
"""Say when and by which run; that of the command is Dagster's."""
MONTHS = (("2024-01-04", 28), ("2024-02-01", 29))


@pytest.fixture
def lakehouse(bucket, monkeypatch, tmp_path):
    """Calls the command on the bucket; gives exit code, output and errors."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKEHOUSE_ROOT", bucket)

    def call(*words: str, **environment: str) -> Result:
        result = CliRunner(env=environment).invoke(main, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_a_bucket_and_a_folder_hold_the_same_tables(lakehouse, bucket, tmp_path, s3):
    in_bucket, local = Settings.load(), Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "local")})
    for number, (start, days) in enumerate(MONTHS):
        landed = lakehouse("simulate", "--days", str(days), "--start", start, "--orders-per-day", "2")
        assert landed.exit_code == 0, landed.stderr
        if number == 0:
            run = lakehouse("run", "--json", "platform.landing.log", *NAMES)
            assert run.exit_code == 0, run.stderr
            assert not json.loads(run.stdout)["failed"]
            assert SECRET not in run.stdout + run.stderr
        else:
            run_products(in_bucket, TABLES)
        shutil.copytree(in_bucket.home_folder / "simulator" / "landing", local.landing, dirs_exist_ok=True)
        run_products(local, TABLES)
        found, expected = ({name: rows for name, rows in content(root).items() if not OF_RUNS.match(name)} for root in (bucket, local.root))
        assert_same(found, expected, start)
    tables = tables_of(in_bucket)
    bronze = [
        json.loads(commit["info"]["account"])["rows_in"]
        for commit in tables.table("sales.bronze.invoices").history()
        if "account" in commit["info"]
    ]
    assert len(bronze) == 2, "the second landing reads the new files alone"
    assert sum(bronze) == tables.table("sales.bronze.invoices").count()

    status = json.loads(lakehouse("status", "--json").stdout)
    assert status["root"] == bucket
    assert {table["table"] for table in status["tables"]} >= {"sales.gold.daily_revenue", "platform.landing.log"}
    assert status["waiting_files"] == {}
    # On this machine lies what a bucket cannot hold, or what can be computed again, under the bucket's name.
    assert sorted(path.name for path in in_bucket.home_folder.iterdir()) == ["audit", "cache", "dagster", "simulator"]
    assert in_bucket.home_folder.relative_to("data").parts == tuple(bucket.removeprefix("s3://").split("/"))
    assert not any(SECRET.encode() in path.read_bytes() for path in in_bucket.home_folder.rglob("*") if path.is_file())


def test_files_land_and_wait_in_a_bucket(lakehouse, bucket, tmp_path):
    file = tmp_path / "mine 1.csv"
    file.write_text("Invoice\n")
    assert f"{bucket}/landing/invoices/mine 1.csv" in lakehouse("land", "invoices", str(file)).stdout
    assert "is already there" in lakehouse("land", "invoices", str(file)).stdout
    file.write_text("Invoice\nother\n")
    again = lakehouse("land", "invoices", str(file))
    assert again.exit_code == 1
    assert "new name" in again.stderr
    assert json.loads(lakehouse("status", "--json").stdout)["waiting_files"] == {"invoices": 1}


def test_an_unsafe_setting_stops_every_command_with_a_sentence(lakehouse, s3, tmp_path):
    (tmp_path / "a.csv").write_text("Invoice\n")
    s3.requests()
    for words in (("status",), ("run",), ("land", "invoices", str(tmp_path / "a.csv"))):
        refused = lakehouse(*words, AWS_S3_ALLOW_UNSAFE_RENAME="true")
        assert refused.exit_code == 1
        assert "AWS_S3_ALLOW_UNSAFE_RENAME=true" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not s3.requests()


# --- settings


@pytest.mark.parametrize(
    ("root", "landing", "home", "artifacts"),
    [
        ("s3://lake/team/one/", "s3://lake/team/one/landing", "data/lake/team/one", "s3://lake/team/one/mlflow/artifacts"),
        ("gs://lake", "gs://lake/landing", "data/lake", "gs://lake/mlflow/artifacts"),
        (
            "abfss://lake@account.dfs.core.windows.net/x",
            "abfss://lake@account.dfs.core.windows.net/x/landing",
            "data/lake@account.dfs.core.windows.net/x",
            "abfss://lake@account.dfs.core.windows.net/x/mlflow/artifacts",
        ),
    ],
)
def test_a_bucket_as_root(root, landing, home, artifacts):
    settings = Settings.load({"LAKEHOUSE_ROOT": root})
    assert settings.landing == landing
    assert settings.home_folder == Path(home)
    assert settings.artifacts == artifacts
    assert settings.tracking_uri == f"sqlite:///{Path(home).absolute()}/mlflow/mlflow.db"
    assert settings.dagster_home == Path(home, "dagster")


def test_what_stays_on_this_machine_can_be_elsewhere(tmp_path):
    for root in ("s3://lake/x", "folder"):
        settings = Settings.load({"LAKEHOUSE_ROOT": root, "LAKEHOUSE_HOME": str(tmp_path)})
        assert settings.dagster_home == tmp_path / "dagster"
        assert settings.tracking_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
        assert str(settings.tables) == f"{root}/tables"


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("", "is empty"),
        ("ftp://host/x", "s3://"),
        ("file:///x", "folder of this machine"),
        ("s3://", "name a bucket"),
        ("s3://lake/../x", "name a bucket"),
        ("s3://lake//x", "name a bucket"),
        (f"s3://key:{SECRET}@lake/x", "more than a bucket"),
        (f"s3://lake/x?X-Amz-Signature={SECRET}", "more than a bucket"),
        ("s3://host:9000/lake", "more than a bucket"),
    ],
)
def test_other_addresses_are_refused_and_no_secret_is_repeated(root, said):
    with pytest.raises(SettingError, match=said) as refused:
        Settings.load({"LAKEHOUSE_ROOT": root})
    assert SECRET not in str(refused.value)


def test_the_home_is_a_folder():
    with pytest.raises(SettingError, match="folder of this machine"):
        Settings.load({"LAKEHOUSE_HOME": "s3://lake/home"})
