"""The word `feed`: the bronze table of the files that a source system drops. How files are read belongs to ingestion."""

from dataclasses import dataclass

import polars as pl

from lakehouse_assets.platform.declarations.base import Declaration, owner_of
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.ingestion.feed import Feed


@dataclass(frozen=True)
class FeedDeclaration(Declaration):
    """The bronze table of a feed."""

    feed: Feed

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
    """
    return FeedDeclaration(name, description, owner_of(name, owner), feed)
