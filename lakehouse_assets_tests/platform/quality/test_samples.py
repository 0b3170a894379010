"""Samples of broken rows show where a row came from, the value that broke the rule, and the key; messages show no personal value."""

from datetime import date

import pytest

from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.platform.quality.rules import READABLE, Rule
from lakehouse_assets.platform.quality.samples import first_row, sample_table

ROW = {"id": "7", "day": date(2026, 1, 2), "age": None, "email": MASK, "_file": "a.csv", "_row": 3, "_unparsed": '{"age": "twelve"}'}
AGE = Rule("age_ge", "age", "error", "age >= 0", "ge 0")
PAIR = Rule("sane", None, "fail", "a day is after the id", 'col("day") > col("id")')
EMAIL = Rule("email_matches", "email", "error", "email matches", "matches")


@pytest.mark.parametrize(
    ("rule", "value"),
    [(AGE, "age = twelve"), (READABLE, "age = twelve"), (EMAIL, f"email = {MASK}")],
    ids=["column", "readable", "personal"],
)
def test_the_value_that_broke_the_rule_is_shown_as_it_was_in_the_file(rule, value):
    [row] = sample_table(rule, [ROW], ["id"])
    assert row == {"file": "a.csv", "row": "3", "value": value, "rule": rule.text, "key": "id = 7"}


def test_a_rule_of_several_columns_shows_these():
    [row] = sample_table(PAIR, [{**ROW, "_unparsed": None, "_file": None}], ["id"])
    assert row == {"value": "id = 7, day = 2026-01-02", "rule": PAIR.text, "key": "id = 7"}


def test_a_message_leaves_personal_values_out():
    assert first_row(AGE, [ROW], ["id"]) == "row 3 of a.csv: age = twelve"
    assert first_row(EMAIL, [ROW], ["id"]) == "row 3 of a.csv: a value that is personal"
    assert MASK not in first_row(EMAIL, [{**ROW, "_file": None}], ["email", "id"])
