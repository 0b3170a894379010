"""What holds now is read from what was said lately, and is what the whole log says; numbers are those of commits whoever writes at once.

What is read is told by files that are taken away: who needs them fails.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets import monitor
from lakehouse_assets.platform.declarations.monitors import Verdict
from lakehouse_assets.platform.monitoring import checkpoints, judgements, verdicts
from lakehouse_assets.platform.monitoring.judgements import Judgement
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.retention import delete_before
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.monitoring.kiosk import Says, noon, sales
from lakehouse_assets_tests.platform.monitoring.test_verdicts import ByWindow, judgement, window

NOON, DAY = noon(), timedelta(days=1)
BY_WINDOW = monitor("kiosk.monitors.windows", of=sales, kind=ByWindow())
WHOLE = monitor("kiosk.monitors.whole", of=sales, kind=Says())
ONCE = monitor("kiosk.monitors.once", of=sales, kind=Says())
ALL = (BY_WINDOW, WHOLE, ONCE)


EVERY = 24


@pytest.fixture(scope="module", autouse=True)
def short_logs():
    """A checkpoint comes after a few commits, so that what is long here is soon written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "EVERY", EVERY)
        patch.setattr(verdicts, "EVERY", EVERY)
        yield


def said(lake: Lakehouse) -> dict[str, list]:
    """What holds, by monitor, in some order."""
    found = verdicts.latest(lake, ALL)
    return {name: sorted((row["text"], row["column_name"], row["sequence"]) for row in rows) for name, rows in found.items()}


def of_day(day: int) -> list[Judgement]:
    """What two monitors say on a day: one of the whole, one of the window of the day, of which a slice was bad on the first day alone."""
    start = datetime(2025, 1, 1, tzinfo=UTC) + day * DAY
    about = {"window_start": start, "window_end": start + DAY, "granularity": "1 day"}
    windows = [Verdict(True, f"day {day}", **about), Verdict(day % 7 != 0, f"amount {day}", column_name="amount", **about)]
    if day == 1:
        windows.append(Verdict(False, "gone since", column_name="amount", slice_key="till", slice_value="a", **about))
    at, whole = start + DAY, Verdict(None, f"whole {day}")
    return [Judgement(BY_WINDOW, "id", day, at, "run", windows), Judgement(WHOLE, "id", day, at, "run", [whole])]


def long_history(lake: Lakehouse) -> None:
    """A monitor that spoke once long ago, and two that spoke ever since."""
    judgements.add(lake, [Judgement(ONCE, "id", 0, datetime(2025, 1, 1, tzinfo=UTC), "run", [Verdict(False, "once")])])
    for day in range(EVERY + 6):
        judgements.add(lake, of_day(day))


def history(lake: Lakehouse, name: str) -> list[dict]:
    """The rows that are shown of a monitor."""
    return verdicts.history(lake, name, verdicts.SHOWN)


