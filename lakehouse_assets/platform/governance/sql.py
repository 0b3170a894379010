"""SQL over the tables of a root: what may be asked, and the answer. It only reads, and only tables that exist.

A query is parsed, every part of it has to be of a known harmless kind, and the text that Polars runs is written from the parsed query: what
was checked is what runs. Polars is given the tables that are named, with personal data masked before the query sees them, so a filter or a
computation works on the mask and not on the value.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
import sqlglot
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.parsers.postgres import PostgresParser

from lakehouse_assets.platform.declarations.base import nearest_or_all
from lakehouse_assets.platform.governance.principal import OWNER
from lakehouse_assets.platform.governance.reader import SETTING, Reader
from lakehouse_assets.platform.monitoring.system.system_views import VIEWS
from lakehouse_assets.platform.storage import platform_tables

_LONGEST = 20_000
_NAME = re.compile(r"\w+")
# What Polars takes for a function that opens files, by name, wherever it stands.
# As Polars and sqlglot put them into their messages.
_UNKNOWN_COLUMN = re.compile(r"^unable to find column \"(.+?)\"|^no column named '(.+?)' found")
_NO_MOMENT = re.compile(r"cannot compare 'date/datetime/time' to a string|comparison between .*Date.* of dtype", re.DOTALL)
_COLOURS = re.compile(r"\x1b\[\d*m")
_OPENS_FILES = re.compile(r"(read|scan|write|sink|copy|glob|load|import|export)_?", re.IGNORECASE)


class QueryRefused(ValueError):
    """A query that is not one SELECT over known tables, with what to ask instead."""


class _Dialect(Postgres):
    """The SQL of Polars, which is near that of PostgreSQL. Functions keep their names: what they mean is decided by Polars."""

    class Parser(PostgresParser):
        """Knows no function but those with a syntax of their own."""

        FUNCTIONS: ClassVar = {}


_KINDS: tuple[type[Any], ...] = (
    # the query
    exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Offset, exp.Fetch,
    exp.Distinct, exp.With, exp.CTE, exp.Union, exp.Intersect, exp.Except, exp.Subquery, exp.Table, exp.TableAlias, exp.Alias, exp.Qualify,
    # values
    exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.Star, exp.Paren, exp.Tuple, exp.Array, exp.Bracket, exp.Slice,
    exp.DataType, exp.DataTypeParam, exp.Interval, exp.Var, exp.Dot,
    # computing
    exp.Binary, exp.Unary, exp.Between, exp.In, exp.Exists, exp.Case, exp.If, exp.Cast, exp.TryCast, exp.Extract, exp.Trim, exp.Substring,
    exp.StrPosition, exp.Anonymous, exp.Window, exp.WindowSpec, exp.Filter, exp.WithinGroup, exp.Any, exp.All, exp.AtTimeZone,
    exp.CurrentDate, exp.CurrentTimestamp, exp.Overlay, exp.Ceil, exp.Floor, exp.Coalesce, exp.IgnoreNulls, exp.RespectNulls,
)  # fmt: skip


@dataclass(frozen=True)
class Query:
    """A query that may be run.

    Attributes:
        text: For Polars, with every table under its quoted full name.
        tables: The tables that it names.
        joined_on: Names of the columns by which tables are joined.
    """

    text: str
    tables: tuple[str, ...]
    joined_on: frozenset[str]


def parse(text: str, known: Iterable[str]) -> Query:
    """Check a query.

    Args:
        text: One SELECT; set operations, CTEs and subqueries are all right. Tables by their names, as in `from sales.gold.daily_revenue`.
        known: The tables that exist.

    Raises:
        QueryRefused: It is something else, or names something else.
    """
    known = sorted(known)
    tree = _statement(text)
    for node in tree.walk():
        _check_kind(node)
    ctes = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    tables: dict[str, None] = {}
    for table in list(tree.find_all(exp.Table)):
        _check_table(table, known, ctes, tables)
    _qualify_columns(tree, list(tables))
    return Query(tree.sql(dialect=_Dialect, comments=False, normalize_functions=False), tuple(tables), _joined_on(tree))


def condition(text: str) -> str:
    """A condition on the columns of one table, as Polars is given it.

    Raises:
        QueryRefused: It is something else, or has a query in it.
    """
    try:
        tree = _statement(f"select 1 where ({text})")
    except QueryRefused as error:
        raise QueryRefused(f"the condition {text!r} cannot be understood: {error}") from error
    parts = list(tree.walk())
    for node in parts:
        _check_kind(node)
    where = tree.args.get("where")
    if where is None or not isinstance(where.this, exp.Paren) or sum(isinstance(node, exp.Select | exp.Table) for node in parts) != 1:
        raise QueryRefused(f"{text!r} is not a condition on the columns of one table, as in \"invoice = '489434'\"")
    return str(where.this.this.sql(dialect=_Dialect, comments=False, normalize_functions=False))


def run_sql(reader: Reader, text: str) -> pl.DataFrame:
    """The rows of a query over the tables of a root, with personal data masked unless the reader's principal may see it.

    Raises:
        QueryRefused: As `parse`; it joins tables by a masked column; or Polars cannot run it.
    """
    query = parse(text, {*reader.names(), *VIEWS})
    frames = reader.frames(query.tables)
    personal = tuple(dict.fromkeys(column for _, columns in frames.values() for column in columns))
    if not reader.principal.sees_personal and (joined := sorted(query.joined_on & set(personal))):
        raise QueryRefused(
            f"the query joins tables by {', '.join(joined)}, which is personal and masked, so every row would match every other. Join by "
            f"another column; the owner of the root can set {SETTING}={OWNER}"
        )
    try:
        rows = pl.SQLContext({name: frame for name, (frame, _) in frames.items()}).execute(query.text).collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        columns = [column for frame, _ in frames.values() for column in frame.collect_schema()]
        raise QueryRefused(f"Polars cannot run the query: {_reason(error, columns)}") from error
    reader.record(f"sql: {text}", query.tables, personal, rows)
    return rows


def statements(text: str) -> list[str]:
    """The statements of a text, which semicolons part; comments and empty ones are left out.

    Raises:
        QueryRefused: It cannot be read.
    """
    try:
        tokens = sqlglot.tokenize(text, dialect=_Dialect)
    except SqlglotError as error:
        raise QueryRefused(f"the query cannot be parsed: {_first_line(error)}") from error
    parts: list[list[Any]] = [[]]
    for token in tokens:
        if token.token_type == sqlglot.TokenType.SEMICOLON:
            parts.append([])
        else:
            parts[-1].append(token)
    return [text[part[0].start : part[-1].end + 1] for part in parts if part]


def select(rows: pl.LazyFrame, columns: Sequence[str], where: str | None) -> pl.LazyFrame:
    """Some columns of the rows that meet a condition in SQL, which may be about any column.

    Raises:
        LookupError: There is no such column.
        QueryRefused: The condition cannot be understood.
    """
    known = rows.collect_schema().names()
    for name in columns:
        if name not in known:
            raise LookupError(f"there is no column {name!r}{nearest_or_all(name, known)}")
    if where is not None:
        checked = condition(where)
        try:
            kept = pl.sql_expr(checked)
            # Without a row, as values that cannot be compared are told only when the condition is worked out.
            pl.DataFrame(schema=rows.collect_schema()).lazy().filter(kept).collect()
            rows = rows.filter(kept)
        except pl.exceptions.PolarsError as error:
            raise QueryRefused(f"the condition {where!r} cannot be understood: {_reason(error, known)}") from error
    return rows.select(columns) if columns else rows


def _reason(error: Exception, columns: Iterable[str]) -> str:
    """What Polars says, without its plan; with the nearest name where a column is unknown."""
    text = _first_line(error)
    if (unknown := _UNKNOWN_COLUMN.search(text)) is not None:
        name = next(filter(None, unknown.groups()))
        return f"there is no column {name!r}{nearest_or_all(name, dict.fromkeys(columns))}"
    if _NO_MOMENT.search(text):
        return "a moment is compared with timestamptz '2024-09-01 12:00' (UTC), a date with date '2024-09-01'"
    return text


def _first_line(error: Exception) -> str:
    return _COLOURS.sub("", str(error)).strip().splitlines()[0].rstrip(".")


def _statement(text: str) -> exp.Expr:
    if len(text) > _LONGEST:
        raise QueryRefused(f"the query has {len(text):,} characters, more than {_LONGEST:,}")
    logger = logging.getLogger("sqlglot")
    logger.disabled = True  # it warns of statements that it does not know, which are refused below
    try:
        statements = [statement for statement in sqlglot.parse(text, dialect=_Dialect) if statement is not None]
    except (SqlglotError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else _first_line(error)
        raise QueryRefused(f"the query cannot be parsed: {reason}") from error
    finally:
        logger.disabled = False
    if len(statements) != 1:
        raise QueryRefused(f"{len(statements)} statements were given: ask one SELECT")
    (tree,) = statements
    if not isinstance(tree, exp.Select | exp.SetOperation | exp.Subquery):
        word = text.split(maxsplit=1)[0].upper() if isinstance(tree, exp.Command) else tree.key.upper()
        raise QueryRefused(f"{word} was not carried out: `lakehouse sql` only reads. Ask one SELECT")
    return tree


def _check_kind(node: exp.Expr) -> None:
    if not isinstance(node, _KINDS):
        raise QueryRefused(f"{node.key.upper()} is not allowed in a query, or not known: `lakehouse sql` reads tables with plain SELECTs")
    if isinstance(node, exp.Anonymous) and (not isinstance(node.this, str) or not _NAME.fullmatch(node.this) or _opens_files(node.this)):
        raise QueryRefused(f"the function {node.this} is not allowed: a query reads tables, not files")


def _opens_files(name: str) -> bool:
    return _OPENS_FILES.match(name) is not None


def _check_table(table: exp.Table, known: list[str], ctes: set[str], found: dict[str, None]) -> None:
    """Put the quoted full name in the place of a table's name."""
    parts = [table.args.get("catalog"), table.args.get("db"), table.this]
    words = [part for part in parts if part]
    if not all(isinstance(word, exp.Identifier) for word in words):
        raise QueryRefused(f"{table.sql(dialect=_Dialect)} is not a table: a query reads tables by name, not files or functions.")
    if any(value for name, value in table.args.items() if name not in {"this", "db", "catalog", "alias"}):
        raise QueryRefused(
            f"the table {table.sql(dialect=_Dialect)} has more to it than a name: ask it plainly, as in `from {_example(known)}`"
        )
    name = ".".join(word.this if word.quoted else word.this.lower() for word in words)
    if len(words) == 1 and name.lower() in ctes and _NAME.fullmatch(name):
        return
    if name not in known and name in platform_tables.ALL:
        raise QueryRefused(f"table {name} {platform_tables.NOT_YET}")
    if name not in known:
        raise QueryRefused(f"there is no table {name!r}{nearest_or_all(name, known)}")
    found[name] = None
    table.set("this", exp.to_identifier(name, quoted=True))
    table.set("db", None)
    table.set("catalog", None)


