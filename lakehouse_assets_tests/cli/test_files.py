"""`lakehouse files` and `lakehouse land --dry-run`: what the landing log says, from files to rows and back, and files read again."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakehouse_assets.cli.main import main
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text, run_products, tables_of

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"
GOOD = "489434,85048,BALL,12,2009-12-01 07:45:00,6.95,13085,United Kingdom"
BAD = "489435,85048,BALL,twelve,2009-12-01 07:45:00,6.95,13085,United Kingdom"
TABLES = ("sales.bronze.invoices", "sales.bronze.customers", "sales.silver.invoice_lines")


@pytest.fixture
def lakehouse(settings: Settings, tmp_path, monkeypatch):
    """Calls the command on the root of `settings`."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Result:
        result = CliRunner(env={"LAKEHOUSE_ROOT": str(settings.root)}).invoke(main, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture(scope="module")
def root_with_files(tmp_path_factory) -> Path:
    """A root with a file that was read, one that was refused, and one that changed after it was read."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("files") / "root")})
    land_text(settings, "invoices", "2009/a.csv", "\n".join([HEADER, GOOD, BAD, ""]))
    land_text(settings, "invoices", "empty.csv", "")
    land_text(settings, "invoices", "b.csv", "\n".join([HEADER, GOOD.replace("489434", "489440"), ""]))
    run_products(settings, TABLES)
    land_text(settings, "invoices", "b.csv", "\n".join([HEADER, GOOD.replace("489434", "489441"), ""]))
    run_products(settings, TABLES)
    return settings.root


@pytest.fixture
def landed(settings: Settings, root_with_files) -> Settings:
    shutil.copytree(root_with_files, settings.root)
    return settings


def as_json(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_log_says_what_became_of_every_file(lakehouse, landed):
    found = {row["path"]: row for row in as_json(lakehouse("files", "--json"))}
    assert {path: row["state"] for path, row in found.items()} == {"2009/a.csv": "read", "empty.csv": "refused", "b.csv": "changed"}
    assert found["2009/a.csv"]["rows"] == 2
    version = found["2009/a.csv"]["bronze_version"]
    bronze = tables_of(landed).table("sales.bronze.invoices")
    assert bronze.count(version) == 3
    assert bronze.count(version - 1) == 0
    assert "empty" in found["empty.csv"]["reason"]
    assert lakehouse("files").stdout.count("2009/a.csv") == 1


def test_refused_and_changed_files_are_shown_alone_with_their_reasons(lakehouse, landed):
    assert {row["path"] for row in as_json(lakehouse("files", "list", "invoices", "--refused", "--json"))} == {"empty.csv", "b.csv"}
    shown = lakehouse("files", "--refused").stdout
    assert "Land it again" in shown
    assert "lakehouse files reread b.csv" in " ".join(shown.split())


def test_all_that_became_of_one_file(lakehouse, landed):
    for path in ("b.csv", "invoices/b.csv"):
        assert [row["state"] for row in as_json(lakehouse("files", "--path", path, "--json"))] == ["read", "changed"]


def test_from_a_file_to_its_rows_and_from_a_row_to_its_file(lakehouse, landed):
    rows = as_json(lakehouse("files", "rows", "2009/a.csv", "--json"))
    assert [(row["_row"], row["Invoice"], row["Quantity"]) for row in rows] == [(1, "489434", "12"), (2, "489435", "twelve")]
    (origin,) = as_json(lakehouse("files", "origin", "sales.silver.invoice_lines", "--where", "invoice = '489434'", "--json"))
    assert (origin["_file"], origin["_row"]) == ("2009/a.csv", 1)
    (rejected,) = as_json(lakehouse("files", "origin", "sales.silver.invoice_lines__quarantine", "--json"))
    assert (rejected["_file"], rejected["_row"]) == ("2009/a.csv", 2)


def test_a_refused_file_is_retried_by_the_next_run_once(lakehouse, landed):
    assert "lakehouse run" in lakehouse("files", "retry", "empty.csv").stdout
    assert as_json(lakehouse("files", "--path", "empty.csv", "--json"))[-1]["state"] == "waits"
    for _ in range(2):
        run_products(landed, TABLES)
    assert [row["state"] for row in as_json(lakehouse("files", "--path", "empty.csv", "--json"))] == ["refused", "refused"]


def test_a_changed_file_is_reread_by_the_next_run_once(lakehouse, landed):
    assert as_json(lakehouse("files", "reread", "invoices/b.csv", "--json")) == [{"feed": "invoices", "path": "b.csv", "event": "reread"}]
    for _ in range(2):
        run_products(landed, TABLES[:1])
    assert [row["Invoice"] for row in as_json(lakehouse("files", "rows", "b.csv", "--json"))] == ["489441"]
    assert as_json(lakehouse("files", "--path", "b.csv", "--json"))[-1]["state"] == "read"
    assert "its rows stay" not in lakehouse("files", "--path", "b.csv").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("files", "list", "nothing"), "There are: chargebacks, customers, invoices, payments, products"),
        (("files", "--path", "invoices/c.csv"), "did you mean invoices/b.csv?"),
        (("files", "rows", "nowhere"), "knows no file 'nowhere'"),
        (("files", "retry", "b.csv"), "lakehouse files reread b.csv"),
        (("files", "origin", "sales.bronze.invoices", "--where", "nope ="), "cannot be understood"),
        (("files", "origin", "platform.landing.log"), "does not come from one file"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(lakehouse, landed, words, said):
    result = lakehouse(*words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_path_of_two_feeds_is_asked_back(lakehouse, settings):
    land_text(settings, "invoices", "a.csv", f"{HEADER}\n{GOOD}\n")
    land_text(settings, "customers", "a.csv", "op,sequence,customer,changed_at\nupsert,1,7,2024-01-01T00:00:00Z\n")
    run_products(settings, TABLES[:2])
    result = lakehouse("files", "rows", "a.csv")
    assert "customers/a.csv, invoices/a.csv" in result.stderr
    assert as_json(lakehouse("files", "rows", "customers/a.csv", "--json"))[0].keys() >= {"_row", "customer"}
    assert as_json(lakehouse("files", "rows", "a.csv", "--feed", "customers", "--json"))[0].keys() >= {"_row", "customer"}


def test_an_empty_lakehouse_says_how_to_begin(lakehouse):
    assert "lakehouse land" in lakehouse("files").stdout


# --- landing without writing


def everything_below(root: Path) -> dict[str, bytes]:
    """The content of a root, but for what it knows of its own place."""
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name not in {"root.json", ".root.lock"}}


def test_a_dry_run_says_what_would_become_of_files_and_writes_nothing(lakehouse, landed, tmp_path):
    files = {
        "wide.csv": f"{HEADER},Colour\n{GOOD.replace('489434', '489450')},red\n",
        "short.csv": f"{HEADER}\n{GOOD.replace('489434', '489451')}\n{BAD}\n489452,85048\n",
        "copy.csv": f"{HEADER}\n{GOOD}\n{BAD}\n",
        "b.csv": f"{HEADER}\n{GOOD.replace('489434', '489460')}\n",
        "empty2.csv": "",
        "notes.txt": "hello",
        "wide again.csv": f"{HEADER},Colour\n{GOOD.replace('489434', '489453')},blue\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    before = everything_below(landed.root)
    found = json.loads(lakehouse("land", "invoices", *(str(tmp_path / name) for name in files), "--dry-run", "--json").stdout)
    assert everything_below(landed.root) == before
    of = {file["name"]: file for file in found["files"]}
    assert {name: file["becomes"] for name, file in of.items()} == {
        "wide.csv": "new",
        "short.csv": "new",
        "copy.csv": "known",
        "b.csv": "refused",
        "empty2.csv": "refused",
        "notes.txt": "refused",
        "wide again.csv": "new",
    }
    assert of["wide.csv"]["new_columns"] == ["Colour"]
    assert of["wide again.csv"]["new_columns"] == []
    assert (of["short.csv"]["rows"], of["short.csv"]["rescued"]) == (3, 1)
    assert "2009/a.csv" in of["copy.csv"]["reason"]
    assert "another content" in of["b.csv"]["reason"]
    assert (found["total"]["rows"], found["total"]["new_columns"]) == (5, ["Colour"])
    (table,) = found["tables"]
    assert table["table"] == "sales.silver.invoice_lines"
    assert table["quarantined"] == 2
    assert table["rules"]["readable"] == 1
    assert of["short.csv"]["quarantined"] == {"sales.silver.invoice_lines": 2}


def test_a_dry_run_says_the_same_as_the_run_that_follows(lakehouse, landed, tmp_path):
    source = tmp_path / "next.csv"
    source.write_text("\n".join([HEADER, *(GOOD.replace("489434", f"{490000 + n}") for n in range(20)), BAD, ""]))
    found = json.loads(lakehouse("land", "invoices", str(source), "--dry-run", "--json").stdout)
    lakehouse("land", "invoices", str(source))
    account = run_products(landed, TABLES)["sales.silver.invoice_lines"].account
    assert (found["tables"][0]["quarantined"], found["total"]["rows"]) == (account.quarantined, account.rows_in)


def test_a_dry_run_warns_of_a_run_that_would_stop(lakehouse, tmp_path):
    source = tmp_path / "bad.csv"
    source.write_text("\n".join([HEADER, *(BAD.replace("489435", f"{489500 + n}") for n in range(200)), ""]))
    shown = lakehouse("land", "invoices", str(source), "--dry-run").stdout
    assert "would quarantine 200 of 200 rows" in shown
    assert "The write would fail:" in shown
    assert "Nothing was written" in shown


def test_an_unfinished_name_is_not_landed(lakehouse, tmp_path):
    (tmp_path / "a.csv.part").write_text("a")
    result = lakehouse("land", "invoices", str(tmp_path / "a.csv.part"))
    assert result.exit_code == 1
    assert "no run would read it" in result.stderr
