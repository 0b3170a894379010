"""Why a model has become less accurate: what is computed or scored otherwise, which of its columns drifted, where it is worse.

What is asked is all on record: the ledger, the versions of feature sets, and what other monitors said of the same time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.monitors import Cause, Watched
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.accuracy.table import accuracy_table
from lakehouse_assets.platform.monitoring.accuracy.watched import watched_predictions
from lakehouse_assets.platform.monitoring.drift.importance import Importance
from lakehouse_assets.platform.monitoring.kinds.champion import features_of_champion
from lakehouse_assets.platform.monitoring.why.drifted import MOST_TIMES, excess
from lakehouse_assets.platform.pipeline.champions import champion_by_ledger
from lakehouse_assets.platform.registry.ledger import last_move
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.wording import slice_in_words

_DRIFT: Final = "drift"
_MOST_DRIFTED: Final = 5


@dataclass(frozen=True)
class LessAccurate:
    """A model whose predictions are judged to be worse.

    Attributes:
        watched: The monitor.
        model: The model.
        features: The tables that it scores.
        bad: The failed verdicts of one evaluation, as rows of the table of verdicts.
    """

    watched: Watched
    model: ModelDeclaration
    features: Sequence[str]
    bad: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, watched: Watched, bad: Sequence[Mapping[str, Any]]) -> "LessAccurate":
        """The model whose predictions a monitor watches."""
        declared = {one.name: one for one in watched.catalog.declarations}
        predictions = watched_predictions(watched.monitor.of, declared, watched.lakehouse).predictions
        features = [name for name in predictions.sources() if isinstance(declared.get(name), FeatureSet)]
        return cls(watched, predictions.model, features, bad)

    def causes(self) -> list[Cause]:
        """What may be the cause: first what was changed on purpose, then columns that drifted by importance, then slices."""
        window = max((row["window_start"] for row in self.bad if row["window_start"] is not None), default=None)
        rows = [row for row in self.bad if row["window_start"] == window]
        drifted = self._drifted(rows)
        behind = min((one.weight for one in drifted), default=1.0) / 2
        found = [*self._features(), *self._champion(rows, behind), *drifted, *self._slices(rows)]
        return [
            Cause(one.text, one.column, window, one.weight, one.importance, one.steps)
            for one in sorted(found, key=lambda one: (-one.weight, one.text))
        ]

    def _features(self) -> Iterator[Cause]:
        """Feature sets that mean something else than what the champion learnt from."""
        lakehouse = self.watched.lakehouse
        said = features_of_champion(lakehouse.table(self.model.name), [lakehouse.table(name) for name in self.features])
        if said.passed is False:
            sets = f"version {said.numbers['newest']} of {said.numbers['feature_set']} has other values than version "
            yield Cause(f"{sets}{said.numbers['trained_on']}, which the champion learnt from", weight=MOST_TIMES, steps=(said.text,))

    def _champion(self, rows: Sequence[Mapping[str, Any]], behind: float) -> Iterator[Cause]:
        """The promotion of the version that is judged, if the one before it did better or nobody knows. A later one is no cause."""
        judged = next((row for row in rows if row["model_version"] is not None), None)
        ledger = self.watched.lakehouse.table(self.model.name)
        if judged is None or judged["window_end"] is None or not ledger.exists():
            return
        version, begin, end = judged["model_version"], judged["window_start"], judged["window_end"]
        moved = last_move(ledger.scan().filter(pl.col("champion") == version))
        before = None if moved is None else moved["champion_before"]
        if moved is None or before is None or not begin - (end - begin) <= moved["decided_at"] < end:
            return
        text = f"version {version} of {self.model.name} took the place of version {before} on {moved['decided_at']:%Y-%m-%d}"
        steps = (f"{moved['decision']}: {moved['reasons']}",)
        metric = next((one for one in (self.model.metric, *self.model.metrics) if one.name == judged["metric"]), None)
        was = self._score_of(before, judged)
        if was is None or metric is None:
            yield Cause(f"{text}; how well version {before} did is not known", weight=behind, steps=steps)
        elif metric.loss(was) < metric.loss(judged["value"]):
            yield Cause(f"{text}, whose {metric.name} was {was:.3g} and not {judged['value']:.3g}", weight=MOST_TIMES / 2, steps=steps)

    def _score_of(self, version: int, judged: Mapping[str, Any]) -> float | None:
        """What a version had in its newest final window of the kind that is judged; None if there is none."""
        key, value = judged["slice_key"] or None, judged["slice_value"] if judged["slice_key"] else None
        found = (
            accuracy_table(self.watched.lakehouse)
            .scan()
            .filter(
                pl.col("predictions") == judged["table"],
                pl.col("granularity") == judged["granularity"],
                pl.col("metric") == judged["metric"],
                pl.col("model_version") == version,
                pl.col("window_start") <= judged["window_start"],
                pl.col("slice_key").eq_missing(pl.lit(key, pl.String)),
                pl.col("slice_value").eq_missing(pl.lit(value, pl.String)),
                pl.col("horizon").is_null(),
                pl.col("value").is_not_null(),
                ~pl.col("is_estimate"),
                ~pl.col("provisional"),
            )
            .sort("window_start")
            .tail(1)
            .select("value")
            .collect()
        )
        return None if found.is_empty() else float(found.item())

    def _drifted(self, rows: Sequence[Mapping[str, Any]]) -> list[Cause]:
        """Columns that monitors of drift found in the same time, in what the model is made of."""
        tables = {one.name for one in self.watched.catalog.needed_for([self.model.name, *self.features])}
        spans = [(row["window_start"], row["window_end"]) for row in rows if row["window_start"] is not None]
        within = [(pl.col("window_start") < end) & (pl.col("window_end") > start) for start, end in spans]
        failed = verdicts.scan(self.watched.lakehouse).filter(
            pl.col("kind") == _DRIFT,
            ~pl.col("passed"),
            pl.col("table").is_in(tables),
            pl.col("evaluated_at") <= self.watched.now,
            pl.col("column_name").is_not_null(),
        )
        # A window of drift is judged once it is over, so not before the days that are asked for.
        since = [pl.col(DATE) >= min(start for start, _ in spans).date()] if spans else []
        found = failed.filter(*since, pl.any_horizontal(within)).collect() if within else pl.DataFrame()
        version = next((row["model_version"] for row in rows if row["model_version"] is not None), None)
        version = champion_by_ledger(self.watched.lakehouse, self.model) if version is None else version
        importance = Importance(self.model, version, self.watched.registry)
        causes: dict[tuple[str, str], Cause] = {}
        for row in found.sort("sequence", "evaluated_at").iter_rows(named=True) if found.height else ():
            share = importance.of(row["table"], row["column_name"])
            weight = excess(row) * (1.0 if share is None else share)
            key = (row["table"], row["column_name"])
            if weight > 0 and (key not in causes or weight >= causes[key].weight):
                text = f"{row['column_name']} of {row['table']} drifted" + (f": {row['why']}" if row["why"] else "")
                causes[key] = Cause(text, row["column_name"], None, min(weight, MOST_TIMES / 4), share, (row["text"],))
        return sorted(causes.values(), key=lambda one: -one.weight)[:_MOST_DRIFTED]

    def _slices(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Cause]:
        """Slices that failed, if not all did."""
        for row in rows:
            if row["slice_key"]:
                text = f"predictions are worse where {slice_in_words(row['slice_key'], row['slice_value'])}"
                beyond = 0.0 if row["threshold"] is None else abs(row["value"] - row["threshold"])
                yield Cause(text, weight=min(beyond, 1.0), steps=(row["text"],))
