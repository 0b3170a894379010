"""What an endpoint answered is scored like a table of predictions: by labels of the table, and those that were sent back."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.modelling.metrics import AveragePrecision
from lakehouse_assets.platform.monitoring.accuracy.step import AccuracyStep
from lakehouse_assets.platform.monitoring.accuracy.watched import watched_predictions
from lakehouse_assets.platform.monitoring.accuracy.windowed import Now, windowed
from lakehouse_assets.platform.monitoring.kinds.live_accuracy import LiveAccuracy, question_of
from lakehouse_assets.platform.serving.inference_log.log import InferenceLog
from lakehouse_assets.platform.serving.inference_log.records import FeedbackRecord, InferenceRecord
from lakehouse_assets.platform.serving.inference_log.spool import Bounds
from lakehouse_assets.platform.serving.inference_log.table import LoggedEndpoint
from lakehouse_assets_tests.platform.monitoring.accuracy.scored_shop import DAY, DECLARED, SETTLED, START, ScoredShop, asked, fraud, made
from lakehouse_assets_tests.platform.monitoring.accuracy.test_accuracy_incremental import stored

SECOND = timedelta(seconds=1)


@pytest.fixture
def shop(tmp_path):
    return ScoredShop(tmp_path / "tables")


@pytest.fixture
def log(shop, tmp_path):
    endpoint = LoggedEndpoint("fraud", "orders", personal=False)
    opened = InferenceLog(tmp_path / "spool", lambda: shop.lakehouse, [endpoint], Bounds(segment_seconds=3600))
    yield opened
    opened.release()


def ask(log, rows, *, version=1, after=SECOND, form="rows", **other):
    records = [
        InferenceRecord(
            request_id=f"{row['invoice']:032x}-{version}{form}{after.total_seconds():.0f}",
            row=0,
            endpoint="orders",
            received_at=row["at"] + after,
            event_time=row["at"],
            key={"invoice": row["invoice"]},
            model_name=fraud.name,
            model_version=version,
            prediction={"probability": row["probability"], "method": row["method"]},
            form=form,
            **other,
        )
        for row in rows.iter_rows(named=True)
    ]
    log.append(records)
    assert log.flush()


def step(shop, now):
    kind = LiveAccuracy(slices=("method", "country"))
    predicted = watched_predictions(asked.name, DECLARED, shop.lakehouse, kind.slices)
    return AccuracyStep(predicted, question_of(predicted, [kind]), now, 0)


def found(shop, cell="all"):
    return shop.rows().filter(metric="average precision", cell=cell, is_estimate=False).row(0, named=True)


def test_answers_meet_their_labels(shop, log):
    rows = made(7, 40, seed=1)
    ask(log, rows)
    # Asked again, tried out, refused: none of it is another prediction.
    ask(log, rows.head(50).with_columns(probability=pl.lit(0.5)), after=DAY)
    ask(log, rows.head(50).with_columns(probability=pl.lit(0.5)), form="dry_run", after=-SECOND)
    ask(log, rows.head(50).with_columns(probability=pl.lit(0.5)), status_code=422, after=-2 * SECOND)
    shop.label(rows)
    now = START + 7 * DAY + SETTLED
    step(shop, now - DAY).run()
    early = found(shop)
    assert (early["rows"], early["labelled"], early["provisional"]) == (280, 241, True)
    step(shop, now).run()
    row = found(shop)
    assert (row["predictions"], row["rows"], row["coverage"], row["provisional"]) == (asked.name, 280, 1.0, False)
    assert row["value"] == pytest.approx(AveragePrecision().score(rows.with_columns(actual="is_fraud")))
    for column, value in (("method", "card"), ("country", "DE")):
        part = rows.filter(pl.col(column) == value).with_columns(actual="is_fraud")
        assert found(shop, f"{column}={value}")["value"] == pytest.approx(AveragePrecision().score(part))


def test_labels_that_are_sent_back_change_their_windows(shop, log):
    rows = made(14, 20, seed=2)
    ask(log, rows)
    shop.label(rows, known=False)
    now = START + 14 * DAY + SETTLED
    step(shop, now).run()
    assert found(shop)["value"] is None, "all were honest"
    frauds = rows.filter("is_fraud", pl.col("at") < START + 7 * DAY)
    log.append_feedback(
        [
            FeedbackRecord(
                endpoint="orders",
                received_at=row["reported_at"],
                label={"is_fraud": True},
                known_at=row["reported_at"],
                key={"invoice": row["invoice"]},
            )
            for row in frauds.iter_rows(named=True)
        ]
    )
    assert log.flush()
    again = step(shop, now + DAY)
    assert again.run() == 1, "the first week alone"
    week = rows.filter(pl.col("at") < START + 7 * DAY).with_columns(actual="is_fraud")
    assert found(shop)["value"] == pytest.approx(AveragePrecision().score(week))
    whole = windowed(again.predicted.rows(None, again.now), again.question, None, Now(again.now), lambda version, some: None)
    assert (
        whole.filter(~pl.col("is_estimate"))
        .select("cell", "metric", "value", "rows", "labelled")
        .equals(stored(shop).select("cell", "metric", "value", "rows", "labelled"))
    )


def test_an_endpoint_that_nobody_asked_has_no_accuracy(shop):
    assert step(shop, START).run() == 0


def test_reports_are_counted_by_when_they_were_told(shop, log):
    rows = made(7, 40, seed=3)
    ask(log, rows)
    shop.label(rows)
    step(shop, START + 80 * DAY).run()
    frauds = rows.filter("is_fraud")
    shares = {row["metric"]: row["value"] for row in shop.rows().iter_rows(named=True)}
    assert shares["reported after 28 days"] == pytest.approx((frauds["reported_at"] - frauds["at"] <= 28 * DAY).mean())


def take_away(shop, before):
    """The files of the log with requests that came before a day."""
    files = [file for file in Path(shop.lakehouse.table(asked.name).uri).glob("date=*/*.parquet") if file.parent.name < f"date={before:%F}"]
    for file in files:
        file.unlink()
    return len(files)


@pytest.mark.parametrize("sent", ["in the table", "by key", "by request"])
def test_a_new_label_reads_no_request_of_years_ago(shop, log, sent):
    """What is read is told by files that are taken away: who needs them fails."""
    old, rows = made(7, 10, seed=4, first=5_000, start=START - 900 * DAY), made(7, 10, seed=5)
    for given in (old, rows):
        ask(log, given)
        shop.label(given, known=False)
    now = START + 7 * DAY + SETTLED
    step(shop, now).run()
    before = found(shop)
    whole = shop.rows()
    assert take_away(shop, START - 500 * DAY) == 7
    new = rows.with_columns(is_fraud=pl.lit(value=True)).head(20)
    if sent == "in the table":
        shop.label(new.with_columns(reported_at=pl.lit(now, pl.Datetime("us", "UTC"))))
    else:
        about = {"by key": lambda row: {"key": {"invoice": row["invoice"]}}}.get(
            sent, lambda row: {"request_id": f"{row['invoice']:032x}-1rows1", "row": 0}
        )
        records = [
            FeedbackRecord(endpoint="orders", received_at=now, label={"is_fraud": True}, known_at=now, **about(row))
            for row in new.iter_rows(named=True)
        ]
        log.append_feedback(records)
        assert log.flush()
    assert step(shop, now + DAY).run() == 1
    week = shop.rows().filter(pl.col("window_start") >= START - DAY, metric="average precision", cell="all", is_estimate=False)
    assert week["value"].to_list() != [before["value"]]
    older = pl.col("window_start") < START - DAY
    assert shop.rows().filter(older).height == whole.filter(older).height > 0
