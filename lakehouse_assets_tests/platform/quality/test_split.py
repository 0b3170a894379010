import warnings
from datetime import date

import pandera.errors
import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.config import ValidationDepth, config_context

from lakehouse_assets.platform.quality.contract import Contract, ContractBroken, column, rule, rules_of, schema_of
from lakehouse_assets.platform.quality.rules import bound_rules
from lakehouse_assets.platform.quality.split import split
from lakehouse_assets_tests import sweeps

NAN = float("nan")


class Line(Contract, max_bad_share=1.0):
    quantity: int = column(ge=1, le=10)
    price: float = column(gt=0)
    discount: float = column(nullable=True, le=0.5)
    email: str = column(nullable=True, personal=True, str_contains="@", str_length=(3, 8))
    country: str = column(isin=["France", "Spain"])
    strict: int = column(nullable=True, ge=0, ignore_na=False)
    sold_on: date = column(nullable=True, ge=date(2010, 1, 1))

    discount_below_price = rule("the discount is below the price", pl.col("discount") < pl.col("price"))
    small = rule("the quantity is small", pl.col("quantity") < 5, level="warn")

    @pa.check("price")
    @classmethod
    def not_too_exact(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col(data.key).round(2) == pl.col(data.key))


GOOD = {
    "quantity": 1,
    "price": 2.5,
    "discount": None,
    "email": "a@b",
    "country": "France",
    "strict": 0,
    "sold_on": None,
}

a_row = st.fixed_dictionaries(
    {
        "quantity": st.none() | st.integers(-1, 12),
        "price": st.none() | st.sampled_from([NAN, -1.0, 0.0, 0.3, 1.0, 1.234]),
        "discount": st.none() | st.sampled_from([NAN, -1.0, 0.25, 0.5, 0.75]),
        "email": st.none() | st.sampled_from(["", "@", "a@b", "a@b.example", "é@ü"]),
        "country": st.none() | st.sampled_from(["France", "Spain", "france"]),
        "strict": st.none() | st.integers(-1, 1),
        "sold_on": st.none() | st.sampled_from([date(2009, 12, 31), date(2010, 1, 1)]),
    }
)


def frame_of(rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=schema_of(Line))


def failures_by_pandera(frame: pl.DataFrame) -> set[tuple[int, str]]:
    """Row and rule of each failure that Pandera reports; it does not report those of warn rules."""
    names = {}
    for bound in bound_rules(Line):
        check = "not_nullable" if bound.check is None else bound.check.error or bound.check.name
        names[bound.rule.column or "Line", check] = bound.rule.name
    with warnings.catch_warnings(), config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        warnings.simplefilter("ignore", pandera.errors.SchemaWarning)
        try:
            Line.validate(frame.lazy(), lazy=True)
        except pandera.errors.SchemaErrors as errors:
            found = errors.failure_cases.select("index", "column", "check").iter_rows()
            return {(row, names[column, check]) for row, column, check in found}
    return set()


@given(st.lists(a_row, max_size=12))
@sweeps.examples(40, 500)
def test_a_row_is_rejected_for_exactly_the_rules_that_pandera_finds_broken(rows):
    frame = frame_of(rows).with_row_index("_row")
    parts = split(Line, frame)
    broken = {(row, rule) for row, rules in parts.bad.select("_row", "_broken").iter_rows() for rule in rules}
    assert broken == failures_by_pandera(frame.drop("_row"))


@given(st.lists(a_row, max_size=12))
@settings(max_examples=50, deadline=None)
def test_good_and_bad_rows_together_are_the_rows_that_came(rows):
    frame = frame_of(rows).with_row_index("_row")
    parts = split(Line, frame)
    assert (parts.bad["_broken"].list.len() > 0).all()
    together = pl.concat([parts.good, parts.bad.drop("_broken")]).sort("_row").select(frame.columns)
    assert together.equals(frame, null_equal=True)
    assert parts.good["_row"].is_sorted()
    assert parts.bad["_row"].is_sorted()


@given(st.lists(a_row, max_size=12))
@settings(max_examples=50, deadline=None)
def test_evidence_counts_each_rule_once_a_row(rows):
    frame = frame_of(rows)
    parts = split(Line, frame)
    assert [found.rule for found in parts.evidence] == rules_of(Line)
    for found in parts.evidence:
        assert found.rows_in == frame.height
        assert len(found.sample) == min(found.broken, 5)
        if found.rule.level == "error":
            assert found.broken == parts.bad.filter(pl.col("_broken").list.contains(found.rule.name)).height
    large = frame.filter(pl.col("quantity") >= 5).height
    assert {found.rule.name: found.broken for found in parts.evidence}["small"] == large


