"""What a gate takes, and what it refuses, with the remedy."""

from dataclasses import replace

import pytest

from lakehouse_assets import Gate, LeakageLimits
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets_tests.platform.orchestration.level import DAYS, features, gold, level_model


@pytest.mark.parametrize(("known", "said"), [("forecasts", "did you mean forecast?"), ("weather", "There are: forecast, naive_forecast")])
def test_a_known_input_that_the_model_has_not_is_named(known, said):
    limits = LeakageLimits(known=("forecast", known))
    with pytest.raises(DeclarationError) as refused:
        Catalog((gold, features, replace(level_model, gate=Gate(leakage=limits))), frozenset({DAYS}))
    assert f"{level_model.name}: LeakageLimits(known={known!r}) is no input of it" in str(refused.value)
    assert said in str(refused.value)
    Catalog((gold, features, replace(level_model, gate=Gate(leakage=LeakageLimits(known=("forecast",))))), frozenset({DAYS}))
