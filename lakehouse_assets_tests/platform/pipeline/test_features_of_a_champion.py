"""A champion is given the version of a feature set that it was trained on, or one that means the same, and never silently another."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets import Gate
from lakehouse_assets.platform.operations.doctor.findings import Checkup
from lakehouse_assets.platform.operations.doctor.pipeline_checks import standing_still
from lakehouse_assets.platform.operations.maintenance import KEEP_ALL, Maintenance
from lakehouse_assets.platform.operations.pending import pending
from lakehouse_assets.platform.orchestration import versions
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.model_step import newest_versions
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.pipeline.reproduction import reproduce
from lakehouse_assets.platform.storage import evolution
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import said_of
from lakehouse_assets_tests.platform.pipeline.park import (
    CHANCES,
    DAILY,
    DAYS,
    HABITS,
    MODEL,
    VISITS,
    Park,
    habits,
    halves,
    rewritten,
    rides,
    trained,
)


def monitor(park: Park):
    """What the check of the prediction table says."""
    return said_of(park.declarations[-1], park.root.lakehouse, datetime.now(UTC))["features_of_champion"]


def newest(park: Park) -> tuple[int, float]:
    """How many days are predicted, and the most rides that a prediction was made from, of the newest champion."""
    rows = park.predicted().filter(pl.col("model_version") == pl.col("model_version").max())
    return rows["day"].n_unique(), rows["rides"].max()


@pytest.fixture
def park(settings, request, originals) -> Park:
    """Version 1 is champion, trained on rides."""
    park = trained(originals, settings, row_for_row=getattr(request, "param", False))
    assert monitor(park).passed
    return park


def change(park: Park, function) -> None:
    """Change the function of the feature set, let a day come, and run."""
    park.features = habits(function)
    park.visit([park.root.lakehouse.table(VISITS).scan().select(pl.col("day").n_unique()).collect().item()])
    park.run()


@pytest.mark.parametrize("park", sweeps.of([False], [False, True]), indirect=True)
def test_values_of_other_code_are_not_given_to_the_champion_and_the_check_says_what_to_do(park):
    change(park, halves)
    assert newest(park) == (DAYS, 23.0), "halves would be at most 11.5"
    said = monitor(park)
    assert not said.passed
    assert f"version 1, was trained on version 1 of {HABITS}; its function was changed, and version 2 has other values" in said.text
    assert "predictions stand still" in said.text
    assert f"lakehouse train {MODEL}" in said.text
    assert park.train().champion == 2
    assert newest(park) == (DAYS + 1, 11.5)
    assert monitor(park).passed


def test_the_change_taken_back_is_the_version_that_the_champion_learnt(park):
    change(park, halves)
    change(park, rides)
    assert park.root.lakehouse.table(HABITS).scan().select(pl.col("feature_set_version").max()).collect().item() == 3
    assert newest(park) == (DAYS + 2, 23.0)
    assert monitor(park).passed


def test_code_that_gives_equal_values_is_no_other_meaning(park):
    change(park, rewritten)
    assert newest(park) == (DAYS + 1, 23.0)
    assert monitor(park).passed
    change(park, halves)
    assert not monitor(park).passed


def test_a_full_refresh_by_other_code_is_another_meaning_too(park):
    park.features = habits(halves)
    full_refresh(Refresh(park.features, park.root.lakehouse, "run"))
    park.run()
    assert newest(park) == (DAYS, 23.0)
    assert not monitor(park).passed
    findings = list(standing_still(checkup(park)))
    assert [(finding.table, finding.fix) for finding in findings] == [(CHANCES, f"lakehouse train {MODEL}")]
    assert "predictions stand still" in findings[0].what


def checkup(park: Park) -> Checkup:
    lakehouse = park.root.lakehouse
    maintenance = Maintenance(lakehouse, park.declarations, park.root.registry, timedelta(0), timedelta(0))
    return Checkup(lakehouse, park.declarations, frozenset(), maintenance, is_running=False, now=datetime.now(UTC))


@pytest.mark.parametrize("park", [False, True], ids=["all rows", "row for row"], indirect=True)
def test_rows_that_the_old_version_still_had_to_give_are_scored(park):
    park.visit([DAYS])
    park.run(DAILY, HABITS)
    park.features = habits(halves)
    park.visit([DAYS + 1])
    park.run()
    assert newest(park) == (DAYS + 1, 23.0)


def test_a_version_that_is_gone_gives_no_predictions_and_is_said_to_be_gone(park):
    evolution.drop(*(park.root.lakehouse.table(name) for name in park.features.outputs()))
    evolution.drop(*(park.root.lakehouse.table(name) for name in park.declarations[-1].outputs()))
    park.features = habits(halves)
    park.run()
    assert park.root.lakehouse.table(CHANCES).count() == 0
    assert "Version 1 is gone, or lacks a column, so nothing is predicted" in monitor(park).text
    assert park.train().champion == 2
    assert newest(park) == (DAYS, 11.5)


def test_a_rollback_leads_back_to_the_version_of_the_former_champion(park):
    change(park, halves)
    assert park.train().champion == 2
    assert park.step.rollback().champion == 1
    park.run()
    assert park.predicted().filter(model_version=1)["rides"].max() == 23.0
    assert not monitor(park).passed


def test_the_gate_does_not_let_the_champion_predict_from_features_that_mean_something_else(settings):
    park = Park(settings)
    park.visit(range(80))
    park.run()
    park.train()
    park.gate = Gate(leakage=None, folds=3, error_rate=0.2)
    for function in (rewritten, halves):
        park.features = habits(function)
        park.visit([80 if function is rewritten else 81])
        park.run(DAILY, HABITS)
        park.train()
        numbers = json.loads(park.step.ledger.scan().sort("sequence").collect()["numbers"].drop_nulls()[-1])
        guards = {guard["name"] for guard in numbers["guards"]}
        assert ("newest sum over champion's" in guards) == (function is rewritten)
        assert "columns that the champion predicts and it does not" in guards, "whatever features mean"


# --- maintenance


def maintained(park: Park, retention: timedelta = timedelta(days=7)) -> list[int]:
    """The versions of the feature set that stay."""
    done = [
        one for one in Maintenance(park.root.lakehouse, park.declarations, park.root.registry, retention).run("r") if one.table == HABITS
    ]
    assert [one.why_not for one in done] == [""]
    return park.root.lakehouse.table(HABITS).scan().select(pl.col("feature_set_version").unique().sort()).collect().to_series().to_list()


@pytest.mark.parametrize(
    "park", sweeps.of([True], [False, True]), ids=sweeps.of(["row for row"], ["all rows", "row for row"]), indirect=True
)
def test_maintenance_deletes_the_versions_that_no_model_in_use_needs_and_no_others(park):
    change(park, halves)
    assert maintained(park) == [1, 2], "the champion needs the first"
    assert park.train().champion == 2
    assert maintained(park) == [1, 2], "the previous champion needs it"
    change(park, rides)
    assert maintained(park, KEEP_ALL) == [1, 2, 3], "while a product is broken it is not known who needs what"
    trained_on = {HABITS: park.root.lakehouse.table(HABITS).version()}
    assert maintained(park) == [2, 3], "the third means what the first does"
    assert newest_versions(park.root.lakehouse, trained_on) == trained_on, "that is no reason to train again"
    assert CHANCES not in pending(park.root, park.declarations), "nor to predict again"
    scored, before = park.root.lakehouse.table(CHANCES).version(), park.predicted()
    park.run()
    assert park.root.lakehouse.table(CHANCES).version() == scored
    assert park.predicted().equals(before)
    registry = park.root.registry()
    for version, function in ((1, rides), (2, halves)):
        park.features = habits(function)
        assert reproduce(park.model, registry.version(MODEL, version), park.root.lakehouse, registry).equal
    park.features = habits(rides)
    assert park.step.rollback().champion == 1
    park.run()
    assert park.predicted().filter(model_version=1)["day"].n_unique() == DAYS + 2
    assert monitor(park).passed
    assert maintained(park) == [2, 3]


def test_predictions_go_on_after_versions_were_deleted(park):
    change(park, halves)
    assert park.train().champion == 2
    change(park, rides)
    data = versions.of_data(park.root.lakehouse.table(HABITS), "code")
    assert maintained(park) == [2, 3]
    assert versions.of_data(park.root.lakehouse.table(HABITS), "code") == data, "no data came or changed"
    assert park.step.rollback().champion == 1
    park.run()
    assert park.predicted().filter(model_version=1)["day"].n_unique() == DAYS + 2, "of the version that its code had given before"
    change(park, rides)
    assert park.predicted().filter(model_version=1)["day"].n_unique() == DAYS + 3
    assert pending(park.root, park.declarations) == {}


def test_the_version_of_a_meaning_is_told_as_it_was_at_a_version_of_the_table(park):
    table = park.root.lakehouse.table(HABITS)
    then, first = table.version(), FeatureVersion.of(table)
    change(park, halves)
    second = FeatureVersion.of(table)
    change(park, rides)
    assert (first.number_in(table, then), first.number_in(table)) == (1, 3)
    assert (second.number_in(table, then), second.number_in(table)) == (None, 2)


def test_without_a_model_only_the_newest_version_stays(settings):
    park = Park(settings)
    park.visit(range(3))
    for function in (rides, halves, rewritten):
        park.features = habits(function)
        park.visit([3])
        park.run(DAILY, HABITS)
    assert maintained(park) == [3]
