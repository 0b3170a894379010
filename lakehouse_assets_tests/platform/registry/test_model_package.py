"""The folder of a model version: it opens where nothing of this project is installed, and predicts there what the predictor does here."""

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.platform.compute.local import Local
from lakehouse_assets.platform.declarations.learning import TrainingRows
from lakehouse_assets.platform.modelling import predictors
from lakehouse_assets.platform.modelling.forecasting.direct import DirectForecast
from lakehouse_assets.platform.modelling.forecasting.examples import SeriesExamples
from lakehouse_assets.platform.modelling.forecasting.plain import plain_forecasts
from lakehouse_assets.platform.modelling.forecasting.statistics import daily_features
from lakehouse_assets.platform.modelling.learners.baselines import InputColumn, Mean
from lakehouse_assets.platform.modelling.learners.blend import Blended
from lakehouse_assets.platform.modelling.learners.boosting import GradientBoosting
from lakehouse_assets.platform.modelling.learners.estimators import Sklearn
from lakehouse_assets.platform.modelling.learners.linear import Linear
from lakehouse_assets.platform.modelling.learners.rule import BestRule
from lakehouse_assets.platform.modelling.learners.searched import Searched
from lakehouse_assets.platform.modelling.learners.segments import PerSegment
from lakehouse_assets.platform.modelling.predictors import load_predictor, save_predictor
from lakehouse_assets.platform.registry.model_package import digest_of, predictor_digest
from lakehouse_assets_tests.platform.modelling.forecasting.shop import SERIES, sales
from lakehouse_assets_tests.platform.modelling.test_learners import sample
from lakehouse_assets_tests.platform.registry.example import MODEL, training

INPUTS = ("amount", "count", "country", "level", "new", "day")
ALONE = """
import json, sys, warnings
sys.path.append(sys.argv[1])  # by hand: so files that end in .pth are not read, and an editable installation is not seen
warnings.simplefilter("ignore")
import mlflow.pyfunc
import pandas as pd
try:
    import lakehouse_assets
except ModuleNotFoundError:
    pass
else:
    raise AssertionError(lakehouse_assets.__file__)
for folder, rows in json.loads(sys.argv[2]):
    for name in [name for name in sys.modules if name.split(".")[0] == "lakehouse_assets"]:
        del sys.modules[name]  # each model has its own copy of the code
    before = list(sys.path)
    model = mlflow.pyfunc.load_model(folder)
    import lakehouse_assets
    assert lakehouse_assets.__file__.startswith(folder), lakehouse_assets.__file__
    frame = pd.read_parquet(rows)
    said = [model.predict(frame), model.predict(model.input_example)]
    print(json.dumps([one.to_dict("list") for one in said]))
    sys.path[:] = before
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules} & {"dagster", "deltalake", "pandera", "lakehouse_assets_tests"})))
"""


def rows_to_forecast() -> tuple[TrainingRows, pl.DataFrame]:
    """What a forecast learns from, and as a frame."""
    daily = daily_features(sales(SERIES.least_days, levels={"small": 60.0}), SERIES)
    examples = SeriesExamples(SERIES, "shop.features.days")
    rows = examples.rows(lambda _: daily).collect()
    return examples.training(rows.lazy()), rows


def fitted() -> dict:
    """A predictor of each word."""
    rows = TrainingRows(sample().lazy(), ("id",), "made", "y", INPUTS)
    learners = {
        "boosting": GradientBoosting("quantiles", calibrated=True, rounds=10),
        "column": InputColumn("count"),
        "constant": Mean(),
        "linear": Linear(),
        "rule": BestRule("regression"),
        "segments": PerSegment(GradientBoosting(rounds=5), by=("country",), least=50),
    }
    from sklearn.ensemble import ExtraTreesRegressor

    learners["sklearn"] = Sklearn(ExtraTreesRegressor(n_estimators=3, max_depth=3))
    found = {name: learner.fit(rows, seed=1, compute=Local()) for name, learner in learners.items()}
    found["blend"] = Blended({"linear": found["linear"], "constant": found["constant"]}, (0.5, 0.5))
    found["search"] = Searched(found["boosting"], {"trials": 1})
    days, _ = rows_to_forecast()
    found["forecast"] = DirectForecast(SERIES, rounds=5).fit(days, seed=1, compute=Local())
    found["forecast_column"] = plain_forecasts(SERIES)["reference"].fit(days, seed=1, compute=Local())
    return found


