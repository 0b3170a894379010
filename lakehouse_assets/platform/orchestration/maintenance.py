"""The log of maintenance as an asset. What maintenance does is in `operations.maintenance`."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from lakehouse_assets.platform.operations.maintenance import DESCRIPTION, KEEP_ALL, LOG, SCHEMA, Maintenance
from lakehouse_assets.platform.orchestration import columns, describe, versions
from lakehouse_assets.platform.orchestration.assets import platform_spec
from lakehouse_assets.platform.orchestration.autoload import Products
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
        resource = context.resources.lakehouse
        lakehouse = resource.open()
        maintained = []
        days = resource.retention_days, resource.log_retention_days, resource.monitoring_days
        retention, log_retention, monitoring = (timedelta(days=one) for one in days)
        if declared.broken:
            retention = KEEP_ALL
        maintenance = Maintenance(lakehouse, declared.declarations, context.resources.mlflow.open, retention, log_retention, monitoring)
        for done in maintenance.run(context.run.run_id):
            maintained.append(done)
            if done.why_not:
                context.log.warning("%s: %s", done.table, done.why_not)
            elif done.done:
                context.log.info("%s: %s, %d bytes freed", done.table, ", ".join(done.done), done.bytes_freed)
        counts = {
            "tables": len(maintained),
            "maintained": sum(bool(done.done) for done in maintained),
            "not_maintained": sum(bool(done.why_not) for done in maintained),
            "bytes_freed": sum(done.bytes_freed for done in maintained),
        }
        log = lakehouse.table(LOG)
        yield dg.MaterializeResult(
            key_of(LOG), metadata=describe.table(log) | counts, data_version=versions.of_data(log, spec.code_version or "")
        )

    return maintenance_log