def test_many_rules_broken_at_once_are_all_named():
    names = [f"x{number:02}" for number in range(40)]
    body = {"__annotations__": dict.fromkeys(names, int), "__module__": __name__}
    wide = type("Wide", (Contract,), body | {name: column(ge=0) for name in names}, max_bad_share=1.0)
    rows = [{name: -1 if (row >> (number % 7)) & 1 else 1 for number, name in enumerate(names)} for row in range(128)]
    rows[3] |= {"x05": None}
    parts = split(wide, pl.DataFrame(rows, schema=schema_of(wide)).with_row_index("_row"))
    for row, rules in parts.bad.select("_row", "_broken").iter_rows():
        expected = {
            f"{name}_ge" if value is not None else f"{name}_not_null" for name, value in rows[row].items() if value is None or value < 0
        }
        assert set(rules) == expected
    assert parts.good["_row"].to_list() == [0]


def broken_by(row, **lineage) -> list[str]:
    parts = split(Line, frame_of([GOOD | row]).with_columns(**lineage))
    return parts.bad["_broken"].to_list()[0] if parts.bad.height else []


def test_a_tuple_with_one_allowed_value_is_that_value():
    class Sample(Contract):
        x: str = column(isin=("abc",))

    assert split(Sample, pl.DataFrame({"x": ["abc", "a"]})).bad["x"].to_list() == ["a"]


def test_null_breaks_only_not_null():
    assert broken_by({"price": None}) == ["price_not_null"]


def test_nan_is_null_in_a_column_that_is_not_nullable():
    assert "price_not_null" in broken_by({"price": NAN})
    assert "discount_not_null" not in broken_by({"discount": NAN})


def test_null_passes_in_a_nullable_column():
    assert broken_by({"email": None, "discount": None, "sold_on": None}) == []


def test_a_rule_can_say_that_nulls_break_it():
    assert broken_by({"strict": None}) == ["strict_ge"]


def test_a_warning_rejects_no_row():
    parts = split(Line, frame_of([GOOD | {"quantity": 9}]))
    assert parts.good.height == 1
    assert next(found for found in parts.evidence if found.rule.name == "small").broken == 1


def test_columns_come_in_the_order_of_the_contract_then_those_of_the_platform():
    frame = frame_of([GOOD, GOOD | {"quantity": 0}]).with_columns(_file=pl.lit("a.csv"), _unparsed=pl.lit(None, pl.String), _row=pl.lit(1))
    shuffled = frame.select(sorted(frame.columns))
    parts = split(Line, shuffled)
    assert parts.good.columns == [*GOOD, "_file", "_row"]
    assert parts.bad.columns == [*GOOD, "_file", "_row", "_unparsed", "_broken"]


def test_the_parts_have_the_same_columns_whatever_is_in_them():
    frame = frame_of([GOOD, GOOD | {"quantity": 0}]).with_columns(_unparsed=pl.lit(None, pl.String))
    some, none, empty = split(Line, frame), split(Line, frame.head(1)), split(Line, frame.clear())
    assert some.good.schema == none.good.schema == empty.good.schema
    assert some.bad.schema == none.bad.schema == empty.bad.schema
    assert some.bad.schema["_broken"] == pl.List(pl.String)


def test_a_verdict_from_before_does_not_count():
    frame = frame_of([GOOD]).with_columns(_broken=pl.lit(["quantity_ge"]))
    assert split(Line, frame).good.columns == list(GOOD)


def test_a_text_that_could_not_be_read_breaks_readable_instead_of_not_null():
    assert broken_by({"quantity": None}, _unparsed=pl.lit('{"quantity": "abc"}')) == ["readable"]
    assert broken_by({"quantity": None}, _unparsed=pl.lit('{"discount": "abc"}')) == ["readable", "quantity_not_null"]
    assert broken_by({"quantity": None}, _unparsed=pl.lit('{"discount": "\\"quantity\\": 1"}')) == ["readable", "quantity_not_null"]
    assert broken_by({"quantity": None}, _unparsed=pl.lit(None, pl.String)) == ["quantity_not_null"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop("price"), "column price (Float64) is missing"),
        (lambda frame: frame.with_columns(note=pl.lit("x")), "column note is not in the contract"),
        (lambda frame: frame.cast({"quantity": pl.Int32}), "column quantity is Int32, the contract says Int64"),
        (lambda frame: frame.cast({"sold_on": pl.Datetime("us")}), "column sold_on is Datetime(time_unit='us', time_zone=None)"),
    ],
)
def test_other_columns_or_types_break_the_contract(change, message):
    with pytest.raises(ContractBroken) as broken:
        split(Line, change(frame_of([GOOD])), "sales.silver.lines")
    assert str(broken.value).startswith("sales.silver.lines: ")
    assert message in str(broken.value)


