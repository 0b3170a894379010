"""The reader: personal data is masked wherever rows are read, and each read leaves a line."""

import contextlib
import dataclasses
import json
import os
from datetime import UTC, date, datetime

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.computed_kinds import ByKey
from lakehouse_assets.platform.declarations.feeds import feed
from lakehouse_assets.platform.declarations.row_kinds import Upsert
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.governance.audit import AuditLog, Read
from lakehouse_assets.platform.governance.policy import Policy, load_policy, policy_of
from lakehouse_assets.platform.governance.principal import OWNER, Principal, this_user
from lakehouse_assets.platform.governance.reader import Notices, Reader
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.quality.masking import MASK, RESCUED, UNPARSED, Personal
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

BRONZE, SILVER, GOLD = "shop.bronze.people", "shop.silver.people", "shop.gold.towns"
QUARANTINE = f"{SILVER}__quarantine"


class Person(Contract):
    """A person."""

    id: int = column(key=True)
    name: str = column(personal=True)
    born: date = column(personal=True, nullable=True)
    town: str


class Town(Contract):
    """How many live there."""

    town: str = column(key=True)
    people: int


@table(SILVER, contract=Person, kind=Upsert(("id",)), inputs={"rows": BRONZE})
def people(rows: pl.LazyFrame) -> pl.LazyFrame:
    """People."""
    return rows


