"""Class means as classifiers: estimator and layer."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from ..exceptions import InvalidInputError
from ._contract import Head, HeadSolution
from ._inputs import TrainingBatch

_ABSENT = 1e4


class PrototypeHead(Head):
    """Classifier by the nearest class mean.

    The prototype of class k is the weighted mean of its rows, the point ::

        c_k = argmin_c  sum_{i: y_i = k} s_i ||x_i - c||^2

    and the logits of a query row q are ::

        euclidean:  -||q - c_k||^2 / temperature
        cosine:     <q, c_k> / (||q|| ||c_k||) / temperature

    Parameters
    ----------
    metric : {"euclidean", "cosine"}, default="euclidean"
        What is near. For "cosine" a row or prototype of zeros has the cosine 0
        with everything.
    temperature : float, default=1.0
        Divides the logits, > 0; the larger, the softer `predict_proba`. The squared
        distance is that of the paper, a sum over features and not a mean, so it
        grows with their number and variance: ``temperature=n_features`` suits
        standardised features.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    prototypes_ : ndarray of shape (n_classes, n_features)
        Class means c_k.
    coef_ : ndarray of shape (n_classes, n_features)
        Weights W' of a linear classifier that ranks the classes alike, see Notes.
    intercept_ : ndarray of shape (n_classes,)
        Its intercepts.
    present_ : ndarray of shape (n_classes,)
        Whether a class has rows.
    dual_gap_ : float
        Sum of squares above its minimum,
        ``sum_k ||sum_i s_i (c_k - x_i)||^2 / sum_i s_i`` over the rows of class k.
    residual_ : float
        ``||G||_F / (sum_i s_i^2 ||x_i||^2)^1/2`` with the gradient
        ``G_k = sum_i s_i (c_k - x_i)``.
    support_features_ : ndarray of shape (n_used,)
        Features that are not 0 in every prototype.
    sparsity_ : float
        Share of features that are 0 in every prototype.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X has string column names.

    See Also
    --------
    sklearn.neighbors.NearestCentroid : The same classes for the euclidean metric.
    RidgeHead : Linear regression, also in closed form.

    Notes
    -----
    As a linear classifier, for "euclidean": W = 2 c_k and the intercept -||c_k||^2,
    over the temperature; ``F W + intercept`` is the logits plus ``||q||^2`` over the
    temperature, the same for all classes. For "cosine": W holds prototypes of length
    1 over the temperature, and rows of queries divided by their length give the
    logits. In the solutions of the layer ``dual`` holds the shares of the rows in
    every prototype, c = dual'F, and ``relative_gap`` divides the gap by
    ``sum_i s_i ||x_i||^2``, since the minimum itself may be 0.

    An offset of the scores is added to the logits of query rows, as the logarithm of
    what is known of their classes beforehand; class means are those of the rows,
    whatever their offset. A class without rows is then as near as the others are on
    average, and the offset decides about it.

    Without an offset, a class without rows in a task of the layer gets the mean of all
    rows as its prototype and a logit that is lowered by ``1e4 (1 + v)`` (with v the
    mean squared distance of the rows from their mean; 0 for "cosine"), or by that
    divided by the temperature if it is below 1. It is finite and never chosen, unless
    a query is thousands of times as far away as the support rows. No gradient flows
    through v.

    References
    ----------
    .. [1] J. Snell, K. Swersky, R. Zemel (2017). Prototypical networks for few-shot
       learning. NeurIPS.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skcausalmeta.heads import PrototypeHead
    >>> X, y = load_iris(return_X_y=True)
    >>> head = PrototypeHead().fit(X, y)
    >>> head.prototypes_[0]
    array([5.006, 3.428, 1.462, 0.246])
    >>> print(f"{head.score(X, y):.2f}")
    0.93
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "metric": [StrOptions({"euclidean", "cosine"})],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, metric: str = "euclidean", *, temperature: float = 1.0) -> None:
        self.metric = metric
        self.temperature = temperature

    @property
    def fixed_origin(self) -> str:  # type: ignore[override]
        """Why a number added to a feature matters; empty: it does not."""
        return "angles are seen from the origin" if self.metric == "cosine" else ""

    def _fit(self, task: TrainingBatch) -> dict[str, Any]:
        prototypes = class_means(task.features, task.targets, task.weights)
        known = prototypes.known(task.offset)
        if task.offset is None and not bool(prototypes.present.all()):
            missing = task.classes[~prototypes.present[0].numpy()].tolist()
            raise ValueError(
                "PrototypeHead needs a row of positive weight in every class. Got no "
                f"row, or sample_weight 0 for all rows of {missing}; drop them, or "
                "give an offset of the scores that knows them."
            )
        gap, _, residual = _certificate(task.features, prototypes)
        coef, intercept = self._linear(prototypes, known)
        return {
            "prototypes_": prototypes.means[0].numpy(),
            "present_": known[0].numpy(),
            "coef_": coef[0].T.numpy(),
            "intercept_": intercept[0].numpy(),
            "dual_gap_": float(gap),
            "residual_": float(residual),
        }

    def predict_proba(
        self, X: ArrayLike, offset: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Softmax of the logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        offset : array-like of shape (n_samples[, n_classes]), default=None
            Scores to add, as in `decision_function`. None: 0.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities of the classes.
        """
        return softmax(self._answers(X, offset), axis=1)

    def _scores(self, X: NDArray[Any]) -> NDArray[Any]:
        means = torch.from_numpy(self.prototypes_)[None]
        nearness = self._nearness(torch.from_numpy(np.array(X))[None], means)
        known = torch.from_numpy(self.present_)[None]
        scores = _mean_of_known(nearness, known)[0]
        if not bool(torch.isfinite(scores).all()):
            raise InvalidInputError(
                "Rows must be near enough for their squared distances to be finite. "
                f"Got rows up to {np.abs(X).max():.1e}; change their unit."
            )
        return scores.numpy()

    def _layer(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        tol: float | None,
        offset: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        prototypes = class_means(features, targets, weights)
        known = prototypes.known(offset)
        return prototypes.means, self._lowering(features, prototypes, known), known

    def _logits(self, solved: tuple[Tensor, Tensor, Tensor], query: Tensor) -> Tensor:
        means, lowering, known = solved
        return _mean_of_known(self._nearness(query, means), known) - lowering[:, None]

    def _solve(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        tol: float | None,
        offset: Tensor | None = None,
    ) -> HeadSolution:
        prototypes = class_means(features, targets, weights)
        known = prototypes.known(offset)
        coef, intercept = self._linear(prototypes, known)
        gap, relative_gap, _ = _certificate(features, prototypes)
        return HeadSolution(
            coef,
            prototypes.shares,
            gap,
            torch.ones_like(gap, dtype=torch.int64),
            intercept - self._lowering(features, prototypes, known),
            relative_gap,
        )

    def _nearness(self, query: Tensor, means: Tensor) -> Tensor:
        """Logits (n_tasks, n_query, n_classes) as if every class had rows."""
        if self.metric == "cosine":
            return _unit_rows(query) @ _unit_rows(means).mT / self.temperature
        # Around their middle the squares are small and lose few digits.
        middle = means.mean(dim=1, keepdim=True)
        query, means = query - middle, means - middle
        squares = query.square().sum(-1)[..., None] + means.square().sum(-1)[:, None]
        return (2 * query @ means.mT - squares) / self.temperature

    def _linear(self, prototypes: Prototypes, known: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and intercepts of the linear part of the logits."""
        means = prototypes.means
        if self.metric == "cosine":
            coef, intercept = _unit_rows(means).mT, torch.zeros_like(means[..., 0])
        else:
            coef, intercept = 2 * means.mT, -means.square().sum(-1)
        coef = _mean_of_known(coef, known)
        intercept = _mean_of_known(intercept[:, None], known)[:, 0]
        return coef / self.temperature, intercept / self.temperature

    def _lowering(
        self, features: Tensor, prototypes: Prototypes, known: Tensor
    ) -> Tensor:
        """What absent classes lose, (n_tasks, n_classes), without gradient."""
        spread = features.new_zeros(())
        if self.metric == "euclidean":
            shares = prototypes.weights / prototypes.weights.sum(-1, keepdim=True)
            distances = features - shares[:, None] @ features
            spread = (shares * distances.square().sum(-1)).sum(-1, keepdim=True)
        amount = _ABSENT * (1 + spread.detach()) / min(self.temperature, 1.0)
        return torch.where(prototypes.present | ~known, 0.0, amount)


class Prototypes(NamedTuple):
    """Class means of a batch of tasks.

    Parameters
    ----------
    means : Tensor of shape (n_tasks, n_classes, n_features)
        Class means; of all rows where a class has none.
    shares : Tensor of shape (n_tasks, n_samples, n_classes)
        Share of every row in every mean.
    present : Tensor of shape (n_tasks, n_classes)
        Whether a class has a row of positive weight.
    masses : Tensor of shape (n_tasks, n_samples, n_classes)
        Row weights in the column of the class, 0 elsewhere.
    weights : Tensor of shape (n_tasks, n_samples)
        Row weights.
    """

    means: Tensor
    shares: Tensor
    present: Tensor
    masses: Tensor
    weights: Tensor

    def known(self, offset: Tensor | None) -> Tensor:
        """Classes that score by their own mean: with an offset those with rows."""
        return torch.ones_like(self.present) if offset is None else self.present


def _mean_of_known(scores: Tensor, known: Tensor) -> Tensor:
    """Scores (n_tasks, n_rows, n_classes); the mean of the known ones elsewhere."""
    there = known[:, None].to(scores)
    mean = (scores * there).sum(-1, keepdim=True) / there.sum(-1, keepdim=True)
    return torch.where(known[:, None], scores, mean)


def class_means(features: Tensor, targets: Tensor, weights: Tensor) -> Prototypes:
    """Weighted class means; targets are one-hot (n_tasks, n_samples, n_classes)."""
    masses = weights[..., None] * targets
    totals = masses.sum(dim=1, keepdim=True)
    present = totals > 0
    overall = weights / weights.sum(-1, keepdim=True)
    own = masses / torch.where(present, totals, 1.0)
    shares = torch.where(present, own, overall[..., None])
    return Prototypes(shares.mT @ features, shares, present[:, 0], masses, weights)


def _certificate(
    features: Tensor, prototypes: Prototypes
) -> tuple[Tensor, Tensor, Tensor]:
    """Gap, relative gap and residual of the sum of squares, all (n_tasks,)."""
    totals = prototypes.masses.sum(dim=1)  # (n_tasks, n_classes)
    means = totals[..., None] * prototypes.means
    gradient = means - prototypes.masses.mT @ features
    squares = gradient.square().sum(-1)
    gap = (squares / torch.where(totals > 0, totals, 1.0)).sum(-1)
    rows, weights = features.square().sum(-1), prototypes.weights
    tiny = torch.finfo(features.dtype).tiny
    scale = (weights.square() * rows).sum(-1).clamp_min(tiny).sqrt()
    relative_gap = gap / (weights * rows).sum(-1).clamp_min(tiny)
    return gap, relative_gap, squares.sum(-1).sqrt() / scale


def _unit_rows(rows: Tensor) -> Tensor:
    """Rows of length 1; rows of zeros stay, with a finite gradient."""
    squares = rows.square().sum(-1, keepdim=True)
    return rows * torch.where(squares > 0, squares, 1.0).rsqrt()
