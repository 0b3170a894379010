"""What a file does to the process that reads it ends a child: the file is refused by name, and the next one is read."""

import io
import os
import resource
import signal
import threading
import time
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter

from lakehouse_assets.platform.compute import progress
from lakehouse_assets.platform.ingestion.child import Child
from lakehouse_assets.platform.ingestion.limits import DEFAULT, Limits
from lakehouse_assets.platform.ingestion.opened import _by_size
from lakehouse_assets.platform.ingestion.parse import RefusedFile, parse
from lakehouse_assets_tests.platform.ingestion.test_files_of_the_world import crafted

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def child():
    with Child() as process:
        yield process


def read(path: Path, child: Child | None, limits: Limits = DEFAULT) -> pl.DataFrame:
    with parse(path, columns=("a", "b"), required=[("a", "b")], child=child, limits=limits) as parsed:
        return parsed.frame.collect()


def refusal(path: Path, child: Child | None, limits: Limits = DEFAULT) -> str:
    with pytest.raises(RefusedFile) as refused:
        read(path, child, limits)
    return refused.value.reason


def good(folder: Path, ending: str) -> Path:
    path = folder / f"good.{ending}"
    frame = pl.DataFrame({"a": ["1", None], "b": ["x", "y"]})
    frame.write_parquet(path) if ending == "parquet" else frame.write_excel(path)
    return path


def endless(folder: Path) -> Path:
    """Ten thousand rows that all hold the same million characters: two kilobytes on disk."""
    path = folder / "endless.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * MIB]))
    pq.write_table(pa.table({"a": text, "b": ["x"] * 100_000}), path, compression="zstd")
    return path


@pytest.mark.parametrize("ending", ["parquet", "xlsx"])
def test_what_a_child_reads_is_what_this_process_reads(child, tmp_path, ending):
    path = good(tmp_path, ending)
    assert read(path, child).equals(read(path, None))
    assert read(path, child).rows() == [("1", "x", 1, None), (None, "y", 2, None)]


@pytest.mark.parametrize("name", ["cut.parquet", "cut.xlsx", "header.parquet", "header.xlsx"])
def test_what_a_child_refuses_is_what_this_process_refuses(child, tmp_path, name):
    path = tmp_path / name
    if name.startswith("cut"):
        path.write_bytes(good(tmp_path, path.suffix[1:]).read_bytes()[:-30])
    else:
        frame = pl.DataFrame({"c": ["1"]})
        frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_excel(path)
    assert refusal(path, child) == refusal(path, None)


def test_a_file_that_takes_too_much_memory_or_time_is_refused_and_the_next_is_read(child, tmp_path):
    path = tmp_path / "large.parquet"
    path.write_bytes(crafted())
    reason = refusal(path, child)
    assert reason.startswith("large.parquet cannot be read: reading it ended the process that read it (SIG")
    assert "MiB of memory" in reason
    assert read(good(tmp_path, "parquet"), child).height == 2
    late = refusal(endless(tmp_path), child, Limits(seconds=0))
    assert "it was not read within 0 seconds" in late
    assert read(good(tmp_path, "parquet"), child).height == 2


def test_a_child_that_was_killed_between_two_files_is_started_again(tmp_path):
    path = good(tmp_path, "parquet")
    with Child() as child:
        read(path, child)
        os.kill(child._process.pid, signal.SIGKILL)
        child._process.wait()
        assert read(path, child).height == 2


@pytest.mark.parametrize("times", [1, 2])
def test_a_child_that_is_ended_from_outside_while_it_reads_is_started_again_once(tmp_path, times):
    path = endless(tmp_path)
    with Child() as child:
        read(good(tmp_path, "parquet"), child)
        killed: list[int] = []
        shown: list[str] = []

        def kill() -> None:
            while len(killed) < times:
                process = child._process
                if process is not None and process.pid not in killed and child._lock.locked():
                    time.sleep(0.5)
                    shown.append(progress.now())
                    process.send_signal(signal.SIGKILL)
                    killed.append(process.pid)
                time.sleep(0.05)

        killer = threading.Thread(target=kill)
        killer.start()
        reason = refusal(path, child, Limits(seconds=4))
        killer.join()
    assert shown == ["reading endless.parquet"] * times
    assert progress.now() == ""
    assert reason.startswith("endless.parquet cannot be read: ")
    assert ("SIGKILL" in reason) is (times == 2)


def test_a_child_ends_with_the_process_that_started_it(tmp_path):
    path = good(tmp_path, "parquet")
    with Child() as child:
        read(path, child)
        process = child._process
    assert process.returncode == -signal.SIGKILL
    with Child() as child:
        read(path, child)
        process = child._process
        process.stdin.close()  # as when this process is gone
        assert process.wait(timeout=60) == 0


def test_texts_that_stand_in_many_rows_are_written_in_parts():
    frame = pl.DataFrame({"a": ["x" * MIB], "n": [1]}).select(pl.all().repeat_by(1000).explode())
    parts = list(_by_size(frame))
    assert pl.concat(parts).equals(frame)
    assert all(part.height <= 257 for part in parts)
    assert len(parts) == 4


def test_sheets_are_found_whatever_their_xml_calls_them(child, tmp_path):
    """Programs write other prefixes, no places of cells and no dimension."""
    content = io.BytesIO()
    with xlsxwriter.Workbook(content) as book:
        book.add_worksheet("One").write_row(0, 0, ["a", "b"])
    source = zipfile.ZipFile(content)
    path = tmp_path / "other.xlsx"
    sheet = (
        '<?xml version="1.0"?><x:worksheet xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><x:sheetData>'
        '<x:row><x:c t="inlineStr"><x:is><x:t>a</x:t></x:is></x:c><x:c t="inlineStr"><x:is><x:t>b</x:t></x:is></x:c></x:row>'
        "<x:row><x:c><x:v>1</x:v></x:c><x:c><x:f>1+1</x:f></x:c></x:row></x:sheetData></x:worksheet>"
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, sheet if name.endswith("sheet1.xml") else source.read(name))
    assert read(path, child).rows() == [("1", None, 1, '{"_formula":{"b":"=1+1"}}')]


def test_a_document_type_in_a_workbook_is_refused(child, tmp_path):
    source = zipfile.ZipFile(good(tmp_path, "xlsx"))
    path = tmp_path / "typed.xlsx"
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'
    with zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, bomb if name.endswith("sheet1.xml") else source.read(name))
    assert "declares a document type" in refusal(path, child)


def test_a_process_with_very_many_open_files_reads_through_a_child(tmp_path):
    path = good(tmp_path, "parquet")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
        opened.append(os.open(os.devnull, os.O_RDONLY))
        while opened[-1] <= 1024:  # more than `select` takes
            opened.append(os.dup(opened[0]))
        with Child() as process:
            assert read(path, process).height == 2
    finally:
        for one in opened:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
