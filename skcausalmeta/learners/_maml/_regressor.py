"""MAML and its relatives for real targets."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ...heads import RidgeRegressionHead
from ...training import EpisodeHook
from .._base import in_blocks
from .._regressor import BaseMetaRegressor
from .._tasks import check_tasks
from ._learner import GradientLearnerMixin
from ._update_rule import UpdateRule

_ROWS_PER_BLOCK = 4
_RIDGE = 0.1


class MAMLRegressor(GradientLearnerMixin, BaseMetaRegressor):
    """Few-shot regressor that adapts by a few gradient steps.

    The start theta of the network, and whatever the update rule U learns, are
    trained so that a few steps on the support rows of a task predict its query
    rows ::

        min_{theta, U}  1/T sum_t  L_query,t(theta_K(t))
        theta_0(t) = theta,
        theta_{k+1}(t) = theta_k(t) - U(grad L_support,t(theta_k(t)))

    with L the mean squared error. The gradient runs through the inner steps.

    Parameters
    ----------
    update : {"sgd", "meta-sgd", "meta-curvature", "kfo"} or UpdateRule, \
            default="sgd"
        What an inner step does with a gradient: `SGDUpdate`, `MetaSGDUpdate`,
        `MetaCurvatureUpdate`, `KFOUpdate`, or an object with the contract of
        `UpdateRule` (copied).
    update_params : dict, default=None
        Keywords of the named rule, such as ``{"psd": True}``.
    inner_steps : int, default=5
        Steps K of the inner loop in training.
    inner_lr : float, default=0.01
        Its learning rate.
    learn_inner_lr : bool, default=False
        Learn one rate per step and tensor, all `inner_lr` at first.
    adapt_steps : int, default=None
        Steps of `adapt` and `predict_episodes`. None: `inner_steps`.
    first_order : bool, default=False
        Drop the dependence of the inner gradients on theta: faster and less
        memory, not the gradient of the objective.
    adapt_layers : {"all", "head", "body"}, default="all"
        What moves within a task: everything (MAML), what follows the backbone
        (ANIL), or the backbone (BOIL). The rest is learned by the outer steps.
    linear_layers : int, default=0
        Linear layers between backbone and output. They add no capacity, but a
        shallow backbone is meta-trained better with them [2]_.
    outer : {"gradient", "reptile"}, default="gradient"
        Outer step along the gradient of the objective, or along the mean move
        ``theta - theta_K`` of the inner loops on all rows of the episodes [4]_.
    multi_step_epochs : int, default=0
        For so many epochs the loss after every inner step counts, its weight
        moving linearly to the last step [3]_.
    task_chunk_size : int or "auto", default="auto"
        Tasks that run at once, which bounds memory. "auto": one if the backbone
        convolves on a CPU, where that is faster, up to 64 elsewhere. Tasks run
        one by one wherever batch norm has weights and running averages.
    checkpoint : bool, default=False
        Keep only the parameters between inner steps and compute the steps again
        in the backward pass: less memory, more time. Running averages of a batch
        norm then move twice. Without effect if only the head is adapted.
    backbone : str, module or callable, default="auto"
        "auto" (images of side 8 or more: Conv4; else: MLP), "mlp", "conv4",
        "resnet12", "identity" (rows are features already), a `torch.nn.Module`
        (copied, its weights kept), or a class or function that returns one.
    backbone_params : dict, default=None
        Keywords of the backbone, such as ``{"n_blocks": 2}``.
    freeze_backbone : bool, default=False
        Neither adapt nor learn the backbone; a ready module keeps its statistics
        as well.
    input_shape : tuple, default=None
        Shape that rows are reshaped to, for flat images: (height, width) or
        (channels, height, width).
    normalize_targets : bool, default=True
        Learn targets in units of the standard deviation of all training targets,
        from their mean. `inner_lr` then does not depend on their units.
    n_shot : int or "auto", default="auto"
        Support rows of an episode. "auto": half of the smallest task, at most 25.
    n_query : int or "auto", default="auto"
        Query rows. "auto": what the smallest task leaves, at most 25.
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
    augment : str, callable or list, default=None
        Augmentation of training images: "shift", "flip", "flip-shift",
        "affine", "color", or ``augment(images, generator) -> images``.
    batch_norm : {"running", "episode"}, default="running"
        "running": statistics of the rows at hand in training, running averages
        after; layers without weights, as the one that standardises the input of
        `MLP`, have fixed statistics of the training rows. "episode": always
        those of the rows given together (support and query apart), as in the
        literature's MAML; predictions depend on which rows come together.
    hook : EpisodeHook, default=None
        Transforms the features of a task before the output layer and may add a loss of
        its own (copied), see `skcausalmeta.training.EpisodeHook`.
    across_envs : bool, default=False
        Draw support and query of an episode from different environments, given to
        `fit` as ``envs=``, in random roles.
    early_stopping : bool, default=False
        Hold out tasks (or rows, without tasks) and stop when the loss on their
        episodes has not improved for `n_iter_no_change` epochs.
    validation_fraction : float, default=0.2
        Share of the tasks (or rows, without tasks) to hold out.
    validation_tasks : array-like, default=None
        Task ids to hold out instead. They are validated on after every epoch, and
        the best weights are restored, with or without early stopping.
    validation_episodes : int, default=100
        Number of validation episodes, the same after every epoch.
    n_iter_no_change : int, default=5
        Patience of early stopping, in epochs.
    fit_head : bool, default=True
        Solve a ridge head on the features of the training rows at the end of
        `fit`, which then answers until `adapt`. False saves that time.
    callbacks : list, default=None
        Callbacks of skorch, such as `skorch.callbacks.GradientNormClipping`.
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
        are. "float16" needs a GPU, ``adapt_layers="head"`` and no `hook`, and scales
        the losses of training (`torch.amp.GradScaler`).
    compile : bool or dict, default=False
        Compile the backbone by `torch.compile`, with dynamic shapes, or with the
        given keywords such as ``{"mode": "reduce-overhead"}``;
        only with ``adapt_layers="head"``.
        Saved learners hold the plain backbone, and compile it when they are used.
    verbose : int, default=1
        0: silent. Else: a progress bar.
    random_state : int, RandomState instance or None, default=None
        Decides weights, episodes and augmentation. Torch's and numpy's global
        random states are left alone.

    Attributes
    ----------
    net_ : GradientNet
        The trained skorch net; ``net_.module_`` is where adaptation starts, with
        the learned update rule as ``net_.module_.rule``.
    adapted_ : dict of str to Tensor
        Parameters adapted to the task last given to `adapt`.
    task_code_ : Tensor of shape (1, n_code)
        What `hook` keeps of that task; None without a hook.
    head_ : estimator
        Ridge head of the training rows, after `fit` and before `adapt`.
    target_mean_, target_scale_ : float
        What `normalize_targets` subtracts and divides by.
    n_iter_ : int
        Epochs trained.
    history_ : list of dict
        Losses, seconds of every epoch.
    n_features_in_ : int
        Length of the second axis of X.
    n_features_out_ : int
        Number of features of the backbone.

    See Also
    --------
    MAMLClassifier : The same for classes.
    SparseMetaRegressor : Solves a convex head instead of taking steps.
    skcausalmeta.inspection.AdaptationCurveDisplay : Score against inner steps.

    Notes
    -----
    After `fit` it answers by a ridge head on the features of theta, for all
    training rows as one task; `adapt` to the rows of a task for more.
    Interrupting training with Ctrl-C keeps what was learned so far.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine (2017). Model-agnostic meta-learning for fast
       adaptation of deep networks. ICML.
    .. [2] S. Arnold, S. Iqbal, F. Sha (2021). When MAML can adapt fast and how to
       assist when it cannot. AISTATS.
    .. [3] A. Antoniou, H. Edwards, A. Storkey (2019). How to train your MAML. ICLR.
    .. [4] A. Nichol, J. Achiam, J. Schulman (2018). On first-order meta-learning
       algorithms. arXiv 1803.02999.

    Examples
    --------
    Lines through the origin, three rows to learn a new one from:

    >>> import numpy as np
    >>> from skcausalmeta.learners import MAMLRegressor
    >>> rng = np.random.default_rng(0)
    >>> tasks = np.repeat(np.arange(100), 10)
    >>> X = rng.uniform(-1, 1, (1000, 1))
    >>> slopes = rng.normal(size=100)
    >>> learner = MAMLRegressor(
    ...     inner_lr=0.02,
    ...     n_shot=3,
    ...     tasks_per_batch=16,
    ...     max_epochs=5,
    ...     verbose=0,
    ...     random_state=0,
    ... ).fit(X, slopes[tasks] * X[:, 0], tasks=tasks)
    >>> X_new = np.array([[-0.9], [0.2], [0.7]])
    >>> predictions = learner.adapt(X_new, -1.5 * X_new[:, 0]).predict([[-0.5], [0.5]])
    >>> bool(np.abs(predictions - [0.75, -0.75]).max() < 0.3)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaRegressor._parameter_constraints,
        **GradientLearnerMixin._parameter_constraints,
        "normalize_targets": ["boolean"],
    }

    def __init__(
        self,
        update: str | UpdateRule = "sgd",
        *,
        update_params: dict[str, Any] | None = None,
        inner_steps: int = 5,
        inner_lr: float = 0.01,
        learn_inner_lr: bool = False,
        adapt_steps: int | None = None,
        first_order: bool = False,
        adapt_layers: str = "all",
        linear_layers: int = 0,
        outer: str = "gradient",
        multi_step_epochs: int = 0,
        task_chunk_size: int | str = "auto",
        checkpoint: bool = False,
        backbone: str | nn.Module | Callable[..., nn.Module] = "auto",
        backbone_params: dict[str, Any] | None = None,
        freeze_backbone: bool = False,
        input_shape: tuple[int, ...] | None = None,
        normalize_targets: bool = True,
        n_shot: int | str = "auto",
        n_query: int | str = "auto",
        tasks_per_batch: int = 4,
        batches_per_epoch: int = 20,
        max_epochs: int = 10,
        optimizer: str | type = "adam",
        lr: float = 1e-3,
        augment: Any = None,
        batch_norm: str = "running",
        hook: EpisodeHook | None = None,
        across_envs: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.2,
        validation_tasks: ArrayLike | None = None,
        validation_episodes: int = 100,
        n_iter_no_change: int = 5,
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
        self.update = update
        self.update_params = update_params
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.learn_inner_lr = learn_inner_lr
        self.adapt_steps = adapt_steps
        self.first_order = first_order
        self.adapt_layers = adapt_layers
        self.linear_layers = linear_layers
        self.outer = outer
        self.multi_step_epochs = multi_step_epochs
        self.task_chunk_size = task_chunk_size
        self.checkpoint = checkpoint
        self.backbone = backbone
        self.backbone_params = backbone_params
        self.freeze_backbone = freeze_backbone
        self.input_shape = input_shape
        self.normalize_targets = normalize_targets
        self.n_shot = n_shot
        self.n_query = n_query
        self.tasks_per_batch = tasks_per_batch
        self.batches_per_epoch = batches_per_epoch
        self.max_epochs = max_epochs
        self.optimizer = optimizer
        self.lr = lr
        self.augment = augment
        self.batch_norm = batch_norm
        self.hook = hook
        self.across_envs = across_envs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.validation_tasks = validation_tasks
        self.validation_episodes = validation_episodes
        self.n_iter_no_change = n_iter_no_change
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
        self.target_mean_, self.target_scale_ = 0.0, 1.0
        if self.normalize_targets:
            self.target_mean_ = float(targets.mean())
            self.target_scale_ = float(targets.std()) or 1.0
        self._train(rows, self._scaled(targets), tasks, envs)
        if self.fit_head:
            head = RidgeRegressionHead(_RIDGE)
            self.head_ = head.fit(self._features(rows), targets)

    def _scaled(self, targets: NDArray[Any]) -> NDArray[Any]:
        return (targets - self.target_mean_) / self.target_scale_

    def _adapt(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        self._adapt_net(rows, self._scaled(targets))

    # -- prediction --------------------------------------------------------------------

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Targets of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions for the task last adapted to.
        """
        rows = self._check_known_rows(X)
        self._check_has_task()
        if hasattr(self, "adapted_"):
            scores = self._adapted_scores(rows)[:, 0]
            return self.target_mean_ + self.target_scale_ * scores
        return in_blocks(self.head_.predict, self._features(rows), _ROWS_PER_BLOCK)

    def predict_episodes(
        self,
        X_support: ArrayLike,
        y_support: ArrayLike,
        X_query: ArrayLike,
        *,
        max_memory: int | None = None,
    ) -> NDArray[Any]:
        """Adapt to many tasks and predict their query rows.

        The learner itself stays as it is.

        Parameters
        ----------
        X_support : array-like of shape (n_tasks, n_support, ...)
            Support rows.
        y_support : array-like of shape (n_tasks, n_support)
            Their targets.
        X_query : array-like of shape (n_tasks, n_query, ...)
            Query rows.
        max_memory : int, default=None
            Bytes that the work may take beside the arguments and the answer, as
            estimated from the shapes: tasks are then solved in chunks, and stored
            arrays and memory maps are read by chunk. None: a thousand tasks at once.

        Returns
        -------
        ndarray of shape (n_tasks, n_query)
            Predictions for the query rows.

        Raises
        ------
        ValueError
            If the shapes do not agree, a target is not a finite number, or
            `max_memory` is less than one task takes.
        """
        return self._predict_by_step(
            X_support, y_support, X_query, staged=False, max_memory=max_memory
        )[-1]

    def staged_predict_episodes(
        self, X_support: ArrayLike, y_support: ArrayLike, X_query: ArrayLike
    ) -> NDArray[Any]:
        """Predictions of `predict_episodes` before and after every inner step.

        Parameters
        ----------
        X_support : array-like of shape (n_tasks, n_support, ...)
            Support rows.
        y_support : array-like of shape (n_tasks, n_support)
            Their targets.
        X_query : array-like of shape (n_tasks, n_query, ...)
            Query rows.

        Returns
        -------
        ndarray of shape (n_steps + 1, n_tasks, n_query)
            Predictions for the query rows.

        Raises
        ------
        ValueError
            If the shapes do not agree or a target is not a finite number.
        """
        return self._predict_by_step(X_support, y_support, X_query, staged=True)

    def _predict_by_step(
        self,
        X_support: ArrayLike,
        y_support: ArrayLike,
        X_query: ArrayLike,
        *,
        staged: bool,
        max_memory: int | None = None,
    ) -> NDArray[Any]:
        check_is_fitted(self)
        support, targets, query = check_tasks(X_support, y_support, X_query)
        targets = self._check_targets(targets.ravel(), targets.ravel())
        scaled = self._scaled(targets).reshape(support.shape[:2])
        ways = np.zeros(len(support), dtype=np.intp)
        scores = self._scores_by_step(support, scaled, query, ways, staged, max_memory)[
            ..., 0
        ]
        return self.target_mean_ + self.target_scale_ * scores
