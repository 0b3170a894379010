"""Texts are found by their hashes as a dictionary finds them, and repeated hashes are looked at once."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.monitoring.profiling.sketches import once
from lakehouse_assets.platform.monitoring.profiling.text_lookup import TextLookup


@given(st.lists(st.text(), unique=True, max_size=50), st.lists(st.text()))
def test_a_text_has_its_place_or_none(known, others):
    places = {text: place for place, text in enumerate(known)}
    texts = known + others
    found = TextLookup(known).find(pl.Series(texts, dtype=pl.String).hash().to_numpy())
    assert found.tolist() == [places.get(text, len(known)) for text in texts]


@pytest.mark.parametrize("size", [0, 1, 200, 5_000, 100_000])
def test_texts_whose_hashes_begin_alike_are_told_apart(size):
    texts = [f"text {number}" for number in range(size)]
    lookup = TextLookup(texts)
    assert lookup.find(pl.Series(texts, dtype=pl.String).hash().to_numpy()).tolist() == list(range(size))
    others = pl.Series([f"other {number}" for number in range(50_000)]).hash().to_numpy()
    assert (lookup.find(others) == size).all()


@pytest.mark.parametrize("values", [1, 100, 20_000, 10**12])
def test_every_key_is_counted_once_or_more_often_but_by_no_other(values):
    keys = pl.Series(np.random.default_rng(values).integers(0, values, 60_000)).hash().to_numpy()
    places, counts = once(keys)
    found = pl.DataFrame({"key": keys[places], "count": counts}).group_by("key").agg(pl.col("count").sum()).sort("key")
    assert found.equals(pl.DataFrame({"key": keys}).group_by("key").agg(count=pl.len().cast(pl.Int64)).sort("key"))
    if values <= 100:
        assert len(places) <= 2 * values
