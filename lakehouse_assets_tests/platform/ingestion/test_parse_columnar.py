"""Parquet: typed values become canonical text without loss, and damage is found before the frame is used."""

import base64
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.ingestion.parse import RefusedFile, parse
from lakehouse_assets.platform.ingestion.records import RESCUED, ROW

YEAR_1 = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")
YEAR_2 = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("landing") / "a.parquet"


def texts(path, values: pl.Series) -> list:
    values.alias("a").to_frame().write_parquet(path)
    return parse(path, columns=["a"], required=[["a"]]).frame.collect()["a"].to_list()


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([7, -1, None], pl.Int8, ["7", "-1", None]),
        ([2**63 - 1], pl.Int64, ["9223372036854775807"]),
        ([2**64 - 1], pl.UInt64, ["18446744073709551615"]),
        (
            [13085.0, 2.55, 0.1 + 0.2, -0.0, 1e-7, math.inf, math.nan],
            pl.Float64,
            ["13085.0", "2.55", "0.30000000000000004", "-0.0", "1e-7", "inf", "NaN"],
        ),
        ([0.1, 16777216.0], pl.Float32, ["0.1", "16777216.0"]),
        ([Decimal("2.50"), Decimal("-0.01")], pl.Decimal(10, 2), ["2.50", "-0.01"]),
        ([True, False, None], pl.Boolean, ["true", "false", None]),
        ([" x ", "", None], pl.String, [" x ", "", None]),
        (["x"], pl.Categorical, ["x"]),
        (["x"], pl.Enum(["x"]), ["x"]),
        ([None], pl.Null, [None]),
        ([date(2009, 12, 1), date(1, 1, 1), None], pl.Date, ["2009-12-01", "0001-01-01", None]),
        ([datetime.fromisoformat("2009-12-01 07:45"), None], pl.Datetime("us"), ["2009-12-01 07:45:00", None]),
        ([datetime.fromisoformat("2009-12-01 07:45:00.000005")], pl.Datetime("us"), ["2009-12-01 07:45:00.000005"]),
        ([datetime.fromisoformat("2009-12-01 07:45:00.005")], pl.Datetime("ms"), ["2009-12-01 07:45:00.005"]),
        ([1_259_653_500_000_000_001], pl.Datetime("ns"), ["2009-12-01 07:45:00.000000001"]),
        ([datetime(2009, 12, 1, 7, 45, tzinfo=UTC)], pl.Datetime("us", "UTC"), ["2009-12-01 07:45:00+00:00"]),
        (
            [datetime(2009, 7, 1, 7, 45, tzinfo=ZoneInfo("Europe/London"))],
            pl.Datetime("us", "Europe/London"),
            ["2009-07-01 06:45:00+00:00"],
        ),
        ([time(7, 45), time(7, 45, 1, 5), None], pl.Time, ["07:45:00", "07:45:01.000005", None]),
        ([timedelta(1, 2, 3), None], pl.Duration("us"), ["P1DT2.000003S", None]),
        ([b"\xff\x00", b"", None], pl.Binary, [base64.b64encode(b"\xff\x00").decode(), "", None]),
        ([[1, None], [], None], pl.List(pl.Int64), ["[1,null]", "[]", None]),
        ([[1.5, 2.0]], pl.Array(pl.Float64, 2), ["[1.5,2.0]"]),
        ([{"x": 'é"', "y": [date(2009, 12, 1)]}, None], None, ['{"x":"é\\"","y":["2009-12-01"]}', None]),
        ([[Decimal("2.50")]], pl.List(pl.Decimal(10, 2)), ['["2.50"]']),
    ],
    ids=str,
)
def test_values_as_text(path, values, dtype, expected):
    assert texts(path, pl.Series(values, dtype=dtype)) == expected


@settings(deadline=None)
@given(st.lists(st.floats(), min_size=1))
def test_floats_read_back_to_the_same_value(path, values):
    assert repr([float(text) for text in texts(path, pl.Series(values, dtype=pl.Float64))]) == repr(values)


