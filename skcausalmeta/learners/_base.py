"""Base class of all meta-learners: data, net, training, features."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from ..backbones import Backbone, named_augmentation, named_backbone
from ..exceptions import InvalidInputError, NotFittedError
from ..training import (
    HOOK_SEED,
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    BaseEpisodicNet,
    HookedFeatures,
    RowReader,
    Training,
    Validation,
    fitting,
    named_optimizer,
)
from ..utils import (
    isolated_torch_rng,
    named_seeds,
    refuse_other_index,
    warn_of_look_alikes,
)
from ._adapt_tasks import adapt_tasks
from ._checks import (
    check_device,
    check_ids,
    check_known_rows,
    check_rows,
    check_task_rows,
)
from ._episode_plan import EpisodePlan
from ._nested import Makers, NestedParametersMixin
from ._row_weights import check_row_weights, refuse_weights, rows_with_weight
from ._solved_task import SolvedTask
from ._state_block import pack_states
from ._task_blocks import TaskBlock, solve_singly
from ._task_rows import TaskRows
from ._training import (
    FitStage,
    adopt,
    build_module,
    check_keywords,
    checkpoint_of,
    episode_keywords,
    episode_streams,
    history_of,
    reader_for,
    train,
)

# Support rows: a number, a range, or as the data say.
N_SHOT_CONSTRAINT = [
    StrOptions({"auto"}),
    Interval(Integral, 1, None, closed="left"),
    tuple,
    list,
]


class BaseMetaLearner(
    NestedParametersMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    ABC,
):
    """A backbone trained on episodes by a skorch net that is held, not inherited.

    A subclass says which targets it takes (`_check_targets`), which episodes it
    trains on (`_plan`), the net around the backbone (`_make_net`), how a task is
    solved (`_solve`) and what answers after `fit` (`_solve_training`).
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, Backbone, callable, torch.nn.Module],
        "input_shape": [tuple, list, None],
        "tasks_per_batch": [Interval(Integral, 1, None, closed="left")],
        "batches_per_epoch": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), Adam, AdamW, SGD, callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "augment": [str, callable, list, tuple, None],
        "batch_norm": [StrOptions({"running", "episode"})],
        "across_envs": ["boolean"],
        "validation": [
            Interval(Real, 0, 1, closed="neither"),
            Validation,
            "array-like",
            None,
        ],
        "fit_head": ["boolean"],
        "callbacks": [list, None],
        "net_params": [dict, Training, None],
        "device": [str, torch.device],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    # Defaults of parameters that a learner may not have.
    input_shape: Any = None
    tasks_per_batch: int | str = 4
    batches_per_epoch: int = 20
    optimizer: Any = "adam"
    augment: Any = None
    batch_norm: str = "running"
    across_envs: bool = False
    validation: Any = None
    fit_head: bool = True
    callbacks: Any = None
    net_params: Any = None
    device: Any = "cpu"
    verbose: int = 0
    random_state: Any = None
    # Makers of parts given by name or None, used when a parameter of a part is set.
    _parts: ClassVar[Makers] = {
        "augment": named_augmentation,
        "backbone": named_backbone,
        "optimizer": named_optimizer,
        "validation": lambda given: Validation.of(given) or Validation(),
        "net_params": Training.named,
    }
    # Figure that tells the best epoch, and whether lower is better.
    _monitor: ClassVar[tuple[str, bool]] = ("valid_loss", True)
    # Name of the net, and constraints of its own keywords.
    _net_keywords: ClassVar[tuple[str, dict[str, list[Any]]]]

    net_: Any
    reader_: RowReader
    task_: SolvedTask | None
    # Weights of the rows while `fit` runs, > 0; None: all weigh the same.
    _fit_weights: NDArray[np.float64] | None = None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # -- learning ----------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        tasks: ArrayLike | None = None,
        envs: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Learn from many tasks, then solve the training task itself.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows: tables (n_samples, n_features), sparse ones too, images, or any
            arrays.
        y : array-like of shape (n_samples,)
            Class labels of a classifier, real targets of a regressor.
        tasks : array-like of shape (n_samples,), default=None
            Task id of every row: each task is a problem of its own. None: a
            classifier draws N-way problems from the classes of y, a regressor
            takes all rows for one task.
        envs : array-like of shape (n_samples,), default=None
            Environment ids, used with ``across_envs=True`` and where the class says
            so; checked in any case, so that all learners are called alike.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, >= 0. Of a class (a task of real targets), episodes
            draw rows of greater weight more often, for support and query alike, about
            as if they were repeated; rows of weight 0 are not there. The solution
            of the training task at the end weighs its rows by them. None: 1.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        ValueError
            For invalid rows, targets or parameters, before any training. A learner
            that was fitted before stays as it was.
        EpisodeError
            If no classes or tasks are enough and large enough for the episodes.

        Warns
        -----
        UserWarning
            If some classes or tasks are too small and left out of the episodes.
        InterruptedFitWarning
            If `KeyboardInterrupt` ends the epochs early; the weights so far, or the
            best ones of a validation, are kept. Before or after the epochs the
            interruption goes on, and a learner that was fitted before stays as it was.
        """
        refuse_other_index(
            X=X, y=y, tasks=tasks, envs=envs, sample_weight=sample_weight
        )
        warn_of_look_alikes(y=y, tasks=tasks, envs=envs)
        check_device(self.device)
        rows = check_rows(self, X)
        targets = self._check_targets(y, rows)
        task_ids = check_ids(tasks, rows, "tasks")
        env_ids = check_ids(envs, rows, "envs")
        weights = check_row_weights(self, sample_weight, rows)
        fitted = copy.copy(self)  # a failure leaves self as it was
        validate_data(fitted, X, skip_check_array=True)
        if weights is not None:
            kept = rows_with_weight(weights, rows)
            if kept is not None:
                rows, targets, weights = rows[kept], targets[kept], weights[kept]
                task_ids = None if task_ids is None else task_ids[kept]
                env_ids = None if env_ids is None else env_ids[kept]
                targets = self._check_targets(targets, rows)
            fitted._fit_weights = weights
        with fitting(self):
            fitted._train(rows, targets, task_ids, fitted._envs_in_use(env_ids))
            fitted._solve_training(rows, targets, task_ids)
            fitted._complete_training(rows, targets)
        fitted.__dict__.pop("_fit_weights", None)
        adopt(self, fitted)
        return self

    def adapt(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Solve a new task from its support rows; what `fit` learned stays as it is.

        Attributes are rebound, never changed in place, so
        ``copy.copy(learner).adapt(X, y)`` is a predictor of its own that shares
        the backbone.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Support rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,)
            Their labels, at least two classes, or their real targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, >= 0, as of repeated rows, where the learner solves a
            head that takes them. None: 1.

        Returns
        -------
        self : object
            Itself, now speaking of the new task.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            For invalid rows, targets or weights, or weights that the learner cannot
            honour; the learner stays as it was.
        """
        refuse_other_index(X=X, y=y, sample_weight=sample_weight)
        rows = check_known_rows(self, X)
        targets = self._check_support_targets(y, rows)
        if sample_weight is None:
            self.task_ = self._solve(rows, targets)
        else:
            weights = self._adapt_weights(sample_weight, rows)
            kept = np.flatnonzero(weights)
            rows, targets, weights = rows[kept], targets[kept], weights[kept]
            targets = self._check_support_targets(targets, rows)
            self.task_ = self._solve_weighted(rows, targets, weights)
        return self

    adapt_tasks = adapt_tasks

    def _solve_many(self, tasks: TaskRows) -> tuple[list[TaskBlock], dict[Any, str]]:
        """Solve tasks whose rows and targets are in order."""
        return solve_singly(self, tasks, self._pack_tasks)

    def _pack_tasks(self, tasks: TaskRows, copies: list[Any]) -> list[TaskBlock]:
        """Return blocks of copies that speak of a task each."""
        return pack_states(tasks, copies)

    def _task_without_labels(self) -> SolvedTask | None:
        """Return what answers for a task without labels; None: nothing does."""
        return None

    def _check_support_targets(self, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        """Check the targets of the support rows of a task and return them."""
        return self._check_targets(y, rows)

    def _adapt_weights(
        self, sample_weight: ArrayLike, rows: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return the weights of checked support rows."""
        weights = check_row_weights(self, sample_weight, rows)
        if weights is None:
            return np.ones(len(rows))
        return weights

    def _envs_in_use(self, envs: NDArray[Any] | None) -> NDArray[Any] | None:
        if not self.across_envs:
            return None
        if envs is None:
            raise InvalidInputError(
                "across_envs=True draws support and query from different environments. "
                "Got envs=None; pass envs=..., one environment id per row, or use "
                "across_envs=False."
            )
        return envs

    @abstractmethod
    def _check_targets(self, y: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        """Check the targets of checked rows and return them."""

    @abstractmethod
    def _plan(
        self,
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
        validation: Validation | None,
        seeds: dict[str, int],
    ) -> EpisodePlan:
        """Return the plan of the episodes to train and to validate on."""

    @abstractmethod
    def _make_net(
        self,
        backbone: torch.nn.Module,
        hooked: HookedFeatures,
        reader: RowReader,
        rows: NDArray[Any],
        plan: EpisodePlan,
        keywords: dict[str, Any],
    ) -> BaseEpisodicNet:
        """Return the net around a backbone, not initialised."""

    @abstractmethod
    def _solve(self, rows: NDArray[Any], targets: NDArray[Any]) -> SolvedTask:
        """Solve a task on checked rows."""

    def _solve_weighted(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        weights: NDArray[np.float64],
    ) -> SolvedTask:
        """Solve a task on checked rows of positive weights; here they are refused."""
        refuse_weights(self, "in adapt", "repeat rows instead")

    @abstractmethod
    def _solve_training(
        self, rows: NDArray[Any], targets: NDArray[Any], tasks: NDArray[Any] | None
    ) -> None:
        """Set `task_` to the task that answers after `fit`, or to None."""

    def _complete_training(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        """Add to the task that answers after `fit` what a kind of learner needs."""

    def _train(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
    ) -> dict[str, int]:
        """Train the net on the episodes of the data; return the seeds of this fit."""
        settings = Training.of(self.net_params)
        check_keywords(self._net_keywords[0], settings.keywords, self._net_keywords[1])
        validation = Validation.of(self.validation)
        seeds = named_seeds(
            self.random_state,
            "episodes",
            "validation",
            "held-out",
            "weights",
            "training",
            "augmentation",
            "head",
            HOOK_SEED,
            "calibration",
            "common",
        )
        given = self._fit_weights
        weights: tuple[NDArray[Any], ...] = () if given is None else (given,)
        checkpoint = checkpoint_of(self, settings, rows, targets, tasks, envs, *weights)
        if checkpoint is not None:
            seeds = checkpoint.open(seeds)
        plan = self._plan(targets, tasks, envs, validation, seeds)
        if plan.note is not None:
            warnings.warn(plan.note, UserWarning, stacklevel=2)
        reader = reader_for(self, rows)
        backbone, hooked = build_module(self, rows, reader, settings, seeds)
        stage = FitStage(
            rows, targets, tasks, envs, reader, settings, validation, seeds, checkpoint
        )
        net = self._train_net(stage, plan, backbone, hooked)
        self.net_, self.reader_ = net, reader
        self.n_features_out_ = self._features(rows[:2]).shape[1]
        self.history_ = history_of(net)
        self.n_iter_ = len(self.history_)
        return seeds

    def _backbone(self, reader: RowReader) -> Any:
        """Return the backbone to build for the samples of a reader."""
        return self.backbone

    def _train_net(
        self,
        stage: FitStage,
        plan: EpisodePlan,
        backbone: torch.nn.Module,
        hooked: HookedFeatures,
    ) -> BaseEpisodicNet:
        """Return the trained net around a backbone."""
        keywords = episode_keywords(self, stage.settings, stage.validation)
        with isolated_torch_rng(stage.seeds["head"]):
            net = self._make_net(
                backbone, hooked, stage.reader, stage.rows, plan, keywords
            )
        self._run(net, stage, plan)
        return net

    def _run(
        self,
        net: BaseEpisodicNet,
        stage: FitStage,
        plan: EpisodePlan,
        scores: NDArray[Any] | None = None,
    ) -> None:
        """Train a net on the episodes of a plan; `scores` of rows are known."""
        with isolated_torch_rng(stage.seeds["training"]):
            streams = episode_streams(self, stage, plan, scores)
            train(self, net, streams, stage.settings, stage.checkpoint)

    # -- features ------------------------------------------------------------------

    def _features(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the backbone features of checked rows, float64 (n, d)."""
        return self.net_.features_of(self.reader_, X)

    def _task_features(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return features (n_tasks, n_rows, d) of rows with a leading task axis."""
        tasks = check_task_rows(self, X)
        if self.batch_norm == "episode":
            return np.stack([self._features(rows) for rows in tasks])
        rows = tasks.reshape(-1, *tasks.shape[2:])
        return self._features(rows).reshape(*tasks.shape[:2], -1)

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the features of the backbone.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Features, in float64 as the heads take them.
        """
        return self._features(check_known_rows(self, X))

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    # -- the task in use ---------------------------------------------------------------

    def _task_in_use(self) -> SolvedTask:
        if self.task_ is None:
            raise NotFittedError(
                f"This {type(self).__name__} knows no task: it was fitted with "
                "fit_head=False. Call 'adapt' with the support rows of a task first."
            )
        return self.task_
