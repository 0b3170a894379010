"""`lakehouse profile`: the statistics of a table's columns, and which of them drifted."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from lakehouse_assets.cli.complete import TABLES
from lakehouse_assets.cli.shared import JSON, client, command, is_quiet
from lakehouse_assets.cli.terminal import add_row, folds, grid, line, optional, print_json, print_paged, right, say
from lakehouse_assets.platform.wording import counted, printable, slice_in_words

if TYPE_CHECKING:
    import polars as pl

    from lakehouse_assets.client.profiles import TableProfile

_ALARMS, _ITEMS = 30, 3
_KINDS = {"BASELINE": "the baseline", "CONSECUTIVE": "the window before"}
TABLE = ":table"
_SINCE = datetime(1970, 1, 1, tzinfo=UTC)

Row = dict[str, Any]


@command()
@click.argument("table", shell_complete=TABLES)
@click.option("--time", metavar="COLUMN", help="When a row happened.")
@click.option("--every", metavar="LENGTH", help="Windows of this length, as 1h, 1d, 1w or 1mo; each is compared with the one before.")
@click.option("--slice", "slices", multiple=True, metavar="COLUMN", help="Each value of it by itself too; may be repeated.")
@click.option("--against", metavar="TABLE[@VERSION]", help="The baseline to compare with.")
@click.option("--where", help="Which rows, of the baseline too: a condition in SQL. It sees personal data masked.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this .parquet, .csv or .xlsx.")
@JSON
def profile(  # noqa: PLR0917 click passes them by name
    table: str,
    time: str | None,
    every: str | None,
    slices: tuple[str, ...],
    against: str | None,
    where: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Statistics of each column of TABLE[@VERSION], and which columns drifted, each with its threshold and how often that is a false alarm.

    Personal data is masked before it is counted; see LAKEHOUSE_SHOW_PERSONAL.

    \b
    Examples:
      lakehouse profile sales.silver.invoice_lines
      lakehouse profile sales.silver.invoice_lines --time invoiced_at --every 1mo --slice country
      lakehouse profile sales.silver.invoice_lines --against sales.silver.invoice_lines@3
    """
    opened = client()
    if output is not None:
        from lakehouse_assets.platform.governance import formats

        formats.check_name(output)
    found = opened.profile(table, time=time, every=every, slices=slices, against=against, where=where)
    if output is not None:
        files = found.write(output)
        if not is_quiet():
            say(" and ".join(map(str, files)), " are written." if len(files) > 1 else " is written.")
    elif as_json:
        print_json(found.as_values())
    else:
        _print(found, every)


def _print(found: "TableProfile", every: str | None) -> None:
    import polars as pl

    whole = found.profile.filter(pl.col("slice_key").is_null())
    tables = whole.filter(pl.col("data_type").is_null())
    windows = f" in {counted(tables.height, 'window')} of {every}" if every else ""
    say((found.table, "bold"), f" at version {found.version}: {counted(int(tables['count'].sum()), 'row')}{windows}")
    if found.against is not None:
        say("compared with ", (found.against, "bold"), f" at version {found.against_version}")
    if every and (nowhere := int(tables.filter(pl.col("window_start").is_null())["count"].sum())):
        say(f"{counted(nowhere, 'row')} without a time are in no window of {every}.")
    if not tables.height:
        say("There are no rows to profile.")
        return
    parts: list[Any] = _alarms(found.drift) if found.drift is not None and found.drift.height else []
    # Windows of rows without a time come last, and are not the last one.
    at = tables.with_row_index("at").sort("window_start", nulls_last=False)["at"][-1]
    shown = tables[at]["window_start"].to_physical().item()
    is_shown = pl.col("window_start").to_physical().eq_missing(pl.lit(shown))
    last = whole.filter(is_shown, pl.col("data_type").is_not_null())
    drifted: set[str] = set()
    if found.drift is not None:
        here = found.drift.filter("drifted", pl.col("slice_key").is_null(), is_shown)
        drifted = set(here.filter(pl.col("column_name") != TABLE)["column_name"])
    rows = _values(last.drop("cell_counts"))
    heading = f"\nThe last window, {_window(rows[0])}:" if every else ""
    print_paged(*parts, line(heading), _columns(rows, drifted))


def _values(frame: "pl.DataFrame") -> list[Row]:
    from lakehouse_assets.platform.far_times import as_python_holds

    return as_python_holds(frame).to_dicts()


