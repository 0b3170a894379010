"""Labels: refused by row and field, logged once, and joined to predictions by what was known when."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.platform.declarations.models import model
from lakehouse_assets.platform.features.labels import Labels
from lakehouse_assets.platform.serving.feedback import Feedback, FeedbackUnavailable, LabelType
from lakehouse_assets.platform.serving.inference_log.log import InferenceLog
from lakehouse_assets.platform.serving.inference_log.records import InferenceRecord
from lakehouse_assets.platform.serving.inference_log.spool import Bounds
from lakehouse_assets.platform.serving.inference_log.table import LoggedEndpoint
from lakehouse_assets.platform.serving.labelled import KnownLabels, labels_of
from lakehouse_assets.platform.serving.refused import Refused
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.features.shop import EXAMPLES, LABELS, frames, written
from lakehouse_assets_tests.platform.orchestration.level import level_model as level

R, A, B, UNKNOWN = (f"{letter * 32}-1" for letter in "9ab0")
"""Ids of requests."""
TYPE = LabelType("is_fraud", pl.Boolean(), ({"invoice": pl.String()}, {"invoice": pl.String(), "shop": pl.Int64()}, {"shop": pl.Int64()}))
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
ENDPOINT = LoggedEndpoint("shop", "orders", personal=True)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[InferenceLog]:
    lakehouse = Lakehouse(str(tmp_path / "tables"))
    opened = InferenceLog(tmp_path / "serving" / "spool", lambda: lakehouse, [ENDPOINT], Bounds(segment_seconds=3600))
    yield opened
    opened.release()


def body(*rows: dict[str, Any]) -> bytes:
    return json.dumps(rows, default=datetime.isoformat).encode()


def predicted(log: InferenceLog, request: str, invoice: str, row: int = 0, variant: str = "champion") -> None:
    record = InferenceRecord(
        request_id=request, row=row, endpoint="orders", received_at=START, key={"invoice": invoice}, variant=variant, request={"shop": 7}
    )
    log.append([record])


def found(rows: pl.LazyFrame) -> dict[tuple[str, int], tuple[Any, ...]]:
    columns = ("request_id", "row", "label", "label_from")
    return {(row[0], row[1]): row[2:] for row in rows.select(columns).collect().rows()}


def test_labels_meet_predictions_by_request_and_by_key(tmp_path: Path, log: InferenceLog) -> None:
    for number in range(4):
        predicted(log, R, f"i{number}", row=number)
    feedback = Feedback(log, {"orders": TYPE})
    sent = body(
        {"request_id": R, "row": 0, "label": True, "known_at": START + 3 * DAY},
        {"key": {"invoice": "i1"}, "label": {"is_fraud": False}, "known_at": START + 2 * DAY},
        {"key": {"invoice": "i0"}, "label": False, "known_at": START + 2 * DAY},
        {"key": {"shop": 7, "invoice": "i2"}, "label": True, "known_at": START + 5 * DAY},
        {"request_id": UNKNOWN, "label": True},
    )
    assert feedback.take(sent, "shop").accepted == 5
    assert log.flush()
    client = open_lakehouse(tmp_path, declarations=[], notice=lambda _: None)
    with_labels = client.inference("orders").with_labels
    rows = with_labels().sort("row").collect()
    assert rows["key"].to_list() == ["•••"] * 4
    # The endpoint's model is not declared here, so that nothing says which column its label is.
    assert rows["label"].to_list() == ['{"is_fraud":true}', '{"is_fraud":false}', '{"is_fraud":true}', None]
    logged = client.context.root.lakehouse.table(ENDPOINT.table).scan()
    labels = client.context.root.lakehouse.table(ENDPOINT.feedback_table).scan()
    assert found(labels_of(logged, "is_fraud", labels, None)) == {
        (R, 0): ("true", "feedback"),
        (R, 1): ("false", "feedback"),
        (R, 2): ("true", "feedback"),
    }
    early = labels_of(logged, "is_fraud", labels, None, until=START + 2 * DAY)
    assert found(early) == {(R, 0): ("false", "feedback"), (R, 1): ("false", "feedback")}


def test_the_label_that_became_known_last_counts_whatever_it_came_by(tmp_path: Path, log: InferenceLog) -> None:
    predicted(log, A, "i1")
    predicted(log, A, "i1", variant="shadow")
    predicted(log, B, "i2")
    Feedback(log, {"orders": TYPE}).take(body({"request_id": A, "label": False, "known_at": START + DAY}))
    assert log.flush()
    lakehouse = Lakehouse(str(tmp_path / "tables"))
    table = pl.LazyFrame({"invoice": ["i1", "i2"], "is_fraud": [True, False], "known_at": [START + 2 * DAY, START + 70 * DAY]})
    known = KnownLabels(table, ("invoice",), "is_fraud", "known_at")
    logged, feedback = (lakehouse.table(name).scan() for name in (ENDPOINT.table, ENDPOINT.feedback_table))
    labels = labels_of(logged, "is_fraud", feedback, known).collect()
    assert sorted(labels.select("request_id", "variant", "label", "label_from").rows()) == [
        (A, "champion", "true", "labels"),
        (A, "shadow", "true", "labels"),
        (B, "champion", "false", "labels"),
    ]
    before = labels_of(logged, "is_fraud", feedback, known, until=START + DAY)
    assert found(before) == {(A, 0): ("false", "feedback")}


def test_predictions_without_any_label(tmp_path: Path, log: InferenceLog) -> None:
    predicted(log, A, "i1")
    assert log.flush()
    rows = open_lakehouse(tmp_path, declarations=[], notice=lambda _: None).inference("orders").with_labels().collect()
    assert rows["label"].to_list() == [None]
    with pytest.raises(LookupError, match="nothing was logged for an endpoint 'order'"):
        open_lakehouse(tmp_path, declarations=[]).inference("order").scan()


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"label": True}, "request_id"),
        ({"label": True, "request_id": R, "key": {"invoice": "i"}}, "request_id"),
        ({"label": True, "request_id": "r"}, "request_id"),
        ({"label": True, "request_id": A.upper()}, "request_id"),
        ({"label": True, "key": {}}, "key.invoice"),
        ({"label": True, "key": []}, "key"),
        ({"request_id": R}, "label"),
        ({"request_id": R, "label": None}, "label"),
        ({"request_id": R, "label": {}}, "label.is_fraud"),
        ({"request_id": R, "label": "true"}, "label"),
        ({"request_id": R, "label": 1}, "label"),
        ({"request_id": R, "label": [True]}, "label"),
        ({"request_id": R, "label": {"is_fraud": "no"}}, "label.is_fraud"),
        ({"request_id": R, "label": {"is_fraud": True, "fraud": True}}, "label.fraud"),
        ({"request_id": R, "label": True, "row": -1}, "row"),
        ({"request_id": R, "label": True, "row": 1_000}, "row"),
        ({"request_id": R, "label": True, "row": "x"}, "row"),
        ({"key": {"invoice": "i"}, "label": True, "row": 1}, "row"),
        ({"request_id": R, "label": True, "known_at": "yesterday"}, "known_at"),
        ({"request_id": R, "label": True, "known_at": "2026-01-01T00:00:00"}, "known_at"),
        ({"request_id": R, "label": True, "known_at": "2999-01-01T00:00:00Z"}, "known_at"),
        ({"request_id": R, "label": True, "endpoint": "order"}, "endpoint"),
        ({"request_id": R, "label": True, "more": 1}, "more"),
        ({"key": {"invoice": "i", "a'] | $['b": 1}, "label": True}, "key.a'] | $['b"),
        ({"key": {"invoice": [1]}, "label": True}, "key.invoice"),
        ({"key": {"invoice": 1}, "label": True}, "key.invoice"),
        ({"key": {"invoice": None}, "label": True}, "key.invoice"),
        ({"key": {"invoice": "i", "shop": "7"}, "label": True}, "key.shop"),
    ],
    ids=str,
)
def test_what_is_no_label_is_refused_by_row_and_field(log: InferenceLog, row: dict[str, Any], field: str | None) -> None:
    good = {"request_id": R, "label": True, "key": None}
    with pytest.raises(Refused) as refused:
        Feedback(log, {"orders": TYPE}).take(body(good, row))
    assert [(error.row, error.field) for error in refused.value.errors] == [(1, field)]
    assert log.state().appended == 0


def test_of_two_endpoints_a_label_names_its_own(log: InferenceLog) -> None:
    feedback = Feedback(log, {"orders": TYPE, "other": TYPE})
    with pytest.raises(Refused, match="say which endpoint"):
        feedback.take(body({"request_id": R, "label": True}))
    assert feedback.take(body({"request_id": R, "label": True, "endpoint": "orders"})).accepted == 1
    assert feedback.take(body({"request_id": R, "label": True}), endpoint="orders").accepted == 1


def test_labels_that_are_not_on_the_disk_are_not_accepted(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file is in the way")
    lakehouse = Lakehouse(str(tmp_path / "tables"))
    log = InferenceLog(tmp_path / "spool", lambda: lakehouse, [ENDPOINT])
    with pytest.raises(FeedbackUnavailable):
        Feedback(log, {"orders": TYPE}).take(body({"request_id": R, "label": True}))
    log.release()


def test_labels_of_the_table_that_the_model_learns_from(tmp_path: Path, log: InferenceLog) -> None:
    fraud = model(
        "fraud.models.fraud", description="Fraud.", examples=EXAMPLES, learner=level.learner, split=level.split, metric=level.metric
    )
    tables = frames(60)
    written(str(tmp_path / "tables"), tables)
    for invoice in range(60):
        record = InferenceRecord(
            request_id=R, row=invoice, endpoint="orders", received_at=START, key={"invoice": invoice}, model_name=fraud.name
        )
        log.append([record])
    # Of one order it became known later that it was honest after all, by one word of a caller.
    first = tables[LABELS].row(5, named=True)
    known_at = first["reported_at"] + DAY
    sent = {"request_id": R, "row": 5, "label": not first["is_fraud"], "known_at": known_at}
    Feedback(log, {"orders": TYPE}).take(body(sent))
    assert log.flush()
    client = open_lakehouse(tmp_path, declarations=[fraud], notice=lambda _: None)
    rows = client.inference("orders").with_labels().sort("row").collect()
    expected = [str(value).lower() for value in tables[LABELS]["is_fraud"]]
    expected[5] = str(not first["is_fraud"]).lower()
    assert rows["label"].to_list() == expected
    assert rows["label_known_at"][5] == known_at
    early = client.inference("orders").with_labels(until=tables[LABELS]["reported_at"][9]).sort("row").collect()
    assert early["label"].to_list() == [str(value).lower() for value in tables[LABELS]["is_fraud"][:10]] + [None] * 50


def test_what_only_follows_from_silence_does_not_stand_against_a_word(tmp_path: Path, log: InferenceLog) -> None:
    predicted(log, R, "i0", row=0)
    predicted(log, R, "i1", row=1)
    assert Feedback(log, {"orders": TYPE}).take(body({"request_id": R, "row": 0, "label": True, "known_at": START + DAY})).accepted == 1
    assert log.flush()
    client = open_lakehouse(tmp_path, declarations=[], notice=lambda _: None)
    logged, sent = (client.context.root.lakehouse.table(name).scan() for name in (ENDPOINT.table, ENDPOINT.feedback_table))
    settled = timedelta(days=70)
    labels = Labels("shop.gold.labels", ("invoice",), "at", "is_fraud", "told_at", settled, otherwise=False)
    types = {"invoice": pl.String, "at": pl.Datetime("us", "UTC"), "is_fraud": pl.Boolean, "told_at": pl.Datetime("us", "UTC")}
    table = pl.LazyFrame([("i0", START, None, None), ("i1", START, None, None)], schema=types, orient="row")
    rows = labels.rows(table, known_until=START + settled)
    known = KnownLabels(rows.lazy(), ("invoice",), "is_fraud", "label_known_at", labels.from_silence(rows.schema))
    assert found(labels_of(logged, "is_fraud", sent, known)) == {(R, 0): ("true", "feedback"), (R, 1): ("false", "labels")}
