"""The page of forecasts: what is expected, with bands, and what came; by model, group and the day that it was made after."""

from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.modelling.quantile import quantile_name
from lakehouse_assets.platform.storage.known_at import as_known
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.views.blocks import Block, Curves, Figure, Figures, Note, Page, Rows, Tone, number
from lakehouse_assets.views.declared_models import Forecasts, described, forecasts, has_rows
from lakehouse_assets.views.listed import PAGES

NAME: Final = "forecasts"
SENTENCE: Final = "What is expected on each of the next days, how sure that is, and how earlier forecasts compare with what came."
ALL: Final = "all together"
_ACTUAL, _FORECAST = "actual", "forecast"
_NO_BAND: Final = "The bands of single groups cannot be added up: choose a group on the page Forecasts to see how sure its forecast is."
_READ: Final = "page: forecasts"
_BEFORE: Final = timedelta(days=56)
_WEEK: Final = timedelta(days=7)
_GOOD, _FAIR = 0.2, 0.4


def page(lake: Client) -> Page:
    """The newest forecast of every model, all groups together and each by itself."""
    blocks: list[Block] = []
    for one in forecasts(lake):
        blocks += forecast(lake, one)
    return Page(NAME, PAGES[NAME], SENTENCE, blocks or [nothing()])


def nothing() -> Note:
    """What to say where no forecast is declared."""
    return Note("No product declares a forecast yet. `forecast(...)` in a module of a product declares one: see docs/models.md.")


def groups(lake: Client, one: Forecasts) -> list[str]:
    """What the series of a forecast are called, after all of them together."""
    if not has_rows(lake, one.name):
        return [ALL]
    rows = lake.table(one.name).select(one.series.by, what=_READ) if one.series.by else None
    return [ALL] if rows is None else [ALL, *rows.select(_label(one)).unique().collect().to_series().sort().to_list()]


def origins(lake: Client, one: Forecasts) -> list[date]:
    """The days after which forecasts were made, the newest first."""
    if not has_rows(lake, one.name):
        return []
    return lake.table(one.name).select(("as_of",), what=_READ).unique().collect().to_series().sort(descending=True).to_list()


def forecast(lake: Client, one: Forecasts, group: str = ALL, origin: date | None = None) -> list[Block]:
    """One forecast and the actual values.

    Args:
        lake: Where it is stored.
        one: The forecast.
        group: One of `groups`.
        origin: One of `origins`; None: the newest.
    """
    made = origins(lake, one)
    if not made:
        return [_not_made(lake, one)]
    at = origin or made[0]
    expected = _expected(lake, one, group, at)
    actual = _actual(lake, one, group, at)
    known, is_sum = _meaning(lake, one), group == ALL and bool(one.series.by)
    return [
        *(_past(expected, at) if at == made[0] else []),
        Figures(tuple(_figures(one, expected, actual, at))),
        _curves(one, group, expected, actual),
        *([Note(known)] if known else []),
        Rows("By week", _weeks(expected, actual, at)),
        *([Rows(f"The next 7 days by {' and '.join(one.series.by)}", _by_group(lake, one, at))] if is_sum else []),
    ]


def in_short(lake: Client, one: Forecasts) -> tuple[Figure, Curves] | None:
    """The newest forecast of all groups together: what is expected of the next 7 days, and the days around; None without a forecast."""
    made = origins(lake, one)
    if not made:
        return None
    at = made[0]
    expected, actual = _expected(lake, one, ALL, at), _actual(lake, one, ALL, at)
    week, before = _sum(expected, at, at + _WEEK), _sum(actual, at - _WEEK, at)
    label = f"Forecast of {one.series.value}, {at + timedelta(days=1)} to {at + _WEEK}"
    more = f"{week / before - 1:+.0%} against the {number(before)} of the 7 days before" if week and before else ""
    return Figure(label, number(week), more), _curves(one, ALL, expected, actual)


