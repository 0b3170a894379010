"""The inference log: what was answered is in its table once, whatever happens to the process, the disk and the lake."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.client import open_lakehouse
from lakehouse_assets.platform.governance.audit import AuditLog
from lakehouse_assets.platform.governance.policy import Policy, policy_of
from lakehouse_assets.platform.governance.principal import Principal
from lakehouse_assets.platform.governance.reader import Reader
from lakehouse_assets.platform.operations.backup_pins import Pins
from lakehouse_assets.platform.operations.maintenance import Maintenance
from lakehouse_assets.platform.serving.inference_log.drain import Drained, Target, drain, drain_dead
from lakehouse_assets.platform.serving.inference_log.log import InferenceLog, drainer
from lakehouse_assets.platform.serving.inference_log.places import closed_segments
from lakehouse_assets.platform.serving.inference_log.records import FeedbackRecord, InferenceRecord, InferenceRows, frames, read
from lakehouse_assets.platform.serving.inference_log.segments import read_segment
from lakehouse_assets.platform.serving.inference_log.spool import Bounds, Spool
from lakehouse_assets.platform.serving.inference_log.table import LoggedEndpoint, as_json, rows
from lakehouse_assets.platform.storage.lakehouse import Lakehouse
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.platform.orchestration.level import level_model
from lakehouse_assets_tests.platform.serving.log_child import ENDPOINT, ended, open_log, record

SLOW = Bounds(segment_seconds=3600, fsync_seconds=0)
MARKER = b"\x01marker\x02"


def lakehouse(root: Path) -> Lakehouse:
    return Lakehouse(str(root / "tables"))


def logged(root: Path) -> list[str]:
    """The ids of all rows of the log, sorted."""
    return sorted(lakehouse(root).table(ENDPOINT.table).scan().select("request_id").collect()["request_id"])


def spool(root: Path) -> Path:
    return root / "home" / "serving" / "spool"


def target(root: Path) -> Target:
    opened = lakehouse(root)
    return Target(lambda: opened, {ENDPOINT.table: False})


# --- a kill


def killed(root: Path, start: int, *, dies: str = "never", seconds: float = 0.0) -> set[str]:
    """Run a process that logs, until it kills itself, or is killed; the requests that it said it had logged."""
    command = [sys.executable, "-m", "lakehouse_assets_tests.platform.serving.log_child", str(root), str(start), dies]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        if dies == "never":
            threading.Timer(seconds, child.kill).start()
        said = first + child.stdout.read()
        assert child.wait() == -signal.SIGKILL
    return set(said.rpartition("\n")[0].splitlines())


def test_what_was_logged_before_a_kill_is_in_the_table_once(tmp_path: Path) -> None:
    said: set[str] = set()
    for number, (dies, seconds) in enumerate([("never", 0.05), ("after-commit", 0), ("before-commit", 0), ("never", 0.9)]):
        said |= killed(tmp_path, number * 1_000_000, dies=dies, seconds=seconds)
    ended(open_log(tmp_path))
    rows = lakehouse(tmp_path).table(ENDPOINT.table).scan().select("request_id", "row").collect()
    assert rows.is_duplicated().sum() == 0
    assert set(rows["request_id"]) >= said
    # A request that was logged whole is there whole.
    assert rows.group_by("request_id").len()["len"].to_list() == [2] * rows["request_id"].n_unique()
    # One process after the other used one place, so one watermark.
    assert len(list(spool(tmp_path).iterdir())) == 1


# --- disks


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process can grow beyond a size: the system writes what fits and refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_keeps_no_answer_waiting_and_loses_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path, SLOW)
    for number in range(300):
        # At ever other places within a record, and within a batch of them.
        with largest_file(1_000 + 3 * number):
            log.append([record(f"{number:03}-{row}") for row in range(3)])
    assert log.state().waiting_bytes
    assert log.state().trouble
    time.sleep(0.6)
    log.append([record("last")])
    assert log.state().waiting_bytes == 0
    assert log.state().trouble == ""
    assert ended(log)
    assert logged(tmp_path) == [f"{number:03}-{row}" for number in range(300) for row in range(3)] + ["last"]


def test_what_neither_disk_nor_memory_can_hold_is_counted(tmp_path: Path) -> None:
    log = open_log(tmp_path, Bounds(segment_seconds=3600, memory_bytes=10_000, fsync_seconds=0))
    with largest_file(0):
        for number in range(100):
            log.append([record(str(number))])
    state = log.state()
    assert state.appended == 100
    assert 0 < state.dropped < 100
    assert state.waiting_bytes <= 10_000
    assert ended(log)
    assert len(logged(tmp_path)) == 100 - state.dropped


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "home"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"this process may not mount: {mounted.stderr.strip()}")
    try:
        log = open_log(tmp_path, SLOW)
        for number in range(200):
            log.append([record(f"{number:03}")])
        assert log.state().waiting_bytes
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        time.sleep(0.6)
        log.append([record("last")])
        assert ended(log)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert logged(tmp_path) == [*(f"{number:03}" for number in range(200)), "last"]


def test_a_spool_that_cannot_be_made_keeps_records_until_it_can(tmp_path: Path) -> None:
    spool(tmp_path).parent.mkdir(parents=True)
    spool(tmp_path).write_text("a file is in the way")
    log = open_log(tmp_path, SLOW)
    log.append([record("a")])
    assert not log.append_feedback([FeedbackRecord(endpoint="orders", received_at=now(), label={}, known_at=now())])
    spool(tmp_path).unlink()
    time.sleep(0.6)
    log.append([record("b")])
    assert ended(log)
    assert logged(tmp_path) == ["a", "b"]


# --- a lake that is away


def test_a_lake_that_is_away_is_waited_for(tmp_path: Path) -> None:
    is_away = True

    def opened() -> Lakehouse:
        if is_away:
            raise ConnectionError("the bucket does not answer")
        return lakehouse(tmp_path)

    log = InferenceLog(spool(tmp_path), opened, [ENDPOINT], Bounds(segment_bytes=2_000, disk_bytes=20_000, segment_seconds=3600))
    for number in range(200):
        log.append([record(f"{number:03}")])
        if number % 20 == 0:
            assert not log.flush()
    drained = drainer(spool(tmp_path), lambda: log.writer, opened, [ENDPOINT])
    assert not drained.once()
    assert drained.state.trouble == "the bucket does not answer"
    assert drained.state.failures == 1
    state = log.state()
    assert "its bound" in state.trouble
    assert state.disk_bytes < 25_000
    assert state.dropped == 0
    is_away = False
    log.flush()
    assert log.flush()  # what had waited in memory
    assert ended(log)
    assert logged(tmp_path) == [f"{number:03}" for number in range(200)]


# --- several processes


def test_two_that_drain_one_spool_commit_each_record_once(tmp_path: Path) -> None:
    written = Spool(spool(tmp_path), Bounds(segment_bytes=1_500, fsync_seconds=0))
    for number in range(40):
        written.append([(ENDPOINT.table, record(f"{number:02}"))])
    written.close_segment(at_once=True)
    writer, segments = written.writer, closed_segments(spool(tmp_path) / written.writer)
    assert len(segments) > 5
    with ThreadPoolExecutor(4) as threads:
        # A part of them, and all of them, as processes see that look at different times.
        tasks = [threads.submit(drain, writer, segments[: 2 + 3 * number], target(tmp_path), tmp_path / "aside") for number in range(4)]
        assert {task.exception() for task in tasks} == {None}
    drain(writer, segments, target(tmp_path), tmp_path / "aside")
    assert logged(tmp_path) == [f"{number:02}" for number in range(40)]


def test_a_segment_is_closed_once_the_next_one_is_there_whole(tmp_path: Path) -> None:
    written = Spool(spool(tmp_path), SLOW)
    folder = spool(tmp_path) / written.writer
    written.append([(ENDPOINT.table, record("a"))])
    with largest_file(0):
        written.close_segment(at_once=True)
    # Nobody drains what is still written to.
    assert closed_segments(folder) == []
    written.append([(ENDPOINT.table, record("b"))])
    written.close_segment(at_once=True)
    assert written.state().backlog == 2
    assert drain(written.writer, closed_segments(folder), target(tmp_path), tmp_path / "aside").rows == 2
    written.close_segment()
    assert written.state().backlog == 0
    written.close()
    assert logged(tmp_path) == ["a", "b"]


def test_processes_at_once_have_places_of_their_own_and_leave_them_to_the_next(tmp_path: Path) -> None:
    first, second = (Spool(spool(tmp_path), SLOW) for _ in range(2))
    first.append([(ENDPOINT.table, record("first"))])
    second.append([(ENDPOINT.table, record("second"))])
    assert drain_dead(spool(tmp_path), target(tmp_path)) == Drained()  # both live
    first.close()
    assert drain_dead(spool(tmp_path), target(tmp_path)) == Drained(1)
    second.close()
    third = open_log(tmp_path, SLOW)
    third.append([record("third")])
    assert ended(third)
    assert logged(tmp_path) == ["first", "second", "third"]
    assert len(list(spool(tmp_path).iterdir())) == 2


def test_a_copy_of_a_home_writes_under_a_name_of_its_own(tmp_path: Path) -> None:
    log = open_log(tmp_path, SLOW)
    log.append([record("a")])
    copytree(tmp_path / "home", tmp_path / "copy" / "home")
    log.append([record("b")])
    assert ended(log)
    opened = lakehouse(tmp_path)  # both write to one lake
    copy = InferenceLog(spool(tmp_path / "copy"), lambda: opened, [ENDPOINT], SLOW)
    copy.append([record("c")])
    assert ended(copy)
    assert logged(tmp_path) == ["a", "b", "c"]


@pytest.mark.parametrize("is_drained", [False, True], ids=["it waits", "it comes into the lake during the backup"])
def test_what_waits_in_a_spool_is_in_a_backup_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_drained: bool) -> None:
    log, root = open_log(tmp_path / "root", SLOW), tmp_path / "root"
    log.append([record("a")])
    assert log.flush()
    log.append([record("b")])
    own = Settings.load({"LAKEHOUSE_ROOT": str(root), "LAKEHOUSE_HOME": str(root / "home")})
    new = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path / "new"), "LAKEHOUSE_HOME": str(tmp_path / "new" / "home")})
    now = Pins.now
    if is_drained:  # once the spool has been copied, and before the first table is looked at
        monkeypatch.setattr(Pins, "now", lambda self, names: (ended(log), now(self, names))[1])
    open_lakehouse(settings=own, declarations=()).backup(str(tmp_path / "backups"))
    open_lakehouse(settings=new, declarations=()).restore_backup(str(tmp_path / "backups")).carry_out()
    assert logged(tmp_path / "new") == (["a", "b"] if is_drained else ["a"])
    assert drain_dead(spool(tmp_path / "new"), target(tmp_path / "new")) == Drained(0 if is_drained else 1)
    assert logged(tmp_path / "new") == ["a", "b"]
    assert is_drained or ended(log)


def test_numbers_go_on_when_all_segments_are_gone(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        log = open_log(tmp_path, SLOW)
        log.append([record(name)])
        assert ended(log)
    assert logged(tmp_path) == ["a", "b", "c"]


# --- bytes


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes(timezones=st.just(UTC)) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def same(left: Any, right: Any) -> bool:
    """Equal, where NaN is NaN, and what MessagePack does not have is text."""
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return isinstance(right, float) and (left == right or (math.isnan(left) and math.isnan(right)))
    if isinstance(left, date) and not isinstance(left, datetime):
        return right == left.isoformat()
    if isinstance(left, int) and not -(2**63) <= left < 2**64:
        return right == str(left)
    return type(left) is type(right) and left == right


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=6), st.data())
def test_what_is_whole_in_a_segment_is_read_whatever_is_around_it(features: list[dict[str, Any]], data: st.DataObject) -> None:
    records = [InferenceRecord(request_id=str(n), row=n, endpoint="e", received_at=now(), features=f) for n, f in enumerate(features)]
    written = frames(MARKER, [("a.b.c", one) for one in records])
    back = list(read(MARKER, b"".join(written)))
    assert [table for table, _ in back] == ["a.b.c"] * len(records)
    assert all(same(one.features, two.features) for one, (_, two) in zip(records, back, strict=True) if isinstance(two, InferenceRecord))

    # Torn pieces of frames in between, and a tail of zeros, as a full disk and a power failure leave them.
    pieces = [frame[: data.draw(st.integers(0, len(frame) - 1))] for frame in written]
    mixed = b"".join(piece + frame for piece, frame in zip(pieces, written, strict=True)) + bytes(50)
    assert [one.request_id for _, one in read(MARKER, mixed)] == [one.request_id for one in records]

    # A byte that turned over costs its record alone.
    if written:
        content = bytearray(b"".join(written))
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        ends = [sum(map(len, written[: number + 1])) for number in range(len(written))]
        hit = next(number for number, end in enumerate(ends) if at < end)
        assert [one.row for _, one in read(MARKER, bytes(content))] == [one.row for one in records if one.row != hit]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text(), VALUES, VALUES), min_size=1, max_size=4))
def test_rows_of_a_request_stand_in_the_table_as_if_each_were_logged_by_itself(values: list[tuple[Any, ...]]) -> None:
    at, count = now(), len(values)
    features = [dict(zip(("id", "x", "y"), one, strict=True)) for one in values]
    micros = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    shared: dict[str, Any] = {
        "request_id": "r", "endpoint": "e", "received_at": at, "model_name": "m", "model_version": 3, "variant": "champion",
        "requester": "me", "seconds": {"wait": 0.5},
    }  # fmt: skip
    store = {"table": "a.features.cards@7", "synced_at": at.isoformat()}
    stamp = {"status": "ok", "event_time": at.isoformat(), "known_at": at.isoformat(), "version": 2} | store
    alone = [
        InferenceRecord(**shared, row=row, event_time=at if row else None, key={"id": one["id"]} if row else {},
                        features=one if row else {name: value for name, value in one.items() if name != "id"}, form="features",
                        prediction={"p": row}, status={"cards": {"status": "missing"} | store if row else stamp}, request=one)
        for row, one in enumerate(features)
    ]  # fmt: skip
    together = InferenceRows(
        **shared, rows=list(range(count)), event_times=[None, *[at] * (count - 1)], key=["id"], unsent=[(0, ["id"])], form="features",
        features=(["id", "x", "y"], values), predictions=[{"p": row} for row in range(count)],
        status={"cards": ["ok", *["missing"] * (count - 1)]}, stamps={"cards": [(micros, micros, 2), *[None] * (count - 1)]},
        requests=(["id", "x", "y"], values), tables={"cards": "a.features.cards@7"}, synced={"cards": at},
    )  # fmt: skip
    assert together.count == count
    found = []
    for records in (alone, [together]):
        back = [one for _, one in read(MARKER, b"".join(frames(MARKER, [("a.b.c", one) for one in records])))]
        found.append(rows(back))
    assert found[0].rows(named=True) == found[1].rows(named=True)


def test_a_record_that_is_no_row_is_kept_aside_and_holds_no_other_one_up(tmp_path: Path) -> None:
    at = now()
    ragged = InferenceRows(
        request_id="ragged", rows=[0, 1], endpoint=ENDPOINT.name, received_at=at, event_times=[at, at], key=["id"], unsent=[],
        model_name="m", model_version=1, variant="champion", features=(["id", "x"], [("a", 1), ("b",)]), predictions=[{}, {}],
        status={}, stamps={}, requester="me", seconds={}, requests=(["id"], [("a",), ("b",)]),
    )  # fmt: skip
    written = Spool(spool(tmp_path), SLOW)
    written.append([(ENDPOINT.table, record("a")), (ENDPOINT.table, ragged), (ENDPOINT.table, record("b"))])
    written.close_segment(at_once=True)
    aside = tmp_path / "aside"
    folder = spool(tmp_path) / written.writer
    assert drain(written.writer, closed_segments(folder), target(tmp_path), aside) == Drained(2, 1)
    assert logged(tmp_path) == ["a", "b"]
    (kept,) = aside.iterdir()
    ((_, back),) = read_segment(kept)
    assert (back.request_id, back.rows) == ("ragged", [0, 1])
    written.close()


def test_a_record_may_hold_anything() -> None:
    odd = {
        "numpy": np.float64(0.1),
        "integer": np.int32(7),
        "decimal": Decimal("1.10"),
        3: "key",
        "half": "\ud800",
        "big": 2**70,
        "x": object,
    }
    one = InferenceRecord(request_id="\ud800", row=0, endpoint="e", received_at=now(), features=odd)
    ((_, back),) = read(MARKER, b"".join(frames(MARKER, [("a.b.c", one)])))
    assert isinstance(back, InferenceRecord)
    assert back.features["numpy"] == 0.1
    assert back.features["integer"] == 7
    assert back.features["decimal"] == "1.10"
    assert back.features["big"] == str(2**70)


@settings(max_examples=200, deadline=None)
@given(st.floats())
def test_numbers_stand_in_the_table_with_every_digit(value: float) -> None:
    (back,) = json.loads(as_json({"x": value})).values()
    assert back == value if math.isfinite(value) else math.isnan(float(back)) if math.isnan(value) else float(back) == value
    assert json.loads(as_json({"x": [{"y": value}]}))["x"][0]["y"] == back


# --- the table


def now() -> datetime:
    return datetime.now(UTC)


def reader(root: Path) -> Reader:
    return Reader(lakehouse(root), Policy, Principal("analyst"), AuditLog(root / "audit", print), lambda _: None)


def whole_record(endpoint: str) -> InferenceRecord:
    return InferenceRecord(
        request_id="r",
        row=0,
        endpoint=endpoint,
        received_at=datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2))),
        event_time=datetime(2026, 2, 28, 22, 29, tzinfo=UTC),
        key={"invoice": "489434"},
        model_name="fraud",
        model_version=3,
        features={"amount": 0.1, "card": None, "odd": math.nan},
        prediction={"probability": 0.25},
        status={"cards": "missing"},
        requester="shop",
        seconds={"model": 0.001},
        request={"email": "a@b.example"},
    )


def test_a_row_says_all_that_was_asked_and_answered(tmp_path: Path) -> None:
    log = open_log(tmp_path, SLOW)
    log.append([whole_record("orders")])
    assert ended(log)
    (row,) = lakehouse(tmp_path).table(ENDPOINT.table).scan().collect().rows(named=True)
    assert row["date"] == date(2026, 2, 28)
    assert row["received_at"] == datetime(2026, 2, 28, 22, 30, tzinfo=UTC)
    assert row["features"] == '{"amount":0.1,"card":null,"odd":"NaN"}'
    assert row["prediction"] == '{"probability":0.25}'
    assert row["model_version"] == 3


@pytest.mark.parametrize("personal", [True, False])
def test_the_reader_masks_what_is_personal(tmp_path: Path, personal: bool) -> None:
    opened = lakehouse(tmp_path)
    log = InferenceLog(spool(tmp_path), lambda: opened, [LoggedEndpoint("shop", "orders", personal=personal)], SLOW)
    log.append([whole_record("orders")])
    label = FeedbackRecord(endpoint="orders", received_at=now(), label={"is_fraud": True}, known_at=now(), key={"invoice": "489434"})
    assert log.append_feedback([label])
    assert ended(log)
    (row,) = reader(tmp_path).scan(ENDPOINT.table).collect().rows(named=True)
    assert [row[name] == "•••" for name in ("key", "features", "request")] == [personal] * 3
    assert row["prediction"] == '{"probability":0.25}'
    (row,) = reader(tmp_path).scan(ENDPOINT.feedback_table).collect().rows(named=True)
    assert (row["key"] == "•••") == personal
    assert row["label"] == '{"is_fraud":true}'


def test_a_declaration_that_promises_no_columns_leaves_it_to_the_log_what_is_personal(tmp_path: Path) -> None:
    log = open_log(tmp_path, SLOW)
    log.append([whole_record("orders")])
    assert ended(log)
    declared = replace(level_model, name=ENDPOINT.table)
    assert not declared.schema
    masked = replace(reader(tmp_path), policy=lambda: policy_of([declared])).scan(ENDPOINT.table).collect()
    assert masked["key"].to_list() == ["•••"]


def test_a_log_of_an_endpoint_that_is_not_declared_any_more_is_masked(tmp_path: Path) -> None:
    written = Spool(spool(tmp_path), SLOW)
    written.append([("old.inference.gone", whole_record("gone"))])
    written.close()
    assert ended(open_log(tmp_path))
    assert reader(tmp_path).scan("old.inference.gone").collect()["key"].to_list() == ["•••"]


def test_maintenance_puts_the_small_files_together(tmp_path: Path) -> None:
    log = open_log(tmp_path, SLOW)
    for number in range(12):
        log.append([record(f"{number:02}")])
        assert log.flush()
    assert ended(log)

    def registry() -> Any:
        raise AssertionError("no model was decided about")

    maintenance = Maintenance(lakehouse(tmp_path), [], registry, retention=timedelta(days=7))
    done = {one.table: one for one in maintenance.run("test")}[ENDPOINT.table]
    assert done.why_not is None or not done.why_not
    assert done.files_after < done.files_before
    assert logged(tmp_path) == [f"{number:02}" for number in range(12)]


def test_a_lake_in_a_bucket(tmp_path: Path, bucket: str) -> None:
    log = InferenceLog(spool(tmp_path), lambda: Lakehouse(f"{bucket}/tables"), [ENDPOINT], SLOW)
    for number in range(3):
        log.append([record(f"{number}")])
        assert log.flush()
    assert ended(log)
    rows = Lakehouse(f"{bucket}/tables").table(ENDPOINT.table).scan().collect()
    assert sorted(rows["request_id"]) == ["0", "1", "2"]


@pytest.mark.parametrize("fsync_seconds", [0, 0.05])
def test_closed_segments_are_flushed_and_let_go(tmp_path: Path, fsync_seconds: float) -> None:
    def opened() -> int:
        return sum(str(tmp_path) in os.path.realpath(link) for link in Path("/proc/self/fd").iterdir())

    log = open_log(tmp_path, Bounds(segment_bytes=500, segment_seconds=3600, fsync_seconds=fsync_seconds))
    for number in range(100):
        log.append([record(str(number))])
    assert log.flush()
    wait_until(lambda: opened() <= 2)  # the lock and the open segment
    assert ended(log)
    assert opened() == 0


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
