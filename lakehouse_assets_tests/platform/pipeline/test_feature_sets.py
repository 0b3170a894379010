"""Law 5 through the pipeline: what a feature set says was known when, over late facts, renamed entities and changed functions."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.computed_kinds import ByKey, ByPartition, Full, Trailing
from lakehouse_assets.platform.declarations.features import FeatureSet, feature_set
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.errors import ScopeError
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, KNOWN_AT_ASSUMED, VERSION, as_known, of_version
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.replace import replace
from lakehouse_assets.platform.storage.scopes import Everything
from lakehouse_assets_tests.platform.storage.fresh import examples

SALES, LEVELS = "shop.silver.sales", "shop.features.levels"
SCHEMA = pl.Schema({"id": pl.Int64(), "part": pl.String(), "day": pl.Date(), "amount": pl.Int64()})
FIRST = date(2024, 1, 1)
KEY = ("part", "day")
KINDS = {"ByKey": ByKey("part"), "ByPartition": ByPartition("part"), "Trailing": Trailing("day", timedelta(0)), "Full": Full()}


class Level(Contract):
    """What a part sold on a day."""

    part: str = column(key=True)
    day: date = column(key=True)
    amount: int
    known_at: Timestamp


def sums(sales: pl.LazyFrame) -> pl.LazyFrame:
    """Known when the day has ended."""
    ended = pl.col("day").cast(pl.Datetime("us", "UTC")) + pl.duration(days=1)
    return sales.group_by(KEY).agg(pl.col("amount").sum()).with_columns(known_at=ended)


def doubled(sales: pl.LazyFrame) -> pl.LazyFrame:
    """Other code."""
    return sums(sales).with_columns(amount=2 * pl.col("amount"))


def early(sales: pl.LazyFrame) -> pl.LazyFrame:
    """Known a week before."""
    return sums(sales).with_columns(known_at=pl.col("known_at") - pl.duration(days=8))


def declared(kind: Any = KINDS["Trailing"], function: Callable[..., pl.LazyFrame] = sums, **how: Any) -> FeatureSet:
    return feature_set(LEVELS, contract=Level, entity=("part",), event_time="day", kind=kind, inputs={"sales": SALES}, **how)(function)


class Shop:
    """Sales by their id, and the feature set."""

    def __init__(self, folder: Any) -> None:
        self.lakehouse = Lakehouse(str(folder))
        self.lakehouse.table(SALES).create(SCHEMA)
        self.sales: dict[int, tuple[str, int, int]] = {}

    def put(self, **sales: tuple[str, int, int] | None) -> None:
        """Sales by id: part, number of the day, amount; None takes one back."""
        self.sales |= {int(id_[1:]): sale for id_, sale in sales.items()}
        rows = [(id_, sale[0], FIRST + timedelta(days=sale[1]), sale[2]) for id_, sale in self.sales.items() if sale]
        replace(self.lakehouse.table(SALES), pl.DataFrame(rows, SCHEMA, orient="row"), Everything(), ("id",), Commit())

    def run(self, declaration: FeatureSet, **how: Any) -> datetime:
        """Refresh; the moment before."""
        at = datetime.now(UTC)
        Refresh(declaration, self.lakehouse, "run", **how).run()
        return at

    @property
    def rows(self) -> pl.DataFrame:
        return self.lakehouse.table(LEVELS).scan().collect()

    def known(self, at: datetime | None = None) -> dict[tuple[str, int], int]:
        rows = as_known(self.rows.lazy(), KEY, at).collect()
        return {(part, (day - FIRST).days): amount for part, day, amount in rows.select(*KEY, "amount").rows()}


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_history_in_order_is_assumed_and_a_late_fact_is_known_from_when_it_came(shop, kind):
    shop.put(s1=("a", 1, 5), s2=("b", 3, 5))
    shop.run(declared(kind))
    shop.put(s3=("a", 4, 6))
    shop.run(declared(kind))
    shop.put(s4=("c", 2, 7))
    came = shop.run(declared(kind))
    assert shop.known(came) == {("a", 1): 5, ("b", 3): 5, ("a", 4): 6}
    assert shop.known() == {("a", 1): 5, ("b", 3): 5, ("a", 4): 6, ("c", 2): 7}
    late = shop.rows.filter(~pl.col(KNOWN_AT_ASSUMED))
    assert late["part"].to_list() == ["c"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_rows_of_a_renamed_part_are_retracted_and_known_again_when_they_come_again(shop, kind):
    shop.put(s1=("old", 1, 5), s2=("old", 2, 5), s3=("b", 2, 1))
    shop.run(declared(kind))
    shop.put(s1=("new", 1, 5), s2=("new", 2, 5))
    renamed = shop.run(declared(kind))
    assert shop.known() == {("new", 1): 5, ("new", 2): 5, ("b", 2): 1}
    assert shop.known(renamed) == {("old", 1): 5, ("old", 2): 5, ("b", 2): 1}
    shop.put(s1=("old", 1, 5), s2=("new", 2, 5))
    again = shop.run(declared(kind))
    assert shop.known() == {("old", 1): 5, ("new", 2): 5, ("b", 2): 1}
    assert shop.known(again) == {("new", 1): 5, ("new", 2): 5, ("b", 2): 1}
    assert as_known(shop.rows.lazy(), KEY).filter(part="old").collect()[KNOWN_AT].item() >= again


def test_a_first_load_in_parts_is_in_order(shop):
    shop.put(s1=("a", 3, 5), s2=("b", 1, 5), s3=("c", 2, 5))
    shop.run(declared(ByPartition("part")), batch_rows=1)
    assert shop.rows[KNOWN_AT_ASSUMED].all()


arrivals = st.lists(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from("ab"), st.integers(0, 5), st.integers(1, 3)), max_size=3), max_size=4
)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(history=arrivals)
@examples(2)
def test_as_of_a_moment_nothing_is_seen_that_came_after_it(tmp_path_factory, kind, history):
    """Sales come, change and go in any order. What is not assumed to have been known is known from its commit on."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    then: list[tuple[datetime, dict]] = []
    for batch in history:
        shop.put(**{f"s{id_}": (part, day, amount) for id_, part, day, amount in batch})
        shop.run(declared(kind))
        then.append((datetime.now(UTC), shop.known()))
    for moment, known in then:
        assumed = {(part, (day - FIRST).days) for part, day in shop.rows.filter(pl.col(KNOWN_AT_ASSUMED)).select(KEY).rows()}
        seen = shop.known(moment)
        assert {key: seen[key] for key in seen if key in known or key not in assumed} == known


