"""Splits rows into those that keep a contract and those that break it, each of these with every rule that it breaks.

Pandera decides, rule by rule, with one yes or no for each row; here that is put together, because Pandera's own report of failures takes
seconds where this takes tenths. What becomes of the two parts is the business of the rooms above.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from pandera.polars import Check

from lakehouse_assets.platform.far_times import as_python_holds
from lakehouse_assets.platform.quality import masking
from lakehouse_assets.platform.quality.contract import Contract, ContractBroken, key_columns, personal_of, schema_of
from lakehouse_assets.platform.quality.rules import FITS_HEADER, BoundRule, FeedRule, Reference, Rule, bound_rules, feed_rules, key_rule
from lakehouse_assets.platform.quality.samples import first_row

UNPARSED, HINT, RESCUED = masking.UNPARSED, masking.HINT, masking.RESCUED
BROKEN, MASK = masking.BROKEN, masking.MASK

_SAMPLE_ROWS = 5
# What bronze notes of a record besides the values of columns that it has no place for: fields that are too many, columns that it lacks, the
# text of a line that could not be split, a cell whose formula was never computed.
# As the readers of `ingestion` write them into `_rescued`: see `parse.parse`.
_NOTES_OF_A_MISFIT = ("_extra", "_missing", "_line", "_formula")
# The rules that a row breaks are packed into words of so many bits, each of which is looked up at once in a table of all words.
_BITS = 16


@dataclass(frozen=True)
class Evidence:
    """What one rule found in a batch.

    Attributes:
        rule: The rule.
        rows_in: How many rows it was applied to.
        broken: How many of them break it.
        sample: A few of those, by column, with personal data masked.
        not_applied: Why the rule was not applied; empty if it was.
    """

    rule: Rule
    rows_in: int
    broken: int
    sample: tuple[Mapping[str, Any], ...]
    not_applied: str = ""


def combined(earlier: Sequence[Evidence], later: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """What rules found in two batches: one for each rule, with the words and the rows of the later batch where it found any."""
    found = {evidence.rule.name: evidence for evidence in earlier}
    for new in later:
        old = found.get(new.rule.name)
        if old is not None:
            shown = new if new.broken else old
            found[new.rule.name] = replace(shown, rows_in=old.rows_in + new.rows_in, broken=old.broken + new.broken)
        else:
            found[new.rule.name] = new
    return tuple(found.values())


@dataclass(frozen=True)
class Split:
    """Rows by what the contract says of them; every row that came is in exactly one part, in the order in which it came.

    Attributes:
        good: The contract's columns in its order, then the platform's (with a leading underscore) but `_unparsed` and `_hint`.
        bad: The same with `_unparsed` and `_hint`, where they are, and `_broken`.
        evidence: One for each rule of the contract.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    evidence: tuple[Evidence, ...]


