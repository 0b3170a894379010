"""Checks of whether a lakehouse goes on: runs that failed, tables that stay behind their sources, models that nothing is scored with."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from lakehouse_assets.platform.declarations.models import ModelDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.monitoring.kinds.champion import features_of_champion
from lakehouse_assets.platform.operations.doctor.findings import Checkup, Finding
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.pipeline.source_ids import why_unreadable
from lakehouse_assets.platform.registry.ledger import last_decision
from lakehouse_assets.platform.storage.errors import StorageError
from lakehouse_assets.platform.storage.table import Table

# The sensor runs every minute; a table that is behind for longer has a reason for it.
_LONG_BEHIND = timedelta(hours=1)


def failed_run(checkup: Checkup) -> Iterator[Finding]:
    """Tables at which the last run failed."""
    for name, why in checkup.failures.items():
        what = f"the last run failed here: {why.removeprefix(f'{name}: ')}"
        yield Finding("error", name, what, "" if checkup.is_running else "fix the cause, then: lakehouse run")


def behind(checkup: Checkup) -> Iterator[Finding]:
    """Tables whose sources have changed for longer than a run takes, while nothing runs."""
    if checkup.is_running:
        return
    for asset in checkup.declarations:
        table = checkup.lakehouse.table(asset.name)
        if not isinstance(asset, TableDeclaration) or not table.exists():
            continue
        try:
            sources = [name for name in Refresh(asset, checkup.lakehouse, "").pending() if name in asset.sources()]
            given = {name: source for name in sources if not why_unreadable(table, source := checkup.lakehouse.table(name))}
            since = {name: _changed_after(source, table.cursor(name)) for name, source in given.items()}
        except StorageError:
            continue  # that is a finding of its own
        late = {name: at for name, at in since.items() if at is not None and checkup.now - at > _LONG_BEHIND}
        if late:
            at = min(late.values())
            what = f"it is behind since {at:%Y-%m-%d %H:%M} UTC, when {', '.join(late)} changed, and nothing runs"
            yield Finding("warning", asset.name, what, f"lakehouse run {asset.name}")


def _changed_after(source: Table, version: int | None) -> datetime | None:
    """When the first commit was made that was not read; by the clock of its writer."""
    at: datetime | None = None
    for commit in source.commits():
        if version is not None and commit["version"] <= version:
            break
        at = commit["at"]
    return at


def no_champion(checkup: Checkup) -> Iterator[Finding]:
    """Models that were decided about and have no champion, so that nothing is scored."""
    for asset in checkup.declarations:
        if not isinstance(asset, ModelDeclaration) or not (ledger := checkup.lakehouse.table(asset.name)).exists():
            continue
        last = last_decision(ledger.scan())
        if last is not None and last["champion"] is None:
            why = " ".join(last["reasons"].split("\n"))
            what = f"no version is champion, so nothing is scored. Version {last['version']} was {last['decision']}: {why}"
            fix = f"lakehouse models promote {asset.name} {last['version']} --reason TEXT"
            yield Finding("warning", asset.name, what, fix)


def standing_still(checkup: Checkup) -> Iterator[Finding]:
    """Prediction tables whose champion learnt from features of another meaning, so that new rows are not scored."""
    for asset in checkup.declarations:
        if not isinstance(asset, TableDeclaration) or not asset.scored_by:
            continue
        ledger = checkup.lakehouse.table(asset.scored_by)
        said = features_of_champion(ledger, [checkup.lakehouse.table(name) for name in asset.sources()])
        if said.passed is False:
            yield Finding("warning", asset.name, said.text, f"lakehouse train {asset.scored_by}")
