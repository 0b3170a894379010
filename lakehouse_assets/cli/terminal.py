"""What commands print, and how: sentences, grids, rows, JSON. What is printed is decided in the commands.

Nothing passes Rich's markup: a console knows none, and every text is made fit for a terminal (`printable`). Names are never cut: where a
grid does not fit, columns that may be left out go first, long texts are folded, and at last each row is printed down the page.
"""

import json
import math
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.wording import counted, printable

_GAP = 2
_LEAST_FOLDED = 24
# In a file or a pipe there is no edge: a row is a line.
_NO_EDGE = 100_000
# What JSON allows in a string and a terminal obeys, or shows in another order.
_OBEYED = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

Part = str | tuple[str, str]
"""A piece of a line: text, or text and its style."""


def console(*, stderr: bool = False) -> Console:
    """A console on which text is text: no markup, no emoji names, no numbers in colour."""
    stream = sys.stderr if stderr else sys.stdout
    given = os.environ.get("COLUMNS", "")
    width = int(given) if given.isdigit() and int(given) else None if stream.isatty() else _NO_EDGE
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)


def say(*parts: Part, to: Console | None = None) -> None:
    """Print a line. Texts of data in it are made fit for a terminal; the terminal wraps what is longer than it is wide."""
    (to or console()).print(line(*parts), soft_wrap=True)


def line(*parts: Part) -> Text:
    """A line from its pieces."""
    pieces = [part if isinstance(part, tuple) else (part, "") for part in parts]
    return Text.assemble(*((_lines(text), style) for text, style in pieces))


def _lines(text: str) -> str:
    """Our own texts may break lines; nothing else that a terminal obeys is left."""
    return "\n".join(printable(part) for part in text.split("\n"))


def print_json(value: Any, *, one_line: bool = False) -> None:
    """A value as JSON, for programs; of several values one line each. Numbers that JSON does not have (NaN, infinity) are null."""
    text = json.dumps(_finite(value), default=_as_json, indent=None if one_line else 2, ensure_ascii=False, allow_nan=False)
    text = _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    # A file name that is no UTF-8 has lone surrogates, which only an escape can carry.
    click.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _as_json(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(name): _finite(part) for name, part in value.items()}
        case list() | tuple():
            return [_finite(part) for part in value]
        case _:
            return value


def ago(moment: datetime) -> str:
    """How long ago, in the largest unit that says enough."""
    seconds = max((clock.now() - moment).total_seconds(), 0)
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{counted(round(seconds / size), unit)} ago"
    return f"{counted(round(seconds), 'second')} ago"


def say_remedy(feed: str, path: str, event: str) -> None:
    """The commands for a file that was refused, or changed after it was read."""
    from lakehouse_assets.platform.operations.landed_files import remedies

    words, read, ignore = remedies(feed, path, event)
    say(f"{words}: ", (read, "bold"), ". Leave it: ", (ignore, "bold"))


# --- grids


@dataclass(frozen=True)
class Column:
    """A column of a grid.

    Attributes:
        right: Whether values are numbers.
        optional: Whether it is left out where the grid does not fit; the last one goes first.
        folds: Whether its texts may be broken into lines.
    """

    name: str
    right: bool = False
    optional: bool = False
    folds: bool = False


def right(name: str) -> Column:
    """A column of numbers."""
    return Column(name, right=True)


def optional(name: str, *, right: bool = False) -> Column:
    """A column that is left out where there is no room."""
    return Column(name, right=right, optional=True)


def folds(name: str) -> Column:
    """A column of sentences."""
    return Column(name, folds=True)


