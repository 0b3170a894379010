"""The recipe `classifier`: feature set, model and prediction table of an outcome of rows, declared at once from the same pieces.

It only puts declarations together. How classifiers learn is in `modelling.learners`, which rows they learn from in `row_examples`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.declarations import places
from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError, Declares, nearest, require_once
from lakehouse_assets.platform.declarations.computed_kinds import ByKey
from lakehouse_assets.platform.declarations.features import FeatureSet, feature_set
from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.declarations.learning import Learner, Metric, Predictor
from lakehouse_assets.platform.declarations.models import MODEL_VERSION, ModelDeclaration, Predictions, model, predictions
from lakehouse_assets.platform.declarations.retraining import Retrain
from lakehouse_assets.platform.features.labels import Labels
from lakehouse_assets.platform.modelling.costs import Costs
from lakehouse_assets.platform.modelling.learners.baselines import ClassPrior
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.learners.linear import Linear
from lakehouse_assets.platform.modelling.metrics import Accuracy, Auc, AveragePrecision, CalibrationError, Cost, LogLoss
from lakehouse_assets.platform.modelling.targets import PROBABILITY, Task
from lakehouse_assets.platform.modelling.time_folds import TimeFolds
from lakehouse_assets.platform.quality.contract import Timestamp, schema_of
from lakehouse_assets.platform.recipes.classifier_contracts import (
    DECISION,
    PREDICTED,
    RESERVED,
    Columns,
    features_contract,
    predictions_contract,
)
from lakehouse_assets.platform.recipes.row_examples import RowExamples
from lakehouse_assets.platform.storage.known_at import KNOWN_AT

_NAME = re.compile(r"([a-z][a-z0-9_]*)(?:\.([a-z][a-z0-9_]*))?")
_CLASS = re.compile(r"[\w.-]+")
_TYPES: Final = (float, int, str, bool, date, Timestamp)
_TYPES_SAID: Final = "float, int, str, bool, date or Timestamp"
_SIMPLE: Final = Costs(missed=1.0, false_alarm=1.0)


@dataclass(frozen=True)
class Classifier(Declares):
    """What `classifier` declared.

    Attributes:
        features: The feature set: what each row said when it came.
        model: The model.
        predictions: The prediction table.
    """

    features: FeatureSet
    model: ModelDeclaration
    predictions: Predictions

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """See `Declares.declarations`."""
        return (self.features, self.model, self.predictions)


def classifier(
    name: str,
    *,
    table: str,
    target: str,
    entity: tuple[str, ...] | Mapping[str, Any],
    time: str | Mapping[str, Any],
    inputs: Mapping[str, Any],
    settled: timedelta | None = None,
    known_at: str | None = None,
    positive: str | None = None,
    classes: tuple[str, ...] = (),
    costs: Costs | None = None,
    slices: tuple[str, ...] = (),
    learner: Learner | None = None,
    gate: Gate = Gate(),  # noqa: B008 it is frozen
    retrain: Retrain | None = None,
    calibrated: bool = True,
    where: pl.Expr | None = None,
    owner: str | None = None,
    description: str | None = None,
) -> Classifier:
    """Declare the prediction of an outcome for each row of a table: a feature set, a model and a prediction table.

    Assign it to a name in a module of the product. `lakehouse run` computes the feature set, `lakehouse train` trains the model, and its
    champion gives each row a probability. A model becomes champion if it beats the share of each class, a linear model and the best rule of
    one column on periods that it has not seen; until then the best of these predicts.

    A prediction is made when a row comes, from the values that it came with.

    Args:
        name: `product` or `product.name`. The tables are `product.features.name` and `product.predictions.name`, the model is
            `product.models.name`; without a name it is the last word of `table`.
        table: The table with a row for each prediction to make.
        target: Its column with the outcome, null while there is none: a Boolean, 0 or 1, or texts with `positive` or `classes`.
        entity: Its columns that name what is predicted, texts; of other types as in `{"order": int}`. With the time they tell rows apart.
        time: Its column that says when a row happened, a moment; a date as in `{"day": date}`, whose end counts.
        inputs: Its columns that are learnt from, with their types: `float`, `int`, `str`, `bool`, `date` or `Timestamp`.
        settled: How long after its time the outcome of a row is known, as of a charge back. A row counts once the table has newer ones
            by so long; see `Labels` for rows with a time in the future.
        known_at: Instead of it, the column that says when the outcome became known.
        positive: Of a target of texts, the value whose probability is predicted.
        classes: Of a target of more than two values, all of them: each gets a probability.
        costs: What wrong decisions cost, in numbers or columns among the inputs: a row is to be acted on where that is expected to cost
            less. None: where its probability is above one half.
        slices: Columns of the table by whose values scores are told apart.
        learner: In place of gradient boosting.
        gate: What a challenger has to pass.
        retrain: What starts a training besides people and the weekly schedule.
        calibrated: Whether the probabilities of the default learner are made honest on the newest rows.
        where: Which rows of the table count.
        owner: Who answers for the tables; the product's team by default.
        description: What is predicted and what for.

    Raises:
        DeclarationError: The declaration cannot be meant.

    Example::

        fraud = classifier(
            "shop.fraud",
            table="shop.gold.orders",
            target="is_fraud",
            entity=("order",),
            time="ordered_at",
            inputs={"amount": float, "country": str, "method": str},
            settled=timedelta(days=60),
            costs=Costs(missed="amount", false_alarm=5.0),
        )
    """
    product, last = _words(name, table)
    what = _Outcome(table, target, _typed(name, "entity", entity, str), _typed(name, "time", time, Timestamp), dict(inputs), classes)
    what.check(name, slices, costs, positive=positive, settled=settled, known_at=known_at)
    labels = Labels(table, tuple(what.entity), what.at, target, known_at, settled, tuple(slices))
    # The parameters that they use are part of the code of the functions below: a change of one is a change of the table.
    rows_of = None if where is None else where.meta.serialize(format="json")
    made = partial(places.by_recipe, at=places.of_caller())

    def row_inputs(rows: pl.LazyFrame) -> pl.LazyFrame:
        return what.rows(rows if where is None else rows.filter(where))

    row_inputs.__doc__ = f"What each row of {table} said, with when it became known; a correction is a row of its own."
    features = feature_set(
        f"{product}.features.{last}",
        contract=features_contract(table, what.entity, what.time, what.inputs),
        entity=tuple(what.entity),
        event_time=what.at,
        kind=ByKey(*what.entity),
        inputs={"rows": table},
        owner=owner,
    )(made(row_inputs, parameters=repr((what, rows_of))))

    task: Task = "multiclass" if classes else "binary"
    each = f"{target}, for each {' and '.join(what.entity)}"
    trained = model(
        f"{product}.models.{last}",
        description=description or f"How likely {each} of {table}.",
        examples=RowExamples(labels, (features,), positive=positive, classes=tuple(classes)),
        learner=learner or GradientBoosting(objective=task, calibrated=calibrated),
        split=TimeFolds(),
        metric=LogLoss(),
        metrics=what.metrics(costs),
        baselines={"class_share": ClassPrior(task), "linear": Linear(task)},
        gate=gate,
        retrain=retrain,
        owner=owner,
    )

    def predict(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:
        return what.scores(champion.model, features.collect(engine="streaming"), costs or _SIMPLE).lazy()

    predict.__doc__ = f"Probability of {each}."
    predicted = predictions(
        f"{product}.predictions.{last}",
        contract=predictions_contract(table, target, what.entity, what.time, tuple(classes)),
        model=trained,
        features=features.name,
        key=(*what.key, MODEL_VERSION),
        row_for_row=True,
        owner=owner,
    )(made(predict, parameters=repr((what, costs))))
    return Classifier(features, trained, predicted)


@dataclass(frozen=True)
class _Outcome:
    """What is predicted, of what, from what.

    Attributes:
        table: Has the rows.
        target: Its column with the outcome.
        entity: Columns with their types; so are the next two.
        time: One column.
        inputs: To learn from.
        classes: Of more than two.
    """

    table: str
    target: str
    entity: Columns
    time: Columns
    inputs: Columns
    classes: Sequence[str]

    @property
    def at(self) -> str:
        """The column of time."""
        return next(iter(self.time))

    @property
    def key(self) -> tuple[str, ...]:
        """What tells rows apart."""
        return (*self.entity, self.at)

    def rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The rows of the feature set; those without entity or time can neither be learnt from nor predicted."""
        contract = schema_of(features_contract(self.table, self.entity, self.time, self.inputs))
        is_date = contract[self.at] == pl.Date
        known = pl.col(self.at).cast(pl.Datetime("us")).dt.replace_time_zone("UTC") + timedelta(days=1) if is_date else pl.col(self.at)
        values = [pl.col(name).cast(contract[name]) for name in self.inputs]
        keyed = rows.filter(pl.all_horizontal(pl.col(self.key).is_not_null()))
        return keyed.select(*self.key, known.alias(KNOWN_AT), *values)

    def scores(self, predictor: Predictor, rows: pl.DataFrame, costs: Costs) -> pl.DataFrame:
        """The rows of the prediction table: what the predictor says of the inputs, and what follows from it."""
        found = predictor.predict(rows.select(predictor.inputs))
        if not self.classes:
            probability = found[PROBABILITY]
            missed, false_alarm = (pl.Series(cost) for cost in costs.of(rows))
            acts = (probability * missed > (1 - probability) * false_alarm).alias(DECISION)
            return rows.select(self.key).with_columns(probability, acts)
        columns = [f"{PROBABILITY}_{one}" for one in self.classes]
        # A class that no training row had is not predicted.
        of_classes = found.select(pl.col(name) if name in found.columns else pl.lit(0.0).alias(name) for name in columns)
        likeliest = pl.concat_list(columns).list.arg_max().replace_strict(dict(enumerate(self.classes)), return_dtype=pl.String)
        return rows.select(self.key).hstack(of_classes.select(likeliest.alias(PREDICTED), *columns))

    def metrics(self, costs: Costs | None) -> tuple[Metric, ...]:
        """What is recorded besides the log loss. Costs that differ by row are not: an evaluation has no inputs."""
        found: tuple[Metric, ...] = (AveragePrecision(), Auc(), CalibrationError())
        if self.classes:
            return (*found, Accuracy())
        is_number = costs is not None and not any(isinstance(cost, str) for cost in (costs.missed, costs.false_alarm))
        return (*found, Cost(costs=costs)) if costs is not None and is_number else found

    def check(
        self,
        name: str,
        slices: Sequence[str],
        costs: Costs | None,
        *,
        positive: str | None,
        settled: timedelta | None,
        known_at: str | None,
    ) -> None:
        """Refuse what cannot be classified.

        Raises:
            DeclarationError: With the parameter and the remedy.
        """
        where = f"classifier {name!r}"
        require_once(where, "slices", slices)
        self._check_columns(where, known_at)
        if (settled is None) == (known_at is None):
            raise DeclarationError(
                f"{where}: say when {self.target} is known, by settled= (a timedelta after {self.at}) or known_at= (a column), and not by "
                "both"
            )
        self._check_classes(where, positive, costs)
        for cost in () if costs is None else (costs.missed, costs.false_alarm):
            if isinstance(cost, str) and cost not in self.inputs:
                raise DeclarationError(
                    f"{where}: costs names the column {cost!r}, which is not among inputs: add it.{nearest(cost, self.inputs)}"
                )
            if not isinstance(cost, str) and not cost > 0:
                raise DeclarationError(f"{where}: costs has {cost!r}: what a wrong decision costs is a number above 0, or a column")

    def _check_columns(self, where: str, known_at: str | None) -> None:
        require_once(where, "entity with time, target and inputs", (*self.key, self.target, *self.inputs))
        if not self.inputs:
            raise DeclarationError(f'{where}: inputs is empty: name the columns that are learnt from, as in inputs={{"amount": float}}')
        for column, annotation in {**self.entity, **self.inputs}.items():
            if annotation not in _TYPES:
                raise DeclarationError(f"{where}: {column!r} has the type {annotation!r}: write one of {_TYPES_SAID}")
        if known_at is not None and known_at in self.inputs:
            raise DeclarationError(f"{where}: inputs names {known_at!r}, which says when the outcome became known: leave it out")
        for column in (*self.key, *self.inputs):
            if column in RESERVED or column.startswith(f"{PROBABILITY}_"):
                raise DeclarationError(f"{where}: the classifier adds a column {column!r} itself: rename that of {self.table}")

    def _check_classes(self, where: str, positive: str | None, costs: Costs | None) -> None:
        if isinstance(self.classes, str) or (self.classes and len({*self.classes}) < 3):
            raise DeclarationError(
                f"{where}: classes={self.classes!r}: name three values or more; of two, say positive= for the one that counts"
            )
        if self.classes and positive is not None:
            raise DeclarationError(f"{where}: give positive for a target of two values, or classes for one of more")
        if self.classes and costs is not None:
            raise DeclarationError(f"{where}: costs are of one value that is missed: give positive in place of classes, or leave costs out")
        for one in self.classes:
            if not isinstance(one, str) or not _CLASS.fullmatch(one):
                raise DeclarationError(
                    f"{where}: classes has {one!r}: each becomes a column, so write texts of letters, digits, dots, dashes and underscores"
                )


def _words(name: str, table: str) -> tuple[str, str]:
    """The product and the last word of the names."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise DeclarationError(f"classifier {name!r}: write product or product.name in lower case, as in shop.fraud")
    if table.count(".") != 2:
        raise DeclarationError(f"classifier {name!r}: table={table!r} is no name of a table: write it as in sales.gold.orders")
    return found[1], found[2] or table.rpartition(".")[2]


def _typed(name: str, parameter: str, given: Any, usual: Any) -> dict[str, Any]:
    """Columns with their types."""
    if isinstance(given, Mapping):
        found = dict(given)
    elif parameter == "time":
        found = {given: usual}
    else:
        require_once(f"classifier {name!r}", parameter, given)
        found = dict.fromkeys(given, usual)
    if not found or (parameter == "time" and (len(found) > 1 or next(iter(found.values())) not in {date, Timestamp})):
        said = 'a column of moments, or {"day": date}' if parameter == "time" else 'columns, as in ("order",)'
        raise DeclarationError(f"classifier {name!r}: {parameter}={given!r}: write {said}")
    return found
