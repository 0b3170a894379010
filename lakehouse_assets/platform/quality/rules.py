"""The rules of a contract: non-null columns, references and Pandera checks, each with a name, a level and words that people read.

What cannot be decided row by row is refused here, before any row is looked at. Applying the rules to rows is in `split`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Literal

import polars as pl
from pandera.polars import Check, DataFrameModel, PolarsData

from lakehouse_assets.platform.quality import missing_column
from lakehouse_assets.platform.quality.declaration_error import DeclarationError

Level = Literal["error", "warn", "fail"]


@dataclass(frozen=True)
class Rule:
    """One rule of a contract.

    Attributes:
        name: Unique in the contract; letters, digits and underscores.
        column: The column that the rule is about, None if it compares several.
        level: A row that breaks an `error` rule is rejected, one that breaks a `warn` rule is only counted, and one that breaks a `fail`
            rule stops the whole write.
        text: What the rule demands, for people.
        definition: What the rule demands, for comparing: two rules with one definition let the same rows through.
        max_bad_share: If a larger share of a batch breaks the rule, the whole write is stopped.
        max_bad_rows: If more rows of a batch break the rule, the whole write is stopped.
    """

    name: str
    column: str | None
    level: Level
    text: str
    definition: str
    max_bad_share: float | None = None
    max_bad_rows: int | None = None

    @property
    def rejects(self) -> bool:
        """Whether a row that breaks the rule stays out of the table."""
        return self.level != "warn"

    @property
    def demands(self) -> list[Any]:
        """All that makes the rule what it is, apart from its words; values of JSON."""
        limits = [] if self.max_bad_share is None and self.max_bad_rows is None else [self.max_bad_share, self.max_bad_rows]
        return [self.name, self.column or "", self.level, self.definition, *limits]

    @property
    def fingerprint(self) -> str:
        """A short text that differs between two rules if what they demand does, and only then."""
        return hashlib.sha256(json.dumps(self.demands).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Reference:
    """A column of another table in which a value has to stand."""

    table: str
    column: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """From `product.layer.name.column`.

        Raises:
            DeclarationError: It is not that.
        """
        table, _, column = text.rpartition(".")
        if len(text.split(".")) != _WORDS_OF_A_COLUMN or not all(word.isidentifier() for word in text.split(".")):
            raise DeclarationError(f"references={text!r} is no column of a table: write product.layer.name.column")
        return cls(table, column)

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"


@dataclass(frozen=True)
class BoundRule:
    """A rule with what carries it out: a Pandera check, or a column of another table. `readable` and `not null` need neither.

    `holds` is what a check of `contract.rule` compares.
    """

    rule: Rule
    check: Check | None = None
    reference: Reference | None = None
    holds: pl.Expr | None = None


@dataclass(frozen=True)
class RuleOptions:
    """What `contract.rule` says of a rule besides its expression; it is kept on the method that Pandera calls."""

    level: Level
    max_bad_share: float | None = None
    max_bad_rows: int | None = None
    holds: pl.Expr | None = None


OPTIONS = "__lakehouse_rule__"
FITS_HEADER = "fits_header"
FUTURE = "_not_far_future"
READABLE = Rule("readable", None, "error", "every value could be read as its type", "readable")
KEY_UNIQUE = "key_unique"
_WORDS_OF_A_COLUMN = 4

# A check that says yes or no for each row gives as many answers as there are rows; with one row it could not be told from one that
# gives a single answer for the whole column.
_PROBE_ROWS = 3

_NOT_IN_COLUMNS: Mapping[str, str] = {
    "regex": "one name may not stand for many columns; name each",
    "coerce": "values are never cast to fit; let the table's function return the right type",
    "default": "missing values are not filled in here; let the table's function do it",
    "unique": "it cannot be decided row by row; mark the key with column(key=True), and the write keeps it unique",
}
_NOT_IN_CONFIG: Mapping[str, str] = {
    "coerce": "values are never cast to fit; let the table's function return the right types",
    "dtype": "give each column its type",
    "unique": "it cannot be decided row by row; mark the key with column(key=True), and the write keeps it unique",
    "add_missing_columns": "let the table's function return every column",
    "drop_invalid_rows": "rejected rows go into the quarantine",
}

# Pandera's name of a check: the short name that its Field has for it, and how it reads.
_WORDING: Mapping[str, tuple[str, str]] = {
    "equal_to": ("eq", "{column} = {value}"),
    "not_equal_to": ("ne", "{column} != {value}"),
    "greater_than": ("gt", "{column} > {min_value}"),
    "greater_than_or_equal_to": ("ge", "{column} >= {min_value}"),
    "less_than": ("lt", "{column} < {max_value}"),
    "less_than_or_equal_to": ("le", "{column} <= {max_value}"),
    "isin": ("isin", "{column} is one of {allowed_values}"),
    "notin": ("notin", "{column} is none of {forbidden_values}"),
    "str_matches": ("matches", "{column} matches {pattern}"),
    "str_contains": ("contains", "{column} contains a match of {pattern}"),
    "str_startswith": ("startswith", "{column} starts with {string}"),
    "str_endswith": ("endswith", "{column} ends with {string}"),
    "in_range": ("in_range", "{min_value} {from} {column} {to} {max_value}"),
    "str_length": ("length", "{column} has {length} characters"),
}
_VALUES_SHOWN = 10


@cache
def bound_rules(model: type[DataFrameModel]) -> tuple[BoundRule, ...]:
    """All rules of a contract: `readable`, then column by column, then those that compare columns.

    That a key is unique is not among them: see `key_rule`.

    Raises:
        DeclarationError: The contract holds what cannot be decided row by row, or what would change values.
    """
    schema = model.to_schema()
    _refuse(schema, _NOT_IN_CONFIG, f"contract {model.__name__}")
    for name, column in schema.columns.items():
        _refuse_column(name, column, f"contract {model.__name__}, column {name}")
    probe = pl.DataFrame(schema={name: column.dtype.type for name, column in schema.columns.items()}).clear(_PROBE_ROWS).lazy()

    rules = [BoundRule(READABLE)]
    for name, column in schema.columns.items():
        level: Level = marked(column, "level") or "error"
        if not column.nullable:
            # A column that may have nulls says so: a warning about them would contradict the schema.
            rules.append(BoundRule(Rule(f"{name}_not_null", name, "fail" if level == "fail" else "error", f"{name}: not null", "not null")))
        rules += [_bind(model, check, name, probe, level) for check in column.checks]
        if target := marked(column, "references"):
            text = f"{name} exists in {target}"
            rule = Rule(f"{name}_references", name, marked(column, "reference_level"), text, f"references {target}")
            rules.append(BoundRule(rule, reference=target))
    rules += [_bind(model, check, None, probe, "error") for check in schema.checks]
    key_rule(model)

    names = [bound.rule.name for bound in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DeclarationError(f"contract {model.__name__} has two rules named {', '.join(twice)}: rename the methods that define them")
    return tuple(rules)


@dataclass(frozen=True)
class FeedRule:
    """A rule about rows that came in a file, by what bronze says of them; it is not applied to rows that do not say it any more.

    Attributes:
        rule: The rule.
        needs: The column of the platform.
        within: How long after `needs` a moment may be; None where the rule is not about one.
    """

    rule: Rule
    needs: str
    within: timedelta | None = None


@cache
def feed_rules(model: Any) -> tuple[FeedRule, ...]:
    """The rules that rows of files are held to without a word in the contract.

    A row has to fit the header of its file. A date or timestamp is not far beyond the moment at which its file was ingested: a mistyped
    year would otherwise decide over what is computed for "the last day". The limit is about that moment and not about now, so that rows
    are judged the same whenever they are processed again.
    """
    text = "the row fits the header of its file: no field is missing or left over, and the line could be split"
    rules = [FeedRule(Rule(FITS_HEADER, None, model.__misfits__, text, "fits header"), "_rescued")]
    for name, column in model.to_schema().columns.items():
        dtype, future = column.dtype.type, marked(column, "future")
        if future is True or not (dtype == pl.Date or dtype.base_type() == pl.Datetime):
            continue
        within: timedelta = model.__future_within__ if future is None else future
        text = f"{name} is at most {within.days} days after its file was ingested"
        level: Level = marked(column, "level") or "error"
        rule = Rule(name + FUTURE, name, level, text, f"within {within.total_seconds()} seconds of ingestion")
        rules.append(FeedRule(rule, "_ingested_at", within))
    return tuple(rules)


@cache
def key_rule(model: type[DataFrameModel]) -> Rule | None:
    """That no two rows have one key; None for a contract without a key.

    Only tables whose write does not keep keys unique by itself are checked by it.

    Raises:
        DeclarationError: A column of the key holds floats or nested values, which cannot be told apart for certain.
    """
    columns = {name: column for name, column in model.to_schema().columns.items() if marked(column, "key")}
    vague = [name for name, column in columns.items() if column.dtype.type.is_float() or column.dtype.type.is_nested()]
    if vague:
        raise DeclarationError(f"contract {model.__name__}: a key cannot hold floats or nested values: {', '.join(vague)}")
    if not columns:
        return None
    named = ", ".join(columns)
    return Rule(KEY_UNIQUE, None, "error", f"no two rows have the same {named}", f"unique {', '.join(sorted(columns))}")


def marked(column: Any, mark: str) -> Any:
    """What `contract.column` was told about a column besides what Pandera knows."""
    return (column.metadata or {}).get(mark)


def _refuse_column(name: str, column: Any, where: str) -> None:
    _refuse(column, _NOT_IN_COLUMNS, where)
    if not name.isidentifier() or name.startswith("_"):
        raise DeclarationError(
            f"{where}: a name has letters, digits and underscores, and those with a leading underscore are the platform's own"
        )
    if not column.required:
        raise DeclarationError(f"{where} may be absent, but a table always has all its columns; say nullable=True if values may be missing")


def _refuse(part: Any, refused: Mapping[str, str], where: str) -> None:
    for option, reason in refused.items():
        if getattr(part, option) not in (None, False):
            raise DeclarationError(f"{where}: {option!r} has no place in a contract: {reason}")


def _bind(model: type[DataFrameModel], check: Check, column: str | None, probe: pl.LazyFrame, level: Level) -> BoundRule:
    called = str(check.name)
    where = f"contract {model.__name__}, check {called}" + (f" of column {column}" if column else "")
    if check.element_wise:
        raise DeclarationError(f"{where}: it calls Python for each value; write it as a Polars expression")
    method = _method(model, called)
    if method is None and called not in _WORDING:
        raise DeclarationError(
            f"{where}: neither a check of Pandera's for single values nor a method of the contract; write it as a method"
        )
    try:
        definition = _plan(check, method, column, probe) if method else _parameters(check)
        answers = check(probe, column).check_output.collect().height
    except pl.exceptions.ColumnNotFoundError as error:
        raise DeclarationError(f"{where}: it names {missing_column.sentence(error, probe.collect_schema())}") from error
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DeclarationError(f"{where}: it cannot be carried out on the contract's columns: {reason}") from error
    if answers != _PROBE_ROWS:
        raise DeclarationError(f"{where}: it gives one answer for the whole table; a rule has to say yes or no for each row")
    short, text = (called, _own_text(check, column)) if method else _worded(check, column)
    nulls = "nulls pass" if check.ignore_na else "nulls fail"
    options = getattr(getattr(method, "__func__", None), OPTIONS, None) or RuleOptions("warn" if check.raise_warning else level)
    rule = Rule(
        f"{column}_{short}" if column else short,
        column,
        options.level,
        text,
        f"{nulls}; {definition}",
        options.max_bad_share,
        options.max_bad_rows,
    )
    return BoundRule(rule, check, holds=options.holds)


def _method(model: type[DataFrameModel], called: str) -> Callable[..., Any] | None:
    attribute = getattr(model, called, None)
    return attribute if callable(attribute) else None


def _parameters(check: Check) -> str:
    return json.dumps([check.name, {key: _canonical(value) for key, value in (check.statistics or {}).items()}], sort_keys=True)


def _plan(check: Check, method: Callable[..., Any], column: str | None, probe: pl.LazyFrame) -> str:
    """What a method computes: a change of meaning shows here and one of spelling does not, and the values of constants do."""
    plan = method(PolarsData(probe, column or "*"), **(check.statistics or {}))
    if not isinstance(plan, pl.LazyFrame):
        return repr(plan)
    with pl.Config(fmt_table_cell_list_len=-1):  # otherwise long lists are abbreviated, and a change in their middle is not seen
        return plan.explain(optimized=False).replace(probe.explain(optimized=False).strip(), "rows")


def _canonical(value: Any) -> Any:
    """The value as JSON; the order of allowed values means nothing."""
    return sorted(map(repr, value)) if isinstance(value, list | tuple | set | frozenset) else repr(value)


def _own_text(check: Check, column: str | None) -> str:
    text = check.error or (check.description or "").strip().partition("\n")[0].rstrip(".") or str(check.name).replace("_", " ")
    return f"{column}: {text}" if column else text


def _worded(check: Check, column: str | None) -> tuple[str, str]:
    short, wording = _WORDING[str(check.name)]
    return short, wording.format(column=column, **_values(check.statistics or {}))


def _values(statistics: Mapping[str, Any]) -> dict[str, str]:
    values = {key: _show(value) for key, value in statistics.items()}
    values["from"] = "<=" if statistics.get("include_min", True) else "<"
    values["to"] = "<=" if statistics.get("include_max", True) else "<"
    least, most = (statistics.get("exact_value") or statistics.get(bound) for bound in ("min_value", "max_value"))
    if least == most:
        values["length"] = f"{least}"
    elif least is None or most is None:
        values["length"] = f"at most {most}" if least is None else f"at least {least}"
    else:
        values["length"] = f"{least} to {most}"
    return values


def _show(value: Any) -> str:
    if isinstance(value, re.Pattern):
        return repr(value.pattern)
    if isinstance(value, list | tuple | set | frozenset):
        shown = [_show(item) for item in value]
        return ", ".join(shown[:_VALUES_SHOWN]) + (f", … ({len(shown)} values)" if len(shown) > _VALUES_SHOWN else "")
    return repr(value) if isinstance(value, str) else str(value)
