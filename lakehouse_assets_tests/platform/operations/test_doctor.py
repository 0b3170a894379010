"""The doctor finds nothing in a healthy lakehouse, and each kind of trouble by name, with a way out that works."""

import os
import shlex
import shutil
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from lakehouse_assets import products
from lakehouse_assets.platform.declarations.loading import BrokenProduct
from lakehouse_assets.platform.ingestion import landing
from lakehouse_assets.platform.operations.doctor import lakehouse_checks
from lakehouse_assets.platform.operations.doctor.examine import examine
from lakehouse_assets.platform.operations.doctor.findings import Checkup
from lakehouse_assets.platform.operations.maintenance import Maintenance
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.pipeline.model_training import digest_of
from lakehouse_assets.platform.registry.ledger import LEDGER_SCHEMA
from lakehouse_assets.platform.registry.registry import Aliases
from lakehouse_assets.platform.storage import maintenance, platform_tables
from lakehouse_assets.platform.storage.commit import Commit, Cursor
from lakehouse_assets.platform.storage.errors import NoSuchVersion
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text, run_products, runner, tables_of

DECLARED = load(products).declarations
INVOICES = """Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country
489434,85048,BALL,12,2009-12-01 07:45:00,6.95,13085,United Kingdom
489435,85048,BALL,twelve,2009-12-01 07:45:00,6.95,13085,United Kingdom
"""
BRONZE, SILVER, GOLD = "sales.bronze.invoices", "sales.silver.invoice_lines", "sales.gold.daily_revenue"
LEDGER = "revenue_forecast.models.daily_revenue"
MONTH = timedelta(days=30)


def no_model():
    raise AssertionError("no model was ever decided about")


def checkup(settings, registry=no_model):
    lakehouse = tables_of(settings)
    kept = Maintenance(lakehouse, DECLARED, registry, timedelta(days=7))
    return Checkup(lakehouse, DECLARED, frozenset(), kept, is_running=False, now=datetime.now(UTC))


def wrong(checkup):
    return [finding for finding in examine(checkup) if finding.severity != "note"]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    settings = Settings.load({"LAKEHOUSE_ROOT": str(tmp_path_factory.mktemp("doctor") / "root")})
    land_text(settings, "invoices", "first.csv", INVOICES)
    run_products(settings, ["sales"])
    land_text(settings, "invoices", "second.csv", INVOICES.replace("489434", "489436"))
    run_products(settings, ["sales"])
    return settings.root


@pytest.fixture
def healthy(template, settings):
    shutil.copytree(template, settings.root, copy_function=shutil.copy2)
    return settings


def test_a_healthy_lakehouse_has_notes_alone(healthy):
    assert [(f.severity, f.table, f.fix) for f in examine(checkup(healthy))] == [
        ("note", f"{SILVER}__quarantine", f"lakehouse quarantine show {SILVER}")
    ]


def test_an_empty_lakehouse_is_healthy(settings):
    assert list(examine(checkup(settings))) == []


# --- troubles: each makes one, and says which table, how bad, what is said, and what mends it


def many_small_files(settings):
    table = tables_of(settings).table(BRONZE)
    for _ in range(4 * maintenance.SMALL_FILES_A_PARTITION):
        table.append(table.scan().limit(1).collect())
    # Appended behind the back of silver, which is not what this is about.
    return BRONZE, "warning", "small files", f"lakehouse maintenance {BRONZE}"


def an_orphan(settings):
    tables_of(settings).table("old.silver.table").create({"a": pl.Int64()})
    return "old.silver.table", "warning", "no product declares", "mv "


def a_long_log(settings):
    table = tables_of(settings).table(GOLD)
    table.delta().alter.set_table_properties({"delta.checkpointInterval": "1000"})
    for _ in range(2 * maintenance.LOG_ENTRIES):
        table.append(table.scan().limit(0).collect())
    return GOLD, "warning", "since the last checkpoint", f"lakehouse maintenance {GOLD}"


def a_killed_write(settings):
    path = Path(tables_of(settings).table(GOLD).uri, "part-0-left.zstd.parquet")
    path.write_bytes(b"half")
    at = time.time() - timedelta(days=8).total_seconds()
    os.utime(path, (at, at))
    return GOLD, "warning", "1 file (4 B) that no commit names", f"lakehouse maintenance {GOLD}"


