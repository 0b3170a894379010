"""The leakage report finds what was planted, names it, and is quiet where nothing was."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.gates import LeakageLimits
from lakehouse_assets.platform.features.leakage import Leakage, LeakageReport, sample
from lakehouse_assets.platform.features.manifest import pin
from lakehouse_assets.platform.features.training_set import training_set
from lakehouse_assets_tests.platform.features.shop import CARDS, EXAMPLES, MOMENT, ORDERS, START, frames, written

ROWS = 3000
INPUTS = ("amount", "orders", "country", "day")


def honest(seed: int = 1, task: str = "binary") -> pl.DataFrame:
    """Rows whose target is noise and, in part, what the inputs say."""
    random = np.random.default_rng(seed)
    amount, orders = random.gamma(2, 30, ROWS), random.integers(0, 40, ROWS)
    signal = amount / 40 + orders / 20 + random.normal(0, 1, ROWS)
    values = {"binary": signal > 3.2, "classes": np.array(["low", "middle", "high"])[np.digitize(signal, [1.5, 3])], "regression": signal}
    return pl.DataFrame(
        {
            "invoice": np.arange(ROWS),
            "at": pl.Series([START + timedelta(hours=int(hour)) for hour in np.sort(random.integers(0, 9000, ROWS))], dtype=MOMENT),
            "amount": pl.Series(amount).set(pl.Series(random.random(ROWS) < 0.1), None),
            "orders": orders,
            "country": pl.Series(random.choice(["GB", "DE", "FR"], ROWS)),
            "day": pl.Series([date(2000, 1, 1) + timedelta(days=int(age)) for age in random.integers(0, 5000, ROWS)]),
            "target": values[task],
        }
    )


def look(rows: pl.DataFrame, inputs=INPUTS, limits: LeakageLimits | None = None) -> LeakageReport:
    return Leakage(limits or LeakageLimits()).report_rows(
        rows, key=("invoice",), at="at", target="target", inputs=inputs, seed=0, compute=Local()
    )


def seen(report: LeakageReport, level: str = "warn") -> dict[str, str]:
    """Kind of finding by column, of those that are no notes."""
    return {finding.column: finding.kind for finding in report.findings if finding.level != "note"}


@pytest.mark.parametrize("task", ["binary", "classes", "regression"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_is_quiet_on_honest_rows(task, seed):
    report = look(honest(seed, task))
    assert seen(report) == {}
    assert report.passed
    assert report.level == "note"
    strongest = report.inputs.row(0, named=True)
    assert strongest["input"] in {"amount", "orders"}
    assert 0.05 < strongest["strength"] < 0.8
    assert report.numbers["drift"] < 0.6


TARGET = pl.col("target")
NOISE = pl.col("invoice").hash(5) % 1000


@pytest.mark.parametrize(
    ("task", "planted", "kind"),
    [
        ("regression", TARGET, "equals"),
        ("binary", TARGET, "equals"),
        ("classes", TARGET, "equals"),
        ("binary", TARGET.cast(pl.Int8), "equals"),
        ("binary", ~TARGET, "determines"),
        ("binary", pl.when(TARGET).then(pl.lit("refunded")).otherwise(pl.format("paid {}", NOISE % 7)), "determines"),
        ("binary", pl.when(TARGET).then(NOISE + 5000).otherwise(NOISE).cast(pl.Float64), "determines"),
        ("binary", pl.when(TARGET).then(NOISE), "determines"),  # null wherever the answer is no
        ("binary", pl.when(TARGET).then(NOISE + 0.5).otherwise(0.0), "determines"),  # and 0, next to small amounts
        ("regression", TARGET * 1.2 + 7, "determines"),
        ("regression", TARGET.exp(), "determines"),
        ("classes", TARGET.replace_strict({"low": 3, "middle": 1, "high": 2}), "determines"),
        ("classes", TARGET.cast(pl.Enum(["high", "low", "middle"])), "equals"),
        ("binary", pl.when(TARGET).then(date(2024, 1, 1)), "determines"),
    ],
)
def test_a_column_that_gives_the_answer_away_is_found(task, planted, kind):
    report = look(honest(1, task).with_columns(planted=planted), (*INPUTS, "planted"))
    assert seen(report) == {"planted": kind}
    assert report.findings[0].column == "planted"
    assert "planted" in report.sentences()[0]
    assert "without=" in report.sentences()[0]


def test_an_error_fails_and_a_limit_turns_it_into_a_note():
    rows = honest(1).with_columns(planted=TARGET)
    assert not look(rows, (*INPUTS, "planted")).passed
    never = (float("inf"), float("inf"))
    allowed = look(rows, (*INPUTS, "planted"), LeakageLimits(determines=never, equals=never))
    assert allowed.passed
    assert seen(allowed) == {}


def test_columns_that_are_all_good_are_no_leak():
    """Of a series that goes on as it was, each of several averages predicts nearly everything."""
    random = np.random.default_rng(4)
    level = random.lognormal(5, 2, ROWS)
    near = {f"average_{days}": pl.Series(level * random.normal(1, 0.05, ROWS)) for days in (7, 28, 56)}
    rows = honest(1).with_columns(target=pl.Series(level * random.normal(1, 0.05, ROWS)), **near)
    report = look(rows, (*INPUTS, *near))
    assert report.inputs["strength"][2] > 0.95
    assert seen(report) == {}


def test_two_copies_of_the_answer_do_not_excuse_each_other():
    status = pl.when(TARGET).then(pl.lit("refunded")).otherwise(pl.lit("paid"))
    rows = honest(1).with_columns(refund=pl.when(TARGET).then(NOISE), status=status)
    assert seen(look(rows, (*INPUTS, "refund", "status"))) == {"refund": "determines", "status": "determines"}


def test_columns_that_count_time_or_name_rows_are_found():
    rows = honest(1).with_columns(
        number=pl.col("invoice") + 536_000,
        code=pl.format("INV{}", pl.col("invoice") + 100_000),
        back=-pl.col("at").dt.timestamp(),
        token=pl.col("invoice").hash(3).cast(pl.String),
        weekday=pl.col("at").dt.weekday(),
    )
    found = seen(look(rows, (*INPUTS, "number", "code", "back", "token", "weekday")))
    assert found == {"number": "clock", "code": "clock", "back": "clock", "token": "identifier"}


def test_test_rows_of_another_kind_are_found_with_the_column_that_tells():
    newest = pl.col("at") >= pl.col("at").quantile(0.8)
    rows = honest(1).with_columns(orders=pl.when(newest).then(pl.col("orders") + 30).otherwise("orders"))
    report = look(rows)
    assert seen(report) == {"orders": "drift"}
    assert report.numbers["drift"] > 0.8
    assert "orders" in report.sentences()[0]
    assert report.passed, "drift warns, unless a limit says otherwise"
    assert not look(rows, limits=LeakageLimits(drift=(0.6, 0.7))).passed


def first_year(**more: pl.Expr) -> pl.DataFrame:
    """Honest rows of eleven months, in which the season goes one way."""
    rows = honest(1).with_columns(
        temperature=15 - 12 * (pl.col("at").dt.ordinal_day() * 6.283 / 365).cos() + pl.col("amount").fill_null(0) / 40
    )
    return rows.with_columns(**more)


@pytest.mark.parametrize("part", ["month", "quarter", "week", "weekday", "day", "ordinal_day", "hour"])
def test_the_calendar_is_no_leak_in_the_first_year_either(part):
    rows = first_year(part=getattr(pl.col("at").dt, part)(), wide=getattr(pl.col("at").dt, part)().cast(pl.Float64))
    assert seen(look(rows, (*INPUTS, "part", "wide"))) == {}


def test_a_season_says_what_it_means_and_is_quiet_where_it_is_declared():
    rows = first_year()
    report = look(rows, (*INPUTS, "temperature"))
    assert seen(report) == {"temperature": "drift"}
    assert report.passed
    [said] = report.sentences()
    assert "no answer away" in said
    assert "Gate(leakage=LeakageLimits(known=('temperature',)))" in said
    assert seen(look(rows, (*INPUTS, "temperature"), LeakageLimits(known=("temperature",)))) == {}


def test_what_is_declared_as_known_is_neither_answer_nor_clock_nor_name_and_all_else_still_is():
    rows = honest(1).with_columns(planned=TARGET.cast(pl.Int8), number=pl.col("invoice"), token=pl.col("invoice").hash(3).cast(pl.String))
    rows = rows.with_columns(other=pl.col("planned"))
    inputs = (*INPUTS, "planned", "number", "token", "other")
    assert seen(look(rows, inputs, LeakageLimits(known=("planned", "number", "token")))) == {"other": "equals"}


def test_every_finding_says_what_to_do():
    rows = honest(1).with_columns(planted=~TARGET, number=pl.col("invoice"), token=pl.col("invoice").hash(3).cast(pl.String))
    early = pl.col("at") - pl.when(pl.col("invoice") < 300).then(timedelta(days=1)).otherwise(timedelta(0))
    newest = pl.when(pl.col("at") >= pl.col("at").quantile(0.8)).then(pl.col("orders") + 30).otherwise("orders")
    report = look(rows.with_columns(label_known_at=early, orders=newest), (*INPUTS, "planted", "number", "token"))
    assert {*seen(report).values()} >= {"determines", "clock", "identifier", "early", "drift"}
    assert all(any(word in said for word in ("without=", "known_at=", "TimeFolds")) for said in report.sentences())


def test_targets_that_were_known_before_the_prediction_are_found():
    rows = honest(1).with_columns(
        label_known_at=pl.col("at") - pl.when(pl.col("invoice") < 300).then(timedelta(days=1)).otherwise(timedelta(0))
    )
    report = look(rows)
    assert seen(report) == {"": "early"}
    assert not report.passed
    assert report.numbers["early"] == 0.1


def test_few_rows_one_class_and_empty_columns_are_an_answer():
    assert look(honest(1).head(10)).sentences("note")[-1].startswith("10 rows: too few")
    assert look(honest(1).clear()).passed
    assert look(honest(1).with_columns(target=pl.lit(value=True))).passed
    report = look(
        honest(1).with_columns(empty=pl.lit(None, pl.Float64), nothing=pl.lit(None, pl.String), same=1),
        (*INPUTS, "empty", "nothing", "same"),
    )
    assert seen(report) == {}


def test_a_report_depends_on_neither_row_order_nor_chunks():
    rows = honest(2).with_columns(planted=TARGET.cast(pl.Int8))
    first = look(rows, (*INPUTS, "planted"))
    again = look(pl.concat([rows[1000:], rows[:1000]], rechunk=False).sample(fraction=1, shuffle=True, seed=1), (*INPUTS, "planted"))
    assert first.findings == again.findings
    assert first.inputs.equals(again.inputs)


def test_a_sample_is_the_same_whatever_the_order():
    rows = honest(1)
    chosen = sample(rows, ["invoice"], 500)
    assert chosen.height == 500
    assert sample(rows.reverse(), ["invoice"], 500).equals(chosen)


def test_a_training_set_tells_naive_joins_and_assumed_times(tmp_path):
    pinned = pin(written(str(tmp_path / "root"), frames(600)), EXAMPLES.sources())
    report = Leakage().report(training_set(EXAMPLES, pinned), pinned.read, seed=0, compute=Local())
    assert report.passed
    by_kind = {(finding.kind, finding.column): finding for finding in report.findings}
    future = by_kind["future", CARDS]
    # Each order uses a card at its own time: the payment itself is known five minutes or three days later.
    assert future.number == 1.0
    assert "100.0% of the rows" in future.sentence
    assert by_kind["future", ORDERS].number == 0.0
    assert 0 < by_kind["assumed", CARDS].number < 0.5
    assert by_kind["assumed", ORDERS].number == 0.0
    assert report.rows == report.looked_at == 600
