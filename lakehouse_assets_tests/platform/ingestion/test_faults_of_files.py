"""Bad files and bad disks: each has its end and its reason, nothing is lost or half written, and the other files go on.

What the content of a file may do wrong is in `test_door`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.zone import NotListed
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.ingestion.orders import Orders

PROJECT = Path(__file__).parents[3]
NOBODY = 65534


@pytest.fixture
def orders(tmp_path) -> Orders:
    found = Orders.under(tmp_path)
    found.write("good.csv", "1,x", at=1)
    found.write("zzz good too.csv", "2,y", at=2_000_000_000)
    return found


def the_others_went_on(orders: Orders) -> bool:
    return {("1", "x"), ("2", "y")} <= set(orders.rows()) and orders.run() == [] and orders.ingestion.waiting() == 0


# --- links


@pytest.mark.parametrize("target", ["../../outside.csv", "../../outside", "../../nothing.csv"])
def test_a_link_out_of_the_landing_zone_is_refused(orders, target):
    outside = orders.folder.parents[1]
    (outside / "outside.csv").write_text("id,value\n9,secret\n")
    (outside / "outside").mkdir()
    (outside / "outside" / "inner.csv").write_text("id,value\n9,secret\n")
    (orders.folder / "link.csv").symlink_to(target)
    orders.run()
    event, reason = orders.last("link.csv")
    assert event == landing.REFUSED
    assert "symbolic link that leads out" in reason
    assert the_others_went_on(orders)
    assert "secret" not in str(orders.rows())


def test_a_link_to_nothing_is_refused_and_read_once_there_is_something(orders):
    (orders.folder / "link.csv").symlink_to("later/target.csv")
    orders.run()
    assert orders.last("link.csv")[0] == landing.REFUSED
    assert the_others_went_on(orders)
    orders.write("later/target.csv", "3,z")
    orders.run()
    orders.run()
    assert orders.rows().count(("3", "z")) == 1


def test_a_link_within_the_landing_zone_is_read_as_what_it_leads_to(orders):
    orders.write("_hidden/real.csv", "3,z")
    (orders.folder / "link.csv").symlink_to("_hidden/real.csv")
    orders.run()
    assert ("3", "z") in orders.rows()
    assert the_others_went_on(orders)


def test_a_pipe_is_not_waited_for(orders):
    os.mkfifo(orders.folder / "pipe.csv")
    orders.run()
    assert the_others_went_on(orders)


# --- files that move while they are read


def meddle(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[], object], *, after: bool) -> None:
    """Let somebody do `action` once, before or after a method of the ingestion does its work."""
    original = getattr(Ingestion, name)
    done: list[bool] = []

    def meddled(*args: object, **kwargs: object) -> object:
        if not after and not done:
            done.append(True)
            action()
        result = original(*args, **kwargs)
        if after and not done:
            done.append(True)
            action()
        return result

    monkeypatch.setattr(Ingestion, name, meddled)


@pytest.mark.parametrize("place", ["found", "reported"])
def test_a_file_that_grows_while_it_is_read_is_read_by_the_next_run_as_it_is_then(orders, monkeypatch, place):
    path = orders.write("growing.csv", "3,z", at=5)

    def grow() -> None:
        with path.open("a") as file:
            file.write("4,zz\n")

    meddle(monkeypatch, *{"found": ("discover", grow), "reported": ("_report", grow)}[place], after=True)
    orders.run()
    event, reason = orders.last("growing.csv")
    assert event == landing.REFUSED
    assert "the next run reads it" in reason
    assert not {("3", "z"), ("4", "zz")} & set(orders.rows())
    assert orders.ingestion.waiting() == 1
    orders.run()
    assert sorted(orders.rows())[2:] == [("3", "z"), ("4", "zz")]
    assert the_others_went_on(orders)


@pytest.mark.parametrize("place", ["found", "reported"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_that_vanishes_is_refused_and_found_again_when_it_is_back(orders, monkeypatch, place, ending):
    path = orders.folder / f"shy.{ending}"
    frame = pl.DataFrame({"id": ["3"], "value": ["z"]})
    frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
    aside = orders.folder.parent / "aside"
    meddle(monkeypatch, *{"found": ("discover",), "reported": ("_report",)}[place], lambda: path.rename(aside), after=True)
    orders.run()
    event, reason = orders.last(path.name)
    assert event == landing.REFUSED
    assert "Land it again" in reason
    assert the_others_went_on(orders)
    aside.rename(path)  # as it was, to the second
    assert orders.ingestion.waiting() == 1
    orders.run()
    assert ("3", "z") in orders.rows()
    assert the_others_went_on(orders)


def test_a_file_that_is_cut_off_between_the_two_commits_gives_no_rows_at_all(orders, monkeypatch):
    path = orders.folder / "cut.parquet"
    pl.DataFrame({"id": [str(n) for n in range(20_000)], "value": ["z"] * 20_000}).write_parquet(path, row_group_size=1_000)
    content = path.read_bytes()
    meddle(monkeypatch, "_report", lambda: path.write_bytes(content[: len(content) // 2]), after=True)
    orders.run()
    assert orders.ingestion.bronze.count() == 2
    orders.run()
    assert orders.last("cut.parquet")[0] == landing.REFUSED
    assert the_others_went_on(orders)
    path.write_bytes(content)
    orders.run()
    assert orders.ingestion.bronze.count() == 20_002


def test_a_file_that_is_gone_before_it_was_found_leaves_no_trace(orders):
    path = orders.write("gone.csv", "3,z")
    listed = orders.ingestion.zone.files()
    path.unlink()

    class Late(type(orders.ingestion.zone)):  # type: ignore[misc]
        def files(self):
            return listed

    late = replace(orders.ingestion, zone=Late(orders.folder, orders.archive))
    assert [file.path for batch in late.ingest("run") for file in batch] == ["good.csv", "zzz good too.csv"]
    assert orders.events("gone.csv") == []


# --- permission


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """As a user whom permissions bind; what lies in `folder` is this user's."""
    if os.geteuid() != 0:
        yield
        return
    for path in [folder, *folder.rglob("*")]:
        os.lchown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that another user can reach, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


