"""The code location from given settings and products: assets, jobs, schedules, the sensor and resources, put together."""

import dagster as dg

from lakehouse_assets.platform.orchestration import alerts, automation, maintenance
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.settings import Settings


def definitions(settings: Settings, declared: Products) -> dg.Definitions:
    """What Dagster loads."""
    tables = str(settings.tables)
    own = dg.Definitions(
        assets=[*declared.assets(tables), maintenance.asset(declared.declarations, tables)],
        jobs=automation.jobs(declared.models),
        schedules=automation.schedules(settings, models=bool(declared.models)),
        sensors=[automation.landing_sensor(declared.feeds, settings.sensor_seconds), *alerts.sensors()],
        resources=resources(settings),
        executor=automation.executor(settings.executor),
    )
    return dg.Definitions.merge(own, declared.plain)
