"""`lakehouse completion`: names of tables, feeds and models as the shell asks for them. Nothing heavy is imported.

What is declared is read from the cached policy, which the last command that read a table wrote; tables that exist from their folders. A
name that is missing is no harm: it can be typed.
"""

import json
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

from lakehouse_assets.cli.shared import command
from lakehouse_assets.settings import Settings

_SHELLS = ("bash", "zsh", "fish")
_LEDGERS = ".models."

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completer(names: Callable[[Settings], Iterable[str]]) -> Completer:
    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:  # noqa: ARG001
        try:
            known = sorted(set(names(Settings.load())))
        except (OSError, ValueError):
            return []
        found = [name for name in known if name.startswith(begun)]
        if not found:  # a last word that only one has is enough for a command, and enough here
            ending = [name for name in known if name.rsplit(".", 1)[-1].startswith(begun)]
            found = ending if len(ending) == 1 else []
        return [CompletionItem(name) for name in found]

    return complete


def _declared(settings: Settings) -> dict[str, dict[str, str | None]]:
    try:
        tables: dict[str, dict[str, str | None]] = json.loads((settings.cache / "policy.json").read_text(encoding="utf-8"))["tables"]
    except (OSError, ValueError, KeyError):
        return {}
    return tables


def _existing(settings: Settings) -> list[str]:
    """The tables that exist; those of a bucket are not listed, because that takes a request."""
    folder = settings.tables
    return [] if isinstance(folder, str) else [".".join(log.parent.relative_to(folder).parts) for log in folder.glob("*/*/*/_delta_log")]


def _tables(settings: Settings) -> list[str]:
    return [*_declared(settings), *_existing(settings)]


def _feeds(settings: Settings) -> list[str]:
    return [str(table["feed"]) for table in _declared(settings).values() if table.get("feed")]


def _models(settings: Settings) -> list[str]:
    return [name for name in _tables(settings) if _LEDGERS in name]


TABLES, FEEDS, MODELS = _completer(_tables), _completer(_feeds), _completer(_models)
"""What completes an argument: `click.argument("table", shell_complete=TABLES)`."""


@command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, tables, feeds and models in SHELL.

    \b
    Examples:
      eval "$(lakehouse completion bash)"                                     in ~/.bashrc
      eval "$(lakehouse completion zsh)"                                      in ~/.zshrc
      lakehouse completion fish > ~/.config/fish/completions/lakehouse.fish
    """
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 the choice names shells that click knows
    root = click.get_current_context().find_root()
    click.echo(found(root.command, {}, "lakehouse", "_LAKEHOUSE_COMPLETE").source())
