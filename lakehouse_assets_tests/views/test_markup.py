"""What comes with the data is text in a page, whatever it looks like."""

from datetime import date, timedelta

import polars as pl
import pytest

from lakehouse_assets.views.blocks import Curves
from lakehouse_assets.views.in_html import Html
from lakehouse_assets.views.markup import as_html, from_markdown

HOSTILE = ("<img src=http://evil.example/x>", "![x](http://evil.example/x)", "<script>alert(1)</script>", "[x](javascript:alert(1))")


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_has_no_picture_script_or_html_of_the_data(text):
    rendered = from_markdown(f"| a |\n| --- |\n| {text} |\n\n{text}")
    assert "<table" in rendered
    for part in ("<img", "<script", "href="):
        assert part not in rendered.replace('href="http://evil.example/x"', "")


@pytest.mark.parametrize("text", HOSTILE)
def test_cells_are_text(text):
    assert as_html(pl.DataFrame({text: [text]})).count("<") == as_html(pl.DataFrame({"a": ["b"]})).count("<")


def test_numbers_have_commas_and_nothing_stands_for_what_is_missing():
    shown = as_html(pl.DataFrame({"n": [1234567, None], "x": [0.25, None], "yes": [True, None]}))
    for part in ("1,234,567", ">0.25<", ">yes<", "<td></td>"):
        assert part in shown


@pytest.mark.parametrize("missing", [[], [0], [1, 2], [0, 1, 2, 3]], ids=str)
@pytest.mark.parametrize("column", ["value", "low", "high", "limit"])
def test_curves_are_drawn_where_numbers_are_missing(column, missing):
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(4)]
    numbers = {"value": [3.0, 4.0, 5.0, 6.0], "low": [2.0, 3.0, 4.0, 5.0], "high": [4.0, 5.0, 6.0, 7.0], "limit": [4.5] * 4}
    frame = pl.DataFrame({"at": days, "line": "a", **numbers})
    frame = frame.with_columns(pl.when(pl.int_range(4).is_in(missing)).then(None).otherwise(column).alias(column))
    drawn = Html().curves(Curves("Kept", frame, "%", band="95 %", limit="threshold"))
    assert "<svg" in drawn
