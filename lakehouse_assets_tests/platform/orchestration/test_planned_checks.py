"""What the web UI says of checks stays true: after an idle run, after another step failed, after a run was interrupted."""

from dataclasses import replace

import dagster as dg
import pytest

from lakehouse_assets.platform.orchestration.planned import KEPT, settle
from lakehouse_assets_tests.platform.orchestration.club import TABLES, Club


@pytest.fixture
def club(settings):
    with dg.DagsterInstance.ephemeral() as instance:
        opened = Club(settings, instance)
        opened.land("members", ("a", 30), ("b", -1), ("c", 60))
        opened.land("visits", ("d", 70), ("e", 5))
        yield opened


def test_an_idle_run_changes_no_status(club):
    assert club.run().success
    before = club.statuses()
    assert set(before.values()) == {"SUCCEEDED", "FAILED"}
    assert club.run().success
    assert club.statuses() == before


def test_a_step_that_fails_changes_the_statuses_of_what_it_broke_alone(club):
    club.run()
    before = club.statuses()
    club.land("members", ("f", 200), ("g", -1))
    failed = club.run()
    assert not failed.success
    settle(club.instance, failed.run_id)
    after = club.statuses()
    broken = {("club.silver.members", "contract"), ("club.silver.members", "sane")}
    assert {key for key in before if before[key] != after[key]} == broken
    assert {after[key] for key in broken} == {"FAILED"}
    skipped = club.records()["club.gold.members", "young"]
    assert not skipped.run_id, "the log of the run ends with what went wrong in it"
    assert "before the step of this check was done" in skipped.evaluation.metadata[KEPT].value


def test_an_error_of_the_function_changes_no_status(club):
    club.run()
    before = club.statuses()
    club.land("members", ("f", 20))
    club.tables[0] = replace(TABLES[0], function=lambda rows: rows.select("nothing"))
    failed = club.run()
    settle(club.instance, failed.run_id)
    after = club.statuses()
    assert {key for key in before if before[key] != after[key]} == set()


def test_a_check_that_was_never_evaluated_says_so_and_only_warns(club):
    club.land("members", ("f", 200))
    failed = club.run()
    settled = settle(club.instance, failed.run_id)
    assert {".".join(check.asset_key.path) for check in settled} == {"club.gold.members"}
    evaluation = club.records()["club.gold.members", "young"].evaluation
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert evaluation.description.startswith("not evaluated: run ")
    assert "EXECUTION_FAILED" not in club.statuses().values()


def test_settling_twice_is_settling_once_and_a_run_under_way_is_left_alone(club):
    club.land("members", ("f", 200))
    failed = club.run()
    assert settle(club.instance, failed.run_id)
    assert settle(club.instance, failed.run_id) == []
    run = club.instance.create_run_for_job(club.job())
    assert settle(club.instance, run.run_id) == []


def test_checks_of_a_run_that_was_interrupted_keep_their_results(club):
    club.run()
    before = club.statuses()
    run = club.instance.create_run_for_job(club.job())
    assert set(club.statuses().values()) == {"IN_PROGRESS"}
    club.instance.report_run_canceled(run)
    assert set(club.statuses().values()) == {"SKIPPED"}, "what Dagster shows by itself"
    settle(club.instance, run.run_id)
    assert club.statuses() == before
