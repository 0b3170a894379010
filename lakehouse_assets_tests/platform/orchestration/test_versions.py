"""Code versions move with what decides rows and with nothing else; data versions with rows and code, and not with maintenance."""

import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets import forecast, products
from lakehouse_assets.definitions import defs
from lakehouse_assets.platform.declarations.catalog import Catalog
from lakehouse_assets.platform.declarations.computed_kinds import ByKey, Full
from lakehouse_assets.platform.declarations.feeds import feed
from lakehouse_assets.platform.declarations.gates import Gate
from lakehouse_assets.platform.declarations.row_kinds import Append
from lakehouse_assets.platform.declarations.tables import Dimension, table
from lakehouse_assets.platform.ingestion.feed import Feed
from lakehouse_assets.platform.operations.maintenance import Maintenance
from lakehouse_assets.platform.orchestration import versions
from lakehouse_assets.platform.orchestration.assets import build
from lakehouse_assets.platform.orchestration.autoload import load
from lakehouse_assets.platform.orchestration.code_location import definitions
from lakehouse_assets.platform.orchestration.resources import resources
from lakehouse_assets.platform.orchestration.steps import FULL_REFRESH_TAG, key_of
from lakehouse_assets.platform.quality.contract import Contract, column
from lakehouse_assets.platform.recipes.classifier import classifier
from lakehouse_assets_tests.platform.orchestration.level import Days, Level, level_model
from lakehouse_assets_tests.running import tables_of

NAME, SOURCE, GROUPS = "shop.silver.sales", "shop.bronze.sales", "shop.silver.groups"
KEY = key_of(NAME)


class Sale(Contract):
    """A sale."""

    id: str = column(key=True, description="Number.")
    amount: int = column(ge=0)


class Stricter(Contract):
    """A sale with another rule."""

    id: str = column(key=True, description="Number.")
    amount: int = column(gt=0)


class Described(Contract):
    """A sale in other words."""

    id: str = column(key=True, description="What is printed on the bill.")
    amount: int = column(ge=0, description="In pounds.")


