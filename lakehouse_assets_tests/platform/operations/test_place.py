"""A root knows its own place: a move and a copy are told once, a copy becomes a root of its own, a link is neither."""

import shutil
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.operations.place import check_in, read
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.platform.storage.errors import StorageError
from lakehouse_assets.platform.storage.paths import NOT_IN_A_ROOT
from lakehouse_assets.settings import Settings


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    assert check_in(folder) == ""
    return folder


def test_a_root_that_stays_says_nothing(root, monkeypatch):
    known = read(root)
    monkeypatch.chdir(root.parent)
    (root.parent / "link").symlink_to(root)
    for same in (root, Path("root"), root.parent / "link"):
        assert check_in(same) == ""
    assert read(root) == known


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    assert check_in(tmp_path / "none") == ""
    assert list(tmp_path.iterdir()) == []


def test_a_move_is_told_once_and_keeps_the_id(root):
    known = read(root)
    moved = root.rename(root.with_name("moved"))
    told = check_in(moved)
    assert "was moved" in told
    assert str(root) in told
    assert check_in(moved) == ""
    assert read(moved).id == known.id


def test_a_copy_is_told_once_and_gets_an_id_of_its_own(root):
    known = read(root)
    copy = shutil.copytree(root, root.with_name("copy"))
    assert f"copy of {root}" in check_in(copy)
    assert check_in(copy) == check_in(root) == ""
    assert read(root) == known
    assert read(copy).id != known.id
    # The copy takes the place of the original: another id, so it is no copy any more.
    shutil.rmtree(root)
    assert "was moved" in check_in(copy.rename(root))


def test_one_of_many_is_told(root):
    copy = shutil.copytree(root, root.with_name("copy"))
    with ThreadPoolExecutor(8) as pool:
        assert len([told for told in pool.map(lambda _: check_in(copy), range(16)) if told]) == 1


def test_a_note_that_is_damaged_is_written_again(root):
    for damaged in ("", "{", "[]", '{"id": 1}'):
        (root / "root.json").write_text(damaged)
        assert "could not be read and is written again" in check_in(root)
        assert read(root).folder == str(root)


# --- which characters a root may have


def of(tmp_path: Path, character: str) -> Settings:
    return Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / f"a{character}b")})


@pytest.mark.parametrize("character", sorted({*string.punctuation, " ", "é", "日"} - {"/"}))
def test_every_character_of_a_root_works_everywhere_or_is_refused_when_it_is_opened(tmp_path, character, monkeypatch):
    settings = of(tmp_path, character)
    if character in NOT_IN_A_ROOT:
        with pytest.raises(StorageError, match="choose another folder"):
            Root(settings)
        settings.root.mkdir(parents=True)
        monkeypatch.chdir(settings.root)  # a root without it, in a folder with it
        with pytest.raises(StorageError, match="choose another folder"):
            Root(Settings.load({"LAKEHOUSE_ROOT": "data"}))
        with pytest.raises(StorageError, match="choose another folder"):
            Root(Settings.load({"LAKEHOUSE_ROOT": str(tmp_path), "LAKEHOUSE_HOME": str(settings.root)}))
        return
    table = Root(settings).lakehouse.table("a.b.c")
    table.create({"x": pl.Int64, "day": pl.String}, partition_by=("day",))
    table.append(pl.DataFrame({"x": [1], "day": ["a b"]}))
    table.replace(pl.DataFrame({"x": [2], "day": ["a b"]}), {"day": ["a b"]})
    assert [commit["version"] for commit in table.history()] == [2, 1, 0]
    assert table.scan(1).collect()["x"].to_list() == [1]
    assert table.version_at(table.history()[0]["at"]) == 2
    assert [other.name for other in Root(settings).lakehouse.tables()] == ["a.b.c"]
    assert table.change_feed(0, 2).collect().height


def test_mlflow_keeps_models_in_a_root_with_every_character_that_is_allowed(tmp_path):
    from lakehouse_assets_tests.platform.registry.example import training

    allowed = "".join(sorted({*string.punctuation, " ", "é", "日"} - NOT_IN_A_ROOT - {"/"}))
    registry = Registry.under(tmp_path / f"a{allowed}b")
    registry.prepare()
    version = registry.log_training(training())
    assert (registry.model_folder(version) / "linear.json").exists()
    assert registry.model_folder(version).is_relative_to(tmp_path / f"a{allowed}b")
