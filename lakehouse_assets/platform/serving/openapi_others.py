"""The paths of the OpenAPI document besides the service's own protocol: MLflow's, the Open Inference Protocol, labels, rows of feeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.serving.openapi_parts import json_content, post, ref, schema_of_rows
from lakehouse_assets.platform.serving.rows import Row
from lakehouse_assets.platform.serving.served import Served

_OBJECT: Final = {"type": "object"}
_READY: Final = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]}
_COLUMN: Final = {"type": "array", "items": {}}
_TENSOR: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "data": {"type": "array", "items": {}},
        "parameters": _OBJECT,
    },
    "required": ["name", "shape", "datatype", "data"],
}
_SOURCE_ROW: Final = {"anyOf": [{"type": "array", "minItems": 1, "items": _OBJECT}, _OBJECT]}


def get(text: str, schema: dict[str, Any], *others: int, kind: str = "application/json") -> dict[str, Any]:
    """A path that is only read.

    Args:
        text: What it is.
        schema: Of the answer.
        others: Statuses besides 200, with the same schema.
        kind: Content type of the answer.
    """
    answers = {str(status): {"description": text, "content": {kind: {"schema": schema}}} for status in (200, *others)}
    return {"get": {"summary": text, "responses": answers}}


def protocols(served: Sequence[Served], examples: Mapping[str, Mapping[str, Sequence[Row]]]) -> dict[str, Any]:
    """The paths of the two open protocols.

    Args:
        served: The endpoints.
        examples: By endpoint and form, rows that may be sent.
    """
    by_rows = [one for one in served if not one.endpoint.by_keys]
    paths: dict[str, Any] = {
        "/ping": get("Whether an endpoint can answer, as MLflow asks.", {"type": "string"}, 503, kind="text/plain"),
        "/v2": get("Name and version of the server.", _OBJECT),
        "/v2/health/live": get("Whether the service runs.", {"type": "object", "properties": {"live": {"type": "boolean"}}}),
        "/v2/health/ready": get("Whether an endpoint can answer.", _READY, 503),
    }
    for one in by_rows:
        rows = [_features_of(row, one) for row in examples.get(one.name, {}).get("features", ())][:2]
        invocations = _invocations(one, rows)
        paths[f"/endpoints/{one.name}/invocations"] = invocations
        if len(by_rows) == 1:
            paths["/invocations"] = {"post": {**invocations["post"], "operationId": "invocations"}}
        paths[f"/v2/models/{one.name}"] = get("Inputs and outputs of the model.", _OBJECT)
        paths[f"/v2/models/{one.name}/ready"] = get("Whether the model can answer.", _READY, 503)
        paths[f"/v2/models/{one.name}/infer"] = _infer(one, rows)
    return paths


def _features_of(row: Row, served: Served) -> Row:
    return {name: value for name, value in row.items() if name in served.types["features"].columns}


def _invocations(served: Served, rows: Sequence[Row]) -> dict[str, Any]:
    row = schema_of_rows(served.types["features"], {})
    split = {
        "type": "object",
        "properties": {"columns": {"type": "array", "items": {"type": "string"}}, "data": {"type": "array", "items": _COLUMN}},
        "required": ["columns", "data"],
    }
    records = {"type": "array", "minItems": 1, "items": row}
    columns = {"type": "object", "additionalProperties": _COLUMN}
    forms = {"dataframe_split": split, "dataframe_records": records, "instances": records, "inputs": columns}
    one_of = [{"type": "object", "properties": {name: form}, "required": [name]} for name, form in forms.items()]
    shown = {}
    if rows:
        names = list(rows[0])
        shown = {
            "dataframe_split": {"dataframe_split": {"columns": names, "data": [list(one.values()) for one in rows]}},
            "dataframe_records": {"dataframe_records": list(rows)},
            "inputs": {"inputs": {name: [one[name] for one in rows] for name in names}},
        }
    answer = {"type": "object", "properties": {"predictions": {"type": "array", "items": _OBJECT}}, "required": ["predictions"]}
    return {"post": post(f"{served.name}, as MLflow asks", f"{served.name}_invocations", {"anyOf": one_of}, answer, shown)}


def _infer(served: Served, rows: Sequence[Row]) -> dict[str, Any]:
    body = {
        "type": "object",
        "properties": {"inputs": {"type": "array", "minItems": 1, "items": _TENSOR}, "id": {"type": "string"}, "parameters": _OBJECT},
        "required": ["inputs"],
    }
    shown = {}
    if rows:
        columns = {name: [one[name] for one in rows] for name in rows[0]}
        kinds = served.types["features"].columns
        tensors = [
            {"name": name, "shape": [len(rows)], "datatype": "FP64" if kinds[name].is_float() else "BYTES", "data": values}
            for name, values in columns.items()
        ]
        shown = {"tensors": {"inputs": tensors}}
    answer = {
        "type": "object",
        "properties": {"model_name": {"type": "string"}, "id": {"type": "string"}, "outputs": {"type": "array", "items": _TENSOR}},
        "required": ["model_name", "outputs"],
    }
    return {"post": post(f"{served.name}, by the Open Inference Protocol", f"{served.name}_infer", body, answer, shown)}


def doors(served: Sequence[Served], feeds: Iterable[Feed]) -> dict[str, Any]:
    """The paths by which labels and rows of feeds come in."""
    label = {
        "type": "object",
        "properties": {
            "label": {},
            "endpoint": {"enum": [one.name for one in served]},
            "request_id": {"type": "string"},
            "row": {"type": "integer", "minimum": 0},
            "key": _OBJECT,
            "known_at": {"type": "string", "format": "date-time"},
        },
        "required": ["label"],
        "additionalProperties": False,
    }
    labels = {"type": "array", "minItems": 1, "items": label}
    enveloped = {"type": "object", "properties": {"rows": labels}, "required": ["rows"], "additionalProperties": False}
    taken = {"type": "object", "properties": {"accepted": {"type": "integer"}}, "required": ["accepted"]}
    word = served[0].name
    shown = {"of a key": [{"endpoint": word, "key": dict.fromkeys(served[0].key, "1"), "label": True}]}
    paths: dict[str, Any] = {
        "/feedback": {"post": post("What became true of predictions.", "feedback", {"anyOf": [labels, enveloped]}, taken, shown)}
    }
    receipt = {
        "type": "object",
        "properties": {"feed": {"type": "string"}, "accepted": {"type": "integer"}, "repeated": {"type": "integer"}},
        "required": ["feed", "accepted", "repeated"],
    }
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same text for a request that is sent again.",
        "schema": {"type": "string"},
    }
    for one in feeds:
        example = {"one": [dict.fromkeys(one.columns, "1")]} if one.columns else {}
        made = post(f"Rows of the feed {one.name}: each lands once.", f"ingest_{one.name}", _SOURCE_ROW, receipt, example)
        made["parameters"] = [key]
        made["responses"]["409"] = {
            "description": "An id was taken before with another row, or the feed takes none.",
            "content": json_content(ref("Errors")),
        }
        paths[f"/ingest/{one.name}"] = {"post": made}
    return paths
