"""Whether batch says today what was answered then: logged requests are replayed offline, feature by feature and score by score.

A score is replayed by the version that answered, from the features that it was given: it has to be the same. A feature is compared with
what the tables have for the time of the event. Differences that are no fault of the code are told apart: something became known after the
answer, or came into the table after the version that the online store had, without which the value is the same (`known_then`); or the store
had no value that may be used, and the answer said so.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.endpoints import Endpoint, Roles
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.training_set import LabelledExamples
from lakehouse_assets.platform.pipeline.champions import Scorer
from lakehouse_assets.platform.serving.assemble import MISSING, OK
from lakehouse_assets.platform.serving.inference_log.table import as_json
from lakehouse_assets.platform.serving.known_then import LATE, KnownThen, LoggedRow, finite
from lakehouse_assets.platform.serving.parity_found import DIFFERENT, EQUAL, SAID, Parity
from lakehouse_assets.platform.serving.scorer import check_version
from lakehouse_assets.platform.storage.feature_versions import version_to_read
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, of_version
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.scopes import Keys

MOST_ROWS: Final = 2_000
_SHOWN: Final = 5
_NUMBER, _AT, _EVENT, _RECEIVED = "__number", "__at", "__event_time", "__received_at"
_IS_FULL: Final = pl.col("form").eq_missing("features")


@dataclass(frozen=True)
class Replay:
    """Replays what an endpoint answered.

    Attributes:
        endpoint: The endpoint.
        roles: Where its features come from.
        lakehouse: The tables.
        scorer: Gives a version of its model.
    """

    endpoint: Endpoint
    roles: Roles
    lakehouse: Lakehouse
    scorer: Callable[[int], Scorer]

    def run(self, most: int = MOST_ROWS) -> Parity:
        """Replay the newest rows of the log.

        Args:
            most: How many at most.
        """
        log = self._logged(most)
        features: dict[str, Counter[str]] = {}
        scores: Counter[str] = Counter()
        differing: list[str] = []
        waiting = full = 0
        for (version,), rows in log.group_by("model_version", maintain_order=True):
            own = self._values(rows)
            scorer = self.scorer(int(version))
            same = self._same_scores(scorer, own, rows)
            scores.update({EQUAL: sum(same), DIFFERENT: len(same) - sum(same)})
            differing += rows.filter(~pl.Series(same))["request_id"].to_list()
            compared, missing, unequal = self._compare(scorer, own, rows)
            waiting += missing
            full += rows.filter(_IS_FULL).height
            differing += unequal
            for name, counts in compared.items():
                features.setdefault(name, Counter()).update(counts)
        return Parity(log.height, waiting, full, features, scores, list(dict.fromkeys(differing))[:_SHOWN])

    def _logged(self, most: int) -> pl.DataFrame:
        table = self.lakehouse.table(self.endpoint.name)
        if not table.exists():
            return pl.DataFrame(schema={"model_version": pl.Int64})
        newest = table.scan().select(pl.col(DATE).max()).collect(engine="streaming").item()
        if newest is None:
            return pl.DataFrame(schema={"model_version": pl.Int64})
        answered = (pl.col("status_code") == 200) & pl.col("model_version").is_not_null() & (pl.col("key") != "{}")
        logged = table.scan()
        if "form" not in logged.collect_schema():  # nothing was logged since the release that knows it
            logged = logged.with_columns(pl.lit("").alias("form"))
        answered &= pl.col("form") != "dry_run"  # what was tried comes into no table
        recent = logged.filter(answered & (pl.col(DATE) >= newest - timedelta(days=1)))
        return recent.top_k(most, by="received_at").collect(engine="streaming").sort("received_at", "request_id", "row")

    # --- scores

    def _values(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The features that the function was given then."""
        columns = self._columns
        logged = [json.loads(text) for text in rows["features"]]
        return pl.DataFrame([_series(name, [one.get(name) for one in logged], dtype) for name, dtype in columns.items()])

    @cached_property
    def _columns(self) -> pl.Schema:
        columns = self.endpoint.predictions.scored_columns
        assert columns is not None  # noqa: S101 an endpoint that is asked by keys has no parity
        return columns

    def _same_scores(self, scorer: Scorer, own: pl.DataFrame, rows: pl.DataFrame) -> list[bool]:
        """Whether the version says the same of each row again."""
        predictions = self.endpoint.predictions
        ((parameter, _),) = predictions.inputs.items()
        key = [name for name in predictions.identity if name in own.columns]
        # A key may have been asked for several times, with other features each time.
        times = own.select(pl.int_range(pl.len()).over(key).alias("time")).to_series()
        same = [False] * rows.height
        logged = [json.loads(text) for text in rows["prediction"]]
        for time in times.unique().sort():
            numbers = (times == time).arg_true()
            part = own[numbers]
            found = predictions(champion=scorer, **{parameter: part.lazy()}).collect()
            by_key = {tuple(row[name] for name in key): row for row in found.rows(named=True)}
            for number, values in zip(numbers, part.select(key).iter_rows(), strict=True):
                said = by_key.get(values)
                same[number] = said is not None and json.loads(as_json(said)) == logged[number]
        return same

    # --- features

    def _compare(self, scorer: Scorer, own: pl.DataFrame, rows: pl.DataFrame) -> tuple[dict[str, Counter[str]], int, list[str]]:
        """By input the outcomes, how many rows have no event in the tables, and the requests that differ.

        Of full rows of features nothing is compared: nothing was looked up.
        """
        looked_up = rows.select(~_IS_FULL).to_series()
        own, rows = own.filter(looked_up), rows.filter(looked_up)
        if rows.is_empty():
            return {}, 0, []
        driving, examples = self.roles.driving, self.endpoint.model.examples
        assert isinstance(examples, LabelledExamples)  # noqa: S101 rows are scored one by one
        entity, at = list(driving.entity), driving.event_time
        key = [*entity, at]
        versions = self._versions(scorer)
        stored = Keys(own.select(entity).drop_nulls().unique()).filter(self._read(driving.name))
        stored = of_version(stored, versions[driving.name])
        others = {name: number for name, number in versions.items() if number is not None and name != driving.name}
        offline = examples.to_score(driving.name, stored, self._read, others).collect()
        statuses = [json.loads(text) for text in rows["status"]]
        mine = own.with_row_index(_NUMBER).select(_NUMBER, *key)
        found = mine.join(offline, on=key, how="inner", maintain_order="left")
        numbers = found[_NUMBER].to_list()
        received = rows["received_at"].gather(numbers)
        outcomes: dict[str, Counter[str]] = {}
        unequal: set[int] = set()
        names = dict.fromkeys([at, *(name for one in self.roles.sets for name in one.entity if name in found.columns)])
        asked = [
            LoggedRow(rows["request"][number], rows["form"][number] or "rows", rows["received_at"][number], named, statuses[number])
            for number, named in zip(numbers, found.select(list(names)).iter_rows(named=True), strict=True)
        ]
        then = KnownThen(self.endpoint, self.roles, self.lakehouse, versions, asked)
        for feature in self.roles.sets:
            explained: list[str] | None = None
            for name in (column for column in self.roles.columns_of(feature) if column in own.columns):
                same = _finite(own[name].gather(numbers)).eq_missing(_finite(found[name]))
                if same.all():
                    outcomes[name] = Counter({EQUAL: len(same)})
                    continue
                if explained is None:
                    changed = self._changed(feature, found, received)
                    given, now = (_of(frame, self.roles, feature) for frame in (own[numbers], found))
                    explained = [
                        EQUAL if values == by_now else _why(then, feature, one, values, changed=late)
                        for values, by_now, one, late in zip(given, now, asked, changed, strict=True)
                    ]
                words = [EQUAL if one else word for one, word in zip(same, explained, strict=True)]
                outcomes[name] = Counter(words)
                unequal |= {number for number, word in zip(numbers, words, strict=True) if word == DIFFERENT}
        return outcomes, rows.height - len(numbers), [rows["request_id"][number] for number in sorted(unequal)]

    def _versions(self, scorer: Scorer) -> dict[str, int | None]:
        """By feature set, the version that a version of the model is given; None: the newest.

        Raises:
            NotTaken: There is none.
        """
        where = f"version {scorer.version} of {scorer.name}"
        found: dict[str, int | None] = {}
        for one in self.roles.sets:
            check_version(scorer, one, self.lakehouse, computed=False, where=where)
            read = version_to_read(self.lakehouse.table(one.name), scorer.features.get(one.name))
            found[one.name] = None if read is None else read.older
        return found

    def _read(self, name: str) -> pl.LazyFrame:
        return self.lakehouse.table(name).scan()

    def _changed(self, feature: FeatureSet, found: pl.DataFrame, received: pl.Series) -> list[bool]:
        """For each event, whether something of its entity became known after the answer; retractions are among it."""
        at = self.roles.driving.event_time
        changes = self._read(feature.name).filter(pl.col(KNOWN_AT) > received.min())
        changes = changes.select(*feature.entity, pl.col(feature.event_time).alias(_EVENT), pl.col(KNOWN_AT))
        asked = found.select(*feature.entity, pl.col(at).alias(_AT)).with_columns(received.alias(_RECEIVED)).with_row_index(_NUMBER)
        day_or_moment = pl.col(_AT).dt.date() if feature.schema[feature.event_time] == pl.Date else pl.col(_AT)
        late = (
            asked.lazy()
            .join(changes, on=list(feature.entity))
            .filter((pl.col(_EVENT) <= day_or_moment) & (pl.col(KNOWN_AT) > pl.col(_RECEIVED)))
            .select(pl.col(_NUMBER).unique())
            .collect(engine="streaming")[_NUMBER]
        )
        return asked[_NUMBER].is_in(late.implode()).to_list()


