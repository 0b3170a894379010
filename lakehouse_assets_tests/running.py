"""Runs declared products without Dagster: what a run does to tables, for tests that look at tables only."""

from collections.abc import Iterable
from pathlib import Path

from lakehouse_assets import products
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.orchestration.autoload import Products, load
from lakehouse_assets.platform.pipeline.refresh import Refreshed
from lakehouse_assets.platform.pipeline.runner import Runner
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings


def run_products(settings: Settings, names: Iterable[str] | None = None, run_id: str = "test") -> dict[str, Refreshed]:
    """Bring the named tables and products (default: all) up to date, in the order of the graph."""
    return run_declared(settings, load(products), names, run_id)


def run_declared(settings: Settings, declared: Products, names: Iterable[str] | None = None, run_id: str = "test") -> dict[str, Refreshed]:
    return runner(settings, declared).run(names, run_id=run_id)


def runner(settings: Settings, declared: Products) -> Runner:
    root = Root(settings)
    return Runner(declared.catalog, root.lakehouse, root.ingestion, root.registry, settings.seed)


def tables_of(settings: Settings) -> Lakehouse:
    return Lakehouse(str(settings.tables))


def land_text(settings: Settings, feed: str, name: str, content: str | bytes) -> Path:
    """Put a file with this content into the landing zone."""
    path = Path(settings.landing) / feed / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
