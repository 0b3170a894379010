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


def utf8_file(path: Path, encoding: str, scratch: Scratch) -> Path:
    """Gives the file itself when it is UTF-8, otherwise a scratch file with its content converted to UTF-8.

    Raises:
        RefusedFile: The content is not in `encoding`, or Python knows no such encoding.
    """
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


def pieces(path: Path, limits: Limits) -> Iterator[bytes]:
    r"""Reads UTF-8 in pieces that end with "\n" (the last one perhaps not), without a byte order mark.

    Raises:
        RefusedFile: A line is not UTF-8, holds a NUL byte, or is longer than the limit.
    """
    with path.open("rb") as file:
        start = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
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
    return RefusedFile(
        f"{name}: line {line} is not {error.encoding}: byte 0x{error.object[error.start]:02X} ({error.reason}). Convert the "
        f"file (if it is {guess}: iconv -f {guess} -t utf-8), or set the encoding of the feed."
    )
