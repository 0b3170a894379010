"""Two chains of tables on one root, in Dagster: one can break while the other stays healthy."""

import asyncio
from collections.abc import Iterable

import dagster as dg
import polars as pl
from dagster._core.loader import LoadingContextForTest

from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.computed_kinds import Full
from lakehouse_assets.platform.declarations.row_kinds import Append
from lakehouse_assets.platform.declarations.tables import table
from lakehouse_assets.platform.orchestration.assets import build
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.quality.contract import Contract, column, rule
from lakehouse_assets_tests.running import tables_of

BRONZE = pl.Schema({"name": pl.String(), "age": pl.Int64()})
SOURCES = frozenset({"club.bronze.members", "club.bronze.visits"})


class Person(Contract):
    """Somebody."""

    name: str = column(key=True)
    age: int = column(ge=0)
    young = rule("nobody is older than 50", pl.col("age") <= 50, level="warn")
    sane = rule("nobody is older than 150", pl.col("age") <= 150, level="fail")


def people(rows: pl.LazyFrame) -> pl.LazyFrame:
    """People."""
    return rows


TABLES = [
    table("club.silver.members", contract=Person, kind=Append(), inputs={"rows": "club.bronze.members"})(people),
    table("club.gold.members", contract=Person, kind=Full(), inputs={"rows": "club.silver.members"})(people),
    table("club.silver.visits", contract=Person, kind=Append(), inputs={"rows": "club.bronze.visits"})(people),
    table("club.gold.visits", contract=Person, kind=Full(), inputs={"rows": "club.silver.visits"})(people),
]


class Club:
    """Two chains of tables on one root, in Dagster."""

    def __init__(self, settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance = settings, instance
        self.tables = list(TABLES)
        for name in SOURCES:
            tables_of(settings).table(name).create(BRONZE)

    def land(self, feed: str, *rows: tuple[str, int]) -> None:
        tables_of(self.settings).table(f"club.bronze.{feed}").append(pl.DataFrame(rows, schema=BRONZE, orient="row"))

    def job(self) -> dg.JobDefinition:
        assets = build(Catalog(tuple(self.tables), SOURCES))[1:]
        return dg.Definitions(assets=assets, resources=resources(self.settings)).resolve_implicit_global_asset_job_def()

    def run(self) -> dg.ExecuteInProcessResult:
        assets = build(Catalog(tuple(self.tables), SOURCES))[1:]
        return dg.materialize(assets, resources=resources(self.settings), instance=self.instance, raise_on_error=False)

    def records(self) -> dict[tuple[str, str], object]:
        keys = [key for asset in build(Catalog(tuple(self.tables), SOURCES))[1:] for key in asset.check_keys]
        return records(self.instance, keys)

    def statuses(self) -> dict[tuple[str, str], str]:
        return statuses(self.records(), self.instance)


def records(instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey]) -> dict[tuple[str, str], object]:
    """By table and check, the newest record."""
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))
    return {(".".join(key.asset_key.path), key.name): record for key, record in found.items()}


def statuses(found: dict[tuple[str, str], object], instance: dg.DagsterInstance) -> dict[tuple[str, str], str]:
    """As the web UI shows them."""

    async def resolved() -> dict[tuple[str, str], str]:
        context = LoadingContextForTest(instance)
        return {key: (await record.resolve_status(context)).value for key, record in found.items()}

    return asyncio.run(resolved())