def a_lost_file(settings):
    Path(tables_of(settings).table(GOLD).delta().file_uris()[0]).unlink()
    return GOLD, "error", "is not intact", f"lakehouse restore {GOLD} --last-good"


def a_source_made_anew(settings, versions=0):
    """With so many versions of its own; silver has read two of the former one."""
    source, rows = tables_of(settings).table(BRONZE), tables_of(settings).table(BRONZE).scan().collect()
    shutil.rmtree(source.uri)
    source.create(rows.schema)
    for _ in range(versions):
        source.append(rows.clear() if source.version() else rows)
    since = f"up to version 2, and {BRONZE} was deleted and created again since: it is at version {versions}."
    return SILVER, "error", f"it has read {BRONZE} {since}", f"lakehouse run {SILVER} --full-refresh"


def a_source_made_anew_with_as_many_versions(settings):
    return a_source_made_anew(settings, 2)


def a_source_made_anew_with_more_versions(settings):
    return a_source_made_anew(settings, 4)


def a_source_that_is_gone(settings):
    shutil.rmtree(tables_of(settings).table(BRONZE).uri)
    return SILVER, "error", "but that is gone", f"lakehouse run {BRONZE}"


def a_table_that_is_gone(settings):
    shutil.rmtree(tables_of(settings).table(SILVER).uri)
    return f"{SILVER}__quarantine", "error", f"{SILVER} is gone, and this is its quarantine", f"lakehouse run {SILVER}"


def a_quarantine_that_is_gone(settings):
    shutil.rmtree(tables_of(settings).table(f"{SILVER}__quarantine").uri)
    return SILVER, "error", "its quarantine is gone", f"lakehouse run {SILVER} --full-refresh"


def a_file_in_place_of_a_table(settings):
    place = Path(tables_of(settings).table(platform_tables.CACHE).uri)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("not a folder")
    return platform_tables.CACHE, "error", f"there is a file where its folder has to be: {place}", f"mv {place} "


def a_vacuumed_change(settings):
    source = tables_of(settings).table(SILVER)
    source.replace(source.scan().collect(), None)
    source.replace(source.scan().collect(), None)
    later = datetime.now(UTC) + MONTH
    maintenance.maintain(source, maintenance.Keep(None, (), timedelta(days=7), later), "by hand")
    return GOLD, "error", "what changed since then was vacuumed", f"lakehouse run {GOLD} --full-refresh"


def a_landing_log_made_anew(settings):
    shutil.rmtree(tables_of(settings).table(landing.LOG).uri)
    return BRONZE, "error", "up to number 2, but the landing log has given 0", "mv "


def other_columns(settings):
    table = tables_of(settings).table(GOLD)
    table.add_columns({"surprise": pl.String()})
    return GOLD, "error", "column surprise is not declared any more", f"lakehouse run {GOLD} --full-refresh"


def an_interrupted_batch(settings):
    quarantine = tables_of(settings).table(f"{SILVER}__quarantine")
    at = quarantine.cursor(BRONZE)
    quarantine.append(quarantine.scan().limit(0).collect(), Commit((Cursor(BRONZE, at, at + 1),)))
    return SILVER, "warning", "a run died between its quarantine and the table", f"lakehouse run {SILVER}"


def a_refused_file(settings):
    land_text(settings, "products", "bad.csv", b"")
    run_products(settings, ["sales"])
    return landing.LOG, "warning", "1 file of feed products could not be read (bad.csv is empty", "lakehouse files retry products/bad.csv"


def a_changed_file(settings):
    land_text(settings, "invoices", "first.csv", INVOICES + "\n")
    run_products(settings, ["sales"])
    return landing.LOG, "warning", "changed after it was read", "lakehouse files reread invoices/first.csv"


def a_newer_protocol(settings):
    table = tables_of(settings).table(GOLD)
    table.delta().alter.set_table_properties({"delta.enableDeletionVectors": "true"}, raise_if_not_exists=False)
    log = Path(table.uri, "_delta_log", f"{table.version():020d}.json")
    log.write_text(
        log.read_text() + '\n{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],'
        '"writerFeatures":["deletionVectors","changeDataFeed"]}}\n'
    )
    return GOLD, "error", "reader 3, writer 7, deletionVectors", "mv "


