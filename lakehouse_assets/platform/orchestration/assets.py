"""From declarations to Dagster: an asset for each table, quarantine, feature set, model and prediction table, and the landing log.

An asset runs what `pipeline` and `ingestion` do and shows it with `checks`, `describe` and `versions`. It decides nothing about rows, and
does not look at the kind of a table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.zone import NotListed
from lakehouse_assets.platform.orchestration import checks, describe, planned, versions
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.model_step import ModelStep, champion_of
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.account import RowAccount, RowsLost
from lakehouse_assets.platform.quality.contract import ContractBroken, freshness_of
from lakehouse_assets.platform.quality.masking import without_values
from lakehouse_assets.platform.storage.errors import CommitConflict, StorageError

# On the run: whether models that have a champion already are trained again.
TRAINING_TAG = "lakehouse/training"
ONLY_WITHOUT_CHAMPION = "only without champion"
FULL_REFRESH_TAG = "lakehouse/full_refresh"

Places = Mapping[str, dg.LocalFileCodeReference]
"""By name of a declaration, where it is written."""

# Every write is done once however often it is tried (law 1), so a retry is safe.
_RETRIES = dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
# What comes out the same every time is not retried.
_FINAL = (ContractBroken, RowsLost, StorageError, ValueError, TypeError, pl.exceptions.PolarsError)


def key_of(name: str) -> dg.AssetKey:
    """The asset key of a table: the words of its name."""
    return dg.AssetKey(name.split("."))


def build(catalog: Catalog, places: Places = MappingProxyType({})) -> list[dg.AssetsDefinition]:
    """The assets of all declarations, and the landing log that the feeds share.

    Args:
        catalog: The declarations.
        places: Where declarations without a function are written.
    """
    functions = {table.name: table.function for table in catalog.tables} | {model.name: model.train for model in catalog.models}
    known = {**places, **versions.of_functions(functions)}
    return [
        _landing_log(catalog.feeds),
        *(_feed(feed, known) for feed in catalog.feeds),
        *(_table(table, known) for table in catalog.tables),
        *(_model(model, known) for model in catalog.models),
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


def _landing_log(feeds: list[FeedDeclaration]) -> dg.AssetsDefinition:
    code = versions.hashed(landing.SCHEMA)
    spec = dg.AssetSpec(
        key_of(landing.LOG),
        group_name="platform",
        description=landing.DESCRIPTION,
        kinds={"deltalake", "file"},
        owners=["team:platform"],
        metadata=describe.columns(landing.SCHEMA),
        code_version=code,
    )

    @dg.multi_asset(name="platform__landing__log", specs=[spec], required_resource_keys={"lakehouse"}, retry_policy=_RETRIES)
    def landing_log(context: dg.AssetExecutionContext) -> Iterator[Any]:
        resource = context.resources.lakehouse
        log = resource.open().table(landing.LOG)
        log.create(landing.SCHEMA, ("feed",), landing.DESCRIPTION)  # also where no file has ever landed
        new: dict[str, Any] = {}
        for feed in feeds:
            try:
                new[feed.feed.name] = ingestion(feed, resource).discover(context.run.run_id)
            except NotListed as error:
                new[feed.feed.name] = str(error)  # its own step fails of it; the other feeds go on
        yield dg.MaterializeResult(
            key_of(landing.LOG), metadata=describe.table(log) | {"new_files": new}, data_version=versions.of_data(log, code)
        )

    return landing_log


def _feed(asset: FeedDeclaration, places: Places) -> dg.AssetsDefinition:
    code = versions.of_feed(asset)
    spec = _spec(asset, {asset.layer}, code, places, deps=[landing.LOG], metadata=describe.columns(asset.schema))
    key = spec.key

    @_step(asset.name, [spec], checks.of_feed(key))
    def feed(context: dg.AssetExecutionContext) -> Iterator[Any]:
        source, lakehouse = ingestion(asset, context.resources.lakehouse), context.resources.lakehouse.open()
        if not context.selected_asset_keys:
            yield from checks.feed(key, source, lakehouse, {})
            return
        source.create(asset.description)
        files = []
        for batch in source.ingest(context.run.run_id):
            files += batch
            context.log.info("%s: %d files, %d rows", asset.name, len(batch), sum(file.rows for file in batch))
        refused = {file.path: file.refused for file in files if file.refused is not None}
        rows = sum(file.rows for file in files)
        yield from checks.feed(key, source, lakehouse, refused)
        yield dg.MaterializeResult(
            key,
            metadata=describe.table(source.bronze)
            | describe.columns(source.bronze.schema())  # it may have gained some
            | describe.account(RowAccount(rows, rows))
            | {"files_read": len(files) - len(refused)},
            data_version=versions.of_data(source.bronze, code),
        )

    return feed


def _table(asset: TableDeclaration, places: Places) -> dg.AssetsDefinition:
    code, fresh = versions.of_table(asset), freshness_of(asset.contract)
    spec = _spec(
        asset,
        {"polars", asset.layer},
        code,
        places,
        deps=[*asset.sources(), *asset.references()],
        metadata=describe.contract_columns(asset) | describe.column_lineage(asset),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=fresh.within) if fresh else None,
    )
    rejected = spec.replace_attributes(
        key=key_of(asset.quarantine),
        description=f"Rows that broke a rule of {asset.name}, each with every rule that it broke.",
        kinds={"deltalake", "quarantine"},
        metadata=versions.references(places.get(asset.name)),
        freshness_policy=None,
    )
    key = spec.key

    @_step(asset.name, [spec, rejected], checks.of_table(asset, key))
    def table(context: dg.AssetExecutionContext) -> Iterator[Any]:
        lakehouse = context.resources.lakehouse.open()
        stored, quarantine = lakehouse.table(asset.name), lakehouse.table(asset.quarantine)
        if not context.selected_asset_keys:
            yield from checks.stored(asset, key, lakehouse, {check.name for check in context.selected_asset_check_keys})
            return
        refresh = Refresh(asset, lakehouse, context.run.run_id, champion_of(lakehouse, context.resources.mlflow.open, context.run.run_id))
        try:
            done = full_refresh(refresh) if FULL_REFRESH_TAG in context.run.tags else refresh.run()
        except ContractBroken as broken:
            yield from checks.broken(asset, key, broken, lakehouse)
            raise
        except RowsLost as lost:
            yield checks.rows_lost(key, lost)
            raise
        pictures = describe.pictures(asset, lakehouse, context.resources.lakehouse.reports) if done.batches else {}
        yield from checks.refreshed(asset, key, done, lakehouse)
        yield dg.MaterializeResult(
            key,
            metadata=describe.table(stored) | describe.account(done.account) | pictures,
            data_version=versions.of_data(stored, code),
        )
        yield dg.MaterializeResult(
            rejected.key,
            metadata=describe.table(quarantine) | describe.columns(quarantine.schema()),
            data_version=versions.of_data(quarantine, code),
        )

    return table


def _model(asset: ModelDeclaration, places: Places) -> dg.AssetsDefinition:
    code = versions.of_model(asset)
    spec = _spec(asset, {"lightgbm", "mlflow"}, code, places, deps=asset.sources(), stored_as=None)
    key = spec.key

    @_step(asset.name, [spec], checks.of_model(key))
    def model(context: dg.AssetExecutionContext) -> Iterator[Any]:
        resource = context.resources.lakehouse
        ledger = resource.open().table(asset.name)
        step = ModelStep(asset, resource.open(), context.resources.mlflow.open(), resource.seed, context.run.run_id)
        if not context.selected_asset_keys:
            yield checks.model(key, step.last_result())
            return
        trained = step.run(
            only_without_champion=context.run.tags.get(TRAINING_TAG) == ONLY_WITHOUT_CHAMPION,
            retrain=FULL_REFRESH_TAG in context.run.tags,
        )
        yield checks.model(key, trained)
        yield dg.MaterializeResult(
            key, metadata=describe.model(ledger, trained, resource.reports), data_version=versions.of_data(ledger, code)
        )

    return model


def _spec(
    declaration: Declaration,
    kinds: set[str],
    code: str,
    places: Places,
    *,
    deps: Sequence[str],
    metadata: Mapping[str, Any] = MappingProxyType({}),
    stored_as: str | None = "deltalake",
    freshness_policy: dg.FreshnessPolicy | None = None,
) -> dg.AssetSpec:
    """The asset of a declaration."""
    return dg.AssetSpec(
        key_of(declaration.name),
        deps=[key_of(name) for name in dict.fromkeys(deps)],
        group_name=declaration.product,
        description=declaration.description,
        kinds=kinds if stored_as is None else {stored_as, *kinds},
        owners=[declaration.owner],
        metadata={**metadata, **versions.references(places.get(declaration.name))},
        freshness_policy=freshness_policy,
        code_version=code,
    )


def _step(
    name: str, specs: list[dg.AssetSpec], check_specs: list[dg.AssetCheckSpec]
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """The step that writes a declared table: one writer at a time, retried where that may help, and selectable in part.

    A step may do more than was selected of it, and Dagster takes only that. Where it fails for good, each check that has no result yet
    keeps its last one.
    """
    op = name.replace(".", "__")

    def declare(function: Callable[[dg.AssetExecutionContext], Iterator[Any]]) -> dg.AssetsDefinition:
        @dg.multi_asset(
            name=op,
            specs=specs,
            check_specs=check_specs,
            required_resource_keys={"lakehouse", "mlflow"},
            retry_policy=_RETRIES,
            pool=op,
            can_subset=True,
        )
        def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
            waiting = set(context.selected_asset_check_keys)
            try:
                for result in function(context):
                    if isinstance(result, dg.AssetCheckResult):
                        check = _check_of(result)
                        if check in waiting:
                            waiting.remove(check)
                            yield result
                    elif result.asset_key in context.selected_asset_keys:
                        yield result
            except CommitConflict:
                raise
            except _FINAL as error:
                text = _one_line(name, error)
                yield from (planned.kept(context.instance, check, text) for check in sorted(waiting, key=lambda check: check.name))
                # Polars puts values of rows into its messages, which may be personal: the cause is not shown.
                raise dg.Failure(text, allow_retries=False) from (None if isinstance(error, pl.exceptions.PolarsError) else error)

        return step

    return declare


def _check_of(result: dg.AssetCheckResult) -> dg.AssetCheckKey:
    assert result.asset_key is not None and result.check_name is not None  # noqa: S101, PT018 both are set in `checks`
    return dg.AssetCheckKey(result.asset_key, result.check_name)


def _one_line(name: str, error: Exception) -> str:
    """What went wrong with a table, in one line that names it."""
    text = " ".join(str(error).split())
    if isinstance(error, pl.exceptions.PolarsError):
        text = f"its function failed with {type(error).__name__}: {without_values(error)}"
    return text if name in text else f"{name}: {text}"
