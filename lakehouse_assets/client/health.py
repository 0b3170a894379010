"""What keeps a root healthy: the doctor's findings with all that they need to know of a root, and maintenance.

What is examined is in `operations.doctor`, what maintenance does in `operations.maintenance`.
"""

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lakehouse_assets.client.context import Context
from lakehouse_assets.client.runs import Runs
from lakehouse_assets.platform import clock

if TYPE_CHECKING:
    from lakehouse_assets.platform.operations.doctor.findings import Finding
    from lakehouse_assets.platform.operations.maintenance import Maintenance

_STATE = ("files", "small_files", "bytes", "partitions", "log_entries", "unneeded_bytes")


def doctor(context: Context, on_progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """What is wrong or worth knowing, worst first: see `Client.doctor`."""
    from lakehouse_assets.platform.operations.doctor.findings import SEVERITIES

    findings = []
    for finding in _findings(context):
        on_progress(finding.table)
        findings.append(asdict(finding))
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding["severity"]), finding["table"]))


def _findings(context: Context) -> "Iterator[Finding]":
    from lakehouse_assets.platform.declarations.packages import from_any_folder
    from lakehouse_assets.platform.operations import run_records
    from lakehouse_assets.platform.operations.doctor.examine import examine
    from lakehouse_assets.platform.operations.doctor.findings import Checkup
    from lakehouse_assets.platform.operations.doctor.lakehouse_checks import broken_product, unusable_history, unusable_registry
    from lakehouse_assets.platform.operations.place import products_of
    from lakehouse_assets.platform.registry.mlflow_database import MlflowDatabase
    from lakehouse_assets.platform.storage.errors import DatabaseUnavailable

    loaded, settings = context.loaded, context.settings
    now = from_any_folder(settings.products).split(",")
    yield from (broken_product(product) for product in loaded.broken)
    dead: dict[str, str] = {}
    is_running, failures = False, {}
    try:
        runs = Runs(context)
        dead, is_running = {run.run_id: str(run) for run in runs.dead()}, bool(runs.under_way())
        failures = run_records.failures_of_the_last(settings.dagster_home)
    except DatabaseUnavailable as error:
        yield unusable_history(error, settings.dagster_home)
    database = MlflowDatabase.of(settings.tracking_uri)
    if database is not None and database.is_damaged():
        yield unusable_registry(database.path)
    left_out = {table.name for table in context.root.lakehouse.tables() if loaded.is_left_out(table.name)}
    yield from examine(
        Checkup(
            lakehouse=context.root.lakehouse,
            declarations=context.declarations,
            known=loaded.catalog.external | left_out,
            maintenance=_maintenance(context),
            is_running=is_running,
            dead_runs=dead,
            now=clock.now(),
            failures=failures,
            other_products={name: package for name, package in products_of(settings.root).items() if package not in now},
        )
    )


def maintenance(context: Context, tables: Sequence[str], *, dry_run: bool, on_progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Compact, checkpoint and vacuum where that is needed: see `Client.maintenance`."""
    rows, keeper = [], _maintenance(context)
    if dry_run:
        for table, state in keeper.states(tables):
            on_progress(table.name)
            counts = {name: getattr(state, name) for name in _STATE}
            rows.append({"table": table.name, "would_do": [*state.due], **counts, "why_not": state.unknown_why})
        return rows
    if not tables:
        _forget_old_runs(context)
    for done in keeper.run(str(uuid.uuid4()), tables):
        on_progress(done.table)
        rows.append({**vars(done), "done": [*done.done], "seconds": round(done.seconds, 3)})
    return rows


def _maintenance(context: Context) -> "Maintenance":
    from lakehouse_assets.platform.operations.maintenance import KEEP_ALL, Maintenance

    settings = context.settings
    # The versions that a broken product needs are not known.
    retention = KEEP_ALL if context.loaded.broken else timedelta(days=settings.retention_days)
    log_retention = timedelta(days=settings.log_retention_days)
    days_kept = timedelta(days=settings.system_retention_days)
    return Maintenance(context.root.lakehouse, context.declarations, context.root.registry, retention, log_retention, days_kept)


def _forget_old_runs(context: Context) -> None:
    """Delete old runs from Dagster's databases, as the nightly maintenance does. Imports Dagster only if there is one."""
    from lakehouse_assets.platform.operations import run_records

    settings = context.settings
    now = clock.now()
    if not run_records.has_runs_before(settings.dagster_home, now - timedelta(days=settings.run_retention_days)):
        return
    from lakehouse_assets.platform.orchestration.instance import instance
    from lakehouse_assets.platform.orchestration.run_retention import Keep, forget_old_runs

    keep = Keep.days(now, settings.run_retention_days, settings.system_retention_days)
    with instance(settings) as opened:
        forget_old_runs(opened, context.root.lakehouse, context.products.owners, keep, logging.getLogger(__name__))
