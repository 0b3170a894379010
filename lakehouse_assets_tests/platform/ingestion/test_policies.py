"""What a feed may ask for: which files, what becomes of new columns and changed files, batches, the archive, snapshots."""

import gzip
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.ingestion import archive, bronze, landing, opened
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.child import Child
from lakehouse_assets.platform.ingestion.feed import LINEAGE, Feed
from lakehouse_assets.platform.ingestion.landing import RequestRefused
from lakehouse_assets.platform.ingestion.opened import parse_by_policy
from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets_tests.platform.ingestion.orders import Killed, Orders, die_after

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def orders(tmp_path) -> Orders:
    return Orders.under(tmp_path)


# --- which files


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("**", {"a.csv", "a.json", "2026/a.csv", "2026/11/a.csv"}),
        ("*.csv", {"a.csv", "2026/a.csv", "2026/11/a.csv"}),
        ("2026/*.csv", {"2026/a.csv"}),
        ("2026/**", {"2026/a.csv", "2026/11/a.csv"}),
        ("**/11/*", {"2026/11/a.csv"}),
        (("*.json", "2026/a.*"), {"a.json", "2026/a.csv"}),
        ("*.xml", set()),
    ],
)
def test_a_pattern_says_which_files_are_seen(pattern, taken):
    feed = Feed("orders", headers=(), pattern=pattern)
    assert {path for path in ("a.csv", "a.json", "2026/a.csv", "2026/11/a.csv") if feed.takes(path)} == taken


def test_a_file_outside_the_pattern_is_not_seen_and_does_not_wait(tmp_path):
    orders = Orders.under(tmp_path, pattern="*.csv")
    orders.write("notes.txt", "1,x")
    orders.write("a.csv", "1,x")
    assert orders.ingestion.waiting() == 1
    assert orders.run() == [("a.csv", 1)]
    assert orders.events("notes.txt") == []


@pytest.mark.parametrize(
    "wrong",
    [{"new_columns": "drop"}, {"changed": "merge"}, {"batch_files": 0}, {"batch_megabytes": -1}, {"settle_seconds": -1}],
)
def test_a_policy_that_is_none_is_refused_when_it_is_declared(wrong):
    with pytest.raises(ValueError, match=f"feed orders: {next(iter(wrong))}"):
        Feed("orders", headers=(), **wrong)


@pytest.mark.parametrize("content", ["1,Eve,eve@secret.com\n", "Eve,Eve,1\n"], ids=["no header", "no header, a value twice"])
def test_the_refusal_of_a_file_without_a_header_shows_no_personal_data(tmp_path, content):
    file = tmp_path / "a.csv"
    file.write_text(content)
    for personal in ((), ("email",)):
        feed = Feed("people", headers=(("id", "name", "email"),), personal=personal)
        with pytest.raises(RefusedFile, match=r"a\.csv: the header (lacks 'id', 'name', 'email'; it has|names)") as refused:
            parse_by_policy(file, file.name, feed, feed.columns, child=Child(), gain=lambda _: False)
        assert ("Eve" in str(refused.value)) is not bool(personal)
        assert ("not shown: the feed has personal columns" in str(refused.value)) is bool(personal)


def test_columns_with_personal_data_are_named_by_the_feed():
    feed = Feed("customers", headers=(("id", "name"), ("id", "full name")), optional=("email",), personal=("email", "full name"))
    assert feed.personal == frozenset({"email", "full name"})
    assert Feed("orders", headers=()).personal == frozenset()


@pytest.mark.parametrize(
    ("personal", "answer"),
    [(("emial",), "did you mean 'email'"), (("x",), "it has 'id', 'email'"), (("_file",), "it has 'id', 'email'")],
)
def test_a_personal_column_that_no_file_has_is_refused_when_it_is_declared(personal, answer):
    with pytest.raises(ValueError, match=rf"feed customers: personal: .*{answer}"):
        Feed("customers", headers=(("id",),), optional=("email",), personal=personal)


def test_one_name_instead_of_a_tuple_of_them_is_refused():
    with pytest.raises(TypeError, match=r"personal=\('email',\)"):
        Feed("customers", headers=(("id",),), optional=("email",), personal="email")


