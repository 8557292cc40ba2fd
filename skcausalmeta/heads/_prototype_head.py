"""Class means as classifiers: estimator and layer."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data
from torch import Tensor

from ._base import HeadSolution
from ._classifier import HeadClassifierMixin, episode_inputs, training_batch

_ABSENT = 1e4


class PrototypeHead(HeadClassifierMixin, BaseEstimator):
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
    A class without rows in a task of the layer gets the mean of all rows as its
    prototype and a logit that is lowered by ``1e4 (1 + v)`` (with v the mean squared
    distance of the rows from their mean; 0 for "cosine"), or by that divided by
    the temperature if it is below 1. It is finite and never chosen, unless a query
    is thousands of times as far away as the support rows. No gradient flows
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

    # -- scikit-learn estimator ------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> PrototypeHead:
        """Mean of the rows of every class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; dense.
        y : array-like of shape (n_samples,)
            Class labels, at least two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights >= 0, with a row > 0 in every class. None: 1.

        Returns
        -------
        PrototypeHead
            Itself.

        Raises
        ------
        ValueError
            For invalid data or parameters; the estimator stays as it was.
        """
        task = training_batch(self, X, y, sample_weight)
        prototypes = class_means(task.features, task.targets, task.weights)
        if not bool(prototypes.present.all()):
            missing = task.classes[~prototypes.present[0].numpy()].tolist()
            raise ValueError(
                "PrototypeHead needs a row of positive weight in every class. Got "
                f"sample_weight 0 for all rows of {missing}; drop these rows."
            )
        gap, _, residual = _certificate(task.features, prototypes)
        validate_data(self, X, skip_check_array=True)
        self.classes_ = task.classes
        self.prototypes_ = prototypes.means[0].numpy()
        self.dual_gap_ = float(gap)
        self.residual_ = float(residual)
        self._store_support(self.prototypes_)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Softmax of the logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities of the classes.
        """
        return softmax(self._checked_scores(X), axis=1)

    def _scores(self, X: NDArray[Any]) -> NDArray[Any]:
        means = torch.from_numpy(self.prototypes_)[None]
        return self._logits(torch.from_numpy(np.array(X))[None], means)[0].numpy()

    # -- layer -------------------------------------------------------------------

    def solve_episodes(
        self,
        features: Tensor,
        targets: Tensor,
        n_classes: int,
        *,
        sample_weight: Tensor | None = None,
        tol: float | None = None,
    ) -> HeadSolution:
        """Prototypes of many tasks as linear classifiers, without gradients.

        ``F W + intercept`` ranks the classes as the logits do. For "euclidean" it is
        the logits plus ``||q||^2 / temperature`` (W = 2 c_k, intercept = -||c_k||^2,
        over the temperature). For "cosine" W holds prototypes of length 1 over the
        temperature, and rows of queries divided by their length give the logits.

        Parameters
        ----------
        features : Tensor of shape (n_tasks, n_support, n_features)
            Support features.
        targets : Tensor of shape (n_tasks, n_support)
            Class numbers 0..n_classes-1.
        n_classes : int
            Number of classes of every task.
        sample_weight : Tensor of shape (n_tasks, n_support), default=None
            Row weights; rows of weight 0 pad smaller tasks.
        tol : float, default=None
            Not needed by the closed form; taken so that heads are called alike.

        Returns
        -------
        HeadSolution
            ``dual`` holds the shares of the rows in every prototype, c = dual'F.
            ``gap`` is the sum of squares above its minimum; ``relative_gap`` divides
            it by ``sum_i s_i ||x_i||^2``, since the minimum itself may be 0.

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature is not finite, a label is outside
            0..n_classes-1, or a task has no row of positive weight.
        """
        self._validate_params()
        with torch.no_grad():
            prototypes = _episode_means(features, targets, n_classes, sample_weight)
            coef, intercept = self._linear(prototypes)
            gap, relative_gap, _ = _certificate(features, prototypes)
        return HeadSolution(
            coef,
            prototypes.shares,
            gap,
            torch.ones_like(gap, dtype=torch.int64),
            intercept - self._lowering(features, prototypes),
            relative_gap,
        )

    def episode_logits(
        self,
        support_features: Tensor,
        support_targets: Tensor,
        query_features: Tensor,
        n_classes: int,
        *,
        sample_weight: Tensor | None = None,
        tol: float | None = None,
    ) -> Tensor:
        """Logits of query rows by the prototypes of support rows.

        Differentiable any number of times in both sets of features and in the row
        weights.

        Parameters
        ----------
        support_features : Tensor of shape (n_tasks, n_support, n_features)
            Support features.
        support_targets : Tensor of shape (n_tasks, n_support)
            Class numbers 0..n_classes-1.
        query_features : Tensor of shape (n_tasks, n_query, n_features)
            Query features.
        n_classes : int
            Number of classes of every task.
        sample_weight : Tensor of shape (n_tasks, n_support), default=None
            Row weights; rows of weight 0 pad smaller tasks.
        tol : float, default=None
            Not needed by the closed form; taken so that heads are called alike.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)

        Raises
        ------
        InvalidInputError
            If shapes do not agree, a feature is not finite, a label is outside
            0..n_classes-1, or a task has no row of positive weight.
        """
        self._validate_params()
        prototypes = _episode_means(
            support_features, support_targets, n_classes, sample_weight
        )
        lowering = self._lowering(support_features, prototypes)
        return self._logits(query_features, prototypes.means) - lowering[:, None]

    def _logits(self, query: Tensor, means: Tensor) -> Tensor:
        """Logits (n_tasks, n_query, n_classes) as if every class had rows."""
        if self.metric == "cosine":
            return _unit_rows(query) @ _unit_rows(means).mT / self.temperature
        # Around their middle the squares are small and lose few digits.
        middle = means.mean(dim=1, keepdim=True)
        query, means = query - middle, means - middle
        squares = query.square().sum(-1)[..., None] + means.square().sum(-1)[:, None]
        return (2 * query @ means.mT - squares) / self.temperature

    def _linear(self, prototypes: Prototypes) -> tuple[Tensor, Tensor]:
        """Weights and intercepts of the linear part of the logits."""
        means = prototypes.means
        if self.metric == "cosine":
            coef, intercept = _unit_rows(means).mT, torch.zeros_like(means[..., 0])
        else:
            coef, intercept = 2 * means.mT, -means.square().sum(-1)
        return coef / self.temperature, intercept / self.temperature

    def _lowering(self, features: Tensor, prototypes: Prototypes) -> Tensor:
        """What absent classes lose, (n_tasks, n_classes), without gradient."""
        spread = features.new_zeros(())
        if self.metric == "euclidean":
            shares = prototypes.weights / prototypes.weights.sum(-1, keepdim=True)
            distances = features - shares[:, None] @ features
            spread = (shares * distances.square().sum(-1)).sum(-1, keepdim=True)
        amount = _ABSENT * (1 + spread.detach()) / min(self.temperature, 1.0)
        return torch.where(prototypes.present, 0.0, amount)


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


def class_means(features: Tensor, targets: Tensor, weights: Tensor) -> Prototypes:
    """Weighted class means; targets are one-hot (n_tasks, n_samples, n_classes)."""
    masses = weights[..., None] * targets
    totals = masses.sum(dim=1, keepdim=True)
    present = totals > 0
    overall = weights / weights.sum(-1, keepdim=True)
    own = masses / torch.where(present, totals, 1.0)
    shares = torch.where(present, own, overall[..., None])
    return Prototypes(shares.mT @ features, shares, present[:, 0], masses, weights)


def _episode_means(
    features: Tensor, targets: Tensor, n_classes: int, sample_weight: Tensor | None
) -> Prototypes:
    encoded, weights = episode_inputs(features, targets, n_classes, sample_weight)
    return class_means(features, encoded, weights)


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
