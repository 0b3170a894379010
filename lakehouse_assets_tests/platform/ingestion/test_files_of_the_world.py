"""Files as the world writes them, family by family: each ends with the right values, rescued or refused, and none stops the others.

All files of one feed are in the landing folder together and are ingested by one run, so that a file that stopped it would fail every test
of its feed. What bronze holds of each file is compared with what it says, and the rows that the landing log counts with those of bronze.
"""

import functools
import io
import json
import os
import socket
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter

from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets_tests.platform.ingestion.orders import Orders

FEEDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cp1252": {"encoding": "cp1252"},
    "no header": {"has_header": False},
    "two sheets": {"sheets": ("20*",)},
    "semicolons": {"separator": ";"},
    "decomposed": {"headers": (("id", "Größe"),)},
    "hive": {"optional": ("year", "region")},
}
"""The options of the feeds that the files land in, besides new columns being rescued."""


@dataclass(frozen=True)
class Member:
    """A file, and its end: the rows of bronze (the declared columns, what was rescued) or words of the refusal.

    Attributes:
        rows: None: it is refused.
        reason: Words of the reason of a refusal, or of the remark about a file that was read.
    """

    family: str
    what: str
    path: str
    content: bytes | Callable[[Path], None]
    rows: list[tuple] | None = None
    reason: tuple[str, ...] = ()
    feed: str = "plain"


MEMBERS: list[Member] = []


@dataclass
class Family:
    """Declares the members of a family."""

    name: str
    ending: str
    _count: int = field(default=0)

    def reads(self, what: str, content: Any, rows: list[tuple], *reason: str, feed: str = "plain", path: str = "") -> None:
        MEMBERS.append(Member(self.name, what, path or self._path(), content, rows, reason, feed))

    def refuses(self, what: str, content: Any, *reason: str, feed: str = "plain", path: str = "") -> None:
        MEMBERS.append(Member(self.name, what, path or self._path(), content, None, reason, feed))

    def _path(self) -> str:
        self._count += 1
        return f"{self.name}-{self._count}.{self.ending}"


def row(identity: object, value: object = None, **rescued: object) -> tuple:
    return identity, value, rescued or None


def line(text: str) -> tuple:
    return row(None, None, _line=text)


# --- CSV

