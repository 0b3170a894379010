"""Files in gzip or Zstandard, unpacked to disk within bounds, and the bounds of the zip archive that an XLSX workbook is.

What the unpacked bytes mean belongs to the reader of the format.
"""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lakehouse_assets.platform.ingestion.limits import Limits
from lakehouse_assets.platform.ingestion.refused import RefusedFile, not_whole
from lakehouse_assets.platform.ingestion.scratch import Scratch

Compression = Literal["gzip", "zstd"]

ENDINGS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
MAGIC: dict[Compression, bytes] = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}

_PIECE_BYTES = 1024 * 1024
_PACKED = (*ENDINGS, ".parquet", ".xlsx")
# How many bytes of text a byte of a packed file counts for. Of invoice lines it has: gzip 7, Zstandard 9, parquet 15, and XLSX 3, which is
# kept in memory.
_GROWTH = 10
# What zipfile and the decompressors raise for a damaged, encrypted or unknown archive.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
)


def estimated_text(paths: Sequence[str], sizes: Sequence[int], file_format: str | None = None) -> list[int]:
    """How many bytes of text files have, by their names and sizes alone: an estimate, right within a factor of about three.

    Args:
        paths: Of the files.
        sizes: On disk, in bytes.
        file_format: Of all files; None: each by the end of its name.
    """
    packed = f".{file_format}" in _PACKED
    return [size * _GROWTH if packed or path.lower().endswith(_PACKED) else size for path, size in zip(paths, sizes, strict=True)]


def unpack(path: Path, compression: Compression, scratch: Scratch, limits: Limits) -> Path:
    """Unpacks a file, all its members or frames in a row, to a scratch file of the same name.

    Raises:
        RefusedFile: The file is truncated, damaged, something else, or has bytes after its end; or it unpacks to more than the limits.
        OSError: The file cannot be opened, or the disk is full.
    """
    import pyarrow as pa

    target = scratch.file("unpacked", path.name)
    packed, unpacked = path.stat().st_size, 0
    with path.open("rb") as raw, target.open("xb") as file, pa.input_stream(raw, compression=compression) as stream:
        while piece := _read(path.name, compression, stream):
            unpacked += len(piece)
            check_growth(path.name, packed, unpacked, limits.unpacked, limits)
            file.write(piece)
    if not unpacked:
        raise RefusedFile(f"{path.name} is empty (0 bytes when unpacked). Land it again, complete.")
    return target


def _read(name: str, compression: Compression, stream: object) -> bytes:
    try:
        return stream.read(_PIECE_BYTES)  # type: ignore[attr-defined,no-any-return]
    except OSError as error:
        if error.errno is not None:
            raise
        raise not_whole(name, f"{compression} file", error) from error


def check_growth(name: str, packed: int, unpacked: int, most: int, limits: Limits) -> None:
    """Refuses a file that unpacks to more than `most` bytes, or to too many times its size.

    Args:
        name: The name of the file, for the message.
        packed: Its size in bytes.
        unpacked: The bytes unpacked so far.
        most: The limit on them.
        limits: The limit on the ratio.

    Raises:
        RefusedFile: It does.
    """
    if unpacked > most:
        reason = f"more than {most:,} bytes"
    elif unpacked > max(limits.harmless, limits.ratio * packed):
        reason = f"more than {limits.ratio} times its {packed:,} bytes"
    else:
        return
    raise RefusedFile(f"{name} unpacks to {reason}, as a zip bomb does. If it is meant to, land it in smaller files or unpacked.")


def check_workbook(path: Path, limits: Limits) -> None:
    """Reads through every part of an XLSX workbook, which is a zip archive, and refuses it if it is damaged or beyond the limits.

    The sizes that an archive declares can be wrong; so what is unpacked is counted too.

    Raises:
        RefusedFile: See above.
    """
    packed = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            check_growth(path.name, packed, sum(part.file_size for part in parts), limits.workbook, limits)
            unpacked = 0
            for part in parts:
                declared, part.file_size = part.file_size, limits.workbook + 1  # or it would stop reading at the declared size
                start = unpacked
                with archive.open(part) as content:
                    while piece := content.read(_PIECE_BYTES):
                        unpacked += len(piece)
                        check_growth(path.name, packed, unpacked, limits.workbook, limits)
                if unpacked - start != declared:
                    raise zipfile.BadZipFile(f"{part.filename} has {unpacked - start} bytes, not {declared}")
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise not_whole(path.name, "XLSX workbook", error) from error