# --- new columns


def test_evolve_gives_bronze_the_new_columns_and_older_rows_have_null_there(orders):
    orders.write("a.csv", "1,x", at=1)
    orders.run()
    orders.write("b.csv", "2,y,blue", header="id,value,colour", at=2)
    orders.write("c.csv", "3,z", at=3)
    orders.run()
    assert orders.rows("id", "colour", "_rescued") == [("1", None, None), ("2", "blue", None), ("3", None, None)]


def test_two_files_of_one_batch_bring_a_column_each(orders):
    orders.write("a.csv", "1,x,9", header="id,value,weight", at=1)
    orders.write("b.csv", "2,y,blue", header="id,value,colour", at=2)
    assert [len(batch) for batch in orders.ingestion.ingest("run")] == [2]
    assert orders.rows("id", "weight", "colour", "_rescued") == [("1", "9", None, None), ("2", None, "blue", None)]


def test_keys_that_only_some_lines_have_become_columns(orders):
    (orders.folder / "a.jsonl").write_text('{"id": 1, "value": "x"}\n{"id": 2, "value": "y", "gift": {"to": "Ann"}}\n')
    orders.run()
    assert orders.rows("id", "gift", "_rescued") == [("1", None, None), ("2", '{"to":"Ann"}', None)]


def test_names_that_cannot_be_columns_are_rescued(orders):
    orders.write("a.csv", "1,x,mine,2", header="id,value,_file,ID")
    orders.run()
    assert orders.ingestion.bronze.schema().names() == ["id", "value", *LINEAGE]
    assert json.loads(orders.rows("_rescued")[0][0]) == {"_columns": {"_file": "mine", "ID": "2"}}


def test_bronze_gains_no_more_columns_than_it_may_have_and_the_log_says_so(orders, monkeypatch):
    monkeypatch.setattr(opened, "MOST_COLUMNS", 7)
    for number in range(3):
        names = [f"k{number}_{key}" for key in range(3)]
        orders.write(f"{number}.csv", f"{number},x,a,b,c", header=",".join(["id", "value", *names]), at=number + 1)
        orders.run()
    assert orders.ingestion.bronze.schema().names() == ["id", "value", *LINEAGE, *(f"k0_{key}" for key in range(3))]
    assert json.loads(orders.rows("_rescued")[2][0]) == {"_columns": {f"k2_{key}": value for key, value in enumerate("abc")}}
    event, remark = orders.last("2.csv")
    assert event == landing.READ
    assert "3 columns that bronze does not have were rescued ('k2_0', 'k2_1', 'k2_2')" in str(remark)
    assert "it has 5" in str(remark)
    assert "new_columns='rescue'" in str(remark)
    assert orders.last("0.csv") == (landing.READ, "bronze has 3 new columns by this file: 'k0_0', 'k0_1', 'k0_2'")
    assert orders.last("1.csv")[0] == landing.READ


def test_a_file_with_very_many_new_columns_gives_bronze_none_of_them(orders):
    many, few = ([f"c{number}" for number in range(count)] for count in (201, 200))
    orders.write("many.csv", "1,x" + ",y" * 201, header=",".join(["id", "value", *many]))
    orders.run()
    assert orders.ingestion.bronze.schema().names() == ["id", "value", *LINEAGE]
    assert "201 columns that bronze does not have were rescued" in str(orders.last("many.csv")[1])
    orders.write("few.csv", "2,x" + ",y" * 200, header=",".join(["id", "value", *few]))
    orders.run()
    assert len(orders.ingestion.bronze.schema()) == 202 + len(LINEAGE)


def test_rescue_keeps_bronze_as_it_is(orders):
    orders = orders.with_policy(new_columns="rescue")
    orders.write("a.csv", "1,x,blue", header="id,value,colour")
    orders.run()
    assert orders.ingestion.bronze.schema().names() == ["id", "value", *LINEAGE]
    assert json.loads(orders.rows("_rescued")[0][0]) == {"_columns": {"colour": "blue"}}