csv = Family("csv", "csv")
csv.reads("semicolons", b"id;value\n1;1,5\n", [row("1", "1,5")])
csv.reads("tabs", b"id\tvalue\n1\tx y\n", [row("1", "x y")])
csv.reads("tabs, by its ending", b"id\tvalue\n2\tx\n", [row("2", "x")], path="tabs.tsv")
csv.reads("pipes", b"id|value\n1|a,b\n", [row("1", "a,b")])
csv.reads("semicolons with quotes and newlines", b'id;value\n1;"a;""b""\nc"\n', [row("1", 'a;"b"\nc')])
csv.reads(
    "a separator that Excel names first",
    b"sep=;\nid;value\n1;2\n",
    [row("1", "2")],
    "1 line above the header was not read; the header is line 2",
)
csv.refuses("another separator than declared", b"id,value\n1,2\n", "Its separator is ','", "separator=','", feed="semicolons")
csv.reads("the declared separator", b"id;value\n1;2\n", [row("1", "2")], feed="semicolons")
csv.reads("UTF-16 with a mark", "id,value\n1,é\n".encode("utf-16"), [row("1", "é")])
csv.reads("UTF-16 BE with a mark", b"\xfe\xff" + "id,value\n2,é\n".encode("utf-16-be"), [row("2", "é")])
csv.reads("UTF-16 without a mark", "id,value\n3,é\n".encode("utf-16-le"), [row("3", "é")])
csv.reads("UTF-8 with a mark", "id,value\n4,é\n".encode("utf-8-sig"), [row("4", "é")])
csv.refuses("Windows-1252", "id,value\n1,£2\n".encode("cp1252"), "line 2 is not utf-8: byte 0xA3", "encoding='cp1252'")
csv.reads("Windows-1252, declared", "id,value\n1,£2\n".encode("cp1252"), [row("1", "£2")], feed="cp1252")
csv.refuses("mixed encodings", "id,value\n1,é\n".encode() + "2,é\n".encode("cp1252"), "line 3", "If only some lines are, land it again")
csv.refuses("NUL bytes", b"id,value\n1,2\n3,\0\n", "line 3 holds a NUL byte", "Land it again")
csv.reads("too long", b"id,value\n1,2,3\n4,5\n", [row("1", "2", _extra=["3"]), row("4", "5")])
csv.reads("too short", b"id,value\n1\n4,5\n", [row("1", None, _missing=["value"], _line="1"), row("4", "5")])
csv.reads("separators at the ends of records", b"id,value\n1,2,\n4,5,,\n", [row("1", "2"), row("4", "5")])
csv.reads("separators at the ends of all lines", b"id,value,\n1,2,\n", [row("1", "2")])
csv.reads("a quoted empty text and an empty field", b'id,value\n1,""\n2,\n', [row("1", ""), row("2")])
csv.reads(
    "comments and blank lines first", b"# made by x, on y, at z\n\nReport\nid,value\n1,2\n", [row("1", "2")], "2 lines above", "line 4"
)
csv.refuses("records above the header", b"7,8\nid,value\n1,2\n", "lacks 'id', 'value'; it has '7', '8' instead")
csv.reads("the header again in the middle", b"id,value\n1,2\nid,value\n3,4\n", [row("1", "2"), line("id,value"), row("3", "4")])
csv.reads("a quoted header again", b'"id","value"\n1,2\n"id","value"\n5,6\n', [row("1", "2"), line('"id","value"'), row("5", "6")])
csv.reads("a value that is a name", b"id,value\nid,2\n", [row("id", "2")])
csv.reads("a total at the end", b"id,value\n1,2\nTotal,2\n", [row("1", "2"), row("Total", "2")])
csv.reads("a total that is short", b"id,value\n1,2\nTotal\n", [row("1", "2"), row("Total", None, _missing=["value"], _line="Total")])
csv.reads("header in another case, with spaces", b" ID , Value\n1,2\n", [row("1", "2")])
csv.refuses("a name twice", b"id,value,value\n1,2,3\n", "names 'value' more than once", "Rename the columns")
csv.refuses("no header", b"1,2\n3,4\n", "lacks 'id', 'value'; it has '1', '2' instead", "has_header=False")
csv.reads("no header, declared", b"1,2\n3,4\n", [row("1", "2"), row("3", "4")], feed="no header")
csv.reads("no header, semicolons", b"1;2\n5;\n", [row("1", "2"), row("5")], feed="no header")
csv.reads("no header, a stray quote", b'"x"y,2\n3,4\n', [line('"x"y,2'), row("3", "4")], feed="no header")
csv.reads("a header although none is declared", b"value,id\n1,2\n", [row("2", "1")], feed="no header")
csv.refuses("no header, three fields", b"1,2,3\n", "first record does not have the 2 fields", "declare", feed="no header")
csv.reads("a stray quote below a title", b'Title\nid;value\n"x"y;1\n3;4\n', [line('"x"y;1'), row("3", "4")], "1 line above")
csv.reads("only a header", b"value,id\n", [])
csv.refuses("nothing", b"", "is empty (0 bytes)")
csv.refuses("too many columns", b"id,value" + b",c" * 20_000 + b"\n", "20,002 columns; at most 16,384")

# --- XLSX


def book(*sheets: list[list], names: tuple[str, ...] = (), hidden: tuple[int, ...] = (), change: Any = None) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content) as workbook:
        workbook.add_format()
        for number, rows in enumerate(sheets):
            sheet = workbook.add_worksheet(names[number] if names else None)
            for index, cells in enumerate(rows):
                for column, cell in enumerate(cells):
                    if isinstance(cell, tuple):
                        sheet.write_formula(index, column, cell[0], None, cell[1])
                    elif cell is not None:
                        sheet.write(index, column, cell)
            if number in hidden:
                sheet.hide()
            if change is not None:
                change(workbook, sheet)
        seen = [sheet for number, sheet in enumerate(workbook.worksheets()) if number not in hidden]
        seen[0].activate()
        seen[0].set_first_sheet()
    return content.getvalue()


def without_results(content: bytes) -> bytes:
    """The workbook as programs write it that do not compute: `<v></v>` of formulas is not there."""
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name).replace(b"<v></v>", b""))
    return target.getvalue()


