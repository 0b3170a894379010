"""Digests of keys, to find rows that may have the same key: numbers are compared many times faster than texts.

Two keys may share a digest, and another version of Polars makes others: they are compared at once, then the keys themselves, and nothing
of them is stored. Identities that are stored do not belong here.
"""

from collections.abc import Sequence

import polars as pl


def digest(on: Sequence[str]) -> pl.Expr:
    """The digest of some columns, UInt64."""
    return pl.struct(on).hash()


def shared(digests: pl.Series) -> pl.Series | None:
    """Whether each row shares its digest with another one, Boolean; None if no row does."""
    ordered = digests.sort()  # two times faster than `is_duplicated`
    several = ordered.filter(ordered == ordered.shift(1))
    return digests.is_in(several.unique().implode()) if several.len() else None
