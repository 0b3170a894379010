"""Commands that people type again and again answer without the imports that take seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_assets import open_lakehouse
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.running import land_text

PRODUCT = '''
"""Parcels that a warehouse sent."""

import polars as pl

from lakehouse_assets import Contract, Feed, Upsert, column, conform, day, feed, table, text, whole_number

parcels = feed("depot.bronze.parcels", Feed("parcels", headers=(("parcel", "town", "sent"),)), "Parcels as the warehouse wrote them.")


class Parcel(Contract):
    """A parcel."""

    parcel: int = column(key=True)
    town: str = column()
    sent: pl.Date = column()


@table("depot.silver.parcels", contract=Parcel, kind=Upsert(("parcel",)), inputs={"rows": "depot.bronze.parcels"})
def parcels_read(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Parcels."""
    return conform(rows, parcel=whole_number("parcel"), town=text("town"), sent=day("sent", formats=("%Y-%m-%d",)))
'''
TABLE = "depot.silver.parcels"
READING = [
    ["show", TABLE],
    ["show", TABLE, "--json", "--version", "0"],
    ["history", TABLE],
    ["files"],
    ["files", "rows", "parcels/a.csv"],
    ["files", "origin", TABLE],
    ["sql", f"select * from {TABLE}"],
    ["sql", "select 1 as a", "--format", "csv"],
    ["export", TABLE, "parcels.csv"],
    ["profile", TABLE, "--time", "sent", "--every", "1d"],
    ["completion", "zsh"],
    ["settings"],
    ["--help"],
]
OF_DECLARATIONS = [
    ["status"],
    ["models"],
    ["models", "retraining"],
    ["features"],
    ["contracts"],
    ["quarantine"],
    ["quarantine", "show", TABLE],
    ["land", "parcels", "b.csv", "--dry-run"],
    ["doctor"],
    ["maintenance", "--dry-run"],
    ["run", "--help"],
    ["run"],
]
HEAVY = ("dagster", "mlflow", "lightgbm", "matplotlib", "scipy")
IN_TURN = """
import json, sys
from lakehouse_assets.cli.main import main

for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, words
    loaded = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    assert not loaded, (words, loaded)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Of a root in which everything is up to date and nothing is wrong."""
    folder = tmp_path_factory.mktemp("start_up")
    (folder / "start_up_products" / "depot").mkdir(parents=True)
    (folder / "start_up_products" / "depot" / "tables.py").write_text(PRODUCT)
    own = {"LAKEHOUSE_ROOT": str(folder / "root"), "LAKEHOUSE_PRODUCTS": str(folder / "start_up_products")}
    settings = Settings.load(own)
    land_text(settings, "parcels", "a.csv", "parcel,town,sent\n1,Ghent,2026-03-02\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        outcome = open_lakehouse(settings=settings).run()
    assert not outcome.failed
    open_lakehouse(settings=settings).table(TABLE).scan()  # what is personal is cached by the first read
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    return clean | own | {"PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize(
    ("commands", "heavy"), [(READING, (*HEAVY, "pandera", "pandas")), (OF_DECLARATIONS, HEAVY)], ids=["reading", "of declarations"]
)
def test_commands_import_nothing_that_takes_seconds(environment, tmp_path, commands, heavy):
    """All in one process, one after the other, so that the first one that imports too much is named."""
    (tmp_path / "b.csv").write_text("parcel,town,sent\n2,Ghent,2026-03-03\n")
    words = [json.dumps(commands), json.dumps(heavy)]
    done = subprocess.run([sys.executable, "-c", IN_TURN, *words], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
