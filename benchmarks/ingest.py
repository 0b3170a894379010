"""Ten million invoice lines from CSV to silver and its quarantine, against two peers and the limit of the machine; then twenty million.

- `platform`: the product's own bronze and silver tables, as a run fills them: landing log, text bronze with the line of each row, conformed
  and identified rows, every rule of the contract, quarantine, merge by key into monthly partitions, a row account in each commit.
- `dlt`: a pipeline with the filesystem destination and Delta tables, which has the easier job: it loads the lines as they come,
  and nothing is typed, checked, split or merged.
- `io manager`: dagster-deltalake's own Polars IO manager with assets for the lines as they came, the good ones and the bad ones. The
  product's own function makes its rows, so that the tables say the same; the rules are those of the contract that these lines can break, in
  plain Polars. Everything is in memory at once, nothing is logged or merged.
- `by hand`: the same rows in bare Polars, batch by batch: text to parquet, the product's own function, the same rules, good and bad rows to
  parquet by month. Nothing is counted, merged, logged or committed, so it is what the work itself costs.
- `copy`: a bare Polars copy of the CSV files to one parquet file, streaming. Nothing can be faster on this machine.

Each is a process of its own, imports and all, on the same files. The limits: ahead of both peers, at most five times the copy, peak memory
below 3 GB, and the same for twice as many lines. Run it with `python -m benchmarks.ingest`; it needs the extra `bench`.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.lines import days_before, invoice_lines
from benchmarks.measure import Measured, keep, measure

LINES_OF_A_FILE, FILES, FILES_OF_A_BATCH = 100_000, 100, 12
END = date(2024, 12, 31)
MOST_TIMES_THE_COPY, MOST_MEGABYTES, MOST_GROWTH = 5.0, 3_000, 1.1


def land(folder: Path, files: int) -> None:
    """Write the files, one a day."""
    folder.mkdir(parents=True)
    for day in days_before(END, files):
        invoice_lines(day, LINES_OF_A_FILE).write_csv(folder / f"invoices_{day}.csv")


def platform(landed: Path, root: Path) -> dict[str, int]:
    """The two tables of the product."""
    from lakehouse_assets import products
    from lakehouse_assets.platform.orchestration.autoload import load
    from lakehouse_assets.settings import Settings
    from lakehouse_assets_tests.running import run_declared, tables_of

    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    zone = Path(settings.landing) / "invoices"
    zone.parent.mkdir(parents=True)
    zone.symlink_to(landed)
    run_declared(settings, load(products), ["sales.bronze.invoices", "sales.silver.invoice_lines"])
    tables = tables_of(settings)
    silver = "sales.silver.invoice_lines"
    return {"good": tables.table(silver).count(), "bad": tables.table(f"{silver}__quarantine").count()}


def dlt(landed: Path, root: Path) -> dict[str, int]:
    """A dlt pipeline, files to a Delta table."""
    os.environ |= {"DLT_DATA_DIR": str(root / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false"}
    import dlt as peer
    from dlt.sources.filesystem import filesystem, read_csv

    pipeline = peer.pipeline("ingest", destination=peer.destinations.filesystem(f"file://{root}/lake"), dataset_name="shop")
    lines = filesystem(bucket_url=f"file://{landed}", file_glob="*.csv") | read_csv(chunksize=LINES_OF_A_FILE, dtype=str)
    pipeline.run(lines.with_name("invoice_lines"), table_format="delta", write_disposition="append")
    found = pl.scan_delta(str(root / "lake" / "shop" / "invoice_lines")).select(pl.len()).collect().item()
    return {"good": found, "bad": 0}


def io_manager(landed: Path, root: Path) -> dict[str, int]:
    """Three plain assets that hand frames to dagster-deltalake."""
    import dagster as dg
    from dagster_deltalake import LocalConfig
    from dagster_deltalake_polars import DeltaLakePolarsIOManager

    from lakehouse_assets.products.sales.silver import invoice_lines as product

    @dg.asset
    def bronze() -> pl.DataFrame:
        return pl.scan_csv(landed / "*.csv", infer_schema=False, include_file_paths="_file").collect(engine="streaming")

    @dg.multi_asset(outs={"silver": dg.AssetOut(), "quarantine": dg.AssetOut()})
    def conformed(bronze: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        rows = product(bronze.lazy()).collect(engine="streaming")
        return rows.filter(is_good()).drop("_unparsed"), rows.filter(~is_good())

    manager = DeltaLakePolarsIOManager(root_uri=str(root), storage_options=LocalConfig())
    done = dg.materialize([bronze, conformed], resources={"io_manager": manager})
    if not done.success:
        sys.exit("the peer failed")
    rows = {name: pl.scan_delta(str(root / "public" / name)).select(pl.len()).collect().item() for name in ("silver", "quarantine")}
    return {"good": rows["silver"], "bad": rows["quarantine"]}


def by_hand(landed: Path, root: Path) -> dict[str, int]:
    """The product's function in bare Polars, batch by batch, with parquet files in the place of tables."""
    from lakehouse_assets.products.sales.silver import invoice_lines as product

    root.mkdir(parents=True)
    written: dict[str, int] = {"good": 0, "bad": 0}
    files = sorted(landed.glob("*.csv"))
    for start in range(0, len(files), FILES_OF_A_BATCH):
        bronze = root / f"bronze {start}.parquet"
        texts = pl.scan_csv(files[start : start + FILES_OF_A_BATCH], infer_schema=False, include_file_paths="_file")
        texts.sink_parquet(bronze, compression="zstd", compression_level=1)
        rows = product(pl.scan_parquet(bronze)).collect(engine="streaming")
        parts = {"good": rows.filter(is_good()).drop("_unparsed"), "bad": rows.filter(~is_good())}
        for name, part in parts.items():
            written[name] += part.height
            for (month,), of_month in part.partition_by("month", as_dict=True).items():
                of_month.write_parquet(root / f"{name} {month} {start}.parquet", compression="zstd", compression_level=1)
    return written


