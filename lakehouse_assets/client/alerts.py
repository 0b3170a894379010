"""The alerts of a root: which there are, who was told, a test of the sinks, closing one by hand. Only `send` needs Dagster."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from lakehouse_assets.client.context import Context
from lakehouse_assets.platform import clock
from lakehouse_assets.platform.storage import platform_tables

if TYPE_CHECKING:
    from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
    from lakehouse_assets.platform.monitoring.alerts.signals import Reading, Signal

Values = list[dict[str, Any]]
_READ: Final = "alerts"
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class _ByHand:
    """A signal that a person gives."""

    signal: "Signal"
    name: str = "what was given by hand"

    def read(self, watermark: Callable[[str], int | None], now: datetime) -> "Reading":  # noqa: ARG002 it is not consumed from anywhere
        from lakehouse_assets.platform.monitoring.alerts.signals import Reading

        return Reading([self.signal])


@dataclass(frozen=True)
class Alerts:
    """The alerts of a root. They are made and delivered by the sensor `alerts` of the daemon, or by `send`."""

    context: Context

    @property
    def _log(self) -> "AlertLog":
        from lakehouse_assets.platform.monitoring.alerts.log import AlertLog

        return AlertLog(self.context.root.lakehouse)

    def show(self, alert_id: str) -> dict[str, Any]:
        """An alert with its `events`, and for each the `deliveries`: by sink, what came of it.

        Args:
            alert_id: Its id, or the first characters of it.

        Raises:
            LookupError: No alert begins so, or several do.
        """
        from lakehouse_assets.platform.monitoring.alerts.delivery_log import DeliveryLog

        alert, values = self._find(alert_id), self.context.reader.values
        events = values(self._log.events(alert["alert_id"]), platform_tables.ALERTS, _READ)
        deliveries = DeliveryLog(self.context.root.lakehouse).tries(alert_id=alert["alert_id"]).to_dicts()
        tried: dict[int, dict[str, dict[str, Any]]] = {}
        for one in values(deliveries, platform_tables.ALERT_DELIVERIES, _READ):
            tried.setdefault(one["number"], {})[one["sink"]] = {name: one[name] for name in ("outcome", "at", "attempt", "reason")}
        nothing = {"outcome": "not tried yet", "at": None, "attempt": 0, "reason": ""}
        for event in events:
            event["deliveries"] = {sink: tried.get(event["number"], {}).get(sink, nothing) for sink in event.pop("sinks")}
        return alert | {"events": events}

    def test(self) -> list[dict[str, Any]]:
        """Send a test alert to every sink that the settings name, besides the log: `sink`, `place`, `outcome`, `reason`.

        Nothing is written down.
        """
        from lakehouse_assets.platform.monitoring.alerts.delivery import try_out
        from lakehouse_assets.platform.monitoring.alerts.machine import OPENED, Entry
        from lakehouse_assets.platform.monitoring.alerts.messages import TEST_KEY, Message
        from lakehouse_assets.platform.monitoring.alerts.routing import LOG, sinks_of

        sinks, now = sinks_of(self.context.settings, _LOGGER), clock.now()
        text = "This is a test that `lakehouse alerts test` sent. Nothing is wrong."
        entry = Entry(0, TEST_KEY, OPENED, f"test-{secrets.token_hex(4)}", 1, now, now, "warn", "", text, 1)
        named = [sink for sink in sinks.by_name.values() if sink.name != LOG]
        tried = try_out(named, Message([entry], str(self.context.settings.root)))
        rows = [{"sink": sink.name, "place": sink.place, "outcome": outcome, "reason": reason} for sink, outcome, reason in tried]
        if sinks.problem:
            rows.append({"sink": "routes", "place": "nowhere", "outcome": "refused", "reason": sinks.problem})
        return rows

    def send(self) -> dict[str, Any]:
        """Log what has happened since the last time, and tell the sinks, as the sensor `alerts` does. Imports Dagster.

        It may be called as often as one likes, and by several processes, also while the daemon runs.

        Returns:
            `events` (how many were logged that people are told of), `delivered`, `failed` (by sink, why not), `unread` (by source that
            could not be read, why not and what to do), `waiting` (by sink that it is too early to try again, `events` and `until`), `text`.

        Raises:
            DatabaseUnavailable: Dagster's databases cannot be opened.
            CommitConflict: Other writers did not let what happened be logged.
        """
        from lakehouse_assets.platform.orchestration.alerts import send
        from lakehouse_assets.platform.orchestration.code_location import definitions

        loaded_at, context = clock.now(), self.context
        done = send(context.settings, context.root.lakehouse, context.products, definitions(context.settings, context.products), loaded_at)
        told = {"events": done.events, "delivered": done.delivered, "failed": dict(done.failed), "unread": dict(done.unread)}
        told["waiting"] = {sink: {"events": one.events, "until": one.until} for sink, one in done.waiting.items()}
        return told | {"text": done.text}

    def close(self, alert_id: str, reason: str) -> dict[str, Any]:
        """Resolve an open alert, as of what is not watched any more. People are told by the next tick; if it is bad again, it opens.

        Args:
            alert_id: Its id, or the first characters of it.
            reason: Why, for people.

        Raises:
            LookupError: No alert begins so, or several do.
            ValueError: It is not open, or there is no reason.
            CommitConflict: Other writers did not let this one through.
        """
        from lakehouse_assets.platform.monitoring.alerts.routing import sinks_of
        from lakehouse_assets.platform.monitoring.alerts.signals import Signal
        from lakehouse_assets.platform.monitoring.alerts.take import take

        alert = self._find(alert_id)
        if not reason.strip():
            raise ValueError("say why it is closed: people are told the reason")
        if not alert["is_open"]:
            raise ValueError(f"alert {alert['alert_id']} is not open: it was resolved at {alert['at']:%Y-%m-%d %H:%M} UTC")
        sinks, now = sinks_of(self.context.settings, _LOGGER), clock.now()
        signal = Signal(alert["key"], is_bad=False, at=now, text=f"Closed by hand: {reason}", owner=alert["owner"])
        take(self._log, [_ByHand(signal)], now, _LOGGER, lambda entry: sinks.names_for(entry.owner))
        return self._find(alert["alert_id"])

    def _find(self, alert_id: str) -> dict[str, Any]:
        found = self._values(self._log.alerts(begins=alert_id))
        if len(found) != 1:
            raise LookupError(
                f"{'no' if not found else 'more than one'} alert begins with {alert_id!r}: `lakehouse alerts list` shows them"
            )
        return found[0]

    def _values(self, rows: "Values") -> "Values":
        return self.context.reader.values(rows, platform_tables.ALERTS, _READ)

    def list(self, *, open_only: bool = False, limit: int = 50) -> list[dict[str, Any]]:
        """The alerts, those that were opened last first: the last event of each.

        Args:
            open_only: Only those that are open.
            limit: At most so many.
        """
        return self._values(self._log.alerts(open_only=open_only, limit=limit))