def test_refuse_names_the_columns_and_what_bronze_gained_before_counts_as_declared(orders):
    orders.write("a.csv", "1,x,blue", header="id,value,colour")
    orders.run()
    orders = orders.with_policy(new_columns="refuse")
    orders.write("b.csv", "2,y,red", header="id,value,colour")
    orders.write("c.csv", "3,z,9", header="id,value,weight")
    orders.run()
    assert orders.rows("id", "colour") == [("1", "blue"), ("2", "red")]
    event, reason = orders.last("c.csv")
    assert event == landing.REFUSED
    assert "'weight'" in reason


def test_a_run_that_died_after_bronze_gained_a_column_is_taken_up(orders, monkeypatch):
    orders.write("a.csv", "1,x,blue", header="id,value,colour")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(type(orders.ingestion.bronze), "add_columns", die_after(type(orders.ingestion.bronze).add_columns))
        orders.run()
    orders.run()
    assert orders.rows("id", "colour") == [("1", "blue")]


def test_a_column_that_is_declared_later_is_added_to_the_table_that_there_is(orders):
    orders.write("a.csv", "1,x")
    orders.run()
    later = orders.with_policy(optional=("note",))
    later.ingestion.create("Orders.")
    later.write("b.csv", "2,y,hm", header="id,value,note")
    later.run()
    assert later.rows("id", "note") == [("1", None), ("2", "hm")]


def test_a_column_that_changes_its_type_keeps_both(orders):
    orders.write("a.csv", "1,7", "2,seven", at=1)
    for at, (name, value) in enumerate({"b": 7, "c": "seven", "d": 7.5}.items(), 2):
        pl.DataFrame({"id": [1], "value": [value]}).write_parquet(orders.folder / f"{name}.parquet")
        os.utime(orders.folder / f"{name}.parquet", (at, at))
    orders.write("e.jsonl").write_text('{"id": 1, "value": 7}\n{"id": 2, "value": {"seven": [7]}}\n{"id": 3, "value": true}\n')
    orders.run()
    texts = ["7", "seven", "7", "seven", "7.5", "7", '{"seven":[7]}', "true"]
    assert [value for (value,) in orders.rows("value")] == texts
    assert [rescued for (rescued,) in orders.rows("_rescued")] == [None] * len(texts)


# --- files that changed after they were read


def test_refuse_leaves_the_rows_and_says_so(orders):
    orders.write("a.csv", "1,x")
    orders.run()
    orders.write("a.csv", "1,x", "2,y")
    assert orders.run() == []
    assert orders.rows() == [("1", "x")]
    event, reason = orders.last("a.csv")
    assert event == landing.CHANGED
    assert "lakehouse files reread a.csv" in reason


def test_reread_puts_the_new_rows_in_the_place_of_the_old_ones_in_one_commit(orders):
    orders = orders.with_policy(changed="reread")
    orders.write("a.csv", "1,x", "2,y")
    orders.write("b.csv", "8,b")
    orders.run()
    before = orders.ingestion.bronze.version()
    orders.write("a.csv", "2,z", "3,c", "4,d")
    assert orders.run() == [("a.csv", 3)]
    assert orders.ingestion.bronze.version() == before + 1
    assert sorted(orders.rows()) == [("2", "z"), ("3", "c"), ("4", "d"), ("8", "b")]
    assert orders.ingestion.waiting() == 0
    info = orders.ingestion.bronze.history(1)[0]["info"]
    assert json.loads(info["replaced"]) == {"file": "a.csv", "sequence": 1, "rows": 2}
    assert json.loads(info["account"])["written"] == 3


def test_a_file_may_be_reread_time_and_again_and_back_to_what_it_was(orders):
    orders = orders.with_policy(changed="reread")
    for content in ("x", "y", "x", "z", "x"):
        orders.write("a.csv", f"1,{content}")
        orders.run()
        assert orders.rows() == [("1", content)]


