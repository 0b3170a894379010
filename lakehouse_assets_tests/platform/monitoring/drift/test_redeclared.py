"""What holds of a monitor, and which of its alerts are open, follows from how it is declared now and from the table as it is now.

However it was declared before, it is what a lakehouse says that never knew another declaration. The suite tries a sample;
`python -m benchmarks.sweeps` tries everything.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lakehouse_assets import AlertRule, Contract, Drift, Freshness, Timestamp, Upsert, column, monitor, table
from lakehouse_assets.platform.declarations.monitors import Monitor
from lakehouse_assets.platform.monitoring import verdicts
from lakehouse_assets.platform.monitoring.alerts.log import AlertLog
from lakehouse_assets.platform.monitoring.alerts.sources.verdicts import Verdicts
from lakehouse_assets.platform.monitoring.alerts.take import take
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.monitoring.accuracy.judging import evaluation
from lakehouse_assets_tests.platform.monitoring.drift.test_profile_tables import START

DAY, A_DAY, BAD_DAY = timedelta(days=1), 90, 4
NOW = START + (BAD_DAY + 1) * DAY
NAME = "shop.silver.orders"


class Order(Contract):
    """An order."""

    till: str = column(key=True)
    at: Timestamp
    city: str
    amount: float


@table(NAME, contract=Order, kind=Upsert(("till",)), inputs={"rows": "shop.bronze.orders"})
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Orders."""
    return rows


def of_day(day: int, *, is_bad: bool = False) -> pl.DataFrame:
    """The orders of a day; of a bad one the amounts of a city are too large and the tills others."""
    random = np.random.default_rng(day + 100)
    city = random.choice(["Basel", "Bern"], A_DAY)
    amount = random.lognormal(size=A_DAY) * np.where((city == "Bern") & is_bad, 1_000, 1)
    at = [START + day * DAY + timedelta(minutes=15 * number) for number in range(A_DAY)]
    till = pl.Series(["new" if is_bad else f"till {number}" for number in random.integers(0, 3, A_DAY)])
    frame = pl.DataFrame({"at": at, "city": city, "till": till, "amount": amount}, schema_overrides={"at": pl.Datetime("us", "UTC")})
    return frame.with_columns(day=pl.col("at").dt.date())


DRIFT = Drift("at", slices=("city",), keys=("till",), against=f"{NAME}@1")
MOVED = monitor("shop.monitors.moved", of=NAME, kind=DRIFT)
FRESH = monitor("shop.monitors.fresh", of=NAME, kind=Freshness("at", DAY))
PLAIN, LONGER = replace(MOVED, kind=replace(DRIFT, slices=())), replace(MOVED, kind=replace(DRIFT, every="2d"))
WITHOUT_TILLS, OTHER_BASELINE = replace(MOVED, kind=replace(DRIFT, keys=())), replace(MOVED, kind=replace(DRIFT, against=f"{NAME}@2"))
CHANGES = {
    "nothing": (MOVED, MOVED),
    "slices removed": (MOVED, PLAIN),
    "slices added": (PLAIN, MOVED),
    "slices removed and added": (MOVED, PLAIN, MOVED),
    "column left out": (MOVED, WITHOUT_TILLS),
    "column taken in": (WITHOUT_TILLS, MOVED),
    "longer windows": (MOVED, LONGER),
    "shorter windows": (LONGER, MOVED),
    "longer and shorter windows": (MOVED, LONGER, MOVED),
    "severity": (MOVED, replace(MOVED, severity="error")),
    "lower severity": (replace(MOVED, severity="error"), MOVED),
    "owner": (MOVED, replace(MOVED, owner="team:other")),
    "baseline": (MOVED, OTHER_BASELINE),
    "baseline and back": (MOVED, OTHER_BASELINE, MOVED),
    "removed and declared again": (MOVED, None, MOVED),
    "removed and declared otherwise": (MOVED, None, PLAIN),
    "another kind": (MOVED, replace(MOVED, kind=Freshness("at", 9 * DAY))),
    "another kind before": (replace(MOVED, kind=Freshness("at", timedelta(minutes=1))), MOVED),
}


