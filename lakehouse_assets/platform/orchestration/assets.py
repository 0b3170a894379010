"""From declarations to Dagster: an asset for each table, feature set, model, prediction table and endpoint, and the landing log.

A quarantine is an asset without a step of its own: the step of its table writes it. An asset runs what `pipeline` and `ingestion` do and
shows it with `checks`, `monitors`, `columns`, `describe` and `versions`. It decides nothing about rows, and does not look at the kind of a
table.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.platform.compute.progress import telling
from lakehouse_assets.platform.declarations.base import Declaration, owners_of
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.zone import NotListed
from lakehouse_assets.platform.monitoring.kinds.implied import implied
from lakehouse_assets.platform.monitoring.retraining.runs import reason_in
from lakehouse_assets.platform.orchestration import checks, columns, describe, endpoints, monitors, table_partitions, versions
from lakehouse_assets.platform.orchestration.step_usage import reporting
from lakehouse_assets.platform.orchestration.steps import RETRIES, declared_step, is_full_refresh, key_of
from lakehouse_assets.platform.pipeline.champions import champion_of
from lakehouse_assets.platform.pipeline.full_refresh import bring_up_to_date, full_refresh
from lakehouse_assets.platform.pipeline.functions import why_not_trained
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.account import RowAccount, RowsLost
from lakehouse_assets.platform.quality.contract import ContractBroken, freshness_of
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.wording import counted

# Layers that people read are refreshed daily by default.
_FRESH_LAYERS = ("gold", "predictions")
_WARN_AFTER, _FAIL_AFTER = timedelta(hours=30), timedelta(hours=54)


def build(catalog: Catalog, tables: str = "") -> list[dg.AssetsDefinition]:
    """The assets of all declarations, and the landing log that the feeds share.

    Args:
        catalog: The declarations.
        tables: Root of the tables, which the web UI shows; empty if it is not known.
    """
    return [
        _landing_log(catalog.feeds, tables),
        *(_feed(feed, catalog, tables) for feed in catalog.feeds),
        *(_table(table, catalog, tables) for table in catalog.tables),
        *(_quarantine(table, tables) for table in catalog.tables),
        *(_model(model, catalog, tables) for model in catalog.models),
        *(endpoints.asset(endpoint, catalog, tables) for endpoint in catalog.endpoints),
    ]


def ingestion(asset: FeedDeclaration, resource: Any) -> Ingestion:
    """The ingestion of a feed's files into its bronze table."""
    lakehouse = resource.open()
    return Ingestion(
        asset.feed,
        resource.zone(asset.feed.name),
        lakehouse.table(landing.LOG),
        lakehouse.table(asset.name),
        resource.batch_megabytes * 1_000_000,
        resource.batch_files,
    )


def platform_spec(name: str, description: str, schema: Mapping[str, pl.DataType], texts: Mapping[str, str], tables: str) -> dg.AssetSpec:
    """The asset of a table that the platform keeps for itself."""
    product, layer, _ = name.split(".")
    return dg.AssetSpec(
        key_of(name),
        group_name=f"{product}/{layer}",
        description=description,
        kinds={"deltalake"},
        owners=[f"team:{product}"],
        tags={"product": product, "layer": layer},
        metadata=describe.named(name, tables) | columns.described(schema, texts),
        code_version=versions.hashed(schema),
    )


def _landing_log(feeds: list[FeedDeclaration], tables: str) -> dg.AssetsDefinition:
    spec = platform_spec(landing.LOG, landing.DESCRIPTION, landing.SCHEMA, columns.OF_LANDING, tables)

    @dg.multi_asset(name="platform__landing__log", specs=[spec], required_resource_keys={"lakehouse"}, retry_policy=RETRIES)
    def landing_log(context: dg.AssetExecutionContext) -> Iterator[Any]:
        resource = context.resources.lakehouse
        log = resource.open().table(landing.LOG)
        new: dict[str, Any] = {}
        with reporting(context, landing.LOG):
            log.create(landing.SCHEMA, ("feed",), landing.DESCRIPTION)  # also where no file has ever landed
            for feed in feeds:
                try:
                    new[feed.feed.name] = ingestion(feed, resource).discover(context.run.run_id)
                except (NotListed, NoSuchVersion) as error:
                    new[feed.feed.name] = str(error)  # its own step fails of it; the other feeds go on
        yield dg.MaterializeResult(
            spec.key, metadata=describe.table(log) | {"new_files": new}, data_version=versions.of_data(log, spec.code_version or "")
        )

    return landing_log


