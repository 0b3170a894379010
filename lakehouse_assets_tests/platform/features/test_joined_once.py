"""Examples that are joined once for all folds of a training: the same rows as without that."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from lakehouse_assets.platform.features.labels import Labels
from lakehouse_assets.platform.features.manifest import pin
from lakehouse_assets.platform.features.training_set import once, training_set
from lakehouse_assets_tests.platform.features.shop import CARDS, EXAMPLES, LABELS, START, frames, written

FINAL = replace(EXAMPLES, labels=Labels(LABELS, ("invoice",), "placed_at", "is_fraud", settled=timedelta(days=3), slices=("country",)))


def revised():
    """Every third label comes a second time, ten days later, with the other outcome."""
    tables = frames()
    labels = tables[LABELS]
    again = labels.filter(pl.col("invoice") % 3 == 0).with_columns(~pl.col("is_fraud"), pl.col("reported_at") + pl.duration(days=10))
    return tables | {LABELS: pl.concat([labels, again])}


@pytest.mark.parametrize(("examples", "tables"), [(FINAL, frames()), (EXAMPLES, frames()), (EXAMPLES, revised())])
def test_rows_at_every_time_are_the_same(tmp_path, examples, tables):
    pinned = pin(written(str(tmp_path / "root"), tables), examples.sources())
    kept = once(examples)
    for until in (
        None,
        *(START + timedelta(days=day) for day in (0, 4, 12, 35, 42, 90)),
        (START + timedelta(days=12)).replace(tzinfo=None),
    ):
        assert kept.rows(pinned.read, until).collect().equals(examples.rows(pinned.read, until).collect())
    assert training_set(kept, pinned).manifest == training_set(examples, pinned).manifest


def test_of_targets_that_stay_every_table_is_read_once_and_the_declaration_keeps_nothing(tmp_path):
    pinned, reads = pin(written(str(tmp_path / "root"), frames()), FINAL.sources()), Counter()

    def read(name):
        reads[name] += 1
        return pinned.read(name)

    FINAL.rows(read).collect()
    of_one = dict(reads)
    kept = once(FINAL)
    for day in (None, 5, 9, 12):
        kept.rows(read, None if day is None else START + timedelta(days=day)).collect()
    assert {name: count - of_one[name] for name, count in reads.items()} == of_one
    FINAL.rows(read).collect()
    assert reads[CARDS] == 3 * of_one[CARDS]
