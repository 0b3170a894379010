"""What a run puts into Dagster's databases stays small: pictures are files, and events have their paths."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
from dagster._serdes import serialize_value

from lakehouse_assets_tests.platform.orchestration.club import TABLES, Club

_PICTURE = b"\x89PNG" + bytes(range(256)) * 2_000
# An event with the columns of a table and its counts has a few thousand characters.
_MOST_CHARACTERS = 30_000


def test_no_event_holds_a_picture_and_the_metadata_names_its_file(settings):
    with dg.DagsterInstance.ephemeral() as instance:
        club = Club(settings, instance)
        club.tables = [replace(TABLES[0], picture=lambda _: _PICTURE), *TABLES[1:]]
        club.land("members", ("a", 30), ("b", -1))
        run = club.run()
        events = [serialize_value(entry) for entry in instance.all_logs(run.run_id)]
        (drawn,) = [event for event in run.get_asset_materialization_events() if event.asset_key.path == ["club", "silver", "members"]]
    assert max(map(len, events)) < _MOST_CHARACTERS
    plot = drawn.materialization.metadata["plot"]
    assert isinstance(plot, dg.PathMetadataValue)
    assert Path(plot.path).read_bytes() == _PICTURE
