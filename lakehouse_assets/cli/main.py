"""The `lakehouse` command: parses, calls the client, prints. What is done is in `client` and below.

Exit codes: 0 success, 1 something failed and the message says what, 2 the command was not understood.
"""

import sys
from importlib import import_module
from pathlib import Path

import click

from lakehouse_assets.cli.accuracy import accuracy
from lakehouse_assets.cli.alerts import alerts
from lakehouse_assets.cli.automl import automl
from lakehouse_assets.cli.backup import backup, restore_backup
from lakehouse_assets.cli.complete import completion
from lakehouse_assets.cli.contracts import contracts
from lakehouse_assets.cli.features import features
from lakehouse_assets.cli.files import files, land
from lakehouse_assets.cli.models import models
from lakehouse_assets.cli.monitors import monitors, why
from lakehouse_assets.cli.new import new
from lakehouse_assets.cli.operations import doctor, maintenance, restore
from lakehouse_assets.cli.pages import pages, report
from lakehouse_assets.cli.profile import profile
from lakehouse_assets.cli.quarantine import quarantine
from lakehouse_assets.cli.run import reproduce, run, train
from lakehouse_assets.cli.runs import runs
from lakehouse_assets.cli.serve import serve
from lakehouse_assets.cli.shared import JSON, Commands, client, command
from lakehouse_assets.cli.status import status
from lakehouse_assets.cli.tables import export, history, show, sql
from lakehouse_assets.cli.terminal import print_json, say
from lakehouse_assets.cli.token import token
from lakehouse_assets.platform.compute.memory import limit_memory
from lakehouse_assets.settings import Settings, variable

_SHOWCASE = Path(__file__).parents[1] / "showcase"


@click.group("lakehouse", cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="lakehouse-assets")
def main() -> None:
    """An open lakehouse ML platform: files land and become tables, features, models and predictions.

    \b
    First steps:
      lakehouse new shop --from *.csv       write a product from sample files
      lakehouse land invoices my.csv        put a file into the landing zone of a feed
      lakehouse run                         bring all tables up to date
      lakehouse train                       train the models
      lakehouse status                      see what there is
      lakehouse dev                         open the web UI

    Everything is kept under one folder, `data` by default: --root or LAKEHOUSE_ROOT names another one or a bucket, as s3://bucket/prefix.
    A noun alone lists: `lakehouse files`. Outside of SQL, a table's last word is enough where only one has it.

    Exit codes: 0 success, 1 something failed, 2 the command was not understood, 130 interrupted.
    """
    settings = Settings.load()
    limit_memory(settings.memory_megabytes, settings.processes_at_once)


@command()
@JSON
def settings(as_json: bool) -> None:
    """Every setting with its value, its variable and what it does. Passwords and tokens are left out."""
    from dataclasses import fields

    loaded = Settings.load()
    rows = [
        {
            "variable": variable(field.name),
            "value": loaded.shown(field.name),
            "default": str(field.default),
            "meaning": field.metadata["doc"],
        }
        for field in fields(Settings)
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        changed = "" if row["value"] == row["default"] else f"  (default: {row['default'] or 'empty'})"
        say((row["variable"], "bold"), f"={row['value']}", (changed, "dim"), f"\n    {row['meaning']}")


@command()
@click.option("--host", help="Address to listen on, in place of LAKEHOUSE_HOST.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of the web UI, in place of LAKEHOUSE_WEB_PORT.")
@click.option("--mlflow-port", type=click.IntRange(1, 65_535), help="Port of the MLflow UI, in place of LAKEHOUSE_MLFLOW_PORT.")
@click.option("--serve-port", type=click.IntRange(1, 65_535), help="Port of the REST service, in place of LAKEHOUSE_SERVE_PORT.")
@click.option("--pages-port", type=click.IntRange(1, 65_535), help="Port of the pages, in place of LAKEHOUSE_PAGES_PORT.")
@click.option("--mlflow/--no-mlflow", default=True, help="Whether to serve the MLflow UI.  [default: mlflow]")
@click.option("--pages/--no-pages", "with_pages", default=True, help="Whether to serve the pages for people.  [default: pages]")
@click.option("--open", "open_browser", is_flag=True, help="Open the web UI in the browser.")
def dev(  # noqa: PLR0917 click passes them by name
    host: str | None,
    port: int | None,
    mlflow_port: int | None,
    serve_port: int | None,
    pages_port: int | None,
    mlflow: bool,
    with_pages: bool,
    open_browser: bool,
) -> None:
    """Serve the Dagster web UI with its daemon, the MLflow UI, the pages for people, and the endpoints of the products, on this machine.

    \b
    Examples:
      lakehouse dev
      lakehouse dev --port 3001 --no-mlflow
    """
    ports = {"port": port, "mlflow_port": mlflow_port, "serve_port": serve_port, "pages_port": pages_port}
    sys.exit(client().serve(say, host=host, mlflow=mlflow, pages=with_pages, open_browser=open_browser, **ports))


_VERBS = (
    new,
    automl,
    land,
    run,
    train,
    reproduce,
    status,
    accuracy,
    show,
    history,
    sql,
    export,
    profile,
    why,
    doctor,
    restore,
    backup,
    restore_backup,
    maintenance,
    dev,
    pages,
    report,
    serve,
    settings,
    completion,
)
_NOUNS = (files, quarantine, contracts, features, models, monitors, alerts, runs, token)
for _command in (*_VERBS, *_NOUNS):
    main.add_command(_command)
# The showcase can be deleted: its commands are there if its folder is.
if _SHOWCASE.is_dir():
    for _command in import_module("lakehouse_assets.showcase.commands").COMMANDS:
        main.add_command(_command)
