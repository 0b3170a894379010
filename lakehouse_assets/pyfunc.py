"""How MLflow opens a model that was registered here: `mlflow.pyfunc.load_model(...)` imports this module by its name.

So the name is stored in every logged model: this module does not move. A copy of it and of what it needs is stored next to each model, so a
model loads in the environment that it describes, where nothing of this project is installed. Our own code does not pass here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from lakehouse_assets.platform.modelling.predictors import load_predictor

if TYPE_CHECKING:
    import pandas as pd

PREDICTOR_FOLDER: Final = "predictor"
EXAMPLE: Final = "input_example.parquet"


class PandasModel:
    """A predictor with pandas at its border, because pyfunc refuses Polars."""

    def __init__(self, package: Path) -> None:
        self._predictor = load_predictor(package / PREDICTOR_FOLDER)
        self._schema = pl.Schema(pl.read_parquet_schema(package / EXAMPLE))

    def predict(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Predict the rows of a pandas frame.

        Columns are picked by name and get the types that the model was logged with: pandas has no date and turns an
        integer column with a missing value into floats.
        """
        rows = pl.from_pandas(frame).select(pl.col(name).cast(kind) for name, kind in self._schema.items())
        return self._predictor.predict(rows).to_pandas()


def _load_pyfunc(package: str, config: dict[str, Any] | None = None) -> PandasModel:  # noqa: ARG001 MLflow gives what was configured
    """MLflow's hook: called with the folder of a logged model."""
    return PandasModel(Path(package))
