"""Meta-learning with sparse, certified base-predictors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ...backbones import Backbone
from ...heads import GroupLassoLogistic, GroupLassoSVC
from ...training import (
    EpisodeHook,
    EpisodicModule,
    EpisodicNet,
    HookedFeatures,
    RowReader,
    Training,
    Validation,
)
from ...utils import refuse_other_index
from .._checks import check_known_rows
from .._classifier import BaseMetaClassifier
from .._episode_plan import EpisodePlan
from .._known_labels import number_known_labels
from .._nested import Makers
from .._novelty import Rejection
from .._shared_labels import labels_are_shared
from .._solved_task import SolvedTask
from .._task_batches import check_tasks
from ._by_itself import classify_episodes, solve_classes
from ._common_task import CommonTask
from ._head_learner import LENGTH, NET_KEYWORDS, HeadLearnerMixin
from ._head_task import HeadTask
from ._sparsity import LEARN

# Support rows that training draws around a common predictor: a class, and in all.
_MOST_SHOTS, _MOST_SUPPORT = 20, 60
# Prior standard deviation of an intercept, nearly free.
_FREE = 3.0
_POSITIVE = Interval(Real, 0, None, closed="neither")


class SparseMetaClassifier(HeadLearnerMixin, BaseMetaClassifier):
    """Few-shot classifier: a learned backbone under a sparse convex head.

    The backbone f is trained so that heads solved on the support rows of a task
    classify its query rows (outer problem); every head is the solution of a
    convex problem on the features (inner problem) ::

        min_f  1/T sum_t  cross_entropy( a * W_t(f)'f(X_t^query), y_t^query )
        W_t(f) = argmin_W  hinge(W'f(X_t^support), y_t^support)
                 + lambda2 / 2 ||W||_F^2 + lambda1 sum_j ||W_j||_2

    W_t is solved to a stated duality gap and differentiated implicitly. `fit`
    learns f and the scale a from episodes, then solves the head on the training
    data; `adapt` solves the head of a new task and leaves f alone. Tasks that share
    their labels are solved around a common predictor, see Notes.

    Parameters
    ----------
    head : estimator, default=None
        Base-predictor with the contract of `GroupLassoSVC`. None:
        ``GroupLassoSVC(solver="auto")``; around a common predictor
        ``GroupLassoLogistic("learn", "learn", reg_scale="ridge-absolute",
        intercept_scaling=3, refit=True)``. "learn" for group_reg or ridge_reg, there
        alone, has `fit` find the strength. Its parameters are reached as
        ``head__group_reg`` and so on; setting one fills in the SVC.
    backbone : str, Backbone, module or callable, default="auto"
        "auto" (images of side 8 or more: Conv4; else: MLP), "mlp", "conv4",
        "resnet12", "identity" (rows are features), an object such as
        ``Conv4(n_filters=32)``, with parameters ``backbone__n_filters`` and so on, a
        `torch.nn.Module` (copied with its weights; frozen if no parameter requires a
        gradient), or a class or function that returns one.
    input_shape : tuple, default=None
        Shape that rows are reshaped to, for flat images: (height, width) or
        (channels, height, width).
    n_way : int or "auto", default="auto"
        Classes of an episode. "auto": 5, or all if there are fewer.
    n_shot : int, pair of int, (int, int, "class") or "auto", default="auto"
        Support rows per class. A pair (low, high): drawn anew for every training
        step, log-uniformly; (low, high, "class"): for every class of an episode.
        "auto": half of the class of median size, at most 5; around a common predictor
        (1, 20), beyond 3 classes (1, 60 // n_classes).
    n_query : int or "auto", default="auto"
        Query rows per class. "auto": what the class of median size leaves, at most
        10. Smaller classes give what they have of "auto" sizes and of pairs; those
        that lack a row of each kind, or rows asked for by a number, are left out of
        the episodes with a warning. With shared labels: rows of a task; "auto": half
        of the task of median size, at most 10 a class.
    tasks_per_batch : int or "auto", default="auto"
        Episodes of one training step. "auto": 4, and 8 around a common predictor.
    batches_per_epoch : int, default=20
        Training steps of one epoch.
    max_epochs : int or "auto", default="auto"
        Number of epochs. "auto": 10; around a common predictor at most 30, of which
        held-out tasks find how many help.
    optimizer : {"adam", "adamw", "sgd"}, object or type, default="adam"
        Optimiser of the outer problem; an object such as ``Adam(weight_decay=1e-4)``
        of `skcausalmeta.training`, with parameters ``optimizer__weight_decay`` and so
        on; or a class of `torch.optim`.
    lr : float, default=1e-3
        Its learning rate.
    augment : str, callable or list, default=None
        Augmentation of training images: "shift", "flip", "flip-shift",
        "affine", "color", or ``augment(images, generator) -> images``.
    batch_norm : {"running", "episode"}, default="running"
        "running": statistics of the task in training, running averages after.
        "episode": those of the rows given together (support and query apart), on
        which predictions then depend.
    center : bool, default=True
        Subtract the mean of the class means of the support rows from the features of
        a task before its head is solved, which then does not depend on where they
        lie. Around a common predictor it has no effect.
    hook : EpisodeHook, default=None
        Transforms the features of a task before the head and may add a loss of
        its own (copied), see `skcausalmeta.training.EpisodeHook`.
    shared_labels : bool or "auto", default="auto"
        Whether a label means the same in every task, so that episodes keep the labels
        and a new task may have any of them. "auto": True if `fit` gets ``tasks=`` that
        know on average at least half of all labels, one of them in two tasks.
    common : "auto", "linear", estimator or None, default="auto"
        What tasks that share their labels deviate from. "linear": linear scores of the
        features, trained with the backbone on the rows of all tasks. A scikit-learn
        classifier: fitted on these rows. "auto": "linear" with shared labels, else
        None. None: every task is solved by itself.
    across_envs : bool, default=False
        Draw support and query of an episode from different environments, given to
        `fit` as ``envs=``, in random roles.
    validation : float, array-like or Validation, default=None
        What to hold out: a share of the classes (or tasks), and training stops when
        accuracy on their episodes has not improved for 5 epochs; classes of y (or
        task ids, with `tasks`), and all epochs are trained; or a
        `skcausalmeta.training.Validation`. Episodes of what is held out are scored
        after every epoch, and the best weights are restored.
    calibrate : int or "auto", default=None
        Number of episodes that the temperature of `predict_proba` is learned on
        after training, 100 for "auto". They come from the classes (or tasks) that
        `validation` holds out; else from the training classes, whose rows the net
        knows, so that probabilities of new classes may stay too sure. None: a
        temperature of 1. Classes, scores and training are the same either way.
    reject : float or Rejection, default=None
        Share of the rows of a task's classes that `predict` may take for none of them,
        answered by `rejected_label_`; or a `skcausalmeta.learners.Rejection`. The
        threshold is learned on episodes of what `validation` holds out; else of the
        training classes, whose rows the net knows, so that more of the rows of new
        classes are refused. Scores and probabilities stay as they are. None: no row.
    fit_head : bool, default=True
        Solve the heads of the training data at the end of `fit`.
    callbacks : list, default=None
        Callbacks of skorch.
    net_params : dict or Training, default=None
        How training runs: `skcausalmeta.training.Training`, or a dictionary of its
        parameters (precision, compile, checkpoint_path, warm_start) and of keywords
        of the net, `EpisodicNet` and `skorch.NeuralNet`, such as
        ``{"head_tol": 1e-4, "precision": "bfloat16"}``.
    device : str or torch.device, default="cpu"
        Of the net.
    verbose : int, default=1
        0: silent. Else: a progress bar.
    random_state : int, RandomState instance or None, default=None
        Decides weights, episodes and augmentation. Torch's and numpy's global
        random states are left alone.

    Attributes
    ----------
    net_ : EpisodicNet
        The trained skorch net.
    head_ : estimator
        The head in use: of the training data, or of the task last adapted to.
    classes_ : ndarray of shape (n_classes,)
        Classes it predicts.
    task_code_ : ndarray of shape (n_code,)
        Code that `hook` gives the task of `head_`; None without a hook.
    center_ : ndarray of shape (n_features_out,)
        Mean of the class means that `center` subtracts before the head.
    temperature_ : float
        What the scaled scores are divided by in `predict_proba`: the softmax is of
        ``a * decision_function(X) / temperature_``. 1 without `calibrate`.
    novelty_threshold_ : float
        What `reject` refuses rows above, see `novelty_score`. None without.
    rejected_label_ : int or str
        Label of refused rows. None without `reject`.
    dual_gap_, sparsity_, support_features_
        Certificate, share of unused features and used features of `head_`; around a
        common predictor, of those in which the task deviates.
    common_ : object
        Common predictor; ``common_.scores(X)`` needs no label. None without one.
    common_coef_, deviation_ : ndarray of shape (n_classes, n_features_out)
        Weights of a linear common predictor, and what the task in use adds.
    known_tasks_ : object
        Training tasks with ``ids`` and ``solved``, by which ``predict(X, tasks=)``
        answers.
    deviation_prior_, deviation_probabilities_
        See `differing_features`.
    sparse_reg_ : float
        The share of the strength without any deviation that "learn" has chosen.
    common_gain_ : ndarray of shape (n_scores, n_scores)
        What the task in use multiplies the common scores by: it answers
        ``common_gain_ @ c(x) + deviation_ @ f(x)`` and a constant.
    support_rows_, support_labels_ : ndarray
        Support rows and labels of the task last given to `adapt`, in the order given,
        which ``adapt(X, y, keep_classes=True)`` adds to.
    n_iter_ : int
        Epochs trained.
    history_ : list of dict
        Losses, validation accuracy and seconds of every epoch.
    n_features_in_ : int
        Length of the second axis of X.
    n_features_out_ : int
        Number of features of the backbone.

    See Also
    --------
    skcausalmeta.heads.GroupLassoSVC : The default head.

    Notes
    -----
    Around a common predictor c a task with k labels has the scores ::

        z(x) = m + g(k) (c(x) - m) + phi_k(x)'D + r(k) b
        D, b = argmin  sum_i logistic(z_i, y_i) + 1/2 ||D||^2 + lambda1 sum_j ||D_j||_2

    where r is 1 in the problem, as `skcausalmeta.training.Strengths` says. Without
    labels z is c: after `fit`, and for unknown ids in `tasks`. To `adapt`, one row or
    one class will do.

    Interrupting training with Ctrl-C keeps what was learned so far.

    References
    ----------
    .. [1] S. Lachapelle et al. (2023). Synergies between disentanglement and
       sparsity: generalization and identifiability in multi-task learning.
       ICML, sections 3 and 4.
    .. [2] K. Lee et al. (2019). Meta-learning with differentiable convex
       optimization. CVPR.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcausalmeta.backbones import Conv4
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> old, new = y < 6, y >= 6
    >>> learner = SparseMetaClassifier(
    ...     input_shape=(8, 8),
    ...     backbone=Conv4(n_blocks=2),
    ...     batches_per_epoch=20,
    ...     max_epochs=1,
    ...     verbose=0,
    ...     random_state=0,
    ... ).fit(X[old], y[old])
    >>> learner.adapt(X[new][:40], y[new][:40]).classes_
    array([6, 7, 8, 9])
    >>> bool(learner.score(X[new][40:], y[new][40:]) > 0.8)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaClassifier._parameter_constraints,
        "head": [HasMethods(["fit", "episode_logits"]), None],
        "hook": [EpisodeHook, None],
        "max_epochs": LENGTH,
        "tasks_per_batch": LENGTH,
        "center": ["boolean"],
    }
    _parts: ClassVar[Makers] = {
        **BaseMetaClassifier._parts,
        "head": lambda _: GroupLassoSVC(solver="auto"),
    }
    _net_keywords = (
        "EpisodicNet",
        {**NET_KEYWORDS, "logit_scale": [_POSITIVE, StrOptions({"auto"})]},
    )

    def __init__(
        self,
        head: Any = None,
        *,
        backbone: str | Backbone | nn.Module | Callable[..., nn.Module] = "auto",
        input_shape: tuple[int, ...] | None = None,
        n_way: int | str = "auto",
        n_shot: int | str | tuple[int, int] = "auto",
        n_query: int | str = "auto",
        tasks_per_batch: int | str = "auto",
        batches_per_epoch: int = 20,
        max_epochs: int | str = "auto",
        optimizer: Any = "adam",
        lr: float = 1e-3,
        augment: Any = None,
        batch_norm: str = "running",
        center: bool = True,
        hook: EpisodeHook | None = None,
        shared_labels: bool | str = "auto",
        common: Any = "auto",
        across_envs: bool = False,
        validation: float | ArrayLike | Validation | None = None,
        calibrate: int | str | None = None,
        reject: float | Rejection | None = None,
        fit_head: bool = True,
        callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | Training | None = None,
        device: str | torch.device = "cpu",
        verbose: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.head = head
        self.backbone = backbone
        self.input_shape = input_shape
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.tasks_per_batch = tasks_per_batch
        self.batches_per_epoch = batches_per_epoch
        self.max_epochs = max_epochs
        self.optimizer = optimizer
        self.lr = lr
        self.augment = augment
        self.batch_norm = batch_norm
        self.center = center
        self.hook = hook
        self.shared_labels = shared_labels
        self.common = common
        self.across_envs = across_envs
        self.validation = validation
        self.calibrate = calibrate
        self.reject = reject
        self.fit_head = fit_head
        self.callbacks = callbacks
        self.net_params = net_params
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    # -- learning ----------------------------------------------------------------------

    def _train(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
    ) -> dict[str, int]:
        self._begin(labels_are_shared(self.shared_labels, targets, tasks), tasks)
        return super()._train(rows, targets, tasks, envs)

    def _plan(
        self,
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
        validation: Validation | None,
        seeds: dict[str, int],
    ) -> EpisodePlan:
        planned = self
        if self.around_common_ and self.n_shot == "auto":
            planned = copy.copy(self)
            n_classes = len(np.unique(targets))
            planned.n_shot = (1, max(2, min(_MOST_SHOTS, _MOST_SUPPORT // n_classes)))
        return super(SparseMetaClassifier, planned)._plan(
            targets, tasks, envs, validation, seeds
        )

    def _common_head(self) -> GroupLassoLogistic:
        return GroupLassoLogistic(
            LEARN,
            LEARN,
            reg_scale="ridge-absolute",
            intercept_scaling=_FREE,
            refit=True,
        )

    def _n_classes(self, targets: NDArray[Any]) -> int:
        return len(self.training_classes_)

    def _make_net(
        self,
        backbone: nn.Module,
        hooked: HookedFeatures,
        reader: RowReader,
        rows: NDArray[Any],
        plan: EpisodePlan,
        keywords: dict[str, Any],
    ) -> EpisodicNet:
        return EpisodicNet(
            EpisodicModule(backbone, hooked),
            head=self._new_head(),
            center=self.center,
            **keywords,
        )

    def _solve_training(
        self, rows: NDArray[Any], targets: NDArray[Any], tasks: NDArray[Any] | None
    ) -> None:
        if not self.around_common_:
            self.task_ = None
            if self.fit_head:
                self.task_ = solve_classes(self, rows, targets, self._fit_weights)
            return
        self.task_ = CommonTask(classes=self.training_classes_)
        numbers = np.searchsorted(self.training_classes_, targets)
        self._solve_known(rows, numbers, tasks, self.training_classes_)

    def _solve(self, rows: NDArray[Any], targets: NDArray[Any]) -> HeadTask:
        if self.around_common_:
            classes = self.training_classes_
            numbers = number_known_labels(targets, classes, self)
            return self._solve_common(rows, numbers, classes)
        return solve_classes(self, rows, targets, None)

    def _solve_weighted(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        weights: NDArray[np.float64],
    ) -> HeadTask:
        self._check_weighted()
        if self.around_common_:
            classes = self.training_classes_
            numbers = number_known_labels(targets, classes, self)
            return self._solve_common(rows, numbers, classes, weights=weights)
        return solve_classes(self, rows, targets, weights)

    # -- prediction --------------------------------------------------------------------

    @property
    def center_(self) -> NDArray[Any] | None:
        """Mean of the class means, subtracted before the head in use."""
        return self._task_in_use().center

    def decision_function(
        self, X: ArrayLike, *, tasks: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Return the scores of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Training task of every row, as in `predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            For two classes, the score of ``classes_[1]`` minus the other.
        """
        scores = self._scores(X, tasks)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: ArrayLike, *, tasks: ArrayLike | None = None) -> NDArray[Any]:
        """Predict the class of every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Training task of every row, by which it is answered after a fit around a
            common predictor; a task that `fit` did not see is answered by the common
            predictor. None: the task in use.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`, and ``rejected_label_`` of rows that `reject` refuses.

        Raises
        ------
        InvalidInputError
            If `tasks` are given after a fit that solved no training tasks.
        """
        refuse_other_index(X=X, tasks=tasks)
        rows = check_known_rows(self, X)
        scores = self._scores_of(rows, tasks)
        classes = self.classes_ if tasks is None else self.training_classes_
        found = classes[scores.argmax(axis=1)]
        if self.reject is None:
            return found
        task = self._task_in_use()
        return self._refuse_rows(found, rows, task, self._scale * scores)

    def predict_proba(
        self, X: ArrayLike, *, tasks: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Predict probabilities: the softmax of the logits over `temperature_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Training task of every row, as in `predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Rows that sum to 1, in the order of `classes_`.
        """
        scores = self._scores(X, tasks)
        logits = self._scale * scores
        return softmax(logits / self.temperature_, axis=1)

    def _scores(self, X: ArrayLike, tasks: ArrayLike | None) -> NDArray[Any]:
        """Return the scores (n, n_classes) by the task in use, or by known tasks."""
        refuse_other_index(X=X, tasks=tasks)
        return self._scores_of(check_known_rows(self, X), tasks)

    def _scores_of(self, rows: NDArray[Any], tasks: ArrayLike | None) -> NDArray[Any]:
        if tasks is None:
            return self._task_in_use().scores(self, rows)
        no_labels = CommonTask(classes=self.training_classes_)
        return self._known_scores(rows, tasks, no_labels)

    @property
    def _scale(self) -> float:
        """Scale of the logits that training has learned."""
        return self.net_.module_.scale

    def _logits(self, task: SolvedTask, rows: NDArray[Any]) -> NDArray[Any]:
        return self._scale * task.scores(self, rows)

    def predict_episodes(
        self,
        X_support: ArrayLike,
        y_support: ArrayLike,
        X_query: ArrayLike,
        *,
        max_memory: int | None = None,
    ) -> NDArray[Any]:
        """Solve and predict many tasks in one batched call.

        The learner itself stays as it is.

        Parameters
        ----------
        X_support : array-like of shape (n_tasks, n_support, ...)
            Support rows.
        y_support : array-like of shape (n_tasks, n_support)
            Their labels, at least two classes in every task.
        X_query : array-like of shape (n_tasks, n_query, ...)
            Query rows.
        max_memory : int, default=None
            Bytes that the work may take beside the arguments and the answer, as
            estimated from the shapes: tasks are then solved in chunks, and stored
            arrays and memory maps are read by chunk. None: a thousand tasks at once.

        Returns
        -------
        ndarray of shape (n_tasks, n_query)
            Labels of the query rows.

        Raises
        ------
        ValueError
            If the shapes do not agree, a task has one class, or `max_memory` is
            less than one task takes.
        """
        check_is_fitted(self)
        support, labels, query = check_tasks(X_support, y_support, X_query)
        if self.reject is not None:
            return self._predict_each(support, labels, query)
        if self.around_common_:
            shared = self.training_classes_
            numbers = number_known_labels(labels, shared, self)
            scores = self._episode_scores(
                support, numbers, query, len(shared), max_memory
            )
            return shared[scores.argmax(axis=-1)]
        return classify_episodes(self, support, labels, query, max_memory)