def test_a_file_whose_new_content_cannot_be_read_keeps_its_rows_until_it_is_mended(orders):
    orders = orders.with_policy(changed="reread")
    orders.write("a.csv", "1,x")
    orders.run()
    (orders.folder / "a.csv").write_bytes(b"")
    orders.run()
    assert orders.rows() == [("1", "x")]
    assert orders.last("a.csv")[0] == landing.REFUSED
    orders.write("a.csv", "1,y")
    orders.run()
    assert orders.rows() == [("1", "y")]


def test_rereading_touches_no_other_file_whatever_its_name_is(orders):
    orders = orders.with_policy(changed="reread")
    names = ["it's.csv", 'say "hi".csv', "50%.csv", "a\nb.csv", "back\\slash.csv", "größe.csv", "a;--.csv", "it''s.csv"]
    for number, name in enumerate(names):
        orders.write(name, f"{number},old")
    orders.run()
    for number, name in enumerate(names):
        orders.write(name, f"{number},new", "99,more")
        orders.run()
        others = sorted((str(n), "new" if n <= number else "old") for n in range(len(names)))
        assert sorted(row for row in orders.rows() if row[0] != "99") == others, name


def test_a_reread_takes_away_and_brings_the_rows_of_its_file_and_rewrites_no_other(orders):
    orders = orders.with_policy(changed="reread")
    orders.write("a.csv", "1,x", "2,y", at=1)
    orders.write("b.csv", "8,b", "9,b", at=2)
    orders.run()
    before = set(orders.ingestion.bronze.delta().file_uris())
    orders.write("c.csv", "5,c")
    orders.run()
    (other,) = set(orders.ingestion.bronze.delta().file_uris()) - before
    orders.write("a.csv", "2,z", "3,q", "4,r")
    orders.run()
    assert other in orders.ingestion.bronze.delta().file_uris()
    version = orders.ingestion.bronze.version()
    changes = pl.DataFrame(orders.ingestion.bronze.delta().load_cdf(starting_version=version, ending_version=version))
    assert sorted(changes.select("_change_type", "_file", "_sequence", "id", "value").rows()) == [
        ("delete", "a.csv", 1, "1", "x"),
        ("delete", "a.csv", 1, "2", "y"),
        ("insert", "a.csv", 4, "2", "z"),
        ("insert", "a.csv", 4, "3", "q"),
        ("insert", "a.csv", 4, "4", "r"),
    ]


_REREAD = """
import sys
from pathlib import Path
from lakehouse_assets_tests.platform.ingestion.orders import Orders

def peak():
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024

orders = Orders.under(Path(sys.argv[1]))
orders.ingestion.request_read("small.csv", reread=True, run_id="by hand")
before = peak()
assert orders.run() == [("small.csv", 1)]
print(peak() - before)
"""


def test_a_reread_of_one_file_does_not_hold_the_table_in_memory(orders, tmp_path):
    rows = 3_000_000
    ids = pl.int_range(rows, eager=True)
    frame = pl.DataFrame({"id": ids.cast(pl.String), "value": (ids * 7919 % 1_000_003).cast(pl.String) + "-" * 60})
    frame.write_csv(orders.folder / "large.csv")
    orders.write("small.csv", "1,x")
    orders.run()
    orders.ingestion.bronze.delta().optimize.compact(target_size=10**9)
    assert len(orders.ingestion.bronze.delta().file_uris()) == 1
    done = subprocess.run([sys.executable, "-c", _REREAD, str(tmp_path)], capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    # The rows of bronze, with their lineage, have twice the size of the frame.
    assert int(done.stdout) < frame.estimated_size("mb"), "megabytes"
    assert orders.ingestion.bronze.count() == rows + 1


def test_what_was_replaced_counts_as_unread_again(orders):
    orders = orders.with_policy(changed="reread")
    orders.write("a.csv", "1,x")
    orders.write("copy.csv", "1,x")
    orders.run()
    assert orders.last("copy.csv")[0] == landing.DUPLICATE
    orders.write("a.csv", "1,y")
    orders.run()
    orders.run()
    assert sorted(orders.rows()) == [("1", "x"), ("1", "y")]


def test_ignore_notes_each_content_once(orders):
    orders = orders.with_policy(changed="ignore")
    path = orders.write("a.csv", "1,x")
    orders.run()
    orders.write("a.csv", "1,y", "2,y")
    orders.run()
    os.utime(path, (5, 5))
    orders.run()
    assert orders.run() == []
    assert orders.rows() == [("1", "x")]
    assert orders.events("a.csv").count(landing.IGNORED) == 1
    assert orders.ingestion.waiting() == 0


def test_a_reread_that_died_between_its_commits_is_taken_up(orders, monkeypatch):
    orders = orders.with_policy(changed="reread")
    orders.write("a.csv", "1,x")
    orders.run()
    orders.write("a.csv", "1,y", "2,z")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Ingestion, "_report", die_after(Ingestion._report))
        orders.run()
    assert orders.rows() == [("1", "x")]
    orders.run()
    assert orders.rows() == [("1", "y"), ("2", "z")]
    assert orders.run() == []