# --- versions


def test_new_code_begins_a_version_and_what_it_gives_is_known_from_now_on(shop):
    shop.put(s1=("a", 1, 5), s2=("a", 2, 6))
    shop.run(declared())
    shop.put(s3=("a", 1, 1))
    shop.run(declared())
    changed = datetime.now(UTC)
    full_refresh(Refresh(declared(function=doubled), shop.lakehouse, "run"))
    assert shop.known() == {("a", 1): 12, ("a", 2): 12}
    stored = shop.rows
    assert stored.filter(pl.col(KNOWN_AT) < changed)[VERSION].unique().to_list() == [1], "the values of new code were not known before"
    midnight = datetime(2024, 1, 4, tzinfo=UTC)
    assert shop.known(midnight) == {("a", 2): 12}, "of one version all values are of one code; that of day 1 was revised later"
    old = of_version(stored.lazy(), 1)
    assert dict(as_known(old, ["day"], midnight).select("day", "amount").collect().rows()) == {date(2024, 1, 2): 5, date(2024, 1, 3): 6}
    assert Refresh(declared(function=doubled), shop.lakehouse, "run").run().batches == 0


def test_a_refresh_with_new_code_computes_the_whole_version(shop):
    shop.put(s1=("a", 1, 5), s2=("b", 2, 6))
    shop.run(declared())
    shop.put(s3=("a", 2, 7), s4=("a", 3, 8))
    began = shop.run(declared(function=doubled))
    assert shop.known() == {("a", 1): 10, ("b", 2): 12, ("a", 2): 14, ("a", 3): 16}
    assert shop.known(began) == {("a", 1): 10, ("a", 3): 16}, "day 2 is computed from a fact that the first version did not have"
    shop.put(s3=("a", 2, 9))
    shop.run(declared())
    assert shop.rows[VERSION].max() == 3, "to go back is a version too: the rows of the first one were not kept up to date"
    assert shop.known() == {("a", 1): 5, ("b", 2): 6, ("a", 2): 9, ("a", 3): 8}


def test_a_comment_or_a_description_is_no_version():
    def described(sales: pl.LazyFrame) -> pl.LazyFrame:
        """Something else."""
        # Known when the day has ended.
        ended = pl.col("day").cast(pl.Datetime("us", "UTC")) + pl.duration(days=1)
        return sales.group_by(KEY).agg(pl.col("amount").sum()).with_columns(known_at=ended)

    assert declared(function=described).kind == declared().kind
    assert declared(function=doubled).kind != declared().kind


# --- ahead of its time


def test_what_is_known_before_its_event_time_has_to_be_declared_so(shop):
    shop.put(s1=("a", 9, 5))
    with pytest.raises(
        ScopeError,
        match=r"shop\.features\.levels: its function is wrong: 1 row would be known before day, the first with day"
        r" = 2024-01-10 and known_at = 2024-01-03.*declare known_ahead=True",
    ):
        shop.run(declared(function=early))
    shop.run(declared(function=early, known_ahead=True))
    shop.put(s2=("b", 8, 5), s3=("b", 10, 5))
    came = shop.run(declared(function=early, known_ahead=True))
    assert shop.known(datetime(2024, 1, 3, tzinfo=UTC)) == {("a", 9): 5}
    assert shop.known(came) == {("a", 9): 5, ("b", 10): 5}, "order is that in which prices became known, as they claim"


