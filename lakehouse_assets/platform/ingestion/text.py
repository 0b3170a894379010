"""Text files as checked UTF-8 bytes, in pieces that end where a line ends.

Encodings, byte order marks, NUL bytes and overlong lines are dealt with here; what the lines mean belongs to the reader of the format.
"""

import codecs
from collections.abc import Iterator
from pathlib import Path

from lakehouse_assets.platform.ingestion.limits import Limits
from lakehouse_assets.platform.ingestion.refused import RefusedFile
from lakehouse_assets.platform.ingestion.scratch import Scratch

_PIECE_BYTES = 512 * 1024  # a piece and what numpy makes of it stay in the processor's cache
_SNIFFED_BYTES = 32
# The longer marks first: that of UTF-32 begins as that of UTF-16 does.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def utf8_file(path: Path, encoding: str | None, scratch: Scratch) -> Path:
    """Gives the file itself when it is UTF-8, otherwise a scratch file with its content converted to UTF-8.

    Args:
        path: The file.
        encoding: A Python codec; None: what its first bytes say (`_sniffed`), else UTF-8.
        scratch: Where a converted file goes.

    Raises:
        RefusedFile: The content is not in `encoding`, or Python knows no such encoding.
    """
    encoding = _sniffed(path) if encoding is None else encoding
    decoder = _decoder(path.name, encoding)
    if decoder is None:
        return path
    target = scratch.file("utf-8", path.name)
    line = 1
    with path.open("rb") as source, target.open("xb") as file:
        while True:
            piece = source.read(_PIECE_BYTES)
            try:
                text = decoder.decode(piece, final=not piece)
                converted = text.encode()
            except UnicodeDecodeError as error:
                line += error.object[: error.start].decode(encoding, errors="ignore").count("\n")
                raise _wrong_encoding(path.name, line, error) from error
            except UnicodeError as error:
                raise RefusedFile(f"{path.name}: line {line} is not {encoding} ({error}). Set the encoding of the feed.") from error
            line += text.count("\n")
            file.write(converted)
            if not piece:
                return target


def _sniffed(path: Path) -> str:
    """The encoding that a byte order mark tells, or NUL bytes in the place of one half of each of the first characters; else UTF-8."""
    with path.open("rb") as file:
        beginning = file.read(_SNIFFED_BYTES)
    for mark, encoding in _MARKS.items():
        if beginning.startswith(mark):
            return encoding
    # The first line of a table has ASCII characters and no NUL: in UTF-8 each of these would be refused.
    first, second = beginning[:-1:2], beginning[1::2]
    if len(first) > 1 and not any(second) and all(first):
        return "utf-16-le"
    if len(first) > 1 and not any(first) and all(second):
        return "utf-16-be"
    return "utf-8"


def _decoder(name: str, encoding: str) -> codecs.IncrementalDecoder | None:
    """Gives what decodes `encoding`, or None for UTF-8."""
    try:
        if codecs.lookup(encoding).name in {"utf-8", "utf-8-sig"}:
            return None
        b"a".decode(encoding, errors="ignore")  # refuses codecs that are no text encodings
        return codecs.getincrementaldecoder(encoding)()
    except (LookupError, ValueError) as error:
        raise RefusedFile(
            f"{name}: {encoding!r} is no text encoding that Python knows. Set the encoding of the feed to a known one, such as utf-8, "
            "cp1252 or utf-16."
        ) from error


def pieces(path: Path, limits: Limits, skip: int = 0) -> Iterator[bytes]:
    r"""Reads UTF-8 in pieces that end with "\n" (the last one perhaps not), without a byte order mark and so many bytes after it.

    Raises:
        RefusedFile: A line is not UTF-8, holds a NUL byte, or is longer than the limit.
    """
    with path.open("rb") as file:
        start = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
        start += skip
        file.seek(start)
        while piece := file.read(min(_PIECE_BYTES, limits.line)):
            # A piece that the file ends with needs no newline; a line that goes on gets as much as a line may have.
            if not piece.endswith(b"\n") and (more := file.readline(limits.line)):
                piece += more
                if len(piece) - piece.rfind(b"\n", 0, -1) - 1 > limits.line:
                    line = _line(path, start + len(piece) - 1)
                    raise RefusedFile(
                        f"{path.name}: line {line} is longer than {limits.line:,} bytes, so the file is damaged, no text, or has other "
                        "line ends. Land it again with a line a record."
                    )
            _check(path, piece, start)
            start += len(piece)
            yield piece


def _line(path: Path, end: int) -> int:
    """The line that holds the byte before `end`; 1 is the first."""
    line = 1
    with path.open("rb") as file:
        while end > 0 and (piece := file.read(min(end, _PIECE_BYTES))):
            line += piece.count(b"\n")
            end -= len(piece)
    return line


def _check(path: Path, piece: bytes, start: int) -> None:
    if not piece.isascii():
        try:
            piece.decode()
        except UnicodeDecodeError as error:
            raise _wrong_encoding(path.name, _line(path, start + error.start), error) from error
    nul = piece.find(0)
    if nul >= 0:
        raise RefusedFile(
            f"{path.name}: line {_line(path, start + nul)} holds a NUL byte, so the file is damaged, no text, or UTF-16. "
            "Land it again as UTF-8 text, or set the encoding of the feed."
        )


def _wrong_encoding(name: str, line: int, error: UnicodeDecodeError) -> RefusedFile:
    guess = "utf-16" if error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "windows-1252"
    codec = {"utf-16": "utf-16", "windows-1252": "cp1252"}[guess]
    return RefusedFile(
        f"{name}: line {line} is not {error.encoding}: byte 0x{error.object[error.start]:02X} ({error.reason}). If the file is {guess}, "
        f"declare encoding={codec!r} in the feed, or convert it: iconv -f {guess} -t utf-8. If only some lines are, land it again in one "
        "encoding."
    )