def _qualify_columns(tree: exp.Expr, tables: list[str]) -> None:
    """`sales.gold.daily_revenue.net` and `daily_revenue.net` become columns of the table's quoted full name, unless that is an alias."""
    aliases = {alias.alias_or_name for alias in tree.find_all(exp.Table, exp.Subquery, exp.CTE) if alias.alias}
    for column in tree.find_all(exp.Column):
        words = [part.name for part in column.parts[:-1]]
        if not words or (len(words) == 1 and words[0] in aliases):
            continue
        named = ".".join(words)
        whole = [name for name in tables if name == named or (len(words) == 1 and name.rsplit(".", 1)[-1] == named)]
        if len(whole) == 1:
            column.set("table", exp.to_identifier(whole[0], quoted=True))
            column.set("db", None)
            column.set("catalog", None)


def _joined_on(tree: exp.Expr) -> frozenset[str]:
    """The names of the columns by which a query joins."""
    names: set[str] = set()
    for join in tree.find_all(exp.Join):
        names |= {identifier.name for identifier in join.args.get("using") or ()}
        condition = join.args.get("on")
        names |= {column.name for column in condition.find_all(exp.Column)} if condition is not None else set()
    return frozenset(names)


def _example(known: list[str]) -> str:
    return known[0] if known else "sales.gold.daily_revenue"
