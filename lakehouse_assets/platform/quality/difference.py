"""What is different between two versions of a contract, change by change, and whether a change demands more than before.

It looks at the two documents alone. What a change breaks, among stored rows and among readers, is determined above.
"""

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse_assets.platform.quality.document import Document

_LEVELS = ("warn", "error", "fail")
_THRESHOLDS = ("max_bad_share", "max_bad_rows", "share_counts_from")


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        kind: `column added`, `column removed`, `type changed`, `nullable changed`, `key changed`, `rule added`, `rule removed`, `rule
            tightened`, `rule loosened`, `rule changed`, `level changed`, `threshold changed` or `freshness changed`.
        subject: The column, rule or threshold.
        text: What changed, for people.
        demands_more: Whether rows that were good before may be bad now.
    """

    kind: str
    subject: str
    text: str
    demands_more: bool = False


def difference(before: Document, after: Document) -> list[Change]:
    """The changes from one version of a contract to the next; none if both demand the same. Wording does not count."""
    return [*_columns(before, after), *_rules(before, after), *_thresholds(before, after)]


def _columns(before: Document, after: Document) -> Iterator[Change]:
    old, new = _by_name(before["columns"]), _by_name(after["columns"])
    for name in [name for name in new if name not in old]:
        yield Change("column added", name, f"{new[name]['type']}", demands_more=True)
    for name in [name for name in old if name not in new]:
        yield Change("column removed", name, f"it was {old[name]['type']}", demands_more=True)
    for name in sorted(old.keys() & new.keys()):
        if old[name]["type"] != new[name]["type"]:
            yield Change("type changed", name, f"from {old[name]['type']} to {new[name]['type']}", demands_more=True)
        if old[name]["nullable"] != new[name]["nullable"]:
            now = "may be missing now" if new[name]["nullable"] else "must not be missing any more"
            yield Change("nullable changed", name, f"values {now}", demands_more=not new[name]["nullable"])
    if sorted(before["key"]) != sorted(after["key"]):
        yield Change("key changed", ", ".join(after["key"]) or "none", f"it was {', '.join(before['key']) or 'none'}", demands_more=True)


def _rules(before: Document, after: Document) -> Iterator[Change]:
    old, new = _by_name(before["rules"]), _by_name(after["rules"])
    for name, rule in new.items():
        if name not in old:
            yield Change("rule added", name, f"{rule['text']} ({rule['level']})", demands_more=rule["level"] != "warn")
    for name, rule in old.items():
        if name not in new:
            yield Change("rule removed", name, f"{rule['text']} ({rule['level']})")
    for name in [name for name in new if name in old]:
        yield from _rule(name, old[name], new[name])


def _rule(name: str, old: Document, new: Document) -> Iterator[Change]:
    rejects = new["level"] != "warn"
    if old["definition"] != new["definition"]:
        how = _direction(old["definition"], new["definition"])
        yield Change(f"rule {how}", name, f"from {old['text']!r} to {new['text']!r}", demands_more=rejects and how != "loosened")
    if old["level"] != new["level"]:
        raised = _LEVELS.index(new["level"]) > _LEVELS.index(old["level"])
        yield Change("level changed", name, f"from {old['level']} to {new['level']}", demands_more=raised)
    for limit in ("max_bad_share", "max_bad_rows"):
        if old[limit] != new[limit]:
            yield Change("threshold changed", f"{name}.{limit}", f"from {old[limit]} to {new[limit]}")


def _thresholds(before: Document, after: Document) -> Iterator[Change]:
    for name in _THRESHOLDS:
        old, new = before["thresholds"][name], after["thresholds"][name]
        if old != new:
            yield Change("threshold changed", name, f"from {old} to {new}")
    if before["fresh"] != after["fresh"]:
        yield Change("freshness changed", "fresh_within", f"from {_fresh(before['fresh'])} to {_fresh(after['fresh'])}")


def _fresh(fresh: Mapping[str, Any] | None) -> str:
    return f"{fresh['by']} within {fresh['within_seconds'] / 3600:g} hours" if fresh else "none"


def _by_name(parts: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {part["name"]: part for part in parts}


# --- tightened or loosened


def _direction(old: str, new: str) -> str:
    """`tightened` if all rows that pass now passed before, `loosened` if the other way round, else `changed`."""
    old_nulls, _, old_check = old.partition("; ")
    new_nulls, _, new_check = new.partition("; ")
    if old_check == new_check:
        return "tightened" if new_nulls == "nulls fail" else "loosened"
    if old_nulls != new_nulls:
        return "changed"
    try:
        (name, was), (_, now) = json.loads(old_check), json.loads(new_check)
        within, around = _passes_within(name, now, was), _passes_within(name, was, now)
    except (ValueError, TypeError, SyntaxError):  # an expression, or values that have no order that can be seen here
        return "changed"
    return "tightened" if within else "loosened" if around else "changed"


def _passes_within(check: str, inner: Mapping[str, Any], outer: Mapping[str, Any]) -> bool:
    """Whether all values that pass a check of Pandera's with the parameters `inner` pass it with `outer`."""
    if check == "isin":
        return set(inner["allowed_values"]) <= set(outer["allowed_values"])
    if check == "notin":
        return set(inner["forbidden_values"]) >= set(outer["forbidden_values"])
    if not {"min_value", "max_value", "exact_value"} & inner.keys():
        raise ValueError(check)
    (low, low_open), (high, high_open) = _bound(inner, "min"), _bound(inner, "max")
    (least, least_open), (most, most_open) = _bound(outer, "min"), _bound(outer, "max")
    above = least is None or (low is not None and (low > least or (low == least and low_open >= least_open)))
    below = most is None or (high is not None and (high < most or (high == most and high_open >= most_open)))
    return bool(above and below)


def _bound(parameters: Mapping[str, Any], side: str) -> tuple[Any, bool]:
    """The bound on one side (None: none) and whether it is outside of what passes."""
    exact = parameters.get("exact_value", "None")
    value = ast.literal_eval(parameters.get(f"{side}_value", "None"))
    return value if exact == "None" else ast.literal_eval(exact), parameters.get(f"include_{side}", "True") == "False"
