"""Pieces of the OpenAPI document: types of columns, rows, what a path with a body answers. Which paths there are is in `openapi`."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.serving.rows import RowType, limits_of

_ERRORS: Final = {
    400: "The body is no JSON.",
    401: "No token that is known and in force.",
    403: "The token is not for this, or a page of another site asks.",
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

_REQUEST_ID: Final = {"description": "The id of the request, as in the inference log and for labels.", "schema": {"type": "string"}}


def post(text: str, name: str, body: dict[str, Any], answer: dict[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    """A path that takes JSON.

    Args:
        text: What it does.
        name: Its operation.
        body: Schema of what is sent.
        answer: Schema of the answer.
        examples: Bodies, by name.
    """
    shown = {"examples": {of: {"value": value} for of, value in examples.items()}} if examples else {}
    return {
        "summary": text,
        "operationId": name,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body, **shown}}},
        "responses": {
            "200": {"description": "What is answered.", "headers": {"X-Request-Id": _REQUEST_ID}, "content": json_content(answer)},
            **errors(*_ERRORS),
        },
    }


def errors(*statuses: int) -> dict[str, Any]:
    """What a path answers where it refuses."""
    return {
        str(status): {
            "description": _ERRORS[status],
            "headers": {"X-Request-Id": _REQUEST_ID},
            "content": json_content(ref("Errors")),
        }
        for status in statuses
    }


def schema_of_rows(kind: RowType, described: Mapping[str, str]) -> dict[str, Any]:
    """The schema of a row, with what its fields mean."""
    properties = {}
    for name, dtype in kind.columns.items():
        schema = schema_of_type(dtype)
        if name in kind.optional:
            schema = {"anyOf": [schema, {"type": "null"}]}
        properties[name] = schema | ({"description": described[name]} if described.get(name) else {})
    required = [name for name in kind.columns if name not in kind.optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


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


def value_of_type(dtype: pl.DataType | None) -> Any:
    """A value of a type, as JSON has it, for examples."""
    if isinstance(dtype, pl.Enum):
        return dtype.categories[0]
    if isinstance(dtype, pl.Datetime):
        return "2024-01-02T10:05:12Z" if dtype.time_zone is not None else "2024-01-02T10:05:12"
    named = {pl.Boolean: True, pl.Date: "2024-01-02", pl.List: [], pl.Decimal: "1"}
    base = pl.Boolean if dtype is None else dtype.base_type()
    return named.get(base, 1 if dtype is not None and dtype.is_numeric() else "1")


def ref(name: str) -> dict[str, str]:
    """A schema of the document, by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_content(schema: dict[str, Any]) -> dict[str, Any]:
    """A body of JSON."""
    return {"application/json": {"schema": schema}}
