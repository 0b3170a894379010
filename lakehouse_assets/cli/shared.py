"""What all commands of `lakehouse` are made of: the options that each has, the client, and how an expected error is shown.

What is printed, and how, is in `terminal`.
"""

import difflib
import errno
import logging
import os
import re
import shlex
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from lakehouse_assets.cli.interrupts import interruptible
from lakehouse_assets.cli.terminal import console
from lakehouse_assets.platform.wording import printable
from lakehouse_assets.settings import SettingError, variable

if TYPE_CHECKING:
    from lakehouse_assets.client import Client

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
_ROOT = variable("root")
_PANIC = "PanicException"
"""What a panic of Rust is called, as over a file of garbage: each library has a class of its own, and none is an Exception."""
_NEAR = 0.75
"""How similar a word has to be to a verb to be taken for it."""
_QUIET, _VERBOSE = f"{__name__}.quiet", f"{__name__}.verbose"


def client() -> "Client":
    """The lakehouse of this process's settings."""
    from lakehouse_assets.client import open_lakehouse  # late: `--help` and `settings` answer at once

    return open_lakehouse(notice=lambda _: None) if is_quiet() else open_lakehouse()


def progress_console(*, as_json: bool) -> Console:
    """Where progress and questions are printed: apart from the JSON, and nowhere with `--quiet`."""
    found = console(stderr=as_json)
    found.quiet = is_quiet()
    return found


def is_quiet() -> bool:
    """Whether the person asked for results and errors alone."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_QUIET))


# --- options of every command


def _root(context: click.Context, _: click.Parameter, value: str | None) -> None:
    """The root is named in the environment, so that processes that a command starts work on the same one."""
    if value is None:
        return
    before = os.environ.get(_ROOT)
    os.environ[_ROOT] = value

    def restore() -> None:
        if before is None:
            os.environ.pop(_ROOT, None)
        else:
            os.environ[_ROOT] = before

    context.call_on_close(restore)


def _remember(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            context.meta[name] = True
            if name == _VERBOSE:
                logging.basicConfig(level=logging.INFO)

    return remember


def _common() -> list[click.Parameter]:
    hidden: dict[str, Any] = {"expose_value": False, "is_eager": True}
    return [
        click.Option(["--root"], metavar="FOLDER", callback=_root, help=f"The lakehouse, as {_ROOT}: a folder or a bucket.", **hidden),
        click.Option(
            ["-q", "--quiet"], is_flag=True, callback=_remember(_QUIET), help="Print results, warnings and errors alone.", **hidden
        ),
        click.Option(
            ["-v", "--verbose"], is_flag=True, callback=_remember(_VERBOSE), help="Print logs, and where an error comes from.", **hidden
        ),
    ]


class Command(click.Command):
    """A command with the options that every command has.

    Args:
        interrupted: What becomes of what was begun when the command is interrupted, in a sentence; empty if it only reads.
    """

    def __init__(self, *args: Any, interrupted: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_common()]
        self._interrupted = interrupted

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with interruptible(self._interrupted):
            return super().invoke(ctx)


command = partial(click.command, cls=Command)


class Commands(click.Group):
    """Shows expected errors as one sentence and ends with 1; anything else is a bug and shows where it happened."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_common()]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The commands with the first sentence of each, whole."""
        rows = [(name, (one.help or "").split("\n\n")[0].replace("\n", " ")) for name, one in self.commands.items() if not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl([(name, re.split(r"(?<=[.]) ", text)[0].rstrip(":.") + ".") for name, text in rows])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (ValueError, LookupError, SettingError) as error:
            raise _Expected(error, ctx) from error
        except OSError as error:
            if error.errno == errno.EPIPE or error.strerror is None:  # whoever read the output has gone
                raise
            raise _Expected(f"{error.filename or 'a file of the root'}: {error.strerror}", ctx) from error
        except sqlite3.Error as error:
            raise _Expected(f"a database of the root (Dagster's or MLflow's records) cannot be read: {error}", ctx) from error
        except Exception as error:
            from lakehouse_assets.platform.quality.declaration_error import DeclarationError
            from lakehouse_assets.platform.storage.errors import StorageError

            if isinstance(error, StorageError | DeclarationError):
                raise _Expected(error, ctx) from error
            if why := _reason_of_the_disk(error):
                raise _Expected(why, ctx) from error
            raise
        except BaseException as error:
            if type(error).__name__ != _PANIC:
                raise
            raise _Expected("a table cannot be read: `lakehouse doctor` says which one, and what to do", ctx) from error


class _Expected(click.ClickException):
    """An error that says what to do. Data in it is made fit for a terminal."""

    def __init__(self, error: Exception | str, context: click.Context) -> None:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        super().__init__("\n".join(printable(part) for part in str(text).split("\n")))
        self._verbose = bool(context.meta.get(_VERBOSE))

    def show(self, file: Any = None) -> None:
        """Print it; with `--verbose` also where it comes from."""
        if self._verbose and self.__cause__ is not None:
            import traceback

            click.echo("".join(traceback.format_exception(self.__cause__)), err=True)
        super().show(file)


class Noun(Commands):
    """A noun with verbs, as `lakehouse files retry PATH`. The noun alone, or with options, lists.

    Args:
        argument_command: The verb that is proposed where an argument stands in place of one; empty: none.
    """

    def __init__(self, *args: Any, argument_command: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._argument_command = argument_command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` in where no verb is named."""
        if not any(word in self.commands or word in ctx.help_option_names for word in args) and (not args or args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb.

        Raises:
            UsageError: There is no such verb; the error lists them and shows the whole command that may have been meant.
        """
        if args[0] not in self.commands:
            verbs, proposed = ", ".join(self.commands), self._meant(ctx, args)
            raise click.UsageError(f"{args[0]!r} is none of {verbs}." + (f" Did you mean `{proposed}`?" if proposed else ""), ctx)
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, args: list[str]) -> str:
        """The command that may have been meant: one without the noun, a verb that is written so similarly, or an argument alone."""
        root = ctx.find_root()
        if isinstance(root.command, click.Group) and args[0] in root.command.commands:
            return f"{root.command_path} {shlex.join(args)}"
        if near := difflib.get_close_matches(args[0], self.commands, 1, _NEAR):
            return f"{ctx.command_path} {shlex.join([near[0], *args[1:]])}"
        return f"{ctx.command_path} {shlex.join([self._argument_command, *args])}" if self._argument_command else ""


def _reason_of_the_disk(error: Exception) -> str | None:
    """What a full disk, a read-only one or a damaged database has to do with an error, if it has."""
    from lakehouse_assets.platform.storage.disk import reason
    from lakehouse_assets.settings import Settings

    return reason(error, Settings.load().home_folder)
