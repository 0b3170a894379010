"""The log of maintenance as an asset: tables are maintained, and old runs leave Dagster's databases.

What is done to tables is in `operations.maintenance`, what becomes of runs in `run_retention`.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.operations.maintenance import DESCRIPTION, KEEP_ALL, LOG, SCHEMA, Maintenance
from lakehouse_assets.platform.orchestration import columns, describe, versions
from lakehouse_assets.platform.orchestration.assets import platform_spec
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.orchestration.run_retention import Keep, forget_old_runs
from lakehouse_assets.platform.orchestration.step_usage import reporting
from lakehouse_assets.platform.orchestration.steps import key_of


def asset(declared: Products, tables: str = "") -> dg.AssetsDefinition:
    """The log of maintenance as an asset: to materialize it is maintenance. While a product is broken, nothing is deleted.

    Args:
        declared: What the products declare; all their tables are maintained.
        tables: Root of the tables, which the web UI shows; empty if it is not known.
    """
    spec = platform_spec(LOG, DESCRIPTION, SCHEMA, columns.OF_MAINTENANCE, tables)

    @dg.multi_asset(name="platform__maintenance__log", specs=[spec], required_resource_keys={"lakehouse", "mlflow"})
    def maintenance_log(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with reporting(context, LOG):
            yield from maintained(context)

    def maintained(context: dg.AssetExecutionContext) -> Iterator[Any]:
        resource = context.resources.lakehouse
        lakehouse = resource.open()
        examined = []
        days = resource.retention_days, resource.log_retention_days, resource.system_retention_days
        retention, log_retention, days_kept = (timedelta(days=one) for one in days)
        if declared.broken:
            retention = KEEP_ALL
        maintenance = Maintenance(lakehouse, declared.declarations, context.resources.mlflow.open, retention, log_retention, days_kept)
        for done in maintenance.run(context.run.run_id):
            examined.append(done)
            if done.why_not:
                context.log.warning("%s: %s", done.table, done.why_not)
            elif done.done:
                context.log.info("%s: %s, %d bytes freed", done.table, ", ".join(done.done), done.bytes_freed)
        keep = Keep.days(clock.now(), resource.run_retention_days, resource.system_retention_days)
        runs = forget_old_runs(context.instance, lakehouse, declared.owners, keep, context.log)
        counts = {
            "tables": len(examined),
            "maintained": sum(bool(done.done) for done in examined),
            "not_maintained": sum(bool(done.why_not) for done in examined),
            "bytes_freed": sum(done.bytes_freed for done in examined),
            "runs_deleted": runs.runs,
        }
        log = lakehouse.table(LOG)
        yield dg.MaterializeResult(
            key_of(LOG), metadata=describe.table(log) | counts, data_version=versions.of_data(log, spec.code_version or "")
        )

    return maintenance_log
