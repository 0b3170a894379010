"""How commands print: at any width no name is cut, and no text of data is obeyed by a terminal or taken for markup."""

import json
import math
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.cli.terminal import add_row, folds, grid, optional, print_grid, print_json, print_markdown, print_rows, right, say
from lakehouse_assets.platform.wording import counted, printable

NAME = "a_product_of_ours.features.with_a_name_that_is_rather_long"
WIDTHS = ("40", "80", "200", "")


@pytest.fixture(params=WIDTHS, ids=["40", "80", "200", "no edge"])
def width(request, monkeypatch) -> int:
    monkeypatch.setenv("COLUMNS", request.param)
    return int(request.param or 100_000)


def test_names_are_whole_at_any_width_and_what_may_be_left_out_goes_first(width, capsys):
    shown = grid("table", right("rows"), optional("version"), folds("why"))
    add_row(shown, NAME, "1,234", "version 17", "because " * 30)
    print_grid(shown)
    said = capsys.readouterr().out
    assert NAME in said
    assert "1,234" in said
    assert "…" not in said
    assert " ".join(said.split()).count("because") == 30
    assert ("version 17" in said) == (width != 200)  # where nothing fits, each row goes down the page with all it has
    lines = [line for line in said.splitlines() if NAME not in line and "because" in line]
    assert all(len(line) <= width for line in lines) or width < 200


def test_a_wide_frame_goes_down_the_page(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    print_rows(pl.DataFrame({f"customer_{number}": [number, None] for number in range(20)}), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["customer_1", "1"]
    assert lines[-1] == "2 rows"
    assert sum("customer_7" in line for line in lines) == 2


@given(st.text(st.characters(codec="utf-8")))
def test_nothing_that_a_terminal_obeys_is_left(text):
    shown = printable(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 or character in "\u202e\u2066" for character in shown)
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["[red]x[/]", "C:\\[/tmp] x", "08:00:27:cd:af:88", "A:B:C", "[/end]", ":bomb:", "price [kg]"])
def test_text_is_no_markup(text, capsys):
    shown = grid(text)
    add_row(shown, text)
    print_grid(shown)
    say(text)
    print_rows(pl.DataFrame({text: [text]}), as_json=False)
    assert capsys.readouterr().out.count(text) == 5


def test_escapes_of_data_are_shown_and_not_obeyed(capsys):
    shown = grid("file")
    add_row(shown, "\x1b[31mred\nnext\u202e")
    print_grid(shown)
    say("\x1b]0;title\x07")
    print_rows(pl.DataFrame({"\x1b[2J": ["\x9b31m"]}), as_json=False)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\x9b" not in said
    for part in ("\\x1b[31mred\\nnext\\u202e", "\\x1b]0;title\\x07", "\\x1b[2J", "\\x9b31m"):
        assert part in said


def test_json_is_valid_whatever_the_values_are(capsys):
    values = [math.nan, math.inf, {1: -math.inf}, datetime(2026, 1, 1, tzinfo=UTC), b"x", "\x9b\u202e", "file\udcff", (1, None)]
    print_json({"values": values})
    text = capsys.readouterr().out
    found = json.loads(text, parse_constant=pytest.fail)["values"]
    assert found[:4] == [None, None, {"1": None}, "2026-01-01T00:00:00+00:00"]
    assert found[5:] == ["\x9b\u202e", "file\udcff", [1, None]]
    assert "\x9b" not in text


def test_markdown_keeps_its_columns(capsys):
    print_markdown(pl.DataFrame({"a|b": ["x|y\nz"], "n": [1]}))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert {line.count("|") for line in lines} == {3}


def test_counts_agree_with_their_nouns():
    assert [counted(count, "file") for count in (0, 1, 2, 1_200)] == ["0 files", "1 file", "2 files", "1,200 files"]
    assert counted(1, "row is", "rows are") == "1 row is"


def test_numbers_are_shown_as_they_are(capsys):
    print_rows(pl.DataFrame({"x": [1.5, 0.00001234, -0.0, 1234567.891, math.nan, None]}), as_json=False)
    assert capsys.readouterr().out.split()[1:-2] == ["1.50", "1.234e-05", "0.00", "1,234,567.89", "nan", "null"]
