"""What `parse` promises whatever the format: the shape of the frame, the header, what is rescued, what is refused."""

import json
import os
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.ingestion.parse import RefusedFile, parse

OLD = ("Invoice", "Price")
NEW = ("InvoiceNo", "UnitPrice")
COLUMNS = (*OLD, *NEW)


def landed(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refusal(path: Path, **options) -> str:
    with pytest.raises(RefusedFile) as refused:
        parse(path, columns=COLUMNS, required=[OLD, NEW], **options)
    assert path.name in refused.value.reason
    assert str(refused.value) == refused.value.reason
    return refused.value.reason


def test_frame_is_the_declared_columns_then_row_and_rescued(tmp_path):
    path = landed(tmp_path, "a.csv", b"Price,InvoiceNo,UnitPrice,Note\n1,7,2.50,x\n2,8,,\n")
    parsed = parse(path, columns=COLUMNS, required=[OLD, NEW])
    frame = parsed.frame.collect()
    assert frame.schema == pl.Schema({**dict.fromkeys(COLUMNS, pl.String()), "_row": pl.Int64(), "_rescued": pl.String()})
    assert frame.rows() == [(None, "1", "7", "2.50", 1, '{"_columns":{"Note":"x"}}'), (None, "2", "8", None, 2, None)]
    assert parsed.rows == 2


@pytest.mark.parametrize("header", [b"Invoice,Price", b"InvoiceNo,UnitPrice", b"Country,UnitPrice,InvoiceNo,Price"])
def test_one_header_variant_is_enough(tmp_path, header):
    assert parse(landed(tmp_path, "a.csv", header + b"\n"), columns=COLUMNS, required=[OLD, NEW]).rows == 0


def test_header_that_fits_no_variant_is_compared_with_the_closest(tmp_path):
    reason = refusal(landed(tmp_path, "a.csv", b"InvoiceNo,Preis,Land\n1,2,3\n"))
    assert "lacks 'UnitPrice'" in reason
    assert "has 'Preis', 'Land' instead" in reason


def test_no_required_columns_means_any_header(tmp_path):
    frame = parse(landed(tmp_path, "a.csv", b"x,y\n1,2\n"), columns=["Price"], required=[]).frame.collect()
    assert frame.rows() == [(None, 1, '{"_columns":{"x":"1","y":"2"}}')]


def test_header_that_names_a_column_twice_is_refused(tmp_path):
    assert "'Price' more than once" in refusal(landed(tmp_path, "a.csv", b"Invoice,Price,Price\n1,2,3\n"))


def test_columns_without_a_name_are_called_after_their_position(tmp_path):
    frame = parse(landed(tmp_path, "a.csv", b"Invoice,,Price,\n1,2,3,4\n5,,6,\n"), columns=OLD, required=[OLD]).frame.collect()
    assert frame.rows() == [("1", "3", 1, '{"_columns":{"_column_2":"2","_column_4":"4"}}'), ("5", "6", 2, None)]


@pytest.mark.parametrize("name", ['a "quoted" \\ name', "^.*$", "*", "{}", "_row", "_note", "_rescued", "0", "é\n"])
def test_any_column_name_can_be_declared_or_rescued(tmp_path, name):
    cell = '"' + name.replace('"', '""') + '"'
    path = landed(tmp_path, "a.csv", f"{cell},b\n1,2\n".encode())
    rescued = parse(path, columns=["b"], required=[]).frame.collect()
    assert rescued["b"].to_list() == ["2"]
    assert json.loads(rescued["_rescued"].item()) == {"_columns": {name.strip(): "1"}}
    if name not in {"_row", "_rescued"}:
        assert parse(path, columns=[name], required=[[name]]).frame.collect()[name].to_list() == ["1"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.xlsx"])
def test_empty_file_is_refused(tmp_path, name):
    assert "is empty (0 bytes)" in refusal(landed(tmp_path, name, b""))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.xlsx"])
def test_file_that_vanished_is_refused(tmp_path, name):
    assert "No such file" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.xlsx"])
def test_folder_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    assert "is not a file" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.xlsx"])
def test_file_that_may_not_be_read_is_refused(tmp_path, name):
    path = landed(tmp_path, name, b"Invoice,Price\n")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything: be somebody else for a moment
    try:
        reason = refusal(path)
    finally:
        os.seteuid(user)
    assert "Permission denied" in reason


def test_unknown_format_is_refused_unless_it_is_given(tmp_path):
    path = landed(tmp_path, "a.txt", b"Invoice,Price\n1,2\n")
    assert "'.txt'" in refusal(path)
    assert parse(path, columns=COLUMNS, required=[OLD], file_format="csv").rows == 1


def test_end_of_the_name_counts_in_any_case(tmp_path):
    assert parse(landed(tmp_path, "A.CSV", b"Invoice,Price\n1,2\n"), columns=COLUMNS, required=[OLD]).rows == 1


@pytest.mark.parametrize("folder", ["a*b", "a[1]", "x=1", "two words", "~"])
def test_path_is_taken_literally(tmp_path, folder):
    (tmp_path / folder).mkdir()
    path = landed(tmp_path / folder, "*.csv", b"Invoice,Price\n1,2\n")
    landed(tmp_path / folder, "other.csv", b"Invoice,Price\n3,4\n")
    assert parse(path, columns=OLD, required=[OLD]).frame.collect()["Invoice"].to_list() == ["1"]
    frame = pl.DataFrame({"Invoice": ["1"], "Price": ["2"]})
    frame.write_parquet(path.with_suffix(".parquet"))
    frame.write_parquet(path.with_name("other.parquet"))
    parsed = parse(path.with_suffix(".parquet"), columns=OLD, required=[OLD]).frame.collect()
    assert parsed.rows() == [("1", "2", 1, None)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
class TestEncoding:
    def content(self, name: str, text: str) -> str:
        return f"Invoice,Price\n1,2\n3,{text}\n" if name == "a.csv" else f'{{"Invoice":1,"Price":2}}\n{{"Invoice":"3","Price":"{text}"}}\n'

    @pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-8-sig", "cp1252", "latin-1", "utf-16", "utf-16-le", "utf-32"])
    def test_text_comes_out_the_same(self, tmp_path, name, encoding):
        path = landed(tmp_path, name, self.content(name, "£2.50").encode(encoding))
        frame = parse(path, columns=OLD, required=[OLD], encoding=encoding).frame.collect()
        assert frame.rows() == [("1", "2", 1, None), ("3", "£2.50", 2, None)]

    def test_byte_order_mark_is_no_part_of_the_text(self, tmp_path, name):
        path = landed(tmp_path, name, self.content(name, "é").encode("utf-8-sig"))
        assert parse(path, columns=OLD, required=[OLD]).frame.collect()["Price"].to_list() == ["2", "é"]

    def test_wrong_encoding_names_line_and_byte_and_a_way_out(self, tmp_path, name):
        reason = refusal(landed(tmp_path, name, self.content(name, "£2.50").encode("cp1252")))
        lines = {"a.csv": 3, "a.jsonl": 2}
        assert f"line {lines[name]} is not utf-8: byte 0xA3" in reason
        assert "iconv -f windows-1252" in reason
        assert "declare encoding='cp1252' in the feed" in reason

    def test_wrong_line_is_named_far_into_the_file(self, tmp_path, name):
        first, *lines = self.content(name, "é").splitlines(keepends=True)
        content = (first + 200_000 * "".join(lines)).encode() + b"\xff\n"
        assert len(content) > 1_500_000
        line = 2 + 200_000 * len(lines)
        assert f"line {line} is not utf-8: byte 0xFF" in refusal(landed(tmp_path, name, content))

    def test_wrong_line_is_named_in_another_encoding(self, tmp_path, name):
        content = self.content(name, "x").encode("utf-16-le") + "\ud800".encode("utf-16-le", "surrogatepass")
        lines = {"a.csv": 4, "a.jsonl": 3}
        assert f"line {lines[name]} is not utf-16" in refusal(landed(tmp_path, name, content), encoding="utf-16-le")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_utf_16_that_was_not_expected_is_recognised(self, tmp_path, name, encoding):
        path = landed(tmp_path, name, self.content(name, "x").encode("utf-16"))
        if encoding == "utf-8":
            assert "encoding='utf-16' in the feed" in refusal(path, encoding=encoding)
        assert parse(path, columns=COLUMNS, required=[OLD]).rows == 2

    def test_nul_bytes_are_refused(self, tmp_path, name):
        reason = refusal(landed(tmp_path, name, self.content(name, "\0").encode()))
        assert "NUL byte" in reason
        assert f"line {3 if name == 'a.csv' else 2}" in reason

    @pytest.mark.parametrize("encoding", ["utf-9", "", "hex", "rot13", "undefined", "a\0b"])
    def test_unknown_encoding_is_refused_with_advice(self, tmp_path, name, encoding):
        reason = refusal(landed(tmp_path, name, self.content(name, "x").encode()), encoding=encoding)
        assert f"{encoding!r} is no text encoding that Python knows. Set the encoding of the feed" in reason

    @pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "shift_jis", "utf-7", "gb18030"])
    def test_another_encoding_is_converted_piece_by_piece(self, tmp_path, name, encoding):
        first, *lines = self.content(name, "x").splitlines(keepends=True)
        text = first + 70_000 * "".join(lines)
        parsed = parse(landed(tmp_path, name, text.encode(encoding)), columns=OLD, required=[OLD], encoding=encoding)
        prices = parsed.frame.collect()["Price"]
        assert parsed.rows == text.count("\n") - (name == "a.csv")
        assert sorted(prices.unique()) == ["2", "x"]
