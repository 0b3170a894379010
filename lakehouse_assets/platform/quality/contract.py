"""What a product promises about a table: a `Contract` names its columns, types, rules and key, and marks personal data.

This module is what an author of contracts needs, and the views that the platform takes of a contract. Applying one to rows is in `split`.
"""

import difflib
import hashlib
import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, ClassVar

import polars as pl
from pandera.errors import SchemaInitError
from pandera.polars import DataFrameModel, Field, PolarsData, dataframe_check

from lakehouse_assets.platform.quality.copied import MARK, Copied
from lakehouse_assets.platform.quality.declaration_error import DeclarationError
from lakehouse_assets.platform.quality.masking import Personal
from lakehouse_assets.platform.quality.rules import OPTIONS, Level, Reference, Rule, RuleOptions, bound_rules, feed_rules, marked

Timestamp = Annotated[pl.Datetime, "us", "UTC"]
"""The type of every moment in a table."""


class ContractBroken(Exception):
    """Rows that a table may not take: wrong columns or types, a broken fail rule, or too many bad rows. Nothing may be written.

    Attributes:
        evidence: What the rules found in the rows (`split.Evidence`); empty if they could not be applied.
    """

    def __init__(self, text: str, evidence: tuple[Any, ...] = ()) -> None:
        super().__init__(text)
        self.evidence = evidence


@dataclass(frozen=True)
class FreshBy:
    """How old the newest value of a column may be."""

    column: str
    within: timedelta


