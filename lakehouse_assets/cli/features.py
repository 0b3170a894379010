"""`lakehouse features`: the feature sets, what their columns mean, and what uses what."""

from datetime import timedelta
from typing import Any

import click

from lakehouse_assets.cli.complete import TABLES
from lakehouse_assets.cli.shared import JSON, Noun, client
from lakehouse_assets.cli.terminal import add_row, folds, grid, optional, print_grid, print_json, right, say
from lakehouse_assets.platform.wording import counted


@click.group(cls=Noun, argument_command="show")
def features() -> None:
    """Feature sets: what there is, what the columns mean, and what uses what.

    \b
    Examples:
      lakehouse features
      lakehouse features show revenue_forecast.features.daily_revenue
      lakehouse features uses unit_price
    """


@features.command("list")
@JSON
def list_features(as_json: bool) -> None:
    """Every feature set: whom it is about, how new it is, and who answers for it."""
    values = client().features.list()
    if as_json:
        print_json(values)
        return
    if not values:
        say("No product declares a feature set: see `feature_set` and `window_features` in the documents.")
        return
    shown = grid("feature set", "entity", "event time", "newest", right("rows"), right("version"), optional("ttl"), "owner")
    for one in values:
        told = [_or_none(one["newest"]), "" if one["rows"] is None else f"{one['rows']:,}", _or_none(one["version"])]
        add_row(shown, one["feature_set"], ", ".join(one["entity"]), one["event_time"], *told, _ttl(one), one["owner"])
    print_grid(shown)


@features.command()
@click.argument("feature_set", shell_complete=TABLES)
@JSON
def show(feature_set: str, as_json: bool) -> None:
    """What FEATURE_SET is made of, what its columns mean, and who uses it.

    \b
    Example:
      lakehouse features show revenue_forecast.features.daily_revenue
    """
    values = client().features.show(feature_set)
    if as_json:
        print_json(values)
        return
    say((values["feature_set"], "bold"), f"  {values['owner']}")
    say(f"{values['description']}\n")
    about = f" about {' and '.join(values['entity'])}" if values["entity"] else ""
    ahead = ", known ahead of its time" if values["known_ahead"] else ""
    ttl = f", used for at most {_ttl(values)}" if values["ttl_seconds"] else ""
    say(f"A row{about} for each {values['event_time']}{ahead}{ttl}.")
    if values["rows"] is None:
        say("It has not been computed yet: ", (f"lakehouse run {values['feature_set']}", "bold"))
    else:
        newest = "" if values["newest"] is None else f", the newest of {values['newest']}"
        say(f"{counted(values['rows'], 'row')} with all revisions{newest}, version {values['version']} of the code.")
    say()
    shown = grid("column", "type", optional("default"), folds("description"))
    for column in values["columns"]:
        add_row(shown, column["name"], column["type"], _or_none(column["default"]), column["description"])
    print_grid(shown)
    say()
    _say_names("reads", values["reads"])
    _say_uses(values)


@features.command()
@click.argument("name", shell_complete=TABLES)
@JSON
def uses(name: str, as_json: bool) -> None:
    """What uses NAME, a column or a table; and what NAME is made of, if it is a model or a prediction table.

    Of a function nobody knows which columns it reads: what reads a table counts as a user of each of its columns.

    \b
    Examples:
      lakehouse features uses unit_price
      lakehouse features uses sales.silver.invoice_lines.unit_price
      lakehouse features uses revenue_forecast.models.daily_revenue
    """
    values = client().features.uses(name)
    if as_json:
        print_json(values)
        return
    say((values["name"], "bold"))
    _say_names("tables", values["tables"])
    _say_names("feature sets", values["feature_sets"])
    _say_uses(values)


@features.command()
@click.argument("feature_set", required=False, shell_complete=TABLES)
@click.option("--full", is_flag=True, help="Read everything again, not only what changed.")
@JSON
def sync(feature_set: str | None, full: bool, as_json: bool) -> None:
    """Bring the online store up to date with FEATURE_SET, or with all feature sets. A running service does it by itself.

    \b
    Examples:
      lakehouse features sync
      lakehouse features sync order_fraud.features.cards --full
    """
    values = client().features.sync(feature_set, full=full)
    if as_json:
        print_json(values)
        return
    shown = grid("feature set", "kept", optional("version"), "of table", right("at"), "how", right("rows"))
    for one in values:
        how = f"{one['how']}: {one['why']}" if one["why"] else one["how"]
        told = [_or_none(one["feature_set_version"]), one["table"], _or_none(one["version"])]
        add_row(shown, one["feature_set"], one["kept"], *told, how, f"{one['rows']:,}")
    print_grid(shown)


@features.command()
@click.argument("feature_set", shell_complete=TABLES)
@click.argument("key", nargs=-1)
@JSON
def online(feature_set: str, key: tuple[str, ...], as_json: bool) -> None:
    """What the online store has of the entity KEY in FEATURE_SET: its values, or the events that its windows are of.

    \b
    Example:
      lakehouse features online order_fraud.features.cards c-4711
    """
    values = client().features.online(feature_set, *key)
    if as_json:
        print_json(values)
        return
    if not values:
        say(f"The online store has nothing of {' '.join(key)}.")
        return
    columns = list(dict.fromkeys(name for row in values for name in row))
    shown = grid(*(optional(name) for name in columns))
    for row in values:
        add_row(shown, *(_or_none(row.get(name)) for name in columns))
    print_grid(shown)


def _say_uses(values: dict[str, Any]) -> None:
    _say_names("models", values["models"])
    _say_names("predictions", values["predictions"])


def _say_names(what: str, names: list[str]) -> None:
    say((f"{what}: ", "dim"), ", ".join(names) or "none")


def _ttl(values: dict[str, Any]) -> str:
    return "" if values["ttl_seconds"] is None else str(timedelta(seconds=values["ttl_seconds"])).removesuffix(", 0:00:00")


def _or_none(value: Any) -> str:
    return "" if value is None else str(value)
