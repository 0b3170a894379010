"""What a training row has of its own event: the answer of a request when the event came, and nothing of what came after it.

The suite tries a sample; `python -m benchmarks.sweeps` tries everything.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.computed_kinds import ByKey
from lakehouse_assets.platform.declarations.features import FeatureSet, feature_set
from lakehouse_assets.platform.features.event_rows import sets_of_events
from lakehouse_assets.platform.features.labels import Labels
from lakehouse_assets.platform.features.leakage import Leakage
from lakehouse_assets.platform.features.manifest import pin
from lakehouse_assets.platform.features.point_in_time import join_as_of
from lakehouse_assets.platform.features.training_set import LabelledExamples, training_set
from lakehouse_assets.platform.features.windows import Windows
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.recipes.windows import window_features
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.replace import replace
from lakehouse_assets.platform.storage.scopes import Everything
from lakehouse_assets_tests import sweeps

EVENTS, OWN, CARDS, HOURS, LABELS = "s.gold.orders", "s.features.orders", "s.features.cards", "s.features.hours", "s.gold.labels"
START = datetime(2024, 1, 1, tzinfo=UTC)
MOMENT = pl.Datetime("us", "UTC")
SCHEMA = pl.Schema({"id": pl.Int64(), "card": pl.String(), "paid_at": MOMENT, "amount": pl.Float64()})
WINDOWS = Windows(("card",), "paid_at", ("2h", "6h"), {"*": ("count",), "amount": ("sum", "max", "last")})
Row = tuple[str | None, int, float | None]


class Order(Contract):
    """An order by itself."""

    id: int = column(key=True)
    paid_at: Timestamp = column(key=True)
    card: str = column(nullable=True)
    amount: float = column(nullable=True)
    known_at: Timestamp


@feature_set(OWN, contract=Order, entity=("id",), event_time="paid_at", kind=ByKey("id"), inputs={"orders": EVENTS})
def own(orders: pl.LazyFrame) -> pl.LazyFrame:
    """Orders."""
    return orders.select("id", "paid_at", "card", "amount", known_at=pl.col("paid_at"))


def windows(name: str = CARDS, every: str | None = None, **how: Any) -> FeatureSet:
    given: dict[str, Any] = {"of": EVENTS, "entity": ("card",), "time": "paid_at", "windows": WINDOWS.windows, "values": WINDOWS.values}
    return window_features(name, **(given | {"every": every} | how))


cards, hours = windows(), windows(HOURS, "1h")
EXAMPLES = LabelledExamples(
    Labels(LABELS, ("id",), "paid_at", "is_fraud", settled=timedelta(0)), (own, cards, hours), {CARDS: "card_", HOURS: "hour_"}
)
OF_CARDS = tuple(f"card_{name}" for name in cards.columns)


def frame(rows: dict[int, Row]) -> pl.DataFrame:
    made = [(id_, card, START + timedelta(minutes=30 * at), amount) for id_, (card, at, amount) in rows.items()]
    return pl.DataFrame(made, SCHEMA, orient="row")


class World:
    """A table of events, to which they come commit by commit, and what is computed from it."""

    def __init__(self, root: str) -> None:
        self.lakehouse, self.stored = Lakehouse(root), dict[int, Row]()
        self.lakehouse.table(EVENTS).create(SCHEMA)
        self.lakehouse.table(LABELS).create({"id": pl.Int64(), "paid_at": MOMENT, "is_fraud": pl.Boolean()})

    def come(self, rows: dict[int, Row], gone: tuple[int, ...] = (), sets: tuple[FeatureSet, ...] = (own, cards, hours)) -> None:
        self.stored = {id_: row for id_, row in (self.stored | rows).items() if id_ not in gone}
        replace(self.lakehouse.table(EVENTS), frame(self.stored), Everything(), ("id",), Commit())
        self.refresh(*sets)

    def refresh(self, *sets: FeatureSet) -> None:
        for one in sets:
            Refresh(one, self.lakehouse, "run").run()

    def labels(self) -> pl.DataFrame:
        return frame(self.stored).select("id", "paid_at", is_fraud=pl.col("id") % 2 == 0)

    def pinned(self) -> Any:
        replace(self.lakehouse.table(LABELS), self.labels(), Everything(), ("id",), Commit())
        return pin(self.lakehouse, EXAMPLES.sources())

    def training(self) -> dict[int, dict[str, Any]]:
        return {row["id"]: row for row in EXAMPLES.join(self.pinned().read).rows.sort("id").to_dicts()}

    def as_of(self) -> dict[int, dict[str, Any]]:
        """What was known at the labels' times, the event itself only if it came in order."""
        read = self.pinned().read
        sides = [EXAMPLES.feature_rows(one, read) for one in EXAMPLES.features]
        return {row["id"]: row for row in join_as_of(self.labels(), sides, at="paid_at").rows.to_dicts()}

    def answers(self) -> dict[int, dict[str, Any]]:
        """What a request about each event would be answered now: the event, and the statistics of all that has come."""
        events = frame(self.stored)
        of_cards = WINDOWS.compute(events.lazy()).drop("known_at").rename(lambda name: f"card_{name}" if name in cards.columns else name)
        found = events.lazy().join(of_cards, on=["card", "paid_at"], how="left").collect()
        return {row["id"]: row for row in found.to_dicts()}


