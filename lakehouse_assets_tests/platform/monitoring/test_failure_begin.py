"""Where a failure began is found over the gaps of what lies about at its threshold, for each column by itself."""

from datetime import UTC, datetime, timedelta

import pytest

from lakehouse_assets import Drift, monitor
from lakehouse_assets.platform.declarations.monitors import OVER
from lakehouse_assets.platform.monitoring import judgements, verdicts
from lakehouse_assets.platform.monitoring.in_words import in_full
from lakehouse_assets.platform.quality.monitors import Verdict
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

NOW = datetime.now(UTC)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
WATCHED = monitor("shop.monitors.drift", of="shop.silver.sales", kind=Drift("at"))
WAIT = 3
CITY = {"slice_key": "kind", "slice_value": "city"}


def verdict(day: int, passed: bool, column: str = "amount", **about) -> Verdict:
    begin = BEGIN + timedelta(days=day)
    window = {"window_start": begin, "window_end": begin + timedelta(days=1), "granularity": "1d"}
    return Verdict(passed, "it says so", column_name=column, rows=100, **window, **about)


def days(text: str, **about) -> list[Verdict]:
    """A letter a day: F failed, p passed, a dot was not tested."""
    return [verdict(day, letter == "p", **about) for day, letter in enumerate(text) if letter != "."]


def began(tmp_path, *evaluations: list[Verdict]) -> list[tuple[str | None, str | None, int | None]]:
    lakehouse = Lakehouse(str(tmp_path))
    for number, said in enumerate(evaluations, 1):
        judgements.add(lakehouse, [judgements.Judgement(WATCHED, "id", number, NOW + timedelta(minutes=number), "run", said)])
    found = verdicts.began(lakehouse, verdicts.newest_failed(lakehouse, WATCHED.name), WAIT)
    return [
        (row["column_name"], row["slice_value"], None if row["window_start"] is None else (row["window_start"] - BEGIN).days)
        for row in found
    ]


@pytest.mark.parametrize(
    ("windows", "first"),
    [
        ("F", 0),
        ("ppFFF", 2),
        ("pFppFp", 1),
        ("pFp.F.", 1),
        ("FppppF", 5),
        ("FFpppppFpF", 7),
        ("FppFppFppF", 0),
    ],
)
@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_failure_goes_back_over_gaps(tmp_path, windows, first, is_at_once):
    said = days(windows)
    given = [said] if is_at_once else [[one] for one in said]
    assert began(tmp_path, *given) == [("amount", None, first)]


def test_each_column_has_its_own_begin_and_a_slice_tells_that_of_a_column_that_is_well_as_a_whole(tmp_path):
    said = [*days("pFpFF"), *days("FFpFF", **CITY), *days("ppppF", column="price"), *days("pppFp", column="tax", **CITY)]
    assert set(began(tmp_path, said)) == {("amount", None, 1), ("price", None, 4), ("tax", "city", 3)}


def test_what_was_corrected_or_is_gone_is_no_begin(tmp_path):
    corrected = [verdict(0, passed=True)]
    assert began(tmp_path / "one", days("FpF"), corrected) == [("amount", None, 2)]
    over = Verdict(True, "its rows are gone", numbers={OVER: 1}, column_name="amount", granularity="1d")
    assert began(tmp_path / "other", days("F"), [over], [verdict(2, passed=False)]) == [("amount", None, 2)]
    assert began(tmp_path / "third", days("FpF"), [over]) == [("amount", None, 0)], "all is over: it is told as it was"


def test_what_has_no_windows_is_as_it_failed_last(tmp_path):
    assert began(tmp_path, [Verdict(False, "it is old")], [Verdict(False, "it is older")]) == [(None, None, None)]


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({}, "On 2026-01-02: it says so"),
        (CITY, "On 2026-01-02 (kind=city): it says so"),
        ({"text": "2026-01-02 had no rows"}, "2026-01-02 had no rows"),
        ({"window_start": None}, "it says so"),
    ],
)
def test_what_is_said_names_window_and_slice_once(about, said):
    assert in_full({**vars(verdict(1, passed=False)), **about}) == said
