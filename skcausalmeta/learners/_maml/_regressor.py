"""MAML and its relatives for real targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ...backbones import Backbone
from ...heads import RidgeRegressionHead
from ...training import EpisodeHook, Training, Validation
from .._checks import check_known_rows, check_values
from .._regressor import BaseMetaRegressor
from .._synergies import HeadTask
from .._task_batches import check_tasks
from ._learner import AdaptedTask, GradientLearnerMixin, StartTask
from ._update_rule import UpdateRule

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
    update : {"sgd", "meta-sgd", "meta-curvature", "kfo", "t-net", "warp-grad"} or \
UpdateRule, default="sgd"
        How an inner step uses a gradient; an object such as
        ``KFOUpdate(psd=True)`` or ``SGDUpdate(learn_lr=True)`` (copied).
    inner_steps : int, default=5
        Steps K of the inner loop in training.
    inner_lr : float, default=0.01
        Its learning rate.
    adapt_steps : int, default=None
        Steps of `adapt` and `predict_episodes`. None: `inner_steps`.
    first_order : bool, default=False
        Drop the dependence of the inner gradients on theta: faster and less
        memory, not the gradient of the objective.
    adapt_layers : {"all", "head", "body"}, default="all"
        What moves within a task: everything (MAML), what follows the backbone
        (ANIL), or the backbone (BOIL). The rest is learned by the outer steps.
    backbone : str, Backbone, module or callable, default="auto"
        "auto" (images of side 8 or more: Conv4; else: MLP), "mlp", "conv4",
        "resnet12", "identity" (rows are features already), an object such as
        ``Conv4(n_filters=32)``, whose parameters are reached as
        ``backbone__n_filters`` and so on, a `torch.nn.Module` (copied, its weights
        kept; frozen if none of its parameters requires a gradient), or a class or
        function that returns one.
    input_shape : tuple, default=None
        Shape that rows are reshaped to, for flat images: (height, width) or
        (channels, height, width).
    normalize_targets : bool, default=True
        Learn targets in units of the standard deviation of all training targets,
        from their mean. `inner_lr` then does not depend on their units.
    n_shot : int, pair of int or "auto", default="auto"
        Support rows of an episode. A pair (low, high): drawn anew for every training
        step, log-uniformly. "auto": half of the task of median size, at most 25.
    n_query : int or "auto", default="auto"
        Query rows. "auto": what the task of median size leaves, at most 25. Smaller
        tasks give what they have of "auto" sizes and of pairs; those that lack a row
        of each kind, or rows asked for by a number, are left out of the episodes with
        a warning.
    tasks_per_batch : int, default=4
        Episodes of one training step.
    batches_per_epoch : int, default=20
        Training steps of one epoch.
    max_epochs : int, default=10
        Number of epochs.
    optimizer : {"adam", "adamw", "sgd"}, object or type, default="adam"
        Optimiser of the outer problem; an object such as ``Adam(weight_decay=1e-4)``
        of `skcausalmeta.training`, whose parameters are reached as
        ``optimizer__weight_decay`` and so on; or a class of `torch.optim`.
    lr : float, default=1e-3
        Its learning rate.
    augment : str, callable or list, default=None
        Augmentation of training images: "shift", "flip", "flip-shift",
        "affine", "color", or ``augment(images, generator) -> images``.
    batch_norm : {"running", "episode"}, default="running"
        "running": statistics of the rows at hand in training, running averages
        after; batch norms without weights have fixed statistics of the training
        rows. "episode": always
        those of the rows given together (support and query apart), as in the
        literature's MAML; predictions depend on which rows come together.
    hook : EpisodeHook, default=None
        Transforms the features of a task before the output layer and may add a loss of
        its own (copied), see `skcausalmeta.training.EpisodeHook`.
    across_envs : bool, default=False
        Draw support and query of an episode from different environments, given to
        `fit` as ``envs=``, in random roles.
    validation : float, array-like or Validation, default=None
        What to hold out: a share of the tasks (or rows, without `tasks`), with which
        training stops when the loss of their episodes has not improved for 5 epochs;
        task ids, with which all epochs are trained; or a
        `skcausalmeta.training.Validation`, which says all of this. Episodes of what
        is held out are scored after every epoch, and the best weights are restored.
    fit_head : bool, default=True
        Solve a ridge head on the features of the training rows at the end of
        `fit`, which then answers until `adapt`. False saves that time; theta then
        answers, if `fit` got ``tasks=``.
    callbacks : list, default=None
        Callbacks of skorch, such as `skorch.callbacks.GradientNormClipping`.
    net_params : dict or Training, default=None
        How training runs: `skcausalmeta.training.Training`, or a dictionary of its
        parameters (precision, compile, checkpoint_path, warm_start) and of keywords
        of the net, `GradientNet` and `skorch.NeuralNet`, such as
        ``{"outer": "reptile", "recompute": True}``.
    device : str or torch.device, default="cpu"
        Where the net lives.
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
        Code that `hook` gives that task; None without a hook. After `fit` with
        ``fit_head=False``, the code of all training tasks taken for one.
    head_ : estimator
        Ridge head of the training rows, after `fit` and before `adapt`.
    target_mean_, target_scale_ : float
        Mean and scale of the targets by `normalize_targets`.
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
    training rows as one task; `adapt` to the rows of a task for more. With
    ``fit_head=False`` and tasks, the network answers as it is before any step.
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
    ...     tasks_per_batch=8,
    ...     lr=2e-3,
    ...     max_epochs=2,
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
        "hook": [EpisodeHook, None],
        "normalize_targets": ["boolean"],
    }

    def __init__(
        self,
        update: str | UpdateRule = "sgd",
        *,
        inner_steps: int = 5,
        inner_lr: float = 0.01,
        adapt_steps: int | None = None,
        first_order: bool = False,
        adapt_layers: str = "all",
        backbone: str | Backbone | nn.Module | Callable[..., nn.Module] = "auto",
        input_shape: tuple[int, ...] | None = None,
        normalize_targets: bool = True,
        n_shot: int | str | tuple[int, int] = "auto",
        n_query: int | str = "auto",
        tasks_per_batch: int = 4,
        batches_per_epoch: int = 20,
        max_epochs: int = 10,
        optimizer: Any = "adam",
        lr: float = 1e-3,
        augment: Any = None,
        batch_norm: str = "running",
        hook: EpisodeHook | None = None,
        across_envs: bool = False,
        validation: float | ArrayLike | Validation | None = None,
        fit_head: bool = True,
        callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | Training | None = None,
        device: str | torch.device = "cpu",
        verbose: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.update = update
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.adapt_steps = adapt_steps
        self.first_order = first_order
        self.adapt_layers = adapt_layers
        self.backbone = backbone
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
        self.validation = validation
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
        self.target_mean_, self.target_scale_ = 0.0, 1.0
        if self.normalize_targets:
            self.target_mean_ = float(targets.mean())
            self.target_scale_ = float(targets.std()) or 1.0
        return super()._train(rows, self._scaled(targets), tasks, envs)

    def _scaled(self, targets: NDArray[Any]) -> NDArray[Any]:
        return (targets - self.target_mean_) / self.target_scale_

    def _solve_training(
        self, rows: NDArray[Any], targets: NDArray[Any], tasks: NDArray[Any] | None
    ) -> None:
        self.task_ = None
        if self.fit_head:
            head = RidgeRegressionHead(_RIDGE).fit(
                self._features(rows), targets, sample_weight=self._fit_weights
            )
            self.task_ = HeadTask(head=head)
        elif tasks is not None:
            code = self._start_code(rows, self._scaled(targets), 0)
            self.task_ = StartTask(
                code=code, center=self.target_mean_, scale=self.target_scale_
            )

    def _solve(self, rows: NDArray[Any], targets: NDArray[Any]) -> AdaptedTask:
        parameters, code = self._adapted(rows, self._scaled(targets), 0)
        return AdaptedTask(
            parameters=parameters,
            code=code,
            center=self.target_mean_,
            scale=self.target_scale_,
        )

    # -- prediction --------------------------------------------------------------------

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the targets of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions for the task last adapted to.
        """
        rows = check_known_rows(self, X)
        return self._task_in_use().scores(self, rows)

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
        """Predict as `predict_episodes` does, before and after every inner step.

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
        targets = check_values(self, targets.ravel(), targets.ravel())
        scaled = self._scaled(targets).reshape(support.shape[:2])
        ways = np.zeros(len(support), dtype=np.intp)
        scores = self._scores_by_step(support, scaled, query, ways, staged, max_memory)[
            ..., 0
        ]
        return self.target_mean_ + self.target_scale_ * scores
