"""Predictions that an endpoint answered, with what became true of them by labels that were sent back and by the table of labels.

Labels meet logged rows as in `serving.labelled`. Of several requests about one thing the first answer counts.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.actual_outcomes import ABOUT, FROM_SILENCE, REPORTED_AT
from lakehouse_assets.platform.declarations.endpoints import Endpoint
from lakehouse_assets.platform.declarations.learning import ACTUAL, LABEL_KNOWN_AT
from lakehouse_assets.platform.declarations.models import MODEL_VERSION
from lakehouse_assets.platform.monitoring.accuracy.predicted import OWN, Predicted, Spans
from lakehouse_assets.platform.serving.labelled import KNOWN_AT, LABEL, ROW, KnownLabels, labels_of
from lakehouse_assets.platform.storage.platform_tables import FEEDBACK_SUFFIX
from lakehouse_assets.platform.storage.retention import DATE
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets.platform.storage.types import TIMESTAMP

_ANSWERED: Final = (
    (pl.col("status_code") == 200) & pl.col(MODEL_VERSION).is_not_null() & (pl.col("key") != "{}") & (pl.col("form") != "dry_run")
)
_A_DAY: Final = 86_400_000_000
_LATE: Final = timedelta(days=400)
"""An event is asked about at most so long before or after its time: days of the log beyond it are not read for a window."""

_REACHES: Final = (timedelta(days=8), timedelta(days=64), timedelta(days=512), None)
"""So far before the newest of some labels requests are looked for, before all are."""


@dataclass(frozen=True)
class PredictedRequests(Predicted):
    """The rows of the inference log of an endpoint.

    Attributes:
        endpoint: The endpoint.
    """

    endpoint: Endpoint

    @property
    def name(self) -> str:
        """See `Predicted.name`."""
        return self.endpoint.name

    @property
    def feedback(self) -> str:
        """The table of labels that were sent back."""
        return self.name + FEEDBACK_SUFFIX

    @property
    def tables(self) -> tuple[str, ...]:
        """See `Predicted.tables`."""
        return tuple(dict.fromkeys((self.name, self.feedback, self.outcomes.table, *self.slice_tables)))

    @cached_property
    def _time(self) -> pl.Expr:
        return pl.coalesce(pl.col("event_time"), pl.col("received_at")).cast(TIMESTAMP).alias(ABOUT)

    def _logged(self) -> pl.LazyFrame:
        return self.scan(self.name).filter(_ANSWERED)

    def times(self, source: Source) -> pl.Series:
        """See `Predicted.times`."""
        name = source.table.name
        if name == self.name:
            touched = source.touched(["event_time", "received_at"])
            return touched.select(self._time).to_series().drop_nulls()
        if not self.exists(self.name):
            return pl.Series(ABOUT, [], TIMESTAMP)
        if name == self.feedback:
            return self._of_sent(source.touched(["request_id", "key", DATE]))
        if name == self.outcomes.table:
            key, time = list(self.outcomes.key), self._time_in(source.table.schema())
        else:
            key, time = list(self.driving.entity), self.driving.event_time
        touched = source.touched(key if time is None else [*key, time])
        return self._met(touched, key, None if time is None else _days_near(touched[time]))

    def _time_in(self, schema: pl.Schema) -> str | None:
        """The column of the table of outcomes that says what time a row is about."""
        return next((one for one in self.outcomes.times if one in schema), None)

    def _of_sent(self, sent: pl.DataFrame) -> pl.Series:
        """The times of logged rows that labels were sent back for."""
        keyed = sent.filter(pl.col("request_id").is_null())
        keys = keyed.select(self._from_json("key"))
        near = self._days_of(keys)
        if near is None and keyed.height:  # nothing tells what they are about but when they came
            near = pl.col(DATE) >= _day(_no_earlier(keyed[DATE].min()))  # type: ignore[arg-type]
        return pl.concat([self._of_requests(sent), self._met(keys, list(self.outcomes.key), near)]).unique()

    def _of_requests(self, sent: pl.DataFrame) -> pl.Series:
        """The times of logged rows by the ids of their requests, which are looked for from the days of their labels backwards."""
        left = sent.select("request_id").drop_nulls().unique()
        newest: date = sent[DATE].max()  # type: ignore[assignment]
        found, until = [pl.Series(ABOUT, [], TIMESTAMP)], pl.lit(value=True)
        for reach in _REACHES:
            if left.is_empty():
                break
            since = pl.lit(value=True) if reach is None else pl.col(DATE) >= _day(newest - reach)
            there = self.scan(self.name).filter(since, until).join(left.lazy(), on="request_id", how="semi")
            rows = there.select("request_id", self._time, _ANSWERED.alias("is_answer")).collect(engine="streaming")
            found.append(rows.filter("is_answer")[ABOUT])
            left, until = left.join(rows, on="request_id", how="anti"), ~since
        return pl.concat(found)

    def of_outcomes(self, keys: pl.DataFrame) -> pl.Series:
        """See `Predicted.of_outcomes`."""
        if not self.exists(self.name):
            return pl.Series(ABOUT, [], TIMESTAMP)
        return self._met(keys, list(self.outcomes.key), self._days_of(keys))

    def _days_of(self, keys: pl.DataFrame) -> pl.Expr | None:
        """On which days rows of the log about some keys may have come, by the table of outcomes; None: it does not know all of them."""
        wanted = keys.drop_nulls().unique()
        if not self.exists(self.outcomes.table) or wanted.is_empty():
            return None
        table, key = self.scan(self.outcomes.table), list(self.outcomes.key)
        if (time := self._time_in(table.collect_schema())) is None:
            return None
        typed = wanted.select(pl.col(name).cast(table.collect_schema()[name], strict=False) for name in key)
        rows = self._of_keys(table, typed, key).select(*key, time).collect(engine="streaming")
        return _days_near(rows[time]) if rows.select(key).n_unique() == wanted.height else None

    def became_known(self, after: datetime, until: datetime) -> pl.Series:
        """See `Predicted.became_known`; labels that were sent back say it too."""
        found = super().became_known(after, until)
        if not self.exists(self.feedback) or not self.exists(self.name):
            return found
        known = pl.col("known_at").cast(TIMESTAMP)
        sent = self.scan(self.feedback).filter(known > after, known <= until).select("request_id", "key", DATE).collect(engine="streaming")
        return pl.concat([found, self._of_sent(sent)]).unique()

    def _met(self, keys: pl.DataFrame, key: list[str], days: pl.Expr | None) -> pl.Series:
        """The times of logged rows that have some keys, of some days; None: of all."""
        asked = keys.select(pl.col(one).cast(pl.String) for one in key).drop_nulls().unique()
        if asked.is_empty():
            return pl.Series(ABOUT, [], TIMESTAMP)
        logged = self._logged() if days is None else self._logged().filter(days)
        met = self._keyed(logged, key).join(asked.lazy(), on=key, how="semi").select(self._time)
        return met.unique().collect(engine="streaming").to_series()

    def between(self, after: datetime, until: datetime) -> pl.Series:
        """See `Predicted.between`."""
        near = pl.col(DATE).is_between(_day(_no_earlier(after.date())), _day(_no_later(until.date())))
        times = self._logged().filter(near).select(self._time).unique().filter(pl.col(ABOUT) > after, pl.col(ABOUT) <= until)
        return times.collect(engine="streaming").to_series()

    def rows(self, spans: Spans | None, now: datetime) -> pl.DataFrame:
        """See `Predicted.rows`."""
        if not self.exists(self.name):
            return self._empty()
        logged = self._logged().with_columns(self._time).filter(pl.col(ABOUT) <= now)
        if spans is not None:
            near = [pl.col(DATE).is_between(_day(_no_earlier(start.date())), _day(_no_later(end.date()))) for start, end in spans]
            in_spans = [(pl.col(ABOUT) >= pl.lit(start)) & (pl.col(ABOUT) < pl.lit(end)) for start, end in spans]
            none = pl.lit(value=False)
            logged = logged.filter(pl.any_horizontal(none, *near)).filter(pl.any_horizontal(none, *in_spans))
        first = logged.sort("received_at", *ROW).unique(["key", MODEL_VERSION], keep="first", maintain_order=True)
        asked = first.collect(engine="streaming")
        if asked.is_empty():
            return self._empty()
        types = {name: dtype for name, dtype in self.predictions.schema.items() if name not in OWN}
        schema = self.scan(self.outcomes.table).collect_schema() if self.exists(self.outcomes.table) else pl.Schema()
        values = [self._value(name, dtype) for name, dtype in types.items() if name != MODEL_VERSION]
        keys = [
            self._text(name).cast(schema.get(name, pl.String()), strict=False).alias(name)
            for name in self.outcomes.key
            if name not in types
        ]
        found = asked.select(*ROW, MODEL_VERSION, ABOUT, *values, *keys)
        found = self.unseen(found.hstack(self._labels(asked, now).drop(*ROW)))
        found = self.with_slices(found).drop(ROW)
        return found.sort(ABOUT, *self.outcomes.key, MODEL_VERSION, maintain_order=True)

    def _labels(self, asked: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """For each row what was known of it: `ROW`, `actual`, `label_known_at`, `reported_at`."""
        target = self.outcomes.target
        assert target is not None  # noqa: S101 see `watched`
        feedback = self.scan(self.feedback) if self.exists(self.feedback) else None
        known, dtype, said = None, None, None
        if self.exists(self.outcomes.table):
            table = self.scan(self.outcomes.table)
            dtype = table.collect_schema()[target]
            of_keys = self._of_keys(table, asked.select(self._from_json("key", "request", "features")), self.outcomes.key)
            said = self.outcomes.known_by(of_keys, now)
            known = KnownLabels(said.lazy(), self.outcomes.key, target, LABEL_KNOWN_AT, pl.col(FROM_SILENCE))
        labels = labels_of(asked.lazy(), target, feedback, known, now).collect()
        text = labels.select(*ROW, pl.col(LABEL).alias(target), pl.col(KNOWN_AT).alias(LABEL_KNOWN_AT))
        learnt = self.outcomes.learnt(text).rename({target: ACTUAL})
        if learnt.schema[ACTUAL] == pl.String and dtype is not None:
            learnt = learnt.with_columns(_typed(pl.col(ACTUAL), dtype))
        is_other = pl.col(ACTUAL).ne(pl.lit(self.outcomes.usual)) if self.outcomes.usual is not None else pl.lit(value=False)
        learnt = learnt.with_columns(pl.when(is_other).then(LABEL_KNOWN_AT).alias(REPORTED_AT))
        found = asked.select(*ROW, ABOUT).join(learnt, on=list(ROW), how="left", maintain_order="left")
        if said is not None:
            found = found.with_columns(pl.min_horizontal(REPORTED_AT, self._reported_at(asked, said)).alias(REPORTED_AT))
        settled = self.outcomes.settled
        if settled is not None and self.outcomes.usual is not None:
            # As in training: of young rows only the outcome that is told soon would be known.
            is_over = pl.col(ABOUT) + settled <= pl.lit(self.outcomes.settled_until(now))
            later = pl.max_horizontal(LABEL_KNOWN_AT, pl.col(ABOUT) + settled)
            counts_from = pl.when(pl.col(LABEL_KNOWN_AT).is_not_null()).then(later).alias(LABEL_KNOWN_AT)
            found = found.with_columns(counts_from, pl.when(is_over).then(ACTUAL).alias(ACTUAL))
            found = found.with_columns(pl.when(is_over).then(LABEL_KNOWN_AT).alias(LABEL_KNOWN_AT))
        return found.select(*ROW, *OWN[1:])

    def _reported_at(self, asked: pl.DataFrame, said: pl.DataFrame) -> pl.Series:
        """For each row when the table of labels first had another outcome than the usual one."""
        key = list(self.outcomes.key)
        reported = said.select(*(pl.col(name).cast(pl.String) for name in key), REPORTED_AT)
        return asked.select(self._from_json("key", "request", "features")).join(reported, on=key, how="left", maintain_order="left")[
            REPORTED_AT
        ]

    def _keyed(self, logged: pl.LazyFrame, key: list[str]) -> pl.LazyFrame:
        """Rows of the log with their key as columns of texts."""
        return logged.select("event_time", "received_at", *(self._text(name).alias(name) for name in key))

    def _text(self, name: str, *columns: str) -> pl.Expr:
        return pl.coalesce(pl.col(one).str.json_path_match(f"$['{name}']") for one in columns or ("key", "request", "features"))

    def _from_json(self, *columns: str) -> list[pl.Expr]:
        return [self._text(name, *columns).alias(name) for name in self.outcomes.key]

    def _value(self, name: str, dtype: pl.DataType) -> pl.Expr:
        return _typed(self._text(name, "prediction", "key", "request", "features"), dtype).alias(name)

    def _empty(self) -> pl.DataFrame:
        types = {name: dtype for name, dtype in self.predictions.schema.items() if name not in OWN}
        times = dict.fromkeys((ABOUT, LABEL_KNOWN_AT, REPORTED_AT), TIMESTAMP)
        return pl.DataFrame(schema={**types, MODEL_VERSION: pl.Int64(), ACTUAL: pl.Boolean(), **times})


def _days_near(times: pl.Series) -> pl.Expr:
    """On which days of the log rows about some times may have come."""
    days = times.cast(TIMESTAMP).drop_nulls().to_physical() // _A_DAY
    if not len(days):
        return pl.lit(value=False)
    first, last = (pl.lit(int(day), pl.Int32).cast(pl.Date) for day in (days.min() - _LATE.days, days.max() + _LATE.days))  # type: ignore[operator]
    return pl.col(DATE).is_between(first, last)


def _day(moment: date) -> pl.Expr:
    return pl.lit(moment, pl.Date)


def _no_earlier(day: date) -> date:
    return max(day, date.min + _LATE) - _LATE


def _no_later(day: date) -> date:
    return min(day, date.max - _LATE) + _LATE


def _typed(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A value of JSON, as text, in its type; what is no such value is null."""
    if dtype == pl.Boolean:
        return pl.when(text.is_in(["true", "false"])).then(text == "true")
    if isinstance(dtype, pl.Datetime):
        return text.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    return text.str.to_date(strict=False) if dtype == pl.Date else text.cast(dtype, strict=False)
