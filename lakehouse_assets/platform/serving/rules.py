"""The rules of a contract, held against the rows of requests.

A request has few rows, so comparisons with fixed values are done in Python, without a query; all other rules are done by Pandera, once for
all requests of a batch. Either way the same rows pass as in a table. What references other tables is not held against them here.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import polars as pl

from lakehouse_assets.platform.quality.contract import Contract, schema_of
from lakehouse_assets.platform.quality.rules import BoundRule, bound_rules, feed_rules
from lakehouse_assets.platform.serving.refused import FieldError
from lakehouse_assets.platform.serving.rows import AS_WRITTEN, Row
from lakehouse_assets.platform.storage.types import TIMESTAMP

Holds = Callable[[Any], bool]
_EXACT: Final = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Float64, pl.String, TIMESTAMP)
"""Types whose values compare in Python as they do in Polars."""


@dataclass(frozen=True)
class _Comparison:
    column: str
    text: str
    holds: Holds


class RowRules:
    """The rules of a contract that reject rows, without those about columns that a request does not have."""

    def __init__(self, contract: type[Contract], columns: Sequence[str]) -> None:
        schema = schema_of(contract)
        self._columns = {name: schema[name] for name in columns}
        self._compared: list[_Comparison] = []
        self._expressed: list[tuple[BoundRule, pl.Expr]] = []
        self._checked: list[BoundRule] = []
        for bound in bound_rules(contract):
            if bound.check is None or not bound.rule.rejects or bound.rule.column not in {None, *columns}:
                continue
            holds = _comparison(bound, schema)
            if holds is not None and bound.rule.column is not None:
                self._compared.append(_Comparison(bound.rule.column, bound.rule.text, holds))
            elif (expressed := _expression(bound)) is not None:
                self._expressed.append((bound, expressed.alias(bound.rule.name)))
            elif bound.rule.column is not None or {*schema} <= {*columns}:
                self._checked.append(bound)
        self._latest = {
            one.rule.column: one.within
            for one in feed_rules(contract)
            if one.within is not None and one.rule.column in columns and one.rule.rejects and one.rule.column is not None
        }

    def broken(self, rows: Sequence[Row], now: datetime) -> Iterator[FieldError]:
        """The rules that are told without a query and that rows break."""
        for number, row in enumerate(rows):
            for one in self._compared:
                value = row[one.column]
                if value is not None and not one.holds(value):
                    yield FieldError(one.text, one.column, number)
            for column, within in self._latest.items():
                if (value := row[column]) is not None and _is_after(value, now, within):
                    yield FieldError(f"{column} is more than {within.days} days in the future", column, number)

    @property
    def needs_query(self) -> bool:
        """Whether there are rules that are told by a query."""
        return bool(self._expressed or self._checked)

    def broken_in(self, frame: pl.DataFrame) -> dict[int, list[FieldError]]:
        """The other rules, by the number of the row that breaks them; `frame` has the columns."""
        found: dict[int, list[FieldError]] = {}
        masks = list(zip((bound for bound, _ in self._expressed), self._answers(frame), strict=True))
        for bound in self._checked:
            assert bound.check is not None  # noqa: S101 see above
            rows = frame.lazy().select(list(self._columns))
            masks.append((bound, bound.check(rows, bound.rule.column).check_output.collect().to_series()))
        for bound, kept in masks:
            if kept.null_count() or not kept.all():
                for number in (~kept.fill_null(value=True)).arg_true():
                    found.setdefault(number, []).append(FieldError(bound.rule.text, bound.rule.column, number))
        return found

    def _answers(self, frame: pl.DataFrame) -> list[pl.Series]:
        """What the rules say that are expressions, by one query."""
        if not self._expressed:
            return []
        return frame.lazy().select(expressed for _, expressed in self._expressed).collect(optimizations=AS_WRITTEN).get_columns()


def _comparison(bound: BoundRule, schema: pl.Schema) -> Holds | None:
    """A rule as a function of one value; None where it has to be left to Pandera."""
    check, column = bound.check, bound.rule.column
    if check is None or column is None or not check.ignore_na or schema[column] not in _EXACT:
        return None
    make, given = _COMPARISONS.get(str(check.name)), dict(check.statistics or {})
    bounds = [given[name] for name in ("min_value", "max_value", "exact_value", "string") if given.get(name) is not None]
    values = [*bounds, *given.get("allowed_values", ()), *given.get("forbidden_values", ())]
    if make is None or not all(_compares(one, schema[column]) for one in values):
        return None
    return make(given)


def _compares(bound: Any, dtype: pl.DataType) -> bool:
    """Whether Python compares values of a type with a bound as Polars does."""
    if dtype == pl.String:
        return isinstance(bound, str | int)  # a length is a number
    if dtype == TIMESTAMP:
        return isinstance(bound, datetime) and bound.tzinfo is not None
    return isinstance(bound, int | float) and not isinstance(bound, bool)


def _expression(bound: BoundRule) -> pl.Expr | None:
    """A rule as an expression whose nulls pass; None where it has to be left to Pandera."""
    check, column = bound.check, bound.rule.column
    if bound.holds is not None:
        return bound.holds
    if check is None or column is None or not check.ignore_na:
        return None
    pattern = (check.statistics or {}).get("pattern")
    if pattern is None:
        return None
    text: str = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    if str(check.name) == "str_matches":
        return pl.col(column).str.contains(text if text.startswith("^") else f"^{text}")
    return pl.col(column).str.contains(text) if str(check.name) == "str_contains" else None


def _in_range(given: dict[str, Any]) -> Holds:
    least, most = given["min_value"], given["max_value"]
    with_least, with_most = given.get("include_min", True), given.get("include_max", True)
    return lambda value: (value >= least if with_least else value > least) and (value <= most if with_most else value < most)


def _isin(given: dict[str, Any]) -> Holds:
    return frozenset(given["allowed_values"]).__contains__


def _notin(given: dict[str, Any]) -> Holds:
    forbidden = frozenset(given["forbidden_values"])
    return lambda value: value not in forbidden


def _length(given: dict[str, Any]) -> Holds:
    exact = given.get("exact_value")
    least, most = (given.get("min_value") or 0, given.get("max_value")) if exact is None else (exact, exact)
    return lambda value: least <= len(value) and (most is None or len(value) <= most)


def _at_least(given: dict[str, Any]) -> Holds:
    least = given["min_value"]
    return lambda value: value >= least


def _above(given: dict[str, Any]) -> Holds:
    least = given["min_value"]
    return lambda value: value > least


def _at_most(given: dict[str, Any]) -> Holds:
    most = given["max_value"]
    return lambda value: value <= most


def _below(given: dict[str, Any]) -> Holds:
    most = given["max_value"]
    return lambda value: value < most


_COMPARISONS: Final[dict[str, Callable[[dict[str, Any]], Holds]]] = {
    "greater_than": _above,
    "greater_than_or_equal_to": _at_least,
    "less_than": _below,
    "less_than_or_equal_to": _at_most,
    "in_range": _in_range,
    "isin": _isin,
    "notin": _notin,
    "str_length": _length,
    "str_startswith": lambda given: lambda value: value.startswith(given["string"]),
    "str_endswith": lambda given: lambda value: value.endswith(given["string"]),
}


def _is_after(value: datetime | date, now: datetime, within: timedelta) -> bool:
    last = now + within
    if isinstance(value, datetime):
        return value > (last if value.tzinfo else last.astimezone(UTC).replace(tzinfo=None))
    return value > last.date()
