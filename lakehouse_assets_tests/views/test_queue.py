"""A review queue has the rows that wait for a decision, in words of the target."""

from datetime import UTC, timedelta

import polars as pl
import pytest

from lakehouse_assets import open_lakehouse
from lakehouse_assets.platform import clock
from lakehouse_assets.views import forecasts, review
from lakehouse_assets.views.blocks import Figures, Note, Rows
from lakehouse_assets.views.declared_models import classifiers
from lakehouse_assets_tests.running import tables_of


@pytest.fixture
def lake(root):
    return open_lakehouse(settings=root)


def shown(lake, **wanted):
    (one,) = [one for one in classifiers(lake) if one.name.startswith("shop.")]
    blocks = review.queue(lake, one, **wanted)
    (rows,) = [block for block in blocks if isinstance(block, Rows)]
    return one, rows.frame, blocks


def test_rows_whose_outcome_is_known_are_left_out_unless_they_are_wanted(lake, root):
    one, waiting, blocks = shown(lake, most=10_000)
    _, every, _ = shown(lake, most=10_000, settled=True)
    labels = one.labels
    assert labels is not None
    assert labels.settled is not None
    rows = tables_of(root).table(labels.table).scan()
    young = rows.filter(pl.col(labels.at) > pl.col(labels.at).max() - labels.settled).select(labels.entity).collect()
    assert every.height > waiting.height > 0
    assert set(waiting.select(labels.entity).rows()) == set(young.rows())
    said = [block.text for block in blocks if isinstance(block, Note)]
    assert any("outcome is known already" in text for text in said)


def test_decisions_are_words_of_the_target(lake):
    one, every, blocks = shown(lake, settled=True)
    words = set(review.decisions(lake, one)) - {review.ANY}
    assert words <= {one.target, f"no {one.target}"}
    assert set(every["decision"]) <= words
    (figures,) = [block for block in blocks if isinstance(block, Figures)]
    assert f"Expected: {one.target}" in {figure.label for figure in figures.items}


def test_one_probability_for_all_rows_is_said():
    def said(*values: float) -> int:
        return len(review._only_one(pl.LazyFrame({"probability": values}, schema={"probability": pl.Float64})))

    assert said(0.25, 0.25) == 1
    assert said(0.25, 0.5) == said(0.25) == said() == 0


def test_numbers_of_reasons_are_written_as_those_of_columns():
    assert review._with_commas("Units: 180; Amount: 3614.67; Age: none; x: 12345") == "Units: 180; Amount: 3,614.67; Age: none; x: 12,345"


def test_a_forecast_of_past_days_says_that_and_why_it_is_not_judged():
    today = clock.now().astimezone(UTC).date()

    def days(first: int) -> pl.DataFrame:
        return pl.DataFrame({"day": [today + timedelta(days=first + number) for number in range(3)]})

    made = today - timedelta(days=10)
    assert "no actual value" in forecasts._why_not(days(-9), made)
    assert forecasts._why_not(days(0), today) == "none of these days is over"
    (note,) = forecasts._past(days(-9), made)
    assert "All days of this forecast are over" in note.text
    assert forecasts._past(days(0), today) == []