rows = st.dictionaries(
    st.integers(0, 9),
    st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 20), st.sampled_from([None, 0.1, 2.0, 7.0])),
    max_size=4,
)
commits = st.tuples(rows, st.lists(st.integers(0, 9), max_size=1).map(tuple), st.permutations([own, cards, hours]), st.integers(0, 5))
VALUES = ("card", "amount", *OF_CARDS)


@given(st.lists(commits, min_size=2, max_size=4))
@sweeps.examples(3, 60, database=None, phases=[Phase.explicit, Phase.generate])
def test_a_training_row_is_what_a_request_was_answered_when_the_event_came(tmp_path_factory, history):
    """Events come in any order, are corrected and go; feature sets are refreshed in any order, and statistics fall behind at times."""
    world = World(str(tmp_path_factory.mktemp("events")))
    answered, then, lagged, seen = {}, {}, {}, dict[int, set[Row]]()
    world.come({})
    for come, gone, order, behind in history:
        skipped = [cards] if behind == 0 else []
        world.come(come, gone, tuple(one for one in order if one not in skipped))
        new = world.stored.keys() - answered.keys()
        now, trained = (world.answers(), world.training()) if new else ({}, {})
        answered |= {id_: now[id_] for id_ in new}
        then |= {id_: trained[id_] for id_ in new}
        lagged |= {id_: bool(skipped) for id_ in new}
        for id_, row in come.items():
            seen.setdefault(id_, set()).add(row)
    world.refresh(own, cards, hours)
    ties: dict[tuple[str | None, int], set[int]] = {}
    for id_, ways in seen.items():
        for card, at, _ in ways:
            ties.setdefault((card, at), set()).add(id_)
    strict = world.as_of()
    for id_, row in world.training().items():
        first = answered[id_]
        if any(frame({id_: way})["paid_at"].item() != first["paid_at"] for way in seen[id_]):
            if row["paid_at"] != first["paid_at"]:
                assert row | strict[id_] == row, "its time was corrected, so it came as another event"
            continue
        wanted = [{name: made[name] for name in VALUES} for made in (first, strict[id_])]
        taken = {name: row[name] for name in VALUES}
        assert row["hour_count_2h"] == strict[id_]["hour_count_2h"] or row["card"] != strict[id_]["card"], "steps stay as they were known"
        if lagged[id_]:
            tied = any(len(ids) > 1 for (_, at), ids in ties.items() if at == seen_at(seen[id_]))
            assert taken["amount"] == first["amount"]
            assert tied or all(taken[name] in {one[name] for one in wanted} for name in OF_CARDS) or taken["card"] != wanted[1]["card"]
            continue
        assert taken == {name: then[id_][name] for name in VALUES}, "nothing that came later is seen"
        if len(ties[first["card"], seen_at(seen[id_])]) == 1:
            assert taken == wanted[0]