def split(
    contract: type[Contract],
    frame: pl.DataFrame,
    table: str | None = None,
    *,
    known_keys: pl.DataFrame | None = None,
    referenced: Mapping[str, pl.Series] | None = None,
    limited: bool = True,
) -> Split:
    """Split rows into those that keep every error rule of a contract and those that break one.

    Columns with a leading underscore are the platform's and pass through; `feed_rules` are applied where the columns that they need are.
    A row with a text in `_unparsed` breaks the rule `readable`, and the missing value of that column is then not reported again as null.

    Args:
        contract: What the rows must keep.
        frame: The rows: the contract's columns in any order, and the platform's.
        table: The table that they are meant for, for messages; the contract's name by default.
        known_keys: Keys that stand in the table already, in the columns of the key. Given (with or without rows), the rule `key_unique`
            is applied: of the rows that keep all other rules, each key's first is good if the key is not known. None: whoever writes the
            rows keeps keys unique.
        referenced: By column that references another table, those of the column's values that stand there. The rule about a column that
            is not named here is not applied, because there is nothing to hold it against.
        limited: Whether fail rules and the contract's limits stop the write. Rows that were rejected before are mostly bad still, which
            says nothing against them all; each that breaks a fail rule is bad then.

    Raises:
        ContractBroken: Columns are missing, unknown or of another type, a fail rule is broken, or too many rows are bad.
        TypeError: The contract itself cannot be used; see `rules_of`.
    """
    table = table or contract.__name__
    frame = _in_order(contract, frame.drop(BROKEN, strict=False), table)
    known = dict(referenced or {})
    rules = bound_rules(contract)
    applied = tuple(bound for bound in rules if bound.reference is None or bound.rule.column in known)
    broken = _broken_rows(applied, contract, frame, known)
    evidence = [_evidence(bound, broken, contract, frame, applied=bound in applied) for bound in rules]
    reasons = {bound.rule.name: broken[bound.rule.name] for bound in applied if bound.rule.rejects and bound.rule.name in broken}
    for feed_rule in feed_rules(contract):
        if feed_rule.needs in frame.columns:
            bound, mask = BoundRule(feed_rule.rule), _not_as_a_file_should_be(feed_rule, frame)
            if mask is not None and mask.any():
                broken[bound.rule.name] = mask
                reasons |= {bound.rule.name: mask} if bound.rule.rejects else {}
            evidence.append(_evidence(bound, broken, contract, frame, applied=True))
    unique = key_rule(contract)
    if unique is not None and known_keys is not None:
        repeated = _repeated_keys(frame.select(key_columns(contract)), reasons, known_keys)
        if repeated is not None:
            reasons[unique.name] = broken[unique.name] = repeated
        evidence.append(_evidence(BoundRule(unique), broken, contract, frame, applied=True))
    good, bad = _parts(frame, reasons)
    # A row that came before says nothing against its source: a feed that repeats itself must not stop the table.
    again = int(reasons[unique.name].sum()) if unique is not None and unique.name in reasons else 0
    if limited:
        _check_limits(contract, bad.height - again, frame.height, tuple(evidence), table)
    return Split(good.drop(UNPARSED, HINT, strict=False), bad, tuple(evidence))


def misfits(contract: type[Contract], schema: Mapping[str, pl.DataType]) -> list[str]:
    """How columns and types differ from the contract's, a sentence each; columns with a leading underscore are the platform's."""
    promised = schema_of(contract)
    missing = [name for name in promised if name not in schema]
    more = [name for name in schema if name not in promised and not name.startswith("_")]
    problems = [f"column {name} ({promised[name]}) is missing{_near(name, more, 'is there')}" for name in missing]
    problems += [f"column {name} is not in the contract{_near(name, missing, 'is')}" for name in more]
    problems += [
        f"column {name} is {schema[name]}, the contract says {dtype}"
        for name, dtype in promised.items()
        if name in schema and schema[name] != dtype
    ]
    return problems


def _near(name: str, others: Sequence[str], verb: str) -> str:
    near = difflib.get_close_matches(name, others, 1)
    return f" ({near[0]} {verb})" if near else ""


def check_columns(contract: type[Contract], schema: Mapping[str, pl.DataType], table: str, place: str = "") -> None:
    """Refuse rows that do not have the columns and types of a contract.

    Args:
        contract: What was promised.
        schema: Of the rows.
        table: Whose they are, for the message.
        place: File and line of the function that made them, for the message.

    Raises:
        ContractBroken: So it is.
    """
    if problems := misfits(contract, schema):
        at = f" ({place})" if place else ""
        raise ContractBroken(
            f"{table}: the rows do not have the columns of contract {contract.__name__}: {'; '.join(problems)}. Nothing was written; "
            f"change the table's function{at} or its contract."
        )


def _in_order(contract: type[Contract], frame: pl.DataFrame, table: str) -> pl.DataFrame:
    check_columns(contract, frame.schema, table)
    return frame.select([*schema_of(contract), *(name for name in frame.columns if name.startswith("_"))])


def _broken_rows(
    rules: Sequence[BoundRule], contract: type[Contract], frame: pl.DataFrame, referenced: Mapping[str, pl.Series]
) -> dict[str, pl.Series]:
    """For each rule that any row breaks, whether the row breaks it."""
    checked = frame.lazy().select(list(schema_of(contract)))

    def rows(bound: BoundRule) -> pl.Series | None:
        column = bound.rule.column
        if bound.check is not None:
            return _against(bound.check, bound.rule, checked, frame.height)
        if column is None:
            return _unreadable(frame)
        return _null(column, frame) if bound.reference is None else _unknown(frame[column], referenced[column], bound.reference)

    # Each check is a query of its own, and most are too small to keep all cores busy.
    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:
        masks = zip(rules, threads.map(rows, rules), strict=True)
        return {bound.rule.name: mask for bound, mask in masks if mask is not None and mask.any()}


