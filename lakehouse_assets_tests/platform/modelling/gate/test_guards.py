"""Guards say the same before and after they are stored, whatever their limits."""

import math
from itertools import product

import pytest

from lakehouse_assets.platform.modelling.gate.guards import Guard
from lakehouse_assets.platform.modelling.gate.verdict import Decision


@pytest.mark.parametrize(("low", "high"), list(product((None, -math.inf, 0.5), (None, math.inf, 2.0))))
@pytest.mark.parametrize("value", [None, math.nan, 0.1, 1.0, 3.0])
def test_a_guard_is_the_same_after_it_was_stored(low, high, value):
    guard = Guard(name="coverage", value=value, low=low, high=high)
    decision = Decision(promote=False, question="first", verdict="refused", reasons=(), guards=(guard,))
    (again,) = Decision.from_json(decision.to_json()).guards
    assert (again.passed, again.limits, str(again)) == (guard.passed, guard.limits, str(guard))
    is_unlimited = low != 0.5 and high != 2.0
    assert (guard.limits == "any value") is is_unlimited
    if is_unlimited:
        assert guard.passed, "a limit of infinity is none"
    assert guard.limits in decision.table()
