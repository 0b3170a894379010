"""The monitor of volume: whether as many rows came to a table today as on the same weekdays before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lakehouse_assets.platform.declarations.monitors import MonitorKind, Verdict, Watched
from lakehouse_assets.platform.pipeline.contracts import usual_volume


@dataclass(frozen=True)
class Volume(MonitorKind):
    """About as many rows came today as on the same weekdays before, by the row accounts of the table's commits."""

    word: ClassVar[str] = "volume"

    @property
    def demands(self) -> str:
        """See `MonitorKind.demands`."""
        return "About as many rows came today as on the same weekdays before."

    def evaluate(self, watched: Watched) -> Sequence[Verdict]:
        """See `MonitorKind.evaluate`."""
        return [usual_volume(watched.lakehouse.table(watched.monitor.of), watched.lakehouse, watched.now)]
