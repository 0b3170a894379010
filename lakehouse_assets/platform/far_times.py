"""Moments and days outside of the years 1 to 9999: Polars and Delta hold them, Python's `datetime` does not.

Readers of texts take them for no values (`within_years`). A table may have them all the same, from a function or a typed file: what hands
rows to Python shows them as text (`as_python_holds`).
"""

import polars as pl

_DAYS = (-719_162, 2_932_896)  # since 1970: 0001-01-01 and 9999-12-31
_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
# What Polars can write as a date: about the years -262000 to 262000. It panics of anything beyond.
_MOST_DAYS = 95_000_000


def is_within(values: pl.Series) -> pl.Series:
    """Whether each moment or day is in the years 1 to 9999, null for null; a moment is taken in UTC."""
    first, last = _bounds(values.dtype)
    return values.to_physical().is_between(first, last)


def within_years(values: pl.Series) -> pl.Series:
    """Moments or days, null for those outside of the years 1 to 9999."""
    if _all_within(values):
        return values
    return values.zip_with(is_within(values).fill_null(value=False), values.clear(values.len()))


def as_python_holds(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows as they can become Python values: columns that have a moment or a day outside of the years 1 to 9999 are texts."""
    if not any(_may_be_far(dtype) for dtype in rows.schema.values()):
        return rows
    return rows.with_columns(_as_python(rows[name]).alias(name) for name, dtype in rows.schema.items() if _may_be_far(dtype))


def _as_python(values: pl.Series) -> pl.Series:
    dtype = values.dtype
    if isinstance(dtype, pl.Struct):
        fields = as_python_holds(values.struct.unnest()).to_struct(values.name)
        return fields.zip_with(values.is_not_null(), fields.clear(fields.len())) if values.null_count() else fields
    if isinstance(dtype, pl.Array):
        return _as_python(values.arr.to_list())
    if isinstance(dtype, pl.List):
        lists = values.to_frame("list").with_row_index("at")
        items = lists.filter(pl.col("list").list.len() > 0).explode("list")
        held = items.with_columns(_as_python(items["list"])).group_by("at", maintain_order=True).agg("list")
        empty = held.schema["list"]
        joined = lists.select("at", is_empty=pl.col("list").list.len() == 0).join(held, on="at", how="left", maintain_order="left")
        return joined.select(pl.when("is_empty").then(pl.lit([], dtype=empty)).otherwise("list")).to_series().alias(values.name)
    return values if _all_within(values) else _texts(values)


def _texts(values: pl.Series) -> pl.Series:
    """As Polars writes them; what it cannot write as a date is a count since 1970."""
    per_day, physical = _per_day(values.dtype), values.to_physical()
    has_text = physical.is_between(-_MOST_DAYS * per_day, _MOST_DAYS * per_day).fill_null(value=True)
    unit = getattr(values.dtype, "time_unit", "days")
    counted = physical.cast(pl.String) + f" {unit} since 1970"
    return values.zip_with(has_text, values.clear(values.len())).cast(pl.String).zip_with(has_text, counted)


def _all_within(values: pl.Series) -> bool:
    return bool(is_within(values).all())


def _may_be_far(dtype: pl.DataType) -> bool:
    """Whether values of a type may be out of the years; nanoseconds reach from 1677 to 2262."""
    if isinstance(dtype, pl.Struct):
        return any(_may_be_far(field.dtype) for field in dtype.fields)  # type: ignore[arg-type]
    if isinstance(dtype, pl.List | pl.Array):
        return _may_be_far(dtype.inner)  # type: ignore[arg-type]
    return dtype == pl.Date or (isinstance(dtype, pl.Datetime) and dtype.time_unit != "ns")


def _per_day(dtype: pl.DataType) -> int:
    return _PER_DAY[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1


def _bounds(dtype: pl.DataType) -> tuple[int, int]:
    """The first and the last count that Python holds."""
    per_day = _per_day(dtype)
    return _DAYS[0] * per_day, (_DAYS[1] + 1) * per_day - 1
