"""Rows that are pushed to a feed: what is wrong with them, by row and field, and how they stand in a file of the feed.

Every file that is made here is one that the feed takes. Durability is the business of `outbox`, the request that of `ingest`.
"""

import difflib
import json
import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.header import Expected
from lakehouse_assets.platform.ingestion.jsonl import decoded
from lakehouse_assets.platform.serving.outbox_store import PushedRow
from lakehouse_assets.platform.serving.refused import FieldError, Refused

MOST_ROWS: Final = 10_000
MOST_BYTES_OF_A_ROW: Final = 1_000_000
MOST_ERRORS: Final = 20
_LONGEST_ID = 200
_ENDINGS = {"jsonl": ".jsonl", "csv": ".csv"}
_NOT_IN_CSV = re.compile("[\0\r]")


class _Enveloped(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[msgspec.Raw]


class FeedRows:
    """The rows of one feed.

    Args:
        feed: The feed.

    Raises:
        ValueError: Rows cannot be pushed to this feed; the text says why.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._format = feed.format or "jsonl"
        _check(feed, self._format)
        self._expected = Expected(feed.columns, feed.headers)
        self._encoding = feed.encoding or "utf-8"

    def row(self, number: int, raw: msgspec.Raw, key: str | None, errors: list[FieldError]) -> PushedRow | None:
        """A row that can be landed; None if something is wrong with it, which is added to `errors`."""
        before = len(errors)
        if len(raw) > MOST_BYTES_OF_A_ROW:
            errors.append(FieldError(f"row {number} has {len(raw):,} bytes; at most {MOST_BYTES_OF_A_ROW:,} are taken", None, number))
            return None
        try:
            text = msgspec.json.format(bytes(raw), indent=-1).decode()
            members = decoded(text)
        except (ValueError, RecursionError) as error:
            why = "is nested too deeply" if isinstance(error, RecursionError) else f"is no row: {error}"
            errors.append(FieldError(f"row {number} {why}", None, number))
            return None
        names = self._expected.recognised(list(members))
        self._check_names(number, names, errors)
        self._check_values(number, members, errors)
        meant = dict(zip(names, members.values(), strict=True))
        identity = self._id(number, meant, key, errors)
        if len(errors) > before:
            return None
        same_in_any_order = json.dumps(sorted(meant.items())).encode()
        return PushedRow(identity, blake2b(same_in_any_order, digest_size=16).digest(), _named(text, names))

    def _check_names(self, number: int, names: Sequence[str], errors: list[FieldError]) -> None:
        if not self._expected.fits(names):
            closest = min(self.feed.headers, key=lambda header: len(set(header).difference(names)))
            unknown = [name for name in names if name not in self.feed.columns]
            errors += [FieldError(f"row {number} {_lacks(name, unknown)}", name, number) for name in closest if name not in names]
            if len(set(names)) < len(names):
                errors.append(FieldError(f"row {number} has two fields that mean one column", None, number))
        if self._format == "csv" or self.feed.new_columns == "refuse":
            for name in names:
                if name not in self.feed.columns:
                    known = ", ".join(self.feed.columns)
                    errors.append(FieldError(f"row {number}: the feed has no column {name!r}; it has {known}", name, number))

    def _check_values(self, number: int, members: dict[str, str | None], errors: list[FieldError]) -> None:
        for name, value in members.items():
            try:
                f"{name}{value or ''}".encode(self._encoding)
            except (UnicodeEncodeError, LookupError):
                errors.append(FieldError(f"row {number}: {name!r} has a character that {self._encoding} lacks", name, number))
            if self._format == "csv" and value is not None and _NOT_IN_CSV.search(value):
                errors.append(FieldError(f"row {number}: {name!r} has a carriage return or a NUL, which CSV cannot carry", name, number))

    def _id(self, number: int, meant: dict[str, str | None], key: str | None, errors: list[FieldError]) -> str:
        column = self.feed.row_id
        if column is None:
            if not key:
                text = "rows need an id: send the header Idempotency-Key, or declare the feed with row_id=COLUMN"
                errors.append(FieldError(text, "Idempotency-Key"))
            elif len(key) > _LONGEST_ID:
                errors.append(FieldError(f"the Idempotency-Key has more than {_LONGEST_ID} characters", "Idempotency-Key"))
            return f"{key}/{number}"
        if not (value := meant.get(column)) or len(value) > _LONGEST_ID:
            text = f"row {number}: {column!r} tells rows apart: it needs a value of at most {_LONGEST_ID} characters"
            errors.append(FieldError(text, column, number))
        return value or ""

    # --- files

    def file_name(self, store: str, number: int) -> str:
        """The name of a file, from the id of the store and the file's number."""
        return _file_name(store, number, self._format)

    def content(self, number: int, rows: Sequence[str]) -> bytes:
        """The bytes of a file, from its number and the contents of its rows."""
        text = self._csv(rows) if self._format == "csv" else "\n".join([*rows, _blank_line(number), ""])
        return text.encode(self._encoding)

    def _csv(self, rows: Sequence[str]) -> str:
        columns = self.feed.columns if self.feed.has_header else self.feed.headers[0]
        separator = self.feed.separator or ","
        lines = [separator.join(map(_quoted, columns))] if self.feed.has_header else []
        for row in rows:
            members = decoded(row)
            named = dict(zip(self._expected.recognised(list(members)), members.values(), strict=True))
            lines.append(separator.join(_quoted(named.get(column)) for column in columns))
        return "\n".join([*lines, ""])


def _lacks(name: str, unknown: Sequence[str]) -> str:
    """What to do about a field that a row has not, perhaps because it spells the name otherwise."""
    spelled = {one.casefold(): one for one in unknown}
    near = difflib.get_close_matches(name.casefold(), spelled, 1)
    return f"lacks the field {name!r}; " + (
        f"it has {spelled[near[0]]!r}: write that as {name!r}" if near else "send null if there is no value"
    )


def _named(text: str, names: Sequence[str]) -> str:
    """A row under the names that its own mean: among other rows of a file one could mean something else."""
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return text if [*members] == names else msgspec.json.encode(dict(zip(names, members.values(), strict=True))).decode()


def _check(feed: Feed, form: str) -> None:
    """Refuse a feed to which rows cannot be pushed.

    Raises:
        ValueError: The text says why.
    """
    why = None
    if form not in _ENDINGS:
        why = f"its files are {form}, and rows are landed as JSON Lines or CSV"
    elif feed.snapshot:
        why = "each of its files is the whole of what it tells of: land whole files"
    elif not feed.takes(_file_name("0" * 12, 1, form)):
        why = f"no file that the service makes, as {_file_name('0' * 12, 1, form)}, fits its pattern {feed.pattern}"
    elif form == "csv" and feed.row_id is None and feed.identity == "content":
        why = "two CSV files of equal rows would count as one: declare it with row_id=COLUMN, or identity='name'"
    if why is not None:
        raise ValueError(f"rows cannot be pushed to the feed {feed.name}: {why}")


def _file_name(store: str, number: int, form: str) -> str:
    return f"pushed-{store}-{number:010d}{_ENDINGS[form]}"


def _blank_line(number: int) -> str:
    """A line of blanks that is of one file alone: equal rows with other ids are no duplicate of a file that was read before."""
    return f"{number:b}".replace("0", " ").replace("1", "\t")


def _quoted(value: str | None) -> str:
    """A field of CSV: an empty one is null, a quoted one is text."""
    return "" if value is None else '"' + value.replace('"', '""') + '"'


def split_rows(body: bytes) -> list[msgspec.Raw]:
    """The rows of a request, each as its text.

    Raises:
        Refused: There are none, too many, or it is no JSON.
    """
    try:
        body.decode()
        rows = _split(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, [FieldError(f"the body is no JSON of rows: {error}")]) from error
    if not rows:
        raise Refused(422, [FieldError("there is no row in the body: send an array of objects, or one object a line")])
    if len(rows) > MOST_ROWS:
        raise Refused(413, [FieldError(f"there are {len(rows):,} rows; send at most {MOST_ROWS:,} at once")])
    return rows


def _split(body: bytes) -> list[msgspec.Raw]:
    text = body.strip()
    if text.startswith(b"["):
        return msgspec.json.decode(text, type=list[msgspec.Raw])
    try:
        return msgspec.json.decode(text, type=_Enveloped).rows
    except msgspec.DecodeError:
        return [msgspec.Raw(line) for line in text.split(b"\n") if line.strip()]
