"""Every place of work does what `Compute` promises, whatever it is: the same results, errors and deadlines."""

import itertools
from functools import partial

import lightgbm
import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.compute import deadline, progress
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.compute.places import place_of_work
from lakehouse_assets.platform.compute.processes import Processes
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.compute import work

PLACES = {"local": Local(), "processes": Processes(2, least_rows=0)}


@pytest.fixture(params=PLACES.values(), ids=PLACES)
def place(request):
    return request.param


def test_map_gives_results_in_the_order_of_the_items(place):
    assert place.map(work.double, iter([3, 1, 2])) == [6, 2, 4]
    assert place.map(work.slowest_first, range(5)) == [0, 1, 2, 3, 4]
    assert place.map(work.double, []) == []
    assert place.map(work.double, [7]) == [14]


def test_an_error_is_raised_as_it_was(place):
    with pytest.raises(work.Odd, match="1: is odd") as raised:
        place.map(work.odd_error, range(4))
    assert (type(raised.value), raised.value.item, raised.value.reason) == (work.Odd, 1, "is odd")
    assert progress.now() == ""


def test_a_deadline_holds_where_the_work_is(place):
    assert place.map(work.within_time, range(2)) == [False, False]
    with deadline.stopping_at(deadline.clock() + 0.5), pytest.raises(deadline.OutOfTime):
        place.map(work.for_ever, range(2))
    assert not deadline.has_passed()


def test_work_within_work_is_local(place):
    assert place.map(partial(work.trains_nested, Processes(2)), [1, 2])[1][1] == [4, 6]
    assert {kind for kind, _ in place.map(partial(work.trains_nested, place), [1, 2])} == {"Local"}


def test_key_map_keeps_rows_with_equal_keys_together_and_in_order(place):
    """The same rows by each place, for keys of any type, missing ones and numbers of which there are several."""
    numbers = [0.0, -0.0, float("nan"), -float("nan"), None, 1.5]
    rows = [(a, b) for a, b in itertools.product(numbers, ["x", "", None]) for _ in range(3)]
    frame = pl.LazyFrame(rows, schema={"a": pl.Float64, "b": pl.String}, orient="row")
    frame = frame.with_columns(pl.col("b").cast(pl.Categorical), pl.int_range(pl.len()).shuffle(seed=1).alias("value"))
    found = place.key_map(work.running_total, frame, ["a", "b"]).collect()
    assert found.sort("value").equals(work.running_total(frame).collect().sort("value"))


@pytest.mark.parametrize("keys", [["value", "absent"], []])
def test_key_map_refuses_rows_that_cannot_be_kept_together(place, keys):
    with pytest.raises(ValueError, match=r"absent|no key"):
        place.key_map(work.running_total, pl.LazyFrame({"value": [1]}), keys)


def _dataset(part, parts):
    assert (part, parts) == (0, 1)
    values = np.random.default_rng(7).random((400, 3))
    return lightgbm.Dataset(values, values.sum(axis=1))


def test_fit_trains_the_same_trees(place):
    parameters = {"objective": "regression", "seed": 1, "deterministic": True, "force_row_wise": True, "verbose": -1}
    trained = place.fit(_dataset, parameters, rounds=5).model_to_string()
    assert trained == Local().fit(_dataset, parameters, rounds=5).model_to_string()


def test_the_setting_names_every_place(tmp_path):
    choices = next(field for field in Settings.__dataclass_fields__.values() if field.name == "compute").metadata["choices"]
    assert [type(place_of_work(name)).__name__.lower() for name in choices] == list(choices)
    with pytest.raises(LookupError, match=r"'moon': choose one of local, processes"):
        place_of_work("moon")
    with pytest.raises(ValueError, match=r"-1 processes cannot work.*LAKEHOUSE_COMPUTE_WORKERS"):
        place_of_work("processes", -1)
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path), "LAKEHOUSE_COMPUTE": "processes", "LAKEHOUSE_COMPUTE_WORKERS": "3"})
    assert Root(settings).compute == Processes(3) == resources(settings)["lakehouse"].place_of_work()
