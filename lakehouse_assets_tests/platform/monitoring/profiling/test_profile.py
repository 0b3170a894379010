"""Profiles: statistics equal those of numpy and Polars on the same rows, for every type and for odd values, by windows and slices."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.monitoring.profiling.cells import LEVELS as CELLS
from lakehouse_assets.platform.monitoring.profiling.cells import cells_of
from lakehouse_assets.platform.monitoring.profiling.groups import MOST_GROUPS, MOST_SLICES, CannotProfile, Groups
from lakehouse_assets.platform.monitoring.profiling.profile import SAMPLED, SCHEMA, TABLE, Profile, profile
from lakehouse_assets.platform.monitoring.profiling.statistics import LEVELS
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

START = datetime(2026, 1, 5, tzinfo=UTC)
NUMBERS = st.one_of(st.none(), st.sampled_from([0.0, -0.0, float("nan"), float("inf"), float("-inf")]), st.floats(-1e6, 1e6))
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "ß", "a b", "ab"]))


def about(found: Profile, column: str, **where: object) -> dict:
    rows = found.frame.filter(pl.col("column_name") == column, **where)
    return rows.row(0, named=True)


def items(row: dict) -> dict[str, int]:
    return {item["item"]: item["count"] for item in row["frequent_items"]}


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=60))
def test_statistics_of_numbers_are_those_of_the_rows(numbers):
    row = about(profile(pl.LazyFrame({"x": pl.Series(numbers, dtype=pl.Float64)})), "x")
    values = np.array([number for number in numbers if number is not None])
    finite = values[np.isfinite(values)]
    assert (row["count"], row["num_nulls"]) == (len(values), len(numbers) - len(values))
    assert row["num_nan"] == np.isnan(values).sum()
    assert row["num_infinite"] == np.isinf(values).sum()
    assert row["num_zeros"] == (values == 0).sum()
    assert row["percent_null"] == pytest.approx(100 * (len(numbers) - len(values)) / len(numbers))
    assert sum(row["cell_counts"]) == len(values) - np.isnan(values).sum()
    if not len(finite):
        assert (row["avg"], row["min"], row["quantiles"]) == (None, None, None)
        return
    assert (row["min"], row["max"]) == (finite.min(), finite.max())
    assert row["avg"] == pytest.approx(finite.mean(), rel=1e-9, abs=1e-6)
    if len(finite) > 1:
        assert row["stddev"] == pytest.approx(finite.std(ddof=1), rel=1e-6, abs=1e-3)
    if len(finite) == len(values):
        assert row["quantiles"] == np.quantile(finite, LEVELS, method="inverted_cdf").tolist()
        assert row["median"] == np.quantile(finite, 0.5, method="inverted_cdf")
        assert row["distinct_count"] == len(np.unique(finite))


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=60))
def test_statistics_of_texts_are_those_of_the_rows(texts):
    row = about(profile(pl.LazyFrame({"x": pl.Series(texts, dtype=pl.String)})), "x")
    values = [text for text in texts if text is not None]
    lengths = [len(text) for text in values]
    assert (row["count"], row["distinct_count"], row["items_complete"]) == (len(values), len(set(values)), True)
    assert items(row) == {text: values.count(text) for text in values}
    assert (row["min_length"], row["max_length"]) == (min(lengths, default=None), max(lengths, default=None))
    assert row["avg_length"] == (pytest.approx(sum(lengths) / len(lengths)) if lengths else None)


def frame(rows: int, seed: int = 1) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "at": pl.Series([START]).dt.offset_by("0d").extend_constant(START, rows - 1)
            + pl.Series(random.integers(0, 20 * 24, rows) * 3_600_000_000).cast(pl.Duration("us")),
            "few": random.integers(0, 9, rows),
            "much": random.lognormal(size=rows),
            "kind": pl.Series(random.choice(["a", "b", "c", ""], rows)).replace("", None),
            "flag": random.random(rows) < 0.3,
        }
    ).with_columns(much=pl.when(pl.col("few") > 0).then("much"))


@pytest.mark.parametrize("every", ["1d", "1w", "6h", "1mo"])
def test_a_window_is_the_profile_of_its_rows(every):
    rows = frame(3_000)
    whole = profile(rows.lazy())
    found = profile(rows.lazy(), Groups("at", every), whole.cells)
    windows = found.frame.partition_by("window_start", "window_end", as_dict=True, include_key=False)
    truncated = rows.with_columns(window=pl.col("at").dt.truncate(every))
    assert len(windows) == truncated["window"].n_unique()
    for (start, end), part in windows.items():
        inside = rows.filter(pl.col("at") >= start, pl.col("at") < end)
        alone = profile(inside.lazy(), None, whole.cells).frame
        # Sums of floats add up in another order.
        assert_same(part.drop("granularity"), alone.drop("granularity", "window_start", "window_end"))


def test_a_slice_is_the_profile_of_its_rows_and_all_rows_are_the_whole():
    rows = frame(2_000)
    whole = profile(rows.lazy())
    found = profile(rows.lazy(), Groups(slices=("kind", "flag")), whole.cells)
    assert_same(found.frame.filter(pl.col("slice_key").is_null()), whole.frame)
    slices = found.frame.filter(pl.col("slice_key").is_not_null()).partition_by("slice_key", "slice_value", as_dict=True)
    assert set(slices) == {("kind", "a"), ("kind", "b"), ("kind", "c"), ("kind", None), ("flag", "true"), ("flag", "false")}
    for (key, value), part in slices.items():
        inside = rows.filter(pl.col(key).cast(pl.String).eq_missing(pl.lit(value, pl.String)))
        assert_same(part.drop("slice_key", "slice_value"), profile(inside.lazy(), None, whole.cells).frame.drop("slice_key", "slice_value"))


def assert_same(left: pl.DataFrame, right: pl.DataFrame) -> None:
    """Equal, but for the last digits of sums and for the estimate of how many differ."""
    from polars.testing import assert_frame_equal

    estimates = ["distinct_count", "percent_distinct"]
    assert_frame_equal(left.drop(estimates), right.drop(estimates), abs_tol=1e-9)
    assert np.allclose(left["distinct_count"].fill_null(0), right["distinct_count"].fill_null(0), rtol=0.15, atol=2)


def test_the_order_of_rows_does_not_matter():
    rows = frame(2_000)
    cells = profile(rows.lazy()).cells
    shuffled = profile(rows.sample(fraction=1, shuffle=True, seed=1).lazy(), None, cells)
    assert_same(shuffled.frame, profile(rows.lazy(), None, cells).frame)


def test_rows_without_a_time_are_a_window_of_their_own():
    rows = frame(200).with_columns(at=pl.when(pl.col("few") > 0).then("at"))
    found = profile(rows.lazy(), Groups("at", "1mo"))
    nowhere = found.frame.filter(pl.col("window_start").is_null())
    assert nowhere.filter(pl.col("column_name") == TABLE)["count"].item() == rows["at"].null_count()
    assert found.frame.filter(pl.col("column_name") == TABLE)["count"].sum() == 200


TYPES = {
    "null": pl.Series([None, None, None], dtype=pl.Null),
    "all_null": pl.Series([None, None, None], dtype=pl.Float64),
    "constant": pl.Series([7, 7, 7]),
    "boolean": pl.Series([True, None, False]),
    "decimal": pl.Series([Decimal("1.50"), Decimal("2.25"), None], dtype=pl.Decimal(10, 2)),
    "date": pl.Series([date(1970, 1, 2), None, date(1970, 1, 11)]),
    "moment": pl.Series([START, None, START + timedelta(seconds=10)], dtype=pl.Datetime("us", "UTC")),
    "millis": pl.Series([1_000, None, None]).cast(pl.Datetime("ms")),
    "span": pl.Series([timedelta(seconds=3), timedelta(0), None]),
    "clock": pl.Series([time(1), None, time(2)]),
    "enum": pl.Series(["x", "y", None], dtype=pl.Enum(["x", "y"])),
    "categorical": pl.Series(["x", "y", None], dtype=pl.Categorical),
    "list": pl.Series([[1], None, [2, 3]]),
    "struct": pl.Series([{"a": 1}, {"a": 2}, {"a": 3}]),
    "binary": pl.Series([b"x", None, b""]),
    "large": pl.Series([2**62, 2**62 + 1, None]),
    "unsigned": pl.Series([2**63, 1, None], dtype=pl.UInt64),
    "small": pl.Series([1, None, 3], dtype=pl.Int8),
}


def test_every_type_has_a_profile():
    found = profile(pl.LazyFrame(TYPES), Groups(slices=("boolean",)))
    assert about(found, TABLE)["non_null_columns"] == [name for name in TYPES if name not in {"null", "all_null"}]
    for name, values in TYPES.items():
        row = about(found, name)
        assert (row["count"], row["num_nulls"]) == (3 - values.null_count(), values.null_count()), name
    assert about(found, "all_null")["avg"] is None
    assert (about(found, "constant")["stddev"], about(found, "constant")["distinct_count"]) == (0, 1)
    assert items(about(found, "boolean")) == {"true": 1, "false": 1}
    assert about(found, "decimal")["avg"] == 1.875
    assert (about(found, "date")["min"], about(found, "date")["max"]) == (1, 10)
    assert about(found, "moment")["max"] - about(found, "moment")["min"] == 10
    assert (about(found, "millis")["avg"], about(found, "span")["max"], about(found, "clock")["min"]) == (1, 3, 3600)
    assert items(about(found, "enum")) == items(about(found, "categorical")) == {"x": 1, "y": 1}
    assert about(found, "list")["distinct_count"] is None
    assert about(found, "unsigned")["max"] == 2**63


def test_an_empty_table_has_a_profile():
    for groups in (Groups(), Groups("at", "1d"), Groups(slices=("kind",))):
        found = profile(frame(1).clear().lazy(), groups, blocks=True)
        assert found.frame.filter(pl.col("column_name") == TABLE)["count"].sum() == 0
    with pytest.raises(CannotProfile, match="no columns"):
        profile(pl.LazyFrame())


def test_texts_with_many_values_are_counted_within_a_few_per_cent():
    random = np.random.default_rng(2)
    ids = [f"id-{number}" for number in range(300_000)]
    texts = (
        pl.Series(ids)
        .to_frame("id")
        .with_columns(often=pl.when(pl.Series(random.random(300_000) < 0.3)).then(pl.lit("n/a")).otherwise("id"))
    )
    found = profile(texts.lazy())
    assert about(found, "id")["distinct_count"] == pytest.approx(300_000, rel=0.06)
    assert about(found, "id")["percent_distinct"] == pytest.approx(100, abs=6)
    assert not about(found, "id")["items_complete"]
    row = about(found, "often")
    assert row["frequent_items"][0] == {"item": "n/a", "count": (texts["often"] == "n/a").sum()}
    # A value that the cells do not know is found when it becomes frequent.
    later = profile(texts.with_columns(id=pl.when(pl.col("often") == "n/a").then(pl.lit("new")).otherwise("id")).lazy(), None, found.cells)
    assert about(later, "id")["frequent_items"][0]["item"] == "new"


def test_quantiles_of_many_numbers_are_right_within_a_cell():
    values = np.random.default_rng(3).lognormal(sigma=2, size=SAMPLED * 2)
    row = about(profile(pl.LazyFrame({"x": values})), "x")
    ranks = np.searchsorted(np.sort(values), row["quantiles"]) / len(values)
    assert np.abs(ranks - LEVELS).max() < 2 / CELLS
    assert max(row["cell_counts"]) < len(values) * 2 / CELLS


def test_a_value_of_many_rows_has_a_cell_of_its_own():
    values = np.where(np.random.default_rng(4).random(50_000) < 0.6, 0.0, np.random.default_rng(5).exponential(size=50_000))
    found = profile(pl.LazyFrame({"x": values}))
    row = about(found, "x")
    assert row["frequent_items"] == [{"item": "0", "count": (values == 0).sum()}]
    assert row["median"] == 0


def test_a_profile_is_written_to_a_delta_table_as_it_is(tmp_path):
    found = profile(frame(500).lazy(), Groups("at", "1w", ("kind",))).frame
    table = Lakehouse(str(tmp_path)).table("platform.monitoring.profiles")
    table.create(SCHEMA)
    table.append(found)
    stored = table.scan().collect()
    assert stored.schema == SCHEMA
    assert stored.equals(found)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (lambda: Groups("att", "1d"), "there is no column 'att': did you mean at"),
        (lambda: Groups("few", "1d"), "few is Int64, which is no time: columns of time are at"),
        (lambda: Groups("at", "1 day"), "'1 day' is no length of a window: give a number with m, h, d, w, mo, q or y"),
        (lambda: Groups("at", "0d"), "is no length"),
        (lambda: Groups(None, "1d"), "windows of 1d need a column of time"),
        (lambda: Groups(slices=("kinds",)), "there is no column 'kinds': did you mean kind"),
        (
            lambda: Groups("at", "1h", ("few",)),
            f"a profile has at most {MOST_GROUPS:,} windows and slices, and these are more: choose longer windows or fewer slices",
        ),
        (
            lambda: Groups(slices=("at",)),
            f"at has more than {MOST_SLICES} values, and no more can be slices: choose a column with fewer values",
        ),
    ],
)
def test_what_cannot_be_profiled_says_what_to_do(groups, said):
    with pytest.raises(CannotProfile) as refused:
        profile(frame(5_000).lazy(), groups())
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).normal(size=20_000),
        np.random.default_rng(2).lognormal(sigma=5, size=20_000),
        np.random.default_rng(3).poisson(3, 20_000) - 2.0,
        np.random.default_rng(4).random(20_000) * 1e-3 + 1e6,
        np.zeros(20_000),
        np.array([float("nan")] * 20_000),
    ],
    ids=["normal", "skewed", "integers", "narrow", "constant", "nan"],
)
def test_the_cell_of_each_of_many_numbers_is_that_of_a_binary_search(values):
    cells = cells_of(pl.Series("x", values))
    edges = cells.array
    odd = [0.0, -0.0, 5e-324, -5e-324, np.inf, -np.inf, np.finfo(float).max, np.finfo(float).min]
    numbers = np.concatenate([values, -values, edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf), odd])
    expected = np.where(np.isnan(numbers), cells.size + 1, np.searchsorted(edges, numbers))
    assert np.array_equal(cells.codes(pl.Series(numbers)), expected)
