"""The page of drift: how far the columns of tables have moved from their baseline, window by window; without monitors, a profile."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.platform.monitoring.drift.drift_log import failing
from lakehouse_assets.platform.monitoring.drift.drift_log import newest as newest_of
from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE
from lakehouse_assets.platform.monitoring.drift.thresholds import COLUMN_RATE, DOMAIN, TABLE_RATE
from lakehouse_assets.platform.monitoring.drift.vanished import VANISHED
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE as WHOLE
from lakehouse_assets.platform.monitoring.verdicts import BAD
from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.wording import counted, slice_in_words
from lakehouse_assets.views.blocks import Block, Curves, Figure, Figures, Note, Page, Rows, Text, Tone, filled, number
from lakehouse_assets.views.declared_models import has_rows
from lakehouse_assets.views.health import SEVERITIES
from lakehouse_assets.views.listed import PAGES

NAME: Final = "drift"
SENTENCE: Final = (
    "Whether the data that arrives is still like the data that models have learnt from, column by column, and from where on it is not."
)
DRIFT: Final = platform_tables.DRIFT
ANY: Final = "all columns"
TIMES: Final = "times the threshold"
TOGETHER: Final = "(all columns together)"
TESTED: Final = {
    "Kolmogorov-Smirnov statistic": "ks_test",
    "Jensen-Shannon distance": "js_distance",
    "change of the share of nulls, in points": "percent_null_delta",
    "change of the share of NaN, in points": "percent_nan_delta",
    "area under the ROC curve": DOMAIN,
    "expected rows of a value without any": VANISHED,
}
"""What people call the metrics that have thresholds."""
UNTESTED: Final = {
    "population stability index": "population_stability_index",
    "Wasserstein distance": "wasserstein_distance",
    "total variation": "tv_distance",
    "share of unseen values": "percent_unseen",
}
"""What people call the metrics that are there to be read, without a threshold."""
METRICS: Final = (TIMES, *TESTED, *UNTESTED)
_CALLED: Final = {name: said for said, name in TESTED.items()}
_READ: Final = "page: drift"
_LINES: Final = 8
_COLOURED: Final = 3
"""Lines in colour where there are more than `_FEW`."""
_FEW: Final = 4
_WINDOWS: Final = 60
"""Windows in the chart of all columns; that of one column has all of them."""
_RECENT: Final = 14
_MOST_ALARMS: Final = 200
_MOST_ITEMS: Final = 3
_MATTER: Final = ("window_start", "slice_key", "slice_value", "column_name", "drift_type")
_IS_WHOLE: Final = pl.col("column_name") == WHOLE


def page(lake: Client) -> Page:
    """The drift of every watched table."""
    watched = tables(lake)
    blocks: list[Block] = [block for table in watched for block in drift(lake, table)]
    return Page(NAME, PAGES[NAME], SENTENCE, blocks or [nothing()])


def tables(lake: Client) -> list[str]:
    """The tables whose drift was measured."""
    if not has_rows(lake, DRIFT):
        return []
    return lake.table(DRIFT).select(("table",), what=_READ).unique().collect().to_series().drop_nulls().sort().to_list()


def columns(lake: Client, table: str) -> list[str]:
    """The columns of a watched table, after all of them together."""
    rows = lake.table(DRIFT).select(("table", "column_name"), what=_READ).filter(pl.col("table") == table)
    found = rows.select("column_name").unique().collect().to_series().drop_nulls().sort().to_list()
    return [ANY, *(name for name in found if name != WHOLE)]


def nothing() -> Note:
    """What to say where no drift was measured."""
    return Note(
        "No drift was measured yet. A monitor of the kind `Drift` of a table of a product makes the next `lakehouse run` measure it: "
        "see docs/monitoring.md. Until then this page profiles a table when you choose one.",
    )


def drift(lake: Client, table: str, column: str = ANY, metric: str = TIMES) -> list[Block]:
    """How far the columns of a table have moved.

    Args:
        lake: Where it is stored.
        table: One of `tables`.
        column: One of `columns`.
        metric: One of `METRICS`.
    """
    rows = lake.table(DRIFT).select(what=_READ).filter(pl.col("table") == table).collect()
    monitors = rows["monitor"].unique().sort().to_list()
    states = {one["monitor"]: one for one in lake.monitors.list() if one["state"] is not None}
    blocks: list[Block] = []
    for monitor in monitors:
        # A window that was measured again counts as it was measured last, and not at all if its rows went.
        found = failing(newest_of(rows.filter(pl.col("monitor") == monitor))).filter(pl.col("drift_type").is_not_null())
        blocks += [Text(f"### {monitor}")] if len(monitors) > 1 else []
        of_column = found if column == ANY else found.filter(pl.col("column_name") == column)
        blocks += _of_monitor(of_column, table, metric, None if column != ANY else states.get(monitor))
    return blocks or [_none(table)]


def _none(table: str) -> Note:
    return Note(f"**{table}** has no window yet that could be compared.")


def _of_monitor(found: pl.DataFrame, table: str, metric: str, state: Mapping[str, Any] | None) -> list[Block]:
    """How far the columns of a table have moved by one of its monitors, by the newest rows of each window, as monitors judge them.

    Args:
        found: These rows.
        table: That is watched.
        metric: One of `METRICS`.
        state: What the monitor says now, as `lake.monitors.list()` has it; None: it is not said.
    """
    kinds = found["drift_type"].unique().to_list()
    kind = BASELINE if BASELINE in kinds else next(iter(kinds), BASELINE)
    whole = found.filter(pl.col("drift_type") == kind, pl.col("slice_key").is_null(), pl.col("window_start").is_not_null())
    of_columns = whole.filter(~_IS_WHOLE)
    if of_columns.is_empty():
        return [_none(table)]
    last = of_columns["window_start"].max()
    newest = of_columns.filter(pl.col("window_start") == last)
    # Of a key only nulls and vanished values are tested; it may have drifted by them.
    is_apart = pl.col("drifted").is_null() | (pl.col("not_tested").is_not_null() & ~pl.col("drifted"))
    apart, tested = newest.filter(is_apart), newest.filter(~is_apart)
    drifted = tested.filter("drifted")["column_name"].to_list()
    against = "the baseline" if kind == BASELINE else "the window before"
    tests = _tests(found)
    alarms = tests.filter("alarm").sort("window_start", "times", descending=True, nulls_last=True)
    with_alarm = alarms.filter(pl.col("window_start").is_not_null())["window_start"].n_unique()
    windows = of_columns["window_start"].n_unique()
    recent = of_columns["window_start"].unique().sort().tail(_RECENT).to_list()
    lately = alarms.filter(pl.col("window_start").is_in(recent))
    names, tone = _drifted(drifted, lately, len(recent), against if tested.height else "")
    reasons = apart.select(
        pl.col("column_name").alias("column"), pl.col("not_tested").fill_null("it has no threshold yet").alias("why it is not tested")
    )
    here = tests.filter(pl.col("window_start") == last, pl.col("slice_key").is_null(), pl.col("drift_type") == kind)
    of_tested = here.filter(pl.col("column").is_in([*tested["column_name"], TOGETHER]))
    in_chart = tests.filter(pl.col("slice_key").is_null(), pl.col("drift_type") == kind).filter(
        ~pl.col("column").is_in(apart["column_name"].to_list()) | pl.col("alarm").any().over("column")
    )
    return [
        Figures(
            (
                *([] if state is None else [_state(state)]),
                Figure("Newest window", str(last)[:16], f"of {table}"),
                Figure("Columns that drifted in it", number(len(drifted)), names, tone),
                Figure("Columns tested", number(tested.height), f"{apart.height} not tested; {counted(windows, 'window')}"),
                Figure(
                    "Windows with an alarm",
                    number(with_alarm),
                    f"promised of a quiet table: at most one window in {1 / TABLE_RATE:.0f}, of a column one in {1 / COLUMN_RATE:.0f}",
                    "plain",
                ),
            )
        ),
        _chart(whole, in_chart, metric, against),
        Rows("The newest window", filled(_shown(of_tested, ("column", "alarm", *_MEASURED))), "No column was tested in this window."),
        Rows(
            "Alarms: windows beyond their threshold, the newest first",
            filled(
                _shown(
                    alarms.head(_MOST_ALARMS),
                    ("window", "column", "slice", *_MEASURED, "new values", "values without a row", "compared with"),
                )
            ),
            "No window was beyond a threshold.",
        ),
        *([Rows("Not tested in the newest window, or for missing values alone", reasons.sort("column"))] if apart.height else []),
    ]


def _state(now: Mapping[str, Any]) -> Figure:
    """What the monitor says now: slices count too, and windows before the newest one until they are judged well."""
    is_bad = now["state"] in BAD
    severity = SEVERITIES.get(now["severity"], now["severity"])
    return Figure(
        "The monitor",
        str(now["state"]),
        severity if is_bad else "",
        ("bad" if now["severity"] == "error" else "warn") if is_bad else "good",
    )


def _drifted(newest: list[str], lately: pl.DataFrame, windows: int, against: str) -> tuple[str, Tone]:
    """What drifted in the newest window, or else shortly before it, and whether that is well.

    Args:
        newest: The columns that drifted in the newest window.
        lately: The alarms of the newest windows, of slices too.
        windows: How many these are.
        against: What the newest window is compared with; empty: nothing was tested in it.
    """
    if newest:
        return ", ".join(newest), "bad"
    here = f"none, against {against}" if against else "none was tested in this window"
    if lately.is_empty():
        return here, "good" if against else "plain"
    names = ", ".join(lately["column"].unique(maintain_order=True).head(_COLOURED))
    return f"{here}; in {lately['window_start'].n_unique()} of the newest {counted(windows, 'window')}: {names}", "warn"


def _tests(found: pl.DataFrame) -> pl.DataFrame:
    """A row for each test of a column in a window and slice, and for each change of the schema.

    `times` is how many times as far from no change as the threshold the value is, and `alarm` whether monitors call it one.
    """
    listed = (
        found.select(*_MATTER, "drifted", "thresholds", unseen=_named("unseen_items"), vanished=_named(VANISHED))
        .explode("thresholds")
        .unnest("thresholds")
        .drop_nulls("threshold")
    )
    zero = pl.when(pl.col("metric") == DOMAIN).then(0.5).otherwise(0.0)  # as likely as not
    times = (pl.col("value").abs() - zero) / (pl.col("threshold") - zero)
    measured = listed.with_columns(
        times=pl.when(times.is_finite()).then(times),
        # The row of the table says drifted where any column did.
        alarm=pl.col("exceeded") & (_IS_WHOLE | pl.col("drifted")),
        metric=pl.col("metric").replace(_CALLED),
    )
    is_told = pl.col("schema_change").is_not_null() & pl.col("slice_key").is_null()
    changed = found.filter(is_told).select(*_MATTER, metric=pl.lit("schema: ") + pl.col("schema_change"), alarm="drifted")
    return pl.concat([measured, changed], how="diagonal").with_columns(
        pl.when(_IS_WHOLE).then(pl.lit(TOGETHER)).otherwise("column_name").alias("column")
    )


def _named(items: str) -> pl.Expr:
    """The first of some items, and that there are more."""
    names = pl.col(items).list.eval(pl.element().struct.field("item"))
    more = pl.when(names.list.len() > _MOST_ITEMS).then(pl.lit(" …")).otherwise(pl.lit(""))
    return pl.when(names.list.len() > 0).then(names.list.head(_MOST_ITEMS).list.join(", ") + more)


_MEASURED: Final = ("metric", "value", "threshold", "false-alarm rate")


def _shown(tests: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """Tests as people read them: first what is farthest beyond its threshold."""
    rate = pl.format("one window in {}", (1 / pl.col("false_alarm_rate")).round().cast(pl.Int64))
    said = tests.select(
        pl.col("window_start").dt.to_string("%Y-%m-%d %H:%M").alias("window"),
        "column",
        pl.struct("slice_key", "slice_value").map_elements(_slice, return_dtype=pl.String).alias("slice"),
        pl.when("alarm").then(pl.lit("yes")).otherwise(pl.lit("no")).alias("alarm"),
        "metric",
        pl.col("value", "threshold").round_sig_figs(3),
        rate.alias("false-alarm rate"),
        pl.when(pl.col("drift_type") == BASELINE)
        .then(pl.lit("the baseline"))
        .otherwise(pl.lit("the window before"))
        .alias("compared with"),
        "times",
        _in_alarm("unseen").alias("new values"),
        _in_alarm("vanished").alias("values without a row"),
    )
    return (said.sort("alarm", "times", descending=True, nulls_last=True) if "alarm" in names else said).select(names)


def _in_alarm(items: str) -> pl.Expr:
    """The items where they belong to what is an alarm: that of a distance, or that something vanished."""
    is_told = pl.col("alarm") & pl.col("metric").is_in([_CALLED["js_distance"], _CALLED[VANISHED]])
    return pl.when(is_told).then(pl.col(items))


def _slice(of: Mapping[str, str | None]) -> str | None:
    return None if of["slice_key"] is None else slice_in_words(of["slice_key"], of["slice_value"])


def _chart(whole: pl.DataFrame, tests: pl.DataFrame, metric: str, against: str) -> Block:
    """A metric over windows, with its threshold where it has one."""
    name = f"{metric[:1].upper()}{metric[1:]}"
    at, line = pl.col("window_start").alias("at"), pl.col("column").alias("line")
    if metric in UNTESTED:
        # What is not tested, as a counter that runs on, would only hide the others.
        rows = whole.filter(pl.col("not_tested").is_null(), pl.col("drifted").is_not_null())
        lines = rows.select(
            at, pl.col(UNTESTED[metric]).alias("value"), pl.col("column_name").alias("line"), limit=pl.lit(None, pl.Float64)
        )
        heading, unit = f"{name} against {against} (it has no threshold)", f"{metric} (0: no change)"
    elif metric == TIMES:
        farthest = tests.drop_nulls("times").sort("times").group_by("window_start", "column", maintain_order=True).last()
        lines = farthest.select(at, pl.col("times").alias("value"), line, limit=pl.lit(1.0))
        heading, unit = f"How far each column is from {against}, in thresholds", f"{metric} (above 1: an alarm)"
    else:
        lines = tests.filter(pl.col("metric") == metric).select(at, pl.col("value").abs(), line, limit="threshold")
        nothing = "0.5: no difference" if TESTED[metric] == DOMAIN else "0: no change"
        heading, unit = f"{name} against {against}", f"{metric} ({nothing})"
    lines, remark = lines.drop_nulls("value").sort("at"), ""
    if lines.is_empty():
        return Note(f"No column has the metric {metric}: choose another one.")
    every = lines["at"].n_unique()
    if lines["line"].n_unique() > 1 and every > _WINDOWS:
        lines = lines.filter(pl.col("at").is_in(lines["at"].unique().sort().tail(_WINDOWS).to_list()))
        remark = f"The newest {_WINDOWS} of {every:,} windows: choose a column to see all."
    # The most moved ones, so that lines can be told apart.
    most = lines.group_by("line").agg(pl.col("value").abs().max()).sort("value", "line", descending=[True, False]).head(_LINES)["line"]
    chosen = lines.filter(pl.col("line").is_in(most.to_list()))
    return Curves(
        heading,
        chosen,
        unit,
        time="begin of the window",
        limit="" if metric in UNTESTED else "threshold",
        muted=tuple(most[_COLOURED:]) if most.len() > _FEW else (),
        windows=True,
        remark=remark,
    )


def profile(lake: Client, table: str) -> list[Block]:
    """What the columns of a table hold now."""
    if not has_rows(lake, table):
        return [Note(f"**{table}** has no rows yet. Run `lakehouse run {table}`.", "warn")]
    types = lake.table(table).schema
    rows = lake.table(table).select(what=_READ, as_text=True)
    plain = {name: kind for name, kind in rows.collect_schema().items() if not kind.is_nested()}
    found = rows.select(
        pl.len().alias("rows"),
        *(pl.col(name).null_count().alias(f"{name}:nulls") for name in plain),
        *(pl.col(name).drop_nulls().approx_n_unique().alias(f"{name}:distinct") for name in plain),
        *(getattr(pl.col(name), of)().cast(pl.String).alias(f"{name}:{of}") for name in plain for of in ("min", "max")),
        *(pl.col(name).mean().alias(f"{name}:mean") for name, kind in plain.items() if kind.is_numeric()),
    )
    values = found.collect(engine="streaming").row(0, named=True)
    count = values["rows"]
    shown = [
        {
            "column": name,
            "type": str(types[name]).split("(")[0],
            "missing (%)": round(100 * values[f"{name}:nulls"] / count, 1),
            # Of masked values it is not known how many differ.
            "distinct (about)": None if values[f"{name}:min"] == MASK else values[f"{name}:distinct"],
            "min": (values[f"{name}:min"] or "")[:40],
            "mean": None if (mean := values.get(f"{name}:mean")) is None else round(mean, 3),
            "max": (values[f"{name}:max"] or "")[:40],
        }
        for name in plain
    ]
    return [Rows(f"What {table} holds now: {number(count)} rows", pl.DataFrame(shown, infer_schema_length=None))]