class Judged(Contract, max_bad_share=0.1):
    x: int = column(ge=0)


class JudgedFromTheFirstRow(Judged, max_bad_share=0.0, share_counts_from=1):
    pass


def values(good: int, bad: int) -> pl.DataFrame:
    return pl.DataFrame({"x": [1] * good + [-1] * bad}, schema={"x": pl.Int64})


def test_too_large_a_share_of_bad_rows_breaks_the_contract():
    assert split(Judged, values(90, 10)).bad.height == 10
    with pytest.raises(ContractBroken) as broken:
        split(Judged, values(89, 11), "sales.silver.lines")
    assert str(broken.value).startswith("sales.silver.lines: 11 of 100 rows break contract Judged, which lets at most 10.0% be bad")
    assert "x >= 0 (11 rows)" in str(broken.value)


def test_half_of_the_rows_may_be_bad_unless_the_contract_says_otherwise():
    class Plain(Contract):
        x: int = column(ge=0)

    assert split(Plain, values(50, 50)).bad.height == 50
    with pytest.raises(ContractBroken):
        split(Plain, values(49, 51))


def test_a_small_batch_is_not_judged_by_its_share():
    assert split(Judged, values(0, 99)).bad.height == 99


def test_a_contract_may_allow_no_bad_row_at_all():
    assert split(JudgedFromTheFirstRow, values(1, 0)).good.height == 1
    assert split(JudgedFromTheFirstRow, values(0, 0)).good.height == 0
    with pytest.raises(ContractBroken):
        split(JudgedFromTheFirstRow, values(10, 1))


def test_samples_mask_personal_data_and_keep_the_way_back_to_the_file():
    frame = frame_of([GOOD | {"quantity": 0, "email": "eve@home"}, GOOD | {"quantity": 0, "email": None}]).with_columns(
        _file=pl.lit("a.csv"),
        _row=pl.Series([7, 8]),
        _rescued=pl.lit('{"e-mail 2": "eve@work"}'),
        _unparsed=pl.Series(['{"email": "eve@", "price": "dear", "mail_domain": "eve.example"}', None]),
    )
    parts = split(Line, frame)
    assert all("eve" not in str(found.sample) for found in parts.evidence)
    first, second = next(found.sample for found in parts.evidence if found.rule.name == "quantity_ge")
    assert (first["email"], first["_unparsed"]) == ("•••", '{"email": "•••", "price": "dear", "mail_domain": "•••"}')
    assert (first["quantity"], first["_file"], first["_row"]) == (0, "a.csv", 7)
    assert (second["email"], second["_unparsed"], second["_row"]) == (None, None, 8)
    assert "eve@home" in parts.bad["email"]  # the quarantine itself keeps what came


def test_samples_are_the_first_rows_even_when_they_are_far_apart():
    rows = 50_000
    frame = (
        pl.DataFrame({"x": [1] * rows}).with_row_index("_row").with_columns(x=pl.when(pl.col("_row") % 9_000 == 7).then(-1).otherwise("x"))
    )
    found = split(Judged, frame.cast({"x": pl.Int64})).evidence[-1]
    assert (found.broken, [row["_row"] for row in found.sample]) == (6, [7, 9_007, 18_007, 27_007, 36_007])


def test_a_rule_that_answers_for_other_rows_than_it_was_given_is_refused():
    class Sample(Contract):
        x: int

        @pa.dataframe_check
        @classmethod
        def positive(cls, data: pa.PolarsData) -> pl.LazyFrame:
            return data.lazyframe.filter(pl.col("x").is_null() | (pl.col("x") > 0)).select(pl.col("x").is_not_null())

    with pytest.raises(TypeError, match="rule positive gave 1 answers for 2 rows"):
        split(Sample, pl.DataFrame({"x": [1, -1]}))
