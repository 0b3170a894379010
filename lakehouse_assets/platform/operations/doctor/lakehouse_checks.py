"""Checks of what is about no single table: landed files, models, disk, databases. Checks of one table are in `table_checks`."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.declarations.loading import BrokenProduct
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.operations.doctor.findings import PLATFORM, Checkup, Finding, beside, move_away
from lakehouse_assets.platform.operations.doctor.pipeline_checks import behind, failed_run, no_champion, standing_still
from lakehouse_assets.platform.operations.landed_files import remedies, with_path
from lakehouse_assets.platform.operations.maintenance import models_in_use
from lakehouse_assets.platform.pipeline.model_training import digest_of
from lakehouse_assets.platform.storage import disk, inventory, platform_tables
from lakehouse_assets.platform.storage.errors import DatabaseUnavailable, StorageError
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.platform_tables import FEEDBACK_SUFFIX
from lakehouse_assets.platform.storage.table import Table
from lakehouse_assets.platform.wording import counted, listed, size
from lakehouse_assets.settings import variable

_LONG_WAIT = timedelta(hours=1)
_SAMPLE = 3
_PRODUCTS = variable("products")


def dead_runs(checkup: Checkup) -> Iterator[Finding]:
    """Runs that were killed: recorded as under way, with nobody working on them."""
    for run_id, words in checkup.dead_runs.items():
        what = f"{words} has not ended, and its process is gone; the next run ends it and frees the pool slots that it holds"
        yield Finding("warning", "lakehouse", what, f"lakehouse runs end {run_id[:8]}")


def stuck_files(checkup: Checkup) -> Iterator[Finding]:
    """Files that were refused, that changed after they were read, or that wait though nothing runs."""
    problems = {
        landing.REFUSED: "could not be read",
        landing.CHANGED: "changed after it was read, so its new content is in no table",
    }
    for event, problem in problems.items():
        for (feed,), files in checkup.files.filter(pl.col("event") == event).group_by("feed", maintain_order=True):
            reasons = listed([with_path(path, reason) for path, reason in files.select("path", "reason").iter_rows()], _SAMPLE, "; ")
            what = f"{counted(files.height, 'file')} of feed {feed} {problem} ({reasons})"
            words, read, ignore = remedies(feed, files["path"][0], event)
            yield Finding("warning", landing.LOG, what, f"{words}: {read}. Leave it: {ignore}")
    waiting = checkup.files.filter(pl.col("event").is_in([landing.FOUND, landing.REREAD]) & (pl.col("at") < checkup.now - _LONG_WAIT))
    if not checkup.is_running and waiting.height:
        paths = listed(waiting["path"].to_list(), _SAMPLE)
        yield Finding(
            "warning",
            landing.LOG,
            f"{counted(waiting.height, 'file was', 'files were')} found and not read, and nothing runs: {paths}",
            "lakehouse run",
        )


def orphans(checkup: Checkup) -> Iterator[Finding]:
    """Tables that nobody declares any more, each with its quarantine; a product of which all are so is one finding, with one command."""
    stored: dict[str, dict[str, Table]] = {}
    for table in checkup.lakehouse.tables():
        base = table.name.removesuffix(QUARANTINE_SUFFIX)
        if not base.startswith(PLATFORM):
            stored.setdefault(base.split(".")[0], {}).setdefault(base, table)
    for product, tables in stored.items():
        known = checkup.known.union(checkup.declared)
        # The labels of an endpoint belong to the log of its predictions.
        lost = [name for name, table in tables.items() if not known & {name, table.name, name.removesuffix(FEEDBACK_SUFFIX)}]
        if len(lost) == len(tables) > 1:
            what = f"no product declares its {len(lost)} tables any more: {', '.join(sorted(lost))}"
            if (package := checkup.other_products.get(product)) is not None:
                what += f". It was run with {_PRODUCTS}={package}, which is not what is set now"
                yield Finding("warning", product, what, f"export {_PRODUCTS}={shlex.quote(package)}")
                continue
            yield Finding("warning", product, what, _move_product(checkup.lakehouse, product))
            continue
        for name in lost:
            yield Finding("warning", name, "no product declares this table", move_away(checkup.lakehouse, tables[name]))


def _move_product(lakehouse: Lakehouse, product: str) -> str:
    """The command that takes all tables of a product out of the lakehouse without deleting them."""
    root = lakehouse.root.rstrip("/")
    if "://" in root:
        return f"move all objects below {root}/{product}/ to a place outside {root}"
    return f"mv {shlex.quote(f'{root}/{product}')} {beside(lakehouse, f'{product}.removed')}"


def lost_pins(checkup: Checkup) -> Iterator[Finding]:
    """Models in use whose training tables are others now, or cannot be read any more at the versions that they were trained on."""
    for version in models_in_use(checkup.lakehouse, checkup.declarations, checkup.maintenance.registry):
        for name, number in version.tables.items():
            table = checkup.lakehouse.table(name)
            if not _is_readable(table, number):
                why = "which cannot be read any more"
            elif version.table_digests.get(name) not in {None, digest_of(table, number)}:
                why = "which was deleted and created again since"
            else:
                continue
            yield Finding(
                "error",
                version.model_name,
                f"version {version.version} of {version.model_name} ({', '.join(version.aliases)}) was trained on version {number} of "
                f"{name}, {why}: it cannot be reproduced",
                f"lakehouse train {version.model_name} --force",
            )


def _is_readable(table: Table, version: int) -> bool:
    try:
        return inventory.files_of(table.delta(version)) <= set(inventory.take(table).data)
    except StorageError:
        return False


def blocked(checkup: Checkup) -> Iterator[Finding]:
    """Files where the folder of a table has to be: it cannot be made, and looks as if there were no table."""
    root = checkup.lakehouse.root
    if "://" in root:
        return
    names = {*platform_tables.ALL, *(name for asset in checkup.declarations for name in asset.outputs())}
    folders = (Path(checkup.lakehouse.table(name).uri) for name in names)
    in_place = {at for folder in folders for at in (folder, *folder.parents) if at.is_relative_to(root) and at.exists() and not at.is_dir()}
    for path in sorted(in_place):
        table = ".".join(path.relative_to(root).parts)
        command = f"mv {shlex.quote(str(path))} {beside(checkup.lakehouse, f'{table}.moved')}"
        yield Finding("error", table, f"there is a file where its folder has to be: {path}", command)


def full_disk(checkup: Checkup) -> Iterator[Finding]:
    """A disk on which commits and databases begin to fail, and what takes the most of it."""
    if "://" in checkup.lakehouse.root:
        return
    tables = Path(checkup.lakehouse.root).absolute()
    if not tables.is_dir() or (left := disk.free(tables)) >= disk.LEAST_FREE:
        return
    sizes = {table.name: _size(Path(table.uri)) for table in checkup.lakehouse.tables()}
    sizes |= {f"{path.name}/": _size(path) for path in tables.parent.iterdir() if path.is_dir() and path != tables}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_SAMPLE]
    most = ", ".join(f"{name} ({size(sizes[name])})" for name in largest)
    what = f"the disk of {tables.parent} is full: {size(left)} are free. Most is taken by {most}. Nothing that was committed is lost"
    fix = "make room there; `lakehouse maintenance` deletes what no version needs any more; then `lakehouse run`"
    yield Finding("error", "lakehouse", what, fix)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def broken_product(product: BrokenProduct) -> Finding:
    """A product that is left out because its code has an error."""
    fix = "fix the file that is named, then run: lakehouse run"
    text = product.text if product.text.endswith((".", "?", "!")) else f"{product.text}."
    return Finding("error", product.name, f"{text} Nothing is vacuumed while a product is broken.", fix)


def unusable_history(error: DatabaseUnavailable, dagster_home: Path) -> Finding:
    """Databases of Dagster that cannot be opened: they hold the history of runs and checks, and nothing that a table needs."""
    home = shlex.quote(str(dagster_home))
    fix = f"mv {home} {home}.damaged && lakehouse run" if "damaged" in str(error) else ""
    what = str(error).removesuffix(". `lakehouse doctor` says which")
    return Finding("error", "dagster", f"{what}. They hold the history of runs and checks; no table needs them", fix)


def unusable_registry(database: Path) -> Finding:
    """A damaged database of MLflow: the files of models stay, and who was champion when is in the ledgers."""
    what = f"MLflow's database {database} is damaged: put a copy of it back, or train again. Files of models and the ledgers are not in it"
    name = shlex.quote(str(database))
    return Finding("error", "mlflow", what, f"mv {name} {name}.damaged && lakehouse train")


OF_THE_LAKEHOUSE: Final[Sequence[Callable[[Checkup], Iterator[Finding]]]] = (
    full_disk,
    blocked,
    dead_runs,
    failed_run,
    stuck_files,
    orphans,
    behind,
    no_champion,
    standing_still,
    lost_pins,
)
