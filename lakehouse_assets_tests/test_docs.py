"""The examples of docs/tables.md are true: loaded as modules of one product, run on a few rows, and refused where the page says so."""

import importlib.util
import re
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from lakehouse_assets import Feed
from lakehouse_assets.platform.declarations.base import DeclarationError
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.modules import declarations_in
from lakehouse_assets.platform.pipeline.full_refresh import full_refresh
from lakehouse_assets.platform.pipeline.refresh import Refresh
from lakehouse_assets.platform.storage.lakehouse import Lakehouse

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "tables.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
REFUSED = re.findall(r"```python refused\n(.*?)```\n\n```text\n(.*?)\n```", PAGE, re.DOTALL)
KINDS = ("Append", "Upsert", "SCD1", "SCD2", "ByPartition", "ByKey", "Trailing", "Full")

FILES = {
    "parcels.bronze.scans": [
        [
            ("A", "NORTH", "100", "2026-01-05 08:00:00", "Ann"),
            ("B", "NORTH", "200", "2026-01-30 08:00:00", "Ann"),
            ("C", "SOUTH", "12x", "2026-01-30 09:00:00", "Bob"),
        ],
        [
            ("A", "SOUTH", "100", "2026-02-01 08:00:00", "Bob"),
            ("D", "NORTH", "50", "2026-01-31 08:00:00", "Ann"),
        ],
    ],
    "parcels.bronze.depot_events": [
        [("upsert", "1", "NORTH", "2026-01-01 00:00:00", "Hull")],
        [("upsert", "3", "NORTH", "2026-02-01 00:00:00", "York"), ("upsert", "2", "WEST", "2026-01-15 00:00:00", "Bath")],
    ],
    "parcels.bronze.tariffs": [[("NORTH", "2.0"), ("SOUTH", "3.0")], [("NORTH", "2.5"), ("SOUTH", "3.0")]],
}
"""Of each feed the lines of two files."""


def module(folder: Path, name: str, source: str) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"{folder.name}_{name}", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def modules(tmp_path) -> list[ModuleType]:
    return [module(tmp_path, f"example_{number}", source) for number, source in enumerate(EXAMPLES)]


def land(lakehouse: Lakehouse, catalog: Catalog, number: int) -> None:
    """The rows of the files with this number, as they stand in bronze."""
    for declaration in catalog.feeds:
        lines = FILES[declaration.name][number]
        texts = pl.DataFrame(lines, schema=declaration.feed.columns, orient="row")
        lineage = {
            "_file": pl.lit(f"{number}.csv"),
            "_row": pl.int_range(1, pl.len() + 1),
            "_sequence": pl.lit(number + 1, dtype=pl.Int64),
            "_ingested_at": pl.lit(datetime(2026, 3, 1 + number, tzinfo=UTC)),
            "_run_id": pl.lit("docs"),
            "_rescued": pl.lit(None, dtype=pl.String),
        }
        bronze = lakehouse.table(declaration.name)
        bronze.create(declaration.schema)
        bronze.append(texts.with_columns(**lineage).cast(dict(declaration.schema)))


def run(lakehouse: Lakehouse, catalog: Catalog) -> None:
    names = {declaration.name for declaration in catalog.tables}
    for declaration in catalog.in_order:
        if declaration.name in names:
            Refresh(declaration, lakehouse, "docs").run()


def test_each_kind_has_an_example():
    assert len(EXAMPLES) >= len(KINDS)
    for kind in KINDS:
        assert any(re.search(rf"kind={kind}\(", example) for example in EXAMPLES), kind


def test_each_option_of_a_feed_is_in_the_table_of_options():
    table = PAGE[PAGE.index("| option of `Feed` |") :]
    named = set(re.findall(r"`(\w+)(?:=[^`]*)?`", "".join(line.split("|")[1] for line in table[: table.index("\n\n")].splitlines())))
    assert {one.name for one in fields(Feed)} - {"name"} <= named


def test_examples_import_public_names_only():
    imports = re.findall(r"^(?:from|import) (lakehouse_assets[\w.]*)", "".join(EXAMPLES), re.MULTILINE)
    assert set(imports) == {"lakehouse_assets"}


def test_the_examples_follow_their_sources(modules, tmp_path):
    catalog, lakehouse = Catalog(declarations_in(modules)), Lakehouse(str(tmp_path / "tables"))
    for number in range(2):
        land(lakehouse, catalog, number)
        run(lakehouse, catalog)

    def rows(name: str, *columns: str) -> list[tuple]:
        return lakehouse.table(f"parcels.{name}").scan().select(columns).sort(columns).collect().rows()

    assert rows("silver.parcels", "parcel", "depot") == [("A", "SOUTH"), ("B", "NORTH"), ("D", "NORTH")]
    assert lakehouse.table("parcels.silver.scans__quarantine").count() == 1
    assert rows("silver.depots", "depot", "city", "is_current") == [
        ("NORTH", "Hull", False),
        ("NORTH", "York", True),
        ("WEST", "Bath", True),
    ]
    assert rows("silver.tariffs", "depot", "price") == [("NORTH", 2.5), ("SOUTH", 3.0)]
    revenue = rows("gold.monthly_revenue", "depot", "city", "parcels", "revenue")
    assert revenue == [("NORTH", "York", 3, 7.5), ("SOUTH", None, 1, 3.0)]
    assert rows("gold.depot_overview", "depot", "parcels") == [("NORTH", 3), ("SOUTH", 1), ("WEST", 0)]
    assert [grams for _, grams in rows("gold.load", "day", "grams_7_days")] == [100, 200, 250, 350]
    assert rows("gold.ranking", "rank", "depot") == [(1, "NORTH"), (2, "SOUTH"), (3, "WEST")]
    assert len(rows("features.depots", "depot", "day", "known_at")) == 4
    assert rows("silver.handovers", "parcel", "grams") == [("A", 100), ("A", 100), ("B", 200), ("D", 50)]

    before = {table.name: lakehouse.table(table.name) for table in catalog.tables}
    versions = {name: table.version() for name, table in before.items()}
    stored = {name: table.scan().collect() for name, table in before.items()}
    for declaration in catalog.tables:
        full_refresh(Refresh(declaration, lakehouse, "docs"))
        table, key = lakehouse.table(declaration.name), list(declaration.identity) or ["_sequence", "_row"]
        assert table.scan().collect().sort(key).equals(stored[declaration.name].sort(key)), declaration.name
        assert table.version() > versions[declaration.name]


@pytest.mark.parametrize(("source", "message"), REFUSED, ids=[message.split(":")[0] for _, message in REFUSED])
def test_what_is_refused(modules, tmp_path, source, message):
    with pytest.raises(DeclarationError) as refused:
        Catalog(declarations_in([*modules, module(tmp_path, "refused", source)]))
    assert str(refused.value).endswith(message), "the place in the code comes first"


def test_links_of_the_documents_lead_somewhere():
    pages = [DOCS.parent / "README.md", DOCS.parent / "ARCHITECTURE.md", *DOCS.rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
