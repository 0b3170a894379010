from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA, Verdict, features_of_version, last_decision, ledger_entry
from lakehouse_assets.platform.registry.registry import Aliases
from lakehouse_assets.platform.storage.feature_versions import FeatureVersion
from lakehouse_assets_tests.platform.registry.example import training

NOON = datetime(2024, 1, 3, 12, tzinfo=UTC)
NAME = "demo.daily_revenue"


def entry(version, decision="promoted", reasons=("Better.",), about=None, **changes):
    values = {
        "model_name": NAME,
        "origin": None,
        "sequence": 1,
        "before": Aliases(),
        "after": Aliases(champion=version),
        "decided_at": NOON,
    }
    return ledger_entry(Verdict(decision=decision, reasons=reasons, **(about or {})), version, **(values | changes))


def test_a_decision_is_recorded_with_its_reasons_the_origin_of_the_version_and_what_is_in_use_since(registry):
    version = registry.log_training(training())
    promoted = entry(
        1,
        origin=version,
        reasons=["Better.", "It becomes champion."],
        about={"question": "change", "numbers": "{}", "decided_by": "Ada", "training_reason": "It drifted."},
        sequence=5,
        before=Aliases(champion=4, previous=2),
        after=Aliases(champion=1, previous=4, challenger=3),
    ).frame()
    assert promoted.schema == LEDGER_SCHEMA
    assert promoted.row(0, named=True) == {
        "sequence": 5,
        "decided_at": NOON,
        "model_name": NAME,
        "version": 1,
        "run_id": version.run_id,
        "decision": "promoted",
        "reasons": "Better.\nIt becomes champion.",
        "champion_before": 4,
        "champion": 1,
        "previous": 4,
        "challenger": 3,
        "training_tables": '{"demo.features.daily": 3, "sales.gold.daily_revenue": 0}',
        "training_table_digests": '{"demo.features.daily": "abc", "sales.gold.daily_revenue": "dddddddddddddddddddddddddddddddddddd"}',
        "feature_versions": '{"demo.features.daily": {"meaning": 77, "number": 2}}',
        "code_version": "c1",
        "seed": 7,
        "environment": "e1",
        "candidate": "model",
        "recipe": "r1",
        "digest": version.tags["model_digest"],
        "question": "change",
        "numbers": "{}",
        "decided_by": "Ada",
        "training_reason": "It drifted.",
    }
    assert features_of_version(promoted.lazy(), 1) == version.features == {"demo.features.daily": FeatureVersion(2, 77)}
    assert features_of_version(promoted.lazy(), 4) == {}


def test_a_version_that_mlflow_does_not_have_any_more_is_recorded_without_its_origin():
    row = entry(4, "retired by hand in MLflow", after=Aliases(previous=4)).frame().row(0, named=True)
    assert (row["version"], row["champion"], row["previous"]) == (4, None, 4)
    unknown = (
        "run_id",
        "training_tables",
        "training_table_digests",
        "feature_versions",
        "code_version",
        "seed",
        "environment",
        "candidate",
        "recipe",
        "digest",
    )
    assert [row[name] for name in unknown] == [None] * len(unknown)


@settings(deadline=None)
@given(st.permutations(range(1, 6)), st.lists(st.integers(-1000, 1000), min_size=5, max_size=5))
def test_the_last_decision_is_the_one_with_the_highest_sequence_whatever_clocks_say(order, minutes):
    rows = [entry(10 * number, sequence=number, decided_at=NOON + timedelta(minutes=minutes[number - 1])).frame() for number in order]
    assert last_decision(pl.concat(rows).lazy())["version"] == 50


def test_an_empty_ledger_has_no_last_decision():
    assert last_decision(pl.LazyFrame(schema=LEDGER_SCHEMA)) is None
