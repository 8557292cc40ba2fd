"""Meta-learning with sparse, certified base-predictors."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ...heads import GroupLassoSVC
from ...training import (
    EpisodeHook,
    EpisodicModule,
    EpisodicNet,
    HookedFeatures,
    RowReader,
)
from .._base import in_blocks
from .._classifier import BaseMetaClassifier
from .._episode_plan import EpisodePlan
from .._task_chunks import chunk_of, in_task_chunks
from .._tasks import check_tasks, encode_tasks, solve_tasks
from ._head_learner import HeadLearnerMixin

_SCORES_PER_BLOCK = 8


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
    data; `adapt` solves the head of a new task and leaves f alone.

    Parameters
    ----------
    head : estimator, default=None
        Base-predictor with the contract of `GroupLassoSVC`. None:
        ``GroupLassoSVC(solver="newton")``. Its parameters are reached as
        ``head__group_reg`` and so on; setting one fills in the default head.
    backbone : str, module or callable, default="auto"
        "auto" (images of side 8 or more: Conv4; else: MLP), "mlp", "conv4",
        "resnet12", "identity" (rows are features already), a `torch.nn.Module`
        (copied, its weights kept), or a class or function that returns one.
    backbone_params : dict, default=None
        Keywords of the backbone, such as ``{"n_blocks": 2}``.
    freeze_backbone : bool, default=False
        Train nothing below the head; only the scale a is learned.
    input_shape : tuple, default=None
        Shape that rows are reshaped to, for flat images: (height, width) or
        (channels, height, width).
    n_way : int or "auto", default="auto"
        Classes of an episode. "auto": 5, or all if there are fewer.
    n_shot : int or "auto", default="auto"
        Support rows per class. "auto": half of the smallest class, at most 5.
    n_query : int or "auto", default="auto"
        Query rows per class. "auto": what the smallest class leaves, at most
        10. If `n_shot` or `n_query` is "auto", classes of a single row are
        left out of the episodes.
    tasks_per_batch : int, default=4
        Episodes of one training step.
    batches_per_epoch : int, default=20
        Training steps of one epoch.
    max_epochs : int, default=10
        Number of epochs.
    optimizer : {"adam", "adamw", "sgd"} or type, default="adam"
        Optimiser of the outer problem, or a class of `torch.optim`.
    lr : float, default=1e-3
        Its learning rate.
    head_tol : float, default=1e-3
        Relative duality gap of the heads in training.
    logit_scale : float or "auto", default="auto"
        First value of the scale a, > 0. "auto": the one at which the logits of the
        first tasks, with the backbone not yet trained, have standard deviation 1
        about the mean of their row. Logits of different heads, and of one head with
        different penalties, differ a thousandfold.
    augment : str, callable or list, default=None
        Augmentation of training images: "shift", "flip", "flip-shift",
        "affine", "color", or ``augment(images, generator) -> images``.
    batch_norm : {"running", "episode"}, default="running"
        "running": statistics of the task in training, running averages after.
        "episode": always those of the rows given together (support and query
        apart), so predictions depend on which rows come together.
    micro_batch : int or "auto", default="auto"
        Tasks in one pass of the backbone; changes speed, not results.
    center : bool, default=True
        Subtract the mean feature of the support rows from the features of a
        task before its head is solved. Heads without intercept then do not
        depend on where the features lie, and need fewer of them.
    hook : EpisodeHook, default=None
        Transforms the features of a task before the head and may add a loss of
        its own (copied), see `skcausalmeta.training.EpisodeHook`.
    across_envs : bool, default=False
        Draw support and query of an episode from different environments, given to
        `fit` as ``envs=``, in random roles.
    early_stopping : bool, default=False
        Hold out classes and stop when accuracy on their episodes has not
        improved for `n_iter_no_change` epochs.
    validation_fraction : float, default=0.2
        Share of the classes (or tasks) to hold out.
    validation_classes : array-like, default=None
        Classes of y (or task ids, with `tasks`) to hold out instead. They are
        validated on after every epoch, and the best weights are restored, with
        or without early stopping.
    validation_episodes : int, default=100
        Number of validation episodes, the same after every epoch.
    n_iter_no_change : int, default=5
        Patience of early stopping, in epochs.
    calibrate : int or "auto", default=None
        Number of episodes that the temperature of `predict_proba` is learned on
        after training, 100 for "auto". They come from the held-out classes (or
        tasks) if there are such, by `early_stopping` or `validation_classes`; else
        from the training classes, whose rows the net knows, so that probabilities
        of new classes may stay too sure. None: a temperature of 1 at no cost.
        Classes, scores and training are the same either way.
    fit_head : bool, default=True
        Solve the head on the training data at the end of `fit`. False saves
        that time when only `adapt` will be used.
    callbacks : list, default=None
        Callbacks of skorch.
    checkpoint_path : str or path-like, default=None
        File in which training is saved after every epoch. If it is there, `fit` with
        the same parameters and data continues from it and ends in the same weights, to
        the last bit. None: training is not saved.
    warm_start : bool, default=False
        Begin `fit` with the weights of the fit before, if there was one.
    net_params : dict, default=None
        More keywords of `skorch.NeuralNet`, such as
        ``{"optimizer__weight_decay": 5e-4}``.
    device : str or torch.device, default="cpu"
        Where the net lives.
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        Number type of the operations of the backbone, where `torch.autocast` finds
        it safe. Its weights and features stay in float32, heads and losses as they
        are. "float16" needs a GPU and no `hook`, and scales the losses
        of training (`torch.amp.GradScaler`).
    compile : bool or dict, default=False
        Compile the backbone by `torch.compile`, with dynamic shapes, or with the
        given keywords such as ``{"mode": "reduce-overhead"}``.
        Saved learners hold the plain backbone, and compile it when they are used.
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
        What `hook` keeps of the task of `head_`; None without a hook.
    center_ : ndarray of shape (n_features_out,)
        What `center` subtracts from the features before the head.
    temperature_ : float
        What the scaled scores are divided by in `predict_proba`: the softmax is of
        ``a * decision_function(X) / temperature_``. 1 without `calibrate`.
    dual_gap_, sparsity_, support_features_
        Certificate, share of unused features and used features of `head_`.
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
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> old, new = y < 6, y >= 6
    >>> learner = SparseMetaClassifier(
    ...     input_shape=(8, 8),
    ...     backbone_params={"n_blocks": 2},
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
        **HeadLearnerMixin._parameter_constraints,
        "head": [HasMethods(["fit", "episode_logits"]), None],
        "logit_scale": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"auto"}),
        ],
        "center": ["boolean"],
    }
    _of_a_task = (*BaseMetaClassifier._of_a_task, "head_", "center_", "task_code_")

    def __init__(
        self,
        head: Any = None,
        *,
        backbone: str | nn.Module | Callable[..., nn.Module] = "auto",
        backbone_params: dict[str, Any] | None = None,
        freeze_backbone: bool = False,
        input_shape: tuple[int, ...] | None = None,
        n_way: int | str = "auto",
        n_shot: int | str = "auto",
        n_query: int | str = "auto",
        tasks_per_batch: int = 4,
        batches_per_epoch: int = 20,
        max_epochs: int = 10,
        optimizer: str | type = "adam",
        lr: float = 1e-3,
        head_tol: float = 1e-3,
        logit_scale: float | str = "auto",
        augment: Any = None,
        batch_norm: str = "running",
        micro_batch: int | str = "auto",
        center: bool = True,
        hook: EpisodeHook | None = None,
        across_envs: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.2,
        validation_classes: ArrayLike | None = None,
        validation_episodes: int = 100,
        n_iter_no_change: int = 5,
        calibrate: int | str | None = None,
        fit_head: bool = True,
        callbacks: list[Any] | None = None,
        checkpoint_path: str | PathLike[str] | None = None,
        warm_start: bool = False,
        net_params: dict[str, Any] | None = None,
        device: str | torch.device = "cpu",
        precision: str = "float32",
        compile: bool | dict[str, Any] = False,
        verbose: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.head = head
        self.backbone = backbone
        self.backbone_params = backbone_params
        self.freeze_backbone = freeze_backbone
        self.input_shape = input_shape
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.tasks_per_batch = tasks_per_batch
        self.batches_per_epoch = batches_per_epoch
        self.max_epochs = max_epochs
        self.optimizer = optimizer
        self.lr = lr
        self.head_tol = head_tol
        self.logit_scale = logit_scale
        self.augment = augment
        self.batch_norm = batch_norm
        self.micro_batch = micro_batch
        self.center = center
        self.hook = hook
        self.across_envs = across_envs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.validation_classes = validation_classes
        self.validation_episodes = validation_episodes
        self.n_iter_no_change = n_iter_no_change
        self.calibrate = calibrate
        self.fit_head = fit_head
        self.callbacks = callbacks
        self.checkpoint_path = checkpoint_path
        self.warm_start = warm_start
        self.net_params = net_params
        self.device = device
        self.precision = precision
        self.compile = compile
        self.verbose = verbose
        self.random_state = random_state

    # -- learning ----------------------------------------------------------------------

    def _learn(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
    ) -> None:
        self._check_head()
        self._train(rows, targets, tasks, envs)
        self.classes_ = np.unique(targets)
        if self.fit_head:
            self._adapt(rows, targets)

    def _adapt(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        self._solve(self._features(rows), targets)

    def _make_net(
        self,
        backbone: nn.Module,
        reader: RowReader,
        plan: EpisodePlan,
        arguments: dict[str, Any],
        hooked: HookedFeatures,
    ) -> EpisodicNet:
        return EpisodicNet(
            EpisodicModule(backbone, hooked),
            head=self._new_head(),
            head_tol=self.head_tol,
            batch_norm=self.batch_norm,
            micro_batch=self.micro_batch,
            center=self.center,
            logit_scale=self.logit_scale,
            **arguments,
        )

    def _solve(self, features: NDArray[Any], labels: NDArray[Any]) -> None:
        classes, numbers = np.unique(labels, return_inverse=True)
        hooked = self.net_.module_.hooked
        codes = hooked.codes_of(features[None], numbers[None], len(classes))
        code = None if codes is None else codes[0]
        features = hooked.features_of(features, code)
        center = features.mean(axis=0) * self.center
        head = self._new_head().fit(features - center, labels)
        self.head_, self.center_, self.classes_ = head, center, head.classes_
        self.task_code_ = code

    # -- prediction --------------------------------------------------------------------

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Scores of the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            For two classes, the score of ``classes_[1]`` minus the other.
        """
        return self._apply_head("decision_function", X)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Class of every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`.
        """
        return self._apply_head("predict", X)

    def _logits(self, rows: NDArray[Any]) -> NDArray[Any]:
        scores = self._ask_head("decision_function", rows)
        if scores.ndim == 1:
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        return self.net_.module_.scale * scores

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
        codes, classes = encode_tasks(labels)
        ways = np.array([len(names) for names in classes])

        def solve(part: slice) -> NDArray[Any]:
            return self._winners(support, codes, query, classes, ways, part)

        size = self._tasks_within(support, query, int(ways.max()), max_memory)
        winners = in_task_chunks(solve, len(support), size)
        return np.stack([names[k] for names, k in zip(classes, winners, strict=True)])

    def _winners(
        self,
        X_support: Any,
        codes: NDArray[Any],
        X_query: Any,
        classes: list[NDArray[Any]],
        ways: NDArray[Any],
        part: slice,
    ) -> NDArray[Any]:
        """Class numbers (n, n_query) of the query rows of some tasks."""
        support = self._task_features(chunk_of(X_support, part))
        query = self._task_features(chunk_of(X_query, part))
        hooked = self.net_.module_.hooked
        support, query = hooked.episodes_of(support, codes[part], query, ways[part])
        if self.center:
            middle = support.mean(axis=1, keepdims=True)
            support, query = support - middle, query - middle
        return solve_tasks(self._new_head(), support, codes[part], query, classes[part])

    def _apply_head(self, method: str, X: ArrayLike) -> NDArray[Any]:
        return self._ask_head(method, self._check_known_rows(X))

    def _ask_head(self, method: str, rows: NDArray[Any]) -> NDArray[Any]:
        self._check_has_head()
        hooked = self.net_.module_.hooked
        features = hooked.features_of(self._features(rows), self.task_code_)
        features = features - self.center_
        return in_blocks(getattr(self.head_, method), features, _SCORES_PER_BLOCK)

    @staticmethod
    def _default_head() -> GroupLassoSVC:
        return GroupLassoSVC(solver="newton")
