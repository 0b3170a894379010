"""The one place that says which column types a table can hold and how a frame's types become them.

A type is kept, mapped without loss (`Categorical` to `String`, `Int32` into an `Int64` column) or refused with the column's name. Rules
about values do not belong here: they are the contract's.
"""

from collections.abc import Mapping

import polars as pl
from deltalake import Schema
from polars.datatypes import DataTypeClass

from lakehouse_assets.platform.storage.errors import SchemaMismatch, TypeNotStorable

TIMESTAMP = pl.Datetime("us", "UTC")

_KEPT = (pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Float32, pl.Float64, pl.String, pl.Binary, pl.Date)
# Delta has no unsigned integers: each goes into the next larger signed one.
_MAPPED: Mapping[DataTypeClass, pl.DataType] = {
    pl.UInt8: pl.Int16(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.Categorical: pl.String(),
    pl.Enum: pl.String(),
}
# What a column of the key's type may be given besides its own type, since it has every value of these.
_HOLDS: Mapping[DataTypeClass, tuple[DataTypeClass, ...]] = {
    pl.Int16: (pl.Int8, pl.UInt8),
    pl.Int32: (pl.Int8, pl.Int16, pl.UInt8, pl.UInt16),
    pl.Int64: (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32),
    pl.Float64: (pl.Float32, pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32),
    pl.String: (pl.Categorical, pl.Enum),
}
_PARTITION_TYPES = (pl.String, pl.Date, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Boolean)


def stored_type(name: str, dtype: pl.DataType) -> pl.DataType:
    """The type under which a column is stored.

    A timestamp is stored in UTC with microseconds; a naive one is read as UTC, so that tables stay on the protocol that every reader knows.

    Raises:
        TypeNotStorable: No type of Delta holds every value of this one for every reader.
    """
    base = dtype.base_type()
    if base in _KEPT or base == pl.Decimal:
        return dtype
    if base in _MAPPED:
        return _MAPPED[base]
    if isinstance(dtype, pl.Datetime) and dtype.time_unit != "ns":
        return TIMESTAMP
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(stored_type(f"{name}[]", _instance(dtype.inner)))
    if isinstance(dtype, pl.Struct) and dtype.fields:
        return pl.Struct({f.name: stored_type(f"{name}.{f.name}", _instance(f.dtype)) for f in dtype.fields})
    raise TypeNotStorable(f"column {name!r} has type {dtype}, which no table can hold: {_advice(dtype)}")


def _advice(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime):
        return "cut the nanoseconds off with `.dt.cast_time_unit('us')`"
    if isinstance(dtype, pl.Null):
        return "it has nulls alone, so say which type it has with `.cast(…)`"
    return "cast it to a type that Delta has"


def _instance(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype


def stored_schema(schema: Mapping[str, pl.DataType | DataTypeClass]) -> pl.Schema:
    """The schema under which columns of these types are stored.

    Raises:
        TypeNotStorable: As `stored_type`.
    """
    return pl.Schema({name: stored_type(name, _instance(dtype)) for name, dtype in schema.items()})


def delta_schema(schema: Mapping[str, pl.DataType]) -> Schema:
    """A stored schema in Delta's terms."""
    return Schema.from_arrow(pl.DataFrame(schema=schema).to_arrow().schema)


def check_partition_columns(schema: Mapping[str, pl.DataType], partition_by: tuple[str, ...]) -> None:
    """Refuse partition columns whose values do not survive as a folder's name.

    Raises:
        TypeNotStorable: A column is missing, or its type is not string, date, integer or boolean. A timestamp has too many values, and
            delta-rs writes the change data of such a table to a place where it cannot find it again.
    """
    for name in partition_by:
        if name not in schema:
            raise TypeNotStorable(f"partition column {name!r} is not a column of the table: {', '.join(schema)}")
        if schema[name].base_type() not in _PARTITION_TYPES:
            raise TypeNotStorable(
                f"partition column {name!r} has type {schema[name]}: partition by a string, date, integer or boolean column"
            )


def fit(frame: pl.DataFrame, schema: Mapping[str, pl.DataType], table: str) -> pl.DataFrame:
    """The frame with exactly the columns, order and types of `schema`; delta-rs alone would cast in silence.

    Raises:
        SchemaMismatch: Columns are missing or unknown, or the table's type does not have every value of the frame's.
    """
    missing = [name for name in schema if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in schema]
    problems = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(unknown)}"] * bool(unknown)
    casts = []
    for name, wanted in schema.items():
        found = frame.schema.get(name, wanted)
        if found == wanted:
            continue
        if holds(wanted, found):
            casts.append(pl.col(name).cast(wanted, strict=True))
        else:
            problems.append(f"{name!r} is {found}, the table has {wanted}")
    if problems:
        raise SchemaMismatch(f"{table}: the frame does not fit the table ({'; '.join(problems)}): give it the table's columns and types")
    fitted = frame.with_columns(casts) if casts else frame
    # To select columns copies them where they lie in several chunks.
    return fitted if fitted.columns == list(schema) else fitted.select(list(schema))


def holds(wanted: pl.DataType, found: pl.DataType) -> bool:
    """Whether `wanted` has every value of `found`. A naive timestamp is read as UTC."""
    if found == wanted or isinstance(found, pl.Null):
        return True
    if isinstance(wanted, pl.Datetime):
        return isinstance(found, pl.Datetime) and found.time_unit != "ns"
    if isinstance(wanted, pl.Decimal):
        return isinstance(found, pl.Decimal) and _digits(wanted) >= _digits(found) and wanted.scale >= found.scale
    if isinstance(wanted, pl.List):
        return isinstance(found, pl.List | pl.Array) and holds(_instance(wanted.inner), _instance(found.inner))
    if isinstance(wanted, pl.Struct):
        return isinstance(found, pl.Struct) and _fields_hold(wanted, found)
    return found.base_type() in _HOLDS.get(wanted.base_type(), ())


def _digits(dtype: pl.Decimal) -> int:
    """How many digits stand before the point."""
    return dtype.precision - dtype.scale


def _fields_hold(wanted: pl.Struct, found: pl.Struct) -> bool:
    return [field.name for field in wanted.fields] == [field.name for field in found.fields] and all(
        holds(_instance(a.dtype), _instance(b.dtype)) for a, b in zip(wanted.fields, found.fields, strict=True)
    )
