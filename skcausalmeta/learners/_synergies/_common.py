"""What all tasks share: a predictor that needs no label of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter
from torch import nn

from ...exceptions import InvalidInputError
from ...training import (
    PooledData,
    PooledModel,
    PooledModels,
    RowReader,
    fit_pooled,
    in_passes,
    scores_of,
)
from ...utils import SparseRows, isolated_torch_rng, read_rows
from .._row_weights import refuse_weights

N_FOLDS = 3
# Probabilities closer to 0 are no evidence of a pooled model.
_LEAST_PROBABILITY = 1e-4
# Strengths of the ridge of a linear common predictor, on standardised features.
_RIDGES = tuple(10.0**power for power in range(-2, 7))
_MAX_ITER = 500


class FlatRows:
    """View of rows as a table, which an estimator takes; sparse rows stay sparse."""

    def __call__(self, rows: Any) -> Any:
        """Return rows (n, ...) as (n, n_entries)."""
        if isinstance(rows, SparseRows):
            return rows.matrix()
        return np.asarray(rows).reshape(len(rows), -1)


class BackboneFeatures:
    """View of rows as the features that a backbone gives.

    Parameters
    ----------
    backbone : torch.nn.Module
    reader : RowReader
        From rows to its inputs.
    """

    def __init__(self, backbone: nn.Module, reader: RowReader) -> None:
        self.backbone, self.reader = backbone, reader

    def __call__(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the features (n, d) of rows, in float64."""
        self.backbone.eval()
        return in_passes(self._part, rows)

    def _part(self, rows: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            features = self.backbone(self.reader(rows))
        return features.flatten(1).double().cpu().numpy()


class CommonPredictor(ABC):
    """Scores of rows by what all training tasks share.

    Attributes
    ----------
    training_scores : ndarray of shape (n_samples, n_scores)
        Scores of the training rows by models that did not see their task.
    """

    training_scores: NDArray[np.float64]

    @abstractmethod
    def scores(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Return the scores (n, n_classes) of checked rows, or (n, 1) targets."""

    @property
    @abstractmethod
    def coef(self) -> NDArray[Any]:
        """Weights of its features, (n_scores, n_features)."""


class PooledNets(CommonPredictor):
    """The mean of nets that were trained on the rows of all tasks, and of most."""

    def __init__(
        self, members: list[PooledModel], scores: NDArray[Any], reader: RowReader
    ) -> None:
        self.members, self.training_scores, self.reader = members, scores, reader

    def scores(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        return scores_of(self.members, self.reader, rows)

    @property
    def coef(self) -> NDArray[Any]:
        """Weights of the last layer of the net of all rows."""
        weights: NDArray[Any] = self.members[-1].scores.weight.detach().cpu().numpy()
        return weights.astype(np.float64)


class PooledEstimator(CommonPredictor):
    """A scikit-learn estimator on the rows of all tasks."""

    def __init__(
        self,
        estimator: Any,
        view: Callable[[NDArray[Any]], NDArray[Any]],
        n_classes: int,
    ) -> None:
        self.estimator, self.view, self.n_classes = estimator, view, n_classes

    def fit(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        weights: NDArray[Any] | None = None,
    ) -> PooledEstimator:
        """Fit on rows; `targets` are class numbers, or real."""
        one_class = self.n_classes and len(np.unique(targets)) == 1
        # The tasks of a fold may leave one class, which classifiers refuse.
        model = DummyClassifier() if one_class else clone(self.estimator)
        if weights is None:
            self.estimator = model.fit(self.view(rows), targets)
            return self
        keywords = dict.fromkeys(weight_names(model), weights)
        # Routing would ask the steps of a pipeline for a request of their own.
        with config_context(enable_metadata_routing=False):
            self.estimator = model.fit(self.view(rows), targets, **keywords)
        return self

    def scores(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        features = self.view(rows)
        if not self.n_classes:
            return np.asarray(self.estimator.predict(features), float).reshape(-1, 1)
        return _class_scores(self.estimator, features, self.n_classes)

    @property
    def coef(self) -> NDArray[Any]:
        """Weights of a linear estimator, also of a last step behind a scaler."""
        weights = _linear_weights(self.estimator)
        if self.n_classes == 2 and len(weights) == 1:  # of the second class
            return np.concatenate([-weights / 2, weights / 2])
        return weights


def _class_scores(
    estimator: Any, features: NDArray[Any], n_classes: int
) -> NDArray[np.float64]:
    """Logarithms of the probabilities, or decision values, of all classes."""
    known = np.asarray(estimator.classes_, dtype=np.int64)
    found = np.full((len(features), n_classes), np.log(_LEAST_PROBABILITY))
    if hasattr(estimator, "predict_proba"):
        shares = np.asarray(estimator.predict_proba(features), dtype=np.float64)
        found[:, known] = np.log(np.clip(shares, _LEAST_PROBABILITY, None))
        # What is the same for all classes says nothing, and is not linear.
        return found - found.mean(axis=1, keepdims=True)
    values = np.asarray(estimator.decision_function(features), dtype=np.float64)
    if values.ndim == 1:
        values = np.stack([-values / 2, values / 2], axis=1)
    found[:, known] = values
    return found


def _linear_weights(estimator: Any) -> NDArray[Any]:
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    steps = [step for step in steps if step is not None and step != "passthrough"]
    scalers, last = steps[:-1], steps[-1]
    if not hasattr(last, "coef_") or not all(map(_scales, scalers)):
        names = " after ".join(type(step).__name__ for step in reversed(steps))
        raise AttributeError(
            "common_coef_ is there where the common predictor is linear in the columns "
            f"it is given. Got {names}; ask common_.estimator itself."
        )
    weights = np.atleast_2d(last.coef_)
    for scaler in scalers:
        weights = weights / scaler.scale_ if scaler.with_std else weights
    return weights


def _scales(step: Any) -> bool:
    """Whether a step of a pipeline does no more than move and scale columns."""
    return isinstance(step, StandardScaler)


def weight_names(estimator: Any) -> list[str]:
    """Return the keywords by which ``fit`` takes weights of rows.

    Those of the steps of a pipeline, if its last step has one.
    """
    steps = getattr(estimator, "steps", None)
    if steps is None:
        taken = has_fit_parameter(estimator, "sample_weight")
        return ["sample_weight"] if taken else []
    if not hasattr(steps[-1][1], "fit") or not weight_names(steps[-1][1]):
        return []
    return [
        f"{name}__{inner}"
        for name, step in steps
        if hasattr(step, "fit")
        for inner in weight_names(step)
    ]


def refuse_unweighted(learner: Any, kind: Any) -> None:
    """Refuse an estimator that takes no weights as common predictor of weighted rows.

    Raises
    ------
    InvalidInputError
    """
    if isinstance(kind, str) or learner._fit_weights is None or weight_names(kind):
        return
    refuse_weights(
        learner,
        f"around {type(kind).__name__}, whose fit has none",
        'use another estimator, common="linear" or common=None, or repeat rows',
    )


@dataclass(frozen=True)
class TrainingRows:
    """Rows of all training tasks.

    Attributes
    ----------
    rows : ndarray of shape (n_samples, ...)
    targets : ndarray of shape (n_samples,)
        Class numbers, or standardised real targets.
    tasks : ndarray of shape (n_samples,)
        Numbers of the tasks.
    n_classes : int
        0 for real targets.
    reader : RowReader
    seed : int
    weights : ndarray of shape (n_samples,) or None
    """

    rows: NDArray[Any]
    targets: NDArray[Any]
    tasks: NDArray[Any]
    n_classes: int
    reader: RowReader
    seed: int
    weights: NDArray[Any] | None = None

    def weights_of(self, index: NDArray[Any]) -> NDArray[Any] | None:
        """Return the weights of some rows, None where all weigh the same."""
        return None if self.weights is None else self.weights[index]

    def folds(self) -> NDArray[np.int64]:
        """Return the fold of every row; rows of a task are in one."""
        n_tasks = int(self.tasks.max()) + 1
        fold = np.empty(n_tasks, dtype=np.int64)
        order = np.random.default_rng(self.seed).permutation(n_tasks)
        fold[order] = np.arange(n_tasks) % min(N_FOLDS, n_tasks)
        return fold[self.tasks]


def fit_estimator(
    estimator: Any, view: Callable[[NDArray[Any]], NDArray[Any]], data: TrainingRows
) -> PooledEstimator:
    """Fit an estimator on all rows, and score each by one that missed its task."""
    folds, scores = data.folds(), np.empty((len(data.tasks), max(data.n_classes, 1)))
    for fold in range(int(folds.max()) + 1):
        own, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        part = PooledEstimator(estimator, view, data.n_classes)
        seen = read_rows(data.rows, others)
        part.fit(seen, data.targets[others], data.weights_of(others))
        scores[own] = part.scores(read_rows(data.rows, own))
    found = PooledEstimator(estimator, view, data.n_classes)
    every = read_rows(data.rows, np.arange(len(data.tasks)))
    found.fit(every, data.targets, data.weights)
    found.training_scores = scores
    return found


def fit_linear(
    view: Callable[[NDArray[Any]], NDArray[Any]], data: TrainingRows
) -> PooledEstimator:
    """Fit a linear model on features; the ridge that helps unseen tasks most."""
    features = view(data.rows)
    known = replace(data, rows=features)
    best: PooledEstimator | None = None
    best_loss = np.inf
    for ridge in _RIDGES:
        model = fit_estimator(_linear(ridge, data.n_classes), _as_given, known)
        loss = _mean_loss(model.training_scores, data)
        if best is None or loss < best_loss:
            best, best_loss = model, loss
    if best is None or not np.isfinite(best_loss):
        raise InvalidInputError(
            "A linear common predictor needs finite scores. Got none that are; scale "
            "the rows, or use common=None."
        )
    best.view = view
    return best


def _linear(ridge: float, n_classes: int) -> Any:
    if not n_classes:
        return make_pipeline(StandardScaler(), Ridge(alpha=ridge))
    model = LogisticRegression(C=1.0 / ridge, max_iter=_MAX_ITER)
    return make_pipeline(StandardScaler(), model)


def _as_given(rows: NDArray[Any]) -> NDArray[Any]:
    return rows


def _mean_loss(scores: NDArray[Any], data: TrainingRows) -> float:
    targets = data.targets
    if not data.n_classes:
        losses = (scores[:, 0] - targets) ** 2
    else:
        top = scores.max(axis=1)
        total = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
        losses = total - scores[np.arange(len(targets)), targets]
    return float(np.average(losses, weights=data.weights))


def fit_nets(
    backbone: Callable[[], nn.Module],
    n_features: int,
    data: TrainingRows,
    *,
    device: Any,
    verbose: bool,
) -> PooledModels:
    """Train a net on the rows of all tasks, and one for every fold without them.

    Parameters
    ----------
    backbone : callable
        ``backbone() -> torch.nn.Module`` at its first weights.
    n_features : int
        Features that it gives.
    data : TrainingRows
    device : str or torch.device
    verbose : bool
        Whether a progress bar is shown.
    """

    def make() -> PooledModel:
        with isolated_torch_rng(data.seed):
            model = PooledModel(backbone(), n_features, max(data.n_classes, 1))
        return model.to(device)

    weights = None if data.weights is None else data.weights / data.weights.mean()
    pooled = PooledData(
        data.rows, data.targets, data.tasks, data.n_classes, data.reader, weights
    )
    return fit_pooled(make, pooled, n_folds=N_FOLDS, seed=data.seed, verbose=verbose)
