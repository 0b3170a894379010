"""What a command costs before and besides its work: CPU seconds on a root with a small simulated shop, against the peers' own start.

CPU time and not wall time, because machines are shared. Byte code of the package is compiled first, as the set-up does. The policy is
cached by a first call, as it is after the first command that reads a table.
"""

import compileall
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import PROJECT, keep, measure

TRIES = 3
PYTHON = sys.executable
LINES = "sales.silver.invoice_lines"
# CPU seconds that a command may cost.
LIMITS: dict[tuple[str, ...], float] = {
    ("--help",): 0.3,
    ("show", LINES): 1,
    ("history", LINES): 1,
    ("files",): 1,
    ("sql", "select count(*) from sales.silver.invoice_lines"): 1,
    ("status",): 2,
    ("models",): 2,
    ("doctor",): 3,
    ("run",): 3,
}
PEERS = {
    "import polars, deltalake": [PYTHON, "-c", "import polars, deltalake"],
    "dagster --version": [str(Path(PYTHON).with_name("dagster")), "--version"],
}


def shop(root: Path) -> None:
    """A small shop on which everything has run, and on which a training was tried."""
    environment = {"LAKEHOUSE_ROOT": str(root)}
    cli = [PYTHON, "-m", "lakehouse_assets.cli"]
    measure([*cli, "simulate", "--days", "60", "--orders-per-day", "3", "--start", "2024-01-01"], environment)
    measure([*cli, "run"], environment)
    measure([*cli, "train"], environment)
    measure([*cli, "run"], environment)
    measure([*cli, "show", LINES], environment)


def main() -> None:
    compileall.compile_dir(PROJECT / "lakehouse_assets", quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shop(root)
        cli, environment = [PYTHON, "-m", "lakehouse_assets.cli"], {"LAKEHOUSE_ROOT": str(root)}
        found = {words: statistics.median(measure([*cli, *words], environment).cpu for _ in range(TRIES)) for words in LIMITS}
    peers = {name: statistics.median(measure(command).cpu for _ in range(TRIES)) for name, command in PEERS.items()}
    keep("start_up", {"commands": {words[0]: seconds for words, seconds in found.items()}, "peers": peers})
    shown = Table("command", "CPU s", "limit", title=f"Start-up, median of {TRIES}")
    for words, seconds in found.items():
        shown.add_row(f"lakehouse {words[0]}", f"{seconds:.2f}", f"{LIMITS[words]}")
    for name, seconds in peers.items():
        shown.add_row(f"peer: {name}", f"{seconds:.2f}", "")
    Console().print(shown)
    if any(seconds > LIMITS[words] for words, seconds in found.items()):
        sys.exit("over the limit")


if __name__ == "__main__":
    main()
