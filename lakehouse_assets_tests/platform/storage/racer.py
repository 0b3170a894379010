"""A process that appends, merges, replaces and restores one table as fast as it can, among others that do the same; see `test_race`.

`python -m … ROOT NAME SECONDS`. Every commit says in its log what it did, so that the test can do the same in plain Python.
"""

import json
import random
import sys
import time
from contextlib import suppress

import polars as pl

from lakehouse_assets.platform.storage import merge, restore
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import CursorMoved
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

TABLE = "shop.silver.shared"
SCHEMA = {"part": pl.Int64(), "id": pl.Int64(), "batch": pl.Int64()}
# Partitions that all processes write; each has one of its own besides.
APPENDED, MERGED, REPLACED = -1, -2, -3
SHARED_KEYS = 6


def source_of(name):
    return f"shop.bronze.source_{name}"


class Racer:
    """One process: its batches are numbered, and after a restore it does those again that went with it."""

    def __init__(self, root, name):
        self.table, self.name = Lakehouse(root).table(TABLE), int(name)
        self.longest, self.times = 0.0, dict.fromkeys(("append", "merge", "replace", "restore"), 0)

    def run(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            start = time.monotonic()
            how = random.choices(list(self.times), [5, 5, 5, 1])[0]
            if how == "restore":
                newest = self.table.version()
                restore.restore(self.table, max(0, newest - random.randint(1, 6)), str(self.name))
            else:
                self.write(how)
            self.times[how] += 1
            self.longest = max(self.longest, time.monotonic() - start)

    def write(self, how):
        """One batch; the next one if a restore brought this one back, as it was done before."""
        written = None
        while written is None or written.counts is None:
            at = self.table.cursor(source_of(self.name))
            with suppress(CursorMoved):  # a restore took the batch before away: do that one
                written = self.batch(how, at, 0 if at is None else at + 1)

    def batch(self, how, at, number):
        ids, part, scope = self.choose(how, number)
        frame = pl.DataFrame({"part": part, "id": ids, "batch": number}, schema=SCHEMA)
        did = {"by": self.name, "number": number, "how": how, "rows": frame.rows(), "scope": scope}

        def info(counts):
            account = {"written": counts.written, "updated": counts.updated, "duplicates": counts.duplicates, "removed": counts.removed}
            return {"lakehouse.did": json.dumps(did | {"account": account})}

        commit = Commit((Cursor(source_of(self.name), at, number),), info)
        if how == "append":
            return self.table.append(frame, commit)
        if how == "merge":
            return merge.merge(self.table, frame, ["part", "id"], commit)
        return self.table.replace(frame, None if scope is None else {"part": scope}, commit)

    def choose(self, how, number):
        """Ids, their partitions, and the scope of a replacement."""
        if how == "append":
            part = random.choice([APPENDED, self.name])
            return [10_000 * self.name + number], [part], None
        if how == "merge":  # keys of everybody, at times one twice, beside a row of its own
            shared = random.choices(range(SHARED_KEYS), k=3)
            return [*shared, 10_000 * self.name + number], [MERGED, MERGED, MERGED, APPENDED], None
        scope = random.choices([[REPLACED], [self.name], [REPLACED, self.name], [MERGED], None], [4, 4, 2, 1, 1])[0]
        part = scope or [REPLACED]
        return [100_000_000 + i for i in range(len(part))], part, scope


if __name__ == "__main__":
    racer = Racer(*sys.argv[1:3])
    print("ready", flush=True)
    sys.stdin.readline()  # all start at once
    racer.run(float(sys.argv[3]))
    print(json.dumps({"longest": racer.longest, "times": racer.times}), flush=True)
