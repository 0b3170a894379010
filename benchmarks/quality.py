"""How long it takes to split rows by a contract, against the same rules written by hand in bare Polars, and against Pandera alone.

The rules by hand are what a careful engineer would write: all in one query, reasons looked up once a combination, and no counts, samples or
thresholds around them. Run it with `python benchmarks/quality.py`; it writes `benchmarks/results/quality.json`.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandera.errors
import polars as pl

from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column, rule
from lakehouse_assets.platform.quality.split import split

SHARES = (0.0, 0.01, 0.1, 0.57, 1.0)
SHARE_FOR_PANDERA = 0.1
LIMIT = 1.5
REPEATS = 7
RESULTS = Path(__file__).parent / "results" / "quality.json"

COUNTRIES = ["United Kingdom", "France", "Germany", "EIRE", "Spain"]
OPENED = datetime(2009, 1, 1, tzinfo=UTC)
CLOSED = datetime(2030, 1, 1, tzinfo=UTC)
# What is wrong with a bad row: one of these, chosen at random.
FLAWS = ("line_id", "quantity", "unit_price", "refund", "country", "stock_code", "invoice", "discount")

Parts = tuple[pl.DataFrame, pl.DataFrame]


class Line(Contract, max_bad_share=1.0):
    """A line of an invoice."""

    line_id: str = column(str_length={"exact_value": 16})
    invoice: str = column(str_length=(5, 7))
    stock_code: str = column(str_matches=r"^\d{5}[A-Z]?$")
    quantity: int = column(ge=1, le=100_000)
    unit_price: float = column(ge=0, le=100_000)
    discount: float = column(in_range=(0, 1))
    country: str = column(isin=COUNTRIES)
    customer_id: str = column(nullable=True, str_startswith="1")
    invoiced_at: Timestamp = column(ge=OPENED, lt=CLOSED)
    amount: float
    amount_adds_up = rule(
        "amount is quantity times unit price", (pl.col("amount") - pl.col("quantity") * pl.col("unit_price")).abs() < 0.005
    )


def by_hand(frame: pl.DataFrame) -> Parts:
    """The rules of `Line`, without Pandera and without the quality room."""
    line_id, invoice, stock_code, quantity = (pl.col(name) for name in ("line_id", "invoice", "stock_code", "quantity"))
    unit_price, discount, country, invoiced_at = (pl.col(name) for name in ("unit_price", "discount", "country", "invoiced_at"))
    amount = pl.col("amount")
    keeps = {
        "line_id_not_null": line_id.is_not_null(),
        "line_id_length": line_id.str.len_chars() == 16,
        "invoice_not_null": invoice.is_not_null(),
        "invoice_length": invoice.str.len_chars().is_between(5, 7),
        "stock_code_not_null": stock_code.is_not_null(),
        "stock_code_matches": stock_code.str.contains(r"^\d{5}[A-Z]?$"),
        "quantity_not_null": quantity.is_not_null(),
        "quantity_ge": quantity >= 1,
        "quantity_le": quantity <= 100_000,
        "unit_price_not_null": unit_price.is_not_null() & unit_price.is_not_nan(),
        "unit_price_ge": unit_price >= 0,
        "unit_price_le": unit_price <= 100_000,
        "discount_not_null": discount.is_not_null() & discount.is_not_nan(),
        "discount_in_range": discount.is_between(0, 1),
        "country_not_null": country.is_not_null(),
        "country_isin": country.is_in(COUNTRIES),
        "customer_id_startswith": pl.col("customer_id").str.starts_with("1"),
        "invoiced_at_not_null": invoiced_at.is_not_null(),
        "invoiced_at_ge": invoiced_at >= OPENED,
        "invoiced_at_lt": invoiced_at < CLOSED,
        "amount_not_null": amount.is_not_null() & amount.is_not_nan(),
        "amount_adds_up": (amount - quantity * unit_price).abs() < 0.005,
    }
    breaks = frame.lazy().select((~keep).fill_null(value=False).alias(name) for name, keep in keeps.items()).collect(engine="streaming")
    broken = [name for name in breaks.columns if breaks[name].any()]
    if not broken:
        return frame, frame.clear()
    rejected = breaks.select(pl.any_horizontal(broken)).to_series()
    bits = [pl.when(name).then(pl.lit(1 << bit, pl.UInt32)).otherwise(pl.lit(0, pl.UInt32)) for bit, name in enumerate(broken)]
    words = breaks.lazy().filter(rejected).select(pl.sum_horizontal(bits)).collect(engine="streaming").to_series()
    occurring = words.unique().sort()
    names = pl.Series([[name for bit, name in enumerate(broken) if word >> bit & 1] for word in occurring], dtype=pl.List(pl.String))
    reasons = names.gather(occurring.search_sorted(words))
    return frame.filter(~rejected), frame.filter(rejected).with_columns(reasons.alias("_broken"))


def by_contract(frame: pl.DataFrame) -> Parts:
    parts = split(Line, frame)
    return parts.good, parts.bad


def by_pandera(frame: pl.DataFrame) -> Parts:
    """Pandera's own report of failures, from which good and bad rows are taken."""
    try:
        Line.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        failures = errors.failure_cases.group_by("index").agg(pl.col("check").alias("_broken"))
        rows = frame.with_row_index("index").with_columns(pl.col("index").cast(failures.schema["index"]))
        good, bad = rows.join(failures, on="index", how="anti"), rows.join(failures, on="index", how="inner")
        return good.drop("index"), bad.drop("index")
    return frame, frame.clear()


