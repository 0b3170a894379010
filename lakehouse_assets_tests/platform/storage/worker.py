"""A process that writes tables until it is done or killed; started by `test_kill` and `test_writers`.

`consume ROOT UNTIL [DIE]`: does the batches of a source up to number UNTIL, each in an append, a merge and a replacement. DIE says where it
kills itself: `before` or `after` the second commit of this process.
`write ROOT NAME SECONDS`: appends, merges and replaces as fast as it can, and says what it has committed.
"""

import itertools
import json
import os
import random
import signal
import sys
import time

import polars as pl

from lakehouse_assets.platform.storage import merge
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

SOURCE = "shop.bronze.source"
SCHEMA = {"part": pl.Int64(), "id": pl.Int64(), "batch": pl.Int64()}
PARTS, KEYS = 3, 7


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def rows(part, ids, batch):
    return pl.DataFrame({"id": ids, "batch": batch}, schema={"id": pl.Int64, "batch": pl.Int64}).select(
        pl.lit(part, dtype=pl.Int64).alias("part"), "id", "batch"
    )


def append_batch(table, number, commit):
    """Three rows that no other batch has."""
    return table.append(rows(number % PARTS, range(3 * number, 3 * number + 3), number), commit)


def merge_batch(table, number, commit):
    """One key that other batches have too, and one that they do not."""
    return merge.merge(table, rows(0, [number % KEYS, KEYS + number], number), ["part", "id"], commit)


def replace_batch(table, number, commit):
    """The whole of a partition."""
    part = number % PARTS
    return table.replace(rows(part, range(number + 1), number), {"part": [part]}, commit)


WRITES = {"appended": append_batch, "updated": merge_batch, "replaced": replace_batch}


def after_all_batches(until):
    """What the tables have to hold when the batches 0 to `until` were done once each."""
    latest = {number % PARTS: number for number in range(until + 1)}
    merged = {number % KEYS: number for number in range(until + 1)} | {KEYS + number: number for number in range(until + 1)}
    return {
        "appended": sorted((number % PARTS, 3 * number + i, number) for number in range(until + 1) for i in range(3)),
        "updated": sorted((0, key, number) for key, number in merged.items()),
        "replaced": sorted((part, id_, number) for part, number in latest.items() for id_ in range(number + 1)),
    }


def consume(root, until, die=None):
    commits = itertools.count(1)
    tables = {name: Lakehouse(root).table(f"shop.silver.{name}") for name in WRITES}
    say("ready")
    for table in tables.values():
        table.create(SCHEMA, ("part",))
    while open_ := [name for name, table in tables.items() if table.cursor(SOURCE) != until]:
        for name in open_:
            at = tables[name].cursor(SOURCE)
            number = 0 if at is None else at + 1
            if number > until:
                continue
            nth = next(commits)

            def info(_, nth=nth):
                if die == "before" and nth == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return {}

            try:
                WRITES[name](tables[name], number, Commit((Cursor(SOURCE, at, number),), info))
            except CursorMoved:
                continue
            if die == "after" and nth == 2:
                os.kill(os.getpid(), signal.SIGKILL)


def write(root, name, seconds):
    table = Lakehouse(root).table("shop.silver.shared")
    own, number, held, versions = int(name), -1, {}, []
    say("ready")
    sys.stdin.readline()  # all start at once
    table.create(SCHEMA, ("part",))
    deadline = time.monotonic() + float(seconds)
    while not versions or time.monotonic() < deadline:
        commit = Commit((Cursor(f"shop.bronze.source_{name}", number if number >= 0 else None, number + 1),))
        number += 1
        match random.choice(["append", "merge", "replace"]):
            case "append":  # into the partition of all writers
                ids = [1000 * number + own]
                written = table.append(rows(-1, ids, number), commit)
                held |= {(-1, id_): number for id_ in ids}
            case "merge":  # a change of own rows beside the rows of others
                ids = [*[id_ for part, id_ in held if part == -1][-2:], 1000 * number + own]
                written = merge.merge(table, rows(-1, ids, number), ["part", "id"], commit)
                held |= {(-1, id_): number for id_ in ids}
            case "replace":  # a partition of its own
                written = table.replace(rows(own, [number, number + 1], number), {"part": [own]}, commit)
                held = {key: batch for key, batch in held.items() if key[0] != own} | {(own, number): number, (own, number + 1): number}
        versions.append(written.version)
    say(json.dumps({"held": [[*key, batch] for key, batch in held.items()], "versions": versions, "cursor": number}))


if __name__ == "__main__":
    {"consume": lambda root, until, *die: consume(root, int(until), *die), "write": write}[sys.argv[1]](*sys.argv[2:])
