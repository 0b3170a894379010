"""How far the work of this process is, in words, for whoever shows it. Work that runs elsewhere is not seen.

Long work says where it is, from the outside in: `part 2 of 5`, `round 30 of 60`. One step works at a time; who reads never waits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_parts: list[str] = []


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """Gives a function that says where the work is now; what it said last is forgotten at the end."""
    at = len(_parts)
    _parts.append("")

    def tell(text: str) -> None:
        _parts[at:] = [text]

    try:
        yield tell
    finally:
        del _parts[at:]


def now() -> str:
    """Where the work is now; empty if it does not say."""
    return ", ".join(filter(None, _parts))