# --- by hand


def test_a_refused_file_is_tried_again_when_it_is_asked_for_and_exactly_once(orders):
    orders = orders.with_policy(new_columns="refuse")
    orders.write("a.csv", "1,x,blue", header="id,value,colour")
    orders.run()
    assert orders.run() == []
    again = orders.with_policy(new_columns="rescue")
    assert again.ingestion.request_read("a.csv", reread=False, run_id="by hand") == landing.FOUND
    assert again.ingestion.waiting() == 1
    assert again.run() == [("a.csv", 1)]
    assert again.run() == []
    assert again.rows() == [("1", "x")]


def test_a_file_is_reread_when_it_is_asked_for_whatever_the_policy(orders):
    orders.write("a.csv", "1,x", "2,y")
    orders.run()
    orders.write("a.csv", "2,z", "3,zz")
    orders.run()
    assert orders.last("a.csv")[0] == landing.CHANGED
    assert orders.ingestion.request_read("a.csv", reread=True, run_id="by hand") == landing.REREAD
    assert orders.run() == [("a.csv", 2)]
    assert orders.run() == []
    assert orders.rows() == [("2", "z"), ("3", "zz")]
    assert orders.last("a.csv")[0] == landing.READ


def test_a_file_that_was_touched_after_it_was_asked_for_is_still_reread_once(orders):
    path = orders.write("a.csv", "1,x")
    orders.run()
    orders.ingestion.request_read("a.csv", reread=True, run_id="by hand")
    os.utime(path, (7, 7))
    assert [rows for _, rows in orders.run()] == [1]
    assert orders.rows() == [("1", "x")]


def test_what_cannot_be_asked_for_is_answered_with_what_to_do(orders):
    orders.write("a.csv", "1,x")
    with pytest.raises(RequestRefused, match="never found"):
        orders.ingestion.request_read("a.csv", reread=True, run_id="by hand")
    orders.ingestion.discover("run")
    with pytest.raises(RequestRefused, match="pending"):
        orders.ingestion.request_read("a.csv", reread=True, run_id="by hand")
    orders.run()
    with pytest.raises(RequestRefused, match="was not refused"):
        orders.ingestion.request_read("a.csv", reread=False, run_id="by hand")
    (orders.folder / "a.csv").unlink()
    with pytest.raises(RequestRefused, match="land it again"):
        orders.ingestion.request_read("a.csv", reread=True, run_id="by hand")


# --- batches


def test_a_batch_is_bounded_by_files_and_bytes_oldest_first(orders):
    for number in range(7):
        orders.write(f"{9 - number}.csv", f"{number},{'x' * 100}", at=number + 1)
    few = orders.with_policy(batch_files=3)
    assert [[file.path for file in batch] for batch in few.ingestion.ingest("run")] == [
        ["9.csv", "8.csv", "7.csv"],
        ["6.csv", "5.csv", "4.csv"],
        ["3.csv"],
    ]
    assert [number for (number,) in orders.rows("id")] == [str(number) for number in range(7)]


def test_the_feeds_own_limit_counts_before_that_of_the_settings(orders):
    for number in range(4):
        orders.write(f"{number}.csv", *(f"{number},{'x' * 1000}" for _ in range(600)), at=number + 1)
    large = replace(orders.ingestion, batch_bytes=1)
    assert [len(batch) for batch in replace(large, feed=replace(large.feed, batch_megabytes=2)).ingest("run")] == [3, 1]


