"""The Open Inference Protocol v2, on full rows of features: `/v2/models/NAME/infer` and what belongs to it, for its existing clients.

A request has one tensor for each column, of one dimension (or of two with one column); so has the answer. Its `model_version` is that of
the champion; where a challenger answers its share, the tensor of that name says who has answered each row. Where feature sets were not as
they should be, the tensor `features` says so of each row, as JSON.
"""

from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec
import polars as pl
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lakehouse_assets.platform.compute.packages import version
from lakehouse_assets.platform.declarations.base import nearest
from lakehouse_assets.platform.quality.contract import columns_of
from lakehouse_assets.platform.serving.answers import JSON
from lakehouse_assets.platform.serving.app import json_response
from lakehouse_assets.platform.serving.door import Door
from lakehouse_assets.platform.serving.http import read_body
from lakehouse_assets.platform.serving.protocols.values import value as as_sent
from lakehouse_assets.platform.serving.refused import refused
from lakehouse_assets.platform.serving.rows import Row, RowType, malformed
from lakehouse_assets.platform.serving.served import Served
from lakehouse_assets.platform.serving.work import Answer, Work

_NAME: Final = "lakehouse-assets"
_PLATFORM: Final = "lakehouse"
_VERSION: Final = "model_version"
_FEATURES: Final = "features"
_STAMPED: Final = frozenset({"model_name", _VERSION, "feature_version", "scored_at"})


