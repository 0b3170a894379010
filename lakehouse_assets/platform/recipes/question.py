"""What can be learnt from a table that nobody has described: the task, the inputs, what is left out and why.

It looks at values and decides; nothing is fitted here, see `automl`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal

import polars as pl

from lakehouse_assets.platform import clock
from lakehouse_assets.platform.declarations.base import nearest
from lakehouse_assets.platform.declarations.features import is_ahead
from lakehouse_assets.platform.declarations.learning import LABEL_KNOWN_AT
from lakehouse_assets.platform.modelling.targets import Task, is_text
from lakehouse_assets.platform.quality.contract import Timestamp
from lakehouse_assets.platform.wording import counted

Use = Literal["input", "target", "entity", "time", "left out"]
ROW: Final = "row_number"
"""The column that tells rows apart where no column of the table does."""
NO_TIME: Final = "as_of"
ONE_DAY: Final = date(2000, 1, 1)
"""The column of time of a table that has none, and its one value."""
_MOST_CLASSES: Final = 20
_MOST_WHOLE_CLASSES: Final = 10
_IDENTIFIER: Final = 0.9
_FEW: Final = 20
_OFTEN_LATER: Final = 0.05
"""The share, of the rows that have it, with a later time from which on a column of times may be known only afterwards."""


class NoQuestion(ValueError):
    """A table that nothing can be learnt from as asked. The message says what to do."""


@dataclass(frozen=True)
class ColumnFacts:
    """A column, and what it is used for.

    Attributes:
        name: In the table.
        dtype: Its type.
        nulls: Share of rows without a value.
        distinct: Different values.
        example: The commonest value, as text; empty for numbers and times.
        use: What it is used for.
        note: Why it is left out, or what was assumed of it; empty where there is nothing to say.
        personal: Whether it holds personal data.
        description: What its table says that values mean.
    """

    name: str
    dtype: str
    nulls: float
    distinct: int
    example: str
    use: Use
    note: str = ""
    personal: bool = False
    description: str = ""


@dataclass(frozen=True)
class Question:
    """What is to be predicted from what.

    Attributes:
        table: Its name.
        target: The column that is predicted.
        task: What it is: `binary` (it becomes a Boolean), `multiclass` (texts) or `regression` (numbers).
        positive: Of a binary target that is no Boolean, the value that counts, as text.
        classes: Of several classes, the values.
        entity: Columns that name what is predicted; `ROW` where the table has none.
        time: The column of time; None: there is none.
        inputs: Columns to learn from, with their types in a contract.
        columns: All columns of the table.
        notes: What was assumed, and what a person should look at.
        settled: How long after its time the target of a row is known.
        asked_at: Rows after it are not learnt from, nor do they say which others are settled (with time zone).
    """

    table: str
    target: str
    task: Task
    positive: str | None
    classes: tuple[str, ...]
    entity: tuple[str, ...]
    time: str | None
    inputs: Mapping[str, Any]
    columns: tuple[ColumnFacts, ...]
    notes: tuple[str, ...]
    settled: timedelta = timedelta(0)
    asked_at: datetime = field(default_factory=lambda: clock.now())  # noqa: PLW0108 the clock of that moment

    @property
    def at(self) -> str:
        """The column of time of examples."""
        return self.time or NO_TIME

    @property
    def target_expression(self) -> pl.Expr:
        """The target as it is learnt."""
        if self.task == "binary":
            return pl.col(self.target) if self.positive is None else pl.col(self.target).cast(pl.String) == self.positive
        return pl.col(self.target).cast(pl.Float64 if self.task == "regression" else pl.String)

    def without(self, reasons: Mapping[str, str]) -> "Question":
        """The same question without some inputs, each with the reason.

        Raises:
            NoQuestion: No input is left.
        """
        columns = tuple(
            replace(one, use="left out", note=reasons[one.name]) if one.use == "input" and one.name in reasons else one
            for one in self.columns
        )
        inputs = {name: annotation for name, annotation in self.inputs.items() if name not in reasons}
        if not inputs:
            raise NoQuestion(_nothing_left(self.table, self.target, columns))
        return replace(self, columns=columns, inputs=inputs)

    def examples(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with a known target, as learners take them; those whose target is not settled yet are not among them."""
        if ROW in self.entity:
            rows = rows.with_row_index(ROW)
        rows = rows.with_columns(self.target_expression.alias(self.target))
        known = pl.col(self.target).is_not_null()
        if self.task == "regression":
            known &= pl.col(self.target).is_finite()
        if self.time is None:
            rows = rows.with_columns(pl.lit(ONE_DAY).alias(NO_TIME))
        rows = rows.filter(pl.col(self.at).is_not_null(), ~is_ahead(rows.lazy(), self.at, self.asked_at))
        dtype = rows.schema[self.at]
        if dtype != pl.Date:  # a moment without a zone is taken as UTC
            has_zone = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
            at = pl.col(self.at) if has_zone else pl.col(self.at).dt.replace_time_zone("UTC")
            rows = rows.with_columns(at.cast(pl.Datetime("us", "UTC")))
        rows = rows.with_columns((_start(self.at) + timedelta(days=dtype == pl.Date) + self.settled).alias(LABEL_KNOWN_AT))
        rows = rows.filter(known, pl.col(LABEL_KNOWN_AT) <= pl.col(LABEL_KNOWN_AT).max() - self.settled)
        return rows.select(*dict.fromkeys([*self.entity, self.at, *self.inputs, self.target, LABEL_KNOWN_AT])).sort(self.at, *self.entity)


