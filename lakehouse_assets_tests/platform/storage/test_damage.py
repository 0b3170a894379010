"""What a power failure leaves of a table's last commits is found, and the table goes back to the last version that is intact."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.storage import damage, table_cache
from lakehouse_assets.platform.storage.errors import TableDamaged
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

LAST = 12
CHECKPOINT = "00000000000000000009.checkpoint.parquet"


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A table with a row a version from 1 on, and a checkpoint."""
    root = tmp_path_factory.mktemp("damage") / "tables"
    table = Lakehouse(str(root)).table("a.b.c")
    table.create({"x": pl.Int64})
    for number in range(1, LAST + 1):
        table.append(pl.DataFrame({"x": [number]}))
    assert (Path(table.uri) / "_delta_log" / CHECKPOINT).exists()
    return root


@pytest.fixture
def table(template, tmp_path):
    table_cache.clear()
    return Lakehouse(str(shutil.copytree(template, tmp_path / "tables"))).table("a.b.c")


def log(table) -> Path:
    return Path(table.uri) / "_delta_log"


def commit(table, version=LAST) -> Path:
    return log(table) / f"{version:020d}.json"


def file_of(table, version=LAST) -> Path:
    (path,) = [line["add"]["path"] for line in map(json.loads, commit(table, version).read_text().splitlines()) if "add" in line]
    return Path(table.uri) / path


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def half_of_the_lines(path: Path) -> None:
    path.write_text(path.read_text().splitlines()[0])


# By what happened: what does it, and the last version that is intact.
DAMAGES = {
    "an empty commit": (lambda table: empty(commit(table)), LAST - 1),
    "a commit that is cut off": (lambda table: cut(commit(table)), LAST - 1),
    "a commit of zeros": (lambda table: zeros(commit(table)), LAST - 1),
    "a commit that lost its last line": (lambda table: half_of_the_lines(commit(table)), LAST - 1),
    "a commit that is not there": (lambda table: commit(table, LAST - 1).unlink(), LAST - 2),
    "two empty commits": (lambda table: [empty(commit(table, version)) for version in (LAST - 1, LAST)], LAST - 2),
    "an empty commit before an intact one": (lambda table: empty(commit(table, LAST - 1)), LAST - 2),
    "an empty data file": (lambda table: empty(file_of(table)), LAST - 1),
    "a data file that is cut off": (lambda table: cut(file_of(table)), LAST - 1),
    "a data file of zeros": (lambda table: zeros(file_of(table)), LAST - 1),
    "a data file that is not there": (lambda table: file_of(table, LAST - 1).unlink(), LAST - 2),
    "a checkpoint that is cut off": (lambda table: cut(log(table) / CHECKPOINT), LAST),
    "a checkpoint that is not there": (lambda table: (log(table) / CHECKPOINT).unlink(), LAST),
    "a hint that points nowhere": (lambda table: (log(table) / "_last_checkpoint").write_text('{"version":77,"size":1}'), LAST),
    "an empty hint": (lambda table: empty(log(table) / "_last_checkpoint"), LAST),
    "all of it": (lambda table: [cut(commit(table)), empty(file_of(table, LAST - 1)), cut(log(table) / CHECKPOINT)], LAST - 2),
}


def test_a_table_that_is_whole_has_no_damage(table):
    assert damage.find(table) is None
    table.delta().restore(5)
    assert damage.find(table) is None, "files that went away are not missed"


@pytest.mark.parametrize("how", DAMAGES)
def test_the_last_good_version_is_found_and_gone_back_to(table, how, tmp_path):
    do, good = DAMAGES[how]
    do(table)
    found = damage.find(table)
    assert found is not None
    assert (found.last_good, found.newest) == (good, LAST)

    damage.set_aside(found, tmp_path / "aside")

    assert damage.find(table) is None
    assert table.version() == LAST, "numbers of versions never come twice"
    rows = list(range(1, good + 1))
    assert sorted(table.scan().collect()["x"]) == sorted(table.scan(good).collect()["x"]) == rows
    assert table.count() == good
    assert sorted(table.change_feed(3, LAST).collect()["x"]) == rows[3:]
    assert [made["at"] for made in table.history()] == sorted((made["at"] for made in table.history()), reverse=True)
    assert ["set_aside" in made["info"] for made in table.history(LAST - good)] == [True] * (LAST - good)
    table.append(pl.DataFrame({"x": [99]}))
    assert sorted(table.scan().collect()["x"]) == [*rows, 99]
    table.delta().create_checkpoint()
    table_cache.clear()
    assert table.count() == good + 1


@pytest.mark.parametrize("how", ["an empty commit", "a commit that is cut off"])
def test_a_table_that_is_not_whole_is_not_read_as_if_it_were(table, how):
    """Pins delta-rs: it opens a table whose last commit is empty, without the rows of that commit."""
    DAMAGES[how][0](table)
    for read in (table.version, table.count, table.scan, lambda: table.append(pl.DataFrame({"x": [1]}))):
        with pytest.raises(TableDamaged, match=r"lakehouse restore a\.b\.c --last-good"):
            read()


def test_what_was_damaged_is_kept_and_a_second_time_changes_nothing(table, tmp_path):
    cut(commit(table, LAST - 1))
    content = commit(table, LAST - 1).read_bytes()
    found = damage.find(table)
    damage.set_aside(found, tmp_path / "aside")
    after = {path.name: path.read_bytes() for path in log(table).iterdir()}
    damage.set_aside(found, tmp_path / "aside")
    assert {path.name: path.read_bytes() for path in log(table).iterdir()} == after
    assert (tmp_path / "aside" / commit(table, LAST - 1).name).read_bytes() == content


def test_killed_in_the_middle_it_is_found_again(table, tmp_path, monkeypatch):
    empty(commit(table, LAST - 2))
    found, real, left = damage.find(table), Path.replace, [2]

    def dies(path, target):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(path, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        damage.set_aside(found, tmp_path / "aside")
    monkeypatch.undo()
    again = damage.find(table)
    assert (again.last_good, again.newest) == (found.last_good, found.newest)
    damage.set_aside(again, tmp_path / "aside")
    assert table.count() == LAST - 3


def test_a_table_whose_first_commit_is_empty_is_moved_away(tmp_path):
    table = Lakehouse(str(tmp_path / "tables")).table("a.b.c")
    table.create({"x": pl.Int64})
    empty(commit(table, 0))
    found = damage.find(table)
    assert found.last_good == -1
    damage.set_aside(found, tmp_path / "aside")
    assert not table.exists()
    table.create({"x": pl.Int64})
    assert table.count() == 0