def is_good() -> pl.Expr:
    """Whether a row keeps those rules of the contract that these lines can break."""
    needed = pl.all_horizontal(pl.col("invoice", "stock_code", "quantity", "unit_price", "country", "invoiced_at").is_not_null())
    return pl.col("_unparsed").is_null() & needed & pl.col("invoice").str.contains(r"^[AC]?\d{6,}$") & (pl.col("quantity") != 0)


def copy(landed: Path, root: Path) -> dict[str, int]:
    """A bare copy."""
    root.mkdir(parents=True)
    pl.scan_csv(landed / "*.csv", infer_schema=False).sink_parquet(root / "lines.parquet")
    return {"good": pl.scan_parquet(root / "lines.parquet").select(pl.len()).collect().item(), "bad": 0}


CONTESTANTS: dict[str, Callable[[Path, Path], dict[str, int]]] = {
    "platform": platform,
    "dlt": dlt,
    "io manager": io_manager,
    "by hand": by_hand,
    "copy": copy,
}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--child", nargs=3)
    arguments.add_argument("--files", type=int, default=FILES)
    arguments.add_argument("--only", choices=CONTESTANTS, action="append")
    given = arguments.parse_args()
    if given.child:
        name, landed, root = given.child
        print(json.dumps(CONTESTANTS[name](Path(landed), Path(root))))
        return
    with tempfile.TemporaryDirectory() as folder:
        land(Path(folder) / "once", given.files)
        found = {name: run(name, Path(folder), "once") for name in given.only or CONTESTANTS}
        if given.only:
            print(
                {name: (round(m.seconds, 1), round(m.cpu, 1), round(m.megabytes), m.output.splitlines()[-1]) for name, m in found.items()}
            )
            return
        land(Path(folder) / "twice", 2 * given.files)
        twice = run("platform", Path(folder), "twice")
    result = {
        "lines": given.files * LINES_OF_A_FILE,
        "found": {
            name: {"seconds": m.seconds, "cpu": m.cpu, "megabytes": m.megabytes} | json.loads(m.output.splitlines()[-1])
            for name, m in found.items()
        },
        "twice": {"seconds": twice.seconds, "megabytes": twice.megabytes},
        "times_the_copy": found["platform"].seconds / found["copy"].seconds,
        "times_by_hand": found["platform"].seconds / found["by hand"].seconds,
        "memory_growth": twice.megabytes / found["platform"].megabytes,
    }
    keep("ingest", result)
    show(result)
    judge(result)


def run(name: str, folder: Path, landed: str) -> Measured:
    """One contestant, in a process of its own."""
    root = str(folder / f"{name} {landed}".replace(" ", "-"))
    return measure([sys.executable, "-m", "benchmarks.ingest", "--child", name, str(folder / landed), root])


def show(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    grid = Table(
        "", "wall, s", "CPU, s", "peak MB", "times the copy", "rows", title=f"{result['lines']:,} lines of CSV to silver and quarantine"
    )
    for name, found in result["found"].items():
        times = found["seconds"] / result["found"]["copy"]["seconds"]
        rows = f"{found['good']:,} + {found['bad']:,}"
        grid.add_row(name, f"{found['seconds']:.1f}", f"{found['cpu']:.1f}", f"{found['megabytes']:.0f}", f"{times:.1f}", rows)
    twice = result["twice"]
    grid.add_row("platform, twice the lines", f"{twice['seconds']:.1f}", "", f"{twice['megabytes']:.0f}", "", "")
    Console().print(grid)


def judge(result: dict[str, Any]) -> None:
    """End with an error if a limit was not kept."""
    found = result["found"]
    peers = min(found[name]["seconds"] for name in ("dlt", "io manager"))
    wrong = {
        "behind a peer": found["platform"]["seconds"] >= peers,
        f"more than {MOST_TIMES_THE_COPY} times the copy": result["times_the_copy"] > MOST_TIMES_THE_COPY,
        f"more than {MOST_MEGABYTES} MB": max(found["platform"]["megabytes"], result["twice"]["megabytes"]) > MOST_MEGABYTES,
        "memory grows with the lines": result["memory_growth"] > MOST_GROWTH,
    }
    if any(wrong.values()):
        sys.exit(", ".join(what for what, is_so in wrong.items() if is_so))


if __name__ == "__main__":
    main()
