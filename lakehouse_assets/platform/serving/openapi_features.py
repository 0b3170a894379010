"""The paths of the OpenAPI document by which the online store is read."""

from collections.abc import Sequence
from typing import Any, Final

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.serving.openapi_parts import json_content, post, ref, schema_of_type

_MOMENT: Final = {"type": "string", "format": "date-time"}
_ROW: Final = {
    "type": "object",
    "properties": {
        "status": {"enum": ["ok", "missing", "expired", "unavailable"]},
        "event_time": _MOMENT,
        "known_at": _MOMENT,
        "feature_set_version": {"type": ["integer", "null"]},
        "values": {"type": "object"},
    },
    "required": ["status", "values"],
}


def features(sets: Sequence[FeatureSet]) -> dict[str, Any]:
    """The paths.

    Args:
        sets: All feature sets; without one there is nothing to read.
    """
    if not sets:
        return {}
    names = [one.name for one in sets]
    columns = {name: schema_of_type(one.schema[name]) for one in sets for name in one.entity}
    body = {
        "type": "object",
        "properties": {
            "feature_sets": {"type": "array", "minItems": 1, "items": {"enum": names}},
            "keys": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": columns, "additionalProperties": False}},
        },
        "required": ["feature_sets", "keys"],
        "additionalProperties": False,
    }
    answer = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": {"type": "object", "additionalProperties": _ROW}},
            "synced_at": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
        },
        "required": ["rows", "synced_at"],
    }
    shown = {"one": {"feature_sets": names[:1], "keys": [dict.fromkeys(sets[0].entity, "1")]}}
    many = post("What is known of many entities now, from several feature sets.", "features", body, answer, shown)
    return {"/features": {"post": many}, "/features/{feature_set}": {"get": _stored(names)}}


def _stored(names: Sequence[str]) -> dict[str, Any]:
    """What is stored of one entity."""
    key = {
        "name": "key",
        "in": "query",
        "required": True,
        "description": "A value for each column of the entity, in its order.",
        "schema": {"type": "array", "items": {"type": "string"}},
    }
    rows = {"type": "object", "properties": {"feature_set": {"type": "string"}, "rows": {"type": "array", "items": {"type": "object"}}}}
    refused = {401: "No token that is known and in force.", 403: "The token is not for this, or a page of another site asks.",
               404: "There is no such feature set.", 422: "The key does not fit the entity.",
               503: "The online store cannot be reached."}  # fmt: skip
    return {
        "summary": "What the online store has of one entity, row by row.",
        "operationId": "stored_features",
        "parameters": [{"name": "feature_set", "in": "path", "required": True, "schema": {"enum": list(names)}}, key],
        "responses": {
            "200": {"description": "What is stored.", "content": json_content(rows)},
            **{str(status): {"description": why, "content": json_content(ref("Errors"))} for status, why in refused.items()},
        },
    }
