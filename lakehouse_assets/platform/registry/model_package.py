"""The folder that MLflow keeps for a model version: predictor, signature, input example, requirements, and the code that opens it.

`lakehouse_assets.pyfunc` opens it for people who have MLflow and pandas alone. Our own code takes the predictor directly.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import polars as pl
import polars.selectors as cs

from lakehouse_assets import pyfunc
from lakehouse_assets.platform.compute.packages import version
from lakehouse_assets.platform.declarations.closure import closure
from lakehouse_assets.platform.declarations.learning import Predictor
from lakehouse_assets.platform.modelling.predictors import kinds_of, load_predictor, save_predictor
from lakehouse_assets.platform.registry.mlflow_store import load_mlflow

# Inside the model's artifacts: MLflow copies the package to data/<name of the package>.
MODEL_FOLDER: Final = f"data/package/{pyfunc.PREDICTOR_FOLDER}"
EXAMPLE_PREDICTIONS: Final = "input_example_predictions.parquet"
"""Next to the input example: what the model predicted of it when it was logged. Who loads the model can tell whether it still does."""
_BORDER_PACKAGES: Final = ("pandas", "polars", "pyarrow")
_PROJECT: Final = "lakehouse_assets"


def save_package(folder: Path, predictor: Predictor, input_example: pl.DataFrame) -> None:
    """Write a predictor and a few rows of its inputs into a folder, as `lakehouse_assets.pyfunc` reads them."""
    save_predictor(predictor, folder / pyfunc.PREDICTOR_FOLDER)
    input_example.select(predictor.inputs).write_parquet(folder / pyfunc.EXAMPLE)


def golden_rows(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The input example of a model, and what was predicted of it when it was logged; None if that was not kept.

    Args:
        folder: The folder of the predictor, in the package.

    Raises:
        FileNotFoundError: There is no example.
    """
    example, predictions = folder.parent / pyfunc.EXAMPLE, folder.parent / EXAMPLE_PREDICTIONS
    return pl.read_parquet(example), pl.read_parquet(predictions) if predictions.exists() else None


def predictor_digest(predictor: Predictor) -> str:
    """`digest_of` the files of a predictor."""
    with TemporaryDirectory() as temporary:
        save_predictor(predictor, Path(temporary))
        return digest_of(Path(temporary))


def digest_of(folder: Path) -> str:
    """A hash over the names and contents of all files below a folder: equal for models that are equal to the byte."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def save_model(folder: Path, mlflow_model: Any, *, predictor: Predictor, input_example: pl.DataFrame) -> None:
    """Write a model as MLflow wants it: signature, input example, pinned requirements, package and code.

    The predictor is read back and predicts the example before anything is logged, so what is registered can be loaded.

    Args:
        folder: A new folder; its siblings `package` and `code` are used for staging.
        mlflow_model: The `mlflow.models.Model` to fill.
        predictor: The fitted model; its class has a word in `modelling.predictors`.
        input_example: A few rows of its inputs.
    """
    mlflow = load_mlflow()
    package = folder.with_name("package")
    save_package(package, predictor, input_example)
    stored = package / pyfunc.PREDICTOR_FOLDER
    inputs = input_example.select(predictor.inputs)
    predictions = load_predictor(stored).predict(inputs)
    predictions.write_parquet(package / EXAMPLE_PREDICTIONS)
    packages = {*_BORDER_PACKAGES, *predictor.packages}
    mlflow.pyfunc.save_model(
        path=str(folder),
        loader_module=pyfunc.__name__,
        data_path=str(package),
        code_paths=[str(_code(folder.with_name("code"), [pyfunc.__name__, *(kind.__module__ for kind in kinds_of(stored))]))],
        mlflow_model=mlflow_model,
        signature=mlflow.models.ModelSignature(inputs=_inputs_schema(inputs), outputs=_mlflow_schema(predictions)),
        # MLflow takes neither categories nor times with a zone; `PandasModel` gives them back their type.
        input_example=_shown(inputs)
        .with_columns(
            pl.col(pl.Categorical, pl.Enum).cast(pl.String),
            cs.datetime(time_zone="*").dt.convert_time_zone("UTC").dt.replace_time_zone(None),
        )
        .to_pandas(),
        # Given, and not guessed: MLflow would start a process and import the model for seconds.
        pip_requirements=[f"{name}=={version(name)}" for name in sorted(packages)],
    )


def _code(folder: Path, modules: Sequence[str]) -> Path:
    """A copy of the modules that open a model, alone."""
    root = closure([_PROJECT], [_PROJECT])[_PROJECT].parent
    for file in closure(modules, [_PROJECT]).values():
        target = folder / _PROJECT / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return folder / _PROJECT


def _shown(inputs: pl.DataFrame) -> pl.DataFrame:
    """The rows of an example that MLflow reads back as they are: it takes a missing boolean for False."""
    whole = inputs.filter(pl.all_horizontal(pl.lit(value=True), pl.col(pl.Boolean).is_not_null()))
    return inputs if whole.is_empty() else whole


def _inputs_schema(frame: pl.DataFrame) -> Any:
    """Whole numbers as `any`: pandas makes floats of those that may be missing, and MLflow takes neither for the other."""
    types = load_mlflow().types
    any_number = types.schema.AnyType()
    return types.Schema(
        [types.ColSpec(any_number, column.name, required=column.required) if frame[column.name].dtype.is_integer() else column
         for column in _mlflow_schema(frame)]
    )  # fmt: skip


def _mlflow_schema(frame: pl.DataFrame) -> Any:
    types = load_mlflow().types
    return types.Schema(
        [types.ColSpec(_mlflow_type(values), name, required=not values.has_nulls()) for name, values in frame.to_dict().items()]
    )


def _mlflow_type(values: pl.Series) -> str:
    if values.dtype.is_integer() and not values.has_nulls():
        return "long"
    if values.dtype.is_numeric():
        return "double"  # integers too that may be missing: that is what they become in pandas
    if values.dtype == pl.Boolean:
        return "boolean"
    return "datetime" if values.dtype.is_temporal() else "string"