def question(  # noqa: PLR0917
    rows: pl.DataFrame,
    table: str,
    target: str,
    time: str | None,
    entity: Sequence[str],
    personal: Collection[str] = (),
    without: Collection[str] = (),
    *,
    keep: Collection[str] = (),
    described: Mapping[str, str] = MappingProxyType({}),
    settled: timedelta = timedelta(0),
    asked_at: datetime | None = None,
) -> Question:
    """Look at a table.

    Args:
        rows: Of it.
        table: Its name, for messages.
        target: The column to predict.
        time: The column that says when a row happened; None: there is none.
        entity: The columns that name what a row is about; none: a column that tells rows apart is looked for.
        personal: Columns with personal data, which are not learnt from.
        without: More columns that are not learnt from.
        keep: Columns of time that are learnt from even if they are often later than `time`.
        described: What values of columns mean.
        settled: How long after its time the target of a row is known.
        asked_at: See `Question`; None: now.

    Raises:
        NoQuestion: There is no such column, or nothing to predict or to learn from.
    """
    for word, name in [
        ("--target", target),
        *([("--time", time)] if time else []),
        *(("--entity", one) for one in entity),
        *(("--without", one) for one in without),
        *(("--keep", one) for one in keep),
    ]:
        if name not in rows.columns:
            raise NoQuestion(f"{word} {name}: {table} has no such column. It has {', '.join(rows.columns)}.{nearest(name, rows.columns)}")
    if time is not None and not isinstance(rows.schema[time], pl.Date | pl.Datetime):
        raise NoQuestion(f"--time {time}: it is {rows.schema[time]}, not a date or a moment")
    if settled and time is None:
        raise NoQuestion("--settled counts from the time of a row: name its column with --time")
    asked_at = asked_at or clock.now()
    task, positive, classes, said = _task(rows[target].drop_nulls(), f"{table}: --target {target}")
    notes = [said]
    facts = {name: replace(_facts(rows[name], {*personal}), description=described.get(name, "")) for name in rows.columns}
    found = tuple(entity)
    if not found:
        found, note = _entity(rows, [name for name, one in facts.items() if name not in {target, time}])
        notes.append(note)
    if time is None:
        notes.append("No --time: rows are divided by chance, and nothing guards against learning from the future.")
    else:
        notes.append(_known(target, time, settled))
        if ahead := rows.select(is_ahead(rows.lazy(), time, asked_at).sum()).item():
            notes.append(f"{counted(ahead, 'row')} with {time} after now are not learnt from.")
    uses: dict[str, Use] = {target: "target", **dict.fromkeys(found, "entity"), **({time: "time"} if time else {})}
    columns = tuple(_used(one, uses[name]) if name in uses else one for name, one in facts.items())
    inputs = {one.name: _annotation(rows.schema[one.name]) for one in columns if one.use == "input"}
    whole = Question(table, target, task, positive, classes, found, time, inputs, columns, tuple(notes), settled, asked_at)
    later = {} if time is None else _often_later(rows, time, [name for name in inputs if name not in keep])
    return whole.without(later | dict.fromkeys(without, "as asked by --without"))


def _known(target: str, time: str, settled: timedelta) -> str:
    if settled:
        return (
            f"{target} counts as known {settled / timedelta(days=1):.10g} days after {time} (--settled): younger rows are not learnt from."
        )
    later = "If it becomes known later, say after how many days: --settled DAYS."
    return f"Assumed: {target} is known at once, as soon as a row is there (settled=0). {later}"