# --- only what is over


class Clock:
    """Says what time it is."""

    at = datetime(2024, 1, 3, 12, tzinfo=UTC)


def test_a_day_that_is_landed_at_noon_is_left_out_until_something_came_after_its_end(shop, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: Clock.at)
    over = declared(when_over=True)

    def at(day: int, hour: int) -> dict[tuple[str, int], int]:
        monkeypatch.setattr(Clock, "at", datetime(2024, 1, 1 + day, hour, tzinfo=UTC))
        shop.run(over)
        return shop.known()

    shop.put(s1=("a", 0, 5), s2=("b", 1, 6), s3=("a", 2, 1))
    assert at(2, 12) == {("a", 0): 5, ("b", 1): 6}, "day 2 is not over"
    assert at(3, 1) == {("a", 0): 5, ("b", 1): 6}, "nothing came after its end"
    shop.put(s4=("b", 3, 7))
    assert at(3, 12) == {("a", 0): 5, ("b", 1): 6, ("a", 2): 1}, "the files of day 3 came after the end of day 2"
    shop.put(s5=("a", 1, 2))
    assert at(3, 13) == {("a", 0): 5, ("b", 1): 6, ("a", 1): 2, ("a", 2): 1}
    shop.put(s6=("a", 5, 9))
    assert at(5, 12)[("b", 3)] == 7, "it comes back to all that was left out"
    assert shop.rows.filter(pl.col("known_at") > Clock.at).is_empty()
    assert shop.rows.filter(day=FIRST + timedelta(days=3))[KNOWN_AT_ASSUMED].all()


def to_the_newest_day(sales: pl.LazyFrame) -> pl.LazyFrame:
    """A row for each day up to the newest one, as a series has it."""
    days = sales.select(pl.date_ranges(pl.col("day").min(), pl.col("day").max()).alias("day").explode())
    found = sums(sales).select("part", "day", "amount")
    filled = (
        sales.select("part").unique().join(days, how="cross").join(found, on=KEY, how="left").with_columns(pl.col("amount").fill_null(0))
    )
    return filled.with_columns(known_at=pl.col("day").cast(pl.Datetime("us", "UTC")) + pl.duration(days=1))


def test_a_function_that_waits_is_not_given_what_is_still_to_come(shop, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: Clock.at)
    monkeypatch.setattr(Clock, "at", datetime(2024, 3, 1, 12, tzinfo=UTC))
    over = declared(Trailing("day", timedelta(days=366)), function=to_the_newest_day, when_over=True)
    shop.put(s1=("a", 0, 5), s2=("a", 2, 6), s3=("a", 90, 1))
    shop.run(over)
    assert shop.known() == {("a", 0): 5, ("a", 1): 0, ("a", 2): 6}
    # Once its day is over and something came, it is a day like any other.
    monkeypatch.setattr(Clock, "at", datetime(2024, 4, 2, 12, tzinfo=UTC))
    shop.put(s4=("a", 91, 2))
    shop.run(over)
    assert {day: amount for (_, day), amount in shop.known().items() if amount} == {0: 5, 2: 6, 90: 1, 91: 2}
    assert len(shop.known()) == 92


def test_what_is_not_over_can_wait_in_a_tail_only():
    with pytest.raises(DeclarationError, match=r"when_over=True needs kind=Trailing\('day', …\).*ByKey does not"):
        declared(ByKey("part"), when_over=True)
    with pytest.raises(DeclarationError, match="drop known_ahead or when_over"):
        declared(known_ahead=True, when_over=True)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"ttl": timedelta(0)}, "ttl="),
        ({"defaults": {"amuont": 0}}, "names the column 'amuont', which contract Level lacks.*amount"),
        ({"defaults": {"part": "a"}}, "names the column 'part', which is no feature"),
        ({"defaults": {"amount": "none"}}, "gives amount the value 'none', and the column is Int64"),
        ({"defaults": {"amount": 0.5}}, "gives amount the value 0.5"),
        ({"defaults": {"amount": True}}, "gives amount the value True"),
        ({"defaults": {"amount": None}}, "gives amount the value None"),
    ],
)
def test_ttl_and_defaults_are_checked_when_they_are_declared(how, message):
    with pytest.raises(DeclarationError, match=rf"shop\.features\.levels.*{message}"):
        declared(**how)


def test_a_feature_set_says_its_features_and_defaults():
    levels = declared(defaults={"amount": 0}, ttl=timedelta(days=30))
    assert (levels.columns, levels.defaults, levels.ttl) == (("amount",), {"amount": 0}, timedelta(days=30))
