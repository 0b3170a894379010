"""The path of the OpenAPI document by which features of many entities are read."""

from collections.abc import Sequence
from typing import Any, Final

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.serving.openapi_parts import post, schema_of_type

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
    return {"/features": {"post": many}}