def _often_later(rows: pl.DataFrame, time: str, names: Sequence[str]) -> dict[str, str]:
    """The columns with a time that is often later than that of the row, each with the reason to leave it out.

    Only rows that have the time count: one that is there after the outcome alone is missing in most rows.
    """
    # Of a date the end counts: what is of the same day may have been known.
    last = _start(time) + (timedelta(days=1, microseconds=-1) if rows.schema[time] == pl.Date else timedelta(0))
    times = [name for name in names if isinstance(rows.schema[name], pl.Date | pl.Datetime)]
    found = {name: rows.select((_start(name) > last).alias(name)).to_series().drop_nulls() for name in times}
    return {
        name: f"later than {time} in {later.sum():,} of the {counted(len(later), 'row')} that have it, so it may be known only afterwards. "
        f"If it is known in time, say --keep {name}"
        for name, later in found.items()
        if len(later) and later.sum() >= _OFTEN_LATER * len(later)
    }


def _start(name: str) -> pl.Expr:
    """The moment (UTC) of a column of dates or moments."""
    return pl.col(name).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _nothing_left(table: str, target: str, columns: Sequence[ColumnFacts]) -> str:
    reasons = "; ".join(f"{one.name}: {one.note or one.use}" for one in columns if one.name != target)
    return f"{table} has no column to learn {target} from: {reasons}" if reasons else f"{table} has no column but {target}"


def _task(values: pl.Series, where: str) -> tuple[Task, str | None, tuple[str, ...], str]:
    """The task, the value that counts, the classes, and why."""
    distinct = values.n_unique()
    if distinct < 2:
        raise NoQuestion(f"{where}: it has {distinct} value in {len(values):,} rows that have one, so there is nothing to predict")
    dtype, name = values.dtype, values.name
    if dtype == pl.Boolean:
        return "binary", None, (), f"{name} is a Boolean: its probability is predicted."
    if is_text(dtype) or (dtype.is_integer() and distinct <= _MOST_WHOLE_CLASSES):
        counts = values.cast(pl.String).value_counts().sort("count", name)
        if distinct == 2:
            rare = "1" if set(counts[name]) == {"0", "1"} else str(counts[name][0])
            return "binary", rare, (), f"{name} has two values: the probability of {rare!r} is predicted."
        if distinct > _MOST_CLASSES:
            raise NoQuestion(
                f"{where}: a text with {distinct:,} different values; at most {_MOST_CLASSES} are told apart. Group them first"
            )
        return "multiclass", None, tuple(sorted(counts[name])), f"{name} has {distinct} values: each gets a probability."
    if dtype.is_numeric():
        return "regression", None, (), f"{name} is a number: its mean is predicted."
    raise NoQuestion(f"{where}: it is {dtype}, and numbers, texts and Booleans are predicted")


def _facts(values: pl.Series, personal: Collection[str]) -> ColumnFacts:
    """A column that is an input unless something speaks against it."""
    count, known = len(values), values.drop_nulls()
    nested = values.dtype.is_nested() or values.dtype == pl.Binary
    distinct = 0 if nested else known.n_unique()
    example = "" if nested or not is_text(values.dtype) or known.is_empty() else str(known.cast(pl.String).mode().sort()[0])
    note = ""
    if values.name in personal:
        note, example = "personal data", ""
    elif _annotation(values.dtype) is None:
        note = f"{values.dtype}: models learn from numbers, texts, Booleans and times"
    elif distinct <= 1 and (distinct == 0 or known.len() == count):
        note = "it is the same in all rows"
    elif len(known) >= _FEW and _is_identifier(known, distinct):
        note = f"an identifier: {distinct:,} different values in {len(known):,} rows"
    share = 1 - len(known) / count if count else 0.0
    use: Use = "left out" if note else "input"
    return ColumnFacts(values.name, str(values.dtype), share, distinct, example, use, note, values.name in personal)


def _is_identifier(known: pl.Series, distinct: int) -> bool:
    if is_text(known.dtype):
        return distinct >= _IDENTIFIER * len(known)
    return known.dtype.is_integer() and distinct == len(known)


def _entity(rows: pl.DataFrame, names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    for name in names:
        dtype = rows.schema[name]
        if (is_text(dtype) or dtype.is_integer()) and not rows[name].null_count() and rows[name].n_unique() == rows.height:
            return (name,), f"Assumed: {name} names a row, as it differs in all {rows.height:,}. Otherwise say --entity."
    return (ROW,), "No column tells rows apart: without --entity no product is written."


def _used(one: ColumnFacts, use: Use) -> ColumnFacts:
    return replace(one, use=use, note="")


def _annotation(dtype: pl.DataType) -> Any:
    """The type in a contract; None for one that is not learnt from."""
    if dtype == pl.Boolean:
        return bool
    if dtype.is_integer():
        return int
    if dtype.is_numeric():
        return float
    if is_text(dtype):
        return str
    if dtype == pl.Date:
        return date
    return Timestamp if isinstance(dtype, pl.Datetime) else None
