"""Rows of files are held to two rules that a contract has by itself: they fit their header, and their moments are not far in the future."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.quality.contract import Contract, Timestamp, column, fingerprint
from lakehouse_assets.platform.quality.declaration_error import DeclarationError
from lakehouse_assets.platform.quality.split import split

INGESTED = datetime(2024, 1, 1, 12, tzinfo=UTC)


class Visit(Contract, max_bad_share=1.0):
    """A visit."""

    id: str = column(key=True)
    day: date = column(nullable=True)
    at: Timestamp = column(nullable=True)
    valid_to: date = column(nullable=True, future=True)
    booked: date = column(nullable=True, future=timedelta(days=2_000))


class Lenient(Visit, misfits="warn", future_within=timedelta(days=30_000)):
    """The same, with other limits."""


def rows(*values, rescued=None, ingested=INGESTED) -> pl.DataFrame:
    schema = {"id": pl.String(), "day": pl.Date(), "at": pl.Datetime("us", "UTC"), "valid_to": pl.Date(), "booked": pl.Date()}
    full = [(str(at), *row, *[None] * (4 - len(row))) for at, row in enumerate(values)]
    rescued = [None] * len(values) if rescued is None else rescued
    return pl.DataFrame(full, schema, orient="row").with_columns(
        pl.Series("_rescued", rescued, pl.String()), pl.lit(ingested, pl.Datetime("us", "UTC")).alias("_ingested_at")
    )


def broken(contract, frame) -> dict:
    return dict(split(contract, frame).bad.select("id", pl.col("_broken").list.sort()).iter_rows())


def test_moments_far_after_their_file_are_held_back():
    limit = INGESTED + timedelta(days=400)
    frame = rows(
        (limit.date(), limit),
        (limit.date() + timedelta(days=1), limit + timedelta(microseconds=1)),
        (date(2035, 1, 1), None),
        (date(9999, 12, 31), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (None, None, date(9999, 12, 31), date(2029, 1, 1)),
        (None, None, None, date(2030, 1, 1)),
        (date(1, 1, 1), datetime(1900, 1, 1, tzinfo=UTC)),
    )
    both = ["at_not_far_future", "day_not_far_future"]
    assert broken(Visit, frame) == {"1": both, "2": both[1:], "3": both, "5": ["booked_not_far_future"]}
    assert broken(Lenient, frame) == {"3": both, "5": ["booked_not_far_future"]}


def test_the_verdict_depends_on_when_the_file_came_and_not_on_now():
    late = rows((date(2035, 1, 1),), ingested=datetime(2034, 6, 1, tzinfo=UTC))
    assert broken(Visit, late) == {}
    assert broken(Visit, rows((date(2035, 1, 1),)).drop("_ingested_at")) == {}


NOTES = ['{"_missing":["at"],"_line":"1"}', '{"_extra":["x"]}', '{"_line":"1;2"}', '{"_columns":{"_line":"x"}}', '{"color":"red"}', None]


def test_rows_that_did_not_fit_their_header_are_held_back():
    frame = rows(*[(None,)] * len(NOTES), rescued=NOTES)
    assert broken(Visit, frame) == {"0": ["fits_header"], "1": ["fits_header"], "2": ["fits_header"]}
    lenient = split(Lenient, frame)
    assert not lenient.bad.height
    assert [found.broken for found in lenient.evidence if found.rule.name == "fits_header"] == [3]


def test_limits_of_the_rules_are_part_of_the_contract():
    class Later(Visit, future_within=timedelta(days=1)):
        """The same, with another limit."""

    assert len({fingerprint(Visit), fingerprint(Lenient), fingerprint(Later)}) == 3


def test_limits_that_mean_nothing_are_refused():
    with pytest.raises(DeclarationError, match="future is how long after its file"):
        column(future=timedelta(days=-1))
    with pytest.raises(DeclarationError, match="a level is error, warn or fail"):
        type("Wrong", (Contract,), {}, misfits="ignore")
