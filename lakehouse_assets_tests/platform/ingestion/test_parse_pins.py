"""What the libraries do where parsing relies on it, or works around it: an upgrade that changes one of these fails here by name."""

import gzip
import io
import zipfile

import fastexcel
import polars as pl
import pyarrow as pa
import pytest
import xlsxwriter
from polars import selectors
from polars.io.plugins import register_io_source


def split(content: bytes, **options) -> list[tuple]:
    return pl.scan_csv(content, infer_schema=False, **options).collect(engine="streaming").rows()


class TestPolarsCsv:
    """Relied on for files whose quotes all stand well."""

    def test_unquoted_empty_field_is_null_and_a_quoted_one_is_empty(self):
        assert split(b'a,b\n,""\n') == [(None, "")]

    def test_every_record_counts_also_a_blank_line_after_the_header(self):
        assert split(b"a,b\n1,2\n\n\r\n3,4\n\n") == [("1", "2"), (None, None), (None, None), ("3", "4"), (None, None)]

    def test_short_record_is_filled_with_nulls(self):
        assert split(b"a,b,c\n1\n1,2\n1,2,3\n") == [("1", None, None), ("1", "2", None), ("1", "2", "3")]

    def test_long_record_is_an_error_or_cut_off(self):
        with pytest.raises(pl.exceptions.ComputeError, match="more fields"):
            split(b"a,b\n1,2,3\n")
        assert split(b"a,b\n1,2,3\n4,5\n", truncate_ragged_lines=True) == [("1", "2"), ("4", "5")]

    def test_newlines_and_doubled_quotes_inside_quotes_are_text(self):
        assert split(b'a,b\r\n"x\r\n\ny","""z"""\r\n') == [("x\r\n\ny", '"z"')]

    def test_new_columns_rename_whatever_the_header_says(self):
        frame = pl.scan_csv(b"a,a,\n1,2,3\n", infer_schema=False, new_columns=["0", "1", "2"]).collect()
        assert frame.to_dicts() == [{"0": "1", "1": "2", "2": "3"}]

    def test_byte_order_mark_is_skipped(self):
        assert pl.scan_csv(b'\xef\xbb\xbf"a",b\n1,2\n', infer_schema=False).collect_schema().names() == ["a", "b"]


class TestWhyPythonSplitsTheRest:
    """Worked around: Polars would lose or misread these."""

    def test_short_record_looks_like_empty_fields(self):
        assert split(b"a,b\n1\n") == split(b"a,b\n1,\n")
        assert split(b"a,b\n1\n", empty_string_is_null=False) == split(b"a,b\n1,\n", empty_string_is_null=False)

    def test_long_record_passes_unseen_when_columns_are_selected(self):
        assert pl.scan_csv(b"a,b\n1,2,3\n", infer_schema=False).select("b").collect(engine="streaming").rows() == [("2",)]

    def test_blank_line_in_a_single_column_looks_like_an_empty_field(self):
        assert split(b"a\n1\n\n2\n") == [("1",), (None,), ("2",)]

    def test_cr_before_a_comma_is_lost(self):
        assert split(b"a,b\n1\r,2\n") == [("1", "2")]

    @pytest.mark.parametrize("line", [b'1,x"y', b'1,"x"y', b'1,"xy'])
    def test_stray_quote_fails_the_whole_file(self, line):
        with pytest.raises(pl.exceptions.ComputeError):
            split(b"a,b\n" + line + b"\n3,4\n")


class TestPolarsSourceInPython:
    """What the frame of a parsed file is."""

    def source(self, end=None, seen=None):
        def batches(with_columns, predicate, n_rows, batch_size):
            if seen is not None:
                seen.append((with_columns, predicate is not None, n_rows))
            frame = pl.LazyFrame({"a": [1, 2, 3], "b": [4, 5, 6]})
            for batch in (frame if with_columns is None else frame.select(with_columns)).collect_batches():
                yield batch if predicate is None else batch.filter(predicate)
            if end is not None:
                raise end

        return register_io_source(batches, schema={"a": pl.Int64, "b": pl.Int64}, is_pure=True)

    @pytest.mark.parametrize(
        "collect",
        [
            lambda frame: frame.collect(),
            lambda frame: frame.collect(engine="streaming"),
            lambda frame: list(frame.collect_batches()),
            lambda frame: frame.sink_parquet(io.BytesIO()),
        ],
        ids=["collect", "streaming", "batches", "sink"],
    )
    def test_its_exception_comes_out_as_it_is(self, collect):
        class OfOurOwn(Exception):
            pass

        with pytest.raises(OfOurOwn, match="at the end"):
            collect(self.source(OfOurOwn("at the end")))

    def test_it_is_told_columns_and_filters_and_has_to_apply_them(self):
        seen = []
        assert self.source(seen=seen).filter(pl.col("a") > 1).select("b").collect().rows() == [(5,), (6,)]
        assert seen[0][1] is True

    def test_names_are_patterns_unless_selected_by_name(self):
        frame = pl.DataFrame({"*": [1], "a": [2]})
        assert frame.select(["*"]).columns == ["*", "a"]
        assert frame.select(selectors.by_name("*")).columns == ["*"]


