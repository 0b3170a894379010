"""CSV: every record is one row, nothing moves and nothing is lost, however the file is damaged."""

import csv
import io
import json

import polars as pl
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.ingestion.parse import Limits, RefusedFile, parse
from lakehouse_assets.platform.ingestion.records import RESCUED, ROW

STRAY = b'"x"y\n'  # a line that no reader can split, so that what is around it is split in Python


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("landing") / "a.csv"


def bronze(path, content: bytes, columns=("a", "b", "c"), **options) -> pl.DataFrame:
    path.write_bytes(content)
    parsed = parse(path, columns=columns, required=[], **options)
    frame = parsed.frame.collect()
    assert parsed.rows == frame.height
    assert frame[ROW].to_list() == list(range(1, frame.height + 1))
    return frame.drop(ROW)


def rescued(frame: pl.DataFrame) -> list:
    return [None if text is None else json.loads(text) for text in frame[RESCUED]]


def refusal(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(RefusedFile, match=r"a\.csv") as refused:
        parse(path, columns=["a"], required=[])
    return refused.value.reason


def test_fields_come_as_they_stand(path):
    content = b'a,b,c\n 1 ,"x, ""y"" ",NA\n007,1e5,"two\r\nlines"\n'
    assert bronze(path, content).rows() == [(" 1 ", 'x, "y" ', "NA", None), ("007", "1e5", "two\r\nlines", None)]


def test_unquoted_empty_field_is_null_and_a_quoted_one_is_empty_text(path):
    for stray in (b"", STRAY):
        rows = bronze(path, b'a,b,c\n1,,""\n,,\n"","",""\n' + stray).rows()
        assert rows[:3] == [("1", None, "", None), (None, None, None, None), ("", "", "", None)]


@pytest.mark.parametrize("content", [b"a,b,c\n", b"a,b,c", b"a,b,c\r\n", b"\xef\xbb\xbfa,b,c\n", b"\n\na,b,c\n\n"])
def test_header_without_records_gives_no_rows(path, content):
    assert bronze(path, content).rows() == []


def test_last_line_needs_no_newline(path):
    assert bronze(path, b"a,b,c\n1,2,3\n4,5,6").rows() == [("1", "2", "3", None), ("4", "5", "6", None)]


def test_surplus_fields_are_rescued(path):
    frame = bronze(path, b'a,b,c\n1,2,3,4,"five, 5",\n6,7,8\n')
    assert frame.rows()[1] == ("6", "7", "8", None)
    assert frame.row(0)[:3] == ("1", "2", "3")
    assert rescued(frame) == [{"_extra": ["4", "five, 5", ""]}, None]


def test_absent_fields_are_named_and_the_line_is_kept(path):
    frame = bronze(path, b'a,b,c\n1,2\n"x\ny"\r\n6,7,8\n', columns=("a", "c"))
    assert frame.drop(RESCUED).rows() == [("1", None), ("x\ny", None), ("6", "8")]
    assert rescued(frame) == [
        {"_columns": {"b": "2"}, "_missing": ["c"], "_line": "1,2"},
        {"_missing": ["b", "c"], "_line": '"x\ny"'},
        {"_columns": {"b": "7"}},
    ]


def test_undeclared_and_surplus_fields_are_rescued_together(path):
    frame = bronze(path, 'a,"d ""é"""\n1,x\n2,"{""y"": 1}",z\n3,\n'.encode(), columns=("a",))
    assert rescued(frame) == [{"_columns": {'d "é"': "x"}}, {"_columns": {'d "é"': '{"y": 1}'}, "_extra": ["z"]}, None]


@pytest.mark.parametrize(
    "line",
    [b'1,"x"y,3', b'1,"open,3', b'"', b'1,2,"', b'1,"x" ,3', b'1,"a""b"c"d",3', '1,"é"x,3'.encode()],
    ids=["text after a quote", "never closed", "one quote", "open at the end", "space after a quote", "quotes within", "not ASCII"],
)
def test_line_with_a_stray_quote_is_kept_whole_and_costs_no_other_row(path, line):
    frame = bronze(path, b"a,b,c\n0,0,0\n" + line + b'\n1,"2,2",3\n4,5,6\n')
    assert frame.drop(RESCUED).rows() == [("0", "0", "0"), (None, None, None), ("1", "2,2", "3"), ("4", "5", "6")]
    assert rescued(frame) == [None, {"_line": line.decode()}, None, None]


def test_quote_after_the_first_character_is_a_character(path):
    assert bronze(path, b'a,b,c\nLAMP 24",6" by 4",3\n').rows() == [('LAMP 24"', '6" by 4"', "3", None)]


def test_cr_that_ends_no_line_is_a_character(path):
    assert bronze(path, b"a,b,c\r\n1,x\ry\r,3\r\n4,5,6\r\r\n").rows() == [("1", "x\ry\r", "3", None), ("4", "5", "6\r", None)]


@pytest.mark.parametrize("columns", [1, 3])
def test_blank_lines_are_no_records(path, columns):
    header, record = b",".join([b"a", b"b", b"c"][:columns]), b",".join([b"1"] * columns)
    frame = bronze(path, b"\n".join([b"", header, b"", record, b"", b"\r", record, b"", b""]), columns=("a",))
    assert frame["a"].to_list() == ["1", "1"]


def test_one_column(path):
    assert bronze(path, b'a\n1\n""\n"x\ny"\n2', columns=("a",))["a"].to_list() == ["1", "", "x\ny", "2"]


@pytest.mark.parametrize("content", [b"\n\n", b'"a,b\n1,2\n', b'"a"b,c\n'], ids=["blank", "open quote", "stray quote"])
def test_file_without_a_header_is_refused(path, content):
    assert "no header" in refusal(path, content)


def test_lines_that_end_with_cr_alone_are_refused(path):
    assert "CR alone" in refusal(path, b"a,b\r1,2\r3,4\r")


def test_file_full_of_unclosed_quotes_is_read_in_linear_time(path):
    frame = bronze(path, b"a,b\n" + 40_000 * b'z","\n', columns=("a", "b"))
    assert frame.height == 40_000
    assert json.loads(frame[RESCUED][0]) == {"_line": 'z","'}


def test_quoted_newlines_do_not_confuse_a_large_file(path):
    cell = 'x,"y"\n\r\n' * 40
    rows = [(str(index), cell * (index % 7), "é" * (index % 5)) for index in range(6_000)]
    content = written([("a", "b", "c"), *rows], "\n", csv.QUOTE_ALL)
    assert len(content) > 5 * 1024 * 1024
    assert bronze(path, content).drop(RESCUED).rows() == rows


def written(rows, line_end: str, quoting: int) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end, quoting=quoting).writerows(rows)
    return text.getvalue().encode()


