"""Ten thousand random orders through requests and through batch: equal features and equal scores.

A simulated shop is run and a model trained, which scores all orders in batch. Random ones of them are sent to `lakehouse serve`, in random
order, each as of its own time; the online store keeps the whole history for it. Then every logged request is replayed.
Run it with `python -m benchmarks.parity [ORDERS [ROOT]]`; it writes `benchmarks/results/parity.json`. With ROOT, a lakehouse of
`benchmarks.serving` that is there already is asked.
"""

import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from benchmarks.measure import keep, measure
from benchmarks.serving import ENDPOINT, ORDERS, events_as_json, serving, shop
from lakehouse_assets import open_lakehouse
from lakehouse_assets.platform.pipeline.champions import scorer_of
from lakehouse_assets.platform.serving.parity import Replay

PORT, AT_ONCE = 18_103, 20


def main(count: int = 10_000, root: str = "") -> None:
    """Measure, print, keep."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(root or folder)
        lakehouse = shop(place)
        # The champion scores all orders in batch.
        measure([sys.executable, "-m", "lakehouse_assets.cli", "run", "order_fraud.predictions.orders"], {"LAKEHOUSE_ROOT": str(place)})
        events = lakehouse.context.root.lakehouse.table(ORDERS).scan().collect().sample(count, shuffle=True, seed=1)
        seconds = ask(place, events)
        result = replayed(place, count) | {"orders": count, "seconds": seconds, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    print(result["text"])
    print(f"{count:,} orders in {seconds:.0f} s; {result['batch_equal']:,} have the score of the prediction table")
    print(f"feature values: {result['features']}")
    keep("parity", result)
    sys.exit(0 if result["holds"] else 1)


def ask(root: Path, events: pl.DataFrame) -> float:
    """Send the orders, some a request; how long it took."""
    environment = {"LAKEHOUSE_ROOT": str(root), "LAKEHOUSE_ONLINE_HOURS": "100000"}
    # A store that another service has filled keeps less.
    measure([sys.executable, "-m", "lakehouse_assets.cli", "features", "sync"], environment)
    address = f"http://127.0.0.1:{PORT}"
    command = [sys.executable, "-m", "lakehouse_assets.cli", "serve", "--port", str(PORT)]
    with serving(command, environment, f"{address}/ready/{ENDPOINT}"), httpx.Client(base_url=address, timeout=30) as client:
        while None in client.get("/ready").json()["endpoints"][ENDPOINT]["features_synced_until"].values():
            time.sleep(0.5)
        began = time.perf_counter()
        for part in events.iter_slices(AT_ONCE):
            client.post(f"/endpoints/{ENDPOINT}", json={"rows": events_as_json(part)}).raise_for_status()
        taken = time.perf_counter() - began
        time.sleep(5)
    return taken


def replayed(root: Path, count: int) -> dict[str, Any]:
    """What the replay says, and how many answers equal the prediction table."""
    opened = open_lakehouse(root).context
    catalog, registry, tables = opened.loaded.catalog, opened.root.registry(), opened.root.lakehouse
    endpoint = next(one for one in catalog.endpoints if one.word == ENDPOINT)
    roles = endpoint.roles({one.name: one for one in catalog.declarations})
    found = Replay(endpoint, roles, tables, lambda version: scorer_of(registry, endpoint.model, version)).run(count)
    told = tables.table(endpoint.name).scan().sort("received_at").tail(count).select("model_version", "prediction").collect()
    answers = pl.DataFrame([json.loads(text) for text in told["prediction"]], infer_schema_length=None)
    wanted = ("probability", "decision", "reasons")
    scored = tables.table(endpoint.predictions.name).scan().select("invoice", "model_version", *wanted).collect()
    both = answers.with_columns(told["model_version"]).join(scored, on=["invoice", "model_version"], suffix="_in_batch")
    equal = both.filter(pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_in_batch")) for name in wanted)).height
    words: dict[str, int] = {}
    for counts in found.features.values():
        for word, number in counts.items():
            words[word] = words.get(word, 0) + number
    holds = found.passed and found.rows == count and equal == count and set(words) == {"equal"}
    return {"text": found.text, "features": words, "scores": dict(found.scores), "batch_equal": equal, "holds": holds}


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10_000, *sys.argv[2:3])
