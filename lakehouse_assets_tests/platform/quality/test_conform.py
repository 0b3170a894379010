import json
import math
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.quality.conform import choice, code, conform, day, number, text, timestamp, whole_number
from lakehouse_assets.platform.quality.contract import ContractBroken
from lakehouse_assets.platform.quality.readers import cleaned
from lakehouse_assets_tests import sweeps

REAL = Path(__file__).parents[4] / "shared" / "data" / "online_retail"
SECONDS = "%Y-%m-%d %H:%M:%S"

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
nearly_a_value = st.sampled_from(
    ["7", "7.0", " 7 ", "7.5", "-3", "1e3", "nan", "inf", "", "  ", "2010-12-01 08:26:00", "2010-02-30 00:00:00", '"', "\\", "\n"]
)
a_text = st.none() | any_text | nearly_a_value

EVERY_KIND = {
    "text": text("source"),
    "code": code("source"),
    "whole_number": whole_number("source", nulls=["nan"]),
    "number": number("source"),
    "timestamp": timestamp("source", formats=[SECONDS, "%d/%m/%Y %H:%M", "%Y-%m-%dT%H:%M:%S%.f%z"]),
    "choice": choice("source", options={"7": True, "nan": False}),
    "day": day("source", formats=["%Y-%m-%d", SECONDS]),
}


def conformed(texts, **columns) -> pl.DataFrame:
    return conform(pl.LazyFrame({"source": texts}, schema={"source": pl.String}), **columns).collect()


def values(texts, column) -> list:
    return conformed(texts, x=column)["x"].to_list()


@given(st.lists(a_text, max_size=8))
@sweeps.examples(15, 300)
def test_every_text_becomes_a_value_or_is_kept_as_it_came(texts):
    made = conformed(texts, **EVERY_KIND)
    for raw, row in zip(texts, made.to_dicts(), strict=True):
        kept = json.loads(row["_unparsed"] or "{}")
        bare = None if raw is None else cleaned(pl.Series([raw])).item()
        for name, column in EVERY_KIND.items():
            missing = bare is None or bare in {"", *column.missing}
            assert (row[name] is None) == (missing or name in kept)
            assert name not in kept or (kept[name] == raw and not missing)


@given(st.lists(a_text, max_size=8))
@sweeps.examples(5, 100)
def test_streaming_makes_the_same_rows(texts):
    lazy = conform(pl.LazyFrame({"source": texts}, schema={"source": pl.String}), **EVERY_KIND)
    assert lazy.collect(engine="streaming").equals(lazy.collect(engine="in-memory"))


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
@settings(max_examples=50, deadline=None)
def test_whole_numbers_come_back(numbers):
    assert values([str(value) for value in numbers], whole_number("source")) == numbers
    assert values([f" {value}.00 " for value in numbers], whole_number("source")) == numbers


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
@settings(max_examples=50, deadline=None)
def test_numbers_come_back(numbers):
    assert values([repr(value) for value in numbers], number("source")) == numbers


@given(st.lists(st.integers(-(2**31), 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))))
@settings(max_examples=50, deadline=None)
def test_timestamps_and_days_come_back(moments):
    texts = [moment.strftime(SECONDS) for moment in moments]
    assert values(texts, timestamp("source", formats=[SECONDS])) == moments
    assert values([raw[:10] for raw in texts], day("source", formats=["%Y-%m-%d"])) == [moment.date() for moment in moments]


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("7", 7),
        ("7.0", 7),
        ("+7", 7),
        ("-0", 0),
        ("007", 7),
        ("7.5", None),
        ("7.50", None),
        ("7.", None),
        ("70.00", 70),
        (".0", None),
        ("1e3.0", None),
        ("9" * 20 + "0" * 3, None),
        ("9" * 20 + ".0", None),
        ("1e3", None),
        ("1,000", None),
        ("9" * 19, None),
    ],
)
def test_a_whole_number_is_lossless(raw, value):
    assert values([raw], whole_number("source")) == [value]


@pytest.mark.parametrize("raw", ["inf", "-inf", "infinity", "1e999", "1,5", "12 pounds"])
def test_what_is_no_finite_number_is_kept_as_text(raw):
    made = conformed([raw], price=number("source"))
    assert made["price"].item() is None
    assert json.loads(made["_unparsed"].item()) == {"price": raw}


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("13085.0", "13085"),
        ("13085", "13085"),
        ("00012.00", "00012"),
        ("V1.0", "V1.0"),
        ("1.5", "1.5"),
        (" 85123A ", "85123A"),
        ("nan", None),
    ],
)
def test_a_code_is_freed_from_what_a_spreadsheet_made_of_it(raw, value):
    assert values([raw], code("source", nulls=["nan"])) == [value]


def test_a_choice_has_a_value_for_each_of_its_texts_and_for_no_other():
    made = conformed(["upsert", " delete ", "DELETE", "", None], is_deleted=choice("source", options={"upsert": False, "delete": True}))
    assert made.schema["is_deleted"] == pl.Boolean()
    assert made["is_deleted"].to_list() == [False, True, None, None, None]
    assert made["_unparsed"].to_list() == [None, None, '{"is_deleted": "DELETE"}', None, None]


