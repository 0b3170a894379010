"""What all commands of `lakehouse` share: the terminal, the client, `--json`, grids, and how an expected error is shown.

Data never passes through Rich's markup: values, names of columns and paths are printed as `Text`, or escaped.
"""

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from lakehouse_assets.settings import SettingError

if TYPE_CHECKING:
    from lakehouse_assets.client import Client

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
# In a file or a pipe there is no edge at which a table's columns would have to be cut.
CONSOLE = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 200)
_SHOWN_WIDTH = 40


def client() -> "Client":
    """The lakehouse of this process's settings."""
    from lakehouse_assets.client import open_lakehouse  # late: `--help` and `settings` answer at once

    return open_lakehouse()


def progress_console(*, as_json: bool) -> Console:
    """Where progress and questions are printed: apart from the JSON."""
    return Console(stderr=True, highlight=False, emoji=False) if as_json else CONSOLE


def print_json(value: Any) -> None:
    """A value as JSON, for programs. Numbers that JSON does not have (NaN, infinity) are null."""
    click.echo(json.dumps(_finite(value), default=_as_json, indent=2, ensure_ascii=False, allow_nan=False))


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


def print_rows(frame: Any, *, as_json: bool) -> None:
    """A frame as JSON or as a grid."""
    if as_json:
        print_json(frame.to_dicts())
        return
    shown = grid(*(right(name) if dtype.is_numeric() else name for name, dtype in frame.schema.items()))
    for row in frame.iter_rows():
        shown.add_row(*(_cell(value) for value in row))
    CONSOLE.print(shown)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("null", "dim")
    text = f"{value:,.2f}" if isinstance(value, float) else str(value)
    return Text(text if len(text) <= _SHOWN_WIDTH else text[: _SHOWN_WIDTH - 1] + "…")


def grid(*columns: str | Column) -> Grid:
    """A grid without lines; names of columns are shown as they are, and texts are wrapped where they do not fit, never cut."""
    return Grid(*(column if isinstance(column, Column) else Column(Text(column), overflow="fold") for column in columns), box=None)


def add_row(shown: Grid, *cells: object) -> None:
    """A row of a grid; the cells are shown as they are."""
    shown.add_row(*(Text(str(cell)) for cell in cells))


def right(name: str) -> Column:
    """A column of numbers."""
    return Column(Text(name), justify="right")


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ago(moment: Any) -> str:
    """How long ago, in the largest unit that says enough."""
    from datetime import UTC, datetime

    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} seconds ago"


class Commands(click.Group):
    """Shows expected errors as one sentence and ends with 1; anything else is a bug and shows where it happened."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (ValueError, LookupError, SettingError) as error:
            raise click.ClickException(str(error)) from error
        except Exception as error:
            from lakehouse_assets.platform.quality.declaration_error import DeclarationError
            from lakehouse_assets.platform.storage.errors import StorageError

            if isinstance(error, StorageError | DeclarationError):
                raise click.ClickException(str(error)) from error
            if why := _reason_of_the_disk(error):
                raise click.ClickException(why) from error
            raise


def _reason_of_the_disk(error: Exception) -> str | None:
    """What a full disk, a read-only one or a damaged database has to do with an error, if it has."""
    from lakehouse_assets.platform.storage.disk import reason
    from lakehouse_assets.settings import Settings

    return reason(error, Settings.load().home_folder)
