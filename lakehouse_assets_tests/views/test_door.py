"""Who may open the pages: nobody without a token where one is needed, and no page of another site."""

import asyncio
from typing import Any

import pytest

from lakehouse_assets.platform.serving.hosts import Hosts
from lakehouse_assets.platform.serving.tokens import TokenFile, Tokens
from lakehouse_assets.views.web import Door, application


async def _inside(scope: Any, receive: Any, send: Any) -> None:
    kind = "websocket.accept" if scope["type"] == "websocket" else "http.response.start"
    await send({"type": kind, "status": 200})


def asked(door: Door, kind: str = "http", path: str = "/overview/", **headers: str) -> dict[str, Any]:
    """What is answered first."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": path, "method": "GET", "headers": named, "query_string": b""}
    asyncio.run(door(scope, receive, send))
    return sent[0]


@pytest.fixture
def with_tokens(tmp_path):
    return tmp_path, Door(_inside, None, Tokens(tmp_path, needed=True))


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_pages_of_other_sites_are_refused_also_by_web_socket(kind):
    door = Door(_inside, Hosts(["proxy.example"], "LAKEHOUSE_PAGES_HOSTS"), None)
    for headers in ({"host": "evil.example"}, {"host": "localhost:8080", "origin": "http://evil.example"}):
        first = asked(door, kind, **headers)
        assert first.get("status") == 403 or first["type"] == "websocket.close"
    for headers in ({"host": "localhost:8080", "origin": "http://localhost:8080"}, {"host": "proxy.example"}):
        assert asked(door, kind, **headers)["type"] in {"http.response.start", "websocket.accept"}


def test_a_token_of_the_scope_opens_them_as_header_or_cookie(with_tokens):
    home, door = with_tokens
    _, good = TokenFile(home).create("board", ["pages"])
    _, other = TokenFile(home).create("shop", ["score"])
    assert asked(door)["status"] == 401
    assert asked(door, authorization="Bearer lh_wrong")["status"] == 401
    assert asked(door, authorization=f"Bearer {other}")["status"] == 403
    assert asked(door, authorization=f"Bearer {good}")["status"] == 200
    assert asked(door, cookie=f"a=b; lakehouse_token={good}")["status"] == 200
    assert asked(door, "websocket")["type"] == "websocket.close"
    assert asked(door, "websocket", cookie=f"lakehouse_token={good}")["type"] == "websocket.accept"
    assert asked(door, path="/livez")["status"] == 200
    assert asked(door, path="/health")["status"] == 401
    TokenFile(home).revoke("board")
    assert asked(door, cookie=f"lakehouse_token={good}")["status"] == 401


@pytest.mark.parametrize(("length", "status"), [(200, 303), (50_000, 413)])
def test_the_form_with_a_token_is_read_as_far_as_a_token_is_long(tmp_path, length, status):
    parts, sent = [b"token=" + b"x" * length, b"&more=" + b"y" * length], []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/login", "method": "POST", "headers": [], "query_string": b"", "scheme": "http", "server": None}
    asyncio.run(application(tmp_path, tokens=True)(scope, receive, send))
    assert sent[0]["status"] == status
    assert len(parts) == (0 if status == 303 else 1), "what is too long is not read to its end"