class Contract(DataFrameModel):
    """Base of all contracts.

    Columns have Python's types or Polars' (`int`, `float`, `str`, `bool`, `date`, `Timestamp`, `list[int]`, `Annotated[pl.Decimal, 18, 2]`)
    and are described with `column`. Without `nullable=True` a column holds no null and no NaN. Further rules are given with `rule`, or as
    Pandera's `check` and `dataframe_check` methods; each has to say yes or no for every row.

    A rule has a level. A row that breaks an `error` rule goes into quarantine, one that breaks a `warn` rule is counted and written, and
    one that breaks a `fail` rule stops the whole write.

    A batch in which more than the share `max_bad_share` of the rows, or more than `max_bad_rows` rows, break an error rule breaks the
    contract as a whole: something is wrong with the source, and the quarantine is no place for all of it. The share is a half, unless the
    class says otherwise, and there is no limit on the number. Batches of fewer than `share_counts_from` rows (100) are too small to be
    judged by a share.

    With `fresh_within` a monitor warns when the newest value of the column `fresh_by` (a date or a timestamp) is older than that.

    Rows that came in a file are held to two more rules. One that does not fit the header of its file breaks `fits_header`, whose level is
    `misfits`. A date or timestamp that is more than `future_within` (400 days) after its file was ingested is held back; a column says
    `future=True` if it may be any, such as the end of a validity that is 9999-12-31 while it is open.

    Example:
        class DailyRevenue(Contract, max_bad_share=0.1, max_bad_rows=1_000, fresh_by="day", fresh_within=timedelta(days=2)):
            day: date = column(key=True)
            stock_code: str = column(key=True, references="sales.silver.products.stock_code", reference_level="warn")
            gross: float = column(description="Sold at list price, in pounds", ge=0)
            net: float
            net_within_gross = rule("net is at most gross", pl.col("net") <= pl.col("gross"), level="fail")
    """

    __max_bad_share__: ClassVar[float] = 0.5
    __max_bad_rows__: ClassVar[int | None] = None
    __share_counts_from__: ClassVar[int] = 100
    __fresh_by__: ClassVar[str | None] = None
    __fresh_within__: ClassVar[timedelta | None] = None
    __misfits__: ClassVar[Level] = "error"
    __future_within__: ClassVar[timedelta] = timedelta(days=400)

    def __init_subclass__(
        cls,
        *,
        max_bad_share: float | None = None,
        max_bad_rows: int | None = None,
        share_counts_from: int | None = None,
        fresh_by: str | None = None,
        fresh_within: timedelta | None = None,
        misfits: Level | None = None,
        future_within: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            options = ("max_bad_share", "max_bad_rows", "share_counts_from", "fresh_by", "fresh_within")
            raise DeclarationError(
                f"contract {cls.__name__} has no option {min(kwargs)!r}: there are {', '.join(options)}.{_nearest(min(kwargs), options)}"
            )
        super().__init_subclass__()  # type: ignore[no-untyped-call]
        _check_limits(f"contract {cls.__name__}", max_bad_share, max_bad_rows)
        if fresh_within is not None and fresh_within <= timedelta(0):
            raise DeclarationError(f"contract {cls.__name__}: fresh_within is a time greater than zero, not {fresh_within}")
        _check_level(misfits or "error")
        _check_future(f"contract {cls.__name__}: future_within", future_within)
        given = {
            "misfits": misfits,
            "future_within": future_within,
            "max_bad_share": max_bad_share,
            "max_bad_rows": max_bad_rows,
            "share_counts_from": share_counts_from,
            "fresh_by": fresh_by,
            "fresh_within": fresh_within,
        }
        for name, value in given.items():
            if value is not None:
                setattr(cls, f"__{name}__", value)
        if (cls.__fresh_by__ is None) != (cls.__fresh_within__ is None):
            raise DeclarationError(f"contract {cls.__name__}: fresh_by and fresh_within belong together, and one is missing")


def _check_limits(where: str, share: float | None, rows: int | None) -> None:
    if share is not None and not 0 <= share <= 1:
        raise DeclarationError(f"{where}: max_bad_share is a share between 0 and 1, not {share}")
    if rows is not None and rows < 0:
        raise DeclarationError(f"{where}: max_bad_rows is a number of rows, not {rows}")


def _check_future(where: str, within: timedelta | None) -> None:
    if within is not None and within < timedelta(0):
        raise DeclarationError(f"{where} is how long after its file a moment may be, so zero or more, not {within}")


@dataclass(frozen=True)
class ColumnInfo:
    """A column of a contract, for people and catalogues. `rules` are the texts of the rules about this column alone."""

    name: str
    dtype: pl.DataType
    nullable: bool
    description: str
    personal: bool
    key: bool
    rules: tuple[str, ...]
    references: Reference | None = None


def column(
    *,
    description: str | None = None,
    key: bool = False,
    personal: bool = False,
    nullable: bool = False,
    references: str | None = None,
    level: Level = "error",
    reference_level: Level | None = None,
    future: bool | timedelta | None = None,
    **rules: Any,
) -> Any:
    """A column of a contract.

    Args:
        description: What a value means, with its unit.
        key: Whether the column is (part of) the table's key: no two rows have the same values in all columns of the key.
        personal: Whether it holds personal data, which is masked wherever rows are shown.
        nullable: Whether values may be missing.
        references: `product.layer.name.column` in which a value has to exist; among the current rows, where that table has a history. A
            missing value passes. The rule is not applied while that table is empty or does not exist.
        level: Of the rules about this column. A column that may have nulls says `nullable=True`; a level cannot allow them.
        reference_level: Of the rule that a value exists in the other table, if it is not `level`.
        future: How long after its file was ingested a moment in the column may be; True: any time; None: as the contract says. Rows that
            came in no file are not held to it.
        **rules: What Pandera's `Field` takes: `ge=0`, `isin=[…]`, `str_matches="…"`; with `raise_warning=True` they only warn.

    Raises:
        DeclarationError: The options contradict each other.
    """
    if key and nullable:
        raise DeclarationError("a column of the key holds no nulls: leave out nullable=True")
    _check_level(level)
    _check_level(reference_level or level)
    _check_future("future", future if isinstance(future, timedelta) else None)
    for name in {"isin", "notin"} & rules.keys():
        values = rules[name]  # of a tuple with one text, Pandera would allow its letters; a set has no order to show its values in
        rules[name] = sorted(values, key=repr) if isinstance(values, set | frozenset) else list(values)
    marks = {
        "key": key,
        "personal": personal,
        "level": level,
        "references": Reference.parse(references) if references else None,
        "reference_level": reference_level or level,
        "future": None if future is False else future,
    }
    try:
        return Field(description=description, nullable=nullable, metadata=marks, **rules)
    except SchemaInitError as error:
        known = [name for name in inspect.signature(Field).parameters if name not in marks]
        hint = next((near for name in rules if name not in known and (near := _nearest(name, known))), "")
        raise DeclarationError(
            f"column({', '.join(f'{name}=…' for name in rules)}): {str(error).partition('. ')[0]}. Take a rule of Pandera's Field, or "
            f"declare it as an attribute of the contract with rule(…).{hint}"
        ) from error


def _check_level(level: str) -> None:
    if level not in {"error", "warn", "fail"}:
        raise DeclarationError(f"a level is error, warn or fail, not {level!r}.{_nearest(level, ('error', 'warn', 'fail'))}")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {near[0]}?" if near else ""


class _NamedCheck(classmethod):  # type: ignore[type-arg]
    """A check method that takes the name of the attribute it is assigned to, as a method that is defined with `def` has it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.__func__.__name__ = name


def rule(text: str, holds: pl.Expr, *, level: Level = "error", max_bad_share: float | None = None, max_bad_rows: int | None = None) -> Any:
    """A rule that compares columns; assign it to an attribute of the contract, which names it.

    Args:
        text: What the rule demands, for people.
        holds: True for a row that keeps the rule; a row for which it is null passes.
        level: `error`: rows that break it go into quarantine; `warn`: they are counted and written; `fail`: one stops the write.
        max_bad_share: If a larger share of a batch breaks it, the write is stopped, whatever the level.
        max_bad_rows: If more rows of a batch break it, the write is stopped, whatever the level.
    """
    _check_level(level)
    _check_limits(f"rule {text!r}", max_bad_share, max_bad_rows)

    def check(_: type[Contract], data: PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(holds)

    setattr(check, OPTIONS, RuleOptions(level, max_bad_share, max_bad_rows, holds))
    return dataframe_check(error=text, raise_warning=level == "warn")(_NamedCheck(check))


def schema_of(contract: type[Contract]) -> pl.Schema:
    """The columns and types of a contract, in its order."""
    return pl.Schema({name: column.dtype.type for name, column in contract.to_schema().columns.items()})


def columns_of(contract: type[Contract]) -> list[ColumnInfo]:
    """The columns of a contract with all that it says about them."""
    rules = rules_of(contract)
    return [
        ColumnInfo(
            name=name,
            dtype=dtype,
            nullable=column.nullable,
            description=_description(column),
            personal=_is_personal(column),
            key=bool(marked(column, "key")),
            rules=tuple(rule.text for rule in rules if rule.column == name),
            references=marked(column, "references"),
        )
        for (name, column), dtype in zip(contract.to_schema().columns.items(), schema_of(contract).values(), strict=True)
    ]


def personal_of(contract: type[Contract]) -> Personal:
    """The columns that hold personal data."""
    columns = contract.to_schema().columns
    personal = frozenset(name for name, column in columns.items() if _is_personal(column))
    return Personal(personal, frozenset(columns) - personal)


def copies_of(contract: type[Contract]) -> dict[str, Copied]:
    """By column, the column of another table in which its values stand, of those that a recipe took over."""
    return {name: found for name, column in contract.to_schema().columns.items() if (found := marked(column, MARK)) is not None}


def _is_personal(column: Any) -> bool:
    found: Copied | None = marked(column, MARK)
    return bool(marked(column, "personal")) or (found is not None and found.personal)


def _description(column: Any) -> str:
    found: Copied | None = marked(column, MARK)
    return column.description or ("" if found is None else found.description or f"As in {found.table}.")


def key_columns(contract: type[Contract]) -> tuple[str, ...]:
    """The columns that together tell rows apart, in the contract's order; none if it has no key."""
    return tuple(name for name, column in contract.to_schema().columns.items() if marked(column, "key"))


def references_of(contract: type[Contract]) -> dict[str, Reference]:
    """By column, the column of another table in which its values have to stand."""
    return {bound.rule.column: bound.reference for bound in bound_rules(contract) if bound.reference and bound.rule.column}


def freshness_of(contract: type[Contract]) -> FreshBy | None:
    """How old the newest row may be, if the contract says so.

    Raises:
        DeclarationError: The column is not one of the contract's, or holds neither dates nor timestamps, or is personal.
    """
    if contract.__fresh_by__ is None or contract.__fresh_within__ is None:
        return None
    dtype = schema_of(contract).get(contract.__fresh_by__)
    if dtype is None or not (dtype == pl.Date or isinstance(dtype, pl.Datetime)):
        raise DeclarationError(
            f"contract {contract.__name__}: fresh_by={contract.__fresh_by__!r} is no column of dates or timestamps."
            f"{_nearest(contract.__fresh_by__, schema_of(contract)) if dtype is None else ''}"
        )
    if contract.__fresh_by__ in personal_of(contract).columns:
        raise DeclarationError(
            f"contract {contract.__name__}: fresh_by={contract.__fresh_by__!r} is personal, and who is told of it sees the newest value: "
            "name another column"
        )
    return FreshBy(contract.__fresh_by__, contract.__fresh_within__)


def rules_of(contract: type[Contract]) -> list[Rule]:
    """All rules of a contract: `readable`, then column by column, then those that compare columns.

    Raises:
        DeclarationError: The contract holds what cannot be decided row by row, or what would change values.
    """
    return [bound.rule for bound in bound_rules(contract)]


def fingerprint(contract: type[Contract]) -> str:
    """A short text that differs between two contracts if a column, type, key, rule, threshold or freshness does, and only then.

    Descriptions, wording and the order of columns do not count. Python functions that a check hands to Polars do not count either, because
    their code is not in the plan.
    """
    fresh = freshness_of(contract)
    content = {
        "columns": sorted([info.name, str(info.dtype), info.key] for info in columns_of(contract)),
        "rules": sorted(rule.demands for rule in rules_of(contract)),
        "max_bad_share": contract.__max_bad_share__,
        "share_counts_from": contract.__share_counts_from__,
    }
    if contract.__max_bad_rows__ is not None:
        content["max_bad_rows"] = contract.__max_bad_rows__
    if fresh is not None:
        content["fresh"] = [fresh.column, fresh.within.total_seconds()]
    content["feed_rules"] = sorted(bound.rule.demands for bound in feed_rules(contract))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
