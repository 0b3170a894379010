"""A model whose gate asks for an approval: a named person decides, about exactly what was judged, and not about their own training."""

import getpass
from dataclasses import replace

import pytest

from lakehouse_assets.platform.registry.approvals import NotApproved
from lakehouse_assets.platform.registry.registry import NoSuchModelVersion
from lakehouse_assets_tests.platform.orchestration.level import Demo, Level, level_model
from lakehouse_assets_tests.platform.pipeline.model_histories import (
    Unreachable,
    beaten,
    client,
    decisions,
    history,
    prepared,
    promoted_twice,
)

ASSET = replace(level_model, gate=replace(level_model.gate, approval=True))


@history
def passed(demo):
    """Version 1 passed and waits; the baseline, version 2, predicts."""
    prepared(demo)
    demo.land(error=2.0)
    demo.work_out_features()
    assert not demo.step(asset=ASSET).run().promoted


@pytest.fixture
def waiting(demo) -> Demo:
    """See `passed`."""
    passed(demo)
    return demo


def test_what_passed_waits_while_the_baseline_predicts_and_is_approved(waiting):
    assert decisions(waiting) == [(2, "promoted", None), (1, "awaits approval", 2)]
    assert waiting.aliases() == {"champion": 2, "challenger": 1}
    assert waiting.decisions()[-1]["reasons"].endswith("`lakehouse models approve MODEL VERSION --by NAME`.")
    change = waiting.step(asset=ASSET).approve(1, " Ada ", "Looks right.")
    assert (change.champion, change.champion_before) == (1, 2)
    entry = waiting.decisions()[-1]
    digest = waiting.registry.version(ASSET.name, 1).tags["model_digest"]
    assert (entry["decision"], entry["decided_by"], entry["question"], entry["digest"]) == ("approved", "Ada", "first", digest)
    assert entry["reasons"] == f"Approved by Ada: the predictor with the digest {digest}. Looks right."
    assert waiting.aliases() == {"champion": 1, "previous": 2}
    assert waiting.step(asset=ASSET).last_result().promoted
    with pytest.raises(NotApproved, match="does not wait for an approval: it was approved"):
        waiting.step(asset=ASSET).approve(1, "Ada", "Again.")


@pytest.mark.parametrize("spelled", [str, str.upper])
def test_nobody_approves_their_own_training(waiting, spelled):
    with pytest.raises(NotApproved, match="another person has to approve it"):
        waiting.step(asset=ASSET).approve(1, spelled(getpass.getuser()), "Mine.")
    assert len(decisions(waiting)) == 2


def test_what_is_approved_are_the_files_that_were_judged(waiting):
    (file,) = waiting.registry.model_folder(waiting.registry.version(ASSET.name, 1)).glob("level.json")
    file.write_text(file.read_text().replace("1.0", "1.1"))
    with pytest.raises(NotApproved, match="are not those that the gate judged"):
        waiting.step(asset=ASSET).approve(1, "Ada", "")
    assert waiting.aliases() == {"champion": 2, "challenger": 1}


@pytest.mark.parametrize(
    ("version", "by", "error", "said"),
    [
        (1, " ", NotApproved, "say who decides"),
        (2, "Ada", NotApproved, "does not wait for an approval: it was promoted"),
        (9, "Ada", NoSuchModelVersion, "MLflow has no version 9"),
    ],
)
def test_what_cannot_be_approved_is_refused_with_what_to_do(waiting, version, by, error, said):
    with pytest.raises(error, match=said):
        waiting.step(asset=ASSET).approve(version, by, "Why not.")
    assert len(decisions(waiting)) == 2


def test_a_rejected_version_is_no_challenger_and_cannot_be_approved(waiting):
    step = waiting.step(asset=ASSET)
    with pytest.raises(NotApproved, match="say why version 1"):
        step.reject(1, "Ada", " ")
    with pytest.raises(NotApproved, match="is champion: `lakehouse models promote"):
        step.reject(2, "Ada", "I do not like it.")
    step.reject(1, "Ada", "Implausible in winter.")
    assert waiting.decisions()[-1]["reasons"] == "Rejected by Ada: Implausible in winter."
    assert (waiting.decisions()[-1]["decided_by"], waiting.aliases()) == ("Ada", {"champion": 2})
    with pytest.raises(NotApproved, match="it was rejected"):
        step.approve(1, "Grace", "")


