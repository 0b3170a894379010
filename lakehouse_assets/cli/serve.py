"""`lakehouse serve`: the REST service."""

import click

from lakehouse_assets.cli.shared import client, command
from lakehouse_assets.cli.terminal import say


@command()
@click.option("--host", help="Address to listen on, in place of LAKEHOUSE_HOST; on another one than loopback, requests need a token.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port, in place of LAKEHOUSE_SERVE_PORT.")
def serve(host: str | None, port: int | None) -> None:
    """Answer requests for predictions of the endpoints that the products declare.

    The champions of the ledgers answer; a promotion or rollback takes effect within seconds, without a failed request.

    \b
    Examples:
      lakehouse serve
      lakehouse serve --host 0.0.0.0 --port 8080
    """
    client().serve_endpoints(say, host=host, port=port)
