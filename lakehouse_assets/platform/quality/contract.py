"""What a product promises about a table: a `Contract` names its columns, types, rules and key, and marks personal data.

This module is what an author of contracts needs, and the views that the platform takes of a contract. Applying one to rows is in `split`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import polars as pl
from pandera.polars import DataFrameModel, Field, PolarsData, dataframe_check

from lakehouse_assets.platform.quality.rules import Rule, bound_rules

Timestamp = Annotated[pl.Datetime, "us", "UTC"]
"""The type of every moment in a table."""


class ContractBroken(Exception):
    """Rows that a table may not take: wrong columns or types, or too large a share of bad rows. Nothing may be written."""


class Contract(DataFrameModel):
    """Base of all contracts.

    Columns have Python's types or Polars' (`int`, `float`, `str`, `bool`, `date`, `Timestamp`, `list[int]`, `Annotated[pl.Decimal, 18, 2]`)
    and are described with `column`. Without `nullable=True` a column holds no null and no NaN. Further rules are given with `rule`, or as
    Pandera's `check` and `dataframe_check` methods; each has to say yes or no for every row.

    A batch in which more than the share `max_bad_share` of the rows break an error rule breaks the contract as a whole: something is
    wrong with the source, and the quarantine is no place for all of it. That share is a half, unless the class says otherwise. Batches of
    fewer than `share_counts_from` rows (100) are too small to be judged by a share.

    Example:
        class DailyRevenue(Contract, max_bad_share=0.1):
            day: date = column(key=True)
            gross: float = column(description="Sold at list price, in pounds", ge=0)
            net: float
            net_within_gross = rule("net is at most gross", pl.col("net") <= pl.col("gross"))
    """

    __max_bad_share__: ClassVar[float] = 0.5
    __share_counts_from__: ClassVar[int] = 100

    def __init_subclass__(cls, *, max_bad_share: float | None = None, share_counts_from: int | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # type: ignore[no-untyped-call]
        if max_bad_share is not None:
            if not 0 <= max_bad_share <= 1:
                raise TypeError(f"contract {cls.__name__}: max_bad_share is a share between 0 and 1, not {max_bad_share}")
            cls.__max_bad_share__ = max_bad_share
        if share_counts_from is not None:
            cls.__share_counts_from__ = share_counts_from


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


def column(*, description: str | None = None, key: bool = False, personal: bool = False, nullable: bool = False, **rules: Any) -> Any:
    """A column of a contract.

    Args:
        description: What a value means, with its unit.
        key: Whether the column is (part of) the table's key. The write keeps keys unique.
        personal: Whether it holds personal data, which is masked wherever rows are shown.
        nullable: Whether values may be missing.
        **rules: What Pandera's `Field` takes: `ge=0`, `isin=[…]`, `str_matches="…"`; with `raise_warning=True` they only warn.
    """
    if key and nullable:
        raise TypeError("a column of the key holds no nulls: leave out nullable=True")
    for name in {"isin", "notin"} & rules.keys():
        values = rules[name]  # of a tuple with one text, Pandera would allow its letters; a set has no order to show its values in
        rules[name] = sorted(values, key=repr) if isinstance(values, set | frozenset) else list(values)
    return Field(description=description, nullable=nullable, metadata={"key": key, "personal": personal}, **rules)


class _NamedCheck(classmethod):  # type: ignore[type-arg]
    """A check method that takes the name of the attribute it is assigned to, as a method that is defined with `def` has it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.__func__.__name__ = name


def rule(text: str, holds: pl.Expr, *, warn: bool = False) -> Any:
    """A rule that compares columns; assign it to an attribute of the contract, which names it.

    Args:
        text: What the rule demands, for people.
        holds: True for a row that keeps the rule; a row for which it is null passes.
        warn: Whether rows that break it are only counted.
    """

    def check(_: type[Contract], data: PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(holds)

    return dataframe_check(error=text, raise_warning=warn)(_NamedCheck(check))


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
            description=column.description or "",
            personal=_marked(column.metadata, "personal"),
            key=_marked(column.metadata, "key"),
            rules=tuple(rule.text for rule in rules if rule.column == name),
        )
        for (name, column), dtype in zip(contract.to_schema().columns.items(), schema_of(contract).values(), strict=True)
    ]


def _marked(metadata: Mapping[str, Any] | None, mark: str) -> bool:
    return bool((metadata or {}).get(mark))


def rules_of(contract: type[Contract]) -> list[Rule]:
    """All rules of a contract: `readable`, then column by column, then those that compare columns.

    Raises:
        TypeError: The contract holds what cannot be decided row by row, or what would change values.
    """
    return [bound.rule for bound in bound_rules(contract)]


def fingerprint(contract: type[Contract]) -> str:
    """A short text that differs between two contracts if a column, type, key, rule or threshold does, and only then.

    Descriptions, wording and the order of columns do not count. Python functions that a check hands to Polars do not count either, because
    their code is not in the plan.
    """
    content = {
        "columns": sorted([info.name, str(info.dtype), info.key] for info in columns_of(contract)),
        "rules": sorted([rule.name, rule.column or "", rule.level, rule.definition] for rule in rules_of(contract)),
        "max_bad_share": contract.__max_bad_share__,
        "share_counts_from": contract.__share_counts_from__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
