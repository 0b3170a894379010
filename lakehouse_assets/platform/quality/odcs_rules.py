"""The rules of a contract as checks of the Open Data Contract Standard: by its library, as SQL, or as a custom check.

The document around them is in `odcs`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pandera.polars import Check

from lakehouse_assets.platform.quality.rules import BoundRule, Rule

ENGINE = "lakehouse-assets"
SEVERITY: Mapping[str, str] = {"warn": "warning", "error": "error", "fail": "fail"}
# Pandera's name of a check: how SQL says that a value passes, from the check's parameters.
_SQL: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "equal_to": lambda p: f"${{column}} = {_literal(p['value'])}",
    "not_equal_to": lambda p: f"${{column}} <> {_literal(p['value'])}",
    "greater_than": lambda p: f"${{column}} > {_literal(p['min_value'])}",
    "greater_than_or_equal_to": lambda p: f"${{column}} >= {_literal(p['min_value'])}",
    "less_than": lambda p: f"${{column}} < {_literal(p['max_value'])}",
    "less_than_or_equal_to": lambda p: f"${{column}} <= {_literal(p['max_value'])}",
    "notin": lambda p: f"${{column}} NOT IN ({', '.join(map(_literal, p['forbidden_values']))})",
    "in_range": lambda p: (
        f"${{column}} >{'=' * p['include_min']} {_literal(p['min_value'])} "
        f"AND ${{column}} <{'=' * p['include_max']} {_literal(p['max_value'])}"
    ),
}


def quality(bound: BoundRule) -> dict[str, Any]:
    """A rule as a check of the standard."""
    rule, check = bound.rule, bound.check
    if check is None:
        missing = {"metric": "nullValues", "mustBe": 0}
        return _named(rule, "consistency") | _custom(rule) if bound.reference else _named(rule, "completeness") | missing
    named = _named(rule, "conformity" if rule.column else "consistency")
    name, parameters = str(check.name), check.statistics or {}
    if name == "isin":
        values = [_plain(value) for value in parameters["allowed_values"]]
        return named | {"metric": "invalidValues", "arguments": {"validValues": values}, "mustBe": 0}
    if name == "str_matches":
        return named | {"metric": "invalidValues", "arguments": {"pattern": pattern(parameters["pattern"])}, "mustBe": 0}
    if name == "str_length":
        passes = " AND ".join(f"LENGTH(${{column}}) {sign} {value}" for sign, value in _lengths(parameters))
        return named | _sql(passes, check)
    return named | (_sql(_SQL[name](parameters), check) if name in _SQL and rule.column else _custom(rule))


def unique(rule: Rule, key: Sequence[str]) -> dict[str, Any]:
    """That a key is unique, as a check of the standard."""
    return _named(rule, "uniqueness") | {"metric": "duplicateValues", "arguments": {"properties": list(key)}, "mustBe": 0}


def _named(rule: Rule, dimension: str) -> dict[str, Any]:
    return {
        "name": rule.name,
        "description": rule.text,
        "dimension": dimension,
        "severity": SEVERITY[rule.level],
        "type": "library",
    }


def _sql(passes: str, check: Check) -> dict[str, Any]:
    nulls = "" if check.ignore_na else " OR ${column} IS NULL"
    return {"type": "sql", "query": f"SELECT COUNT(*) FROM ${{table}} WHERE NOT ({passes}){nulls}", "mustBe": 0}  # noqa: S608 a text to show


def _custom(rule: Rule) -> dict[str, Any]:
    return {"type": "custom", "engine": ENGINE, "implementation": {"rule": rule.name, "definition": rule.definition}}


def _lengths(parameters: Mapping[str, Any]) -> list[tuple[str, int]]:
    if parameters.get("exact_value") is not None:
        return [("=", parameters["exact_value"])]
    bounds = ((">=", parameters.get("min_value")), ("<=", parameters.get("max_value")))
    return [(sign, value) for sign, value in bounds if value is not None]


def pattern(pattern: Any) -> str:
    """A regular expression as text."""
    return str(getattr(pattern, "pattern", pattern))


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    return str(value) if isinstance(value, int | float | Decimal) else "'" + str(value).replace("'", "''") + "'"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)
