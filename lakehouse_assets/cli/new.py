"""`lakehouse new`: a product from sample files."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse_assets.cli.shared import client, command
from lakehouse_assets.cli.terminal import add_row, folds, grid, optional, print_grid, right, say
from lakehouse_assets.platform.wording import counted

if TYPE_CHECKING:
    from lakehouse_assets.client import Client
    from lakehouse_assets.scaffold.new import NewProduct
    from lakehouse_assets.scaffold.tables import Table

_WHAT = {
    "bronze.py": "the feeds: headers of the files, personal columns",
    "contracts.py": "what each table promises; descriptions to fill in are marked TODO",
    "silver.py": "texts become values; one function a feed",
    "gold.py": "what is counted and added up",
    "forecast.py": "what is expected of the next four weeks",
}
_PATH = click.Path(path_type=Path)


@command()
@click.argument("product")
@click.argument("files", nargs=-1, type=_PATH)
@click.option("--from", "first", multiple=True, required=True, type=_PATH, metavar="FILE…", help="Sample files: CSV, JSONL, XLSX, parquet.")
@click.option("--key", "keys", multiple=True, metavar="COLUMN[,COLUMN]", help="What tells the rows of a file apart; may be repeated.")
@click.option("--time", "times", multiple=True, metavar="COLUMN", help="When a row happened; may be repeated.")
@click.option("--forecast", metavar="VALUE[,BY]", help="Also forecast this sum or count of a day, of each BY.")
@click.option("--land", is_flag=True, help="Also land the files, so that the next run reads them.")
def new(
    product: str,
    files: tuple[Path, ...],
    *,
    first: tuple[Path, ...],
    keys: tuple[str, ...],
    times: tuple[str, ...],
    forecast: str | None,
    land: bool,
) -> None:
    """Write the PRODUCT that sample files suggest: feeds, contracts, silver, gold and a test. It runs at once; go on by editing it.

    Each guess stands in the code as a comment with its evidence. Nothing is ever overwritten.

    \b
    Examples:
      lakehouse new library --from loans.csv books.csv
      lakehouse new shop --from orders.csv lines.csv --key order_id,line --time ordered_at --land
      lakehouse new shop --from orders.csv --time ordered_at --forecast amount,country
    """
    opened = client()
    written = opened.new_product(product, [*first, *files], keys=keys, times=times, forecast=forecast)
    _print_tree(written)
    _print_guesses(written)
    if land:
        _land(opened, written)
    _print_next(written, landed=land)


def _print_tree(written: "NewProduct") -> None:
    say((f"{_shown(written.folder)}/", "bold"))
    for name in sorted(set(written.files) - {"__init__.py"}):
        say(f"  {name:20} {_WHAT.get(name, 'invented rows through the functions')}")


def _print_guesses(written: "NewProduct") -> None:
    shown = grid("feed", right("rows"), folds("key"), "time", optional("gold"))
    for table in written.tables:
        gold = f"{written.name}.gold.{table.gold.name}" if table.gold else ""
        add_row(shown, table.name, f"{table.sample.total:,}", ", ".join(table.key) or "none", table.time.name if table.time else "", gold)
    say()
    print_grid(shown)
    if written.doubts:
        say(f"\n{counted(len(written.doubts), 'guess', 'guesses')} to look at first:")
        for doubt in written.doubts:
            say(f"  {doubt}")


def _land(opened: "Client", written: "NewProduct") -> None:
    say()
    with_product = opened.with_products(written.setting)
    for table in written.tables:
        for place, is_new in with_product.land(table.name, table.sample.files):
            say(f"landed {place}" if is_new else f"{place} is already there")


def _print_next(written: "NewProduct", *, landed: bool) -> None:
    say("\nNext:")
    lines = [f"export LAKEHOUSE_PRODUCTS={written.setting}"] if written.setting else []
    if not landed:
        lines += [_landing(table) for table in written.tables]
    lines.append(f"lakehouse run group:{written.name}")
    shown = next((f"gold.{table.gold.name}" for table in written.tables if table.gold), f"silver.{written.tables[0].name}")
    lines.append(f"lakehouse show {written.name}.{shown}")
    if written.forecast:
        lines += ["lakehouse train", f"lakehouse show {written.forecast}"]
    for line in lines:
        say((f"  {line}", "bold"))


def _landing(table: "Table") -> str:
    return shlex.join(["lakehouse", "land", table.name, *map(str, table.sample.files)])


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
