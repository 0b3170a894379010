"""A first model of a table: read through the reader, explored, searched, reported, and written as a product."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lakehouse_assets.client.context import Context
from lakehouse_assets.client.tables import TableHandle
from lakehouse_assets.platform.declarations.packages import OWN_PRODUCTS, new_product_package
from lakehouse_assets.settings import BUILT_IN_PRODUCTS

if TYPE_CHECKING:
    from lakehouse_assets.platform.recipes.automl import FirstModel
    from lakehouse_assets.scaffold.first_model import WrittenModel


TRIALS: Final = "trials"
"""The folder next to a report in which the trials of its search are kept."""


@dataclass(frozen=True)
class AutoMl:
    """What `lakehouse automl` found and wrote.

    Attributes:
        found: The exploration and the leaderboard.
        report: The folder of the report: `report.md` and pictures.
        written: The product; None if none was, as rows could not be told apart.
        setting: What LAKEHOUSE_PRODUCTS has to be for the product to be loaded; empty if it is so already.
    """

    found: "FirstModel"
    report: Path
    written: "WrittenModel | None"
    setting: str = ""


def automl(  # noqa: PLR0917
    context: Context,
    table: TableHandle,
    target: str,
    time: str | None,
    entity: Sequence[str],
    minutes: float,
    trials: int | None,
    without: Sequence[str],
    keep: Sequence[str],
    settled: float,
    into: Path | None,
    name: str | None,
) -> AutoMl:
    """See `Client.automl`."""
    from lakehouse_assets.platform.recipes.automl import MOST_TRIALS, first_model
    from lakehouse_assets.platform.recipes.question import ROW, question
    from lakehouse_assets.scaffold.first_model import product_name
    from lakehouse_assets.scaffold.new import check_name
    from lakehouse_assets.scaffold.write_first_model import write_first_model

    setting = str(into) if into is not None else context.settings.products
    package = new_product_package(setting if into is None or into.is_absolute() else f"./{setting}")
    products = {one.product for one in context.declarations}
    chosen = name or product_name(table.name, target)
    check_name(chosen, package.folder, products)  # before the search: it would be for nothing
    lazy = table.select(what="automl")
    # What the platform adds to a row says where it came from.
    rows = lazy.select(name for name in lazy.collect_schema() if not name.startswith("_")).collect(engine="streaming")
    declared, hidden = context.loaded.catalog.get(table.name), context.reader.personal(table.name)
    personal, described = [one for one in rows.columns if hidden.hides(one)], {} if declared is None else declared.described()
    asked = question(
        rows, table.name, target, time, entity, personal, without, keep=keep, described=described, settled=timedelta(days=settled)
    )
    folder = context.settings.reports / "automl" / f"{table.name}.{target}"
    folder.mkdir(parents=True, exist_ok=True)
    found = first_model(
        asked,
        rows,
        seconds=60 * minutes,
        seed=context.settings.seed,
        compute=context.root.compute,
        trials=trials or MOST_TRIALS,
        keep=keep,
        folder=folder / TRIALS,
    )
    for picture, png in found.pictures().items():
        (folder / f"{picture}.png").write_bytes(png)
    (folder / "report.md").write_text(found.report(), encoding="utf-8")
    if ROW in asked.entity:
        return AutoMl(found, folder, None)
    written = write_first_model(found, chosen, dict(rows.schema), folder=package.folder, package=package.name)
    loaded = {item.strip() for item in context.settings.products.split(",")} - {"", BUILT_IN_PRODUCTS}
    if into is not None:
        return AutoMl(found, folder, written, "" if package.text in loaded or str(into) in loaded else package.text)
    return AutoMl(found, folder, written, "" if loaded else OWN_PRODUCTS)
