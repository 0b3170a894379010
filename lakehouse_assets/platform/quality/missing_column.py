"""What Polars says of a column that its expression names and its rows lack, in one sentence with the nearest name.

The texts of Polars are no promise of it: `test_mistakes` pins them.
"""

import difflib
import json
import re
from collections.abc import Iterable

from polars.exceptions import ColumnNotFoundError

_WITH_COLUMNS = re.compile(r'column "(.*?)"; valid columns: (\[.*?\])$')
_ALONE = re.compile(r'^"?(.*?)"?(?: not found)?$')


def sentence(error: ColumnNotFoundError, columns: Iterable[str] = ()) -> str:
    """`the column 'amont', which the rows do not have there: day, amount. Did you mean amount?`.

    Args:
        error: As Polars raised it.
        columns: To propose where Polars does not name those that there are.
    """
    first = next(iter(str(error).splitlines()), "")
    found, alone = _WITH_COLUMNS.search(first), _ALONE.search(first)
    name = found[1] if found else alone[1] if alone else first
    known = _listed(found[2]) if found else list(dict.fromkeys(columns))
    near = difflib.get_close_matches(name, known, 1)
    there = f" there: {', '.join(known)}." if known else "."
    return f"the column {name!r}, which the rows do not have{there}" + (f" Did you mean {near[0]}?" if near else "")


def _listed(text: str) -> list[str]:
    try:
        return [str(name) for name in json.loads(text)]
    except ValueError:
        return []
