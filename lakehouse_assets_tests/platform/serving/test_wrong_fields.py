"""All wrong fields of a request are told at once, in words with an example that is right."""

import json
from datetime import date
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.platform.serving.refused import Refused
from lakehouse_assets.platform.serving.rows import RowType

TYPES: dict[str, Any] = {
    "moment": pl.Datetime("us", "UTC"), "naive": pl.Datetime("us"), "day": pl.Date(), "flag": pl.Boolean(), "word": pl.Enum(["a", "b"]),
    "words": pl.List(pl.String()), "small": pl.Int8(), "number": pl.Float64(), "text": pl.String(), "exact": pl.Decimal(10, 2),
}  # fmt: skip
RIGHT = {
    "moment": "2024-01-02T10:05:12Z", "naive": "2024-01-02T10:05:12", "day": "2024-01-02", "flag": True, "word": "a", "words": ["abc"],
    "small": 12, "number": 12.5, "text": "abc", "exact": "12.50",
}  # fmt: skip
ROWS = RowType("a row", TYPES, frozenset({"text"}))


def told(rows: Any) -> list[tuple[int | None, str | None, str]]:
    with pytest.raises(Refused) as refused:
        ROWS.read(json.dumps(rows).encode())
    return [(error.row, error.field, error.message) for error in refused.value.errors]


@pytest.mark.parametrize("wrong", [[], {"a": 1}, "\x00", 1000.5, None])
def test_each_field_that_is_wrong_is_named_once(wrong):
    row = dict.fromkeys(TYPES, wrong)
    expected = []
    for name in TYPES:
        try:
            ROWS.read(json.dumps([RIGHT | {name: wrong}]).encode())
        except Refused:
            expected.append((0, name))
    assert expected
    assert [(number, field) for number, field, _ in told([row])] == expected


def test_examples_of_messages_are_right():
    assert ROWS.read(json.dumps([RIGHT]).encode())[0]["day"] == date(2024, 1, 2)
    for name, right in RIGHT.items():
        ((_, field, message),) = told([RIGHT | {name: {}}])
        assert field == name
        shown = json.dumps(right[0] if isinstance(right, list) else right)
        assert shown in message
    assert told([RIGHT | {"moment": "yesterday"}]) == [
        (0, "moment", 'it is no moment: write it as "2024-01-02T10:05:12Z", with a time zone')
    ]


def test_missing_and_unknown_fields_of_all_rows_are_told_and_of_many_the_first_twenty():
    short = {name: value for name, value in RIGHT.items() if name != "day"}
    found = told([RIGHT, short | {"dya": 1}, 5])
    assert [(row, field) for row, field, _ in found] == [(1, "dya"), (1, "day"), (2, None)]
    assert "day" in found[0][2]
    assert "missing" in found[1][2]
    assert len(told([{}] * 100)) == 20
