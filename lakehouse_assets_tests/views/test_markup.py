"""What comes with the data is text in a page, whatever it looks like."""

import polars as pl
import pytest

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
