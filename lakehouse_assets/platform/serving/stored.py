"""`GET /features/SET?key=…`: what the online store has of one entity, for whom a token lets read features.

Rows pass the reader: personal data is masked whatever this process may see, and the read is written down under the caller's name.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lakehouse_assets.platform.declarations.features import FeatureSet
from lakehouse_assets.platform.features.online.showing import stored_rows, synced_at
from lakehouse_assets.platform.features.online.store import OnlineStore, StoreUnavailable
from lakehouse_assets.platform.governance.principal import Principal
from lakehouse_assets.platform.governance.reader import Reader
from lakehouse_assets.platform.serving.app import json_response
from lakehouse_assets.platform.serving.door import Door
from lakehouse_assets.platform.serving.http import parameters
from lakehouse_assets.platform.serving.offload import Offload
from lakehouse_assets.platform.serving.refused import refused


class StoredFeatures:
    """Answers what is stored of entities.

    Args:
        door: Who may ask.
        sets: The feature sets, by name.
        store: Opens the online store.
        reader: Through which rows are shown.
        offload: Where the store is read.
    """

    def __init__(
        self, door: Door, sets: Mapping[str, FeatureSet], store: Callable[[], OnlineStore], reader: Reader, offload: Offload
    ) -> None:
        self._door, self._sets, self._store, self._reader, self._offload = door, sets, store, reader, offload

    @property
    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/features/{name}", self._read)]

    async def _read(self, request: Request) -> Response:
        caller = self._door.caller(request.scope, "features")
        name, key = request.path_params["name"], parameters(request.scope, ("key",)).get("key", [])
        feature = self._sets.get(name)
        if feature is None:
            raise refused(404, f"there is no feature set {name[:100]!r}: there are {', '.join(self._sets) or 'none'}")
        reader = replace(self._reader, principal=Principal(caller.name or self._reader.principal.name))
        rows = await self._offload.run(lambda: self._rows(feature, key, reader), self._door.limits.seconds, "the online store")
        return json_response(msgspec.json.encode({"feature_set": name, "rows": rows}, enc_hook=str))

    def _rows(self, feature: FeatureSet, key: list[str], reader: Reader) -> list[dict[str, Any]]:
        try:
            with closing(self._store()) as store:
                found = stored_rows(store, feature, key)
        except StoreUnavailable:
            raise refused(503, "the online store cannot be reached now: ask again in some seconds", retry_after="5") from None
        except ValueError as error:
            raise refused(422, f"{error}: send key=VALUE for each of {', '.join(feature.entity)}", "key") from None
        rows: list[dict[str, Any]] = []
        for state, frame in found:
            shown = reader.view(frame.lazy(), state.table, "online", state.cursor).collect()
            rows += [row | {"feature_set_version": state.version, "synced_at": synced_at(state)} for row in shown.to_dicts()]
        return rows
