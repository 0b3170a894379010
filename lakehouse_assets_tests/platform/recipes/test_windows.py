"""Statistics over windows of time: right by an oracle, the same however the facts came, and refused where they cannot be meant.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from statistics import stdev
from typing import Any

import polars as pl
import pytest
from hypothesis import Phase, example, given
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.declarations.kind import moment_of_date
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.features.windows import Windows
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.recipes.windows import window_features
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.known_at import as_known
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.replace import replace
from lakehouse_assets.platform.storage.scopes import Everything
from lakehouse_assets_tests import sweeps

PAYMENTS, CARDS = "shop.silver.payments", "shop.features.cards"
START = datetime(2024, 1, 1, tzinfo=UTC)
MOMENT = pl.Datetime("us", "UTC")
SCHEMA = pl.Schema({"id": pl.Int64(), "card": pl.String(), "paid_at": MOMENT, "amount": pl.Float64(), "device": pl.String()})
ALL = ("count", "sum", "mean", "min", "max", "std", "distinct", "first", "last")
VALUES = {"*": ("count",), "amount": ALL, "device": ("count", "distinct", "first", "last")}
LENGTHS = {"2h": timedelta(hours=2), "6h": timedelta(hours=6)}

payments = st.tuples(
    st.integers(0, 11),
    st.sampled_from(["a", "b", None]),
    st.integers(0, 30),
    st.sampled_from([None, -1.1, 0.1, 0.2, 7.0]),
    st.sampled_from(["x", "y", None]),
)
histories = st.lists(st.tuples(st.lists(payments, max_size=4), st.lists(st.integers(0, 11), max_size=2)), min_size=1, max_size=4)


def cards(every: str | None = None, **how: Any) -> FeatureSet:
    given = {"of": PAYMENTS, "entity": ("card",), "time": "paid_at", "windows": tuple(LENGTHS), "values": VALUES, "types": {"device": str}}
    return window_features(CARDS, **(given | {"every": every} | how))


def frame(rows: dict[int, tuple]) -> pl.DataFrame:
    half_hours = [(id_, card, START + timedelta(minutes=30 * at), amount, device) for id_, (card, at, amount, device) in rows.items()]
    return pl.DataFrame(half_hours, SCHEMA, orient="row")


def by_hand(rows: dict[int, tuple], every: int | None) -> dict[tuple[str, datetime], dict[str, Any]]:
    """The statistics, from their definition. Times are half hours."""
    events = sorted(
        ((at, amount, device, card) for card, at, amount, device in rows.values() if card),
        key=lambda row: (row[0], *map(last_null, row[1:3])),
    )
    found = {}
    newest = max((at for _, at, _, _ in rows.values()), default=0)
    for card in {event[3] for event in events}:
        own = [event for event in events if event[3] == card]
        ends = {event[0] for event in own}
        if every is not None:  # from the first step that has an event on to the one that has none in twelve half hours any more
            begins = {event[0] // every * every for event in own}
            ends = {end for begin in begins for end in range(begin + every, begin + every + 12 + 1, every) if end <= newest}
        for end in ends:
            row: dict[str, Any] = {}
            for name, length in LENGTHS.items():
                width = length // timedelta(minutes=30)
                inside = [event for event in own if (end - width < event[0] <= end if every is None else end - width <= event[0] < end)]
                amounts, devices = ([event[at] for event in inside if event[at] is not None] for at in (1, 2))
                row |= {f"count_{name}": len(inside), f"device_count_{name}": len(devices), f"device_distinct_{name}": len({*devices})}
                row |= {f"device_{end_}_{name}": devices[at] if devices else None for end_, at in (("first", 0), ("last", -1))}
                statistics = {
                    "count": len(amounts),
                    "distinct": len({*amounts}),
                    "sum": round(sum(amounts), 4),
                    "mean": sum(amounts) / len(amounts) if amounts else None,
                    "std": stdev(amounts) if len(amounts) > 1 else None,
                    "min": min(amounts, default=None),
                    "max": max(amounts, default=None),
                    "first": amounts[0] if amounts else None,
                    "last": amounts[-1] if amounts else None,
                }
                row |= {f"amount_{statistic}_{name}": value for statistic, value in statistics.items()}
            found[card, START + timedelta(minutes=30 * end)] = row
    return found


def last_null(value: Any) -> tuple[bool, Any]:
    return (True, 0) if value is None else (False, value)


def newest(lakehouse: Lakehouse) -> pl.DataFrame:
    rows = as_known(lakehouse.table(CARDS).scan(), ["card", "paid_at"]).drop("known_at", "known_at_assumed").sort("card", "paid_at")
    return rows.collect()


# Events that do not count, without an entity or left out by `where`, tell how late it is all the same.
WITHOUT_ENTITY = [([(0, "b", 3, 0.1, "x"), (1, None, 21, 0.2, "x")], []), ([(6, "a", 24, -1.1, "x")], [])]


@pytest.mark.parametrize("every", [None, "2h", "1h"])
@given(histories)
@example(WITHOUT_ENTITY)
@sweeps.examples(3, 40, database=None, phases=[Phase.explicit, Phase.generate])
def test_incremental_equals_from_scratch_and_the_definition(tmp_path_factory, every, history):
    """Facts come late, are corrected and go; what is stored is what the definition says, and what a first load gives, to the byte."""
    folder = tmp_path_factory.mktemp("windows")
    lakehouse, fresh, stored = Lakehouse(str(folder / "a")), Lakehouse(str(folder / "b")), {}
    lakehouse.table(PAYMENTS).create(SCHEMA)
    for put, gone in history:
        stored = {id_: row for id_, row in (stored | {row[0]: row[1:] for row in put}).items() if id_ not in gone}
        replace(lakehouse.table(PAYMENTS), frame(stored), Everything(), ("id",), Commit())
        Refresh(cards(every), lakehouse, "run").run()
    fresh.table(PAYMENTS).create(SCHEMA)
    fresh.table(PAYMENTS).append(frame(stored).reverse())
    Refresh(cards(every), fresh, "run").run()
    rows = newest(lakehouse)
    assert rows.equals(newest(fresh))
    wanted = by_hand(stored, None if every is None else LENGTHS.get(every, timedelta(hours=1)) // timedelta(minutes=30))
    assert {(row.pop("card"), row.pop("paid_at")): row for row in rows.to_dicts()} == {
        key: pytest.approx(row, abs=1e-9) for key, row in wanted.items()
    }


def test_steps_are_over_when_an_event_came_that_where_leaves_out(tmp_path):
    lakehouse, fresh = Lakehouse(str(tmp_path / "a")), Lakehouse(str(tmp_path / "b"))
    count = cards("1h", where=pl.col("device") == "x")
    first = {0: ("b", 3, 0.1, "x"), 1: ("a", 21, 0.2, "y")}
    for stored in (first, first | {2: ("a", 24, 0.2, "x")}):
        if not lakehouse.table(PAYMENTS).exists():
            lakehouse.table(PAYMENTS).create(SCHEMA)
        replace(lakehouse.table(PAYMENTS), frame(stored), Everything(), ("id",), Commit())
        Refresh(count, lakehouse, "run").run()
    fresh.table(PAYMENTS).create(SCHEMA)
    fresh.table(PAYMENTS).append(frame(stored))
    Refresh(count, fresh, "run").run()
    assert newest(lakehouse).height > 3
    assert newest(lakehouse).equals(newest(fresh))


def test_an_event_does_not_see_what_comes_after_it_and_those_of_one_time_see_each_other():
    rows = frame({1: ("a", 0, 1.0, "x"), 2: ("a", 2, 2.0, "y"), 3: ("a", 2, 4.0, "x"), 4: ("a", 3, 8.0, "z")})
    found = Windows(("card",), "paid_at", ("1h",), {"amount": ("sum", "last"), "device": ("distinct",)}).compute(rows.lazy()).collect()
    assert found.select("amount_sum_1h", "amount_last_1h", "device_distinct_1h").rows() == [(1.0, 1.0, 1), (6.0, 4.0, 2), (14.0, 8.0, 3)]
    assert found["known_at"].to_list() == found["paid_at"].to_list()


def test_a_late_fact_writes_only_the_rows_that_it_touches(tmp_path):
    lakehouse = Lakehouse(str(tmp_path))
    lakehouse.table(PAYMENTS).create(SCHEMA)
    lakehouse.table(PAYMENTS).append(frame({at: (card, at, 1.0, "x") for at, card in enumerate("ab" * 40)}))
    Refresh(cards(None), lakehouse, "run").run()
    lakehouse.table(PAYMENTS).append(frame({100: ("a", 21, 5.0, "x")}))
    assert Refresh(cards(None), lakehouse, "run").run().account.written == 1 + 6, "card a, for six hours"


def test_the_bytes_do_not_depend_on_the_number_of_threads():
    code = (
        "import polars as pl, hashlib, datetime as d\n"
        "from lakehouse_assets.platform.features.windows import Windows\n"
        "n = 20_000\n"
        "rows = pl.LazyFrame({'card': [str(i * 7919 % 97) for i in range(n)], 'amount': [i * 31 % 1009 / 7 for i in range(n)],"
        " 't': [d.datetime(2024, 1, 1, tzinfo=d.UTC) + d.timedelta(minutes=i * 13 % 5003) for i in range(n)]})\n"
        "rows = rows.with_columns(pl.col('t').dt.cast_time_unit('us'))\n"
        "what = Windows(('card',), 't', ('1h', '1d'), {'amount': ('sum', 'mean', 'std')})\n"
        "print(hashlib.sha256(what.compute(rows).collect().write_csv().encode()).hexdigest())"
    )
    environments = [os.environ | {"POLARS_MAX_THREADS": number} for number in sweeps.of(("1", "8"), ("1", "2", "8"))]
    runs = [subprocess.run([sys.executable, "-c", code], env=one, capture_output=True, text=True, check=True) for one in environments]
    assert len({run.stdout for run in runs}) == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"windows": ("1 hour",)}, "windows: '1 hour' is no length of a window: write minutes"),
        ({"windows": ("1h", "1h")}, "windows names '1h' twice"),
        ({"windows": ()}, "windows is empty"),
        ({"entity": "card"}, r"entity='card' is one text"),
        ({"every": "4h"}, "the window 2h is no multiple of every='4h'"),
        ({"values": {"amount": ("median",)}, "types": {}}, "no statistic 'median' for amount"),
        ({"values": {"*": ("sum",)}, "types": {}}, r"no statistic 'sum' for \*"),
        ({"values": {"device": ("sum",)}}, "sum of device needs numbers, and types says str"),
        ({"types": {"devise": str}}, "types names 'devise'.*did you mean device"),
        ({"decimals": 12}, "decimals=12"),
        ({"personal": ("device",)}, "personal names 'device', which is no entity"),
        ({"defaults": {"amount_sum_9h": 0.0}}, "defaults names the column 'amount_sum_9h'"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(how, message):
    with pytest.raises(DeclarationError, match=rf"shop\.features\.cards.*{message}"):
        cards(**how)


def test_other_windows_are_another_version():
    assert cards(None).kind != cards(None, windows=("1h",)).kind
    assert cards(None).kind == cards(None).kind
    assert cards("1h").columns[:3] == ("count_2h", "amount_count_2h", "amount_sum_2h")
    assert cards(None).description.startswith("Statistics of payments by card over 2 hours, 6 hours, at each paid_at.")


@pytest.mark.parametrize("amount", [1e15, 1e20, 1e33, 1e40, -1e300])
def test_amounts_of_any_size_are_added_up(amount):
    windows = Windows(("card",), "paid_at", ("2h",), {"amount": ("sum", "mean", "std")})
    rows = pl.LazyFrame({"card": ["a"] * 3, "paid_at": [START + timedelta(minutes=at) for at in range(3)], "amount": [amount, 0.5, amount]})
    found = windows.compute(rows.cast({"paid_at": MOMENT})).collect().sort("paid_at")
    assert found["amount_sum_2h"].to_list() == pytest.approx([amount, amount, 2 * amount])
    assert found["amount_mean_2h"].to_list() == pytest.approx([amount, amount / 2, amount * 2 / 3])
    assert all(value is None or value > 0 for value in found["amount_std_2h"])


class Paid(Contract):
    """A payment of a day."""

    id: int = column(key=True)
    card: str
    paid_at: date
    amount: float
    device: str


@pytest.mark.parametrize("every", [None, "2h"])
def test_a_date_is_refused_with_the_expression_that_makes_it_a_moment(tmp_path, every):
    said = r"`pl\.col\(\"paid_at\"\)\.cast\(pl\.Datetime\(\"us\", \"UTC\"\)\) \+ pl\.duration\(days=1\)`"
    source = table(PAYMENTS, contract=Paid, kind=Full(), inputs={"rows": "shop.bronze.payments"})(lambda rows: rows)
    with pytest.raises(DeclarationError, match=rf"{CARDS}: .*'paid_at', which is Date in the input events \({PAYMENTS}\).*{said}"):
        Catalog((source, cards(every)), frozenset({"shop.bronze.payments"}))
    # Of a table whose columns are not declared it is said when it runs.
    lakehouse = Lakehouse(str(tmp_path))
    rows = frame({1: ("a", 0, 1.0, "x")}).with_columns(pl.col("paid_at").dt.date())
    lakehouse.table(PAYMENTS).create(rows.schema)
    lakehouse.table(PAYMENTS).append(rows)
    with pytest.raises(Exception, match=rf"windows are of moments, and paid_at is a date: .*{said}"):
        Refresh(cards(every), lakehouse, "run").run()
    # As the message says, it works.
    moments = rows.with_columns(eval(re.search("`(.*)`", moment_of_date("paid_at"))[1]).alias("paid_at"))
    assert cards(every).function(moments.lazy()).collect().height == (1 if every is None else 0)


@pytest.mark.parametrize("every", [None, "1d"])
def test_entities_whose_names_differ_in_length_keep_their_own_numbers(every):
    what = Windows(("card",), "at", ("1d", "2d"), {"amount": ("sum",)}, every)
    names = ["c9", "c10", "c100", "b", "a longer name than fits into twelve bytes", "a longer name"]
    first = datetime(2024, 1, 1, tzinfo=UTC)
    events = [
        {"card": name, "at": first + timedelta(hours=hour), "amount": float(number)}
        for number, name in enumerate(names)
        for hour in (0, 30)
    ]
    found = what.compute(pl.DataFrame(events, schema_overrides={"at": pl.Datetime("us", "UTC")}).lazy()).collect()
    assert found.filter(pl.col("amount_sum_1d") > 0).select("card", "amount_sum_1d").unique().sort("amount_sum_1d").rows() == [
        (name, float(number)) for number, name in enumerate(names) if number
    ]
