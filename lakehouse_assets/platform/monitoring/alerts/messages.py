"""How alerts read: a heading, the lines below it, and the values of the JSON. What a sink makes of them is in `sinks`."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lakehouse_assets.platform.monitoring.alerts.machine import OPENED, REPEATED, RESOLVED, Entry
from lakehouse_assets.platform.wording import printable

TEST_KEY: Final = "test:lakehouse"
"""The key of an alert that nothing caused."""
_WORDS: Final[Mapping[str, str]] = {OPENED: "opened", REPEATED: "still open", RESOLVED: "resolved"}
_KINDS: Final[Mapping[str, str]] = {
    "step": "step",
    "run": "runs of",
    "check": "check of",
    "files": "files of feed",
    "quarantine": "quarantine of",
    "freshness": "refresh of",
    "monitor": "monitor",
    "evaluation": "evaluation of monitor",
    "gate": "gate of",
    "source": "reading of",
    "test": "test of",
}


@dataclass(frozen=True)
class Message:
    """What one sink is told at once: one or several events.

    Attributes:
        entries: The events, oldest first; at least one.
        lakehouse: The root, so that receivers of several know which one it is.
    """

    entries: Sequence[Entry]
    lakehouse: str

    @property
    def severity(self) -> str:
        """The worst of what is open, or `resolved` if all is over."""
        severities = {entry.severity for entry in self.entries if entry.event != RESOLVED}
        return "error" if "error" in severities else "warn" if severities else "resolved"

    @property
    def subject(self) -> str:
        """One line: the severity, what the worst event is about, and how many more there are."""
        worst = min(self.entries, key=lambda entry: (entry.event == RESOLVED, entry.severity != "error", entry.event != OPENED))
        words = Counter(_WORDS[entry.event] for entry in self.entries if entry is not worst)
        more = [f"{count} more {word}" for word, count in words.items()]
        return ", ".join([f"[{self.severity}] {heading(worst)}", *more])

    @property
    def text(self) -> str:
        """All of it as plain text."""
        parts = ["\n".join([f"[{entry.severity}] {heading(entry)}", *lines(entry)]) for entry in self.entries]
        return "\n\n".join([*parts, f"lakehouse: {printable(self.lakehouse)}"])

    def values(self) -> dict[str, Any]:
        """All of it for programs."""
        return {
            "source": "lakehouse-assets",
            "lakehouse": self.lakehouse,
            "text": self.text,
            "alerts": [values(entry) for entry in self.entries],
        }


def subject_of(key: str) -> str:
    """What a key names, in words: `step:sales.silver.payments` is the step sales.silver.payments."""
    kind, _, rest = key.partition(":")
    name, *more = rest.split(":")
    return printable(", ".join([f"{_KINDS.get(kind, kind)} {name}", *more]))


def heading(entry: Entry) -> str:
    """What happened, in a line."""
    return f"{subject_of(entry.key)}: alert {_WORDS[entry.event]}"


def lines(entry: Entry) -> list[str]:
    """What there is to know of an event."""
    since = f", since {entry.opened_at:%Y-%m-%d %H:%M} UTC" if entry.opened_at is not None and entry.event != OPENED else ""
    facts = [f"alert {entry.alert_id}, event {entry.number}{since}"]
    if entry.owner:
        facts.append(f"owner: {printable(entry.owner)}")
    if entry.run_id:
        facts.append(f"run: {printable(entry.run_id[:8])}")
    return [*(printable(line) for line in entry.text.splitlines()), "; ".join(facts)]


def values(entry: Entry) -> dict[str, Any]:
    """An event for programs; together `id` and `number` name it, whatever is delivered twice."""

    def moment(at: Any) -> str | None:
        return None if at is None else at.isoformat()

    return {
        "id": entry.alert_id,
        "number": entry.number,
        "event": entry.event,
        "key": entry.key,
        "severity": entry.severity,
        "owner": entry.owner,
        "text": entry.text,
        "at": moment(entry.at),
        "opened_at": moment(entry.opened_at),
        "value": _finite(entry.value),
        "threshold": _finite(entry.threshold),
        "rows": entry.rows,
        "window": moment(entry.window),
        "run_id": entry.run_id,
    }


def _finite(number: float | None) -> float | None:
    """A number as JSON can hold it; infinity and what is no number are null."""
    return number if number is not None and math.isfinite(number) else None
