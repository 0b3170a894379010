"""What drifts is what the whole log of drift says, and is read from its newest rows."""

from datetime import timedelta
from pathlib import Path

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.monitoring.checkpoints import EVERY
from lakehouse_assets.platform.monitoring.drift import drifting
from lakehouse_assets.platform.monitoring.drift.drift_log import DRIFTS_SCHEMA, GONE
from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, CONSECUTIVE
from lakehouse_assets.platform.monitoring.drift.drifting import Recent
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.monitoring.drift.test_profile_tables import LATER, START

MONITOR, DAY = "shop.monitors.moved", timedelta(days=1)
Window = dict[tuple[str, str | None], tuple[bool | None, bool | None]]
"""By column and slice whether it drifted from the baseline, and from the window before; nothing: the rows are gone."""


def rows(sequence: int, windows: dict[int, Window]) -> pl.DataFrame:
    """The rows of a commit."""
    found = []
    for day, window in windows.items():
        about = {"monitor": MONITOR, "window_start": START + day * DAY, "sequence": sequence, "evaluated_at": LATER + sequence * DAY}
        about["rows"] = 10 if (day + sequence) % 3 == 0 else 100
        found.append({**about, "column_name": ":table", "drift_type": BASELINE if window else None, "not_tested": None if window else GONE})
        for (column, value), compared in window.items():
            where = {"column_name": column, "slice_key": None if value is None else "till", "slice_value": value, "data_type": "Float64"}
            found += [
                {**about, **where, "drift_type": kind, "drifted": drifted}
                for kind, drifted in zip((BASELINE, CONSECUTIVE), compared, strict=True)
            ]
    return pl.DataFrame(found, schema=DRIFTS_SCHEMA).with_columns(date=pl.col("evaluated_at").dt.date(), table_version="sequence")


MATTERS = st.tuples(st.sampled_from(["amount", "till"]), st.sampled_from([None, "a"]))
TESTED = st.tuples(st.sampled_from([True, False, None]), st.sampled_from([True, False]))
COMMITS = st.lists(st.dictionaries(st.integers(0, 4), st.dictionaries(MATTERS, TESTED, max_size=3), min_size=1, max_size=3), max_size=6)


@sweeps.examples(60, 2_000)
@given(COMMITS, st.integers(0, 6), st.builds(Recent, st.integers(1, 3), st.sampled_from([0, 50])))
def test_a_state_that_went_on_is_that_of_all_rows_or_is_not_told(commits, first, recent):
    log = pl.concat([DRIFTS_SCHEMA.to_frame(), *(rows(number + 1, one) for number, one in enumerate(commits))])
    nothing = drifting._STATE.to_frame()
    whole = drifting._went_on(nothing, log, recent)
    known = drifting._went_on(nothing, log.filter(pl.col("sequence") <= first), recent)
    found = drifting._went_on(known, log.filter(pl.col("sequence") > first), recent)
    only_new = all(day > max((d for one in commits[:first] for d in one), default=-1) for one in commits[first:] for day in one)
    assert found is not None or not only_new
    if found is not None:
        order = ["slice_key", "slice_value", "column_name", "window_start"]
        assert found.sort(order).equals(whole.sort(order))


def test_of_a_long_log_the_newest_rows_are_read(tmp_path):
    """What is read is told by files that are taken away: who needs them fails."""
    lake = Lakehouse(str(tmp_path))
    log = lake.table(platform_tables.DRIFT)
    log.create(DRIFTS_SCHEMA, ("date",))
    days = EVERY + 6
    for day in range(days):
        window: Window = {("amount", None): (day % 2 == 0, False)} | ({("amount", "a"): (True, False)} if day == 3 else {})
        log.append(rows(day + 1, {day: window}))
        if day > 1:
            drifting.drifting(lake, MONITOR, day, LATER)
    state = drifting.drifting(lake, MONITOR, days - 1, LATER)
    files = sorted(Path(log.uri).rglob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    for file in files[: EVERY - 2]:
        file.unlink()
    again = drifting.drifting(lake, MONITOR, days - 1, LATER)
    assert (again.before, again.now) == (state.before, state.now)
    old = {("till", "a", "amount"): START + 3 * DAY}
    assert dict(state.before) == old | {(None, None, "amount"): START + (days - 2) * DAY}
    assert dict(state.now) == old


def test_what_drifts_together_or_still_is_read_from_its_windows_on(tmp_path):
    """What is read is told by files that are taken away: who needs them fails."""
    lake = Lakehouse(str(tmp_path))
    log = lake.table(platform_tables.DRIFT)
    log.create(DRIFTS_SCHEMA, ("date",))
    for day in range(3):
        log.append(rows(day + 1, {day: {("amount", None): (True, False)}}))
    state = drifting.drifting(lake, MONITOR, 3, LATER)
    for file in sorted(Path(log.uri).rglob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)[:2]:
        file.unlink()
    assert drifting.together_drifts(lake, MONITOR, Recent(), state), "it is not known that they do not"
    amount = (None, None, "amount")
    assert drifting.drift_still(lake, MONITOR, None, {amount: START + 2 * DAY, (None, None, "till"): START + 2 * DAY}) == {amount}
