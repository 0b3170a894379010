"""The code location from given settings and products: assets, jobs, schedules, sensors and resources, put together."""

import re
from collections.abc import Mapping

import dagster as dg

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.loading import BrokenProduct
from lakehouse_assets.platform.orchestration import alerts, automation, maintenance, monitors, recording, retraining
from lakehouse_assets.platform.orchestration.autoload import Products, partitioned
from lakehouse_assets.platform.orchestration.existing import BROKEN
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.orchestration.run_executor import executor
from lakehouse_assets.platform.orchestration.step_errors import OWN
from lakehouse_assets.settings import Settings


def definitions(settings: Settings, declared: Products) -> dg.Definitions:
    """What Dagster loads. A broken product is the asset `PRODUCT/broken`, which fails with the reason when it is run."""
    tables = str(settings.tables)
    own = dg.Definitions(
        assets=[*declared.assets(tables), maintenance.asset(declared, tables)],
        asset_checks=monitors.build(declared.catalog),
        schedules=automation.schedules(settings, declared.models),
        sensors=[
            automation.landing_sensor(declared.feeds, settings.sensor_seconds),
            alerts.sensor(declared.catalog, settings.sensor_seconds),
            recording.sensor(declared.owners, settings.sensor_seconds),
            *retraining.sensors(declared.catalog),
        ],
        resources=resources(settings),
        executor=executor(settings.executor),
    )

    def together(plain: Mapping[str, dg.Definitions]) -> dg.Definitions:
        watched = monitors.keys(declared.catalog)
        jobs = dg.Definitions(jobs=automation.jobs(declared.models, partitioned([own, *plain.values()]), watched))
        return dg.Definitions.merge(own, jobs, *plain.values())

    fitting: dict[str, dg.Definitions] = {}
    broken = list(declared.broken)
    for name, plain in declared.plain.items():
        try:
            dg.Definitions.validate_loadable(together({**fitting, name: plain}))
            fitting[name] = plain
        except Exception as error:  # noqa: BLE001 whatever Dagster finds wrong with the product's definitions
            why = f"What it defines with Dagster's own means does not fit: {places.reason(error.__cause__ or error)}"
            broken.append(BrokenProduct(name, why))
            dg.get_dagster_logger().warning(broken[-1].text)
    return dg.Definitions.merge(together(fitting), dg.Definitions(assets=[_broken(product) for product in broken]))


def _broken(product: BrokenProduct) -> dg.AssetsDefinition:
    """The asset that shows a broken product in the graph, and fails in each run until it is fixed."""
    word = re.sub(r"\W", "_", product.name)

    @dg.asset(
        name=BROKEN,
        key_prefix=[word],
        group_name=word,
        description=product.text,
        kinds={"error"},
        op_tags={"lakehouse/broken": "true"},
    )
    def broken() -> None:
        raise dg.Failure(product.text, OWN, allow_retries=False)

    return broken
