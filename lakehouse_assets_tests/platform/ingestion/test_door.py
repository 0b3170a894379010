"""What ends at the door and what gets through: bad files one by one, each with its exact end, and nothing left on disk by any of them."""

import errno
import gc
import gzip
import io
import json
import os
import resource
import threading
import tracemalloc
import zipfile
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.ingestion.compression import check_workbook
from lakehouse_assets.platform.ingestion.parse import Limits, RefusedFile, parse
from lakehouse_assets_tests import sweeps

A_B = ("a", "b")
GOOD = [("1", "2", None), ("3", "4", None)]
MIB = 1024 * 1024


def zst(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


def parquet(table: pa.Table, **options) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content, **options)
    return content.getvalue()


def written(frame: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.write_parquet(content)
    return content.getvalue()


def column(values: list, dtype: pa.DataType | None = None) -> bytes:
    return parquet(pa.table({"a": pa.array(values, dtype), "b": ["x"] * len(values)}))


def workbook(*sheets: list[list]) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content) as book:
        for rows in sheets:
            sheet = book.add_worksheet()
            for index, row in enumerate(rows):
                sheet.write_row(index, 0, row)
    return content.getvalue()


def workbook_with_a_chart_first() -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content) as book:
        chart = book.add_chart({"type": "bar"})
        chart.add_series({"values": "=Sheet1!$A$2:$A$3"})
        book.add_chartsheet().set_chart(chart)
        sheet = book.add_worksheet()
        for index, row in enumerate([["a", "b"], [1, 2], [3, 4]]):
            sheet.write_row(index, 0, row)
    return content.getvalue()


def repacked(content: bytes, change) -> bytes:
    """The workbook with its parts (name to bytes) changed."""
    parts = {name: zipfile.ZipFile(io.BytesIO(content)).read(name) for name in zipfile.ZipFile(io.BytesIO(content)).namelist()}
    change(parts)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return packed.getvalue()


def with_false_sizes(content: bytes) -> bytes:
    """The archive with every declared unpacked size set to ten bytes."""
    damaged = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = damaged.find(mark)
        while at >= 0:
            damaged[at + offset : at + offset + 4] = (10).to_bytes(4, "little")
            at = damaged.find(mark, at + 4)
    return bytes(damaged)


