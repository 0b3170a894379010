"""The partitions of a table in Dagster: the asset `TABLE__partitions` shows each of them, and computes single ones again.

The asset of the table itself has no partitions: its run brings all that changed up to date, and need not be told which partition that is.
Its step reports here which ones it wrote, so none of them has to be run to be shown. Only tables whose kind can compute a partition by
itself have such an asset.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import dagster as dg

from lakehouse_assets.platform.declarations.base import owners_of
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.orchestration import columns, describe, versions
from lakehouse_assets.platform.orchestration.steps import declared_step, key_of
from lakehouse_assets.platform.pipeline.champions import champion_of
from lakehouse_assets.platform.pipeline.full_refresh import bring_up_to_date
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.storage import partition_keys
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.partition_keys import StoredPartition

SUFFIX = "__partitions"
# Each is an event in Dagster's database; the next run reports the others.
_MOST_REPORTED = 500


def build(catalog: Catalog, tables: str = "") -> list[dg.AssetsDefinition]:
    """The assets of all tables that have one; `tables` is the root of the tables, which the web UI shows."""
    return [_asset(table, tables) for table in catalog.tables if table.kind.recomputed_by]


def stored(asset: TableDeclaration, lakehouse: Lakehouse) -> dict[str, StoredPartition]:
    """The partitions that a table has, if its kind can compute one by itself."""
    column = asset.kind.recomputed_by
    return partition_keys.existing(lakehouse.table(asset.name), column) if column else {}


def written(
    asset: TableDeclaration,
    lakehouse: Lakehouse,
    instance: dg.DagsterInstance,
    before: Mapping[str, StoredPartition] = MappingProxyType({}),
    told: tuple[str, ...] = (),
) -> Iterator[dg.AssetMaterialization]:
    """Tell Dagster which partitions there are, and which of them were written.

    Args:
        asset: The table.
        lakehouse: Where it is stored.
        instance: Dagster's, which knows what it was told before.
        before: The partitions before the step.
        told: Partitions of which the step tells by itself.
    """
    if not asset.kind.recomputed_by:
        return
    name, now = asset.name + SUFFIX, stored(asset, lakehouse)
    instance.add_dynamic_partitions(name, list(now))
    for gone in set(instance.get_dynamic_partitions(name)) - now.keys():
        instance.delete_dynamic_partition(name, gone)
    shown = instance.get_materialized_partitions(key_of(name))
    changed = [key for key, files in now.items() if (files != before.get(key) or key not in shown) and key not in told]
    for key in changed[-_MOST_REPORTED:]:
        yield dg.AssetMaterialization(key_of(name), partition=key, metadata={"dagster/partition_row_count": now[key].rows})


def _asset(asset: TableDeclaration, tables: str) -> dg.AssetsDefinition:
    name, column, code = asset.name + SUFFIX, asset.kind.recomputed_by, versions.of_table(asset)
    spec = dg.AssetSpec(
        key_of(name),
        deps=[key_of(asset.name)],
        group_name=f"{asset.product}/partitions",
        description=f"The partitions of {asset.name} by {column}. To materialize some computes them again from all rows of their sources.",
        kinds={"deltalake", "partitions"},
        owners=owners_of(asset.owner),
        tags=describe.tags_of(asset),
        metadata={**describe.named(asset.name, tables), **columns.of_table(asset), **versions.references(asset)},
        code_version=code,
        partitions_def=dg.DynamicPartitionsDefinition(name=name),
        skippable=True,
    )

    @declared_step(name, [spec], [], table=asset.name)
    def partitions(context: dg.AssetExecutionContext) -> Iterator[Any]:
        lakehouse = context.resources.lakehouse.open()
        if not (context.has_partition_key or context.has_partition_key_range):  # it was selected with others, and nobody said which
            context.log.info("No partition was asked for, so none is computed again.")
            yield from written(asset, lakehouse, context.instance)
            return
        keys = tuple(context.partition_keys)
        table, quarantine = lakehouse.table(asset.name), lakehouse.table(asset.quarantine)
        before = stored(asset, lakehouse)
        champion = champion_of(lakehouse, context.resources.mlflow.open, context.run.run_id)
        refresh = Refresh(asset, lakehouse, context.run.run_id, champion)
        bring_up_to_date(refresh)  # also where the table was deleted and its quarantine was not
        done = refresh.recompute_partitions([partition_keys.value(key, asset.schema[column]) for key in keys])
        yield from written(asset, lakehouse, context.instance, before, told=keys)
        now = stored(asset, lakehouse)
        for key in keys:
            rows = now[key].rows if key in now else 0
            context.add_asset_metadata({"dagster/partition_row_count": rows}, asset_key=spec.key, partition_key=key)
        yield dg.MaterializeResult(spec.key, metadata=describe.account(done.account))
        for key, of in ((key_of(asset.name), table), (key_of(asset.quarantine), quarantine)):
            data = versions.of_data(of, code).value
            yield dg.AssetMaterialization(key, metadata=describe.table(of), tags={"dagster/data_version": data})

    return partitions
