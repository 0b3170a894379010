"""Eight processes write one table at once: what it holds then is what some serial order of their commits would have left."""

import json
import subprocess
import sys
from collections import Counter

from lakehouse_assets_tests import sweeps
from lakehouse_assets_tests.platform.storage import racer
from lakehouse_assets_tests.platform.storage.fresh import rows_of

PROCESSES, SECONDS = sweeps.of((5, 8), (8, 15))
# A writer that loses every race gives up after two minutes; none may come near.
NOBODY_WAITS_SECONDS = 60


class Model:
    """The table in plain Python, after each of its commits: rows as (part, id, batch) with how often they stand there, and cursors."""

    def __init__(self):
        self.rows, self.cursors = [Counter()], [{}]

    def write(self, did):
        """One batch; what it says of its rows has to be what becomes of them here."""
        rows, cursors = self.rows[-1].copy(), dict(self.cursors[-1])
        assert did["number"] == cursors.get(did["by"], -1) + 1, "a batch was done twice, or one was left out"
        cursors[did["by"]] = did["number"]
        assert getattr(self, did["how"])(rows, [tuple(row) for row in did["rows"]], did["scope"]) == Counter(did["account"]), did
        self.rows.append(rows)
        self.cursors.append(cursors)

    def restore(self, version):
        self.rows.append(self.rows[version])
        self.cursors.append(self.cursors[version])

    @staticmethod
    def append(held, rows, scope):
        held.update(rows)
        return Counter(written=len(rows))

    @staticmethod
    def merge(held, rows, scope):
        latest = {row[:2]: row for row in rows}
        old = {row[:2]: row for row in held}
        changed = [key for key in latest if key in old and old[key] != latest[key]]
        new = [key for key in latest if key not in old]
        for key in changed:
            del held[old[key]]
        held.update(latest[key] for key in [*changed, *new])
        return Counter(written=len(new), updated=len(changed), duplicates=len(rows) - len(new) - len(changed))

    @staticmethod
    def replace(held, rows, scope):
        gone = [row for row in held.elements() if scope is None or row[0] in scope]
        held.subtract(gone)
        held.update(rows)
        for row in [row for row, count in held.items() if not count]:
            del held[row]
        return Counter(written=len(rows), removed=len(gone))


def test_processes_leave_what_some_serial_order_of_their_commits_would_leave(lakehouse):
    table = lakehouse.table(racer.TABLE)
    table.create(racer.SCHEMA, ("part",))
    said = race(lakehouse.root)

    model, by_restore = Model(), 0
    commits = sorted(table.commits(), key=lambda commit: commit["version"])
    assert [commit["version"] for commit in commits] == list(range(table.version() + 1))
    for commit in commits[1:]:
        if "did" in commit["info"]:
            model.write(json.loads(commit["info"]["did"]))
        else:
            model.restore(int(commit["info"]["restored_to"]))
            by_restore += 1

    assert rows_of(table) == sorted(model.rows[-1].elements(), key=repr)
    assert {name: table.cursor(racer.source_of(name)) for name in said} == {name: model.cursors[-1].get(name) for name in said}
    # What each process was told to be done is in the log, and nothing else.
    writes = Counter((did["by"], did["how"]) for commit in commits if (did := json.loads(commit["info"].get("did", "null"))))
    told = Counter({(name, how): times for name, report in said.items() for how, times in report["times"].items() if how != "restore"})
    assert writes == told
    assert by_restore <= sum(report["times"]["restore"] for report in said.values())
    # Nobody waits for ever, and each kind of write came in between the others.
    assert all(sum(report["times"].values()) >= 3 and report["longest"] < NOBODY_WAITS_SECONDS for report in said.values()), said
    assert by_restore
    assert {how for _, how in writes} == {"append", "merge", "replace"}


def race(root):
    command = [sys.executable, "-m", "lakehouse_assets_tests.platform.storage.racer", root]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = {name: subprocess.Popen([*command, str(name), str(SECONDS)], **pipes) for name in range(PROCESSES)}
    try:
        assert {process.stdout.readline() for process in processes.values()} == {"ready\n"}
        for process in processes.values():
            process.stdin.write("go\n")
            process.stdin.flush()
        said = {name: process.communicate()[0] for name, process in processes.items()}
        assert [process.returncode for process in processes.values()] == [0] * PROCESSES
    finally:
        for process in processes.values():
            process.kill()
    return {name: json.loads(report) for name, report in said.items()}
