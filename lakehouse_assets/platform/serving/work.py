"""Requests that wait to be scored: a bounded queue, from which a worker takes all that can be scored at once."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lakehouse_assets.platform.serving.assemble import Form
from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets.platform.serving.refused import refused
from lakehouse_assets.platform.serving.rows import Row
from lakehouse_assets.platform.serving.served import Served, Versions

Encode = Callable[["Work", "Answer"], bytes]


@dataclass(slots=True)
class Answer:
    """What is answered to a request.

    Attributes:
        model_name: Of the registered model.
        predictions: One for each row, in their order.
        variants: Who answered each row: name of the variant and version.
        features: For each row, the feature sets that were not as they should be, by status.
        contributions: For each row, if they were asked for and the model can tell.
        seconds: How long each part took.
        champion: Version of the champion at that time, whoever answered.
    """

    model_name: str
    predictions: list[Row]
    variants: list[tuple[str, int]]
    features: list[dict[str, list[str]]]
    contributions: list[Any] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    champion: int | None = None


@dataclass(frozen=True)
class ByKeys:
    """What rows are that were read by keys.

    Attributes:
        keys: As they were sent, one for each row.
        versions: For which the features were read: no other version is given them.
    """

    keys: Sequence[Row]
    versions: Versions


@dataclass(slots=True, eq=False)
class Work:
    """A request that waits.

    Attributes:
        served: Whose it is.
        form: Of its rows.
        rows: With a value for every field.
        request_id: Tells it from all others.
        received_at: In UTC.
        deadline: By the clock `time.monotonic`; nobody waits for it after that.
        future: Is given the body of the answer, or what was refused.
        encode: Makes the body.
        explain: Whether contributions are asked for.
        requester: Who asks.
        began: By `time.perf_counter`.
        dry_run: Whether its events are not to count in the windows of later requests.
        by: Where the rows were read by keys, which, and for which versions.
        claimed: Whether the outcome is decided; see `claim`.
    """

    served: Served
    form: Form
    rows: list[Row]
    request_id: str
    received_at: datetime
    deadline: float
    future: "asyncio.Future[bytes]"
    encode: Encode
    explain: bool = False
    requester: str = ""
    began: float = 0.0
    dry_run: bool = False
    by: ByKeys | None = None
    claimed: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> bool:
        """Decide what is answered: True for who is first, the worker with an answer or the deadline. The others leave it alone."""
        return self.claimed.acquire(blocking=False)

    @property
    def versions(self) -> Versions | None:
        """The versions that have to answer; None: those that are there when it is scored."""
        return None if self.by is None else self.by.versions

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done() or self.claimed.locked() or time.monotonic() > self.deadline


class Queue:
    """Work that waits, bounded by rows. One thread takes; any may put."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._waiting: deque[Work] = deque()
        self._rows = 0
        lock = threading.Lock()
        self._changed, self._idle = threading.Condition(lock), threading.Condition(lock)
        self._closed = self._is_busy = False

    @property
    def rows(self) -> int:
        """How many rows wait."""
        return self._rows

    def put(self, work: Work) -> None:
        """Add work.

        Raises:
            Refused: Too much waits already, or the service ends.
        """
        count = len(work.rows)
        with self._changed:
            if self._closed:
                raise refused(503, "the service ends: ask another one", retry_after="1")
            if self._waiting and self._rows + count > self.limits.queue_rows:
                raise refused(429, f"{self._rows} rows wait to be scored already: ask again in a second", retry_after="1")
            self._waiting.append(work)
            self._rows += count
            self._changed.notify()

    def take(self) -> list[Work] | None:
        """All that can be scored at once: of one endpoint and form, no key twice, with the rest left in its order.

        It waits until there is something. What was taken before has been answered by then. None when the queue is closed and empty.
        """
        with self._changed:
            self._is_busy = False
            if not self._waiting:
                self._idle.notify_all()
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return None
            self._is_busy = True
            return self._batch()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no request waits or is being scored, for at most some seconds; whether it is so."""
        with self._changed:
            return self._idle.wait_for(lambda: not self._waiting and not self._is_busy, seconds)

    def close(self) -> None:
        """Take nothing any more; what waits is still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _batch(self) -> list[Work]:
        first = self._waiting[0]
        names = first.served.key if first.form == "rows" else first.served.identity
        taken: list[Work] = []
        left: deque[Work] = deque()
        keys: set[tuple[Any, ...]] = set()
        count = 0
        while self._waiting:
            work = self._waiting.popleft()
            if work.is_over:
                self._rows -= len(work.rows)
                continue
            fits = (
                work.served is first.served
                and work.form == first.form
                and work.versions is first.versions
                and (not taken or count + len(work.rows) <= self.limits.batch_rows)
            )
            own = {tuple(row[name] for name in names) for row in work.rows} if fits else set()
            if not fits or not keys.isdisjoint(own):
                left.append(work)
                continue
            keys |= {key for key in own if None not in key}
            count += len(work.rows)
            taken.append(work)
        self._waiting = left
        self._rows -= count
        return taken
