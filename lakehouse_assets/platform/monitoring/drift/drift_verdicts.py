"""What monitors of drift say: the verdicts of the windows that changed. How windows are profiled and compared is in `profile_tables`."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.monitors import OVER, Verdict, Watched
from lakehouse_assets.platform.far_times import within_years
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.drift.drift_log import GONE, failing, of_windows, unread
from lakehouse_assets.platform.monitoring.drift.drift_metrics import BASELINE, LEFT_OUT, OF_TIME
from lakehouse_assets.platform.monitoring.drift.drifting import Recent, drift_still, drifting, together_drifts
from lakehouse_assets.platform.monitoring.drift.profile_tables import Profiled, update_profiles
from lakehouse_assets.platform.monitoring.drift.thresholds import DOMAIN
from lakehouse_assets.platform.monitoring.drift.vanished import PERCENT as PERCENT_VANISHED
from lakehouse_assets.platform.monitoring.drift.vanished import VANISHED
from lakehouse_assets.platform.monitoring.verdicts import Matter
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.types import TIMESTAMP
from lakehouse_assets.platform.wording import counted, listed, printable

_SHARES: Final = {"percent_null_delta": "the share of nulls", "percent_nan_delta": "the share of NaN"}
_MOST_VERDICTS, _MOST_ITEMS = 500, 5
_TRIES: Final = 3
_BEGIN: Final = datetime(1, 1, 1, tzinfo=UTC)
TOGETHER: Final[Matter] = (None, None, None)
"""All columns together."""
SHARE_OF: Final = "share of "
"""How the numbers of a verdict about all columns together are called that say by which columns rows are told."""
GONE_ITEM: Final = "expected rows of "
"""How the numbers of a verdict are called that say which values vanished."""


def judged(watched: Watched, profiled: Profiled) -> list[Verdict]:
    """Bring the tables of profiles and drift up to date, and judge what of the drift has no verdicts yet; none if all has.

    How far it read goes into `watched.reads`, so a process that dies before the verdicts are stored leaves them to the next one. Two at
    once: the one whose commit comes second begins again where the other left the tables.

    Args:
        watched: The monitor, the tables and the moment.
        profiled: What is profiled.

    Raises:
        CannotProfile: The rows cannot be profiled as is asked.
        CursorMoved: Others were faster again and again.
    """
    for _ in range(_TRIES - 1):
        with suppress(CursorMoved):
            return _once(watched, profiled)
    return _once(watched, profiled)


def _once(watched: Watched, profiled: Profiled) -> list[Verdict]:
    lakehouse, left_out = watched.lakehouse, list[str]()
    watched.made_of[:] = [profiled.mark("")]
    update_profiles(lakehouse, replace(profiled, warn=left_out.append), watched.now)
    mark = f"drift:{profiled.monitor}:{lakehouse.table(platform_tables.DRIFT).now().metadata().id}"
    after = lakehouse.table(platform_tables.VERDICTS).cursor(mark)
    name, every, rule = profiled.monitor, profiled.groups.every, watched.monitor.alert
    found, last = unread(lakehouse, name, every, after)
    is_redeclared = after is not None and watched.is_redeclared
    if last is None and not is_redeclared:
        return [Verdict(passed=None, text=_no_window(every))] if after is None else []
    if last is not None:
        watched.reads.append(Cursor(mark, after, last))
    # What resolves an alert has to be said of as many windows as that takes.
    recent = Recent(rule.resolve_after or 1, rule.least_rows, every)
    state, said = drifting(lakehouse, name, after or 0, watched.now, recent), verdicts.not_over(lakehouse, name)
    if is_redeclared:
        # What was said before does not hold by itself: the last windows of all are judged again, and those of which nothing was said yet.
        newest = verdicts.newest_window(lakehouse, name)
        is_news = pl.lit(value=True) if newest is None else pl.col("window_start") > newest
        # As many as open an alert: what was not watched before fails in all of them at once.
        again = replace(recent, windows=max(recent.windows, rule.consecutive))
        windows = drifting(lakehouse, name, after or 0, watched.now, again).windows["window_start"]
        chosen = pl.concat([windows.cast(TIMESTAMP), found.filter(is_news)["window_start"]])
        found, before = of_windows(lakehouse, name, every, chosen), dict[Matter, datetime | None]()
    else:
        # By another rule than this one other columns may have been said to drift: of these it is said until they are over, too.
        before = {matter: start for matter, start in {**said, **state.before}.items() if matter[2] is not None}
    told, still = _verdicts(found, before, state.now, recent.windows), set[Matter](state.now)
    if TOGETHER in said or any(verdicts.matter_of(one) == TOGETHER and one.passed is False for one in told):
        if together_drifts(lakehouse, name, recent, state):
            still.add(TOGETHER)
        else:
            told = _well_together(told)
    spoken = {verdicts.matter_of(one) for one in told if one.passed is False or OVER in one.numbers}
    silent = said.keys() - still - spoken
    if silent and not is_redeclared:
        silent -= _unknown(lakehouse, profiled, {matter: start for matter, start in {**said, **state.before}.items() if matter in silent})
    told += _ended(silent, profiled, is_redeclared=is_redeclared)
    told += [Verdict(passed=None, text=text) for text in left_out]
    return told if told or not is_redeclared else [Verdict(passed=None, text=_no_window(every))]


def _unknown(lakehouse: Lakehouse, profiled: Profiled, since: Mapping[Matter, datetime | None]) -> set[Matter]:
    """Of what failed and is in no state, that of which nothing is known since: no row, or fewer in its window than the rule asks for."""
    there = drift_still(lakehouse, profiled.monitor, profiled.groups.every, since)
    return {matter for matter in there if matter[2] is None or matter[2] in profiled.watched.schema}


def _no_window(every: str | None) -> str:
    return f"Not evaluated: no window of {every} is over that has rows."


def _well_together(told: list[Verdict]) -> list[Verdict]:
    """The verdicts; the one of the newest window says that it is over of all columns together."""
    of_table = [at for at, one in enumerate(told) if verdicts.matter_of(one) == TOGETHER and one.passed is not None]
    newest = max(of_table, key=lambda at: told[at].window_start or _BEGIN, default=None)
    if newest is None or not told[newest].passed:
        return told
    over = replace(told[newest], numbers={**told[newest].numbers, OVER: 1})
    return [*told[:newest], over, *told[newest + 1 :]]


def _ended(matters: Iterable[Matter], profiled: Profiled, *, is_redeclared: bool) -> list[Verdict]:
    """What failed and does not any more, of which no window says so: its rows went, or it is not declared any more.

    Args:
        matters: What failed, was not said to be over, and does not drift now.
        profiled: What is watched.
        is_redeclared: Whether the monitor was declared differently before.
    """
    columns, slices, found = profiled.watched.schema, profiled.groups.slices, list[Verdict]()
    for key, value, column in sorted(matters, key=repr):
        what = column or "the table"
        if key is not None and key not in slices:
            text = f"{what} is not watched any more: the monitor has no slices by {key} now."
        elif column is not None and column not in columns:
            text = f"{what} is not there any more."
        elif is_redeclared:
            text = f"{what} does not fail any more: the monitor's declaration, its baseline or the table is another one now."
        else:
            text = f"The rows in which {what} drifted are gone."
        about: dict[str, Any] = {
            "slice_key": key or "",
            "slice_value": value,
            "column_name": column or "",
            "granularity": profiled.groups.every or "",
        }
        found.append(Verdict(passed=True, text=text[0].upper() + text[1:] if column is None else text, numbers={OVER: 1}, **about))
    return found


def _verdicts(found: pl.DataFrame, before: Mapping[Matter, datetime | None], still: Container[Matter], wait: int) -> list[Verdict]:
    """What drifted, what is well again, and the table in each window: all columns together, or that none drifted.

    What resolves an alert is always said. Of failures, and of windows in which all is well, only so many are: the newest ones.

    Args:
        found: The newest drift of each window.
        before: What drifted in one of the last windows before, or was not said to be over since it did.
        still: What does now.
        wait: How many windows are the last ones: so many good ones resolve an alert.
    """
    is_gone = pl.col("not_tested").eq_missing(pl.lit(GONE)) & pl.col("drift_type").is_null()
    in_range = within_years_of(failing(found)).sort("window_start", descending=True, nulls_last=True)
    whole, gone = in_range.filter(~is_gone), in_range.filter(is_gone)
    # A column that came or went did so in every slice.
    of_columns = whole.filter(pl.col("data_type").is_not_null(), pl.col("schema_change").is_null() | pl.col("slice_key").is_null())
    failed = [_of_column(row) for row in of_columns.filter("drifted").iter_rows(named=True)]
    resolving = [*_gone(gone, before, still), *_well_again(whole, of_columns, before, still, wait)]
    quiet: list[Verdict] = []
    tables = whole.filter(pl.col("data_type").is_null(), pl.col("slice_key").is_null(), pl.col("drift_type") == BASELINE)
    for row in tables.iter_rows(named=True):
        together = next((test for test in row["thresholds"] or () if test["metric"] == DOMAIN), None)
        if together is not None and together["exceeded"] is not None and (together["exceeded"] or row["drifted"]):
            (failed if together["exceeded"] else quiet).append(_of_all_columns(row, together))
        elif not row["drifted"]:
            here = whole.filter(pl.col("window_start").eq_missing(pl.lit(row["window_start"])), pl.col("data_type").is_not_null())
            quiet.append(_of_window(row, here))
    return [*_newest_first(failed), *resolving, *quiet[:_MOST_VERDICTS]]


def _newest_first(failed: list[Verdict]) -> list[Verdict]:
    """Failures, newest first: all, or of too many those of the newest windows of each column and slice, and how many are left out."""
    if len(failed) <= _MOST_VERDICTS:
        return failed
    in_order = sorted(failed, key=lambda one: one.window_start or _BEGIN, reverse=True)
    place: Counter[tuple[str, str | None, str]] = Counter()
    ranked = []
    for one in in_order:
        matter = (one.slice_key, one.slice_value, one.column_name)
        ranked.append((place[matter], bool(one.slice_key), one))
        place[matter] += 1
    ranked.sort(key=lambda rank: rank[:2])
    text = (
        f"{len(failed):,} failures are too many: {len(failed) - _MOST_VERDICTS:,} of them are not listed here. "
        f"All are in {platform_tables.DRIFT}."
    )
    return [*(one for *_, one in ranked[:_MOST_VERDICTS]), Verdict(passed=None, text=text)]


def _gone(gone: pl.DataFrame, before: Mapping[Matter, datetime | None], still: Container[Matter]) -> Iterator[Verdict]:
    """What resolves alerts about windows whose rows went."""
    for row in gone.iter_rows(named=True):
        for matter, since in before.items():
            if since == row["window_start"] and matter not in still:
                about = {**_where(row), "slice_key": matter[0] or "", "slice_value": matter[1], "column_name": matter[2]}
                text = f"The rows of the window in which {matter[2]} drifted are gone."
                yield Verdict(passed=True, text=text, numbers={OVER: 1}, **about)
        yield Verdict(passed=True, text="The rows of the window are gone.", **_where(row))


def within_years_of(found: pl.DataFrame) -> pl.DataFrame:
    """Drift whose windows Python can hold."""
    return found.with_columns(within_years(found[name]) for name in ("window_start", "window_end"))


def _where(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "window_start": row["window_start"],
        "window_end": row["window_end"],
        "granularity": row["granularity"] or "",
        "slice_key": row["slice_key"] or "",
        "slice_value": row["slice_value"],
        "rows": row["rows"],
    }


def _of_column(row: Mapping[str, Any]) -> Verdict:
    compared = "the baseline" if row["drift_type"] == BASELINE else "the window before"
    about = {**_where(row), "column_name": row["column_name"]}
    if row["schema_change"] is not None:
        return Verdict(
            passed=False, text=f"{row['column_name']} {_change(row['schema_change'])} against {compared}.", metric="schema_change", **about
        )
    test = max((one for one in row["thresholds"] if one["exceeded"]), key=lambda one: abs(one["value"]) / max(one["threshold"], 1e-12))
    numbers: dict[str, Any] = {"compared_with": row["drift_type"]}
    gone = _vanished(row)
    if test["metric"] == VANISHED:
        text = f"{row['column_name']}: {gone} Each window of {compared} has some, and {_seldom(test)}."
    else:
        text = f"{row['column_name']} drifted from {compared}: {_in_words(test)}; {_seldom(test)}."
        text += f" Besides, {gone}" if gone else ""
    if row["avg"] is not None and row["avg_cmp"] is not None and row["avg_delta"]:
        numbers |= {"average": row["avg"], "average_before": row["avg_cmp"]}
        # Of the values that are left after others went missing the average says nothing.
        if test["metric"] not in _SHARES:
            text += f" On average it is {numbers['average']:.4g}, before it was {numbers['average_before']:.4g}."
    if row["percent_unseen"]:
        names = ", ".join(printable(item["item"]) for item in row["unseen_items"][:_MOST_ITEMS])
        text += f" {row['percent_unseen']:.2g} % of its values are others than before: {names}."
        numbers["percent_unseen"] = row["percent_unseen"]
    if gone:
        numbers |= {PERCENT_VANISHED: row[PERCENT_VANISHED], **{GONE_ITEM + one["item"]: one["count"] for one in row[VANISHED]}}
    return Verdict(passed=False, text=text, numbers=numbers, **_measured(test), **about)


def _vanished(row: Mapping[str, Any]) -> str:
    """Which values have no row any more, in a sentence; empty: none."""
    items = row[VANISHED] or []
    names = listed([f"{printable(one['item'])} ({one['count']:,} expected)" for one in items], _MOST_ITEMS)
    return f"there is no row of {names}, {row[PERCENT_VANISHED]:.2g} % of the rows until now." if items else ""


def _seldom(test: Mapping[str, Any]) -> str:
    if test["metric"] == VANISHED:
        return f"quiet windows lack a value with {test['threshold']:.3g} expected rows once in {round(1 / test['false_alarm_rate']):,}"
    seldom = f"once in {round(1 / test['false_alarm_rate']):,} quiet windows"
    if test["metric"] in _SHARES:
        return f"by chance it moves by more than {test['threshold']:.3g} points {seldom}"
    return f"by chance it is above {test['threshold']:.3g} {seldom}"


def _in_words(test: Mapping[str, Any]) -> str:
    """A metric with its value, in words where there are any."""
    if (share := _SHARES.get(test["metric"])) is None:
        return f"{test['metric']} is {test['value']:.3g}"
    return f"{share} {'rose' if test['value'] > 0 else 'fell'} by {abs(test['value']):.3g} points"


def _measured(test: Mapping[str, Any]) -> dict[str, Any]:
    return {name: test[name] for name in ("metric", "value", "threshold", "false_alarm_rate")}


def _of_all_columns(row: Mapping[str, Any], test: Mapping[str, Any]) -> Verdict:
    """Whether a classifier tells a window from the baseline by all columns together."""
    if not test["exceeded"]:
        text = f"All columns together are as in the baseline: {DOMAIN} is {test['value']:.3g}, and {_seldom(test)}."
        return Verdict(passed=True, text=text, **_measured(test), **_where(row))
    columns = row[f"{DOMAIN}_columns"]
    names = ", ".join(f"{one['column_name']} ({one['share']:.0%})" for one in columns[:_MOST_ITEMS])
    text = (
        f"A classifier tells the rows from those of the baseline: {DOMAIN} is {test['value']:.3g}, and {_seldom(test)}. It does by {names}."
    )
    numbers = {"compared_with": row["drift_type"], **{SHARE_OF + one["column_name"]: one["share"] for one in columns}}
    return Verdict(passed=False, text=text, numbers=numbers, **_measured(test), **_where(row))


def _well_again(
    whole: pl.DataFrame, of_columns: pl.DataFrame, before: Mapping[Matter, datetime | None], still: Container[Matter], wait: int
) -> list[Verdict]:
    """A verdict of each column of a slice that drifted and does not any more, in each of the windows that it takes to resolve its alert.

    The last one says that the alert is over, if no window drifts of as many as that takes: also where a window was corrected. A column that
    was not tested is not well again, one that is gone on both sides is.
    """
    bad, well, good = dict(before), list[Verdict](), Counter[Matter]()
    last: dict[Matter, int] = {}
    compared = of_columns.group_by("window_start", "slice_key", "slice_value", "column_name").agg(
        pl.when(pl.col("drifted").is_not_null().any()).then(pl.col("drifted").any())
    )
    of_groups = compared.partition_by("window_start", "slice_key", "slice_value", as_dict=True)
    tables = whole.filter(pl.col("data_type").is_null()).unique(["window_start", "slice_key", "slice_value"]).sort("window_start")
    for row in tables.iter_rows(named=True):
        of_slice = (row["slice_key"], row["slice_value"])
        rows = of_groups.get((row["window_start"], *of_slice), compared.clear())
        states = dict(rows.select("column_name", "drifted").iter_rows())
        for matter in [one for one in bad if one[:2] == of_slice]:
            since, is_bad = bad[matter], states.get(matter[2], False)
            if is_bad is False:
                text = f"{matter[2]} is below its threshold again." if matter[2] in states else f"{matter[2]} is not there any more."
                last[matter] = len(well)
                well.append(Verdict(passed=True, text=text, column_name=matter[2] or "", **_where(row)))
                if since is None or row["window_start"] is None or row["window_start"] >= since:
                    good[matter] += 1
                    if good[matter] >= wait:
                        del bad[matter]
        for name, is_bad in states.items():
            if is_bad:
                matter = (*of_slice, name)
                bad[matter] = row["window_start"]
                good.pop(matter, None)
                last.pop(matter, None)
    for matter, at in last.items():
        if matter not in still:
            well[at] = replace(well[at], numbers={OVER: 1})
    return well


def _change(change: str) -> str:
    return {"missing": "is missing", "added": "was added"}.get(change, f"changed its type: {change}")


def _of_window(row: Mapping[str, Any], here: pl.DataFrame) -> Verdict:
    tested = here.filter(pl.col("drifted").is_not_null())["column_name"].n_unique()
    if tested:
        return Verdict(passed=True, text=f"None of {counted(tested, 'column')} drifted.", **_where(row))
    reasons = here["not_tested"].drop_nulls()
    others = reasons.filter(~reasons.is_in([LEFT_OUT, OF_TIME]))
    if len(others):
        why = others.mode().sort()[0]
    else:
        why = "the baseline has no rows, or every column is left out" if len(reasons) else "there are no rows"
    return Verdict(passed=None, text=f"Not evaluated: no column was tested, as {why}.", **_where(row))