def _feed(asset: FeedDeclaration, catalog: Catalog, tables: str) -> dg.AssetsDefinition:
    code = versions.of_feed(asset)
    spec = _spec(asset, code, tables, deps=[landing.LOG], metadata=columns.of_feed(asset))
    key, watched = spec.key, implied(asset)

    @declared_step(asset.name, [spec], [*checks.of_feed(key), *monitors.specs(watched)])
    def feed(context: dg.AssetExecutionContext) -> Iterator[Any]:
        source = ingestion(asset, context.resources.lakehouse)
        if not context.selected_asset_keys:
            yield from checks.feed(key, source, {})
            yield from monitors.results(context, catalog, watched, {check.name for check in context.selected_asset_check_keys})
            return
        source.create(asset.description)
        files = []
        with telling() as tell:
            for batch in source.ingest(context.run.run_id):
                files += batch
                tell(f"{counted(sum(file.rows for file in files), 'row')} of {counted(len(files), 'file')} so far")
                context.log.info("%s: %d files, %d rows", asset.name, len(batch), sum(file.rows for file in batch))
                for file in batch:
                    for remark in file.remarks:
                        context.log.warning("%s: %s", file.path, remark)
        refused = {file.path: file.refused for file in files if file.refused is not None}
        rows = sum(file.rows for file in files)
        yield from checks.feed(key, source, refused)
        yield from monitors.results(context, catalog, watched)
        yield dg.MaterializeResult(
            key,
            metadata=describe.table(source.bronze)
            | columns.of_feed(asset, source.bronze.schema())  # it may have gained some
            | describe.account(RowAccount(rows, rows))
            | {"files_read": len(files) - len(refused)},
            data_version=versions.of_data(source.bronze, code),
        )

    return feed


def _table(asset: TableDeclaration, catalog: Catalog, tables: str) -> dg.AssetsDefinition:
    code = versions.of_table(asset)
    spec = _spec(
        asset,
        code,
        tables,
        deps=[*asset.sources(), *asset.references()],
        metadata=columns.of_table(asset) | {"quarantine": dg.MetadataValue.asset(key_of(asset.quarantine))},
        freshness_policy=_freshness(asset),
    )
    key, watched = spec.key, implied(asset)

    @declared_step(asset.name, [spec], [*checks.of_table(asset, key), *monitors.specs(watched)])
    def table(context: dg.AssetExecutionContext) -> Iterator[Any]:
        lakehouse = context.resources.lakehouse.open()
        stored, quarantine = lakehouse.table(asset.name), lakehouse.table(asset.quarantine)
        before = table_partitions.stored(asset, lakehouse)
        if not context.selected_asset_keys:
            wanted = {check.name for check in context.selected_asset_check_keys}
            yield from checks.stored(asset, key, lakehouse, wanted)
            yield from monitors.results(context, catalog, watched, wanted)
            return
        refresh = Refresh(asset, lakehouse, context.run.run_id, champion_of(lakehouse, context.resources.mlflow.open, context.run.run_id))
        try:
            done = full_refresh(refresh) if is_full_refresh(context) else bring_up_to_date(refresh)
        except ContractBroken as broken:
            yield from checks.broken(asset, key, broken)
            yield from monitors.results(context, catalog, watched)
            raise
        except RowsLost as lost:
            yield checks.rows_lost(key, lost)
            raise
        pictures = describe.pictures(asset, lakehouse, context.resources.lakehouse.reports) if done.batches else {}
        yield from checks.refreshed(asset, key, done, lakehouse)
        yield from monitors.results(context, catalog, watched)
        yield dg.MaterializeResult(
            key,
            metadata=pictures | describe.account(done.account) | describe.table(stored),
            data_version=versions.of_data(stored, code),
        )
        yield dg.AssetMaterialization(
            key_of(asset.quarantine),
            metadata=describe.table(quarantine) | columns.of_quarantine(asset, quarantine.schema()),
            tags={"dagster/data_version": versions.of_data(quarantine, code).value},
        )
        yield from table_partitions.written(asset, lakehouse, context.instance, before)

    return table


