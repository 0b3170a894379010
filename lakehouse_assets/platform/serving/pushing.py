"""The doors by which rows come in: `POST /feedback` for labels, `POST /ingest/FEED` for rows of a feed.

What rows may be, and how they become durable, is in `feedback` and `ingest`; both work in threads, few at once, as they wait for the disk.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.zone import Zone
from lakehouse_assets.platform.serving.app import json_response
from lakehouse_assets.platform.serving.door import Door
from lakehouse_assets.platform.serving.feedback import Feedback, FeedbackUnavailable, LabelType
from lakehouse_assets.platform.serving.http import parameters, read_body
from lakehouse_assets.platform.serving.ingest import Ingest, path_of
from lakehouse_assets.platform.serving.ingest_rows import FeedRows
from lakehouse_assets.platform.serving.offload import Offload
from lakehouse_assets.platform.serving.outbox import waiting_rows
from lakehouse_assets.platform.serving.outbox_store import OutboxUnavailable
from lakehouse_assets.platform.serving.refused import Refused, refused

logger = logging.getLogger(__name__)
_GRACE_SECONDS: Final = 1.0
"""So much later than those who work on it a request is given up, so that they can say why."""


class Pushing:
    """The doors of one service.

    Args:
        door: Who may come in, and how much.
        feedback: Takes labels.
        home: The folder of this machine that the settings call home.
        feeds: The declared feeds.
        zone: Opens the landing zone of a feed.
    """

    def __init__(self, door: Door, feedback: Feedback, home: Path, feeds: Iterable[FeedDeclaration], zone: Callable[[str], Zone]) -> None:
        self._door, self._feedback, self._home, self._zone = door, feedback, home, zone
        self._feeds = {one.feed.name: one.feed for one in feeds}
        self._offload = Offload(door.limits.push_requests)
        self._open: dict[str, Ingest] = {}
        self._lock = Lock()

    @property
    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/feedback", self._take_labels, methods=["POST"]),
            Route("/ingest/{feed}", self._take_rows, methods=["POST"]),
        ]

    @property
    def feeds(self) -> list[Feed]:
        """The feeds to which rows can be pushed."""
        return [one for one in self._feeds.values() if not why_not(one)]

    @property
    def closed(self) -> list[str]:
        """Of each feed to which rows cannot be pushed, why."""
        return [why for one in self._feeds.values() if (why := why_not(one))]

    @property
    def labels(self) -> Mapping[str, LabelType]:
        """What labels may be, by endpoint."""
        return self._feedback.types

    def waiting(self) -> dict[str, float]:
        """By feed, the rows that any process of this machine accepted and that have not landed yet; NaN where it cannot be told now."""
        paths = {name: path_of(self._home, name) for name in self._feeds}
        return {name: waiting_rows(path) for name, path in paths.items() if path.exists()}

    def close(self, seconds: float) -> None:
        """Accept nothing more. What was accepted is landed by `background`."""
        for one in self._open.values():
            one.close(seconds)

    async def _take_labels(self, request: Request) -> Response:
        caller = self._door.caller(request.scope, "feedback")
        parameters(request.scope)
        body = await read_body(request.scope, request.receive, self._door.limits)
        return await self._taken(lambda: self._feedback.take(body, caller.name), "a label that is sent twice counts once")

    async def _take_rows(self, request: Request) -> Response:
        self._door.caller(request.scope, "ingest")
        parameters(request.scope)
        name = request.path_params["feed"]
        body = await read_body(request.scope, request.receive, self._door.limits)
        key = request.headers.get("idempotency-key")
        seconds = self._door.limits.push_seconds
        return await self._taken(lambda: self._ingest(name).take(body, key, seconds), "each row is taken once")

    async def _taken(self, take: Callable[[], Any], again: str) -> Response:
        limits = self._door.limits
        full = refused(429, f"{limits.push_requests} such requests are worked on already: send it again in a second", retry_after="1")
        late = refused(504, f"no answer within {limits.push_seconds:g} seconds: send it again, {again}", retry_after="1")
        receipt = await self._offload.run(
            lambda: _refusing(take), limits.push_seconds + _GRACE_SECONDS, "what was sent", full=full, late=late
        )
        return json_response(msgspec.json.encode(receipt))

    def _ingest(self, name: str) -> Ingest:
        """The push door of a feed, opened when it is asked for first.

        Raises:
            Refused: There is no such feed, or rows cannot be pushed to it.
        """
        with self._lock:
            if name not in self._open:
                feed = self._feeds.get(name)
                if feed is None:
                    raise refused(404, f"there is no feed {name[:100]!r}: there are {', '.join(self._feeds) or 'none'}")
                try:
                    self._open[name] = Ingest(self._home, feed, lambda: self._zone(name))
                except ValueError as error:
                    raise refused(409, str(error)) from None
            return self._open[name]


def _refusing(take: Callable[[], Any]) -> Any:
    """What a door gives; what it raises, as HTTP says it."""
    try:
        return take()
    except Refused:
        raise
    except (FeedbackUnavailable, OutboxUnavailable) as error:
        raise refused(503, str(error), retry_after="5") from None
    except Exception:
        logger.exception("what was sent could not be taken")
        raise refused(500, "the service failed on this request; its log says why") from None


def why_not(feed: Feed) -> str:
    """Why rows cannot be pushed to a feed; empty: they can."""
    try:
        FeedRows(feed)
    except ValueError as error:
        return str(error)
    return ""
