"""A contract in the Open Data Contract Standard 3.1 (Bitol, Linux Foundation), as values that are written as YAML.

Rules that the standard's library has a metric for (`nullValues`, `invalidValues`, `duplicateValues`) are spelled with it, comparisons as
SQL, and the rest as custom checks under the name of this platform: see `odcs_rules`. Holding a file against a table is in `odcs_check`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl

from lakehouse_assets.platform.quality import odcs_rules
from lakehouse_assets.platform.quality.contract import Contract, columns_of, fingerprint, freshness_of
from lakehouse_assets.platform.quality.rules import BoundRule, bound_rules, key_rule

API_VERSION, KIND = "v3.1.0", "DataContract"

_LOGICAL: tuple[tuple[tuple[Any, ...], str], ...] = (
    ((pl.String, pl.Binary, pl.Categorical, pl.Enum), "string"),
    ((pl.Boolean,), "boolean"),
    ((pl.Date,), "date"),
    ((pl.Datetime,), "timestamp"),
    ((pl.List, pl.Array), "array"),
    ((pl.Struct,), "object"),
    ((pl.Float32, pl.Float64, pl.Decimal), "number"),
)
_PHYSICAL: Mapping[Any, str] = {
    pl.Boolean: "boolean",
    pl.Int8: "byte",
    pl.Int16: "short",
    pl.Int32: "integer",
    pl.Int64: "long",
    pl.Float32: "float",
    pl.Float64: "double",
    pl.String: "string",
    pl.Binary: "binary",
    pl.Date: "date",
    pl.Datetime: "timestamp",
}
# Pandera's name of a check, and of its parameter: the option of the logical type that says the same.
_OPTIONS: Mapping[tuple[str, str], str] = {
    ("greater_than", "min_value"): "exclusiveMinimum",
    ("greater_than_or_equal_to", "min_value"): "minimum",
    ("less_than", "max_value"): "exclusiveMaximum",
    ("less_than_or_equal_to", "max_value"): "maximum",
    ("str_length", "min_value"): "minLength",
    ("str_length", "max_value"): "maxLength",
}
_WITH_LIMITS = {"integer", "number", "date", "timestamp"}


@dataclass(frozen=True)
class Described:
    """What the standard wants to know of a table besides its contract.

    Attributes:
        table: `product.layer.name`.
        description: What a row is.
        owner: Who answers for it: `team:…` or an address.
        schema: All columns, with those that the write adds.
        key: The columns that tell stored rows apart.
        partition_by: The columns that the table is partitioned by.
        location: Folder or address of the table.
    """

    table: str
    description: str
    owner: str
    schema: Mapping[str, pl.DataType]
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    location: str


def odcs(contract: type[Contract], told: Described) -> dict[str, Any]:
    """The contract of a table as a document of the standard.

    Its version is the contract's fingerprint, so it changes if and only if the contract demands something else.
    """
    product, name = told.table.split(".")[0], told.table
    limits = {"maxBadShare": contract.__max_bad_share__, "maxBadRows": contract.__max_bad_rows__}
    document: dict[str, Any] = _without_empty(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "id": name,
            "name": name,
            "version": fingerprint(contract),
            "status": "active",
            "domain": product,
            "dataProduct": product,
            "description": {"purpose": told.description},
            "servers": [_server(told.location)],
            "schema": [_object(contract, told)],
            "team": _team(told.owner),
            "slaProperties": _sla(contract, name),
            "customProperties": [
                {"property": "contract", "value": contract.__name__},
                *({"property": name, "value": limit} for name, limit in limits.items() if limit is not None),
            ],
        }
    )
    return document


def _object(contract: type[Contract], told: Described) -> dict[str, Any]:
    infos = {info.name: info for info in columns_of(contract)}
    rules = bound_rules(contract)
    properties = []
    for name, dtype in told.schema.items():
        info = infos.get(name)
        about = [bound for bound in rules if bound.rule.column == name]
        properties.append(
            {
                "name": name,
                **_type(dtype),
                "logicalTypeOptions": _options(dtype, about),
                "description": info.description if info else None,
                "required": info is not None and not info.nullable,
                "primaryKey": name in told.key or None,
                "primaryKeyPosition": told.key.index(name) + 1 if name in told.key else None,
                "partitioned": name in told.partition_by or None,
                "partitionKeyPosition": told.partition_by.index(name) + 1 if name in told.partition_by else None,
                "classification": "personal" if info and info.personal else None,
                "relationships": [{"type": "foreignKey", "to": str(info.references)}] if info and info.references else None,
                "quality": [odcs_rules.quality(bound) for bound in about],
            }
        )
    quality = [odcs_rules.quality(bound) for bound in rules if bound.rule.column is None and bound.check is not None]
    if unique := key_rule(contract):
        quality.append(odcs_rules.unique(unique, told.key))
    return {
        "name": told.table,
        "physicalName": told.table,
        "physicalType": "table",
        "logicalType": "object",
        "description": " ".join((contract.__doc__ or "").split()),
        "properties": properties,
        "quality": quality,
    }


# --- types


def _type(dtype: pl.DataType) -> dict[str, Any]:
    found: dict[str, Any] = {"logicalType": _logical(dtype), "physicalType": _physical(dtype)}
    if isinstance(dtype, pl.List | pl.Array):
        found["items"] = _type(_instance(dtype.inner))
    if isinstance(dtype, pl.Struct):
        found["properties"] = [{"name": part.name, **_type(_instance(part.dtype))} for part in dtype.fields]
    return found


def _logical(dtype: pl.DataType) -> str:
    return next((name for types, name in _LOGICAL if dtype.base_type() in types), "integer")


def _physical(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Decimal):
        return f"decimal({dtype.precision},{dtype.scale})"
    if isinstance(dtype, pl.List | pl.Array):
        return f"array<{_physical(_instance(dtype.inner))}>"
    if isinstance(dtype, pl.Struct):
        return f"struct<{','.join(f'{part.name}:{_physical(_instance(part.dtype))}' for part in dtype.fields)}>"
    return _PHYSICAL.get(dtype.base_type(), str(dtype))


def _instance(dtype: Any) -> pl.DataType:
    found: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return found


def _options(dtype: pl.DataType, about: Sequence[BoundRule]) -> dict[str, Any]:
    """The limits that rules set, as far as the standard has an option for them; rules that only warn set none."""
    logical = _logical(dtype)
    options: dict[str, Any] = {}
    for bound in about:
        if bound.check is None or not bound.rule.rejects:
            continue
        check, parameters = str(bound.check.name), bound.check.statistics or {}
        if check == "str_matches":
            options["pattern"] = odcs_rules.pattern(parameters["pattern"])
        for name, value in parameters.items():
            option = _OPTIONS.get((check, name))
            if option and value is not None and (logical in _WITH_LIMITS or check == "str_length"):
                options[option] = _limit(value)
    if isinstance(dtype, pl.Datetime):
        options |= {"timezone": True, "defaultTimezone": "UTC"}
    return options


def _limit(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


# --- the rest


def _server(location: str) -> dict[str, Any]:
    scheme = location.partition("://")[0] if "://" in location else ""
    if scheme in {"", "file"}:
        return {"server": "lakehouse", "type": "local", "path": location, "format": "delta"}
    kind = {"s3": "s3", "az": "azure", "abfs": "azure", "abfss": "azure"}.get(scheme, "custom")
    return {"server": "lakehouse", "type": kind, "location": location, "format": "delta"}


def _team(owner: str) -> dict[str, Any]:
    if owner.startswith("team:"):
        return {"name": owner.removeprefix("team:")}
    return {"members": [{"username": owner, "role": "owner"}]}


def _sla(contract: type[Contract], table: str) -> list[dict[str, Any]]:
    fresh = freshness_of(contract)
    if fresh is None:
        return []
    return [
        {
            "property": "freshness",
            "value": fresh.within.total_seconds() / 3600,
            "unit": "h",
            "element": f"{table}.{fresh.column}",
            "description": f"The newest {fresh.column} is at most that old.",
        }
    ]


def _without_empty(value: Any) -> Any:
    """Without the keys that have no value."""
    if isinstance(value, dict):
        filled = {name: _without_empty(part) for name, part in value.items() if name != "mustBe"}
        filled = {name: part for name, part in filled.items() if part is not None and part not in ({}, [], "")}
        return filled | ({"mustBe": value["mustBe"]} if "mustBe" in value else {})
    if isinstance(value, list):
        return [_without_empty(part) for part in value]
    return value
