"""Any estimator of scikit-learn as a learner, stored with skops: what is loaded is of types that scikit-learn, NumPy and SciPy have.

Estimators of other packages, and functions, cannot be stored: nothing that is stored may bring code along.
"""

import io
import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from lakehouse_assets.platform.compute.protocol import Compute
from lakehouse_assets.platform.declarations.learning import Predictor, TrainingRows
from lakehouse_assets.platform.modelling.encoding import Encoding, encoding_of, matrix
from lakehouse_assets.platform.modelling.learners.prepared import prepare, write_json
from lakehouse_assets.platform.modelling.targets import KINDS, Target, Task

_FILE, _ESTIMATOR = "estimator.json", "estimator.skops"
_SCHEMA: Final = "schema.json"
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_TRUSTED: Final = (
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Parts of scikit-learn's estimators beyond what skops trusts by itself. Trees are checked after they were read, see `_check_trees`."""


@dataclass(frozen=True)
class Sklearn:
    """An estimator of scikit-learn, or a pipeline of them.

    It is given a matrix: categories as columns of 0 and 1, missing numbers as the median of the training rows, and for each column that has
    some a second one that says where.

    Attributes:
        estimator: Not fitted; it is copied. Its random states are set from the training's seed.
        objective: `regression`, `binary` or `multiclass`; classifiers need `predict_proba`.
        positive: Of a binary target with texts, the value that counts.
    """

    estimator: Any
    objective: Task = "regression"
    positive: str | None = None

    def __post_init__(self) -> None:
        wanted = "predict" if self.objective == "regression" else "predict_proba"
        if self.objective not in KINDS or not hasattr(self.estimator, "fit") or not hasattr(self.estimator, wanted):
            raise ValueError(f"objective {self.objective!r} needs an estimator with fit and {wanted}, and it is {self.estimator!r}")

    def fit(self, training: TrainingRows, *, seed: int, compute: Compute) -> "SklearnPredictor":  # noqa: ARG002
        """See `Learner.fit`. It runs in this process, on one thread, so that sums are the same everywhere."""
        from sklearn.base import clone
        from sklearn.utils.validation import has_fit_parameter

        prepared = prepare(training, KINDS[self.objective], self.positive)
        encoding = encoding_of(prepared.rows, prepared.inputs)
        values = matrix(encoding, prepared.rows)
        known = [column[~np.isnan(column)] for column in values.T]
        fill = tuple(float(np.median(column)) if len(column) else 0.0 for column in known)
        estimator = clone(self.estimator)
        names = [name for name in estimator.get_params() if name == "random_state" or name.endswith("__random_state")]
        estimator.set_params(**dict.fromkeys(names, seed))
        weight = {"sample_weight": prepared.weight} if prepared.weighted and has_fit_parameter(estimator, "sample_weight") else {}
        codes = prepared.codes if prepared.target.kind == "number" else prepared.codes.astype(np.int64)
        with one_thread(), quiet():
            estimator.fit(_filled(values, fill), codes, **weight)
        return SklearnPredictor(encoding, prepared.target, fill, estimator)


@dataclass(frozen=True)
class SklearnPredictor(Predictor):
    """A fitted estimator.

    Attributes:
        encoding: How inputs become numbers.
        target: What is predicted.
        fill: What missing numbers become, for each column of the matrix.
        estimator: Fitted.
        stored: The file that it was read from, if it was.
    """

    encoding: Encoding
    target: Target
    fill: tuple[float, ...]
    estimator: Any
    stored: bytes | None = field(default=None, repr=False)

    word: ClassVar[str] = "sklearn"
    packages: ClassVar[tuple[str, ...]] = ("polars", "numpy", "scikit-learn", "scipy", "skops")

    def __reduce__(self) -> tuple[Any, ...]:
        """It travels with the bytes that it is stored as: those of a copy differ, as skops tells which parts are one object."""
        stored = self.stored or estimator_bytes(self.estimator)
        return SklearnPredictor, (self.encoding, self.target, self.fill, self.estimator, stored)

    @property
    def inputs(self) -> tuple[str, ...]:
        """See `Predictor.inputs`."""
        return self.encoding.inputs

    def predict(self, rows: pl.DataFrame) -> pl.DataFrame:
        """See `Predictor.predict`."""
        if rows.is_empty():
            return self.target.frame(np.zeros((0, len(self.target.columns))))
        values = _filled(matrix(self.encoding, rows), self.fill)
        with one_thread(), quiet():
            if self.target.kind == "number":
                return self.target.frame(self.estimator.predict(values))
            probability = self.estimator.predict_proba(values)
        return self.target.frame(probability[:, 1] if self.target.kind == "binary" else probability)

    def save(self, folder: Path) -> None:
        """See `Predictor.save`.

        Raises:
            TypeError: The estimator has parts that are not of scikit-learn, NumPy or SciPy.
        """
        write_json(folder / _FILE, {"encoding": self.encoding.to_json(), "target": self.target.to_json(), "fill": list(self.fill)})
        (folder / _ESTIMATOR).write_bytes(self.stored or estimator_bytes(self.estimator))

    @classmethod
    def load(cls, folder: Path) -> "SklearnPredictor":
        """See `Predictor.load`.

        Raises:
            TypeError: The file asks for types that are not trusted; nothing of it was made.
        """
        import skops.io  # type: ignore[import-untyped]
        from skops.io.exceptions import UntrustedTypesFoundException  # type: ignore[import-untyped]

        parts: Mapping[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        stored = (folder / _ESTIMATOR).read_bytes()
        try:
            estimator = skops.io.loads(stored, trusted=list(_TRUSTED))
        except UntrustedTypesFoundException as error:
            raise TypeError(f"the stored estimator is not of scikit-learn, NumPy and SciPy alone, and is not loaded: {error}") from error
        _check_trees(estimator, set())
        return cls(Encoding.from_json(parts["encoding"]), Target.from_json(parts["target"]), tuple(parts["fill"]), estimator, stored)


def estimator_bytes(estimator: Any) -> bytes:
    """An estimator as skops writes it, but for what differs from run to run: addresses of objects in memory and the time.

    Raises:
        TypeError: It has parts that would not be loaded; they are named.
    """
    import skops.io

    written = skops.io.dumps(estimator)
    untrusted = sorted(set(skops.io.get_untrusted_types(data=written)) - set(_TRUSTED))
    if untrusted:
        raise TypeError(
            f"the estimator cannot be stored, as it has parts that are not of scikit-learn, NumPy or SciPy: {', '.join(untrusted)}. "
            "Use estimators of scikit-learn, or write a predictor of your own"
        )
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        numbers: dict[Any, int] = {}
        files: dict[str, str] = {}
        _renumber(schema, numbers, files)
        contents = {files[name]: archive.read(name) for name in archive.namelist() if name in files}
    contents[_SCHEMA] = json.dumps(schema, indent=1).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(contents):
            archive.writestr(zipfile.ZipInfo(name, _TIME), contents[name], compress_type=zipfile.ZIP_DEFLATED, compresslevel=6)
    return buffer.getvalue()


def _check_trees(part: Any, seen: set[int]) -> None:
    """Refuse trees whose branches lead out of them or in circles: scikit-learn follows them unchecked, and the process would end.

    Raises:
        TypeError: There is such a tree.
    """
    if id(part) in seen or isinstance(part, str | bytes | int | float):
        return
    seen.add(id(part))
    nodes = getattr(part, "nodes", None) if type(part).__name__ == "TreePredictor" else None
    if type(part).__name__ == "Tree":
        inner = part.children_left != -1
        _require_descending(part.children_left[inner], part.children_right[inner], np.flatnonzero(inner), part.node_count)
        if inner.any() and not 0 <= part.feature[inner].min() <= part.feature[inner].max() < part.n_features:
            raise TypeError("the stored estimator has a tree that reads a column which it does not have")
    elif nodes is not None:
        inner = nodes["is_leaf"] == 0
        _require_descending(nodes["left"][inner], nodes["right"][inner], np.flatnonzero(inner), len(nodes))
    elif isinstance(part, dict):
        _check_trees(list(part.values()), seen)
    elif isinstance(part, list | tuple) or (isinstance(part, np.ndarray) and part.dtype == object):
        for inside in part.ravel() if isinstance(part, np.ndarray) else part:
            _check_trees(inside, seen)
    elif hasattr(part, "__dict__"):
        _check_trees(vars(part), seen)


def _require_descending(left: Any, right: Any, parents: Any, count: int) -> None:
    for child in (left.astype(np.int64), right.astype(np.int64)):
        if len(child) and ((child <= parents).any() or (child >= count).any()):
            raise TypeError("the stored estimator has a tree with branches that lead out of it: it was altered, and is not loaded")


def _renumber(node: Any, numbers: dict[Any, int], files: dict[str, str]) -> None:
    """Give objects the number in which they are met, and files the number of their first use, in place."""
    if isinstance(node, list):
        for part in node:
            _renumber(part, numbers, files)
    elif isinstance(node, dict):
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers))
        if isinstance(file := node.get("file"), str):
            node["file"] = files.setdefault(file, f"{len(files):06}{Path(file).suffix}")
        for key, part in node.items():
            if key not in {"__id__", "file"}:
                _renumber(part, numbers, files)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of matrices in one order: BLAS and OpenMP are held to one thread."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of scikit-learn on rows that are hard to learn: what they lead to is in the scores."""
    from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning

    with warnings.catch_warnings():
        for kind in (ConvergenceWarning, UndefinedMetricWarning, RuntimeWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _filled(values: Any, fill: tuple[float, ...]) -> Any:
    return np.where(np.isnan(values), np.array(fill), values)
