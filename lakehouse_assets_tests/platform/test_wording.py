"""Words that messages are made of."""

from datetime import timedelta

import pytest

from lakehouse_assets.platform.wording import span

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(0), "0 seconds"),
        (SECOND, "1 second"),
        (SECOND * 59.96, "1 minute"),
        (120 * SECOND, "2 minutes"),
        (HOUR - SECOND / 100, "1 hour"),
        (1.5 * HOUR, "1.5 hours"),
        (23 * HOUR, "23 hours"),
        (DAY, "1 day"),
        (36 * HOUR, "1.5 days"),
        (30 * DAY, "30 days"),
        (-3 * DAY, "-3 days"),
    ],
)
def test_a_span_of_time_is_told_in_the_largest_unit_that_it_fills(length, said):
    assert span(length) == said