def test_files_that_may_not_be_read_are_refused_each_for_itself_and_read_when_asked_for(orders, reachable):
    orders.run()  # so that everything is imported before this process has fewer rights
    other = Orders.under(reachable)
    for name in ("a.csv", "b.csv"):
        other.write(name, f"{name[0]},x").chmod(0)
    other.write("good.csv", "1,x")
    with nobody(reachable):
        other.run()
        assert other.rows() == [("1", "x")]
        for name in ("a.csv", "b.csv"):
            event, reason = other.last(name)
            assert event == landing.REFUSED
            assert f"lakehouse files retry {name}" in reason
        assert other.run() == []
        (other.folder / "a.csv").chmod(0o644)
        other.ingestion.request_read("a.csv", reread=False, run_id="by hand")
        assert other.run() == [("a.csv", 1)]


def test_a_folder_that_may_not_be_listed_is_refused_and_read_once_it_may(orders, reachable):
    orders.run()
    other = Orders.under(reachable)
    other.write("deep/a.csv", "3,z")
    other.write("good.csv", "1,x")
    with nobody(reachable):
        (other.folder / "deep").chmod(0)
        other.run()
        event, reason = other.last("deep")
        assert event == landing.REFUSED
        assert "allow reading it" in reason
        assert other.rows() == [("1", "x")]
        (other.folder / "deep").chmod(0o755)
        assert other.run() == [("deep/a.csv", 1)]


def test_a_feed_whose_folder_may_not_be_listed_says_so(orders, reachable):
    orders.run()
    other = Orders.under(reachable)
    with nobody(reachable):
        other.folder.chmod(0)
        with pytest.raises(NotListed, match="allow this process to read it"):
            other.ingestion.waiting()


# --- a disk that is full

