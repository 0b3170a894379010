"""The monitor of drift: whether the columns of a table are still distributed as in what a model learnt from, window by window."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.monitors import Cause, Monitor, MonitorKind, Verdict, Watched
from lakehouse_assets.platform.far_times import within_years
from lakehouse_assets.platform.governance.personal import PersonalColumns
from lakehouse_assets.platform.governance.policy import policy_of
from lakehouse_assets.platform.monitoring.drift_metrics import BASELINE
from lakehouse_assets.platform.monitoring.groups import CannotProfile, Groups
from lakehouse_assets.platform.monitoring.profile_tables import Matter, Profiled, drifting, failing, update_profiles
from lakehouse_assets.platform.monitoring.thresholds import DOMAIN
from lakehouse_assets.platform.monitoring.why.drifted import Drifted
from lakehouse_assets.platform.registry.ledger import last_decision
from lakehouse_assets.platform.storage.known_at import OWN_COLUMNS
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.wording import counted, printable

_MOST_VERDICTS, _MOST_ITEMS = 500, 5


@dataclass(frozen=True)
class Drift(MonitorKind):
    """The columns of a table are distributed as in a baseline, and as in the window before.

    Attributes:
        time: The column of dates or timestamps that windows are cut by.
        every: The length of a window: `1h`, `1d`, `1w`, `1mo`.
        slices: Columns whose values are compared each by itself as well.
        against: The baseline as `TABLE` or `TABLE@VERSION`; None: the table as it was when the champion of a model learnt from it.

    Raises:
        DeclarationError: They cannot be meant.
    """

    time: str
    every: str = "1d"
    slices: tuple[str, ...] = ()
    against: str | None = None

    word: ClassVar[str] = "drift"
    judges_changes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        try:
            self.groups  # noqa: B018 it checks the length
        except CannotProfile as error:
            raise DeclarationError(f"Drift: every={self.every!r}: {error}") from None
        _, at, version = (self.against or "").partition("@")
        if at and not version.isdecimal():
            raise DeclarationError(f"Drift: against={self.against!r}: what follows the @ is a version, as in TABLE@3")

    @property
    def groups(self) -> Groups:
        """The windows and slices."""
        return Groups(self.time, self.every, self.slices)

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        baseline = self.against or "what the champion learnt from"
        return f"Each column is distributed as in {baseline} and as in the window before, by windows of {self.every}."

    def problems_with(self, monitor: Monitor, declared: Mapping[str, Declaration]) -> Iterator[str]:
        """See `MonitorKind.problems_with`."""
        yield from monitor.problems_with_column("time", self.time, declared, (pl.Date, pl.Datetime), "dates or timestamps")
        for name in self.slices:
            yield from monitor.problems_with_column("slices", name, declared)

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        name, version = self._baseline(watched)
        if version is None:
            said = f"Not evaluated: no model that learns from {watched.monitor.of} has a champion. Train one, or name a baseline: "
            return [Verdict(passed=None, text=said + f"Drift({self.time!r}, against='{watched.monitor.of}@VERSION').")]
        lakehouse = watched.lakehouse
        personal = PersonalColumns(lakehouse, lambda: policy_of(watched.catalog.declarations))
        table = lakehouse.table(watched.monitor.of)

        # What the platform adds says how rows came, not what they say: of what is loaded late, other things are assumed.
        added = tuple(column for column in table.schema() if column.startswith("_") or column in OWN_COLUMNS)
        left_out: list[str] = []
        profiled = Profiled(
            monitor=watched.monitor.name,
            table=table,
            groups=self.groups,
            baseline=lambda: personal.masked(lakehouse.table(name).scan(version), name),
            baseline_name=f"{name}@{version}",
            masked=lambda rows: personal.masked(rows, table.name),
            untested=added,
            told=left_out.append,
        )
        before = drifting(lakehouse, profiled.monitor)
        found = update_profiles(lakehouse, profiled, watched.now)
        return [*self._verdicts(found, before), *(Verdict(passed=None, text=text) for text in left_out)]

    def why(self, watched: Watched, bad: Sequence[Mapping[str, Any]]) -> Sequence[Cause]:
        """See `MonitorKind.why`."""
        return Drifted(watched, self.time, bad).causes()

    def _baseline(self, watched: Watched) -> tuple[str, int | None]:
        """The table of the baseline and its version; no version if there is none."""
        if self.against is not None:
            name, at, version = self.against.partition("@")
            return name, int(version) if at else watched.lakehouse.table(name).version()
        of = watched.monitor.of
        models = [one for one in watched.catalog.declarations if isinstance(one, ModelDeclaration)]
        versions = (learnt_from(watched.lakehouse, model.name).get(of) for model in models)
        return of, next((version for version in versions if version is not None), None)

    def _verdicts(self, found: pl.DataFrame, before: Mapping[Matter, datetime | None]) -> list[Verdict]:
        """What drifted, what is well again, and the table in each window: all columns together, or that none drifted."""
        whole = within_years_of(failing(found)).sort("window_start", descending=True, nulls_last=True).head(_MOST_VERDICTS * 50)
        # A column that came or went did so in every slice.
        of_columns = whole.filter(pl.col("data_type").is_not_null(), pl.col("schema_change").is_null() | pl.col("slice_key").is_null())
        verdicts = [_of_column(row) for row in of_columns.filter("drifted").iter_rows(named=True)]
        verdicts += _well_again(whole, of_columns, before)
        tables = whole.filter(pl.col("data_type").is_null(), pl.col("slice_key").is_null(), pl.col("drift_type") == BASELINE)
        for row in tables.iter_rows(named=True):
            together = next((test for test in row["thresholds"] or () if test["metric"] == DOMAIN), None)
            if together is not None and together["exceeded"] is not None and (together["exceeded"] or row["drifted"]):
                verdicts.append(_of_all_columns(row, together))
            elif not row["drifted"]:
                here = whole.filter(pl.col("window_start").eq_missing(pl.lit(row["window_start"])), pl.col("data_type").is_not_null())
                verdicts.append(_of_window(row, here))
        return verdicts[:_MOST_VERDICTS]


def learnt_from(lakehouse: Lakehouse, model: str) -> dict[str, int]:
    """The tables and versions that the champion of a model was trained on; none if it has no champion."""
    ledger = lakehouse.table(model)
    last = last_decision(ledger.scan()) if ledger.exists() else None
    if last is None or last["champion"] is None:
        return {}
    rows = ledger.scan().filter(pl.col("version") == last["champion"], pl.col("training_tables").is_not_null())
    texts = rows.select("training_tables").head(1).collect().to_series().to_list()
    return {name: int(version) for name, version in json.loads(texts[0]).items()} if texts else {}


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
    text = f"{row['column_name']} drifted from {compared}: {test['metric']} is {test['value']:.3g}, and {_seldom(test)}."
    numbers: dict[str, Any] = {"compared_with": row["drift_type"]}
    if row["avg"] is not None and row["avg_delta"]:
        numbers |= {"average": row["avg"], "average_before": row["avg"] - row["avg_delta"]}
        text += f" On average it is {numbers['average']:.4g}, before it was {numbers['average_before']:.4g}."
    if row["percent_unseen"]:
        names = ", ".join(printable(item["item"]) for item in row["unseen_items"][:_MOST_ITEMS])
        text += f" {row['percent_unseen']:.2g} % of its values are others than before: {names}."
        numbers["percent_unseen"] = row["percent_unseen"]
    return Verdict(passed=False, text=text, numbers=numbers, **_measured(test), **about)


def _seldom(test: Mapping[str, Any]) -> str:
    return f"quiet windows pass {test['threshold']:.3g} once in {round(1 / test['false_alarm_rate']):,}"


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
    return Verdict(passed=False, text=text, numbers={"compared_with": row["drift_type"]}, **_measured(test), **_where(row))


def _well_again(whole: pl.DataFrame, of_columns: pl.DataFrame, before: Mapping[Matter, datetime | None]) -> list[Verdict]:
    """A verdict of each column of a slice that drifted and does not any more: by it an alert is resolved.

    A column that was not tested is not well again, one that is gone on both sides is.
    """
    bad, verdicts = dict(before), []
    compared = of_columns.group_by("window_start", "slice_key", "slice_value", "column_name").agg(
        pl.when(pl.col("drifted").is_not_null().any()).then(pl.col("drifted").any())
    )
    of_windows = compared.partition_by("window_start", as_dict=True)
    tables = whole.filter(pl.col("data_type").is_null()).unique(["window_start", "slice_key", "slice_value"]).sort("window_start")
    for row in tables.iter_rows(named=True):
        of_slice = (row["slice_key"], row["slice_value"])
        rows = of_windows.get((row["window_start"],), compared.clear()).iter_rows(named=True)
        states = {one["column_name"]: one["drifted"] for one in rows if (one["slice_key"], one["slice_value"]) == of_slice}
        for matter in [one for one in bad if one[:2] == of_slice]:
            since, is_bad = bad[matter], states.get(matter[2], False)
            if is_bad is False:
                text = f"{matter[2]} is distributed as it was again." if matter[2] in states else f"{matter[2]} is not there any more."
                verdicts.append(Verdict(passed=True, text=text, column_name=matter[2], **_where(row)))
                if since is None or row["window_start"] is None or row["window_start"] >= since:
                    del bad[matter]
        bad |= {(*of_slice, name): row["window_start"] for name, is_bad in states.items() if is_bad}
    return verdicts


def _change(change: str) -> str:
    return {"missing": "is missing", "added": "was added"}.get(change, f"changed its type: {change}")


def _of_window(row: Mapping[str, Any], here: pl.DataFrame) -> Verdict:
    tested = here.filter(pl.col("drifted").is_not_null())["column_name"].n_unique()
    if tested:
        return Verdict(passed=True, text=f"None of {counted(tested, 'column')} drifted.", **_where(row))
    reasons = here["not_tested"].drop_nulls()
    why = reasons.mode().sort()[0] if len(reasons) else "there are no rows"
    return Verdict(passed=None, text=f"Not evaluated: no column was tested, as {why}.", **_where(row))
