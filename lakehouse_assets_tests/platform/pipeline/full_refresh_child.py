"""Fully refreshes a small table in a fork that dies at one place: before or after a commit or the deletion of a file.

An order has `root`, `table` (a name of `full_refresh_tables.CHANGED`), `fatal` and `when`, as those of `crash_child`.
"""

from typing import Any

from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.storage import inventory
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.crash_child import Places, watch
from lakehouse_assets_tests.platform.pipeline.full_refresh_tables import CHANGED

BATCH_ROWS = 4
"""As many as one commit of the source has, so there are as many batches as commits."""


class DeletingFiles:
    """A file system whose deletions are places."""

    def __init__(self, files: Any, places: Places) -> None:
        self._files, self.delete_file = files, places.around(files.delete_file, "delete")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)


def carry_out(order: dict[str, Any]) -> list[str]:
    """Carry out an order; the names of the places, if there is an end."""
    places = Places(order["fatal"], order["when"], in_bucket=False)
    watch(places)
    file_system = inventory.file_system
    inventory.file_system = lambda table: DeletingFiles(file_system(table), places)
    full_refresh(Refresh(CHANGED[order["table"]], Lakehouse(order["root"]), "again", batch_rows=BATCH_ROWS))
    return places.names
