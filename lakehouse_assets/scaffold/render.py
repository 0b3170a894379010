"""The guesses about a product as its modules: feeds, contracts, silver and gold, each guess with its evidence in a comment.

The test of a product is in `render_test`; what source looks like is in `source`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lakehouse_assets.scaffold.names import class_name, singular, unused
from lakehouse_assets.scaffold.source import (
    TAB,
    call,
    call_in_lines,
    comment,
    commented,
    docstring,
    from_import,
    literal,
    module,
    named,
    text,
)
from lakehouse_assets.scaffold.tables import Column, Forecast, Gold, Table
from lakehouse_assets.scaffold.totals import pattern

PLATFORM = "lakehouse_assets"


@dataclass(frozen=True)
class Product:
    """A product that is to be written.

    Attributes:
        name: The first word of its tables' names.
        package: By which its folder is imported.
        beside_platform: Whether the platform's code lies in the same folder, so that linters take both for one project.
        tables: Its feeds with their tables.
    """

    name: str
    package: str
    beside_platform: bool
    tables: Sequence[Table]

    def contract(self, table: Table) -> str:
        """The class of a table in silver."""
        return self._classes[table.name]

    def gold_contract(self, gold: Gold) -> str:
        """The class of a table in gold."""
        return self._classes[f"gold.{gold.name}"]

    @property
    def _classes(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for table in self.tables:
            names[table.name] = unused(class_name(singular(table.name)), names.values())
        for table in self.tables:
            if table.gold:
                names[f"gold.{table.gold.name}"] = unused(class_name(table.gold.name), names.values())
        return names

    def imports(
        self, standard: Iterable[str], others: Iterable[str], platform: Iterable[str], own: dict[str, list[str]]
    ) -> list[list[str]]:
        """Sections of imports: of Python, of libraries, of the project; `own` has the names taken from each module of the product."""
        ours = [from_import(f"{self.package}.{name}", names) for name, names in sorted(own.items()) if names]
        public = [from_import(PLATFORM, platform)] if platform else []
        if self.beside_platform:
            return [[*standard], [*others], [*public, *ours]]
        libraries = [line for line in others if line.startswith("import")]
        return [[*standard], [*libraries, *public], ours]


def modules(product: Product) -> dict[str, str]:
    """The modules of a product by their names, without its test."""
    written = {"bronze": _bronze(product), "contracts": _contracts(product), "silver": _silver(product)}
    if any(table.gold for table in product.tables):
        written["gold"] = _gold_module(product)
    for table in product.tables:
        if table.gold and table.forecast:
            written["forecast"] = _forecast(product, table.gold, table.forecast)
    return written


def spoken(name: str) -> str:
    """A name as words."""
    return name.replace("_", " ")


# --- bronze


def _bronze(product: Product) -> str:
    imports = product.imports([], [], ["Feed", "feed"], {})
    said = f"The files of {product.name}, as they came. What they mean is decided in `silver`."
    return module(said, imports, ["\n".join(_feed(product, table) for table in product.tables)])


def _feed(product: Product, table: Table) -> str:
    sample = table.sample
    personal = [column for column in table.columns.values() if column.personal]
    names = ", ".join(file.name for file in sample.files[:5]) + (f" and {len(sample.files) - 5} more" if len(sample.files) > 5 else "")
    arguments = [
        text(table.name),
        commented(f"the header of {names}, with {sample.total:,} rows", named("headers", (sample.columns,), 2), 2),
        *([commented("columns that some files have", named("optional", sample.optional, 2), 2)] if sample.optional else []),
        *(named(name, value, 2) for name, value in dict(sample.options).items()),
    ]
    if personal:
        said = "; ".join(f"{column.source}: {column.personal}" for column in personal)
        arguments.append(commented(said, named("personal", tuple(column.source for column in personal), 2), 2))
    if sample.left_out:
        said = f"no table can have a column called {' or '.join(map(repr, sample.left_out))}: see _rescued"
        arguments[1] = commented(said, arguments[1], 2)
    what = text(f"TODO describe what the files of {table.name} tell, and which system writes them.")
    called = call_in_lines("feed", [text(f"{product.name}.bronze.{table.name}"), call_in_lines("Feed", arguments, 1), what], 0)
    return f"{table.name} = {called}\n"


# --- contracts


def _contracts(product: Product) -> str:
    columns = [column for table in product.tables for column in table.columns.values()]
    has_days = any(table.time for table in product.tables) or any(column.reading.annotation == "date" for column in columns)
    moments = ["Timestamp"] if any(column.reading.annotation == "Timestamp" for column in columns) else []
    standard = ["from datetime import date"] if has_days else []
    has_rules = any(table.total_words for table in product.tables)
    others, rules = (["import polars as pl"], ["rule"]) if has_rules else ([], [])
    parts = [_contract(product, table) for table in product.tables]
    parts += [_gold_contract(product, table, table.gold) for table in product.tables if table.gold]
    said = f"What the tables of {product.name} promise: columns, types, keys, rules. How rows come about is in `silver` and `gold`."
    return module(said, product.imports(standard, others, ["Contract", "column", *moments, *rules], {}), parts)


def _contract(product: Product, table: Table) -> str:
    head = f"class {product.contract(table)}(Contract):\n" + docstring(f"One {spoken(singular(table.name))}. TODO describe.", indent=1)
    lines = [_column(product, table, column) for column in table.columns.values()]
    if table.time:
        lines.append(f'{TAB}month: date = column({"nullable=True, " * bool(table.time.missing)}description="First day of the month.")\n')
    lines += _rules(table)
    return head + "\n" + "".join(lines)


def _rules(table: Table) -> Iterator[str]:
    """What keeps rows out that add up others."""
    taken = {*table.columns, "month"}
    for column, words in table.total_words.items():
        name = unused("no_total_line", taken)
        taken.add(name)
        matches = f"~pl.col({text(column)}).str.contains({_raw(pattern(words))})"
        seen = "; ".join(total.named for total in table.totals if total.column == table.columns[column].source)
        called = call("rule", [text("no total line"), matches], 1, len(name) + 3)
        yield f"\n{comment(f'{seen}: it adds up others, and counted with them it would double the sums', 1)}{TAB}{name} = {called}\n"


def _raw(expression: str) -> str:
    """A regular expression as a literal."""
    return text(expression) if '"' in expression else f'r"{expression}"'


def _column(product: Product, table: Table, column: Column) -> str:
    said = column.evidence
    options = []
    if column.name in table.key:
        options.append("key=True")
        others = [name for name in table.key if name != column.name]
        said = f"key with {' and '.join(others)}: {table.key_evidence}; {said}" if others else f"key: {table.key_evidence}"
        said = f"personal {column.personal}; {said}" if column.personal and not others else said
    elif column.missing or column.source in table.sample.optional:
        options.append("nullable=True")
    if column.personal:
        options.append("personal=True")
    if column.references:
        target, counted = column.references
        options += [named("references", f"{product.name}.{target}", 1), named("reference_level", "warn", 1)]
        said += f"; {counted}: a row of another value is counted and written"
    options.append(named("description", f"TODO describe {column.source!r}.", 2))
    start = f"{column.name}: {column.reading.annotation} = "
    return comment(said, 1) + TAB + start + call("column", options, 1, len(start)) + "\n"


def _gold_contract(product: Product, table: Table, gold: Gold) -> str:
    of = [*(["day"] if table.time else []), *([spoken(gold.by.name)] if gold.by else [])]
    head = f"class {product.gold_contract(gold)}(Contract):\n"
    head += docstring(f"{spoken(table.name).capitalize()} of one {' and '.join(of)}.", indent=1)
    lines = []
    if table.time:
        lines.append(("month", "date", 'key=True, description="First day of the month."'))
        lines.append(("day", "date", f'key=True, description="The day, by {table.time.name}."'))
    if gold.by:
        lines.append((gold.by.name, gold.by.reading.annotation, f'key=True, description="As in silver: {gold.by.name}."'))
    lines.append((gold.count, "int", f'ge=1, description="How many {spoken(table.name)}."'))
    for name, column, how in gold.measures:
        annotation = "float" if how == "mean" else column.reading.annotation
        nullable = "nullable=True, " if how == "mean" and column.missing else ""
        lines.append((name, annotation, f'{nullable}description="{how.capitalize()} of {column.name}."'))
    return head + "\n" + "".join(f"{TAB}{name}: {annotation} = column({options})\n" for name, annotation, options in lines)


# --- silver


def _silver(product: Product) -> str:
    kinds = {"Upsert" if table.key else "Append" for table in product.tables}
    readers = {column.reading.reader for table in product.tables for column in table.columns.values()}
    own = {"contracts": [product.contract(table) for table in product.tables]}
    imports = product.imports([], ["import polars as pl"], ["table", "conform", *kinds, *readers], own)
    said = f"One meaning for each row of {product.name}: texts become values, and what cannot be read goes to quarantine."
    return module(said, imports, [_silver_table(product, table) for table in product.tables])


def _silver_table(product: Product, table: Table) -> str:
    kind = f"Upsert({named('key', table.key, 1)})" if table.key else "Append()"
    evidence = f"{', '.join(table.key)}: {table.key_evidence}" if table.key else table.key_evidence
    arguments = [
        text(f"{product.name}.silver.{table.name}"),
        f"contract={product.contract(table)}",
        commented(". ".join([evidence, *table.hints]), f"kind={kind}", 1),
        named("inputs", {"rows": f"{product.name}.bronze.{table.name}"}, 1),
    ]
    what = f"one row for each {' and '.join(table.key)}" if table.key else "one row for each that came"
    said = docstring(f"{spoken(table.name).capitalize()} with their types: {what}.", indent=1)
    columns = [commented(column.reading.evidence, f"{column.name}={_reader(column)}", 2) for column in table.columns.values()]
    conformed = call_in_lines("conform", ["rows", *columns], 1)
    body = f"{TAB}return {conformed}\n"
    if table.time:
        date = "" if table.time.reading.reader == "day" else ".dt.date()"
        body = f"{TAB}typed = {conformed}\n" + comment(f"{table.time.name}: {table.time_evidence}", 1)
        body += f"{TAB}return typed.with_columns(month=pl.col({text(table.time.name)}){date}.dt.month_start())\n"
    return f"@{call_in_lines('table', arguments, 0)}\ndef {table.name}(rows: pl.LazyFrame) -> pl.LazyFrame:\n{said}{body}"


def _reader(column: Column) -> str:
    used = len(column.name) + 2
    return call(column.reading.reader, [text(column.source), *_options(column)], 2, used)


def _options(column: Column) -> Iterator[str]:
    for name, value in column.reading.options.items():
        yield f"{name}={literal(value, 3, len(name) + 2)}"


# --- gold


def _gold_module(product: Product) -> str:
    with_gold = [(table, table.gold) for table in product.tables if table.gold]
    kinds = {"ByPartition" if table.time else "Full" for table, _ in with_gold}
    own = {"contracts": [product.gold_contract(gold) for _, gold in with_gold]}
    imports = product.imports([], ["import polars as pl"], ["table", *kinds], own)
    said = f"What {product.name} adds up to, a start: count, sum or average what you look at."
    return module(said, imports, [_gold_table(product, table, gold) for table, gold in with_gold])


def _gold_table(product: Product, table: Table, gold: Gold) -> str:
    arguments = [
        text(f"{product.name}.gold.{gold.name}"),
        f"contract={product.gold_contract(gold)}",
        'kind=ByPartition("month")' if table.time else "kind=Full()",
        named("inputs", {"rows": f"{product.name}.silver.{table.name}"}, 1),
    ]
    groups = [*(["month", "day"] if table.time else []), *([gold.by.name] if gold.by else [])]
    by = " and ".join(spoken(name) for name in groups if name != "month")
    said = docstring(f"{spoken(table.name).capitalize()} by {by}.", indent=1)
    sums = [f"{gold.count}=pl.len().cast(pl.Int64)"]
    for name, column, how in gold.measures:
        rounded = "" if how == "sum" and column.reading.annotation == "int" else ".round(4)"
        sums.append(f"{name}=pl.col({text(column.name)}).{how}(){rounded}")
    if any(sum_.endswith(".round(4)") for sum_ in sums):
        first = next(index for index, sum_ in enumerate(sums) if sum_.endswith(".round(4)"))
        sums[first] = commented("Rounded, so that numbers that are added in another order come to the same.", sums[first], 2)
    lines = list(_prepared(table, gold))
    grouped = f"rows.group_by({', '.join(map(text, groups))})"
    lines.append(f"{TAB}return {call_in_lines(f'{grouped}.agg', sums, 1)}\n")
    body = comment(". ".join(gold.evidence), 1) + "".join(lines)
    return f"@{call_in_lines('table', arguments, 0)}\ndef {gold.name}(rows: pl.LazyFrame) -> pl.LazyFrame:\n{said}{body}"


def _prepared(table: Table, gold: Gold) -> Iterator[str]:
    """Lines that give rows their day, and their group where some have none."""
    if table.time:
        date = "" if table.time.reading.reader == "day" else ".dt.date()"
        if table.without_time:
            yield comment(f"{table.without_time[0].upper()}{table.without_time[1:]}.", 1)
            yield f"{TAB}rows = rows.filter(pl.col({text(table.time.name)}).is_not_null())\n"
        yield f"{TAB}rows = rows.with_columns(day=pl.col({text(table.time.name)}){date})\n"
    if gold.by and gold.by.missing:
        yield f'{TAB}rows = rows.with_columns(pl.col({text(gold.by.name)}).fill_null("unknown"))\n'


# --- forecast


def _forecast(product: Product, gold: Gold, forecast: Forecast) -> str:
    days = '140 days have to be known before a model can be trained and tested. Where public holidays matter, add calendar="GB"'
    arguments = [
        text(product.name),
        named("series", f"{product.name}.gold.{gold.name}", 1),
        named("time", "day", 1),
        commented(_chosen(gold, forecast), named("value", forecast.value, 1), 1),
        *([commented("forecast together: a small one learns from the others", named("by", forecast.by, 1), 1)] if forecast.by else []),
        commented(days, named("horizon", 28, 1), 1),
    ]
    said = f"What is expected of {product.name}: {spoken(forecast.value)} of the next four weeks."
    tables = f"`lakehouse train` trains on {product.name}.features.{gold.name}; the result is {product.name}.predictions.{gold.name}."
    declared = f"expected_{forecast.value} = {call_in_lines('forecast', arguments, 0)}"
    return module(said, product.imports([], [], ["forecast"], {}), [comment(tables, 0) + declared])


def _chosen(gold: Gold, forecast: Forecast) -> str:
    """What the value is, and what else it could be."""
    sources = {name: f"the sum of {column.name}" for name, column, how in gold.measures if how == "sum"}
    said = f"{sources.get(forecast.value, 'the count of rows')}, added up by day; a day without a row counts as zero"
    others = [name for name in (gold.count, *sources) if name != forecast.value]
    instead = f"Another column of gold can stand here: {', '.join(others)}" if others else ""
    return ". ".join(filter(None, [said, forecast.why, instead]))
