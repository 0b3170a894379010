"""The code location from given settings and products: assets, jobs, schedules, the sensor and resources, put together."""

import re

import dagster as dg

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.loading import BrokenProduct
from lakehouse_assets.platform.orchestration import automation, maintenance
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.settings import Settings


def definitions(settings: Settings, declared: Products) -> dg.Definitions:
    """What Dagster loads. A broken product is the asset `PRODUCT/broken`, which fails with the reason when it is run."""
    own = dg.Definitions(
        assets=[*declared.assets(), maintenance.asset(declared), *(_broken(product) for product in declared.broken)],
        jobs=automation.jobs(declared.models, declared.partitioned),
        schedules=automation.schedules(settings, models=bool(declared.models)),
        sensors=[automation.landing_sensor(declared.feeds, settings.sensor_seconds)],
        resources=resources(settings),
        executor=automation.executor(settings.executor),
    )
    for product in declared.broken:
        dg.get_dagster_logger().warning(product.text)
    for name, plain in declared.plain.items():
        own = _with_plain(own, name, plain)
    return own


def _with_plain(own: dg.Definitions, product: str, plain: dg.Definitions) -> dg.Definitions:
    """The code location with what a product defines with Dagster's own means; if that does not fit, with the error in its place."""
    try:
        merged = dg.Definitions.merge(own, plain)
        dg.Definitions.validate_loadable(merged)
    except Exception as error:  # noqa: BLE001 whatever Dagster finds wrong with the product's definitions
        broken = BrokenProduct(product, f"What it defines with Dagster's own means cannot be loaded: {places.reason(error)}")
        dg.get_dagster_logger().warning(broken.text)
        return dg.Definitions.merge(own, dg.Definitions(assets=[_broken(broken)]))
    return merged


def _broken(product: BrokenProduct) -> dg.AssetsDefinition:
    """The asset that shows a broken product in the graph, and fails in each run until it is fixed."""
    word = re.sub(r"\W", "_", product.name)

    @dg.asset(
        name="broken",
        key_prefix=[word],
        group_name=word,
        description=product.text,
        kinds={"error"},
        op_tags={"lakehouse/broken": "true"},
    )
    def broken() -> None:
        raise dg.Failure(product.text, allow_retries=False)

    return broken
