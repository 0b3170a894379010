"""What the service's own protocol answers: a prediction for each row, who made it, and which features were not as they should be."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from lakehouse_assets.platform.serving.forecasts import Newest
from lakehouse_assets.platform.serving.scorer import Champion
from lakehouse_assets.platform.serving.work import Answer, Work

JSON: Final = msgspec.json.Encoder(enc_hook=str)


def encode(work: Work, answer: Answer) -> bytes:
    """The body of an answer to rows."""
    predictions = []
    for number, prediction in enumerate(answer.predictions):
        variant, version = answer.variants[number]
        said: dict[str, Any] = {**prediction, "model_version": version, "variant": variant}
        if answer.features[number]:
            said["features"] = answer.features[number]
        if answer.contributions is not None:
            said["contributions"] = answer.contributions[number]
        predictions.append(said)
    return JSON.encode({"request_id": work.request_id, "model_name": answer.model_name, "predictions": predictions})


def encode_newest(request_id: str, champion: Champion, newest: Newest, found: Sequence[Sequence[Mapping[str, Any]]]) -> bytes:
    """The body of an answer to keys: for each key its rows of the newest predictions, one list of all."""
    rows = [{**row, "model_version": champion.version, "variant": "champion"} for rows in found for row in rows]
    said = {"request_id": request_id, "model_name": champion.name, "predictions": rows}
    return JSON.encode(said | ({} if newest.as_of is None else {"as_of": newest.as_of}))
