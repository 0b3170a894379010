"""What the inference log keeps of a row that was looked up. How records are kept is in `inference_log`."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lakehouse_assets.platform.serving.assemble import Assembled
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.rows import Row


class Log(Protocol):
    """Where records are kept: see `inference_log.log.InferenceLog`."""

    def append(self, records: Sequence[InferenceRecord]) -> None:
        """Log predictions before they are answered. Never raises, never waits."""
        ...


def status_of(assembled: Assembled, number: int) -> Mapping[str, Any]:
    """What is known of the feature sets that were looked up for a row."""
    found: dict[str, Any] = {}
    for name, status in assembled.status.items():
        said: Row = {"status": status[number]}
        stamp = assembled.stamps[name][number] if name in assembled.stamps else None
        if stamp is not None:  # its moments are in UTC
            said["event_time"], said["known_at"] = stamp.event_time.isoformat(), stamp.known_at.isoformat()
            said["version"] = stamp.version
        found[name] = said
    return found
