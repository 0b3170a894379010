"""What monitors keep and say has no personal value in it, whoever says what is personal: a declaration, or the contract of its writer."""

from datetime import UTC, datetime, timedelta
from io import BytesIO

import polars as pl
import pytest

from lakehouse_assets import ByKey, Contract, Drift, Timestamp, column, monitor
from lakehouse_assets import table as declared_table
from lakehouse_assets.platform.declarations.monitors import Monitor
from lakehouse_assets.platform.governance.audit import AuditLog
from lakehouse_assets.platform.governance.personal import PersonalColumns
from lakehouse_assets.platform.governance.policy import policy_of
from lakehouse_assets.platform.governance.principal import Principal
from lakehouse_assets.platform.governance.reader import Notices, Reader
from lakehouse_assets.platform.monitoring.why.trace import Trace
from lakehouse_assets.platform.pipeline import contracts
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.inference_log.table import create, rows
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import evaluation
from lakehouse_assets_tests.platform.monitoring.accuracy.scored_shop import CATALOG, asked

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS, A_DAY = 20, 60
DAY = timedelta(days=1)


class Visit(Contract):
    """A visit."""

    number: int = column(key=True)
    received_at: Timestamp
    key: str = column(personal=True)


@declared_table("shop.gold.visits", contract=Visit, kind=ByKey("number"), inputs={"raw": "shop.silver.raw"})
def visits(raw: pl.LazyFrame) -> pl.LazyFrame:
    """Visits."""
    return raw


def mails(day: int) -> list[str]:
    """Of a day: many people, and on the last day one alone."""
    return [f"{'eve' if day == DAYS else f'ann{number % 7}'}@a.org" for number in range(A_DAY)]


def logged(lake: Lakehouse) -> tuple[Monitor, tuple]:
    """The log of an endpoint, which no declaration promises the columns of."""
    log = create(lake, asked.name, InferenceRecord, personal=True)
    for days in ([*range(DAYS)], [DAYS]):
        records = [
            InferenceRecord(
                request_id=f"{day}-{number}",
                row=0,
                endpoint="orders",
                received_at=START + day * DAY + number * timedelta(minutes=10),
                key={"customer": mail},
                model_name="m",
                model_version=1,
                prediction={"probability": 0.5},
                form="rows",
            )
            for day in days
            for number, mail in enumerate(mails(day))
        ]
        log.append(rows(records))
    return _watched(asked.name), CATALOG.declarations


def declared(lake: Lakehouse) -> tuple[Monitor, tuple]:
    """A table whose contract says it."""
    _fill(lake)
    return _watched(visits.name), (visits,)


def left_over(lake: Lakehouse) -> tuple[Monitor, tuple]:
    """A table that nobody declares any more, with the contract that it was written under."""
    _fill(lake)
    contracts.record(visits, lake, "run")
    return _watched(visits.name), ()


def _fill(lake: Lakehouse) -> None:
    table = lake.table(visits.name)
    table.create(visits.schema)
    for days in ([*range(DAYS)], [DAYS]):
        visited = [(100 * day + number, START + day * DAY, mail) for day in days for number, mail in enumerate(mails(day))]
        table.append(pl.DataFrame(visited, schema=visits.schema, orient="row"))


def _watched(of: str) -> Monitor:
    return monitor(f"{of.split('.', maxsplit=1)[0]}.monitors.moved", of=of, kind=Drift("received_at", against=f"{of}@1"))


@pytest.mark.parametrize("made", [logged, declared, left_over])
def test_no_personal_value_is_kept_or_said(tmp_path, made):
    lake = Lakehouse(str(tmp_path / "tables"))
    watched, declarations = made(lake)
    judged = evaluation(lake, START + 30 * DAY, declarations)
    judged.run([watched])
    kept = [lake.table(name).scan().collect() for name in (platform_tables.PROFILES, platform_tables.DRIFT, platform_tables.VERDICTS)]
    assert all(one.height for one in kept)
    kept += [pl.read_ipc(BytesIO(content)) for content in lake.table(platform_tables.CACHE).scan().collect()["content"]]
    assert not [one for one in kept if "a.org" in str(one.to_dicts())]
    # What a reason is looked for in is masked as well.
    trace = Trace(lake, judged.catalog, "received_at", (START + DAYS * DAY, START + (DAYS + 1) * DAY), (START, START + DAYS * DAY))
    seen = trace.values(watched.of, "key", lake.table(watched.of).scan())
    assert seen.len() > 0
    assert not seen.str.contains("a.org").any()
    assert "a.org" not in str(trace.follow(watched.of, "key"))


@pytest.mark.parametrize("made", [logged, declared, left_over])
def test_the_reader_and_monitors_take_the_same_columns_for_personal(tmp_path, made):
    lake = Lakehouse(str(tmp_path / "tables"))
    watched, declarations = made(lake)
    policy = policy_of(declarations)
    reader = Reader(lake, lambda: policy, Principal("ann"), AuditLog(tmp_path / "audit", lambda _: None), Notices(lambda _: None))
    rows_shown = reader.scan(watched.of, as_text=True).collect()
    assert rows_shown.equals(PersonalColumns(lake, lambda: policy).masked(lake.table(watched.of).scan(), watched.of).collect())
    assert set(rows_shown["key"].drop_nulls()) == {"•••"}