def seen_at(ways: set[Row]) -> int:
    return next(iter(ways))[1]


def test_an_event_that_came_late_counts_in_its_own_windows_and_in_those_of_no_earlier_one(tmp_path):
    world = World(str(tmp_path))
    world.come({1: ("a", 0, 1.0), 2: ("a", 4, 2.0)})
    world.come({3: ("a", 2, 4.0)})
    world.come({3: ("a", 2, 9.0)})  # a correction
    made = training_set(EXAMPLES, world.pinned())
    assert made.rows.select("amount", "card_count_6h", "card_amount_sum_6h").rows() == [(1.0, 1, 1.0), (4.0, 2, 5.0), (2.0, 2, 3.0)]
    features = {one.name: one for one in made.manifest.features}
    assert features[OWN].late == features[CARDS].late == pytest.approx(1 / 3)
    assert features[HOURS].late == 0
    assert "of 33.3% of the rows, whose event came late" in features[OWN].sentence
    report = Leakage().report(made, world.pinned().read, seed=1, compute=Local())
    assert {one.column for one in report.findings if one.kind == "late"} == {OWN, CARDS}
    assert all("but for the rows of events" in one.sentence for one in report.findings if one.kind == "future" and one.column != HOURS)


def test_what_other_code_computed_anew_is_not_what_was_known_first(tmp_path):
    world = World(str(tmp_path))
    world.come({1: ("a", 0, 1.0), 2: ("a", 8, 2.0)})
    world.come({3: ("a", 4, 4.0), 4: ("b", 6, 1.0)})
    world.come({5: ("a", 3, 8.0)})  # revises the row of the third
    before = world.training()
    assert (before[3]["card_count_6h"], before[4]["card_count_6h"]) == (2, 1)
    world.come({6: ("c", 19, 1.0)}, sets=(own, windows(decimals=3), hours))
    now = world.training()
    assert now[3]["card_count_6h"] == 1, "the fifth is in the row of the new version: what was known at the time counts"
    assert now[4] == before[4], "the row was never revised"
    world.lakehouse.table(CARDS).delta().delete("feature_set_version = 1")
    assert world.training()[4]["card_count_6h"] is None, "it cannot be told any more what was known first"


def test_rows_of_entities_that_have_several_at_once_are_no_events(tmp_path):
    """As the days of a customer: that one came late was known to nobody on that day."""
    world = World(str(tmp_path))
    world.come({1: ("a", 0, 1.0), 2: ("a", 8, 2.0)})
    world.come({3: ("a", 4, 4.0)})
    again = world.lakehouse.table(OWN).scan().collect().with_columns(pl.lit(7).alias("id").cast(pl.Int64))
    world.lakehouse.table(OWN).append(again)
    late = world.labels().with_columns(pl.lit(7).alias("id").cast(pl.Int64)).filter(pl.col("paid_at") == START + timedelta(hours=2))
    read = world.pinned().read

    def with_labels(name: str) -> pl.LazyFrame:
        return pl.concat([world.labels(), late]).lazy() if name == LABELS else read(name)

    found = {row["id"]: row for row in EXAMPLES.join(with_labels).rows.filter(pl.col("paid_at") == late["paid_at"].item()).to_dicts()}
    assert (found[7]["amount"], found[3]["amount"]) == (1.0, None)


def test_the_declarations_say_which_sets_have_a_row_at_each_event():
    other = windows("s.features.others", of="s.gold.others")
    assert sets_of_events(("id",), (hours, other, cards, own)) == (own, cards)
    assert sets_of_events(("card",), (hours, other, cards, own)) == ()
    assert sets_of_events(("id",), (cards, hours)) == (), "nothing tells when an event came"
