"""Meta-learning of regression tasks with sparse base-predictors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ...backbones import Backbone, n_features_out
from ...exceptions import InvalidInputError, NotFittedError
from ...heads import LassoHead, RidgeHead
from ...training import (
    CodeModule,
    EpisodeHook,
    HookedFeatures,
    RegressionNet,
    RowReader,
    Training,
    Validation,
    in_parts,
)
from ...utils import refuse_other_index
from .._checks import check_given_ids, check_known_rows, check_values
from .._episode_plan import EpisodePlan
from .._episode_sizes import ValueSizes
from .._nested import Makers
from .._regressor import BaseMetaRegressor
from .._task_batches import check_tasks
from ._by_itself import predict_values, solve_values
from ._common_task import CommonTask
from ._head_learner import LENGTH, NET_KEYWORDS, HeadLearnerMixin
from ._head_task import HeadTask
from ._sparsity import LEARN
from ._task_heads import TrainingHeads, solve_training_tasks

# Support rows that training draws around a common predictor.
_SHOTS = (2, 50)
_HEAD_TOL = 1e-6
_ROWS_PER_PASS = 256


class SparseMetaRegressor(HeadLearnerMixin, BaseMetaRegressor):
    """Few-shot regressor: a learned backbone under a sparse linear regression.

    The backbone f is trained so that sparse linear regressions on its features solve
    every task (outer problem); each regression is the solution of a convex
    problem on the features (inner problem) ::

        min_f  1/T sum_t  1 / (2 n) || f(X_t^query) w_t(f) - y_t^query ||^2
        w_t(f) = argmin_w  1 / (2 n) || f(X_t^support) w - y_t^support ||^2
                 + lambda_t ||w||_1

    w_t is solved to a stated duality gap and differentiated implicitly, on the
    features that it uses. lambda_t is a fraction of the smallest strength that
    switches every feature off, and a constant of the gradient. Where the targets of
    tasks depend on few of some underlying factors each, the features become these
    factors, up to order and scale, also when the factors are correlated; dense
    regressions (`RidgeHead`) give a mixture of them. With `tasks` this takes
    ``common=None`` or ``split="none"``: else tasks are solved around a common
    predictor, see Notes.

    Parameters
    ----------
    head : estimator, default=None
        Base-predictor: `LassoHead`, `RidgeHead` (used through its
        ``as_regressor()``) or another with the contract of `LassoHead`. None:
        ``LassoHead()``; around a common predictor ``LassoHead("learn", "learn",
        reg_scale="ridge-absolute", refit=True)``. "learn" for lasso_reg or ridge_reg,
        there alone, has `fit` find the strength. Its parameters are reached as
        ``head__lasso_reg`` and so on; setting one fills in ``LassoHead()``.
    backbone : str, Backbone, module or callable, default="auto"
        "auto" (images of side 8 or more: Conv4; else: MLP), "mlp", "conv4",
        "resnet12", "identity" (rows are features), an object such as
        ``Conv4(n_filters=32)``, with parameters ``backbone__n_filters`` and so on, a
        `torch.nn.Module` (copied with its weights; frozen if no parameter requires a
        gradient), or a class or function that returns one.
    input_shape : tuple, default=None
        Shape that rows are reshaped to, for flat images: (height, width) or
        (channels, height, width).
    split : {"support-query", "none"}, default="support-query"
        "support-query": the inner problem is solved on the support rows of an
        episode, the outer loss is taken on its query rows. "none": both are on
        all its ``n_shot + n_query`` rows, the multi-task form of [1]_.
    n_shot : int, pair of int or "auto", default="auto"
        Support rows of an episode. A pair (low, high): drawn anew for every training
        step, log-uniformly. "auto": half of the task of median size, at most 25;
        around a common predictor (2, 50).
    n_query : int or "auto", default="auto"
        Query rows. "auto": what the task of median size leaves, at most 25. Smaller
        tasks give what they have of "auto" sizes and of pairs; those that lack a row
        of each kind, or rows asked for by a number, are left out of the episodes with
        a warning.
    normalize_codes : bool, default=True
        Standardise the features, without learned scale or offset, as in [1]_. In
        training by the rows of all tasks of a step together, afterwards by
        the training rows. Without it, an unused feature may shrink or grow freely.
    tasks_per_batch : int, default=8
        Episodes of one training step.
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
        Of layers inside the backbone. "running": statistics of the task in
        training, running averages after. "episode": always those of the rows
        given together, so predictions depend on which rows come together.
    hook : EpisodeHook, default=None
        Transforms the features of a task before the head and may add a loss of
        its own (copied), see `skcausalmeta.training.EpisodeHook`.
    common : "auto", "linear", estimator or None, default="auto"
        What tasks deviate from. "linear": a linear function of the features, trained
        with the backbone on the rows of all tasks. A scikit-learn regressor: fitted on
        these rows. "auto": "linear" where `fit` gets ``tasks=`` of two tasks or more
        and `split` is "support-query", else None. None: every task is solved by itself.
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
        Solve the heads of the training data at the end of `fit`. False saves
        that time when only `adapt` or `transform` will be used.
    callbacks : list, default=None
        Callbacks of skorch.
    net_params : dict or Training, default=None
        How training runs: `skcausalmeta.training.Training`, or a dictionary of its
        parameters (precision, compile, checkpoint_path, warm_start) and of keywords
        of the net, `RegressionNet` and `skorch.NeuralNet`, such as
        ``{"head_tol": 1e-4, "precision": "bfloat16"}``.
    device : str or torch.device, default="cpu"
        Where the net lives.
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
        adapted to. Around a common predictor None before `adapt`.
    task_code_ : ndarray of shape (n_code,)
        Code that `hook` gives the task of `head_`; None without a hook.
    task_codes_ : ndarray of shape (n_tasks, n_code)
        Codes of the training tasks, likewise.
    task_ids_ : ndarray of shape (n_tasks,)
        Sorted ids of the training tasks, after a fit with `tasks` and without a common
        predictor, as are the next three.
    task_coef_ : ndarray of shape (n_tasks, n_features_out)
        Weights of the training tasks, each solved on all its rows.
    task_intercept_ : ndarray of shape (n_tasks,)
        Their intercepts.
    task_dual_gap_ : ndarray of shape (n_tasks,)
        Their certificates.
    dual_gap_, sparsity_, support_features_
        Certificate, share of unused features and used features of `head_`; around a
        common predictor, of those in which the task deviates.
    common_ : object
        Common predictor, whose ``scores(X)`` need no label; None without one. That of
        an estimator has the fitted one as ``estimator``.
    common_coef_, deviation_ : ndarray of shape (1, n_features_out)
        Weights of a linear common predictor, and what the task in use adds.
    known_tasks_ : object
        Training tasks with ``ids`` and ``solved``, by which ``predict(X, tasks=)``
        answers around a common predictor.
    deviation_prior_, deviation_probabilities_
        See `differing_features`.
    sparse_reg_ : float
        The share of the strength without any deviation that "learn" has chosen.
    common_gain_ : ndarray of shape (n_scores, n_scores)
        What the task in use multiplies the common scores by: it answers
        ``common_gain_ @ c(x) + deviation_ @ f(x)`` and a constant.
    n_iter_ : int
        Epochs trained.
    history_ : list of dict
        Losses and seconds of every epoch.
    n_features_in_ : int
        Length of the second axis of X.
    n_features_out_ : int
        Number of features of the backbone.

    See Also
    --------
    SparseMetaClassifier : The same for classes.
    skcausalmeta.heads.LassoHead : The default head.

    Notes
    -----
    Interrupting training with Ctrl-C keeps what was learned so far.

    Around a common predictor c a task with k labels has the predictions ::

        z(x) = m + g(k) (c(x) - m) + phi_k(x)'w + r(k) b
        w, b = argmin  1/2 sum_i (z_i - y_i)^2 + 1/2 ||w||^2 + lambda1 ||w||_1

    where r is 1 in the problem, as `skcausalmeta.training.Strengths` says. Without
    labels z is c: after `fit`, and for unknown ids in `tasks`. One row will do.

    After a fit on several tasks, ``predict(X, tasks=ids)`` answers each row by its
    training task. ``predict(X)`` does not know the task and answers by the common
    predictor, or without one by one head for all training rows together; `adapt`
    replaces that.

    References
    ----------
    .. [1] S. Lachapelle et al. (2023). Synergies between disentanglement and
       sparsity: generalization and identifiability in multi-task learning.
       ICML, sections 3 and 5.

    Examples
    --------
    A hundred tasks, each on some of three correlated factors that a matrix mixes:

    >>> import numpy as np
    >>> from skcausalmeta.backbones import MLP
    >>> from skcausalmeta.learners import SparseMetaRegressor
    >>> rng = np.random.default_rng(0)
    >>> factors = rng.standard_normal((4000, 3)) + rng.standard_normal((4000, 1))
    >>> X, tasks = factors @ rng.standard_normal((3, 3)), np.repeat(np.arange(100), 40)
    >>> weights = rng.standard_normal((100, 3)) * (rng.random((100, 3)) < 0.5)
    >>> y = (factors * weights[tasks]).sum(axis=1)
    >>> learner = SparseMetaRegressor(
    ...     backbone=MLP(hidden=(), out_features=3),
    ...     split="none",
    ...     lr=0.03,
    ...     max_epochs=15,
    ...     net_params={"micro_batch": 8},
    ...     verbose=0,
    ...     random_state=0,
    ... ).fit(X, y, tasks=tasks)
    >>> features = learner.transform(X)
    >>> correlations = np.abs(np.corrcoef(factors.T, features.T)[:3, 3:])
    >>> print(f"{correlations.max(axis=1).min():.1f}")
    1.0
    >>> print(f"{learner.score(X, y, tasks=tasks):.1f}")
    0.9
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMetaRegressor._parameter_constraints,
        "hook": [EpisodeHook, None],
        "max_epochs": LENGTH,
        "tasks_per_batch": LENGTH,
        "head": [
            HasMethods(["fit", "predict", "episode_predictions", "solve_episodes"]),
            HasMethods(["as_regressor"]),
            None,
        ],
        "split": [StrOptions({"support-query", "none"})],
        "normalize_codes": ["boolean"],
    }
    _parts: ClassVar[Makers] = {
        **BaseMetaRegressor._parts,
        "head": lambda _: LassoHead(),
    }
    _net_keywords = ("RegressionNet", NET_KEYWORDS)

    training_tasks_: TrainingHeads | None

    def __init__(
        self,
        head: Any = None,
        *,
        backbone: str | Backbone | nn.Module | Callable[..., nn.Module] = "auto",
        input_shape: tuple[int, ...] | None = None,
        split: str = "support-query",
        n_shot: int | str | tuple[int, int] = "auto",
        n_query: int | str = "auto",
        normalize_codes: bool = True,
        tasks_per_batch: int = 8,
        batches_per_epoch: int = 20,
        max_epochs: int | str = "auto",
        optimizer: Any = "adam",
        lr: float = 1e-3,
        augment: Any = None,
        batch_norm: str = "running",
        hook: EpisodeHook | None = None,
        common: Any = "auto",
        across_envs: bool = False,
        validation: float | ArrayLike | Validation | None = None,
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
        self.split = split
        self.n_shot = n_shot
        self.n_query = n_query
        self.normalize_codes = normalize_codes
        self.tasks_per_batch = tasks_per_batch
        self.batches_per_epoch = batches_per_epoch
        self.max_epochs = max_epochs
        self.optimizer = optimizer
        self.lr = lr
        self.augment = augment
        self.batch_norm = batch_norm
        self.hook = hook
        self.common = common
        self.across_envs = across_envs
        self.validation = validation
        self.fit_head = fit_head
        self.callbacks = callbacks
        self.net_params = net_params
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    # -- learning ----------------------------------------------------------------------

    def _sizes(self) -> ValueSizes:
        divided = self.split == "support-query"
        drawn = self.around_common_ and self.n_shot == "auto"
        n_shot = _SHOTS if drawn else self.n_shot
        return ValueSizes(n_shot, self.n_query, disjoint=divided)

    def _train(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
    ) -> dict[str, int]:
        self._begin(tasks is not None and self.split == "support-query", tasks)
        self.target_center_, self.target_scale_ = 0.0, 1.0
        if self.around_common_:
            self.target_center_ = float(targets.mean())
            self.target_scale_ = float(targets.std()) or 1.0
            return super()._train(rows, self._standard(targets), tasks, envs)
        seeds = super()._train(rows, targets, tasks, envs)
        parts = in_parts(len(rows), _ROWS_PER_PASS)
        self.net_.settle(self.reader_(rows[part]) for part in parts)
        return seeds

    def _check_support_targets(self, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        return check_values(self, y, rows, least=1 if self.around_common_ else 2)

    def _standard(self, targets: NDArray[Any]) -> NDArray[Any]:
        """Return targets in the units of training."""
        return (targets - self.target_center_) / self.target_scale_

    def _in_units(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return predictions of the net in the units of the targets."""
        return self.target_center_ + self.target_scale_ * values

    def _common_head(self) -> LassoHead:
        return LassoHead(LEARN, LEARN, reg_scale="ridge-absolute", refit=True)

    def _n_classes(self, targets: NDArray[Any]) -> int:
        return 0

    def _make_net(
        self,
        backbone: nn.Module,
        hooked: HookedFeatures,
        reader: RowReader,
        rows: NDArray[Any],
        plan: EpisodePlan,
        keywords: dict[str, Any],
    ) -> RegressionNet:
        width = None
        if self.normalize_codes:
            width = n_features_out(backbone, reader.sample_shape)
        return RegressionNet(
            CodeModule(backbone, width, hooked),
            head=self._new_head(),
            **{"head_tol": _HEAD_TOL, **keywords},
        )

    def _solve_training(
        self, rows: NDArray[Any], targets: NDArray[Any], tasks: NDArray[Any] | None
    ) -> None:
        self.task_ = self.training_tasks_ = None
        if self.around_common_:
            self.task_ = CommonTask()
            self._solve_known(rows, self._standard(targets), tasks, None)
            return
        if not self.fit_head:
            return
        features = self._features(rows)
        weights = self._fit_weights
        self.task_ = solve_values(self, features, targets, weights)
        if tasks is not None:
            self.training_tasks_ = solve_training_tasks(
                self.net_, self._new_head(), features, targets, tasks, weights
            )

    def _solve(self, rows: NDArray[Any], targets: NDArray[Any]) -> HeadTask:
        if self.around_common_:
            return self._solve_common(rows, self._standard(targets), None)
        return solve_values(self, self._features(rows), targets, None)

    def _solve_weighted(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        weights: NDArray[np.float64],
    ) -> HeadTask:
        self._check_weighted()
        if self.around_common_:
            wanted = self._standard(targets)
            return self._solve_common(rows, wanted, None, weights=weights)
        return solve_values(self, self._features(rows), targets, weights)

    def _adapted_head(self, head: Any) -> Any:
        return head.as_regressor() if isinstance(head, RidgeHead) else head

    # -- prediction --------------------------------------------------------------------

    def predict(self, X: ArrayLike, *, tasks: ArrayLike | None = None) -> NDArray[Any]:
        """Predict the targets of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Training task of every row, whose head answers; around a common predictor,
            that one answers for tasks that `fit` did not see. None: the head in use,
            of the task last adapted to or of all training rows as one task.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions.

        Raises
        ------
        InvalidInputError
            If `tasks` holds an id that `fit` did not see, without a common predictor,
            or `fit` solved no training tasks.
        """
        refuse_other_index(X=X, tasks=tasks)
        rows = check_known_rows(self, X)
        task = self._task_in_use()
        if tasks is None:
            return task.scores(self, rows)
        if self.around_common_:
            return self._known_scores(rows, tasks, CommonTask())
        if self.training_tasks_ is None:
            raise InvalidInputError(
                f"{type(self).__name__} predicts by task ids after a fit with tasks. "
                "Got tasks after a fit without; leave them out, or fit with tasks=..."
            )
        position = self.training_tasks_.positions(check_given_ids(tasks, rows, "tasks"))
        features = self._features(rows)
        return self.training_tasks_.predict(self.net_, features, position)

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
        targets = check_values(self, targets.ravel(), targets.ravel())
        targets = targets.reshape(support.shape[:2])

        if self.around_common_:
            wanted = self._standard(targets)
            found = self._episode_scores(support, wanted, query, 1, max_memory)
            return self._in_units(found)
        return predict_values(self, support, targets, query, max_memory)

    # -- fitted facts ------------------------------------------------------------------

    @property
    def task_ids_(self) -> NDArray[Any]:
        """Ids of the training tasks."""
        return self._training_tasks().ids

    @property
    def task_coef_(self) -> NDArray[Any]:
        """Weights of the heads of the training tasks."""
        return self._training_tasks().coef

    @property
    def task_intercept_(self) -> NDArray[Any]:
        """Intercepts of the heads of the training tasks."""
        return self._training_tasks().intercept

    @property
    def task_dual_gap_(self) -> NDArray[Any]:
        """Certificates of the heads of the training tasks."""
        return self._training_tasks().dual_gap

    @property
    def task_codes_(self) -> NDArray[Any] | None:
        """Codes that the hook gives the training tasks; None without a hook."""
        return self._training_tasks().codes

    def _training_tasks(self) -> TrainingHeads:
        if self.around_common_:
            raise NotFittedError(
                "Weights of whole tasks are there after a fit with common=None. Got "
                "tasks that deviate from a common predictor; ask known_tasks_ for "
                "them, predict(X, tasks=ids), or deviation_ of the task in use."
            )
        if self.training_tasks_ is None:
            raise NotFittedError(
                "Training tasks are solved by a fit with tasks and fit_head=True. Got "
                "another; pass tasks=... to fit."
            )
        return self.training_tasks_
