"""From declarations to Dagster: an asset for each table, quarantine, feature set, model and prediction table, with checks and columns.

It shows what `refresh`, `models` and the ingestion room do; it decides nothing about rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from lakehouse_assets.platform.declarations.declare import Declaration, FeedAsset, ModelAsset, TableAsset
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.bronze import Ingestion
from lakehouse_assets.platform.ingestion.zone import NotListed
from lakehouse_assets.platform.orchestration import describe
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.pipeline.model_step import ModelStep, champion_of
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.account import RowAccount, RowsLost
from lakehouse_assets.platform.quality.contract import ContractBroken, freshness_of, references_of
from lakehouse_assets.platform.storage.errors import CommitConflict, StorageError

FILES_CHECK = "files_read"
# On the run: whether models that have a champion already are trained anew.
TRAINING_TAG = "lakehouse/training"
ONLY_WITHOUT_CHAMPION = "only without champion"
FULL_REFRESH_TAG = "lakehouse/full_refresh"

# Every write is done once however often it is tried (law 1), so trying again is safe.
_RETRIES = dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
# What comes out the same every time is not tried again.
_FINAL = (ContractBroken, RowsLost, StorageError, ValueError, TypeError)


def key_of(name: str) -> dg.AssetKey:
    """The asset key of a table: the words of its name."""
    return dg.AssetKey(name.split("."))


def build(declarations: Iterable[Declaration]) -> list[dg.AssetsDefinition]:
    """The assets of all declarations, and the landing log that the feeds share.

    Raises:
        TypeError: A contract references a column that no row could keep.
    """
    declared = list(declarations)
    contracts.check_references([asset for asset in declared if not isinstance(asset, ModelAsset)])
    feeds = [asset for asset in declared if isinstance(asset, FeedAsset)]
    builders: Mapping[type, Callable[[Any], dg.AssetsDefinition]] = {FeedAsset: _feed, TableAsset: _table, ModelAsset: _model}
    return [_landing_log(feeds), *(builders[type(asset)](asset) for asset in declared)]


def ingestion(asset: FeedAsset, resource: Any) -> Ingestion:
    """The way of a feed's files into its bronze table."""
    lakehouse = resource.open()
    return Ingestion(
        asset.feed,
        resource.zone(asset.feed.name),
        lakehouse.table(landing.LOG),
        lakehouse.table(asset.name),
        resource.batch_megabytes * 1_000_000,
        resource.batch_files,
    )


def _landing_log(feeds: list[FeedAsset]) -> dg.AssetsDefinition:
    spec = dg.AssetSpec(
        key_of(landing.LOG),
        group_name="platform",
        description=landing.DESCRIPTION,
        kinds={"deltalake", "file"},
        owners=["team:platform"],
        metadata=describe.columns(landing.SCHEMA),
    )

    @dg.multi_asset(name="platform__landing__log", specs=[spec], required_resource_keys={"lakehouse"}, retry_policy=_RETRIES)
    def landing_log(context: dg.AssetExecutionContext) -> Iterator[Any]:
        resource = context.resources.lakehouse
        log = resource.open().table(landing.LOG)
        new: dict[str, Any] = {}
        for feed in feeds:
            try:
                new[feed.feed.name] = ingestion(feed, resource).discover(context.run.run_id)
            except NotListed as error:
                new[feed.feed.name] = str(error)  # its own step fails of it; the other feeds go on
        yield dg.MaterializeResult(
            key_of(landing.LOG), metadata=describe.table(log) | {"new_files": new}, data_version=describe.version(log)
        )

    return landing_log


def _feed(asset: FeedAsset) -> dg.AssetsDefinition:
    key = key_of(asset.name)
    spec = dg.AssetSpec(
        key,
        deps=[key_of(landing.LOG)],
        group_name=_product(asset.name),
        description=asset.description,
        kinds={"deltalake", "bronze"},
        owners=[asset.owner],
        metadata=describe.columns(asset.feed.schema()),
    )
    check = dg.AssetCheckSpec(
        FILES_CHECK, asset=key, description="Every file of this run could be read; one that could not is refused and stays where it is."
    )

    @_step(asset.name, [spec], [check, *describe.monitor_specs(key, contracts.MONITORS_OF_A_FEED)])
    def feed(context: dg.AssetExecutionContext) -> Iterator[Any]:
        way = ingestion(asset, context.resources.lakehouse)
        way.create(asset.description)
        files = []
        with _final_errors(asset.name):
            for batch in way.ingest(context.run.run_id):
                files += batch
                context.log.info("%s: %d files, %d rows", asset.name, len(batch), sum(file.rows for file in batch))
        refused = {file.path: file.refused for file in files if file.refused is not None}
        rows = sum(file.rows for file in files)
        yield from _selected(
            context,
            dg.AssetCheckResult(
                asset_key=key,
                check_name=FILES_CHECK,
                passed=not refused,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"files": len(files), "refused": len(refused)} | {path: reason or "" for path, reason in refused.items()},
            ),
            *describe.monitor_results(key, {contracts.VOLUME: contracts.usual_volume(way.bronze, datetime.now(UTC))}),
            dg.MaterializeResult(
                key,
                metadata=describe.table(way.bronze)
                | describe.columns(way.bronze.schema())  # it may have gained some
                | describe.account(RowAccount(rows, rows))
                | {"files_read": len(files) - len(refused)},
                data_version=describe.version(way.bronze),
            ),
        )

    return feed


