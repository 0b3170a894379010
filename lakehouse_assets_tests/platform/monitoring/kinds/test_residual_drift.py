"""Drift of residuals: a season that the model knows is no alarm, a shift of the outcomes is; window by window as all at once."""

import math
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets import Gate, ResidualDrift, forecast, monitor
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import AlertRule
from lakehouse_assets.platform.modelling.forecasting.plain import PlainForecast
from lakehouse_assets.platform.modelling.forecasting.series import NAIVE, REFERENCE
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.monitoring.retraining import evidence
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets_tests.platform.monitoring.accuracy.scored_shop import DECLARED, scored
from lakehouse_assets_tests.platform.monitoring.drift.newest_rows import latest

FIRST, LEARNT, DAY = date(2022, 1, 3), date(2024, 7, 29), timedelta(days=1)
SERIES = "kiosk.gold.sales"
SCHEMA = {"day": pl.Date(), "kiosk": pl.String(), "sold": pl.Float64()}
KIOSKS = {"north": 400.0, "south": 40.0, "east": 150.0, "west": 90.0}
# In summer they sell half as much as in winter; from the end of July on it becomes more.
SEASON, WEEKS = 0.5, 6

declared = forecast("kiosk.sold", series=SERIES, time="day", value="sold", by=("kiosk",))
model = replace(
    declared.model,
    learner=PlainForecast(REFERENCE),
    baselines={"last_week": PlainForecast(NAIVE)},
    gate=Gate(newest=None, leakage=None),
)
scores = replace(declared.predictions, model=model)
watched = monitor("kiosk.monitors.residuals", of=scores, kind=ResidualDrift(slices=("horizon",)))
at_once = monitor("kiosk.monitors.at_once", of=scores, kind=ResidualDrift(slices=("horizon",)))
CATALOG = Catalog((declared.features, model, scores, watched, at_once), frozenset({SERIES}))


def sold(first: date, days: int, times: float = 1.0) -> pl.DataFrame:
    """What kiosks sell: less on Sundays, more in winter."""
    chance = np.random.default_rng([1, first.toordinal()])
    rows = []
    for number in range(days):
        day = first + number * DAY
        season = 1 + SEASON * math.cos(2 * math.pi * (day.timetuple().tm_yday - 10) / 365.25)
        for kiosk, level in KIOSKS.items():
            week = 0.6 if day.weekday() == 6 else 1.0
            rows.append({"day": day, "kiosk": kiosk, "sold": times * level * season * week * chance.lognormal(0, 0.15)})
    return pl.DataFrame(rows, schema=SCHEMA)


@dataclass
class Kiosks:
    """Kiosks whose champion was trained, and forecasts at the end of each week.

    Attributes:
        root: Of everything.
        day: The first day that has not come.
    """

    root: Root
    day: date = FIRST

    def __post_init__(self) -> None:
        self.root.lakehouse.table(SERIES).create(SCHEMA)
        self.come((LEARNT - FIRST).days)
        ModelStep(model, self.root.lakehouse, self.root.registry(), 1, "test").run()
        self.predict()

    def come(self, days: int, times: float = 1.0) -> None:
        self.root.lakehouse.table(SERIES).append(sold(self.day, days, times))
        self.day += days * DAY
        self._run(declared.features.name)

    def predict(self) -> None:
        self._run(scores.name)

    def _run(self, name: str) -> None:
        root = self.root
        Runner(CATALOG, root.lakehouse, root.ingestion, root.registry, 1).run([name], run_id="test")

    @property
    def now(self) -> datetime:
        return datetime.combine(self.day, time(9), UTC)

    def week(self, times: float = 1.0) -> list[date]:
        """A week comes and is judged; the weeks that failed."""
        self.come(7, times)
        verdicts = self.judge(watched)
        self.predict()
        return sorted({one.window_start.date() for one in verdicts if one.passed is False})

    def judge(self, one, now: datetime | None = None):
        evaluation = Evaluation(self.root.lakehouse, CATALOG, self.root.registry, now or self.now, "run", pytest.fail)
        return evaluation.run([one])[0].verdicts


