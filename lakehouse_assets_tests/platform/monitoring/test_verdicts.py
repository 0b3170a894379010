"""The table of verdicts: once whatever runs at once or again, bounded, and judged without Dagster too."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets import Drift, Freshness, Volume, monitor
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import Verdict
from lakehouse_assets.platform.monitoring import judgements, verdicts
from lakehouse_assets.platform.monitoring.alerts.sources import verdicts as alert_source
from lakehouse_assets.platform.monitoring.evaluation import watcher
from lakehouse_assets.platform.monitoring.judgements import Judgement
from lakehouse_assets.platform.operations.maintenance import OLD_DAYS, Maintenance
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import fail, no_registry, said
from lakehouse_assets_tests.platform.monitoring.kiosk import BRONZE, DAY, GOLD, SILVER, Says, days, land, noon, sales, stored
from lakehouse_assets_tests.running import tables_of

NOON = noon()
FRESH = monitor("kiosk.monitors.fresh", of=sales, kind=Freshness("day", timedelta(days=2)))


def judgement(number: int = 1, at: datetime = NOON, passed: bool | None = True, version: int = 3) -> Judgement:
    watched = monitor(f"kiosk.monitors.m{number}", of=sales, kind=Says())
    return Judgement(watched, "id", version, at, f"run {number}", (Verdict(passed, f"at {at}", value=at.timestamp()),))


@pytest.mark.parametrize(
    ("second", "rows"),
    [
        (judgement(at=NOON + timedelta(hours=2)), 1),
        (judgement(at=NOON + timedelta(days=1)), 2),
        (judgement(passed=False), 2),
        (judgement(passed=None), 2),
        (judgement(version=4), 2),
        (judgement(number=2), 2),
        (replace(judgement(), table_id="another"), 2),
        (replace(judgement(), monitor=replace(judgement().monitor, severity="error")), 2),
        (replace(judgement(), verdicts=()), 1),
    ],
    ids=["later", "next day", "fails", "unknown", "version", "monitor", "made again", "declared otherwise", "nothing"],
)
def test_what_is_a_new_row(settings, second, rows):
    lakehouse = tables_of(settings)
    assert judgements.add(lakehouse, [judgement()]) == 1
    assert judgements.add(lakehouse, [second]) == rows - 1
    assert stored(settings).height == rows


def test_a_kind_with_an_expression_is_the_same_in_every_process():
    @dataclass(frozen=True)
    class Where(Says):
        """Of some rows."""

        where: pl.Expr | None = None

    def digest(where: pl.Expr) -> int:
        one = judgement()
        return replace(one, monitor=replace(one.monitor, kind=Where(where=where))).digest

    assert digest(pl.col("amount") > 1) == digest(pl.col("amount") > 1)
    assert digest(pl.col("amount") > 1) != digest(pl.col("amount") > 2)


def test_what_comes_again_after_something_else_is_a_new_row(settings):
    lakehouse = tables_of(settings)
    for passed in (True, False, True):
        judgements.add(lakehouse, [judgement(passed=passed)])
    assert stored(settings).height == 3


def test_commits_carry_the_versions_that_were_judged(settings):
    lakehouse = tables_of(settings)
    judgements.add(lakehouse, [judgement(1, version=7), judgement(2, version=9)])
    table = lakehouse.table(verdicts.TABLE)
    assert (table.cursor("kiosk.monitors.m1"), table.cursor("kiosk.monitors.m2")) == (7, 9)
    assert table.version() == 1, "one commit for all"


def test_the_same_judged_at_once_is_one_row(settings):
    """Different monitors do not disturb each other, and of the same one only one adds its row."""
    lakehouse = tables_of(settings)
    given = [[judgement(number), judgement(9)] for number in (1, 2, 3)] * 3
    with ThreadPoolExecutor(len(given)) as pool:
        list(pool.map(lambda one: judgements.add(lakehouse, one), given))
    assert sorted(stored(settings)["monitor"]) == [f"kiosk.monitors.m{number}" for number in (1, 2, 3, 9)]


def test_a_table_of_an_earlier_release_gets_the_columns_that_it_lacks(settings):
    lakehouse = tables_of(settings)
    earlier = pl.Schema({name: dtype for name, dtype in verdicts.SCHEMA.items() if name != "error"})
    lakehouse.table(verdicts.TABLE).create(earlier, ("date",))
    judgements.add(lakehouse, [judgement()])
    assert "error" in stored(settings).columns


def test_old_days_go_with_maintenance(settings):
    lakehouse = tables_of(settings)
    now = datetime.now(UTC)
    judgements.add(lakehouse, [judgement(1, at=now - timedelta(days=30)), judgement(2, at=now)])
    keep = Maintenance(lakehouse, (), no_registry, timedelta(days=7), days_kept=timedelta(days=10))
    done = {one.table: one.done for one in keep.run("r")}
    assert OLD_DAYS in done[verdicts.TABLE]
    assert stored(settings)["monitor"].to_list() == ["kiosk.monitors.m2"]
    # What was judged before it was deleted is known to be judged.
    assert judgements.add(lakehouse, [judgement(2, at=now)]) == 0


def test_last_judgements(settings):
    lakehouse = tables_of(settings)
    watched = [judgement(1).monitor, judgement(2).monitor]
    assert verdicts.latest(lakehouse, watched) == {}
    judgements.add(lakehouse, [judgement(1), judgement(2, passed=None)])
    judgements.add(lakehouse, [judgement(1, at=NOON + timedelta(hours=1), passed=False)])
    found = verdicts.latest(lakehouse, watched)
    states = {name: verdicts.state_of(rows) for name, rows in found.items()}
    assert states == {"kiosk.monitors.m1": "failed", "kiosk.monitors.m2": "not evaluated"}
    assert [row["passed"] for row in verdicts.history(lakehouse, "kiosk.monitors.m1", 5)] == [False, True]


def test_the_runner_without_dagster_evaluates_the_monitors_of_what_it_refreshed(settings):
    land(settings, (1, DAY, 5))
    root = Root(settings)
    catalog = Catalog((sales, days, FRESH), frozenset({BRONZE}))
    watch = watcher(root.lakehouse, catalog, no_registry, lambda: NOON + timedelta(days=9), fail)
    Runner(catalog, root.lakehouse, root.ingestion, no_registry, 1, watch).run(run_id="r")
    found = stored(settings)
    assert found.select("monitor", "passed", "run_id").sort("monitor").rows() == [
        ("kiosk.monitors.fresh", False, "r"),
        (f"{SILVER}.volume", None, "r"),
    ]


def test_volume_by_a_column_of_time(settings):
    """The rows of yesterday against those of the Sundays before."""
    sundays = [DAY - timedelta(days=1 + 7 * week) for week in range(7)]
    land(settings, *((number * 100 + row, day, 1) for number, day in enumerate(sundays) for row in range(60 if number else 20)))
    root = Root(settings)
    catalog = Catalog((sales, days), frozenset({BRONZE}))
    Runner(catalog, root.lakehouse, root.ingestion, no_registry, 1).run(run_id="r")
    usual = monitor("kiosk.monitors.usual", of=sales, kind=Volume(time="day"))
    found = said([usual], root.lakehouse, NOON)["usual"]
    assert found.passed is False
    assert found.text.startswith("20 rows are of yesterday, Sunday 2026-03-01, by day; on 5 earlier Sundays it was 60. That is fewer")
    assert (found.rows, found.window_start) == (20, datetime(2026, 3, 1, tzinfo=UTC))
    quiet = said([usual], root.lakehouse, NOON - timedelta(days=7))["usual"]
    assert (quiet.passed, quiet.rows) == (True, 60)
    assert said([replace(usual, of=GOLD)], root.lakehouse, NOON)["usual"].passed
    # When rows stay away, the days without any do not become the usual ones; in the end nothing is said any more.
    for weeks, passed, text in (
        (
            2,
            False,
            "0 rows are of yesterday, Sunday 2026-03-15, by day (the newest is 2026-03-01); on 6 earlier Sundays it was 60, and 60 are",
        ),
        (
            6,
            False,
            "0 rows are of yesterday, Sunday 2026-04-12, by day (the newest is 2026-03-01); on 6 earlier Sundays it was 60, and 300",
        ),
        (20, None, "Not evaluated: the newest day is 2026-03-01, 140 days before yesterday"),
    ):
        stale = said([usual], root.lakehouse, NOON + timedelta(weeks=weeks))["usual"]
        assert stale.passed is passed, stale
        assert stale.text.startswith(text)


KINDS = [
    Freshness("day", timedelta(days=2)),
    Volume(),
    Volume(time="day"),
    Drift("day", against=f"{SILVER}@1"),
    Says(),
]


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_what_does_not_exist_and_what_vanished_is_not_evaluated(settings, kind):
    lakehouse = tables_of(settings)
    gone = monitor("kiosk.monitors.gone", of=sales, kind=kind)
    for _ in range(2):
        found = said([gone], lakehouse, NOON)["gone"]
        assert (found.passed, found.error) == (None, "")
        assert found.text == f"Not evaluated: {SILVER} does not exist."
        lakehouse.table(SILVER).create(pl.Schema({"day": pl.Date()}))
        shutil.rmtree(lakehouse.table(SILVER).uri)


def test_an_empty_table_is_neither_fresh_nor_stale(settings):
    lakehouse = tables_of(settings)
    lakehouse.table(SILVER).create(pl.Schema({"day": pl.Date()}))
    found = said([FRESH], lakehouse, NOON)["fresh"]
    assert (found.passed, found.text) == (None, "Not evaluated: the table has no rows yet.")


@dataclass(frozen=True)
class ByWindow(Says):
    """Judges windows that changed."""

    judges_changes = True


def window(day: int, passed: bool | None, column: str = "", slice_value: str | None = None) -> Verdict:
    start = datetime(2026, 1, day, tzinfo=UTC)
    key = "till" if slice_value else ""
    about = {"granularity": "1 day", "column_name": column, "slice_key": key, "slice_value": slice_value}
    return Verdict(passed, f"day {day}", window_start=start, window_end=start + timedelta(days=1), **about)


def of_windows(lakehouse, *said: Verdict, version: int, kind: Says | None = None) -> str:
    watched = monitor("kiosk.monitors.windows", of=sales, kind=ByWindow() if kind is None else kind)
    judgements.add(lakehouse, [Judgement(watched, "id", version, NOON, "run", said)])
    return verdicts.state_of(verdicts.latest(lakehouse, [watched])[watched.name])


def test_the_state_of_windows_is_that_of_the_newest_of_each_column_and_slice(settings):
    lakehouse = tables_of(settings)
    assert of_windows(lakehouse, window(8, True), window(9, False, "amount"), version=1) == "failed"
    assert of_windows(lakehouse, window(3, True), window(4, True, "amount"), version=2) == "failed", "a late row of an old window"
    assert of_windows(lakehouse, window(10, True), version=3) == "failed", "nothing was said of the column"
    assert of_windows(lakehouse, window(10, True, "amount", "a"), version=4) == "failed", "of a slice alone"
    assert of_windows(lakehouse, window(10, True, "amount"), version=5) == "passed"
    assert of_windows(lakehouse, window(9, False, "amount"), version=6) == "passed", "an older window"
    assert of_windows(lakehouse, window(10, False, "amount"), version=7) == "failed", "the same window judged again"
    assert of_windows(lakehouse, Verdict(None, "no baseline"), version=8) == "not evaluated"
    assert of_windows(lakehouse, Verdict(None, "broken", error="OSError"), version=9) == "error"
    assert of_windows(lakehouse, window(2, True), version=10) == "failed", "what was known of newer windows still holds"


def test_a_kind_that_judges_all_each_time_is_as_it_said_last(settings):
    """A clock that was ahead left windows of the future."""
    lakehouse = tables_of(settings)
    assert of_windows(lakehouse, window(20, False), version=1, kind=Says()) == "failed"
    assert of_windows(lakehouse, window(9, True), version=2, kind=Says()) == "passed"


def test_commits_say_what_is_last_and_no_clock_does(settings):
    lakehouse = tables_of(settings)
    watched = [judgement().monitor]
    for at, passed in ((NOON + timedelta(days=365), False), (NOON, True)):
        judgements.add(lakehouse, [judgement(at=at, passed=passed)])
    assert verdicts.state_of(verdicts.latest(lakehouse, watched)[watched[0].name]) == "passed"
    assert [row["passed"] for row in verdicts.history(lakehouse, watched[0].name, 5)] == [True, False]
    for at in (NOON + timedelta(days=365), NOON + timedelta(days=1)):
        judgements.add(lakehouse, [judgement(at=at, passed=False)])
    [failed] = verdicts.newest_failed(lakehouse, watched[0].name)
    assert failed["evaluated_at"] == NOON + timedelta(days=1)


def test_a_window_that_has_not_begun_is_not_the_newest(settings):
    lakehouse = tables_of(settings)
    far = {"window_start": NOON + timedelta(days=9_000), "window_end": NOON + timedelta(days=9_001)}
    assert of_windows(lakehouse, replace(window(20, False), **far), version=1) == "failed", "as long as there is no other"
    assert of_windows(lakehouse, window(2, True), version=2) == "passed"
    assert of_windows(lakehouse, replace(window(20, False), **far), version=3) == "passed"
    assert of_windows(lakehouse, window(3, False), version=4) == "failed"


def test_slices_without_a_value_are_no_texts(settings):
    lakehouse = tables_of(settings)
    given = [Verdict(True, repr(value), slice_key="till", slice_value=value) for value in (None, "null", "None", "")]
    judgements.add(lakehouse, [replace(judgement(), verdicts=given)])
    rows = stored(settings).to_dicts()
    assert {row["text"]: row["slice_value"] for row in rows} == {repr(value): value for value in (None, "null", "None", "")}
    assert len({alert_source._key(row) for row in rows}) == len(rows)
    assert [verdicts.verdict_of(row) for row in rows] == given
