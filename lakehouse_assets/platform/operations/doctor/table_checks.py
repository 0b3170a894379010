"""Checks of one table: each finds one kind of trouble, and says what to do as a command that can be run as it stands.

The list at the end is the order in which they are made.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import polars as pl

from lakehouse_assets.platform.declarations.base import QUARANTINE_SUFFIX
from lakehouse_assets.platform.declarations.feeds import FeedDeclaration
from lakehouse_assets.platform.declarations.tables import TableDeclaration
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.operations.doctor.findings import CheckedTable, Finding, base_name, rebuild, unopened
from lakehouse_assets.platform.pipeline import functions, layout, source_ids, swap
from lakehouse_assets.platform.pipeline.marks import FULL_REFRESH
from lakehouse_assets.platform.pipeline.quarantine import unreleased
from lakehouse_assets.platform.storage import inventory, maintenance
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.platform.wording import counted, size

_MANY: Final = 4
# Maintenance comes at night; only what it should have found by then is a finding.
_LONG_LOG = 2 * maintenance.LOG_ENTRIES
_READER, _WRITER = 1, 4
# What a writer of the floor knows under other names.
_PLAIN_FEATURES = frozenset({"appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "timestampNtz"})


def missing_files(checked: CheckedTable) -> Iterator[Finding]:
    """Data files that the newest version names and that are not there."""
    missing = inventory.files_of(checked.delta) - set(checked.stock.data)
    if missing:
        what = f"{counted(len(missing), 'of its files is', 'of its files are')} gone, so it cannot be read: {min(missing)}"
        yield checked.finding("error", what, rebuild(checked))


def small_files(checked: CheckedTable) -> Iterator[Finding]:
    """Partitions with so many small files that maintenance cannot have seen them for long; what the next night puts right is none."""
    if checked.state.crowded and checked.state.small_files >= _MANY * maintenance.SMALL_FILES_A_PARTITION * len(checked.state.crowded):
        crowded = counted(len(checked.state.crowded), "partition")
        what = f"{checked.state.small_files:,} small files, and {crowded} with too many of them"
        yield checked.finding("warning", what, f"lakehouse maintenance {base_name(checked)}")


def long_log(checked: CheckedTable) -> Iterator[Finding]:
    """A log that readers have to read commit by commit."""
    if checked.stock.log_entries > _LONG_LOG:
        what = f"{checked.stock.log_entries:,} commits since the last checkpoint: opening it takes longer than it has to"
        yield checked.finding("warning", what, f"lakehouse maintenance {base_name(checked)}")


def leftovers(checked: CheckedTable) -> Iterator[Finding]:
    """Files that no commit names."""
    try:
        left = maintenance.unlogged(checked.table, checked.checkup.now, checked.checkup.maintenance.pins.get(checked.name, ()))
    except NoSuchVersion as error:
        yield checked.finding("note", f"{error}: vacuum leaves this table alone")
        return
    if left:
        what = f"{counted(len(left), 'file')} ({size(sum(left.values()))}) that no commit names, as a killed write leaves them: {min(left)}"
        yield checked.finding("warning", what, f"lakehouse maintenance {base_name(checked)}")


def protocol(checked: CheckedTable) -> Iterator[Finding]:
    """What keeps other readers out."""
    version = checked.delta.protocol()
    features = {*(version.reader_features or ()), *(version.writer_features or ())} - _PLAIN_FEATURES
    if version.min_reader_version > _READER or features or (version.min_writer_version > _WRITER and not version.writer_features):
        stands = ", ".join([f"reader {version.min_reader_version}", f"writer {version.min_writer_version}", *sorted(features)])
        what = f"its protocol ({stands}) is above what every reader knows (reader {_READER}, writer {_WRITER})"
        yield checked.finding("error", what, rebuild(checked))


def contract(checked: CheckedTable) -> Iterator[Finding]:
    """Columns, types, keys or partitions that are not those of the declaration, and that the next run cannot change by itself."""
    asset = checked.asset
    if isinstance(asset, TableDeclaration):
        if needed := list(layout.needs_full_refresh(asset, checked.checkup.lakehouse)):
            what = f"its declaration differs from the stored table in a way that this cannot follow: {'; '.join(needed)}"
            yield checked.finding("error", what, f"lakehouse run {checked.name} --full-refresh")
    elif isinstance(asset, FeedDeclaration):
        stored = checked.table.schema()
        other = [f"{name} is {stored[name]} instead of {dtype}" for name, dtype in asset.schema.items() if stored.get(name, dtype) != dtype]
        if other:
            yield checked.finding("error", f"it disagrees with its declaration: {'; '.join(other)}", rebuild(checked))


def function(checked: CheckedTable) -> Iterator[Finding]:
    """Rows that the function computed before it was changed."""
    asset = checked.asset
    if isinstance(asset, TableDeclaration) and functions.has_changed(asset, checked.checkup.lakehouse):
        what = "its function was changed, and rows that it computed before are as they were"
        yield checked.finding("warning", what, f"lakehouse run {checked.name} --full-refresh")


def interrupted_full_refresh(checked: CheckedTable) -> Iterator[Finding]:
    """A full refresh that was begun and not ended: the table is as it was before."""
    asset = checked.asset
    if checked.checkup.is_running or not isinstance(asset, TableDeclaration):
        return
    built = swap.built_for(asset, checked.checkup.lakehouse)
    if built is not None and swap.number_of(built) > (checked.table.cursor(FULL_REFRESH) or 0):
        yield checked.finding(
            "warning", "a full refresh was interrupted; the next one takes it up", f"lakehouse run {checked.name} --full-refresh"
        )


def cursors(checked: CheckedTable) -> Iterator[Finding]:
    """Cursors that point to where their source has nothing to be read (any more)."""
    asset = checked.asset
    if isinstance(asset, FeedDeclaration):
        yield from _landing_cursor(checked, asset)
    if not isinstance(asset, TableDeclaration):
        return
    for name in asset.sources():
        at, source = checked.table.cursor(name), checked.checkup.lakehouse.table(name)
        if at is None:
            continue
        if not source.exists():
            yield checked.finding("error", f"it has read {name} up to version {at}, but that is gone", f"lakehouse run {name}")
        elif unopened(source):
            continue  # that is a finding of its own
        elif why := source_ids.why_unreadable(checked.table, source):
            yield checked.finding("error", why.replace(checked.name, "it", 1), source_ids.remedy(checked.table))
        elif at < maintenance.readable_from(source) and asset.kind.changed_at(source, at) != at:
            what = f"it has read {name} up to version {at}, and what changed since then was vacuumed"
            yield checked.finding("error", what, f"lakehouse run {checked.name} --full-refresh")


def _landing_cursor(checked: CheckedTable, asset: FeedDeclaration) -> Iterator[Finding]:
    at = checked.table.cursor(f"landing/{asset.feed.name}")
    numbered = checked.checkup.lakehouse.table(landing.LOG).cursor(f"numbered/{asset.feed.name}")
    if at is not None and at > (numbered or 0):
        what = (
            f"it has read the files of feed {asset.feed.name} up to number {at}, but the landing log has given {numbered or 0}: the log "
            "was deleted and created again, and new files with lower numbers would not be read"
        )
        yield checked.finding("error", what, rebuild(checked))


def without_sibling(checked: CheckedTable) -> Iterator[Finding]:
    """A quarantine whose table was deleted, or a table whose quarantine was."""
    declared, lakehouse = checked.checkup.declared.get(base_name(checked)), checked.checkup.lakehouse
    if not isinstance(declared, TableDeclaration) or checked.checkup.is_running:
        return
    if checked.name == declared.name and not lakehouse.table(declared.quarantine).exists():
        what = "its quarantine is gone: the rows that it rejected are in neither"
        yield checked.finding("error", what, f"lakehouse run {declared.name} --full-refresh")
    elif checked.name == declared.quarantine and not lakehouse.table(declared.name).exists():
        yield checked.finding("error", f"{declared.name} is gone, and this is its quarantine", f"lakehouse run {declared.name}")


def interrupted(checked: CheckedTable) -> Iterator[Finding]:
    """A batch whose rejected rows are in the quarantine and whose other rows are not in the table."""
    asset = checked.asset
    if checked.checkup.is_running or not isinstance(asset, TableDeclaration):
        return
    quarantine = checked.checkup.lakehouse.table(asset.quarantine)
    ahead = []
    for name in asset.sources():
        set_aside, at = quarantine.cursor(name), checked.table.cursor(name)
        if set_aside is not None and set_aside > (-1 if at is None else at):
            ahead.append(name)
    if ahead:
        what = f"a run died between its quarantine and the table, in a batch of {', '.join(ahead)}"
        yield checked.finding("warning", what, f"lakehouse run {checked.name}")


def quarantined(checked: CheckedTable) -> Iterator[Finding]:
    """Rows that wait to be fixed."""
    if not checked.name.endswith(QUARANTINE_SUFFIX):
        return
    rows = unreleased(checked.table).select(pl.len()).collect().item()
    if rows:
        base = base_name(checked)
        what = f"{counted(rows, 'row was', 'rows were')} rejected and not released"
        yield checked.finding("note", what, f"lakehouse quarantine show {base}")


OF_A_TABLE: Final[Sequence[Callable[[CheckedTable], Iterator[Finding]]]] = (
    protocol,
    missing_files,
    contract,
    function,
    interrupted_full_refresh,
    cursors,
    without_sibling,
    interrupted,
    small_files,
    long_log,
    leftovers,
    quarantined,
)