TEXT = st.text(
    st.sampled_from("ab,\"\n\r'; é😀\x1f\u2028{}\\") | st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
)


@st.composite
def tables(draw):
    count = draw(st.integers(1, 4))
    names = draw(st.lists(TEXT.filter(bool), min_size=count, max_size=count, unique=True))
    names = [name for name in names if name not in {ROW, RESCUED} and name.strip()] or ["a"]
    return names, draw(st.lists(st.tuples(*[TEXT] * len(names)), max_size=12))


@settings(deadline=None)
@given(
    table=tables(),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    bom=st.booleans(),
)
def test_what_the_csv_module_writes_comes_back(path, table, line_end, quoting, bom):
    names, rows = table
    # The csv module leaves a CR without quotes, and then "\r\n" is what ends the line.
    assume(line_end == "\r\n" or quoting == csv.QUOTE_ALL or not any(record[-1].endswith("\r") for record in [names, *rows]))
    content = (b"\xef\xbb\xbf" if bom else b"") + written([names, *rows], line_end, quoting)
    frame = bronze(path, content, columns=names)
    assert [tuple(text or "" for text in row) for row in frame.drop(RESCUED).rows()] == rows
    assert frame[RESCUED].is_null().all()


# Pieces from which Polars' and Python's way to split could differ: quotes, line ends, records that are too long or too short.
PIECES = [
    "a",
    ",",
    '"',
    "\n",
    "\r\n",
    "\r",
    '""',
    " ",
    "é",
    ',"',
    '",',
    '\n"',
    '"\n',
    "x,y\n",
    "x,y,z\n",
    "\n\n",
    '"b"',
    '"b","c\nd"\n',
    '"b","c\r\nd"\r\n',
]


