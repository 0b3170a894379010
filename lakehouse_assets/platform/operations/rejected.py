"""Rejected rows of a table as plain values: which rules they broke, where they came from. How they are released is in `pipeline.replay`."""

import json
from typing import Any

import polars as pl

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.far_times import as_python_holds
from lakehouse_assets.platform.governance.reader import Reader
from lakehouse_assets.platform.pipeline.quarantine import RELEASED, SOURCE, unreleased, with_marks, with_source
from lakehouse_assets.platform.quality.contract import rules_of
from lakehouse_assets.platform.quality.masking import HINT, RESCUED
from lakehouse_assets.platform.quality.rules import FITS_HEADER, feed_rules, key_rule
from lakehouse_assets.platform.quality.split import BROKEN, UNPARSED
from lakehouse_assets.platform.storage.errors import NoSuchTable
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.wording import counted

_MISFIT = "_misfit"


def rejected_rows(asset: TableDeclaration, reader: Reader, *, rows: int, rule: str | None = None, released: bool = False) -> dict[str, Any]:
    """The rules that quarantined rows broke, and the rows, newest file first, as plain values.

    Args:
        asset: The table.
        reader: Shows the rows, with personal data masked.
        rows: How many rows at most.
        rule: Only rows that broke this rule.
        released: Also the rows that were released.

    Raises:
        NoSuchTable: The table was never made.
        LookupError: The contract has no such rule, and no row broke it.
    """
    lakehouse = reader.lakehouse
    quarantine = lakehouse.table(asset.quarantine)
    if not quarantine.exists():
        if lakehouse.table(asset.name).exists():
            raise NoSuchTable(f"{asset.name} has no quarantine: `lakehouse run {asset.name} --full-refresh` computes both again")
        raise NoSuchTable(f"{asset.name} has no quarantine yet: `lakehouse run {asset.name}` creates it")
    counts = _rules(unreleased(quarantine))
    shown = _rules(quarantine.scan()) if released else counts
    rules = [*rules_of(asset.contract), *(of_feed.rule for of_feed in feed_rules(asset.contract))]
    texts = {known.name: known.text for known in [*rules, *filter(None, [key_rule(asset.contract)])]}
    if rule is not None and rule not in texts and rule not in shown:
        raise LookupError(f"{asset.name} has no rule {rule!r}. There are: {', '.join(texts)}")
    waiting = unreleased(quarantine).select(pl.len()).collect().item()
    all_rows = with_source(asset, lakehouse, released=released)
    if rule is not None:
        all_rows = all_rows.filter(pl.col(BROKEN).list.contains(rule))
    order = [name for name in ("_sequence", "_row") if name in all_rows.collect_schema()]
    if order:
        all_rows = all_rows.sort(order, descending=[True, *[False] * (len(order) - 1)], nulls_last=True)
    # Before what a file has besides its columns is masked: how much it is, and the names of columns, are no personal data.
    described = all_rows.head(rows).with_columns(_misfit(all_rows.collect_schema()).alias(_MISFIT))
    shown_rows = reader.view(described, asset.quarantine, "quarantine").collect()
    put_in_again = with_marks(quarantine.scan()).select(pl.len()).collect().item() - waiting
    return {
        "table": asset.name,
        "waiting": waiting,
        "released": put_in_again,
        "matching": shown.get(rule, 0) if rule is not None else waiting + (put_in_again if released else 0),
        "rules": [
            {"rule": name, "text": texts.get(name, "not a rule of the contract any more"), "rows": count} for name, count in shown.items()
        ],
        "rows": [_row(row) for row in as_python_holds(shown_rows).iter_rows(named=True)],
    }


def waiting_rows(lakehouse: Lakehouse) -> list[dict[str, Any]]:
    """The tables with rows that wait in their quarantine: `table`, `rows`, and `changed_at`, when the quarantine was last written."""
    quarantines = [table for table in lakehouse.tables() if table.name.endswith(QUARANTINE_SUFFIX)]
    counts = [(table, unreleased(table).select(pl.len()).collect().item()) for table in quarantines]
    return [
        {"table": table.name.removesuffix(QUARANTINE_SUFFIX), "rows": rows, "changed_at": table.history(1)[0]["at"]}
        for table, rows in counts
        if rows
    ]


def _rules(rows: pl.LazyFrame) -> dict[str, int]:
    broken = rows.select(pl.col(BROKEN).explode().alias("rule")).drop_nulls()
    counts = broken.group_by("rule").len().sort("len", "rule", descending=[True, False]).collect()
    return dict(counts.iter_rows())


def _misfit(schema: pl.Schema) -> pl.Expr:
    """What of a row did not fit the header of its file, in words, by what bronze has rescued."""
    source = schema[SOURCE]
    if not isinstance(source, pl.Struct) or RESCUED not in {field.name for field in source.fields}:
        return pl.lit(None, pl.String)
    return pl.col(SOURCE).struct.field(RESCUED).map_elements(_in_words, return_dtype=pl.String)


def _in_words(rescued: str) -> str | None:
    notes = json.loads(rescued)
    if extra := notes.get("_extra"):
        return f"{counted(len(extra), 'field')} more than the header"
    if missing := notes.get("_missing"):
        return f"lacks the {'field' if len(missing) == 1 else 'fields'} {', '.join(missing)}"
    if formulas := notes.get("_formula"):
        return f"the result of the formula in {', '.join(formulas)} is not stored: open the file in Excel or LibreOffice, and save it"
    return "the line could not be split into fields, or repeats the header" if "_line" in notes else None


def _row(row: dict[str, Any]) -> dict[str, Any]:
    values = {
        "rules": row[BROKEN],
        "file": row.get("_file"),
        "row": row.get("_row"),
        "unparsed": json.loads(row.get(UNPARSED) or "{}"),
        "hint": row.get(HINT),
        "misfit": row[_MISFIT] if FITS_HEADER in row[BROKEN] else None,
        # A line that could not be read has its text in `_rescued` and nothing else.
        "source": row[SOURCE] and {name: value for name, value in row[SOURCE].items() if not name.startswith("_") or name == RESCUED},
    }
    return values | {name.removeprefix("_"): row[name] for name in RELEASED if row[name] is not None}
