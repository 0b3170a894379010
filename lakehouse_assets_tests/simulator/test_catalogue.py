"""The catalogue: codes, renaming, prices, snapshots."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from lakehouse_assets.simulator.catalogue import Catalogue, assortment, build, quarter_of, quarter_start, snapshot, successors
from lakehouse_assets.simulator.demand import GROUPS, LAST_DAY


@pytest.fixture(scope="module")
def products() -> Catalogue:
    return build(2)


def test_quarters() -> None:
    assert (quarter_of(date(2000, 1, 1)), quarter_of(date(2024, 6, 30)), quarter_of(date(2024, 7, 1))) == (0, 97, 98)
    assert all(quarter_of(quarter_start(quarter)) == quarter for quarter in range(quarter_of(LAST_DAY) + 1))


def test_stock_codes_are_five_digits_and_at_times_a_letter_and_never_used_twice(products: Catalogue) -> None:
    codes = pl.Series(products.code)
    assert codes.str.contains(r"^\d{5}[A-Z]?$").all()
    assert codes.str.slice(0, 5).n_unique() == len(codes)
    assert 0.1 < codes.str.len_chars().eq(6).mean() < 0.3


def test_every_group_is_on_sale_in_every_quarter(products: Catalogue) -> None:
    for quarter in range(quarter_of(LAST_DAY) + 1):
        on_sale = assortment(products, quarter)
        assert (np.diff(on_sale.group_start) >= 20).all()
        assert len(on_sale.group_start) == len(GROUPS) + 1
        assert 1_300 < len(on_sale.products) < 1_700


def test_a_successor_takes_over_where_its_predecessor_ends(products: Catalogue) -> None:
    new = np.flatnonzero(products.replaces >= 0)
    old = products.replaces[new]
    assert len(np.unique(old)) == len(old) > 1_000
    assert np.array_equal(products.first[new], products.end[old])
    assert np.array_equal(products.popularity[new], products.popularity[old])
    assert all(products.name[n] != products.name[o] for n, o in zip(new.tolist(), old.tolist(), strict=True))
    assert (products.group[new] != products.group[old]).any()


def test_successors_follow_chains_as_far_as_the_quarter_knows(products: Catalogue) -> None:
    third = int(np.flatnonzero((products.replaces >= 0) & (products.replaces[products.replaces] >= 0))[0])
    second = int(products.replaces[third])
    first = int(products.replaces[second])
    for quarter, latest in ((products.first[second] - 1, first), (products.first[second], second), (products.first[third], third)):
        known = successors(products, int(quarter))
        assert known[first] == latest
    assert list(successors(products, int(products.first[third]))[[second, third]]) == [third, third]


def test_a_snapshot_lists_what_is_on_sale_and_not_what_was_replaced(products: Catalogue) -> None:
    quarter = quarter_of(date(2024, 4, 1))
    listed = snapshot(products, quarter)
    assert listed["stock_code"].to_list() == sorted(products.code[p] for p in assortment(products, quarter).products)
    assert listed["name"].n_unique() == listed.height
    assert set(listed["product_group"]) == {group.name for group in GROUPS}
    assert set(listed["component"]) == {"base", "add-on"}
    assert not set(listed["replaces"].drop_nulls()) & set(listed["stock_code"])
    assert listed["list_price"].min() > 0


def test_some_list_prices_change_and_some_products_are_new_from_quarter_to_quarter(products: Catalogue) -> None:
    before, after = (snapshot(products, quarter_of(date(2024, month, 1))) for month in (4, 7))
    both = after.join(before, on="stock_code", suffix="_before")
    changed = both.filter(pl.col("list_price") != pl.col("list_price_before")).height
    assert 0 < changed < 0.2 * both.height
    assert 0 < after.height - both.height < 0.2 * after.height


def test_some_products_have_a_second_description_and_some_are_padded(products: Catalogue) -> None:
    pairs = list(zip(products.description, products.second_description, strict=True))
    assert 0.08 < np.mean([first != second for first, second in pairs]) < 0.16
    assert 0.15 < np.mean([first != first.strip() for first, _ in pairs]) < 0.25
