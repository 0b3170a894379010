"""A first model of a table that nobody has looked at: `lakehouse automl` against LightGBM as it comes, FLAML and a random forest.

Run it with `python -m benchmarks.tabular [SECONDS [TABLE...]]`; it needs `flaml[automl]` and writes `benchmarks/results/tabular.json`.
FLAML and automl have the same seconds for each fit, 20 by default. Rows are divided three times into three quarters to learn from and a
quarter to test on, classes alike in both. The tables ship with scikit-learn; `customers` is made of the real invoices: who bought before
June 2011 and comes back within ninety days.

The search of automl is over after four fifths of the seconds; the final fit of what it found has the rest, and may take longer. What each
fit really took is printed, and kept as `seconds`.

It holds if automl is best or within 1 % of the best on every table: of the area under the ROC curve for two classes, of the accuracy
for several, of the root mean squared error for numbers.
"""

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import REAL_DATA, keep
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import Metric, TrainingRows
from lakehouse_assets.platform.modelling.metrics import Accuracy, Auc, LogLoss, RootMeanSquaredError
from lakehouse_assets.platform.modelling.targets import KINDS, Task, target_of
from lakehouse_assets.platform.recipes.automl import first_model
from lakehouse_assets.platform.recipes.question import question

SEEDS = (1, 2, 3)
WITHIN = 0.01
SEARCHED = 0.8
"""Share of the seconds that is given to the search: the final fit comes on top."""
OURS = "automl"


@dataclass(frozen=True)
class TabularData:
    """A table with its task; `id` numbers the rows and `y` is the target."""

    task: Task
    rows: pl.DataFrame

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns to learn from."""
        return tuple(name for name in self.rows.columns if name not in {"id", "y"})

    @property
    def metric(self) -> Metric:
        """What is compared."""
        metrics: Mapping[Task, Metric] = {"binary": Auc(), "multiclass": Accuracy(), "regression": RootMeanSquaredError()}
        return metrics[self.task]


def bundled(name: str, task: Task) -> TabularData:
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    columns = {f"x{number}": data.data[:, number] for number in range(data.data.shape[1])}
    return TabularData(task, pl.DataFrame(columns).with_columns(y=pl.Series(data.target)).with_row_index("id"))


def customers() -> TabularData:
    """One row for each customer with what is known at the end of May 2011."""
    lines = pl.read_parquet(REAL_DATA / "online_retail_2010_2011.parquet").select(
        customer="CustomerID",
        invoice="InvoiceNo",
        country="Country",
        at=pl.col("InvoiceDate").cast(pl.String).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False),
        net=pl.col("Quantity") * pl.col("UnitPrice"),
        product="StockCode",
    )
    if lines["at"].null_count() == lines.height:
        lines = lines.with_columns(at=pl.read_parquet(REAL_DATA / "online_retail_2010_2011.parquet")["InvoiceDate"].str.to_datetime())
    known, until = datetime(2011, 6, 1), datetime(2011, 8, 30)  # noqa: DTZ001
    lines = lines.filter(pl.col("customer").is_not_null())
    rows = (
        lines.filter(pl.col("at") < known)
        .group_by("customer")
        .agg(
            country=pl.col("country").sort().first(),
            orders=pl.col("invoice").n_unique(),
            cancelled=pl.col("invoice").filter(pl.col("invoice").str.starts_with("C")).n_unique(),
            spent=pl.col("net").sort().sum(),
            largest=pl.col("net").max(),
            products=pl.col("product").n_unique(),
            first=pl.col("at").min(),
            last=pl.col("at").max(),
            favourite=pl.col("product").sort().mode().min(),
        )
        .sort("customer")
    )
    back = lines.filter(pl.col("at").is_between(known, until), ~pl.col("invoice").str.starts_with("C"))["customer"].unique()
    return TabularData("binary", rows.select(pl.all().exclude("customer"), y=pl.col("customer").is_in(back.implode())).with_row_index("id"))


TABLES: Mapping[str, Callable[[], TabularData]] = {
    "breast_cancer": lambda: bundled("breast_cancer", "binary"),
    "wine": lambda: bundled("wine", "multiclass"),
    "digits": lambda: bundled("digits", "multiclass"),
    "diabetes": lambda: bundled("diabetes", "regression"),
    "customers": customers,
}


def automl(_data: TabularData, train: pl.DataFrame, test: pl.DataFrame, seed: int, seconds: float) -> tuple[pl.DataFrame, str]:
    """What `lakehouse automl` writes into a product, trained on all rows as `lakehouse train` does."""
    asked = question(train, "benchmark", "y", None, ("id",))
    found = first_model(asked, train, seconds=seconds * SEARCHED, seed=seed, compute=Local())
    rows = TrainingRows(found.examples.lazy(), asked.entity, asked.at, "y", tuple(found.question.inputs))
    predictor = found.learner.fit(rows, seed=seed, compute=Local())
    return predictor.predict(test), f"{found.board['trial'].count()} trials: {found.best['candidate']}"


def peer(make: Callable[[TabularData, int, float], Any]) -> Callable[..., tuple[pl.DataFrame, str]]:
    """A peer that takes pandas frames: texts are categories, times numbers."""

    def run(data: TabularData, train: pl.DataFrame, test: pl.DataFrame, seed: int, seconds: float) -> tuple[pl.DataFrame, str]:
        target = target_of(train["y"], KINDS[data.task])
        whole = pl.concat([train, test]).select(data.inputs)
        whole = whole.with_columns(pl.selectors.temporal().to_physical().cast(pl.Float64), pl.selectors.string().cast(pl.Categorical))
        frame = whole.to_pandas()
        model = make(data, seed, seconds)
        model.fit(frame[: train.height], target.codes(train["y"]).astype(float if data.task == "regression" else int))
        told = frame[train.height :]
        if data.task == "regression":
            return target.frame(model.predict(told)), ""
        probability = model.predict_proba(told)
        chosen = str(getattr(model, "best_estimator", ""))
        return target.frame(probability[:, 1] if data.task == "binary" else probability), chosen

    return run


def lightgbm(data: TabularData, seed: int, _seconds: float) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMRegressor if data.task == "regression" else LGBMClassifier
    return kind(random_state=seed, verbose=-1)


def forest(data: TabularData, seed: int, _seconds: float) -> Any:
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    kind = RandomForestRegressor if data.task == "regression" else RandomForestClassifier
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encoder = make_column_transformer((codes, make_column_selector(dtype_include="category")), remainder="passthrough")
    return make_pipeline(encoder, kind(n_estimators=300, random_state=seed))


class Flaml:
    """FLAML as it comes, with a budget of time."""

    def __init__(self, data: TabularData, seed: int, seconds: float) -> None:
        self._task, self._seed, self._seconds = data.task, seed, seconds

    def fit(self, frame: Any, codes: Any) -> None:
        """Search."""
        from flaml.automl.automl import AutoML

        self._model = AutoML()
        task = "regression" if self._task == "regression" else "classification"
        self._model.fit(frame, codes, task=task, time_budget=self._seconds, seed=self._seed, verbose=0)
        self.best_estimator = self._model.best_estimator

    def predict(self, frame: Any) -> Any:
        """Numbers."""
        return self._model.predict(frame)

    def predict_proba(self, frame: Any) -> Any:
        """Probabilities."""
        return self._model.predict_proba(frame)


METHODS: Mapping[str, Callable[..., tuple[pl.DataFrame, str]]] = {
    OURS: automl,
    "LightGBM": peer(lightgbm),
    "FLAML": peer(Flaml),
    "random forest": peer(forest),
}


def divided(data: TabularData, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Three quarters and a quarter by chance, classes alike in both."""
    shuffled = data.rows.sample(fraction=1, shuffle=True, seed=seed)
    rank = pl.int_range(pl.len()) if data.task == "regression" else pl.int_range(pl.len()).over("y")
    return shuffled.filter(rank % 4 != 0), shuffled.filter(rank % 4 == 0)