@settings(deadline=None, max_examples=300)
@given(body=st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example(body=',"f\nc,d,e\n","\n",c,d,e\n,')
@example(body='1,2\n\n3\n"x\ny",2,3\n')
def test_files_left_to_polars_are_split_as_python_splits_them(path, body):
    content = body.encode()
    columns = ("h", "i", "_extra")
    fast = bronze(path, b"h,i\n" + content, columns)
    slow = bronze(path, b"h,i\n" + STRAY + content, columns)
    assert rescued(slow)[0] == {"_line": '"x"y'}
    assert fast.rows() == slow.rows()[1:]


@settings(deadline=None)
@given(body=st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_every_character_of_a_file_is_somewhere_in_its_rows(path, body):
    frame = bronze(path, b"h,i\n" + body.encode(), ("h", "i"))
    kept = "".join(text for row in frame.drop(RESCUED).rows() for text in row if text) + "".join(frame[RESCUED].drop_nulls())
    for character in "axyzbcdé":
        assert kept.count(character) >= body.count(character)


@settings(deadline=None, max_examples=80)
@given(
    body=st.lists(st.sampled_from(PIECES), max_size=80).map("".join),
    header=st.sampled_from(["h,i\n", "\n\nh,i\n", "h\n"]),
    line=st.integers(12, 60),
)
@example(body="1,2\n" * 9 + '3,"x\n' + "4,5\n" * 9 + '","6\n' + "7,8\n" * 9, header="h,i\n", line=12)
@example(body="1,2\n" * 9 + '3,"x\n' + "4,5\n" * 9, header="h,i\n", line=12)
def test_where_the_pieces_end_that_are_read_at_once_makes_no_difference(path, body, header, line):
    content = (header + body).encode()
    assume(max(map(len, content.split(b"\n"))) < line)  # lines are not longer than pieces
    whole = bronze(path, content, ("h", "i"))
    assert bronze(path, content, ("h", "i"), limits=Limits(line=line)).equals(whole)


@pytest.mark.parametrize("stray", [b'1,"x"y,3\n', b'1,"never closed,3\n', b"1,x\ry,3\n", b'1,"' + b"1,2,3\n" * 120_000])
def test_stray_quote_far_into_the_file_costs_no_other_row(path, stray):
    good, row = b'1,"x, y",3\n' * 60_000, ("1", "x, y", "3", None)
    frame = bronze(path, b"a,b,c\n" + good + stray + good)
    lines = stray.decode().splitlines(keepends=True) if b"\r" not in stray else [stray.decode()]
    assert frame.height == 120_000 + len(lines)
    assert frame.row(60_000)[3] == (None if b"\r" in stray else json.dumps({"_line": lines[0].strip()}, separators=(",", ":")))
    assert frame.row(60_000 + len(lines)) == frame.row(0) == frame.row(-1) == row
    kept = frame[RESCUED].drop_nulls()
    assert len(kept) == (b"\r" not in stray)


def test_quoted_text_that_runs_over_many_pieces_is_one_field(path):
    text = "x, y\n" * 300_000
    frame = bronze(path, b"a,b,c\n" + STRAY + b'1,"' + text.encode() + b'",3\n4,5,6\n')
    assert frame.drop(RESCUED).rows() == [(None, None, None), ("1", text, "3"), ("4", "5", "6")]
