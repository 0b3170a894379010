"""One point-in-time join by Feast's offline store, for `benchmarks.features`: run by the Python that has Feast, it imports nothing of ours.

It prints the seconds of the join alone: what is declared and registered before it does not count.
"""

import json
import sys
import tempfile
import time
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any


def main(folder: Path, store_type: str) -> None:
    feast: Any = import_module("feast")
    with tempfile.TemporaryDirectory() as registry:
        config = feast.RepoConfig(
            project="benchmark",
            registry=f"{registry}/registry.db",
            provider="local",
            offline_store={"type": store_type},
            online_store={"type": "sqlite", "path": f"{registry}/online.db"},
            entity_key_serialization_version=3,
        )
        store = feast.FeatureStore(config=config)
        customer = feast.Entity(name="customer", join_keys=["customer"], value_type=feast.ValueType.INT64)
        names = [f"v{number}" for number in range(5)]
        source = feast.FileSource(path=str(folder / "features.parquet"), timestamp_field="event_time", created_timestamp_column="known_at")
        schema = [feast.Field(name=name, dtype=import_module("feast.types").Float64) for name in names]
        store.apply([customer, feast.FeatureView(name="view", entities=[customer], ttl=timedelta(0), schema=schema, source=source)])
        started = time.perf_counter()
        labels = import_module("pandas").read_parquet(folder / "labels.parquet").rename(columns={"at": "event_timestamp"})
        joined = store.get_historical_features(entity_df=labels, features=[f"view:{name}" for name in names]).to_arrow()
        print(json.dumps({"seconds": time.perf_counter() - started, "rows": joined.num_rows}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
