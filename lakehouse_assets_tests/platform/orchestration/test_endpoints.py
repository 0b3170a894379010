"""The check `parity` in Dagster: it tells what a replay found, whatever that is."""

from collections import Counter
from itertools import combinations

import dagster as dg
import pytest

from lakehouse_assets.platform.orchestration.endpoints import result
from lakehouse_assets.platform.serving.parity import DIFFERENT, EQUAL, WORDS, Parity

KEY = dg.AssetKey(["shop", "inference", "orders"])


@pytest.mark.parametrize("words", [(EQUAL,), *combinations(WORDS, 2), WORDS])
def test_every_outcome_of_a_replay_is_shown(words):
    features = {f"feature_{word}": Counter({EQUAL: 3, word: 2}) for word in words}
    parity = Parity(5, 0, features, Counter({EQUAL: 5}), ["some-request"])
    found = result(KEY, parity)
    assert found.passed == (DIFFERENT not in words)
    shown = {} if "features" not in found.metadata else {row.data["feature"]: row.data for row in found.metadata["features"].records}
    assert set(shown) == {name for name, counts in features.items() if counts.total() > counts[EQUAL]}
    assert all(row[word] == features[name][word] for name, row in shown.items() for word in WORDS)
