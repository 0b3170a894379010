"""`lakehouse maintenance`, `doctor` and `restore` as a person and as a program use them."""

import json
import shutil

import pytest
from click.testing import CliRunner, Result

from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.storage.maintenance import SMALL_FILES_A_PARTITION
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text, run_products, tables_of

BRONZE, SILVER = "sales.bronze.products", "sales.silver.products"
HEADER = "stock_code,name,product_group,component,list_price\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("commands") / "root")})
    for number in range(SMALL_FILES_A_PARTITION):
        land_text(settings, "products", f"{number}.csv", f"{HEADER}{number},a,b,base,1\n")
        run_products(settings, [BRONZE, SILVER], f"run-number-{number}")
    return settings.root


@pytest.fixture
def lakehouse(template, settings, monkeypatch, tmp_path):
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(template, settings.root)

    def call(*words: str, **how) -> Result:
        result = CliRunner(env={"LAKEHOUSE_ROOT": str(settings.root)}).invoke(main, words, **how)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def products_in(settings) -> int:
    """How many products there are, those among them that a later snapshot has retired."""
    return tables_of(settings).table(SILVER).scan().collect()["stock_code"].n_unique()


def test_maintenance_says_what_it_would_do_and_does_it(lakehouse, settings):
    before = tables_of(settings).table(BRONZE).version()
    planned = {row["table"]: row for row in json.loads(lakehouse("maintenance", "--dry-run", "--json").stdout)}
    assert planned[BRONZE]["would_do"] == ["compacted"]
    assert planned[BRONZE]["files"] == planned[BRONZE]["small_files"] == SMALL_FILES_A_PARTITION
    assert "compact" in lakehouse("maintenance", "--dry-run", BRONZE).stdout
    assert tables_of(settings).table(BRONZE).version() == before
    assert lakehouse("doctor").exit_code == 0, "what the next night puts right is nothing that is wrong"
    done = json.loads(lakehouse("maintenance", BRONZE, "--json").stdout)
    assert [(row["table"], row["done"], row["files_after"]) for row in done] == [(BRONZE, ["compacted"], 1)]
    everything = lakehouse("maintenance")
    assert everything.exit_code == 0
    assert "tables checked" in everything.stdout
    assert json.loads(lakehouse("maintenance", BRONZE, "--json").stdout)[0]["done"] == []
    assert lakehouse("maintenance", "no.such.table").exit_code == 1


def test_the_doctor_says_what_is_wrong_and_ends_with_one(lakehouse, settings):
    bronze = tables_of(settings).table(BRONZE)
    for _ in range(3 * SMALL_FILES_A_PARTITION):
        bronze.append(bronze.scan().limit(1).collect())
    found = json.loads(lakehouse("doctor", "--json").stdout)
    assert {finding["fix"] for finding in found} >= {f"lakehouse maintenance {BRONZE}"}
    said = lakehouse("doctor")
    assert said.exit_code == 1
    assert f"→ lakehouse maintenance {BRONZE}" in said.stdout
    assert "1 warning\n" in said.stdout
    lakehouse("maintenance")
    well = lakehouse("doctor")
    assert (well.exit_code, "Nothing is wrong." in well.stdout) == (0, True), well.stdout


def test_a_table_goes_back_when_it_was_agreed_to(lakehouse, settings):
    table = tables_of(settings).table(SILVER)
    words = ("restore", SILVER, "--version", "3")
    dry = lakehouse(*words, "--dry-run")
    assert "back to" in dry.stdout
    assert "sales.silver.product_groups" in dry.stdout
    refused = lakehouse(*words, input="n\n")
    assert refused.exit_code == 1
    assert table.version() == SMALL_FILES_A_PARTITION
    agreed = lakehouse(*words, input="y\n")
    assert agreed.exit_code == 0
    assert (products_in(settings), table.version()) == (3, SMALL_FILES_A_PARTITION + 1)
    assert "Nothing to do." in lakehouse(*words, "--yes").stdout
    assert "restore" in lakehouse("history", SILVER).stdout


def test_a_run_goes_back_by_the_beginning_of_its_name(lakehouse, settings):
    run = f"run-number-{SMALL_FILES_A_PARTITION - 1}"
    planned = json.loads(lakehouse("restore", "--run", run, "--dry-run", "--json").stdout)
    assert {row["table"] for row in planned["tables"]} >= {BRONZE, SILVER}
    assert not planned["done"]
    done = json.loads(lakehouse("restore", "--run", run, "--yes", "--json").stdout)
    assert done["done"]
    assert tables_of(settings).table(BRONZE).count() == SMALL_FILES_A_PARTITION - 1
    run_products(settings, [BRONZE, SILVER])
    assert products_in(settings) == SMALL_FILES_A_PARTITION
    assert "more than one run begins with" in lakehouse("restore", "--run", "run-numb", "--yes").stderr


def test_files_that_are_gone_are_named_before_their_rows_go(lakehouse, settings):
    words = ("restore", BRONZE, "--version", "5", "--dry-run")
    assert json.loads(lakehouse(*words, "--json").stdout)["missing_files"] == {}
    (settings.landing / "products" / "3.csv").unlink()  # in version 4
    assert json.loads(lakehouse(*words, "--json").stdout)["missing_files"] == {}
    (settings.landing / "products" / "6.csv").unlink()
    assert json.loads(lakehouse(*words, "--json").stdout)["missing_files"] == {"products": ["6.csv"]}
    assert "do not come again: 6.csv" in " ".join(lakehouse(*words).stdout.split())


def test_a_table_goes_back_to_a_moment(lakehouse, settings):
    table = tables_of(settings).table(SILVER)
    at = table.history()[-3]["at"]
    assert lakehouse("restore", SILVER, "--at", "2001-01-01", "--yes").exit_code == 1
    planned = json.loads(lakehouse("restore", SILVER, "--at", "2100-01-01", "--dry-run", "--json").stdout)
    assert planned["tables"][0]["already_restored"]
    assert table.version_at(at) == 2


@pytest.mark.parametrize("words", [(), (SILVER,), (SILVER, "--run", "x"), ("--run", "x", "--version", "1"), ("--version", "1")])
def test_half_a_question_is_not_answered(lakehouse, words):
    assert lakehouse("restore", *words).exit_code == 2


def test_a_history_that_was_cut_says_so(lakehouse):
    assert "2 commits; --limit shows more" in lakehouse("history", BRONZE, "--limit", "2").stdout
    assert len(json.loads(lakehouse("history", BRONZE, "--limit", "2", "--json").stdout)) == 2
    assert "--limit shows more" not in lakehouse("history", BRONZE).stdout
