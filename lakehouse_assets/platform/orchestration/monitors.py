"""Monitors as checks of the tables that they watch. How they judge is in `monitoring`; nothing here can fail a table.

Those that a table implies read no more than logs: the step of the table evaluates them, also where its contract was broken and nothing was
written. Those that are declared have a step of their own behind the table, parallel to what is downstream of it.
"""

import fcntl
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Any

import dagster as dg

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.monitors import Monitor, Verdict
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.monitoring.in_words import in_full
from lakehouse_assets.platform.monitoring.judgements import Judgement
from lakehouse_assets.platform.orchestration import describe, planned
from lakehouse_assets.platform.orchestration.instance import instance
from lakehouse_assets.platform.orchestration.step_usage import reporting
from lakehouse_assets.platform.orchestration.steps import key_of
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.wording import counted, slice_in_words
from lakehouse_assets.settings import Settings

OTHER_WINDOWS = "other windows"
"""Metadata of a result: what failed besides the newest window, which the check is about."""
MONITORS_SUFFIX = "__monitors"
"""Ends the name of the step that evaluates the monitors of a table."""
_TEXTS_SHOWN, _VERDICTS_SHOWN = 3, 20
_HOW_BAD = {"warn": "It only warns; no row is touched.", "error": "A failure is an error, and stops nothing; no row is touched."}


def watched_by(step: str) -> str:
    """The table of a step: that which it writes, or whose monitors it evaluates."""
    base = step.removesuffix(MONITORS_SUFFIX)
    suffix = QUARANTINE_SUFFIX if base.endswith(QUARANTINE_SUFFIX) else ""
    return base.removesuffix(QUARANTINE_SUFFIX).replace("__", ".") + suffix


def specs(monitors: Iterable[Monitor]) -> list[dg.AssetCheckSpec]:
    """A check for each monitor."""
    return [
        dg.AssetCheckSpec(
            one.word,
            asset=key_of(one.of),
            # The step of its table writes a quarantine, which has none of its own that a check could wait for.
            additional_deps=[key_of(one.of.removesuffix(QUARANTINE_SUFFIX))] if one.of.endswith(QUARANTINE_SUFFIX) else None,
            description=f"{one.description} {_HOW_BAD[one.severity]}",
        )
        for one in monitors
    ]


def keys(catalog: Catalog) -> list[dg.AssetCheckKey]:
    """The checks of the declared monitors."""
    return [dg.AssetCheckKey(key_of(one.of), one.word) for one in catalog.monitors]


def build(catalog: Catalog) -> list[dg.AssetChecksDefinition]:
    """The steps of the declared monitors, one for each table that is watched."""
    watched: dict[str, list[Monitor]] = {}
    for monitor in catalog.monitors:
        watched.setdefault(monitor.of, []).append(monitor)
    return [_step(table, monitors, catalog) for table, monitors in watched.items()]


