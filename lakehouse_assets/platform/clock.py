"""What time it is: the one place where the platform reads the clock.

Whoever judges, records or waits asks here, at the moment of asking, as `clock.now()`: tests of what takes weeks replace it. There is no
setting for it. Durations that are measured (`time.monotonic`, `time.perf_counter`) are not its business.
"""

from datetime import UTC, datetime


def now() -> datetime:
    """The moment (UTC)."""
    return datetime.now(UTC)
