"""The one place that says which column types a table can hold and how a frame's types become them.

A type is kept, mapped without loss (`Categorical` to `String`, `Int32` into an `Int64` column) or refused with the column's name. Rules about values
do not belong here: they are the contract's.
"""

from collections.abc import Mapping

import polars as pl
from deltalake import Schema
from polars.datatypes import DataTypeClass

from lakehouse_assets.platform.storage.errors import SchemaMismatch, TypeNotStorable

TIMESTAMP = pl.Datetime("us", "UTC")

# Lossless on every value: what a column of the key's type may be given besides its own type.
_WIDENS_FROM: Mapping[DataTypeClass, tuple[DataTypeClass, ...]] = {
    pl.Int16: (pl.Int8,),
    pl.Int32: (pl.Int8, pl.Int16),
    pl.Int64: (pl.Int8, pl.Int16, pl.Int32),
    pl.Float64: (pl.Float32, pl.Int8, pl.Int16, pl.Int32),
}
# Delta has no unsigned integers: each goes into the next larger signed one.
_UNSIGNED: Mapping[DataTypeClass, pl.DataType] = {pl.UInt8: pl.Int16(), pl.UInt16: pl.Int32(), pl.UInt32: pl.Int64()}
_KEPT = (pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Float32, pl.Float64, pl.String, pl.Binary, pl.Date)
_PARTITION_TYPES = (pl.String, pl.Date, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Boolean)


def stored_type(name: str, dtype: pl.DataType) -> pl.DataType:
    """The type under which a column is stored.

    A timestamp is stored in UTC with microseconds; a naive one is read as UTC, so that tables stay on the protocol that every reader knows.

    Raises:
        TypeNotStorable: No type of Delta holds every value of this one for every reader.
    """
    base = dtype.base_type()
    if base in _KEPT:
        return dtype
    if base in _UNSIGNED:
        return _UNSIGNED[base]
    if base in (pl.Categorical, pl.Enum):
        return pl.String()
    if isinstance(dtype, pl.Datetime):
        if dtype.time_unit == "ns":
            raise TypeNotStorable(f"column {name!r} has nanoseconds, which a table would cut off: say so with `.dt.cast_time_unit('us')`")
        return TIMESTAMP
    if isinstance(dtype, pl.Decimal):
        return dtype
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(stored_type(f"{name}[]", _instance(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({f.name: stored_type(f"{name}.{f.name}", _instance(f.dtype)) for f in dtype.fields})
    raise TypeNotStorable(f"column {name!r} has type {dtype}, which no table can hold: cast it to a type that Delta has")


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
        TypeNotStorable: A column is missing, or its type is not string, date, integer or boolean. delta-rs writes the change data of
            a table partitioned by timestamps to a place where it cannot find it again.
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
        SchemaMismatch: Columns are missing or unknown, or a type is neither equal nor widened without loss.
    """
    missing = [name for name in schema if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in schema]
    problems = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(unknown)}"] * bool(unknown)
    casts = []
    for name, wanted in schema.items():
        if name in missing:
            continue
        found = frame.schema[name]
        if found == wanted:
            continue
        stored = stored_type(name, found)
        if stored == wanted or stored.base_type() in _WIDENS_FROM.get(wanted.base_type(), ()):
            casts.append(_cast(name, found, wanted))
        else:
            problems.append(f"{name!r} is {found}, the table has {wanted}")
    if problems:
        raise SchemaMismatch(f"{table}: the frame does not fit the table ({'; '.join(problems)})")
    return frame.with_columns(casts).select(list(schema))


def _cast(name: str, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(found, pl.Datetime) and found.time_zone is None:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return column.cast(wanted, strict=True)
