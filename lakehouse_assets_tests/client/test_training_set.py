"""A training set in a notebook: of a model, or of labels that are joined by hand, with where it is from and what it gives away."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from lakehouse_assets import Contract, Labels, Timestamp, column
from lakehouse_assets.client.client import Client
from lakehouse_assets.client.context import Context
from lakehouse_assets_tests.platform.pipeline.park import DAILY, HABITS, MODEL, RETURNS, Park, daily, returns

LABELS = Labels(RETURNS, entity=("guest",), at="at", target="returned", settled=timedelta(days=1))


@pytest.fixture
def park(settings) -> Park:
    park = Park(settings)
    park.visit(range(30))
    park.run(DAILY, HABITS)
    return park


def opened(park: Park) -> Client:
    return Client(Context(park.settings, park.declarations, lambda _: None))


def test_that_of_a_model_and_of_its_labels_and_feature_sets_are_the_same(park):
    of_model, by_hand = opened(park).features.training_set(MODEL), opened(park).features.training_set(LABELS, [HABITS])
    assert of_model.rows.equals(by_hand.rows)
    assert of_model.rows.columns == ["guest", "at", "rides", "returned", "label_known_at"]
    assert of_model.manifest.digest == by_hand.manifest.digest
    assert {table.name for table in of_model.manifest.tables} == {RETURNS, HABITS}
    assert of_model.leakage.inputs["input"].to_list() == ["rides"]


def test_what_is_written_later_is_not_in_it(park):
    client = opened(park)
    before = client.features.training_set(MODEL)
    park.visit(range(30, 33), seed=2)
    park.run(DAILY, HABITS)
    after = client.features.training_set(MODEL)
    known = before.rows["at"].max()
    assert after.rows.height > before.rows.height
    assert after.rows.filter(after.rows["at"] <= known).equals(before.rows)


class PersonalHabits(Contract):
    """What is known of a person at the end of a day."""

    guest: str = column(key=True, personal=True)
    day: date = column(key=True)
    rides: float
    known_at: Timestamp


def test_personal_data_is_masked_after_the_join(park):
    personal = replace(park.features, contract=PersonalHabits)
    client = Client(Context(park.settings, (daily, personal, returns(personal)), lambda _: None))
    masked, shown = client.features.training_set(MODEL).rows, opened(park).features.training_set(MODEL).rows
    assert set(masked["guest"]) == {"•••"}
    assert masked.drop("guest").equals(shown.drop("guest"))


def test_features_beside_the_name_of_a_model_are_refused(park):
    with pytest.raises(ValueError, match="leave features out"):
        opened(park).features.training_set(MODEL, [HABITS])
    with pytest.raises(LookupError, match="habit"):
        opened(park).features.training_set(LABELS, ["park.features.habit"])
