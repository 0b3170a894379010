"""A table of predictions says why it has no rows, and what to do."""

from dataclasses import replace
from datetime import UTC, datetime

from lakehouse_assets_tests.platform.monitoring.accuracy.judging import said_of, words
from lakehouse_assets_tests.platform.orchestration.level import Demo, gold, level_model, scores

MODEL = "demo.models.level"


def said(demo: Demo) -> tuple[bool, str]:
    verdict = said_of(scores, demo.lakehouse, datetime.now(UTC))["has_champion"]
    return verdict.passed, verdict.text


def test_a_table_of_predictions_warns_without_a_champion_and_says_what_to_do(tmp_path):
    demo = Demo(tmp_path)
    demo.land(error=30.0, naive_error=1.0)
    demo.work_out_features()
    assert said(demo) == (False, f"Model {MODEL} was never trained, so nothing is predicted: `lakehouse train {MODEL}` trains it.")
    without = replace(level_model, baselines={})  # so that nothing stands in for a model that does not pass
    assert not demo.step(asset=without).run().promoted
    passed, text = said(demo)
    assert not passed
    assert text.startswith(
        f"Model {MODEL} has no champion, so nothing is predicted. The last decision was about version 1: kept as challenger, and "
    )
    assert f"`lakehouse models show {MODEL}` says why" in text
    assert f"`lakehouse models promote {MODEL} 1 --reason TEXT`" in text
    demo.land(error=30.0, naive_error=1.0, origins=6)
    assert demo.run().champion == 3
    assert said(demo) == (True, f"Version 3 of {MODEL} is champion.")


def test_other_tables_have_no_such_monitor():
    assert "has_champion" not in words(gold)