def take_away(lake: Lakehouse, but: int) -> None:
    """The files of the log but for the newest."""
    files = sorted(Path(lake.table(verdicts.TABLE).uri).rglob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    for file in files[:-but]:
        file.unlink()


def test_old_files_are_not_read_and_nothing_is_missed(tmp_path):
    lake = Lakehouse(str(tmp_path))
    long_history(lake)
    whole = verdicts.holding(verdicts.scan(lake), ALL)
    before = said(lake)
    assert before == {name: sorted((row["text"], row["column_name"], row["sequence"]) for row in rows) for name, rows in whole.items()}
    shown, failed = [{one.name: of(one.name) for one in ALL} for of in (partial(history, lake), partial(verdicts.newest_failed, lake))]
    assert [len(rows) for rows in shown.values()] == [20, 20, 1]
    assert [[row["text"] for row in rows] for rows in failed.values()] == [["amount 28"], [], ["once"]]
    take_away(lake, 10)
    assert said(lake) == before
    # Also of a monitor that said little, and of one that never failed.
    assert {name: history(lake, name) for name in shown} == shown
    assert {name: verdicts.newest_failed(lake, name) for name in failed} == failed
    assert {text for text, *_ in before[ONCE.name]} == {"once"}
    assert {(text, column) for text, column, _ in before[BY_WINDOW.name]} >= {("gone since", "amount"), (f"day {EVERY + 5}", None)}
    judgements.add(lake, of_day(EVERY + 6))
    assert {text for text, *_ in said(lake)[WHOLE.name]} == {f"whole {EVERY + 6}"}
    assert verdicts.scan(lake, EVERY + 3).select("text").collect().height == 5 * 3


def test_without_a_checkpoint_or_with_one_of_another_log_the_log_is_read(tmp_path):
    lake = Lakehouse(str(tmp_path))
    log, stored = Path(lake.table(verdicts.TABLE).uri), Path(lake.table(platform_tables.CACHE).uri)
    judgements.add(lake, of_day(0))
    shutil.copytree(log, tmp_path / "earlier")
    long_history(lake)
    assert stored.exists()
    assert said(lake)[WHOLE.name] == [(f"whole {EVERY + 5}", None, lake.table(verdicts.TABLE).version())]
    # The log lost its end, as after a power failure, and went on.
    shutil.rmtree(log)
    shutil.copytree(tmp_path / "earlier", log)
    for day in range(300, 300 + EVERY + 20):
        judgements.add(lake, of_day(day))
        assert {text for text, *_ in said(lake)[WHOLE.name]} == {f"whole {day}"}
        assert ONCE.name not in said(lake)
    shutil.rmtree(stored)
    assert {text for text, *_ in said(lake)[WHOLE.name]} == {f"whole {day}"}


def test_what_retention_deleted_is_gone_whatever_the_checkpoint_has(tmp_path):
    lake = Lakehouse(str(tmp_path))
    long_history(lake)
    table = lake.table(verdicts.TABLE)
    assert {"once"} == {text for text, *_ in said(lake)[ONCE.name]}
    assert delete_before(table, date(2025, 1, 1) + 12 * DAY, "run") == 1 + 3 * 11 + 1

    def check() -> None:
        whole = verdicts.holding(verdicts.scan(lake), ALL)
        shown = said(lake)
        assert shown == {name: sorted((row["text"], row["column_name"], row["sequence"]) for row in rows) for name, rows in whole.items()}
        assert ONCE.name not in shown
        assert "gone since" not in {text for text, *_ in shown[BY_WINDOW.name]}

    check()
    for day in range(EVERY + 6, EVERY + 10):
        judgements.add(lake, of_day(day))
    check()
    for day in range(EVERY + 10, 2 * EVERY + 10):
        judgements.add(lake, of_day(day))
    shown = said(lake)
    check()
    take_away(lake, 20)
    assert said(lake) == shown, "by the next checkpoint"


def test_a_place_where_nothing_can_be_cached_fails_nobody(tmp_path, caplog):
    lake = Lakehouse(str(tmp_path))
    blocked = Path(lake.table(platform_tables.CACHE).uri)
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file, where the folder of a table would be")
    long_history(lake)
    assert lake.table(verdicts.TABLE).count() == 1 + 3 * (EVERY + 6) + 1
    assert {text for text, *_ in said(lake)[WHOLE.name]} == {f"whole {EVERY + 5}"}
    assert platform_tables.CACHE in caplog.text


SAID = st.lists(
    st.tuples(
        st.sampled_from(ALL),
        st.sampled_from(["id", "other"]),
        st.lists(
            st.builds(
                lambda day, passed, column, value, granularity, error: replace(
                    window(day, passed, column, value), granularity=granularity, error=error
                ),
                st.integers(1, 28),
                st.sampled_from([True, False, None]),
                st.sampled_from(["", "amount"]),
                st.sampled_from([None, "a"]),
                st.sampled_from(["1 day", "1 week", ""]),
                st.sampled_from(["", "OSError"]),
            ),
            min_size=1,
            max_size=3,
        ),
    ),
    max_size=8,
)


@sweeps.examples(60, 2_000)
@given(SAID, st.integers(0, 8), st.integers(0, 8))
def test_rows_that_count_and_later_ones_say_what_all_rows_say(history, first, second):
    # Some windows begin after they are judged.
    given_rows = [
        row | {"sequence": number + 1}
        for number, (watched, table_id, of) in enumerate(history)
        for row in Judgement(watched, table_id, number, datetime(2026, 1, 1 + 4 * number, tzinfo=UTC), "run", of).rows
    ]
    log = pl.DataFrame(given_rows, schema=verdicts.SCHEMA)
    known, read = pl.LazyFrame(schema=verdicts.SCHEMA), 0
    for until in sorted((first, second)):
        known = verdicts._counting(pl.concat([known, log.lazy().filter(pl.col("sequence").is_between(read + 1, until))]))
        read = until
    later = log.lazy().filter(pl.col("sequence") > max(first, second))

    def read_from(rows: pl.LazyFrame) -> list[str]:
        held = sorted(repr(row) for rows in verdicts.holding(rows, ALL).values() for row in rows)
        failed = verdicts._newest(rows.filter(~pl.col("passed")), "monitor").collect().rows()
        shown = [verdicts._newest_first(rows.filter(monitor=one.name)).head(verdicts.SHOWN).collect().rows() for one in ALL]
        return [*held, *sorted(map(repr, failed)), *map(repr, shown)]

    assert read_from(pl.concat([known, later])) == read_from(log.lazy())


# --- numbers


@dataclass(frozen=True)
class Late(Judgement):
    """One of which rows are made while another monitor adds its verdicts."""

    meanwhile: tuple = ()

    @property
    def rows(self):
        """As they are stored."""
        if self.meanwhile:
            lake, others = self.meanwhile
            while others:
                judgements.add(lake, [others.pop()])
        return super().rows


def numbered(lake: Lakehouse) -> list[tuple[int, set[int]]]:
    """The commits that added rows, each with the numbers of these."""
    table = lake.table(verdicts.TABLE)
    rows = ((version, table.change_feed(version - 1, version).collect()) for version in range(1, table.version() + 1))
    return [(version, set(found["sequence"])) for version, found in rows if found.height]


def test_a_commit_that_another_one_overtook_gets_the_next_number(tmp_path):
    lake = Lakehouse(str(tmp_path))
    judgements.add(lake, [judgement(1)])
    late = judgement(2)
    assert judgements.add(lake, [Late(**vars(late), meanwhile=(lake, [judgement(3), judgement(4)]))]) == 1
    assert numbered(lake) == [(1, {1}), (2, {2}), (3, {3}), (4, {4})]
    (row,) = verdicts.scan(lake, 3).collect().to_dicts()
    assert row["monitor"] == late.monitor.name


@pytest.mark.parametrize("writers", [4])
def test_numbers_are_those_of_commits_whoever_writes_at_once_and_each_verdict_is_there_once(tmp_path, writers):
    lake, each = Lakehouse(str(tmp_path)), 6

    def write(number: int) -> None:
        for version in range(each):
            judgements.add(Lakehouse(str(tmp_path)), [judgement(number, version=version), judgement(99, version=version)])

    with ThreadPoolExecutor(2 * writers) as pool:
        list(pool.map(write, [*range(writers)] * 2))
    assert all(numbers == {version} for version, numbers in numbered(lake))
    rows = verdicts.scan(lake).collect()
    own = rows.filter(pl.col("monitor") != "kiosk.monitors.m99")
    assert sorted(own.select("monitor", "table_version").unique().rows()) == sorted(
        (f"kiosk.monitors.m{number}", version) for number in range(writers) for version in range(each)
    )