def _curves(one: Forecasts, group: str, expected: pl.DataFrame, actual: pl.DataFrame) -> Curves:
    none = pl.lit(None, pl.Float64)
    frames = [
        actual.select(pl.col("day").alias("at"), "value", line=pl.lit(_ACTUAL), low=none, high=none),
        expected.select(pl.col("day").alias("at"), "value", pl.lit(_FORECAST).alias("line"), "low", "high"),
    ]
    heading = f"{_title(one)}: {group}" if one.series.by else _title(one)
    # Quantiles do not add up.
    is_sum = group == ALL and bool(one.series.by)
    band, remark = ("", _NO_BAND) if is_sum else (_band(one), "")
    return Curves(heading, pl.concat(frames), f"{one.series.value} a day", dashed=(_FORECAST,), band=band, remark=remark)


def _not_made(lake: Client, one: Forecasts) -> Note:
    model = one.predictions.model.name
    if not has_rows(lake, one.predictions.features):
        return Note(f"**{one.name}** has nothing to learn from yet. Land the files of its sources, then run `lakehouse run`.", "warn")
    ledger = lake.table(model)
    if not ledger.exists():
        return Note(f"**{one.name}** has no forecast yet: its model was never trained. Run `lakehouse train {model}`.", "warn")
    return Note(f"**{one.name}** has no forecast yet. Run `lakehouse run {one.name}`; the page Models says who is champion.", "warn")


def _title(one: Forecasts) -> str:
    return f"{one.series.value} by {one.series.time} ({one.predictions.model.name})"


def _band(one: Forecasts) -> str:
    quantiles = one.series.quantiles
    return f"where {quantiles[-1] - quantiles[0]:.0%} of the days should fall" if len(quantiles) > 1 else ""


def _label(one: Forecasts) -> pl.Expr:
    return pl.concat_str(one.series.by, separator=", ") if one.series.by else pl.lit(ALL)


def _of_group(rows: pl.LazyFrame, one: Forecasts, group: str) -> pl.LazyFrame:
    return rows if group == ALL else rows.filter(_label(one) == group)


def _expected(lake: Client, one: Forecasts, group: str, at: date) -> pl.DataFrame:
    """By day what is expected, with the edges of the band, by the forecast that was made last of that day."""
    low, high = (quantile_name(one.series.quantiles[edge]) for edge in (0, -1))
    rows = lake.table(one.name).select(what=_READ).filter(pl.col("as_of") == at)
    newest = rows.filter(pl.col("scored_at") == pl.col("scored_at").max())
    sums = _of_group(newest, one, group).group_by(pl.col(one.series.time).alias("day"))
    return sums.agg(value=pl.col("mean").sum(), low=pl.col(low).sum(), high=pl.col(high).sum()).sort("day").collect()


def _actual(lake: Client, one: Forecasts, group: str, at: date) -> pl.DataFrame:
    """By day what came, from eight weeks before a forecast until its end."""
    if not has_rows(lake, one.predictions.features):
        return pl.DataFrame(schema={"day": pl.Date(), "value": pl.Float64()})
    day = pl.col(one.series.time)
    around = (
        lake.table(one.predictions.features).select(what=_READ).filter(day > at - _BEFORE, day <= at + timedelta(days=one.series.horizon))
    )
    known = as_known(around, one.series.stored_key)
    sums = _of_group(known, one, group).group_by(day.alias("day"))
    return sums.agg(value=pl.col(one.series.value).sum().cast(pl.Float64)).sort("day").collect()


def _sum(frame: pl.DataFrame, after: date, until: date) -> float | None:
    found = frame.filter(pl.col("day") > after, pl.col("day") <= until)["value"]
    return float(found.sum()) if found.len() else None


