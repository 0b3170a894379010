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


NORMAL = np.random.default_rng(3).normal(500, 80, 4_000)
SAID = {
    "a fifth a thousand times larger": (np.where(np.arange(4_000) % 5 == 0, NORMAL * 1_000, NORMAL), "average 1"),
    "all a hundred times larger": (NORMAL * 100, "median 5"),
    "half a standard deviation": (NORMAL + 40, "median 5"),
    "wider": (500 + 3 * (NORMAL - 500), "standard deviation 2"),
    "ten are a million": (np.where(np.arange(4_000) < 400, 1e6, NORMAL), "average 1"),
    "more than a sum can hold": (np.where(np.arange(4_000) % 2 == 0, 1e308, NORMAL), "median "),
}


@pytest.mark.parametrize("what", SAID)
def test_of_numbers_that_statistic_is_named_that_moved_most(what):
    after, begins = SAID[what]
    said = Change(pl.Series(NORMAL), pl.Series(after)).words
    assert said.startswith(begins), said


def test_long_numbers_are_short():
    said = Change(pl.Series(NORMAL), pl.Series(NORMAL * 1e300)).words
    assert len(said) < 80, said
    assert "e+302" in said


def test_what_changed_alike_is_told_from_what_changed_otherwise():
    before = pl.Series(["Bern", "Basel"] * 500)
    nulls, renamed = before.replace({"Bern": None}), before.replace({"Basel": "Bâle"})
    one, same, other = (Change(before, after) for after in (nulls, nulls.sample(fraction=0.7, seed=1), renamed))
    assert one.differs_as(same)
    assert not one.differs_as(other)
    assert not other.differs_as(same)


FEW = {**DRAWN, "a rare text": lambda random, rows: random.choice(["usual", "rare"], rows, p=[0.99, 0.01]).tolist()}


@pytest.mark.parametrize("kind", FEW)
def test_a_file_of_few_rows_that_is_drawn_alike_has_not_changed(kind):
    """Once in a thousand it may, of how few rows however: of 1,200 files one does, and four seldom."""
    random = np.random.default_rng(len(kind))
    before = pl.Series(FEW[kind](random, 2_000))
    files = [pl.Series(FEW[kind](random, 1 + number % 19), dtype=before.dtype) for number in range(1_200)]
    seen = [len(after) for after in files if (one := Change(before, after, least=1)).carries(one)]
    assert len(seen) <= 4, seen


@pytest.mark.parametrize("what", ["a category by ten points", "half a standard deviation", "nulls by ten points"])
def test_few_rows_that_all_differ_are_no_chance(what):
    before = pl.Series(MOVED[what][0])
    after = pl.Series([None if "nulls" in what else "c" if before.dtype == pl.String else 99.0] * 5, dtype=before.dtype)
    assert Change(before, after, least=1).carries(Change(before, after, least=1))
    assert not Change(before, after).distance, "unless it is asked for"
