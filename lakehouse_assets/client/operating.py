"""What the client does to keep a lakehouse well and to go back: restore, doctor, maintenance, the servers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lakehouse_assets.client.backups import PlannedBackupRestore, plan_backup_restore
from lakehouse_assets.client.backups import backup as make_backup
from lakehouse_assets.client.context import Context
from lakehouse_assets.client.restores import PlannedLastGood, PlannedRestore, plan_last_good, plan_restore


@dataclass(frozen=True)
class Operating:
    """The part of a `Client` that operates a root."""

    context: Context

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

    def restore_last_good(self, table: str | None = None) -> PlannedLastGood:
        """Plan to bring damaged tables, or one of them, back to their last good versions, as after a power failure.

        Nothing is done before `carry_out()` of the plan.

        Raises:
            ValueError: The table is intact.
        """
        return plan_last_good(self.context, table)

    def backup(
        self,
        to: str,
        *,
        keep: int | None = None,
        without_mlflow: bool = False,
        dry_run: bool = False,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Back the root up at one moment, while others go on writing.

        Args:
            to: A folder, or the address of a bucket and a prefix: empty, or what earlier backups were made into.
            keep: How many backups stay there, this one among them; None: all.
            without_mlflow: Leave MLflow's database out, because a server keeps it.
            dry_run: Only say what would be copied.
            on_progress: Told where the work is.

        Returns:
            `backup` (its id), `at`, `tables` with their versions, `files` and `bytes`, those that are new, what could not be copied.

        Raises:
            ValueError: The place or the root does not fit; the text says what to do.
        """
        return make_backup(self.context, to, keep=keep, without_mlflow=without_mlflow, dry_run=dry_run, tell=on_progress)

    def restore_backup(
        self, source: str, *, at: str | None = None, on_progress: Callable[[str], None] = lambda _: None
    ) -> PlannedBackupRestore:
        """Plan to restore a backup into this root, which has to be empty. Nothing is done before `carry_out()` of the plan.

        Args:
            source: What the backups were made into.
            at: The id of the backup, or how it begins; None: the newest.
            on_progress: Told where the work is.

        Raises:
            ValueError: There is no such backup, or the root holds something; the text says what to do.
        """
        return plan_backup_restore(self.context, source, at, on_progress)

    def doctor(self, on_progress: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
        """What is wrong or worth knowing, worst first, each with what to do.

        Args:
            on_progress: Called with the name of each table that something was found about.
        """
        from lakehouse_assets.client.health import doctor

        return doctor(self.context, on_progress)

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
        from lakehouse_assets.client.health import maintenance

        return maintenance(self.context, tables, dry_run=dry_run, on_progress=on_progress)

    def serve_endpoints(self, say: Callable[[str], None], *, host: str | None = None, port: int | None = None) -> None:
        """Answer requests for predictions until the process is told to end.

        Args:
            say: Told what happens, in lines.
            host: In place of LAKEHOUSE_HOST.
            port: In place of LAKEHOUSE_SERVE_PORT.

        Raises:
            NoEndpoint: No product declares an endpoint.
            PortTaken: Another process listens on the port.
        """
        from lakehouse_assets.client.serving import serve

        serve(self.context, say, host, port)

    def serve(
        self,
        say: Callable[[str], None],
        *,
        host: str | None = None,
        port: int | None = None,
        mlflow_port: int | None = None,
        serve_port: int | None = None,
        pages_port: int | None = None,
        mlflow: bool = True,
        pages: bool = True,
        open_browser: bool = False,
    ) -> int:
        """Serve the Dagster web UI with its daemon, the MLflow UI, the pages and the endpoints until interrupted; the exit code.

        Args:
            say: Told what happens, in lines.
            host: In place of LAKEHOUSE_HOST.
            port: Of the web UI, in place of LAKEHOUSE_WEB_PORT.
            mlflow_port: In place of LAKEHOUSE_MLFLOW_PORT.
            serve_port: Of the REST service, in place of LAKEHOUSE_SERVE_PORT.
            pages_port: Of the pages, in place of LAKEHOUSE_PAGES_PORT.
            mlflow: Whether to serve the MLflow UI as well.
            pages: Whether to serve the pages as well; without the extra `pages` they are not.
            open_browser: Whether to open the web UI.
        """
        from lakehouse_assets.platform.orchestration.serve import serve

        own = self.context.settings
        ports: dict[str, Any] = {
            "web_port": port,
            "mlflow_port": mlflow_port,
            "serve_port": serve_port,
            "pages_port": pages_port,
            "host": host,
        }
        settings = replace(own, **{name: value for name, value in ports.items() if value})
        return serve(
            settings, say, mlflow=mlflow, pages=pages, endpoints=bool(self.context.loaded.catalog.endpoints), open_browser=open_browser
        )
