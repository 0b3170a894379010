from datetime import UTC, date, datetime
from typing import Annotated

import pandera.polars as pa
import polars as pl
import pytest

from lakehouse_assets.platform.quality.contract import (
    Contract,
    Timestamp,
    column,
    columns_of,
    fingerprint,
    rule,
    rules_of,
    schema_of,
)

EUROPE = [f"country {number:02}" for number in range(40)]


class Order(Contract):
    """One row per order."""

    order: str = column(description="Number of the order", key=True, str_matches=r"^\d+$")
    placed_at: Timestamp = column(ge=datetime(2009, 1, 1, tzinfo=UTC))
    placed_on: date
    items: int = column(gt=0, le=1000)
    share: float = column(in_range=(0, 1, True, False))
    gift: bool
    total: Annotated[pl.Decimal, 18, 2]
    lines: list[int]
    tags: list[str] = column(nullable=True)
    email: str = column(personal=True, nullable=True, str_length=(3, 80), str_contains="@")
    country: str = column(isin=("France", "Spain"), raise_warning=True)

    total_for_items = rule("an order with items has a total", (pl.col("items") == 0) | (pl.col("total") > 0))
    few_lines = rule("an order has few lines", pl.col("lines").list.len() < 100, level="warn")

    @pa.check("order")
    @classmethod
    def not_a_test(cls, data: pa.PolarsData) -> pl.LazyFrame:
        """Orders of the test shop stay out.

        They start with a zero.
        """
        return data.lazyframe.select(~pl.col(data.key).str.starts_with("0"))


def test_types_are_spelled_in_python_or_polars():
    assert schema_of(Order) == pl.Schema(
        {
            "order": pl.String(),
            "placed_at": pl.Datetime("us", "UTC"),
            "placed_on": pl.Date(),
            "items": pl.Int64(),
            "share": pl.Float64(),
            "gift": pl.Boolean(),
            "total": pl.Decimal(18, 2),
            "lines": pl.List(pl.Int64()),
            "tags": pl.List(pl.String()),
            "email": pl.String(),
            "country": pl.String(),
        }
    )


def test_a_column_tells_what_it_is():
    columns = {info.name: info for info in columns_of(Order)}
    order, email, placed_on = columns["order"], columns["email"], columns["placed_on"]
    assert (order.description, order.key, order.personal, order.nullable) == ("Number of the order", True, False, False)
    assert (email.key, email.personal, email.nullable) == (False, True, True)
    assert order.dtype == pl.String()
    assert placed_on.description == ""
    assert email.rules == ("email contains a match of '@'", "email has 3 to 80 characters")


def test_rules_read_as_sentences():
    assert [(rule.name, rule.level, rule.text) for rule in rules_of(Order)] == [
        ("readable", "error", "every value could be read as its type"),
        ("order_not_null", "error", "order: not null"),
        ("order_matches", "error", r"order matches '^\\d+$'"),
        ("order_not_a_test", "error", "order: Orders of the test shop stay out"),
        ("placed_at_not_null", "error", "placed_at: not null"),
        ("placed_at_ge", "error", "placed_at >= 2009-01-01 00:00:00+00:00"),
        ("placed_on_not_null", "error", "placed_on: not null"),
        ("items_not_null", "error", "items: not null"),
        ("items_gt", "error", "items > 0"),
        ("items_le", "error", "items <= 1000"),
        ("share_not_null", "error", "share: not null"),
        ("share_in_range", "error", "0 <= share < 1"),
        ("gift_not_null", "error", "gift: not null"),
        ("total_not_null", "error", "total: not null"),
        ("lines_not_null", "error", "lines: not null"),
        ("email_contains", "error", "email contains a match of '@'"),
        ("email_length", "error", "email has 3 to 80 characters"),
        ("country_not_null", "error", "country: not null"),
        ("country_isin", "warn", "country is one of 'France', 'Spain'"),
        ("total_for_items", "error", "an order with items has a total"),
        ("few_lines", "warn", "an order has few lines"),
    ]


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"eq": "a"}, "x = 'a'"),
        ({"ne": "a"}, "x != 'a'"),
        ({"lt": "b"}, "x < 'b'"),
        ({"notin": {"b", "a"}}, "x is none of 'a', 'b'"),
        ({"isin": EUROPE}, "x is one of " + ", ".join(map(repr, EUROPE[:10])) + ", … (40 values)"),
        ({"str_startswith": "a"}, "x starts with 'a'"),
        ({"str_endswith": "a"}, "x ends with 'a'"),
        ({"str_length": 3}, "x has 3 characters"),
        ({"str_length": {"exact_value": 3}}, "x has 3 characters"),
        ({"str_length": {"min_value": 3}}, "x has at least 3 characters"),
        ({"str_length": {"max_value": 3}}, "x has at most 3 characters"),
    ],
)
def test_each_check_of_a_column_has_its_words(rules, text):
    class Sample(Contract):
        x: str = column(nullable=True, **rules)

    assert [rule.text for rule in rules_of(Sample)][1:] == [text]


