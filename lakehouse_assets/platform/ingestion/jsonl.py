r"""JSON as records of text: one object a line (JSON Lines), or one array of objects.

Numbers keep their digits as written, text comes out of its quotes, everything nested becomes compact JSON. What is not one JSON object is
kept whole in its note. Which keys have to be there is decided elsewhere.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse_assets.platform.ingestion.header import Expected
from lakehouse_assets.platform.ingestion.limits import Limits
from lakehouse_assets.platform.ingestion.records import Records, frame_of, note
from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets.platform.ingestion.scratch import Scratch
from lakehouse_assets.platform.ingestion.text import pieces

_WHITE = " \t\r\n"
_NO_OBJECT = "no JSON object"
# Records whose reasons are told if none can be read.
_SHOWN = 3


class _Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses an object that names a key twice: one of the two values would be lost."""
    result = dict(members)
    if len(result) < len(members):
        raise ValueError("an object that names a key twice")
    return result


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number, object_pairs_hook=_unique)
_ANY = json.JSONDecoder(parse_int=str, parse_float=str)


def read_jsonl(path: Path, expected: Expected, scratch: Scratch, limits: Limits) -> Records:
    """Reads a file of one JSON object a line, in which blank lines are no records, or one array of objects.

    A JSON null and an absent key are null. The note holds the keys that are not declared as `_columns`, or the whole line or element as
    `_line` if it is not one JSON object, names a key twice, is nested too deeply, or holds half a surrogate pair.

    Args:
        path: The file, in UTF-8.
        expected: The declared columns; they are the header of the records. What counts as the header of the file are the keys found in it.
        scratch: Where the records of a large file go.
        limits: The limits on the length of a line, which is that of an array too, and the number of keys.

    Raises:
        RefusedFile: No object in any line, no variant among the keys, or bytes that are not text.
    """
    keys = _Keys(expected, limits.columns)
    elements = _elements(path, limits)
    frame, count = frame_of(_rows(_lines(path, limits) if elements is None else elements, keys), len(expected.columns), path.name, scratch)
    if count:
        if not keys.names:
            raise RefusedFile(
                f"{path.name}: no line is a JSON object with keys: {_reasons(_lines(path, limits))}. Land one object a line (JSON Lines), "
                f"or one array of objects of at most {limits.line:,} bytes."
            )
        expected.check(path.name, list(keys.names))
    return Records(expected.columns, frame, count, [name for name in keys.names if name not in keys.declared])


class _Keys:
    """The keys met so far, by the names of their columns.

    Attributes:
        columns: The declared ones.
        declared: The same, as a set.
        names: In the order in which they came. Of undeclared ones, only as many as a file may have columns.
    """

    def __init__(self, expected: Expected, most: int) -> None:
        self.columns = tuple(expected.columns)
        self.declared = frozenset(expected.columns)
        self.names: dict[str, None] = {}
        self._expected, self._most = expected, most
        self._known: set[str] = set()
        self._other: dict[str, str] = {}

    def named(self, texts: dict[str, str | None]) -> dict[str, str | None]:
        """The members of one object under the names of columns."""
        if not texts.keys() <= self._known:
            self._learn(texts)
        if not self._other or self._other.keys().isdisjoint(texts):
            return texts
        named: dict[str, str | None] = {}
        for key, text in texts.items():
            name = self._other.get(key, key)
            named[key if name in named or name in texts else name] = text  # two keys that mean one column: the second keeps its name
        return named

    def _learn(self, texts: Mapping[str, str | None]) -> None:
        names = self._expected.recognised(list(texts))
        for key, name in zip(texts, names, strict=True):
            if name in self.declared or len(self.names) <= self._most:
                self._known.add(key)
                self.names.setdefault(name)
                if name != key:
                    self._other[key] = name


def _rows(texts: Iterator[str], keys: _Keys) -> Iterator[list[str | None]]:
    """Gives the declared values and the note of each object."""
    columns, declared = keys.columns, keys.declared
    for text in texts:
        members = _members(text)
        if members is None:
            yield [*[None] * len(columns), note({"_line": text})]
            continue
        members = keys.named(members)
        others = {} if members.keys() <= declared else _undeclared(members, declared)
        yield [*map(members.get, columns), note({"_columns": others}) if others else None]


def _lines(path: Path, limits: Limits) -> Iterator[str]:
    for piece in pieces(path, limits):
        for line in piece.decode().split("\n"):
            if line.strip():
                yield line.removesuffix("\r")


def _elements(path: Path, limits: Limits) -> Iterator[str] | None:
    """The elements of the array that a file is, as they are written; None if it is none, or has no object in it."""
    with path.open("rb") as file:
        beginning = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not beginning.startswith(b"[") or path.stat().st_size > limits.line:
        return None
    text = b"".join(pieces(path, limits)).decode()
    has_object = False
    try:
        for element in _split(text):
            has_object |= element.startswith("{")
    except (ValueError, RecursionError):
        return None
    return _split(text) if has_object else None


def _split(text: str) -> Iterator[str]:
    """The elements of an array.

    Raises:
        ValueError, RecursionError: The text is not one array.
    """
    position = _after_white(text, text.index("[") + 1)
    while text[position : position + 1] != "]":
        _, end = _ANY.raw_decode(text, position)
        yield text[position:end]
        position = _after_white(text, end)
        if text[position : position + 1] == ",":
            position = _after_white(text, position + 1)
        elif text[position : position + 1] != "]":
            raise ValueError("neither a comma nor the end of the array")
    if text[position + 1 :].strip():
        raise ValueError("more after the end of the array")


def _after_white(text: str, position: int) -> int:
    while position < len(text) and text[position] in _WHITE:
        position += 1
    return position


def _undeclared(texts: Mapping[str, str | None], declared: frozenset[str]) -> dict[str, str]:
    return {key: text for key, text in texts.items() if key not in declared and text is not None}


def _members(text: str) -> dict[str, str | None] | None:
    """The members of an object; None if the text is not one that can be read."""
    try:
        return decoded(text)
    except (ValueError, RecursionError):
        return None


def decoded(text: str) -> dict[str, str | None]:
    """The members of an object, as they stand in bronze: numbers as they are written, everything nested as compact JSON.

    Raises:
        ValueError: The text is not one object, names a key twice, or is not text.
        RecursionError: It is nested too deeply.
    """
    value = _DECODER.decode(text)
    if not isinstance(value, dict):
        raise ValueError(_NO_OBJECT)  # noqa: TRY004 of the text
    texts = {key: member if member is None or isinstance(member, str) else _json(member) for key, member in value.items()}
    if "\\u" in text:
        note(texts).encode()  # half a surrogate pair cannot be encoded
    return texts


def _reasons(lines: Iterator[str]) -> str:
    """Why the first lines are not read; it quotes nothing of them, which may be personal data."""
    first = enumerate(itertools.islice(lines, _SHOWN), start=1)
    return "; ".join(f"record {number} is {_reason(line)}" for number, line in first)


def _reason(line: str) -> str:
    try:
        return _NO_OBJECT if decoded(line) else "an object without keys"
    except RecursionError:
        return "nested too deeply"
    except json.JSONDecodeError as error:
        return f"no JSON ({error.msg} at character {error.pos + 1})"
    except UnicodeEncodeError:
        return "an object with half a surrogate pair (\\ud800 to \\udfff)"
    except ValueError as error:
        return str(error)


def _json(value: Any) -> str:
    if isinstance(value, _Number):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json(key)}:{_json(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
