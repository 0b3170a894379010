"""A cached table of a bucket answers as one that is opened afresh, and only to who has the credentials that it was opened with."""

import polars as pl
import pytest

from lakehouse_assets.platform.storage import table_cache as opened
from lakehouse_assets.platform.storage.bucket import access_key, open_store, split_address
from lakehouse_assets.platform.storage.commit import Commit, Counts, Cursor
from lakehouse_assets.platform.storage.errors import NoSuchTable
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.storage.fresh import rows_of
from lakehouse_assets_tests.s3 import SECRET

SCHEMA = {"value": pl.Int64()}


def values(*given):
    return pl.DataFrame({"value": given}, schema=SCHEMA)


@pytest.fixture
def table(bucket):
    table = Lakehouse(bucket).table("shop.silver.things")
    table.create(SCHEMA)
    table.append(values(1))
    return table


def in_another_process(act):
    """The cache of this process does not notice it."""
    cached = dict(opened._cache)
    opened.clear()
    act()
    opened.clear()
    opened._cache.update(cached)


def delete(table):
    store = open_store(table.uri)
    store.delete([entry["path"] for entry in store.list(split_address(table.uri)[1]).collect()])


def test_a_question_about_an_unchanged_table_costs_one_request(table, s3):
    assert table.cursor("shop.bronze.a") is None
    s3.requests()
    assert (table.version(), table.count(), table.cursor("shop.bronze.a")) == (1, 1, None)
    assert s3.requests() == {"LIST": 3}


def test_commits_of_others_are_seen_at_once(table):
    in_another_process(lambda: table.append(values(2), Commit((Cursor("shop.bronze.a", None, 7),))))
    assert (table.version(), table.count(), table.cursor("shop.bronze.a")) == (2, 2, 7)
    assert rows_of(table) == [(1,), (2,)]
    in_another_process(table.delta().optimize.compact)
    assert table.version() == 3
    assert table.changes(1, 3).collect()["value"].to_list() == [2]


def test_a_table_that_was_created_again_with_as_many_commits_is_another_one(table):
    assert rows_of(table) == [(1,)]

    def again():
        delete(table)
        table.create(SCHEMA)
        table.append(values(9))

    in_another_process(again)
    assert table.version() == 1
    assert rows_of(table) == [(9,)]


def test_a_table_that_is_gone_is_gone(table):
    assert table.version() == 1
    in_another_process(lambda: delete(table))
    with pytest.raises(NoSuchTable):
        table.version()
    assert table.cursor("shop.bronze.a") is None


def test_a_frame_stays_on_the_version_that_it_was_made_with(table):
    before = table.scan()
    table.append(values(2))
    table.replace(values(3), None)
    assert before.collect()["value"].to_list() == [1]
    assert rows_of(table) == [(3,)]
    assert table.scan(2).sort("value").collect()["value"].to_list() == [1, 2]


def test_a_write_that_lost_its_race_leaves_no_old_table_behind(table):
    def attempt(delta):
        if delta.version() == 1:
            in_another_process(lambda: table.replace(values(5), None))
        commit = Commit().properties(delta, Counts(), read_before_write=True)
        table.write_rows(delta, values(6), commit, mode="overwrite", predicate="true")
        return Counts(written=1)

    assert table.write(None, attempt).version == 3
    assert rows_of(table) == [(6,)]
    assert table.version() == 3


def test_a_long_log_is_opened_again_and_right(table, monkeypatch):
    monkeypatch.setattr(opened, "_PAGE", 3)
    assert table.version() == 1
    for value in range(5):
        in_another_process(lambda value=value: table.append(values(value)))
    assert table.version() == 6
    assert table.count() == 6


def test_a_cached_table_is_not_handed_to_other_credentials(table, monkeypatch):
    """The same address and options, but an environment whose keys lead nowhere."""
    assert table.version() == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    other = Lakehouse(table.uri.rsplit("/", 3)[0]).table(table.name)
    with pytest.raises(Exception, match=r"(?i)error|refused|connect"):
        other.version()


def test_keys_of_the_cache_follow_credentials_and_hold_no_secret(table, monkeypatch, s3):
    before = access_key(table.uri, table.storage_options)
    assert access_key(table.uri, table.storage_options) == before
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert access_key(table.uri, table.storage_options) != before
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert access_key(table.uri, table.storage_options) == before
    assert access_key(table.uri, {**table.storage_options, "aws_secret_access_key": "another"}) != before
    assert SECRET not in repr(list(opened._cache))


def test_new_credentials_open_a_new_store(bucket, monkeypatch):
    store = open_store(bucket)
    assert open_store(bucket) is store
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert open_store(bucket) is not store
