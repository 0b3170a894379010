"""The OpenAPI 3.1 document of a service: paths, schemas from the contracts, examples from stored rows."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lakehouse_assets.platform.quality.contract import columns_of
from lakehouse_assets.platform.serving.openapi_others import Doors, get, protocols
from lakehouse_assets.platform.serving.openapi_parts import post, ref, schema_of_rows, schema_of_type
from lakehouse_assets.platform.serving.rows import Row
from lakehouse_assets.platform.serving.served import Served

Examples = Mapping[str, Sequence[Row]]
"""By form, rows that may be sent."""
_ROW: Final = {"type": "object"}


def document(served: Sequence[Served], examples: Mapping[str, Examples], doors: Doors, version: str) -> dict[str, Any]:
    """The document.

    Args:
        served: The endpoints.
        examples: By endpoint, rows that may be sent to it.
        doors: What there is besides.
        version: Of the service.
    """
    paths: dict[str, Any] = {
        "/health": get("Whether the service runs.", {"type": "object"}),
        "/ready": get("What answers, and how new its features are.", {"type": "object"}, 503),
        **{f"/ready/{one.name}": get(f"The same of {one.name} alone.", {"type": "object"}, 503) for one in served},
        "/version": get("The release of the service.", {"type": "object"}),
        "/metrics": get("Counters for Prometheus.", {"type": "string"}, kind="text/plain"),
    }
    schemas: dict[str, Any] = {"Errors": _errors()}
    for one in served:
        given = examples[one.name]
        for form, kind in one.types.items():
            schemas[f"{one.name}_{form}"] = schema_of_rows(kind, _described(one))
        schemas[f"{one.name}_answer"] = _answer(one)
        paths[f"/endpoints/{one.name}"] = {"post": _post(one, given)}
    paths |= protocols(served, examples) | doors.paths()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lakehouse", "version": version, "description": "Predictions of the champions of this lakehouse."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _post(served: Served, examples: Examples) -> dict[str, Any]:
    forms = [
        {
            "type": "object",
            "properties": {form: {"type": "array", "minItems": 1, "items": ref(f"{served.name}_{form}")}},
            "required": [form],
            "additionalProperties": False,
        }
        for form in served.types
    ]
    single = "keys" if served.endpoint.by_keys else "rows"
    shown: dict[str, Any] = {form: {form: list(rows)} for form, rows in examples.items() if rows}
    if examples.get(single):
        shown["one"] = examples[single][0]
    body = {"anyOf": [*forms, ref(f"{served.name}_{single}")]}
    made = post(served.endpoint.description or served.name, served.name, body, ref(f"{served.name}_answer"), shown)
    flags = {
        "explain": "Whether to say what each prediction owes to its inputs.",
        "dry_run": "Whether to score and log only: events do not count in the windows of later requests.",
    }
    made["parameters"] = [
        {"name": name, "in": "query", "description": description, "schema": {"type": "boolean", "default": False}}
        for name, description in flags.items()
    ]
    return made


def _answer(served: Served) -> dict[str, Any]:
    contract = served.endpoint.predictions.contract
    stamped = {"model_name", "model_version", "feature_version", "scored_at"}
    columns = {info.name: {**schema_of_type(info.dtype), "description": info.description} for info in columns_of(contract)}
    columns = {name: schema for name, schema in columns.items() if name not in stamped}
    row = {
        "type": "object",
        "properties": columns
        | {
            "model_version": {"type": "integer"},
            "variant": {"enum": ["champion", "challenger"]},
            "features": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
            "contributions": {"type": ["array", "null"], "items": _ROW},
        },
        "required": ["model_version", "variant"],
    }
    return {
        "type": "object",
        "properties": {
            "request_id": {"type": "string"},
            "model_name": {"type": "string"},
            "predictions": {"type": "array", "items": row},
        },
        "required": ["request_id", "model_name", "predictions"],
    }


def _described(served: Served) -> dict[str, str]:
    found = {}
    for one in (*served.roles.sets, *([served.roles.event] if served.roles.event is not None else [])):
        prefix = served.roles.prefixes.get(one.name, "")
        for info in columns_of(one.contract):
            found[prefix + info.name] = found[info.name] = info.description
    return found


def _errors() -> dict[str, Any]:
    error = {
        "type": "object",
        "properties": {"row": {"type": "integer"}, "field": {"type": "string"}, "message": {"type": "string"}},
        "required": ["message"],
    }
    properties = {"errors": {"type": "array", "items": error}, "request_id": {"type": "string"}}
    return {"type": "object", "properties": properties, "required": ["errors"]}
