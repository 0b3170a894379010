"""The paths of the OpenAPI document besides the service's own protocol: MLflow's, the Open Inference Protocol, labels, rows, features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.serving.feedback import LabelType
from lakehouse_assets.platform.serving.openapi_features import features
from lakehouse_assets.platform.serving.openapi_parts import errors, json_content, post, ref, schema_of_rows, value_of_type
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
_REQUEST_ID: Final = f"{'0' * 32}-0"
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
        "/ping": get("Whether every endpoint can answer, as MLflow asks.", {"type": "string"}, 503, kind="text/plain"),
        "/v2": get("Name and version of the server.", _OBJECT),
        "/v2/health/live": get("Whether the service runs.", {"type": "object", "properties": {"live": {"type": "boolean"}}}),
        "/v2/health/ready": get("Whether every endpoint can answer.", _READY, 503),
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


@dataclass(frozen=True)
class Doors:
    """What a service has besides its endpoints.

    Attributes:
        feeds: Those to which rows may be pushed.
        sets: The feature sets that the online store may have.
        labels: What labels may be, by endpoint.
    """

    feeds: Sequence[Feed]
    sets: Sequence[FeatureSet]
    labels: Mapping[str, LabelType]

    def paths(self) -> dict[str, Any]:
        """The paths by which labels and rows of feeds come in, and by which features and versions are asked for."""
        reload = post("Take at once the versions that the ledgers say.", "reload", _OBJECT, _OBJECT, {"now": {}})
        reload["requestBody"]["required"] = False
        found = {"/feedback": {"post": self._feedback()}, "/reload": {"post": reload}}
        pushed = {f"/ingest/{one.name}": {"post": _ingest(one)} for one in self.feeds}
        return found | pushed | features(self.sets) | dict(map(_stored, self.sets))

    def _feedback(self) -> dict[str, Any]:
        label = {
            "type": "object",
            "properties": {
                "label": {},
                "endpoint": {"enum": list(self.labels)},
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
        shown: dict[str, Any] = {}
        for word, kind in self.labels.items():
            said = {"endpoint": word, "label": value_of_type(kind.dtype)}
            shown[f"{word}, of a request"] = [said | {"request_id": _REQUEST_ID, "row": 0}]
            if kind.keys:
                shown[f"{word}, of a key"] = [said | {"key": {name: value_of_type(dtype) for name, dtype in kind.keys[0].items()}}]
        return post("What became true of predictions.", "feedback", {"anyOf": [labels, enveloped]}, taken, shown)


def _ingest(feed: Feed) -> dict[str, Any]:
    receipt = {
        "type": "object",
        "properties": {"feed": {"type": "string"}, "accepted": {"type": "integer"}, "repeated": {"type": "integer"}},
        "required": ["feed", "accepted", "repeated"],
    }
    example = {"one": [dict.fromkeys(feed.headers[0], "1")]} if feed.headers else {}
    made = post(f"Rows of the feed {feed.name}: each lands once.", f"ingest_{feed.name}", _SOURCE_ROW, receipt, example)
    made["parameters"] = [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The same text for a request that is sent again.",
            "required": feed.row_id is None,
            "schema": {"type": "string"},
            "example": "first",
        }
    ]
    made["responses"]["409"] = {
        "description": "An id was taken before with another row, or the feed takes none.",
        "content": json_content(ref("Errors")),
    }
    return made


def _stored(feature: FeatureSet) -> tuple[str, dict[str, Any]]:
    """The path of a feature set in the online store."""
    row = {"type": "object", "properties": {"feature_set": {"type": "string"}, "rows": {"type": "array", "items": _OBJECT}}}
    made = get(f"What the online store has of one entity of {feature.name}, personal data masked.", row)
    named = ", ".join(feature.entity)
    made["get"]["parameters"] = [
        {
            "name": "key",
            "in": "query",
            "description": f"A value for each of {named}, in this order." if named else "Nothing: there is one entity.",
            "required": bool(feature.entity),
            "schema": {"type": "array", "items": {"type": "string"}, "minItems": len(feature.entity), "maxItems": len(feature.entity)},
            "example": [str(value_of_type(feature.schema[name])) for name in feature.entity],
        }
    ]
    made["get"]["responses"] |= errors(401, 403, 404, 422, 503)
    return f"/features/{feature.name}", made