def score(name: str, seconds: float) -> dict[str, Any]:
    data = TABLES[name]()
    results: dict[str, Any] = {}
    for method, run in METHODS.items():
        scores, losses, took, notes = [], [], [], []
        for seed in SEEDS:
            train, test = divided(data, seed)
            started = time.perf_counter()
            predicted, note = run(data, train, test, seed, seconds)
            took.append(time.perf_counter() - started)
            rows = predicted.with_columns(test["y"].alias("actual"))
            scores.append(data.metric.score(rows))
            losses.append(LogLoss().score(rows) if data.task != "regression" else float("nan"))
            notes.append(note)
        results[method] = {
            "score": float(np.mean(scores)),
            "scores": scores,
            "log_loss": None if np.isnan(losses).any() else float(np.mean(losses)),
            "seconds": float(np.mean(took)),
            "notes": notes,
        }
        shown = results[method]
        log_loss = "" if shown["log_loss"] is None else f"{shown['log_loss']:8.4f}"
        print(
            f"{name:14} {method:15} {data.metric.name} {shown['score']:9.4f}  {log_loss:8} {shown['seconds']:6.1f} s  {'; '.join(notes)}",
            flush=True,
        )
    others = [results[method]["score"] for method in METHODS]
    best = min(others) if data.metric.lower_is_better else max(others)
    own = results[OURS]["score"]
    behind = own / best - 1 if data.metric.lower_is_better else 1 - own / best
    print(f"{name:14} {'best' if behind <= 0 else f'{behind:.2%} behind the best'}", flush=True)
    return {"metric": data.metric.name, "rows": data.rows.height, "behind": behind, "methods": results}


def main() -> None:
    warnings.simplefilter("ignore")
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    names = sys.argv[2:] or list(TABLES)
    results = {name: score(name, seconds) for name in names}
    print(f"\n{'':14} " + " ".join(f"{method:>15}" for method in METHODS))
    for name, result in results.items():
        scores = " ".join(f"{result['methods'][method]['score']:15.4f}" for method in METHODS)
        print(f"{name:14} {scores}  {result['metric']}, {result['behind']:.2%} behind the best")
    holds = all(result["behind"] <= WITHIN for result in results.values())
    if set(names) == set(TABLES):
        keep("tabular", {"limit": WITHIN, "seconds": seconds, "holds": holds, "tables": results})
    print("holds" if holds else "does not hold")
    sys.exit(not holds)


if __name__ == "__main__":
    main()
