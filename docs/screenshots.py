"""Pictures of the web UIs for the documents, by headless Chromium: `python docs/screenshots.py DAGSTER_URL MLFLOW_URL [NAME…]`.

It needs `chromium` (Debian's package of that name, or the variable CHROMIUM), and the two servers of `lakehouse dev` on a root on which
`lakehouse demo` ran. A page counts as drawn when it has held still for a while. Pictures get a palette, because they are committed.
"""

import asyncio
import base64
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from websockets.asyncio.client import ClientConnection, connect

IMAGES = Path(__file__).with_name("images")
_COLOURS = 64
_ENLARGED = 1.6
_STILL_SECONDS, _MOST_SECONDS = 2.0, 45.0
# So many characters say no more than that something is loading.
_EMPTY_PAGE = 80
_CHROMIUM = os.environ.get("CHROMIUM", "chromium")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0", "--force-color-profile=srgb")


@dataclass(frozen=True)
class Page:
    """A picture: where it is taken, what is clicked first (by JavaScript), the window, and its part (x, y, width, height)."""

    name: str
    server: str
    path: str
    click: tuple[str, ...] = ()
    width: int = 1400
    height: int = 850
    clip: tuple[int, int, int, int] | None = None


def _press(text: str) -> str:
    """JavaScript that clicks the smallest element with this text."""
    return (
        "[...document.querySelectorAll('a,button,[role=tab],[role=button],span,div')]"
        f".filter(e=>e.textContent.trim()==={json.dumps(text)}).pop()?.click()"
    )


# Stack traces name folders of the machine on which the picture is taken.
_NO_STACK_TRACE = (
    "(w=>{while(w.nextNode())w.currentNode.data=w.currentNode.data.replace(/(Stack Trace:|,?\\s*File \"\\/)[\\s\\S]*/,'')})"
    "(document.createTreeWalker(document.body,NodeFilter.SHOW_TEXT))"
)
_FIRST_RUN = "location.href=[...document.querySelectorAll('a')].find(a=>/\\/runs\\/[0-9a-f-]{36}$/.test(a.href)).href"
# MLflow's assistant takes a quarter of the page.
_CLOSE = "document.querySelectorAll('[aria-label=Close],[aria-label=close]').forEach(e=>e.click())"
PARTITIONS = "/assets/sales/gold/daily_revenue__partitions"
TABLE = "/assets/sales/silver/invoice_lines"
MODEL = "/assets/revenue_forecast/models/daily_revenue"
_GROUPS = ("sales", "revenue_forecast")
_OPEN = ",".join(f"global@global:{group}" for group in _GROUPS)
PAGES = (
    Page(
        "graph",
        "dagster",
        f"/asset-groups?expanded={_OPEN}",
        (_press("Hide navigation"),),
        width=1500,
        height=520,
        clip=(385, 165, 925, 240),
    ),
    Page("asset", "dagster", TABLE),
    Page("checks", "dagster", f"{TABLE}?view=checks", (_press("readable"),)),
    Page("model", "dagster", f"{MODEL}?view=events", height=700),
    Page("failed_run", "dagster", "/runs?q[0]=status%3AFAILURE", (_FIRST_RUN, _NO_STACK_TRACE)),
    Page("timeline", "dagster", "/overview/activity/timeline", (_press("1hr"),), height=420),
    Page("partitions", "dagster", f"{PARTITIONS}?view=partitions"),
    Page("automation", "dagster", "/automation"),
    Page("mlflow_model", "mlflow", "/#/models/revenue_forecast.models.daily_revenue/versions/1?workflowType=machine_learning", (_CLOSE,)),
    Page("mlflow_experiments", "mlflow", "/#/experiments?workflowType=machine_learning", (_CLOSE,), height=420),
)


class Browser:
    """One tab of a headless Chromium, driven by its DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._ids = connection, itertools.count(1)

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result."""
        number = next(self._ids)
        await self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await self._connection.recv())
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    async def ask(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = await self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    async def drawn(self) -> None:
        """Wait until what the page shows has held still for a while."""
        before, still = None, 0.0
        for _ in range(int(_MOST_SECONDS / 0.5)):
            await asyncio.sleep(0.5)
            now = await self.ask("document.body.innerText.length + ' ' + document.querySelectorAll('*').length")
            still = still + 0.5 if now == before and int(now.split()[0]) > _EMPTY_PAGE else 0.0
            before = now
            if still >= _STILL_SECONDS:
                return

    async def picture(self, address: str, page: Page) -> bytes:
        """A page as PNG."""
        await self.do("Emulation.setDeviceMetricsOverride", width=page.width, height=page.height, deviceScaleFactor=1, mobile=False)
        await self.do("Page.navigate", url="about:blank")
        await self.do("Page.navigate", url=address + page.path)
        await self.drawn()
        for script in page.click:
            await self.ask(script)
            await self.drawn()
        part = {}
        if page.clip is not None:
            part = {"clip": dict(zip(("x", "y", "width", "height"), page.clip, strict=True), scale=_ENLARGED)}
        return base64.b64decode((await self.do("Page.captureScreenshot", format="png", **part))["data"])


def reduced(png: bytes) -> bytes:
    """The picture with a palette: a quarter of the size, and text stays readable."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    target = io.BytesIO()
    image.save(target, "PNG", optimize=True)
    return target.getvalue()


async def take(servers: dict[str, str], pages: list[Page], folder: Path) -> None:
    """Take the pictures and put them into a folder."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(  # noqa: S603 our own command
            [_CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.PIPE, text=True
        )
        try:
            line = next(line for line in browser.stderr or () if "DevTools listening" in line)
            port = line.split(":")[-1].split("/")[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                tab = next(tab for tab in json.load(answer) if tab["type"] == "page")
            async with connect(tab["webSocketDebuggerUrl"], max_size=None) as connection:
                for page in pages:
                    png = reduced(await Browser(connection).picture(servers[page.server], page))
                    (folder / f"{page.name}.png").write_bytes(png)
                    print(f"{page.name}.png {len(png) // 1024} KB")  # noqa: T201 that is what it tells
        finally:
            browser.terminate()
            browser.wait()


def main(dagster: str, mlflow: str, *names: str) -> None:
    """Take all pictures, or those that are named."""
    unknown = set(names) - {page.name for page in PAGES}
    if unknown:
        raise SystemExit(f"no picture is called {', '.join(unknown)}; there are {', '.join(page.name for page in PAGES)}")
    IMAGES.mkdir(exist_ok=True)
    chosen = [page for page in PAGES if not names or page.name in names]
    asyncio.run(take({"dagster": dagster, "mlflow": mlflow}, chosen, IMAGES))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
