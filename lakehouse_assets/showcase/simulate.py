"""Puts the files of a simulated shop into the landing zone of a root."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from lakehouse_assets.client import Client
from lakehouse_assets.platform.ingestion.zone import Zone
from lakehouse_assets.simulator.shop import simulate


def simulate_shop(
    lakehouse: Client, console: Console, *, days: int, orders_per_day: float, seed: int, start: date, fraud_changes: date | None = None
) -> dict[str, Any]:
    """Write the feeds of a simulated shop into the landing zone, with a bar; the truth about them, as it is also kept in a file.

    The truth about each order is in a parquet file next to it.
    """
    landing = lakehouse.settings.landing
    folder = lakehouse.settings.home_folder / "simulator"
    truth = folder / f"truth_{start}_{days}_days_seed_{seed}.json"
    # The shop continues where its files end, so those of a bucket are kept here as well.
    written_to = landing if isinstance(landing, Path) else folder / "landing"
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(f"Simulating {days} days", total=days)
        simulate(
            written_to,
            truth,
            days=days,
            orders_per_day=orders_per_day,
            seed=seed,
            start=start,
            fraud_changes=fraud_changes,
            on_progress=lambda done, _: progress.update(bar, completed=done),
        )
    if written_to != landing:
        land_feeds(written_to, lakehouse.context.root.zone)
    written: dict[str, Any] = json.loads(truth.read_text(encoding="utf-8"))
    return written


def land_feeds(folder: Path, zone_of: Callable[[str], Zone]) -> None:
    """Copy a whole landing folder, one folder a feed, into the landing zones of its feeds; a file that is there already is left alone.

    Raises:
        NotLanded: Another file has the name of one of these there.
    """
    for feed in sorted(path for path in folder.iterdir() if path.is_dir()):
        zone = zone_of(feed.name)
        for file in sorted(path for path in feed.rglob("*") if path.is_file()):
            zone.put(file, file.relative_to(feed).as_posix())