@table(GOLD, contract=Town, kind=ByKey("town"), inputs={"rows": SILVER})
def towns(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Towns."""
    return rows


class MarkedFeed(Feed):
    """A feed that marks its personal columns."""

    personal = frozenset({"Full Name"})


HEADERS = (("id", "Full Name", "town"),)
PLAIN, MARKED = (feed(BRONZE, kind("people", headers=HEADERS), "People.") for kind in (Feed, MarkedFeed))


@pytest.fixture
def lakehouse(tmp_path) -> Lakehouse:
    lakehouse = Lakehouse(str(tmp_path / "tables"))
    person = {"id": 1, "name": "Ada", "born": date(1815, 12, 10), "town": "London"}
    nobody = {"id": 2, "name": None, "born": None, "town": "Paris"}
    bad = {
        **person,
        UNPARSED: json.dumps({"born": "Dec 1815", "id": "x1", "note": "Ada's"}),
        RESCUED: '{"tel": "0"}',
        "_broken": ["readable"],
    }
    rows = {
        BRONZE: [{"id": "1", "Full Name": "Ada", "town": "London", "gained": "Ada!", "_file": "a.csv", RESCUED: '{"tel": "0"}'}],
        SILVER: [person, nobody],
        GOLD: [{"town": "London", "people": 1}],
        QUARANTINE: [bad],
    }
    for name, content in rows.items():
        frame = pl.DataFrame(content)
        lakehouse.table(name).create(frame.schema)
        lakehouse.table(name).append(frame)
    return lakehouse


@pytest.fixture
def told() -> list[str]:
    return []


def reader(lakehouse: Lakehouse, told: list[str], *, sees: bool = False, bronze=PLAIN) -> Reader:
    policy = policy_of([bronze, people, towns])
    folder = AuditLog(_audit(lakehouse), told.append)
    return Reader(lakehouse, lambda: policy, Principal("ann", sees_personal=sees), folder, Notices(told.append))


def _audit(lakehouse: Lakehouse):
    from pathlib import Path

    return Path(lakehouse.root).parent / "audit"


def lines(lakehouse: Lakehouse) -> list[dict]:
    return [json.loads(line) for path in sorted(_audit(lakehouse).iterdir()) for line in path.read_text().splitlines()]


def test_personal_columns_of_a_contract_are_masked_and_nulls_stay_nulls(lakehouse, told):
    rows = reader(lakehouse, told).scan(SILVER).sort("id").collect().to_dicts()
    assert rows == [
        {"id": 1, "name": MASK, "born": None, "town": "London"},
        {"id": 2, "name": None, "born": None, "town": "Paris"},
    ]
    assert reader(lakehouse, told).scan(SILVER).collect_schema() == lakehouse.table(SILVER).schema()


def test_a_filter_sees_the_mask_and_not_the_value(lakehouse, told):
    rows = reader(lakehouse, told).scan(SILVER)
    assert rows.filter(pl.col("name") == "Ada").collect().height == 0
    assert rows.filter(pl.col("born").is_not_null()).collect().height == 0
    assert rows.filter(pl.col("name") == MASK).select("id").collect().rows() == [(1,)]


def test_a_table_without_personal_columns_is_shown_as_it_is(lakehouse, told):
    assert reader(lakehouse, told).scan(GOLD).collect().rows() == [("London", 1)]
    assert told == []


def test_bronze_is_masked_as_its_feed_and_its_readers_say():
    marked = feed(BRONZE, Feed("people", headers=(("id", "Full Name", "name", "town"),), personal=("Full Name",)), "People.")
    personal = policy_of([marked, people, towns]).of(BRONZE)
    assert [name for name in ("id", "Full Name", "name", "born", "town", "gained") if personal.hides(name)] == [
        "Full Name",
        "name",
        "born",
        "gained",
    ]


def test_bronze_is_masked_as_its_feed_says(lakehouse, told):
    (row,) = reader(lakehouse, told, bronze=MARKED).scan(BRONZE).collect().to_dicts()
    assert row == {"id": "1", "Full Name": MASK, "town": "London", "gained": MASK, "_file": "a.csv", RESCUED: MASK}


def test_of_a_feed_that_marks_nothing_only_the_open_columns_of_its_readers_are_shown(lakehouse, told):
    (row,) = reader(lakehouse, told).scan(BRONZE).collect().to_dicts()
    assert (row["id"], row["town"], row["Full Name"], row["gained"]) == ("1", "London", MASK, MASK)


def test_a_quarantine_is_masked_down_to_the_keys_of_its_json_columns(lakehouse, told):
    (row,) = reader(lakehouse, told).scan(QUARANTINE).collect().to_dicts()
    assert (row["name"], row["born"], row["id"], row[RESCUED], row["_broken"]) == (MASK, None, 1, MASK, ["readable"])
    assert json.loads(row[UNPARSED]) == {"born": MASK, "id": "x1", "note": MASK}


def test_the_source_of_a_rejected_row_is_masked_as_its_feed_says(lakehouse, told):
    source = pl.struct(pl.lit("1").alias("id"), pl.lit("Ada").alias("Full Name"), pl.lit("{}").alias(RESCUED), pl.lit("f").alias("_file"))
    rows = lakehouse.table(QUARANTINE).scan().with_columns(source.alias("source"))
    for bronze in (PLAIN, MARKED):
        view = reader(lakehouse, told, bronze=bronze).view(rows, QUARANTINE, "quarantine")
        assert view.collect()["source"].to_list() == [{"id": "1", "Full Name": MASK, RESCUED: MASK, "_file": "f"}]


def test_a_text_that_is_no_json_is_masked_whole():
    personal = Personal(frozenset({"name"}), frozenset({"id"}))
    for text in ("not json", '["Ada"]', '"Ada"'):
        assert personal.masked_row({UNPARSED: text}) == {UNPARSED: MASK}


def test_the_owner_who_asks_for_it_sees_personal_data_and_is_told_so_once(lakehouse, told):
    asked = reader(lakehouse, told, sees=True)
    for _ in range(2):
        assert asked.scan(SILVER).sort("id").collect()["name"].to_list() == ["Ada", None]
    (text,) = told
    assert text.startswith("Personal data is shown (name, born)")


def test_whoever_reads_a_mask_is_told_how_the_owner_sees_the_value(lakehouse, told):
    asked = reader(lakehouse, told)
    asked.scan(SILVER)
    asked.scan(SILVER)
    (text,) = told
    assert "LAKEHOUSE_SHOW_PERSONAL=owner" in text


def test_a_table_that_nobody_declares_any_more_is_masked_as_its_last_contract_says(lakehouse, told):
    contracts.record(people, lakehouse, "run")
    asked = Reader(lakehouse, Policy, Principal("ann"), AuditLog(_audit(lakehouse), told.append), Notices(told.append))
    assert asked.scan(SILVER).sort("id").collect()["name"].to_list() == [MASK, None]
    assert asked.scan(QUARANTINE).collect()["name"].to_list() == [MASK]


# --- audit


def test_a_read_leaves_a_line(lakehouse, told):
    reader(lakehouse, told).scan(SILVER)
    (line,) = lines(lakehouse)
    assert datetime.fromisoformat(line.pop("at")).tzinfo == UTC
    assert line == {
        "principal": "ann",
        "what": "scan",
        "tables": [f"{SILVER}@1"],
        "columns": ["id", "name", "born", "town"],
        "masked": ["name", "born"],
        "unmasked": [],
        "rows": None,
    }
    reader(lakehouse, told, sees=True).scan(SILVER, version=0)
    assert (lines(lakehouse)[1]["tables"], lines(lakehouse)[1]["unmasked"]) == ([f"{SILVER}@0"], ["name", "born"])


@pytest.mark.parametrize("error", [None, ValueError("no such monitor"), KeyboardInterrupt()])
def test_an_answer_in_sentences_is_one_read_also_if_it_ends_with_an_error(lakehouse, told, error):
    def answers() -> None:
        with reader(lakehouse, told).opened("why") as tables:
            tables.table(SILVER).scan().collect()
            if error is not None:
                raise error

    with contextlib.nullcontext() if error is None else pytest.raises(type(error)):
        answers()
    (line,) = lines(lakehouse)
    assert (line["what"], line["tables"]) == (("why", [f"{SILVER}@1"]) if error is None else ("failed: why", [SILVER]))


def test_the_audit_log_is_for_its_owner_alone(lakehouse, told):
    reader(lakehouse, told).scan(SILVER)
    (path,) = _audit(lakehouse).iterdir()
    assert path.stat().st_mode & 0o077 == 0


def test_a_read_goes_on_where_no_line_can_be_written(lakehouse, told):
    _audit(lakehouse).write_text("a file where the folder should be")
    assert reader(lakehouse, told).scan(GOLD).collect().height == 1
    assert "cannot be written" in told[0]


def test_lines_of_many_processes_do_not_mix(tmp_path):
    children = []
    for number in range(4):
        if not (child := os.fork()):
            log = AuditLog(tmp_path / "audit", lambda _: os._exit(1))
            for _ in range(50):
                log.add(Read(f"process {number}", "x" * 500, (), (), ()))
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    (path,) = (tmp_path / "audit").iterdir()
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 200


# --- who reads


def test_the_owner_of_a_root_sees_personal_data_only_if_the_setting_says_so(tmp_path):
    assert not this_user(str(tmp_path), "never").sees_personal
    assert this_user(str(tmp_path), OWNER).sees_personal
    assert not this_user("s3://bucket/root", OWNER).sees_personal


def test_a_root_of_somebody_else_stays_masked():
    if os.getuid() == 0:
        os.setresuid(65534, 65534, 0)
    try:
        found = this_user("/", OWNER)
    finally:
        if os.getresuid()[2] == 0:
            os.setresuid(0, 0, 0)
    assert (found.sees_personal, found.why) == (False, "/ belongs to another user")


# --- the cached policy


def test_a_policy_is_made_again_when_the_code_changes_and_only_then(tmp_path):
    code, cache = tmp_path / "code.py", tmp_path / "cache" / "policy.json"
    code.write_text("1")
    made = []

    def declarations():
        made.append(code.read_text())
        return [MARKED, people, towns]

    first = load_policy(cache, [code], declarations)
    assert load_policy(cache, [code], declarations) == first
    assert made == ["1"]
    assert (first.feeds(), first.of(SILVER).columns) == ({"people": BRONZE}, {"name", "born"})
    code.write_text("2")
    load_policy(cache, [code], declarations)
    assert made == ["1", "2"]


def test_nothing_is_less_personal_than_it_was_while_a_product_is_broken(tmp_path):
    """What a recipe copied may be personal by a table of that product."""
    code, cache = tmp_path / "code.py", tmp_path / "policy.json"
    code.write_text("1")
    load_policy(cache, [code], lambda: [people])
    code.write_text("2")

    class Plain(Contract):
        id: int = column(key=True)
        name: str
        born: date = column(nullable=True)
        town: str

    plain = dataclasses.replace(people, contract=Plain)
    assert load_policy(cache, [code], lambda: [plain], is_whole=lambda: False).of(SILVER).columns == {"name", "born"}
    assert load_policy(cache, [code], lambda: [plain]).of(SILVER).columns == frozenset()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"code": 1}', "null"])
def test_a_cache_that_cannot_be_read_is_made_again(tmp_path, content):
    cache = tmp_path / "policy.json"
    cache.write_text(content)
    assert load_policy(cache, [], lambda: [people]).of(SILVER) == policy_of([people]).of(SILVER)
    assert json.loads(cache.read_text())["tables"]


def test_a_policy_is_there_where_nothing_can_be_cached(tmp_path):
    (tmp_path / "file").write_text("")
    assert load_policy(tmp_path / "file" / "policy.json", [], lambda: [people]).of(SILVER).columns == {"name", "born"}
