"""What is so in this process alone; what every place of work promises is in `test_places`."""

import os
import subprocess
import sys

import pytest

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.protocol import Compute

LOCAL: Compute = Local()


def test_map_ends_at_the_first_error():
    seen = []

    def work(item):
        seen.append(item)
        return 1 / item

    with pytest.raises(ZeroDivisionError):
        LOCAL.map(work, [1, 0, 2])
    assert seen == [1, 0]


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