def _step(table: str, monitors: list[Monitor], catalog: Catalog) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=table.replace(".", "__") + MONITORS_SUFFIX,
        specs=specs(monitors),
        required_resource_keys={"lakehouse", "mlflow"},
        can_subset=True,
    )
    def step(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with reporting(context, table):
            yield from results(context, catalog, monitors, {check.name for check in context.selected_asset_check_keys})

    return step


def results(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
    catalog: Catalog,
    monitors: Iterable[Monitor],
    wanted: Collection[str] | None = None,
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate monitors now, store what they say, and give the results of their checks.

    Args:
        context: Of the step.
        catalog: All declarations.
        monitors: The monitors.
        wanted: The names of the checks that are asked for; None: all.
    """
    chosen = [one for one in monitors if wanted is None or one.word in wanted]
    if not chosen:
        return
    lakehouse, registry = context.resources.lakehouse.open(), context.resources.mlflow.open
    evaluation = Evaluation(lakehouse, catalog, registry, clock.now(), context.run.run_id, context.log.warning)
    judgements = evaluation.run(chosen)
    with _one_at_a_time(context.instance):
        for judgement in evaluation.holding(judgements):
            yield result(judgement) if judgement.verdicts else _last(context.instance, lakehouse, judgement)


@contextmanager
def _one_at_a_time(opened: dg.DagsterInstance) -> Iterator[None]:
    """While one process of this machine reads what holds and shows it, no other does: so what is shown last is what was said last."""
    home = Path(opened.root_directory)
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".verdicts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def result(judgement: Judgement) -> dg.AssetCheckResult:
    """What a monitor said, as the result of its check. Where it was not evaluated because of an error, that is a warning."""
    monitor, said = judgement.monitor, judgement.verdicts
    failed = [one for one in said if one.passed is False]
    bad = [*failed, *(one for one in said if one.error)]
    # Dagster refuses values of other types, and a step must not fail for what a monitor says.
    metadata: dict[str, Any] = {
        name: value if isinstance(value, int | float | str) else str(value) for name, value in said[0].numbers.items()
    }
    text = in_full(vars(said[0])) if bad else said[0].text
    if len(said) > 1:
        text, metadata = _summary(said, bad), {"verdicts": len(said), "failed": len(failed)}
        if bad:
            metadata["bad"] = dg.MetadataValue.md(describe.markdown([_shown(one) for one in bad[:_VERDICTS_SHOWN]]))
    if more := _other_windows(judgement):
        text, metadata[OTHER_WINDOWS] = f"{text} {more}", more
    if likely := list(dict.fromkeys(one.why for one in failed if one.why)):
        metadata["most likely"] = "\n".join(likely)
    return dg.AssetCheckResult(
        asset_key=key_of(monitor.of),
        check_name=monitor.word,
        passed=not bad,
        severity=dg.AssetCheckSeverity.ERROR if failed and monitor.severity == "error" else dg.AssetCheckSeverity.WARN,
        description=text,
        metadata=metadata,
    )


def _other_windows(judgement: Judgement) -> str:
    """That more windows failed this time than the newest, whose verdicts are shown: which is the first, and what asks about it."""
    failed = judgement.failed_windows
    newest = max((one.window_start for one in judgement.verdicts if one.window_start is not None), default=None)
    if not failed or failed == (newest,):
        return ""
    first = f"{failed[0]:%Y-%m-%d}" if failed[0].time() == time() else f"{failed[0]:%Y-%m-%dT%H:%M}"
    return (
        f"{counted(len(failed), 'window')} failed in this evaluation, the first from {first} on: "
        f"`lakehouse why {judgement.monitor.name} --window {first}`."
    )


def report(settings: Settings, evaluation: Evaluation, judgements: Iterable[Judgement]) -> list[Judgement]:
    """Show what monitors said outside of a run, and that holds now, as the results of their checks; what was shown.

    Raises:
        DatabaseUnavailable: Dagster's databases cannot be opened.
    """
    with instance(settings) as opened, _one_at_a_time(opened):
        shown = evaluation.holding(judgements)
        for judgement in shown:
            if judgement.verdicts:
                told = result(judgement)
                opened.report_runless_asset_event(
                    dg.AssetCheckEvaluation(
                        key_of(judgement.monitor.of),
                        judgement.monitor.word,
                        passed=told.passed,
                        severity=told.severity,
                        description=told.description,
                        metadata=told.metadata,
                    )
                )
    return shown


def _last(opened: dg.DagsterInstance, lakehouse: Lakehouse, judgement: Judgement) -> dg.AssetCheckResult:
    """The result of a monitor that had nothing new to judge: its last one. Where Dagster has none, what the table of verdicts says."""
    monitor = judgement.monitor
    check = dg.AssetCheckKey(key_of(monitor.of), monitor.word)
    why = "nothing that it judges has changed"
    if planned.last_result(opened, check) is not None:
        return planned.kept(opened, check, why)
    if rows := verdicts.latest(lakehouse, [monitor]).get(monitor.name):
        return result(replace(judgement, verdicts=[verdicts.verdict_of(row) for row in rows]))
    return dg.AssetCheckResult(asset_key=check.asset_key, check_name=check.name, passed=True, description=f"Not evaluated: {why}.")


def _summary(verdicts: Collection[Verdict], bad: list[Verdict]) -> str:
    if not bad:
        return f"None of {counted(len(verdicts), 'verdict')} is bad."
    more = f" And {len(bad) - _TEXTS_SHOWN:,} more." if len(bad) > _TEXTS_SHOWN else ""
    return (
        f"{len(bad):,} of {counted(len(verdicts), 'verdict')} are bad. {' '.join(in_full(vars(one)) for one in bad[:_TEXTS_SHOWN])}{more}"
    )


def _shown(verdict: Verdict) -> dict[str, object]:
    return {
        "column": verdict.column_name,
        "slice": slice_in_words(verdict.slice_key, verdict.slice_value) if verdict.slice_key else "",
        "window": "" if verdict.window_start is None else f"{verdict.window_start:%Y-%m-%d %H:%M}",
        "metric": verdict.metric,
        "value": verdict.value,
        "threshold": verdict.threshold,
        "verdict": verdict.text,
    }
