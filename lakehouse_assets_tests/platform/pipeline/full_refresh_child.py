"""Fully refreshes a small table in processes that die at one place: before or after a commit or the deletion of a file.

`python -m lakehouse_assets_tests.platform.pipeline.full_refresh_child` takes orders as `crash_child` does; `table` of an order is a name of
`full_refresh_tables.CHANGED`.
"""

from typing import Any

from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.storage import inventory
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.crash_child import Places, serve, watch

BATCH_ROWS = 4
"""As many as one commit of the source has, so there are as many batches as commits."""


class DeletingFiles:
    """A file system whose deletions are places."""

    def __init__(self, files: Any, places: Places) -> None:
        self._files, self.delete_file = files, places.around(files.delete_file, "delete")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)


def run(order: dict[str, Any]) -> list[str]:
    """Carry out an order; the names of the places, if there is an end."""
    from lakehouse_assets_tests.platform.pipeline.full_refresh_tables import CHANGED  # in the fork: see `crash_child.serve`

    places = Places(order["fatal"], order["when"], in_bucket=False)
    watch(places)
    file_system = inventory.file_system
    inventory.file_system = lambda table: DeletingFiles(file_system(table), places)
    full_refresh(Refresh(CHANGED[order["table"]], Lakehouse(order["root"]), "again", batch_rows=BATCH_ROWS))
    return places.names


if __name__ == "__main__":
    serve(run)
