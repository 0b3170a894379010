"""The client of one root: every command of the platform as a method."""

import dataclasses
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse_assets.client.context import Context
from lakehouse_assets.client.contracts import Contracts
from lakehouse_assets.client.files import Files, land
from lakehouse_assets.client.models import Models
from lakehouse_assets.client.quarantine import Quarantine
from lakehouse_assets.client.restores import PlannedLastWhole, PlannedRestore, plan_last_whole, plan_restore
from lakehouse_assets.client.tables import TableHandle, full_name
from lakehouse_assets.platform.governance.reader import to_stderr
from lakehouse_assets.settings import Settings, parse_location

if TYPE_CHECKING:
    from lakehouse_assets.platform.declarations.base import Declaration
    from lakehouse_assets.platform.operations.maintenance import Maintenance
    from lakehouse_assets.platform.orchestration.run import Outcome


def open_lakehouse(
    root: Path | str | None = None,
    *,
    settings: Settings | None = None,
    declarations: "Sequence[Declaration] | None" = None,
    notice: Callable[[str], None] = to_stderr,
) -> "Client":
    """Open a lakehouse. Costs nothing: what is asked for is opened when it is asked for.

    Args:
        root: Folder, or the address of a bucket and a prefix; by default LAKEHOUSE_ROOT, or `data`.
        settings: All settings; by default those of the environment.
        declarations: In place of what the products declare.
        notice: Told, once each, what a reader should know: that personal data is masked or shown. By default it goes to stderr.

    Raises:
        SettingError: A LAKEHOUSE_* variable is no setting, or a value is not valid.
    """
    settings = settings or Settings.load()
    if root is not None:
        settings = dataclasses.replace(settings, root=parse_location("root", str(root)))
    return Client(Context(settings, declarations, notice))


