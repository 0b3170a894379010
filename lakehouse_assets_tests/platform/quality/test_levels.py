"""Levels and limits: what stops a write, what only sets rows aside, what only counts."""

import polars as pl
import pytest

from lakehouse_assets.platform.quality.contract import Contract, ContractBroken, column, fingerprint, rule, rules_of
from lakehouse_assets.platform.quality.split import split


class Order(Contract, max_bad_share=1.0):
    order: str = column(key=True)
    email: str = column(personal=True)
    items: int = column(ge=0)
    total: float = column(ge=0, level="warn")
    currency: str = column(isin=["GBP"], level="fail")

    paid = rule("an order with items has a total", (pl.col("items") == 0) | (pl.col("total") > 0), level="fail")


GOOD = {"order": "1", "email": "a@b", "items": 1, "total": 2.0, "currency": "GBP"}


def orders(*changes) -> pl.DataFrame:
    rows = [GOOD | {"order": str(number)} | change for number, change in enumerate(changes)]
    return pl.DataFrame(
        rows, schema={"order": pl.String, "email": pl.String, "items": pl.Int64, "total": pl.Float64, "currency": pl.String}
    )


def test_the_level_of_a_column_is_the_level_of_its_rules():
    levels = {found.name: found.level for found in rules_of(Order)}
    assert levels["items_ge"] == "error"
    assert levels["total_ge"] == "warn"
    assert levels["currency_isin"] == levels["currency_not_null"] == levels["paid"] == "fail"


def test_a_warning_cannot_allow_nulls_where_the_schema_has_none():
    assert {found.name: found.level for found in rules_of(Order)}["total_not_null"] == "error"


def test_pandera_s_own_word_for_a_warning_is_understood():
    class Sample(Contract):
        x: int = column(ge=0, raise_warning=True)

    assert rules_of(Sample)[-1].level == "warn"


def test_one_row_that_breaks_a_fail_rule_stops_the_write():
    with pytest.raises(ContractBroken) as broken:
        split(Order, orders({}, {"currency": "EUR"}, {"items": -1}), "shop.silver.orders")
    text = str(broken.value)
    assert text.startswith("shop.silver.orders: 1 of 3 rows break rule currency_isin (currency is one of 'GBP')")
    assert "The first: order = 1: currency = EUR. " in text, "the row can be found, and no more than the value is shown"
    assert "Nothing was written" in text


def test_a_sample_in_an_error_is_masked():
    with pytest.raises(ContractBroken) as broken:
        split(Order, orders({"total": 0.0, "email": "eve@home"}))
    assert "rule paid" in str(broken.value)
    assert "eve" not in str(broken.value)
    assert "The first: order = 0: items = 1, total = 0.0. " in str(broken.value)


def test_a_broken_contract_carries_its_evidence():
    with pytest.raises(ContractBroken) as broken:
        split(Order, orders({}, {"currency": "EUR"}, {"items": -1}))
    assert {found.rule.name: found.broken for found in broken.value.evidence if found.broken} == {"currency_isin": 1, "items_ge": 1}


def test_rows_that_are_tried_again_are_rejected_and_not_stopped():
    parts = split(Order, orders({}, {"currency": "EUR"}), limited=False)
    assert parts.good.height == 1
    assert parts.bad["_broken"].to_list() == [["currency_isin"]]


class Limited(Contract, max_bad_share=1.0, max_bad_rows=2):
    x: int = column(ge=0)


def values(good: int, bad: int) -> pl.DataFrame:
    return pl.DataFrame({"x": [1] * good + [-1] * bad}, schema={"x": pl.Int64})


def test_the_number_of_bad_rows_can_be_limited_however_small_the_batch():
    assert split(Limited, values(0, 2)).bad.height == 2
    with pytest.raises(ContractBroken, match=r"3 of 3 rows break contract Limited, which lets at most 2 be bad.*raise max_bad_rows"):
        split(Limited, values(0, 3))


class Tolerant(Contract, max_bad_share=1.0, share_counts_from=10):
    x: int = column(ge=0)
    few = rule("x is small", pl.col("x") < 5, level="warn", max_bad_rows=3)
    rare = rule("x is not 2", pl.col("x") != 2, max_bad_share=0.1)


def test_a_rule_can_have_a_limit_of_its_own():
    assert split(Tolerant, pl.DataFrame({"x": [9] * 3 + [1] * 10})).good.height == 13
    with pytest.raises(ContractBroken, match=r"rule few .* which at most 3 rows may break"):
        split(Tolerant, pl.DataFrame({"x": [9] * 4 + [1] * 10}))
    assert split(Tolerant, pl.DataFrame({"x": [2] + [1] * 9})).bad.height == 1
    with pytest.raises(ContractBroken, match=r"rule rare .* which at most 10\.0% may break"):
        split(Tolerant, pl.DataFrame({"x": [2, 2] + [1] * 8}))


@pytest.mark.parametrize("limit", [{"max_bad_share": 2}, {"max_bad_rows": -1}])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(TypeError, match="max_bad"):
        rule("x", pl.col("x") > 0, **limit)


def test_a_level_that_is_none_is_refused():
    with pytest.raises(TypeError, match="error, warn or fail, not 'fatal'"):
        column(level="fatal")
    with pytest.raises(TypeError, match="error, warn or fail, not 'fatal'"):
        rule("x", pl.col("x") > 0, level="fatal")


def sample(level="error", bound=0, **limits):
    body = {
        "__annotations__": {"x": int},
        "__module__": __name__,
        "x": column(),
        "low": rule("x", pl.col("x") > bound, level=level, **limits),
    }
    return type("Sample", (Contract,), body)


def low(contract):
    return next(found.fingerprint for found in rules_of(contract) if found.name == "low")


@pytest.mark.parametrize("changed", [sample("fail"), sample("warn"), sample(bound=1), sample(max_bad_rows=1), sample(max_bad_share=0.1)])
def test_a_rule_s_fingerprint_changes_with_what_it_demands(changed):
    assert low(changed) != low(sample())
    assert fingerprint(changed) != fingerprint(sample())


def test_a_rule_s_fingerprint_is_the_same_in_every_process_and_says_nothing_of_words():
    assert low(sample()) == low(sample())

    class Reworded(Contract):
        x: int
        low = rule("said otherwise", pl.col("x") > 0)

    assert low(Reworded) == low(sample()) == "09887140f751"