def _figures(one: Forecasts, expected: pl.DataFrame, actual: pl.DataFrame, at: date) -> list[Figure]:
    week, before = _sum(expected, at, at + _WEEK), _sum(actual, at - _WEEK, at)
    found = [
        Figure(
            "Forecast for the 7 days after",
            number(week),
            f"{one.series.value}, {at + timedelta(days=1)} to {at + _WEEK}",
        ),
        Figure("Actual in the 7 days before", number(before), _change(week, before)),
        Figure("Forecast made after", str(at), f"for {counted(expected.height, 'day')}"),
    ]
    error = _error(expected, actual)
    if error is None:
        return [*found, Figure("Off by", "not known yet", _why_not(expected, at))]
    share, naive, days = error
    tone: Tone = "good" if share < _GOOD else "plain" if share < _FAIR else "warn"
    than = "" if naive is None else f"; last week's days would have been off by {naive:.0%}"
    return [*found, Figure("Off by", f"{share:.0%} of the total", f"over {counted(days, 'day')} that are over{than}", tone)]


def _why_not(expected: pl.DataFrame, at: date) -> str:
    over = expected.filter(pl.col("day") < clock.now().date()).height
    return (
        f"{counted(over, 'of these days is', 'of these days are')} over, but no actual value after {at} has come"
        if over
        else "none of these days is over"
    )


def _past(expected: pl.DataFrame, at: date) -> list[Block]:
    """What to say of a forecast that is of no day to come."""
    last, today = expected["day"].max(), clock.now().date()
    if not isinstance(last, date) or last >= today:
        return []
    text = f"All days of this forecast are over: it was made after {at}, and its last day is {last}"
    return [Note(f"{text}, {counted((today - last).days, 'day')} ago. `lakehouse land` newer files, then `lakehouse run`.", "warn")]


def _change(week: float | None, before: float | None) -> str:
    if not week or not before:
        return ""
    return f"so {abs(week / before - 1):.0%} {'more' if week >= before else 'less'} is expected"


def _error(expected: pl.DataFrame, actual: pl.DataFrame) -> tuple[float, float | None, int] | None:
    """How far expected days are from those that came, as a share of the total; the same of the days a week before each; and how many."""
    came = expected.join(actual.rename({"value": "actual"}), on="day")
    total = float(came["actual"].abs().sum())
    if not came.height or not total:
        return None
    last = actual.select(pl.col("day") + _WEEK, last="value")
    naive = came.head(7).join(last, on="day")
    share = float((came["value"] - came["actual"]).abs().sum()) / total
    if naive.height < min(came.height, 7) or came.height > naive.height:
        return share, None, came.height
    return share, float((naive["last"] - naive["actual"]).abs().sum()) / total, came.height


def _weeks(expected: pl.DataFrame, actual: pl.DataFrame, at: date) -> pl.DataFrame:
    joined = expected.join(actual.rename({"value": "actual"}), on="day", how="left")
    week = (pl.col("day") - at).dt.total_days().sub(1) // 7
    sums: list[Any] = [
        pl.col("day").min().alias("from"),
        pl.col("day").max().alias("to"),
        pl.col("value").sum().round(0).alias("forecast"),
        pl.when(pl.col("actual").is_not_null().all()).then(pl.col("actual").sum().round(0)).alias("actual"),
    ]
    return joined.group_by(week.alias("week")).agg(sums).sort("week").drop("week")


def _by_group(lake: Client, one: Forecasts, at: date) -> pl.DataFrame:
    rows = lake.table(one.name).select(what=_READ).filter(pl.col("as_of") == at)
    newest = rows.filter(pl.col("scored_at") == pl.col("scored_at").max(), pl.col("horizon") <= _WEEK.days)
    sums = newest.group_by(one.series.by).agg(pl.col("mean").sum().round(0).alias("forecast for 7 days")).collect()
    return sums.sort("forecast for 7 days", descending=True)


def _meaning(lake: Client, one: Forecasts) -> str:
    """What the number is that is forecast, by the table that has it."""
    features = next((table for table in lake.context.tables if table.name == one.predictions.features), None)
    for name in () if features is None else features.sources():
        if text := described(lake, name, one.series.value):
            return f"**{one.series.value}** of {name}: {text}"
    return ""
