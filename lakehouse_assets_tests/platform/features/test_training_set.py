"""Training sets: what was known at the time of each label, targets as they were known, and a manifest by which they can be told apart."""

import ast
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.learning import Examples
from lakehouse_assets.platform.features.content_digest import content_digest
from lakehouse_assets.platform.features.labels import Labels, TrainingSetError
from lakehouse_assets.platform.features.manifest import Manifest, pin
from lakehouse_assets.platform.features.training_set import LabelledExamples, training_set
from lakehouse_assets_tests.platform.features.shop import CARDS, EXAMPLES, LABELS, MOMENT, ORDERS, START, frames, orders, written


@pytest.fixture
def pinned(tmp_path):
    return pin(written(str(tmp_path / "root"), frames()), EXAMPLES.sources())


def test_rows_have_key_time_inputs_slices_target_and_when_it_was_known(pinned):
    examples: Examples = EXAMPLES
    assert examples.sources() == (LABELS, ORDERS, CARDS)
    assert examples.inputs == ("amount", "country", "orders"), "an entity is no input"
    rows = examples.rows(pinned.read).collect()
    assert rows.columns == ["invoice", "placed_at", "amount", "country", "orders", "is_fraud", "label_known_at"]
    assert rows.height == 400
    assert (rows["label_known_at"] == rows["placed_at"] + timedelta(days=30)).all()
    # The card comes from the order, and what is known of it is at least five minutes old.
    of_card = (
        frames()[ORDERS].select("invoice", "card").join(frames()[CARDS], on="card").join(rows.select("invoice", "placed_at"), on="invoice")
    )
    newest = of_card.filter(pl.col("known_at") <= pl.col("placed_at")).group_by("invoice").agg(pl.col("orders").sort_by("seen_at").last())
    expected = rows.select("invoice").join(newest, on="invoice", how="left", maintain_order="left")
    assert rows["orders"].equals(expected["orders"])
    assert rows["orders"].null_count() > 0


def test_targets_are_as_they_were_known_and_inputs_stay(pinned):
    until = START + timedelta(days=35)
    known = EXAMPLES.rows(pinned.read, until).collect()
    assert known.equals(EXAMPLES.rows(pinned.read).collect().filter(pl.col("label_known_at") <= until))
    assert 0 < known.height < 400


def test_of_a_label_that_was_revised_the_newest_that_was_known_counts():
    labels = pl.DataFrame(
        {
            "invoice": [1, 1, 1, 2, 2, 3],
            "placed_at": [START] * 6,
            "is_fraud": [False, True, False, True, True, None],
            "known": [START + timedelta(days=day) if day else None for day in (1, 2, 9, 1, 5, None)],
            "is_retracted": [False] * 4 + [True, False],
        }
    ).lazy()
    declared = Labels(LABELS, ("invoice",), "placed_at", "is_fraud", known_at="known")

    def targets(day):
        return dict(declared.rows(labels, (), None if day is None else START + timedelta(days=day)).select("invoice", "is_fraud").rows())

    assert targets(1) == {1: False, 2: True}
    assert targets(4) == {1: True, 2: True}
    assert targets(6) == {1: True}
    assert targets(None) == {1: False}


