"""Who answers a row: the champion, or for a share of the keys the challenger. A key is always answered by the same one of the two."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import xxhash

_ENCODE: Final = msgspec.msgpack.Encoder(enc_hook=str).encode
_ALL: Final = 2**64


def is_challenged(endpoint: str, key: Mapping[str, Any], by: Sequence[str], share: float) -> bool:
    """Whether a key is one of those that the challenger answers. It depends on nothing but the arguments.

    Args:
        endpoint: Its name, so that two endpoints split differently.
        key: The values of a row.
        by: The columns that count.
        share: Of all keys, from 0 to 1.
    """
    if not share:
        return False
    number = xxhash.xxh3_64_intdigest(_ENCODE([endpoint, *(key.get(name) for name in by)]))
    return number < share * _ALL
