"""The service's own protocol: `POST /endpoints/NAME` with events, full rows of features, or keys.

`{"rows": [{…}, …]}` are events, and so is one event by itself; `{"features": […]}` are full rows, of which nothing is looked up;
`{"keys": […]}` names events that are stored, or what is forecast.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from lakehouse_assets.platform.serving.door import Door, RequestContext
from lakehouse_assets.platform.serving.http import Receive, Scope, parameters, read_body
from lakehouse_assets.platform.serving.refused import refused
from lakehouse_assets.platform.serving.rows import malformed
from lakehouse_assets.platform.serving.served import Served

_PARTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FORMS: Final = ("rows", "features", "keys")
PARAMETERS: Final = ("explain", "dry_run")
"""What an address may say besides the endpoint."""
_YES, _NO = ("true", "1"), ("false", "0")


async def score(door: Door, name: str, scope: Scope, receive: Receive, asked: RequestContext) -> bytes:
    """The body of an answer.

    Raises:
        Refused: The request cannot be answered.
    """
    served = door.endpoint(name)
    given = parameters(scope, PARAMETERS)
    asked.explain, asked.dry_run = (_is_set(name, given.get(name)) for name in PARAMETERS)
    if asked.explain:
        door.caller(scope, "features")  # contributions say what features are
    form, content = _form(await read_body(scope, receive, door.limits), served)
    kind = served.types.get(form)
    if kind is None:
        raise refused(422, f'{served.name} is asked by keys: send {{"keys": [{{…}}]}}', form)
    rows = kind.read(content)
    if form == "keys":
        return await door.by_keys(served, rows, asked)
    return await door.score(served, "rows" if form == "rows" else "features", rows, asked)


def _form(body: bytes, served: Served) -> tuple[str, bytes | msgspec.Raw]:
    """What the rows of a body are, and the array of them."""
    try:
        parts = _PARTS.decode(body)
    except msgspec.ValidationError:
        raise refused(422, 'send one JSON object: an event, or {"rows": […]}, {"features": […]} or {"keys": […]}') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None
    given = [form for form in _FORMS if form in parts]
    if given and not any(form in kind.columns for form in given for kind in served.types.values()):
        if len(parts) > 1:
            other = next(name for name in parts if name != given[0])
            raise refused(422, f"{given[0]} stands alone in a request: leave {other[:100]!r} out", other[:100])
        return given[0], parts[given[0]]
    return ("keys" if served.endpoint.by_keys else "rows"), b"[" + body + b"]"


def _is_set(name: str, values: Sequence[str] | None) -> bool:
    """Whether the address says `?NAME=true`."""
    if values is None:
        return False
    value = values[-1].lower()
    if value not in {*_YES, *_NO}:
        raise refused(422, f"{name}={value[:20]!r}: write {name}=true or {name}=false", name)
    return value in _YES
