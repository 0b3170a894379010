"""No value of a personal column stands in what is watched, told or shown: tables of the platform, alerts, and the report of all pages."""

import json
import logging
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from io import BytesIO

import polars as pl
import pytest

from lakehouse_assets import (
    Contract,
    Drift,
    Feed,
    Timestamp,
    Upsert,
    Volume,
    column,
    conform,
    day,
    feed,
    monitor,
    open_lakehouse,
    table,
    text,
    timestamp,
    whole_number,
)
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.messages import Message
from lakehouse_assets.platform.monitoring.alerts.sources.files import RefusedFiles
from lakehouse_assets.platform.monitoring.alerts.sources.quarantines import QuarantineSpikes
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.monitoring.evaluation import Evaluation
from lakehouse_assets.platform.monitoring.kinds.implied import all_monitors
from lakehouse_assets.platform.monitoring.kinds.not_ahead import NotAhead
from lakehouse_assets.platform.orchestration.autoload import Products
from lakehouse_assets.views import report
from lakehouse_assets_tests.running import land_text, run_declared

START = date(2026, 1, 5)
NOW = datetime(2026, 2, 14, tzinfo=UTC)
DAYS, ROWS = 30, 40
BRONZE, SILVER = "hotel.bronze.guests", "hotel.silver.guests"
PERSONAL = ("name", "age", "born")
SECRET = ("Zebulon", "777000", "777,000", "779222", "779,222", "1931-")
"""What each value of a personal column has in it."""


class Guest(Contract):
    """A guest."""

    guest: str = column(key=True)
    seen: Timestamp
    name: str = column(nullable=True, personal=True)
    age: int = column(nullable=True, personal=True, le=778_000_000)
    born: date = column(nullable=True, personal=True)
    city: str = column()


guests = feed(BRONZE, Feed("guests", headers=(("guest", "seen", *PERSONAL, "city"),), personal=PERSONAL), "As they came.")


@table(SILVER, contract=Guest, kind=Upsert(("guest",)), inputs={"rows": BRONZE})
def typed(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Guests."""
    return conform(
        rows,
        guest=text("guest"),
        seen=timestamp("seen", formats=("%Y-%m-%dT%H:%M:%S",)),
        name=text("name"),
        age=whole_number("age"),
        born=day("born", formats=("%Y-%m-%d",)),
        city=text("city"),
    )


WATCHED = (
    monitor("hotel.monitors.moved", of=typed, kind=Drift("seen", slices=("city", "name"), against=f"{SILVER}@1")),
    monitor("hotel.monitors.born", of=typed, kind=Volume(time="born")),
    monitor("hotel.monitors.ahead", of=typed, kind=NotAhead("born", (SILVER,))),
)
DECLARED = (guests, typed, *WATCHED)


def file_of(first: int, days: int, **changed: pl.Expr) -> str:
    """Rows of some days; the header is not in it."""
    rows = [
        {
            "guest": f"g{number}-{one}",
            "seen": datetime.combine(START + timedelta(days=number, hours=1), datetime.min.time()).isoformat(),
            "name": f"Zebulon {one}",
            "age": 777_000_000 + one,
            "born": f"1931-01-{one % 27 + 1:02}",
            "city": "Bath" if one % 2 else "York",
        }
        for number in range(first, first + days)
        for one in range(ROWS)
    ]
    return pl.DataFrame(rows).with_columns(**changed).write_csv(include_header=False)


def secrets_in(said: str) -> list[str]:
    return [secret for secret in SECRET if secret in said]


def frames_in(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """The rows, or where they hold frames, these."""
    if not isinstance(rows.schema.get("content"), pl.Binary):
        return [rows]
    return [rows.drop("content"), *(pl.read_ipc(BytesIO(content)) for content in rows["content"])]


def test_no_personal_value_is_watched_told_or_shown(settings):
    lake = open_lakehouse(settings=settings, declarations=DECLARED)
    lakehouse, catalog = lake.context.root.lakehouse, Catalog(DECLARED)
    header = "guest,seen,name,age,born,city\n"
    land_text(settings, "guests", "a.csv", header + file_of(0, DAYS))
    run_declared(settings, Products(catalog))
    wrong = {
        "city": pl.lit("Bath"),
        "age": pl.col("age") + 2_222_200 * (pl.int_range(pl.len()) % 3 == 0),
        "name": pl.col("name") + " again",
        "born": pl.lit("1931-12-31"),
    }
    land_text(settings, "guests", "b.csv", header + file_of(DAYS, 5, **wrong))
    land_text(settings, "guests", "without_header.csv", file_of(DAYS + 5, 1))
    run_declared(settings, Products(catalog))
    said = Evaluation(lakehouse, catalog, lambda: None, NOW, "run", lambda _: None).run(all_monitors(DECLARED))
    assert {one.monitor.name for one in said if one.verdicts and one.verdicts[0].error} == set(), said
    sources = [
        Verdicts(lakehouse, {}),
        QuarantineSpikes(lakehouse, {SILVER: ""}),
        RefusedFiles(lakehouse, {"guests": ""}, lake.context.root.zone),
    ]
    entries = take(AlertLog(lakehouse), sources, NOW, logging.getLogger("test")).entries
    kinds = {entry.key.split(":")[1] for entry in entries}
    assert kinds >= {"guests", "hotel.monitors.moved"}, "something is told"
    message = Message(entries, "lake")
    assert secrets_in(json.dumps(message.values()) + message.text + message.subject) == []
    names = [one.name for one in lakehouse.tables() if one.name.startswith("platform.")]
    assert len(names) > 5
    for name in names:
        rows = lakehouse.table(name).scan().collect()
        assert rows.height
        for frame in frames_in(rows):
            assert secrets_in(frame.write_json()) == [], name
    assert secrets_in(lakehouse.table(SILVER).scan().collect().write_json()) != [], "they are stored"
    html = report.as_html(lake)
    assert "Bath" in html or SILVER in html
    assert secrets_in(html) == []


def test_where_the_time_is_personal_its_newest_value_is_not_said(settings):
    """Of rows that stand still, and of rows that are of days to come."""
    lake = open_lakehouse(settings=settings, declarations=DECLARED)
    catalog = Catalog(DECLARED)
    header = "guest,seen,name,age,born,city\n"
    for name, born in (("a.csv", "1931-12-31"), ("b.csv", "2331-12-31")):
        land_text(settings, "guests", name, header + file_of(0 if name == "a.csv" else 1, 1, born=pl.lit(born)))
        run_declared(settings, Products(catalog))
        evaluation = Evaluation(lake.context.root.lakehouse, catalog, lambda: None, NOW, "run", lambda _: None)
        verdicts = [verdict for one in evaluation.run(WATCHED[1:]) for verdict in one.verdicts]
        assert len(verdicts) == 2
        assert "31-12-31" not in "".join(f"{one.text} {dict(one.numbers)}" for one in verdicts)


def test_a_personal_column_says_not_how_fresh_a_table_is():
    class Seen(Guest, fresh_by="born", fresh_within=timedelta(days=2)):
        """A guest."""

    with pytest.raises(DeclarationError, match="fresh_by='born' is personal"):
        replace(typed, contract=Seen)
