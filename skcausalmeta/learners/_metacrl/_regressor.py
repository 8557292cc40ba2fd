"""MetaCRL around a learner of real targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin, is_regressor

from ...heads import RidgeHead
from ...utils import IndexedScoreMixin
from .._synergies import SparseMetaRegressor
from ._base import BaseMetaCRL


class MetaCRLRegressor(IndexedScoreMixin, RegressorMixin, BaseMetaCRL):
    """Frees a few-shot regressor of features that only seem to matter to a task.

    Factors and weights of tasks stand between the backbone g and whatever the
    wrapped learner does with its features ::

        a = Xi' g(x),     m_t = f_gr(support of t),     head of t on  m_t * a

    The two levels of training, and the choices where the paper is silent, are those
    of `MetaCRLClassifier`, with the squared error of the wrapped learner. The defaults
    are gentler: the slope of a squared error is some ten times that of a
    cross-entropy, and weights that follow the few targets of a support set make the
    features of a task noisy where no environments say what to look for.

    Parameters
    ----------
    estimator : estimator, default=None
        Any meta-learner of real targets with a ``hook`` parameter. None:
        ``SparseMetaRegressor(RidgeHead(0.1))``, which is solved in closed form.
    n_factors : int, default=None
        Number K of factors, at most the features of the backbone. None: as many.
    lambda_orth : float, default=1.0
        Strength of the orthogonality of the columns of Xi.
    lambda_group : float, default=0.01
        Strength of the regulariser of the weights, L1 minus entropy. Larger values
        single out fewer factors, and cost accuracy before the features are learned.
    lambda_inv : float, default=0.1
        Strength of the invariance penalty.
    lambda_swap : float, default=1.0
        Strength of the loss of the support rows after adaptation to the query.
    causal_every : int or None, default=4
        The two lambda terms of the environments are taken in every so many steps of
        level 2: they cost another adaptation, to as many query as support rows.
        None: never.
    xi_lr : float, "auto" or "public", default=3e-4
        Learning rate of Xi. "auto": ``min(0.003, 0.05 / n_features)`` with the
        features of the backbone. "public": 0.4, as in the public code. Inner steps on
        real targets bear less than those on classes: both rates are smaller here.
    group_lr : float, "auto" or "public", default=1e-3
        Learning rate of f_gr. "auto": ``min(0.01, 0.15 / n_features)``. "public": 0.01,
        as in the public code.
    level2_every : int or None, default=1
        Level 2 follows in every so many steps. None: never, which leaves the wrapped
        learner as it is if `n_factors` is None.
    group_hidden : int, default=32
        Hidden units of f_gr.
    task_embedding : {"mean", "labels"}, default="mean"
        What f_gr sees. "mean": the mean factors of the support rows, as published.
        "labels": of every factor its mean, the share of its variance that
        the targets explain and its coefficient in a ridge regression of the targets;
        one small net for all factors reads these beside their average.
    across_envs : bool, default=True
        With environments, draw support and query of an episode from different ones.
    verbose : int, default=None
        None: as the wrapped learner has it.
    random_state : int, RandomState instance or None, default=None
        None: as the wrapped learner has it.

    Attributes
    ----------
    estimator_ : estimator
        The wrapped learner, fitted; its hook is
        ``estimator_.net_.module_.hooked.hook``.
    factors_ : ndarray of shape (n_features, n_factors)
        The matrix Xi.
    history_ : list of dict
        Of every epoch the query loss ("train_loss"), "swapped", "invariance",
        "orthogonality", "l1", "entropy", and what the wrapped learner records.
    n_iter_ : int
        Epochs trained.
    n_features_in_ : int
        Length of the second axis of X.
    feature_names_in_ : ndarray of shape (n_columns,)
        Names of the columns, if X has string column names.

    See Also
    --------
    MetaCRLClassifier : The same for classes; the objective and its choices.

    References
    ----------
    .. [1] J. Wang, Y. Ren, Z. Song, J. Zhang, C. Zheng, W. Qiang (2024). Hacking task
       confounder in meta-learning. IJCAI.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.learners import MetaCRLRegressor
    >>> rng = np.random.default_rng(0)
    >>> X, tasks = rng.standard_normal((1200, 4)), np.repeat(np.arange(60), 20)
    >>> y = X[np.arange(1200), tasks % 4] + 0.1 * rng.standard_normal(1200)
    >>> learner = MetaCRLRegressor(
    ...     task_embedding="labels", group_lr=0.1, verbose=0, random_state=0
    ... ).set_params(estimator__backbone="identity", estimator__max_epochs=3)
    >>> learner = learner.fit(X, y, tasks=tasks)
    >>> int(learner.task_weights(X[:20], y[:20]).argmax())
    0
    >>> bool(learner.adapt(X[:10], y[:10]).score(X[10:20], y[10:20]) > 0.9)
    True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_factors: int | None = None,
        lambda_orth: float = 1.0,
        lambda_group: float = 0.01,
        lambda_inv: float = 0.1,
        lambda_swap: float = 1.0,
        causal_every: int | None = 4,
        xi_lr: float | str = 3e-4,
        group_lr: float | str = 1e-3,
        level2_every: int | None = 1,
        group_hidden: int = 32,
        task_embedding: str = "mean",
        across_envs: bool = True,
        verbose: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            estimator,
            n_factors=n_factors,
            lambda_orth=lambda_orth,
            lambda_group=lambda_group,
            lambda_inv=lambda_inv,
            lambda_swap=lambda_swap,
            causal_every=causal_every,
            xi_lr=xi_lr,
            group_lr=group_lr,
            level2_every=level2_every,
            group_hidden=group_hidden,
            task_embedding=task_embedding,
            across_envs=across_envs,
            verbose=verbose,
            random_state=random_state,
        )

    @staticmethod
    def _default_estimator() -> SparseMetaRegressor:
        return SparseMetaRegressor(RidgeHead(0.1))

    @staticmethod
    def _fits_kind(estimator: Any) -> bool:
        return is_regressor(estimator)

    def _encode(self, targets: NDArray[Any]) -> tuple[NDArray[Any], int]:
        learner, values = self.estimator_, targets.astype(float)
        # Around a common predictor the hook sees targets in the units of training.
        if getattr(learner, "around_common_", False):
            values = (values - learner.target_center_) / learner.target_scale_
        return values, 0

    def predict(self, X: ArrayLike, *, tasks: ArrayLike | None = None) -> NDArray[Any]:
        """Predict the targets of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Training task of every row, if the wrapped learner answers by task.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        InvalidInputError
            With `tasks` where the wrapped learner does not take them.
        """
        return self._answer("predict", X, tasks)
