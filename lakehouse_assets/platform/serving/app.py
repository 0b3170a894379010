"""The ASGI application: which path does what, and what is answered where something goes wrong.

Requests for predictions and features pass no framework, as each of them pays for it; all other paths are Starlette's.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lakehouse_assets.platform.serving import native
from lakehouse_assets.platform.serving.door import COUNTED, REQUEST_ID, Door, new_request_id
from lakehouse_assets.platform.serving.hosts import Hosts
from lakehouse_assets.platform.serving.http import Gone, Message, Receive, Scope, Send, answer
from lakehouse_assets.platform.serving.refused import FieldError, Refused

logger = logging.getLogger(__name__)
Post = Callable[[Scope, Receive], Awaitable[bytes]]
NONE: Final = "none"
"""What requests are counted as that are of no endpoint."""
_ENDPOINTS: Final = "/endpoints/"
_FAILED: Final = "the service failed on this request; its log says why"
_NO_PATH: Final = "there is no such path: /openapi.json lists all"


class Application:
    """Answers HTTP.

    Args:
        door: Where requests for predictions go.
        routes: All other paths.
        posts: What answers POST requests to some paths with a body of JSON, as a request for predictions is answered.
        start: Called before the first request.
        stop: Called after the last one.
        hosts: The names under which it answers; None: any, as every request needs a token.
    """

    def __init__(
        self,
        door: Door,
        routes: list[Route],
        posts: Mapping[str, Post],
        *,
        start: Callable[[], None],
        stop: Callable[[], None],
        hosts: Hosts | None = None,
    ) -> None:
        self._door, self._posts, self._hosts = door, posts, hosts

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            start()
            yield
            stop()

        # What is asked there by POST does not come to it: the route says which method a path takes.
        scoring = Route(f"{_ENDPOINTS}{{name}}", _no_method, methods=["POST"])
        self._others = Starlette(
            routes=[*routes, scoring],
            lifespan=lifespan,
            exception_handlers={Refused: _refused, HTTPException: _no_path, Exception: _failed},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._others(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = new_request_id()
        await self._answer(scope, receive, partial(_send_with_id, send, request_id.encode()))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._hosts is not None:
            try:
                self._hosts.check(scope)
            except Refused as error:
                await answer(send, error.status, error.body())
                self._door.metrics.requests.labels(NONE, str(error.status)).inc()
                return
        path: str = scope["path"]
        if scope["method"] == "POST" and path.startswith(_ENDPOINTS):
            name = path[len(_ENDPOINTS) :]
            if "/" not in name:
                await self._score(name, scope, receive, send)
                return
        elif (take := self._posts.get(path)) is not None:
            await self._post(take if scope["method"] == "POST" else _only_post, scope, receive, send)
            return
        await self._other(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request of another path; it counts as one of an endpoint where its protocol has found out which."""
        began, metrics, statuses = time.perf_counter(), self._door.metrics, list[int]()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self._others(scope, receive, counted)
        finally:
            if statuses:
                name = scope.get(COUNTED, NONE)
                metrics.requests.labels(name, str(statuses[0])).inc()
                if name != NONE:
                    metrics.seconds.labels(name).observe(time.perf_counter() - began)

    async def _post(self, take: Post, scope: Scope, receive: Receive, send: Send) -> None:
        status, headers = 200, None
        try:
            body = await take(scope, receive)
        except Refused as error:
            status, body, headers = error.status, error.body(), error.headers
        except Gone:
            return
        except Exception:
            logger.exception("%s failed", scope["path"])
            status, body = 500, Refused(500, [FieldError(_FAILED)]).body()
        await answer(send, status, body, headers=headers)
        self._door.metrics.requests.labels(NONE, str(status)).inc()

    async def _score(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        began, metrics = time.perf_counter(), self._door.metrics
        status, request_id, headers, asked = 200, "", None, None
        try:
            asked = self._door.asked(scope)
            asked.began, request_id = began, asked.request_id
            body = await native.score(self._door, name, scope, receive, asked)
        except Refused as error:
            status, body, headers = error.status, error.body(request_id), error.headers
            self._door.note_refused(name, asked, error)
        except Gone:
            return
        except Exception:
            logger.exception("request %s failed", request_id)
            failed = Refused(500, [FieldError(_FAILED)])
            status, body = 500, failed.body(request_id)
            self._door.note_refused(name, asked, failed)
        await answer(send, status, body, headers=headers)
        known = name if name in self._door.served else NONE
        metrics.requests.labels(known, str(status)).inc()
        metrics.seconds.labels(known).observe(time.perf_counter() - began)


async def _send_with_id(send: Send, request_id: bytes, message: Message) -> None:
    """Every answer says under which id its request was, whatever the protocol, and whether it was refused."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
    await send(message)


async def _only_post(scope: Scope, _: Receive) -> bytes:
    raise Refused(405, [FieldError(f"{scope['path']} takes no {scope['method']}: send POST")], {"Allow": "POST"})


def json_response(content: bytes, status: int = 200, headers: Any = None) -> Response:
    """An answer of JSON."""
    return Response(content, status, headers, "application/json")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 Starlette asks by type
    return json_response(error.body(), error.status, dict(error.headers))


async def _no_path(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 Starlette asks by type
    allowed = (error.headers or {}).get("Allow", "other methods")
    texts = {404: _NO_PATH, 405: f"this path takes {allowed}: see /openapi.json"}
    text = texts.get(error.status_code, error.detail)
    return json_response(Refused(error.status_code, [FieldError(text)]).body(), error.status_code, error.headers)


async def _no_method(_: Request) -> Response:
    raise HTTPException(405, headers={"Allow": "POST"})


async def _failed(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return json_response(Refused(500, [FieldError(_FAILED)]).body(), 500)