class TestPyarrowDecompression:
    """Relied on to read whole files, and to tell when a file is not whole."""

    def unpacked(self, content: bytes, compression: str) -> bytes:
        with pa.input_stream(io.BytesIO(content), compression=compression) as stream:
            return b"".join(iter(lambda: stream.read(7), b""))

    @pytest.fixture(params=["gzip", "zstd"])
    def packed(self, request):
        return request.param, gzip.compress(b"x" * 99) if request.param == "gzip" else pa.compress(b"x" * 99, codec="zstd", asbytes=True)

    def test_members_in_a_row_are_read_as_one(self, packed):
        assert self.unpacked(2 * packed[1], packed[0]) == b"x" * 198

    def test_what_is_cut_or_goes_on_is_an_os_error_without_a_number(self, packed):
        for content in (packed[1][:-1], packed[1][:5], packed[1] + b"more"):
            with pytest.raises(OSError) as error:
                self.unpacked(content, packed[0])
            assert error.value.errno is None


def test_zipfile_reads_a_part_to_its_end_when_it_is_declared_larger():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"x" * 1_000)
    with zipfile.ZipFile(content) as archive:
        part = archive.getinfo("a")
        part.file_size = 10
        with pytest.raises(zipfile.BadZipFile, match="CRC"):
            archive.read(part)
        part.file_size = 10_000
        assert archive.read(part) == b"x" * 1_000


class TestPolarsParquet:
    def test_counting_nulls_decodes_every_page(self, tmp_path):
        path = tmp_path / "a.parquet"
        pl.DataFrame({"a": range(10_000), "b": [f"{number:x}" for number in range(10_000)]}).write_parquet(path, compression="snappy")
        content = path.read_bytes()
        for start in range(4, len(content) * 9 // 10, len(content) // 20):
            path.write_bytes(content[:start] + bytes(20) + content[start + 20 :])
            assert pl.scan_parquet(path).select(pl.len()).collect().item() == 10_000
            with pytest.raises(pl.exceptions.PolarsError):
                pl.scan_parquet(path).null_count().collect(engine="streaming")


class TestFastexcel:
    """Why numbers are read a second time, as numbers, and errors from the list of errors."""

    @pytest.fixture
    def workbook(self):
        content = io.BytesIO()
        with xlsxwriter.Workbook(content) as workbook:
            sheet = workbook.add_worksheet()
            sheet.write(0, 0, 1 / 3)
            sheet.write(1, 0, "1.10")
            sheet.write_formula(2, 0, "=NA()", value="#N/A")
        return fastexcel.read_excel(content.getvalue())

    def test_number_as_text_is_rounded_to_nine_decimals(self, workbook):
        assert pl.DataFrame(workbook.load_sheet(0, header_row=None, dtypes="string")).rows() == [("0.333333333",), ("1.10",), (None,)]

    def test_number_as_a_number_is_exact_and_text_is_read_as_one(self, workbook):
        assert pl.DataFrame(workbook.load_sheet(0, header_row=None, dtypes="float")).rows() == [(1 / 3,), (1.1,), (None,)]

    def test_error_cell_is_null_and_listed(self, workbook):
        _, errors = workbook.load_sheet(0, header_row=None, dtypes="string").to_arrow_with_errors()
        assert [(error.position, error.detail) for error in errors.errors] == [((2, 0), "Expected string but got 'Error(NA)'")]


def test_polars_skips_lines_of_csv_whatever_quotes_they_hold(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbftitle "x\n\n#c\na;b\n1;2\n')
    assert pl.scan_csv(path, infer_schema=False, separator=";", skip_lines=3).collect().rows() == [("1", "2")]


def test_polars_gives_the_bound_of_nanoseconds_for_int96_beyond_it(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    times = pa.table({"a": pa.array([253_402_300_799_000_000], pa.timestamp("us"))})
    pq.write_table(times, path, use_deprecated_int96_timestamps=True, store_schema=False)
    assert str(pl.read_parquet(path)["a"][0]).startswith("2262-04-11")
    assert str(pq.ParquetFile(path, coerce_int96_timestamp_unit="us").read()["a"][0]) == "9999-12-31 23:59:59"
