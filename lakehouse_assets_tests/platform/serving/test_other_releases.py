"""A spool that another release has written: its records come into the table, and what cannot be read is kept aside and counted."""

import struct
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from lakehouse_assets.platform.serving.inference_log.drain import unreadable_files
from lakehouse_assets.platform.serving.inference_log.log import drainer
from lakehouse_assets.platform.serving.inference_log.records import FeedbackRecord, InferenceRecord
from lakehouse_assets.platform.serving.inference_log.segments import read_segment
from lakehouse_assets.platform.serving.inference_log.spool import Bounds, Spool
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets_tests.platform.serving.log_child import ENDPOINT, open_log, record

MARKER = b"\x01marker\x02"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = InferenceRecord.__struct_fields__
USUAL = {"request_id": "r", "row": 0, "endpoint": "orders", "received_at": AT, "features": {"a": 0.1}, "prediction": {"p": 0.5}}


def frame(payload: object) -> bytes:
    content = msgspec.msgpack.encode(payload)
    return struct.pack("<8sII", MARKER, len(content), crc32(content)) + content


def fields(*names: str) -> bytes:
    return frame(["fields", {"inference": names, "feedback": FeedbackRecord.__struct_fields__}])


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default_factory() if callable(field.default_factory) else field.default


def values(names: tuple[str, ...], **changes: object) -> list[object]:
    known = {field.name: field for field in msgspec.structs.fields(InferenceRecord)}
    given = USUAL | changes
    usual = [given[name] if name in given else _default(known[name]) for name in names]
    return ["inference", *usual]


def segment(home: Path, *frames: bytes) -> Path:
    """A segment that a process which is gone has left."""
    written = Spool(home / "serving" / "spool", Bounds(segment_seconds=3600, fsync_seconds=0))
    written.append([(ENDPOINT.table, record("own"))])
    written.close()
    (path,) = (home / "serving" / "spool").glob("*/*.segment")
    path.write_bytes(b"LHSPOOL1" + MARKER + b"".join(frames))
    return path


def drained(tmp_path: Path) -> tuple[list[tuple[object, ...]], int]:
    """The rows of the table, and how many records could not be read."""
    opened, log = Lakehouse(str(tmp_path / "tables")), open_log(tmp_path)
    own = drainer(tmp_path / "home" / "serving" / "spool", lambda: log.writer, lambda: opened, [ENDPOINT])
    assert own.once()
    assert log.release()
    table = opened.table(ENDPOINT.table)
    rows = table.scan().select("request_id", "features", "model_name", "status_code").collect().rows() if table.exists() else []
    return sorted(rows), own.state.unreadable


EXPECTED = [("r", '{"a":0.1}', "", 200)]
SHORTER = tuple(name for name in NAMES if name not in {"model_name", "status"})


@pytest.mark.parametrize(
    "frames",
    [
        (fields(*NAMES), frame([ENDPOINT.table, values(NAMES)])),
        (frame([ENDPOINT.table, values(NAMES)]),),  # of a release that did not name fields
        (frame([ENDPOINT.table, [*values(NAMES), "more"]]),),
        (fields(*NAMES, "more"), frame([ENDPOINT.table, [*values(NAMES), {"b": 1}]])),
        (fields("more", *NAMES), frame([ENDPOINT.table, ["inference", 3, *values(NAMES)[1:]]])),
        (fields(*SHORTER), frame([ENDPOINT.table, values(SHORTER)])),
        (fields(*reversed(NAMES)), frame([ENDPOINT.table, values(tuple(reversed(NAMES)))])),
    ],
    ids=["same", "unnamed", "longer", "added at the end", "added in front", "gone", "another order"],
)
def test_fields_may_come_and_go(tmp_path: Path, frames: tuple[bytes, ...]) -> None:
    segment(tmp_path / "home", *frames)
    assert drained(tmp_path) == (EXPECTED, 0)
    assert not (tmp_path / "home" / "serving" / "unreadable").exists()


NEEDED = tuple(name for name in NAMES if name != "received_at")
STRANGE = [
    frame([ENDPOINT.table, ["of-the-future", 1, 2]]),
    frame({"something": "else"}),
    frame([ENDPOINT.table, values(NAMES, row="none")]),
    frame(7),
]


@pytest.mark.parametrize("strange", [*STRANGE, STRANGE[0][:-1] + b"\x00"], ids=["sort", "map", "type", "number", "damaged"])
def test_what_cannot_be_read_is_kept_aside_and_counted(tmp_path: Path, strange: bytes) -> None:
    good = frame([ENDPOINT.table, values(NAMES)])
    path = segment(tmp_path / "home", fields(*NAMES), strange, good)
    assert drained(tmp_path) == (EXPECTED, 1)
    assert not path.exists()
    (kept,) = (tmp_path / "home" / "serving" / "unreadable").iterdir()
    assert kept.read_bytes() == b"LHSPOOL1" + MARKER + fields(*NAMES) + strange
    assert drained(tmp_path) == (EXPECTED, 0)
    assert kept.exists()
    assert unreadable_files(tmp_path / "home" / "serving" / "spool") == 1


def test_a_record_without_what_it_needs_is_kept_aside(tmp_path: Path) -> None:
    segment(tmp_path / "home", fields(*NEEDED), frame([ENDPOINT.table, values(NEEDED)]))
    assert drained(tmp_path) == ([], 1)
    (kept,) = (tmp_path / "home" / "serving" / "unreadable").iterdir()
    assert read_segment(kept) == []


def test_what_was_torn_by_a_kill_at_the_end_is_nothing_to_keep(tmp_path: Path) -> None:
    good = frame([ENDPOINT.table, values(NAMES)])
    segment(tmp_path / "home", fields(*NAMES), good, good[:-3])
    assert drained(tmp_path) == (EXPECTED, 0)
    assert not (tmp_path / "home" / "serving" / "unreadable").exists()