def sales(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return rows


def declared(function=sales, **changes):
    options = {"contract": Sale, "kind": Full(), "inputs": {"rows": SOURCE}} | changes
    return table(NAME, **options)(function)


def doubled(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return rows.with_columns(pl.col("amount") * 2)


def with_groups(rows: pl.LazyFrame, groups: pl.LazyFrame) -> pl.LazyFrame:
    """Sales."""
    return rows


def in_other_words():
    def sales(
        rows: pl.LazyFrame,
    ) -> pl.LazyFrame:
        """The same, described and laid out otherwise."""
        # With a comment.
        return rows

    return sales


@pytest.mark.parametrize(
    "other",
    [
        declared(doubled),
        declared(contract=Stricter),
        declared(kind=Append()),
        declared(kind=ByKey("id")),
        declared(inputs={"rows": "shop.bronze.other"}),
        declared(with_groups, dimensions={"groups": Dimension(GROUPS)}),
        declared(contract=Sale, kind=Append(), row_for_row=False),
    ],
    ids=["function", "contract", "kind", "key", "input", "dimension", "row for row"],
)
def test_the_code_version_moves_with_what_decides_rows(other):
    assert versions.of_table(other) != versions.of_table(declared())


@pytest.mark.parametrize(
    "other",
    [declared(in_other_words()), declared(contract=Described), declared(owner="team:other"), declared(picture=lambda _: b"")],
    ids=["docstring and layout", "descriptions", "owner", "picture"],
)
def test_the_code_version_does_not_move_with_words(other):
    assert versions.of_table(other) == versions.of_table(declared())


def test_a_constant_of_a_function_that_has_no_source_counts():
    def made(text: str):
        scope = {"pl": pl}
        exec(text, scope)  # as in a console, where there is no source
        return scope["function"]

    first, same, other = (made(f"def function(rows):\n    return rows.limit({number})") for number in (1, 1, 2))
    assert versions.of_table(declared(first)) == versions.of_table(declared(same)) != versions.of_table(declared(other))


def test_of_a_feed_the_header_counts_and_the_description_and_the_mask_do_not():
    first = feed(SOURCE, Feed("sales", headers=(("id", "amount"),)), "Sales.")
    assert versions.of_feed(replace(first, description="Other words.")) == versions.of_feed(first)
    assert versions.of_feed(replace(first, feed=replace(first.feed, personal=("id",)))) == versions.of_feed(first)
    assert versions.of_feed(replace(first, feed=replace(first.feed, changed="reread"))) != versions.of_feed(first)


def test_of_a_model_the_examples_and_the_learner_count():
    first = versions.of_model(level_model)
    assert versions.of_model(replace(level_model, description="Other words.", owner="team:other")) == first
    assert versions.of_model(replace(level_model, gate=Gate())) == first, "a gate decides on versions, it makes none"
    others = [replace(level_model, examples=Days("shop.features.weeks")), replace(level_model, learner=Level("forecast", 0.9))]
    assert len({first, *map(versions.of_model, others)}) == 3


def test_code_versions_are_the_same_in_every_process():
    code = """
        from lakehouse_assets.definitions import defs
        graph = defs().resolve_asset_graph()
        for key in sorted(graph.get_all_asset_keys()):
            print(key.to_user_string(), graph.get(key).code_version)
    """
    other = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    ).stdout
    graph = defs().resolve_asset_graph()
    here = "".join(f"{key.to_user_string()} {graph.get(key).code_version}\n" for key in sorted(graph.get_all_asset_keys()))
    assert here
    assert here == other
    assert "None" not in here


# --- data versions


@pytest.fixture
def shop(settings):
    """Runs a declaration of the table; gives the data versions of the table and its quarantine."""
    tables_of(settings).table(SOURCE).create({"id": pl.String(), "amount": pl.Int64()})
    with dg.DagsterInstance.ephemeral() as instance:

        def run(declaration, **tags: str) -> list[str]:
            [_, asset, _] = build(Catalog((declaration,), frozenset({SOURCE})))
            result = dg.materialize([asset], resources=resources(settings), instance=instance, tags=tags)
            events = {event.asset_key: event.step_materialization_data for event in result.get_asset_materialization_events()}
            return [events[key_of(name)].materialization.tags["dagster/data_version"] for name in declaration.outputs()]

        yield run


def land(settings, *rows: tuple[str, int]) -> None:
    tables_of(settings).table(SOURCE).append(pl.DataFrame(rows, schema={"id": pl.String, "amount": pl.Int64}, orient="row"))


@pytest.mark.parametrize("kind", [Append(), Full()], ids=["append", "full"])
def test_a_data_version_moves_with_rows_and_not_with_maintenance_or_idle_runs(settings, shop, kind):
    declaration = declared(kind=kind)
    land(settings, ("a", 1), ("b", -1))
    first = shop(declaration)
    before = tables_of(settings).table(NAME).version()
    maintained = [*Maintenance(tables_of(settings), [declaration], lambda: None, timedelta(0), timedelta(0)).run("maintenance")]
    assert {NAME} <= {done.table for done in maintained}
    tables_of(settings).table(NAME).delta().optimize.compact()
    tables_of(settings).table(NAME).delta().alter.set_table_properties({"delta.appendOnly": "false"})
    assert tables_of(settings).table(NAME).version() > before
    assert shop(declaration) == first
    land(settings, ("c", 3))
    second = shop(declaration)
    assert second[0] != first[0]
    assert second[1] == first[1], "no row came to the quarantine"


def test_a_changed_function_gives_another_data_version_after_a_full_refresh(settings, shop):
    land(settings, ("a", 1))
    first = shop(declared(kind=Append()))
    again = shop(declared(kind=Append()), **{FULL_REFRESH_TAG: "true"})
    assert again == first, "the same rows of the same code"
    changed = shop(declared(doubled, kind=Append()), **{FULL_REFRESH_TAG: "true"})
    assert changed[0] != first[0]
    assert shop(declared(doubled, kind=Append())) == changed


# --- places in the code


def test_the_web_ui_links_to_the_code_of_the_product(settings):
    found = load(products)
    graph = definitions(settings, found).resolve_asset_graph()
    folder = Path(next(iter(products.__path__))).absolute()
    for declaration in (one for one in found.declarations if one.outputs()):
        [place] = graph.get(key_of(declaration.name)).metadata["dagster/code_references"].code_references
        file = Path(place.file_path)
        assert file.is_relative_to(folder / declaration.product)
        line = file.read_text().splitlines()[place.line_number - 1]
        # A decorator, or a call that may go on over several lines.
        assert re.match(r"@|\w+ = \w+\(", line), f"{declaration.name}: {file.name}:{place.line_number} is {line!r}"


def test_all_that_a_recipe_declares_is_written_where_the_recipe_was_called():
    days = forecast("shop", series="shop.gold.days", time="day", value="net")
    late = classifier(
        "shop.late",
        table="shop.gold.orders",
        target="late",
        entity=("order",),
        time="ordered_at",
        inputs={"amount": float},
        settled=timedelta(days=60),
    )
    for recipe in (days, late):
        [[file, first]] = {declaration.written_at for declaration in recipe.declarations}
        assert file == __file__
        assert re.match(r"\s+(days|late) = (forecast|classifier)\(", Path(file).read_text(encoding="utf-8").splitlines()[first - 1])


def test_a_declaration_without_a_file_has_no_place():
    made = eval('feed("shop.bronze.things", Feed("things", headers=(("a",),)), "Made in no file.")', {"feed": feed, "Feed": Feed})
    object.__setattr__(made, "written_at", ("<string>", 1))
    assert versions.references(made) == {}