def _unknown(values: pl.Series, referenced: pl.Series, reference: Reference) -> pl.Series:
    if values.dtype != referenced.dtype:
        raise ContractBroken(f"column {values.name} is {values.dtype}, but {reference}, which it references, is {referenced.dtype}")
    return (~values.is_in(referenced.implode())).fill_null(value=False)


def _repeated_keys(keys: pl.DataFrame, reasons: Mapping[str, pl.Series], known: pl.DataFrame) -> pl.Series | None:
    """Whether a row's key is in the table, or in a row before it; a row that breaks another rule has no say."""
    position = "_position"
    rows = keys.with_row_index(position)
    if reasons:
        rows = rows.filter(~pl.DataFrame(dict(reasons)).select(pl.any_horizontal(pl.all())).to_series())
    fresh = rows.join(known.select(keys.columns), on=keys.columns, how="anti", maintain_order="left") if known.height else rows
    first = fresh.unique(keys.columns, keep="first", maintain_order=True)
    if first.height == rows.height:
        return None
    repeated = rows[position].filter(~rows[position].is_in(first[position].implode()))
    return pl.repeat(value=False, n=keys.height, eager=True).scatter(repeated, values=True)


def _against(check: Check, rule: Rule, rows: pl.LazyFrame, height: int) -> pl.Series:
    kept: pl.Series = check(rows, rule.column).check_output.collect().to_series()
    if kept.len() != height:
        raise TypeError(f"rule {rule.name} gave {kept.len()} answers for {height} rows: a rule has to say yes or no for each row")
    return ~kept


def _null(column: str, frame: pl.DataFrame) -> pl.Series | None:
    values = frame[column]
    if not values.null_count() and not values.dtype.is_float():
        return None
    missing = values.is_null()
    if values.dtype.is_float():
        missing |= values.is_nan()
    if _unreadable(frame) is not None:
        missing &= frame[UNPARSED].str.json_path_match(f"$['{column}']").is_null()
    return missing


def _not_as_a_file_should_be(bound: FeedRule, frame: pl.DataFrame) -> pl.Series | None:
    if bound.rule.name == FITS_HEADER:
        return misfit(frame[RESCUED])
    if bound.within is None or bound.rule.column is None or not frame[bound.rule.column].count():
        return None
    last = pl.col(bound.needs) + bound.within
    too_far = pl.col(bound.rule.column).cast(pl.Datetime("us")).dt.replace_time_zone(None) > last.dt.replace_time_zone(None)
    return frame.select(too_far.fill_null(value=False)).to_series()


def misfit(rescued: pl.Series) -> pl.Series | None:
    """Whether a row did not fit its header, by what bronze has rescued of it; the one place that reads this."""
    at = rescued.is_not_null().arg_true()
    if not at.len():
        return None
    notes = pl.any_horizontal(pl.col(RESCUED).str.json_path_match(f"$['{note}']").is_not_null() for note in _NOTES_OF_A_MISFIT)
    mask = pl.repeat(value=False, n=rescued.len(), eager=True)
    return mask.scatter(at, rescued.gather(at).alias(RESCUED).to_frame().select(notes).to_series())


def _unreadable(frame: pl.DataFrame) -> pl.Series | None:
    if UNPARSED not in frame.columns or frame[UNPARSED].null_count() == frame.height:
        return None
    return frame[UNPARSED].is_not_null()


def _parts(frame: pl.DataFrame, reasons: Mapping[str, pl.Series]) -> tuple[pl.DataFrame, pl.DataFrame]:
    if not reasons:
        return frame, frame.clear().with_columns(pl.lit([], dtype=pl.List(pl.String)).alias(BROKEN))
    masks = pl.DataFrame(reasons)
    rejected = masks.select(pl.any_horizontal(pl.all())).to_series()
    bad = frame.filter(rejected).with_columns(_names(masks.filter(rejected)).alias(BROKEN))
    return frame.filter(~rejected), bad