def _quarantine(asset: TableDeclaration, tables: str) -> dg.AssetsDefinition:
    """The quarantine of a table: it is written by the table's step, and cannot be materialized by itself."""
    spec = dg.AssetSpec(
        key_of(asset.quarantine),
        deps=[key_of(asset.name)],
        group_name=f"{asset.product}/quarantine",
        description=f"Rows that broke a rule of {asset.name}, each with every rule that it broke.",
        kinds={"deltalake", "quarantine"},
        owners=owners_of(asset.owner),
        tags=describe.tags_of(asset) | {"layer": "quarantine"},
        metadata=describe.named(asset.quarantine, tables) | columns.of_quarantine(asset),
        code_version=versions.of_table(asset),
    )
    return dg.AssetsDefinition(specs=[spec])


def _model(asset: ModelDeclaration, catalog: Catalog, tables: str) -> dg.AssetsDefinition:
    code = versions.of_model(asset)
    described = columns.described(LEDGER_SCHEMA, columns.OF_LEDGER)
    spec = _spec(asset, code, tables, deps=asset.sources(), metadata=described, stored_as="mlflow")
    key = spec.key

    @declared_step(asset.name, [spec], checks.of_model(key))
    def model(context: dg.AssetExecutionContext) -> Iterator[Any]:
        resource = context.resources.lakehouse
        ledger = resource.open().table(asset.name)
        registry, run_id = context.resources.mlflow.open(), context.run.run_id
        step = ModelStep(asset, resource.open(), registry, resource.seed, run_id, resource.place_of_work())
        if not context.selected_asset_keys:
            yield from checks.model(key, step.last_result())
            return
        tags: Mapping[str, str] = {}
        because = reason_in(context.run.tags, asset.name)
        if why := why_not_trained(asset, catalog.declarations, resource.open()):
            context.log.warning(why)
            trained, tags = step.leave(why, because), versions.OUT_OF_DATE
        else:
            trained = step.run(retrain=is_full_refresh(context), because=because)
        yield from checks.model(key, trained)
        metadata = describe.model(asset, ledger, trained, resource.reports, context.resources.mlflow.web_ui)
        if because is not None:
            metadata["training_reason"] = because.text
        yield dg.MaterializeResult(key, metadata=metadata, data_version=versions.of_data(ledger, code), tags=tags)

    return model


def _spec(
    declaration: Declaration,
    code: str,
    tables: str,
    *,
    deps: Sequence[str],
    metadata: Mapping[str, Any],
    stored_as: str = "deltalake",
    freshness_policy: dg.FreshnessPolicy | None = None,
) -> dg.AssetSpec:
    """The asset of a declaration."""
    return dg.AssetSpec(
        key_of(declaration.name),
        deps=[key_of(name) for name in dict.fromkeys(deps)],
        group_name=f"{declaration.product}/{declaration.layer}",
        description=declaration.description,
        kinds={stored_as, declaration.layer},
        owners=owners_of(declaration.owner),
        tags=describe.tags_of(declaration),
        metadata={**describe.named(declaration.name, tables), **metadata, **versions.references(declaration)},
        freshness_policy=freshness_policy,
        code_version=code,
    )


def _freshness(asset: TableDeclaration) -> dg.FreshnessPolicy | None:
    """How old the last refresh may be: what the contract says of rows, else two missed daily refreshes for what people read."""
    if fresh := freshness_of(asset.contract):
        return dg.FreshnessPolicy.time_window(fail_window=fresh.within)
    if asset.layer in _FRESH_LAYERS:
        return dg.FreshnessPolicy.time_window(fail_window=_FAIL_AFTER, warn_window=_WARN_AFTER)
    return None
