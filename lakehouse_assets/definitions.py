"""What Dagster loads: the products, jobs, schedules, the sensor and resources. No logic belongs here."""

import dagster as dg

from lakehouse_assets import products
from lakehouse_assets.platform.compute.memory import limit_memory
from lakehouse_assets.platform.orchestration import automation, maintenance
from lakehouse_assets.platform.orchestration.autoload import Products, load
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.settings import Settings


@dg.definitions
def defs() -> dg.Definitions:
    """The code location, by this process's settings."""
    settings = Settings.load()
    limit_memory(settings.memory_megabytes, settings.processes_at_once)
    return definitions(settings, load(products))


def definitions(settings: Settings, declared: Products) -> dg.Definitions:
    """The code location, by given settings and products."""
    own = dg.Definitions(
        assets=[*declared.assets(), maintenance.asset(declared.declarations)],
        jobs=automation.jobs(declared.models),
        schedules=automation.schedules(settings, models=bool(declared.models)),
        sensors=[automation.landing_sensor(declared.feeds, settings.sensor_seconds)],
        resources=resources(settings),
        executor=automation.executor(settings.executor),
    )
    return dg.Definitions.merge(own, declared.plain)
