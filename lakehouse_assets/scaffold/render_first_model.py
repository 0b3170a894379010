"""A first model of a table as the modules of a product: contracts, the rows that are learnt from, and their features.

Its model, predictions and test are in `render_first_predictions`; what source looks like is in `source`.
"""

from collections.abc import Sequence

import polars as pl

from lakehouse_assets.platform.recipes.question import ColumnFacts
from lakehouse_assets.scaffold.first_model import Plan, words
from lakehouse_assets.scaffold.render_first_predictions import model_module, test_module
from lakehouse_assets.scaffold.source import TAB, call, call_in_lines, comment, docstring, literal, module, text


def modules(plan: Plan) -> dict[str, str]:
    """The modules of the product by their names, with its test."""
    return {
        "__init__": "",
        "contracts": _contracts(plan),
        "prepared": _rows(plan),
        "inputs": _features(plan),
        "prediction": model_module(plan),
        f"test_{plan.name}": test_module(plan),
    }


# --- contracts


def _contracts(plan: Plan) -> str:
    facts = {one.name: one for one in plan.asked.columns}
    keys = [_key(name, of, facts.get(one)) for one, (name, of) in zip((*plan.asked.entity, plan.asked.at), plan.keys.items(), strict=True)]
    inputs = [_input(plan, one, facts[one]) for one in plan.asked.inputs]
    predicted = facts[plan.asked.target]
    target = _column(
        plan.target, plan.target_type, ["nullable=True", *_personal(predicted)], "What is predicted; null while it is not known."
    )
    known = f'{TAB}known_at: Timestamp = column(description="From when on the values of the row were known.")\n'
    row = f"class Row(Contract):\n{docstring(f'A row of {plan.asked.table}.', indent=1)}\n" + "".join([*keys, *inputs, target])
    made = f"class Inputs(Contract):\n{docstring('What a row said when it came.', indent=1)}\n" + "".join([*keys, known, *inputs])
    outcome = [*keys, *_predicted(plan)]
    ends = "class Prediction(Contract):\n" + docstring(f"What the champion expects of {words(plan.target)}.", indent=1)
    types = {*plan.keys.values(), *plan.inputs.values()}
    standard = ["from datetime import date"] if "date" in types else []
    return module(
        f"What the tables of {plan.name} promise.",
        plan.imports(standard, [], ["Contract", "Timestamp", "column"], {}),
        [row, made, ends + "\n" + "".join(outcome)],
    )


def _input(plan: Plan, name: str, facts: ColumnFacts) -> str:
    own = plan.names[name]
    missing = f", missing in {facts.nulls:.1%}" if facts.nulls else ""
    said = comment(f"{facts.distinct:,} different values{missing}", 1)
    return said + _column(own, plan.inputs[own], ["nullable=True", *_personal(facts)], facts.description or f"TODO describe {words(own)}.")


def _key(own: str, of: str, facts: ColumnFacts | None) -> str:
    """A column of the key; one of time that the table does not have has no facts."""
    said = "" if facts is None else facts.description
    return _column(own, of, ["key=True", *_personal(facts)], said or f"TODO describe {words(own)}.")


def _personal(facts: ColumnFacts | None) -> list[str]:
    return ["personal=True"] if facts is not None and facts.personal else []


def _column(own: str, of: str, options: Sequence[str], description: str) -> str:
    begins = f"{own}: {of} = "
    return f"{TAB}{begins}{call('column', [*options, f'description={text(description)}'], 1, len(begins))}\n"


def _predicted(plan: Plan) -> list[str]:
    share = "in_range={'min_value': 0, 'max_value': 1}".replace("'", '"')
    found = {
        "binary": f'{TAB}probability: float = column({share}, description="Probability of {words(plan.target)}.")\n',
        "multiclass": f'{TAB}predicted: str = column(description="The most likely value of {words(plan.target)}.")\n'
        f'{TAB}probability: float = column({share}, description="Its probability.")\n',
        "regression": f'{TAB}prediction: float = column(description="The mean that is expected of {words(plan.target)}.")\n',
    }[plan.asked.task]
    return [
        found,
        f'{TAB}model_name: str = column(description="Registered model.")\n',
        f'{TAB}model_version: int = column(key=True, ge=1, description="Its version.")\n',
        f'{TAB}feature_version: int = column(ge=0, description="Delta version of the feature set that was scored.")\n',
        f'{TAB}scored_at: Timestamp = column(description="When it was scored.")\n',
    ]


# --- tables


