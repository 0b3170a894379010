"""A scope means the same rows in SQL and in Polars, and is never wider than it says."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from deltalake import QueryBuilder
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.storage import predicates
from lakehouse_assets.platform.storage.errors import ScopeError
from lakehouse_assets_tests.platform.storage.fresh import examples, fresh_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(["'", "''", '"', "%", "_", "\\", "a b", "NULL", "1"])
VALUES = {
    "text": (pl.String(), TEXT),
    "whole number": (pl.Int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)),
    "small": (pl.Int8(), st.integers(-128, 127)),
    "flag": (pl.Boolean(), st.booleans()),
    "a day": (pl.Date(), st.dates()),
}


@st.composite
def rows_and_scope(draw):
    columns = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3, unique=True))
    length = draw(st.integers(1, 8))
    data, scope = {}, {}
    for name in columns:
        dtype, value = VALUES[name]
        pool = draw(st.lists(value, min_size=1, max_size=3))  # few values, so that rows and scope meet
        member = st.none() | st.sampled_from(pool)
        data[name] = pl.Series(draw(st.lists(member, min_size=length, max_size=length)), dtype=dtype)
        scope[name] = draw(st.lists(member, min_size=1, max_size=3))
    return pl.DataFrame(data).with_row_index("row").cast({"row": pl.Int64}), scope


@given(rows_and_scope(), st.sampled_from([None, "t"]))
@examples(14)
def test_sql_and_polars_agree(example, alias):
    frame, scope = example
    with fresh_table(frame.schema) as table:
        table.append(frame)
        query = f"SELECT row FROM things AS t WHERE {predicates.sql(scope, alias)} ORDER BY row"
        found = pl.DataFrame(QueryBuilder().register("things", table.delta()).execute(query).read_all())["row"].to_list()
    assert found == frame.filter(predicates.expression(scope))["row"].to_list()
    assert found == [row["row"] for row in frame.iter_rows(named=True) if all(row[name] in values for name, values in scope.items())]


@given(rows_and_scope())
@examples(20)
def test_the_condition_is_never_null(example):
    frame, scope = example
    assert frame.select(predicates.expression(scope).alias("inside"))["inside"].null_count() == 0


@pytest.mark.parametrize(("dtype", "value"), VALUES.values(), ids=VALUES)
@given(st.data())
@examples(14)
def test_the_range_of_values_holds_each_of_them_and_nothing_outside(dtype, value, data):
    """Also where a value is a text that could be the name of a column."""
    known = pl.Series("value", data.draw(st.lists(st.none() | value, max_size=4)), dtype=dtype)
    rows = pl.Series("value", [*known, *data.draw(st.lists(st.none() | value, max_size=4))], dtype=dtype).to_frame()
    some = known.drop_nulls()
    within = [None in known.to_list() if one is None else bool(some.len()) and some.min() <= one <= some.max() for one in rows["value"]]
    assert rows.filter(predicates.in_range("value", known)).rows() == rows.filter(pl.Series(within, dtype=pl.Boolean)).rows()


def test_the_scope_of_rows_holds_all_of_them():
    frame = pl.DataFrame({"day": [date(2011, 7, 2), None, date(2011, 7, 1), date(2011, 7, 2)], "value": [1, 2, 3, 4]})
    scope = predicates.values_of(frame, ["day"])
    assert scope == {"day": [None, date(2011, 7, 1), date(2011, 7, 2)]}
    assert frame.filter(predicates.expression(scope)).height == frame.height


@pytest.mark.parametrize("scope", [{}, {"day": []}, {"day": [1], "month": []}])
def test_a_scope_that_names_nothing_has_no_sql(scope):
    with pytest.raises(ScopeError):
        predicates.sql(scope)


def test_a_scope_without_columns_is_no_condition():
    with pytest.raises(ScopeError, match="at least one column"):
        predicates.expression({})


def test_a_column_without_values_lets_no_row_through():
    frame = pl.DataFrame({"day": [1, None]})
    assert frame.filter(predicates.expression({"day": []})).is_empty()


@pytest.mark.parametrize("value", [1.5, datetime(2011, 7, 1, tzinfo=UTC), b"x", [1]], ids=repr)
def test_values_that_do_not_name_a_partition_have_no_literal(value):
    with pytest.raises(ScopeError, match=type(value).__name__):
        predicates.literal(value)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (pl.Int64(), "7"),
        (pl.Int64(), True),
        (pl.Int64(), 7.0),
        (pl.String(), 7),
        (pl.String(), date(2011, 7, 1)),
        (pl.Date(), "2011-07-01"),
        (pl.Date(), datetime(2011, 7, 1, tzinfo=UTC)),
        (pl.Boolean(), 1),
    ],
    ids=str,
)
def test_values_of_another_type_than_the_columns_are_refused(dtype, value):
    with pytest.raises(ScopeError, match=r"shop: the scope has .* for 'part'"):
        predicates.check({"part": [None, value]}, {"part": dtype}, "shop")


def test_values_of_the_columns_type_pass():
    scope = {"a": ["x", None], "b": [1], "c": [True], "d": [date(2011, 7, 1)]}
    predicates.check(scope, {"a": pl.String(), "b": pl.Int8(), "c": pl.Boolean(), "d": pl.Date()}, "shop")
