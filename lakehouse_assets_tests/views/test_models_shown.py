"""The champion's numbers are the champion's, and of a decision the line is shown that decides."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.platform.modelling.gate.comparison import Comparison
from lakehouse_assets.platform.modelling.gate.verdict import Decision
from lakehouse_assets.views.accuracy import _over_time
from lakehouse_assets.views.blocks import Bars, Curves, Rows, Text
from lakehouse_assets.views.in_html import Html
from lakehouse_assets.views.models import _evaluation, _figures, decisive

_COMPARED = "WAPE 0.2 against 0.5 for the baseline naive: by fold a loss 60% lower."
_REFUSED = "Refused: the band is too wide."


def row(
    version: int, champion: int, before: int | None, *, candidate: str = "model", opponent: str = "", score: float = 0.0
) -> dict[str, Any]:
    """A line of a ledger."""
    numbers = ""
    if opponent:
        one = Comparison(
            kind="baseline",
            opponent=opponent,
            metric="WAPE",
            test="superiority",
            margin=0.0,
            least_gain=0.0,
            error_rate=0.05,
            score=score,
            opponent_score=0.5,
            gain=0.6,
            low=0.0,
            high=1.0,
            chance=0.01,
            better=4,
            needed=4,
            missing=(),
            equal=False,
            passed=True,
            by_fold=(),
        )
        numbers = Decision(promote=False, question="first", verdict="refused", reasons=(), comparisons=(one,)).to_json()
    decision = "promoted" if version == champion else "kept as challenger"
    return {
        "version": version,
        "champion": champion,
        "champion_before": before,
        "candidate": candidate,
        "decision": decision,
        "decided_at": datetime(2026, 1, version, tzinfo=UTC),
        "decided_by": None,
        "question": "first",
        "reasons": f"{_COMPARED}\n{_REFUSED}",
        "numbers": numbers,
    }


def test_beside_a_baseline_as_champion_stands_the_score_of_the_baseline():
    made = [row(3, 2, 2, opponent="naive", score=0.2), row(2, 2, None, candidate="naive")]
    shown = {one.label: one for one in _figures(made, [one for one in made if one["numbers"]], "team:a")}
    assert shown["Champion"].value == "version 2"
    assert shown["WAPE of the champion"].value == "0.5"
    assert "version 3: 0.2" in shown["WAPE of the champion"].note
    assert shown["Newest decision"].value == "version 3 kept as challenger"


def test_beside_a_model_as_champion_stands_its_own_score_and_no_other():
    made = [row(3, 2, 2, opponent="champion", score=0.2), row(2, 2, 1, opponent="naive", score=0.3)]
    shown = {one.label: one.value for one in _figures(made, [one for one in made if one["numbers"]], "team:a")}
    assert shown["WAPE of the champion"] == "0.3"
    unjudged = [row(3, 2, 2, opponent="naive", score=0.2), row(2, 2, 1)]
    shown = {one.label: one.value for one in _figures(unjudged, unjudged[:1], "team:a")}
    assert "WAPE of the champion" not in shown


def test_a_champion_is_shown_beside_what_came_nearest_to_it():
    made = row(2, 2, 1, opponent="far", score=0.3)
    numbers = Decision.from_json(made["numbers"])
    (far,) = numbers.comparisons
    near = replace(far, opponent="near", opponent_score=0.31, gain=0.03, passed=False)
    made["numbers"] = replace(numbers, comparisons=(far, near)).to_json()
    shown = {one.label: one.note for one in _figures([made], [made], "team:a")}
    assert shown["WAPE of the champion"].startswith("near: 0.31")


def test_a_comparison_says_of_which_version_it_is_and_what_decided():
    text, rows, *_ = _evaluation(row(3, 2, 2, opponent="naive", score=0.2), 2)
    assert isinstance(text, Text)
    assert "Version 3: kept as challenger" in text.markdown
    assert _REFUSED in text.markdown
    assert isinstance(rows, Rows)
    assert rows.heading.startswith("Version 3 compared")


@pytest.mark.parametrize(("versions", "baselines"), [((1, 2), {"baseline of version 1", "baseline of version 2"}), ((1,), {"baseline"})])
def test_each_version_has_a_line_of_its_baseline_and_no_line_jumps_within_a_window(versions, baselines):
    weeks = [datetime(2026, 10, 5, tzinfo=UTC) + timedelta(weeks=week) for week in range(9)]
    known = pl.DataFrame(
        [
            {"window_start": week, "model_version": number, "value": 0.3, "low": 0.2, "high": 0.4, "baseline": 0.4 + number / 10}
            for week in weeks
            for number in versions
        ]
    )
    chart = _over_time(known, "WAPE")
    assert set(chart.dashed) == baselines
    assert not chart.frame.select("at", "line").is_duplicated().any()
    assert chart.ticks == weeks
    assert f"{weeks[3]:%d %b %y}" in chart.drawn_by(Html())


@pytest.mark.parametrize(("values", "halves"), [((0, 1, 1), False), ((0.2, 0.9, 1.0), True)])
def test_an_axis_of_whole_numbers_has_no_halves(values, halves):
    frame = pl.DataFrame({"name": ["a", "b", "c"], "value": values, "part": "rows"})
    for chart in (
        Bars("How many", frame, "rows", "name"),
        Curves(
            "How many", frame.select(pl.lit("x").alias("line"), "value", at=pl.Series([date(2026, 1, day) for day in (1, 2, 3)])), "rows"
        ),
    ):
        assert chart.is_whole is not halves
        assert bool(re.search(r"<text[^>]*>0\.\d+</text>", chart.drawn_by(Html()))) is halves


@pytest.mark.parametrize(
    ("reasons", "decides"),
    [
        ((_COMPARED, _COMPARED, _REFUSED), _REFUSED),
        ((_COMPARED, _REFUSED, "Refused: b."), f"{_REFUSED} Refused: b."),
        ((_COMPARED, "Passed as the first model."), "Passed as the first model."),
        (("No model has passed the gate yet.",), "No model has passed the gate yet."),
        (("",), ""),
    ],
)
def test_the_line_that_decides(reasons, decides):
    assert decisive("\n".join(reasons)) == decides