def corrected(lake: Lakehouse) -> None:
    """The bad day comes again as it should be."""
    lake.table(NAME).replace(of_day(BAD_DAY), {"day": [(START + BAD_DAY * DAY).date()]})


def deleted(lake: Lakehouse) -> None:
    """The rows of the bad day are taken out."""
    lake.table(NAME).replace(of_day(BAD_DAY).clear(), {"day": [(START + BAD_DAY * DAY).date()]})


TABLES: dict[str, Callable[[Lakehouse], None]] = {"still failing": lambda _: None, "corrected": corrected, "deleted": deleted}


CASES = sweeps.cases(
    (pytest.param(change, of, id=f"{change}, {of}") for change in CHANGES for of in TABLES),
    [
        *("nothing, corrected", "nothing, deleted", "slices removed, still failing", "slices removed and added, still failing"),
        *("column left out, still failing", "longer windows, still failing", "longer windows, deleted", "shorter windows, still failing"),
        *("lower severity, still failing", "owner, still failing", "baseline and back, corrected", "another kind, still failing"),
        *("removed and declared again, still failing", "removed and declared again, corrected"),
    ],
)
AFTERWARDS = sweeps.cases(
    (pytest.param(change, of, id=f"{change}, {of}") for change in CHANGES for of in TABLES if of != "still failing"),
    ["slices added, deleted", "longer and shorter windows, corrected", "removed and declared otherwise, corrected"],
)


def told(lake: Lakehouse, watched: Monitor | None, now: datetime = NOW) -> list[tuple[str, str]]:
    """What alerts say after an evaluation; None: the monitor is not declared."""
    given = [FRESH] if watched is None else [FRESH, watched]
    evaluation(lake, now, (orders,)).run(given)
    source = Verdicts(lake, {one.name: one.alert for one in given}, given)
    names = {one.name for one in given}

    def why_gone(key: str, _: object) -> str:
        return "" if key.split(":")[1] in names else "It is gone."

    taken = take(AlertLog(lake), [source], now, logging.getLogger("test"), why_gone=why_gone)
    return [(entry.key, entry.event) for entry in taken.entries]


