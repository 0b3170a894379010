"""How long people wait for a page of a lakehouse of ten million rows: from the address to what the page says, in headless Chromium.

The simulated shop, so that every page has something to show, and on top invoice lines by the day until its tables have the rows. For each
page a server and a browser are started, so that neither has read anything; its first view is measured, and two more after that of another
page. What a server does before it listens is not in it. The limit is on the first view of the first page, the overview.
Needs Chromium and the extra `pages`. Run it with `python -m benchmarks.pages`; it writes `benchmarks/results/pages.json`.
"""

import argparse
import shutil
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.lines import land_day
from benchmarks.measure import keep, measure
from lakehouse_assets_tests.browser import CHROMIUM, Tab, browser
from lakehouse_assets_tests.views.prepared import pages_of

LIMIT, VIEWS = 2.0, 3
START, DAYS = date(2025, 1, 1), 240
# What a page shows last.
LAST = {
    "overview": "Both answer while",
    "forecasts": "The next 7 days by",
    "review": "How likely the chosen rows are",
    "health": "What became of the rows of the last",
    "drift": "Population stability index against the baseline",
    "models": "Model card of version",
    "catalogue": "The platform's own tables",
}


def make(root: Path, rows: int) -> None:
    """A lakehouse of so many lines, trained and monitored."""
    cli, environment = [sys.executable, "-m", "lakehouse_assets.cli"], {"LAKEHOUSE_ROOT": str(root)}
    measure([*cli, "simulate", "--days", str(DAYS), "--start", str(START), "--orders-per-day", "40"], environment)
    for number in range(DAYS):
        land_day(root / "landing", START + timedelta(days=number), rows // DAYS)
    for command in (["run"], ["train"], ["run"], ["monitors", "run"]):
        done = measure([*cli, *command], environment)
        print(f"lakehouse {' '.join(command):<14} {done.seconds:>6.1f} s {done.megabytes:>8,.0f} MB", flush=True)


def seconds_of(tab: Tab, address: str, last: str) -> float:
    """From asking for a page until it shows the last that it has to say."""
    started = time.perf_counter()
    tab.open(address)
    tab.shows(last, every=0.02)
    return time.perf_counter() - started


def measured(root: Path) -> dict[str, list[float]]:
    """By page the seconds of its first, second and third view."""
    found: dict[str, list[float]] = {}
    for page, last in LAST.items():
        with pages_of(root) as address, browser() as tab:
            first = seconds_of(tab, f"{address}/{page}/", last)
            other = "health" if page == "overview" else "overview"
            seconds_of(tab, f"{address}/{other}/", LAST[other])
            found[page] = [first, *(seconds_of(tab, f"{address}/{page}/", last) for _ in range(VIEWS - 1))]
        print(f"{page:<12} {'  '.join(f'{one:>6.2f}' for one in found[page])}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--root", type=Path, help="a lakehouse that was made before; made if it is not there")
    options = parser.parse_args()
    if shutil.which(CHROMIUM) is None:
        sys.exit("there is no Chromium: Debian's package is called chromium")
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or Path(folder) / "root"
        if not root.exists():
            make(root, options.rows)
        print(f"\nseconds to a whole page, {options.rows:,} lines, by view\n")
        found = measured(root)
    first = found["overview"][0]
    result: dict[str, Any] = {"rows": options.rows, "limit": LIMIT, "seconds": found, "first_view": first}
    print(f"\nfirst view of the first page {first:.2f} s, limit {LIMIT:.0f}: {'holds' if first <= LIMIT else 'BROKEN'}")
    keep("pages", result)
    sys.exit(first > LIMIT)


if __name__ == "__main__":
    main()
