"""Types are kept, mapped without loss or refused by the column's name; nothing is cast in silence."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal, assert_series_equal

from lakehouse_assets.platform.storage import types
from lakehouse_assets.platform.storage.errors import SchemaMismatch, TypeNotStorable
from lakehouse_assets_tests.platform.storage.fresh import examples

NOON = datetime(2011, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)

# Type of a column, values, and the type and values that are read back if they are not the same.
STORABLE = {
    "boolean": (pl.Boolean(), [True, False, None]),
    "int8": (pl.Int8(), [-128, 127, None]),
    "int16": (pl.Int16(), [-(2**15), 2**15 - 1, None]),
    "int32": (pl.Int32(), [-(2**31), 2**31 - 1, None]),
    "int64": (pl.Int64(), [-(2**63), 2**63 - 1, None]),
    "float32": (pl.Float32(), [1.5, float("-inf"), None]),
    "float64": (pl.Float64(), [0.1, float("nan"), None]),
    "string": (pl.String(), ["", "a\x00b 'quoted' \"日本\"", None]),
    "binary": (pl.Binary(), [b"", b"\x00\xff", None]),
    "date": (pl.Date(), [date(1, 1, 1), date(9999, 12, 31), None]),
    "timestamp": (types.TIMESTAMP, [NOON, datetime(1900, 1, 1, tzinfo=UTC), None]),
    "decimal": (pl.Decimal(38, 10), [Decimal("1234567890123456789012345678.0123456789"), Decimal("-0.0000000001"), None]),
    "list": (pl.List(pl.Int64), [[1, None], [], None]),
    "struct": (pl.Struct({"a": pl.Int64, "b": pl.List(pl.String)}), [{"a": 1, "b": ["x", None]}, {"a": None, "b": []}, None]),
}
MAPPED = {
    "uint8": (pl.UInt8(), [0, 255], pl.Int16(), [0, 255]),
    "uint16": (pl.UInt16(), [0, 65535], pl.Int32(), [0, 65535]),
    "uint32": (pl.UInt32(), [0, 2**32 - 1], pl.Int64(), [0, 2**32 - 1]),
    "categorical": (pl.Categorical(), ["b", None], pl.String(), ["b", None]),
    "enum": (pl.Enum(["a", "b"]), ["b", None], pl.String(), ["b", None]),
    "array": (pl.Array(pl.Int64, 2), [[1, 2], None], pl.List(pl.Int64()), [[1, 2], None]),
    "matrix": (pl.Array(pl.UInt8, (1, 2)), [[[1, 2]], None], pl.List(pl.List(pl.Int16())), [[[1, 2]], None]),
    "naive": (pl.Datetime("us"), [NOON.replace(tzinfo=None)], types.TIMESTAMP, [NOON]),
    "milliseconds": (pl.Datetime("ms", "UTC"), [NOON.replace(microsecond=7000)], types.TIMESTAMP, [NOON.replace(microsecond=7000)]),
    "other zone": (pl.Datetime("us", "Asia/Tokyo"), [NOON.astimezone(ZoneInfo("Asia/Tokyo"))], types.TIMESTAMP, [NOON]),
    "nested": (pl.List(pl.Struct({"c": pl.Categorical})), [[{"c": "x"}]], pl.List(pl.Struct({"c": pl.String()})), [[{"c": "x"}]]),
    "naive in a list": (
        pl.List(pl.Datetime("ms")),
        [[NOON.replace(tzinfo=None, microsecond=7000)]],
        pl.List(types.TIMESTAMP),
        [[NOON.replace(microsecond=7000)]],
    ),
}
REFUSED = {
    "uint64": pl.UInt64(),
    "int128": pl.Int128(),
    "uint128": pl.UInt128(),
    "float16": pl.Float16(),
    "time": pl.Time(),
    "duration": pl.Duration("us"),
    "nanoseconds": pl.Datetime("ns", "UTC"),
    "null": pl.Null(),
    "object": pl.Object(),
    "empty struct": pl.Struct({}),
    "list of uint64": pl.List(pl.UInt64),
    "struct with a time": pl.Struct({"fine": pl.Int64, "wrong": pl.Time}),
}


@pytest.mark.parametrize("name", STORABLE)
def test_a_type_is_read_back_as_it_was_written(table, name):
    dtype, values = STORABLE[name]
    frame = pl.DataFrame({name: pl.Series(values, dtype=dtype)})
    table.create(frame.schema)
    table.append(frame)
    assert table.schema() == frame.schema
    assert_frame_equal(table.scan().collect(), frame)


@pytest.mark.parametrize("name", MAPPED)
def test_a_type_that_delta_lacks_is_mapped_without_loss(table, name):
    dtype, values, stored, wanted = MAPPED[name]
    table.create({name: dtype})
    table.append(pl.DataFrame({name: pl.Series(values, dtype=dtype)}))
    assert_frame_equal(table.scan().collect(), pl.DataFrame({name: pl.Series(wanted, dtype=stored)}))


@pytest.mark.parametrize("name", REFUSED)
def test_a_type_that_no_table_can_hold_is_refused_by_the_columns_name(table, name):
    with pytest.raises(TypeNotStorable, match="wrong_column"):
        table.create({"right": pl.Int64(), "wrong_column": REFUSED[name]})
    assert not table.exists()


def test_every_type_of_polars_is_decided():
    scalars = {dtype.base_type() for dtype, *_ in [*STORABLE.values(), *MAPPED.values()]}
    decided = scalars | {dtype.base_type() for dtype in REFUSED.values()}
    all_types = {getattr(pl, name) for name in pl.datatypes.__all__ if isinstance(getattr(pl, name, None), pl.datatypes.DataTypeClass)}
    assert {dtype.__name__ for dtype in all_types - decided} <= {
        # not types of a column of their own, or not known to Delta under any name
        *("DataType", "BaseExtension", "Extension", "Field", "Map", "Unknown", "Utf8"),
    }
    for dtype in (pl.Unknown(), pl.Map(pl.String, pl.Int64)):
        with pytest.raises(TypeNotStorable, match="column"):
            types.stored_type("column", dtype)


# Values of a type that another one lacks: given to a table, they would have to change.
MISFITS = [
    (pl.Float64(), 1.9, pl.Int64()),
    (pl.Float64(), 1.0, pl.Int64()),
    (pl.String(), "7", pl.Int64()),
    (pl.Int64(), 7, pl.String()),
    (pl.Int64(), 7, pl.Int32()),
    (pl.Int64(), 2**53 + 1, pl.Float64()),
    (pl.Int32(), 2**24 + 1, pl.Float32()),
    (pl.Float64(), 0.1, pl.Float32()),
    (pl.UInt64(), 7, pl.Int64()),
    (pl.Boolean(), True, pl.Int64()),
    (pl.Int64(), 1, pl.Boolean()),
    (pl.Date(), date(2011, 7, 1), types.TIMESTAMP),
    (types.TIMESTAMP, NOON, pl.Date()),
    (pl.Datetime("ns", "UTC"), NOON, types.TIMESTAMP),
    (pl.String(), "2011-07-01", pl.Date()),
    (pl.Binary(), b"x", pl.String()),
    (pl.Decimal(10, 3), Decimal("1.234"), pl.Decimal(10, 2)),
    (pl.Decimal(10, 2), Decimal("12345678.90"), pl.Decimal(10, 3)),
    (pl.Float64(), 0.1, pl.Decimal(10, 2)),
    (pl.List(pl.Float64), [1.9], pl.List(pl.Int64)),
    (pl.Int64(), 1, pl.List(pl.Int64)),
    (pl.Struct({"b": pl.Int64, "a": pl.Int64}), {"b": 1, "a": 2}, pl.Struct({"a": pl.Int64, "b": pl.Int64})),
    (pl.Struct({"a": pl.Float64}), {"a": 1.9}, pl.Struct({"a": pl.Int64})),
]


# Every pair of the types above that a table takes although they differ: by the table's type, those of the frames. All others are refused.
WIDENED = {
    "int16": {"int8", "uint8"},
    "int32": {"int8", "int16", "uint8", "uint16"},
    "int64": {"int8", "int16", "int32", "uint8", "uint16", "uint32"},
    "float64": {"float32", "int8", "int16", "int32", "uint8", "uint16", "uint32"},
    "string": {"categorical", "enum"},
    "timestamp": {"naive", "milliseconds", "other zone"},
    "list": {"list of int8", "list of uint8", "list of int16"},
    "struct": {"struct of int8"},
    "decimal": {"decimal of fewer digits"},
    "decimal of more after the point": {"decimal of fewer digits"},
    "list of int16": {"list of int8", "list of uint8"},
}
# The same as the key's type once they are stored.
SAME_STORED = {
    "uint8": "int16",
    "uint16": "int32",
    "uint32": "int64",
    "categorical": "string",
    "enum": "string",
    "array": "list",
    "naive": "timestamp",
    "milliseconds": "timestamp",
    "other zone": "timestamp",
    "list of uint8": "list of int16",
    "list of uint32": "list",
}
MORE = {
    "list of int8": (pl.List(pl.Int8), [[-128, 127, None], None]),
    "list of uint8": (pl.List(pl.UInt8), [[0, 255], None]),
    "list of int16": (pl.List(pl.Int16), [[-(2**15), 2**15 - 1], None]),
    "list of uint32": (pl.List(pl.UInt32), [[0, 2**32 - 1], None]),
    "struct of int8": (pl.Struct({"a": pl.Int8, "b": pl.List(pl.Categorical)}), [{"a": -128, "b": ["x"]}, None]),
    "struct of other names": (pl.Struct({"a": pl.Int64, "c": pl.List(pl.String)}), [{"a": 1, "c": ["x"]}]),
    "struct in another order": (pl.Struct({"b": pl.List(pl.String), "a": pl.Int64}), [{"b": ["x"], "a": 1}]),
    "decimal of fewer digits": (pl.Decimal(20, 4), [Decimal("-9999999999999999.9999"), None]),
    "decimal of more after the point": (pl.Decimal(38, 20), [Decimal("0.00000000000000000001")]),
}
NO_COLUMN_OF_A_TABLE = {
    "nulls alone": (pl.Null(), [None, None]),
    "unsigned 64 bits": (pl.UInt64(), [0, 2**64 - 1]),
    "128 bits": (pl.Int128(), [-(2**127), 2**127 - 1]),
    "unsigned 128 bits": (pl.UInt128(), [0, 2**64]),
    "half a float": (pl.Float16(), [0.5]),
    "time of day": (pl.Time(), [time(0), time(23, 59, 59, 999999)]),
    "span of time": (pl.Duration("us"), [timedelta(days=1)]),
    "nanosecond timestamps": (pl.Datetime("ns", "UTC"), [NOON]),
    "nanosecond naive": (pl.Datetime("ns"), [NOON.replace(tzinfo=None)]),
}
TABLES = {name: (dtype, values) for name, (dtype, values, *_) in (STORABLE | MAPPED).items()} | MORE
ALL_TYPES = TABLES | NO_COLUMN_OF_A_TABLE


def takes(wanted: str, found: str) -> bool:
    """Whether a table with a column made for one type takes frames of another."""
    stored = SAME_STORED.get(wanted, wanted)
    held = SAME_STORED.get(found, found)
    if found == "nulls alone":
        return True
    return found == wanted or held == stored or found in WIDENED.get(stored, set()) or held in WIDENED.get(stored, set())


@pytest.mark.parametrize("wanted", TABLES)
def test_each_pair_of_types_is_equal_widened_without_loss_or_refused_by_the_columns_name(table, wanted):
    table.create({"found": pl.String(), "value": ALL_TYPES[wanted][0]})
    fitted = []
    for found, (dtype, values) in ALL_TYPES.items():
        frame = pl.DataFrame({"found": [found] * len(values), "value": pl.Series(values, dtype=dtype)})
        if takes(wanted, found):
            fitted.append(types.fit(frame, table.schema(), table.name))
        else:
            with pytest.raises(SchemaMismatch, match="'value'"):
                types.fit(frame, table.schema(), table.name)
    with pytest.raises(SchemaMismatch, match="'value'"):
        table.append(frame)  # the last type is one that no table takes
    assert table.version() == 0

    table.append(pl.concat(fitted))
    back = table.scan().collect()
    assert set(back["found"]) == {found for found in ALL_TYPES if takes(wanted, found)}
    for (found,), rows in back.group_by("found", maintain_order=True):
        assert_same_values(rows["value"], found)


def assert_same_values(back: pl.Series, found: str) -> None:
    """The type that it was stored as can have the values again, and they are the ones that were given, moments in UTC."""
    dtype, values = ALL_TYPES[found]
    if found == "nulls alone":
        assert back.null_count() == len(values)
        return
    given = pl.Series("value", values, dtype=dtype).cast(types.stored_type("value", dtype))
    assert_series_equal(back.cast(given.dtype), given, check_exact=True)
    assert_series_equal(given.cast(back.dtype), back, check_exact=True)


@pytest.mark.parametrize(("found", "value", "wanted"), MISFITS, ids=str)
def test_nothing_is_cast_in_silence(found, value, wanted):
    frame = pl.DataFrame({"amount": pl.Series([value], dtype=found)})
    with pytest.raises(SchemaMismatch, match=r"^shop: .*'amount'"):
        types.fit(frame, {"amount": wanted}, "shop")


@pytest.mark.parametrize("write", ["append", "replace"])
def test_a_frame_that_does_not_fit_leaves_the_table_as_it_was(table, write):
    table.create({"id": pl.Int64(), "amount": pl.Int64()})
    frame = pl.DataFrame({"amount": [1.9], "price": ["7"]})
    with pytest.raises(SchemaMismatch) as refused:
        table.append(frame) if write == "append" else table.replace(frame, None)
    assert table.version() == 0
    for part in ("shop.silver.things", "missing: id", "unknown: price", "'amount' is Float64, the table has Int64"):
        assert part in str(refused.value)


INTEGERS = {pl.Int8: (-(2**7), 2**7 - 1), pl.Int16: (-(2**15), 2**15 - 1), pl.Int32: (-(2**31), 2**31 - 1), pl.Int64: (-(2**63), 2**63 - 1)}
UNSIGNED = {pl.UInt8: (0, 2**8 - 1), pl.UInt16: (0, 2**16 - 1), pl.UInt32: (0, 2**32 - 1), pl.UInt64: (0, 2**64 - 1)}
NUMBERS = INTEGERS | UNSIGNED | {pl.Float32: None, pl.Float64: None}


@st.composite
def columns_of_numbers(draw):
    dtype = draw(st.sampled_from(list(NUMBERS)))
    limits = NUMBERS[dtype]
    value = st.integers(*limits) if limits else st.floats(width=32 if dtype == pl.Float32 else 64)
    return pl.Series("n", draw(st.lists(st.none() | value, min_size=1, max_size=4)), dtype=dtype)


@given(column=columns_of_numbers(), wanted=st.sampled_from([*INTEGERS, pl.Float32, pl.Float64]))
@examples(100)
def test_numbers_are_widened_without_loss_or_refused(column, wanted):
    try:
        fitted = types.fit(pl.DataFrame(column), {"n": wanted()}, "shop")["n"]
    except SchemaMismatch:
        return
    assert fitted.dtype == wanted
    assert repr(fitted.cast(column.dtype).to_list()) == repr(column.to_list())
    if wanted in INTEGERS:
        assert fitted.to_list() == column.to_list()


def test_what_fits_is_widened():
    wanted = {
        "int": pl.Int64(),
        "float": pl.Float64(),
        "text": pl.String(),
        "when": types.TIMESTAMP,
        "price": pl.Decimal(12, 4),
        "tags": pl.List(pl.String()),
        "nothing": pl.Int64(),
        "no items": pl.List(pl.Struct({"a": pl.Int64()})),
    }
    frame = pl.DataFrame(
        {
            "text": pl.Series(["a"], dtype=pl.Categorical),
            "int": pl.Series([2**32 - 1], dtype=pl.UInt32),
            "float": pl.Series([3], dtype=pl.Int32),
            "when": pl.Series([NOON.replace(tzinfo=None)]),
            "price": pl.Series([Decimal("99999999.25")], dtype=pl.Decimal(10, 2)),
            "tags": pl.Series([["x"]], dtype=pl.Array(pl.Categorical, 1)),
            "nothing": [None],
            "no items": [[]],
        }
    )
    fitted = types.fit(frame, wanted, "shop")
    assert fitted.schema == wanted
    assert fitted.row(0) == (2**32 - 1, 3.0, "a", NOON, Decimal("99999999.25"), ["x"], None, [])


@pytest.mark.parametrize("dtype", [pl.Float64(), types.TIMESTAMP, pl.Decimal(10, 2), pl.Binary(), pl.List(pl.String)], ids=str)
def test_a_partition_column_has_a_type_whose_values_name_a_folder(table, dtype):
    with pytest.raises(TypeNotStorable, match="partition column 'part'"):
        table.create({"part": dtype, "value": pl.Int64()}, ("part",))
    assert not table.exists()


def test_a_partition_column_has_to_be_a_column(table):
    with pytest.raises(TypeNotStorable, match=r"'month' is not a column .* day"):
        table.create({"day": pl.Date()}, ("month",))
