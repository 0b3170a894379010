"""The contracts of a classifier, made of the columns of its table: of the feature set, and of the prediction table."""

from collections.abc import Mapping
from datetime import date
from types import new_class
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT
from lakehouse_assets.platform.declarations.models import FEATURE_VERSION, MODEL_NAME, MODEL_VERSION, SCORED_AT
from lakehouse_assets.platform.modelling.targets import PROBABILITY
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column, rule
from lakehouse_assets.platform.quality.copied import copied
from lakehouse_assets.platform.storage.known_at import KNOWN_AT, OWN_COLUMNS

Columns = Mapping[str, Any]

DECISION: Final = "decision"
PREDICTED: Final = "predicted"
RESERVED: Final = frozenset(
    {KNOWN_AT, LABEL_KNOWN_AT, MODEL_NAME, MODEL_VERSION, FEATURE_VERSION, SCORED_AT, PROBABILITY, DECISION, PREDICTED}
    | {"fold", "candidate", "actual", "weight"}
    | OWN_COLUMNS.keys()
)
"""The names that columns of a table cannot have: those that the tables and the work on them add."""


def features_contract(table: str, entity: Columns, time: Columns, inputs: Columns) -> type[Contract]:
    """What a row said when it came.

    Args:
        table: Whose rows they are.
        entity: Types of the columns that name what is predicted.
        time: Type of the column of time.
        inputs: Types of the columns that are learnt from.
    """
    columns = {
        **_keys(table, entity, time),
        KNOWN_AT: (
            Timestamp,
            column(description=f"From when on this was known: {_moment(time)}, later if it came late or was revised."),
        ),
        **{name: (annotation, copied(column(nullable=True), table, name)) for name, annotation in inputs.items()},
    }
    return _contract("RowInputs", f"What each row of {table} said when it came.", columns, {})


def predictions_contract(table: str, target: str, entity: Columns, time: Columns, classes: tuple[str, ...]) -> type[Contract]:
    """How likely an outcome is, by the champion. An estimate of what is personal is personal too.

    Args:
        table: As for `features_contract`.
        target: What is predicted.
        entity: As for `features_contract`.
        time: As for `features_contract`.
        classes: The values of the target; none of a target of two.
    """
    share: dict[str, Any] = {"in_range": {"min_value": 0, "max_value": 1}}

    def estimate(annotation: Any, description: str, **options: Any) -> tuple[Any, Any]:
        return annotation, copied(column(description=description, **options), table, target)

    if classes:
        found = {PREDICTED: estimate(str, f"The most likely value of {target}.", isin=list(classes))}
        found |= {f"{PROBABILITY}_{one}": estimate(float, f"Probability that {target} is {one}.", **share) for one in classes}
    else:
        found = {
            PROBABILITY: estimate(float, f"Probability of {target}.", **share),
            DECISION: estimate(bool, "Whether to act: a false alarm is expected to cost less than letting it pass."),
        }
    columns = {
        **_keys(table, entity, time),
        **found,
        MODEL_NAME: (str, column(description="Registered model.")),
        MODEL_VERSION: (int, column(key=True, ge=1, description="Its version.")),
        FEATURE_VERSION: (int, column(ge=0, description="Delta version of the feature set that was scored.")),
        SCORED_AT: (Timestamp, column(description="When it was scored.")),
    }
    rules = {}
    if classes:
        total = pl.sum_horizontal(f"{PROBABILITY}_{one}" for one in classes)
        rules["probabilities_add_up"] = rule("probabilities add up to 1", (total - 1).abs() < 1e-6)
    return _contract("RowPredictions", f"How likely {target} is, by the champion.", columns, rules)


def _keys(table: str, entity: Columns, time: Columns) -> dict[str, tuple[Any, Any]]:
    ((at, annotation),) = time.items()
    return {
        **{name: (of, copied(column(key=True), table, name)) for name, of in entity.items()},
        at: (annotation, copied(column(key=True, description="When the prediction is made."), table, at)),
    }


def _moment(time: Columns) -> str:
    ((at, annotation),) = time.items()
    return f"the end of {at}" if annotation is date else at


def _contract(name: str, doc: str, columns: Mapping[str, tuple[Any, Any]], rules: Mapping[str, Any]) -> type[Contract]:
    annotations = {column: annotation for column, (annotation, _) in columns.items()}
    fields = {column: field for column, (_, field) in columns.items()}
    content = {"__annotations__": annotations, "__doc__": doc, "__module__": __name__, **fields, **rules}
    return new_class(name, (Contract,), exec_body=lambda namespace: namespace.update(content))
