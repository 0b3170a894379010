"""What Dagster loads. No logic belongs here."""

import dagster as dg

from lakehouse_assets.platform.compute.memory import limit_memory
from lakehouse_assets.platform.declarations.packages import product_packages
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.settings import Settings

__all__ = ["definitions", "defs"]


@dg.definitions
def defs() -> dg.Definitions:
    """The code location, by this process's settings."""
    settings = Settings.load()
    limit_memory(settings.memory_megabytes, settings.processes_at_once)
    return definitions(settings, load(*product_packages(settings.products)))
