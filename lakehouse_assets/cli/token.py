"""`lakehouse token`: the bearer tokens of the REST service."""

import click

from lakehouse_assets.cli.shared import JSON, Noun, client
from lakehouse_assets.cli.terminal import add_row, ago, folds, grid, print_grid, print_json, say
from lakehouse_assets.platform.serving.tokens import SCOPES

_SCOPES = "; ".join(f"{scope}: {text}" for scope, text in SCOPES.items())


@click.group(cls=Noun)
def token() -> None:
    """Tokens of the REST service: `create` makes one and shows it once, `list` shows which are in force, `revoke` ends one.

    \b
    Examples:
      lakehouse token create shop --scope score --scope feedback --days 90
      lakehouse token list
      lakehouse token revoke shop
    """


@token.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(list(SCOPES)), help=f"What it is good for. {_SCOPES}.")
@click.option("--days", type=click.IntRange(1, 36_500), help="For how long; without it, until it is revoked.")
@JSON
def create(name: str, scopes: tuple[str, ...], days: int | None, as_json: bool) -> None:
    """Make a token called NAME. Its text is shown this once: only a digest of it is kept.

    \b
    Examples:
      lakehouse token create shop --scope score --scope feedback
      lakehouse token create nightly-load --scope ingest --days 90
    """
    made = client().tokens.create(name, scopes, days)
    if as_json:
        print_json(made)
        return
    until = f"until {made['expires_at']:%Y-%m-%d %H:%M} UTC" if made["expires_at"] else "until it is revoked"
    say(f"The token {name} is in force {until}, for {', '.join(made['scopes'])}. It is shown this once:")
    say((made["token"], "bold"))
    say(f"Send it as the header `Authorization: Bearer TOKEN`. `lakehouse token revoke {name}` ends it.")


@token.command("list")
@JSON
def list_tokens(as_json: bool) -> None:
    """The tokens, newest first, and which of them are in force."""
    values = client().tokens.list()
    if as_json:
        print_json(values)
        return
    if not values:
        say("There is no token. `lakehouse token create NAME --scope score` makes one.")
        return
    shown = grid("name", "state", folds("scopes"), "made", "expires")
    for row in values:
        expires = f"{row['expires_at']:%Y-%m-%d}" if row["expires_at"] else "never"
        add_row(shown, row["name"], row["state"], ", ".join(row["scopes"]), ago(row["created_at"]), expires)
    print_grid(shown)


@token.command()
@click.argument("name")
@JSON
def revoke(name: str, as_json: bool) -> None:
    """End the token NAME: it is refused from the next request on."""
    ended = client().tokens.revoke(name)
    if as_json:
        print_json(ended)
    else:
        say(f"The token {name} is revoked: it is refused from the next request on.")
