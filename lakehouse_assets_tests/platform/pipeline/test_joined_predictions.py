"""A model with several feature sets: the rows of one are scored, with what is known now of the others joined as of the time of each row."""

import random
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.features.training_set import LabelledExamples
from lakehouse_assets.platform.operations.pending import pending
from lakehouse_assets.platform.pipeline.champions import champion_of
from lakehouse_assets.platform.quality.monitors import Verdict
from lakehouse_assets.platform.storage.known_at import of_version
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import said_of
from lakehouse_assets_tests.platform.pipeline.kiosk import (
    CARDS,
    FIRST,
    INPUTS,
    ORDERS,
    OWN,
    SCORES,
    TOWNS,
    Kiosk,
    Row,
    cards,
    own_features,
    refunds,
    scored,
    towns,
)

KEY = ["order", *INPUTS]
LARGE = pl.col("amount") > 5


def orders(days: range, seed: int = 1) -> list[Row]:
    """Orders in order, some without a card, some at one moment."""
    draw, rows = random.Random(seed), []
    for day in days:
        moments = sorted(draw.randrange(24 * 60) for _ in range(6))
        for number, minute in enumerate(moments):
            at, amount = FIRST + timedelta(days=day, minutes=minute), float(draw.randrange(1, 20))
            card = draw.choice(["a", "b", "c", "d", None])
            rows.append((f"{day:03}-{number}", at, card, draw.choice(["x", "y"]), amount, draw.random() < amount / 20))
    return rows


@pytest.fixture
def kiosk(settings, originals) -> Kiosk:
    """Version 1 is champion, and has scored twenty days."""

    def train(root: Path) -> None:
        kiosk = Kiosk(Settings.load({"LAKEHOUSE_ROOT": str(root)}))
        kiosk.land(orders(range(20)))
        kiosk.run()
        assert kiosk.train().champion == 1

    originals.copy("kiosk", train, settings.root)
    return Kiosk(settings)


def test_scores_are_of_the_values_that_training_has_of_rows_that_came_in_order(kiosk):
    for day in (20, 21):
        kiosk.land(orders(range(day, day + 1)))
        kiosk.run()
    learnt = kiosk.training_rows()
    found = kiosk.scores().select(KEY)
    assert 100 < learnt.height < found.height == 22 * 6, "the labels of the newest day are not settled yet"
    assert found.join(learnt, on="order", how="semi").equals(learnt)
    assert found["card_count_1d"].max() > 1
    assert found["count_1d"].null_count() < found.height / 10
    without_card = kiosk.root.lakehouse.table(ORDERS).scan().filter(pl.col("card").is_null()).select("order").collect()
    assert set(found.join(without_card, on="order")["card_amount_sum_30d"]) == {0.0}, "the default"


def test_what_was_scored_bit_by_bit_is_what_a_full_refresh_scores(kiosk):
    rows = orders(range(20, 23))
    for first in range(0, len(rows), 5):
        kiosk.land(rows[first : first + 5])
        kiosk.run()
    before = kiosk.scores()
    done = kiosk.runner.run([SCORES], run_id="again", from_scratch=True)
    assert (done[SCORES].account.written, done[SCORES].account.updated) == (0, 0)
    assert kiosk.scores().equals(before)
    assert pending(kiosk.root, kiosk.declarations) == {}


def test_only_new_rows_are_scored_and_a_late_one_counts_itself_but_scores_no_other_row_again(kiosk):
    before = kiosk.scores()
    at = FIRST + timedelta(days=10)
    kiosk.land([("late", at, "a", "x", 3.0, False)])
    kiosk.run()
    found = kiosk.scores()
    assert found.filter(pl.col("order") != "late").equals(before), "they were scored by what was known then"
    late = found.filter(order="late")
    earlier = (
        kiosk.root.lakehouse.table(ORDERS)
        .scan()
        .filter(pl.col("card") == "a", pl.col("at").is_between(at - timedelta(days=1), at, "right"))
    )
    assert late["card_count_1d"].item() == earlier.collect().height
    learnt = kiosk.training_rows().filter(order="late")
    assert learnt["card_count_1d"].item() == late["card_count_1d"].item(), "training sees what was known when it came, as scores do"


