"""The declarations of docs/models.md can be meant, its predictions are made, and its commands are known."""

import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

import lakehouse_assets
from lakehouse_assets import ByKey, Contract, Timestamp, column, feature_set
from lakehouse_assets.cli.main import main
from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.base import Declaration
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.learning import TrainingRows
from lakehouse_assets.platform.declarations.modules import declarations_in
from lakehouse_assets.platform.operations.root import Root
from lakehouse_assets.platform.pipeline.model_step import ModelStep
from lakehouse_assets.platform.pipeline.runner import Runner

PAGE = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class Reader(Contract):
    """What was known of a reader."""

    loan: str = column(key=True)
    day: date = column(key=True)
    known_at: Timestamp
    age: float


class Branch(Contract):
    """What was known of a branch."""

    loan: str = column(key=True)
    day: date = column(key=True)
    known_at: Timestamp
    size: float


def features(name: str, contract: type[Contract]) -> Declaration:
    def known(rows: pl.LazyFrame) -> pl.LazyFrame:
        """What was known."""
        return rows

    usual = {"entity": ("loan",), "event_time": "day", "kind": ByKey("loan"), "inputs": {"rows": "library.silver.returns"}}
    return feature_set(name, contract=contract, **usual)(known)


def loaded(number: int) -> dict[str, Declaration]:
    """The declarations of an example of the page, by their names."""
    known = {name: getattr(lakehouse_assets, name) for name in lakehouse_assets.__all__}
    module = ModuleType("example")
    vars(module).update(known, timedelta=timedelta, date=date, pl=pl, __name__="example")
    vars(module).update(readers=features("library.features.readers", Reader), branches=features("library.features.branches", Branch))
    exec(EXAMPLES[number], vars(module))
    return {declaration.name: declaration for declaration in declarations_in([module])}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page_is_a_declaration(number):
    names = loaded(number)
    assert any(".models." in name for name in names), names


def test_the_predictions_of_the_page_are_made_by_the_champion(settings):
    (number,) = (number for number, source in enumerate(EXAMPLES) if "@predictions" in source)
    declared = loaded(number)
    table, model = declared["library.predictions.late"], declared["library.models.late"]
    # Few trees and folds: enough to see that there is an answer.
    quick = replace(model.learner, rounds=40, early_stopping=None)
    gate = lakehouse_assets.Gate(error_rate=0.1, folds=4, newest=None, leakage=None)
    model = replace(model, learner=quick, split=lakehouse_assets.TimeFolds(least=4, most=4), one_line_rule=False, gate=gate)
    root = Root(settings)
    numbers = pl.int_range(600, eager=True)
    age = numbers * 37 % 60
    lent = pl.DataFrame(
        {
            "loan": "L" + numbers.cast(pl.String),
            "day": pl.select(pl.lit(date(2025, 1, 1)) + pl.duration(days=numbers // 4)).to_series(),
            "age": age.cast(pl.Float64),
            "is_late": (age < 20) != (numbers % 7 == 0),  # mostly those of the young
        }
    ).with_columns(known_at=pl.col("day").cast(pl.Datetime("us", "UTC")) + pl.duration(days=1))
    returns = root.lakehouse.table("library.silver.returns")
    returns.create(lent.schema)
    returns.append(lent)
    readers = feature_set(
        "library.features.readers", contract=Reader, entity=("loan",), event_time="day", kind=ByKey("loan"), inputs={"rows": returns.name}
    )(lambda rows: rows.select("loan", "day", "known_at", "age"))
    runner = Runner(Catalog((readers, model, table), frozenset({returns.name})), root.lakehouse, root.ingestion, root.registry, 1)
    runner.run([readers.name], run_id="test")
    result = ModelStep(model, root.lakehouse, root.registry(), 1, "test").run()
    assert result.promoted, result.reasons
    runner.run([table.name], run_id="test")
    predicted = root.lakehouse.table(table.name).scan().collect().join(lent, on="loan")
    assert predicted.height == 600
    means = dict(predicted.group_by(pl.col("age") < 20).agg(pl.col("probability").mean()).iter_rows())
    assert means[True] > 0.7
    assert means[False] < 0.3


@pytest.mark.parametrize(
    ("objective", "target", "columns"),
    [
        ("regression", pl.col("age"), ["prediction"]),
        ("binary", pl.col("age") > 10, ["probability"]),
        (
            "multiclass",
            pl.when(pl.col("age") > 10).then(pl.lit("old")).otherwise(pl.lit("young")),
            ["probability_old", "probability_young"],
        ),
        ("quantiles", pl.col("age"), ["p10", "p50", "p90", "mean"]),
    ],
)
def test_the_columns_that_are_predicted_are_those_of_the_page(objective, target, columns):
    rows = pl.DataFrame({"loan": range(60), "day": [date(2025, 1, 1)] * 60, "age": [float(row % 20) for row in range(60)]})
    training = TrainingRows(rows.with_columns(target=target).lazy(), ("loan",), "day", "target", ("age",))
    predictor = lakehouse_assets.GradientBoosting(objective, rounds=3, early_stopping=None).fit(training, seed=1, compute=Local())
    assert predictor.predict(rows.select("age")).columns == columns


def test_each_command_of_the_page_is_known():
    commands = re.findall(r"(?:^|`)lakehouse ([a-z ]+?)(?= [A-Z\-#]| [a-z_]+\.|\n|`)", PAGE, re.MULTILINE)
    assert len(commands) > 8
    for words in commands:
        command = main
        for word in words.split():
            assert word in command.commands, words
            command = command.commands[word]
