"""What delta-rs and Polars do that this room relies on or works around: an upgrade that changes it fails here, by name."""

import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from polars.exceptions import ComputeError, SchemaError
from pyarrow import ArrowNotImplementedError, dataset

SCHEMA = {"part": pl.Int64(), "value": pl.Int64()}


def rows(part, value):
    return pl.DataFrame({"part": [part], "value": [value]}).to_arrow()


def append(part, value, **properties):
    return lambda table: write_deltalake(table, rows(part, value), mode="append", commit_properties=CommitProperties(**properties))


def replace(part, value):
    return lambda table: write_deltalake(table, rows(part, value), mode="overwrite", predicate=f"part = {part}")


def replace_all(part, value, predicate):
    return lambda table: write_deltalake(table, rows(part, value), mode="overwrite", predicate=predicate)


def merge(part, value):
    """With the partition as a literal."""
    return lambda table: (
        table.merge(rows(part, value), f"t.part = s.part AND t.part = {part}", "s", "t", streamed_exec=False)
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )


def compact(table):
    table.optimize.compact()


@pytest.fixture
def at_once(table):
    """Lets two writers commit on the same version, one after the other, and gives the rows afterwards."""
    table.create(SCHEMA, ("part",))
    for value in (1, 2):
        table.append(pl.DataFrame({"part": [1, 2], "value": [value, value]}))

    def write(first, second):
        early, late = table.delta(), table.delta()
        first(early)
        second(late)
        return sorted(table.scan().collect().rows())

    return write


# --- two writers at once


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (append(1, 8), append(1, 9)),
        (append(1, 8), compact),
        (compact, append(1, 9)),
        (append(2, 8), replace(1, 9)),
        (replace(2, 8), replace(1, 9)),
        (merge(2, 8), merge(1, 9)),
        (merge(2, 8), replace(1, 9)),
    ],
)
def test_writers_of_other_rows_commit_at_once(at_once, first, second):
    assert any(row[1] == 9 for row in at_once(first, second)) or second is compact


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (append(1, 8), replace(1, 9)),
        (replace(1, 8), replace(1, 9)),
        (replace(3, 8), replace(3, 9)),  # into a partition that was empty
        (append(1, 8), merge(1, 9)),
        (merge(1, 8), merge(1, 9)),
        (merge(3, 8), merge(3, 9)),
        (append(1, 8), replace_all(1, 9, "true")),
        # An append is not blind: it does not bear any removed row.
        (replace(1, 8), append(1, 9)),
        (replace(2, 8), append(1, 9)),
        (merge(1, 8), append(1, 9)),
    ],
)
def test_the_second_writer_of_the_same_rows_is_refused(at_once, first, second):
    with pytest.raises(CommitFailedError):
        at_once(first, second)


def test_replacing_all_rows_without_a_predicate_keeps_rows_that_came_at_the_same_time(at_once):
    """So `Table.replace` says `true`."""
    assert at_once(append(1, 8), replace_all(1, 9, None)) == [(1, 8), (1, 9)]


@pytest.mark.parametrize("number", [7, 8])
def test_the_second_of_two_commits_with_one_app_id_is_refused(at_once, number):
    with pytest.raises(CommitFailedError, match="Concurrent transaction"):
        at_once(append(1, 8, app_transactions=[Transaction("app", 7)]), append(1, 9, app_transactions=[Transaction("app", number)]))


def test_commits_with_two_app_ids_do_not_refuse_each_other(at_once):
    assert {(1, 8), (1, 9)} <= set(
        at_once(append(1, 8, app_transactions=[Transaction("one", 7)]), append(1, 9, app_transactions=[Transaction("other", 7)]))
    )


def test_a_repeated_app_id_is_not_refused_by_itself(at_once, table):
    """So `Commit.done` looks first."""
    again = append(1, 8, app_transactions=[Transaction("app", 7)])
    again(table.delta())
    again(table.delta())
    assert table.scan().collect().rows().count((1, 8)) == 2
    assert table.delta().transaction_version("app") == 7
    assert table.delta().transaction_version("another") is None


def test_a_writer_that_is_out_of_tries_fails_as_one_that_was_refused(at_once):
    with pytest.raises(CommitFailedError):
        at_once(append(1, 8), append(1, 9, max_commit_retries=0))


# --- types


@pytest.mark.parametrize("value", [1.9, "1"])
def test_an_append_casts_in_silence(table, value):
    table.create({"value": pl.Int64()})
    write_deltalake(table.delta(), pl.DataFrame({"value": [value]}).to_arrow(), mode="append")
    assert table.scan().collect()["value"].to_list() == [1]


def test_nanoseconds_are_cut_off_in_silence(tmp_path):
    moment = pl.Series("at", [1_001]).cast(pl.Datetime("ns", "UTC"))
    write_deltalake(str(tmp_path), pl.DataFrame(moment).to_arrow())
    assert pl.read_delta(str(tmp_path))["at"].dt.epoch("us").to_list() == [1]


def test_unsigned_64_bits_become_signed_and_fail_when_they_do_not_fit(tmp_path):
    small, large = (pl.DataFrame({"n": pl.Series([number], dtype=pl.UInt64)}).to_arrow() for number in (1, 2**64 - 1))
    write_deltalake(str(tmp_path), small)
    assert pl.read_delta(str(tmp_path)).schema == {"n": pl.Int64}
    with pytest.raises(DeltaError, match="UInt64"):
        write_deltalake(str(tmp_path), large, mode="append")


