"""The web application: the overview, and every file of `lakehouse_assets.pages` as a page, on the names of this machine or with a token.

marimo makes a page of each file; what a page says is in its view. The overview has nothing to choose, so it is plain HTML: a browser shows
it at once, without the scripts of marimo. Nothing is loaded from elsewhere: marimo's own files are served from here, once for all pages, so
that a browser has read them after the first one.
"""

import html
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import marimo
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from lakehouse_assets.platform.serving.hosts import Hosts
from lakehouse_assets.platform.serving.refused import Refused
from lakehouse_assets.platform.serving.tokens import Forbidden, Tokens, Unauthenticated
from lakehouse_assets.views import opened, overview
from lakehouse_assets.views.in_html import content, document
from lakehouse_assets.views.listed import NOTEBOOKS, PAGES
from lakehouse_assets.views.markup import links

FOLDER: Final = Path(__file__).parents[1] / "pages"
LIVE: Final = "/livez"
"""Whether the server answers, for programs that watch it: no page, and without a token."""
_ASSETS: Final = f"/marimo-{marimo.__version__}"
_COOKIE: Final = "lakehouse_token"
_MOST_BYTES: Final = 4_096
"""Of the form with a token: it is read before anybody has shown one."""
_SCOPE: Final = "pages"
logger = logging.getLogger(__name__)
_FOREVER: Final = "public, max-age=31536000, immutable"


class _Assets(StaticFiles):
    """marimo's own files: their names change with their content."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """See Starlette."""
        answer = super().file_response(*args, **kwargs)
        answer.headers["Cache-Control"] = _FOREVER
        return answer


class Door:
    """What every request passes, also those that open a web socket.

    Args:
        inside: The pages.
        hosts: The names under which they are shown; None: any, as a token is needed.
        tokens: Checks tokens; None: none is needed.
    """

    def __init__(self, inside: ASGIApp, hosts: Hosts | None, tokens: Tokens | None) -> None:
        self._inside, self._hosts, self._tokens = inside, hosts, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it."""
        answer = self._refusal(scope) if scope["type"] in {"http", "websocket"} and scope["path"] != LIVE else None
        if answer is None:
            await self._inside(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        if self._hosts is not None:
            try:
                self._hosts.check(scope)
            except Refused as error:
                return PlainTextResponse(str(error), error.status)
        if self._tokens is None or scope["path"] == "/login":
            return None
        token = _token_in(scope)
        try:
            self._tokens.check(None if token is None else f"Bearer {token}", _SCOPE)
        except (Unauthenticated, Forbidden) as error:
            return HTMLResponse(_login("" if token is None else str(error)), error.status)
        return None


def application(home: Path, names: tuple[str, ...] = (), *, tokens: bool = False) -> ASGIApp:
    """The pages as an ASGI application.

    Args:
        home: The folder of this machine that the settings call home: it has the tokens.
        names: Under which pages are shown besides localhost, where no token is needed.
        tokens: Whether a token of the scope `pages` is needed.
    """
    builder = marimo.create_asgi_app(quiet=True, include_code=False, asset_url=_ASSETS)
    for page in NOTEBOOKS:
        builder = builder.with_app(path=f"/{page}", root=str(FOLDER / f"{page}.py"))
    pages: Any = builder.build()
    routes = [
        Route("/", lambda _: RedirectResponse(f"/{overview.NAME}/")),
        Route(f"/{overview.NAME}", lambda _: RedirectResponse(f"/{overview.NAME}/")),
        Route(f"/{overview.NAME}/", _overview),
        Route("/favicon.ico", lambda _: Response(status_code=204)),
        Route(LIVE, lambda _: PlainTextResponse("ok")),
        Route("/login", _logged_in, methods=["POST"]),
        Mount(_ASSETS, _Assets(directory=Path(marimo.__file__).parent / "_static")),
        Mount("/", pages),
    ]
    checked = Tokens(home, needed=True) if tokens else None
    return Door(Starlette(routes=routes, lifespan=_ending(pages)), None if tokens else Hosts(names, "LAKEHOUSE_PAGES_HOSTS"), checked)


def _overview(_: Request) -> Response:
    """The first page; in a thread, as it reads tables."""
    title = PAGES[overview.NAME]
    try:
        said = content(overview.page(opened.lakehouse()))
    except Exception as error:  # a database that is away raises what its client pleases
        logger.exception("the overview cannot be shown")
        lines = str(error).splitlines() or [""]
        why = f"<p>{html.escape(type(error).__name__)}: {html.escape(lines[0])}</p><p><code>lakehouse doctor</code> says what is wrong.</p>"
        return HTMLResponse(document(title, f"{links(title)}<h1>{title}</h1><p>This cannot be shown now.</p>{why}"), 503)
    return HTMLResponse(document(title, links(title) + said), headers={"Cache-Control": "no-store"})


def _ending(pages: Any) -> Any:
    """Ends the sessions of the pages with the server: marimo does that by a lifespan, which Starlette does not run of what is mounted."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        for route in pages.routes:
            if isinstance(route, Mount) and hasattr(route.app, "state"):
                await route.app.state.session_manager.shutdown()

    return lifespan


async def _logged_in(request: Request) -> Response:
    """Keep the token of the form in a cookie that no script can read and that no other site's page sends along."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            return PlainTextResponse(f"the form has more than {_MOST_BYTES:,} bytes: a token is shorter", 413)
    form = parse_qs(body.decode("utf-8", "replace"))
    answer = RedirectResponse("/", 303)
    token = form.get("token", [""])[0].strip()
    answer.set_cookie(_COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


def _token_in(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        if name == b"authorization" and text[:7].lower() == "bearer ":
            return str(text[7:].strip())
        if name == b"cookie":
            try:
                cookie = SimpleCookie(text).get(_COOKIE)
            except CookieError:
                continue
            if cookie is not None:
                return str(cookie.value)
    return None


def _login(error: str) -> str:
    said = f'<p role="alert" style="color:#c0392b">{html.escape(error)}</p>' if error else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Lakehouse: sign in</title>'
        '<body style="font-family:sans-serif;max-width:32rem;margin:4rem auto;line-height:1.5"><h1>Lakehouse</h1>'
        "<p>These pages need a token of the scope <code>pages</code>. Who runs the lakehouse makes one with "
        f"<code>lakehouse token create NAME --scope pages</code>.</p>{said}"
        '<form method="post" action="/login"><label>Token <input name="token" type="password" autocomplete="current-password" required '
        'style="width:100%;padding:.4rem"></label><p><button>Sign in</button></p></form></body></html>'
    )