def column_mapping(settings):
    log = Path(tables_of(settings).table(GOLD).uri, "_delta_log", f"{0:020d}.json")
    log.write_text(log.read_text().replace('"configuration":{', '"configuration":{"delta.columnMapping.mode":"name",'))
    return GOLD, "error", "column mapping", "mv "


BY_MAINTENANCE = [many_small_files, a_long_log, a_killed_write]
BY_MOVING = [an_orphan, column_mapping, a_file_in_place_of_a_table]
MADE_ANEW = [a_source_made_anew, a_source_made_anew_with_as_many_versions, a_source_made_anew_with_more_versions]
BY_FULL_REFRESH = [a_vacuumed_change, other_columns, a_quarantine_that_is_gone, *MADE_ANEW]
OTHERS = [
    a_lost_file,
    a_source_that_is_gone,
    a_table_that_is_gone,
    a_landing_log_made_anew,
    an_interrupted_batch,
    a_refused_file,
    a_changed_file,
    a_newer_protocol,
]
"""Each trouble by what mends it here."""


def named(healthy, trouble):
    """Make a trouble; what the doctor finds of it, by name and with its way out."""
    table, severity, what, fix = trouble(healthy)
    findings = wrong(checkup(healthy))
    found = [finding for finding in findings if finding.table == table and what in finding.what]
    assert [finding.severity for finding in found] == [severity], findings
    assert fix in found[0].fix
    return found[0]


@pytest.mark.parametrize("trouble", OTHERS, ids=lambda trouble: trouble.__name__)
def test_each_trouble_is_named_with_its_way_out(healthy, trouble):
    named(healthy, trouble)


@pytest.mark.parametrize("trouble", BY_MAINTENANCE, ids=lambda trouble: trouble.__name__)
def test_maintenance_fixes_what_it_is_named_for(healthy, trouble):
    named(healthy, trouble)
    for _ in checkup(healthy).maintenance.run("maintenance-1"):
        pass
    assert wrong(checkup(healthy)) == []


@pytest.mark.parametrize("trouble", BY_MOVING, ids=lambda trouble: trouble.__name__)
def test_moving_a_table_away_and_running_again_mends(healthy, trouble):
    for command in named(healthy, trouble).fix.split(" && "):
        if command.startswith("mv "):
            subprocess.run(shlex.split(command), check=True)
    run_products(healthy, ["sales"])
    assert wrong(checkup(healthy)) == []


@pytest.mark.parametrize("trouble", BY_FULL_REFRESH, ids=lambda trouble: trouble.__name__)
def test_a_full_refresh_mends_in_place(healthy, trouble):
    table = named(healthy, trouble).table
    gold = tables_of(healthy).table(table)
    before = gold.delta().metadata().id, gold.version()
    runner(healthy, load(products)).run([table], run_id="again", from_scratch=True)
    assert [finding for finding in wrong(checkup(healthy)) if finding.table == table] == []
    assert gold.delta().metadata().id == before[0]
    assert gold.version() > before[1]


@pytest.mark.parametrize("trouble", MADE_ANEW, ids=lambda trouble: trouble.__name__)
def test_a_run_and_the_doctor_name_the_same_command(healthy, trouble):
    """The one that keeps the table, and no other that the run would refuse."""
    found = named(healthy, trouble)
    assert found.what.endswith(f"`{found.fix}` computes it from what {BRONZE} has now")
    with pytest.raises(NoSuchVersion, match=f"since: it is at version .*`{found.fix}` computes it"):
        runner(healthy, load(products)).run([SILVER], run_id="again")
    late = replace(checkup(healthy), now=datetime.now(UTC) + timedelta(hours=2))
    assert {finding.fix for finding in wrong(late) if finding.table == SILVER} == {found.fix}


def test_a_path_next_to_the_tables_is_given_as_it_is(healthy):
    for trouble in (an_orphan, a_file_in_place_of_a_table, a_landing_log_made_anew):
        fix = named(healthy, trouble).fix
        assert "/../" not in fix, fix
        assert f"{Path(healthy.root).absolute()}/" in fix


