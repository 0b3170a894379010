"""One headless Chromium for tests of pages, driven by its DevTools protocol: what it asked for, what its console said, what it shows."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--force-color-profile=srgb",
)
# On a machine that is busy with other tests.
PATIENCE = 60.0


class Tab:
    """One tab.

    Attributes:
        requests: The addresses that pages asked for, web sockets among them.
        errors: What consoles said as errors, with exceptions and failed requests.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._number = connection, 0
        self.requests: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer: dict[str, Any] = json.loads(self._connection.recv(timeout=PATIENCE))
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        told, name = event.get("params", {}), event.get("method")
        if name == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif name == "Network.webSocketCreated":
            self.requests.append(told["url"])
        elif name == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"])[:500])
        elif name == "Runtime.consoleAPICalled" and told["type"] == "error":
            self.errors.append(" ".join(str(part.get("value", part.get("description"))) for part in told["args"])[:500])
        elif name == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def ask(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, address: str, width: int = 1280, height: int = 1600) -> None:
        """Open an address, without what pages before it said."""
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.do("Page.navigate", url="about:blank")
        self.requests.clear()
        self.errors.clear()
        self.do("Page.navigate", url=address)

    @property
    def text(self) -> str:
        """What the page shows, also inside of the parts that components keep for themselves (shadow roots)."""
        return str(self.ask(_TEXT))

    def until(self, met: Callable[[str], bool], what: str, every: float = 0.1) -> str:
        """Wait until the text of the page meets a condition, asked for every so many seconds; the text."""
        deadline = time.monotonic() + PATIENCE
        while True:
            text = self.text
            if met(text):
                return text
            assert time.monotonic() < deadline, f"{what} did not come. The page shows:\n{text}\n{self.errors}"
            time.sleep(every)

    def shows(self, *parts: str, every: float = 0.1) -> str:
        """Wait until the page shows all of these; its text."""
        return self.until(lambda text: all(part in text for part in parts), " and ".join(map(repr, parts)), every)

    def lacks(self, part: str) -> str:
        """Wait until the page does not show this any more; its text."""
        return self.until(lambda text: part not in text, f"the end of {part!r}")

    def choose(self, label: str, option: str) -> None:
        """Choose an option of the drop-down with a label."""
        assert self.ask(f"({_CHOOSE})({json.dumps(label)}, {json.dumps(option)})"), f"there is no drop-down {label!r} with {option!r}"

    def type(self, label: str, text: str) -> None:
        """Type into the field with a label."""
        assert self.ask(f"({_FOCUS})({json.dumps(label)})"), f"there is no field {label!r}"
        self.do("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.do("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)

    def count(self, selector: str) -> int:
        """How many elements there are of a selector, also inside of shadow roots."""
        return int(self.ask(f"(()=>{{{_EVERYTHING}return all(document).filter(e=>e.matches({json.dumps(selector)})).length}})()"))

    def picture(self) -> bytes:
        """The page as PNG."""
        height = int(self.ask("Math.max(document.documentElement.scrollHeight, document.querySelector('#App')?.scrollHeight || 0)"))
        self.do("Emulation.setDeviceMetricsOverride", width=1280, height=min(height + 20, 6000), deviceScaleFactor=1, mobile=False)
        time.sleep(0.5)
        return base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"])


_EVERYTHING = "const all=r=>[...r.querySelectorAll('*')].flatMap(e=>[e,...(e.shadowRoot?all(e.shadowRoot):[])]);"
_TEXT = (
    "(()=>{const t=r=>[...r.childNodes].map(n=>n.nodeType===3?n.data:n.nodeType===1&&!['STYLE','SCRIPT'].includes(n.tagName)"
    "?(n.shadowRoot?t(n.shadowRoot):'')+t(n)+(getComputedStyle(n).display==='inline'?'':'\\n'):'').join('');"
    "return document.body?t(document.body).replace(/\\n\\s*\\n+/g,'\\n'):''})()"
)
_CHOOSE = (
    "(label,option)=>{" + _EVERYTHING + "const s=all(document).filter(e=>e.tagName==='SELECT').find(s=>{"
    "const r=s.getRootNode();const w=s.closest('label')||s.parentElement?.parentElement;"
    "return (r.host?.getAttribute?.('data-label')||w?.textContent||'').includes(label)&&[...s.options].some(o=>o.text===option)});"
    "if(!s)return false;const v=[...s.options].find(o=>o.text===option).value;"
    "Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype,'value').set.call(s,v);"
    "s.dispatchEvent(new Event('change',{bubbles:true}));return true}"
)
_FOCUS = (
    "(label)=>{" + _EVERYTHING + "const i=all(document).filter(e=>e.tagName==='INPUT').find(i=>{const w=i.closest('label')||"
    "i.parentElement?.parentElement?.parentElement;return (i.getRootNode().host?.getAttribute?.('data-label')||'').includes(label)"
    "||(w?.textContent||'').includes(label)||(i.placeholder||'').includes(label)});if(!i)return false;i.focus();i.select();return true}"
)


@contextmanager
def browser() -> Iterator[Tab]:
    """A browser with one tab."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.PIPE, text=True)
        try:
            line = next(line for line in process.stderr or () if "DevTools listening" in line)
            port = line.split(":")[-1].split("/")[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE) as answer:
                tab = next(tab for tab in json.load(answer) if tab["type"] == "page")
            with connect(tab["webSocketDebuggerUrl"], max_size=None, open_timeout=PATIENCE) as connection:
                yield Tab(connection)
        finally:
            process.terminate()
            process.wait(PATIENCE)
            if process.stderr:
                process.stderr.close()
