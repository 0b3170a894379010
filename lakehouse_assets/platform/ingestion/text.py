"""Text files as checked UTF-8 bytes, in pieces that end where a line ends.

Encodings, byte order marks and NUL bytes are dealt with here; what the lines mean belongs to the reader of the format.
"""

import codecs
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from lakehouse_assets.platform.ingestion.refused import RefusedFile

_PIECE_BYTES = 1024 * 1024


def utf8_source(path: Path, encoding: str) -> Path | bytes:
    """Gives the file itself when it is UTF-8, otherwise its whole content converted to UTF-8, in memory.

    Raises:
        RefusedFile: The content is not in `encoding`.
        LookupError: Python knows no such encoding.
    """
    if codecs.lookup(encoding).name in {"utf-8", "utf-8-sig"}:
        return path
    content = path.read_bytes()
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, errors="ignore").count("\n") + 1
        raise _wrong_encoding(path.name, line, error) from error
    return text.encode().removeprefix(codecs.BOM_UTF8)


def pieces(name: str, source: Path | bytes) -> Iterator[bytes]:
    r"""Reads UTF-8 in pieces that end with "\n" (the last one perhaps not), without a byte order mark.

    Args:
        name: The name of the file, for messages.
        source: What `utf8_source` gave.

    Raises:
        RefusedFile: A line is not UTF-8 or holds a NUL byte.
    """
    line = 1
    with source.open("rb") if isinstance(source, Path) else BytesIO(source) as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        while piece := file.read(_PIECE_BYTES) + file.readline():
            _check(name, piece, line)
            line += piece.count(b"\n")
            yield piece


def _check(name: str, piece: bytes, line: int) -> None:
    if not piece.isascii():
        try:
            piece.decode()
        except UnicodeDecodeError as error:
            raise _wrong_encoding(name, line + piece.count(b"\n", 0, error.start), error) from error
    nul = piece.find(0)
    if nul >= 0:
        line += piece.count(b"\n", 0, nul)
        raise RefusedFile(
            f"{name}: line {line} holds a NUL byte, so the file is damaged, no text, or UTF-16. "
            "Land it again as UTF-8 text, or set the encoding of the feed."
        )


def _wrong_encoding(name: str, line: int, error: UnicodeDecodeError) -> RefusedFile:
    guess = "utf-16" if error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "windows-1252"
    return RefusedFile(
        f"{name}: line {line} is not {error.encoding}: byte 0x{error.object[error.start]:02X} ({error.reason}). Convert the "
        f"file (if it is {guess}: iconv -f {guess} -t utf-8), or set the encoding of the feed."
    )
