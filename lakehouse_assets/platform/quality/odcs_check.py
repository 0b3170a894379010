"""Whether a table keeps what a document of the Open Data Contract Standard promises, whoever wrote it.

The table's own contract is taken in the form of the standard too (`odcs`), so both sides are compared word by word. What the other document
says of people, servers and prices is not looked at.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import yaml

from lakehouse_assets.platform.quality.odcs import KIND
from lakehouse_assets.platform.quality.odcs_rules import ENGINE

Part = Mapping[str, Any]

# Types of the standard, of which the second has all values of the first.
_WIDER = {("integer", "number")}
_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength")
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength")
_HOURS = {
    "h": 1.0,
    "hr": 1.0,
    "hour": 1.0,
    "hours": 1.0,
    "d": 24.0,
    "day": 24.0,
    "days": 24.0,
    "m": 1 / 60,
    "min": 1 / 60,
    "minutes": 1 / 60,
}
_WARNINGS = {"warning", "warn", "info"}
_NOT_COMPARED = {"text", "sql", "custom"}


@dataclass(frozen=True)
class Finding:
    """A difference: where, in words, and whether a promise is not kept. Other findings are to know, as a column that nobody promised."""

    where: str
    text: str
    broken: bool


def read_document(text: str, name: str) -> dict[str, Any]:
    """The document in a YAML file.

    Raises:
        ValueError: It is no data contract of version 3 of the standard.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or found.get("kind", KIND) != KIND or not isinstance(found.get("schema"), list):
        raise ValueError(f"{name} is no data contract: it has to be a mapping with kind: {KIND} and a list of tables under schema")
    if not str(found.get("apiVersion", "")).startswith("v3."):
        raise ValueError(f"{name} has apiVersion {found.get('apiVersion')!r}; version 3 of the Open Data Contract Standard is understood")
    return found


def compare(promised: Part, kept: Part, promised_document: Part, kept_document: Part) -> list[Finding]:
    """What differs between a table of another's document and the table's own contract.

    Args:
        promised: The table in the other's document, an entry of `schema`.
        kept: The table's own, as `odcs` gives it.
        promised_document: The whole of the other's document, for what it says of freshness.
        kept_document: The whole of the own one.
    """
    return [
        *_properties(promised, kept, ""),
        *_key(promised, kept),
        *_qualities(promised, kept, kept, "table"),
        *_freshness(promised_document, kept_document),
    ]


# --- columns


def _properties(promised: Part, kept: Part, under: str) -> Iterator[Finding]:
    ours = {part["name"]: part for part in kept.get("properties") or ()}
    theirs = {_name(part, ours): part for part in promised.get("properties") or ()}
    for name, part in theirs.items():
        where = under + name
        if name not in ours:
            yield Finding(where, "is promised and the table does not have it", broken=True)
            continue
        yield from _property(part, ours[name], where)
        yield from _qualities(part, ours[name], kept, where)
    for name in [name for name in ours if name not in theirs]:
        yield Finding(under + name, "is in the table and nobody promises it", broken=False)


def _name(part: Part, ours: Mapping[str, Part]) -> str:
    physical = str(part.get("physicalName") or part.get("name"))
    return physical if physical in ours else str(part.get("name"))


def _property(theirs: Part, ours: Part, where: str) -> Iterator[Finding]:
    wanted, found = theirs.get("logicalType"), ours.get("logicalType")
    if wanted and wanted != found and (found, wanted) not in _WIDER:
        yield Finding(where, f"is promised as {wanted} and is {found}", broken=True)
    elif not wanted and (physical := theirs.get("physicalType")) and physical.lower() != str(ours.get("physicalType")).lower():
        yield Finding(where, f"is promised as {physical} and stored as {ours.get('physicalType')}", broken=True)
    if theirs.get("required") and not ours.get("required"):
        yield Finding(where, "is promised to have no nulls, and may have some", broken=True)
    if theirs.get("classification") and not ours.get("classification"):
        yield Finding(where, f"is classified as {theirs['classification']} and not marked as personal here", broken=False)
    yield from _options(theirs, ours, where)
    targets = {part["to"] for part in ours.get("relationships") or ()}
    for relationship in theirs.get("relationships") or ():
        if relationship.get("to") not in targets:
            yield Finding(where, f"is promised to reference {relationship.get('to')}, and does not", broken=True)
    if theirs.get("items") and ours.get("items"):
        yield from _property(theirs["items"], ours["items"], f"{where}[]")
    if theirs.get("properties") and ours.get("properties"):
        yield from _properties(theirs, ours, f"{where}.")


def _options(theirs: Part, ours: Part, where: str) -> Iterator[Finding]:
    declared = ours.get("logicalTypeOptions") or {}
    for option, wanted in (theirs.get("logicalTypeOptions") or {}).items():
        if option in _AT_LEAST:
            side = _AT_LEAST[:2] if option != "minLength" else ("minLength",)
            kept = any(_within(declared.get(name), wanted, name, option, at_least=True) for name in side)
        elif option in _AT_MOST:
            side = _AT_MOST[:2] if option != "maxLength" else ("maxLength",)
            kept = any(_within(declared.get(name), wanted, name, option, at_least=False) for name in side)
        elif option == "pattern":
            kept = declared.get(option) == wanted
        else:
            continue  # how a value is spelled, not which values there are
        if not kept:
            yield Finding(where, f"is promised with {option} {wanted}; the contract says {declared or 'nothing about it'}", broken=True)