def _rows(plan: Plan) -> str:
    asked = plan.asked
    left_out = [f"Left out: {one.name} ({one.note})." for one in asked.columns if one.use == "left out"]
    body = "".join(comment(note, 1) for note in [*asked.notes, *left_out])
    selected = [_selected(name, plan.names[name], plan.schema[name]) for name in asked.entity]
    selected.append(_time(plan))
    selected += [_cast(name, plan.names[name], plan.inputs[plan.names[name]], plan.schema[name]) for name in asked.inputs]
    selected.append(_target(plan))
    body += f"{TAB}typed = {call_in_lines('source.select', selected, 1)}\n"
    body += f"{TAB}return typed.filter({', '.join(f'pl.col({text(name)}).is_not_null()' for name in plan.key)})\n"
    declared = call_in_lines(
        "table",
        [
            text(f"{plan.name}.gold.rows"),
            "contract=Row",
            _kind(plan),
            f"inputs={literal({'source': asked.table}, 1, 7)}",
        ],
        0,
    )
    function = (
        f"@{declared}\ndef rows(source: pl.LazyFrame) -> pl.LazyFrame:\n"
        + docstring(f"The rows of {asked.table} that are predicted, with the columns that are learnt from.", indent=1)
        + body
    )
    kind = "ByKey" if _is_plain(plan) else "Full"
    standard = ["from datetime import date"] if asked.time is None else []
    own = {"contracts": ["Row"]}
    said = f"What is learnt from {asked.table}: change here which columns count, and how."
    return module(said, plan.imports(standard, ["import polars as pl"], [kind, "table"], own), [function])


def _is_plain(plan: Plan) -> bool:
    """Whether the entity has its own names and types, so that a changed row is computed again alone."""
    return all(name == plan.names[name] for name in plan.asked.entity)


def _kind(plan: Plan) -> str:
    return f"kind=ByKey({', '.join(map(text, plan.entity))})" if _is_plain(plan) else "kind=Full()"


def _selected(name: str, own: str, dtype: pl.DataType) -> str:
    if dtype.is_integer() and dtype != pl.Int64:
        return _named(f"pl.col({text(name)}).cast(pl.Int64)", name, own)
    if dtype in {pl.Enum, pl.Categorical}:
        return _named(f"pl.col({text(name)}).cast(pl.String)", name, own)
    return _named(f"pl.col({text(name)})", name, own)


def _named(expression: str, name: str, own: str) -> str:
    return expression if name == own else f"{expression}.alias({text(own)})"


def _time(plan: Plan) -> str:
    name = plan.asked.time
    if name is None:
        return f"pl.lit(date(2000, 1, 1)).alias({text(plan.at)})"
    dtype = plan.schema[name]
    expression = f"pl.col({text(name)})"
    if isinstance(dtype, pl.Datetime):
        expression += '.dt.replace_time_zone("UTC")' if dtype.time_zone is None else ""  # fmt: skip
        expression += '.cast(pl.Datetime("us", "UTC"))' if (dtype.time_unit, dtype.time_zone or "UTC") != ("us", "UTC") else ""
    return _named(expression, name, plan.at)


def _cast(name: str, own: str, kind: str, dtype: pl.DataType) -> str:
    stored = {"float": pl.Float64(), "int": pl.Int64(), "str": pl.String(), "bool": pl.Boolean(), "date": pl.Date()}.get(kind)
    expression = f"pl.col({text(name)})"
    if stored is not None and dtype != stored:
        return _named(f"{expression}.cast(pl.{stored})", name, own)
    if kind == "Timestamp" and isinstance(dtype, pl.Datetime) and (dtype.time_unit, dtype.time_zone) != ("us", "UTC"):
        zone = '.dt.replace_time_zone("UTC")' if dtype.time_zone is None else ""
        return _named(f'{expression}{zone}.cast(pl.Datetime("us", "UTC"))', name, own)
    return _named(expression, name, own)


def _target(plan: Plan) -> str:
    asked, expression = plan.asked, f"pl.col({text(plan.asked.target)})"
    dtype = plan.schema[asked.target]
    if asked.task == "binary":
        if asked.positive is None:
            return _named(expression, asked.target, plan.target)
        as_text = "" if dtype == pl.String else ".cast(pl.String)"
        return f"({expression}{as_text} == {text(asked.positive)}).alias({text(plan.target)})"
    stored = pl.Float64() if asked.task == "regression" else pl.String()
    return _named(expression if dtype == stored else f"{expression}.cast(pl.{stored})", asked.target, plan.target)


# --- features


def _features(plan: Plan) -> str:
    ends = plan.keys[plan.at] == "date"
    moment = f"pl.col({text(plan.at)})"
    known = f'({moment}.cast(pl.Datetime("us")) + pl.duration(days=1)).dt.replace_time_zone("UTC")' if ends else moment
    said = (
        "Known at the end of the day."
        if ends
        else "Known when the row happened. What comes late or is corrected is known from when it came."
    )
    selected = [*map(text, plan.key), *map(text, plan.inputs), f"known_at={known}"]
    declared = call_in_lines(
        "feature_set",
        [
            text(f"{plan.name}.features.rows"),
            "contract=Inputs",
            f"entity={literal(plan.entity, 1, 8)}",
            f"event_time={text(plan.at)}",
            f"kind=ByKey({', '.join(map(text, plan.entity))})",
            f"inputs={literal({'rows': f'{plan.name}.gold.rows'}, 1, 7)}",
        ],
        0,
    )
    function = (
        f"@{declared}\ndef inputs(rows: pl.LazyFrame) -> pl.LazyFrame:\n"
        + docstring("What each row said when it came. Features from other tables are feature sets of their own.", indent=1)
        + comment(said, 1)
        + f"{TAB}return {call_in_lines('rows.select', selected, 1)}\n"
    )
    own = {"contracts": ["Inputs"]}
    return module(
        f"What was known of each row of {plan.name}, and when.",
        plan.imports([], ["import polars as pl"], ["ByKey", "feature_set"], own),
        [function],
    )
