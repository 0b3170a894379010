"""Law 4: a write touches nothing outside its declared scope, and stops if the scope cannot be determined."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.storage.commit import Commit, Counts
from lakehouse_assets.platform.storage.errors import SchemaMismatch, ScopeError
from lakehouse_assets.platform.storage.merge import merge
from lakehouse_assets.platform.storage.replace import replace
from lakehouse_assets.platform.storage.scopes import Everything, Keys, Partitions
from lakehouse_assets.platform.storage.source import Source
from lakehouse_assets_tests.platform.storage.fresh import examples, files_of, fresh_table, rows_of

AWKWARD = [
    *("it's", 'say "so"', "United Kingdom", " ", "a/b", "../up", "100%", "100%25", "%2F", "a=b", "a\\b", "ü", "日本", "😀"),
    *("e\u0301", "#", "?", "*", "[x]", "{x}", "a:b", "a,b", "a&b+c", "~", "^", "a\nb", "a\tb", "a\x00b", "NULL", "null", ".", ".."),
]
PARTS = {
    "text": (
        pl.String(),
        st.sampled_from(["a", "b", *AWKWARD]) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
    ),
    "number": (pl.Int32(), st.integers(-2, 2) | st.sampled_from([-(2**31), 2**31 - 1])),
    "flag": (pl.Boolean(), st.booleans()),
    "day": (pl.Date(), st.dates()),
}


@st.composite
def replacements(draw):
    """Partition columns, rows before, and steps of a scope with rows inside it."""
    columns = draw(st.lists(st.sampled_from(list(PARTS)), min_size=1, max_size=2, unique=True))
    pools = {name: [None, *draw(st.lists(PARTS[name][1], min_size=1, max_size=3))] for name in columns}
    part = st.tuples(*(st.sampled_from(pools[name]) for name in columns))
    before = draw(st.lists(part, max_size=6))
    scoped = st.lists(st.sampled_from(columns), min_size=1, max_size=2, unique=True)
    steps = []
    for _ in range(draw(st.integers(1, 3))):
        scope = {name: draw(st.lists(st.sampled_from(pools[name]), min_size=1, max_size=2)) for name in draw(scoped)}
        inside = st.tuples(*(st.sampled_from(scope.get(name, pools[name])) for name in columns))
        steps.append((scope, draw(st.lists(inside, max_size=4))))
    return columns, before, steps


@given(replacements())
@examples(10)
def test_rows_in_the_scope_are_replaced_and_all_others_stay(example):
    columns, before, steps = example
    numbers = iter(range(1000))
    schema = {name: PARTS[name][0] for name in columns} | {"value": pl.Int64()}

    def frame(parts):
        return pl.DataFrame([(*part, next(numbers)) for part in parts], schema=schema, orient="row")

    with fresh_table(schema, tuple(columns)) as table:
        rows = frame(before)
        table.append(rows)
        held = rows.rows()
        for scope, parts in steps:
            new = frame(parts)
            written = table.replace(new, scope)
            inside = [row for row in held if all(row[columns.index(name)] in values for name, values in scope.items())]
            assert written.counts == Counts(written=new.height, removed=len(inside))
            held = [row for row in held if row not in inside] + new.rows()
            assert rows_of(table) == sorted(held, key=repr)
            came = table.changes(written.version - 1, written.version).collect()
            assert sorted(came.rows(), key=repr) == sorted(new.rows(), key=repr)


@pytest.mark.parametrize(
    ("scope", "kept"),
    [(Everything(), []), (Partitions("number", [1, 2, 3, 4]), [("d", 9)]), (Keys(pl.DataFrame({"number": [1, 2, 3, 4]})), [("d", 9)])],
    ids=["everything", "some numbers", "keys"],
)
def test_a_row_that_moves_to_another_partition_is_there_once(table, scope, kept):
    table.create({"part": pl.String(), "number": pl.Int64()}, ("part",))
    table.append(pl.DataFrame({"part": ["a", "b", "b", "d"], "number": [1, 2, 3, 9]}))
    rows = pl.DataFrame({"part": ["c", "b", "c"], "number": [1, 2, 4]})
    found = replace(table, rows, scope, ["number"], Commit())
    assert found.counts == Counts(written=1, updated=1, duplicates=1, removed=1 if kept else 2)
    assert rows_of(table) == sorted([*rows.rows(), *kept])


@pytest.mark.parametrize("value", ["it's", 'say "so"', "United Kingdom", "a/b", "100%25", "a=b", "日本", "a\\b", "[x]*?", "NULL"])
def test_an_awkward_partition_value_goes_all_the_way(lakehouse, value):
    table = lakehouse.table("shop.silver.things")
    table.create({"part": pl.String(), "value": pl.Int64()}, ("part",))
    table.append(pl.DataFrame({"part": [value, "other"], "value": [1, 9]}))
    assert table.changes(0, 1).collect().sort("value").rows() == [(value, 1), ("other", 9)]
    table.replace(pl.DataFrame({"part": [value], "value": [2]}), {"part": [value]})
    assert table.changes(1, 2).collect().rows() == [(value, 2)]
    merge(table, pl.DataFrame({"part": [value, value + "x"], "value": [3, 4]}), ["part"])
    assert sorted(table.changes(2, 3).collect().rows()) == sorted([(value, 3), (value + "x", 4)])
    assert Source(table, 1, 2).touched(("part",)).rows() == [(value,)]
    assert rows_of(table) == sorted([(value, 3), (value + "x", 4), ("other", 9)], key=repr)
    assert table.scan().filter(pl.col("part") == value).collect().rows() == [(value, 3)]
    table.replace(table.scan().collect().clear(), {"part": [value]})
    assert rows_of(table) == sorted([(value + "x", 4), ("other", 9)], key=repr)


@pytest.mark.parametrize("value", ["", "__HIVE_DEFAULT_PARTITION__", "x" * 300, "ß" * 50])
def test_a_partition_value_that_no_folder_can_carry_is_refused(table, value):
    table.create({"part": pl.String(), "value": pl.Int64()}, ("part",))
    frame = pl.DataFrame({"part": ["fine", value], "value": [1, 2]})
    for write in (
        lambda: table.append(frame),
        lambda: table.replace(frame, None),
        lambda: table.replace(frame, {"part": ["fine", value]}),
        lambda: merge(table, frame, ["part"]),
    ):
        with pytest.raises(ScopeError, match=r"shop\.silver\.things: partition column 'part'"):
            write()
    assert table.version() == 0
    assert not files_of(table)


@pytest.fixture
def things(table):
    table.create({"country": pl.String(), "day": pl.Date(), "value": pl.Int64()}, ("country", "day"))
    table.append(
        pl.DataFrame(
            {"country": ["de", "de", "fr", None], "day": [date(2011, 7, 1), date(2011, 7, 2), date(2011, 7, 1), None], "value": range(4)}
        )
    )
    return table


EMPTY = pl.DataFrame(schema={"country": pl.String, "day": pl.Date, "value": pl.Int64})


def test_an_empty_frame_empties_exactly_the_scope(things):
    assert things.replace(EMPTY, {"country": ["de"], "day": [date(2011, 7, 1)]}).counts == Counts(removed=1)
    assert sorted(things.scan().collect()["value"]) == [1, 2, 3]
    assert things.replace(EMPTY, {"country": [None, "it"]}).counts == Counts(removed=1)
    assert sorted(things.scan().collect()["value"]) == [1, 2]


def test_without_a_scope_all_rows_are_replaced(things):
    row = pl.DataFrame({"country": ["es"], "day": [date(2011, 7, 3)], "value": [7]})
    assert things.replace(row, None).counts == Counts(written=1, removed=4)
    assert rows_of(things) == row.rows()
    assert things.replace(EMPTY, None).counts == Counts(removed=1)
    assert rows_of(things) == []


def test_a_row_outside_the_scope_is_refused(things):
    before = rows_of(things)
    frame = pl.DataFrame({"country": ["de", "fr"], "day": [date(2011, 7, 1)] * 2, "value": [1, 2]})
    with pytest.raises(ScopeError, match=r"1 rows lie outside the scope .* 'fr'"):
        things.replace(frame, {"country": ["de"]})
    with pytest.raises(ScopeError, match="1 rows lie outside the scope"):
        things.replace(frame.with_columns(country=pl.lit(None, pl.String)).head(1), {"country": ["de"]})
    assert rows_of(things) == before
    assert things.version() == 1


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ({"value": [1]}, "not partitioned by value"),
        ({"country": ["de"], "price": [1]}, "not partitioned by price"),
        ({}, "at least one column"),
        ({"country": []}, "names no value of 'country'"),
        ({"day": ["2011-07-01"]}, "has '2011-07-01' for 'day'"),
        ({"country": [1]}, "has 1 for 'country'"),
    ],
    ids=str,
)
def test_a_scope_that_cannot_be_worked_out_stops_the_write(things, scope, said):
    before = rows_of(things)
    with pytest.raises(ScopeError, match=said):
        things.replace(EMPTY, scope)
    assert rows_of(things) == before
    assert things.version() == 1


def test_a_frame_without_the_scopes_column_does_not_fit(things):
    with pytest.raises(SchemaMismatch, match="missing: country"):
        things.replace(EMPTY.drop("country"), {"country": ["de"]})


def test_rows_that_come_while_all_are_replaced_are_replaced_too(things):
    late = pl.DataFrame({"country": ["it"], "day": [date(2011, 7, 3)], "value": [9]})
    came = []

    def another_writer(counts):
        """Called between the reading and the commit."""
        if not came:
            came.append(things.append(late))
        return {}

    assert things.replace(EMPTY, None, Commit(info=another_writer)).counts == Counts(removed=5)
    assert rows_of(things) == []
