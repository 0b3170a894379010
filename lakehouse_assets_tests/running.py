"""Runs declared products without Dagster: what a run does to tables, for tests that look at tables only."""

from collections.abc import Iterable
from pathlib import Path

from lakehouse_assets import products
from lakehouse_assets.platform.declarations.declare import FeedAsset, ModelAsset, TableAsset
from lakehouse_assets.platform.orchestration.assets import ingestion
from lakehouse_assets.platform.orchestration.autoload import Products, load
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.pipeline.model_step import ModelStep, champion_of
from lakehouse_assets.platform.pipeline.refresh import Refresh, Refreshed
from lakehouse_assets.platform.quality.contract import references_of
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings


def run_products(settings: Settings, names: Iterable[str] | None = None, run_id: str = "test") -> dict[str, Refreshed]:
    """Bring the named tables and products (default: all) up to date, in the order of the graph."""
    return run_declared(settings, load(products), names, run_id)


def run_declared(settings: Settings, declared: Products, names: Iterable[str] | None = None, run_id: str = "test") -> dict[str, Refreshed]:
    chosen = None if names is None else set(names)
    resource, mlflow = resources(settings)["lakehouse"], resources(settings)["mlflow"]
    lakehouse = resource.open()
    done = {}
    for asset in in_order(declared):
        if chosen is not None and not chosen & {asset.name, asset.name.split(".")[0]}:
            continue
        if isinstance(asset, FeedAsset):
            way = ingestion(asset, resource)
            way.create(asset.description)
            for _ in way.ingest(run_id):
                pass
        elif isinstance(asset, ModelAsset):
            ModelStep(asset, lakehouse, mlflow.open(), settings.seed, run_id).run()
        else:
            done[asset.name] = Refresh(asset, lakehouse, run_id, champion_of(lakehouse, mlflow.open)).run()
    return done


def in_order(declared: Products) -> list[FeedAsset | TableAsset | ModelAsset]:
    """The declarations, each after what it reads."""
    waiting = {asset.name: asset for asset in declared.declarations}
    ordered: list[FeedAsset | TableAsset | ModelAsset] = []
    while waiting:
        ready = [asset for asset in waiting.values() if not any(source in waiting for source in _sources(asset))]
        assert ready, f"a circle among {', '.join(waiting)}"
        for asset in ready:
            ordered.append(waiting.pop(asset.name))
    return ordered


def _sources(asset: FeedAsset | TableAsset | ModelAsset) -> list[str]:
    if isinstance(asset, FeedAsset):
        return []
    if isinstance(asset, ModelAsset):
        return [asset.features]
    return [read.table for read in asset.reads.values()] + [target.table for target in references_of(asset.contract).values()]


def tables_of(settings: Settings) -> Lakehouse:
    return Lakehouse(str(settings.tables))


def land_text(settings: Settings, feed: str, name: str, content: str | bytes) -> Path:
    """Put a file with this content into the landing zone."""
    path = Path(settings.landing) / feed / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