def hide_a_row(_: Any, sheet: Any) -> None:
    sheet.set_row(1, None, None, {"hidden": True})


def merge_above(workbook: Any, sheet: Any) -> None:
    sheet.merge_range(0, 0, 0, 1, "Both columns")
    sheet.write_row(1, 0, ["id", "value"])
    sheet.write_row(2, 0, [1, 2])


def stray(at: tuple[int, int]) -> Any:
    return lambda _, sheet: sheet.write(*at, " ")


HEAD = ["id", "value"]
xlsx = Family("xlsx", "xlsx")
xlsx.reads("several sheets", book([HEAD, [1, 2]], [["value", "id"], [4, 3]]), [row("1", "2"), row("3", "4")])
xlsx.refuses(
    "a sheet without the header",
    book([HEAD, [1, 2]], [["Notes", "by"], ["x", "y"]], names=("Data", "Notes")),
    "the sheet 'Notes' has cells with values and not the header",
    "sheets=('Data',)",
)
xlsx.refuses(
    "no sheet with the header",
    book([["a"], ["b"]], [["c"], ["d"]]),
    "sheet 'Sheet1' (values are on the sheets 'Sheet1', 'Sheet2'): the header lacks 'id', 'value'",
)
xlsx.reads(
    "sheets by name",
    book([["Cover"]], [HEAD, [1, 2]], [HEAD, [3, 4]], names=("Cover", "2023", "2024")),
    [row("1", "2"), row("3", "4")],
    feed="two sheets",
)
xlsx.refuses("no sheet of that name", book([HEAD, [1, 2]]), "has no sheet '20*'; it has the sheet 'Sheet1'", feed="two sheets")
xlsx.reads(
    "a hidden sheet",
    book([HEAD, ["OLD", 1]], [HEAD, ["NEW", 2]], names=("old", "new"), hidden=(0,)),
    [row("NEW", "2")],
    "the hidden sheet 'old' was not read",
)
xlsx.reads("blank rows above the header", book([[], [], HEAD, [1, 2]]), [row("1", "2")])
xlsx.reads("a title above the header", book([["Sales of May"], [], HEAD, [1, 2]]), [row("1", "2")], "1 row above the header")
xlsx.reads("merged cells above the header", book([], change=merge_above), [row("1", "2")], "1 row above the header")
xlsx.reads(
    "formulas without a result",
    without_results(book([HEAD, [1, ("=2*21", "")], [2, ("=1+1", 2)]])),
    [row("1", None, _formula={"value": "=2*21"}), row("2", "2")],
)
xlsx.reads(
    "formulas with an empty element for the result",
    book([HEAD, [5, ("=2*21", "")], [6, 7]]),
    [row("5", None, _formula={"value": "=2*21"}), row("6", "7")],
)
xlsx.refuses(
    "a formula without a result outside of all values",
    without_results(book([HEAD, [1, 2], [None, ("=SUM(B2)", "")]])),
    "formula in B3 whose result is not stored",
    "save it again",
)
xlsx.reads("errors", book([HEAD, [1, ("=1/0", "#DIV/0!")], [2, ("=NA()", "#N/A")]]), [row("1", "#DIV/0!"), row("2", "#N/A")])
xlsx.reads("dates as text and numbers as text", book([HEAD, ["001", "2024-01-31"]]), [row("001", "2024-01-31")])
xlsx.reads("hidden rows", book([HEAD, [1, 2], [3, 4]], change=hide_a_row), [row("1", "2"), row("3", "4")])
xlsx.reads("the header again", book([HEAD, [1, 2], HEAD, [3, 4]]), [row("1", "2"), line("id,value"), row("3", "4")])
xlsx.reads("no header, declared", book([[1, 2], [3, None]]), [row("1", "2"), row("3")], feed="no header")
xlsx.refuses("a cell far out", book([HEAD, [1, 2]], change=stray((1_048_575, 16_383))), "XFD1048576", "17,179,869,184", "Delete the cells")
xlsx.refuses("nothing", book([[]]), "no cell of its sheets has a value")
xlsx.refuses("only a hidden sheet", book([HEAD, [1, 2]], [], hidden=(0,)), "the sheet 'Sheet1' (hidden), which no one sees")

# --- JSON