CSV = b"a,b\n1,2\n3,4\n"
JSONL = b'{"a":1,"b":2}\n{"a":3,"b":4}\n'
PARQUET = parquet(pa.table({"a": ["1", "3"], "b": ["2", "4"]}))
XLSX = workbook([["a", "b"], [1, 2], [3, 4]])
FAR_DATE = parquet(pa.table({"a": pa.array([2**31 - 1], pa.int32()).view(pa.date32()), "b": ["x"]}))
NO_TEXT = parquet(pa.table({"a": pa.array([b"\xff"]).view(pa.string()), "b": ["x"]}))
JSON_TYPE = parquet(pa.table({"a": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"x":1}'])), "b": ["x"]}))
WIDE_INTEGER = written(pl.DataFrame({"a": pl.Series([2**100], dtype=pl.Int128), "b": ["x"]}))
SHEET = "xl/worksheets/sheet1.xml"
LONG = Limits(line=2 * MIB)
SMALL = Limits(unpacked=MIB, workbook=MIB, harmless=MIB)
BOMB = Limits(harmless=MIB)
ZEROS = bytes(8 * MIB)


@dataclass(frozen=True)
class Case:
    """One landed file, and how it ends: `refused` (words of the message) or `rows` (a, b, what was rescued)."""

    what: str
    name: str
    content: bytes
    refused: tuple[str, ...] = ()
    rows: list | None = None
    options: dict = field(default_factory=dict)


def refused(what: str, name: str, content: bytes, *words: str, **options) -> Case:
    return Case(what, name, content, refused=words, options=options)


def read(what: str, name: str, content: bytes, rows: list, **options) -> Case:
    return Case(what, name, content, rows=rows, options=options)


def line(text: str) -> tuple:
    return (None, None, {"_line": text})


CASES = [
    # Nothing in it
    refused("empty", "x.csv", b"", "empty (0 bytes)", "Land it again"),
    refused("empty in gzip", "x.csv.gz", gzip.compress(b""), "empty (0 bytes when unpacked)", "Land it again"),
    refused("empty in zstd", "x.jsonl.zst", zst(b""), "empty (0 bytes when unpacked)", "Land it again"),
    refused("only a byte order mark", "x.csv", b"\xef\xbb\xbf", "no header", "Land it with its header"),
    read("only a byte order mark, JSONL", "x.jsonl", b"\xef\xbb\xbf", []),
    refused("only white space", "x.csv", b" \n \r\n\t\n", "no header", "Land it with its header"),
    read("only white space, JSONL", "x.jsonl", b" \n \r\n\t\n", []),
    read("header only", "x.csv", b"a,b", []),
    read("header only, in gzip", "x.csv.gz", gzip.compress(b"a,b\r\n"), []),
    read("header only, XLSX", "x.xlsx", workbook([["a", "b"]]), []),
    read("no rows, parquet", "x.parquet", column([]), []),
    # Encodings
    read("UTF-8 byte order mark", "x.csv", b"\xef\xbb\xbf" + CSV, GOOD),
    read("UTF-16 LE", "x.csv", CSV.decode().encode("utf-16"), GOOD),
    read("UTF-16 BE", "x.jsonl", b"\xfe\xff" + JSONL.decode().encode("utf-16-be"), GOOD),
    read("UTF-16 without a mark", "x.csv", CSV.decode().encode("utf-16-le"), GOOD),
    read("UTF-16 that was declared, in gzip", "x.csv.gz", gzip.compress(CSV.decode().encode("utf-16")), GOOD, encoding="utf-16"),
    refused("UTF-16 cut in half a character", "x.csv", CSV.decode().encode("utf-16")[:-1], "line 3 is not utf-16", encoding="utf-16"),
    refused("unknown encoding", "x.csv", CSV, "'utf-9' is no text encoding", "Set the encoding of the feed", encoding="utf-9"),
    refused("mixed encodings", "x.csv", "a,b\né,1\n".encode() + "é,2\n".encode("cp1252"), "line 3 is not utf-8", "iconv -f windows-1252"),
    refused("not UTF-8 inside quotes", "x.csv", b'a,b\n1,"x\n\xff"\n3,4\n', "line 3 is not utf-8: byte 0xFF"),
    refused("cut in half a character", "x.jsonl", '{"a":1,"b":"é"}\n{"a":"é'.encode()[:-1], "line 2 is not utf-8", "unexpected end"),
    refused("NUL bytes", "x.csv", b"a,b\n1,\0\n", "line 2 holds a NUL byte", "Land it again as UTF-8 text"),
    # Lines and fields
    refused("CR alone", "x.csv", b"a,b\r1,2\r", "CR alone", "tr '\\r' '\\n'"),
    refused("CR alone, JSONL", "x.jsonl", JSONL.replace(b"\n", b"\r"), "no line is a JSON object", "one object a line"),
    read("mixed line ends", "x.csv", b"a,b\r\n1,2\n3,4\r\n", GOOD),
    read("a lone CR among other line ends", "x.csv", b"a,b\n1,x\ry\n3,4\r\n", [("1", "x\ry", None), ("3", "4", None)]),
    read(
        "mixed dates",
        "x.csv",
        b"a,b\n2009-12-01,01/12/2009\n12/1/09,1. Dez 2009\n",
        [("2009-12-01", "01/12/2009", None), ("12/1/09", "1. Dez 2009", None)],
    ),
    read("record too long", "x.csv", b"a,b\n1,2,x,y\n3,4\n", [("1", "2", {"_extra": ["x", "y"]}), ("3", "4", None)]),
    read("record too short", "x.csv", b"a,b\n1\n3,4\n", [("1", None, {"_missing": ["b"], "_line": "1"}), ("3", "4", None)]),
    read("quote open at the start", "x.csv", b'a,b\n"1,2\n3,4\n', [line('"1,2'), ("3", "4", None)]),
    read("quote open at the end", "x.csv", b'a,b\n1,2\n3,"4\n', [("1", "2", None), line('3,"4')]),
    read(
        "cut inside quotes", "x.csv", b'a,b\n1,2\n3,"x\ny', [("1", "2", None), line('3,"x'), ("y", None, {"_missing": ["b"], "_line": "y"})]
    ),
    read("quotes within a field", "x.csv", b'a,b\n6" x 4",2\n3,"x"y\n', [('6" x 4"', "2", None), line('3,"x"y')]),
    refused("line too long", "x.csv", b"a,b\n" + b"x" * (4 * MIB) + b"\n", "line 2 is longer than 2,097,152 bytes", "Land", limits=LONG),
    refused("line too long, JSONL", "x.jsonl", JSONL + b" " * (4 * MIB), "line 3 is longer than 2,097,152 bytes", limits=LONG),
    # Headers
    refused("column named twice", "x.csv", b"a,b,a\n1,2,3\n", "names 'a' more than once", "Rename the columns"),
    read("columns that differ by case", "x.csv", b"a,b,A\n1,2,x\n3,4,\n", [("1", "2", {"_columns": {"A": "x"}}), ("3", "4", None)]),
    read("columns without a name", "x.csv", b"a,,b\n1,x,2\n3,,4\n", [("1", "2", {"_columns": {"_column_2": "x"}}), ("3", "4", None)]),
    refused("quote open in the header", "x.csv", b'a,"b\n1,2\n', "no header", "quote in its first line"),
    read("another separator", "x.csv", b"a;b\n1;2\n", [("1", "2", None)]),
    refused("error page", "x.csv", b"<!DOCTYPE html>\n<p>503</p>\n", "lacks 'a', 'b'", "<!DOCTYPE html>"),
    read(
        "10,000 columns",
        "x.csv",
        (",".join(["a", "b", *(f"c{number}" for number in range(9_998))]) + "\n1,2" + ",x" * 9_998 + "\n").encode(),
        [("1", "2", {"_columns": {f"c{number}": "x" for number in range(9_998)}})],
    ),
    # JSON
    read("array", "x.jsonl", b"[1]\n" + JSONL, [line("[1]"), *GOOD]),
    read("scalars", "x.jsonl", b'7\n"x"\nnull\n' + JSONL, [line("7"), line('"x"'), line("null"), *GOOD]),
    read("key twice", "x.jsonl", b'{"a":1,"a":2}\n' + JSONL, [line('{"a":1,"a":2}'), *GOOD]),
    read("nested too deeply", "x.jsonl", b'{"a":' + b"[" * 9_999 + b"\n" + JSONL, [line('{"a":' + "[" * 9_999), *GOOD]),
    read("no numbers", "x.jsonl", b'{"a":NaN,"b":-Infinity}\n', [("NaN", "-Infinity", None)]),
    read("half a surrogate pair", "x.jsonl", b'{"a":"\\ud800"}\n' + JSONL, [line('{"a":"\\ud800"}'), *GOOD]),
    read("CR LF", "x.jsonl", JSONL.replace(b"\n", b"\r\n"), GOOD),
    read("last line cut", "x.jsonl", JSONL + b'{"a":5,"b"', [*GOOD, line('{"a":5,"b"')]),
    read("undeclared and nested", "x.jsonl", b'{"a":1,"b":2,"c":{"x":[1.0]}}\n', [("1", "2", {"_columns": {"c": '{"x":[1.0]}'}})]),
    read("one array over lines", "x.jsonl", json.dumps([{"a": 1, "b": 2}], indent=1).encode(), [("1", "2", None)]),
    # Compression
    read("gzip of two members", "x.csv.gz", gzip.compress(b"a,b\n1,2\n3") + gzip.compress(b",4\n"), GOOD),
    read("zstd of two frames", "x.ndjson.zst", zst(JSONL[:20]) + zst(JSONL[20:]), GOOD),
    read("parquet in gzip", "x.parquet.gz", gzip.compress(PARQUET), GOOD),
    read("XLSX in zstd", "X.XLSX.ZST", zst(XLSX), GOOD),
    refused("gzip cut", "x.csv.gz", gzip.compress(CSV)[:-3], "not a whole gzip file", "Land it again, complete"),
    refused("zstd cut", "x.csv.zst", zst(CSV)[:-3], "not a whole zstd file", "Land it again, complete"),
    refused("gzip with more after its end", "x.csv.gz", gzip.compress(CSV) + b"1,2\n", "not a whole gzip file"),
    refused("zstd with more after its end", "x.csv.zst", zst(CSV) + b"1,2\n", "not a whole zstd file"),
    refused("gzip with a wrong checksum", "x.csv.gz", gzip.compress(CSV)[:-8] + bytes(8), "not a whole gzip file", "data check"),
    refused("gzip bomb", "x.csv.gz", gzip.compress(ZEROS), "unpacks to more than 200 times its", "zip bomb", "smaller", limits=BOMB),
    refused("zstd bomb", "x.csv.zst", zst(ZEROS), "unpacks to more than 200 times its", "land it in smaller files", limits=BOMB),
    refused("gzip beyond the limit", "x.csv.gz", gzip.compress(os.urandom(2 * MIB)), "unpacks to more than 1,048,576 bytes", limits=SMALL),
    refused("gzip in gzip", "x.csv.gz", gzip.compress(gzip.compress(CSV)), "is a gzip file by its first bytes, not csv"),
    # Names that lie
    refused("parquet named CSV", "x.csv", PARQUET, "is a parquet file by its first bytes, not csv", "Rename it"),
    refused("XLSX named JSONL", "x.jsonl", XLSX, "is an XLSX workbook", "Rename it, or set the format of the feed"),
    refused("gzip named CSV", "x.csv", gzip.compress(CSV), "is a gzip file", "Rename it"),
    refused("zstd named JSONL", "x.jsonl", zst(JSONL), "is a zstd file", "Rename it"),
    refused("CSV named gzip", "x.csv.gz", CSV, "not a whole gzip file"),
    refused("CSV named zstd", "x.csv.zst", CSV, "not a whole zstd file"),
    refused("CSV named parquet", "x.parquet", CSV, "not a whole parquet file"),
    refused("CSV named XLSX", "x.xlsx", CSV, "not a whole XLSX workbook"),
    refused("parquet named XLSX", "x.xlsx", PARQUET, "not a whole XLSX workbook"),
    refused("old Excel named CSV", "x.csv", b"\xd0\xcf\x11\xe0" + bytes(512), "old Excel workbook", "password"),
    refused("unknown ending", "x.txt", CSV, "no known format ends in '.txt'", "Rename the file, or set the format of the feed"),
    refused("no ending", "x", CSV, "no known format ends in ''", "Rename the file"),
    refused("compression alone", "x.gz", gzip.compress(CSV), "no known format ends in ''", "Rename the file"),
    refused("unknown compression", "x.csv.bz2", b"BZh9", "no known format ends in '.bz2'", ".gz or .zst"),
    refused("compressed twice", "x.csv.gz.gz", gzip.compress(gzip.compress(CSV)), "no known format ends in '.gz'"),
    read("unknown ending, declared format", "x.txt.gz", gzip.compress(CSV), GOOD, file_format="csv"),
    # XLSX
    refused("XLSX cut", "x.xlsx", XLSX[:-9], "not a whole XLSX workbook", "Land it again, complete"),
    refused("XLSX without sheets", "x.xlsx", repacked(XLSX, lambda parts: parts.pop(SHEET)), "not a whole XLSX workbook"),
    refused("a zip that is no workbook", "x.xlsx", repacked(XLSX, lambda parts: parts.clear()), "not a whole XLSX workbook"),
    read("first sheet empty", "x.xlsx", workbook([], [["a", "b"], [1, 2]]), [("1", "2", None)]),
    read("first sheet a chart", "x.xlsx", workbook_with_a_chart_first(), GOOD),
    read("errors in cells", "x.xlsx", workbook([["a", "b"], ["=1/0", "x"]]), [("0", "x", None)]),
    refused(
        "XLSX bomb", "x.xlsx", repacked(XLSX, lambda parts: parts.update({SHEET: ZEROS})), "unpacks to more than 200 times", limits=BOMB
    ),
    refused("XLSX beyond the limit", "x.xlsx", repacked(XLSX, lambda parts: parts.update(x=ZEROS)), "more than 1,048,576", limits=SMALL),
    refused(
        "XLSX bomb that declares little",
        "x.xlsx",
        with_false_sizes(repacked(XLSX, lambda parts: (parts.clear(), parts.update({SHEET: ZEROS})))),
        "unpacks to more than 200 times",
        limits=BOMB,
    ),
    refused("XLSX with false sizes", "x.xlsx", with_false_sizes(XLSX), "not a whole XLSX workbook", "bytes, not 10"),
    # Parquet
    refused("parquet cut", "x.parquet", PARQUET[:-9], "not a whole parquet file", "Land it again, complete"),
    refused("parquet column named twice", "x.parquet", parquet(pa.table([["1"], ["2"]], names=["a", "a"])), "'a'", "Rename the columns"),
    refused("binary in a list", "x.parquet", column([[b"x"]]), "column 'a' holds binary inside List(Binary)", "Land the file without it"),
    refused(
        "binary in a map", "x.parquet", column([[("k", b"x")]], pa.map_(pa.string(), pa.binary())), "column 'a' holds binary inside Map"
    ),
    refused("a date without a text", "x.parquet", FAR_DATE, "column 'a' holds a value that has no text", "Correct it or land text"),
    refused("decimal of 50 digits", "x.parquet", column([Decimal(1)], pa.decimal256(50)), "not a whole parquet file that can be read"),
    refused("text that is no UTF-8", "x.parquet", NO_TEXT, "not a whole parquet file", "invalid UTF-8"),
    read("map", "x.parquet", column([[("k", 1)], None], pa.map_(pa.string(), pa.int8())), [('{"k":1}', "x", None), (None, "x", None)]),
    read("categories", "x.parquet", column(["x", None], pa.dictionary(pa.int8(), pa.string())), [("x", "x", None), (None, "x", None)]),
    read("nanoseconds", "x.parquet", column([1], pa.timestamp("ns")), [("1970-01-01 00:00:00.000000001", "x", None)]),
    read("time", "x.parquet", column([1], pa.time64("ns")), [("00:00:00.000000001", "x", None)]),
    read("duration", "x.parquet", column([1], pa.duration("ns")), [("PT0.000000001S", "x", None)]),
    read("integers of 128 bits", "x.parquet", WIDE_INTEGER, [(str(2**100), "x", None)]),
    read("JSON as an extension type", "x.parquet", JSON_TYPE, [('{"x":1}', "x", None)]),
    read("half floats", "x.parquet", column([1.5], pa.float16()), [("1.5", "x", None)]),
]


@pytest.fixture(scope="module", autouse=True)
def little_to_collect():
    """What was imported and made before is left out of the collections of each test, which would go through millions of objects."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def scratch(tmp_path):
    """The folder for what reading puts on disk; it has to be empty in the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    gc.collect()
    assert list(folder.iterdir()) == []


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "landing"
    folder.mkdir()
    return folder


def rows_of(frame: pl.DataFrame) -> list:
    assert frame["_row"].to_list() == list(range(1, frame.height + 1))
    texts = frame.drop("_row", "_rescued").rows()
    rescued = [None if text is None else json.loads(text) for text in frame["_rescued"]]
    return [(*row, members) for row, members in zip(texts, rescued, strict=True)]


def refusal(path: Path, scratch: Path, **options) -> str:
    with pytest.raises(RefusedFile) as refused:
        parse(path, columns=A_B, required=[A_B], scratch=scratch, **options)
    assert path.name in refused.value.reason
    assert list(scratch.iterdir()) == []
    return refused.value.reason


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_each_bad_file_has_its_end(folder, scratch, case):
    path = folder / case.name
    path.write_bytes(case.content)
    if case.rows is None:
        reason = refusal(path, scratch, **case.options)
        for words in case.refused:
            assert words in reason
        return
    with parse(path, columns=A_B, required=[A_B], scratch=scratch, **case.options) as parsed:
        assert rows_of(parsed.frame.collect()) == case.rows
        assert parsed.rows == len(case.rows)
    assert list(scratch.iterdir()) == []
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize(
    "name",
    [
        "two words.csv",
        "two\nlines.csv",
        "ü🙂.csv",
        "100%.csv",
        "a%20b.csv",
        "*.csv",
        "[ab].csv",
        "?.csv",
        "..csv",
        "a..b.csv",
        "~.csv",
        "-a=1.csv",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_any_name_is_taken_literally(folder, scratch, name, packed):
    (folder / "a.csv").write_bytes(b"a,b\nother,file\n")
    path = folder / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(CSV) if packed else CSV)
    with parse(path, columns=A_B, required=[A_B], scratch=scratch) as parsed:
        assert rows_of(parsed.frame.collect()) == GOOD


@pytest.mark.parametrize("name", [b"\xff.csv", b"\xff.parquet", b"\xff.xlsx", b"\xff.jsonl", b"\xff.csv.gz"])
def test_name_that_is_not_utf_8_is_refused(folder, scratch, name):
    path = folder / os.fsdecode(name)
    path.write_bytes(CSV)
    with pytest.raises(RefusedFile) as refused:
        parse(path, columns=A_B, required=[A_B], scratch=scratch)
    assert refused.value.reason.encode().startswith(b"\\udcff")
    assert "not UTF-8. Rename it" in refused.value.reason


def test_path_with_dots_is_followed(folder, scratch):
    (folder / "x.csv").write_bytes(CSV)
    with parse(folder / ".." / folder.name / "x.csv", columns=A_B, required=[A_B], scratch=scratch) as parsed:
        assert rows_of(parsed.frame.collect()) == GOOD


class TestWhatIsNoFile:
    def test_folder(self, folder, scratch):
        (folder / "x.csv.gz").mkdir()
        assert "is not a file. Land a file in its place" in refusal(folder / "x.csv.gz", scratch)

    def test_pipe_is_not_waited_for(self, folder, scratch):
        os.mkfifo(folder / "x.csv")
        assert "is not a file" in refusal(folder / "x.csv", scratch)

    def test_device(self, folder, scratch):
        (folder / "x.csv").symlink_to("/dev/zero")
        assert "is not a file" in refusal(folder / "x.csv", scratch)

    def test_link_to_nothing(self, folder, scratch):
        (folder / "x.csv").symlink_to(folder / "absent.csv")
        assert "No such file" in refusal(folder / "x.csv", scratch)

    def test_link_to_itself(self, folder, scratch):
        (folder / "x.csv").symlink_to(folder / "x.csv")
        assert "Too many levels of symbolic links" in refusal(folder / "x.csv", scratch)

    def test_link_is_read_as_what_it_points_to(self, folder, scratch):
        (folder / "real.csv").write_bytes(CSV)
        (folder / "x.csv").symlink_to(folder / "real.csv")
        with parse(folder / "x.csv", columns=A_B, required=[A_B], scratch=scratch) as parsed:
            assert rows_of(parsed.frame.collect()) == GOOD

    def test_name_too_long(self, folder, scratch):
        assert "File name too long" in refusal(folder / ("x" * 300 + ".csv"), scratch)


CONTENTS = {
    "x.csv": CSV * 2,
    "x.csv.gz": gzip.compress(CSV),
    "x.jsonl": JSONL,
    "x.parquet": PARQUET,
    "x.xlsx": XLSX,
}


class TestChangedWhileRead:
    """A frame reads the file anew: what changed since it was parsed is refused, not read in part."""

    @pytest.mark.parametrize("name", CONTENTS)
    @pytest.mark.parametrize("change", ["cut", "grown", "other bytes", "another file", "gone"])
    def test_between_parsing_and_collecting(self, folder, scratch, name, change):
        path, content = folder / name, CONTENTS[name]
        path.write_bytes(content)
        with parse(path, columns=A_B, required=[], scratch=scratch) as parsed:
            os.utime(path, ns=(1, 1))
            self.change(path, content, change)
            with pytest.raises(RefusedFile, match=f"{name} changed while it was being read. Land files complete"):
                parsed.frame.collect()
            with pytest.raises(RefusedFile, match="changed while"):
                parsed.frame.with_columns(x=1).select("b", "x").sink_parquet(scratch.parent / "out.parquet")
            with pytest.raises(RefusedFile, match="changed while"):
                list(parsed.frame.collect_batches())

    def change(self, path: Path, content: bytes, change: str) -> None:
        match change:
            case "cut":
                os.truncate(path, len(content) // 2)
            case "grown":
                with path.open("ab") as file:
                    file.write(b"5,6\n")
            case "other bytes":
                path.write_bytes(content.replace(b"1", b"9"))
            case "another file":
                path.with_name("new").write_bytes(content)
                path.with_name("new").rename(path)
            case "gone":
                path.unlink()

    def test_while_parsing(self, folder, scratch):
        path, stop = folder / "x.csv", threading.Event()
        path.write_bytes(b"a,b\n" + 500_000 * b"1,2\n")

        def grow():
            with path.open("ab", buffering=0) as file:
                while not stop.is_set():
                    file.write(b"1,2\n")

        writer = threading.Thread(target=grow)
        writer.start()
        try:
            assert "changed while it was being read" in refusal(path, scratch)
        finally:
            stop.set()
            writer.join()

    def test_touched_but_equal_rows_of_another_time_are_refused_too(self, folder, scratch):
        path = folder / "x.csv"
        path.write_bytes(CSV)
        with parse(path, columns=A_B, required=[A_B], scratch=scratch) as parsed:
            os.utime(path, ns=(1, 1))
            with pytest.raises(RefusedFile, match="changed while"):
                parsed.frame.collect()


class TestScratch:
    def test_unpacked_file_lives_as_long_as_the_frame(self, folder, scratch):
        path = folder / "x.csv.gz"
        path.write_bytes(gzip.compress(CSV))
        frame = parse(path, columns=A_B, required=[A_B], scratch=scratch).frame.with_columns(c=pl.lit(1))
        gc.collect()
        assert len(list(scratch.iterdir())) == 1
        assert frame.select("a", "c").collect().rows() == [("1", 1), ("3", 1)]
        del frame
        gc.collect()
        assert list(scratch.iterdir()) == []

    def test_frame_of_a_closed_file_says_so(self, folder, scratch):
        path = folder / "x.csv.gz"
        path.write_bytes(gzip.compress(CSV))
        with parse(path, columns=A_B, required=[A_B], scratch=scratch) as parsed:
            pass
        with pytest.raises(ValueError, match=r"x\.csv\.gz was closed: collect the frame before"):
            parsed.frame.collect()

    @pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
    def test_records_split_in_python_go_to_disk_when_they_are_many(self, folder, scratch, name):
        stray = b'"x"y\n'
        body = b"".join(
            b'%d,"%s"\n' % (n, b"y" * 500) if name == "x.csv" else b'{"a":%d,"b":"%s"}\n' % (n, b"y" * 500) for n in range(70_000)
        )
        (folder / name).write_bytes(b"a,b\n" * (name == "x.csv") + stray + body)
        with parse(folder / name, columns=A_B, required=[A_B], scratch=scratch) as parsed:
            assert [file.name for file in scratch.rglob("*") if file.is_file()] == [name]
            frame = parsed.frame.collect()
        assert frame.height == parsed.rows == 70_001
        assert frame["a"].to_list() == [None, *map(str, range(70_000))]
        assert json.loads(frame["_rescued"][0]) == {"_line": '"x"y'}
        assert frame["b"].drop_nulls().unique().to_list() == ["y" * 500]

    @pytest.mark.parametrize(("name", "encoding"), [("x.csv.zst", "utf-8"), ("x.csv", "utf-16")])
    def test_full_disk_is_told_from_a_bad_file(self, folder, scratch, name, encoding):
        content = b"a,b\n" + 2**18 * b"1,2\n"
        (folder / name).write_bytes(zst(content) if name.endswith("zst") else content.decode().encode(encoding))
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, limit[1]))  # as far as a disk with half a megabyte left
        try:
            reason = refusal(folder / name, scratch, encoding=encoding)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert os.strerror(errno.EFBIG) in reason
        assert "Free disk space, or set TMPDIR" in reason


class TestMemory:
    """Python's own memory; what is mapped or unpacked to disk does not count."""

    def peak(self, path: Path, scratch: Path, **options) -> tuple[int, str]:
        tracemalloc.start()
        try:
            reason = refusal(path, scratch, **options)
            return tracemalloc.get_traced_memory()[1], reason
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
    def test_line_of_a_gigabyte(self, folder, scratch, name):
        path = folder / name
        path.touch()
        os.truncate(path, 2**30)  # sparse: it takes no room on disk
        peak, reason = self.peak(path, scratch)
        assert "line 1 is longer than 67,108,864 bytes" in reason
        assert peak < 256 * MIB

    def test_line_of_a_gigabyte_in_another_encoding(self, folder, scratch):
        path = folder / "x.csv"
        path.touch()
        os.truncate(path, 2**26)
        peak, reason = self.peak(path, scratch, encoding="utf-16-le", limits=LONG)
        assert "line 1 is longer than 2,097,152 bytes" in reason
        assert peak < 16 * MIB

    @pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.zst"])
    def test_bomb(self, folder, scratch, name):
        path = folder / name
        with pa.output_stream(str(path), compression="gzip" if name.endswith("gz") else "zstd") as stream:
            for _ in range(128):
                stream.write(bytes(MIB))
        assert path.stat().st_size < MIB // 4
        peak, reason = self.peak(path, scratch)
        assert "unpacks to more than 200 times" in reason
        assert peak < 8 * MIB

    def test_workbook_bomb(self, folder, scratch):
        path = folder / "x.xlsx"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(SHEET, "w") as part:
            for _ in range(128):
                part.write(bytes(MIB))
        peak, reason = self.peak(path, scratch)
        assert "unpacks to more than 200 times" in reason
        assert peak < 8 * MIB


def test_a_real_workbook_is_within_the_limits(folder):
    path = folder / "x.xlsx"
    path.write_bytes(workbook([["a", "b"], *([number % 7, "WHITE METAL LANTERN"] for number in range(20_000))]))
    check_workbook(path, Limits(harmless=0))


class TestNewColumns:
    def offered(self, folder: Path, names: list[str]) -> tuple[str, ...]:
        path = folder / "x.jsonl"
        path.write_text(json.dumps({"a": 1, "b": 2} | dict.fromkeys(names, "x")) + "\n")
        parsed = parse(path, columns=A_B, required=[A_B])
        rescued = json.loads(parsed.frame.collect()["_rescued"].item() or "{}")
        assert list(rescued.get("_columns", {})) == names  # offered or not, until they are declared
        return parsed.unknown

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("x.csv", b"c,a,b,d\n1,2,3,\n"),
            ("x.csv", b'c,a,b,d\n1,2,3,\n"x"y\n'),
            ("x.jsonl", b'{"a":1,"c":{"x":[1]},"b":2}\n{"d":null}\n'),
            ("x.parquet", parquet(pa.table({"c": [1], "a": [2], "b": [3], "d": [None]}))),
            ("x.xlsx", workbook([["c", "a", "b", "d"], [1, 2, 3]])),
        ],
        ids=["CSV", "CSV split in Python", "JSONL", "parquet", "XLSX"],
    )
    def test_every_format_offers_what_it_has_beyond_the_declared_columns(self, folder, name, content):
        path = folder / name
        path.write_bytes(content)
        first = parse(path, columns=A_B, required=[A_B])
        assert first.unknown == ("c", "d")
        again = parse(path, columns=(*A_B, *first.unknown), required=[A_B])
        assert again.unknown == ()
        frame = again.frame.collect()
        assert frame["c"][0] in {"1", '{"x":[1]}'}
        assert json.loads(first.frame.collect()["_rescued"][0])["_columns"]["c"] == frame["c"][0]
        assert frame["_rescued"][0] is None

    @pytest.mark.parametrize(
        "name",
        ["", " ", "_x", "_rescued", "x\ny", "x\ty", "\x7f", "x\u2028y", "A", "B", "x" * 256, "é" * 128, "`", "*", "^.*$"],
    )
    def test_name_that_no_column_can_have_is_not_offered(self, folder, name):
        assert self.offered(folder, [name, "good"]) == ("good",)

    def test_names_that_differ_only_by_case_are_not_offered(self, folder):
        assert self.offered(folder, ["Size", "SIZE", "straße", "STRASSE", "colour"]) == ("colour",)

    @pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "two words", "a.b", "%20", "'", '"', "a=b", "1", "x$", "/", "😀"])
    def test_other_names_are_offered(self, folder, name):
        assert self.offered(folder, [name]) == (name,)