_INGEST = """
import resource, sys
from pathlib import Path
from lakehouse_assets_tests.platform.ingestion.orders import Orders
orders = Orders.under(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
print(orders.run())
"""
_LAND = """
import resource, sys
from pathlib import Path
from lakehouse_assets_tests.platform.ingestion.orders import Orders
orders = Orders.under(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
orders.ingestion.zone.put(Path(sys.argv[3]), "large.csv")
"""


def without_room(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """A process that may write no file beyond a size: for it the disk is full."""
    return subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, cwd=PROJECT)


def many_rows(name: str = "large.csv") -> list[str]:
    return [f"{name}-{number},{number * 7919}" for number in range(60_000)]


def test_where_bronze_has_no_room_nothing_is_written_and_the_next_run_goes_on(orders, tmp_path):
    orders.write("large.csv", *many_rows(), at=5)
    full = without_room(_INGEST, tmp_path, 100_000)
    assert full.returncode != 0
    assert "File too large" in full.stderr
    assert orders.ingestion.bronze.count() == 0
    orders.run()
    assert orders.ingestion.bronze.count() == 60_002
    assert the_others_went_on(orders)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_where_a_packed_file_cannot_be_unpacked_for_want_of_room_it_is_not_the_files_fault(orders, tmp_path, ending):
    rows = pl.DataFrame({"id": [f"{n}" for n in range(60_000)], "value": ["z"] * 60_000})
    rows.write_csv(orders.folder / f"packed.csv.{ending}", compression={"gz": "gzip", "zst": "zstd"}[ending])
    full = without_room(_INGEST, tmp_path, 300_000)
    assert full.returncode != 0
    assert "the next run continues here" in full.stderr
    assert orders.ingestion.bronze.count() == 0
    orders.run()
    assert orders.ingestion.bronze.count() == 60_002
    assert the_others_went_on(orders)


def test_a_file_for_which_the_landing_zone_has_no_room_lands_not_at_all(orders, tmp_path):
    source = tmp_path / "large.csv"
    source.write_text("\n".join(["id,value", *many_rows()]))
    full = without_room(_LAND, tmp_path, 100_000, source)
    assert full.returncode != 0
    assert "NotLanded" in full.stderr
    assert sorted(path.name for path in orders.folder.iterdir()) == ["good.csv", "zzz good too.csv"]
    assert orders.ingestion.zone.put(source, "large.csv")


# --- names


NAMES = (
    "with space",
    " leading and trailing ",
    "new\nline",
    "tab\tand\rreturn",
    "a..b",
    "dots...",
    "50%",
    "%41%2F",
    "größe-漢字-🎈",
    "e\u0301",
    'it\'s "quoted"',
    "back\\slash",
    "*?[a-z]{x}",
    "-rf",
    "~home",
    "$HOME `id`",
    "#hash;semi&and",
    "a" * 240,
)
ENDINGS = ("csv", "jsonl", "parquet")


@pytest.mark.parametrize(
    ("name", "ending"), sweeps.of([(name, ENDINGS[place % 3]) for place, name in enumerate(NAMES)], [*product(NAMES, ENDINGS)])
)
def test_any_name_is_read_and_found_again_in_bronze(tmp_path, name, ending):
    orders = Orders.under(tmp_path)
    path = orders.folder / f"{name}.{ending}"
    frame = pl.DataFrame({"id": ["3"], "value": ["z"]})
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](path)
    assert orders.run() == [(f"{name}.{ending}", 1)]
    assert orders.rows("_file", "id") == [(f"{name}.{ending}", "3")]
    assert orders.run() == []


def test_a_name_that_is_not_utf8_is_refused_with_the_way_out(orders):
    shutil.copy(orders.folder / "good.csv", Path(os.fsdecode(os.fsencode(orders.folder) + b"/caf\xe9.csv")))
    orders.run()
    (refused,) = [row for row in landing.latest(orders.ingestion.log).to_dicts() if row["event"] == landing.REFUSED]
    assert "not UTF-8: rename it" in refused["reason"]
    assert the_others_went_on(orders)