def test_categories_panic_in_the_writer(tmp_path):
    with pytest.raises(DeltaError, match="panicked"):
        pl.DataFrame({"text": pl.Series(["a"], dtype=pl.Categorical)}).write_delta(str(tmp_path))


@pytest.mark.parametrize("column", [pl.Series("it", ["a"], dtype=pl.Enum(["a"])), pl.Series("it", [[1, 2]], dtype=pl.Array(pl.Int64, 2))])
def test_enums_and_arrays_are_written_and_cannot_be_read(tmp_path, column):
    write_deltalake(str(tmp_path), pl.DataFrame(column).to_arrow())
    with pytest.raises(SchemaError, match="it"):
        pl.read_delta(str(tmp_path))


# --- partitions and paths


def test_an_empty_partition_value_is_null_to_others(tmp_path):
    pl.DataFrame({"part": ["", "x"], "value": [1, 2]}).write_delta(str(tmp_path), delta_write_options={"partition_by": ["part"]})
    assert pl.from_arrow(DeltaTable(str(tmp_path)).to_pyarrow_table()).sort("value")["part"].to_list() == [None, "x"]


def test_the_stand_in_for_null_is_read_as_null(tmp_path):
    pl.DataFrame({"part": ["__HIVE_DEFAULT_PARTITION__"], "value": [1]}).write_delta(
        str(tmp_path), delta_write_options={"partition_by": ["part"]}
    )
    assert pl.read_delta(str(tmp_path))["part"].to_list() == [None]


def change_data_of(uri, part, values):
    """What delta-rs' own change feed returns after an update in a partition."""
    frame = pl.DataFrame({"part": [part], "value": [values[0]]})
    configuration = {"delta.enableChangeDataFeed": "true"}
    write_deltalake(uri, frame.to_arrow(), partition_by="part", configuration=configuration)
    DeltaTable(uri).update({"value": str(values[1])})
    return pl.DataFrame(DeltaTable(uri).load_cdf(1)).height


def test_the_change_feed_of_delta_rs_finds_plain_partitions(tmp_path):
    assert change_data_of(str(tmp_path), "plain", [1, 2]) == 2


@pytest.mark.parametrize("part", ["a b", "ü", "a/b", datetime(2011, 7, 1, 12, tzinfo=UTC)], ids=str)
def test_the_change_feed_of_delta_rs_does_not_find_partitions_that_a_path_escapes(tmp_path, part):
    """So there is `change_feed`, and no table is partitioned by timestamps."""
    with pytest.raises(ComputeError, match="Failed to fetch metadata"):
        change_data_of(str(tmp_path), part, [1, 2])


def test_scan_delta_does_not_find_a_table_below_a_folder_that_a_path_escapes(tmp_path):
    """So there is `paths.OpenedTable`."""
    uri = str(tmp_path / "My Projects")
    pl.DataFrame({"value": [1]}).write_delta(uri)
    with pytest.raises(FileNotFoundError):
        pl.scan_delta(DeltaTable(uri)).collect()


# --- reading


def test_a_moment_is_looked_up_by_the_times_of_files(table):
    """So `Table.scan` looks it up by the times in the commits."""
    table.create({"value": pl.Int64()})
    table.append(pl.DataFrame({"value": [1]}))
    os.utime(Path(table.uri, "_delta_log", f"{1:020d}.json"), (4_000_000_000, 4_000_000_000))
    delta = table.delta()
    delta.load_as_version(datetime.now(UTC))
    assert delta.version() == 0


def test_a_moment_before_the_table_is_its_first_version(table):
    table.create({"value": pl.Int64()})
    delta = table.delta()
    delta.load_as_version(datetime(2000, 1, 1, tzinfo=UTC))
    assert delta.version() == 0


def test_a_merge_writes_change_rows_for_rows_that_stay_the_same(table):
    """So `merge` leaves such rows out."""
    table.create(SCHEMA)
    table.append(pl.DataFrame({"part": [1], "value": [1]}))
    merge(1, 1)(table.delta())
    assert pl.DataFrame(table.delta().load_cdf(2)).height == 2


def test_merged_strings_cannot_be_filtered_through_arrow_before_they_are_compacted(table):
    """A merge writes them as views, for which Arrow has no comparison yet."""
    table.create({"id": pl.Int64(), "text": pl.String()})
    table.append(pl.DataFrame({"id": [1, 2], "text": ["a", "b"]}))

    def filtered():
        return table.delta().to_pyarrow_dataset().to_table(filter=dataset.field("text") == "a").num_rows

    assert filtered() == 1
    changed = pl.DataFrame({"id": [2], "text": ["c"]}).to_arrow()
    table.delta().merge(changed, "t.id = s.id", "s", "t").when_matched_update_all().execute()
    with pytest.raises(ArrowNotImplementedError, match="string_view"):
        filtered()
    table.append(pl.DataFrame({"id": [3], "text": ["d"]}))
    table.delta().optimize.compact()
    assert filtered() == 1


def test_polars_prunes_partitions(table):
    """A file of another partition is not opened, so that reading one day costs the same after a thousand."""
    table.create(SCHEMA, ("part",))
    table.append(pl.DataFrame({"part": [1, 2], "value": [1, 2]}))
    (other,) = Path(table.uri, "part=2").iterdir()
    other.unlink()
    assert table.scan().filter(pl.col("part") == 1).collect().rows() == [(1, 1)]
    assert table.scan().filter(pl.col("part").is_in([1])).collect().rows() == [(1, 1)]
