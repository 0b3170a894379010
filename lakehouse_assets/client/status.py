"""The status of a root as plain values: tables, checks, quarantines, files, champions."""

from typing import Any

import polars as pl

from lakehouse_assets.client.context import Context
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.storage.lakehouse import Lakehouse


def status(context: Context) -> dict[str, Any]:
    """Tables with rows, versions, times, failed checks and quarantine; waiting and refused files; champions; what the next run would do."""
    from lakehouse_assets.platform.operations.pending import pending, waiting_files
    from lakehouse_assets.platform.orchestration.instance import failed_checks

    context.sync_champions()
    lakehouse = context.root.lakehouse
    tables = [table.name for table in lakehouse.tables() if not table.name.endswith(QUARANTINE_SUFFIX)]
    failed = failed_checks(context.settings, context.products.assets())
    refused = landing.latest(context.root.landing_log, (landing.REFUSED, landing.CHANGED))
    return {
        "root": str(context.settings.root),
        "tables": [status_of_table(lakehouse, name) | {"failed_checks": failed.get(name, [])} for name in tables],
        "pending": pending(context.root, context.declarations),
        "waiting_files": waiting_files(context.root, context.declarations),
        "refused_files": refused.select("feed", "path", "event", "reason").to_dicts(),
        "champions": [_champion(lakehouse, model.name) for model in context.models],
    }


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


def _champion(lakehouse: Lakehouse, model: str) -> dict[str, Any]:
    from lakehouse_assets.platform.registry.ledger import last_decision

    ledger = lakehouse.table(model)
    last = last_decision(ledger.scan()) if ledger.exists() else None
    if last is None:
        return {"model": model, "champion": None, "last_decision": None}
    decision = {name: last[name] for name in ("sequence", "decided_at", "version", "decision")} | {"reasons": last["reasons"].split("\n")}
    return {"model": model, "champion": last["champion"], "last_decision": decision}
