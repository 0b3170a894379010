"""Works the next batch of a table out while the one before it is written: writing leaves a core idle that the function can use.

What was worked out ahead is used only for exactly that batch; whatever came in between, nothing of it is committed by itself.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import polars as pl

from lakehouse_assets.platform.pipeline.batches import Batch, Reading

Worked = tuple[Batch, tuple[pl.DataFrame, int]]


class Ahead:
    """At most one batch that is worked out ahead."""

    def __init__(self) -> None:
        self._next: Future[Worked | None] | None = None

    def begin(self, reading: Reading, batch: Batch) -> None:
        """Work out what follows a batch, on a thread of its own."""
        pool = ThreadPoolExecutor(1, "ahead")
        self._next = pool.submit(_following, reading, batch)
        pool.shutdown(wait=False)

    def take(self, batch: Batch) -> tuple[pl.DataFrame, int] | None:
        """The rows of a batch as `Reading.rows` gives them, if they were worked out ahead."""
        following, self._next = self._next, None
        # What went wrong ahead will go wrong again, if it is that batch's turn at all.
        worked = None if following is None or following.exception() else following.result()
        return worked[1] if worked is not None and worked[0].cursors == batch.cursors else None


def _following(reading: Reading, batch: Batch) -> Worked | None:
    following = reading.following(batch)
    return None if following is None else (following, reading.rows(following))
