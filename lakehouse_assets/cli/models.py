"""`lakehouse models`: the versions of models, and decisions about which one is in use."""

from typing import Any

import click
from rich.markup import escape

from lakehouse_assets.cli.shared import CONSOLE, JSON, Noun, add_row, ago, client, grid, print_json, right


@click.group(cls=Noun, argument_command="show")
def models() -> None:
    """Models: their versions, and which one is in use. `lakehouse train` trains them.

    \b
    Examples:
      lakehouse models
      lakehouse models show revenue_forecast.models.daily_revenue
      lakehouse models promote revenue_forecast.models.daily_revenue 2 --reason "the old one misses the new product group"
      lakehouse models rollback revenue_forecast.models.daily_revenue
    """


@models.command("list")
@JSON
def list_models(as_json: bool) -> None:
    """Every model version: who is champion, with which scores, trained on what."""
    values = client().models.list()
    if as_json:
        print_json(values)
        return
    if not values:
        CONSOLE.print("There are no models yet: `lakehouse train` trains one once there is enough history.")
        return
    _print_versions(values)


def _print_versions(values: list[dict[str, Any]]) -> None:
    shown = grid("model", right("version"), "aliases", "created", "scores", "trained on")
    for version in values:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in version["metrics"].items() if "/" not in name)
        tables = ", ".join(f"{name}@{number}" for name, number in version["tables"].items())
        add_row(shown, version["model"], version["version"], ", ".join(version["aliases"]), ago(version["created_at"]), scores, tables)
    CONSOLE.print(shown)


@models.command()
@click.argument("model")
@JSON
def show(model: str, as_json: bool) -> None:
    """The decisions about MODEL, the newest first, with their reasons.

    \b
    Example:
      lakehouse models show revenue_forecast.models.daily_revenue
    """
    values = client().models.show(model)
    if as_json:
        print_json(values)
        return
    champion = values["champion"]
    CONSOLE.print(f"[bold]{escape(values['model'])}[/]: {'no champion' if champion is None else f'version {champion} is champion'}")
    for decision in values["decisions"]:
        CONSOLE.print(f"\nversion {decision['version']} {decision['decision']}, {ago(decision['decided_at'])}")
        for reason in decision["reasons"]:
            CONSOLE.print(f"  {escape(reason)}")
    if not values["decisions"]:
        CONSOLE.print(f"No version was trained yet: `lakehouse train {values['model']}`.")


@models.command()
@click.argument("model")
@click.argument("version", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; it is kept in the model ledger.")
def promote(model: str, version: int, reason: str) -> None:
    """Make VERSION of MODEL the champion by hand.

    \b
    Example:
      lakehouse models promote revenue_forecast.models.daily_revenue 2 --reason "the old one misses the new product group"
    """
    client().models.promote(model, version, reason)
    CONSOLE.print(f"Version {version} of {escape(model)} is champion now.")
    CONSOLE.print("Next: [bold]lakehouse run[/] scores with it")


@models.command()
@click.argument("model")
def rollback(model: str) -> None:
    """Make the previous champion of MODEL the champion again.

    \b
    Example:
      lakehouse models rollback revenue_forecast.models.daily_revenue
    """
    change = client().models.rollback(model)
    CONSOLE.print(f"Version {change.champion} of {escape(model)} is champion again, in place of version {change.champion_before}.")
    CONSOLE.print("Next: [bold]lakehouse run[/] scores with it")
