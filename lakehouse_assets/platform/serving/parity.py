"""Whether batch says today what was answered then: logged requests are replayed offline, feature by feature and score by score.

A score is replayed by the version that answered, from the features that it was given: it has to be the same. A feature is compared with
what the tables have for the time of the event. Three differences are no fault of the code, and are told apart: something became known
after the answer, without which the value is the same (`known_then`); the online store was behind; or it had no value that may be used, and
the answer said so.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.endpoints import Endpoint, Roles
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.point_in_time import join_as_of
from lakehouse_assets.platform.features.training_set import LabelledExamples
from lakehouse_assets.platform.pipeline.champions import Scorer
from lakehouse_assets.platform.serving.assemble import OK
from lakehouse_assets.platform.serving.inference_log.table import as_json
from lakehouse_assets.platform.serving.known_then import ASKED, LATE, KnownThen, LoggedRow
from lakehouse_assets.platform.serving.scorer import check_version
from lakehouse_assets.platform.storage.feature_versions import version_to_read
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, of_version
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.scopes import Keys

EQUAL, STALE, SAID, DIFFERENT = "equal", "stale", "said", "different"
WORDS: Final = (EQUAL, LATE, STALE, SAID, ASKED, DIFFERENT)
MOST_ROWS: Final = 2_000
_SHOWN: Final = 5
_NUMBER, _AT, _EVENT, _RECEIVED = "__number", "__at", "__event_time", "__received_at"
_IS_FULL: Final = pl.col("form").eq_missing("features")


@dataclass(frozen=True)
class Parity:
    """What a replay found.

    Attributes:
        rows: Logged rows that were replayed.
        waiting: Those of them whose event has not come into the tables yet: their features are not compared.
        full: Those of them that were sent as full rows of features: only their scores are compared.
        features: By input of the model, how many values were `equal`, `late` (known after the answer), `stale` (the online store was
            behind), `said` (the answer named the set as missing, expired or unavailable), `asked` (windows counted events that were asked
            about and are not in the table) or `different`.
        scores: How many predictions were `equal` or `different`.
        requests: Of the first that differ, the ids.
    """

    rows: int
    waiting: int
    full: int
    features: Mapping[str, Counter[str]]
    scores: Counter[str]
    requests: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether nothing is different without a reason."""
        return not self.scores[DIFFERENT] and not any(one[DIFFERENT] for one in self.features.values())

    @property
    def compared(self) -> int:
        """How many rows had their features compared."""
        return self.rows - self.waiting - self.full

    @property
    def values(self) -> int:
        """How many values of features were compared."""
        return sum(one.total() for one in self.features.values())

    @property
    def text(self) -> str:
        """What it found, in words."""
        if not self.rows:
            return "Nothing was compared: no request was logged yet."
        unequal = [f"{name} ({one[DIFFERENT]})" for name, one in self.features.items() if one[DIFFERENT]]
        said = [f"{self.rows} logged rows replayed, and {self.values} values of {self.compared} of them compared"]
        if not self.compared:
            said[0] = f"{self.rows} logged rows replayed, and the features of none of them compared"
        if self.full:
            said.append(f"{self.full} were full rows of features")
        if self.waiting:
            said.append(f"the event of {self.waiting} has not come into the tables yet")
        for word, meaning in (
            (STALE, "were behind the tables"),
            (LATE, "became known after the answer"),
            (SAID, "were said to be missing"),
            (ASKED, "count events that were asked about and are not in the tables"),
        ):
            if count := sum(one[word] for one in self.features.values()):
                said.append(f"{count} values {meaning}")
        if unequal:
            said.append(f"values that differ: {', '.join(unequal)}")
        if self.scores[DIFFERENT]:
            said.append(f"{self.scores[DIFFERENT]} scores differ although their features are the same")
        if self.requests:
            said.append(f"the first: {', '.join(self.requests)}")
        return f"{'; '.join(said)}."


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
        then = KnownThen(self.endpoint, self.roles, self.lakehouse, versions)
        names = dict.fromkeys([at, *(name for one in self.roles.sets for name in one.entity if name in found.columns)])
        asked = [
            LoggedRow(rows["request"][number], rows["form"][number] or "rows", rows["received_at"][number], named)
            for number, named in zip(numbers, found.select(list(names)).iter_rows(named=True), strict=True)
        ]
        for feature in self.roles.sets:
            offline_of = None
            given: list[dict[str, Any]] = []
            explained: dict[int, str] = {}
            said = [statuses[number].get(feature.name, {}) for number in numbers]
            for name in (column for column in self.roles.columns_of(feature) if column in own.columns):
                same = _finite(own[name].gather(numbers)).eq_missing(_finite(found[name]))
                if same.all():
                    outcomes[name] = Counter({EQUAL: len(same)})
                    continue
                if offline_of is None:
                    taken, changed = self._offline(feature, found, received, examples, others)
                    given, now = (_of(frame, self.roles, feature) for frame in (own[numbers], found))
                    offline_of = (
                        taken,
                        [
                            late and then_given != then_now and then_given in then.values(feature, one)
                            for late, then_given, then_now, one in zip(changed, given, now, asked, strict=True)
                        ],
                    )
                words = [
                    EQUAL if one else _why(status, event, changed=late)
                    for one, status, event, late in zip(same, said, *offline_of, strict=True)
                ]
                for place in (place for place, word in enumerate(words) if word == DIFFERENT):
                    if place not in explained:
                        explained[place] = then.why(feature, asked[place], given[place])
                    words[place] = explained[place] or DIFFERENT
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

    def _offline(
        self,
        feature: FeatureSet,
        found: pl.DataFrame,
        received: pl.Series,
        examples: LabelledExamples,
        versions: Mapping[str, int],
    ) -> tuple[list[Any], list[bool]]:
        """For each event the time of the row that batch takes, and whether something of it became known after the answer."""
        at = self.roles.driving.event_time
        rows = self._read(feature.name)
        labels = found.select(list(dict.fromkeys([*feature.entity, at])))
        side = examples.feature_rows(feature, lambda _: of_version(rows, versions.get(feature.name)))
        taken = join_as_of(labels, [side], at=at, name=self.roles.driving.name, when_known=False).found[feature.name]["event_time"]
        # Retractions are among them.
        changes = rows.filter(pl.col(KNOWN_AT) > received.min()).select(
            *feature.entity, pl.col(feature.event_time).alias(_EVENT), pl.col(KNOWN_AT)
        )
        asked = labels.select(*feature.entity, pl.col(at).alias(_AT)).with_columns(received.alias(_RECEIVED)).with_row_index(_NUMBER)
        day_or_moment = pl.col(_AT).dt.date() if feature.schema[feature.event_time] == pl.Date else pl.col(_AT)
        late = (
            asked.lazy()
            .join(changes, on=list(feature.entity))
            .filter((pl.col(_EVENT) <= day_or_moment) & (pl.col(KNOWN_AT) > pl.col(_RECEIVED)))
            .select(pl.col(_NUMBER).unique())
            .collect(engine="streaming")[_NUMBER]
        )
        return taken.to_list(), asked[_NUMBER].is_in(late.implode()).to_list()


