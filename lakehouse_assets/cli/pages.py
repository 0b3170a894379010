"""`lakehouse pages` and `lakehouse report`: what a business person looks at."""

from pathlib import Path

import click

from lakehouse_assets.cli.progress import working_on
from lakehouse_assets.cli.shared import client, command, progress_console
from lakehouse_assets.cli.terminal import say


@command()
@click.option("--host", help="Address to listen on, in place of LAKEHOUSE_HOST; on another one than loopback, a token is needed.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port, in place of LAKEHOUSE_PAGES_PORT.")
def pages(host: str | None, port: int | None) -> None:
    """Show forecasts, review queues, table health, drift, models and the catalogue in the browser. `lakehouse dev` does it too.

    \b
    Examples:
      lakehouse pages
      lakehouse pages --port 8081
    """
    from lakehouse_assets.views.serve import serve

    serve(client(), say, host, port)


@command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file; by default report.html under reports/.")
def report(output: Path | None) -> None:
    """Write what the pages show into one HTML file that needs no server and no network.

    \b
    Examples:
      lakehouse report
      lakehouse report -o monday.html
    """
    from lakehouse_assets.views.report import write

    with working_on("writing the report", progress_console(as_json=True)):
        written = write(client(), output)
    say(str(written))
