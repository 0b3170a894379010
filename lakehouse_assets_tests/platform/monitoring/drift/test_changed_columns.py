"""A column that comes, goes or changes its type is drift by itself, and hides nothing of the others: every change, by days and slices."""

from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from typing import Any

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, CONSECUTIVE, drift
from lakehouse_assets.platform.monitoring.profiling.groups import Groups
from lakehouse_assets.platform.monitoring.profiling.profile import profile
from lakehouse_assets_tests import sweeps

START, A_DAY = datetime(2026, 3, 1, tzinfo=UTC), 60
VALUES: dict[str, Any] = {
    "absent": None,
    "null": pl.lit(None),
    "float": pl.col("amount") * 2,
    "small float": (pl.col("amount") * 2).cast(pl.Float32),
    "whole": (pl.col("amount") * 100).cast(pl.Int64),
    "decimal": pl.col("amount").cast(pl.Decimal(18, 2)),
    "text": pl.col("kind") + "x",
    "flag": pl.col("kind") == "a",
    "date": pl.lit(date(2026, 1, 1)) + pl.duration(days=pl.col("amount").cast(pl.Int64)),
    "list": pl.concat_list("amount"),
}
RING = [pair for ends in zip(VALUES, [*[*VALUES][1:], "absent"], strict=True) for pair in (ends, ends[::-1])]
"""Each with its neighbours; all pairs are a sweep."""


def rows(days: range, kind: str, factor: float = 1) -> pl.DataFrame:
    chance, count = np.random.default_rng(days.start + 1_000), len(days) * A_DAY
    at = [START + timedelta(days=day, minutes=20 * number) for day in days for number in range(A_DAY)]
    frame = pl.DataFrame({"at": at, "kind": chance.choice(["a", "b"], count), "amount": chance.lognormal(size=count) * factor})
    made = VALUES[kind]
    return frame if made is None else frame.with_columns(changed=made)


@pytest.mark.parametrize(
    ("before", "after", "every", "slices"),
    sweeps.of(
        [(*pair, *((None, ()) if place % 2 else ("1d", ("kind",)))) for place, pair in enumerate(RING)],
        [(*pair, *group) for pair in permutations(VALUES, 2) for group in ((None, ()), ("1d", ("kind",)))],
    ),
)
def test_a_changed_column_hides_no_fault_of_another(before, after, every, slices):
    known = profile(rows(range(-30, 0), before).lazy(), Groups("at", None, slices), blocks=True, every=every or "1d")
    new = pl.concat([rows(range(2), after), rows(range(2, 3), after, factor=100)])
    found = drift(profile(new.lazy(), Groups("at", every, slices), known.cells), known)
    last = found.filter(pl.col("window_start").eq_missing(found["window_start"].max()), pl.col("slice_key").is_null())
    kinds = [BASELINE] if every is None else [BASELINE, CONSECUTIVE]
    of_amount = last.filter(column_name="amount")
    assert dict(of_amount.select("drift_type", "drifted").iter_rows()) == dict.fromkeys(kinds, True)
    (change,) = last.filter(column_name="changed", drift_type=BASELINE)["schema_change"].to_list()
    assert change == {"absent": "added"}.get(before, {"absent": "missing"}.get(after, change))
    assert change is not None
    assert last.filter(column_name="changed", drift_type=BASELINE)["drifted"].item()
