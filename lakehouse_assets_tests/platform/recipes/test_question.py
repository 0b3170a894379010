"""What is asked of a table that nobody has described: the task, what is learnt from, and a reason for each column that is left out."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.recipes.automl import first_model
from lakehouse_assets.platform.recipes.question import ROW, NoQuestion, question
from lakehouse_assets_tests.platform.recipes.shop_orders import orders

ROWS = pl.DataFrame(
    {
        "number": range(40),
        "reference": [f"r{number}" for number in range(40)],
        "day": [date(2025, 1, 1) + timedelta(days=number) for number in range(40)],
        "amount": [float(number % 7) for number in range(40)],
        "size": ["S", "M", "L", None] * 10,
        "back": [number % 3 == 0 for number in range(40)],
        "kept": ["yes", "no", "no", "no"] * 10,
        "grade": [1, 2, 3, 4] * 10,
        "flag": [0, 1] * 20,
        "shop": ["north"] * 40,
        "nothing": [None] * 40,
        "lines": [[1, 2]] * 40,
        "email": ["a@b.c", "d@e.f"] * 20,
    },
    schema_overrides={"nothing": pl.Float64},
)


def asked(target, rows=ROWS, time=None, entity=(), personal=("email",), without=(), **options):
    return question(rows, "shop.silver.orders", target, time, entity, personal, without, **options)


@pytest.mark.parametrize(
    ("target", "task", "positive", "classes"),
    [
        ("back", "binary", None, ()),
        ("kept", "binary", "yes", ()),
        ("flag", "binary", "1", ()),
        ("grade", "multiclass", None, ("1", "2", "3", "4")),
        ("size", "multiclass", None, ("L", "M", "S")),
        ("amount", "regression", None, ()),
    ],
)
def test_the_task_follows_from_the_values(target, task, positive, classes):
    found = asked(target)
    assert (found.task, found.positive, found.classes) == (task, positive, classes)
    learnt = found.examples(ROWS)[target]
    assert learnt.dtype == {"binary": pl.Boolean, "multiclass": pl.String, "regression": pl.Float64}[task]
    assert learnt.null_count() == 0
    assert len(learnt) == ROWS[target].count()


def test_columns_that_nothing_can_be_learnt_from_are_left_out_with_a_reason():
    found = asked("back", time="day")
    assert found.entity == ("number",)
    assert set(found.inputs) == {"amount", "size", "kept", "grade", "flag"}
    notes = {one.name: one.note for one in found.columns if one.use == "left out"}
    assert notes.keys() == {"reference", "shop", "nothing", "lines", "email"}
    assert notes["reference"] == "an identifier: 40 different values in 40 rows"
    assert notes["shop"] == "it is the same in all rows"
    assert notes["email"] == "personal data"
    assert next(one.example for one in found.columns if one.name == "email") == ""
    assert any("Assumed: number names a row" in note for note in found.notes)


def test_without_a_time_or_a_key_it_is_said_what_is_missing():
    rows = ROWS.drop("number", "reference")
    found = asked("back", rows)
    assert found.entity == (ROW,)
    assert any("nothing guards against learning from the future" in note for note in found.notes)
    assert any("without --entity no product is written" in note for note in found.notes)
    assert found.examples(rows).height == 40


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "bakc"}, r"--target bakc: shop.silver.orders has no such column.*Did you mean back"),
        ({"target": "back", "time": "size"}, r"--time size: it is String, not a date or a moment"),
        ({"target": "back", "entity": ("nobody",)}, r"--entity nobody"),
        ({"target": "back", "without": ("nobody",)}, r"--without nobody"),
        ({"target": "back", "keep": ("nobody",)}, r"--keep nobody"),
        ({"target": "back", "settled": timedelta(days=3)}, r"--settled counts from the time of a row: name its column with --time"),
        ({"target": "shop"}, r"it has 1 value in 40 rows that have one, so there is nothing to predict"),
        ({"target": "nothing"}, r"it has 0 value"),
        ({"target": "reference"}, r"a text with 40 different values"),
        ({"target": "day"}, r"it is Date, and numbers, texts and Booleans are predicted"),
        ({"target": "back", "rows": ROWS.select("number", "back", "shop")}, r"no column to learn back from: .*shop: it is the same"),
    ],
)
def test_what_cannot_be_asked_is_said(options, said):
    with pytest.raises(NoQuestion, match=said):
        asked(**options)


def test_few_rows_end_with_how_many_are_missing():
    with pytest.raises(NoQuestion, match="40 rows with a known back, and a search needs 50: 10 more are missing"):
        first_model(asked("back"), ROWS, seconds=0.1, seed=1, compute=Local())


def test_columns_that_are_not_wanted_are_left_out():
    found = asked("back", time="day", without=("amount", "grade"))
    assert set(found.inputs) == {"size", "kept", "flag"}
    assert {one.note for one in found.columns if one.name in {"amount", "grade"}} == {"as asked by --without"}


def test_a_column_that_is_the_answer_is_left_out_unless_it_is_kept():
    """Of the value that the target has, or filled only where it is true."""
    answers = {"refunded": pl.when("charged_back").then("amount").otherwise(0.0), "copy": pl.col("charged_back").cast(pl.Int64)}
    rows = orders(600).with_columns(**answers)
    wanted = asked("charged_back", rows, "ordered_at")
    found = first_model(wanted, rows, seconds=0, seed=1, compute=Local())
    assert set(found.question.inputs) == {"amount", "country", "method"}
    report = found.report()
    assert "refunded | Float64 | left out" in report
    assert "it may be made from the answer" in report
    assert "it is the answer: it equals the target in 100.00% of the rows" in report
    assert not found.warnings
    kept = first_model(wanted, rows, seconds=0, seed=1, compute=Local(), keep=("refunded",))
    assert set(kept.question.inputs) == {"amount", "country", "method", "refunded"}
    assert any("refunded alone predicts" in said and "--without refunded" in said for said in kept.warnings)
    with pytest.raises(NoQuestion, match=r"no column to learn charged_back from: .*copy: it is the answer"):
        only = rows.select("order", "charged_back", *answers)
        first_model(asked("charged_back", only), only, seconds=0, seed=1, compute=Local())


def test_a_search_that_was_interrupted_goes_on_and_finds_what_it_would_have_found(tmp_path):
    rows = orders(300)
    wanted = asked("amount", rows, "ordered_at")

    def board(trials: int, folder: Path | None) -> pl.DataFrame:
        found = first_model(wanted, rows, seconds=600, seed=1, compute=Local(), trials=trials, folder=folder)
        return found.board.drop("rank", "weight").filter(pl.col("trial").is_not_null()).sort("trial")

    first = board(3, tmp_path)
    resumed = board(5, tmp_path)
    assert (first.height, resumed.height) == (3, 5)
    assert resumed.head(3).equals(first)
    assert resumed.equals(board(5, None))


def test_the_report_has_the_baselines_and_pictures():
    rows = orders(600)
    found = first_model(asked("charged_back", rows, "ordered_at"), rows, seconds=600, seed=1, compute=Local(), trials=5)
    report = found.report()
    assert {"best rule", "share of each class"} <= set(found.board["candidate"])
    assert "| share of each class |" in report
    assert "learning_rate 0." in report
    assert not re.search(r"\d\.\d{6}", report), "numbers are rounded, those of parameters too"
    assert all(png.startswith(b"\x89PNG") for png in found.pictures().values())
    assert found.pictures().keys() == {"columns", "relations", "leaderboard"}


def test_a_moment_without_a_zone_is_taken_as_utc():
    rows = ROWS.with_columns(at=pl.lit(datetime(2025, 1, 1)) + pl.duration(hours=pl.col("number")))  # noqa: DTZ001
    assert asked("back", rows, "at").examples(rows)["label_known_at"].dtype == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("kind", ["moments", "dates", "moments without a zone", "a date of the row"])
def test_a_time_that_is_often_later_than_the_row_is_left_out_unless_it_is_kept(kind):
    rows = orders(600).with_row_index("n")
    # Later in a third of the rows, in one of a hundred, and never: on the same day, or unknown.
    late, day = timedelta(days=9), timedelta(days=1)
    rows = rows.with_columns(
        closed_at=pl.when(pl.col("n") % 3 == 0).then(pl.col("ordered_at") + late),
        moved_at=pl.when(pl.col("n") % 100 == 0).then(pl.col("ordered_at") + late).otherwise(pl.col("ordered_at") - late),
        seen=pl.when(pl.col("n") % 2 == 0).then(pl.col("ordered_at") - day).dt.date(),
    ).drop("n")
    times = {"moments": pl.col("closed_at"), "dates": pl.col("closed_at").dt.date()}
    times["moments without a zone"], times["a date of the row"] = pl.col("closed_at").dt.replace_time_zone(None), pl.col("closed_at")
    rows = rows.with_columns(times[kind])
    if kind == "a date of the row":
        rows = rows.with_columns(pl.col("ordered_at").dt.date(), same_day=pl.col("ordered_at"))
    found = asked("charged_back", rows, "ordered_at")
    notes = {one.name: one.note for one in found.columns if one.use == "left out"}
    assert set(found.inputs) - {"same_day"} == {"amount", "country", "method", "moved_at", "seen"}
    assert ("same_day" in found.inputs) == ("same_day" in rows.columns)
    assert notes["closed_at"].startswith("later than ordered_at in 200 of the 200 rows that have it, so it may be known only afterwards.")
    assert "closed_at" in asked("charged_back", rows, "ordered_at", keep=("closed_at",)).inputs
    assert "closed_at" in asked("charged_back", rows).inputs


@pytest.mark.parametrize("kind", ["dates", "moments", "moments without a zone"])
def test_a_row_from_the_future_does_not_settle_the_others(kind):
    at = {
        "dates": pl.col("day"),
        "moments": pl.col("day").cast(pl.Datetime("us", "UTC")),
        "moments without a zone": pl.col("day").cast(pl.Datetime),
    }
    rows = ROWS.with_columns(at[kind])
    typo = rows.tail(1).with_columns(day=pl.lit("2062-01-01").str.to_date().cast(rows.schema["day"]), number=pl.lit(40, pl.Int64))
    settled = timedelta(days=10)
    without, with_typo = (asked("back", one, "day", settled=settled).examples(one) for one in (rows, pl.concat([rows, typo])))
    assert with_typo.equals(without)
    assert any("1 row with day after now" in note for note in asked("back", pl.concat([rows, typo]), "day").notes)
    assert not any("after now" in note for note in asked("back", rows, "day").notes)
    then = datetime(2025, 1, 20, tzinfo=UTC)
    found = asked("back", rows, "day", settled=settled, asked_at=then).examples(rows)
    assert found.height == 10, "of the twenty days until then"


def test_an_outcome_that_settles_later_is_not_learnt_from_before():
    at_once = asked("back", time="day")
    assert any("Assumed: back is known at once" in note and "--settled DAYS" in note for note in at_once.notes)
    assert at_once.examples(ROWS).height == 40
    settled = asked("back", time="day", settled=timedelta(days=10))
    assert any("back counts as known 10 days after day" in note for note in settled.notes)
    found = settled.examples(ROWS)
    assert found["day"].max() == ROWS["day"].max() - timedelta(days=10)
    assert (found["label_known_at"].dt.date() - found["day"]).unique().to_list() == [timedelta(days=11)], "the end of the tenth day"
