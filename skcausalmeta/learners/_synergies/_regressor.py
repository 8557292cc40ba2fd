"""Meta-learning of regression tasks with sparse base-predictors."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ...backbones import n_features_out
from ...exceptions import InvalidInputError
from ...heads import LassoHead, RidgeHead
from ...training import (
    BaseEpisodicNet,
    CodeModule,
    EpisodeHook,
    HookedFeatures,
    RegressionNet,
    RowReader,
    TrainingCheckpoint,
)
from .._base import in_blocks
from .._episode_plan import EpisodePlan
from .._regressor import BaseMetaRegressor
from .._task_chunks import chunk_of, in_task_chunks
from .._tasks import check_tasks
from .._value_plan import ValueSizes
from ._head_learner import HeadLearnerMixin
from ._task_heads import predict_tasks, solve_training_tasks

_ROWS_PER_BLOCK = 8
_ROWS_PER_PASS = 256


class SparseMetaRegressor(HeadLearnerMixin, BaseMetaRegressor):
    """Codes that few-feature regressions of many tasks agree on.

    The backbone f is trained so that sparse linear regressions on its codes solve
    every task (outer problem); each regression is the solution of a convex
    problem on the codes (inner problem) ::

        min_f  1/T sum_t  1 / (2 n) || f(X_t^query) w_t(f) - y_t^query ||^2
        w_t(f) = argmin_w  1 / (2 n) || f(X_t^support) w - y_t^support ||^2
                 + lambda_t ||w||_1

    w_t is solved to a stated duality gap and differentiated implicitly, on the
    codes that it uses. lambda_t is a fraction of the smallest strength that
    switches every code off, and a constant of the gradient. Where the targets of
    tasks depend on few of some underlying factors each, the codes become these
    factors, up to order and scale, also when the factors are correlated; dense
    regressions (`RidgeHead`) give a mixture of them.

    Parameters
    ----------
    head : estimator, default=None
        Base-predictor: `LassoHead`, `RidgeHead` (used through its
        ``as_regressor()``) or another with the contract of `LassoHead`. None:
        ``LassoHead()``. Its parameters are reached as ``head__lasso_reg`` and so
        on; setting one fills in the default head.
    backbone : str, module or callable, default="auto"
        "auto" (images of side 8 or more: Conv4; else: MLP), "mlp", "conv4",
        "resnet12", "identity" (rows are features already), a `torch.nn.Module`
        (copied, its weights kept), or a class or function that returns one.
    backbone_params : dict, default=None
        Keywords of the backbone, such as ``{"out_features": 6}`` of "mlp".
    freeze_backbone : bool, default=False
        Train nothing; epochs only record the loss.
    input_shape : tuple, default=None
        Shape that rows are reshaped to, for flat images: (height, width) or
        (channels, height, width).
    split : {"support-query", "none"}, default="support-query"
        "support-query": the inner problem is solved on the support rows of an
        episode, the outer loss is taken on its query rows. "none": both are on
        all its ``n_shot + n_query`` rows, the multi-task form of [1]_.
    n_shot : int or "auto", default="auto"
        Support rows of an episode. "auto": half of the smallest task, at most 25.
    n_query : int or "auto", default="auto"
        Query rows of an episode. "auto": what the smallest task leaves, at most
        25.
    normalize_codes : bool, default=True
        Standardise the codes, without learned scale or offset, as in [1]_. In
        training by the rows of all tasks of a step together, afterwards by
        the training rows. Without it, an unused code may shrink or grow freely.
    tasks_per_batch : int, default=8
        Episodes of one training step.
    batches_per_epoch : int, default=20
        Training steps of one epoch.
    max_epochs : int, default=10
        Number of epochs.
    optimizer : {"adam", "adamw", "sgd"} or type, default="adam"
        Optimiser of the outer problem, or a class of `torch.optim`.
    lr : float, default=1e-3
        Its learning rate.
    head_tol : float, default=1e-6
        Relative duality gap of the heads in training.
    augment : str, callable or list, default=None
        Augmentation of training images: "shift", "flip", "flip-shift",
        "affine", "color", or ``augment(images, generator) -> images``.
    batch_norm : {"running", "episode"}, default="running"
        Of layers inside the backbone. "running": statistics of the task in
        training, running averages after. "episode": always those of the rows
        given together, so predictions depend on which rows come together.
    micro_batch : int or "auto", default="auto"
        Tasks in one pass of the backbone; changes speed, not results.
    hook : EpisodeHook, default=None
        Transforms the features of a task before the head and may add a loss of
        its own (copied), see `skcausalmeta.training.EpisodeHook`.
    across_envs : bool, default=False
        Draw support and query of an episode from different environments, given to
        `fit` as ``envs=``, in random roles.
    early_stopping : bool, default=False
        Hold out tasks (rows, without tasks) and stop when the loss on them has
        not improved for `n_iter_no_change` epochs.
    validation_fraction : float, default=0.2
        Share of the tasks (or rows) to hold out.
    validation_tasks : array-like, default=None
        Ids of tasks to hold out instead. They are validated on after every
        epoch, and the best weights are restored, with or without early stopping.
    validation_episodes : int, default=100
        Number of validation episodes, the same after every epoch.
    n_iter_no_change : int, default=5
        Patience of early stopping, in epochs.
    fit_head : bool, default=True
        Solve the heads of the training data at the end of `fit`. False saves
        that time when only `adapt` or `transform` will be used.
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
    net_ : RegressionNet
        The trained skorch net.
    head_ : estimator
        The head in use: of all training rows as one task, or of the task last
        adapted to.
    task_code_ : ndarray of shape (n_code,)
        What `hook` keeps of the task of `head_`; None without a hook.
    task_codes_ : ndarray of shape (n_tasks, n_code)
        What it keeps of the training tasks, likewise.
    task_ids_ : ndarray of shape (n_tasks,)
        Sorted ids of the training tasks, after a fit with `tasks`.
    task_coef_ : ndarray of shape (n_tasks, n_features_out)
        Weights of the training tasks, each solved on all its rows.
    task_intercept_ : ndarray of shape (n_tasks,)
        Their intercepts.
    task_dual_gap_ : ndarray of shape (n_tasks,)
        Their certificates.
    dual_gap_, sparsity_, support_features_
        Certificate, share of unused codes and used codes of `head_`.
    n_iter_ : int
        Epochs trained.
    history_ : list of dict
        Losses and seconds of every epoch.
    n_features_in_ : int
        Length of the second axis of X.
    n_features_out_ : int
        Number of codes.

    See Also
    --------
    SparseMetaClassifier : The same for classes.
    skcausalmeta.heads.LassoHead : The default head.

    Notes
    -----
    Interrupting training with Ctrl-C keeps what was learned so far.

    After a fit on several tasks, ``predict(X, tasks=ids)`` answers each row by the
    head of its training task. ``predict(X)`` does not know the task and answers by
    one head for all training rows together, as does every regressor that is not
    told about tasks; `adapt` replaces that head.

    References
    ----------
    .. [1] S. Lachapelle et al. (2023). Synergies between disentanglement and
       sparsity: generalization and identifiability in multi-task learning.
       ICML, sections 3 and 5.

    Examples
    --------
    A hundred tasks, each on some of three correlated factors that a matrix mixes:

    >>> import numpy as np
    >>> from skcausalmeta.learners import SparseMetaRegressor
    >>> rng = np.random.default_rng(0)
    >>> factors = rng.standard_normal((4000, 3)) + rng.standard_normal((4000, 1))
    >>> X, tasks = factors @ rng.standard_normal((3, 3)), np.repeat(np.arange(100), 40)
    >>> weights = rng.standard_normal((100, 3)) * (rng.random((100, 3)) < 0.5)
    >>> y = (factors * weights[tasks]).sum(axis=1)
    >>> learner = SparseMetaRegressor(
    ...     backbone="mlp",
    ...     backbone_params={"hidden": (), "out_features": 3},
    ...     split="none",
    ...     lr=0.03,
    ...     max_epochs=15,
    ...     micro_batch=8,
    ...     verbose=0,
    ...     random_state=0,
    ... ).fit(X, y, tasks=tasks)
    >>> codes = learner.transform(X)
    >>> correlations = np.abs(np.corrcoef(factors.T, codes.T)[:3, 3:])
    >>> print(f"{correlations.max(axis=1).min():.1f}")
    1.0
    >>> print(f"{learner.score(X, y, tasks=tasks):.1f}")
    0.9
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaRegressor._parameter_constraints,
        **HeadLearnerMixin._parameter_constraints,
        "head": [
            HasMethods(["fit", "predict", "episode_predictions", "solve_episodes"]),
            HasMethods(["as_regressor"]),
            None,
        ],
        "split": [StrOptions({"support-query", "none"})],
        "normalize_codes": ["boolean"],
    }
    _of_a_task = (
        "head_",
        "task_code_",
        "task_codes_",
        "task_ids_",
        "task_coef_",
        "task_intercept_",
        "task_dual_gap_",
    )

    def __init__(
        self,
        head: Any = None,
        *,
        backbone: str | nn.Module | Callable[..., nn.Module] = "auto",
        backbone_params: dict[str, Any] | None = None,
        freeze_backbone: bool = False,
        input_shape: tuple[int, ...] | None = None,
        split: str = "support-query",
        n_shot: int | str = "auto",
        n_query: int | str = "auto",
        normalize_codes: bool = True,
        tasks_per_batch: int = 8,
        batches_per_epoch: int = 20,
        max_epochs: int = 10,
        optimizer: str | type = "adam",
        lr: float = 1e-3,
        head_tol: float = 1e-6,
        augment: Any = None,
        batch_norm: str = "running",
        micro_batch: int | str = "auto",
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
        self.head = head
        self.backbone = backbone
        self.backbone_params = backbone_params
        self.freeze_backbone = freeze_backbone
        self.input_shape = input_shape
        self.split = split
        self.n_shot = n_shot
        self.n_query = n_query
        self.normalize_codes = normalize_codes
        self.tasks_per_batch = tasks_per_batch
        self.batches_per_epoch = batches_per_epoch
        self.max_epochs = max_epochs
        self.optimizer = optimizer
        self.lr = lr
        self.head_tol = head_tol
        self.augment = augment
        self.batch_norm = batch_norm
        self.micro_batch = micro_batch
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

    def _sizes(self) -> ValueSizes:
        divided = self.split == "support-query"
        return ValueSizes(self.n_shot, self.n_query, disjoint=divided)

    def _learn(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
    ) -> None:
        self._check_head()
        self._train(rows, targets, tasks, envs)
        if not self.fit_head:
            return
        codes = self._features(rows)
        self._solve(codes, targets)
        if tasks is not None:
            codes = self._hook_training_tasks(codes, targets, tasks)
            (
                self.task_ids_,
                self.task_coef_,
                self.task_intercept_,
                self.task_dual_gap_,
            ) = solve_training_tasks(self._new_head(), codes, targets, tasks)

    def _adapt(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        self._solve(self._features(rows), targets)

    def _solve(self, features: NDArray[Any], targets: NDArray[Any]) -> None:
        hooked = self.net_.module_.hooked
        codes = hooked.codes_of(features[None], targets[None], 0)
        code = None if codes is None else codes[0]
        self.head_ = self._new_head().fit(hooked.features_of(features, code), targets)
        self.task_code_ = code

    def _hook_training_tasks(
        self, features: NDArray[Any], targets: NDArray[Any], tasks: NDArray[Any]
    ) -> NDArray[Any]:
        """Features of all rows, each by the hook's code of its task."""
        self.task_codes_ = None
        hooked = self.net_.module_.hooked
        if not hooked.is_active:
            return features
        codes, number = [], np.unique(tasks, return_inverse=True)[1]
        for k in range(number.max() + 1):
            rows = number == k
            code = hooked.codes_of(features[rows][None], targets[rows][None], 0)
            codes.append(code[0])  # type: ignore[index]
        self.task_codes_ = np.stack(codes)
        return hooked.features_of(features[:, None], self.task_codes_[number])[:, 0]

    def _make_net(
        self,
        backbone: nn.Module,
        reader: RowReader,
        plan: EpisodePlan,
        arguments: dict[str, Any],
        hooked: HookedFeatures,
    ) -> RegressionNet:
        n_codes = None
        if self.normalize_codes:
            n_codes = n_features_out(backbone, reader.sample_shape)
        return RegressionNet(
            CodeModule(backbone, n_codes, hooked),
            head=self._new_head(),
            head_tol=self.head_tol,
            batch_norm=self.batch_norm,
            micro_batch=self.micro_batch,
            **arguments,
        )

    def _train_net(
        self,
        X: NDArray[Any],
        plan: EpisodePlan,
        seeds: dict[str, int],
        checkpoint: TrainingCheckpoint | None,
    ) -> tuple[BaseEpisodicNet, RowReader]:
        net, reader = super()._train_net(X, plan, seeds, checkpoint)
        starts = range(0, len(X), _ROWS_PER_PASS)
        net.settle(reader(X[k : k + _ROWS_PER_PASS]) for k in starts)
        return net, reader

    @staticmethod
    def _default_head() -> LassoHead:
        return LassoHead()

    def _new_head(self) -> Any:
        head = super()._new_head()
        return head.as_regressor() if isinstance(head, RidgeHead) else head

    # -- prediction --------------------------------------------------------------------

    def predict(self, X: ArrayLike, *, tasks: ArrayLike | None = None) -> NDArray[Any]:
        """Targets of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Training task of every row, whose head answers. None: the head in use,
            of the task last adapted to or of all training rows as one task.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions.

        Raises
        ------
        InvalidInputError
            If `tasks` holds an id that `fit` did not see.
        """
        rows = self._check_known_rows(X)
        self._check_has_head()
        hooked = self.net_.module_.hooked
        if tasks is None:
            features = hooked.features_of(self._features(rows), self.task_code_)
            return in_blocks(self.head_.predict, features, _ROWS_PER_BLOCK)
        position = self._positions(tasks, rows)
        features = self._features(rows)
        if self.task_codes_ is not None:
            own = self.task_codes_[position]
            features = hooked.features_of(features[:, None], own)[:, 0]
        products = features * self.task_coef_[position]
        return products.sum(axis=1) + self.task_intercept_[position]

    def _positions(self, tasks: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        if not hasattr(self, "task_ids_"):
            raise InvalidInputError(
                f"{type(self).__name__} predicts by task ids after a fit with tasks. "
                "Got tasks after a fit without; leave them out, or fit with tasks=..."
            )
        ids = self._check_given_ids(tasks, rows, "tasks")
        unknown = np.setdiff1d(ids, self.task_ids_)
        if len(unknown):
            raise InvalidInputError(
                "tasks must be ids seen in fit. Got "
                f"{unknown[:5].tolist()}, which were not there; use adapt or "
                "predict_episodes for new tasks."
            )
        return np.searchsorted(self.task_ids_, ids)

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        tasks: ArrayLike | None = None,
    ) -> float:
        """Coefficient of determination of `predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,)
            True targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights.
        tasks : array-like of shape (n_samples,), default=None
            As in `predict`.

        Returns
        -------
        float
            R squared over all rows together.
        """
        predictions = self.predict(X, tasks=tasks)
        return r2_score(y, predictions, sample_weight=sample_weight)

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
        check_is_fitted(self)
        support, targets, query = check_tasks(X_support, y_support, X_query)
        targets = self._check_targets(targets.ravel(), targets.ravel())
        targets = targets.reshape(support.shape[:2])

        def solve(part: slice) -> NDArray[Any]:
            wanted = targets[part]
            one, two = self.net_.module_.hooked.episodes_of(
                self._task_features(chunk_of(support, part)),
                wanted,
                self._task_features(chunk_of(query, part)),
                np.zeros(len(wanted), dtype=np.intp),
            )
            return predict_tasks(self._new_head(), one, wanted, two)

        size = self._tasks_within(support, query, 1, max_memory)
        return in_task_chunks(solve, len(support), size)
