"""What the scope `administer` is for: `POST /reload` takes the versions that the ledgers say at once, and answers with them."""

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lakehouse_assets.platform.serving.app import json_response
from lakehouse_assets.platform.serving.door import Door
from lakehouse_assets.platform.serving.http import parameters
from lakehouse_assets.platform.serving.offload import Offload
from lakehouse_assets.platform.serving.served import Served

_SECONDS = 60.0


class Administering:
    """The path for those who run a service.

    Args:
        door: Who may come in.
        reload: Looks at every ledger and loads what has to be loaded.
        offload: Where that is done.
    """

    def __init__(self, door: Door, reload: Callable[[], None], offload: Offload) -> None:
        self._door, self._reload, self._offload = door, reload, offload

    @property
    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/reload", self._take, methods=["POST"])]

    async def _take(self, request: Request) -> Response:
        self._door.caller(request.scope, "administer")
        parameters(request.scope)
        await self._offload.run(self._reload, _SECONDS, "the versions")
        return json_response(msgspec.json.encode({"endpoints": {name: _versions(one) for name, one in self._door.served.items()}}))


def _versions(served: Served) -> dict[str, Any]:
    """Which versions answer, and why others were not taken."""
    versions = served.versions
    loaded = {} if versions is None else {"champion": versions.champion, "challenger": versions.challenger}
    said: dict[str, Any] = {variant: one.champion.version for variant, one in loaded.items() if one is not None}
    return {"ready": versions is not None, "versions": said, "not_taken": dict(served.why)}
