"""The status of a root as plain values: the last run, tables, checks, quarantines, files, champions. It imports no Dagster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeVar

import polars as pl

from lakehouse_assets.client.alerts import Alerts
from lakehouse_assets.client.context import Context
from lakehouse_assets.client.monitors import Monitors
from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.declarations.check_names import CHECKS
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.storage.disk import reason
from lakehouse_assets.platform.storage.errors import DatabaseUnavailable, TableDamaged
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.platform_tables import own_first
from lakehouse_assets.platform.wording import counted

_ALERTS = 1_000

T = TypeVar("T")


def status(context: Context) -> dict[str, Any]:
    """The last run; tables with rows, versions, times, failed checks, quarantine; failed monitors; open alerts; files; champions.

    What a damaged table or database hides is left out, and the person is told.
    """
    from lakehouse_assets.platform.operations import run_records
    from lakehouse_assets.platform.operations.pending import nothing_landed, pending, untrained, waiting_files

    root, home, readable = context.root, context.settings.dagster_home, _Readable(context)
    with _without_databases(context, "champions are as the ledgers have them"):
        context.sync_champions()
    failed: dict[str, list[run_records.FailedCheck]] = {}
    last = None
    with _without_databases(context, "the last run and failed checks are not shown"):
        failed, last = run_records.failed_checks(home, _declared_checks(context)), run_records.last_run(home)
    stored = [table.name for table in root.lakehouse.tables() if not table.name.endswith(QUARANTINE_SUFFIX)]
    tables = sorted(stored, key=own_first)
    rows = [readable(partial(status_of_table, root.lakehouse, name)) for name in tables]
    watched = readable(Monitors(context).failed) or []
    refused = readable(partial(_refused_files, context))
    return {
        "root": str(context.settings.root),
        "last_run": None if last is None else asdict(last),
        "tables": [
            row
            | {
                "failed_checks": [check.name for check in failed.get(row["table"], [])],
                "check_texts": {check.name: check.text for check in failed.get(row["table"], []) if check.text},
                "failed_monitors": [one["monitor"].rpartition(".")[2] for one in watched if one["table"] == row["table"]],
                "stopped_by": [check.name for check in failed.get(row["table"], []) if check.stops],
            }
            for row in rows
            if row is not None
        ],
        "failed_monitors": watched,
        "open_alerts": readable(partial(Alerts(context).list, open_only=True, limit=_ALERTS)) or [],
        "pending": readable(partial(pending, root, context.declarations)) or {},
        "untrained": readable(partial(untrained, root, context.models)) or {},
        "nothing_landed": bool(readable(partial(nothing_landed, root, context.declarations))),
        "waiting_files": readable(partial(waiting_files, root, context.declarations)) or {},
        "refused_files": refused or [],
        "champions": [one for model in context.models if (one := readable(partial(_champion, context, model.name))) is not None],
    }


def champions(context: Context) -> list[dict[str, Any]]:
    """The champion of each model and the last decision about it, by the ledgers."""
    return [_champion(context, model.name) for model in context.models]


def next_step(values: dict[str, Any]) -> tuple[str, str] | None:
    """The command to type next, and what it does; None if there is nothing to do."""
    if not values["tables"] and values["nothing_landed"]:
        return None
    failed = values["last_run"] is not None and values["last_run"]["status"] == "FAILURE"
    if failed or values["waiting_files"] or (values["pending"] and values["tables"]):
        tables = counted(len(values["pending"]), "table")
        return "lakehouse run", "resumes where the last run stopped" if failed else f"brings {tables} up to date"
    if values["untrained"]:
        return "lakehouse train", f"trains {', '.join(values['untrained'])}"
    if values["refused_files"]:
        return "lakehouse files list --refused", "says how each refused file is read"
    return None


def _declared_checks(context: Context) -> dict[str, frozenset[str]]:
    rules = {asset.name: frozenset(rule.name for rule in asset.rules) for asset in context.tables}
    # What monitors said is in their table, and what the gate decided in the ledgers.
    return {asset.name: rules.get(asset.name, frozenset()) | CHECKS for asset in context.declarations}


@dataclass(frozen=True)
class _Readable:
    """Says of a damaged table what to do, once, and goes on without it."""

    context: Context
    told: set[str] = field(default_factory=set)

    def __call__(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except TableDamaged as error:
            self._tell(str(error))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):  # a panic, as over a file of garbage, is no Exception
            self._tell("a table cannot be read: `lakehouse doctor` says which one, and what to do")
        return None

    def _tell(self, what: str) -> None:
        if what not in self.told:
            self.told.add(what)
            self.context.notice(f"warning: {what}")


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


def _refused_files(context: Context) -> list[dict[str, Any]]:
    found = landing.latest(context.root.landing_log, (landing.REFUSED, landing.CHANGED))
    return context.reader.values(found.select("feed", "path", "event", "reason").to_dicts(), landing.LOG, "refused files")


def _champion(context: Context, model: str) -> dict[str, Any]:
    from lakehouse_assets.platform.registry.ledger import champion_candidate, last_decision

    ledger = context.reader.scan(model, what="champions") if context.root.lakehouse.table(model).exists() else None
    last = None if ledger is None else last_decision(ledger)
    if ledger is None or last is None:
        return {"model": model, "champion": None, "candidate": None, "last_decision": None}
    decision = {name: last[name] for name in ("sequence", "decided_at", "version", "decision")} | {"reasons": last["reasons"].split("\n")}
    candidate = champion_candidate(ledger, last["champion"])
    return {"model": model, "champion": last["champion"], "candidate": candidate, "last_decision": decision}
