"""The folder that MLflow keeps for a model version, and how it is opened by people who have MLflow and pandas only.

MLflow imports this module by its name when somebody calls `mlflow.pyfunc.load_model`, so its name is stored in every
logged model: do not move it. No code and no pickle is stored, only files and the name of a function that reads them.
Our own code takes the model's files directly and needs none of this.
"""

import pkgutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import polars as pl

from lakehouse_assets.platform.registry.mlflow_store import load_mlflow

if TYPE_CHECKING:
    import pandas as pd

# Inside the model's artifacts: MLflow copies the package to data/<name of the package>.
MODEL_FOLDER: Final = "data/package/model"
_BORDER_PACKAGES: Final = ("pandas", "polars", "pyarrow")


class SavedModel(Protocol):
    """A fitted model that can write itself into an empty folder."""

    def save(self, folder: Path) -> None:
        """Write everything that the loader needs into `folder`."""


class Predictor(Protocol):
    """A model that was read back."""

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row of predictions a row of features."""


class PandasModel:
    """A model with pandas at its border, because pyfunc refuses Polars."""

    def __init__(self, model: Predictor, schema: pl.Schema) -> None:
        self._model = model
        self._schema = schema

    def predict(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Predict the rows of a pandas frame.

        Columns are picked by name and get the types that the model was logged with: pandas has no date and turns an
        integer column with a missing value into floats.
        """
        rows = pl.from_pandas(frame).select(pl.col(name).cast(kind) for name, kind in self._schema.items())
        return self._model.predict(rows).to_pandas()


def _load_pyfunc(package: str, config: dict[str, Any]) -> PandasModel:
    """MLflow's hook: called with the package of a logged model and the `model_config` that it was saved with."""
    return PandasModel(_read_model(Path(package), config["loader"]), _input_schema(Path(package)))


def save_model(
    folder: Path, mlflow_model: Any, *, model: SavedModel, loader: str, input_example: pl.DataFrame, packages: Sequence[str]
) -> None:
    """Write a model as MLflow wants it: signature, input example, pinned requirements, and the package.

    The model is read back and predicts the example before anything is logged, so what is registered can be loaded.

    Args:
        folder: A new folder; its sibling `package` is used for staging.
        mlflow_model: The `mlflow.models.Model` to fill.
        model: The fitted model.
        loader: Where to find the function that reads the folder which `model.save` wrote and returns a `Predictor`,
            as `package.module:function` or `package.module:Class.method`. It must be importable where it is loaded.
        input_example: A few rows of features.
        packages: What the loader needs besides the border: installed versions of these are pinned.
    """
    mlflow = load_mlflow()
    package = folder.with_name("package")
    (package / "model").mkdir(parents=True)
    model.save(package / "model")
    input_example.write_parquet(package / "input_example.parquet")
    predictions = _read_model(package, loader).predict(input_example)
    mlflow.pyfunc.save_model(
        path=str(folder),
        loader_module=__name__,
        data_path=str(package),
        mlflow_model=mlflow_model,
        model_config={"loader": loader},
        signature=mlflow.models.ModelSignature(inputs=_mlflow_schema(input_example), outputs=_mlflow_schema(predictions)),
        input_example=input_example.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)).to_pandas(),
        # Given, and not guessed: MLflow would start a process and import the model for seconds.
        pip_requirements=[f"{name}=={version(name)}" for name in sorted({*packages, *_BORDER_PACKAGES})],
    )


def _read_model(package: Path, loader: str) -> Predictor:
    model: Predictor = pkgutil.resolve_name(loader)(package / "model")
    return model


def _input_schema(package: Path) -> pl.Schema:
    return pl.Schema(pl.read_parquet_schema(package / "input_example.parquet"))


def _mlflow_schema(frame: pl.DataFrame) -> Any:
    types = load_mlflow().types
    return types.Schema([types.ColSpec(_mlflow_type(kind), name) for name, kind in frame.schema.items()])


def _mlflow_type(kind: pl.DataType) -> str:
    if kind in (pl.Int64, pl.UInt32):
        return "long"
    if kind.is_numeric():
        # Small integers too: MLflow accepts them as doubles, and that is what they become in pandas where a value is null.
        return "double"
    if kind == pl.Boolean:
        return "boolean"
    return "datetime" if kind.is_temporal() else "string"
