"""A compiled model says the same as the one that it was compiled from, to the bit, whatever the rows."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import TrainingRows
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.learners.compiled import CompiledBoosted

INPUTS = ("amount", "items", "small", "country", "is_new", "day", "at")
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = {
    "amount": pl.Float64, "items": pl.Int64, "small": pl.Int16, "country": pl.String, "is_new": pl.Boolean, "day": pl.Date,
    "at": pl.Datetime("us", "UTC"),
}  # fmt: skip


def learnt(objective: str, *, with_times: bool, **options) -> CompiledBoosted:
    draw = np.random.default_rng(3)
    count = 400
    rows = pl.DataFrame(
        {
            "amount": np.where(draw.random(count) < 0.1, np.nan, draw.gamma(2, 20, count)),
            "items": draw.integers(1, 9, count),
            "small": draw.integers(-5, 5, count),
            "country": draw.choice(["GB", "DE", "FR"], count),
            "is_new": draw.random(count) < 0.4,
            "day": [date(2024, 1, 1) + timedelta(days=int(one)) for one in draw.integers(0, 300, count)],
            "at": [FIRST + timedelta(seconds=number) for number in range(count)],
        },
        schema=SCHEMA,
        nan_to_null=True,
    )
    chance = 1 / (1 + np.exp(-(rows["amount"].fill_null(30).to_numpy() - 40) / 10 - rows["is_new"].to_numpy()))
    kinds = {
        "binary": draw.random(count) < chance,
        "multiclass": np.where(chance > 0.6, "high", np.where(draw.random(count) < 0.5, "low", "none")),
        "quantiles": chance * 100 + draw.normal(0, 5, count),
        "regression": chance,
    }
    rows = rows.with_columns(pl.Series("target", kinds[objective]), pl.Series("key", range(count)))
    inputs = INPUTS if with_times else INPUTS[:5]
    training = TrainingRows(rows.lazy(), ("key",), "at", "target", inputs)
    fitted = GradientBoosting(objective=objective, rounds=20, **options).fit(training, seed=1, compute=Local())
    compiled = fitted.compiled()
    assert isinstance(compiled, CompiledBoosted)
    return compiled


MODELS = {
    "binary": {"with_times": False, "calibrated": True},
    "multiclass": {"with_times": False, "calibrated": True},
    "quantiles": {"with_times": False, "quantiles": (0.1, 0.5, 0.9)},
    "regression": {"with_times": True},
}


@pytest.fixture(scope="module")
def models():
    made = {}

    def of(objective: str) -> CompiledBoosted:
        if objective not in made:
            made[objective] = learnt(objective, **MODELS[objective])
        return made[objective]

    return of


ROW = st.fixed_dictionaries(
    {
        "amount": st.none() | st.floats(),
        "items": st.none() | st.integers(-(2**63), 2**63 - 1),
        "small": st.none() | st.integers(-(2**15), 2**15 - 1),
        "country": st.none() | st.sampled_from(["GB", "DE", "FR", "", "XX", "gb"]) | st.text(max_size=5),
        "is_new": st.none() | st.booleans(),
        "day": st.none() | st.dates(),
        "at": st.none() | st.datetimes(timezones=st.just(UTC)),
    }
)


@pytest.mark.parametrize("objective", MODELS)
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=0, max_size=5))
def test_a_compiled_model_says_the_same_to_the_bit(models, objective, rows):
    compiled = models(objective)
    frame = pl.DataFrame(rows, schema=SCHEMA)
    assert_frame_equal(compiled.predict(frame), compiled.boosted.predict(frame), check_exact=True)
    assert_frame_equal(compiled.contributions(frame, 4), compiled.boosted.contributions(frame, 4), check_exact=True)


def test_columns_of_other_types_and_orders_are_read_as_before(models):
    compiled = models("binary")
    rows = pl.DataFrame({"is_new": [1, 0], "country": [None, None], "small": [1.0, 2.5], "items": ["1", "2"], "amount": [1, 2]})
    rows = rows.with_columns(pl.col("items").cast(pl.Decimal(10, 2)))
    assert_frame_equal(compiled.predict(rows), compiled.boosted.predict(rows), check_exact=True)
    with pytest.raises(ValueError, match="the model needs amount"):
        compiled.predict(rows.drop("amount"))
    with pytest.raises(TypeError, match="country"):
        compiled.predict(rows.with_columns(country=pl.lit(1)))
    with pytest.raises(TypeError, match="cannot be saved"):
        compiled.save(None)
