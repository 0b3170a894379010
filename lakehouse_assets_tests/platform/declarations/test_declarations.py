"""What cannot be meant is refused when it is declared, with the table, the parameter and what to do instead."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.platform.declarations.base import Declaration, DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.change_kinds import SCD1, SCD2
from lakehouse_assets.platform.declarations.computed_kinds import ByKey, ByKeyAndTime, ByPartition, Full, Trailing
from lakehouse_assets.platform.declarations.features import feature_set
from lakehouse_assets.platform.declarations.feeds import feed
from lakehouse_assets.platform.declarations.kind import Kind
from lakehouse_assets.platform.declarations.models import model, predictions
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import Dimension, TableDeclaration, table
from lakehouse_assets.platform.features.labels import Labels
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.pipeline.model_identity import recipe_of
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column, schema_of
from lakehouse_assets.platform.storage import platform_tables
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.orchestration.level import Days, level_model

NAME, SOURCE, OTHER = "shop.silver.things", "shop.silver.rows", "shop.silver.others"


class Thing(Contract):
    """Has what every kind goes by."""

    part: str = column(key=True)
    day: date = column(key=True)
    number: int = column(key=True)
    amount: int


class Event(Contract):
    """An event of a key."""

    part: str = column(key=True)
    number: int = column(key=True)
    valid_from: Timestamp
    is_deleted: bool
    amount: int


class State(Contract):
    """The latest state of a key."""

    part: str = column(key=True)
    number: int
    valid_from: Timestamp
    is_deleted: bool
    amount: int


class Keyless(Contract):
    """Rows that nothing tells apart."""

    part: str
    day: date
    amount: int


def contract(name: str = "Thing", *, drop: tuple[str, ...] = (), of: type[Contract] = Thing, **columns: tuple[type, Any]) -> type[Contract]:
    """A contract with other columns than the one that it is made of."""
    names = [info for info in of.to_schema().columns if info not in drop]
    keys = {info: column(key=bool((of.to_schema().columns[info].metadata or {}).get("key"))) for info in names}
    types = {info: of.__annotations__[info] for info in names} | {info: dtype for info, (dtype, _) in columns.items()}
    body = {"__annotations__": types, "__module__": __name__, "__doc__": name, **keys}
    return type(name, (Contract,), body | {info: value for info, (_, value) in columns.items()})


def declared(
    kind: Kind,
    columns: type[Contract] = Thing,
    function: Callable[..., Any] = lambda rows: rows,
    name: str = NAME,
    **more: Any,
) -> TableDeclaration:
    return table(name, contract=columns, kind=kind, **({"inputs": {"rows": SOURCE}} | more))(function)


def of_two(rows: pl.LazyFrame, others: pl.LazyFrame) -> pl.LazyFrame:
    """Takes two sources."""
    return pl.concat([rows, others])


TWO = {"inputs": {"rows": SOURCE, "others": OTHER}}
UPSERT = Upsert(("part", "day", "number"))
KINDS: dict[str, tuple[Kind, type[Contract]]] = {
    "Append": (Append(), Thing),
    "Upsert": (UPSERT, Thing),
    "SCD1": (SCD1(("part",), "number"), State),
    "SCD2": (SCD2(("part",), "number"), Event),
    "ByPartition": (ByPartition("day"), Thing),
    "ByKey": (ByKey("part"), Thing),
    "Trailing": (Trailing("day", timedelta(days=2)), Thing),
    "Full": (Full(), Thing),
}
ROW_KINDS, COMPUTED = ("Append", "Upsert", "SCD1", "SCD2"), ("ByPartition", "ByKey", "Trailing", "Full")


def refused(declare: Callable[[], Any], *parts: str) -> None:
    """The message names all of these."""
    with pytest.raises(DeclarationError) as error:
        declare()
    for part in parts:
        assert part in str(error.value), str(error.value)


# --- every kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_declared(kind):
    declaration = declared(*KINDS[kind])
    assert declaration.sources() == (SOURCE,)
    assert declaration.outputs() == (NAME, f"{NAME}__quarantine")


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_computed_kind_takes_several_inputs(kind):
    assert declared(*KINDS[kind], of_two, **TWO).sources() == (SOURCE, OTHER)


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_a_row_kind_takes_one_input(kind):
    refused(
        lambda: declared(*KINDS[kind], of_two, **TWO),
        NAME,
        f"{kind} takes one input",
        "rows, others",
        "Declare further tables as dimensions",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_without_a_source_is_refused(kind):
    refused(lambda: declared(*KINDS[kind], of_two), NAME, "takes 'others', which is neither an input nor a dimension", "add it to inputs")


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_the_function_does_not_take_is_refused(kind):
    extra = {"dimensions": {"extra": Dimension(OTHER)}}
    refused(lambda: declared(*KINDS[kind], **extra), NAME, "does not take 'extra'", "add the parameter, or leave the source out")


@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_parameter_is_answered_with_the_nearest(kind):
    refused(lambda: declared(*KINDS[kind], lambda rosw: rosw), NAME, "'rosw'", "Did you mean rows?")


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_reads_itself_is_refused(kind):
    for sources in ({"inputs": {"rows": NAME}}, {"dimensions": {"others": Dimension(NAME)}}):
        function = of_two if "dimensions" in sources else (lambda rows: rows)
        refused(lambda sources=sources, function=function: declared(*KINDS[kind], function, **sources), NAME, "reads itself", "take it out")


@pytest.mark.parametrize("kind", KINDS)
def test_one_parameter_for_an_input_and_a_dimension_is_refused(kind):
    more = {"dimensions": {"rows": Dimension(OTHER)}}
    refused(lambda: declared(*KINDS[kind], **more), NAME, "rows is an input and a dimension", "rename one")


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_inputs_is_refused(kind):
    refused(lambda: declared(*KINDS[kind], lambda: None, inputs={}), NAME, "inputs is empty", "name at least one")


@pytest.mark.parametrize("kind", COMPUTED)
def test_row_for_row_means_nothing_for_a_computed_kind(kind):
    refused(lambda: declared(*KINDS[kind], row_for_row=False), NAME, f"row_for_row=False means nothing for {kind}", "leave it out")


@pytest.mark.parametrize("name", ["things", "shop.things", "Shop.silver.things", "shop.silver.things.more", "shop.silver.1"])
def test_a_name_is_three_words_in_lower_case(name):
    refused(lambda: declared(Full(), name=name), repr(name), "write product.layer.name in lower case")


# --- columns and keys


@pytest.mark.parametrize(
    ("kind", "columns", "missing"),
    [
        (Upsert(("part", "dya")), Thing, "dya"),
        (Upsert(("part", "day", "number"), newest_by="amout"), Thing, "amout"),
        (ByPartition("dya"), Thing, "dya"),
        (ByKey("part", "numbre"), Thing, "numbre"),
        (Trailing("dya", timedelta(days=1)), Thing, "dya"),
    ],
    ids=repr,
)
def test_a_kind_that_names_a_column_which_the_contract_lacks_is_refused(kind, columns, missing):
    refused(lambda: declared(kind, columns), NAME, f"{type(kind).__name__} names the column '{missing}'", "Thing lacks", "Did you mean")


@pytest.mark.parametrize("kind", [SCD1, SCD2])
@pytest.mark.parametrize("missing", ["part", "number", "valid_from", "is_deleted"])
def test_a_change_kind_needs_its_columns(kind, missing):
    columns = contract("Event", of=Event, drop=(missing,))
    refused(lambda: declared(kind(("part",), "number"), columns), NAME, "Event", f"{kind.__name__} needs a column {missing}")


@pytest.mark.parametrize(
    ("kind", "columns", "names"),
    [
        (SCD2(("part",), "number"), Event, ("valid_to", "is_current", "repeats")),
        (SCD2(("part",), "number", unversioned=("amount",)), Event, ("valid_to", "is_current", "repeats")),
        (SCD2(("part",), "number", snapshot=True), Event, ("valid_to", "is_current", "snapshots", "assumed")),
        (SCD1(("part",), "number", snapshot=True), State, ("snapshots", "assumed")),
    ],
    ids=repr,
)
def test_a_column_that_the_kind_adds_itself_is_refused(kind, columns, names):
    assert set(declared(kind, columns).schema) == set(schema_of(columns)) | set(names)
    for added in names:
        more = contract(of=columns, **{added: (str, column())})
        refused(lambda more=more: declared(kind, more), NAME, f"adds the column {added} itself", "rename the contract's column")


@pytest.mark.parametrize(
    ("kind", "columns", "parts"),
    [
        (Upsert(("part",)), Thing, ("has the key part, day, number, but Upsert tells rows apart by part", "Mark exactly these columns")),
        (Upsert(("part",)), Keyless, ("has no key", "Mark exactly these columns")),
        (SCD1(("number",), "part"), State, ("SCD1 tells rows apart by number", "change the kind")),
        (SCD2(("part",), "amount"), Event, ("has the key part, number, but SCD2 tells rows apart by part, amount", "change the kind")),
        (ByPartition("amount"), Thing, ("is partitioned by amount, which is not part of the key part, day, number", "column(key=True)")),
        (ByKey("amount"), Thing, ("ByKey goes by amount, but the key of contract Thing is", "mark amount with column(key=True)")),
        (ByKey("part"), Keyless, ("the key of contract Keyless is empty", "mark part with column(key=True)")),
        (Trailing("amount", 1), Thing, ("Trailing goes by amount, but the key of contract Thing is", "mark amount with column(key=True)")),
        (ByKey(), Thing, ("ByKey() names no column", "name those by which")),
    ],
    ids=repr,
)
def test_a_key_that_does_not_fit_the_kind_is_refused(kind, columns, parts):
    refused(lambda: declared(kind, columns), NAME, *parts)


@pytest.mark.parametrize("kind", ["Append", "Upsert", "ByPartition", "ByKey", "Trailing", "Full"])
def test_floats_cannot_tell_rows_apart(kind):
    columns = contract(number=(float, column(key=True)))
    refused(lambda: declared(KINDS[kind][0], columns), NAME, "the key has number, and floats", "give it another type")


@pytest.mark.parametrize("kind", ["Upsert", "SCD1", "SCD2", "ByKey", "Trailing", "Full"])
def test_a_partition_column_outside_of_the_key_is_refused(kind):
    refused(lambda: declared(*KINDS[kind], partition_by=("amount",)), NAME, "amount", "could be in two partitions", "leave it out")


def test_a_partition_column_that_does_not_exist_or_cannot_name_a_folder_is_refused():
    refused(lambda: declared(Append(), partition_by=("mont",)), NAME, "partition_by names the column 'mont'")
    columns = contract(at=(Timestamp, column(key=True)))
    for declare in (
        lambda: declared(Append(), columns, partition_by=("at",)),
        lambda: declared(ByPartition("at"), columns),
    ):
        refused(declare, NAME, "partition column 'at' has type", "partition by a string, date, integer or boolean column")


def test_a_partitioned_kind_has_its_own_partitions():
    refused(lambda: declared(ByPartition("day"), partition_by=("part",)), NAME, "ByPartition('day')", "leave partition_by out")
    assert declared(ByPartition("day"), partition_by=("day",)).partitions == ("day",)


@pytest.mark.parametrize("snapshot", [False, True])
def test_intervals_are_partitioned_by_whether_they_are_current(snapshot):
    kind = SCD2(("part",), "number", snapshot=snapshot)
    assert declared(kind, Event).partitions == ("is_current",)
    assert declared(kind, Event, partition_by=("part",)).partitions == ("part", "is_current")
    refused(lambda: declared(kind, Event, partition_by=("is_current",)), NAME, "always partitioned by is_current", "leave it out")


def test_a_type_that_no_table_can_hold_is_refused():
    refused(lambda: declared(Full(), contract(took=(pl.Duration, column()))), NAME, "'took' has type Duration", "cast it to a type")


@pytest.mark.parametrize(
    ("lookback", "of", "parts"),
    [
        (3, "day", ("lookback=3 does not fit 'day' (Date)", "give it as timedelta")),
        (timedelta(days=1), "number", ("does not fit 'number' (Int64)", "give it as int")),
        (True, "number", ("lookback=True does not fit", "give it as int")),
        (-1, "number", ("lookback=-1 is negative", "use ByPartition or Full")),
        (timedelta(days=-1), "day", ("is negative", "use ByPartition or Full")),
        (timedelta(hours=36), "day", ("is no number of whole days", "round it up")),
        (1, "part", ("Trailing goes by 'part', which is String", "name a date, timestamp or whole number")),
    ],
    ids=repr,
)
def test_a_lookback_that_does_not_fit_its_column_is_refused(lookback, of, parts):
    refused(lambda: declared(Trailing(of, lookback)), NAME, *parts)


@pytest.mark.parametrize("share", [-0.1, 1.5])
@pytest.mark.parametrize(("kind", "columns"), [(SCD1, State), (SCD2, Event)])
def test_a_share_is_between_nothing_and_all(kind, columns, share):
    refused(lambda: declared(kind(("part",), "number", snapshot=True, retire_at_most=share), columns), NAME, "retire_at_most is a share")


@pytest.mark.parametrize(("kind", "columns"), [(SCD1, State), (SCD2, Event)])
def test_a_share_of_retired_keys_is_about_snapshots(kind, columns):
    refused(lambda: declared(kind(("part",), "number", retire_at_most=0.5), columns), NAME, "retire_at_most=0.5", "say snapshot=True")
    declared(kind(("part",), "number"), columns)


@pytest.mark.parametrize(
    ("kind", "columns", "parts"),
    [
        (Upsert(("part", "part")), Thing, ("Upsert: key names 'part' twice",)),
        (SCD1(("part", "part"), "number"), State, ("SCD1: key names 'part' twice",)),
        (SCD2(("part", "part"), "number"), Event, ("SCD2: key names 'part' twice",)),
        (SCD2(("part",), "number", unversioned=("amount", "amount")), Event, ("unversioned names 'amount' twice",)),
        (ByKey("part", "part"), Thing, ("ByKey names 'part' twice",)),
        (Upsert("part"), Thing, ("key='part' is one text", "key=('part',)")),
        (Upsert(("part", "day", "number"), newest_by="number"), Thing, ("Upsert has 'number' in its key", "take it out")),
        (SCD1(("part", "number"), "number"), State, ("SCD1 has 'number' in its key", "take it out")),
        (SCD2(("part", "number"), "number"), Event, ("SCD2 has 'number' in its key", "take it out")),
        (SCD2(("part", "valid_from"), "number"), Event, ("SCD2 has 'valid_from' in its key", "take it out")),
    ],
    ids=repr,
)
def test_a_key_names_each_column_once_and_not_what_orders_its_rows(kind, columns, parts):
    refused(lambda: declared(kind, columns), NAME, *parts)


@pytest.mark.parametrize("kind", ["Append", "Upsert", "ByKey", "Full"])
def test_partitions_name_each_column_once_and_leave_one_for_the_files(kind):
    refused(lambda: declared(*KINDS[kind], partition_by=("part", "part")), NAME, "partition_by names 'part' twice")
    refused(lambda: declared(*KINDS[kind], partition_by="part"), NAME, "partition_by='part' is one text", "partition_by=('part',)")


@pytest.mark.parametrize(("kind", "partition_by"), [(Append(), ("day",)), (ByPartition("day"), ())])
def test_a_table_is_not_partitioned_by_all_of_its_columns(kind, partition_by):
    columns = contract(drop=("part", "number", "amount"))
    refused(lambda: declared(kind, columns, partition_by=partition_by), NAME, "all of its columns, day", "partition it by fewer")


@pytest.mark.parametrize("kind", ["Append", "Upsert", "ByKey", "Full"])
def test_columns_that_differ_in_case_only_are_refused(kind):
    columns = contract(Part=(str, column()))
    refused(lambda: declared(KINDS[kind][0], columns), NAME, "'part' and 'Part' differ in case only", "rename one")


def test_columns_that_differ_in_case_only_from_one_that_the_kind_adds_are_refused():
    columns = contract(of=Event, Valid_To=(str, column()))
    refused(lambda: declared(KINDS["SCD2"][0], columns), NAME, "'Valid_To' and 'valid_to' differ in case only", "rename one")


@pytest.mark.parametrize(
    ("declare", "parts"),
    [
        (lambda: declared(Full), ("kind=Full", "it is the class: write Full(…)")),
        (lambda: declared("Full"), ("kind='Full' is no kind", "as Full()")),
        (lambda: declared(Full(), {"part": str}), ("contract={'part'", "is no subclass of Contract")),
        (lambda: declared(Full(), inputs={"rows": RAW}), ("the input rows is", "name the table")),
        (lambda: declared(Full(), function=of_two, dimensions={"others": OTHER}), ("the dimension others is", "write Dimension(")),
        (lambda: declared(Full(), contract(amount=(int, column(ge="x")))), ("contract Thing, check greater_than_or_equal_to",)),
    ],
    ids=[
        "the class of a kind",
        "a text as a kind",
        "no contract",
        "a declaration as input",
        "a name as dimension",
        "a rule of another type",
    ],
)
def test_a_parameter_of_another_type_is_refused(declare, parts):
    refused(declare, NAME, *parts)


def test_an_unknown_rule_of_a_column_is_answered_with_the_nearest():
    refused(lambda: column(in_rang=(1, 2)), "column(in_rang=…)", "'in_rang' is not available", "with rule(…)", "Did you mean in_range?")


def test_an_unversioned_column_is_a_value():
    for name in ("colour", "part", "number"):
        refused(lambda name=name: declared(SCD2(("part",), "number", unversioned=(name,)), Event), NAME, f"'{name}'", "there are amount")


# --- declarations together


def source(name: str = SOURCE, columns: type[Contract] = Thing, reads: str = "shop.bronze.raw") -> TableDeclaration:
    return declared(Full(), columns, name=name, inputs={"rows": reads})


RAW = feed("shop.bronze.raw", Feed("raw", headers=(("part",),)), "Raw rows.")


def together(*declarations: Declaration) -> Catalog:
    return Catalog((RAW, *declarations))


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_nobody_declares_is_answered_with_the_nearest(kind):
    refused(lambda: together(declared(*KINDS[kind])), f"{NAME} reads {SOURCE}, which no product declares: did you mean shop.")


@pytest.mark.parametrize("kind", ["ByPartition", "ByKey", "Trailing"])
def test_every_input_has_the_column_by_which_the_kind_goes(kind):
    goes_by = {"ByPartition": "day", "ByKey": "part", "Trailing": "day"}[kind]
    lacking = source(OTHER, contract(drop=(goes_by,)))
    declaration = declared(*KINDS[kind], of_two, **TWO)
    refused(
        lambda: together(source(), lacking, declaration),
        NAME,
        f"{kind} goes by the column '{goes_by}', which the input others ({OTHER}) lacks",
        "as a dimension",
    )
    other_type = source(OTHER, contract(**{goes_by: (int, column(key=True))}))
    refused(lambda: together(source(), other_type, declaration), NAME, f"'{goes_by}', which is Int64 in the input others", "one type")
    together(source(), source(OTHER), declaration)


def test_of_two_rows_with_one_key_it_is_clear_which_counts():
    refused(lambda: together(source(), declared(UPSERT)), NAME, "the input rows", SOURCE, "is no feed", "Name a column in newest_by")
    together(source(), declared(Upsert(("part", "day", "number"), newest_by="amount")))
    together(declared(UPSERT, inputs={"rows": RAW.name}))


def test_a_dimension_that_restates_is_nothing_for_rows_that_never_change():
    more = {"dimensions": {"others": Dimension(OTHER, key="part")}}
    refused(
        lambda: declared(Append(), Thing, of_two, **more), NAME, "the dimension others cannot restate", "leave its key out, or use Upsert"
    )
    declared(Append(), Thing, of_two, dimensions={"others": Dimension(OTHER)})


def test_the_key_of_a_dimension_is_in_it_and_in_an_input():
    def joined(key, of_dimension=Thing, of_input=Thing):
        declaration = declared(Full(), Thing, of_two, dimensions={"others": Dimension(OTHER, key=key)})
        return lambda: together(source(columns=of_input), source(OTHER, of_dimension), declaration)

    refused(joined("prat"), NAME, f"dimension others ({OTHER}) has no column 'prat'", "Did you mean part?")
    refused(joined("part", of_input=contract(drop=("part",))), NAME, "dimension others", "no input has the column 'part'", "Leave key out")
    other_type = contract(part=(int, column(key=True)))
    refused(joined("part", of_input=other_type), NAME, "dimension others", "is String there and Int64 in the input rows", "one type")
    joined("part")()


def test_a_circle_is_refused_and_names_only_what_is_in_it():
    first, second = source(SOURCE, reads=OTHER), source(OTHER, reads=SOURCE)
    reader = declared(Full())
    with pytest.raises(DeclarationError, match=rf":\d+: {OTHER}, {SOURCE}: .* in a circle. Take one of the inputs out"):
        together(first, second, reader)


def test_only_tables_of_the_platform_that_exist_can_be_read():
    refused(lambda: together(source(reads="platform.landing.lgo")), SOURCE, "platform.landing.lgo", "did you mean platform.landing.log?")
    together(*(source(f"shop.silver.of_{number}", reads=name) for number, name in enumerate(platform_tables.ALL)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_reads_its_own_quarantine_is_refused(kind):
    own = f"{NAME}__quarantine"
    refused(lambda: declared(*KINDS[kind], inputs={"rows": own}), NAME, "reads its own quarantine", "quarantine replay", "take it out")
    more = {"dimensions": {"others": Dimension(own)}}
    refused(lambda: declared(*KINDS[kind], of_two, **more), NAME, "reads its own quarantine")


def test_a_circle_through_a_quarantine_is_refused_and_a_quarantine_comes_with_its_table():
    first, second = source(SOURCE, reads=f"{OTHER}__quarantine"), source(OTHER, reads=SOURCE)
    with pytest.raises(DeclarationError, match=rf":\d+: {OTHER}, {SOURCE}: .* in a circle"):
        together(first, second)
    assert [one.name for one in together(first, source(OTHER)).in_order] == [RAW.name, OTHER, SOURCE]


@pytest.mark.parametrize("name", ["raw", "RAW"])
def test_one_folder_of_files_belongs_to_one_feed(name):
    twin = feed("other.bronze.raw", Feed(name, headers=(("x",),)), "Raw rows of another product.")
    refused(lambda: together(twin), "shop.bronze.raw", "other.bronze.raw", f"feed {name!r}", "rename one feed")


@pytest.mark.parametrize("name", ["", "../x", "x/y", ".x", "_x", "x.tmp", "x y", "x\n", "a=b"])
def test_the_name_of_a_feed_is_a_plain_name_of_a_folder(name):
    refused(lambda: feed("shop.bronze.raw", Feed(name, headers=(("x",),)), ""), "shop.bronze.raw", repr(name), "is no plain name")


@pytest.mark.parametrize(
    ("headers", "parts"),
    [
        ((), ("headers=() names no column", "name those that a file must have")),
        (((),), ("names no column",)),
        (("id", "name"), ("write a tuple of headers, each a tuple of columns",)),
        ((("id", "id"),), ("a header names 'id' twice",)),
        ((("id", "ID"),), ("'id' and 'ID' differ in case only", "rename one")),
        ((("id",), ("Id", "name")), ("'id' and 'Id' differ in case only",)),
        ((("id", "OPTION"),), ("'OPTION' and 'option' differ in case only",)),
        ((("id", "_row"),), ("the column '_row' cannot be one of bronze", "leave it out", "_rescued")),
        ((("id", " "),), ("the column ' ' cannot be one of bronze",)),
        ((("id", "^a$"),), ("the column '^a$' cannot be one of bronze",)),
    ],
    ids=repr,
)
def test_the_headers_of_a_feed_name_columns_that_bronze_can_have(headers, parts):
    declaring = Feed("raw", headers=headers, optional=("option",))
    refused(lambda: feed("shop.bronze.raw", declaring, ""), "shop.bronze.raw: feed raw", *parts)


def test_a_name_is_declared_once_and_leaves_room_for_the_platform():
    refused(lambda: together(source(), source()), SOURCE, "rename one")
    refused(lambda: together(source("shop.silver.a__quarantine")), "two underscores", "rename it")


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("shop.silver.otehrs.part", ("no product declares shop.silver.otehrs", f"Did you mean {OTHER}?")),
        (f"{OTHER}.prat", ("which that table does not have", "Did you mean part?")),
        (f"{OTHER}.number", ("which is Int64 and not String",)),
        (f"{NAME}.part", ("a column of its own table", "compare them in the function")),
    ],
)
def test_a_reference_that_no_row_could_keep_is_refused(target, parts):
    referring = declared(Full(), contract(part=(str, column(key=True, references=target))))
    refused(lambda: together(source(), source(OTHER), referring), NAME, f"column part references {target}", *parts)


# --- feature sets, models, predictions


class Feature(Contract):
    """A feature of a part."""

    part: str = column(key=True)
    day: date = column(key=True)
    amount: int
    known_at: Timestamp


class Score(Contract):
    """A prediction."""

    part: str = column(key=True)
    model_version: int = column(key=True)
    amount: float
    model_name: str
    feature_version: int
    scored_at: Timestamp


FEATURES, MODEL, SCORES = "shop.features.parts", "shop.models.parts", "shop.predictions.parts"
parts_model = replace(level_model, name=MODEL, examples=Days(FEATURES))


BY_PART = ByKey("part")


def features(kind: Kind = BY_PART, columns: type[Contract] = Feature) -> TableDeclaration:
    return feature_set(FEATURES, contract=columns, entity=("part",), event_time="day", kind=kind, inputs={"rows": SOURCE})(
        lambda rows: rows
    )


def scores(columns: type[Contract] = Score, key: tuple[str, ...] = ("part", "model_version")) -> TableDeclaration:
    return predictions(SCORES, contract=columns, model=parts_model, features=FEATURES, key=key)(lambda champion, features: features)


def test_features_a_model_and_its_predictions_fit_together():
    catalog = together(source(), features(), parts_model, scores())
    assert [one.name for one in catalog.in_order][-3:] == [FEATURES, MODEL, SCORES]
    assert scores().sources() == (FEATURES, MODEL)


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_a_feature_set_is_computed_by_scope(kind):
    refused(lambda: features(KINDS[kind][0]), FEATURES, f"{kind} is no kind of a feature set", "use ByKey, ByPartition, Trailing or Full")


def test_a_feature_set_has_entity_event_time_and_known_at():
    for missing in ("part", "day", "known_at"):
        columns = contract("Feature", of=Feature, drop=(missing,))
        refused(lambda columns=columns: features(Full(), columns), FEATURES, f"feature_set names the column '{missing}'", "add it")
    finer = contract("Feature", of=Feature, amount=(int, column(key=True)))
    refused(lambda: features(Full(), finer), FEATURES, "feature_set tells rows apart by part, day", "Mark exactly these columns")


def test_the_keys_of_feature_sets_and_predictions_name_each_column_once():
    of_day = feature_set(FEATURES, contract=Feature, entity=("part", "day"), event_time="day", kind=BY_PART, inputs={"rows": SOURCE})
    refused(lambda: of_day(lambda rows: rows), FEATURES, "names 'day' twice")
    refused(lambda: scores(key=("part", "model_version", "part")), SCORES, "predictions: key names 'part' twice")


def test_the_kind_of_a_feature_set_is_checked_too():
    refused(lambda: features(Full), FEATURES, "kind=Full", "it is the class: write Full(…)")
    refused(lambda: features(ByKey("amount")), FEATURES, "feature_set goes by amount", "mark amount with column(key=True)")
    refused(lambda: features(Trailing("day", 3)), FEATURES, "lookback=3 does not fit 'day'")
    lacking = contract(drop=("part",))
    refused(lambda: together(source(columns=lacking), features()), FEATURES, "the column 'part', which the input rows", "Add it there")


def test_a_kind_by_key_and_time_says_what_its_time_is():
    refused(lambda: features(ByKeyAndTime("part", time="day", lookback=3)), FEATURES, "lookback=3 does not fit 'day' (Date)")
    refused(lambda: features(ByKeyAndTime("part", time="amount", lookback=3)), FEATURES, "mark amount with column(key=True)")
    refused(lambda: features(ByKeyAndTime(time="day", lookback=timedelta(days=1))), FEATURES, "names no column")
    back = ByKeyAndTime("part", time="day", lookback=timedelta(days=-1))
    refused(lambda: features(back), FEATURES, "is negative", "looks ahead")
    undated = contract(drop=("day",))
    day = ByKeyAndTime("part", time="day", lookback=timedelta(days=1))
    refused(lambda: together(source(columns=undated), features(day)), FEATURES, "the column 'day', which the input rows", "Add it there")


def test_predictions_are_told_apart_by_the_version_of_the_model():
    columns = contract("Score", of=Score, model_version=(int, column()))
    refused(lambda: scores(columns, ("part",)), SCORES, "the key part lacks model_version", "add model_version to key")
    refused(lambda: scores(columns), SCORES, "has the key part, but predictions tells rows apart by part, model_version")
    for missing in ("model_name", "feature_version", "scored_at"):
        refused(lambda missing=missing: scores(contract("Score", of=Score, drop=(missing,))), SCORES, f"lacks {missing}", "add it")


@pytest.mark.parametrize("name", ["model", "one_line_rule", "champion", "Seasonal", "2_weeks", "seasonal-naive", ""])
def test_a_baseline_has_a_name_of_its_own(name):
    refused(lambda: replace(parts_model, baselines={name: parts_model.learner}), MODEL, "name a baseline in lower case", "seasonal_naive")


def test_a_model_has_either_examples_or_labels_with_feature_sets():
    given = {"description": "A model.", "learner": level_model.learner, "split": level_model.split, "metric": level_model.metric}
    labels = Labels("shop.silver.outcomes", entity=("part",), at="day", target="late", settled=timedelta(days=60))
    refused(lambda: model(MODEL, **given), MODEL, "give either examples, or labels with features")
    refused(lambda: model(MODEL, **given, examples=Days(), labels=labels), MODEL, "give either examples, or labels with features")
    refused(lambda: model(MODEL, **given, examples=Days(), features=(features(),)), MODEL, "features are joined to labels", "give labels")


def test_a_model_leaves_named_columns_of_its_feature_sets_out():
    columns = contract("Feature", of=Feature, email=(str, column(nullable=True, personal=True)))
    labels = Labels("shop.silver.outcomes", entity=("part",), at="at", target="late", settled=timedelta(days=60))
    given = {"description": "A model.", "learner": level_model.learner, "split": level_model.split, "metric": level_model.metric}

    def without(*names: str, **options: Any) -> Any:
        return model(MODEL, **given, labels=labels, features=(features(columns=columns),), without=names, **options)

    whole, smaller = without(), without("email")
    assert [name for name in whole.examples.inputs if name not in smaller.examples.inputs] == ["email"]
    assert recipe_of(whole.examples, whole.learner) != recipe_of(smaller.examples, smaller.learner)
    assert "of_email" not in without("of_email", prefixes={FEATURES: "of_"}).examples.inputs
    refused(lambda: without("emial"), "without names emial, which no feature set has. Did you mean email?")
    refused(lambda: without("email", "email"), MODEL, "without names 'email' twice")
    refused(lambda: without(*whole.examples.inputs), "without leaves nothing to learn from")
    refused(lambda: model(MODEL, **given, examples=Days(), without=("email",)), MODEL, "give labels, or leave without out")


def test_predictions_need_their_model_and_features():
    refused(lambda: together(source(), features(), scores()), f"{SCORES} reads {MODEL}, which no product declares")
    refused(lambda: together(source(), parts_model), f"{MODEL} reads {FEATURES}, which no product declares")


# --- what only a run can tell


def _returning(what: Callable[..., Any]) -> Callable[..., Any]:
    def function(rows: pl.LazyFrame) -> Any:
        return what(rows)

    return function


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("returned", "advice"), [(pl.LazyFrame.collect, "call .lazy() on it"), (lambda rows: None, "return the rows")])
def test_a_function_that_returns_no_lazy_frame_is_stopped(tmp_path: Path, kind, returned, advice):
    lakehouse = Lakehouse(str(tmp_path))
    schema = schema_of(KINDS[kind][1])
    row = {
        "part": "a",
        "day": date(2024, 1, 1),
        "number": 1,
        "amount": 1,
        "valid_from": datetime(2024, 1, 1, tzinfo=UTC),
        "is_deleted": False,
    }
    lakehouse.table(SOURCE).create(schema)
    lakehouse.table(SOURCE).append(pl.DataFrame([row]).select(pl.col(name).cast(dtype) for name, dtype in schema.items()))
    with pytest.raises(TypeError, match=rf"{NAME}: its function .* returned a .* instead of a LazyFrame: ") as error:
        Refresh(declared(*KINDS[kind], _returning(returned)), lakehouse, "run").run()
    assert advice in str(error.value)
    assert not lakehouse.table(NAME).exists()
