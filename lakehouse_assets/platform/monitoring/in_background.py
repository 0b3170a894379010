"""Monitors during micro-batches: evaluated in a thread of their own, as often as they ask, so that no batch waits for them.

What a micro-batch is, is in `operations.follow`; how a monitor judges is in the kinds.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from lakehouse_assets.platform.declarations.monitors import Monitor
from lakehouse_assets.platform.monitoring.evaluation import Evaluation


@dataclass
class BackgroundMonitors:
    """Evaluates monitors while something else goes on.

    Attributes:
        monitors: The monitors.
        evaluation: Makes what evaluates them at a moment (UTC).
    """

    monitors: Sequence[Monitor]
    evaluation: Callable[[datetime], Evaluation]
    _last: dict[str, datetime] = field(default_factory=dict)
    _thread: threading.Thread | None = None

    def tick(self, now: datetime) -> None:
        """Begin to evaluate what is due, if nothing is being evaluated; it does not wait for it.

        A monitor is due at first, and again when its kind's `often` is over.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        due = [one for one in self.monitors if self._is_due(one, now)]
        if not due:
            return
        self._last |= dict.fromkeys((one.name for one in due), now)
        # A command that is interrupted does not wait for it: what was not stored is judged by the next evaluation.
        self._thread = threading.Thread(target=self.evaluation(now).run, args=(due,), name="monitors", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait for what is being evaluated."""
        if self._thread is not None:
            self._thread.join()

    def _is_due(self, monitor: Monitor, now: datetime) -> bool:
        last = self._last.get(monitor.name)
        return last is None or not last <= now < last + monitor.kind.often
