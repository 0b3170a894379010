"""What a service tells of itself: health, readiness, version, metrics, its OpenAPI document and a page to try it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.compute.packages import version
from lakehouse_assets.platform.serving.app import json_response
from lakehouse_assets.platform.serving.background_process import BackgroundTasks
from lakehouse_assets.platform.serving.door import Door
from lakehouse_assets.platform.serving.inference_log.spool import SpoolState
from lakehouse_assets.platform.serving.metrics import Metrics
from lakehouse_assets.platform.serving.openapi import Examples, document
from lakehouse_assets.platform.serving.openapi_others import Doors
from lakehouse_assets.platform.serving.served import Served

_ASK: Final = "a token with the scope administer is told why"
_PAGE: Final = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
NAME: Final = "lakehouse-assets"
Spooled = Callable[[], SpoolState]
Waiting = Callable[[], Mapping[str, float]]
Synced = Mapping[str, datetime | None] | None
"""By feature set, until when the online store knows it; None: the store cannot be reached."""
Result = TypeVar("Result")
GiveExamples = Callable[[Served], Awaitable[Examples]]


class Pages:
    """The routes that tell of the service.

    Args:
        door: Its endpoints.
        background: Does what is no answer; it is told what of that is in trouble.
        examples: Gives stored rows for the OpenAPI document, with personal data masked.
        doors: What there is besides endpoints, for the OpenAPI document.
        spooled: Gives what the spool of the inference log tells of itself.
        waiting: Gives by feed the accepted rows that have not landed yet. It is asked outside of the event loop.
    """

    def __init__(
        self,
        door: Door,
        background: BackgroundTasks,
        examples: GiveExamples,
        doors: Doors,
        *,
        spooled: Spooled,
        waiting: Waiting,
    ) -> None:
        self._door, self._background, self._examples, self._doors = door, background, examples, doors
        self._spooled, self._waiting = spooled, waiting
        # Store and outboxes are asked outside of the event loop.
        self._asking = ThreadPoolExecutor(1, "ready")

    @property
    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/", self._page),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/ready/{name}", self._ready_one),
            Route("/version", self._version),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
        ]

    async def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether every endpoint can answer, and what is known of each."""
        synced = await self._synced()
        endpoints = {name: _state(one, synced[name]) for name, one in self._door.served.items()}
        return all(one["ready"] for one in endpoints.values()), endpoints

    async def _synced(self) -> dict[str, Synced]:
        """By endpoint, until when the store knows the feature sets that it looks up."""

        def ask() -> dict[str, Synced]:
            return {name: {} if (lookups := one.lookups) is None else lookups.synced() for name, one in self._door.served.items()}

        return await self._ask(ask)

    async def _ask(self, ask: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._asking, ask)

    async def _health(self, _: Request) -> Response:
        return json_response(b'{"status":"ok"}')

    async def _ready_one(self, request: Request) -> Response:
        served = self._door.endpoint(request.path_params["name"])
        _, endpoints = await self.readiness()
        said = self._visible(request, endpoints[served.name])
        return json_response(msgspec.json.encode(said, enc_hook=str), 200 if said["ready"] else 503)

    def _visible(self, request: Request, endpoint: dict[str, Any]) -> dict[str, Any]:
        """What is known of an endpoint, for who asks: why a version was not taken may name paths and servers."""
        if "not_taken" not in endpoint or self._door.may(request.scope, "administer"):
            return endpoint
        return endpoint | {"not_taken": dict.fromkeys(endpoint["not_taken"], _ASK)}

    async def _ready(self, request: Request) -> Response:
        is_ready, endpoints = await self.readiness()
        said: dict[str, Any] = {"ready": is_ready, "endpoints": {name: self._visible(request, one) for name, one in endpoints.items()}}
        if trouble := self._background.trouble():
            said["background"] = trouble if self._door.may(request.scope, "administer") else dict.fromkeys(trouble, _ASK)
        body = msgspec.json.encode(said, enc_hook=str)
        return json_response(body, 200 if is_ready else 503)

    async def _version(self, _: Request) -> Response:
        return json_response(msgspec.json.encode({"name": NAME, "version": version(NAME)}))

    async def _metrics(self, _: Request) -> Response:
        metrics = self._door.metrics
        _tell_spool(metrics, self._spooled())
        metrics.background_restarts.set(self._background.restarts)
        metrics.background_failing.clear()
        for name in self._background.trouble():
            metrics.background_failing.labels(name).set(1)
        for synced in (await self._synced()).values():
            for name, moment in (synced or {}).items():
                metrics.synced.labels(name).set(0 if moment is None else moment.timestamp())
        waiting = await self._ask(self._waiting)
        metrics.ingest_waiting.clear()
        for name, rows in waiting.items():
            metrics.ingest_waiting.labels(name).set(rows)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, request: Request) -> Response:
        # The document is for everybody, its stored rows for those who may ask.
        may_ask = self._door.may(request.scope, "score")
        examples = {name: await self._examples(one) if may_ask else {} for name, one in self._door.served.items()}
        said = document(list(self._door.served.values()), examples, self._doors, version(NAME))
        return json_response(msgspec.json.encode(said, enc_hook=str))

    async def _page(self, _: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"})


def _tell_spool(metrics: Metrics, state: SpoolState) -> None:
    metrics.log_backlog.set(state.backlog)
    metrics.log_dropped.set(state.dropped)
    metrics.log_waiting.set(state.waiting_bytes)
    metrics.log_disk.set(state.disk_bytes)
    metrics.log_failing.clear()
    if state.trouble:
        metrics.log_failing.labels(state.trouble).set(1)


def _state(served: Served, synced: Synced) -> dict[str, Any]:
    """What is known of an endpoint. It is ready once the store knows all that is looked up, or cannot be reached, which answers say."""
    versions = served.versions
    is_known = synced is None or None not in synced.values()
    said: dict[str, Any] = {"ready": versions is not None and is_known, "model_name": served.endpoint.model.name}
    if versions is not None:
        said["model_version"] = versions.champion.champion.version
        if versions.challenger is not None:
            said["challenger_version"] = versions.challenger.champion.version
        if versions.newest is not None:
            said["as_of"] = versions.newest.as_of
    if served.why:
        said["not_taken"] = dict(served.why)
    if served.roles.looked_up:
        until = {one.name: (synced or {}).get(one.name) for one in served.roles.looked_up}
        said["features_synced_until"] = until
        if synced is None:
            said["features_unavailable"] = True
        limit, now = served.endpoint.stale_after, clock.now()
        if limit is not None:
            said["stale"] = [one for one, moment in until.items() if moment is None or now - moment > limit]
    return said
