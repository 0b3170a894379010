"""Every command on one root whose names are long and whose data is hostile, at several widths: names whole, data shown as it is."""

import json
import logging
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path

import click
import polars as pl
import pytest
from click.testing import CliRunner, Result

from lakehouse_assets import Contract, Feed, Upsert, column, conform, feed, open_lakehouse, table, text, whole_number
from lakehouse_assets.cli.main import main
from lakehouse_assets.cli.shared import Noun
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.sources.files import RefusedFiles
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text

BRONZE = "outlet.bronze.measurements_of_every_machine"
SILVER = "outlet.silver.measurements_of_every_machine_by_hour"
HOSTILE = ("C:\\[/tmp] x", "08:00:27:cd:af:88", "[red]alarm[/]", ":bomb:")


class Reading(Contract):
    """A reading of a machine."""

    id: int = column(key=True, description="Of the [reading].")
    note: str = column(description="What the machine said.")
    temperature_of_the_bearing_in_degrees: int = column(ge=0)


measurements = feed(BRONZE, Feed("measurements", headers=(("id", "note", "degrees [/C]"),)), "As the machines wrote them.")


@table(SILVER, contract=Reading, kind=Upsert(("id",)), inputs={"rows": BRONZE})
def readings(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Readings."""
    degrees = whole_number("degrees [/C]")
    return conform(rows, id=whole_number("id"), note=text("note"), temperature_of_the_bearing_in_degrees=degrees)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("every") / "root")})
    notes = [*HOSTILE, "\x1b[31mred\x1b[0m", "a\u202eb"]
    lines = "".join(f"{number},{note},{number}\n" for number, note in enumerate(notes)) + "99,broken,-1\n"
    land_text(settings, "measurements", "a[/b].csv", f"id,note,degrees [/C]\n{lines}")
    land_text(settings, "measurements", "bad[red]\x1b[31m.csv", "x,Price [/unit]\n1,2\n")
    opened = open_lakehouse(settings=settings, declarations=(measurements, readings))
    root = opened.context.root
    Runner(opened.context.products.catalog, root.lakehouse, root.ingestion, root.registry, settings.seed).run(run_id="r")
    take(
        AlertLog(root.lakehouse),
        [RefusedFiles(root.lakehouse, {"measurements": ""}, root.zone)],
        datetime.now(UTC),
        logging.getLogger("test"),
    )
    return Path(settings.root)


@pytest.fixture
def call(template, tmp_path, monkeypatch):
    root = tmp_path / "root"
    shutil.copytree(template, root)
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "lakehouse_assets.client.open_lakehouse", lambda: open_lakehouse(settings=settings, declarations=(measurements, readings))
    )

    def call(*words: str, code: int = 0, **how: str) -> Result:
        result = CliRunner(env={"LAKEHOUSE_ROOT": str(root)}).invoke(main, words, **how)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


# The command, and what it has to show whole.
COMMANDS = {
    ("status",): (BRONZE, SILVER, "a\\x1b[31m"[1:]),
    ("show", SILVER): (*HOSTILE, "temperature_of_the_bearing_in_degrees", "\\x1b[31mred\\x1b[0m", "a\\u202eb"),
    ("profile", SILVER): ("temperature_of_the_bearing_in_degrees", "note"),
    ("profile", SILVER, "--slice", "note", "--against", SILVER): ("temperature_of_the_bearing_in_degrees", "not tested"),
    ("show", BRONZE): (*HOSTILE, "degrees [/C]", "a[/b].csv"),
    ("show", SILVER, "--columns", "note", "--where", "id < 2"): HOSTILE[:2],
    ("history", SILVER): ("quarantined",),
    ("files",): ("a[/b].csv", "bad[red]\\x1b[31m.csv", "Price [/unit]"),
    ("files", "rows", "a[/b].csv"): HOSTILE,
    ("files", "origin", SILVER): (*HOSTILE, "a[/b].csv"),
    ("quarantine",): (SILVER,),
    ("quarantine", "show", SILVER): (SILVER, "temperature_of_the_bearing_in_degrees_ge"),
    ("contracts",): (SILVER, "Reading"),
    ("contracts", "show", SILVER): (SILVER, "temperature_of_the_bearing_in_degrees_ge", "Of the [reading]."),
    ("contracts", "diff"): (),
    ("maintenance", "--dry-run"): (BRONZE, SILVER),
    ("sql", f"select id, note from {SILVER}"): HOSTILE,
    ("models",): (),
    ("alerts",): ("files:measurements",),
    ("alerts", "show", ""): ("files:measurements", "bad[red]\\x1b[31m.csv"),  # there is one alert
    ("features",): (),
    ("features", "uses", "note"): (SILVER,),
    ("features", "sync"): (),
    ("settings",): ("LAKEHOUSE_SHOW_PERSONAL",),
}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_at_every_width(call, words, monkeypatch):
    for width in ("40", "80", ""):
        monkeypatch.setenv("COLUMNS", width)
        said = call(*words).output
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "…" not in said
        whole = " ".join(said.split())
        for name in COMMANDS[words]:
            assert " ".join(name.split()) in whole, (width, name, said)


@pytest.mark.parametrize("words", [words for words in COMMANDS if words != ("status",)], ids=" ".join)
def test_json_of_a_command_is_valid(call, words):
    json.loads(call(*words, "--json").stdout, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "measurements_of_every_machin"), BRONZE),
        (("show", SILVER, "--columns", "not"), "there is no column 'not': did you mean note?"),
        (("show", SILVER, "--where", "nte = 'x'"), "there is no column 'nte': did you mean note?"),
        (("sql", f"select nte from {SILVER}"), "there is no column 'nte': did you mean note?"),
        (("sql", f"select * from {SILVER}s"), f"did you mean {SILVER}?"),
        (("sql", f"delete from {SILVER}"), "DELETE was not carried out"),
        (("sql", f"truncate table {SILVER}"), "was not carried out"),
        (("sql", f"drop table {SILVER}"), "DROP was not carried out"),
        (("sql", f"create table x as select * from {SILVER}"), "CREATE was not carried out"),
        (("sql", f"update {SILVER} set note = 'x'"), "UPDATE was not carried out"),
        (("sql", f"insert into {SILVER} values (1)"), "INSERT was not carried out"),
        (("sql", f"select * from {SILVER}; drop table {SILVER}"), "DROP was not carried out"),
        (("export", SILVER, "x.doc"), ".csv, .parquet, .xlsx"),
        (("export", SILVER, "nowhere/x.csv"), "there is no folder"),
        (("contracts", "show", "measurements"), "no product declares a table with a contract"),
        (("land", "measurement", "x.csv"), "did you mean measurements?"),
        (("features", "show", "levels"), "no product declares a feature set 'levels'"),
        (("features", "uses", "nte"), "did you mean note?"),
        (("files", "ignore", "a[/b].csv", "--reason", "x"), "needs no decision (read)"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_a_mistake_is_one_sentence_that_names_what_was_meant(call, words, said):
    result = call(*words, code=1)
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2
    assert "FAILED HERE" not in result.stderr


def test_a_verb_that_is_none_is_answered_with_the_command_that_was_meant(call):
    assert "Did you mean `lakehouse files list measurements`?" in call("files", "measurements", code=2, prog_name="lakehouse").stderr
    assert f"`lakehouse quarantine show {SILVER}`" in call("quarantine", SILVER, code=2, prog_name="lakehouse").stderr


@pytest.mark.parametrize("noun", sorted(name for name, one in main.commands.items() if isinstance(one, Noun)))
def test_what_is_proposed_after_a_noun_is_a_command_that_takes_what_was_given(noun):
    verbs = main.commands[noun].commands
    for word in ("why", "run", "settings", "some.table", "lst", "shwo"):
        if word in verbs:
            continue
        said = CliRunner().invoke(main, [noun, word, "an argument"], prog_name="lakehouse").stderr
        assert f"{word!r} is none of {', '.join(verbs)}." in said
        proposed = shlex.split(said.partition("Did you mean `")[2].partition("`")[0])
        if word in main.commands:
            assert proposed == ["lakehouse", word, "an argument"]
        elif (near := {"lst": "list", "shwo": "show"}.get(word)) in verbs:
            assert proposed == ["lakehouse", noun, near, "an argument"]
        elif proposed:
            assert proposed[:2] + proposed[3:] == ["lakehouse", noun, word, "an argument"]
            assert any(isinstance(one, click.Argument) for one in verbs[proposed[2]].params), proposed


def test_a_last_word_is_enough_for_every_command_that_takes_a_table(call):
    last = SILVER.rsplit(".", 1)[-1]
    for words in (("show",), ("history",), ("quarantine", "show"), ("contracts", "show"), ("files", "origin"), ("contracts", "export")):
        assert call(*words, last).stdout == call(*words, SILVER).stdout


def test_what_is_shown_of_how_much_is_said(call):
    assert "2 of 6 rows; --limit shows more" in call("show", SILVER, "--limit", "2").stdout
    assert "6 rows" in call("show", SILVER).stdout
    assert "1 file of 2; --limit shows more" in call("files", "--limit", "1").stdout


def test_a_root_may_be_named_before_and_after_the_command(call, tmp_path, monkeypatch):
    monkeypatch.undo()
    for words in (["--root", str(tmp_path / "other"), "settings"], ["settings", "--root", str(tmp_path / "other")]):
        result = CliRunner(env={"LAKEHOUSE_ROOT": "elsewhere"}).invoke(main, [*words, "--json"])
        found = {row["variable"]: row["value"] for row in json.loads(result.stdout)}
        assert found["LAKEHOUSE_ROOT"] == str(tmp_path / "other")
    assert CliRunner(env={"LAKEHOUSE_ROOT": "elsewhere"}).invoke(main, ["settings"]).stdout.count("=elsewhere") == 1


# --- files for other programs


@pytest.mark.parametrize("ending", ["csv", "parquet", "xlsx"])
def test_rows_are_exported_as_they_are_read(call, ending, tmp_path):
    file = tmp_path / f"rows.{ending}"
    call("export", SILVER, str(file), "--columns", "note,id", "--where", "id in (0, 1)")
    read = {"csv": pl.read_csv, "parquet": pl.read_parquet, "xlsx": pl.read_excel}[ending](file)
    assert read.columns == ["note", "id"]
    assert read.sort("id")["note"].to_list() == list(HOSTILE[:2])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    call("sql", f"select note from {SILVER} where id = 1", "-o", str(file))
    assert {"csv": pl.read_csv, "parquet": pl.read_parquet, "xlsx": pl.read_excel}[ending](file).rows() == [(HOSTILE[1],)]


def test_an_export_is_in_the_audit_log(call, tmp_path):
    call("export", SILVER, str(tmp_path / "rows.csv"), "--columns", "id")
    lines = [json.loads(line) for path in (tmp_path / "root" / "audit").iterdir() for line in path.read_text().splitlines()]
    assert (lines[-1]["what"], lines[-1]["columns"]) == ("export: rows.csv", ["id"])


def test_queries_come_from_a_file_or_the_standard_input_and_go_out_in_formats(call, tmp_path):
    queries = f"select id from {SILVER} order by id limit 1; -- one;\nselect 'a;b' as two;"
    (tmp_path / "q.sql").write_text(queries)
    both = [[{"id": 0}], [{"two": "a;b"}]]
    assert json.loads(call("sql", "--file", "q.sql", "--format", "json").stdout) == both
    assert json.loads(call("sql", "--json", input=queries).stdout) == both
    assert call("sql", "select 1 as a, 'x' as b", "--format", "csv").stdout == "a,b\n1,x\n"
    assert call("sql", "select 1 as a", "--format", "markdown").stdout == "| a |\n| --- |\n| 1 |\n"
    assert json.loads(call("sql", "select cast('nan' as double) as a", "--json").stdout) == [{"a": None}]
    assert call("sql", queries, "-o", "x.csv", code=2).exit_code == 2


# --- files that are to stay as they are


def test_an_ignored_file_warns_no_more_and_the_log_keeps_who_and_why(call, tmp_path):
    name = "bad[red]\x1b[31m.csv"
    (tmp_path / "root" / "landing" / "measurements" / name).unlink()
    assert "files ignore" in call("status").stdout
    assert call("doctor", code=1)
    call("files", "ignore", name, "--reason", "the source sent it again")
    (last,) = json.loads(call("files", "--refused", "--json").stdout)
    assert last["state"] == "ignored"
    assert last["reason"].startswith("ignored by ")
    assert last["reason"].endswith(": the source sent it again")
    assert json.loads(call("status", "--json").stdout)["refused_files"] == []
    assert call("doctor").exit_code == 0
    assert "needs no decision (ignored)" in call("files", "ignore", name, "--reason", "again", code=1).stderr


# --- completion


@pytest.mark.parametrize(
    ("words", "begun", "names"),
    [
        ("show", "outlet.s", [SILVER, f"{SILVER}__quarantine"]),
        ("show", "measurements_of_every_machine_by_hour__", [f"{SILVER}__quarantine"]),
        ("land", "m", ["measurements"]),
        ("land measurements x", "", []),
    ],
)
def test_names_are_completed(template, monkeypatch, words, begun, names):
    (template / "cache").mkdir(exist_ok=True)
    declared = {BRONZE: {"feed": "measurements"}, SILVER: {"feed": None}}
    (template / "cache" / "policy.json").write_text(json.dumps({"tables": declared}))
    count = len(words.split()) + 1
    environment = {"_LAKEHOUSE_COMPLETE": "bash_complete", "COMP_WORDS": f"lakehouse {words} {begun}", "COMP_CWORD": str(count)}
    result = CliRunner(env={"LAKEHOUSE_ROOT": str(template), **environment}).invoke(main, [], prog_name="lakehouse")
    assert [line.partition(",")[2] for line in result.stdout.split("\n") if line.startswith("plain,")] == names


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(call, shell):
    assert "_LAKEHOUSE_COMPLETE" in call("completion", shell).stdout
