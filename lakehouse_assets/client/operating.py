"""What the client does to keep a lakehouse well and to go back: restore, doctor, maintenance, the servers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

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
