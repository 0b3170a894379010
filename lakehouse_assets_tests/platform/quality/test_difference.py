"""What changed between two contracts, in the words of those who have to decide about it."""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.quality.contract import Contract, column, rule
from lakehouse_assets.platform.quality.counting import broken_counts
from lakehouse_assets.platform.quality.difference import difference
from lakehouse_assets.platform.quality.document import document
from lakehouse_assets.platform.quality.split import split


def contract(_keywords=None, _annotations=None, **columns):
    annotations = {name: int for name in columns if name in {"x", "y"}} | (_annotations or {})
    body = {"__annotations__": annotations, "__module__": __name__, **columns}
    return type("Sample", (Contract,), body, **(_keywords or {}))


def changes(before, after):
    return [(change.kind, change.subject, change.demands_more) for change in difference(document(before), document(after))]


BASE = contract(x=column(ge=0), y=column(key=True))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (contract(x=column(ge=0), y=column(key=True)), []),
        (contract(x=column(ge=0, description="Said otherwise"), y=column(key=True, personal=True)), []),
        (
            contract(x=column(ge=0), y=column(key=True), _annotations={"z": str}, z=column(nullable=True)),
            [("column added", "z", True)],
        ),
        (contract(x=column(ge=0), y=column(key=True), _annotations={"x": float}), [("type changed", "x", True)]),
        (
            contract(x=column(ge=0, nullable=True), y=column(key=True)),
            [("nullable changed", "x", False), ("rule removed", "x_not_null", False)],
        ),
        (contract(x=column(ge=0, key=True), y=column(key=True)), [("key changed", "x, y", True)]),
        (contract(x=column(ge=1), y=column(key=True)), [("rule tightened", "x_ge", True)]),
        (contract(x=column(ge=-1), y=column(key=True)), [("rule loosened", "x_ge", False)]),
        (contract(x=column(ge=0, le=5), y=column(key=True)), [("rule added", "x_le", True)]),
        (contract(x=column(), y=column(key=True)), [("rule removed", "x_ge", False)]),
        (contract(x=column(ge=0, level="warn"), y=column(key=True)), [("level changed", "x_ge", False)]),
        (
            contract(x=column(ge=0, level="fail"), y=column(key=True)),
            [("level changed", "x_not_null", True), ("level changed", "x_ge", True)],
        ),
        (contract(x=column(ge=0), y=column(key=True), _keywords={"max_bad_rows": 5}), [("threshold changed", "max_bad_rows", False)]),
        (
            contract(x=column(ge=0, references="a.b.c.d"), y=column(key=True)),
            [("rule added", "x_references", True)],
        ),
    ],
)
def test_each_change_has_its_name(after, expected):
    assert changes(BASE, after) == expected


def test_a_contract_without_a_column_lost_it():
    assert ("column removed", "x", True) in changes(BASE, contract(y=column(key=True)))


def test_another_freshness_is_a_change():
    dated = {"_annotations": {"day": date}, "day": column()}
    fresh = {"fresh_by": "day", "fresh_within": timedelta(days=2)}
    (change,) = difference(document(contract(**dated)), document(contract(_keywords=fresh, **dated)))
    assert (change.kind, change.text) == ("freshness changed", "from none to day within 48 hours")


def holds(expression):
    return contract(x=column(), holds=rule("it holds", expression))


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (contract(x=column(isin=[1, 2])), contract(x=column(isin=[1])), "rule tightened"),
        (contract(x=column(isin=[1])), contract(x=column(isin=[2, 1])), "rule loosened"),
        (contract(x=column(isin=[1])), contract(x=column(isin=[2])), "rule changed"),
        (contract(x=column(notin=[1])), contract(x=column(notin=[1, 2])), "rule tightened"),
        (contract(x=column(in_range=(0, 5))), contract(x=column(in_range=(0, 9))), "rule loosened"),
        (contract(x=column(in_range=(0, 5))), contract(x=column(in_range=(1, 9))), "rule changed"),
        (contract(x=column(in_range=(0, 5, True, True))), contract(x=column(in_range=(0, 5, True, False))), "rule tightened"),
        (contract(x=column(nullable=True, ge=0)), contract(x=column(nullable=True, ge=0, ignore_na=False)), "rule tightened"),
        (holds(pl.col("x") > 0), holds(pl.col("x") > 1), "rule changed"),
    ],
)
def test_a_rule_is_tightened_loosened_or_just_another(before, after, kind):
    assert [found for found, _, _ in changes(before, after)] == [kind]


bound = st.integers(-2, 5)
a_rule = st.one_of(
    st.builds(
        lambda low, size, left, right: {"in_range": (low, low + size, left, right)}, bound, st.integers(1, 4), st.booleans(), st.booleans()
    ),
    st.builds(lambda values: {"isin": sorted(values)}, st.sets(bound, min_size=1)),
    st.builds(lambda values: {"notin": sorted(values)}, st.sets(bound, min_size=1)),
    *(st.builds(lambda value, name=name: {name: value}, bound) for name in ("ge", "gt", "le", "lt")),
)


def passing(sample) -> set[int]:
    return set(split(sample, pl.DataFrame({"x": range(-4, 12)}), limited=False).good["x"])


@given(a_rule, a_rule)
@settings(max_examples=150, deadline=None)
def test_what_is_called_tightened_lets_less_through_and_what_is_called_loosened_more(one, other):
    before, after = contract(x=column(**one)), contract(x=column(**other))
    for found in difference(document(before), document(after)):
        if found.kind == "rule tightened":
            assert passing(after) <= passing(before)
        elif found.kind == "rule loosened":
            assert passing(after) >= passing(before)


@pytest.mark.parametrize(
    ("before", "after", "kind"), [((1, 5), (2, 4), "rule tightened"), (3, (2, 4), "rule loosened"), (3, 4, "rule changed")]
)
def test_lengths_of_texts_are_compared(before, after, kind):
    old, new = (contract(_annotations={"t": str}, t=column(str_length=length)) for length in (before, after))
    assert [found for found, _, _ in changes(old, new)] == [kind]


class Stored(Contract):
    x: float = column(key=False, nullable=False, ge=0)
    y: int = column(key=True)
    z: str = column(nullable=True, references="a.b.c.d")
    adds_up = rule("x is y", pl.col("x") == pl.col("y"))


def test_stored_rows_that_break_rules_are_counted():
    rows = pl.LazyFrame({"x": [1.0, -1.0, None, float("nan")], "y": [1, 1, 2, 2], "z": ["p", "q", None, "q"]})
    known = pl.LazyFrame({"d": ["p"]})
    names = {"x_ge", "x_not_null", "z_references", "adds_up", "key_unique", "readable"}
    assert broken_counts(Stored, rows, names, lambda _: known) == {
        "key_unique": 2,
        "x_not_null": 2,
        "x_ge": 1,
        "z_references": 2,
        "adds_up": 2,
    }


def test_what_cannot_be_references_now_anything_is_not_counted():
    rows = pl.LazyFrame({"x": [1.0], "y": ["text"], "z": ["p"]})
    assert broken_counts(Stored, rows, {"x_ge", "z_references", "adds_up", "key_unique"}, lambda _: None) == {"x_ge": 0}
