"""Names that a person types: what they may have meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that says that `name` is not known: `: did you mean X?`, or a full stop."""
    names = list(known)
    last = name.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(name, names, 1) or [full for full in names if full.rsplit(".", 1)[-1] == last]
    return f": did you mean {near[0]}?" if near else "."