def _alarms(drift: "pl.DataFrame") -> list[Any]:
    """Which columns drifted, those of the newest windows first, and which were not tested."""
    import polars as pl

    of_columns, of_tables = (drift.filter(part) for part in (pl.col("data_type").is_not_null(), pl.col("data_type").is_null()))
    tested = of_columns.drop_nulls("drifted")["column_name"].n_unique()
    untested = [line((text, "dim")) for text in _untested(of_columns)]
    untested += [line((f"Not tested: {reason}", "dim")) for reason in of_tables["not_tested"].unique(maintain_order=True).drop_nulls()]
    if not tested:
        return [line("\nNo column was tested."), *untested]
    together = pl.col("thresholds").list.eval(pl.element().struct.field("exceeded")).list.any().fill_null(value=False)
    alarms = _values(pl.concat([of_tables.filter(together), of_columns.filter("drifted")]).reverse())
    if not alarms:
        all_columns = ", nor did all columns together" if of_tables["domain_classifier_auc"].count() else ""
        return [line(f"\nNone of {counted(tested, 'column')} that were tested drifted{all_columns}."), *untested]
    names = {row["column_name"] for row in alarms} - {TABLE}
    windows = ["window"] if any(row["granularity"] for row in alarms) else []
    slices = ["slice"] if any(row["slice_key"] for row in alarms) else []
    shown = grid("column", *windows, *slices, folds("what"), right("value"), right("threshold"), "false alarms", optional("compared with"))
    for row in alarms[:_ALARMS]:
        name = "all columns" if row["column_name"] == TABLE and row["data_type"] is None else printable(row["column_name"])
        about = [Text(name, "red"), *([_window(row)] if windows else [])]
        if slices:
            about.append("" if row["slice_key"] is None else slice_in_words(row["slice_key"], row["slice_value"]))
        compared = _KINDS[row["drift_type"]]
        if (change := row["schema_change"]) is not None:
            add_row(shown, *about, f"the column is {change}" if change in {"added", "missing"} else change, "", "", "", compared)
        for test in row["thresholds"] or []:
            if test["exceeded"]:
                values = [f"{test[name]:.3g}" for name in ("value", "threshold")]
                rate = f"1 in {round(1 / test['false_alarm_rate']):,} windows"
                add_row(shown, *about, _what(test["metric"], row), *values, rate, compared)
    said = f"{len(names):,} of {counted(tested, 'column')} that were tested drifted:"
    if not names:
        said = f"None of {counted(tested, 'column')} that were tested drifted by itself, all columns together did:"
    more = [line((f"{len(alarms) - _ALARMS:,} more: --json has them all", "dim"))] if len(alarms) > _ALARMS else []
    return [line(f"\n{said}"), shown, *more, *untested]


def _untested(drift: "pl.DataFrame") -> list[str]:
    """Which columns were never tested by their values, by reason."""
    import polars as pl

    never = drift.group_by("column_name", maintain_order=True).agg(
        pl.col("not_tested").is_not_null().all().alias("never"), reason=pl.col("not_tested").drop_nulls().first()
    )
    reasons: dict[str, list[str]] = {}
    for name, reason in never.filter("never").select("column_name", "reason").iter_rows():
        reasons.setdefault(reason, []).append(printable(name))
    return [f"Values not tested: {', '.join(names)} ({reason})" for reason, names in reasons.items()]


def _what(metric: str, row: Row) -> str:
    """A metric, with what it came from where that is short."""
    if columns := row["domain_classifier_auc_columns"]:
        return f"{metric}, told apart by {', '.join(printable(one['column_name']) for one in columns[:_ITEMS])}"
    if metric == "vanished_items":
        return f"rows expected of what has none: {', '.join(printable(item['item']) for item in row[metric][:_ITEMS])}"
    unseen = row["unseen_items"] or []
    if metric == "js_distance" and unseen:
        return f"{metric}, with values not seen before: {', '.join(item['item'] for item in unseen[:_ITEMS])}"
    if metric == "ks_test" and row["avg_delta"] is not None:
        return f"{metric}, the mean by {row['avg_delta']:+.4g}"
    return metric


def _columns(rows: Sequence[Row], drifted: set[str]) -> Any:
    shown = grid(
        "column", optional("type"), right("values"), right("nulls"), right("distinct"),
        right("mean"), *(optional(name, right=True) for name in ("stddev", "median", "min", "max")), optional("frequent"),
    )  # fmt: skip
    for row in sorted(rows, key=lambda row: row["column_name"] not in drifted):
        name = Text(printable(row["column_name"]), "red" if row["column_name"] in drifted else "")
        nulls = "" if row["percent_null"] is None else f"{row['percent_null']:.1f} %"
        distinct = "" if row["distinct_count"] is None else f"{row['distinct_count']:,}"
        frequent = [] if row["quantiles"] else (row["frequent_items"] or [])[:_ITEMS]
        items = ", ".join(f"{item['item']} ({item['count']:,})" for item in frequent)
        numbers = {part: _shown(row[part], row["data_type"]) for part in ("avg", "min", "median", "max")}
        spread = "" if row["stddev"] is None or row["data_type"].startswith("Date") else f"{row['stddev']:.4g}"
        kind = row["data_type"].partition("(")[0]
        of_numbers = [numbers["avg"], spread, numbers["median"], numbers["min"], numbers["max"]]
        add_row(shown, name, kind, f"{row['count']:,}", nulls, distinct, *of_numbers, items)
    return shown


def _shown(value: float | None, data_type: str) -> str:
    """A number; of dates and moments the day."""
    if value is None:
        return ""
    if data_type.startswith("Date"):
        try:
            moment = _SINCE + (timedelta(days=value) if data_type == "Date" else timedelta(seconds=value))
        except OverflowError:
            return f"{value:.6g}"
        return f"{moment:%Y-%m-%d}"
    return f"{value:.6g}"


def _window(row: Row) -> str:
    start = row["window_start"]
    if row["granularity"] is None:
        return ""
    if start is None or isinstance(start, str):
        return start or "no time"
    return f"{start:%Y-%m-%d}" if not (start.hour or start.minute) else f"{start:%Y-%m-%d %H:%M}"
