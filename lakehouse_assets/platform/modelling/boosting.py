"""The door to LightGBM: how it is imported, which columns it may be handed, and what makes its trees reproducible.

LightGBM ends the whole process on column types that it does not know, does not compare the names of Polars columns, and refuses or alters
names with blanks and punctuation. So every training and prediction passes here, and LightGBM is given positions as names. What is trained
does not belong here.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse_assets.platform.compute import deadline
from lakehouse_assets.platform.compute.progress import telling

if TYPE_CHECKING:
    import lightgbm

# With these, equal rows give equal trees on any number of threads.
REPRODUCIBLE: Mapping[str, Any] = {"deterministic": True, "force_row_wise": True, "verbosity": -1}


def load_lightgbm() -> Any:
    """The module `lightgbm`, imported late, with threads that do not slow other trainings on the same cores down."""
    # Threads that spin while they wait make two trainings several times slower. OpenMP reads this once, when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import lightgbm

    return lightgbm


def positions(features: Sequence[str]) -> dict[str, str]:
    """What features are called in LightGBM, by their own names: their positions."""
    return {name: f"f{position}" for position, name in enumerate(features)}


def check_types(frame: pl.DataFrame) -> None:
    """Raise unless LightGBM can read every column.

    Raises:
        TypeError: A column is neither a number nor Boolean; the message names it.
    """
    for name, dtype in frame.schema.items():
        if not (dtype.is_integer() or dtype.is_float() or dtype == pl.Boolean):
            raise TypeError(
                f"LightGBM cannot read column {name!r} of type {dtype}: make it a number first, "
                "categories with `cast(pl.Enum(names)).to_physical()` and their names in `categorical`, decimals with `cast(pl.Float64)`"
            )


def make_dataset(
    rows: pl.DataFrame,
    features: Sequence[str],
    label: str,
    *,
    weight: str,
    categorical: Sequence[str] = (),
    seed: int,
    bins: int = 255,
) -> "lightgbm.Dataset":
    """Rows in LightGBM's binned form, constructed, so that several boosters can share it.

    Args:
        rows: Has the columns that are named.
        features: Numbers or Booleans.
        label: The column to learn.
        weight: How much each row counts.
        categorical: Features that are codes of categories.
        seed: Of the sample that bins are made from.
        bins: Most of them for a feature; the parameters of a training have to say the same as `max_bin`.

    Raises:
        TypeError: See `check_types`.
    """
    check_types(rows.select(*features, label, weight))
    dataset: lightgbm.Dataset = load_lightgbm().Dataset(
        rows.select(features).rename(positions(features)),
        label=rows[label],
        weight=rows[weight],
        categorical_feature=[positions(features)[name] for name in categorical],
        params={"seed": seed, "max_bin": bins, **REPRODUCIBLE},
    )
    return dataset.construct()


def binned(
    rows: pl.DataFrame,
    label: Any,
    weight: Any | None,
    *,
    categorical: Sequence[str] = (),
    seed: int,
    like: "lightgbm.Dataset | None" = None,
) -> "lightgbm.Dataset":
    """All columns of some rows in LightGBM's binned form, constructed.

    Args:
        rows: Numbers or Booleans all.
        label: One number for each row.
        weight: How much each row counts; None: all alike.
        categorical: Columns that are codes of categories.
        seed: Of the sample that bins are made from.
        like: Rows to learn from, whose bins are used for these, which are tested on.

    Raises:
        TypeError: See `check_types`.
    """
    check_types(rows)
    names = positions(rows.columns)
    dataset: lightgbm.Dataset = load_lightgbm().Dataset(
        rows.rename(names),
        label=label,
        weight=weight,
        categorical_feature=[names[name] for name in categorical],
        reference=like,
        params={"seed": seed, "feature_pre_filter": False, **REPRODUCIBLE},
    )
    return dataset.construct()


def fit_until(
    learnt: "lightgbm.Dataset", unseen: "lightgbm.Dataset", parameters: Mapping[str, Any], *, rounds: int, patience: int
) -> tuple["lightgbm.Booster", list[float]]:
    """Train in this process until unseen rows gain nothing for `patience` rounds.

    Returns:
        The booster, with `best_iteration`, and the loss of the unseen rows after each round.
    """
    lightgbm = load_lightgbm()
    curves: dict[str, dict[str, list[float]]] = {}
    with telling() as tell:
        booster = lightgbm.train(
            dict(parameters),
            learnt,
            num_boost_round=rounds,
            valid_sets=[unseen],
            callbacks=[
                lightgbm.early_stopping(patience, first_metric_only=True, verbose=False),
                lightgbm.record_evaluation(curves),
                lambda at: tell(f"round {at.iteration + 1} of at most {rounds}"),
                lambda _: deadline.check(),
            ],
        )
    ((curve, *_),) = (list(metrics.values()) for metrics in curves.values())
    return booster, curve


def predict(booster: "lightgbm.Booster", features: Sequence[str], rows: pl.DataFrame) -> pl.Series:
    """One value per row; the features that the booster was trained on are picked by name from `rows`, whatever the order of its columns.

    Raises:
        TypeError: See `check_types`.
        ValueError: The rows lack a feature.
    """
    missing = [name for name in features if name not in rows.columns]
    if missing:
        raise ValueError(
            f"the model was trained by other code: it needs {', '.join(missing)}, which the rows do not have. Train a new version."
        )
    inputs = rows.select(features)
    check_types(inputs)
    return pl.Series(booster.predict(inputs), dtype=pl.Float64)


def model_text(booster: "lightgbm.Booster") -> str:
    """The booster as text. The number of threads is left out: it says where the model was trained, not what it is."""
    lines = booster.model_to_string().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("[num_threads:"))
