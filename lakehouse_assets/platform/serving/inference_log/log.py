"""The inference log of one service process: what the service calls before it answers. Segments are in `spool`, commits in `drain`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lakehouse_assets.platform.serving.inference_log.drain import Drainer, DrainState, Target
from lakehouse_assets.platform.serving.inference_log.records import FeedbackRecord, InferenceRecord, InferenceRows
from lakehouse_assets.platform.serving.inference_log.spool import Bounds, Spool, SpoolState
from lakehouse_assets.platform.serving.inference_log.table import LoggedEndpoint
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


@dataclass(frozen=True)
class LogState:
    """What the log tells of itself, for metrics."""

    spool: SpoolState
    drain: DrainState


class InferenceLog:
    """Writes predictions down before they are answered, and brings them into the lake afterwards.

    Args:
        folder: Of the spools of all processes of this machine: `<home>/serving/spool`.
        lakehouse: Opens the lakehouse; called in the background, again and again while it fails.
        endpoints: Whose predictions are logged.
        bounds: How large the spool may become, and when a segment is closed.
    """

    def __init__(
        self, folder: Path, lakehouse: Callable[[], Lakehouse], endpoints: Iterable[LoggedEndpoint], bounds: Bounds | None = None
    ) -> None:
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        logged = self._endpoints.values()
        personal = {table: one.personal for one in logged for table in (one.table, one.feedback_table)}
        self._spool = Spool(folder, bounds)
        self._drainer = Drainer(self._spool, Target(lakehouse, personal))

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

    def flush(self) -> bool:
        """Bring all that was appended into the tables, now; whether that succeeded."""
        return self._drainer.once(at_once=True) and not self._spool.state().waiting_bytes

    def state(self) -> LogState:
        """What it tells of itself."""
        return LogState(self._spool.state(), self._drainer.state)

    def close(self, seconds: float = 10.0) -> bool:
        """Bring what is left into the tables, for at most some seconds. The next process takes over what remains.

        Returns:
            Whether all is in the tables.
        """
        done = self._drainer.stop(seconds)
        return self._spool.close() and done
