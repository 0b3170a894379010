"""What `Retrain` takes, and what it refuses, with the remedy."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lakehouse_assets import Freshness, Retrain, monitor
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets_tests.platform.orchestration.level import DAYS, FEATURES, features, gold, level_model

WATCH = monitor("demo.monitors.days", of=FEATURES, kind=Freshness("day", timedelta(days=2)))


@pytest.mark.parametrize("on", [WATCH, WATCH.name, (WATCH,), (WATCH.name,), [WATCH]], ids=repr)
def test_monitors_are_named_or_given_alone_or_together(on):
    retrain = Retrain(on=on)
    assert retrain.on == (WATCH.name,)
    Catalog((gold, features, replace(level_model, retrain=retrain), WATCH), frozenset({DAYS}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "nothing would ever start a training: give on=, new_labels= or every="),
        ({"new_labels": 0}, "new_labels=0 is a number from 1 on"),
        ({"new_labels": 1, "trainings": 0}, "trainings=0 is a number from 1 on"),
        ({"new_labels": 1, "important": 5}, "important=5 is a share"),
        ({"new_labels": 1, "cool_down": timedelta(-1)}, "write timedelta(0) for none"),
        ({"new_labels": 1, "per": timedelta(0)}, "per=datetime.timedelta(0) is no span of time"),
        ({"every": timedelta(0)}, "every=datetime.timedelta(0) is no span of time"),
        ({"on": ("a.monitors.b", "a.monitors.b")}, "on names 'a.monitors.b' twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, said):
    with pytest.raises(DeclarationError) as refused:
        Retrain(**given)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"), [("demo.monitors.day", "did you mean demo.monitors.days?"), ("shop.gold.orders", "There are: demo.monitors.days")]
)
def test_a_monitor_that_nobody_declares_is_named(name, said):
    model = replace(level_model, retrain=Retrain(on=name))
    with pytest.raises(DeclarationError) as refused:
        Catalog((gold, features, model, WATCH), frozenset({DAYS}))
    assert f"{model.name}: retrain: on={name!r} is no monitor" in str(refused.value)
    assert said in str(refused.value)
