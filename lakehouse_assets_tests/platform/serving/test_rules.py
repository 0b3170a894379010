"""The rules of a contract reject the same rows of a request as of a table, whichever way they are told."""

from datetime import UTC, date, datetime

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets import Contract, Timestamp, column, rule
from lakehouse_assets.platform.quality.rules import bound_rules
from lakehouse_assets.platform.quality.split import BROKEN, split
from lakehouse_assets.platform.serving.rows import RowType
from lakehouse_assets.platform.serving.rules import RowRules


class Mixed(Contract, max_bad_share=1.0):
    """A column of each sort, with rules of all sorts."""

    key: str = column(key=True, str_matches=r"\d+", str_length={"min_value": 1, "max_value": 4})
    number: float = column(nullable=True, ge=0, lt=10)
    count: int = column(nullable=True, gt=0, le=5, notin=[3])
    word: str = column(nullable=True, isin=["a", "b", "ab"], str_startswith="a")
    text: str = column(nullable=True, str_contains=r"x[yz]", str_endswith="z")
    share: float = column(nullable=True, in_range={"min_value": 0, "max_value": 1, "include_max": False})
    at: Timestamp = column(nullable=True, ge=datetime(2020, 1, 1, tzinfo=UTC))
    day: date = column(nullable=True, lt=date(2030, 1, 1))
    warned: int = column(nullable=True, ge=0, level="warn")
    little = rule("number is at most count", pl.col("number") <= pl.col("count"))
    never_fails = rule("a count is no word", pl.col("count").is_null() | (pl.col("word") != "ab"), level="fail")


COLUMNS = list(Mixed.to_schema().columns)
TYPE = RowType("a row", {name: one.dtype.type for name, one in Mixed.to_schema().columns.items()}, frozenset(COLUMNS[1:]))
RULES = RowRules(Mixed, COLUMNS)
ROW = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["1", "12", "a1", "1a", "", "12345", "é"]),
        "number": st.none() | st.sampled_from([-1.0, -0.0, 0.0, 0.1, 9.999, 10.0, 5.0]),
        "count": st.none() | st.integers(-1, 7),
        "word": st.none() | st.sampled_from(["a", "b", "ab", "abc", ""]),
        "text": st.none() | st.sampled_from(["xy", "axz", "xa", "", "xyz"]),
        "share": st.none() | st.sampled_from([0.0, 1.0, 0.5, -0.1, 1.1]),
        "at": st.none() | st.sampled_from([datetime(2019, 12, 31, 23, 59, 59, 999999, UTC), datetime(2020, 1, 1, tzinfo=UTC)]),
        "day": st.none() | st.sampled_from([date(2029, 12, 31), date(2030, 1, 1)]),
        "warned": st.none() | st.integers(-1, 1),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=4))
def test_the_same_rows_break_the_same_rules_as_in_a_table(rows):
    now = datetime(2030, 1, 1, tzinfo=UTC)
    found: dict[int, set[str]] = {}
    for error in RULES.broken(rows, now):
        found.setdefault(error.row, set()).add(error.message)
    for row, errors in RULES.broken_in(TYPE.frame(rows)).items():
        found.setdefault(row, set()).update(error.message for error in errors)
    texts = {bound.rule.name: bound.rule.text for bound in bound_rules(Mixed)}
    numbered = TYPE.frame(rows).with_row_index("_number")
    bad = split(Mixed, numbered, limited=False).bad
    expected = {row["_number"]: {texts[name] for name in row[BROKEN]} for row in bad.select("_number", BROKEN).rows(named=True)}
    assert found == expected


def test_few_rules_need_a_query_and_fewer_need_pandera():
    assert {bound.rule.name for bound, _ in RULES._expressed} == {"key_matches", "text_contains", "little", "never_fails"}
    assert {bound.rule.name for bound in RULES._checked} == {"day_lt"}


def test_a_moment_may_not_be_far_in_the_future():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    usual = dict.fromkeys(COLUMNS) | {"key": "1"}
    rows = [usual | {"at": datetime(2027, 1, 1, tzinfo=UTC)}, usual | {"at": datetime(2028, 1, 1, tzinfo=UTC)}]
    assert [(error.row, error.field) for error in RULES.broken(rows, now)] == [(1, "at")]
