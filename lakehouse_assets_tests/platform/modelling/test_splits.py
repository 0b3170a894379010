"""Folds: never a row on both sides, nothing learnt that was not known, the newest rows tested, and what is missing said."""

import re
from dataclasses import replace
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


def folds_of_rows(examples, folds):
    """The fold that each row is tested in, by the row's id."""
    return {row: fold.name for fold in folds for row in examples.filter(fold.test)["id"]}


BY_HASH = {
    "group": (lambda count: GroupSplit("customer", count), r"at least 2$"),
    "strata": (lambda count: StratifiedSplit("target", count), "needs rows in at least two of"),
}


@pytest.mark.parametrize(("split_of", "too_few"), BY_HASH.values(), ids=BY_HASH)
@settings(deadline=None, max_examples=80)
@given(st.data())
def test_rows_that_come_move_no_other_row_to_another_fold(split_of, too_few, data):
    examples = events(data).with_columns(customer=pl.when(pl.col("customer") != "c0").then("customer"))
    split = split_of(data.draw(st.integers(2, 6)))
    order = data.draw(st.permutations(range(examples.height)))
    # While groups are few, one that is new may move others: rows that come are of those that are there.
    first = examples.with_row_index("__row").unique("customer", keep="any", maintain_order=True)["__row"].to_list()
    known: dict[int, str] = {}
    for rows in (examples.height // 3, examples.height // 2, examples.height):
        there = examples[sorted({*first, *order[:rows]})]
        try:
            folds = split.folds(there, at="at")
        except NotEnoughData as reason:
            assert re.search(too_few, str(reason))  # noqa: PT017
            continue
        check(there, folds)
        now = folds_of_rows(there, folds)
        assert known.items() <= now.items() or isinstance(split, StratifiedSplit)
        assert all(now.get(row, name) == name for row, name in known.items())
        known |= now


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_group_is_never_on_both_sides_and_every_row_is_tested_once(data):
    examples = events(data).with_columns(customer=pl.when(pl.col("customer") != "c0").then("customer"))
    split = GroupSplit("customer", count=data.draw(st.integers(2, 6)))
    try:
        folds = split.folds(examples, at="at")
    except NotEnoughData:
        folds = []
        assert examples["customer"].n_unique() < 2
    tested = sorted(row for fold in folds for row in sides(examples, fold)[1]["_row"])
    assert tested == (list(range(examples.height)) if folds else [])
    for fold in folds:
        train, test = sides(examples, fold)
        assert not set(train["customer"]) & set(test["customer"])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_fold_has_all_strata_on_both_sides(data):
    examples = events(data)
    values = set(examples["target"])
    try:
        folds = StratifiedSplit("target", count=data.draw(st.integers(2, 6))).folds(examples, at="at")
    except NotEnoughData as reason:
        assert "more rows are needed" in str(reason)  # noqa: PT017
        return
    for fold in folds:
        train, test = sides(examples, fold)
        assert set(train["target"]) == set(test["target"]) == values


def test_strata_and_groups_have_about_the_same_share_in_each_fold():
    examples = pl.DataFrame({"id": range(4000), "group": [f"g{number // 8}" for number in range(4000)]})
    examples = examples.with_columns(target=pl.col("id") % 10 == 0)
    for split in (StratifiedSplit("target"), GroupSplit("group")):
        folds = split.folds(examples, at="id")
        assert [fold.name for fold in folds] == ["1", "2", "3", "4", "5"]
        parts = [examples.filter(fold.test) for fold in folds]
        assert all(part.height == pytest.approx(800, rel=0.15) for part in parts)
        assert all(part["target"].mean() == pytest.approx(0.1, abs=0.03) for part in parts)


def test_what_lacks_rows_for_strata_or_groups_is_named():
    examples = pl.DataFrame({"id": range(60), "target": ["usual"] * 58 + ["rare", "rarer"]})
    with pytest.raises(NotEnoughData, match=r"each value of 'target' needs rows in at least two of 5 folds.*'rare' has 1, in 1 of them"):
        StratifiedSplit("target").folds(examples, at="id")


@pytest.mark.parametrize("groups", [2, 3, 5, 6, 8, 10, 30, 99])
def test_few_groups_are_dealt_out_so_that_every_fold_has_about_as_many(groups):
    examples = pl.DataFrame({"id": range(groups * 4), "group": [f"g{number % groups}" for number in range(groups * 4)]})
    sizes = [examples.filter(fold.test)["group"].n_unique() for fold in GroupSplit("group").folds(examples, at="id")]
    assert len(sizes) == min(groups, 5)
    assert max(sizes) - min(sizes) <= 1


def test_a_count_that_works_is_named_where_the_given_one_does_not():
    split, said = StratifiedSplit("target"), 0
    for number in range(400):
        pair = pl.DataFrame({"id": [number, 1000 + number] * 2, "target": ["a", "a", "b", "b"]})
        try:
            split.folds(pair, at="id")
        except NotEnoughData as reason:
            if found := re.search(r"count=(\d+) divides them", str(reason)):
                said += 1
                assert len(replace(split, count=int(found[1])).folds(pair, at="id")) == 2
            else:
                smaller = [replace(split, count=count) for count in range(2, split.count)]
                assert not [one for one in smaller if _divides(one, pair)]
    assert said > 20


def _divides(split, examples):
    try:
        return bool(split.folds(examples, at="id"))
    except NotEnoughData:
        return False


@pytest.mark.parametrize(
    "types",
    [
        [pl.String, pl.Categorical, pl.Enum(["0", "1", "2", "3", "4", "5"]), pl.Enum(["5", "4", "3", "2", "1", "0"])],
        [pl.Int64, pl.Int8, pl.UInt32, pl.String],
    ],
    ids=["texts", "whole numbers"],
)
def test_how_a_value_is_stored_moves_no_row_to_another_fold(types):
    rows = pl.DataFrame({"key": ["0", "1", "2", "3", "4", "5"] * 10, "id": range(60), "target": [0, 1] * 30})
    for split in (GroupSplit("key", 3), StratifiedSplit("target", 3)):
        stored = [
            rows.with_columns(pl.col("key").cast(pl.Int64).cast(one) if one.is_integer() else pl.col("key").cast(one)) for one in types
        ]
        found = [folds_of_rows(examples, split.folds(examples, at="id")) for examples in stored]
        assert all(one == found[0] for one in found)
        assert len({*found[0].values()}) > 1


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
