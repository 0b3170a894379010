"""The word `feed`: the bronze table of the files that a source system drops. How files are read belongs to ingestion."""

import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, owner_of, require_distinct, require_once
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.ingestion.header import can_be_a_column

# A folder of the landing zone and of the archive, a value of the landing log and a word of the command line.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class FeedDeclaration(Declaration):
    """The bronze table of a feed."""

    feed: Feed

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_name()
        self._check_headers()

    def _check_name(self) -> None:
        if not _PLAIN.fullmatch(self.feed.name):
            raise DeclarationError(
                f"{self.name}: the feed {self.feed.name!r} is no plain name of a folder: write letters, digits, - and _, with a letter or "
                "digit in front, as in Feed('invoices', …)"
            )

    def _check_headers(self) -> None:
        where = f"{self.name}: feed {self.feed.name}"
        headers: Any = self.feed.headers
        if isinstance(headers, str) or any(isinstance(header, str) for header in headers):
            raise DeclarationError(
                f"{where}: headers={headers!r}: write a tuple of headers, each a tuple of columns, as in (('id', 'name'),)"
            )
        if not headers or not all(headers):
            raise DeclarationError(f"{where}: headers={headers!r} names no column, so any file would fit: name those that a file must have")
        for header in headers:
            require_once(where, "a header", header)
        require_once(where, "optional", self.feed.optional)
        for column in self.feed.columns:
            if not can_be_a_column(column):
                raise DeclarationError(
                    f"{where}: the column {column!r} cannot be one of bronze, whose own begin with _, and whose names are not blank and "
                    "hold no control character, backtick or pattern: leave it out of headers and optional, and its values go into _rescued"
                )
        require_distinct(where, self.feed.columns)

    def sources(self) -> tuple[str, ...]:
        """See `Declaration.sources`."""
        return (landing.LOG,)

    @property
    def schema(self) -> pl.Schema:
        """The columns with which the table begins; it may gain others."""
        return self.feed.schema()

    @property
    def personal(self) -> frozenset[str]:
        """See `Declaration.personal`."""
        return frozenset(self.feed.personal)

    @property
    def feed_name(self) -> str | None:
        """See `Declaration.feed_name`."""
        return self.feed.name


def feed(name: str, feed: Feed, description: str, owner: str | None = None) -> FeedDeclaration:
    """Declare the bronze table of a feed.

    Args:
        name: `product.bronze.name`.
        feed: Its folder, headers and policies.
        description: What the files tell, for people.
        owner: Who answers for it; the product's team by default.

    Raises:
        DeclarationError: The declaration cannot be meant.
    """
    return FeedDeclaration(name, description, owner_of(name, owner), feed)
