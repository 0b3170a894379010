"""A first model of a table as the modules of a product: model, predictions and a test of invented rows.

Contracts and tables are in `render_first_model`; what source looks like is in `source`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.scaffold.first_model import Plan, annotation_of, words
from lakehouse_assets.scaffold.source import TAB, braces, call, call_in_lines, comment, docstring, literal, module, text, tuple_of

_INVENTED: Final[Mapping[str, tuple[str, str]]] = {
    "float": ("1.5", "2.5"),
    "int": ("1", "2"),
    "str": ('"a"', '"b"'),
    "bool": ("True", "False"),
    "date": ("date(2024, 1, 15)", "date(2024, 1, 16)"),
    "Timestamp": ("datetime(2024, 1, 15, 8, tzinfo=UTC)", "datetime(2024, 1, 16, 8, tzinfo=UTC)"),
}
_FOLDS: Final = 5


def model_module(plan: Plan) -> str:
    """Labels, model and prediction table."""
    asked = plan.asked
    learner, learners, estimators = source_of_learner(plan.learner, 1, len("learner=,"))
    baselines, metric, metrics, names = _tested_by(plan)
    split, split_name, why = _split(plan)
    options = [
        text(f"{plan.name}.models.{plan.target}"),
        f'description="TODO say what {words(plan.target)} of {asked.table} is predicted for."',
        "labels=labels",
        "features=(inputs,)",
        f"{comment(plan.found, 1).removeprefix(TAB)}{TAB}learner={learner}",
        f"{comment(why, 1).removeprefix(TAB)}{TAB}split={split}",
        f"metric={metric}",
        f"metrics=({', '.join(metrics)}{',' * (len(metrics) == 1)})",
        f"baselines={{{', '.join(f'{text(name)}: {code}' for name, code in baselines.items())}}}",
        *_gate(plan),
    ]
    labels = call_in_lines(
        "Labels",
        [
            text(f"{plan.name}.gold.rows"),
            f"entity={literal(plan.entity, 1, 8)}",
            f"at={text(plan.at)}",
            f"target={text(plan.target)}",
            *_settled(plan),
        ],
        0,
    )
    scored = _scored(plan)
    public = ["Labels", "model", "predictions", split_name, *names, *learners, *(["Gate"] if _gate(plan) else [])]
    others = ["import polars as pl", *sorted(estimators)]
    said = f"The model of {words(plan.target)}, and what its champion predicts. `lakehouse train` trains it."
    body = f"labels = {labels}\n\ntrained = {call_in_lines('model', options, 0)}\n"
    return module(
        said,
        plan.imports(
            ["from datetime import timedelta", "from typing import Any"],
            others,
            sorted({*public}),
            {"contracts": ["Prediction"], "inputs": ["inputs"]},
        ),
        [body, scored],
    )


def _settled(plan: Plan) -> list[str]:
    settled = plan.asked.settled
    if plan.asked.time is None:
        return ["settled=timedelta(0)"]
    said = "A row is learnt from once the table has rows that are newer by so much"
    if not settled:
        said = "Assumed: the outcome is known at once. If it comes later, say after how long, as in settled=timedelta(days=60)"
    return [comment(said, 1).removeprefix(TAB) + f"{TAB}settled={_duration(settled)}"]


def _duration(duration: timedelta) -> str:
    """The call that makes exactly this duration, as `timedelta(days=60)`."""
    units = ("days", "seconds", "microseconds")
    given = ", ".join(f"{unit}={value}" for unit in units if (value := getattr(duration, unit)))
    return f"timedelta({given or 0})"


def _tested_by(plan: Plan) -> tuple[dict[str, str], str, list[str], list[str]]:
    """Baselines, the metric of the gate, more metrics, and the public names that these need."""
    task = plan.asked.task
    is_linear = type(plan.learner).__name__ == "Linear"
    linear = {} if is_linear else {"linear": f"Linear({text(task)})"}
    also = [] if is_linear else ["Linear"]
    if task == "regression":
        metrics = ["MeanAbsoluteError()"]
        return {"mean": "Mean()", **linear}, "RootMeanSquaredError()", metrics, ["Mean", "RootMeanSquaredError", "MeanAbsoluteError", *also]
    metrics = ["Auc()", "CalibrationError()"]
    return (
        {"class_share": f"ClassPrior({text(task)})", **linear},
        "LogLoss()",
        metrics,
        ["Auc", "CalibrationError", "ClassPrior", "LogLoss", *also],
    )


def _split(plan: Plan) -> tuple[str, str, str]:
    if plan.asked.time is not None:
        return "TimeFolds()", "TimeFolds", "Tested on consecutive periods of the newer half, each predicted by what was known before it"
    why = "The table has no time: rows are divided by chance, and nothing guards against learning from the future"
    if plan.asked.task == "regression":
        return f"GroupSplit({text(plan.entity[0])}, {_FOLDS})", "GroupSplit", why
    return f"StratifiedSplit({text(plan.target)}, {_FOLDS})", "StratifiedSplit", why


def _gate(plan: Plan) -> list[str]:
    """The gate where it is not as usual."""
    own = [*(["newest=None"] if plan.asked.time is None else []), *(["leakage=None"] if plan.kept else [])]
    kept = f"{', '.join(plan.kept)} would be refused as made from the answer, and was kept: nothing looks for such columns"
    why = f"{comment(kept, 1).removeprefix(TAB)}{TAB}" if plan.kept else ""
    return [f"{why}gate={call('Gate', own, 1)}"] if own else []


def _scored(plan: Plan) -> str:
    declared = call_in_lines(
        "predictions",
        [
            text(f"{plan.name}.predictions.{plan.target}"),
            "contract=Prediction",
            "model=trained",
            f"features={text(f'{plan.name}.features.rows')}",
            f"key={literal((*plan.key, 'model_version'), 1, 5)}",
            "row_for_row=True",
        ],
        0,
    )
    lines = [
        f"{TAB}known = features.collect()\n",
        f"{TAB}found = champion.model.predict(known.select(champion.model.inputs))\n",
    ]
    of_key = f"known.select({', '.join(map(text, plan.key))})"
    if plan.asked.task == "multiclass":
        lines += [
            f"{TAB}likeliest = found.select(number=pl.concat_list(pl.all()).list.arg_max(), probability=pl.max_horizontal(pl.all()))\n",
            f'{TAB}names = {{number: name.removeprefix("probability_") for number, name in enumerate(found.columns)}}\n',
            f'{TAB}predicted = pl.col("number").replace_strict(names, return_dtype=pl.String)\n',
            f'{TAB}return {of_key}.hstack(likeliest.select(predicted=predicted, probability="probability")).lazy()\n',
        ]
    else:
        column = "probability" if plan.asked.task == "binary" else "prediction"
        lines.append(f"{TAB}return {of_key}.hstack(found.select({text(column)})).lazy()\n")
    return (
        f"@{declared}\ndef expected(champion: Any, features: pl.LazyFrame) -> pl.LazyFrame:\n"
        + docstring(f"What the champion expects of {words(plan.target)}, for each row.", indent=1)
        + "".join(lines)
    )


def source_of_learner(learner: Any, indent: int, used: int) -> tuple[str, set[str], set[str]]:
    """A learner as source, the public names in it, and imports of estimators. Fields that are as usual are left out."""
    parts, public, imports = list[str](), {type(learner).__name__}, set[str]()
    for one in fields(learner):
        value = getattr(learner, one.name)
        usual = one.default if one.default is not MISSING else one.default_factory() if one.default_factory is not MISSING else MISSING
        if hasattr(value, "get_params"):
            imports.add(f"from {type(value).__module__.split('._')[0]} import {type(value).__name__}")
            parts.append(call(type(value).__name__, _changed(value), indent + 1, 1))
        elif isinstance(value, tuple) and value and hasattr(value[0], "fit"):
            members = [source_of_learner(member, indent + 2, 1) for member in value]
            public, imports = public.union(*(names for _, names, _ in members)), imports.union(*(own for _, _, own in members))
            parts.append(f"{one.name}={tuple_of([code for code, _, _ in members], indent + 1, len(one.name) + 2)}")
        elif value != usual:
            parts.append(f"{one.name}={literal(_rounded(value), indent + 1, len(one.name) + 2)}")
    return call(type(learner).__name__, parts, indent, used), public, imports


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _changed(estimator: Any) -> list[str]:
    usual = type(estimator)().get_params()
    changed = {name: value for name, value in estimator.get_params().items() if value != usual[name]}
    return [f"{name}={literal(_rounded(value), 3, len(name) + 2)}" for name, value in changed.items()]


# --- test


def test_module(plan: Plan) -> str:
    """The test of the product."""
    kinds = {name: annotation_of(plan.schema[name]) for name in plan.schema if name in plan.names}
    invented = [braces([f"{text(name)}: {_invented(plan, name, kind, number)}" for name, kind in kinds.items()], 2, 1) for number in (0, 1)]
    source = f"SOURCE = pl.DataFrame(\n{TAB}[\n" + "".join(f"{TAB * 2}{row},\n" for row in invented) + f"{TAB}]\n)\n"
    day = "" if plan.keys[plan.at] == "date" else ".dt.date()"
    tests = [
        _function(
            "rows_keep_their_key",
            "found = rows(SOURCE.lazy()).collect()",
            "assert found.height == SOURCE.height",
            f"assert not any(found.select({', '.join(map(text, plan.key))}).null_count().row(0))",
        ),
        _function(
            "nothing_is_known_before_it_happened",
            "found = inputs(rows(SOURCE.lazy())).collect()",
            f'assert (found["known_at"].dt.date() >= found[{text(plan.at)}]{day}).all()',
        ),
        _function("what_is_predicted_is_no_input", f"assert {text(plan.target)} not in trained.examples.inputs"),
    ]
    used = source
    names = [name for name in ("UTC", "date", "datetime") if f"{name}(" in used or f"={name}" in used]
    standard = [f"from datetime import {', '.join(names)}"] if names else []
    own = {"prepared": ["rows"], "inputs": ["inputs"], "prediction": ["trained"]}
    said = f"Invented rows through the functions of {plan.name}. Add the cases that matter to you."
    return module(said, plan.imports(standard, ["import polars as pl"], [], own), [source, *tests])


def _function(name: str, *lines: str) -> str:
    return f"def test_{name}() -> None:\n" + "".join(f"{TAB}{line}\n" for line in lines)


def _invented(plan: Plan, name: str, kind: str, number: int) -> str:
    if name == plan.asked.target and plan.asked.positive is not None and kind == "str":
        return text(plan.asked.positive) if number == 0 else '"other"'
    dtype = plan.schema[name]
    value = _INVENTED[kind][number]
    if kind == "Timestamp" and isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        return f"{value}.replace(tzinfo=None)"
    return value
