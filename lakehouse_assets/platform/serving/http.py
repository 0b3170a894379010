"""Parameters and bodies of requests, and answers, over ASGI, within limits. Which path does what is in `app`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

from lakehouse_assets.platform.declarations.base import nearest
from lakehouse_assets.platform.serving.limits import Limits
from lakehouse_assets.platform.serving.refused import Refused, refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
JSON: Final = b"application/json"


class Gone(Exception):
    """The client has closed the connection: nobody reads an answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of a header, whose name is in lower case."""
    return next((value for key, value in scope["headers"] if key == name), None)


def parameters(scope: Scope, known: Sequence[str] = ()) -> dict[str, list[str]]:
    """The parameters of the address, by name.

    Args:
        scope: Of the request.
        known: Those that the path takes. None takes a name that it does not know: who writes one wrong would be answered as if
            nothing had been asked.

    Raises:
        Refused: There is another one.
    """
    query = scope["query_string"]
    if not query:
        return {}
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    for name in given:
        if name not in known:
            there = f"there are {', '.join(known)}.{nearest(name, known)}" if known else "this path takes none"
            raise refused(422, f"there is no parameter {name[:100]!r}: {there}", name[:100])
    return given


async def read_body(scope: Scope, receive: Receive, limits: Limits) -> bytes:
    """The body of a request.

    Raises:
        Refused: It is too large, too slow, or no JSON by its headers.
        Gone: The client left.
    """
    _check_headers(scope, limits)
    message = await _within(receive, limits)
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise Gone
    size = len(body)
    if size > limits.body_bytes:
        raise _too_large(limits)
    if not message.get("more_body"):
        return body
    parts = [body]
    try:
        async with asyncio.timeout(limits.body_seconds):
            while message.get("more_body"):
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limits.body_bytes:
                    raise _too_large(limits)
    except TimeoutError:
        raise _too_slow(limits) from None
    return b"".join(parts)


def _check_headers(scope: Scope, limits: Limits) -> None:
    """Refuse a body that its headers say cannot be read."""
    kind = header(scope, b"content-type")
    if kind is not None and not kind.split(b";", 1)[0].strip().lower().endswith(b"json"):
        raise refused(415, "send JSON: the header must say `Content-Type: application/json`")
    if header(scope, b"content-encoding") not in {None, b"identity"}:
        raise refused(415, "a compressed body is not read: send it as it is")
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > limits.body_bytes:
        raise _too_large(limits)


async def _within(receive: Receive, limits: Limits) -> Message:
    """The first part of a body, which mostly is there already."""
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await receive()
    except TimeoutError:
        raise _too_slow(limits) from None


def _too_large(limits: Limits) -> Refused:
    return refused(413, f"the body has more than {limits.body_bytes} bytes: send fewer rows in a request", connection="close")


def _too_slow(limits: Limits) -> Refused:
    return refused(408, f"the body did not come within {limits.body_seconds:g} seconds", connection="close")


async def answer(
    send: Send, status: int, body: bytes, kind: bytes = JSON, headers: Mapping[str, str] | None = None, *, with_body: bool = True
) -> None:
    """Send an answer."""
    named = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in (headers or {}).items()]
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *named],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body if with_body else b""})