def _within(declared: Any, wanted: Any, declared_name: str, wanted_name: str, *, at_least: bool) -> bool:
    """Whether a limit that is kept implies the one that is promised."""
    wanted = wanted.isoformat() if isinstance(wanted, date) else wanted
    numbers = isinstance(declared, int | float) and isinstance(wanted, int | float)
    if declared is None or (type(declared) is not type(wanted) and not numbers):
        return False
    inside = declared > wanted if at_least else declared < wanted
    return bool(inside or (declared == wanted and (declared_name == wanted_name or declared_name.startswith("exclusive"))))


# --- keys and qualities


def _key(promised: Part, kept: Part) -> Iterator[Finding]:
    ours = _key_of(kept)
    theirs = [part["name"] for part in promised.get("properties") or () if part.get("primaryKey")]
    unique = [[part["name"]] for part in promised.get("properties") or () if part.get("unique")]
    for columns in [*([theirs] if theirs else []), *unique]:
        if not _is_unique(columns, ours):
            yield Finding(", ".join(columns), f"is promised to be unique; the key is {', '.join(ours) or 'none'}", broken=True)


def _key_of(kept: Part) -> list[str]:
    return [part["name"] for part in kept.get("properties") or () if part.get("primaryKey")]


def _is_unique(columns: list[str], key: list[str]) -> bool:
    """Columns that hold a whole key are as unique as the key is."""
    return bool(key) and set(key) <= set(columns)


def _qualities(theirs: Part, ours: Part, table: Part, where: str) -> Iterator[Finding]:
    for check in theirs.get("quality") or ():
        yield from _quality(check, theirs, ours, table, where)


def _quality(check: Part, column: Part, ours: Part, table: Part, where: str) -> Iterator[Finding]:
    name = check.get("name") or check.get("description") or check.get("metric") or check.get("query") or "a check without a name"
    warns = str(check.get("severity", "")).lower() in _WARNINGS
    kept = _kept(check, column, ours, table, only_warned=warns)
    if kept is None:
        yield Finding(where, f"{name!r} has no counterpart in a contract and was not compared", broken=False)
    elif not kept:
        yield Finding(where, f"{name!r} is promised and the contract does not demand it", broken=True)


def _kept(check: Part, column: Part, ours: Part, table: Part, *, only_warned: bool) -> bool | None:
    """Whether a check holds by the contract; None if that cannot be told."""
    declared = [own for own in ours.get("quality") or () if only_warned or own.get("severity") not in _WARNINGS]
    if check.get("type", "library") in _NOT_COMPARED:
        demanded = {part: check[part] for part in ("query", "implementation", "engine") if check.get(part)}
        same = bool(demanded) and any(all(own.get(part) == value for part, value in demanded.items()) for own in declared)
        return same or (False if check.get("engine") == ENGINE else None)
    arguments = check.get("arguments") or {}
    match check.get("metric") or check.get("rule"):
        case _ if not _allows_none(check):
            return None
        case "nullValues":
            return bool(ours.get("required"))
        case "duplicateValues":
            return _is_unique([str(name) for name in arguments.get("properties") or [column.get("name")]], _key_of(table))
        case "invalidValues":
            return any(_valid_within(own.get("arguments") or {}, arguments) for own in declared)
        case _:
            return None


def _valid_within(kept: Part, promised: Part) -> bool:
    if "validValues" in promised:
        return "validValues" in kept and set(map(str, kept["validValues"])) <= set(map(str, promised["validValues"]))
    return "pattern" in promised and kept.get("pattern") == promised["pattern"]


def _allows_none(check: Part) -> bool:
    """Whether a check passes if no row breaks it."""
    if "mustBe" in check:
        return bool(check["mustBe"] == 0)
    return bool(check.get("mustBeLessThan", 0) > 0 or check.get("mustBeLessOrEqualTo", -1) >= 0)


# --- freshness


def _freshness(promised: Part, kept: Part) -> Iterator[Finding]:
    ours = next((_hours(part) for part in kept.get("slaProperties") or ()), None)
    for part in promised.get("slaProperties") or ():
        if part.get("property") not in {"freshness", "latency"}:
            continue
        wanted = _hours(part)
        if wanted is None:
            yield Finding("freshness", f"{part.get('value')} {part.get('unit', '')} is in no unit that is understood", broken=False)
        elif ours is None or ours > wanted:
            yield Finding(
                "freshness", f"{wanted:g} hours are promised; the contract says {f'{ours:g}' if ours else 'nothing'}", broken=True
            )


def _hours(part: Part) -> float | None:
    unit, value = _HOURS.get(str(part.get("unit", "")).lower()), part.get("value")
    return float(value) * unit if unit is not None and isinstance(value, int | float) else None
