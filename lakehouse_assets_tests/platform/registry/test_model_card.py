"""What a person reads on MLflow's pages: a model and its versions say what they are, who made them, and why they are in use or not."""

from dataclasses import replace

from lakehouse_assets.platform.registry.mlflow_store import load_mlflow
from lakehouse_assets.platform.registry.model_card import first_page, model_page, version_text, with_decision
from lakehouse_assets_tests.platform.registry.example import training

OWNED = {
    "description": "Revenue by day.",
    "owner": "team:sales",
    "user": "ada",
    "asset": "demo.models.daily_revenue",
    "orchestrator_run": "run-1",
}


def client(registry):
    return load_mlflow().MlflowClient(registry.tracking_uri, registry.tracking_uri)


def test_a_model_its_version_and_its_run_describe_themselves(registry):
    version = registry.log_training(training(**OWNED))
    opened = client(registry)
    model = opened.get_registered_model(version.model_name)
    assert (model.description, model.tags["owner"]) == ("Revenue by day.", "team:sales")
    run = opened.get_run(version.run_id)
    assert run.info.run_name == "daily_revenue 2024-01-03 04:05"
    assert run.data.tags["mlflow.user"] == "ada"
    card = opened.get_model_version(version.model_name, "1").description
    assert card == run.data.tags["mlflow.note.content"]
    for part in ("by ada", "/assets/demo/models/daily_revenue", "run-1"):
        assert part in card
    # With room between the columns, which MLflow's pages draw without any.
    room = "&nbsp;" * 4
    for part in (f"| sales.gold.daily_revenue{room} | 0{room} | 10 |", f"| wape{room} | 0.35 |", "| --- | --- |"):
        assert part in card
    experiments = {experiment.name: experiment.tags["mlflow.note.content"] for experiment in opened.search_experiments()}
    assert "name no experiment" in experiments["Default"]


def test_the_last_decision_is_on_the_page_once(registry):
    version = registry.log_training(training(**OWNED))
    for decision in ("kept as challenger", "promoted by hand", "promoted by hand"):
        registry.describe(version, decision, ["It lost.", "By 2 %."])
    card = client(registry).get_model_version(version.model_name, "1").description
    assert card.startswith(version_text(training(**OWNED)))
    assert card.count("### Decision") == card.count("promoted by hand") == 1
    assert "- It lost.\n- By 2 %." in card


def test_a_card_needs_nothing_but_the_training():
    bare = version_text(replace(training(), tables=(), metrics={}))
    assert "nobody who is known" in bare
    assert with_decision(bare, "promoted", []).startswith(bare)


def test_pages_open_in_the_training_view_on_the_model_if_there_is_one():
    assert model_page("shop.models.a b") == "/#/models/shop.models.a%20b?workflowType=machine_learning"
    assert model_page("shop.models.a", 3) == "/#/models/shop.models.a/versions/3?workflowType=machine_learning"
    assert first_page(["shop.models.a"]) == model_page("shop.models.a")
    assert first_page([]) == first_page(["a", "b"]) == "/#/experiments?workflowType=machine_learning"