def test_columns_can_be_chosen_from_the_frame_whatever_their_names(folder):
    path = folder / "x.jsonl"
    path.write_bytes(b'{"*":1,"^.*$":2,"a":3}\n')
    frame = parse(path, columns=["*", "^.*$", "a"], required=[]).frame
    assert frame.select(pl.nth(0)).collect().rows() == [("1",)]
    assert frame.select("a").collect().rows() == [("3",)]
    assert frame.select(pl.len()).collect().item() == 1
    assert frame.filter(pl.col("a") == "3").head(1).collect().height == 1
    assert frame.filter(pl.col("a") == "4").collect().height == 0


@pytest.fixture(scope="module")
def anything(tmp_path_factory):
    return tmp_path_factory.mktemp("anything")


VALID = {**CONTENTS, "x.jsonl.zst": zst(JSONL), "x.ndjson": JSONL}


@st.composite
def damaged(draw):
    """A name, and any bytes, or good content of that name with some bytes cut, overwritten or put in."""
    name = draw(st.sampled_from(sorted(VALID)))
    content = VALID[name]
    if draw(st.integers(0, 3)) == 0:
        return name, draw(st.binary(max_size=60))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 20)))
        content = content[:start] + draw(st.binary(max_size=8) | st.sampled_from([b'"', b"\n", b"\r", b",", b"{", b"[1]"])) + content[end:]
    return name, content


@settings(deadline=None, max_examples=sweeps.of(100, 5000))
@given(landed=damaged(), required=st.sampled_from([[], [A_B]]))
def test_whatever_the_bytes_it_is_refused_or_gives_its_rows(anything, landed, required):
    name, content = landed
    path = anything / name
    path.write_bytes(content)
    try:
        with parse(path, columns=A_B, required=required, scratch=anything) as parsed:
            frame = parsed.frame.collect()
    except RefusedFile:
        pass
    else:
        assert frame.height == parsed.rows
        assert frame.columns == ["a", "b", "_row", "_rescued"]
    assert all(file.name in VALID for file in anything.iterdir())