WAYS: dict[str, Callable[[pl.DataFrame], Parts]] = {"by hand": by_hand, "contract": by_contract, "Pandera": by_pandera}


def lines(rows: int, share: float) -> pl.DataFrame:
    """Invoice lines of which the given share has one flaw each."""
    random = np.random.default_rng(20_101_201)
    flaw = np.where(random.random(rows) < share, random.integers(0, len(FLAWS), rows), -1)
    seconds = random.integers(0, 700 * 86_400, rows).astype("timedelta64[s]")
    clean = pl.DataFrame(
        {
            "line_id": pl.Series(np.arange(rows)).cast(pl.String).str.zfill(16),
            "invoice": pl.Series(random.integers(100_000, 1_000_000, rows)).cast(pl.String),
            "stock_code": pl.Series(random.integers(10_000, 100_000, rows)).cast(pl.String),
            "quantity": random.integers(1, 100, rows),
            "unit_price": random.random(rows) * 100,
            "discount": random.random(rows),
            "country": pl.Series(COUNTRIES).gather(random.integers(0, len(COUNTRIES), rows)),
            "customer_id": pl.Series(random.integers(10_000, 20_000, rows)).cast(pl.String),
            "invoiced_at": pl.Series(np.datetime64("2010-01-01", "us") + seconds).dt.replace_time_zone("UTC"),
        }
    )
    has = {name: pl.lit(pl.Series(flaw == number)) for number, name in enumerate(FLAWS)}
    flawed = clean.with_columns(
        line_id=pl.when(~has["line_id"]).then("line_id"),
        quantity=pl.when(has["quantity"]).then(-pl.col("quantity")).otherwise("quantity"),
        unit_price=pl.when(has["unit_price"]).then(float("nan")).when(has["refund"]).then(-pl.col("unit_price")).otherwise("unit_price"),
        country=pl.when(has["country"]).then(pl.lit("Atlantis")).otherwise("country"),
        stock_code=pl.when(has["stock_code"]).then(pl.lit("POST")).otherwise("stock_code"),
        invoice=pl.when(has["invoice"]).then(pl.lit("")).otherwise("invoice"),
        discount=pl.when(has["discount"]).then(pl.col("discount") + 1.5).otherwise("discount"),
    )
    return flawed.with_columns(amount=pl.col("quantity") * pl.col("unit_price")).rechunk()


def seconds_of(ways: list[str], path: Path, repeats: int) -> dict[str, float]:
    """The median time of each way; they take turns, so that what else the machine does falls on all alike."""
    frame = pl.read_parquet(path)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            start = time.perf_counter()
            WAYS[way](frame)
            times[way].append(time.perf_counter() - start)
    return {way: statistics.median(taken) for way, taken in times.items()}


def peak_of(way: str, path: Path) -> float:
    """The peak memory of a process that reads the rows and splits them once, in GB."""
    WAYS[way](pl.read_parquet(path))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def check_same(path: Path) -> None:
    """All ways are the same rules only if they come to the same result."""
    frame = pl.read_parquet(path)
    (good, bad), (hand_good, hand_bad) = by_contract(frame), by_hand(frame)
    if not good.equals(hand_good) or (bad.height and not bad.equals(hand_bad)):
        raise SystemExit("the rules by hand and the contract disagree about which rows are bad, or why")


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result from a fresh process, so that memory of one measurement does not show in the next."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def measure(rows: int, share: float, repeats: int, folder: Path) -> dict[str, Any]:
    path = folder / f"{share}.parquet"
    lines(rows, share).write_parquet(path)
    alone(check_same, path)
    ways = ["by hand", "contract"]
    seconds = alone(seconds_of, ways, path, repeats)
    if share == SHARE_FOR_PANDERA:
        ways.append("Pandera")
        seconds |= alone(seconds_of, ["Pandera"], path, 1)
    peaks = {way: alone(peak_of, way, path) for way in ways}
    path.unlink()
    return {"share": share, "seconds": seconds, "peak_gb": peaks, "ratio": seconds["contract"] / seconds["by hand"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    print(f"{options.rows:,} rows, {pl.thread_pool_size()} threads, median of {options.repeats}\n")
    print("bad rows   by hand  contract  ratio   peak by hand  peak contract")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for share in SHARES:
            result = measure(options.rows, share, options.repeats, Path(folder))
            results.append(result)
            seconds, peak = result["seconds"], result["peak_gb"]
            print(
                f"{share:>8.0%} {seconds['by hand']:>8.2f}s {seconds['contract']:>8.2f}s {result['ratio']:>6.2f} "
                f"{peak['by hand']:>12.2f}GB {peak['contract']:>12.2f}GB",
                flush=True,
            )
            if "Pandera" in seconds:
                times = seconds["Pandera"] / seconds["contract"]
                print(f"{'':>8} Pandera alone: {seconds['Pandera']:.1f}s, {times:.1f} times the contract; peak {peak['Pandera']:.2f}GB")
    worst = max(result["ratio"] for result in results)
    RESULTS.parent.mkdir(exist_ok=True)
    document = {"rows": options.rows, "threads": pl.thread_pool_size(), "limit": LIMIT, "worst_ratio": worst, "shares": results}
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nworst ratio {worst:.2f}, limit {LIMIT}: {'holds' if worst <= LIMIT else 'BROKEN'}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