def test_the_first_format_that_fits_counts():
    column = timestamp("source", formats=[SECONDS, "%d/%m/%Y %H:%M", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S%.fZ"])
    texts = ["2010-12-01 08:26:00", "01/12/2010 08:26", "2010-12-01T10:26:00+02:00", "2010-12-01T08:26:00.250Z", "2010-12-01"]
    moment = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    made = conformed(texts, at=column)
    assert made.schema["at"] == pl.Datetime("us", "UTC")
    assert made["at"].to_list() == [moment, moment, moment, moment.replace(microsecond=250_000), None]


@pytest.mark.parametrize("raw", ["2011-02-29 00:00:00", "2010-13-01 00:00:00", "2010-12-01 25:00:00", "2010-12-01 08:26:00 or so"])
def test_a_moment_that_does_not_exist_is_kept_as_text(raw):
    assert conformed([raw], at=timestamp("source", formats=[SECONDS]))["_unparsed"].item() == json.dumps({"at": raw})


def test_declared_words_and_blanks_are_missing_values():
    texts = ["nan", " nan ", "NaN", "", "   ", None]
    assert values(texts, text("source", nulls=["nan"])) == [None, None, "NaN", None, None, None]
    assert conformed(["nan", ""], x=whole_number("source", nulls=["nan"]))["_unparsed"].to_list() == [None, None]


def test_of_several_sources_the_first_that_holds_something_counts():
    frame = pl.LazyFrame({"InvoiceNo": ["1", None, "", "nan", None], "Invoice": [None, "2", "3", "4", None]})
    made = conform(frame, invoice=text("Invoice", "InvoiceNo", "Bill", nulls=["nan"])).collect()
    assert made["invoice"].to_list() == ["1", "2", "3", "4", None]


def test_a_text_in_the_first_source_is_not_passed_over_for_the_next():
    frame = pl.LazyFrame({"Price": ["dear", None], "UnitPrice": ["1.5", "2.5"]})
    made = conform(frame, price=number("Price", "UnitPrice")).collect()
    assert made.drop("_hint").rows() == [(None, '{"price": "dear"}'), (2.5, None)]


def test_sources_that_have_a_type_already_are_taken_by_their_text():
    frame = pl.LazyFrame({"Quantity": [7.0, 7.5], "Customer ID": [13085.0, None]})
    made = conform(frame, quantity=whole_number("Quantity"), customer_id=code("Customer ID")).collect()
    assert made.drop("_hint").rows() == [(7, "13085", None), (None, None, '{"quantity": "7.5"}')]


def test_a_column_without_any_source_is_refused():
    with pytest.raises(ContractBroken, match=r"column price cannot be made: none of its sources \(Price, UnitPrice\)"):
        conform(pl.LazyFrame({"Cost": ["1"]}), price=number("Price", "UnitPrice"))


def test_columns_of_the_platform_stay_and_others_go():
    frame = pl.LazyFrame({"Quantity": ["7"], "Note": ["x"], "_file": ["a.csv"], "_row": [1]})
    assert conform(frame, quantity=whole_number("Quantity")).collect_schema() == pl.Schema(
        {"quantity": pl.Int64(), "_unparsed": pl.String(), "_hint": pl.String(), "_file": pl.String(), "_row": pl.Int64()}
    )


def test_a_column_may_keep_the_name_of_its_source():
    assert conformed(["7"], source=whole_number("source"))["source"].to_list() == [7]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real invoices are not beside this checkout")
def test_real_invoices_are_read_without_a_rest():
    files = [pl.scan_parquet(path).cast(pl.String) for path in sorted(REAL.glob("*.parquet"))]
    bronze = pl.concat(files, how="diagonal")
    made = conform(
        bronze,
        invoice=code("Invoice", "InvoiceNo"),
        quantity=whole_number("Quantity"),
        unit_price=number("Price", "UnitPrice"),
        invoiced_at=timestamp("InvoiceDate", formats=[SECONDS, f"{SECONDS}%.f"]),
        customer_id=code("Customer ID", "CustomerID"),
    ).collect(engine="streaming")
    assert made.height == 1_067_370
    assert made["_unparsed"].null_count() == made.height
    assert made.select("invoice", "quantity", "unit_price", "invoiced_at").null_count().sum_horizontal().item() == 0
    assert made["customer_id"].drop_nulls().str.contains(r"^\d{5}$").all()
    assert made["invoiced_at"].max().date() == date(2011, 12, 9)
    assert math.isclose(
        made.select((pl.col("quantity") * pl.col("unit_price")).sum()).item(),
        sum(
            file.select((pl.col("Quantity").cast(pl.Float64) * pl.col("^(Unit)?Price$").cast(pl.Float64)).sum()).collect().item()
            for file in files
        ),
        rel_tol=1e-9,
    )


def test_of_several_sources_the_one_that_counts_is_kept_as_it_came():
    """With its blanks, also where a source and a column share a name, and where only some rows and columns fail."""
    given = pl.LazyFrame({"a": [" x ", "1", " ", None], "b": ["2", "y", " z", "4"], "_row": [1, 2, 3, 4]})
    made = conform(given, a=whole_number("a", "b"), c=whole_number("b", "a")).collect()
    assert made["a"].to_list() == [None, 1, None, 4]
    assert made["c"].to_list() == [2, None, None, 4]
    assert [text and json.loads(text) for text in made["_unparsed"]] == [{"a": " x "}, {"c": "y"}, {"a": " z", "c": " z"}, None]