def refused(contract) -> str:
    with pytest.raises(TypeError) as error:
        rules_of(contract)
    return str(error.value)


def test_a_rule_with_one_answer_for_the_whole_table_is_refused():
    class ByPython(Contract):
        x: int

        @pa.check("x")
        @classmethod
        def some_are_positive(cls, data: pa.PolarsData) -> bool:
            return True

    class ByPolars(Contract):
        x: int
        mean_is_positive = rule("the mean is positive", pl.col("x").mean() > 0)

    assert "check some_are_positive of column x: it gives one answer for the whole table" in refused(ByPython)
    assert "check mean_is_positive: it gives one answer for the whole table" in refused(ByPolars)


def test_a_rule_about_an_unknown_column_is_refused():
    class Sample(Contract):
        x: int
        adds_up = rule("x is y", pl.col("x") == pl.col("y"))

    assert "contract Sample, check adds_up: it names the column 'y'" in refused(Sample)


def test_a_rule_for_another_type_is_refused():
    class Sample(Contract):
        x: int = column(str_length=3)

    assert "check str_length of column x: it cannot be carried out" in refused(Sample)


def test_a_rule_that_calls_python_for_each_value_is_refused():
    class Sample(Contract):
        x: int

        @pa.check("x", element_wise=True)
        @classmethod
        def positive(cls, value: int) -> bool:
            return value > 0

    assert "write it as a Polars expression" in refused(Sample)


def test_a_check_of_pandera_that_is_not_about_single_values_is_refused():
    class Sample(Contract):
        x: int = column(unique_values_eq={1})

    assert "check unique_values_eq of column x" in refused(Sample)


@pytest.mark.parametrize("option", ["regex", "coerce", "unique"])
def test_a_column_that_stands_for_many_or_changes_values_or_looks_across_rows_is_refused(option):
    class Sample(Contract):
        x: int = column(**{option: True})

    assert f"contract Sample, column x: '{option}' has no place in a contract" in refused(Sample)


@pytest.mark.parametrize("option", ["coerce", "add_missing_columns", "drop_invalid_rows"])
def test_a_contract_that_would_change_rows_is_refused(option):
    class Sample(Contract):
        x: int
        Config = type("Config", (), {option: True})

    assert f"contract Sample: '{option}' has no place in a contract" in refused(Sample)


def test_a_column_that_may_be_absent_is_refused():
    class Sample(Contract):
        x: int | None

    assert "say nullable=True" in refused(Sample)


@pytest.mark.parametrize("name", ["_file", "Customer ID"])
def test_a_column_with_a_name_of_the_platform_or_with_blanks_is_refused(name):
    class Sample(Contract):
        x: int = column(alias=name)

    assert f"column {name}: a name has letters, digits and underscores" in refused(Sample)


def test_two_rules_with_one_name_are_refused():
    class Sample(Contract):
        x: int = column(gt=1)
        x_gt = rule("x is large", pl.col("x") > 5)

    assert "two rules named x_gt" in refused(Sample)