def test_an_order_that_is_revised_is_scored_again_and_one_that_went_is_not(kiosk):
    order, *rest = orders(range(19, 20))[-1]
    kiosk.land([(order, *rest[:3], 100.0, False)])
    kiosk.take_back(orders(range(18, 19))[0][0])
    kiosk.run()
    found = kiosk.scores()
    assert found.filter(order=order)["amount"].item() == 100.0
    assert found.height == 20 * 6
    assert kiosk.runner.run([SCORES], run_id="again")[SCORES].batches == 0


def test_a_new_champion_scores_everything_again(kiosk):
    kiosk.land(orders(range(20, 21)))
    kiosk.run()
    assert kiosk.train().champion == 2
    counts = kiosk.root.lakehouse.table(SCORES).scan().group_by("model_version").len().sort("model_version").collect()
    assert counts.rows() == [(1, 126), (2, 126)]


def test_a_joined_set_that_means_something_else_is_not_given_to_the_champion(kiosk):
    def monitor() -> Verdict:
        return said_of(kiosk.declarations[-1], kiosk.root.lakehouse, FIRST)["features_of_champion"]

    assert monitor().passed
    kiosk.cards = cards(LARGE)
    kiosk.land(orders(range(20, 21)))
    kiosk.run()
    assert kiosk.scores().height == 120, "cards of the new rows are not what the champion has learnt"
    assert f"was trained on version 1 of {CARDS}" in monitor().text
    kiosk.cards = cards()
    kiosk.land(orders(range(21, 22)))
    kiosk.run()
    assert kiosk.scores().height == 132, "rows that had to wait are scored too"
    assert monitor().passed
    kiosk.cards = cards(LARGE)
    kiosk.land(orders(range(22, 23)))
    kiosk.run()
    assert kiosk.train().champion == 2
    assert kiosk.scores().height == 138
    assert kiosk.step.rollback().champion == 1
    kiosk.run()
    of_first = kiosk.root.lakehouse.table(SCORES).scan().filter(model_version=1).collect()
    assert of_first.height == 132, "its version of the cards ends there"


def test_joined_sets_are_sources_that_are_refreshed_before(kiosk):
    declared = kiosk.declarations[-1]
    assert set(declared.sources()) == {OWN, CARDS, TOWNS, kiosk.model.name}
    order = [one.name for one in kiosk.runner.catalog.in_order]
    assert order.index(SCORES) > max(map(order.index, (OWN, CARDS, TOWNS)))


def test_the_function_is_given_rows_of_the_columns_that_the_declaration_says(kiosk):
    declared, lakehouse = kiosk.declarations[-1], kiosk.root.lakehouse
    columns = declared.scored_columns
    assert list(columns) == ["order", "at", "card", "town", "amount", *(f"card_{name}" for name in kiosk.cards.columns), "count_1d"]
    rows = kiosk.model.examples.to_score(OWN, of_version(lakehouse.table(OWN).scan()), lambda name: lakehouse.table(name).scan(), {})
    assert rows.collect_schema() == columns
    champion = champion_of(lakehouse, kiosk.root.registry)(kiosk.model)
    of_a_request = pl.DataFrame(rows.collect().rows(), schema=columns, orient="row")
    given = declared(champion=champion, features=of_a_request.lazy()).sort("order").collect()
    assert given.equals(kiosk.scores().select(given.columns))


def test_what_cannot_be_meant_is_refused_by_name():
    by_order = own_features()
    with pytest.raises(DeclarationError, match=rf"{OWN}s is none of the feature sets .* Did you mean {OWN}\?"):
        scored(refunds((by_order, cards())), features=OWN + "s")
    with pytest.raises(
        DeclarationError, match=rf"rows of {CARDS} are scored, and 'order', by which {OWN} is looked up, is no column of it"
    ):
        scored(refunds((by_order, cards())), features=CARDS)


def test_the_inputs_are_described_by_the_contracts_of_their_sets():
    examples = refunds((own_features(), cards(), towns())).examples
    assert isinstance(examples, LabelledExamples)
    said = examples.described()
    assert said["amount"] == "What was paid, in pounds."
    assert said["card_count_1d"] == "Number of events in the last 1 day, by card."
    assert "card" not in said, "an entity is no input"
