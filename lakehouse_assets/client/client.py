"""The client of one root: every command of the platform as a method."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse_assets.client.context import Context
from lakehouse_assets.client.contracts import Contracts
from lakehouse_assets.client.features import Features
from lakehouse_assets.client.files import Files, land
from lakehouse_assets.client.models import Models
from lakehouse_assets.client.quarantine import Quarantine
from lakehouse_assets.client.restores import PlannedLastGood, PlannedRestore, plan_last_good, plan_restore
from lakehouse_assets.client.runs import Runs
from lakehouse_assets.client.tables import TableHandle, full_name
from lakehouse_assets.platform.governance.reader import to_stderr
from lakehouse_assets.settings import Settings, parse_location

if TYPE_CHECKING:
    from lakehouse_assets.client.automl import AutoMl
    from lakehouse_assets.platform.declarations.base import Declaration
    from lakehouse_assets.platform.orchestration.run import Outcome
    from lakehouse_assets.scaffold.new import NewProduct


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

    def statements(self, text: str) -> list[str]:
        """The queries of a text, which semicolons part.

        Raises:
            QueryRefused: It cannot be read, or has none.
        """
        from lakehouse_assets.platform.governance.sql import QueryRefused, statements

        found = statements(text)
        if not found:
            raise QueryRefused("no query was given: ask one SELECT")
        return found

    def export_sql(self, query: str, file: Path) -> None:
        """Write the rows of one query to a CSV, parquet or Excel file, as its name ends.

        Raises:
            QueryRefused: As `sql`.
            ExportRefused: The name ends in no known format, or the format cannot hold the rows.
        """
        from lakehouse_assets.platform.governance import formats

        formats.check_name(file)
        formats.write(self.sql(query).lazy(), file)

    def as_csv(self, frame: pl.DataFrame) -> str:
        """A frame as text of CSV."""
        from lakehouse_assets.platform.governance.formats import flat

        return flat(frame.lazy()).collect().write_csv()

    def quarantine(self, table: str) -> Quarantine:
        """The rejected rows of a table."""
        return Quarantine(self.context, full_name(self.context, table))

    def quarantines(self) -> list[dict[str, Any]]:
        """The tables with rows that wait in their quarantine: `table`, `rows`, and `changed_at`, when it was last written."""
        from lakehouse_assets.platform.operations.rejected import waiting_rows

        return waiting_rows(self.context.root.lakehouse)

    @property
    def files(self) -> Files:
        """The landed files."""
        return Files(self.context)

    @property
    def contracts(self) -> Contracts:
        """The contracts of the declared tables."""
        return Contracts(self.context)

    @property
    def features(self) -> Features:
        """The declared feature sets."""
        return Features(self.context)

    @property
    def models(self) -> Models:
        """The declared models."""
        return Models(self.context)

    @property
    def runs(self) -> Runs:
        """The runs, whoever started them."""
        return Runs(self.context)

    def status(self) -> dict[str, Any]:
        """The last run, tables, failed checks, quarantines, waiting and refused files, champions, what is to do, as plain values."""
        from lakehouse_assets.client.status import status

        return status(self.context)

    def champions(self) -> list[dict[str, Any]]:
        """The champion of each model, and the last decision about it with its reasons."""
        from lakehouse_assets.client.status import champions

        return champions(self.context)

    def with_products(self, setting: str) -> "Client":
        """The same root with the products of other packages, named as LAKEHOUSE_PRODUCTS does; with an empty text, loaded again."""
        settings = dataclasses.replace(self.settings, products=setting or self.settings.products)
        return Client(dataclasses.replace(self.context, settings=settings))

    # --- writing

    def land(self, feed: str, files: Iterable[Path | str], *, dry_run: bool = False, replace: bool = False) -> Any:
        """Copy files into the landing zone of a feed, each whole or not at all.

        Args:
            feed: Its name.
            files: The files.
            dry_run: Only say what the next run would make of them.
            replace: A file whose name is taken there takes the place of the other content, and the next run puts its rows in the place of
                the old ones, once, whatever the feed's policy for changed files.

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
        landed = land(paths, self.context.root.ingestion(asset), replace=replace)
        return [(f"{self.settings.landing}/{feed}/{name}", new) for name, new in landed]

    def new_product(
        self,
        name: str,
        files: Iterable[Path | str],
        *,
        keys: Sequence[str] = (),
        times: Sequence[str] = (),
        forecast: str | None = None,
    ) -> "NewProduct":
        """Write a product that is guessed from sample files into the first package of LAKEHOUSE_PRODUCTS that is not the built-in one.

        Args:
            name: Of the product.
            files: CSV, JSON Lines, XLSX or parquet.
            keys: Declared keys, each the names of its columns with commas between them.
            times: Declared columns of time.
            forecast: What is forecast of the daily sums, as VALUE or VALUE,BY; None: nothing.

        Returns:
            What was written, and what was guessed.

        Raises:
            ValueError: The name cannot be one, the product exists, a file cannot be read, or a declared column does not exist.
        """
        from lakehouse_assets.client.new_product import new_product

        return new_product(self.context, name, [Path(file) for file in files], keys, times, forecast=forecast)

    def automl(
        self,
        table: str,
        target: str,
        *,
        time: str | None = None,
        entity: Sequence[str] = (),
        minutes: float = 2.0,
        trials: int | None = None,
        without: Sequence[str] = (),
        keep: Sequence[str] = (),
        settled: float = 0,
        into: Path | None = None,
        name: str | None = None,
    ) -> "AutoMl":
        """Explore a table, search for the best learner of a column, report both, and write a product of the answer.

        Args:
            table: Its name.
            target: The column to predict.
            time: The column that says when a row happened; None: rows are divided by chance.
            entity: The columns that name what a row is about; none: a column that tells rows apart is looked for.
            minutes: When the search is over: a trial in work is given up. A search that was interrupted goes on where it was.
            trials: Most trials; None: as many as there is time for.
            without: Columns that are not learnt from.
            keep: Columns that are learnt from even if they seem to be made from the answer, or to be known afterwards.
            settled: Days after `time` until the target is known. Younger rows are not learnt from.
            into: The package of products that it is written into; None: as `new_product`.
            name: Of the product; None: of table and target.

        Raises:
            NoSuchTable: There is no such table.
            ValueError: There is nothing to predict or to learn from, or the product cannot be written under its name.
        """
        from lakehouse_assets.client.automl import automl

        return automl(self.context, self.table(table), target, time, entity, minutes, trials, without, keep, settled, into, name)

    def pending(self) -> dict[str, str]:
        """The tables that the next run would bring up to date, each with the reason."""
        from lakehouse_assets.platform.operations.pending import pending

        return pending(self.context.root, self.context.declarations)

    def untrained(self) -> dict[str, str]:
        """The models that the next training would train, each with the reason."""
        from lakehouse_assets.platform.operations.pending import untrained

        return untrained(self.context.root, self.context.models)

    def without_champion(self) -> list[str]:
        """The models that have no champion although their features are there, so that nothing is predicted, by their ledgers."""
        from lakehouse_assets.platform.operations.pending import without_champion

        return without_champion(self.context.root, self.context.models)

    def with_changed_function(self) -> list[str]:
        """The tables with rows that their functions computed before they were changed: a full refresh computes them again."""
        from lakehouse_assets.platform.operations.pending import with_changed_function

        return with_changed_function(self.context.root, self.context.declarations)

    def forgotten_products(self) -> str:
        """What to do where `LAKEHOUSE_PRODUCTS` is not set in a root that was run with it; empty elsewhere."""
        from lakehouse_assets.client.execution import forgotten_products

        return forgotten_products(self.context)

    def nothing_landed(self) -> bool:
        """Whether there are feeds, and no file of any of them has ever landed, so that a run has nothing to read."""
        from lakehouse_assets.platform.operations.pending import nothing_landed

        return nothing_landed(self.context.root, self.context.declarations)

    def run(
        self,
        selection: Iterable[str] = (),
        *,
        full_refresh: bool = False,
        partition: str | None = None,
        on_progress: "Callable[[Outcome], None]" = lambda _: None,
    ) -> "Outcome | None":
        """Bring all tables, or a selection, up to date. No model is trained: see `train`. Imports Dagster.

        Args:
            selection: Tables by name and Dagster's selections, as in `["sales.silver.invoice_lines+", "group:sales"]`; none: all. Models
                among them are left out.
            full_refresh: Recompute the tables from all rows of their sources.
            partition: Compute this partition of the selected tables again (kind `ByPartition`), as "2026-01" or "2026-01-31", or of plain
                assets that have partitions (`@dg.asset(partitions_def=…)`); only these are run then.
            on_progress: Called several times a second with the outcome so far.

        Returns:
            What became of each table; None if nothing was selected, and everything is up to date or no file has landed yet.

        Raises:
            ValueError: The selection cannot be understood, nothing matches it, or it names models alone.
        """
        from lakehouse_assets.client.execution import run

        return run(self.context, selection, full_refresh=full_refresh, partition=partition, on_progress=on_progress)

    def train(
        self, models: Iterable[str] = (), *, force: bool = False, on_progress: "Callable[[Outcome], None]" = lambda _: None
    ) -> "Outcome | None":
        """Train models whose features have changed since their last training, let the gate decide, and score again. Imports Dagster.

        Args:
            models: Names; none: all.
            force: Train also where no feature has changed, as after a change of the code.
            on_progress: As for `run`.

        Returns:
            What became of each model and of what its champion predicts; None if nothing has changed.

        Raises:
            LookupError: No product declares a model of that name, there is no model, or the features of one do not exist yet.
            ValueError: The function of its features was changed, and they have rows from before: a full refresh comes first. Where no
                model was named, the others are trained, and the outcome warns of it.
        """
        from lakehouse_assets.client.execution import train

        return train(self.context, models, force=force, on_progress=on_progress)

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

    # --- operations

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

    def serve(
        self,
        say: Callable[[str], None],
        *,
        host: str | None = None,
        port: int | None = None,
        mlflow_port: int | None = None,
        mlflow: bool = True,
        open_browser: bool = False,
    ) -> int:
        """Serve the Dagster web UI with its daemon, and the MLflow UI, until interrupted; the exit code. Imports Dagster.

        Args:
            say: Told what happens, in lines.
            host: In place of LAKEHOUSE_HOST.
            port: Of the web UI, in place of LAKEHOUSE_WEB_PORT.
            mlflow_port: In place of LAKEHOUSE_MLFLOW_PORT.
            mlflow: Whether to serve the MLflow UI as well.
            open_browser: Whether to open the web UI.
        """
        from lakehouse_assets.platform.orchestration.serve import serve

        own = self.settings
        settings = dataclasses.replace(
            own, host=host or own.host, web_port=port or own.web_port, mlflow_port=mlflow_port or own.mlflow_port
        )
        return serve(settings, say, mlflow=mlflow, open_browser=open_browser)
