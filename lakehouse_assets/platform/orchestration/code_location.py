"""The code location from given settings and products: assets, jobs, schedules, the sensor and resources, put together."""

import dagster as dg

from lakehouse_assets.platform.orchestration import automation, maintenance
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.orchestration.run_executor import executor
from lakehouse_assets.settings import Settings


def definitions(settings: Settings, declared: Products) -> dg.Definitions:
    """What Dagster loads."""
    own = dg.Definitions(
        assets=[*declared.assets(), maintenance.asset(declared.declarations)],
        jobs=automation.jobs(declared.models),
        schedules=automation.schedules(settings, models=bool(declared.models)),
        sensors=[automation.landing_sensor(declared.feeds, settings.sensor_seconds)],
        resources=resources(settings),
        executor=executor(settings.executor),
    )
    return dg.Definitions.merge(own, declared.plain)