def seen(lake: Lakehouse, watched: Monitor) -> dict[str, object]:
    """What there is to be seen of a monitor."""
    holding = verdicts.latest(lake, [watched])[watched.name]
    alerts = AlertLog(lake).alerts(open_only=True)
    return {
        "state": verdicts.state_of(holding),
        "failed": {(row["slice_value"], row["column_name"], row["severity"], row["owner"]) for row in holding if row["passed"] is False},
        "not over": set(verdicts.not_over(lake, watched.name)),
        "open": {(one["key"], one["severity"], one["owner"]) for one in alerts if watched.name in one["key"]},
    }


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Gives lakehouses: by the monitor that judged the bad day, each a copy of its own."""
    folder, number = tmp_path_factory.mktemp("shop"), Counter[str]()
    lake = Lakehouse(str(folder / "first"))
    stored = lake.table(NAME)
    stored.create(of_day(0).schema, ("day",))
    stored.append(pl.concat([of_day(day) for day in range(-20, 0)]))
    stored.append(pl.concat([of_day(day) for day in range(1, BAD_DAY)]))
    stored.append(of_day(BAD_DAY, is_bad=True))
    told(lake, None)  # alerts are told from here on
    others = [one for _, one, *_ in CHANGES.values() if one is not None]
    for one in {repr(one.kind): one for one in [MOVED, *others] if isinstance(one.kind, Drift)}.values():
        evaluation(lake, NOW, (orders,)).judge(replace(one, name=f"shop.monitors.other{number.total()}"))  # baselines are counted once
        number["other"] += 1

    def copied(of: str) -> Lakehouse:
        number["copy"] += 1
        to = Path(folder, f"copy{number['copy']}")
        shutil.copytree(folder / of, to)
        return Lakehouse(str(to))

    @cache
    def judged(watched: Monitor) -> str:
        lake = copied("first")
        told(lake, watched)
        return Path(lake.root).name

    @cache
    def fresh(watched: Monitor, of: str) -> dict[str, object]:
        lake = copied("first")
        TABLES[of](lake)
        told(lake, watched)
        return seen(lake, watched)

    return lambda watched: copied(judged(watched)), fresh


@pytest.mark.parametrize(("change", "of"), CASES)
def test_what_holds_follows_from_the_declaration_and_the_table_as_they_are(shop, change, of):
    lakehouse, fresh = shop
    first, *then = CHANGES[change]
    lake = lakehouse(first)
    before = seen(lake, first)
    assert before["state"] == "failed"
    assert before["open"]
    for watched in then[:-1]:
        told(lake, watched)
    TABLES[of](lake)
    wanted = fresh(then[-1], of)
    events = told(lake, then[-1])
    assert seen(lake, then[-1]) == wanted
    if None not in then:
        assert not {key for key, event in events if event == "resolved"} & {key for key, event in events if event == "opened"}
    assert told(lake, then[-1]) == [], "nothing is told twice"
    assert seen(lake, then[-1]) == wanted


@pytest.mark.parametrize(("change", "of"), AFTERWARDS)
def test_what_is_corrected_after_the_declaration_changed_is_over(shop, change, of):
    lakehouse, fresh = shop
    first, *then = CHANGES[change]
    lake = lakehouse(first)
    for watched in then:
        told(lake, watched)
    TABLES[of](lake)
    told(lake, then[-1])
    assert seen(lake, then[-1]) == fresh(then[-1], of)


def test_what_is_not_declared_any_more_says_so_and_no_more_is_read_where_nothing_changed(shop):
    lakehouse, _ = shop
    lake = lakehouse(MOVED)
    told(lake, PLAIN)
    said = {row["text"] for row in verdicts.history(lake, MOVED.name, 100) if row["slice_value"] == "Bern" and row["passed"]}
    assert said == {f"{name} is not watched any more: the monitor has no slices by city now." for name in ("amount", "till")}
    log = lake.table(platform_tables.VERDICTS)
    version = log.version()
    told(lake, PLAIN)
    assert log.version() == version


@pytest.mark.parametrize("resolve_after", [1, 2, 4])
def test_as_many_windows_are_judged_again_as_an_alert_takes(shop, resolve_after):
    lakehouse, _ = shop
    rule = AlertRule(consecutive=3, resolve_after=resolve_after)
    plain, moved = replace(PLAIN, alert=rule), replace(MOVED, alert=rule)
    later, lakes = NOW + 2 * DAY, (lakehouse(plain), lakehouse(None))
    for lake in lakes:
        lake.table(NAME).append(pl.concat([of_day(BAD_DAY + day, is_bad=True) for day in (1, 2)]))
    told(lakes[0], plain, later)
    for lake in lakes:
        told(lake, moved, later)
    # What was open before is resolved by as many good windows as it takes, which a lakehouse that never opened it does not wait for.
    after_plain, at_once = ({key for key, *_ in seen(lake, moved)["open"] if "city=" in key} for lake in lakes)
    assert after_plain == at_once == {"monitor:shop.monitors.moved:amount:city=Bern"}


@pytest.mark.parametrize("became", ["declaration", "table"])
def test_what_does_not_fail_any_more_says_no_more_than_is_known(shop, became):
    """The same sentence is said where the declaration is another one and where the table is."""
    lakehouse, _ = shop
    lake, base = lakehouse(None), "shop.silver.base"
    lake.table(base).create(of_day(0).schema, ("day",))
    lake.table(base).append(pl.concat([of_day(day) for day in range(-20, 0)]))
    watched = replace(MOVED, kind=replace(DRIFT, against=f"{base}@1"))
    told(lake, watched)
    stored = lake.table(NAME)
    if became == "declaration":
        deleted(lake)
    else:
        rows = stored.scan().filter(pl.col("at") < START + BAD_DAY * DAY).collect()
        shutil.rmtree(stored.uri)
        stored.create(rows.schema, ("day",))
        stored.append(rows)
    told(lake, watched if became == "table" else replace(watched, severity="error"))
    said = [row["text"] for row in verdicts.history(lake, MOVED.name, 100) if "does not fail" in row["text"]]
    assert "amount does not fail any more: the monitor's declaration, its baseline or the table is another one now." in said
