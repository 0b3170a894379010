"""Feast's online store for `benchmarks.lookup`: run by the Python that has Feast, it imports nothing of ours.

`fill` registers the feature sets in a folder and writes their newest values into the online store; `ask` times look-ups by Feast's own
Python interface and prints the milliseconds of one. The server is started by `benchmarks.lookup`, with Feast's own command.
"""

import json
import sys
import time
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any


def fill(folder: Path, sets: list[str]) -> None:
    """Register the feature sets, each of a parquet file, and write all their rows."""
    feast: Any = import_module("feast")
    pandas: Any = import_module("pandas")
    store = feast.FeatureStore(repo_path=str(folder))
    customer = feast.Entity(name="customer", join_keys=["customer"], value_type=feast.ValueType.INT64)
    views = []
    for name in sets:
        file = folder / f"{name}.parquet"
        columns = [one for one in pandas.read_parquet(file).columns if one not in {"customer", "at", "known_at"}]
        source = feast.FileSource(path=str(file), timestamp_field="at", created_timestamp_column="known_at")
        schema = [feast.Field(name=one, dtype=import_module("feast.types").Float64) for one in columns]
        views.append(feast.FeatureView(name=name, entities=[customer], ttl=timedelta(days=365), schema=schema, source=source))
    store.apply([customer, *views])
    for name in sets:
        store.write_to_online_store(name, pandas.read_parquet(folder / f"{name}.parquet"))


def ask(folder: Path, features: list[str], entities: int, at_once: int, times: int) -> None:
    """Print the milliseconds of one look-up, and a value of the first."""
    feast: Any = import_module("feast")
    store = feast.FeatureStore(repo_path=str(folder))

    def look_up(number: int) -> Any:
        rows = [{"customer": (number * at_once + place) % entities} for place in range(at_once)]
        return store.get_online_features(features=features, entity_rows=rows).to_dict()

    first = look_up(0)
    started = time.perf_counter()
    for number in range(times):
        look_up(number)
    print(json.dumps({"ms": (time.perf_counter() - started) / times * 1000, "value": first[features[0].split(":")[1]][0]}))


def main() -> None:
    """As `benchmarks.lookup` calls it: what to do, the folder, and the rest as JSON."""
    what, folder, given = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    fill(folder, **given) if what == "fill" else ask(folder, **given)


if __name__ == "__main__":
    main()
