"""Sinks that take a POST of JSON: a webhook, and Slack's incoming webhooks."""

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from lakehouse_assets.platform.monitoring.alerts.machine import RESOLVED
from lakehouse_assets.platform.monitoring.alerts.messages import Message, heading, lines
from lakehouse_assets.platform.monitoring.alerts.sinks.deadline import Deadline
from lakehouse_assets.platform.monitoring.alerts.sinks.sink import SECONDS, WHOLE, Refused, Sink, Unreachable
from lakehouse_assets.platform.wording import printable
from lakehouse_assets.settings import host_alone

_COME_AGAIN: Final = frozenset({408, 425, 429})
_SLACK_TEXT: Final = 2_900  # Slack takes 3,000 characters in a section
_SLACK_HEADING: Final = 150
_ESCAPES: Final[Mapping[str, str]] = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKS: Final[Mapping[str, str]] = {"error": "🔴", "warn": "🟡", "resolved": "🟢"}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected would become a GET without the alert in it, which is answered with 200."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing: the answer is an error as any other."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, *args: Any, deadline: Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = deadline.connect


class _SecureConnection(http.client.HTTPSConnection):
    def __init__(self, *args: Any, deadline: Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = deadline.connect


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Connection, deadline=self._deadline), request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        context = ssl.create_default_context()
        return self.do_open(partial(_SecureConnection, deadline=self._deadline, context=context), request)


@dataclass(frozen=True)
class Webhook(Sink):
    """A POST of the message's values.

    Attributes:
        address: Where to.
        seconds: How long it waits for an answer.
        whole: How long a delivery may take as a whole, whatever is answered meanwhile.
    """

    address: str = field(repr=False)
    seconds: float = SECONDS
    whole: float = WHOLE

    @property
    def place(self) -> str:
        """See `Sink.place`."""
        return host_alone(self.address)

    def body(self, message: Message) -> dict[str, Any]:
        """What is posted."""
        return message.values()

    def send(self, message: Message) -> None:
        """See `Sink.send`."""
        if not self.address.lower().startswith(("http://", "https://")):
            raise Refused("its address is no http:// or https:// address")
        content = json.dumps(self.body(message), allow_nan=False).encode()
        with Deadline(self.whole) as deadline:
            self._post(content, deadline)

    def _post(self, content: bytes, deadline: Deadline) -> None:
        opener = urllib.request.build_opener(_NoRedirects, _Http(deadline), _Https(deadline))
        try:
            request = urllib.request.Request(self.address, content, {"Content-Type": "application/json"})  # noqa: S310 it is http
            with opener.open(request, timeout=self.seconds):
                deadline.check()  # what it cut off may look like the end of an answer
        except urllib.error.HTTPError as error:
            error.close()
            answer = f"the receiver answered {error.code}"
            if error.code >= 500 or error.code in _COME_AGAIN:
                raise Unreachable(answer) from None
            raise Refused(answer) from None
        except ValueError as error:
            raise Refused(f"its address cannot be used: {type(error).__name__}") from None
        except Exception as error:  # noqa: BLE001 OSError, and what http.client makes of an answer that is no HTTP; addresses are not told
            if deadline.has_passed:
                raise Unreachable(deadline.reason) from None
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise Unreachable(f"no answer: {type(reason).__name__}") from None


@dataclass(frozen=True)
class Slack(Webhook):
    """A message of Slack's Block Kit, with a text for notifications. Nothing of the alert is read as formatting, link or mention."""

    def body(self, message: Message) -> dict[str, Any]:
        """See `Webhook.body`."""
        blocks = [{"type": "header", "text": _plain(message.subject, _SLACK_HEADING)}]
        for entry in message.entries:
            mark = _MARKS["resolved" if entry.event == RESOLVED else entry.severity]
            blocks.append({"type": "section", "text": _plain("\n".join([f"{mark} {heading(entry)}", *lines(entry)]), _SLACK_TEXT)})
        place = _plain(f"lakehouse: {printable(message.lakehouse)}", _SLACK_HEADING)
        return {
            "text": _escaped(message.subject, _SLACK_TEXT),
            "mrkdwn": False,
            "blocks": [*blocks, {"type": "context", "elements": [place]}],
        }


def _plain(text: str, most: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": _escaped(text, most), "emoji": False}


def _escaped(text: str, most: int) -> str:
    """Text with the three characters escaped that Slack demands, at most so long."""
    pieces, left = list[str](), most
    for character in text:
        piece = _ESCAPES.get(character, character)
        left -= len(piece)
        if left < 1:
            return "".join(pieces) + "…"
        pieces.append(piece)
    return "".join(pieces)
