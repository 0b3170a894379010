"""How well order fraud is told on a simulated shop, against the best that the planted truth allows and against one-line rules.

Run it with `python -m benchmarks.fraud [ORDERS_PER_DAY [ROOT]]`; it writes `benchmarks/results/fraud.json`. 320 orders a day, the
default, are 200,000 in two years. With ROOT, a lakehouse that is there already is measured again.

The shop's files go through all tables. The model learns what was known on a day, 18 months after the start: orders that had settled,
with chargebacks that had come. It is tested on all orders after that day, whose fraud is taken from the truth. The simulator knows the
probability of fraud of each order given all that can be seen of it; the average precision of these probabilities is the best that any
model can reach, give or take chance. A one-line rule ranks the orders by one input, up or down; the best is chosen on the test itself,
to its advantage.

It holds if the average precision is at least 0.85 of the truth's and at least twice that of the best one-line rule, and the
calibration error at most 0.02.
"""

import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
from sklearn.metrics import average_precision_score

from benchmarks.measure import keep
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import TrainingRows
from lakehouse_assets.platform.features.manifest import pin
from lakehouse_assets.platform.modelling.metrics import CalibrationError
from lakehouse_assets.platform.storage.known_at import of_version
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.products.order_fraud import features
from lakehouse_assets.products.order_fraud.fraud import fraud
from lakehouse_assets.settings import Settings
from lakehouse_assets.simulator.shop import simulate
from lakehouse_assets.simulator.truth_of_orders import orders_file
from lakehouse_assets_tests.running import run_products

# The learner and its inputs were chosen on the shop of seed 3.
START, DAYS, SEED = date(2024, 1, 1), 730, 5
LEARNT_ON = datetime(2025, 7, 1, tzinfo=UTC)
OF_TRUTH, TIMES_RULE, CALIBRATION = 0.85, 2.0, 0.02


def shop(root: Path, orders_per_day: float) -> dict[str, float]:
    """Make the shop's files and run all tables; the seconds of both."""
    settings = Settings.load({"LAKEHOUSE_ROOT": str(root)})
    begun = time.perf_counter()
    simulate(root / "landing", root / "truth.json", days=DAYS, orders_per_day=orders_per_day, seed=SEED, start=START)
    simulated = time.perf_counter()
    run_products(settings, ["sales", "order_fraud.gold.orders", *fraud.examples.sources()])
    return {"simulate": simulated - begun, "tables": time.perf_counter() - simulated}


def measure(root: Path) -> dict[str, Any]:
    """Learn what was known on the day, and test on the orders after it."""
    examples = fraud.examples
    pinned = pin(Lakehouse(str(Settings.load({"LAKEHOUSE_ROOT": str(root)}).tables)), examples.sources())
    begun = time.perf_counter()
    learnt = examples.rows(pinned.read, LEARNT_ON).collect()
    joined = time.perf_counter()
    training = TrainingRows(learnt.lazy(), examples.key, examples.at, examples.target, examples.inputs)
    predictor = fraud.learner.fit(training, seed=1, compute=Local())
    fitted = time.perf_counter()
    own = of_version(pinned.read(features.orders.name))
    truth = pl.read_parquet(orders_file(root / "truth.json")).select("invoice", "is_fraud", best="probability")
    known = examples.to_score(features.orders.name, own, pinned.read, {}).collect()
    rows = known.filter(pl.col("paid_at") > LEARNT_ON).join(truth, on="invoice")
    probability = predictor.predict(rows)["probability"]
    came = rows["is_fraud"].to_numpy()
    rule, precision = best_rule(rows)
    best = float(average_precision_score(came, rows["best"]))
    found = float(average_precision_score(came, probability))
    return {
        "orders": known.height,
        "learnt": {"orders": learnt.height, "frauds": int(learnt[examples.target].sum())},
        "tested": {"orders": rows.height, "frauds": int(came.sum())},
        "average_precision": {"model": found, "truth": best, "best_rule": precision, "rule": rule},
        "of_truth": found / best,
        "times_rule": found / precision,
        "calibration_error": CalibrationError().score(pl.DataFrame({"actual": came, "probability": probability})),
        "seconds": {"join": joined - begun, "fit": fitted - joined},
    }


def best_rule(rows: pl.DataFrame) -> tuple[str, float]:
    """The input that ranks the orders best by itself, and its average precision."""
    came, found = rows["is_fraud"].to_numpy(), list[tuple[float, str]]()
    for name in fraud.examples.inputs:
        if rows.schema[name].is_numeric() or rows.schema[name] == pl.Boolean:
            values = rows[name].cast(pl.Float64)
            for word, sign in (("more", 1), ("less", -1)):
                ranked = (values * sign).fill_null(float((values * sign).min() or 0.0) - 1)  # type: ignore[arg-type]
                found.append((float(average_precision_score(came, ranked)), f"{word} {name}"))
    precision, rule = max(found)
    return rule, precision


def main(orders_per_day: float = 320, root: str = "") -> None:
    """Measure, print, keep."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = {} if root else shop(Path(folder), orders_per_day)
        result = measure(Path(root or folder))
    result["seconds"] |= seconds
    precision = result["average_precision"]
    print(f"{result['orders']:,} orders; learnt {result['learnt']}, tested {result['tested']}")
    rows = [
        ("average precision", f"{precision['model']:.3f}", ""),
        ("of the truth's", f"{result['of_truth']:.3f}", f"at least {OF_TRUTH}; the truth has {precision['truth']:.3f}"),
        (
            "times the best one-line rule",
            f"{result['times_rule']:.1f}",
            f"at least {TIMES_RULE:.0f}; {precision['rule']}: {precision['best_rule']:.3f}",
        ),
        ("calibration error", f"{result['calibration_error']:.4f}", f"at most {CALIBRATION}"),
    ]
    for what, value, limit in rows:
        print(f"{what:30} {value:>8}  {limit}")
    print("seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in result["seconds"].items()))
    result["holds"] = result["of_truth"] >= OF_TRUTH and result["times_rule"] >= TIMES_RULE and result["calibration_error"] <= CALIBRATION
    keep("fraud", result)
    sys.exit(0 if result["holds"] else 1)


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 320, *sys.argv[2:3])
