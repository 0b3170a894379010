"""What an alert is made from: a signal says of one thing that is watched whether it is bad. Where signals come from is in `sources`.

What becomes of signals is decided in `machine` alone; nothing here reads a table or a clock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from lakehouse_assets.platform.declarations.monitors import AlertRule, Severity
from lakehouse_assets.platform.storage.commit import Cursor

MONITOR: Final = "monitor:"
"""How the keys of what monitors watch begin, before the monitor's name."""


@dataclass(frozen=True)
class Signal:
    """What is known of one thing that is watched, at one moment.

    Attributes:
        key: The stable name of what is watched, as `step:sales.silver.payments`: its kind, and after colons what it is.
        is_bad: Whether it is bad; None: unknown, which neither opens an alert nor resolves one.
        at: When that was so (UTC).
        text: A sentence for people.
        severity: How bad it is, if it is.
        owner: Who answers for it: teams and people with commas between; empty: nobody in particular.
        rule: When a bad signal is an alert.
        value: What was measured.
        threshold: Where the measure begins to be bad.
        rows: How many rows were judged; None: it is not about rows.
        window: Begin of the window that was judged (UTC); None: there are no windows, and each signal counts as one.
        run_id: The run that it comes from.
        is_over: Whether what was bad is gone or corrected, so that nothing more has to be waited for.
        is_redeclared: Whether it is the first that is known since it is watched as it is now: it may be of an earlier window, and
            severity and owner are others.
        is_folded: Whether people are told of it with the alert of something else that the same cause has made bad: its window counts, and
            by itself it tells nothing.
        is_followed: Whether one that came with it says the contrary of a later window: it says how it was, and not how it is.
    """

    key: str
    is_bad: bool | None
    at: datetime
    text: str
    severity: Severity = "error"
    owner: str = ""
    rule: AlertRule = field(default_factory=AlertRule)
    value: float | None = None
    threshold: float | None = None
    rows: int | None = None
    window: datetime | None = None
    run_id: str = ""
    is_over: bool = False
    is_redeclared: bool = False
    is_folded: bool = False
    is_followed: bool = False

    @property
    def is_known(self) -> bool:
        """Whether it says anything: it was judged, from as many rows as the rule asks for."""
        return self.is_bad is not None and (self.is_over or self.rows is None or self.rows >= self.rule.least_rows)


@dataclass(frozen=True)
class Reading:
    """What a source has to say.

    Attributes:
        signals: In the order in which they came about.
        cursors: How far the source was read; they are committed together with the events that the signals make.
        is_first: Whether nothing of it was consumed before: what is so now is told, and not how it came to be.
    """

    signals: Sequence[Signal] = ()
    cursors: Sequence[Cursor] = ()
    is_first: bool = False


class Source(Protocol):
    """Something that signals are read from."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        ...

    def read(self, watermark: Callable[[str], int | None], now: datetime) -> Reading:
        """What is new since the watermarks.

        Args:
            watermark: By the name of a cursor, how far it was read; None if never. A source that was never read tells what is so now, and
                leaves out what once was.
            now: The moment (UTC).
        """
        ...


def removal(monitor: str) -> str:
    """The watermark of the log that says whether alerts of a monitor ended as it was taken out: an odd number, even since it is back."""
    return f"removed:{monitor}"


def newest_by_key(signals: Sequence[Signal]) -> list[Signal]:
    """The last signal of each key that says anything: what is so now."""
    return list({signal.key: signal for signal in signals if signal.is_known}.values())
