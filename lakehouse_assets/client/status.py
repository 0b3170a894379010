"""The status of a root as plain values: the last run, tables, checks, quarantines, files, champions. It imports no Dagster."""

from dataclasses import asdict
from typing import Any

import polars as pl

from lakehouse_assets.client.context import Context
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

# Checks that are not rules of a contract: their names never change.
_ALWAYS = frozenset({"contract", "row_account", "not_null", "gate", "files_read", "freshness", "volume"})


def status(context: Context) -> dict[str, Any]:
    """The last run; tables with rows, versions, times, failed checks and quarantine; waiting and refused files; champions."""
    from lakehouse_assets.platform.operations import run_records
    from lakehouse_assets.platform.operations.pending import nothing_landed, pending, untrained, waiting_files

    context.sync_champions()
    home, lakehouse = context.settings.dagster_home, context.root.lakehouse
    names = [table.name for table in lakehouse.tables() if not table.name.endswith(QUARANTINE_SUFFIX)]
    failed = run_records.failed_checks(home, _declared_checks(context))
    last = run_records.last_run(home)
    refused = landing.latest(context.root.landing_log, (landing.REFUSED, landing.CHANGED))
    return {
        "root": str(context.settings.root),
        "last_run": None if last is None else asdict(last),
        "tables": [
            status_of_table(lakehouse, name)
            | {
                "failed_checks": [check.name for check in failed.get(name, [])],
                "stopped_by": [check.name for check in failed.get(name, []) if check.stops],
            }
            for name in names
        ],
        "pending": pending(context.root, context.declarations),
        "untrained": untrained(context.root, context.models),
        "nothing_landed": nothing_landed(context.root, context.declarations),
        "waiting_files": waiting_files(context.root, context.declarations),
        "refused_files": refused.select("feed", "path", "event", "reason").to_dicts(),
        "champions": champions(context),
    }


def champions(context: Context) -> list[dict[str, Any]]:
    """The champion of each model and the last decision about it, by the ledgers."""
    return [_champion(context.root.lakehouse, model.name) for model in context.models]


def _declared_checks(context: Context) -> dict[str, frozenset[str]]:
    rules = {asset.name: frozenset(rule.name for rule in asset.rules) for asset in context.tables}
    return {asset.name: rules.get(asset.name, frozenset()) | _ALWAYS for asset in context.declarations}


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
