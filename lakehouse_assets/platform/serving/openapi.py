"""The OpenAPI 3.1 document of a service: paths, schemas from the contracts, examples from stored rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.quality.contract import columns_of
from lakehouse_assets.platform.serving.rows import Row, RowType, limits_of
from lakehouse_assets.platform.serving.served import Served

Examples = Mapping[str, Sequence[Row]]
"""By form, rows that may be sent."""
_ERRORS: Final = {
    400: "The body is no JSON.",
    401: "No token that is known and in force.",
    403: "The token is not for this.",
    404: "There is no such endpoint.",
    408: "The body did not come in time.",
    413: "The body, or the number of rows, is too large.",
    415: "The body is not sent as JSON.",
    422: "Rows are not as they should be: each by row and field.",
    429: "Too much waits already: see Retry-After.",
    500: "The service failed.",
    503: "No model can answer: see /ready.",
    504: "No answer in time.",
}
_ROW: Final = {"type": "object"}


def document(served: Iterable[Served], examples: Callable[[Served], Examples], version: str) -> dict[str, Any]:
    """The document.

    Args:
        served: The endpoints.
        examples: Gives rows that may be sent to one.
        version: Of the service.
    """
    paths: dict[str, Any] = {
        "/health": {"get": _get("Whether the service runs.", {"type": "object"})},
        "/ready": {"get": _get("What answers, and how new its features are.", {"type": "object"}, 503)},
        "/version": {"get": _get("The release of the service.", {"type": "object"})},
        "/metrics": {"get": _get("Counters for Prometheus.", {"type": "string"}, kind="text/plain")},
    }
    schemas: dict[str, Any] = {"Errors": _errors()}
    for one in served:
        given = examples(one)
        for form, kind in one.types.items():
            schemas[f"{one.name}_{form}"] = _schema_of_rows(kind, _described(one))
        schemas[f"{one.name}_answer"] = _answer(one)
        paths[f"/endpoints/{one.name}"] = {"post": _post(one, given)}
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
            "properties": {form: {"type": "array", "minItems": 1, "items": _ref(f"{served.name}_{form}")}},
            "required": [form],
            "additionalProperties": False,
        }
        for form in served.types
    ]
    single = "keys" if served.endpoint.by_keys else "rows"
    shown = {form: {"value": {form: list(rows)}} for form, rows in examples.items() if rows}
    if examples.get(single):
        shown["one"] = {"value": examples[single][0]}
    return {
        "summary": served.endpoint.description or served.name,
        "operationId": served.name,
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "description": "Whether to say what each prediction owes to its inputs.",
                "schema": {"type": "boolean", "default": False},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [*forms, _ref(f"{served.name}_{single}")]},
                    **({"examples": shown} if shown else {}),
                }
            },
        },
        "responses": {
            "200": {"description": "Predictions, one for each row.", "content": _json(_ref(f"{served.name}_answer"))},
            **{str(status): {"description": text, "content": _json(_ref("Errors"))} for status, text in _ERRORS.items()},
        },
    }


def _get(text: str, schema: dict[str, Any], *others: int, kind: str = "application/json") -> dict[str, Any]:
    answers = {str(status): {"description": text, "content": {kind: {"schema": schema}}} for status in (200, *others)}
    return {"summary": text, "responses": answers}


def _schema_of_rows(kind: RowType, described: Mapping[str, str]) -> dict[str, Any]:
    properties = {}
    for name, dtype in kind.columns.items():
        schema = schema_of_type(dtype)
        if name in kind.optional:
            schema = {"anyOf": [schema, {"type": "null"}]}
        properties[name] = schema | ({"description": described[name]} if described.get(name) else {})
    required = [name for name in kind.columns if name not in kind.optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


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


def schema_of_type(dtype: pl.DataType) -> dict[str, Any]:
    """A type of a column in JSON Schema."""
    if (limits := limits_of(dtype)) is not None:
        return {"type": "integer", "minimum": limits[0], "maximum": limits[1]}
    if isinstance(dtype, pl.List):
        return {"type": "array"}
    if isinstance(dtype, pl.Datetime):
        return {"type": "string", "format": "date-time"}
    named = {pl.Boolean: {"type": "boolean"}, pl.Date: {"type": "string", "format": "date"}}
    return dict(named.get(dtype.base_type(), {"type": "number" if dtype.is_numeric() else "string"}))


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


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
