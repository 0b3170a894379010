"""The three verbs in this process, held to what `Compute` promises."""

import os
import subprocess
import sys

import polars as pl
import pytest

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.protocol import Compute

LOCAL: Compute = Local()


def test_map_gives_results_in_the_order_of_the_items():
    assert LOCAL.map(lambda item: item * 2, iter([3, 1, 2])) == [6, 2, 4]


def test_map_ends_at_the_first_error():
    seen = []

    def work(item):
        seen.append(item)
        return 1 / item

    with pytest.raises(ZeroDivisionError):
        LOCAL.map(work, [1, 0, 2])
    assert seen == [1, 0]


def test_key_map_keeps_rows_with_one_key_together_and_in_order():
    frame = pl.LazyFrame({"key": ["a", "b", "a"], "value": [1, 2, 3]})
    found = LOCAL.key_map(lambda rows: rows.with_columns(pl.col("value").cum_sum().over("key")), frame, ["key"])
    assert sorted(found.collect().rows()) == [("a", 1), ("a", 4), ("b", 2)]


@pytest.mark.parametrize("keys", [["value", "absent"], []])
def test_key_map_refuses_rows_that_cannot_be_kept_together(keys):
    with pytest.raises(ValueError, match=r"absent|no key"):
        LOCAL.key_map(lambda rows: rows, pl.LazyFrame({"value": [1]}), keys)


FIT = """
import os
import sys
from lakehouse_assets.platform.compute.local import Local

assert "lightgbm" not in sys.modules

def dataset(part, parts):
    import lightgbm
    import numpy
    assert (part, parts) == (0, 1)
    values = numpy.random.default_rng(7).random((400, 3))
    return lightgbm.Dataset(values, values.sum(axis=1))

parameters = {"objective": "regression", "seed": 1, "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbose": -1}
models = Local().map(lambda _: Local().fit(dataset, parameters, rounds=5), range(2))
assert models[0].num_trees() == 5
assert models[0].model_to_string() == models[1].model_to_string()
assert "num_iterations" not in parameters
print(os.environ["OMP_WAIT_POLICY"])
"""


def test_fit_trains_the_same_trees_again_and_lets_waiting_threads_sleep():
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", FIT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["PASSIVE"]