@pytest.fixture(scope="module")
def every_kind() -> dict:
    return fitted()


def test_every_kind_of_model_loads_where_nothing_of_this_project_is_installed(every_kind, registry, tmp_path):
    assert set(every_kind) == set(predictors.PREDICTORS) - {word for word in predictors.PREDICTORS if word.startswith("test_")}
    example, new = sample(40).select(INPUTS), sample(20, seed=2).select(INPUTS)
    new.with_columns(pl.col("level").cast(pl.String)).write_parquet(tmp_path / "rows.parquet")
    _, days = rows_to_forecast()
    days.tail(20).write_parquet(tmp_path / "days.parquet")
    forecasts = days.head(40), days.tail(20), str(tmp_path / "days.parquet")
    of_word = {word: forecasts if word.startswith("forecast") else (example, new, str(tmp_path / "rows.parquet")) for word in every_kind}
    folders = []
    for word, predictor in every_kind.items():
        example, _, file = of_word[word]
        example = example.select(predictor.inputs) if word.startswith("forecast") else example
        version = registry.log_training(training(predictor=predictor, input_example=example, fingerprint=word))
        folders.append((version.source, file))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, sysconfig.get_path("purelib"), json.dumps(folders)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *predicted, imported = map(json.loads, done.stdout.splitlines())
    for (word, predictor), (of_rows, of_example) in zip(every_kind.items(), predicted, strict=True):
        example, new, _ = of_word[word]
        assert of_rows == predictor.predict(new.select(predictor.inputs)).to_dict(as_series=False), word
        shown = example if "new" not in predictor.inputs else example.drop_nulls("new")  # MLflow reads a missing boolean as False
        assert of_example == predictor.predict(shown.select(predictor.inputs)).to_dict(as_series=False), word
    assert imported == [], "nothing but what predicting needs"


def test_requirements_are_those_of_the_predictor_and_of_its_parts(every_kind, registry):
    version = registry.log_training(training(predictor=every_kind["search"], input_example=sample(5).select(INPUTS)))
    names = {line.partition("==")[0] for line in (Path(version.source) / "requirements.txt").read_text(encoding="utf-8").splitlines()}
    assert {"lightgbm", "numpy", "pandas", "polars", "pyarrow"} <= names


def test_the_code_beside_a_model_is_what_opens_it_alone(registry):
    version = registry.log_training(training())
    code = Path(version.source, "code", "lakehouse_assets")
    files = {str(file.relative_to(code)) for file in code.rglob("*.py")}
    assert {"__init__.py", "pyfunc.py", "platform/modelling/predictors.py"} <= files
    assert not [file for file in files if file.startswith(("products/", "platform/pipeline/", "platform/storage/", "cli/"))]


# --- words


def test_nothing_is_imported_for_a_word_that_is_not_in_the_list(tmp_path, monkeypatch):
    """What is stored is data: a module path in the place of a word is a word that is not known."""
    (tmp_path / "evil_module.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for word in ("evil_module:Predictor", "evil_module", "../evil_module", "", None, ["boosting"], {"a": 1}):
        (tmp_path / "predictor.json").write_text(json.dumps({"predictor": word}))
        with pytest.raises(LookupError, match=r"which this release does not know. Known: .*boosting"):
            load_predictor(tmp_path)
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "\x00"])
def test_a_file_that_says_no_word_is_refused_as_an_unknown_model(tmp_path, text):
    (tmp_path / "predictor.json").write_text(text)
    with pytest.raises(LookupError, match=r"which this release does not know|is damaged"):
        load_predictor(tmp_path)


def test_the_digest_is_that_of_the_predictor_and_of_nothing_else(tmp_path):
    assert predictor_digest(MODEL) == predictor_digest(replace(MODEL))
    assert predictor_digest(MODEL) != predictor_digest(replace(MODEL, slope=2.5))
    save_predictor(MODEL, tmp_path / "a")
    assert digest_of(tmp_path / "a") == predictor_digest(MODEL)
    (tmp_path / "a" / "linear.json").rename(tmp_path / "a" / "renamed.json")
    assert digest_of(tmp_path / "a") != predictor_digest(MODEL)


def test_equal_trainings_have_equal_digests_and_others_have_others(every_kind):
    digests = {word: predictor_digest(predictor) for word, predictor in every_kind.items()}
    assert digests == {word: predictor_digest(predictor) for word, predictor in fitted().items()}
    assert len(set(digests.values())) == len(digests)
