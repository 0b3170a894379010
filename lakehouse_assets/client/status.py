"""The status of a root as plain values: tables, checks, quarantines, files, champions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from lakehouse_assets.client.context import Context
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.storage.disk import reason
from lakehouse_assets.platform.storage.errors import DatabaseUnavailable, TableDamaged
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.models import ModelDeclaration

T = TypeVar("T")


def status(context: Context) -> dict[str, Any]:
    """Tables with rows, versions, times, failed checks and quarantine; waiting and refused files; champions; what the next run would do."""
    from lakehouse_assets.platform.operations.pending import pending, waiting_files
    from lakehouse_assets.platform.orchestration.instance import failed_checks

    with _without_databases(context, "champions are as the ledgers have them"):
        context.sync_champions()
    lakehouse, whole = context.root.lakehouse, _Whole(context)
    tables = [table.name for table in lakehouse.tables() if not table.name.endswith(QUARANTINE_SUFFIX)]
    rows = [whole(partial(status_of_table, lakehouse, name)) for name in tables]
    failed: dict[str, list[str]] = {}
    with _without_databases(context, "failed checks are not shown"):
        failed = failed_checks(context.settings, context.products.assets())
    refused = whole(partial(landing.latest, context.root.landing_log, (landing.REFUSED, landing.CHANGED)))
    return {
        "root": str(context.settings.root),
        "tables": [row | {"failed_checks": failed.get(row["table"], [])} for row in rows if row is not None],
        "pending": whole(partial(pending, context.root, context.declarations)) or {},
        "waiting_files": whole(partial(waiting_files, context.root, context.declarations)) or {},
        "refused_files": [] if refused is None else refused.select("feed", "path", "event", "reason").to_dicts(),
        "champions": [champion for model in context.models if (champion := whole(partial(_champion, lakehouse, model)))],
    }


@dataclass(frozen=True)
class _Whole:
    """Says of a damaged table what to do, once, and goes on without it."""

    context: Context
    told: set[str] = field(default_factory=set)

    def __call__(self, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except TableDamaged as error:
            if str(error) not in self.told:
                self.told.add(str(error))
                self.context.notice(f"warning: {error}")
            return None


@contextmanager
def _without_databases(context: Context, instead: str) -> Iterator[None]:
    """Go on without Dagster's and MLflow's databases where the disk does not let them be opened; say what is missing then."""
    try:
        yield
    except Exception as error:
        why = str(error) if isinstance(error, DatabaseUnavailable | TableDamaged) else reason(error, context.settings.home_folder)
        if why is None:
            raise
        context.notice(f"warning: {why}. So {instead}")


def status_of_table(lakehouse: Lakehouse, name: str) -> dict[str, Any]:
    """Rows, version, time of the last commit, and rows that wait in the quarantine."""
    from lakehouse_assets.platform.pipeline.quarantine import unreleased

    table, quarantine = lakehouse.table(name), lakehouse.table(name + QUARANTINE_SUFFIX)
    last = table.history(1)[0]
    return {
        "table": name,
        "rows": table.count(),
        "version": last["version"],
        "changed_at": last["at"],
        "quarantined": unreleased(quarantine).select(pl.len()).collect().item() if quarantine.exists() else None,
    }


def _champion(lakehouse: Lakehouse, model: "ModelDeclaration") -> dict[str, Any]:
    from lakehouse_assets.platform.registry.ledger import last_decision

    ledger, registered = lakehouse.table(model.name), model.registered_name
    last = last_decision(ledger.scan()) if ledger.exists() else None
    if last is None:
        return {"model": registered, "champion": None, "last_decision": None}
    decision = {name: last[name] for name in ("sequence", "decided_at", "version", "decision")} | {"reasons": last["reasons"].split("\n")}
    return {"model": registered, "champion": last["champion"], "last_decision": decision}
