"""The push door of a feed, `POST /ingest/<feed>`: rows by HTTP that land as files of the feed, each id once.

Here is the request: all of its rows are accepted, or none. What a row may be is in `ingest_rows`, durability and files are in `outbox`;
from the landing zone on, a run reads them as any other file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.zone import Zone
from lakehouse_assets.platform.serving.ingest_rows import MOST_ERRORS, FeedRows, split_rows
from lakehouse_assets.platform.serving.outbox import Outbox, OutboxBounds, OutboxState
from lakehouse_assets.platform.serving.outbox_store import PushedRow, SameIdOtherRow
from lakehouse_assets.platform.serving.refused import FieldError, Refused


def path_of(home: Path, feed: str) -> Path:
    """Where the outbox of a feed is."""
    return home / "serving" / "outbox" / f"{feed}.db"


@dataclass(frozen=True)
class Receipt:
    """Rows that are durable.

    Attributes:
        feed: Where they land.
        accepted: How many are new.
        repeated: How many had been accepted before, and are not landed again.
    """

    feed: str
    accepted: int
    repeated: int


class Ingest:
    """The push door of one feed.

    Args:
        home: The folder of this machine that the settings call home.
        feed: The feed.
        zone: Opens its landing zone; called when files are landed.
        bounds: How large files become, and how much may wait.

    Raises:
        ValueError: Rows cannot be pushed to this feed; the text says why.
    """

    def __init__(self, home: Path, feed: Feed, zone: Callable[[], Zone], bounds: OutboxBounds | None = None) -> None:
        self.feed = feed
        self._rows = FeedRows(feed)
        self.path = path_of(home, feed.name)
        self._outbox = Outbox(self.path, zone, self._rows.file_name, self._rows.content, bounds)

    def take(self, body: bytes, idempotency_key: str | None = None, seconds: float = 30.0) -> Receipt:
        """Accept the rows of a request, all or none, and wait until they are durable.

        Args:
            body: An array of objects, `{"rows": [...]}`, or one object a line. Numbers keep their digits as they are written.
            idempotency_key: The header of that name. With it, and without a `row_id` of the feed, the id of a row is the key and the row's
                number: a request that is sent again with its key lands once.
            seconds: It is not waited for longer.

        Raises:
            Refused: What is wrong, by row and field. Nothing was accepted.
            OutboxUnavailable: They cannot be made durable now.
        """
        rows = split_rows(body)
        pushed, errors = [], list[FieldError]()
        first: dict[str, PushedRow] = {}
        for number, raw in enumerate(rows):
            row = self._rows.row(number, raw, idempotency_key, errors)
            if len(errors) >= MOST_ERRORS:
                break
            if row is None:
                continue
            if (same := first.setdefault(row.id, row)).digest != row.digest:
                text = f"row {number}: the id {row.id!r} stands in this request with another row too"
                errors.append(FieldError(text, self.feed.row_id, number))
            elif same is row:
                pushed.append(row)
        if errors:
            raise Refused(422, errors[:MOST_ERRORS])
        try:
            accepted = self._outbox.add(pushed, seconds)
        except SameIdOtherRow as error:
            raise Refused(409, [_other_row(one, self.feed.row_id) for one in error.ids[:MOST_ERRORS]]) from error
        return Receipt(self.feed.name, accepted, len(rows) - accepted)

    def land(self) -> bool:
        """Land all that was accepted, now; whether that succeeded."""
        return self._outbox.land()

    def state(self) -> OutboxState:
        """What waits, and why."""
        return self._outbox.state()

    def close(self, seconds: float = 10.0) -> bool:
        """Accept nothing more, for at most some seconds; whether all that was accepted is durable. It is landed by `background`."""
        return self._outbox.close(seconds)


def _other_row(identity: str, column: str | None) -> FieldError:
    text = f"the id {identity!r} was accepted before with another row: a correction comes under another id, or as a file of the feed"
    return FieldError(text, column or "Idempotency-Key")