@pytest.mark.parametrize("error", ["There are: none", "There are: none.", "Did you mean sales.gold.days?"])
def test_what_is_wrong_with_a_product_is_a_sentence_of_its_own(error):
    told = lakehouse_checks.broken_product(BrokenProduct("velo", error)).what
    assert told.endswith(("none. Nothing is vacuumed while a product is broken.", "days? Nothing is vacuumed while a product is broken."))


def test_a_run_that_is_under_way_explains_what_is_unfinished(healthy):
    an_interrupted_batch(healthy)
    assert wrong(checkup(healthy))
    assert wrong(replace(checkup(healthy), is_running=True)) == []


def test_a_file_that_waits_for_long_while_nothing_runs(healthy):
    log = tables_of(healthy).table(landing.LOG)
    landing.record(log, "products", [{"path": "new.csv", "sequence": 99, "event": landing.FOUND}], "test")
    assert wrong(checkup(healthy)) == []
    later = replace(checkup(healthy), now=datetime.now(UTC) + timedelta(hours=2))
    assert [(finding.fix, finding.severity) for finding in wrong(later)] == [("lakehouse run", "warning")]


def test_a_table_of_dagsters_own_means_is_no_orphan(healthy):
    an_orphan(healthy)
    assert wrong(replace(checkup(healthy), known=frozenset({"old.silver.table"}))) == []


def test_labels_of_a_log_that_is_declared_are_no_orphan(healthy):
    tables_of(healthy).table("old.inference.orders_feedback").create({"label": pl.String()})
    assert [finding.table for finding in wrong(checkup(healthy))] == ["old.inference.orders_feedback"]
    assert wrong(replace(checkup(healthy), known=frozenset({"old.inference.orders"}))) == []


def test_a_model_whose_training_tables_are_gone(healthy):
    ledger = tables_of(healthy).table(LEDGER)
    ledger.create(LEDGER_SCHEMA)
    ledger.append(pl.DataFrame([{"version": 1, "model_name": "x"}], schema=LEDGER_SCHEMA))
    source = tables_of(healthy).table(SILVER)
    version = source.version()
    champion = SimpleNamespace(
        model_name="revenue_forecast.models.daily_revenue", version=7, aliases=("champion",), tables={SILVER: version}, table_digests={}
    )
    registry = SimpleNamespace(aliases=lambda _: Aliases(champion=7), versions=lambda _: [champion])
    assert wrong(checkup(healthy, lambda: registry)) == []
    champion.table_digests = {SILVER: "of the table that was deleted"}
    (other,) = (finding for finding in wrong(checkup(healthy, lambda: registry)) if finding.table == LEDGER)
    assert f"version {version} of {SILVER}, which was deleted and created again since: it cannot be reproduced" in other.what
    champion.table_digests = {SILVER: digest_of(source, version)}
    assert wrong(checkup(healthy, lambda: registry)) == []
    source.replace(source.scan().collect(), None)
    for path in set(source.delta(version).file_uris()):
        Path(path).unlink()
    found = [finding for finding in wrong(checkup(healthy, lambda: registry)) if finding.table == LEDGER]
    assert [(finding.severity, finding.fix) for finding in found] == [("error", f"lakehouse train {LEDGER} --force")]
    assert f"version {version} of {SILVER}" in found[0].what


def test_a_check_that_cannot_be_made_is_a_finding(healthy, monkeypatch):
    def fails(checked):
        raise OSError("no permission")
        yield

    monkeypatch.setattr("lakehouse_assets.platform.operations.doctor.examine.OF_A_TABLE", (fails,))
    assert {finding.what for finding in wrong(checkup(healthy))} == {"it cannot be examined: no permission"}


@pytest.mark.parametrize("reason", ["r.csv: the header lacks 'x'", "2026/r.csv: the header lacks 'x'", "the header lacks 'x'"])
def test_the_path_of_a_refused_file_is_said_once(reason):
    now = datetime.now(UTC)
    files = pl.DataFrame({"feed": "raw", "path": "2026/r.csv", "event": landing.REFUSED, "reason": reason, "at": now})
    (found,) = lakehouse_checks.stuck_files(SimpleNamespace(files=files, is_running=False, now=now))
    assert "(2026/r.csv: the header lacks 'x')" in found.what
