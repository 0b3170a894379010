"""The client of one root: every command of the platform as a method."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse_assets.client.alerts import Alerts
from lakehouse_assets.client.context import Context
from lakehouse_assets.client.contracts import Contracts
from lakehouse_assets.client.features import Features
from lakehouse_assets.client.files import Files, land
from lakehouse_assets.client.models import Models
from lakehouse_assets.client.monitors import Monitors
from lakehouse_assets.client.operating import Operating
from lakehouse_assets.client.quarantine import Quarantine
from lakehouse_assets.client.running import Running
from lakehouse_assets.client.runs import Runs
from lakehouse_assets.client.tables import TableHandle, full_name
from lakehouse_assets.platform.governance.reader import to_stderr
from lakehouse_assets.settings import Settings, parse_location

if TYPE_CHECKING:
    from lakehouse_assets.client.automl import AutoMl
    from lakehouse_assets.client.inference import Inference
    from lakehouse_assets.client.profiles import TableProfile
    from lakehouse_assets.client.tokens import Tokens
    from lakehouse_assets.platform.declarations.base import Declaration
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
class Client(Running, Operating):
    """A lakehouse that was opened with `open_lakehouse`. It runs and trains as `Running` says, and is operated as `Operating` says."""

    @property
    def settings(self) -> Settings:
        """The settings of this root."""
        return self.context.settings

    # --- reading

    def tables(self) -> list[str]:
        """The names of the tables that exist, with quarantines and the platform's own, its views among them."""
        return self.context.reader.names()

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

    def profile(
        self,
        table: str,
        *,
        time: str | None = None,
        every: str | None = None,
        slices: Sequence[str] = (),
        against: str | None = None,
        where: str | None = None,
        p_values: bool = False,
    ) -> "TableProfile":
        """Profile the columns of a table, and compare them with a baseline and each window with the one before.

        Personal data is masked before it is counted, unless this user may see it. Memory does not grow with the rows.

        Args:
            table: Its name, now; or `TABLE@VERSION`.
            time: The column that says when a row happened. With it thresholds know how alike rows are that are near each other.
            every: The length of a window, as `1h`, `1d`, `1w` or `1mo`; None: all rows are one window.
            slices: Columns whose values are profiled each by itself as well.
            against: The baseline: `TABLE` or `TABLE@VERSION`, which may be the same table.
            where: Which rows, of the baseline too, as a condition in SQL.
            p_values: Whether statistical tests get their p-values.

        Raises:
            NoSuchTable: There is no such table.
            NoSuchVersion: There is no such version.
            CannotProfile: A column does not exist or is no time, or there are too many windows and slices.
            QueryRefused: The condition cannot be understood.
        """
        from lakehouse_assets.client.profiles import profile_table

        return profile_table(self.context, table, time=time, every=every, slices=slices, against=against, where=where, p_values=p_values)

    def as_csv(self, frame: pl.DataFrame) -> str:
        """A frame as text of CSV."""
        from lakehouse_assets.platform.governance.formats import flat

        return flat(frame.lazy()).collect().write_csv()

    def inference(self, endpoint: str) -> "Inference":
        """What an endpoint was asked and answered, by its name."""
        from lakehouse_assets.client.inference import Inference

        return Inference(self.context, endpoint)

    @property
    def tokens(self) -> "Tokens":
        """The bearer tokens of the REST service."""
        from lakehouse_assets.client.tokens import Tokens

        return Tokens(self.context)

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
    def monitors(self) -> Monitors:
        """What is watched about tables."""
        return Monitors(self.context)

    @property
    def runs(self) -> Runs:
        """The runs, whoever started them."""
        return Runs(self.context)

    @property
    def alerts(self) -> Alerts:
        """What is wrong and was told."""
        return Alerts(self.context)

    def status(self) -> dict[str, Any]:
        """The last run, open alerts, tables, failed checks, quarantines, waiting and refused files, champions, what is to do."""
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
