"""Random declarations over random histories of their sources, for the law that an incremental table equals a full refresh.

A world has source tables whose rows are known, and declarations of every kind over one to three of them, with and without dimensions. Each
step changes the sources: rows that are new, changed, late or deleted, a restore to an earlier version, a commit that changes nothing.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import strategies as st

from lakehouse_assets.platform.declarations.change_kinds import SCD1, SCD2
from lakehouse_assets.platform.declarations.computed_kinds import ByKey, ByKeyAndTime, ByPartition, Full, Trailing
from lakehouse_assets.platform.declarations.row_kinds import Append, Upsert
from lakehouse_assets.platform.declarations.tables import Dimension, TableDeclaration, table
from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column
from lakehouse_assets.platform.storage.commit import Commit
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.platform.storage.replace import replace
from lakehouse_assets.platform.storage.restore import restore
from lakehouse_assets.platform.storage.scopes import Everything

SOURCES = ("shop.silver.a", "shop.silver.b", "shop.silver.c")
LOOKUP = "shop.silver.lookup"
SCHEMA = pl.Schema({"id": pl.Int64, "part": pl.String, "day": pl.Int64, "code": pl.String, "version": pl.Int64, "amount": pl.Int64})
LOOKUP_SCHEMA = pl.Schema({"code": pl.String, "factor": pl.Int64})

rows = st.fixed_dictionaries(
    {
        "id": st.integers(0, 9),
        "part": st.sampled_from(["jan", "feb", "mar", None]),
        "day": st.none() | st.integers(1, 12),
        "code": st.sampled_from(["x", "y", "z"]),
        "amount": st.integers(-3, 9),
    }
)
lookups = st.dictionaries(st.sampled_from(["x", "y", "z", "nobody"]), st.integers(1, 4), max_size=3)
changes = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "restore", "nothing"]), st.sampled_from(SOURCES), st.lists(rows, max_size=4)), max_size=3
)
steps = st.tuples(changes, st.none() | lookups)


class World:
    """Source tables of one lakehouse."""

    sources = (*SOURCES, LOOKUP)

    def __init__(self, folder: Path) -> None:
        self.lakehouse = Lakehouse(str(folder))
        self.versions = 0
        for name in SOURCES:
            self.lakehouse.table(name).create(SCHEMA)
        self.lakehouse.table(LOOKUP).create(LOOKUP_SCHEMA)

    def apply(self, step: tuple[list[tuple[str, str, list[dict[str, Any]]]], Mapping[str, int] | None]) -> None:
        """Change the sources."""
        for what, name, given in step[0]:
            source = self.lakehouse.table(name)
            if what == "put":
                self._put(name, given)
            elif what == "delete":
                gone = {row["id"] for row in given}
                self._set(name, source.scan().filter(~pl.col("id").is_in(gone)).collect())
            elif what == "restore":
                restore(source, source.version() // 2, "test")
        if step[1] is not None:
            factors = pl.DataFrame({"code": list(step[1]), "factor": list(step[1].values())}, schema=LOOKUP_SCHEMA)
            replace(self.lakehouse.table(LOOKUP), factors, Everything(), ("code",), Commit())

    def _put(self, name: str, given: list[dict[str, Any]]) -> None:
        new = {row["id"]: row for row in given}
        self.versions += 1
        frame = pl.DataFrame([row | {"version": self.versions} for row in new.values()], schema=SCHEMA)
        source = self.lakehouse.table(name)
        existing = source.scan().collect()
        if frame.join(existing, on="id", how="semi").height:
            self._set(name, pl.concat([existing.join(frame, on="id", how="anti"), frame]))
        else:
            source.append(frame)

    def _set(self, name: str, frame: pl.DataFrame) -> None:
        replace(self.lakehouse.table(name), frame, Everything(), ("id",), Commit())


# --- declarations of every kind


class Rows(Contract):
    id: int = column()
    part: str = column(nullable=True)
    amount: int = column(ge=0)


class Keyed(Contract):
    part: str = column(key=True)
    version: int = column()
    amount: int = column(ge=0)


class Latest(Contract):
    part: str = column(key=True)
    version: int = column()
    valid_from: Timestamp = column()
    is_deleted: bool = column()
    amount: int = column(ge=0)


class History(Contract):
    part: str = column(key=True)
    version: int = column(key=True)
    valid_from: Timestamp = column()
    is_deleted: bool = column()
    amount: int = column(ge=0)


class Parts(Contract):
    part: str = column(key=True)
    code: str = column(key=True)
    amount: int = column(ge=0)
    other: int = column()


class Days(Contract):
    day: int = column(key=True)
    amount: int = column(ge=-2)
    trailing: int = column()


class PartDays(Contract):
    part: str = column(key=True)
    day: int = column(key=True)
    amount: int = column(ge=-2)
    trailing: int = column()


def events(frame: pl.LazyFrame) -> pl.LazyFrame:
    moment = pl.lit(datetime(2026, 1, 1, tzinfo=UTC)).dt.cast_time_unit("us") + pl.duration(days="day")
    return frame.select("part", "version", "amount", valid_from=moment, is_deleted=pl.col("code") == "z")


def looked_up(frame: pl.LazyFrame, lookup: pl.LazyFrame | None) -> pl.LazyFrame:
    if lookup is None:
        return frame
    return frame.join(lookup, on="code", how="left").with_columns(amount=pl.col("amount") * pl.col("factor").fill_null(1)).drop("factor")


def _sum(frames: list[pl.LazyFrame], lookup: pl.LazyFrame | None, by: list[str]) -> pl.LazyFrame:
    named = [looked_up(frame, lookup).with_columns(first=pl.lit(number == 0)) for number, frame in enumerate(frames)]
    return pl.concat(named).group_by(by).agg(amount=pl.col("amount").sum(), other=pl.col("amount").filter(~pl.col("first")).sum())


def _trailing(frames: list[pl.LazyFrame], lookup: pl.LazyFrame | None) -> pl.LazyFrame:
    """Every day from the first to the last that an input has within three days, with the sum of its last three days."""
    daily = pl.concat([looked_up(frame, lookup).select("day", "amount") for frame in frames]).group_by("day").agg(pl.col("amount").sum())
    near = pl.concat([daily.select(pl.col("day") + ahead, "amount", own=pl.lit(ahead == 0)) for ahead in range(3)])
    last = daily.select(last=pl.col("day").max())
    return (
        near.join(last, how="cross")
        .filter(pl.col("day") <= pl.col("last"))
        .group_by("day")
        .agg(amount=pl.col("amount").filter(pl.col("own")).sum(), trailing=pl.col("amount").sum())
    )


def _by_part(frames: list[pl.LazyFrame], lookup: pl.LazyFrame | None) -> pl.LazyFrame:
    """Of each part every day that an input has, with the sum of its last three days."""
    named = pl.concat([looked_up(frame, lookup).select("part", "day", "amount") for frame in frames]).drop_nulls(["part", "day"])
    daily = named.group_by("part", "day").agg(pl.col("amount").sum())
    near = pl.concat([daily.select("part", pl.col("day") + ahead, trailing="amount") for ahead in range(3)])
    return daily.join(near.group_by("part", "day").agg(pl.col("trailing").sum()), on=["part", "day"])


def functions(inputs: int, *, dimension: bool) -> dict[str, Callable[..., pl.LazyFrame]]:
    """By kind, a function over so many inputs and the dimension or none."""
    parameters = ", ".join([*(f"i{number}" for number in range(inputs)), *(["lookup"] if dimension else [])])
    scope: dict[str, Any] = {"_sum": _sum, "_trailing": _trailing, "_by_part": _by_part, "looked_up": looked_up, "events": events, "pl": pl}
    frames = "[" + ", ".join(f"i{number}" for number in range(inputs)) + "]"
    lookup = "lookup" if dimension else "None"
    bodies = {
        "append": f"looked_up(i0, {lookup}).select('id', 'part', 'amount')",
        "upsert": f"looked_up(i0, {lookup}).select('part', 'version', 'amount')",
        "changes": f"events(looked_up(i0, {lookup}))",
        "parts": f"_sum({frames}, {lookup}, ['part', 'code'])",
        "days": f"_trailing({frames}, {lookup})",
        "part_days": f"_by_part({frames}, {lookup})",
    }
    for name, body in bodies.items():
        exec(f"def {name}({parameters}):\n    return {body}", scope)
    return {name: scope[name] for name in bodies}


def declarations(inputs: int, *, dimension: bool) -> dict[str, TableDeclaration]:
    """A declaration of every kind that takes so many inputs."""
    made = functions(inputs, dimension=dimension)
    reads = {f"i{number}": SOURCES[number] for number in range(inputs)}
    lookup = {"lookup": Dimension(LOOKUP, key="code")} if dimension else {}
    suffix = f"{inputs}{'_lookup' if dimension else ''}"

    def declare(name: str, contract: type[Contract], kind: Any, function: str, **more: Any) -> TableDeclaration:
        return table(f"shop.gold.{name}{suffix}", contract=contract, kind=kind, inputs=reads, **({"dimensions": lookup} | more))(
            made[function]
        )

    found = {
        "ByPartition": declare("parts", Parts, ByPartition("part"), "parts"),
        "ByKey": declare("keys", Parts, ByKey("part", "code"), "parts"),
        "ByKey of a coarser key": declare("coarse", Parts, ByKey("part"), "parts"),
        "Trailing": declare("days", Days, Trailing("day", lookback=2), "days"),
        "ByKeyAndTime": declare("part_days", PartDays, ByKeyAndTime("part", time="day", lookback=2), "part_days"),
        "Full": declare("full", Parts, Full(), "parts"),
    }
    if inputs == 1:
        found |= {
            "Upsert": declare("upsert", Keyed, Upsert(("part",), newest_by="version"), "upsert"),
            "SCD1": declare("latest", Latest, SCD1(("part",), "version"), "changes"),
            "SCD2": declare("history", History, SCD2(("part",), "version"), "changes"),
        }
        if not dimension:
            found["Append"] = declare("append", Rows, Append(), "append")
    return found


# --- a feed, whose rows have a file and a place in it

FEED = "shop.bronze.orders"
FEED_SCHEMA = pl.Schema(
    {"part": pl.String, "code": pl.String, "amount": pl.Int64, "_file": pl.String, "_sequence": pl.Int64, "_row": pl.Int64}
)
files = st.lists(
    st.fixed_dictionaries(
        {"part": st.sampled_from(["jan", "feb", None]), "code": st.sampled_from(["x", "y", "z"]), "amount": st.integers(-2, 9)}
    ),
    max_size=4,
)
feed_steps = st.tuples(
    st.lists(st.tuples(st.sampled_from(["land", "reread", "restore"]), st.integers(0, 3), files), max_size=2), st.none() | lookups
)


class FeedWorld(World):
    """A bronze table, as files that landed, were read again or were taken back leave it, and a dimension."""

    sources = (FEED, LOOKUP)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lakehouse.table(FEED).create(FEED_SCHEMA)
        self.sequence = 0

    def apply(self, step: tuple[list[tuple[str, int, list[dict[str, Any]]]], Mapping[str, int] | None]) -> None:
        """Change the feed."""
        bronze = self.lakehouse.table(FEED)
        for what, number, given in step[0]:
            if what == "restore":
                restore(bronze, bronze.version() // 2, "test")
                continue
            self.sequence += 1
            name = f"file {number if what == 'reread' else self.sequence + 10}"
            lines = [row | {"_file": name, "_sequence": self.sequence, "_row": at} for at, row in enumerate(given)]
            others = bronze.scan().filter(pl.col("_file") != name).collect()
            frame = pl.DataFrame(lines, schema=FEED_SCHEMA)
            if others.height == bronze.count():
                bronze.append(frame)
            else:
                replace(bronze, pl.concat([others, frame]), Everything(), ("_sequence", "_row"), Commit())
        super().apply(([], step[1]))


class Line(Contract):
    part: str = column(key=True)
    line: int = column(key=True)
    code: str = column()
    amount: int = column(ge=0)


class KeyedOnce(Contract):
    part: str = column(key=True)
    code: str = column(key=True)
    amount: int = column(ge=0)


class LatestOfAnyAmount(Latest):
    amount: int = column()


class HistoryOfAnyAmount(History):
    amount: int = column()


class Newest(Contract):
    part: str = column(key=True)
    amount: int = column(ge=0)


class NewestOfAnyAmount(Newest):
    amount: int = column()


class Dated(Newest):
    version: int = column()


class DatedOfAnyAmount(Dated):
    amount: int = column()


class Unkeyed(Contract):
    part: str = column(nullable=True)
    amount: int = column(ge=0)


def of_feed() -> dict[str, TableDeclaration]:
    """A declaration of every kind over a feed, some with functions that look at the rows of a file together."""

    def numbered(orders: pl.LazyFrame, lookup: pl.LazyFrame) -> pl.LazyFrame:
        line = pl.int_range(1, pl.len() + 1).over("_file", "part")
        return looked_up(orders.sort("_sequence", "_row").with_columns(line=line), lookup)

    def once(orders: pl.LazyFrame) -> pl.LazyFrame:
        return orders

    def unkeyed(orders: pl.LazyFrame) -> pl.LazyFrame:
        return orders.drop("code")

    def event(orders: pl.LazyFrame, lookup: pl.LazyFrame) -> pl.LazyFrame:
        moment = pl.lit(datetime(2026, 1, 1, tzinfo=UTC)).dt.cast_time_unit("us") + pl.duration(days="_sequence")
        dated = looked_up(orders, lookup).with_columns(valid_from=moment, is_deleted=pl.col("code") == "z")
        return dated.with_columns(version=pl.col("_sequence") * 100 + pl.col("_row")).drop("code")

    lookup = {"lookup": Dimension(LOOKUP, key="code")}
    reads = {"orders": FEED}
    return {
        "Upsert by line": table("shop.silver.lines", contract=Line, kind=Upsert(("part", "line")), inputs=reads, dimensions=lookup)(
            numbered
        ),
        "Append with a key": table("shop.silver.once", contract=KeyedOnce, kind=Append(), inputs=reads)(once),
        "Append": table("shop.silver.all", contract=Unkeyed, kind=Append(), inputs=reads)(unkeyed),
        "SCD1": table("shop.silver.latest", contract=Latest, kind=SCD1(("part",), "version"), inputs=reads, dimensions=lookup)(event),
        "SCD2": table("shop.silver.history", contract=History, kind=SCD2(("part",), "version"), inputs=reads, dimensions=lookup)(event),
    }


def with_a_fix() -> dict[str, tuple[TableDeclaration, TableDeclaration]]:
    """Declarations over a feed that compute a row by itself, each with one whose contract takes what the first one rejects."""

    def newest(orders: pl.LazyFrame) -> pl.LazyFrame:
        return orders.drop("code")

    def dated(orders: pl.LazyFrame) -> pl.LazyFrame:
        return orders.with_columns(version=pl.when(pl.col("code") == "z").then(2).otherwise(1).cast(pl.Int64)).drop("code")

    def event(orders: pl.LazyFrame) -> pl.LazyFrame:
        moment = pl.lit(datetime(2026, 1, 1, tzinfo=UTC)).dt.cast_time_unit("us") + pl.duration(days="_sequence")
        version = pl.col("_sequence") * 100 + pl.col("_row")
        return orders.with_columns(valid_from=moment, is_deleted=pl.col("code") == "z", version=version).drop("code")

    def both(name: str, strict: type[Contract], fixed: type[Contract], kind: Any, function: Callable[..., pl.LazyFrame]) -> Any:
        return tuple(table(name, contract=contract, kind=kind, inputs={"orders": FEED})(function) for contract in (strict, fixed))

    return {
        "Upsert": both("shop.silver.newest", Newest, NewestOfAnyAmount, Upsert(("part",)), newest),
        "Upsert with newest_by": both("shop.silver.dated", Dated, DatedOfAnyAmount, Upsert(("part",), newest_by="version"), dated),
        "SCD1": both("shop.silver.state", Latest, LatestOfAnyAmount, SCD1(("part",), "version"), event),
        "SCD2": both("shop.silver.states", History, HistoryOfAnyAmount, SCD2(("part",), "version"), event),
    }
