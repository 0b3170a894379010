"""Moments and days outside of the years 1 to 9999: texts that spell one are no values, and rows that have one can be shown."""

import itertools
import json
from datetime import UTC, date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets.cli.terminal import print_markdown, print_rows
from lakehouse_assets.platform.far_times import as_python_holds
from lakehouse_assets.platform.governance import formats
from lakehouse_assets.platform.quality.conform import conform, day, timestamp

EARLIEST, LATEST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
YEARS = ("-262143", "-0001", "0000", "0001", "0999", "1970", "9999", "+10000", "10000", "+262142", "+999999")
MOMENTS = [f"{year}-{rest}" for year, rest in itertools.product(YEARS, ("01-01 00:00:00", "12-31 23:59:59", "12-31 24:00:00"))]
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati")
OFFSETS = ("+0000", "-2359", "+2359", "-0500", "+1400")
COUNTS = [sign + number for sign, number in itertools.product(("", "-"), ("0", "9", "62135596800", "62135596801", "253402300799"))]
COUNTS += ["253402300800", "2958465.99999999999", "2958466", "9" * 14, "9" * 18, "-" + "9" * 18, "9" * 40, "1e300"]


def read(texts, column) -> pl.DataFrame:
    return conform(pl.LazyFrame({"x": texts}), value=column).collect(engine="streaming")


@pytest.mark.parametrize(
    ("texts", "column"),
    [
        *((MOMENTS, timestamp("x", formats=("%Y-%m-%d %H:%M:%S",), time_zone=zone)) for zone in ZONES),
        *(([text + offset for text in MOMENTS], timestamp("x", formats=("%Y-%m-%d %H:%M:%S%z",))) for offset in OFFSETS),
        (MOMENTS, day("x", formats=("%Y-%m-%d %H:%M:%S",))),
        ([text[:-9] for text in MOMENTS], day("x", formats=("%Y-%m-%d",))),
        *((COUNTS, timestamp("x", formats=(form,), time_zone="Europe/Berlin")) for form in ("unix-s", "unix-ms", "unix-us", "excel-1904")),
        (COUNTS, timestamp("x", formats=("excel-1900",), time_zone="America/New_York")),
    ],
)
def test_every_extreme_is_a_value_that_python_holds_or_is_not_read(texts, column):
    made = read(texts, column)

    for text, value, unparsed in zip(texts, made["value"].to_list(), made["_unparsed"], strict=True):
        assert (value is None) == (unparsed is not None)
        assert unparsed is None or json.loads(unparsed) == {"value": text}
        match value:
            case datetime():
                assert EARLIEST <= value <= LATEST
            case date():
                assert date.min <= value <= date.max


def test_the_hint_says_that_the_moment_is_outside_of_the_years():
    made = read(["0001-01-01 00:00:00", "2011-03-27 02:30:00"], timestamp("x", formats=("%Y-%m-%d %H:%M:%S",), time_zone="Europe/Berlin"))

    outside, skipped = made["_hint"]
    assert "outside of the years 1 to 9999" in outside
    assert "went forward" in skipped


FAR_TICKS = [-62_135_600_008_000_000, 0, None, 2**63 - 1, -(2**63) + 1]
FAR = pl.DataFrame(
    {
        "at": pl.Series(FAR_TICKS, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
        "day": pl.Series([2_932_897, 0, None, 2**31 - 1, -(2**31)], dtype=pl.Int32).cast(pl.Date),
        "near": [date(2011, 1, 1)] * 5,
    }
).with_columns(
    source=pl.when(pl.col("at").is_not_null()).then(pl.struct("at", "near")),
    days=pl.when(pl.col("day").is_not_null()).then(pl.concat_list("day", "near")).otherwise(pl.lit([], dtype=pl.List(pl.Date))),
)


def test_rows_with_far_times_become_texts_and_others_stay_as_they_are():
    first, second, third, *_ = held = as_python_holds(FAR).to_dicts()

    assert len(held) == FAR.height
    assert first["at"].startswith("0000-12-31 23:06:32")
    assert first["source"] == {"at": first["at"], "near": date(2011, 1, 1)}
    assert second["day"] == "1970-01-01"
    assert second["days"] == ["1970-01-01", "2011-01-01"]
    assert third == {"at": None, "day": None, "near": date(2011, 1, 1), "source": None, "days": []}
    assert_frame_equal(as_python_holds(FAR[1:3]), FAR[1:3])


def test_a_table_with_far_times_is_shown_and_exported(tmp_path, capsys):
    for form in (True, False):
        print_rows(FAR, as_json=form)
    print_markdown(FAR)
    assert capsys.readouterr().out.count("0000-12-31") >= 3

    formats.write(FAR.lazy(), tmp_path / "far.xlsx")
    assert pl.read_excel(tmp_path / "far.xlsx", engine="calamine")["at"][0].startswith("0000-12-31")
    formats.write(FAR[:2].lazy(), tmp_path / "far.csv")
    assert "0000-12-31" in (tmp_path / "far.csv").read_text()