def test_an_approval_that_was_cut_short_ends_as_decided(waiting):
    with pytest.raises(ConnectionError):
        waiting.step(asset=ASSET, registry=Unreachable.under(waiting.root / "mlflow")).approve(1, "Ada", "")
    assert waiting.aliases() == {"champion": 2, "challenger": 1}
    assert waiting.step(asset=ASSET).run().champion == 1
    assert waiting.aliases() == {"champion": 1, "previous": 2}
    assert decisions(waiting)[2:] == [(1, "approved", 2)]


def test_a_version_that_was_rejected_does_not_come_back_by_another_training(waiting):
    waiting.step(asset=ASSET).reject(1, "Ada", "Implausible in winter.")
    for asset in (ASSET, level_model):
        result = waiting.step(asset=asset).run(retrain=True)
        assert (result.promoted, result.version, result.champion) == (False, 1, 2)
        assert result.reasons[-1].startswith("Refused: version 1, which the same training gave before, was rejected on 20")
        assert result.reasons[-1].endswith("Rejected by Ada: Implausible in winter.")
        assert waiting.aliases() == {"champion": 2}
    assert [decision for _, decision, _ in decisions(waiting)][2:] == ["rejected"] * 3
    waiting.step().promote(1, "Ada was wrong.")
    assert waiting.step().run(retrain=True).promoted


def test_a_baseline_that_was_rejected_is_not_made_champion_again(demo):
    beaten(demo)
    step = demo.step()
    step.promote(1, "Better than nothing.")
    step.reject(2, "Ada", "Nobody believes it.")
    client(demo).delete_registered_model_alias(ASSET.name, "champion")
    assert step.run(retrain=True).champion is None
    assert len(demo.registry.versions(ASSET.name)) == 2


def test_a_rejected_version_is_no_previous_champion_that_a_rollback_leads_to(demo):
    promoted_twice(demo)
    demo.step().reject(1, "Ada", "It was never right.")
    assert demo.aliases() == {"champion": 2}
    with pytest.raises(LookupError, match="has no previous champion"):
        demo.step().rollback()
    with pytest.raises(NotApproved, match=r"is champion: `lakehouse models promote .* VERSION --reason TEXT` puts another"):
        demo.step().reject(2, "Ada", "Nor this one.")


def test_an_approval_that_was_overtaken_by_another_champion_is_refused(waiting):
    waiting.land(error=1.0, origins=6)
    waiting.work_out_features()
    assert waiting.step().run().champion == 3
    with pytest.raises(
        NotApproved, match=r"was judged against version 2, and version 3 is champion now: train again with `lakehouse train"
    ):
        waiting.step(asset=ASSET).approve(1, "Ada", "")
    assert waiting.aliases()["champion"] == 3


def test_an_approval_takes_the_place_of_a_baseline_that_came_later(waiting):
    waiting.land(error=2.0, origins=6, naive_error=21.0)
    waiting.work_out_features()
    assert waiting.step(asset=ASSET).run().version == 3
    assert waiting.step(asset=ASSET).approve(1, "Ada", "").champion == 1


def test_a_dry_run_moves_no_alias_except_that_a_baseline_fills_an_empty_place(demo):
    asset = replace(level_model, gate=replace(level_model.gate, mode="dry run"))
    demo.land(error=2.0)
    demo.work_out_features()
    assert demo.step(asset=asset).run().champion == 2
    assert decisions(demo) == [(2, "promoted", None), (1, "judged in a dry run", 2)]
    assert demo.aliases() == {"champion": 2}
    other = replace(asset, baselines={"other": Level("naive_forecast", 0.99)})
    demo.land(error=2.0, origins=6)
    demo.work_out_features()
    assert demo.step(asset=other).run().champion == 2
    assert demo.aliases() == {"champion": 2}


@pytest.mark.parametrize(
    ("mode", "promoted", "said"), [("dry run", False, "A dry run: it would become champion"), ("off", True, "The gate is off")]
)
def test_the_modes_of_a_gate(demo, mode, promoted, said):
    demo.land(error=2.0)
    demo.work_out_features()
    result = demo.step(asset=replace(level_model, gate=replace(level_model.gate, mode=mode))).run()
    assert result.promoted is promoted
    assert result.reasons[-1].startswith(said)
