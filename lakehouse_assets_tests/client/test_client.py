"""The client as a notebook or a service uses it, on a product of two tables with personal data."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from lakehouse_assets import Contract, Feed, Upsert, column, conform, feed, open_lakehouse, table, text, whole_number
from lakehouse_assets.cli.main import main
from lakehouse_assets.client import Client
from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.platform.storage.errors import NoSuchTable, NoSuchVersion
from lakehouse_assets.settings import SettingError, Settings

BRONZE, SILVER = "shop.bronze.people", "shop.silver.people"
# What no command may print: each is in a file below.
SECRETS = ("Ada Lovelace", "Byron", "ada@example.org", "1815", "1788")


class Person(Contract):
    """A person."""

    id: int = column(key=True)
    name: str = column(personal=True)
    mail: str = column(personal=True, nullable=True, str_matches=r"^\S+@\S+$")
    born: int = column(personal=True, gt=1800)
    town: str = column(description="Where [they] live.")


people_feed = feed(BRONZE, Feed("people", headers=(("id", "name", "mail", "born", "town"),)), "People.")


@table(SILVER, contract=Person, kind=Upsert(("id",)), inputs={"rows": BRONZE})
def people(rows: pl.LazyFrame) -> pl.LazyFrame:
    """People."""
    return conform(rows, id=whole_number("id"), name=text("name"), mail=text("mail"), born=whole_number("born"), town=text("town"))


FILE = """id,name,mail,born,town,extra
1,Ada Lovelace,ada@example.org,1815,London [/W1],Byron's daughter
2,Byron,no mail,1788,C:\\[/tmp] x,:bomb:
3,Byron,ada@example.org,about 1788,A:B:C,
4,,,1900,Paris,
"""


@pytest.fixture
def lakehouse(tmp_path) -> Client:
    return client_of(tmp_path)


def client_of(tmp_path: Path, **settings: str) -> Client:
    loaded = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "root"), **settings})
    return open_lakehouse(settings=loaded, declarations=(people_feed, people), notice=lambda _: None)


@pytest.fixture
def shop(lakehouse, tmp_path) -> Client:
    """The same after a file has landed and a run."""
    file = tmp_path / "people.csv"
    file.write_text(FILE)
    ((place, new),) = lakehouse.land("people", [file])
    assert (Path(place).read_text(), new) == (FILE, True)
    outcome = lakehouse.run()
    assert outcome is not None
    assert not outcome.failed
    return lakehouse


def test_from_a_file_to_rows(shop):
    assert {BRONZE, SILVER, f"{SILVER}__quarantine"} <= set(shop.tables())
    handle = shop.table(SILVER)
    assert handle.count() == 1
    assert handle.schema["born"] == pl.Int64
    assert handle.contract is Person
    assert handle.scan().select("id", "name", "born", "town").collect().rows() == [(1, MASK, None, "London [/W1]")]
    assert handle.scan(version=0).collect().height == 0
    assert handle.scan(at=datetime.now(UTC)).collect().height == 1
    assert [commit["version"] for commit in handle.history()] == [1, 0]
    assert len(handle.history(1)) == 1
    with pytest.raises(NoSuchVersion):
        handle.scan(version=9)


def test_what_is_up_to_date_is_not_run(shop):
    assert shop.pending() == {}
    assert shop.run() is None
    outcome = shop.run(SILVER, full_refresh=True)
    assert (list(outcome.tables), outcome.failed) == ([SILVER], [])
    assert shop.table(SILVER).count() == 1


def test_sql_status_files_and_contracts(shop):
    assert shop.sql(f"select count(*) as n from {SILVER} where name = '{MASK}'").rows() == [(1,)]
    (row,) = [entry for entry in shop.status()["tables"] if entry["table"] == SILVER]
    assert (row["rows"], row["quarantined"]) == (1, 3)
    assert [file["state"] for file in shop.files.list("people")] == ["read"]
    assert shop.files.rows("people.csv").collect()["_row"].to_list() == [1, 2, 3, 4]
    assert shop.files.origins(SILVER, "id = 1").collect()["_file"].to_list() == ["people.csv"]
    assert shop.files.origins(SILVER, "name = 'Ada Lovelace'").collect().height == 0
    assert shop.contracts.show(SILVER)["key"] == ["id"]
    assert shop.contracts.diff()[0]["changes"] == ()
    assert shop.doctor() == [] or all(finding["severity"] == "note" for finding in shop.doctor())


def test_quarantined_rows_are_shown_and_released(shop):
    quarantine = shop.quarantine(SILVER)
    values = quarantine.show()
    assert values["waiting"] == 3
    third = next(row for row in values["rows"] if row["row"] == 3)
    assert third["unparsed"] == {"born": MASK}
    assert (third["source"]["name"], third["source"]["town"]) == (MASK, "A:B:C")
    replayed = quarantine.replay(where="source.id = '3'", sets={"born": "'1815'"}, dry_run=True)
    assert (replayed.selected, replayed.released) == (1, 1)
    assert quarantine.replay(where="source.id = '3'", sets={"born": "'1815'"}).released == 1
    assert shop.table(SILVER).count() == 2


def test_a_restore_is_planned_before_it_is_done(shop):
    plan = shop.restore(SILVER, version=0)
    assert plan.as_values()["tables"][0]["to"] == 0
    assert shop.table(SILVER).count() == 1
    plan.carry_out()
    assert shop.table(SILVER).count() == 0
    with pytest.raises(ValueError, match="name a table with a version or a moment, or a run alone"):
        shop.restore(SILVER)


def test_a_last_word_that_only_one_table_has_is_enough(lakehouse, tmp_path):
    lakehouse.context.root.lakehouse.table("shop.gold.totals").create({"n": pl.Int64()})
    assert lakehouse.table("totals").name == "shop.gold.totals"
    with pytest.raises(LookupError, match=r"several tables are called 'people': name one of shop\.bronze\.people, shop\.silver\.people"):
        lakehouse.table("people")


def test_a_typing_error_is_told_from_a_table_that_is_not_there_yet(lakehouse):
    with pytest.raises(NoSuchTable, match=r"does not exist yet: `lakehouse run shop\.silver\.people` creates it"):
        lakehouse.table(SILVER).scan()
    with pytest.raises(NoSuchTable, match=r"there is no table 'shop\.silver\.peopel': did you mean shop\.silver\.people\?"):
        lakehouse.table("shop.silver.peopel").scan()


def test_a_root_is_named_by_a_folder_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(tmp_path / "one"))
    assert open_lakehouse().settings.root == tmp_path / "one"
    assert open_lakehouse(tmp_path / "two").settings.root == tmp_path / "two"
    assert open_lakehouse("s3://bucket/prefix").settings.root == "s3://bucket/prefix"
    with pytest.raises(SettingError, match="starts with ftp://"):
        open_lakehouse("ftp://x")


def test_opening_a_lakehouse_writes_nothing(tmp_path):
    assert client_of(tmp_path).tables() == []
    assert list(tmp_path.iterdir()) == []


# --- personal data, through every command

COMMANDS = [
    ["show", SILVER],
    ["show", BRONZE],
    ["show", f"{SILVER}__quarantine"],
    ["show", SILVER, "--version", "1"],
    ["history", SILVER],
    ["history", f"{SILVER}__quarantine"],
    ["quarantine", "show", SILVER],
    ["quarantine", "show", SILVER, "--all", "--limit", "50"],
    ["quarantine"],
    ["quarantine", "replay", SILVER, "--dry-run"],
    ["files"],
    ["files", "rows", "people.csv"],
    ["files", "origin", SILVER],
    ["files", "origin", f"{SILVER}__quarantine"],
    ["files", "origin", BRONZE],
    ["sql", f"select * from {SILVER}"],
    ["sql", f"select * from {BRONZE}"],
    ["sql", f"select * from {SILVER}__quarantine"],
    ["sql", f"select _rescued, _unparsed from {SILVER}__quarantine"],
    ["sql", f"select max(name) as a, min(born) as b from {SILVER}"],
    ["contracts", "show", SILVER],
    ["contracts", "diff"],
    ["status"],
    ["doctor"],
]  # fmt: skip


@pytest.fixture
def call(shop, monkeypatch):
    monkeypatch.setattr("lakehouse_assets.client.open_lakehouse", lambda: client_of(shop.settings.root.parent))

    def call(*words: str) -> Result:
        result = CliRunner().invoke(main, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_no_command_prints_personal_data(call):
    for words in COMMANDS:
        for flags in ([], ["--json"]):
            result = call(*words, *flags)
            assert result.exit_code == 0, result.output
            printed = [secret for secret in SECRETS if secret in result.output]
            assert not printed, (words, flags, printed, result.output)
            if flags:
                json.loads(result.stdout)


def test_a_run_and_its_errors_print_no_personal_data(shop, tmp_path):
    file = tmp_path / "more.csv"
    file.write_text("id,name,mail,born,town\n" + "".join(f"{n},Ada Lovelace,Byron,1788,x\n" for n in range(10, 300)))
    shop.land("people", [file])
    assert "1788" not in str(shop.land("people", [file], dry_run=True))
    outcome = shop.run()
    (failed,) = outcome.failed
    assert "rows break contract Person" in failed.error
    assert not [secret for secret in SECRETS if secret in f"{failed.error} {outcome.warnings}"]


def test_the_owner_sees_personal_data_by_a_setting_and_is_told_so(shop, monkeypatch):
    told = []
    settings = Settings.load({"LAKEHOUSE_ROOT": str(shop.settings.root), "LAKEHOUSE_SHOW_PERSONAL": "owner"})
    opened = open_lakehouse(settings=settings, declarations=(people_feed, people), notice=told.append)
    assert opened.table(SILVER).scan().select("name", "born").collect().rows() == [("Ada Lovelace", 1815)]
    assert opened.quarantine(SILVER).show(rule="readable")["rows"][0]["unparsed"] == {"born": "about 1788"}
    assert told[0].startswith("Personal data is shown (name, mail, born): LAKEHOUSE_SHOW_PERSONAL=owner")


def test_reads_are_in_the_audit_log(shop):
    shop.table(SILVER).scan()
    shop.sql(f"select id from {SILVER}")
    shop.quarantine(SILVER).show()
    lines = [json.loads(line) for path in shop.settings.audit.iterdir() for line in path.read_text().splitlines()]
    assert [(line["what"].partition(":")[0], line["rows"]) for line in lines] == [("scan", None), ("sql", 1), ("quarantine", None)]


def test_names_are_whole_on_a_narrow_terminal(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = call("status").stdout
    assert "…" not in shown


def test_values_are_printed_as_they_are(call):
    shown = call("show", BRONZE).stdout
    for value in ("London [/W1]", "C:\\[/tmp] x", "A:B:C"):
        assert value in shown
    assert "Where [they] live." in call("contracts", "show", SILVER).stdout
