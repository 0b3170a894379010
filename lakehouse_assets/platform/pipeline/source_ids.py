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
    return at is not None and at != number_of(source)


def why_unreadable(stored: Table, source: Table) -> str | None:
    """Why a table cannot go on from where it read a source, as a sentence that names the command; None: it can, or never read it."""
    at, made_anew = stored.cursor(source.name), is_another(stored, source)
    if at is None:
        begun = f"{stored.name} has read a part of {source.name}, which was deleted and created again since"
        return f"{begun}. `{remedy(stored)}` computes it from what {source.name} has now" if made_anew else None
    now = source.version()
    if now >= at and not made_anew:
        return None
    # Of the same table, or one that is not known to be another, the end of the log may have been lost as well.
    became = "was deleted and created again" + ("" if made_anew else ", or lost its newest versions,")
    return (
        f"{stored.name} has read {source.name} up to version {at}, and {source.name} {became} since: it is at version {now}. "
        f"`{remedy(stored)}` computes it from what {source.name} has now"
    )


def remedy(stored: Table) -> str:
    """The command that computes a table from sources that are others now; its versions, history and id stay."""
    return f"lakehouse run {stored.name} --full-refresh"


def cursors(stored: Table, sources: Iterable[Table]) -> tuple[Cursor, ...]:
    """What a commit says of the Delta tables that were read; nothing of those that the table names already.

    Args:
        stored: The table.
        sources: That were read.
    """
    marks = [(stored.cursor(name_of(source.name)), source) for source in sources]
    return tuple(Cursor(name_of(source.name), at, number) for at, source in marks if (number := number_of(source)) != at)


def left(stored: Table, cursors: Iterable[Cursor]) -> tuple[Cursor, ...]:
    """What of some watermarks a commit has still to say, where one before it may have said which Delta tables were read."""
    return tuple(one for one in cursors if not one.source.startswith(f"{SOURCE_ID}/") or stored.cursor(one.source) != one.after)


def number_of(source: Table) -> int:
    """The id as a watermark: 62 bits of it."""
    digest = blake2b(str(source.now().metadata().id).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 2
