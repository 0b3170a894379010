"""The page of drift: how far the columns of tables have moved from their baseline, window by window; without monitors, a profile."""

from typing import Final

import polars as pl

from lakehouse_assets.client import Client
from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE
from lakehouse_assets.platform.monitoring.drift.profile_tables import newest as newest_of
from lakehouse_assets.platform.monitoring.profiling.profile import TABLE as WHOLE
from lakehouse_assets.platform.quality.masking import MASK
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.wording import counted
from lakehouse_assets.views.blocks import Block, Curves, Figure, Figures, Note, Page, Rows, Text, Tone, filled, number
from lakehouse_assets.views.found import has_rows
from lakehouse_assets.views.listed import PAGES

NAME: Final = "drift"
SENTENCE: Final = "Whether the data that arrives is still like the data that models have learnt from, column by column."
DRIFT: Final = platform_tables.DRIFT
ANY: Final = "all columns"
METRICS: Final = {
    "population stability index": "population_stability_index",
    "Jensen-Shannon distance": "js_distance",
    "Wasserstein distance": "wasserstein_distance",
    "total variation": "tv_distance",
    "change of the share of nulls": "percent_null_delta",
}
"""What people call the metrics of the drift table: the same for numbers and texts first."""
_READ: Final = "page: drift"
_LINES: Final = 8
_NOT_TESTED: Final = pl.col("not_tested").is_not_null() | pl.col("drifted").is_null()


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


def drift(lake: Client, table: str, column: str = ANY, metric: str = "population stability index") -> list[Block]:
    """How far the columns of a table have moved.

    Args:
        lake: Where it is stored.
        table: One of `tables`.
        column: One of `columns`.
        metric: One of `METRICS`.
    """
    rows = lake.table(DRIFT).select(what=_READ).filter(pl.col("table") == table).collect()
    monitors = rows["monitor"].unique().sort().to_list()
    blocks: list[Block] = []
    for monitor in monitors:
        # A window that was measured again counts as it was measured last, and not at all if its rows went.
        found = newest_of(rows.filter(pl.col("monitor") == monitor)).filter(pl.col("column_name") != WHOLE)
        blocks += [Text(f"### {monitor}")] if len(monitors) > 1 else []
        blocks += _of_monitor(found if column == ANY else found.filter(pl.col("column_name") == column), table, metric)
    return blocks or [_none(table)]


def _none(table: str) -> Note:
    return Note(f"**{table}** has no window yet that could be compared.")


def _of_monitor(found: pl.DataFrame, table: str, metric: str) -> list[Block]:
    """How far the columns of a table have moved by one of its monitors, by the newest rows of each window."""
    kinds = found["drift_type"].unique().to_list()
    kind = BASELINE if BASELINE in kinds else next(iter(kinds), BASELINE)
    whole = found.filter(pl.col("drift_type") == kind, pl.col("slice_key").is_null(), pl.col("window_start").is_not_null())
    whole = whole.sort("window_start")
    if whole.is_empty():
        return [_none(table)]
    measure, last = METRICS[metric], whole["window_start"].max()
    newest = whole.filter(pl.col("window_start") == last)
    apart, newest = newest.filter(_NOT_TESTED), newest.filter(~_NOT_TESTED)
    drifted = newest.filter(pl.col("drifted").fill_null(value=False))
    against = "the baseline" if kind == BASELINE else "the window before"
    # What is not tested, as a counter that runs on, would only hide the others.
    lines = (
        whole.filter(~_NOT_TESTED)
        .select(pl.col("window_start").alias("at"), pl.col(measure).alias("value"), pl.col("column_name").alias("line"))
        .drop_nulls()
    )
    # The most moved ones, so that lines can be told apart.
    most = lines.group_by("line").agg(pl.col("value").abs().max()).sort("value", descending=True).head(_LINES)["line"]
    chosen = lines.filter(pl.col("line").is_in(most.to_list()))
    table_rows = newest.select(
        pl.col("column_name").alias("column"),
        pl.when(pl.col("drifted")).then(pl.lit("yes")).otherwise(pl.lit("no")).alias("drifted"),
        *(pl.col(name).round(3).alias(said) for said, name in METRICS.items()),
    ).sort("drifted", metric, descending=[True, True], nulls_last=True)
    names = ", ".join(drifted["column_name"].to_list())
    tone: Tone = "bad" if names else "good" if newest.height else "plain"
    if not newest.height:
        names = "none was tested in this window"
    reasons = apart.select(
        pl.col("column_name").alias("column"), pl.col("not_tested").fill_null("it has no threshold yet").alias("why it is not tested")
    )
    return [
        Figures(
            (
                Figure("Newest window", str(last)[:16], f"of {table}"),
                Figure("Columns that drifted", number(drifted.height), names or f"none, against {against}", tone),
                Figure(
                    "Columns tested",
                    number(newest.height),
                    f"{apart.height} not tested; {counted(whole['window_start'].n_unique(), 'window')}",
                ),
            )
        ),
        Curves(f"{metric[:1].upper()}{metric[1:]} against {against}", chosen, f"{metric} (0: no change)", time="begin of the window")
        if chosen.height
        else Note(f"No column has the metric {metric}: choose another one."),
        Rows("The newest window", filled(table_rows), "No column was tested in this window."),
        *([Rows("Not tested in the newest window", reasons.sort("column"))] if apart.height else []),
    ]


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