def test_a_nullable_key_is_refused():
    with pytest.raises(TypeError, match="a column of the key holds no nulls"):
        column(key=True, nullable=True)


@pytest.mark.parametrize("share", [-0.1, 50])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(TypeError, match="a share between 0 and 1"):

        class Sample(Contract, max_bad_share=share):
            x: int


def test_a_contract_can_extend_another():
    class Base(Contract, max_bad_share=0.2):
        x: int = column(ge=0)

    class Extended(Base):
        y: str

    assert list(schema_of(Extended)) == ["x", "y"]
    assert "x_ge" in [rule.name for rule in rules_of(Extended)]
    assert Extended.__max_bad_share__ == 0.2


def contract(annotation=int, rules=None, expression=None, level="error", more=None, **keywords):
    """A contract with a rule of either kind."""
    rules = {"ge": 0} if rules is None else rules
    expression = pl.col("y").is_in(EUROPE) if expression is None else expression
    body = {
        "__annotations__": {"x": annotation, "y": str} | (more or {}),
        "__module__": __name__,
        "x": column(**rules),
        "y": column(),
        "y_known": rule("y is known", expression, level=level),
    }
    return type("Sample", (Contract,), body, **keywords)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(contract(more={"z": int}), id="one column more"),
        pytest.param(contract(annotation=float), id="type"),
        pytest.param(contract(rules={"ge": 1}), id="value of a rule"),
        pytest.param(contract(rules={"gt": 0}), id="kind of a rule"),
        pytest.param(contract(rules={}), id="no rule"),
        pytest.param(contract(rules={"ge": 0, "le": 9}), id="one rule more"),
        pytest.param(contract(rules={"ge": 0, "raise_warning": True}), id="level of a rule"),
        pytest.param(contract(rules={"ge": 0, "ignore_na": False}), id="what a rule says of nulls"),
        pytest.param(contract(rules={"ge": 0, "nullable": True}), id="nullable"),
        pytest.param(contract(rules={"ge": 0, "key": True}), id="key"),
        pytest.param(contract(expression=pl.col("y").is_in([*EUROPE[:20], "elsewhere", *EUROPE[21:]])), id="one value of a long list"),
        pytest.param(contract(expression=~pl.col("y").is_in(EUROPE)), id="expression"),
        pytest.param(contract(level="warn"), id="level of an expression"),
        pytest.param(contract(max_bad_share=0.1), id="threshold on the share"),
        pytest.param(contract(share_counts_from=1), id="threshold on the rows"),
    ],
)
def test_the_fingerprint_changes_with_what_the_contract_demands(changed):
    assert fingerprint(changed) != fingerprint(contract())


def test_the_fingerprint_does_not_change_with_wording_order_or_spelling():
    class Base(Contract):
        x: int = column(isin=[1, 2])
        y: int

        @pa.dataframe_check
        @classmethod
        def y_after_x(cls, data: pa.PolarsData) -> pl.LazyFrame:
            return data.lazyframe.select(pl.col("y") > pl.col("x"))

    class Reworded(Contract, max_bad_share=0.5):
        """Said otherwise."""

        y: int = column(description="Said otherwise", personal=True)
        x: int = column(isin={2, 1})

        @pa.dataframe_check
        @classmethod
        def y_after_x(cls, data: pa.PolarsData) -> pl.LazyFrame:
            """Said otherwise."""
            rows, columns = data.lazyframe, ("y", "x")
            return rows.select(pl.col(columns[0]) > pl.col(columns[1]))

    assert fingerprint(Base) == fingerprint(Reworded)


def test_the_fingerprint_is_the_same_in_every_process():
    class Sample(Contract):
        x: int = column(isin={1, 2, 3}, key=True)
        y: Annotated[pl.Decimal, 18, 2] = column(nullable=True)

    assert fingerprint(Sample) == "1e0dc67d2dea9595"
