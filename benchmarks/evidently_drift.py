"""Evidently's profile and drift for `benchmarks.monitoring`: run by the Python that has Evidently, it imports nothing of ours.

It summarizes each column of both files, and computes the same drift metrics: Kolmogorov-Smirnov, Wasserstein and the stability
index of numbers; Jensen-Shannon, chi-squared and the stability index of texts and Booleans.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

NUMBERS, TEXTS = ("ks", "wasserstein", "psi"), ("jensenshannon", "chisquare", "psi")


def main() -> None:
    """Print the wall and CPU seconds of the report, without the reading of the files, and how many metrics it has."""
    pandas: Any = import_module("pandas")
    evidently: Any = import_module("evidently")
    metrics: Any = import_module("evidently.metrics")
    presets: Any = import_module("evidently.presets")
    base, new = (pandas.read_parquet(Path(sys.argv[1]) / f"{name}.parquet").drop(columns="at") for name in ("base", "new"))
    texts = [name for name in base.columns if not pandas.api.types.is_numeric_dtype(base[name]) or base[name].dtype == bool]
    numbers = [name for name in base.columns if name not in texts]
    started, used = time.perf_counter(), time.process_time()
    definition = evidently.DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    sets = [evidently.Dataset.from_pandas(frame, data_definition=definition) for frame in (new, base)]
    drift = [
        metrics.ValueDrift(column=name, method=method)
        for of, methods in ((numbers, NUMBERS), (texts, TEXTS))
        for name in of
        for method in methods
    ]
    done = evidently.Report([presets.DataSummaryPreset(), *drift]).run(*sets)
    count = len(done.dict()["metrics"])
    print(json.dumps({"seconds": time.perf_counter() - started, "cpu": time.process_time() - used, "metrics": count}))


if __name__ == "__main__":
    main()
