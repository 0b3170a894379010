r"""JSON Lines (one JSON object a line) as records of text.

Numbers keep their digits as written, text comes out of its quotes, everything nested becomes compact JSON. A line that is not
one JSON object is kept whole in its note. Which keys have to be there is decided elsewhere.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse_assets.platform.ingestion.limits import Limits
from lakehouse_assets.platform.ingestion.records import Records, check_header, frame_of, note
from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets.platform.ingestion.scratch import Scratch
from lakehouse_assets.platform.ingestion.text import pieces


class _Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses an object that names a key twice: one of the two values would be lost."""
    result = dict(members)
    if len(result) < len(members):
        raise ValueError("a key appears twice in one object")
    return result


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number, object_pairs_hook=_unique)


def read_jsonl(path: Path, columns: Sequence[str], required: Sequence[Sequence[str]], scratch: Scratch, limits: Limits) -> Records:
    """Reads a file of one JSON object a line; blank lines are no records.

    A JSON null and an absent key are null. The note holds the keys that are not declared, or the whole line as `_line` if it
    is not one JSON object, names a key twice, is nested too deeply, or holds half a surrogate pair.

    Args:
        path: The file, in UTF-8.
        columns: The declared columns; they are the header of the records.
        required: Header variants, as for `check_header`; what counts as the header are the keys found in the file.
        scratch: Where the records of a large file go.
        limits: The limit on the length of a line.

    Raises:
        RefusedFile: No object in any line, no variant among the keys, or bytes that are not text.
    """
    keys: dict[str, None] = {}
    frame, count = frame_of(_rows(path, columns, limits, keys), len(columns), path.name, scratch)
    if count:
        if not keys:
            raise RefusedFile(f"{path.name}: no line is a JSON object with keys. JSON Lines hold one object a line.")
        check_header(path.name, list(keys), required)
    return Records(columns, frame, count, [key for key in keys if key not in columns])


def _rows(path: Path, columns: Sequence[str], limits: Limits, keys: dict[str, None]) -> Iterator[list[str | None]]:
    """Gives the declared values and the note of each line; collects every key that it meets in `keys`."""
    declared = frozenset(columns)
    for piece in pieces(path, limits):
        for line in piece.decode().split("\n"):
            if not line.strip():
                continue
            texts = _texts(line)
            if texts is None:
                yield [*[None] * len(columns), note({"_line": line.removesuffix("\r")})]
                continue
            if not texts.keys() <= keys.keys():
                keys.update(dict.fromkeys(texts))
            others = {} if texts.keys() <= declared else _undeclared(texts, declared)
            yield [*map(texts.get, columns), note(others) if others else None]


def _undeclared(texts: Mapping[str, str | None], declared: frozenset[str]) -> dict[str, str]:
    return {key: text for key, text in texts.items() if key not in declared and text is not None}


def _texts(line: str) -> dict[str, str | None] | None:
    """Renders the members of the object on a line; None if it is not one object, or nested too deeply, or not text."""
    try:
        value = _DECODER.decode(line)
        if not isinstance(value, dict):
            return None
        texts = {key: member if member is None or isinstance(member, str) else _json(member) for key, member in value.items()}
        if "\\u" in line:
            note(texts).encode()  # half a surrogate pair cannot be encoded
    except (ValueError, RecursionError):
        return None
    return texts


def _json(value: Any) -> str:
    if isinstance(value, _Number):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json(key)}:{_json(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