class Tensor(msgspec.Struct):
    """A tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class Output(msgspec.Struct):
    """A tensor that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class Inference(msgspec.Struct):
    """A request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[Output] = []


_DECODE: Final = msgspec.json.Decoder(Inference).decode


def routes(door: Door) -> list[Route]:
    """The paths of the protocol."""

    async def server(_: Request) -> Response:
        return json_response(msgspec.json.encode({"name": _NAME, "version": version(_NAME), "extensions": []}))

    async def live(_: Request) -> Response:
        return json_response(b'{"live":true}')

    async def ready(_: Request) -> Response:
        found = all(one.versions is not None for one in door.served.values())
        return json_response(msgspec.json.encode({"ready": found}), 200 if found else 503)

    async def model(request: Request) -> Response:
        return json_response(msgspec.json.encode(_metadata(_served(door, request))))

    async def model_ready(request: Request) -> Response:
        served = _served(door, request)
        said = {"name": served.name, "ready": served.versions is not None}
        return json_response(msgspec.json.encode(said), 200 if served.versions is not None else 503)

    async def infer(request: Request) -> Response:
        asked = door.asked(request.scope)
        served = _served(door, request, champion=True)
        with door.asking(served, asked, request.scope):
            given = _read(await read_body(request.scope, request.receive, door.limits))
            wanted = _wanted(given, served)
            rows = rows_of(given, served.types["features"])

            def encode(work: Work, answer: Answer) -> bytes:
                return _encode(served, work, answer, given, wanted)

            return json_response(await door.score(served, "features", rows, asked, encode))

    found = [Route("/v2", server), Route("/v2/health/live", live), Route("/v2/health/ready", ready)]
    for place in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        found += [Route(place, model), Route(f"{place}/ready", model_ready), Route(f"{place}/infer", infer, methods=["POST"])]
    return found


def _served(door: Door, request: Request, *, champion: bool = False) -> Served:
    """The endpoint of a path; its version has to be loaded.

    Args:
        door: Its endpoints.
        request: The request.
        champion: Whether it has to be the champion: which rows a challenger answers, nobody chooses.
    """
    name, wanted = request.path_params["name"], request.path_params.get("version")
    served = door.endpoint(name)
    if served.endpoint.by_keys:
        raise refused(404, f"{name} takes no rows of features: ask POST /endpoints/{name} by keys")
    loaded = _loaded(served)[: 1 if champion else None]
    if wanted is not None and wanted not in loaded:
        raise refused(404, f"version {wanted[:20]} of {name} does not answer: {f'{loaded[0]} does' if loaded else 'none does'}", "version")
    return served


def _loaded(served: Served) -> list[str]:
    """The versions that answer, the champion first."""
    versions = served.versions
    if versions is None:
        return []
    answers = [versions.champion, *([versions.challenger] if versions.challenger is not None and served.endpoint.challenger else [])]
    return [str(one.champion.version) for one in answers]


def _wanted(given: Inference, served: Served) -> list[str]:
    """The outputs that are asked for.

    Raises:
        Refused: There is none of that name.
    """
    known = [*(info.name for info in columns_of(served.endpoint.predictions.contract) if info.name not in _STAMPED), _VERSION, _FEATURES]
    for output in given.outputs:
        if output.name not in known:
            name = output.name[:100]
            raise refused(400, f"there is no output {name!r}: there are {', '.join(known)}.{nearest(name, known)}", name)
    return list(dict.fromkeys(output.name for output in given.outputs))


def _read(body: bytes) -> Inference:
    try:
        return _DECODE(body)
    except msgspec.ValidationError as error:
        raise refused(422, f"the request is none of the Open Inference Protocol: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


def rows_of(given: Inference, kind: RowType) -> list[Row]:
    """The rows of a request.

    Raises:
        Refused: Its tensors are no columns of these rows.
    """
    columns: dict[str, list[Any]] = {}
    for tensor in given.inputs:
        values = _flat(tensor)
        if tensor.name in columns:
            raise refused(422, "two tensors have this name", tensor.name)
        dtype = kind.columns.get(tensor.name)
        columns[tensor.name] = [as_sent(value, dtype) for value in values]
    if not columns:
        raise refused(422, "there are no tensors: send one for each column", "inputs")
    return kind.take(columns)


def _flat(tensor: Tensor) -> list[Any]:
    """The values of a tensor of one column."""
    count = tensor.shape[0] if tensor.shape else -1
    if len(tensor.shape) not in {1, 2} or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
        raise refused(422, f"a column has the shape [rows] or [rows, 1], not {tensor.shape[:4]}", tensor.name)
    values = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in tensor.data]
    if len(values) != count:
        raise refused(422, f"it has {len(values)} values, and its shape says {count}", tensor.name)
    return values


def datatype(dtype: pl.DataType) -> str:
    """What the protocol calls a type. Times are texts, as they are in JSON."""
    if dtype == pl.Boolean:
        return "BOOL"
    if dtype.is_integer():
        return str(dtype).upper()
    if dtype == pl.Float32:
        return "FP32"
    return "FP64" if dtype.is_numeric() else "BYTES"


def _metadata(served: Served) -> dict[str, Any]:
    names = served.endpoint.model.examples.inputs
    columns = served.types["features"].columns
    contract = columns_of(served.endpoint.predictions.contract)
    outputs = {info.name: info.dtype for info in contract if info.name not in {*_STAMPED, *served.identity}} | {_VERSION: pl.Int64()}
    return {
        "name": served.name,
        "versions": _loaded(served),
        "platform": _PLATFORM,
        "inputs": [{"name": name, "datatype": datatype(columns[name]), "shape": [-1]} for name in names if name in columns],
        "outputs": [{"name": name, "datatype": datatype(dtype), "shape": [-1]} for name, dtype in outputs.items()],
    }


def _encode(served: Served, work: Work, answer: Answer, given: Inference, wanted: list[str]) -> bytes:
    rows = [row | {_VERSION: version} for row, (_, version) in zip(answer.predictions, answer.variants, strict=True)]
    if any(answer.features):
        rows = [row | {_FEATURES: said or None} for row, said in zip(rows, answer.features, strict=True)]
    names = wanted or dict.fromkeys(name for row in rows for name in row)  # a row has no column of its key that was not sent
    return JSON.encode(
        {
            "model_name": served.name,
            "model_version": str(answer.champion),
            "id": given.id or work.request_id,
            "parameters": {"request_id": work.request_id},
            "outputs": [_output(name, [row.get(name) for row in rows]) for name in names],
        }
    )


def _output(name: str, values: list[Any]) -> dict[str, Any]:
    there = [value for value in values if value is not None]
    if there and all(isinstance(value, bool) for value in there):
        kind = "BOOL"
    elif there and all(isinstance(value, int) for value in there):
        kind = "INT64"
    elif there and all(isinstance(value, int | float) for value in there):
        kind = "FP64"
    else:
        kind = "BYTES"
        values = [_text(value) for value in values]
    return {"name": name, "shape": [len(values)], "datatype": kind, "data": values}


def _text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if value is None or isinstance(value, str):
        return value
    return value.isoformat() if isinstance(value, date) else JSON.encode(value).decode()
