"""Writes a first model of a table as a product: whole or not at all, and never over one that is there."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

import lakehouse_assets
from lakehouse_assets.platform.recipes.automl import FirstModel
from lakehouse_assets.scaffold.first_model import Plan, WrittenModel
from lakehouse_assets.scaffold.new import write_whole
from lakehouse_assets.scaffold.render_first_model import modules


def write_first_model(found: FirstModel, name: str, schema: Mapping[str, pl.DataType], *, folder: Path, package: str) -> WrittenModel:
    """Write the product.

    Args:
        found: What was found.
        name: Of the product; see `new.check_name`.
        schema: Types of the columns of the table.
        folder: Of the package that holds products; it is created if it is not there.
        package: The name by which that package is imported.

    Raises:
        OSError: The folder cannot be written.
    """
    is_own = folder.resolve().is_relative_to(Path(lakehouse_assets.__file__).resolve().parents[1])
    plan = Plan(name, f"{package}.{name}", is_own, found.question, found.learner, found.verdict, schema, found.kept)
    written = {f"{module}.py": source for module, source in modules(plan).items()}
    write_whole(folder, name, written)
    return WrittenModel(folder / name, tuple(written), f"{name}.models.{plan.target}", f"{name}.predictions.{plan.target}")
