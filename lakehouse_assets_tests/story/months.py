"""Dagster on simulated time: its sensors are asked at the moments that a test says, and the runs that they ask for are executed at once.

The daemon does no more than that: it asks sensors, and starts what they request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.tags import RUN_KEY_TAG

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.platform.registry.registry import Registry
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import tables_of

SENSORS = ("landing_sensor", "alerts", "retraining")
"""In the order in which they are asked."""
JOBS = {"landing_sensor": "refresh", "retraining": "train"}
_MOST_LOGGED = "CRITICAL"


@dataclass
class Months:
    """A root, its code location, and the moment that it is there.

    Attributes:
        settings: Of the root.
        catalog: What is declared.
        instance: Dagster's.
        now: The moment; None: the real one.
    """

    settings: Settings
    catalog: Catalog
    instance: dg.DagsterInstance
    now: datetime | None = None
    runs: list[dg.ExecuteInProcessResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.defs = definitions(self.settings, Products(self.catalog))
        self.repository = self.defs.get_repository_def()

    def morning(self, day: date) -> None:
        """It is six o'clock (UTC) on a day: each sensor is asked, and what it asks for is done."""
        self.now = datetime.combine(day, time(6), UTC)
        for sensor in SENSORS:
            for request in self.ask(sensor):
                self.execute(JOBS[sensor], request)

    def ask(self, sensor: str) -> list[dg.RunRequest]:
        """One tick."""
        resources = {name: self.defs.resources[name] for name in ("lakehouse", "mlflow")}
        with dg.build_sensor_context(instance=self.instance, repository_def=self.repository, resources=resources) as context:
            return list(self.repository.get_sensor_def(sensor).evaluate_tick(context).run_requests)

    def execute(self, job: str, request: dg.RunRequest | None = None) -> dg.ExecuteInProcessResult:
        """A run, as a sensor requested it or, without, as it is started by hand. It has to succeed."""
        request = request or dg.RunRequest()
        tags = dict(request.tags) | ({RUN_KEY_TAG: request.run_key} if request.run_key else {})
        result = self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": _MOST_LOGGED}}}},
        )
        self.runs.append(result)
        return result

    @property
    def registry(self) -> Registry:
        """Of models."""
        return Root(self.settings).registry()

    def rows(self, table: str) -> pl.DataFrame:
        """All rows of a table."""
        return tables_of(self.settings).table(table).scan().collect()


@contextmanager
def months(settings: Settings, catalog: Catalog) -> Iterator[Months]:
    """A root on simulated time, from the first `morning` on. What reads the environment finds the same root there."""
    with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patched:
        opened, real = Months(settings, catalog, instance), clock.now
        patched.setenv("LAKEHOUSE_ROOT", str(settings.root))
        patched.setattr(clock, "now", lambda: opened.now or real())
        yield opened


@dataclass(frozen=True)
class Feeds:
    """The payments and chargebacks of a simulated shop, of which a landing zone gets those of some days after the other.

    Attributes:
        folder: Where they were simulated.
    """

    folder: Path

    def land(self, settings: Settings, start: date, end: date) -> None:
        """Put what came from a day on and before another into the landing zone, a file a feed."""
        for feed, suffix, head in (("payments", "jsonl", ()), ("chargebacks", "csv", ("invoice,reported_at,reason",))):
            lines = [line for path in sorted((self.folder / feed).iterdir()) for line in self._lines(path)]
            rows = pl.DataFrame({"line": lines}).with_columns(day=pl.col("line").str.extract(r"(\d{4}-\d\d-\d\d)T").str.to_date())
            chosen = rows.filter(pl.col("day") >= start, pl.col("day") < end)["line"].to_list()
            folder = Path(settings.landing) / feed
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{feed}_{start}.{suffix}").write_text("\n".join([*head, *chosen, ""]), encoding="utf-8")

    @staticmethod
    def _lines(path: Path) -> list[str]:
        lines = path.read_text(encoding="utf-8").splitlines()
        return lines if path.suffix == ".jsonl" else lines[1:]
