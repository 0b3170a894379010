"""What is wrong with a lakehouse, and how to fix it: makes all checks and gathers what they find.

A check only looks. What it finds says what to do as a command that can be run as it stands.
"""

from collections.abc import Callable, Iterator

import polars as pl
from deltalake.exceptions import DeltaError

from lakehouse_assets.platform.operations.doctor.findings import Checkup, Finding, Patient, rebuild, unopened
from lakehouse_assets.platform.operations.doctor.tables import OF_A_TABLE
from lakehouse_assets.platform.operations.doctor.whole import OF_THE_LAKEHOUSE
from lakehouse_assets.platform.storage import damage
from lakehouse_assets.platform.storage.errors import StorageError


def examine(checkup: Checkup) -> Iterator[Finding]:
    """All that is found, table by table, the lakehouse as a whole first."""
    for whole in OF_THE_LAKEHOUSE:
        yield from _guarded("lakehouse", lambda whole=whole: whole(checkup))  # type: ignore[misc]
    for table in checkup.lakehouse.tables():
        patient = Patient(checkup, table)
        if (damaged := damage.find(table)) is not None:
            yield patient.finding("error", str(damaged), f"lakehouse restore {table.name} --last-whole")
            continue
        if reason := unopened(table):
            yield patient.finding("error", f"it cannot be opened: {reason}", rebuild(patient))
            continue
        for check in OF_A_TABLE:
            yield from _guarded(table.name, lambda check=check, patient=patient: check(patient))  # type: ignore[misc]


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds; one that cannot be made is a finding itself and does not keep the others from being made."""
    try:
        return list(look())
    except (StorageError, DeltaError, OSError, pl.exceptions.PolarsError) as error:
        return [Finding("error", name, f"it cannot be looked at: {str(error).splitlines()[0]}", f"lakehouse history {name}")]
