"""Volume by a column of time: rows with a wrong time, of long ago or to come, neither begin a history nor end it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.monitors import Verdict
from lakehouse_assets.platform.monitoring.kinds.volume import volume_by
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
A_DAY = 100
WRONG = {
    "1970": date(1970, 1, 1),
    "a year ago": date(2025, 3, 1),
    "in the weeks before": date(2026, 1, 2),
    "next year": date(2027, 3, 1),
    "in a thousand years": date(2999, 12, 31),
}


def judged(path: object, rows: Mapping[date, int]) -> Verdict:
    table = Lakehouse(str(path)).table("shop.silver.orders")
    table.create(pl.Schema({"day": pl.Date()}), ())
    table.append(pl.DataFrame({"day": [day for day, count in rows.items() for _ in range(count)]}))
    return volume_by(table, "day", NOW)


def days(first: int, last: int = 1, rows: int = A_DAY) -> dict[date, int]:
    """So many rows on each of the days from so many days ago on."""
    return {NOW.date() - timedelta(days=ago): rows for ago in range(first, last - 1, -1)}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("history", [10, 20, 34, 400])
@pytest.mark.parametrize("came", [0, 1, A_DAY, 3 * A_DAY])
def test_a_row_with_a_wrong_time_changes_no_verdict(tmp_path, wrong, history, came):
    rows = days(history, 2) | ({NOW.date() - timedelta(days=1): came} if came else {})
    right = judged(tmp_path / "right", rows)
    found = judged(tmp_path / "wrong", rows | {wrong: rows.get(wrong, 0) + 1})
    assert (found.passed, found.text) == (right.passed, right.text)
    assert right.passed is (None if history < 34 else came == A_DAY)


@pytest.mark.parametrize("wrong", [date(1970, 1, 1), date(2025, 6, 1), date(2999, 12, 31)])
def test_neither_do_many_rows_of_one_wrong_day(tmp_path, wrong):
    found = judged(tmp_path, days(20) | {wrong: 50 * A_DAY})
    assert found.passed is None
    assert "2 earlier Sundays are known" in found.text


@pytest.mark.parametrize("to_come", [date(2026, 3, 2), date(2999, 12, 31)])
def test_an_outage_is_no_usual_day_though_there_are_rows_of_days_to_come(tmp_path, to_come):
    found = judged(tmp_path, days(100, 40) | {to_come: 1})
    assert found.passed is False
    assert found.numbers["usual"] == A_DAY
    assert "the newest is 2026-01-21" in found.text


def test_rows_of_days_to_come_alone_are_not_judged(tmp_path):
    found = judged(tmp_path, {date(2026, 3, 3): 5})
    assert (found.passed, found.text) == (None, "Not evaluated: the table has no rows of a day that is over yet.")
