"""What the online store has of one entity, as frames for people. Services ask `lookup`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.codecs import codec, moment
from lakehouse_assets.platform.features.online.readers import events_of
from lakehouse_assets.platform.features.online.store import OnlineStore, SetState

_MOMENT = pl.Datetime("us", "UTC")


def stored_rows(store: OnlineStore, feature: FeatureSet, key: Sequence[Any]) -> list[tuple[SetState, pl.DataFrame]]:
    """The items of an entity in each set of a feature set, with the state of the set; none if it was never synced.

    Raises:
        ValueError: The key does not fit the entity.
        StoreUnavailable: The store cannot be reached.
    """
    values = _key(feature, key)
    names = [name for name in store.names() if name == events_of(feature.name) or name.startswith(f"{feature.name}@")]
    found = []
    for name, written in zip(names, store.read([], names).states, strict=True):
        if (state := SetState.read(written)) is not None:
            items = [item for _, item in store.items(name, codec(state.entity_kinds).encode(values))]
            found.append((state, _frame(feature, state, dict(zip(feature.entity, values, strict=True)), items)))
    return found


def synced_at(state: SetState) -> datetime:
    """Until when the store knows the table of a set."""
    return moment(state.synced_at)


def _frame(feature: FeatureSet, state: SetState, entity: dict[str, Any], items: Sequence[Any]) -> pl.DataFrame:
    rows = []
    for time, id_, payload, _ in items:
        row = entity | {feature.event_time: moment(time)}
        if state.key:
            row |= dict(zip(state.key, codec(state.key_kinds).decode(id_), strict=True))
            row |= dict(zip(state.columns, codec(state.kinds).decode(payload), strict=True))
        else:
            known, *values = codec(("moment", *state.kinds)).decode(payload)
            row |= {"known_at": known} | dict(zip(state.columns, values, strict=True))
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _key(feature: FeatureSet, key: Sequence[Any]) -> list[Any]:
    if len(key) != len(feature.entity):
        about = " and ".join(feature.entity) or "everything at once"
        raise ValueError(f"{feature.name} is about {about}: give {len(feature.entity)} values, not {len(key)}")
    values = []
    for name, value in zip(feature.entity, key, strict=True):
        dtype = feature.schema[name]
        try:
            values.append(pl.Series([value], dtype=None if not isinstance(value, str) else pl.String()).cast(dtype, strict=True).item())
        except pl.exceptions.PolarsError:
            raise ValueError(f"{feature.name}: {name} is {dtype}, and {value!r} is none") from None
    return values
