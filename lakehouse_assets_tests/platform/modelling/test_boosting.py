"""The door to LightGBM: what would end the process, or go wrong in silence, is refused or made harmless."""

import re
from datetime import date
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.modelling.boosting import REPRODUCIBLE, load_lightgbm, make_dataset, model_text, predict

ROWS = pl.DataFrame({"a": np.linspace(0, 1, 200), "b": np.arange(200) % 3, "y": np.linspace(0, 1, 200) ** 2, "w": np.ones(200)})
REFUSED = {
    "text": pl.Series(["x"]),
    "category": pl.Series(["x"], dtype=pl.Enum(["x"])),
    "date": pl.Series([date(2011, 1, 1)]),
    "decimal": pl.Series([Decimal("1.5")]),
    "list": pl.Series([[1.0]]),
}


def booster():
    return load_lightgbm().train({**REPRODUCIBLE, "seed": 1}, make_dataset(ROWS, ["a", "b"], "y", weight="w", seed=1), 5)


@pytest.mark.parametrize("kind", REFUSED)
def test_columns_that_would_end_the_process_are_refused_by_name(kind):
    rows = ROWS.with_columns(REFUSED[kind].new_from_index(0, ROWS.height).alias("odd"))
    with pytest.raises(TypeError, match="'odd'"):
        make_dataset(rows, ["a", "odd"], "y", weight="w", seed=1)
    with pytest.raises(TypeError, match="'b'"):
        predict(booster(), ["a", "b"], rows.with_columns(b="odd"))


def test_columns_are_found_by_name_whatever_their_order():
    straight = predict(booster(), ["a", "b"], ROWS)
    assert straight.n_unique() > 1
    assert predict(booster(), ["a", "b"], ROWS.select("w", "b", "y", "a")).equals(straight)


def test_codes_of_categories_split_as_categories():
    rows = ROWS.with_columns(y=(pl.col("b") == 1).cast(pl.Float64))
    dataset = make_dataset(rows, ["a", "b"], "y", weight="w", categorical=["b"], seed=1)
    trained = load_lightgbm().train({**REPRODUCIBLE, "seed": 1, "min_data_per_group": 1}, dataset, 1)
    assert "num_cat=1" in trained.model_to_string()


ODD_NAMES = ["net revenue", "price[£]", "a:b", 'q"x', "größe", "x,y", "{}", "a\\b", "名", "", "f1", "f0"]


def test_a_column_may_have_any_name():
    rows = ROWS.with_columns((pl.col("a") ** (power + 1)).alias(name) for power, name in enumerate(ODD_NAMES))
    trained = load_lightgbm().train({**REPRODUCIBLE, "seed": 1}, make_dataset(rows, ODD_NAMES, "y", weight="w", seed=1), 3)
    again = load_lightgbm().Booster(model_str=model_text(trained))
    straight = predict(trained, ODD_NAMES, rows)
    assert straight.n_unique() > 1
    assert predict(again, ODD_NAMES, rows.select(reversed(ODD_NAMES))).equals(straight)
    with pytest.raises(ValueError, match=re.escape("needs price[£]")):
        predict(again, ODD_NAMES, rows.drop("price[£]"))


def test_the_text_of_a_model_does_not_say_on_how_many_threads_it_was_trained():
    texts = [
        model_text(
            load_lightgbm().train(
                {**REPRODUCIBLE, "seed": 1, "num_threads": threads}, make_dataset(ROWS, ["a"], "y", weight="w", seed=1), 3
            )
        )
        for threads in (1, 2)
    ]
    assert texts[0] == texts[1]
