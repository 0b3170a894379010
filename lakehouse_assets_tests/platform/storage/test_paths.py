"""Tables live in folders whose names people choose."""

import polars as pl
import pytest

from lakehouse_assets.platform.storage.errors import StorageError
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.merge import merge
from lakehouse_assets_tests.platform.storage.fresh import rows_of


@pytest.mark.parametrize(
    "name", ["My Projects", "Übung", "日本", "it's", 'a"b', "a&b+c~d", "{x}", "(1)", "a,b;c@d!e$f", "a<b>c", "a`b", "a:b"]
)
def test_a_table_below_an_unusual_folder(tmp_path, name):
    table = Lakehouse(str(tmp_path / name)).table("shop.silver.things")
    table.create({"part": pl.String(), "value": pl.Int64()}, ("part",))
    table.append(pl.DataFrame({"part": ["a b", "c"], "value": [1, 2]}))
    merge(table, pl.DataFrame({"part": ["a b"], "value": [3]}), ["part"])
    table.replace(pl.DataFrame({"part": ["c"], "value": [4]}), {"part": ["c"]})
    assert rows_of(table) == [("a b", 3), ("c", 4)]
    assert table.scan().filter(pl.col("part") == "c").collect().rows() == [("c", 4)]
    assert sorted(table.changes(1, 3).collect().rows()) == [("a b", 3), ("c", 4)]
    assert table.count() == 2
    table.delta().optimize.compact()
    assert rows_of(table) == [("a b", 3), ("c", 4)]


@pytest.mark.parametrize("character", list("=*?%[]^|\\"))
def test_a_folder_below_which_nothing_could_be_read_again_is_refused(tmp_path, character):
    with pytest.raises(StorageError, match="choose another folder") as refused:
        Lakehouse(f"{tmp_path}/a{character}b")
    assert f"because of {character} in" in str(refused.value)


def test_a_root_may_be_relative_and_end_with_a_slash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = Lakehouse("my data/").table("shop.silver.things")
    table.create({"value": pl.Int64()})
    table.append(pl.DataFrame({"value": [1]}))
    assert rows_of(table) == [(1,)]
    assert table.changes(0, 1).collect().rows() == [(1,)]
    assert (tmp_path / "my data" / "shop" / "silver" / "things" / "_delta_log").is_dir()