js = Family("json", "jsonl")
js.reads("an array", b'[{"id":1,"value":2},\n {"id":3,"value":null}]', [row("1", "2"), row("3")], path="array.json")
js.reads("an array with something else in it", b'[{"id":1,"value":2}, 7]', [row("1", "2"), line("7")])
js.reads("an array that is cut", b'[\n{"id":1,"value":2},\n{"id":3,"value":4}\n', [line("["), line('{"id":1,"value":2},'), row("3", "4")])
js.reads(
    "nested",
    b'{"id":[1,{"a":2.50}],"value":{"b":[]},"other":{"c":1}}\n',
    [row('[1,{"a":2.50}]', '{"b":[]}', _columns={"other": '{"c":1}'})],
)
js.reads(
    "mixed types",
    b'{"id":1,"value":"x"}\n{"id":"1","value":2.0}\n{"id":true,"value":[]}\n',
    [row("1", "x"), row("1", "2.0"), row("true", "[]")],
)
js.reads(
    "integers beyond 2^53", b'{"id":9007199254740993,"value":18446744073709551617}\n', [row("9007199254740993", "18446744073709551617")]
)
js.reads("no numbers", b'{"id":NaN,"value":-Infinity}\n', [row("NaN", "-Infinity")])
js.reads("a key twice", b'{"id":1,"id":2,"value":3}\n{"id":4,"value":5}\n', [line('{"id":1,"id":2,"value":3}'), row("4", "5")])
js.reads("half a surrogate pair", b'{"id":"\\ud800","value":1}\n{"id":2,"value":3}\n', [line('{"id":"\\ud800","value":1}'), row("2", "3")])
js.reads("deeply nested", b'{"id":' + b"[" * 50_000 + b'\n{"id":2,"value":4}\n', [line('{"id":' + "[" * 50_000), row("2", "4")])
js.reads("keys in another case", b'{"ID":1," value":2}\n{"id":3,"ID":4,"value":5}\n', [row("1", "2"), row("3", "5", _columns={"ID": "4"})])
js.refuses("an object over lines", b'{\n"id": 1,\n"value": 2\n}\n', "no line is a JSON object", "one object a line", "one array")
js.reads(
    "10,000 keys",
    json.dumps({"id": 1, "value": 2} | {f"k{n}": n for n in range(10_000)}).encode(),
    [row("1", "2", _columns={f"k{n}": str(n) for n in range(10_000)})],
)

# --- parquet


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content, **options)
    return content.getvalue()


def values(*values: Any, dtype: Any = None, **options: Any) -> bytes:
    return parquet({"id": [str(n) for n in range(len(values))], "value": pa.array(values, dtype)}, **options)


def polars_values(*values: Any, dtype: Any) -> bytes:
    content = io.BytesIO()
    pl.DataFrame({"id": [str(n) for n in range(len(values))], "value": pl.Series(values, dtype=dtype)}).write_parquet(content)
    return content.getvalue()


def many(number: int) -> bytes:
    size, digits = number, b""
    while size >= 128:
        digits, size = digits + bytes([size & 127 | 128]), size >> 7
    return digits + bytes([size])


def crafted() -> bytes:
    """A file of three rows whose dictionary says that it has ten thousand million entries."""
    content = values("x", "x", "x", compression="none", write_statistics=False)
    return content[:12] + many(20_000_000_030) + content[13:]


