"""A landing folder on a disk: what is seen of it, what cannot be opened and why, landing whole, and the archive."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakehouse_assets.platform.ingestion.zone import LocalZone, NotLanded, NotListed


@pytest.fixture
def zone(tmp_path) -> LocalZone:
    found = LocalZone(tmp_path / "landing" / "orders", tmp_path / "archive" / "orders")
    found.folder.mkdir(parents=True)
    return found


def names(zone: LocalZone) -> list[str]:
    return [file.path for file in zone.files()]


def content(zone: LocalZone, path: str) -> bytes:
    with zone.open(path) as opened:
        return opened.read()


def test_a_folder_that_is_not_there_has_no_files(tmp_path):
    assert LocalZone(tmp_path / "nowhere", tmp_path / "archive").files() == []


def test_a_place_that_is_no_folder_is_said(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(NotListed, match="cannot be listed"):
        LocalZone(loop, tmp_path / "archive").files()


def test_files_come_oldest_first_and_then_by_path(zone):
    for name, at in {"b": 5, "a": 5, "z/c": 1}.items():
        path = zone.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        os.utime(path, (at, at))
    assert names(zone) == ["z/c", "a", "b"]


@pytest.mark.parametrize("at", [-1e11, 1e15])
def test_a_file_of_an_impossible_time_is_seen(zone, at):
    (zone.folder / "a").write_text("a")
    try:
        os.utime(zone.folder / "a", (at, at))
    except (OverflowError, OSError):
        pytest.skip("this file system does not keep such a time")
    assert names(zone) == ["a"]


def test_what_is_no_file_is_listed_and_cannot_be_opened(zone):
    os.mkfifo(zone.folder / "pipe.csv")
    (zone.folder / "folder.csv").mkdir()
    (zone.folder / "folder").mkdir()
    (zone.folder / "part.csv").mkdir()
    (zone.folder / "part.csv" / "0.csv").write_text("a")
    assert sorted(names(zone)) == ["folder.csv", "part.csv/0.csv", "pipe.csv"]
    for name, why in (("pipe.csv", "it is a named pipe"), ("folder.csv", "it is an empty folder")):
        with pytest.raises(OSError, match=why):
            zone.open(name)


def test_a_link_within_the_folder_is_followed(zone):
    (zone.folder / "a.csv").write_text("a")
    (zone.folder / "b.csv").symlink_to("a.csv")
    (zone.folder / "again").symlink_to(".")
    assert sorted(names(zone)) == ["a.csv", "b.csv"]
    assert content(zone, "b.csv") == b"a"
    with zone.local("b.csv") as path:
        assert path.name == "b.csv"


@pytest.mark.parametrize("target", ["../../secret.csv", "../../folder", "../payments/a.csv", "/etc/hostname"])
def test_a_link_out_of_the_folder_is_seen_and_cannot_be_opened(zone, target):
    (zone.folder.parent.parent / "secret.csv").write_text("secret")
    (zone.folder.parent.parent / "folder").mkdir()
    (zone.folder.parent / "payments").mkdir()
    (zone.folder.parent / "payments" / "a.csv").write_text("secret")
    (zone.folder / "link.csv").symlink_to(target)
    assert names(zone) == ["link.csv"]
    for reach in (zone.open, zone.stat, lambda path: zone.local(path).__enter__()):
        with pytest.raises(OSError, match="symbolic link that leads out"):
            reach("link.csv")


def test_the_feeds_own_folder_may_be_a_link(tmp_path):
    real = tmp_path / "mounted"
    real.mkdir()
    (real / "a.csv").write_text("a")
    (tmp_path / "orders").symlink_to(real)
    zone = LocalZone(tmp_path / "orders", tmp_path / "archive")
    assert names(zone) == ["a.csv"]
    assert content(zone, "a.csv") == b"a"


def test_a_name_that_is_not_utf8_is_seen_and_says_so(zone):
    Path(os.fsdecode(os.fsencode(zone.folder) + b"/caf\xe9.csv")).write_text("a")
    (name,) = names(zone)
    with pytest.raises(OSError, match="not UTF-8"):
        zone.open(name)


@pytest.mark.parametrize("path", ["../a.csv", "/etc/passwd", "a/../../b", ""])
def test_no_path_leads_out_of_the_zone(zone, tmp_path, path):
    (tmp_path / "source").write_text("a")
    for act in (lambda: zone.put(tmp_path / "source", path), lambda: zone.open(path), lambda: zone.archive("a", path)):
        (zone.folder / "a").write_text("a")
        with pytest.raises(NotLanded, match="not a path below"):
            act()


# --- landing


def test_a_file_lands_once_and_is_never_overwritten(zone, tmp_path):
    source = tmp_path / "a.csv"
    source.write_text("one")
    assert zone.put(source, "deep/a.csv")
    assert not zone.put(source, "deep/a.csv")
    source.write_text("two")
    with pytest.raises(NotLanded, match="new name"):
        zone.put(source, "deep/a.csv")
    assert (zone.folder / "deep" / "a.csv").read_text() == "one"
    assert [path.name for path in (zone.folder / "deep").iterdir()] == ["a.csv"]


def test_of_many_that_land_other_contents_under_one_name_at_once_one_wins(zone, tmp_path):
    sources = [tmp_path / f"{number}" for number in range(8)]
    for source in sources:
        source.write_text(source.name * 1000)

    def put(source: Path) -> str:
        try:
            return source.name if zone.put(source, "a.csv") else "same"
        except NotLanded:
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(put, sources))
    (winner,) = set(results) - {"refused"}
    assert (zone.folder / "a.csv").read_text() == winner * 1000
    assert names(zone) == ["a.csv"]


@pytest.mark.parametrize(
    "name", ["a b.csv", "a\nb.csv", "a..b.csv", "..a..csv".lstrip("."), "50%25.csv", "größe 🎈.csv", "a'b\"c.csv", "*?[x].csv"]
)
def test_names_are_taken_as_they_are(zone, tmp_path, name):
    (tmp_path / "source").write_text("a")
    zone.put(tmp_path / "source", name)
    assert names(zone) == [name]
    zone.archive(name, name)
    assert names(zone) == []
    assert (zone.archive_folder / name).read_text() == "a"


# --- the archive


def test_a_file_moves_once_and_nothing_in_the_archive_is_overwritten(zone):
    (zone.folder / "a.csv").write_text("one")
    zone.archive("a.csv", "a.csv")
    zone.archive("a.csv", "a.csv")
    (zone.folder / "a.csv").write_text("two")
    with pytest.raises(FileExistsError):
        zone.archive("a.csv", "a.csv")
    assert (zone.folder / "a.csv").read_text() == "two"
    assert (zone.archive_folder / "a.csv").read_text() == "one"


def test_a_file_of_which_the_archive_has_a_copy_already_leaves_the_landing_zone(zone):
    for folder in (zone.folder, zone.archive_folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.csv").write_text("one")
    zone.archive("a.csv", "a.csv")
    assert names(zone) == []


def test_a_link_is_archived_as_what_it_leads_to(zone):
    (zone.folder / "a.csv").write_text("one")
    (zone.folder / "b.csv").symlink_to("a.csv")
    zone.archive("b.csv", "b.csv")
    assert (zone.archive_folder / "b.csv").read_text() == "one"
    assert not (zone.archive_folder / "b.csv").is_symlink()
    assert names(zone) == ["a.csv"]


def test_an_archive_on_another_file_system_gets_whole_files(zone, tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    folder = other / f"archive-{os.getpid()}"
    away = LocalZone(zone.folder, folder)
    (zone.folder / "a.csv").write_text("one")
    try:
        away.archive("a.csv", "deep/a.csv")
        assert [path.read_text() for path in folder.rglob("*.*")] == ["one"]
        assert names(zone) == []
    finally:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
