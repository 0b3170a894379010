"""What a service takes on at most, so that it answers what it has taken on, and says so at once to whom it cannot answer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one service process.

    Attributes:
        queue_rows: Most rows that wait to be scored; more are refused with 429.
        request_rows: Most rows of a request.
        batch_rows: Most rows that are scored at once.
        body_bytes: Most bytes of a body.
        seconds: After which a request is given up with 504.
        body_seconds: For which a client may take to send its body.
        push_requests: Most requests with labels or rows of feeds that are worked on at once; more are refused with 429.
        push_seconds: After which such a request is given up.
        shadow_rows: Most rows that wait to be scored in the shadow; more are dropped and counted.
    """

    queue_rows: int = 2_000
    request_rows: int = 1_000
    batch_rows: int = 500
    body_bytes: int = 4_000_000
    seconds: float = 2.0
    body_seconds: float = 10.0
    push_requests: int = 32
    push_seconds: float = 10.0
    shadow_rows: int = 1_000