FAR_TEXTS = "9999-12-31 23:59:59", "1000-01-01 00:00:00", "2024-06-01 12:00:00"
FAR = tuple(map(datetime.fromisoformat, FAR_TEXTS))
NEAR = datetime.fromisoformat("2024-06-01 12:00:00.000001")
parq = Family("parquet", "parquet")
parq.reads(
    "int96 far off",
    values(*FAR, dtype=pa.timestamp("us"), use_deprecated_int96_timestamps=True, store_schema=False),
    [row(str(n), text) for n, text in enumerate(FAR_TEXTS)],
)
parq.reads(
    "int96",
    values(NEAR, None, dtype=pa.timestamp("us"), use_deprecated_int96_timestamps=True, store_schema=False),
    [row("0", "2024-06-01 12:00:00.000001"), row("1")],
)
parq.reads(
    "int96 in a list",
    values([FAR[0]], dtype=pa.list_(pa.timestamp("us")), use_deprecated_int96_timestamps=True, store_schema=False),
    [row("0", '["9999-12-31 23:59:59"]')],
)
parq.reads(
    "int96 far off, with Arrow's types beside",
    values(FAR[0], dtype=pa.timestamp("us"), use_deprecated_int96_timestamps=True),
    [row("0", FAR_TEXTS[0])],
)
parq.reads("far off", values(*FAR, dtype=pa.timestamp("us")), [row(str(n), text) for n, text in enumerate(FAR_TEXTS)])
parq.reads("nanoseconds", values(1, dtype=pa.timestamp("ns")), [row("0", "1970-01-01 00:00:00.000000001")])
parq.reads(
    "with a time zone",
    values(datetime(2024, 1, 1, tzinfo=UTC), dtype=pa.timestamp("us", "Europe/London")),
    [row("0", "2024-01-01 00:00:00+00:00")],
)
parq.reads("dates", values(date(1, 1, 1), date(9999, 12, 31)), [row("0", "0001-01-01"), row("1", "9999-12-31")])
parq.reads("decimals", values(Decimal("1.50"), Decimal("-0.01")), [row("0", "1.50"), row("1", "-0.01")])
parq.refuses("decimals of 50 digits", values(Decimal("1.50"), dtype=pa.decimal256(50, 2)), "not a whole parquet file that can be read")
parq.reads("a dictionary", values("x", None, "x", dtype=pa.dictionary(pa.int8(), pa.string())), [row("0", "x"), row("1"), row("2", "x")])
parq.reads("large strings", values("y", dtype=pa.large_string()), [row("0", "y")])
parq.reads("lists", values([1, None], [], None), [row("0", "[1,null]"), row("1", "[]"), row("2")])
parq.reads("maps", values([("k", 1)], dtype=pa.map_(pa.string(), pa.int8())), [row("0", '{"k":1}')])
parq.reads("structs", values({"a": 1, "b": {"c": "é"}}), [row("0", '{"a":1,"b":{"c":"é"}}')])
parq.reads("integers of all sizes", values(2**64 - 1, dtype=pa.uint64()), [row("0", "18446744073709551615")])
parq.reads("integers of 128 bits", polars_values(2**100, dtype=pl.Int128), [row("0", str(2**100))])
parq.reads("no row group", parquet({"id": pa.array([], pa.string()), "value": pa.array([], pa.int64())}), [])
parq.reads("one type", values(1), [row("0", "1")])
parq.reads("another type of the same column", values("one"), [row("0", "one")])
parq.reads("names in another case", parquet({"ID": ["1"], "Value ": [2.5], "more": [None]}), [row("1", "2.5")])
parq.refuses(
    "a name twice",
    (lambda path: pq.write_table(pa.table([["1"], ["2"], ["3"]], names=["id", "value", "id"]), path)),
    "'id'",
    "Rename",
)
parq.refuses("one that asks for more memory than there is", crafted(), "reading it ended the process that read it", "memory allocation of")
parq.refuses("cut", values("cut")[:-20], "not a whole parquet file", "Land it again, complete")
parq.reads(
    "folders as columns",
    parquet({"id": ["1"], "value": ["a"]}),
    [("1", "a", "2024", "EU west", None)],
    feed="hive",
    path="year=2024/region=EU%20west/a.parquet",
)
parq.reads(
    "folders, one without a value",
    b"id,value,year\n1,b,7\n",
    [("1", "b", "7", None, None)],
    feed="hive",
    path="year=2024/region=__HIVE_DEFAULT_PARTITION__/b.csv",
)

# --- columns

columns = Family("columns", "csv")
for index, name in enumerate(("a.b", "a/b", "it's", "😀", "with space", "_file", "_row", "_rescued", "_columns", "_line", "*", "^x$")):
    columns.reads(f"a name {name}", f"id,value,{name}\n{index},x,1\n".encode(), [row(str(index), "x", _columns={name: "1"})])
