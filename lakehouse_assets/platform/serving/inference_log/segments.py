"""One segment: a file that begins with the marker of its frames and the fields of its records, and goes on with records.

How a record stands in it is in `records`, where segments lie in `places`, who appends to them in `spool`.
"""

import os
import tempfile
from pathlib import Path
from typing import Final

from lakehouse_assets.platform.serving.inference_log.places import Place
from lakehouse_assets.platform.serving.inference_log.records import MARKER_BYTES, Record, Unreadable, fields_frame, frames, read

_MAGIC: Final = b"LHSPOOL1"
_HEADER_BYTES: Final = len(_MAGIC) + MARKER_BYTES


def create_segment(place: Place, number: int) -> tuple[int, bytes]:
    """Begin a segment: its descriptor, and the marker of its frames. The marker is random, so that no record can hold a false frame.

    Raises:
        OSError: It cannot be made; there is nothing of it.
    """
    path, marker = place.path(number), os.urandom(MARKER_BYTES)
    # Under its name it is whole: who drains takes the segment before it for closed.
    part = path.with_suffix(".part")
    beginning = _MAGIC + marker + fields_frame(marker)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        if os.write(descriptor, beginning) != len(beginning):
            raise OSError("the disk is full")  # noqa: TRY301 as if the system had said so
        part.rename(path)
    except OSError:
        os.close(descriptor)
        part.unlink(missing_ok=True)
        raise
    return descriptor, marker


def read_segment(path: Path, unreadable: Unreadable | None = None) -> list[tuple[str, Record]]:
    """The records of a segment, each with its table. One that ended before its header has none.

    Args:
        path: Of the segment.
        unreadable: Is given what cannot be read of it.
    """
    content = path.read_bytes()
    marker, rest = content[len(_MAGIC) : _HEADER_BYTES], content[_HEADER_BYTES:]
    return list(read(marker, rest, unreadable)) if rest else []


def keep_unreadable(path: Path, unreadable: Unreadable, folder: Path, name: str) -> None:
    """Keep what cannot be read of a segment in a file, which a release that understands it reads as a segment.

    Args:
        path: Of the segment.
        unreadable: What it is.
        folder: Where it is kept; nothing is ever deleted there.
        name: Of the file.
    """
    with path.open("rb") as segment:
        header = segment.read(_HEADER_BYTES)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, part = tempfile.mkstemp(dir=folder, prefix=".")
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"".join((header, unreadable.fields, *unreadable.frames)))
        file.flush()
        os.fsync(descriptor)
    Path(part).replace(folder / name)


def keep_unreadable_record(path: Path, table: str, record: Record, folder: Path, name: str) -> None:
    """Keep a record of a segment that is no row of its table in a file; see `keep_unreadable`."""
    with path.open("rb") as segment:
        marker = segment.read(_HEADER_BYTES)[len(_MAGIC) :]
    keep_unreadable(path, Unreadable(fields_frame(marker), frames(marker, [(table, record)])), folder, name)
