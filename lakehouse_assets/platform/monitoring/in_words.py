"""What verdicts say, in sentences that stand by themselves: with the window and the slice that they are about.

What a verdict says of these is written by its kind; how sentences are shown is decided by who shows them.
"""

import re
from collections.abc import Mapping
from datetime import time
from typing import Any, Final

_UNITS: Final = {"h": "hour", "d": "day", "w": "week", "mo": "month", "q": "quarter", "y": "year"}
_SPAN: Final = re.compile(r"(\d+)? ?(mo|[hdwqy])(?:ours?|ays?|eeks?|nths?|uarters?|ears?)?")


def in_full(row: Mapping[str, Any]) -> str:
    """What a verdict says, with its window and slice in front; of a window whose day it names itself, without.

    Args:
        row: Of the table of verdicts, or the fields of a verdict.
    """
    begin, text = row["window_start"], str(row["text"])
    is_named = begin is not None and f"{begin:%Y-%m-%d}" in text and not row["slice_key"]
    return text if is_named else where(row) + text


def where(row: Mapping[str, Any]) -> str:
    """The window and the slice of a verdict, before what it says of them; empty: it has neither."""
    begin = row["window_start"]
    a_slice = f"({row['slice_key']}={row['slice_value']})" if row["slice_key"] else ""
    if begin is None:
        return f"{row['slice_key']}={row['slice_value']}: " if row["slice_key"] else ""
    found = _SPAN.fullmatch(row["granularity"] or "")
    many, unit = ("1", "window") if found is None else (found[1] or "1", _UNITS[found[2]])
    is_midnight = begin.time() == time()
    moment = f"{begin:%Y-%m-%d}" if is_midnight else f"{begin:%Y-%m-%d %H:%M}"
    when = (
        f"On {moment}"
        if (many, unit, is_midnight) == ("1", "day", True)
        else f"In the {unit if many == '1' else f'{many} {unit}s'} from {moment}"
    )
    return f"{when} {a_slice}: " if a_slice else f"{when}: "
