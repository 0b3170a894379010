"""How the values of a column differ: what chance explains is no change, and what it does not is one."""

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.monitoring.why.change import Change

SIZES = [(500, 500), (240, 1_680), (2_000, 60), (5_000, 5_000)]
DRAWN = {
    "numbers": lambda random, rows: random.lognormal(size=rows).tolist(),
    "whole numbers": lambda random, rows: random.poisson(2, rows).astype(float).tolist(),
    "two texts": lambda random, rows: random.choice(["yes", "no"], rows, p=[0.3, 0.7]).tolist(),
    "50 texts": lambda random, rows: random.integers(0, 50, rows).astype(str).tolist(),
    "200 texts": lambda random, rows: random.integers(0, 200, rows).astype(str).tolist(),
    "texts of which most are rare": lambda random, rows: np.minimum(random.zipf(1.6, rows), 10**9).astype(str).tolist(),
    "texts that stand there once": lambda random, rows: [f"{one:x}" for one in random.integers(0, 2**60, rows)],
    "few of them nulls": lambda random, rows: [None if random.random() < 0.04 else 1.0 for _ in range(rows)],
    "half of them nulls": lambda random, rows: [None if random.random() < 0.5 else "a" for _ in range(rows)],
}


@pytest.mark.parametrize("kind", DRAWN)
def test_what_is_drawn_alike_has_not_changed(kind):
    """Once in a thousand it may; of 60 draws none does, and none of the files of a day."""
    seen = []
    for number in range(60):
        random = np.random.default_rng([number, len(kind)])
        rows, others = SIZES[number % len(SIZES)]
        before, after = (pl.Series(DRAWN[kind](random, count)) for count in (rows, others))
        change = Change(before, after)
        if change.carries(change):
            seen.append((rows, others, change.distance))
    assert not seen


MOVED = {
    "a category by ten points": ([*["a"] * 5_000, *["b"] * 5_000], [*["a"] * 3_000, *["b"] * 2_000]),
    "nulls by ten points": (["a"] * 5_000, [*["a"] * 4_500, *[None] * 500]),
    "nulls of a single day": ([1.0] * 900, [*[1.0] * 117, *[None] * 16]),
    "one text of many": ([str(one % 200) for one in range(5_000)], [str(one % 200) if one % 4 else "new" for one in range(5_000)]),
    "a new text": (["GB"] * 300, [*["GB"] * 40, *["UK"] * 40]),
    "half a standard deviation": (np.linspace(-2, 2, 2_000).tolist(), np.linspace(-1.5, 2.5, 500).tolist()),
}


@pytest.mark.parametrize("what", MOVED)
def test_what_moved_is_seen(what):
    before, after = map(pl.Series, MOVED[what])
    change = Change(before, after)
    assert change.carries(change)


def test_among_many_files_more_is_asked_of_each():
    random = np.random.default_rng(1)
    before = pl.Series(random.normal(size=5_000))
    files = [pl.Series(random.normal(size=40)) for _ in range(2_000)]
    alone = [one for after in files if (one := Change(before, after)).carries(one)]
    among = [one for after in files if (one := Change(before, after, among=len(files))).carries(one)]
    assert len(alone) <= 8
    assert not among


def test_a_very_large_number_is_told_in_few_signs():
    before, after = pl.Series([500.0] * 50), pl.Series([1e300] * 50)
    assert Change(before, after).words == "median 1e+300 against 500, 2e+297 times larger"