def _names(masks: pl.DataFrame) -> pl.Series:
    """For each row, the names of the columns that are true."""
    where, names = _combinations(masks.select(masks.columns[:_BITS]))
    for start in range(_BITS, masks.width, _BITS):
        there, more = _combinations(masks.select(masks.columns[start : start + _BITS]))
        pair = where.cast(pl.UInt64) * len(more) + there
        occurring = pair.unique().sort()
        names = [names[both // len(more)] + more[both % len(more)] for both in occurring]
        where = occurring.search_sorted(pair)
    return pl.Series(names, dtype=pl.List(pl.String)).gather(where)


def _combinations(masks: pl.DataFrame) -> tuple[pl.Series, list[list[str]]]:
    """For each row, where its names stand among the combinations of names that occur; few of the possible ones do."""
    bits = [pl.when(name).then(pl.lit(1 << bit, pl.UInt16)).otherwise(pl.lit(0, pl.UInt16)) for bit, name in enumerate(masks.columns)]
    word = masks.lazy().select(pl.sum_horizontal(bits)).collect(engine="streaming").to_series()
    occurs = pl.repeat(value=False, n=1 << masks.width, eager=True).scatter(word, values=True)
    names = [[name for bit, name in enumerate(masks.columns) if value >> bit & 1] for value in occurs.arg_true()]
    return (occurs.cum_sum() - 1).gather(word), names


def _evidence(
    bound: BoundRule, broken: Mapping[str, pl.Series], contract: type[Contract], frame: pl.DataFrame, *, applied: bool
) -> Evidence:
    rule = bound.rule
    if not applied and bound.reference:
        return Evidence(rule, 0, 0, (), f"not applied: {bound.reference.table} has no rows yet")
    mask = broken.get(rule.name)
    if mask is None:
        return Evidence(rule, frame.height, 0, ())
    return Evidence(rule, frame.height, int(mask.sum()), tuple(_masked(frame[_first(mask)], contract)))


def _first(mask: pl.Series) -> pl.Series:
    """The first few positions that are true. Where many are, they need not all be found."""
    near = mask.head(10_000).arg_true()
    return (near if near.len() >= _SAMPLE_ROWS else mask.arg_true()).head(_SAMPLE_ROWS)


def _masked(rows: pl.DataFrame, contract: type[Contract]) -> Iterator[dict[str, Any]]:
    personal = personal_of(contract)
    # What was rescued is of no use for a rule: the columns that rules are about have their values.
    for row in as_python_holds(rows.drop(RESCUED, strict=False)).iter_rows(named=True):
        yield personal.masked_row(row)


def _check_limits(contract: type[Contract], bad: int, rows_in: int, evidence: tuple[Evidence, ...], table: str) -> None:
    """Stop the write if a fail rule is broken, or more rows are bad than the contract lets pass."""
    counted = rows_in >= max(contract.__share_counts_from__, 1)
    for found in evidence:
        if reason := _over_limit(found, counted=counted):
            rule, first = found.rule, first_row(found.rule, found.sample, key_columns(contract))
            raise ContractBroken(
                f"{table}: {found.broken} of {rows_in} rows break rule {rule.name} ({rule.text}) of contract {contract.__name__}, "
                f"{reason}. The first: {first}. Nothing was written; fix the source, or change the rule.",
                evidence,
            )
    share, rows = contract.__max_bad_share__, contract.__max_bad_rows__
    if counted and bad > share * rows_in:
        limit, setting = f"{share:.1%}", "max_bad_share"
    elif rows is not None and bad > rows:
        limit, setting = f"{rows}", "max_bad_rows"
    else:
        return
    errors = sorted((found for found in evidence if found.rule.rejects and found.broken), key=lambda found: -found.broken)
    most = ", ".join(f"{found.rule.text} ({found.broken} rows)" for found in errors[:3])
    raise ContractBroken(
        f"{table}: {bad} of {rows_in} rows break contract {contract.__name__}, which lets at most {limit} be bad. "
        f"Most often broken: {most}. The first: {first_row(errors[0].rule, errors[0].sample, key_columns(contract))}. "
        f"Nothing was written; fix the source, or raise {setting} in the contract.",
        evidence,
    )


def _over_limit(found: Evidence, *, counted: bool) -> str:
    """Why a rule stops the write, if it does."""
    rule = found.rule
    if found.broken and rule.level == "fail":
        return "which no row may break"
    if rule.max_bad_rows is not None and found.broken > rule.max_bad_rows:
        return f"which at most {rule.max_bad_rows} rows may break"
    if counted and rule.max_bad_share is not None and found.broken > rule.max_bad_share * found.rows_in:
        return f"which at most {rule.max_bad_share:.1%} may break"
    return ""