def _of(frame: pl.DataFrame, roles: Roles, feature: FeatureSet) -> list[dict[str, Any]]:
    """The values of one feature set, row by row, by their names in it."""
    prefix = roles.prefixes.get(feature.name, "")
    return [finite(one) for one in frame.select(pl.col(prefix + name).alias(name) for name in feature.columns).to_dicts()]


def _finite(values: pl.Series) -> pl.Series:
    """Values with null for what is no finite number: so models take them, and so requests are given them."""
    return values.set(~values.is_finite(), None) if values.dtype.is_float() else values


def _why(then: KnownThen, feature: FeatureSet, asked: LoggedRow, given: dict[str, Any], *, changed: bool) -> str:
    """Why the values of a feature set differ from those that the tables have now.

    Args:
        then: What the tables had.
        feature: The feature set.
        asked: The row.
        given: What its model was given.
        changed: Whether something of the entity became known after the answer.
    """
    if changed and given in then.values(feature, asked):
        return LATE
    status = asked.status.get(feature.name, {}).get("status", OK)
    if status != OK:
        return DIFFERENT if status == MISSING and then.is_lost(feature, asked, given) else SAID
    return then.why(feature, asked, given) or DIFFERENT


def _series(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    """Values of JSON in the type of a column."""
    if dtype.is_float():
        return pl.Series(name, [float(one) if isinstance(one, str) else one for one in values], dtype)
    if dtype == pl.Date:
        return pl.Series(name, [None if one is None else date.fromisoformat(one) for one in values], dtype)
    if isinstance(dtype, pl.Datetime):
        return pl.Series(name, [None if one is None else datetime.fromisoformat(one) for one in values], dtype)
    return pl.Series(name, values, dtype)
