"""What made a model, in parts by name: a change of a parameter, a function or a feature set is named with both values."""

import importlib
import sys
from dataclasses import replace
from datetime import timedelta

import pytest

from lakehouse_assets import GradientBoosting, Labels, Linear
from lakehouse_assets.platform.features.training_set import LabelledExamples
from lakehouse_assets.platform.pipeline.model_parts import ModelParts
from lakehouse_assets_tests.platform.features.shop import cards, orders

PRODUCT = '''"""A product with a learner of its own."""

from dataclasses import dataclass

RATE = 0.5


@dataclass(frozen=True)
class Own:
    """Learns."""

    rate: float = RATE

    def fit(self, rows, *, seed, compute):
        return clean(rows)


def clean(rows):
    """What is learnt from."""
    return rows.drop_nulls()
'''
LABELS = Labels("shop.gold.labels", entity=("invoice",), at="placed_at", target="is_fraud", settled=timedelta(days=60))
EXAMPLES = LabelledExamples(LABELS, (orders, cards))
LEARNER = GradientBoosting("binary")


def parts(examples=EXAMPLES, learner=LEARNER) -> ModelParts:
    """As they are kept and read again."""
    return ModelParts.from_json(ModelParts.of(examples, learner).to_json())


def test_what_is_the_same_has_no_changes():
    assert (parts().recipe_changes(parts()), parts().code_changes(parts())) == ("", "")


@pytest.mark.parametrize(
    ("examples", "learner", "said"),
    [
        (EXAMPLES, replace(LEARNER, rounds=60), "learner.rounds 1000 then, 60 now"),
        (EXAMPLES, Linear("binary"), "learner GradientBoosting then, Linear now"),
        (
            replace(EXAMPLES, labels=replace(LABELS, settled=timedelta(days=30))),
            LEARNER,
            "examples.labels.settled datetime.timedelta(days=60) then, datetime.timedelta(days=30) now",
        ),
        (replace(EXAMPLES, labels=replace(LABELS, slices=("country",))), LEARNER, "examples.labels.slices () then, ('country') now"),
        (replace(EXAMPLES, features=(orders,)), LEARNER, "examples.features.1 fraud.features.cards then, none now"),
    ],
)
def test_a_changed_parameter_is_named_with_both_values(examples, learner, said):
    assert parts().recipe_changes(parts(examples, learner)) == said


def other_orders(rows):
    return rows.head(1)


def test_a_changed_feature_set_is_named():
    other = replace(orders, function=other_orders)
    changes = parts().code_changes(parts(replace(EXAMPLES, features=(other, cards))))
    assert f"feature set {orders.name} changed" in changes
    assert "cards" not in changes


def test_a_changed_function_of_a_product_is_named_and_a_comment_is_no_change(tmp_path, monkeypatch):
    file = tmp_path / "parts_product.py"
    file.write_text(PRODUCT, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("parts_product")
    try:
        before = parts(learner=module.Own())
        changes = {
            "drop_nulls()": "drop_nans()",
            '"""What is learnt from."""': '"""Other words."""  # and more',
            "RATE = 0.5": "RATE = 0.6",
            "def clean(rows)": "def more():\n    return 1\n\n\ndef clean(rows)",
        }
        said = {}
        for old, new in changes.items():
            file.write_text(PRODUCT.replace(old, new), encoding="utf-8")
            said[new] = before.code_changes(parts(learner=module.Own()))
        assert list(said.values()) == ["parts_product.clean changed", "", "parts_product changed", "parts_product.more is new"]
    finally:
        monkeypatch.delitem(sys.modules, "parts_product")
