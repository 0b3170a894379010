"""Sinks that take a POST of JSON: a webhook, and Slack's incoming webhooks."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lakehouse_assets.platform.monitoring.alerts.machine import RESOLVED
from lakehouse_assets.platform.monitoring.alerts.messages import Message, heading, lines
from lakehouse_assets.platform.monitoring.alerts.sinks.sink import SECONDS, Refused, Sink, Unreachable
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


_OPENER: Final = urllib.request.build_opener(_NoRedirects)


@dataclass(frozen=True)
class Webhook(Sink):
    """A POST of the message's values.

    Attributes:
        address: Where to.
        seconds: How long it waits for an answer.
    """

    address: str = field(repr=False)
    seconds: float = SECONDS

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
        try:
            request = urllib.request.Request(self.address, content, {"Content-Type": "application/json"})  # noqa: S310 it is http
            with _OPENER.open(request, timeout=self.seconds):
                return
        except urllib.error.HTTPError as error:
            error.close()
            answer = f"the receiver answered {error.code}"
            if error.code >= 500 or error.code in _COME_AGAIN:
                raise Unreachable(answer) from None
            raise Refused(answer) from None
        except ValueError as error:
            raise Refused(f"its address cannot be used: {type(error).__name__}") from None
        except Exception as error:  # noqa: BLE001 OSError, and what http.client makes of an answer that is no HTTP; addresses are not told
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