@pytest.mark.parametrize("ending", ["csv.gz", "csv.zst", "parquet", "xlsx"])
def test_a_batch_counts_the_text_of_a_packed_file_and_not_its_size(orders, ending):
    for number in range(4):
        path = orders.folder / f"{number}.{ending}"
        frame = pl.DataFrame({"id": [str(number)] * 3000, "value": ["the same"] * 3000})
        match ending:
            case "csv.gz" | "csv.zst":
                frame.write_csv(path, compression={"gz": "gzip", "zst": "zstd"}[ending[4:]])
            case "parquet":
                frame.write_parquet(path)
            case _:
                frame.write_excel(path)
        os.utime(path, (number + 1, number + 1))
    size = (orders.folder / f"0.{ending}").stat().st_size
    # Twice as much as two of them have on disk, and two of them have as text.
    two = replace(orders.ingestion, batch_bytes=20 * size + size // 2)
    assert [len(batch) for batch in two.ingest("run")] == [2, 2]


def test_the_format_of_a_feed_says_what_is_packed_whatever_the_names_say(orders):
    orders = orders.with_policy(format="parquet")
    for number in range(4):
        pl.DataFrame({"id": [str(number)], "value": ["x"]}).write_parquet(orders.folder / f"{number}.dat")
    size = (orders.folder / "0.dat").stat().st_size
    assert [len(batch) for batch in replace(orders.ingestion, batch_bytes=10 * size).ingest("run")] == [1, 1, 1, 1]


_FEW_OPEN_FILES = """
import os, resource, sys
from pathlib import Path
from lakehouse_assets_tests.platform.ingestion.orders import Orders
orders = Orders.under(Path(sys.argv[1]))
most = len(os.listdir("/proc/self/fd")) + 40
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
print(len(orders.run()), orders.ingestion.bronze.count())
"""


def test_a_batch_of_many_files_keeps_few_of_them_open(orders, tmp_path):
    for number in range(100):
        orders.write(f"{number}.csv", f"{number},x")
        (orders.folder / f"{number}.csv.gz").write_bytes(gzip.compress(f"id,value\n{number},packed\n".encode()))
        (orders.folder / f"{number}.jsonl").write_text(f'{{"id": "{number}", "value": "y"}}\n')
    command = [sys.executable, "-c", _FEW_OPEN_FILES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.stdout.split() == ["300", "300"], done.stderr


@settings(max_examples=8, deadline=None)
@given(
    files=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    reread=st.integers(0, 5),
    batch_files=st.integers(1, 4),
)
def test_every_row_is_in_bronze_once_however_it_is_batched(tmp_path_factory, files, reread, batch_files):
    orders = Orders.under(tmp_path_factory.mktemp("batches"), batch_files=batch_files, changed="reread")
    content = {}
    for number, rows in enumerate(files):
        content[f"{number}.csv"] = [f"{number}-{row}" for row in range(rows)]
        orders.write(f"{number}.csv", *(f"{name},v{number}" for name in content[f"{number}.csv"]), at=number + 1)
    orders.run()
    changed = f"{reread % len(files)}.csv"
    content[changed] = [*content[changed], "new"]
    orders.write(changed, *(f"{name},w" for name in content[changed]), at=99)
    orders.run()
    assert sorted(orders.rows("_file", "id")) == sorted((name, row) for name, rows in content.items() for row in rows)


# --- archive


def archived(orders: Orders) -> dict[str, str]:
    return {path.relative_to(orders.archive).as_posix(): path.read_text() for path in sorted(orders.archive.rglob("*.*"))}


def test_files_that_were_read_move_to_the_archive_under_their_path(orders):
    orders = orders.with_policy(archive=True)
    orders.write("2026/11/a.csv", "1,x")
    (orders.folder / "bad.csv").write_bytes(b"")
    assert orders.run() == [("2026/11/a.csv", 1), ("bad.csv", 0)]
    assert archived(orders) == {"2026/11/a.csv": "id,value\n1,x\n"}
    assert [path.name for path in orders.folder.rglob("*.csv")] == ["bad.csv"]
    assert orders.rows("_file", "id") == [("2026/11/a.csv", "1")]
    assert orders.run() == []
    assert orders.last("2026/11/a.csv")[0] == landing.ARCHIVED


def test_another_file_under_an_archived_name_is_new_and_overwrites_nothing(orders):
    orders = orders.with_policy(archive=True)
    for value in "xyz":
        orders.write("a.csv", f"1,{value}")
        orders.run()
    assert orders.rows() == [("1", "x"), ("1", "y"), ("1", "z")]
    assert sorted(archived(orders).values()) == ["id,value\n1,x\n", "id,value\n1,y\n", "id,value\n1,z\n"]
    assert "a.csv" in archived(orders)


def test_the_same_content_under_an_archived_name_is_not_read_twice(orders):
    orders = orders.with_policy(archive=True)
    for _ in range(2):
        orders.write("a.csv", "1,x")
        orders.run()
    assert orders.rows() == [("1", "x")]


def test_a_file_that_somebody_put_into_the_archive_is_not_overwritten(orders):
    orders = orders.with_policy(archive=True)
    orders.archive.mkdir(parents=True)
    (orders.archive / "a.csv").write_text("mine")
    orders.write("a.csv", "1,x")
    orders.run()
    assert archived(orders) == {"a.1.csv": "id,value\n1,x\n", "a.csv": "mine"}


@pytest.mark.parametrize("place", ["bronze", "log", "move"])
def test_a_move_that_a_death_prevented_is_made_by_the_next_run(orders, monkeypatch, place):
    orders = orders.with_policy(archive=True)
    orders.write("a.csv", "1,x", at=1)
    orders.write("b.csv", "2,y", at=2)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if place == "bronze":
            patch.setattr(bronze, "append_stream", die_after(bronze.append_stream))
        elif place == "log":
            patch.setattr(archive.landing, "record", _die_at_the_archive(archive.landing.record))
        else:
            patch.setattr(type(orders.ingestion.zone), "archive", die_after(type(orders.ingestion.zone).archive))
        orders.run()
    orders.run()
    assert set(archived(orders)) == {"a.csv", "b.csv"}
    assert orders.rows() == [("1", "x"), ("2", "y")]
    assert orders.events("a.csv").count(landing.ARCHIVED) == 1


def _die_at_the_archive(record):
    def recorded(log, feed, outcomes, *args):
        outcomes = list(outcomes)
        record(log, feed, outcomes, *args)
        if any(outcome["event"] == landing.ARCHIVED for outcome in outcomes):
            raise Killed

    return recorded


def test_a_file_that_changed_after_it_was_read_stays_where_it_is(orders):
    orders.write("a.csv", "1,x")
    orders.run()
    orders.write("a.csv", "1,y", "2,z")
    orders.with_policy(archive=True).run()
    assert archived(orders) == {}
    assert (orders.folder / "a.csv").exists()


def test_an_archive_that_cannot_be_written_is_said_and_tried_again(orders):
    orders = orders.with_policy(archive=True)
    orders.archive.parent.mkdir(parents=True)
    orders.archive.write_text("in the way")
    orders.write("a.csv", "1,x")
    stuck = list(orders.ingestion.ingest("run"))[-1][0]
    assert "cannot be moved to the archive" in stuck.refused
    orders.archive.unlink()
    orders.run()
    assert set(archived(orders)) == {"a.csv"}
    assert orders.rows() == [("1", "x")]


def test_an_archived_file_that_is_landed_again_can_be_reread(orders):
    orders = orders.with_policy(archive=True)
    orders.write("a.csv", "1,x")
    orders.run()
    orders.write("a.csv", "1,x")
    orders.ingestion.request_read("a.csv", reread=True, run_id="by hand")
    assert orders.run() == [("a.csv", 1)]
    assert orders.rows() == [("1", "x")]


# --- snapshots


def test_a_snapshot_without_rows_is_refused(orders):
    orders = orders.with_policy(snapshot=True)
    orders.write("a.csv")
    orders.run()
    event, reason = orders.last("a.csv")
    assert event == landing.REFUSED
    assert "snapshot" in reason


def test_a_snapshot_that_says_again_what_an_older_one_said_is_read(orders):
    orders = orders.with_policy(snapshot=True)
    for at, value in enumerate("xyyx"):
        orders.write(f"{at}.csv", f"1,{value}", at=at + 1)
        orders.run()
    assert orders.rows("_file", "value") == [("0.csv", "x"), ("1.csv", "y"), ("3.csv", "x")]
    assert orders.last("2.csv")[0] == landing.DUPLICATE


def test_snapshots_of_one_look_are_compared_with_the_one_before(orders):
    orders = orders.with_policy(snapshot=True)
    for at, value in enumerate("xyyx"):
        orders.write(f"{at}.csv", f"1,{value}", at=at + 1)
    orders.run()
    assert orders.rows("_file", "value") == [("0.csv", "x"), ("1.csv", "y"), ("3.csv", "x")]


# --- several runs at once


@pytest.mark.parametrize("policy", [{}, {"archive": True}, {"changed": "reread", "batch_files": 2}])
def test_runs_at_once_give_one_result(tmp_path, policy):
    orders = Orders.under(tmp_path, **policy)
    for number in range(6):
        orders.write(f"{number}.csv", f"{number},x", at=number + 1)
    if "changed" in policy:
        orders.run()
        for number in range(0, 6, 2):
            orders.write(f"{number}.csv", f"{number},y", f"{number},z", at=99)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(orders.run) for _ in range(4)]:
            done.result()
    once = [(str(number), "x") for number in range(6)]
    changed = [(str(number), value) for number in range(6) for value in (("y", "z") if number % 2 == 0 else ("x",))]
    assert sorted(orders.rows()) == (changed if "changed" in policy else once)
    assert orders.ingestion.waiting() == 0
    if "archive" in policy:
        assert set(archived(orders)) == {f"{number}.csv" for number in range(6)}
        assert {orders.last(f"{number}.csv")[0] for number in range(6)} == {landing.ARCHIVED}
    assert orders.run() == []


# --- whatever happens in whatever order

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from("ab"), st.integers(1, 3)),
        st.tuples(st.just("touch"), st.sampled_from("ab"), st.just(0)),
        st.tuples(st.just("away"), st.sampled_from("ab"), st.just(0)),
        st.tuples(st.just("run"), st.sampled_from(["", "discover", "_report", "append_stream"]), st.just(0)),
    ),
    min_size=3,
    max_size=10,
)


