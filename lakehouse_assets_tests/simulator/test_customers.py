"""Customers and their change events: order of arrival, copies, deletions, the same for every span."""

from datetime import date, timedelta

import polars as pl
import pytest

from lakehouse_assets.simulator.customers import LATE, TWICE, Customers, build, events_between, state_before
from lakehouse_assets_tests.simulator.conftest import Simulated

FIRST, LAST = date(2024, 1, 1), date(2025, 12, 31)


@pytest.fixture(scope="module")
def people() -> Customers:
    return build(9, 60, FIRST, LAST)


@pytest.fixture(scope="module")
def events(people: Customers) -> pl.DataFrame:
    return events_between(people, FIRST, LAST)


def test_sequence_and_time_of_change_rise_together(events: pl.DataFrame) -> None:
    by_sequence = events.unique("sequence").sort("sequence")
    assert by_sequence["changed_at"].is_sorted()
    assert by_sequence["changed_at"].str.contains(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$").all()


def test_some_events_arrive_after_newer_ones_and_some_twice(events: pl.DataFrame) -> None:
    distinct = events.unique("sequence", keep="first", maintain_order=True)
    late = distinct.select((pl.col("sequence") < pl.col("sequence").cum_max()).mean()).item()
    assert 0.5 * LATE < late < 1.5 * LATE
    assert 0.5 * TWICE < 1 - distinct.height / events.height < 1.5 * TWICE
    copies = events.filter(pl.len().over("sequence") > 1)
    assert copies.unique().height == copies["sequence"].n_unique()


def test_a_customer_joins_first_and_is_deleted_last(events: pl.DataFrame) -> None:
    deleted = events.filter(pl.col("op") == "delete")
    assert deleted.height > 0
    assert deleted.select(pl.col("name", "email", "country", "segment").null_count()).row(0) == (deleted.height,) * 4
    last = events.filter(pl.col("customer").is_in(deleted["customer"].to_list())).sort("sequence").unique("customer", keep="last")
    assert set(last["op"]) == {"delete"}


def test_a_change_is_of_e_mail_or_segment(events: pl.DataFrame) -> None:
    upserts = events.filter(pl.col("op") == "upsert").unique("sequence").sort("sequence")
    fields = ["name", "country", "email", "segment"]
    kinds = upserts.filter(pl.len().over("customer") > 1).group_by("customer").agg(pl.col(fields).n_unique(), events=pl.len())
    assert kinds.select(pl.col("name", "country").max()).row(0) == (1, 1)
    assert kinds.filter(pl.max_horizontal("email", "segment") < 2).is_empty()
    assert upserts["email"].str.contains(r"@example\.(org|com|net)$").all()


def test_events_of_a_day_are_the_same_for_every_span(people: Customers) -> None:
    for day in (date(2024, 1, 2), date(2024, 7, 15), date(2025, 12, 31)):
        alone = events_between(build(9, 60, day, day), day, day)
        assert alone.height > 0
        assert alone.equals(events_between(people, day, day))


def test_the_state_before_a_day_and_the_events_from_then_on_agree_with_all_events(people: Customers) -> None:
    middle = date(2025, 2, 10)
    still = people.number[people.left > LAST.toordinal()].tolist()

    def state(events: pl.DataFrame) -> pl.DataFrame:
        newest = events.filter(pl.col("customer").is_in(still)).sort("sequence").unique("customer", keep="last")
        return newest.sort("customer")

    whole = pl.concat([state_before(people, FIRST), events_between(people, FIRST, LAST)])
    later = pl.concat([state_before(build(9, 60, middle, LAST), middle), events_between(people, middle, LAST)])
    assert state(whole).height > 1_000
    assert state(whole).equals(state(later))


def test_nobody_is_in_the_state_before_who_was_deleted(people: Customers) -> None:
    state = state_before(people, LAST)
    deleted = events_between(people, FIRST, LAST - timedelta(days=1)).filter(pl.col("op") == "delete")
    assert not set(state["customer"]) & set(deleted["customer"])
    assert state["customer"].n_unique() == state.height


def test_almost_everybody_on_an_invoice_is_known_to_the_customers_feed(shop: Simulated) -> None:
    on_invoices = set(shop.invoices()["Customer ID"].drop_nulls().str.strip_suffix(".0").cast(pl.Int64))
    unknown = on_invoices - set(shop.customers()["customer"])
    # Those whose first event is still on its way.
    assert len(unknown) < 0.01 * len(on_invoices)
