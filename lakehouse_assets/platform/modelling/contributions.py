"""What a prediction owes to its inputs, as a table, and in words.

How large the contributions are is for each predictor to say: see `Predictor.contributions`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.declarations.learning import CONTRIBUTIONS
from lakehouse_assets.platform.modelling.metric_inputs import Vector

_BETWEEN: Final = "; "
_DIGITS: Final = 2
_LEAST: Final = 1e-15
_FEW: Final = 300
"""Values that are put into words one by one."""


def largest(rows: pl.DataFrame, inputs: Sequence[str], found: Any, top: int, *, raising: bool = False) -> pl.DataFrame:
    """The largest contributions of each row, in the columns of `CONTRIBUTIONS`; those of 0 are none.

    Args:
        rows: Has the inputs.
        inputs: Their names.
        found: One contribution for each row and input.
        top: Most of them for each row.
        raising: Only those that raise the prediction.
    """
    if rows.is_empty() or not inputs:
        return pl.DataFrame(schema=CONTRIBUTIONS)
    order = np.argsort(-(found if raising else np.abs(found)), axis=1, kind="stable")[:, :top]
    count = order.shape[1]
    position, rank, which = np.repeat(np.arange(len(rows)), count), np.tile(np.arange(1, count + 1), len(rows)), order.ravel()
    size = np.take_along_axis(found, order, axis=1).ravel()
    kept = size > 0 if raising else size != 0
    position, rank, which, size = position[kept], rank[kept], which[kept], size[kept]
    texts = _texts(rows, inputs, position, which)
    names = pl.Series([inputs[number] for number in which.tolist()], dtype=pl.String)
    return pl.DataFrame([position, rank, names, texts, size], schema=CONTRIBUTIONS)


def _texts(rows: pl.DataFrame, inputs: Sequence[str], position: Any, which: Any) -> pl.Series:
    """The values of some inputs of some rows as people read them; those of one type together, as few rows have values of many inputs."""
    if len(which) <= _FEW:
        return _few_texts(rows, inputs, position.tolist(), which.tolist())
    of_type: dict[pl.DataType, list[int]] = {}
    for number in np.unique(which).tolist():
        of_type.setdefault(rows.get_column(inputs[number]).dtype, []).append(number)
    places, parts = [np.zeros(0, dtype=np.int64)], [pl.Series([], dtype=pl.String)]
    for numbers in of_type.values():
        own = [np.flatnonzero(which == number) for number in numbers]
        values = [rows.get_column(inputs[number])[position[at].tolist()].alias("") for number, at in zip(numbers, own, strict=True)]
        places.append(np.concatenate(own))
        parts.append(value_texts(pl.concat(values)))
    texts: pl.Series = pl.concat([one.alias("") for one in parts])[np.argsort(np.concatenate(places), kind="stable").tolist()]
    return texts


def _few_texts(rows: pl.DataFrame, inputs: Sequence[str], position: Sequence[int], which: Sequence[int]) -> pl.Series:
    """The same for the few rows of a request: values are taken one by one."""
    of_type: dict[pl.DataType, list[int]] = {}
    columns = {number: rows.get_column(inputs[number]) for number in {*which}}
    for place, number in enumerate(which):
        of_type.setdefault(columns[number].dtype, []).append(place)
    texts: list[str | None] = [None] * len(which)
    for dtype, places in of_type.items():
        values = pl.Series("", [columns[which[place]][position[place]] for place in places], dtype=dtype)
        for place, text in zip(places, value_texts(values).to_list(), strict=True):
            texts[place] = text
    return pl.Series(texts, dtype=pl.String)


def value_texts(values: pl.Series) -> pl.Series:
    """Values as people read them in a sentence: numbers with two digits after the point at most, moments to the second."""
    if values.dtype.is_float() or values.dtype.is_decimal():
        texts = values.cast(pl.Float64).round(_DIGITS).cast(pl.String).to_list()
        return pl.Series(values.name, [None if text is None else text.removesuffix(".0") for text in texts], pl.String)
    if values.dtype == pl.Boolean:
        return pl.Series(values.name, [None if value is None else "yes" if value else "no" for value in values], pl.String)
    if isinstance(values.dtype, pl.Datetime | pl.Duration):
        return values.dt.to_string("%Y-%m-%d %H:%M:%S" if isinstance(values.dtype, pl.Datetime) else "polars")
    return values.cast(pl.String)


def log_odds(probability: Vector) -> Vector:
    """Log odds of probabilities."""
    likely = np.clip(probability, _LEAST, 1 - _LEAST)
    odds: Vector = np.log(likely / (1 - likely))
    return odds


def reasons(
    champion: Any,
    rows: pl.DataFrame,
    *,
    where: pl.Series | None = None,
    most: int = 3,
    words: Mapping[str, str] = MappingProxyType({}),
    missing: str = "none",
) -> pl.Series:
    """Why a prediction is as high as it is, in words: the inputs that raised it most, the largest first, with their values.

    Say which rows need reasons: to explain a prediction costs several times as much as to make it.

    Args:
        champion: As the function of a prediction table is given it.
        rows: With the inputs of the champion.
        where: Whether a row needs reasons; None: each does.
        most: Inputs that are named for each row.
        words: By input what it is called, in place of its description in the contract of its feature set.
        missing: What is said of a value that is missing.

    Returns:
        A text for each row, null where no input raised the prediction, of a predictor that cannot say, as a constant, and where none are
        needed.

    Example::

        Amount in pounds: 812.5; Number of events in the last 1 hour, by card: 4
    """
    needed = range(len(rows)) if where is None else [row for row, is_needed in enumerate(where.to_list()) if is_needed]
    said: dict[int, list[str]] = {}
    if needed:
        called = {**{name: name for name in champion.model.inputs}, **champion.described, **words}
        explained = rows if where is None else rows[needed]
        found = champion.model.contributions(explained, top=most, raising=True)
        columns = (found[name].to_list() for name in ("row", "rank", "input", "value"))
        for row, _, name, value in sorted(zip(*columns, strict=True), key=lambda one: one[:2]):
            said.setdefault(needed[row], []).append(f"{called[name].rstrip('.')}: {missing if value is None else value}")
    return pl.Series("reasons", [_BETWEEN.join(said[row]) if row in said else None for row in range(len(rows))], dtype=pl.String)