@dataclass(frozen=True)
class Client:
    """A lakehouse that was opened with `open_lakehouse`."""

    context: Context

    @property
    def settings(self) -> Settings:
        """The settings of this root."""
        return self.context.settings

    # --- reading

    def tables(self) -> list[str]:
        """The names of the tables that exist, with quarantines and the platform's own."""
        return [table.name for table in self.context.root.lakehouse.tables()]

    def table(self, name: str) -> TableHandle:
        """A table by its name `product.layer.name`, or by a last word that only one table has.

        Raises:
            LookupError: Several tables have that last word.
        """
        return TableHandle(self.context, full_name(self.context, name))

    def sql(self, query: str) -> pl.DataFrame:
        """The rows of one SELECT over tables by their names, with personal data masked unless this user may see it.

        Raises:
            QueryRefused: It is no SELECT, names something else than tables that exist, or cannot be run.
        """
        from lakehouse_assets.platform.governance.sql import run_sql

        return run_sql(self.context.reader, query)

    def quarantine(self, table: str) -> Quarantine:
        """The rejected rows of a table."""
        return Quarantine(self.context, full_name(self.context, table))

    @property
    def files(self) -> Files:
        """The landed files."""
        return Files(self.context)

    @property
    def contracts(self) -> Contracts:
        """The contracts of the declared tables."""
        return Contracts(self.context)

    @property
    def models(self) -> Models:
        """The declared models."""
        return Models(self.context)

    def status(self) -> dict[str, Any]:
        """Tables, failed checks, quarantines, waiting and refused files, champions, as plain values. Imports Dagster."""
        from lakehouse_assets.client.status import status

        return status(self.context)

    # --- writing

    def land(self, feed: str, files: Iterable[Path | str], *, dry_run: bool = False) -> Any:
        """Copy files into the landing zone of a feed, each whole or not at all.

        Returns:
            The address of each file there and whether it is new; in a dry run what the next run would make of them, as plain values.

        Raises:
            LookupError: No product declares the feed.
            NotLanded: A file is missing, does not match the feed, or another file has its name there. Those before it have landed.
        """
        asset, paths = self.context.feed(feed), [Path(file) for file in files]
        if dry_run:
            from lakehouse_assets.platform.operations.dry_run import dry_run as preview

            return preview(self.context.root, self.context.declarations, asset, paths)
        landed = land(paths, self.context.root.ingestion(asset))
        return [(f"{self.settings.landing}/{feed}/{name}", new) for name, new in landed]

    def pending(self) -> dict[str, str]:
        """The tables and models that the next run would bring up to date, each with the reason."""
        from lakehouse_assets.platform.operations.pending import pending

        return pending(self.context.root, self.context.declarations)

    def nothing_landed(self) -> bool:
        """Whether there are feeds, and no file of any of them has ever landed, so that a run has nothing to read."""
        from lakehouse_assets.platform.operations.pending import nothing_landed

        return nothing_landed(self.context.root, self.context.declarations)

    def run(
        self,
        selection: Iterable[str] = (),
        *,
        full_refresh: bool = False,
        on_progress: "Callable[[Outcome], None]" = lambda _: None,
    ) -> "Outcome | None":
        """Bring everything, or a selection, up to date. Imports Dagster.

        Args:
            selection: Tables by name and Dagster's selections, as in `["sales.silver.invoice_lines+", "group:sales"]`; none: everything.
            full_refresh: Recompute the tables from all rows of their sources.
            on_progress: Called several times a second with the outcome so far.

        Returns:
            What became of each table; None if nothing was selected, and everything is up to date or no file has landed yet.

        Raises:
            ValueError: The selection cannot be understood, or nothing matches it.
        """
        words = [selection] if isinstance(selection, str) else list(selection)
        if not words and not full_refresh and not self.pending():
            return None
        from lakehouse_assets.platform.orchestration.code_location import definitions
        from lakehouse_assets.platform.orchestration.run import execute, selection_of

        defs = definitions(self.settings, self.context.products)
        return execute(self.settings, defs, selection_of(words, defs), full_refresh=full_refresh, on_progress=on_progress)

    def restore(
        self, table: str | None = None, *, version: int | None = None, at: datetime | None = None, run: str | None = None
    ) -> PlannedRestore:
        """Plan to bring a table and its quarantine back to a version or a moment, or all tables that a run wrote to before it.

        Nothing is done before `carry_out()` of the plan.

        Raises:
            ValueError: It cannot be restored; the text says why and what to do.
            NoSuchVersion: That version does not exist (any more).
        """
        return plan_restore(self.context, table, version, at, run)

    def restore_last_whole(self, table: str | None = None) -> PlannedLastWhole:
        """Plan to bring damaged tables, or one of them, back to their last whole versions, as after a power failure.

        Nothing is done before `carry_out()` of the plan.

        Raises:
            ValueError: The table is whole.
        """
        return plan_last_whole(self.context, table)

    # --- operations

    def doctor(self, on_progress: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
        """What is wrong or worth knowing, worst first, each with what to do. Imports Dagster.

        Args:
            on_progress: Called with the name of each table that something was found about.
        """
        from lakehouse_assets.platform.operations.doctor.examine import examine
        from lakehouse_assets.platform.operations.doctor.findings import SEVERITIES, Checkup
        from lakehouse_assets.platform.operations.doctor.whole import unusable_history, unusable_registry
        from lakehouse_assets.platform.orchestration.failures import failed_last
        from lakehouse_assets.platform.orchestration.instance import runs_under_way
        from lakehouse_assets.platform.registry.mlflow_store import damaged_database
        from lakehouse_assets.platform.storage.errors import DatabaseUnavailable

        findings, is_running, failures = [], False, {}
        try:
            is_running, failures = bool(runs_under_way(self.settings)), failed_last(self.settings)
        except DatabaseUnavailable as error:
            findings.append(dataclasses.asdict(unusable_history(error, self.settings.dagster_home)))
        if (damaged := damaged_database(self.settings.tracking_uri)) is not None:
            findings.append(dataclasses.asdict(unusable_registry(damaged)))
        checkup = Checkup(
            lakehouse=self.context.root.lakehouse,
            declarations=self.context.declarations,
            known=self.context.products.plain_tables,
            maintenance=self._maintenance,
            is_running=is_running,
            now=datetime.now(UTC),
            failures=failures,
        )
        for finding in examine(checkup):
            on_progress(finding.table)
            findings.append(dataclasses.asdict(finding))
        return sorted(findings, key=lambda finding: (SEVERITIES.index(finding["severity"]), finding["table"]))

    def maintenance(
        self, tables: Sequence[str] = (), *, dry_run: bool = False, on_progress: Callable[[str], None] = lambda _: None
    ) -> list[dict[str, Any]]:
        """Compact, checkpoint and vacuum all tables, or these with their quarantines, where that is needed.

        Args:
            tables: Names; none: all.
            dry_run: Only say what would be done.
            on_progress: Called with the name of each table that is done.

        Returns:
            One entry a table. `why_not` says why a table could not be maintained.

        Raises:
            LookupError: There is no such table.
        """
        rows = []
        if dry_run:
            for table, state in self._maintenance.states(tables):
                on_progress(table.name)
                names = ("files", "small_files", "bytes", "partitions", "log_entries", "unneeded_bytes")
                counts = {name: getattr(state, name) for name in names}
                rows.append({"table": table.name, "would_do": [*state.due], **counts, "why_not": state.unknown_why})
            return rows
        for done in self._maintenance.run(str(uuid.uuid4()), tables):
            on_progress(done.table)
            rows.append({**vars(done), "done": [*done.done], "seconds": round(done.seconds, 3)})
        return rows

    def serve(self, say: Callable[[str], None]) -> int:
        """Serve the Dagster web UI with its daemon, and the MLflow UI, until interrupted; the exit code. Imports Dagster."""
        from lakehouse_assets.platform.orchestration.serve import serve

        return serve(self.settings, say)

    @cached_property
    def _maintenance(self) -> "Maintenance":
        from lakehouse_assets.platform.operations.maintenance import Maintenance

        retention, log_retention = timedelta(days=self.settings.retention_days), timedelta(days=self.settings.log_retention_days)
        return Maintenance(self.context.root.lakehouse, self.context.declarations, self.context.root.registry, retention, log_retention)