def _of(frame: pl.DataFrame, roles: Roles, feature: FeatureSet) -> list[dict[str, Any]]:
    """The values of one feature set, row by row, by their names in it."""
    prefix = roles.prefixes.get(feature.name, "")
    return frame.select(pl.col(prefix + name).alias(name) for name in feature.columns).to_dicts()


def _finite(values: pl.Series) -> pl.Series:
    """Values with null for what is no finite number: so models take them, and so requests are given them."""
    return values.set(~values.is_finite(), None) if values.dtype.is_float() else values


def _why(status: Mapping[str, Any], event: Any, *, changed: bool) -> str:
    """Why a value differs.

    Args:
        status: What the log says of the feature set.
        event: The time of the row that batch takes.
        changed: Whether something of the entity became known after the answer, and the value is the one that the tables gave before.
    """
    if changed:
        return LATE
    if status.get("status", OK) != OK:
        return SAID
    used = status.get("event_time")
    if used is not None and isinstance(event, datetime) and datetime.fromisoformat(used) < event:
        return STALE
    return DIFFERENT


def _series(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    """Values of JSON in the type of a column."""
    if dtype.is_float():
        return pl.Series(name, [float(one) if isinstance(one, str) else one for one in values], dtype)
    if dtype == pl.Date:
        return pl.Series(name, [None if one is None else date.fromisoformat(one) for one in values], dtype)
    if isinstance(dtype, pl.Datetime):
        return pl.Series(name, [None if one is None else datetime.fromisoformat(one) for one in values], dtype)
    return pl.Series(name, values, dtype)
