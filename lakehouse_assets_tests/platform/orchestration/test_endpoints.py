"""The check `parity` in Dagster: it tells what a replay found, whatever that is."""

from collections import Counter
from itertools import combinations

import dagster as dg
import pytest

from lakehouse_assets.platform.orchestration.endpoints import result
from lakehouse_assets.platform.serving.parity_found import DIFFERENT, EQUAL, WORDS, Parity

KEY = dg.AssetKey(["shop", "inference", "orders"])


@pytest.mark.parametrize("words", [(EQUAL,), *combinations(WORDS, 2), WORDS])
def test_every_outcome_of_a_replay_is_shown(words):
    features = {f"feature_{word}": Counter({EQUAL: 3, word: 2}) for word in words}
    parity = Parity(5, 0, 0, features, Counter({EQUAL: 5}), ["some-request"])
    found = result(KEY, parity)
    assert found.passed == (DIFFERENT not in words)
    shown = {} if "features" not in found.metadata else {row.data["feature"]: row.data for row in found.metadata["features"].records}
    assert set(shown) == {name for name, counts in features.items() if counts.total() > counts[EQUAL]}
    assert (found.metadata["rows_compared"].value, found.metadata["values_compared"].value) == (
        5,
        sum(c.total() for c in features.values()),
    )
    assert all(row[word] == features[name][word] for name, row in shown.items() for word in WORDS)


@pytest.mark.parametrize(("rows", "waiting", "full"), [(0, 0, 0), (4, 4, 0), (4, 0, 4), (4, 3, 1)])
def test_a_replay_that_compared_nothing_says_so(rows, waiting, full):
    found = result(KEY, Parity(rows, waiting, full, {}, Counter({EQUAL: rows}), []))
    assert (found.passed, found.metadata["rows_compared"].value) == (rows == 0, 0)
    assert found.passed or found.severity == dg.AssetCheckSeverity.WARN
    assert "none of them compared" in found.description or "Nothing was compared" in found.description