@dataclass
class Grid:
    """Rows under the names of their columns, without lines, as wide as the terminal at most."""

    columns: Sequence[Column]
    rows: list[list[Text]] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, for Rich."""
        yield from self._lines(options.max_width)

    def _lines(self, width: int) -> Iterator[Text]:
        shown = list(range(len(self.columns)))
        widths = [max([_width(column.name), *(row[at].cell_len for row in self.rows)]) for at, column in enumerate(self.columns)]

        def total() -> int:
            return sum(widths[at] for at in shown) + _GAP * (len(shown) - 1)

        for at in reversed(range(len(self.columns))):
            if total() > width and self.columns[at].optional:
                shown.remove(at)
        for at in sorted(shown, key=lambda at: -widths[at]):
            if total() > width and self.columns[at].folds:
                widths[at] = max(_LEAST_FOLDED, widths[at] - (total() - width))
        if total() > width:
            yield from self._down_the_page()
            return
        yield self._line([Text(self.columns[at].name, "bold") for at in shown], shown, widths)
        for row in self.rows:
            folded = [_folded(row[at], widths[at]) if self.columns[at].folds else [row[at]] for at in shown]
            for number in range(max(map(len, folded))):
                cells = [lines[number] if number < len(lines) else Text("") for lines in folded]
                yield self._line(cells, shown, widths)
        if left_out := [self.columns[at].name for at in range(len(self.columns)) if at not in shown]:
            yield Text(f"not shown, for want of room: {', '.join(left_out)}", "dim", no_wrap=True, overflow="ignore")

    def _line(self, cells: list[Text], shown: list[int], widths: list[int]) -> Text:
        made = Text(no_wrap=True, overflow="ignore")
        for cell, at in zip(cells, shown, strict=True):
            padding = " " * (widths[at] - cell.cell_len)
            gap = "" if at == shown[0] else " " * _GAP
            made = made + Text(gap + padding) + cell if self.columns[at].right else made + Text(gap) + cell + Text(padding)
        made.rstrip()
        return made

    def _down_the_page(self) -> Iterator[Text]:
        """Each row as a block of lines, one a column; values are whole."""
        longest = max((_width(column.name) for column in self.columns), default=0)
        for number, row in enumerate(self.rows):
            if number:
                yield Text("")
            for column, cell in zip(self.columns, row, strict=True):
                if cell.plain:
                    name = Text(column.name + " " * (longest - _width(column.name) + _GAP), "bold", no_wrap=True, overflow="ignore")
                    yield name + cell


def print_grid(shown: Grid, to: Console | None = None) -> None:
    """Print a grid."""
    (to or console()).print(shown, soft_wrap=True)


def grid(*columns: str | Column) -> Grid:
    """An empty grid."""
    return Grid([column if isinstance(column, Column) else Column(column) for column in columns])


def add_row(shown: Grid, *cells: object) -> None:
    """A row of a grid; the cells are shown as they are, and styled ones (`Text`) in their style."""
    shown.rows.append([cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells])


def _width(text: str) -> int:
    return Text(text).cell_len


def _folded(text: Text, width: int) -> list[Text]:
    if text.cell_len <= width:
        return [text]
    return [Text(part, text.style) for part in textwrap.wrap(text.plain, width) or [""]]


# --- rows of tables


def print_rows(frame: Any, *, as_json: bool, total: str | None = None) -> None:
    """A frame as JSON or as a grid, by the page on a terminal.

    Args:
        frame: A Polars frame.
        as_json: Print JSON.
        total: A line below the rows; by default how many there are.
    """
    from lakehouse_assets.platform.far_times import as_python_holds  # Polars takes long to import, and few commands need it

    if as_json:
        print_json(as_python_holds(frame).to_dicts())
        return
    shown = grid(*(Column(printable(name), right=dtype.is_numeric()) for name, dtype in frame.schema.items()))
    for row in as_python_holds(frame).iter_rows():
        add_row(shown, *(_cell(value) for value in row))
    print_paged(shown, line((total or counted(frame.height, "row"), "dim")))


def _cell(value: Any) -> Text:
    if value is None:
        return Text("null", "dim")
    match value:
        case float():
            return Text(_number(value))
        case list() | dict():
            return Text(printable(json.dumps(_finite(value), default=_as_json, ensure_ascii=False)))
        case _:
            return Text(printable(value))


def _number(value: float) -> str:
    """Two decimals where that is the whole number, else six significant digits."""
    if not math.isfinite(value):
        return str(value)
    whole = abs(value) >= 1_000 or math.isclose(value, round(value, 2), rel_tol=1e-9, abs_tol=1e-12)
    return f"{round(value, 2) + 0.0:,.2f}" if whole else f"{value:.6g}"


def print_markdown(frame: Any) -> None:
    """A frame as a table of Markdown."""
    from lakehouse_assets.platform.far_times import as_python_holds

    cells = [[_escaped(name) for name in frame.columns], [" --- " for _ in frame.columns]]
    cells += [["" if value is None else _escaped(_cell(value).plain) for value in row] for row in as_python_holds(frame).iter_rows()]
    for row in cells:
        click.echo(f"|{'|'.join(row)}|")


def _escaped(text: str) -> str:
    return f" {printable(text).replace('|', '&#124;')} "


def print_paged(*parts: Any) -> None:
    """Print, through the person's pager if it is more than their terminal shows at once."""
    target = console()
    if not (target.is_terminal and sys.stdin.isatty()):
        for part in parts:
            target.print(part, soft_wrap=True)
        return
    with target.capture() as captured:
        for part in parts:
            target.print(part, soft_wrap=True)
    text = captured.get()
    if _height(text, target.width) < target.height:
        click.echo(text, nl=False)
    else:
        click.echo_via_pager(text)


def _height(text: str, width: int) -> int:
    lines: Iterable[str] = click.unstyle(text).splitlines()
    return sum(max(1, math.ceil(len(one) / width)) for one in lines)
