"""The inference log of one service process: what the service calls before it answers. Segments are in `spool`, commits in `drain`.

Nothing here goes to the lake by itself: `background` drains what the process has closed.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lakehouse_assets.platform.serving.inference_log.drain import Drainer, Target
from lakehouse_assets.platform.serving.inference_log.records import FeedbackRecord, InferenceRecord, InferenceRows
from lakehouse_assets.platform.serving.inference_log.spool import Bounds, Spool, SpoolState
from lakehouse_assets.platform.serving.inference_log.table import LoggedEndpoint
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


class InferenceLog:
    """Writes predictions and labels down before they are answered.

    Args:
        folder: Of the spools of all processes of this machine: `<home>/serving/spool`.
        lakehouse: Opens the lakehouse, for `flush`.
        endpoints: Whose predictions are logged.
        bounds: How large the spool may become, and when a segment is closed.
    """

    def __init__(
        self, folder: Path, lakehouse: Callable[[], Lakehouse], endpoints: Iterable[LoggedEndpoint], bounds: Bounds | None = None
    ) -> None:
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._spool = Spool(folder, bounds)
        self._drainer = drainer(folder, lambda: self._spool.writer, lakehouse, self._endpoints.values())

    def append(self, records: Sequence[InferenceRecord | InferenceRows]) -> None:
        """Log predictions, before they are answered: they survive a kill of the process from here on. Never waits for the lake or the disk.

        Raises:
            KeyError: An endpoint that this log was not made for.
        """
        self._spool.append([(self._endpoints[record.endpoint].table, record) for record in records])

    def append_feedback(self, records: Sequence[FeedbackRecord]) -> bool:
        """Log labels; whether they are on the disk, so that neither a kill nor a power failure loses them."""
        entries = [(self._endpoints[record.endpoint].feedback_table, record) for record in records]
        return self._spool.append(entries) and self._spool.sync()

    @property
    def writer(self) -> str:
        """The name under which this process writes segments; empty while it cannot."""
        return self._spool.writer

    def flush(self) -> bool:
        """Bring all that was appended into the tables, now; whether that succeeded. Tests call it: a service leaves it to `background`."""
        self._spool.close_segment(at_once=True)
        return self._drainer.once() and not self._spool.state().waiting_bytes

    def state(self) -> SpoolState:
        """What it tells of itself, for metrics."""
        return self._spool.state()

    def release(self) -> bool:
        """Write what waits, and leave the segments to whoever drains next; whether nothing waits any more."""
        return self._spool.close()


def drainer(folder: Path, writer: Callable[[], str], lakehouse: Callable[[], Lakehouse], endpoints: Iterable[LoggedEndpoint]) -> Drainer:
    """What drains the log of some endpoints; see `Drainer`."""
    personal = {table: one.personal for one in endpoints for table in (one.table, one.feedback_table)}
    return Drainer(folder, writer, Target(lakehouse, personal))
