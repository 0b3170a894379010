"""The streaming and the columnar twin give what `Windows.compute` gives, to the bit."""

import struct
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.features.online.columnar import ColumnarWindows, DoesNotFit
from lakehouse_assets.platform.features.online.streaming import StreamingWindows
from lakehouse_assets.platform.features.rolling import unscaled
from lakehouse_assets.platform.features.windows import STATISTICS, Windows

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema(
    {
        "card": pl.String,
        "at": pl.Datetime("us", "UTC"),
        "amount": pl.Float64,
        "device": pl.String,
        "pieces": pl.Int64,
        "seen": pl.Datetime("us", "UTC"),
    }
)
NUMBERS = ("count", "distinct", "sum", "mean", "std", "min", "max", "first", "last")
WINDOWS = Windows(
    ("card",),
    "at",
    ("1h", "3h", "1d"),
    {
        "*": ("count",),
        "amount": NUMBERS,
        "device": ("count", "distinct", "min", "max", "first", "last"),
        "pieces": NUMBERS,
        "seen": ("min", "last"),
    },
)

amounts = st.one_of(
    st.none(),
    st.integers(-10_000, 10_000).map(lambda cents: cents / 100),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([1e30, -1e30, 1.7e308, 1e16, 0.00005, 0.00015, 2.5, 1e22]),
).map(lambda value: 0.0 if value == 0 else value)  # minus zero is zero
events = st.tuples(
    st.integers(0, 60).map(lambda half: START + timedelta(minutes=half * 30)),
    amounts,
    st.sampled_from([None, "a", "b", "Z", "ä", "𝄞"]),
    st.one_of(st.none(), st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1)),
    st.sampled_from([None, START, START + timedelta(days=1)]),
)


def bits(value: Any) -> Any:
    return struct.pack(">d", value) if isinstance(value, float) else (type(value), value)


@settings(max_examples=150, deadline=None)
@given(st.lists(events, min_size=1, max_size=12), st.sampled_from([0, 2, 4, 9]))
@example([(START, 1e308, None, None, None), (START, 1e308, None, None, None), (START, -1.0, None, None, None)], 4)
@example([(START + timedelta(minutes=place), 0.25 * place, "ab"[place % 2], place, START) for place in range(12)], 4)
@example([(START, 0.1, None, 2**62, None), (START + timedelta(hours=1), 0.2, None, 2**62, None)], 4)
def test_each_row_equals_that_of_the_frame(history: list[tuple], decimals: int) -> None:
    windows = Windows(WINDOWS.entity, WINDOWS.time, WINDOWS.windows, WINDOWS.values, decimals=decimals)
    frame = pl.DataFrame([("card", *event) for event in history], SCHEMA, orient="row")
    expected = windows.compute(frame.lazy()).collect()
    twin = StreamingWindows(windows)
    assert list(twin.columns) == list(windows.columns())

    rows = expected.rows(named=True)
    given_: list[tuple[list[int], list[tuple]]] = []  # of each row its events, in the order in which they came
    for row in rows:
        so_far = [event for event in history if event[0] <= row["at"]]
        values = [twin.values_of(dict(zip(["amount", "device", "pieces", "seen"], event[1:], strict=True))) for event in so_far]
        given_.append(([(event[0] - START) // timedelta(microseconds=1) for event in so_far], values))
        times, values = zip(*sorted(zip(*given_[-1], strict=True), key=lambda event: event[0]), strict=True)
        found = dict(zip(twin.columns, twin.row(times, values), strict=True))
        assert {name: bits(value) for name, value in found.items()} == {name: bits(row[name]) for name in twin.columns}

    ends = list(accumulate(len(times) for times, _ in given_))
    columns = list(zip(*(values for _, its in given_ for values in its), strict=True))
    try:
        at_once = ColumnarWindows(twin).rows(ends, [time for times, _ in given_ for time in times], columns)
    except DoesNotFit:
        assert any(abs(value or 0) > 1e5 for event in history for value in (event[1], event[3]))
        return
    for name, column in zip(twin.columns, at_once, strict=True):
        assert list(map(bits, column)) == [bits(row[name]) for row in rows], name


def test_all_statistics_are_known() -> None:
    Windows(("card",), "at", ("1h",), {"amount": tuple(STATISTICS)})
    assert StreamingWindows(Windows(("card",), "at", ("1h",), {"amount": tuple(STATISTICS)})).row([0], [(1.5,)])[0] == 1


def test_numbers_of_another_type_become_floats() -> None:
    twin = StreamingWindows(Windows(("card",), "at", ("1h",), {"amount": ("min",)}), ("amount",))
    assert twin.values_of({"amount": 3}) == (3.0,)
    assert isinstance(twin.values_of({"amount": 3})[0], float)
    assert twin.values_of({}) == (None,)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_finite_number_does_not_count(value: float) -> None:
    twin = StreamingWindows(Windows(("card",), "at", ("1h",), {"amount": ("count",)}))
    assert twin.values_of({"amount": value}) == (None,)


def test_polars_divides_by_a_constant_otherwise_where_there_is_one_row() -> None:
    """So `rolling.unscaled` divides by a column: a statistic must not depend on how many rows are computed with it."""
    whole = pl.DataFrame({"whole": [9999.0, 1.0]})
    assert whole.select(pl.col("whole") / 100.0).item(0, 0) != whole[:1].select(pl.col("whole") / 100.0).item()
    assert whole.select(unscaled(pl.col("whole"), 2)).item(0, 0) == whole[:1].select(unscaled(pl.col("whole"), 2)).item() == 99.99


def test_a_sum_that_no_float_holds_is_not_known():
    history = [("card", START + timedelta(minutes=number), 1.7e308, None, None, None) for number in range(3)]
    rows = WINDOWS.compute(pl.DataFrame(history, SCHEMA, orient="row").lazy()).collect()
    assert rows["amount_sum_1h"].to_list()[1:] == [None, None]
    assert rows["amount_mean_1h"].to_list()[1:] == [None, None]
    assert StreamingWindows(WINDOWS).row([0, 1], [(1.7e308, None, None, None)] * 2).count(float("inf")) == 0