def test_a_target_that_settles_is_known_after_the_end_of_its_day():
    labels = pl.LazyFrame({"group": ["a", "a"], "day": [date(2024, 1, 1), date(2024, 1, 2)], "value": [1.0, float("nan")]})
    declared = Labels(LABELS, ("group",), "day", "value", settled=timedelta(days=7))
    assert declared.rows(labels).is_empty(), "no row is newer by seven days, so nothing can have settled"
    newer = pl.LazyFrame({"group": ["a", "a"], "day": [date(2024, 1, 3), date(2024, 1, 9)], "value": [2.0, None]})
    rows = declared.rows(pl.concat([labels, newer]))
    known = [datetime(2024, 1, 9, tzinfo=UTC)]
    assert rows["label_known_at"].to_list() == known, "what is no number is no target, and the third day has not settled"
    assert declared.rows(labels, known_until=known[0])["label_known_at"].to_list() == known


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"placed_at": pl.lit(None, MOMENT)}, "3 rows without placed_at"),
        ({"invoice": pl.lit(None, pl.Int64)}, "3 rows without invoice"),
        ({"invoice": pl.lit(1)}, "3 rows that share invoice, placed_at .* invoice = 1"),
        ({"placed_at": pl.col("placed_at").dt.replace_time_zone(None)}, "placed_at has to be a date or a time with a time zone"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused_with_their_table(change, message):
    labels = pl.LazyFrame({"invoice": [1, 2, 3], "placed_at": [START] * 3, "is_fraud": [True, False, True]}).with_columns(**change)
    with pytest.raises(TrainingSetError, match=rf"^fraud\.gold\.labels.*{message}"):
        Labels(LABELS, ("invoice",), "placed_at", "is_fraud", settled=timedelta(0)).rows(labels)


def test_declarations_that_cannot_be_meant_are_refused():
    good = {"entity": ("invoice",), "at": "placed_at", "target": "is_fraud"}
    for how, message in (
        ({}, "say when the target is known"),
        ({"known_at": "known", "settled": timedelta(1)}, "and not by both"),
        ({"settled": timedelta(-1)}, "before it is predicted"),
        ({"settled": timedelta(1), "target": "invoice"}, "names 'invoice' twice"),
        ({"settled": timedelta(1), "entity": ()}, "entity has to be a tuple"),
    ):
        with pytest.raises(DeclarationError, match=message):
            Labels(LABELS, **{**good, **how})
    labels = EXAMPLES.labels
    for given, message in (
        ({"features": ()}, "has no features"),
        ({"features": (orders, orders)}, "twice"),
        ({"features": (orders,), "without": ("amont",)}, "Did you mean amount"),
        ({"features": (orders,), "prefixes": {CARDS: "card_"}}, "none of its feature sets"),
        ({"features": (orders,), "labels": Labels(LABELS, ("invoice",), "placed_at", "amount", known_at="k")}, "never inputs"),
    ):
        with pytest.raises(DeclarationError, match=message):
            LabelledExamples(**{"labels": labels, **given})


SECOND, THIRD = (replace(orders, name=name) for name in ("shop.features.second", "shop.features.third"))
AMOUNTS = Labels(LABELS, ("invoice",), "placed_at", "amount", settled=timedelta(1))


@pytest.mark.parametrize(
    "given",
    [
        {"features": (orders, SECOND)},
        {"features": (orders, SECOND, THIRD)},
        {"features": (orders, SECOND), "prefixes": {ORDERS: "same_", SECOND.name: "same_"}},
        {"features": (orders,), "labels": AMOUNTS},
        {"features": (orders, SECOND), "labels": AMOUNTS, "prefixes": {SECOND.name: "second_"}},
    ],
)
def test_columns_of_one_name_are_told_with_their_feature_sets_and_with_prefixes_that_work(given):
    """What the message says to write is all that is needed."""
    how = {"labels": EXAMPLES.labels, "prefixes": {}} | given
    for _ in range(len(how["features"])):
        with pytest.raises(DeclarationError) as told:
            LabelledExamples(**how)
        text = str(told.value)
        assert "amount" in text
        before, written = re.split(r"prefixes=(?=\{)", text)
        prefixes = ast.literal_eval(written[: written.index("}") + 1])
        (new,) = [name for name in prefixes if prefixes[name] != how["prefixes"].get(name)]
        assert new in before
        how["prefixes"] = prefixes
        with suppress(DeclarationError):
            LabelledExamples(**how)
            return
    pytest.fail(f"after {how['prefixes']} it is still refused")


def test_the_manifest_says_what_the_rows_are_made_of(pinned):
    made = training_set(EXAMPLES, pinned)
    manifest = made.manifest
    assert {table.name: table.version for table in manifest.tables} == {LABELS: 1, ORDERS: 1, CARDS: 1}
    assert len({table.id for table in manifest.tables}) == 3
    assert manifest.rows == 400
    by_name = {features.name: features for features in manifest.features}
    assert by_name[ORDERS].found == 1.0
    assert by_name[ORDERS].assumed == 0.0
    assert 0.1 < by_name[CARDS].assumed < 0.4
    assert manifest.assumed == by_name[CARDS].assumed
    assert by_name[CARDS].ttl_seconds == 200 * 86_400
    assert by_name[CARDS].columns == ("orders",)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.differences(training_set(EXAMPLES, pinned).manifest) == ()


def test_a_pinned_training_set_stays_the_same_and_a_newer_one_says_what_differs(pinned):
    before = training_set(EXAMPLES, pinned).manifest
    pinned.lakehouse.table(LABELS).append(frames(401)[LABELS].tail(1))
    assert training_set(EXAMPLES, pinned).manifest == before
    now = training_set(EXAMPLES, pin(pinned.lakehouse, EXAMPLES.sources())).manifest
    said = before.differences(now)
    assert said[0].startswith(f"{LABELS}: version 1 of ")
    assert any(sentence.startswith("rows: 400 here, 401 there") for sentence in said)
    again = pin(pinned.lakehouse, EXAMPLES.sources(), {LABELS: 1})
    assert training_set(EXAMPLES, again).manifest == before


VALUES = pl.DataFrame(
    {
        "key": [1, 2, 3, 4],
        "number": [1.5, None, float("nan"), -0.5],
        "text": ["a", "", None, "ä"],
        "flag": [True, None, False, True],
        "day": [date(2024, 1, 1), None, date(1, 1, 1), date(9999, 12, 31)],
        "at": [START, None, START, START],
        "amount": [Decimal("1.10"), None, Decimal("-2.00"), Decimal("0.00")],
        "levels": pl.Series(["x", "y", None, "x"], dtype=pl.Enum(["y", "x"])),
        "parts": [[1], [], None, [2, 3]],
        "bytes": [b"a", b"", None, b"\xff"],
    }
)


def test_the_digest_depends_on_no_order_and_on_every_value():
    digest = content_digest(VALUES, ["key"])
    assert content_digest(VALUES.reverse().select(reversed(VALUES.columns)), ["key"]) == digest
    assert content_digest(pl.concat([VALUES[:1], VALUES[1:]], rechunk=False), ["key"]) == digest
    different = [VALUES.with_columns(pl.lit(None, VALUES.schema[name]).alias(name)) for name in VALUES.columns[1:]]
    different += [
        VALUES.with_columns(pl.col("text").shift(1)),
        VALUES[:3],
        VALUES.rename({"text": "texts"}),
        VALUES.cast({"key": pl.Int32}),
    ]
    different += [VALUES.with_columns(text=pl.Series(["", "a", None, "ä"])), VALUES.with_columns(pl.col("flag").fill_null(value=False))]
    assert len({digest, *(content_digest(rows, ["key"]) for rows in different)}) == len(different) + 1


def test_digests_are_what_they_were():
    """They are stored in manifests and compared by later releases, so they must not change with a library."""
    assert content_digest(VALUES, ["key"]) == "67f3ff101a5ec23ed8ad9c6588984a96d1b3e61f585c6035c6232551af24eb19"


def test_rows_and_digest_are_the_same_on_any_number_of_threads(tmp_path):
    root = str(tmp_path / "root")
    here = training_set(EXAMPLES, pin(written(root, frames(2000)), EXAMPLES.sources())).manifest
    code = (
        "import sys; from lakehouse_assets_tests.platform.features.shop import EXAMPLES, Lakehouse;"
        "from lakehouse_assets.platform.features.manifest import pin;"
        "from lakehouse_assets.platform.features.training_set import training_set;"
        "print(training_set(EXAMPLES, pin(Lakehouse(sys.argv[1]), EXAMPLES.sources())).manifest.to_json())"
    )
    threads = "1" if pl.thread_pool_size() > 1 else "8"
    environment = {**os.environ, "POLARS_MAX_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[3])}
    there = subprocess.run([sys.executable, "-c", code, root], env=environment, capture_output=True, text=True, check=True)
    assert Manifest.from_json(there.stdout) == here


def test_one_version_of_a_feature_set_is_read_the_newest_unless_another_is_asked_for(tmp_path):
    tables = frames(50)
    newer = tables[ORDERS].with_columns(pl.col("amount") + 1000, feature_set_version=pl.lit(2), replaced_known_at=pl.col("known_at"))
    tables[ORDERS] = pl.concat([tables[ORDERS], newer.with_columns(known_at=pl.col("known_at") + timedelta(days=400))])
    pinned = pin(written(str(tmp_path / "root"), tables), EXAMPLES.sources())
    made = training_set(EXAMPLES, pinned)
    assert made.rows["amount"].min() >= 1000
    assert made.manifest.features[0].version == 2
    assert made.manifest.features[0].assumed == 1.0, "what newer code gives is taken for what the older gave then"
    before = training_set(replace(EXAMPLES, versions={ORDERS: 1}), pinned)
    assert before.rows["amount"].max() < 1000
    assert before.manifest.features[0].version == 1