@settings(deadline=None)
@given(st.lists(st.datetimes(), min_size=1))
def test_timestamps_read_back_to_the_same_value(path, values):
    assert [datetime.fromisoformat(text) for text in texts(path, pl.Series(values, dtype=pl.Datetime("us")))] == values


def test_binary_inside_a_list_is_refused_by_name(path):
    with pytest.raises(RefusedFile, match=r"a\.parquet: column 'a' holds binary inside List\(Binary\)"):
        texts(path, pl.Series([[b"x"]]))


def test_undeclared_columns_are_rescued_as_text(path):
    frame = pl.DataFrame({"_row": [7, None], "a": [1, 2], "x": [2.50, None], "y": [[1], None]})
    frame.write_parquet(path)
    rows = parse(path, columns=["b", "a"], required=[["a"]]).frame.collect()
    assert rows.drop(RESCUED).rows() == [(None, "1", 1), (None, "2", 2)]
    assert rows[RESCUED].to_list() == ['{"_columns":{"_row":"7","x":"2.5","y":"[1]"}}', None]


def test_no_rows(path):
    assert texts(path, pl.Series([], dtype=pl.Int64)) == []


def damage(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(RefusedFile, match=r"a\.parquet is not a whole parquet file") as refused:
        parse(path, columns=["a"], required=[["a"]])
    return refused.value.reason


def test_truncated_file_is_refused(path):
    pl.DataFrame({"a": range(1000)}).write_parquet(path)
    content = path.read_bytes()
    for length in (1, 4, len(content) // 2, len(content) - 1):
        assert "Land it again, complete" in damage(path, content[:length])


def test_file_that_is_no_parquet_is_refused(path):
    damage(path, b"Invoice,Price\n1,2\n" * 100)


def test_damage_in_the_middle_is_found_before_the_frame_is_used(path):
    pl.DataFrame({"a": range(10_000), "b": [str(number) for number in range(10_000)]}).write_parquet(path, compression="zstd")
    content = path.read_bytes()
    for start in (100, len(content) // 2):
        damage(path, content[:start] + bytes(40) + content[start + 40 :])


def test_both_published_files_of_the_real_shop(real_invoices):
    columns = tuple(dict.fromkeys((*YEAR_1, *YEAR_2)))
    frames = {}
    for file in real_invoices:
        parsed = parse(file, columns=columns, required=[YEAR_1, YEAR_2])
        frames[file.stem] = frame = parsed.frame.collect()
        assert frame.columns == [*columns, ROW, RESCUED]
        assert parsed.rows == frame.height
        assert frame[RESCUED].is_null().all()
        assert (frame[ROW] == pl.int_range(1, frame.height + 1, eager=True)).all()
        assert frame["Quantity"].str.contains(r"^-?\d+$").all()
    year_1, year_2 = frames["online_retail_ii_2009_2010"], frames["online_retail_2010_2011"]
    assert (year_1.height, year_2.height) == (525_461, 541_909)
    assert set(year_1.columns) == set(year_2.columns)
    assert year_1.select(YEAR_1).row(0) == (
        "489434",
        "85048",
        "15CM CHRISTMAS GLASS BALL 20 LIGHTS",
        "12",
        "2009-12-01 07:45:00",
        "6.95",
        "13085.0",
        "United Kingdom",
    )
    assert year_2["CustomerID"].null_count() == 135_080
    assert year_1["InvoiceNo"].is_null().all()
    assert year_2["Invoice"].is_null().all()
    money = pl.col("Quantity").cast(pl.Int64) * pl.coalesce("Price", "UnitPrice").cast(pl.Float64)
    assert pl.concat([year_1, year_2]).select(money.sum()).item() == pytest.approx(9_539_484.634 + 9_747_747.934)


def test_json_of_nested_values_is_json(path):
    text = texts(path, pl.Series([{"t": time(1, 2, 3, 4), "d": timedelta(1), "s": "\n\x00\\é", "f": math.nan}]))[0]
    assert json.loads(text) == {"t": "01:02:03.000004", "d": "PT86400S", "s": "\n\x00\\é", "f": None}
