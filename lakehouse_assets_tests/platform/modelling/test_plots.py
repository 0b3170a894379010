"""Plots are PNG, small, and can be drawn whatever the forecast looks like."""

from datetime import date, timedelta
from io import BytesIO

import polars as pl
import pytest
from PIL import Image

from lakehouse_assets.platform.modelling.plots import figure, forecast_plot

FIRST = date(2024, 3, 1)
HORIZONS = range(28)
BYTES_AT_MOST = 80_000


def history(groups: int, days: int = 120) -> pl.DataFrame:
    rows = [
        (f"group {group:02}", FIRST - timedelta(days=back), 1000.0 * (1 + group) + 300 * ((back * 7919 + group) % 13 - 6))
        for group in range(groups)
        for back in range(1, days + 1)
    ]
    return pl.DataFrame(rows, schema={"group": pl.String, "day": pl.Date, "net": pl.Float64}, orient="row")


def forecast(groups: int) -> pl.DataFrame:
    rows = [
        (f"group {group:02}", FIRST + timedelta(days=ahead), level * 0.7, level, level * 1.4)
        for group in range(groups)
        for ahead in HORIZONS
        for level in [1000.0 * (1 + group) + 200 * (ahead % 7)]
    ]
    schema = {"group": pl.String, "day": pl.Date, "p10": pl.Float64, "mean": pl.Float64, "p90": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def opened(picture: bytes) -> Image.Image:
    """The picture as others see it, if it is small and not just paper."""
    assert len(picture) < BYTES_AT_MOST
    image = Image.open(BytesIO(picture))
    assert image.format == "PNG"
    assert len(image.convert("RGB").getcolors()) > 10
    return image


def draw(past: pl.DataFrame, expected: pl.DataFrame) -> Image.Image:
    return opened(forecast_plot(past, expected, value="net", by="group"))


def test_without_a_forecast_the_history_is_drawn():
    nothing = forecast(2).clear()
    assert draw(history(2), nothing).size == draw(history(2), forecast(2)).size
    forecast_plot(history(2).clear(), nothing, value="net", by="group")


def test_more_groups_make_a_larger_picture_up_to_a_limit():
    one, seven, thirty, forty = (draw(history(groups), forecast(groups)).size for groups in (1, 7, 30, 40))
    assert one[0] < seven[0]
    assert seven[1] < thirty[1]
    assert thirty == forty
    assert max(thirty) <= 1600


@pytest.mark.parametrize("known", [0, 1, 2])
def test_groups_without_history_are_drawn_without_it(known):
    draw(history(known), forecast(3))


def test_history_older_than_what_is_shown_is_left_out():
    near = draw(history(3, days=60), forecast(3))
    assert draw(history(3, days=600), forecast(3)).tobytes() == near.tobytes()


def test_what_came_after_the_first_forecast_day_is_left_out():
    later = history(3).with_columns(pl.col("day") + timedelta(days=300))
    assert draw(pl.concat([history(3), later]), forecast(3)).tobytes() == draw(history(3), forecast(3)).tobytes()


def test_a_series_of_one_day_without_a_sale_is_drawn():
    draw(
        history(1, days=1).with_columns(net=pl.lit(0.0)),
        forecast(1).head(1).with_columns(p10=pl.lit(0.0), mean=pl.lit(0.0), p90=pl.lit(0.0)),
    )


def test_days_without_a_value_are_gaps():
    for column in ("net", "p10", "mean", "p90"):
        for missing in (pl.int_range(pl.len()) % 3 == 0, pl.lit(value=True)):
            gaps = pl.when(~missing).then(column).alias(column)
            past, expected = (frame.with_columns(gaps) if column in frame.columns else frame for frame in (history(3), forecast(3)))
            draw(past, expected)


def test_nothing_is_cut_off():
    """The margin of every picture is empty."""
    white = (255, 255, 255)
    for groups in (1, 2, 3, 30):
        image = draw(history(groups), forecast(groups)).convert("RGB")
        width, height = image.size
        right, below = image.crop((width - 2, 0, width, height)), image.crop((0, height - 2, width, height))
        assert {colour for _, colour in (*right.getcolors(), *below.getcolors())} == {white}, groups


def test_the_same_numbers_give_the_same_bytes():
    assert forecast_plot(history(2), forecast(2), value="net", by="group") == forecast_plot(
        history(2), forecast(2), value="net", by="group"
    )


@pytest.mark.parametrize("name", ["$_$", "$x^$", "$\\frac$", "100 % of $a_$", "_hidden", "<b>", "\N{SNOWMAN}"])
def test_names_of_groups_are_text_and_no_formula(name):
    renamed = pl.col("group").replace({"group 00": name})
    draw(history(2).with_columns(renamed), forecast(2).with_columns(renamed))
    with figure(3, 2) as (drawn, picture):
        axes = drawn.add_subplot()
        axes.barh([name], [1.0], label=name)
        axes.set_title(name)
        axes.set_xlabel(name)
    assert opened(picture.getvalue())
