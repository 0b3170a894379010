"""Folds: never a row on both sides, nothing learnt that was not known, the newest rows tested, and what is missing said."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.learning import NotEnoughData
from lakehouse_assets.platform.modelling.splits import GroupSplit, RollingOrigins, RollingTime, StratifiedSplit, TimeHoldout

FIRST = date(2011, 1, 1)
START = datetime(2011, 1, 1, tzinfo=UTC)


def forecasts(days, horizon, *, late=0, named=True):
    """Every day of a series as origin, each of its next days that is over as a row; `late` days pass until an outcome is known."""
    last = FIRST + timedelta(days=days - 1)
    rows = [
        (origin, ahead, datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1 + late))
        for origin in (FIRST + timedelta(days=number) for number in range(days))
        for ahead in range(1, horizon + 1)
        if (day := origin + timedelta(days=ahead)) <= last
    ]
    schema = {"origin": pl.Date, "horizon" if named else "ahead": pl.Int32, "label_known_at": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema=schema, orient="row")


def events(data):
    """Events of customers at any time, whose labels come some days later."""
    rows = data.draw(st.lists(st.tuples(st.integers(0, 60 * 86400), st.integers(0, 20), st.integers(0, 5)), min_size=2, max_size=60))
    return pl.DataFrame(
        [
            (number, START + timedelta(seconds=seconds), START + timedelta(seconds=seconds, days=late), f"c{customer}", customer % 2)
            for number, (seconds, late, customer) in enumerate(rows)
        ],
        schema={
            "id": pl.Int64,
            "at": pl.Datetime("us", "UTC"),
            "label_known_at": pl.Datetime("us", "UTC"),
            "customer": pl.String,
            "target": pl.Int64,
        },
        orient="row",
    )


def sides(examples, fold):
    numbered = examples.with_row_index("_row")
    return numbered.filter(fold.train), numbered.filter(fold.test)


def check(examples, folds):
    assert [fold.name for fold in folds] == sorted({fold.name for fold in folds})
    for fold in folds:
        train, test = sides(examples, fold)
        assert not set(train["_row"]) & set(test["_row"])
        assert train.height
        assert test.height
        if fold.known_until:
            assert train["label_known_at"].max() <= fold.known_until


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 90), st.integers(1, 14), st.integers(1, 20), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_origins_slide_with_the_data_and_learn_nothing_later(days, horizon, step, count, late, named):
    examples = forecasts(days, horizon, late=0 if not named else late, named=named)
    late = late if named else 0
    split = RollingOrigins(horizon=horizon, count=count, step=step, ahead="horizon")
    if days < horizon + 2 + late:
        with pytest.raises(NotEnoughData, match="a test needs 1 days"):
            split.folds(examples, at="origin")
        return
    folds = split.folds(examples, at="origin")
    check(examples, folds)
    assert folds[-1].name == (FIRST + timedelta(days=days - 1 - horizon)).isoformat()
    assert len(folds) == min(count, 1 + (days - 2 - horizon - late) // step)
    for earlier, later in pairwise(date.fromisoformat(fold.name) for fold in folds):
        assert later - earlier == timedelta(days=step)
    for fold in folds:
        train, test = sides(examples, fold)
        assert test["origin"].unique().to_list() == [date.fromisoformat(fold.name)]
        assert test.height == horizon
        assert train["origin"].max() < test["origin"][0]


def test_the_origins_of_the_champion_are_tested_too_where_the_examples_still_allow_it():
    examples = forecasts(40, 7)
    split = RollingOrigins(horizon=7, count=2, least=10)
    own = [fold.name for fold in split.folds(examples, at="origin")]
    assert own == ["2011-01-26", "2011-02-02"]
    also = ["2011-01-13", "2011-01-26", "2011-01-05", "2011-02-05", "2010-01-01", "3"]
    folds = split.folds(examples, at="origin", also=also)
    assert [fold.name for fold in folds] == ["2011-01-13", *own]
    check(examples, folds)


def test_where_an_origin_is_missing_the_one_before_it_is_tested():
    examples = forecasts(60, 7).filter(pl.col("origin") != date(2011, 2, 15))
    names = [fold.name for fold in RollingOrigins(horizon=7, count=3).folds(examples, at="origin")]
    assert names == ["2011-02-07", "2011-02-14", "2011-02-22"]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_periods_never_share_a_row_nor_learn_a_label_that_was_not_known(data):
    examples = events(data)
    every, gap = timedelta(days=data.draw(st.integers(1, 20))), timedelta(hours=data.draw(st.integers(0, 100)))
    split = RollingTime(every=every, count=data.draw(st.integers(1, 5)), gap=gap)
    try:
        folds = split.folds(examples, at="at")
    except NotEnoughData as reason:
        assert "leaves none to learn from" in str(reason)  # noqa: PT017
        return
    check(examples, folds)
    tested = [row for fold in folds for row in sides(examples, fold)[1]["_row"]]
    assert len(tested) == len(set(tested))
    for fold in folds:
        train, test = sides(examples, fold)
        assert fold.known_until is not None
        assert train["at"].max() <= fold.known_until - gap
        assert fold.known_until < test["at"].min()
        assert test["at"].max() <= fold.known_until + every


def test_the_holdout_ends_with_the_newest_row_and_keeps_the_champions_period():
    at = pl.datetime_range(START, START + timedelta(days=30), "6h", eager=True, time_zone="UTC")
    examples = pl.DataFrame({"at": at, "label_known_at": at + timedelta(days=1)})
    split = TimeHoldout(test=timedelta(days=7), gap=timedelta(days=2))
    (fold,) = split.folds(examples, at="at")
    assert (fold.name, fold.known_until) == ("2011-01-24", START + timedelta(days=23))
    train, test = sides(examples, fold)
    assert (train["at"].max(), test["at"].max()) == (START + timedelta(days=21), at.max())
    folds = split.folds(examples, at="at", also=["2011-01-20T06:00:00", "2011-01-30", "2010-01-01", "1"])
    assert [fold.name for fold in folds] == ["2011-01-20T06:00:00", "2011-01-24"]


def test_the_end_of_a_date_counts():
    days = pl.date_range(FIRST, FIRST + timedelta(days=9), eager=True)
    examples = pl.DataFrame({"day": days, "label_known_at": days.cast(pl.Datetime("us", "UTC")) + timedelta(days=1)})
    (fold,) = TimeHoldout(test=timedelta(days=3)).folds(examples, at="day")
    train, test = sides(examples, fold)
    assert (train["day"].max(), test["day"].min(), test.height) == (date(2011, 1, 7), date(2011, 1, 8), 3)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_group_is_never_on_both_sides_and_every_row_is_tested_once(data):
    examples = events(data).with_columns(customer=pl.when(pl.col("customer") != "c0").then("customer"))
    split = GroupSplit("customer", count=data.draw(st.integers(2, 6)))
    if examples["customer"].n_unique() < 2:
        with pytest.raises(NotEnoughData, match="at least 2"):
            split.folds(examples, at="at")
        return
    folds = split.folds(examples, at="at")
    check(examples, folds)
    assert sorted(row for fold in folds for row in sides(examples, fold)[1]["_row"]) == list(range(examples.height))
    for fold in folds:
        train, test = sides(examples, fold)
        assert not set(train["customer"]) & set(test["customer"])
        part = test.sample(1, seed=1).drop("_row")
        assert part.filter(fold.test).height == 1, "a row's side depends on the row alone"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_strata_have_the_same_share_in_each_fold_and_every_row_is_tested_once(data):
    examples = events(data)
    count = data.draw(st.integers(2, 6))
    sizes = examples["target"].value_counts()
    split = StratifiedSplit("target", count=count)
    if sizes["count"].min() < count:
        with pytest.raises(NotEnoughData, match=f"needs {count} rows"):
            split.folds(examples, at="at")
        return
    folds = split.folds(examples, at="at")
    check(examples, folds)
    assert sorted(row for fold in folds for row in sides(examples, fold)[1]["_row"]) == list(range(examples.height))
    for fold in folds:
        _, test = sides(examples, fold)
        for value, size in sizes.iter_rows():
            assert abs(test.filter(target=value).height - size / count) < 1


def test_a_number_with_many_values_is_no_stratum():
    with pytest.raises(ValueError, match="split by time"):
        StratifiedSplit("x").folds(pl.DataFrame({"id": range(500), "x": range(500)}), at="id")


@pytest.mark.parametrize(
    "split",
    [
        RollingOrigins(horizon=7),
        RollingTime(every=timedelta(days=7)),
        TimeHoldout(test=timedelta(days=7)),
        GroupSplit("id"),
        StratifiedSplit("id"),
    ],
    ids=lambda split: type(split).__name__,
)
def test_without_rows_it_says_what_is_missing(split):
    empty = pl.DataFrame(schema={"day": pl.Date, "id": pl.Int64, "label_known_at": pl.Datetime("us", "UTC")})
    with pytest.raises(NotEnoughData, match=r"there is no|0 value"):
        split.folds(empty, at="day")