@settings(max_examples=25, deadline=None)
@given(steps=_STEPS)
def test_bronze_holds_what_the_files_say_whatever_happened_before(tmp_path_factory, steps):
    orders = Orders.under(tmp_path_factory.mktemp("steps"), changed="reread")
    aside = orders.folder.parent / "aside"
    aside.mkdir()
    for at, (step, what, version) in enumerate(steps, 1):
        path = orders.folder / f"{what}.csv"
        if step == "run":
            _run_and_die(orders, what)
        elif step == "write" and not (aside / path.name).exists():
            orders.write(path.name, *(f"{what}{version},{row}" for row in range(version)), at=at)
        elif path.exists():
            os.utime(path, (at, at)) if step == "touch" else path.rename(aside / path.name)
        elif step == "away" and (aside / path.name).exists():
            (aside / path.name).rename(path)
    for path in aside.iterdir():
        path.rename(orders.folder / path.name)
    for _ in range(3):  # what a run found in the way is read by the next one
        orders.run()
    said = sorted(tuple(line.split(",")) for path in orders.folder.glob("*.csv") for line in path.read_text().splitlines()[1:])
    assert sorted(orders.rows()) == said
    assert orders.ingestion.waiting() == 0
    assert orders.run() == []


def _run_and_die(orders: Orders, place: str) -> None:
    owner = bronze if place == "append_stream" else Ingestion
    with pytest.MonkeyPatch.context() as patch:
        if place:
            patch.setattr(owner, place, die_after(getattr(owner, place)))
        with suppress(Killed):
            orders.run()
