from datetime import UTC, datetime

import polars as pl

from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA, ledger_entry, ledger_frame
from lakehouse_assets_tests.platform.registry.example import training

NOON = datetime(2024, 1, 3, 12, tzinfo=UTC)


def test_a_decision_is_written_down_with_its_reasons_and_the_origin_of_the_version(registry):
    version = registry.log_training(training())
    promoted = ledger_entry(version, "promoted", reasons=["Better.", "It becomes champion."], champion_before=None, decided_at=NOON)
    kept = ledger_entry(version, "kept as challenger", reasons=["Worse."], champion_before=4, decided_at=NOON)
    frame = ledger_frame([promoted, kept])

    assert frame.schema == LEDGER_SCHEMA
    assert frame.row(0, named=True) == {
        "decided_at": NOON,
        "model_name": "demo.daily_revenue",
        "version": 1,
        "run_id": version.run_id,
        "decision": "promoted",
        "alias": "champion",
        "reasons": "Better.\nIt becomes champion.",
        "champion_before": None,
        "training_tables": '{"demo.features.daily": 3, "sales.gold.daily_revenue": 0}',
        "code_version": "c1",
        "seed": 7,
        "environment": "e1",
    }
    assert frame["alias"].to_list() == ["champion", "challenger"]
    assert frame["champion_before"].to_list() == [None, 4]


def test_no_decisions_are_an_empty_frame_of_the_same_schema():
    assert ledger_frame([]).equals(pl.DataFrame(schema=LEDGER_SCHEMA))
