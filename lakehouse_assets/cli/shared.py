"""What all commands of `lakehouse` share: the terminal, the workspace, `--json`, and how an expected error is said."""

import json
import sys
from typing import Any

import click
from rich.console import Console

from lakehouse_assets.settings import SettingError, Settings

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
# In a file or a pipe there is no edge at which a table's columns would have to be cut.
CONSOLE = Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def workspace() -> Any:
    """The root of this process's settings, with the products."""
    from lakehouse_assets.commands.workspace import Workspace  # late: `--help` and `settings` answer at once

    return Workspace(Settings.load())


def print_json(value: Any) -> None:
    """A value as JSON, for programs."""
    from lakehouse_assets.commands.workspace import as_json

    click.echo(json.dumps(value, default=as_json, indent=2, ensure_ascii=False))


def print_rows(frame: Any, *, as_json: bool) -> None:
    """A frame as JSON or as a grid."""
    from lakehouse_assets.commands.report import print_frame

    if as_json:
        print_json(frame.to_dicts())
    else:
        print_frame(frame, CONSOLE)


class Commands(click.Group):
    """Shows expected errors as one sentence and ends with 1; anything else is a bug and shows where it happened."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from lakehouse_assets.platform.storage.errors import StorageError

        try:
            return super().invoke(ctx)
        except (ValueError, LookupError, StorageError, SettingError) as error:
            raise click.ClickException(str(error)) from error
