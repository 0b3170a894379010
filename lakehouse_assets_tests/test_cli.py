"""The command line as a person uses it. Most calls stay in this process, because a new one spends seconds on imports."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lakehouse_assets import open_lakehouse
from lakehouse_assets.cli.main import main

HEADER = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"
GOOD = "489434,85048,BALL,12,2009-12-01 07:45:00,6.95,13085,United Kingdom"
BAD = "489435,85048,BALL,twelve,2009-12-01 07:45:00,6.95,13085,United Kingdom"
GOLD = "+sales.gold.daily_revenue"


@pytest.fixture
def lakehouse(tmp_path, monkeypatch):
    """Calls the command on a root of its own; gives exit code, output and errors."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)

    def call(*words: str, **environment: str) -> Result:
        result = CliRunner(env={"LAKEHOUSE_ROOT": str(tmp_path / "root")} | environment).invoke(main, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def invoices(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([HEADER, GOOD, BAD]) + "\n")
    return path


def test_help_teaches_every_command(lakehouse):
    text = lakehouse("--help").stdout
    commands = (
        "simulate land run train status show history sql models files quarantine contracts settings maintenance doctor restore dev demo"
    )
    for command in commands.split():
        assert command in text
        assert "Usage" in lakehouse(command, "--help").stdout


def test_a_root_without_files_has_nothing_to_do_and_says_where_files_land(lakehouse, tmp_path):
    for words in ("run",), ("run", "platform.landing.log", "sales.bronze.invoices"), ("run",):
        done = lakehouse(*words)
        assert done.exit_code == 0, done.output
        assert "Error" not in done.output
    said = " ".join(done.stdout.split())
    for part in (
        "no file has landed yet",
        f"{tmp_path}/root/landing/FEED/",
        "lakehouse land FEED FILE",
        "chargebacks, customers, invoices, payments, products",
    ):
        assert part in said
    assert "There are no tables" not in lakehouse("status").stdout


def test_from_a_file_to_gold_and_back(lakehouse, invoices, tmp_path):
    assert lakehouse("land", "invoices", str(invoices)).exit_code == 0
    first = lakehouse("run", "--json")
    assert first.exit_code == 0, first.stderr
    tables = {table["table"]: table for table in json.loads(first.stdout)["tables"]}
    assert tables["sales.silver.invoice_lines"]["rows_written"] == 1
    assert tables["sales.silver.invoice_lines"]["rows_quarantined"] == 1

    second = lakehouse("run")
    assert second.exit_code == 0
    assert "Nothing to do" in second.stdout

    status = json.loads(lakehouse("status", "--json").stdout)
    row = next(table for table in status["tables"] if table["table"] == "sales.silver.invoice_lines")
    assert (row["rows"], row["quarantined"]) == (1, 1)
    assert "readable" in row["failed_checks"]

    (recorded,) = json.loads(lakehouse("sql", "--json", 'select job, status, "trigger", steps_failed from platform.system.runs').stdout)
    assert recorded == {"job": "refresh", "status": "success", "trigger": "command", "steps_failed": 0}
    query = "select owner, rows_written, rows_quarantined, cpu from platform.system.steps where step = 'sales__silver__invoice_lines'"
    (step,) = json.loads(lakehouse("sql", "--json", query).stdout)
    assert (step["owner"], step["rows_written"], step["rows_quarantined"]) == ("team:sales", 1, 1)
    assert step["cpu"] > 0

    rows = json.loads(lakehouse("sql", "--json", "select sum(net) as net from sales.gold.daily_revenue").stdout)
    assert rows == [{"net": pytest.approx(83.4)}]
    assert json.loads(lakehouse("show", "--json", "sales.gold.daily_revenue").stdout)[0]["product_group"] == "85"
    assert json.loads(lakehouse("show", "--json", "sales.gold.daily_revenue", "--version", "0").stdout) == []
    history = json.loads(lakehouse("history", "--json", "sales.gold.daily_revenue").stdout)
    assert [commit["version"] for commit in history] == [1, 0]
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [
        ".root.lock",
        "audit",
        "cache",
        "dagster",
        "landing",
        "root.json",
        "tables",
    ]
    assert not (tmp_path / "mlruns").exists()


def test_a_failed_run_says_what_failed_and_how_to_go_on(lakehouse, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("\n".join([HEADER, *(BAD.replace("489435", f"{489500 + n}") for n in range(200))]) + "\n")
    lakehouse("land", "invoices", str(path))
    run = lakehouse("run", GOLD)
    assert run.exit_code == 1
    assert "200 of 200 rows break contract InvoiceLine" in run.stdout
    assert "skipped" in run.stdout
    assert f"lakehouse run {GOLD} again. It resumes where this run stopped." in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_a_selection_runs_a_part(lakehouse, invoices):
    lakehouse("land", "invoices", str(invoices))
    run = lakehouse("run", "--json", "+sales.bronze.invoices")
    assert run.exit_code == 0, run.stderr
    assert [table["table"] for table in json.loads(run.stdout)["tables"]] == ["platform.landing.log", "sales.bronze.invoices"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "sales.silver.nothing"), "no table matches 'sales.silver.nothing'"),
        (("run", "group:("), "cannot be understood"),
        (("show", "sales.silver.invoice_lines"), "does not exist yet"),
        (("show", "invoice_line"), "there is no table 'invoice_line': did you mean sales.silver.invoice_lines?"),
        (("land", "invoice", "x.csv"), "'invoice': did you mean invoices?\n"),
        (("land", "nothing", "x.csv"), "'nothing'. There are: chargebacks, customers, invoices, payments, products\n"),
        (("run", "group:sale"), "'group:sale': did you mean group:sales?\n"),
        (("run", "sales.silver.invoice_line"), "did you mean sales.silver.invoice_lines?\n"),
        (("land", "invoices", "nowhere.csv"), "/nowhere.csv is not a file"),
        (("sql", "select * from sales.gold.nothing"), "there is no table 'sales.gold.nothing'"),
        (("history", "a.b.c"), "there is no table 'a.b.c'"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(lakehouse, words, said):
    result = lakehouse(*words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_landing_another_content_under_a_known_name_is_refused(lakehouse, invoices):
    lakehouse("land", "invoices", str(invoices))
    assert "is already there" in lakehouse("land", "invoices", str(invoices)).stdout
    invoices.write_text(f"{HEADER}\n{GOOD}\n")
    again = lakehouse("land", "invoices", str(invoices))
    assert again.exit_code == 1
    assert "new name" in again.stderr


def test_settings_lists_every_variable_and_a_typing_error_is_noticed(lakehouse):
    listed = json.loads(lakehouse("settings", "--json").stdout)
    assert all(row["variable"].startswith("LAKEHOUSE_") and row["meaning"] for row in listed)
    wrong = lakehouse("status", LAKEHOUSE_WEBPORT="1")
    assert wrong.exit_code == 1
    assert "did you mean LAKEHOUSE_WEB_PORT" in wrong.stderr
    assert "not a whole number" in lakehouse("settings", LAKEHOUSE_WEB_PORT="many").stderr


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("LAKEHOUSE_ALERT_WEBHOOK", "https://me:t0ken@hooks.example.com:8443/T0/t0ken?key=t0ken", "https://hooks.example.com/•••"),
        ("LAKEHOUSE_ALERT_WEBHOOK", "", ""),
        ("LAKEHOUSE_MLFLOW_URI", "postgresql://me:t0ken@db:5432/mlflow", "postgresql://•••@db:5432/mlflow"),
        ("LAKEHOUSE_MLFLOW_URI", "postgresql://db/mlflow?password=t0ken", "postgresql://db/mlflow?•••"),
        ("LAKEHOUSE_MLFLOW_URI", "sqlite:////folder/mlflow.db", "sqlite:////folder/mlflow.db"),
    ],
)
def test_settings_leave_secrets_out(lakehouse, variable, value, shown):
    told = lakehouse("settings", "--json", **{variable: value}).stdout
    assert {row["variable"]: row["value"] for row in json.loads(told)}[variable] == shown
    assert "t0ken" not in lakehouse("settings", **{variable: value}).stdout


def test_the_installed_command_in_a_process_of_its_own(tmp_path):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    command = [str(Path(sys.executable).with_name("lakehouse")), "status"]
    result = subprocess.run(command, capture_output=True, text=True, env=clean, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "There are no tables yet" in result.stdout
    assert result.stderr == ""


def test_two_roots_never_mix(lakehouse, invoices, tmp_path):
    for root in ("one", "two"):
        lakehouse("land", "invoices", str(invoices), LAKEHOUSE_ROOT=str(tmp_path / root))
    assert lakehouse("run", "+sales.bronze.invoices", LAKEHOUSE_ROOT=str(tmp_path / "one")).exit_code == 0
    other = json.loads(lakehouse("status", "--json", LAKEHOUSE_ROOT=str(tmp_path / "two")).stdout)
    assert other["tables"] == []
    assert other["waiting_files"] == {"invoices": 1}


def test_an_interrupted_run_says_so_and_is_resumed(lakehouse, invoices, tmp_path):
    lakehouse("land", "invoices", str(invoices))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    command = [sys.executable, "-m", "lakehouse_assets.cli", "run", GOLD]  # in a process that can be interrupted
    (tmp_path / "temporary").mkdir()
    own = {"LAKEHOUSE_ROOT": str(tmp_path / "root"), "PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(tmp_path / "temporary")}
    environment = clean | own
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as run:
        assert run.stdout is not None
        assert any(line.startswith("done") for line in run.stdout)  # a slow machine says first that a step is running
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=120)
    assert run.returncode == 130, errors
    assert errors == "Interrupted. Nothing is lost: the same command resumes where this run stopped.\n"
    assert [path for path in (tmp_path / "temporary").iterdir() if path.is_dir()] == []
    assert open_lakehouse(tmp_path / "root").runs.under_way() == []
    assert lakehouse("run", GOLD).exit_code == 0
    assert json.loads(lakehouse("sql", "--json", "select sum(net) as net from sales.gold.daily_revenue").stdout) == [{"net": 83.4}]


def test_numbers_that_json_does_not_have_are_null(lakehouse):
    answer = lakehouse("sql", "--json", "select sqrt(-1.0) as a, exp(1000.0) as b, sqrt(2.25) as c")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout) == [{"a": None, "b": None, "c": 1.5}]


def test_a_run_with_nothing_landed_makes_empty_tables(lakehouse):
    assert lakehouse("run", GOLD).exit_code == 0
    assert "does not exist" not in lakehouse("status").stdout
