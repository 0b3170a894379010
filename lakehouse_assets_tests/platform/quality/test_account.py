import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.platform.quality.account import RowAccount, RowsLost

counts = st.integers(0, 10**12)
balanced_accounts = st.builds(lambda *parts: RowAccount(sum(parts), *parts), counts, counts, counts, counts)


@given(balanced_accounts)
def test_an_account_that_explains_every_row_is_balanced(account):
    assert account.balanced
    account.check("sales.silver.invoice_lines")


@given(balanced_accounts, st.integers(-(10**6), 10**6).filter(bool))
def test_an_account_with_rows_unaccounted_for_is_not_balanced(account, difference):
    other = RowAccount(account.rows_in + difference, account.written, account.updated, account.duplicates, account.quarantined)
    assert not other.balanced
    with pytest.raises(RowsLost):
        other.check("sales.silver.invoice_lines")


def test_the_message_names_the_table_and_every_count():
    with pytest.raises(RowsLost) as lost:
        RowAccount(rows_in=100, written=60, updated=20, duplicates=10, quarantined=7).check("sales.silver.invoice_lines")
    assert str(lost.value).startswith(
        "sales.silver.invoice_lines: 100 rows came in, but 60 written + 20 updated + 10 duplicates + 7 quarantined"
    )
    assert "3 too few: they are lost" in str(lost.value)


def test_rows_that_appear_from_nowhere_are_named_too():
    with pytest.raises(RowsLost, match="1 too many: they are counted twice"):
        RowAccount(rows_in=1, written=2).check("sales.silver.invoice_lines")


@given(balanced_accounts, balanced_accounts)
def test_accounts_add_up(one, other):
    both = one + other
    assert both.balanced
    assert both.rows_in == one.rows_in + other.rows_in
    assert both.quarantined == one.quarantined + other.quarantined
    assert one + RowAccount() == one


@given(balanced_accounts)
def test_json_brings_the_account_back(account):
    assert RowAccount.from_json(account.to_json()) == account