def test_windows_whose_outcomes_never_came_lost_no_rows_and_are_not_well(settings):
    kiosks = Kiosks(Root(settings))
    (said,) = kiosks.judge(watched, kiosks.now + timedelta(days=70))
    assert (said.passed, said.text) == (None, "Not evaluated: no window of 1w is over that has rows.")


def test_the_season_is_no_alarm_and_a_shift_of_the_outcomes_is(settings):
    kiosks = Kiosks(Root(settings))
    (early,) = kiosks.judge(watched)
    assert early.passed is None
    assert "no window of 1w is over" in early.text
    weeks = [kiosks.week() for _ in range(WEEKS)]
    assert weeks == [[]] * WEEKS
    assert sold(LEARNT + 7 * WEEKS * DAY, 7)["sold"].mean() > 1.3 * sold(LEARNT, 7)["sold"].mean(), "there is a season"
    # What was read of the tables is noted each time, so maintenance may take what is older.
    profiles = kiosks.root.lakehouse.table(platform_tables.PROFILES)
    before, count = profiles.version(), profiles.count()
    kiosks.come(1)
    kiosks.judge(watched)
    noted = profiles.version()
    assert noted > before
    assert profiles.count() == count, "no window has ended"
    kiosks.judge(watched)
    assert profiles.version() == noted, "nothing has changed since"
    kiosks.come(6)
    kiosks.judge(watched)
    kiosks.predict()
    last = kiosks.day
    assert kiosks.week(times=1.6) == [last]

    stored = kiosks.root.lakehouse.table(platform_tables.VERDICTS).scan().filter(monitor=watched.name, passed=False).collect()
    whole = stored.filter(pl.col("slice_key").is_null() | (pl.col("slice_key") == ""))
    assert set(whole["column_name"]) == {"residual_share"}
    assert whole["value"].min() > whole["threshold"].max() > 0
    assert whole["rows"].to_list() == [7 * len(KIOSKS)] * whole.height, "each outcome counts once"
    assert whole["text"].str.contains("residual_share drifted from the baseline: ks_test is").any()
    # It asks for a training as other monitors do, and what it is about needs no importance.
    asks = evidence.of_verdicts(evidence.failing(stored, {watched.name: AlertRule()}, 1), lambda *_: 0.0, 0.05)
    assert {one.cause for one in asks} == {"residual_drift"}

    kiosks.judge(at_once)
    order = ["window_start", "slice_key", "slice_value", "column_name"]
    for each, once in zip(latest(kiosks.root.lakehouse, watched.name), latest(kiosks.root.lakehouse, at_once.name), strict=True):
        assert {"1-7", "8-14", "15-28"} <= set(each["slice_value"])
        by = [*order, *(["drift_type"] if "drift_type" in each.columns else [])]
        frames = [
            one.drop("monitor", "table_version", "evaluated_at", "sequence", "date").sort(by, nulls_last=True) for one in (each, once)
        ]
        assert_frame_equal(*frames, abs_tol=1e-9)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(DeclarationError, match="write one of 1d, 1w, 1mo"):
        ResidualDrift(every="1h")

    def problems(of, known, **options):
        return [*monitor("kiosk.monitors.x", of=of, kind=ResidualDrift(**options)).problems_with(known)]

    kiosk = {one.name: one for one in declared.declarations}
    assert problems(scores, kiosk, slices=("kiosk", "horizon")) == []
    assert "Did you mean kiosk?" in problems(scores, kiosk, slices=("kiosks",))[0]
    assert "is neither a table of predictions nor the log of an endpoint" in problems(declared.features, kiosk)[0]
    assert "predicts no number" in problems(scored, DECLARED)[0]
