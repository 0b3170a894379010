"""Files are copied whole, whatever their size, and whatever is done to them meanwhile."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse_assets.platform.operations.backup_copy import Copier
from lakehouse_assets.platform.operations.backup_files import IN_MEMORY, Files, FolderFiles, files_at, read
from lakehouse_assets.platform.operations.backup_manifest import Backups, object_path


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path) -> Files:
    """An empty place."""
    return files_at(tmp_path / "place" if request.param == "disk" else request.getfixturevalue("bucket"))


def put(files: Files, path: str, content: bytes) -> None:
    files.write(path, [content])


@pytest.mark.parametrize("size", [0, 10, IN_MEMORY, IN_MEMORY + 1])
def test_a_file_comes_from_a_place_into_a_place(place, tmp_path, size):
    content = os.urandom(size)
    for name, source in (("there", place), ("here", FolderFiles(tmp_path / "here"))):
        put(source, "a b/50%.bin", content)
        (found,) = source.listing("a b")
        backups = Backups(files_at(f"{place.address}-{name}"))
        copier = Copier(backups)
        entry = copier.immutable(source, found)
        assert (entry.path, entry.size, entry.modified) == ("a b/50%.bin", size, found.modified)
        assert entry.digest == hashlib.sha256(content).hexdigest()
        assert read(backups.files, object_path(entry.digest)) == content
        assert copier.immutable(source, found) == entry
        assert copier.new_files == 1


@pytest.mark.parametrize("size", [10, IN_MEMORY + 1])
def test_a_file_that_is_written_meanwhile_is_copied_as_it_is_afterwards(tmp_path, monkeypatch, size):
    files, backups = FolderFiles(tmp_path / "here"), Backups(FolderFiles(tmp_path / "backups"))
    put(files, "feed/a.csv", b"a" * size)
    path, look, grown = tmp_path / "here" / "feed" / "a.csv", FolderFiles.is_as_listed, 0

    def grows(self, found):
        nonlocal grown
        if not grown:
            grown += 1
            path.write_bytes(b"b" * (size + 5))
        return look(self, found)

    monkeypatch.setattr(FolderFiles, "is_as_listed", grows)
    (found,) = files.listing()
    entry = Copier(backups).file(files, found)
    assert (entry.size, entry.digest) == (size + 5, hashlib.sha256(path.read_bytes()).hexdigest())
    assert read(backups.files, object_path(entry.digest)) == path.read_bytes()


def test_a_file_that_never_rests_is_left_out_and_named(tmp_path, monkeypatch):
    files, copier = FolderFiles(tmp_path), Copier(Backups(FolderFiles(tmp_path / "backups")))
    put(files, "feed/a.csv", b"a")
    (found,) = files.listing("feed")
    monkeypatch.setattr(FolderFiles, "is_as_listed", lambda *_: False)
    assert copier.file(files, found) is None
    assert copier.left_out == [f"{tmp_path}/feed/a.csv cannot be read, or is still being written"]
    (tmp_path / "feed" / "a.csv").unlink()
    assert copier.file(files, found) is None
    assert len(copier.left_out) == 1, "one that is gone is nothing to tell"


@pytest.mark.parametrize("size", [0, 10, IN_MEMORY + 1])
@pytest.mark.parametrize("path", ["serving/spool/abc/000000000001.segment", "audit/2026-11.jsonl", "dagster/storage/run/step.err"])
def test_a_file_that_others_append_to_all_the_time_is_copied_as_far_as_it_was(tmp_path, monkeypatch, path, size):
    files, copier, chunks = FolderFiles(tmp_path / "home"), Copier(Backups(FolderFiles(tmp_path / "backups"))), FolderFiles.chunks
    put(files, path, content := os.urandom(size))

    def growing(self: FolderFiles, name: str) -> Iterator[bytes]:
        """Something is appended before and after each look at the file."""
        with (self.folder / name).open("ab") as file:
            file.write(b"more" * 1000)
        yield from chunks(self, name)
        with (self.folder / name).open("ab") as file:
            file.write(b"more" * 1000)

    monkeypatch.setattr(FolderFiles, "chunks", growing)
    monkeypatch.setattr(FolderFiles, "is_as_listed", lambda *_: False)
    found = [*files.listing()]
    (entry,) = copier.home(files.folder, found, {}, lambda _: None)
    assert (entry.path, entry.size, copier.left_out) == (path, size, [])
    monkeypatch.undo()
    assert read(copier.backups.files, object_path(entry.digest)) == content
    (files.folder / path).unlink()
    assert copier.home(files.folder, found, {}, lambda _: None) == []


def test_nothing_has_its_name_before_it_is_whole(place):
    def breaks() -> Iterator[bytes]:
        yield b"begun"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        place.write("a/b", breaks())
    assert [*place.listing()] == []
    if isinstance(place, FolderFiles):
        assert [path for path in place.folder.rglob("*") if path.is_file()] == []


def test_what_is_private_is_so_from_its_first_byte_on(tmp_path):
    (tmp_path / "home").mkdir(mode=0o755)

    def looks() -> Iterator[bytes]:
        yield b"begun"
        seen.extend(path.stat().st_mode & 0o077 for path in (tmp_path / "home").rglob("*"))

    seen: list[int] = []
    files = FolderFiles(tmp_path / "home", is_private=True)
    files.write("a/b/c", looks())
    assert seen == [0, 0, 0], "two folders, and the file that is not whole yet"
    assert (tmp_path / "home" / "a" / "b" / "c").stat().st_mode & 0o777 == 0o600


def test_what_was_left_unfinished_goes_and_what_others_are_at_stays(tmp_path, monkeypatch):
    uploads = [tmp_path / "landing" / "feed" / name for name in (".day.csv.part", f".{'a' * 31}.part", f".{'G' * 32}.part")]
    files = FolderFiles(tmp_path)
    for path in uploads:
        put(files, str(path.relative_to(tmp_path)), b"1")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        put(files, "landing/feed/b.csv", b"2")
    assert len([*tmp_path.rglob(".*.part")]) == len(uploads) + 1
    files.delete_parts()
    assert sorted(tmp_path.rglob(".*.part")) == sorted(uploads)


def test_links_count_as_the_files_that_they_lead_to_within_the_place(tmp_path):
    files = FolderFiles(tmp_path / "root")
    put(files, "a/real.csv", b"1")
    put(files, "a/.hidden", b"1")
    (tmp_path / "outside").write_bytes(b"secret")
    for name, target in (("inside", "real.csv"), ("outside", tmp_path / "outside"), ("nowhere", "nothing"), ("folder", Path())):
        (tmp_path / "root" / "a" / name).symlink_to(target)
    assert [found.path for found in files.listing()] == ["a/inside", "a/real.csv"]
