"""A few rows that break a rule, as people look at them: where each came from, the value, the rule, the key.

Which rows are taken, and that personal data is masked in them, is decided in `split`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import Any

from lakehouse_assets.platform.quality.masking import MASK, UNPARSED
from lakehouse_assets.platform.quality.rules import Rule

_MOST_VALUES = 4


def sample_table(rule: Rule, sample: Sequence[Mapping[str, Any]], key: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a sample with the columns file, row, value, rule and key; file and row only where rows came from files.

    Args:
        rule: The rule that they break.
        sample: The rows by column, masked.
        key: The columns that tell rows apart.
    """
    with_file = any(row.get("_file") is not None for row in sample)
    table = []
    for row in sample:
        place = {"file": text(row.get("_file")), "row": text(row.get("_row"))} if with_file else {}
        keys = ", ".join(f"{name} = {text(row.get(name))}" for name in key if name in row)
        table.append({**place, "value": _pairs(values_of(rule, row)), "rule": rule.text, "key": keys})
    return table


def first_row(rule: Rule, sample: Sequence[Mapping[str, Any]], key: Sequence[str]) -> str:
    """The first row of a sample for a message: its place, and the values that break the rule but those of personal columns."""
    row = sample[0]
    shown = {name: value for name, value in values_of(rule, row).items() if value != MASK}
    values = _pairs(shown) or "a value that is personal"
    if row.get("_file") is not None:
        return f"row {row.get('_row')} of {row['_file']}: {values}"
    where = _pairs({name: row[name] for name in key if name in row and row[name] != MASK and name not in shown})
    return f"{where}: {values}" if where else values


def values_of(rule: Rule, row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row that a rule is about: as they stood in the file where they could not be read."""
    raw = _unparsed(row)
    if rule.column is not None:
        return {rule.column: raw.get(rule.column, row.get(rule.column))}
    if raw:
        return raw
    own = {name: value for name, value in row.items() if not name.startswith("_")}
    named = {name: value for name, value in own.items() if re.search(rf"\b{re.escape(name)}\b", rule.definition)}
    return dict(list((named or own).items())[:_MOST_VALUES])


def text(value: Any) -> str:
    """A value as people write it."""
    if value is None:
        return "null"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(text, value)) + "]"
    if isinstance(value, Mapping):
        return _pairs(value)
    return f"'{value}'" if isinstance(value, str) and (not value or value != value.strip()) else str(value)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {text(value)}" for name, value in values.items())


def _unparsed(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        content = json.loads(row.get(UNPARSED) or "{}")
    except ValueError:  # masked as a whole
        return {}
    return content if isinstance(content, dict) else {}