columns.reads("a name in quotes", b'id,value,"say ""x"""\n1,2,3\n', [row("1", "2", _columns={'say "x"': "3"})])
columns.reads("two that differ in case alone", b"id,value,VALUE\n1,2,3\n", [row("1", "2", _columns={"VALUE": "3"})])
columns.reads(
    "notes and columns of one name", b"id,value,_extra\n1,2,own,surplus\n", [row("1", "2", _columns={"_extra": "own"}, _extra=["surplus"])]
)
columns.reads(
    "10,000 of them",
    b"id,value" + b"".join(b",c%d" % n for n in range(9_998)) + b"\n1,2" + b",x" * 9_998 + b"\n",
    [row("1", "2", _columns={f"c{n}": "x" for n in range(9_998)})],
)
columns.reads(
    "a column that changes its type", b"id,value\n1,2\n3,x\n4,2024-01-01\n", [row("1", "2"), row("3", "x"), row("4", "2024-01-01")]
)
columns.reads("decomposed letters", "id,Gro\u0308\u00dfe\n1,2\n".encode(), [row("1", "2")], feed="decomposed")
columns.reads("invisible characters", "\u200bid,\u00a0Größe\ufeff\n3,4\n".encode(), [row("3", "4")], feed="decomposed")
columns.refuses("letters of another alphabet", "id,v\u0430lue\n1,2\n".encode(), "(that is 'v\\u0430lue')", "lacks 'value'")

# --- what is no file


def socket_at(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


names = Family("names", "csv")
names.reads("markup in a name", b"id,value\n91,[red]x[/]\n", [row("91", "[red]x[/]")], path="a[/b].csv")
names.refuses("markup in a name and in a header", b"id,Price [/unit]\n1,2\n", "lacks 'value'", "'Price [/unit]'", path="c[/d].csv")
names.refuses("a named pipe", os.mkfifo, "it is a named pipe", "land that")
names.refuses("a socket", socket_at, "it is a socket", "land that")
names.refuses("an empty folder named as a file", lambda path: path.mkdir(), "it is an empty folder")
names.refuses("a link to nothing", lambda path: path.symlink_to("nothing.csv"), "symbolic link to nothing")
names.refuses("a link to a device", lambda path: path.symlink_to("/dev/zero"), "leads out of the feed's landing folder")
names.refuses("a link to itself", lambda path: path.symlink_to(path.name), "cannot be opened")
names.reads("a folder as Spark writes one", b"id,value\n92,1\n", [row("92", "1")], path="spark.csv/part-0.csv")


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Orders]:
    """Gives a feed into which all its files landed and were ingested by one run."""

    @functools.cache
    def world(name: str) -> Orders:
        orders = Orders.under(tmp_path_factory.mktemp("world"), **{"new_columns": "rescue", **FEEDS[name]})
        for member in of_feed(name):
            path = orders.folder / member.path
            path.parent.mkdir(parents=True, exist_ok=True)
            member.content(path) if callable(member.content) else path.write_bytes(member.content)
        orders.run()
        return orders

    return world


def of_feed(name: str) -> list[Member]:
    return [member for member in MEMBERS if member.feed == name]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: f"{member.family}: {member.what}")
def test_each_file_has_its_end(worlds, member):
    orders = worlds(member.feed)
    last = landing.latest(orders.ingestion.log).filter(pl.col("path") == member.path).row(0, named=True)
    event, reason = last["event"], last["reason"] or ""
    rows = orders.ingestion.bronze.scan().filter(pl.col("_file") == member.path).sort("_row").collect()
    for words in member.reason:
        assert words in reason
    if member.rows is None:
        assert event == landing.REFUSED
        assert Path(member.path).name in reason
        assert not rows.height
        return
    assert (event, bool(reason)) == (landing.READ, bool(member.reason)), reason
    texts = rows.select(*orders.ingestion.feed.columns, "_rescued").rows()
    assert [(*values, rescued and json.loads(rescued)) for *values, rescued in texts] == member.rows
    assert rows["_row"].to_list() == list(range(1, rows.height + 1))


@pytest.mark.parametrize("name", FEEDS)
def test_rows_are_accounted_for(worlds, name):
    orders = worlds(name)
    events = landing.latest(orders.ingestion.log)
    read = events.filter(pl.col("event") == landing.READ)
    assert set(events["event"]) <= {landing.READ, landing.REFUSED}
    assert sorted(events["path"]) == sorted(member.path for member in of_feed(name))
    assert read["rows"].sum() == orders.ingestion.bronze.count() == sum(len(member.rows or ()) for member in of_feed(name))
    assert orders.ingestion.waiting() == 0
    assert orders.run() == []
