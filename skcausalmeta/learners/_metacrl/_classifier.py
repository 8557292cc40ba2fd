"""MetaCRL around a learner of classes."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.utils.validation import check_is_fitted

from ...heads import RidgeHead
from ...utils import IndexedScoreMixin
from .._known_labels import number_known_labels
from .._synergies import SparseMetaClassifier
from ._base import BaseMetaCRL


class MetaCRLClassifier(IndexedScoreMixin, ClassifierMixin, BaseMetaCRL):
    """Frees a few-shot classifier of features that only seem to matter to a task.

    Between the backbone g and whatever the wrapped learner does with its features
    stand factors and the weights that a task gives them ::

        a = Xi' g(x),     m_t = f_gr(support of t),     head of t on  m_t * a

    A training step has two levels, at one point and from one graph. With D_t the
    support, Q_t the query rows, A(D) the wrapped learner's adaptation to D and L its
    query loss ::

        level 1:  theta     <- theta - lr grad  1/T sum_t L(Q_t; A(D_t))
        level 2:  Xi, f_gr  <- the same  +  lambda_swap  mean_t L(D_t; A(Q_t))
                               + lambda_inv  mean_t sum_e (d L(s * scores_e) / ds)^2
                               + lambda_orth L_orth + lambda_group (L1 - H)

        L_orth = 1/K sum_{i<j} cos(Xi_i, Xi_j)^2,     L1 = mean_{t,k} m_tk
        H = entropy(mean_t p_t) / log K,     p_tk = m_tk / sum_j m_tj

    Support and query are the two environments e, and s = 1 a scale on the scores.
    Factors that help in one environment alone raise the loss in the other, so
    Xi separates them and f_gr turns them down for the task. The power is in
    support and query that differ: give `fit` the environments of the rows.

    Parameters
    ----------
    estimator : estimator, default=None
        Any meta-learner of this package with a ``hook`` parameter: MAML with all
        updates and layers, or a backbone under any head. None:
        ``SparseMetaClassifier(RidgeHead())``, whose adaptation is exact, in closed
        form and differentiable, so that both levels are the true gradients.
    n_factors : int, default=None
        Number K of factors, at most the features of the backbone. None: as many.
    lambda_orth : float, default=1.0
        Strength of the orthogonality of the columns of Xi.
    lambda_group : float, default=0.1
        Strength of the regulariser of the weights, L1 minus entropy. Larger values
        single out fewer factors, and cost accuracy before the features are learned.
    lambda_inv : float, default=1.0
        Strength of the invariance penalty.
    lambda_swap : float, default=1.0
        Strength of the loss of the support rows after adaptation to the query.
    causal_every : int or None, default=4
        The two lambda terms of the environments are taken in every so many steps of
        level 2: they cost another adaptation, to as many query as support rows.
        None: never.
    xi_lr : float, "auto" or "public", default="auto"
        Learning rate of Xi. "auto": ``min(0.003, 0.05 / n_features)`` with the
        features of the backbone, since a step of Adam turns many features further
        than few. "public": 0.4, as in the public code.
    group_lr : float, "auto" or "public", default="auto"
        Learning rate of f_gr. "auto": ``min(0.01, 0.15 / n_features)``, by the same
        reasoning: weights of many features would close before these are learned.
        "public": 0.01, as in the public code.
    level2_every : int or None, default=1
        Level 2 follows in every so many steps. None: never, which leaves the wrapped
        learner as it is if `n_factors` is None.
    group_hidden : int, default=32
        Hidden units of f_gr.
    task_embedding : {"labels", "mean"}, default="labels"
        What f_gr sees. "mean": the mean factors of the support rows, as published.
        "labels": of every factor its mean, the share of its variance that
        the labels explain and its coefficients in a ridge regression of the labels;
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
    classes_ : ndarray of shape (n_classes,)
        Classes it predicts.
    temperature_ : float
        What the wrapped learner divides scores by in `predict_proba`, learned with
        ``estimator__calibrate="auto"``, else 1.
    n_iter_ : int
        Epochs trained.
    n_features_in_ : int
        Length of the second axis of X.
    feature_names_in_ : ndarray of shape (n_columns,)
        Names of the columns, if X has string column names.

    See Also
    --------
    MetaCRLRegressor : The same for real targets.
    skcausalmeta.training.EpisodeHook : The contract that it rests on.

    Notes
    -----
    The published code does not run; these choices are ours.

    * Both levels are taken at the same point, so that one adaptation and one
      backward pass serve both.
    * m_t is computed at the start of the adaptation, from the support rows, and the
      factors that f_gr sees are constants of both levels.
    * The largest weight of a task is 1: logits are shifted so that the largest is 1
      before the sigmoid, and weights divided by ``sigmoid(1)``. Otherwise all
      weights run to 1 together to make up for a small scale of the features.
    * All weights are 1 at first, and Xi is the identity, or has random orthonormal
      columns if there are fewer factors than features.
    * In the swapped loss and the penalty, the backbone is fixed and so are
      parameters adapted by gradient steps; heads that are solved follow Xi and
      f_gr exactly.
    * H is that of the use of the factors over the tasks of a step, so that L1 does
      not leave the same few to all; within a task L1 and the loss decide.
    * The factors are standardised by running averages before f_gr sees them.
    * Where tasks share their labels, m_t of a task without labels is that of all
      training rows taken for one task (MAML).

    Interrupting training with Ctrl-C keeps what was learned so far.

    References
    ----------
    .. [1] J. Wang, Y. Ren, Z. Song, J. Zhang, C. Zheng, W. Qiang (2024). Hacking task
       confounder in meta-learning. IJCAI.

    Examples
    --------
    Each task depends on one of three measurements, another one goes along with the
    label in the first environment and against it in the second:

    >>> import numpy as np
    >>> from skcausalmeta.learners import MetaCRLClassifier
    >>> rng = np.random.default_rng(0)
    >>> tasks, envs = np.repeat(np.arange(60), 40), np.tile(np.repeat([0, 1], 20), 60)
    >>> y = np.tile([0, 1], 1200)
    >>> X = rng.standard_normal((2400, 3))
    >>> rows = np.arange(2400)
    >>> X[rows, tasks % 3] = y - 0.5 + 0.3 * rng.standard_normal(2400) + 3
    >>> X[rows, (tasks + 1) % 3] = (2 * y - 1) * np.where(envs == 0, 1, -1)
    >>> learner = MetaCRLClassifier(group_lr=0.1, verbose=0, random_state=0)
    >>> learner = learner.set_params(
    ...     estimator__backbone="identity",
    ...     estimator__fit_head=False,
    ...     estimator__max_epochs=3,
    ... ).fit(X, y, tasks=tasks, envs=envs)
    >>> weights = learner.task_weights(X[:20], y[:20])  # of task 0, one environment
    >>> int(weights.argmax())
    0
    """

    @staticmethod
    def _default_estimator() -> SparseMetaClassifier:
        return SparseMetaClassifier(RidgeHead())

    @staticmethod
    def _fits_kind(estimator: Any) -> bool:
        return is_classifier(estimator)

    def _encode(self, targets: NDArray[Any]) -> tuple[NDArray[Any], int]:
        learner = self.estimator_
        if getattr(learner, "shared_labels_", False):
            classes = learner.training_classes_
            return number_known_labels(targets, classes, learner), len(classes)
        classes, numbers = np.unique(targets, return_inverse=True)
        return numbers, len(classes)

    def adapt(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        keep_classes: bool = False,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Solve a new task from its support rows, or add classes to the present one.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Support rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,)
            Their labels.
        keep_classes : bool, default=False
            Add these rows to those of the task last given to `adapt`, as the wrapped
            learner does; the weights of the factors are those of all rows together.
        sample_weight : array-like of shape (n_samples,), default=None
            Refused by the wrapped learner, since the hook reads all rows alike.

        Returns
        -------
        self : object
            Itself, now speaking of the new task.

        Raises
        ------
        NotFittedError
            Before `fit`, or with `keep_classes` before a task was adapted to.
        ValueError
            For invalid rows or labels, or for weights; the learner stays as it was.
        """
        if not keep_classes or sample_weight is not None:
            return super().adapt(X, y, sample_weight=sample_weight)
        check_is_fitted(self)
        learner = copy.copy(self.estimator_)
        self.estimator_ = learner.adapt(X, y, keep_classes=True)
        return self

    @property
    def classes_(self) -> NDArray[Any]:
        """Classes of the task in use."""
        return self.estimator_.classes_

    @property
    def temperature_(self) -> float:
        """Temperature of `predict_proba`, learned with ``estimator__calibrate``."""
        return self.estimator_.temperature_

    @property
    def novelty_threshold_(self) -> float | None:
        """Novelty above which `predict` refuses a row, with ``estimator__reject``."""
        return self.estimator_.novelty_threshold_

    @property
    def rejected_label_(self) -> Any:
        """Label of refused rows; None without ``estimator__reject``."""
        return self.estimator_.rejected_label_

    def novelty_score(self, X: ArrayLike) -> NDArray[Any]:
        """Return how unlike the classes of the task in use rows are.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            As the wrapped learner gives it: of the features before the factors.
        """
        check_is_fitted(self)
        return self.estimator_.novelty_score(X)

    def predict(self, X: ArrayLike, *, tasks: ArrayLike | None = None) -> NDArray[Any]:
        """Predict the class of every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Training task of every row, if the wrapped learner answers by task.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`, or ``rejected_label_`` with ``estimator__reject``.

        Raises
        ------
        InvalidInputError
            With `tasks` where the wrapped learner does not take them.
        """
        return self._answer("predict", X, tasks)

    def predict_proba(
        self, X: ArrayLike, *, tasks: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Predict the probabilities of the classes, as the wrapped learner does.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Training task of every row, if the wrapped learner answers by task.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._answer("predict_proba", X, tasks)

    def decision_function(
        self, X: ArrayLike, *, tasks: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Return the scores of the classes, as the wrapped learner gives them.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Training task of every row, if the wrapped learner answers by task.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            For two classes, the score of ``classes_[1]`` minus the other.
        """
        return self._answer("decision_function", X, tasks)
