"""What is wrong with a lakehouse, and how to fix it: makes all checks and gathers what they find.

A check changes nothing. What it finds says what to do as a command that can be run as it stands.
"""

from collections.abc import Callable, Iterator

import polars as pl
from deltalake.exceptions import DeltaError

from lakehouse_assets.platform.monitoring.reasons import reason
from lakehouse_assets.platform.operations.doctor.findings import CheckedTable, Checkup, Finding, rebuild, unopened
from lakehouse_assets.platform.operations.doctor.lakehouse_checks import OF_THE_LAKEHOUSE
from lakehouse_assets.platform.operations.doctor.table_checks import OF_A_TABLE
from lakehouse_assets.platform.storage import damage, platform_tables
from lakehouse_assets.platform.storage.errors import StorageError


def examine(checkup: Checkup) -> Iterator[Finding]:
    """All that is found, table by table, first what is about no single table."""
    for general in OF_THE_LAKEHOUSE:
        yield from _guarded("lakehouse", lambda general=general: general(checkup))  # type: ignore[misc]
    for table in checkup.lakehouse.tables():
        checked = CheckedTable(checkup, table)
        damaged = damage.find(table)
        if table.name == platform_tables.CACHE and (damaged is not None or unopened(table)):
            yield checked.finding("note", "it cannot be read; the next evaluation of a monitor rebuilds it")
            continue
        if damaged is not None:
            yield checked.finding("error", str(damaged), f"lakehouse restore {table.name} --last-good")
            continue
        if why := unopened(table):
            yield checked.finding("error", f"it cannot be opened: {why}", rebuild(checked))
            continue
        for check in OF_A_TABLE:
            yield from _guarded(table.name, lambda check=check, checked=checked: check(checked))  # type: ignore[misc]


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds; one that cannot be made is a finding itself and does not keep the others from being made."""
    try:
        return list(check())
    except (StorageError, DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        why = str(error).splitlines()[0] if isinstance(error, StorageError | DeltaError | OSError) else reason(error)
        return [Finding("error", name, f"it cannot be examined: {why}", f"lakehouse history {name}")]
