"""Keys and references: which row stays of those with one key, and which values are known elsewhere."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.quality.contract import Contract, ContractBroken, column, key_columns, references_of, rules_of
from lakehouse_assets.platform.quality.split import split


class Line(Contract, max_bad_share=1.0):
    day: int = column(key=True)
    line: str = column(key=True)
    product: str = column(nullable=True, references="shop.silver.products.code")
    amount: int = column(ge=0)


SCHEMA = {"day": pl.Int64, "line": pl.String, "product": pl.String, "amount": pl.Int64}
NO_KEYS = pl.DataFrame(schema={"day": pl.Int64, "line": pl.String})


def lines(*rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").with_row_index("_row")


def test_of_rows_with_one_key_the_first_stays():
    parts = split(Line, lines((1, "a", None, 1), (1, "b", None, 2), (1, "a", None, 3), (2, "a", None, 4)), known_keys=NO_KEYS)
    assert parts.good["_row"].to_list() == [0, 1, 3]
    assert parts.bad.select("_row", "_broken").rows() == [(2, ["key_unique"])]


def test_a_key_that_stands_in_the_table_is_taken():
    known = pl.DataFrame({"line": ["a"], "day": [1]})
    parts = split(Line, lines((1, "a", None, 1), (2, "a", None, 1)), known_keys=known)
    assert parts.good["day"].to_list() == [2]


def test_a_row_that_breaks_another_rule_does_not_take_a_key():
    parts = split(Line, lines((1, "a", None, -1), (1, "a", None, 3), (1, "a", None, -2)), known_keys=NO_KEYS)
    assert parts.good["_row"].to_list() == [1]
    assert parts.bad["_broken"].to_list() == [["amount_ge"], ["amount_ge"]]


def test_a_write_that_keeps_keys_itself_is_not_interfered_with():
    parts = split(Line, lines((1, "a", None, 1), (1, "a", None, 3)))
    assert parts.good.height == 2
    assert "key_unique" not in [found.rule.name for found in parts.evidence]


def test_a_feed_that_repeats_itself_does_not_stop_the_table():
    class Strict(Line, max_bad_share=0.0, share_counts_from=1):
        pass

    parts = split(Strict, lines((1, "a", None, 1), (1, "a", None, 1)), known_keys=NO_KEYS)
    assert (parts.good.height, parts.bad.height) == (1, 1)


a_line = st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.sampled_from([None, "p", "q"]), st.integers(-1, 2))


@given(st.lists(a_line, max_size=10), st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), max_size=3))
@settings(max_examples=60, deadline=None)
def test_keys_are_unique_and_no_key_is_lost(rows, known):
    held = pl.DataFrame(known, schema=NO_KEYS.schema, orient="row")
    parts = split(Line, lines(*rows), known_keys=held, referenced={"product": pl.Series(["p"])})
    taken = set(known)
    good = []
    for number, (day, line, product, amount) in enumerate(rows):
        if amount >= 0 and product in {None, "p"} and (day, line) not in taken:
            taken.add((day, line))
            good.append(number)
    assert parts.good["_row"].to_list() == good
    assert parts.good.height + parts.bad.height == len(rows)


def test_the_evidence_of_a_key_counts_what_was_repeated():
    parts = split(Line, lines((1, "a", None, 1), (1, "a", None, 3)), known_keys=NO_KEYS)
    found = parts.evidence[-1]
    assert (found.rule.name, found.rule.text, found.broken) == ("key_unique", "no two rows have the same day, line", 1)
    assert found.sample[0]["amount"] == 3


def test_a_value_that_is_unknown_there_breaks_the_reference_and_null_passes():
    parts = split(Line, lines((1, "a", "p", 1), (1, "b", "q", 2), (1, "c", None, 3)), referenced={"product": pl.Series(["p", "r"])})
    assert parts.good["line"].to_list() == ["a", "c"]
    assert parts.bad["_broken"].to_list() == [["product_references"]]


def test_where_nothing_stands_there_the_rule_is_not_applied_and_says_so():
    parts = split(Line, lines((1, "a", "p", 1)))
    found = next(found for found in parts.evidence if found.rule.name == "product_references")
    assert parts.good.height == 1
    assert (found.rows_in, found.broken) == (0, 0)
    assert found.not_applied == "not applied: shop.silver.products has no rows yet"


def test_a_reference_that_warns_keeps_its_rows():
    class Lenient(Contract):
        product: str = column(references="shop.silver.products.code", level="warn")

    parts = split(Lenient, pl.DataFrame({"product": ["q"]}), referenced={"product": pl.Series(["p"])})
    assert parts.good.height == 1
    assert parts.evidence[-1].broken == 1


def test_a_reference_can_warn_where_the_other_rules_of_its_column_do_not():
    class Mixed(Contract):
        product: str = column(references="shop.silver.products.code", reference_level="warn", str_length=3)

    levels = {found.name: found.level for found in rules_of(Mixed)}
    assert (levels["product_length"], levels["product_references"]) == ("error", "warn")


def test_a_reference_of_another_type_is_an_error_not_an_empty_join():
    with pytest.raises(ContractBroken, match=r"column product is String, but shop\.silver\.products\.code, which it references, is Int64"):
        split(Line, lines((1, "a", "p", 1)), referenced={"product": pl.Series([1])})


def test_a_contract_tells_its_key_and_its_references():
    assert key_columns(Line) == ("day", "line")
    assert str(references_of(Line)["product"]) == "shop.silver.products.code"
    assert "product exists in shop.silver.products.code" in [found.text for found in rules_of(Line)]


@pytest.mark.parametrize("text", ["products.code", "shop.silver.products", "a.b.c.d.e", "shop.silver.products.stock code"])
def test_a_reference_that_is_no_column_is_refused(text):
    with pytest.raises(TypeError, match=r"write product\.layer\.name\.column"):
        column(references=text)


def test_a_key_of_floats_is_refused():
    class Sample(Contract):
        x: float = column(key=True)

    with pytest.raises(TypeError, match="contract Sample: a key cannot hold floats or nested values: x"):
        rules_of(Sample)