def _table(asset: TableAsset) -> dg.AssetsDefinition:
    key, quarantine = key_of(asset.name), key_of(asset.quarantine)
    referenced = [target.table for target in references_of(asset.contract).values()]
    deps = list(dict.fromkeys(key_of(name) for name in [*(read.table for read in asset.reads.values()), *referenced]))
    fresh = freshness_of(asset.contract)
    spec = dg.AssetSpec(
        key,
        deps=deps,
        group_name=_product(asset.name),
        description=asset.description,
        kinds={"deltalake", "polars", asset.layer},
        owners=[asset.owner],
        metadata=describe.contract_columns(asset),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=fresh.within) if fresh else None,
    )
    aside = dg.AssetSpec(
        quarantine,
        deps=deps,
        group_name=_product(asset.name),
        description=f"Rows that broke a rule of {asset.name}, each with every rule that it broke.",
        kinds={"deltalake", "quarantine"},
        owners=[asset.owner],
    )

    @_step(asset.name, [spec, aside], describe.check_specs(asset, key))
    def table(context: dg.AssetExecutionContext) -> Iterator[Any]:
        lakehouse = context.resources.lakehouse.open()
        refresh = Refresh(asset, lakehouse, context.run.run_id, champion_of(lakehouse, context.resources.mlflow.open))
        with _final_errors(asset.name):
            try:
                done = refresh.rebuild() if FULL_REFRESH_TAG in context.run.tags else refresh.run()
            except ContractBroken as broken:
                yield from _selected(context, *describe.broken(asset, key, broken))
                raise
        target, rejected = lakehouse.table(asset.name), lakehouse.table(asset.quarantine)
        pictures = describe.pictures(asset, lakehouse, context.resources.lakehouse.reports) if done.batches else {}
        yield from _selected(
            context,
            *describe.check_results(asset, key, done),
            *describe.monitor_results(key, contracts.watch(asset, lakehouse, datetime.now(UTC))),
            dg.MaterializeResult(
                key, metadata=describe.table(target) | describe.account(done.account) | pictures, data_version=describe.version(target)
            ),
            dg.MaterializeResult(
                quarantine,
                metadata=describe.table(rejected) | describe.columns(rejected.schema()),
                data_version=describe.version(rejected),
            ),
        )

    return table


def _model(asset: ModelAsset) -> dg.AssetsDefinition:
    key = key_of(asset.name)
    spec = dg.AssetSpec(
        key,
        deps=[key_of(asset.features)],
        group_name=_product(asset.name),
        description=asset.description,
        kinds={"lightgbm", "mlflow"},
        owners=[asset.owner],
    )
    check = dg.AssetCheckSpec(
        describe.GATE_CHECK, asset=key, description="The newest version beats the best naive baseline, and the champion if there is one."
    )

    @_step(asset.name, [spec], [check])
    def model(context: dg.AssetExecutionContext) -> Iterator[Any]:
        resource = context.resources.lakehouse
        lakehouse = resource.open()
        step = ModelStep(asset, lakehouse, context.resources.mlflow.open(), resource.seed, context.run.run_id)
        with _final_errors(asset.name):
            trained = step.run(
                only_without_champion=context.run.tags.get(TRAINING_TAG) == ONLY_WITHOUT_CHAMPION, anew=FULL_REFRESH_TAG in context.run.tags
            )
        yield from _selected(context, *describe.model(key, lakehouse.table(asset.name), trained, resource.reports))

    return model


def _step(name: str, specs: list[dg.AssetSpec], checks: list[dg.AssetCheckSpec]) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """The step that makes a declared table: one writer at a time, tried again where that may help, and selectable in part."""
    return dg.multi_asset(
        name=_op(name),
        specs=specs,
        check_specs=checks,
        required_resource_keys={"lakehouse", "mlflow"},
        retry_policy=_RETRIES,
        pool=_op(name),
        can_subset=True,
    )


def _selected(context: dg.AssetExecutionContext, *results: Any) -> Iterator[Any]:
    """The results that this run asked for: a step may do more than was selected of it, and Dagster takes only that."""
    for result in results:
        if isinstance(result, dg.AssetCheckResult):
            assert result.asset_key is not None and result.check_name is not None  # noqa: S101, PT018 both are set in this room
            if dg.AssetCheckKey(result.asset_key, result.check_name) in context.selected_asset_check_keys:
                yield result
        elif result.asset_key in context.selected_asset_keys:
            yield result


@contextmanager
def _final_errors(name: str) -> Iterator[None]:
    """Errors that would come again are shown as they are and not tried again; others go to the retry policy."""
    try:
        yield
    except CommitConflict:
        raise
    except _FINAL as error:
        text = str(error) if name in str(error) else f"{name}: {error}"
        raise dg.Failure(text, allow_retries=False) from error


def _product(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def _op(name: str) -> str:
    return name.replace(".", "__")
