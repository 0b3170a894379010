"""Whether a source is still the Delta table that a table has read.

One that was deleted and created again has another id, and other rows under versions of the same numbers: its watermark means nothing then.
How far a source was read is in `batch`.
"""

from collections.abc import Iterable
from hashlib import blake2b

from lakehouse_assets.platform.pipeline.marks import SOURCE_ID
from lakehouse_assets.platform.storage.commit import Cursor
from lakehouse_assets.platform.storage.table import Table


def name_of(source: str) -> str:
    """The watermark that tells which Delta table of a source was read."""
    return f"{SOURCE_ID}/{source}"


def is_another(stored: Table, source: Table) -> bool:
    """Whether a table has read another Delta table under the name of a source. Tables that never said which are believed."""
    at = stored.cursor(name_of(source.name))
    return at is not None and at != _number(source)


def cursors(stored: Table, sources: Iterable[Table]) -> tuple[Cursor, ...]:
    """What a commit says of the Delta tables that were read; nothing of those that the table names already."""
    marks = [(stored.cursor(name_of(source.name)), source) for source in sources]
    return tuple(Cursor(name_of(source.name), at, number) for at, source in marks if (number := _number(source)) != at)


def _number(source: Table) -> int:
    """The id as a watermark: 62 bits of it."""
    digest = blake2b(str(source.now().metadata().id).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 2
