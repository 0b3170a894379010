"""Computes the next batch of a table while the one before it is written: writing leaves a core idle that the function can use.

What was prefetched is used only for exactly that batch; whatever came in between, nothing of it is committed by itself.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from lakehouse_assets.platform.declarations.kind import Plan
from lakehouse_assets.platform.pipeline.batch import Batch

if TYPE_CHECKING:
    from lakehouse_assets.platform.pipeline.refresh import Computed, Refresh

Work = tuple[Batch, Plan, "Computed"]


class Prefetch:
    """At most one batch that is computed in advance."""

    def __init__(self) -> None:
        self._next: Future[Work | None] | None = None

    def begin(self, refresh: "Refresh", batch: Batch) -> None:
        """Compute what follows a batch, on a thread of its own."""
        pool = ThreadPoolExecutor(1, "prefetch")
        self._next = pool.submit(_following, refresh, batch)
        pool.shutdown(wait=False)

    def take(self, batch: Batch) -> "tuple[Plan, Computed] | None":
        """The plan and the rows of a batch, if they were computed in advance."""
        following, self._next = self._next, None
        # What went wrong in advance will go wrong again, if it is that batch's turn at all.
        work = None if following is None or following.exception() else following.result()
        return work[1:] if work is not None and work[0].moved == batch.moved else None


def _following(refresh: "Refresh", batch: Batch) -> Work | None:
    following = refresh.batches.following(batch)
    if following is None:
        return None
    plan = refresh.declaration.kind.plan(refresh.batches.inputs(following))
    return following, plan, refresh.computed(plan)
