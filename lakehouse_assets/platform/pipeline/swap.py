"""Puts a table that was computed next to the one that people read in its place: one commit, same id, versions go on.

The rows are computed in `full_refresh`. First the quarantine is swapped, then the table, both under the number of the full refresh; a run
that died in between is finished by the next one.
"""

import json
from collections.abc import Mapping
from dataclasses import replace

from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.pipeline import contracts, quarantine, rejections, replay, rule_results, source_ids
from lakehouse_assets.platform.pipeline.marks import FULL_REFRESH, FUNCTION, LAYOUT
from lakehouse_assets.platform.quality.account import RowAccount
from lakehouse_assets.platform.storage import evolution
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor
from lakehouse_assets.platform.storage.lakehouse import STAGING_SUFFIX, Lakehouse
from lakehouse_assets.platform.storage.table import Table


def staging(declaration: TableDeclaration) -> TableDeclaration:
    """The same declaration under the name of the table that takes its place."""
    return replace(declaration, name=declaration.name + STAGING_SUFFIX)


def is_unfinished(declaration: TableDeclaration, lakehouse: Lakehouse) -> bool:
    """Whether the quarantine was swapped and the table was not."""
    rejected, stored = lakehouse.table(declaration.quarantine), lakehouse.table(declaration.name)
    number = rejected.cursor(FULL_REFRESH) or 0
    if number <= (stored.cursor(FULL_REFRESH) or 0):
        return False
    # Else the table was restored to before its full refresh, and its quarantine was not yet.
    built = built_for(declaration, lakehouse)
    return built is not None and number_of(built) == number


def built_for(declaration: TableDeclaration, lakehouse: Lakehouse) -> Table | None:
    """The table that is computed to take the place of the stored one, if there is one."""
    built = lakehouse.table(staging(declaration).name)
    return built if built.exists() else None


def finish(declaration: TableDeclaration, lakehouse: Lakehouse, run_id: str) -> None:
    """Bring a swap to its end that a run left behind, and delete what a swap left over.

    The tables of a full refresh that was interrupted stay, to be taken up.
    """
    if is_unfinished(declaration, lakehouse):
        swap(declaration, lakehouse, run_id, RowAccount(None))
        return
    leftovers = any(lakehouse.table(name).exists() for name in staging(declaration).outputs())
    built = built_for(declaration, lakehouse) if leftovers else None
    if leftovers and (built is None or number_of(built) <= (lakehouse.table(declaration.name).cursor(FULL_REFRESH) or 0)):
        drop(declaration, lakehouse)


def drop(declaration: TableDeclaration, lakehouse: Lakehouse) -> None:
    """Delete the tables of a full refresh."""
    evolution.drop(*(lakehouse.table(name) for name in staging(declaration).outputs()))


def number_of(built: Table) -> int:
    """The number of the full refresh that a table was made for."""
    return built.cursor(FULL_REFRESH) or 0


def swap(declaration: TableDeclaration, lakehouse: Lakehouse, run_id: str, account: RowAccount) -> int:
    """Put the tables that were computed again in the place of the stored ones; the version of the table then."""
    built = [lakehouse.table(name) for name in staging(declaration).outputs()]
    stored = [lakehouse.table(name) for name in declaration.outputs()]
    number = number_of(built[0])
    info = _info(declaration, lakehouse, run_id, built[0], account)
    _create(stored[1], built[1])
    rejected = quarantine.still_released(built[1].scan().collect(engine="streaming"), stored[1])
    evolution.swap(
        stored[1],
        rejected.lazy,
        identity=(),
        partition_by=(),
        commit=Commit(_cursors(declaration, stored[1], built[0], number), lambda _: info),
    )

    # Not before: without it, a quarantine that was not swapped would count as that of a table which has read less.
    _create(stored[0], built[0])

    def counted(counts: Counts) -> Mapping[str, str]:
        return info | {"lakehouse.removed": str(counts.removed), rejections.VERSION: str(stored[1].version())}

    # As it was built: the declaration may have changed since, which the next refresh then refuses or tells.
    of_sources = map(source_ids.name_of, declaration.sources())
    own = [(name, stored[0].cursor(name), built[0].cursor(name)) for name in (LAYOUT, FUNCTION, *of_sources)]
    marks = [Cursor(name, before, after) for name, before, after in own if after is not None and after != before]
    is_same = built[0].cursor(LAYOUT) == declaration.layout_number
    written = evolution.swap(
        stored[0],
        built[0].scan,
        identity=declaration.identity if is_same else (),
        partition_by=built[0].now().metadata().partition_columns,
        commit=Commit((*_cursors(declaration, stored[0], built[0], number), *marks), counted, (replay.cursor_name(declaration),)),
        description=declaration.description,
    )
    replay.Replays(declaration, lakehouse, run_id).finish()  # what had been released is in the table again
    drop(declaration, lakehouse)
    return written.version


def _create(stored: Table, built: Table) -> None:
    """Create the table that another takes the place of, if it was deleted."""
    table = built.now()
    stored.create(built.schema(), tuple(table.metadata().partition_columns), table.metadata().description or "")


def _cursors(declaration: TableDeclaration, stored: Table, built: Table, number: int) -> tuple[Cursor, ...]:
    """How far the rows that take the place have consumed each source, as a commit of the stored table says it."""
    sources = [(name, built.cursor(name)) for name in declaration.sources()]
    moved = [Cursor(name, stored.cursor(name), after) for name, after in sources if after is not None and after != stored.cursor(name)]
    return (*moved, Cursor(FULL_REFRESH, stored.cursor(FULL_REFRESH), number))


def _info(declaration: TableDeclaration, lakehouse: Lakehouse, run_id: str, built: Table, account: RowAccount) -> dict[str, str]:
    reads = {name: built.cursor(name) for name in declaration.sources()}
    return {
        "lakehouse.run_id": run_id,
        "lakehouse.reads": json.dumps(reads),
        "lakehouse.account": account.to_json(),
        contracts.REBUILD: "true",
        **contracts.info(declaration, contracts.references_now(declaration, lakehouse)),
        **rule_results.info(rule_results.all_recorded(declaration, built)),
    }
