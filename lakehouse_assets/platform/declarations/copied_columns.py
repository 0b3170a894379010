"""Tells the contracts that recipes made what the tables say of the columns that they took over: what is personal, and what values mean.

A recipe names a table that may be declared later, or in another product, so this happens when declarations are put together.
"""

from collections.abc import Mapping, Sequence

from lakehouse_assets.platform.declarations.base import Declaration


def tell_copies(declarations: Sequence[Declaration]) -> None:
    """Tell each copied column what the one that it was copied from says now; one of a table that nobody declares stays as it is."""
    by_name = {one.name: one for one in declarations}
    copies = [mark for one in declarations for mark in one.copies().values() if mark.table in by_name]
    for _ in copies:  # a copy of a copy is told one step further each time
        said = {name: (by_name[name].described(), _personal(by_name[name], by_name)) for name in {mark.table for mark in copies}}
        told = [mark.tell(said[mark.table][0].get(mark.column, ""), personal=mark.column in said[mark.table][1]) for mark in copies]
        if not any(told):
            return


def _personal(source: Declaration, declared: Mapping[str, Declaration]) -> frozenset[str]:
    """The personal columns of a table; of one that takes files, those of the tables that read it too, as the reader has it."""
    readers = [one for one in declared.values() if source.feed_name is not None and source.name in one.sources()]
    return source.personal.union(*(one.personal for one in readers))
