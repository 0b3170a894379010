"""`lakehouse automl`: a first model of any table, as a report and a product."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse_assets.cli.complete import TABLES
from lakehouse_assets.cli.progress import working_on
from lakehouse_assets.cli.shared import client, command, progress_console
from lakehouse_assets.cli.terminal import add_row, folds, grid, print_grid, right, say
from lakehouse_assets.platform.wording import counted

if TYPE_CHECKING:
    from lakehouse_assets.client.automl import AutoMl

_STATES = {"baseline": "baseline", "complete": "searched", "blend": "blended"}
_WHAT = {
    "contracts.py": "what each table promises; descriptions to fill in are marked TODO",
    "prepared.py": "the rows that are predicted, and which columns count",
    "inputs.py": "the feature set: what was known of each row, and when",
    "prediction.py": "labels, the model with its test, and the prediction table",
}


@command(interrupted="No product was written. The trials that are over are kept: the same command goes on with them.")
@click.argument("table", shell_complete=TABLES)
@click.option("--target", required=True, metavar="COLUMN", help="What is predicted: a Boolean, texts, or numbers.")
@click.option("--time", metavar="COLUMN", help="When a row happened: tests are then on later rows than those learnt from.")
@click.option("--entity", multiple=True, metavar="COLUMN", help="What a row is about; may be repeated.")
@click.option("--minutes", type=click.FloatRange(0.01), default=2.0, show_default=True, help="When the search is over.")
@click.option("--trials", type=click.IntRange(1), metavar="N", help="Most trials; by default as many as there is time for.")
@click.option("--without", multiple=True, metavar="COLUMN", help="Not to be learnt from; may be repeated.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="To be learnt from though it seems to tell the answer.")
@click.option(
    "--settled", type=click.FloatRange(0, 36_500), default=0.0, metavar="DAYS", help="How long after --time it is known; 0: at once."
)
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="The folder of products to write into.")
@click.option("--name", help="Of the product that is written; by default of table and target.")
def automl(  # noqa: PLR0917
    table: str,
    target: str,
    time: str | None,
    entity: tuple[str, ...],
    minutes: float,
    trials: int | None,
    without: tuple[str, ...],
    keep: tuple[str, ...],
    settled: float,
    into: Path | None,
    name: str | None,
) -> None:
    """Make a first model of any TABLE: explore it, search for the best learner, and write a product to go on with.

    \b
    Examples:
      lakehouse automl shop.silver.orders --target charged_back --time ordered_at --settled 60
      lakehouse automl shop.silver.orders --target amount --entity order --minutes 10 --name order_amounts
    """
    opened = client()
    with working_on("exploring", progress_console(as_json=False)):
        made = opened.automl(
            table,
            target,
            time=time,
            entity=entity,
            minutes=minutes,
            trials=trials,
            without=without,
            keep=keep,
            settled=settled,
            into=into,
            name=name,
        )
    _print_result(made)
    _print_next(made)


def _print_result(made: "AutoMl") -> None:
    found = made.found
    say((found.verdict, "bold"))
    shown = grid("", folds("learner"), right(found.metric), "state")
    seen = set[str]()
    for row in found.board.filter(~found.board["state"].is_in(["pruned"])).iter_rows(named=True):
        if row["candidate"] not in seen and row["loss"] is not None:
            seen.add(row["candidate"])
            add_row(shown, str(len(seen)), row["candidate"], f"{row['loss']:.4g}", _STATES[row["state"]])
    print_grid(shown)
    for note in (*found.question.notes, *found.warnings):
        say(f"  {note}")
    for one in found.question.columns:
        if one.use == "left out":
            say(f"  {one.name} is left out: {one.note}")
    say(f"\nThe report with {counted(3, 'picture')}: {_path(made.report / 'report.md')}")


def _print_next(made: "AutoMl") -> None:
    if made.written is None:
        say("No product was written, as no column tells the rows apart: name those that do with --entity")
        return
    say()
    say((f"{_path(made.written.folder)}/", "bold"))
    files = sorted({*made.written.files} - {"__init__.py"})
    for file in files:
        say(f"  {file:{max(map(len, files))}}  {_WHAT.get(file, 'invented rows through the functions')}")
    say("\nNext:")
    lines = [f"export LAKEHOUSE_PRODUCTS={shlex.quote(made.setting)}"] if made.setting else []
    product = made.written.model.partition(".")[0]
    lines += [f"lakehouse run group:{product}", f"lakehouse train {made.written.model}", f"lakehouse show {made.written.predictions}"]
    for line in lines:
        say((f"  {line}", "bold"))


def _path(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
