"""MLflow's scoring protocol, on full rows of features: `POST /invocations` with its four inputs.

They are `dataframe_split`, `dataframe_records`, `instances` and `inputs`.

As its own server does, it answers `{"predictions": […]}` with the columns of the prediction, and `/ping` and `/version`. A row whose
feature sets were not as they should be says so in `features`.
"""

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lakehouse_assets.platform.compute.packages import version
from lakehouse_assets.platform.serving.answers import JSON
from lakehouse_assets.platform.serving.app import json_response
from lakehouse_assets.platform.serving.door import Door, RequestContext
from lakehouse_assets.platform.serving.http import read_body
from lakehouse_assets.platform.serving.protocols.values import value as as_sent
from lakehouse_assets.platform.serving.refused import refused
from lakehouse_assets.platform.serving.rows import Row, RowType, malformed
from lakehouse_assets.platform.serving.served import Served
from lakehouse_assets.platform.serving.work import Answer, Work

_INPUTS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
_DECODE: Final = msgspec.json.Decoder(dict[str, Any]).decode


def routes(door: Door) -> list[Route]:
    """The paths of the protocol; without a name where there is one endpoint that takes rows."""

    async def invocations(request: Request) -> Response:
        return json_response(await _invoke(door, request, _served(door, request.path_params.get("name"))))

    async def ping(request: Request) -> Response:
        name = request.path_params.get("name")
        asked = list(door.served.values()) if name is None else [_served(door, name)]
        return Response("\n", 200 if all(one.versions is not None for one in asked) else 503, media_type="text/plain")

    async def of_mlflow(_: Request) -> Response:
        return Response(version("mlflow"), media_type="text/plain")

    return [
        Route("/invocations", invocations, methods=["POST"]),
        Route("/endpoints/{name}/invocations", invocations, methods=["POST"]),
        Route("/endpoints/{name}/ping", ping),
        Route("/endpoints/{name}/version", of_mlflow),
        Route("/ping", ping),
    ]


def _served(door: Door, name: str | None) -> Served:
    if name is None:
        named = [one.name for one in door.served.values() if not one.endpoint.by_keys]
        if len(named) != 1:
            raise refused(404, f"there are {len(named)} endpoints that take rows: ask /endpoints/NAME/invocations for {', '.join(named)}")
        name = named[0]
    served = door.endpoint(name)
    if served.endpoint.by_keys:
        raise refused(404, f"{name} takes no rows of features: ask POST /endpoints/{name} by keys")
    return served


async def _invoke(door: Door, request: Request, served: Served) -> bytes:
    asked = door.asked(request.scope)
    with door.asking(served, asked, request.scope):
        return await _answered(door, request, served, asked)


async def _answered(door: Door, request: Request, served: Served, asked: RequestContext) -> bytes:
    body = await read_body(request.scope, request.receive, door.limits)
    try:
        given = _DECODE(body)
    except msgspec.ValidationError:
        raise refused(422, f"send one JSON object with one of {', '.join(_INPUTS)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None
    return await door.score(served, "features", rows_of(given, served.types["features"]), asked, _encode)


def rows_of(given: dict[str, Any], kind: RowType) -> list[Row]:
    """The rows of a request in any of the four inputs.

    Raises:
        Refused: They cannot be read.
    """
    named = [name for name in _INPUTS if name in given]
    if len(named) != 1 or {*given} - {*named, "params"}:
        raise refused(422, f"send one of {', '.join(_INPUTS)}, and nothing else but params")
    form, value = named[0], given[named[0]]
    if form == "dataframe_split":
        return kind.take(_as_sent(_split(value), kind))
    if form == "inputs":
        if not isinstance(value, dict):
            raise refused(422, "inputs is an object: a list of values for each column", form)
        return kind.take(_as_sent({name: one if isinstance(one, list) else [one] for name, one in value.items()}, kind))
    if not isinstance(value, list):
        raise refused(422, f"{form} is a list of rows, each an object by column", form)
    rows = [{name: as_sent(one, kind.columns.get(name)) for name, one in row.items()} if isinstance(row, dict) else row for row in value]
    try:
        return kind.read(msgspec.json.encode(rows))
    except (TypeError, ValueError, RecursionError) as error:
        raise malformed(error) from None


def _as_sent(columns: dict[str, list[Any]], kind: RowType) -> dict[str, list[Any]]:
    return {name: [as_sent(one, kind.columns.get(name)) for one in values] for name, values in columns.items()}


def _split(value: Any) -> dict[str, list[Any]]:
    wrong = refused(422, 'dataframe_split is {"columns": [names], "data": [[values], …]}', "dataframe_split")
    if not isinstance(value, dict) or {*value} - {"columns", "data", "index"}:
        raise wrong
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or not all(isinstance(name, str) for name in columns):
        raise wrong
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise refused(422, f"a row of data has a value for each of the {len(columns)} columns", "dataframe_split", number)
    return {name: [row[place] for row in data] for place, name in enumerate(columns)}


def _encode(_: Work, answer: Answer) -> bytes:
    rows = [row | {"features": said} if said else row for row, said in zip(answer.predictions, answer.features, strict=True)]
    return JSON.encode({"predictions": rows})
