"""What all meta-learners share: data, net, training, features."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import cycle, islice
from numbers import Integral, Real
from os import PathLike
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

from ..backbones import (
    build_augmentation,
    build_backbone,
    prepare_backbone,
)
from ..episodes import Episode
from ..exceptions import InvalidInputError
from ..training import (
    FACT_PREFIX,
    BaseEpisodicNet,
    EpisodeHook,
    EpisodeStream,
    HookedFeatures,
    RowReader,
    TaskProgress,
    TrainingCheckpoint,
    hooked_features,
)
from ..utils import isolated_torch_rng, named_seeds, release_pages
from ._checks import DataChecksMixin, check_finite_rows, check_scale
from ._episode_plan import EpisodePlan
from ._training import OPTIMIZERS, best_weights, checkpoint_of, copied_callbacks, train

_ROWS_PER_PASS = 256
_ROWS_PER_BLOCK = 4


class BaseMetaLearner(
    DataChecksMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    ABC,
):
    """A backbone trained on episodes by a skorch net that is held, not inherited."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, callable, torch.nn.Module],
        "backbone_params": [dict, None],
        "freeze_backbone": ["boolean"],
        "input_shape": [tuple, list, None],
        "tasks_per_batch": [Interval(Integral, 1, None, closed="left")],
        "batches_per_epoch": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "augment": [str, callable, list, tuple, None],
        "batch_norm": [StrOptions({"running", "episode"})],
        "micro_batch": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "hook": [EpisodeHook, None],
        "across_envs": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "validation_episodes": [Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "callbacks": [list, None],
        "checkpoint_path": [str, PathLike, None],
        "warm_start": ["boolean"],
        "net_params": [dict, None],
        "device": [str, torch.device],
        "precision": [StrOptions({"float32", "bfloat16", "float16"})],
        "compile": ["boolean", dict],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    # What `fit` forgets of the fit before, beside what it sets anew.
    _of_a_task: ClassVar[tuple[str, ...]] = ()
    # What tells the best epoch, and whether less is better.
    _monitor: ClassVar[tuple[str, bool]] = ("valid_loss", True)

    # -- learning ----------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        tasks: ArrayLike | None = None,
        envs: ArrayLike | None = None,
    ) -> Self:
        """Learn from many tasks, then solve the training task itself.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows: tables (n_samples, n_features), images, or any arrays.
        y : array-like of shape (n_samples,)
            Class labels of a classifier, real targets of a regressor.
        tasks : array-like of shape (n_samples,), default=None
            Task id of every row: each task is a problem of its own. None: a
            classifier draws N-way problems from the classes of y, a regressor
            takes all rows for one task.
        envs : array-like of shape (n_samples,), default=None
            Environment ids, used with ``across_envs=True`` and where the class says
            so; checked in any case, so that all learners are called alike.

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
            If classes or tasks are too few or too small for the episodes.
        """
        rows = self._check_rows(X)
        targets = self._check_targets(y, rows)
        tasks = self._check_ids(tasks, rows, "tasks")
        envs = self._envs_in_use(self._check_ids(envs, rows, "envs"))
        fitted = copy.copy(self)  # a failure leaves self as it was
        for name in self._of_a_task:
            fitted.__dict__.pop(name, None)
        validate_data(fitted, X, skip_check_array=True)
        fitted._learn(rows, targets, tasks, envs)
        self.__dict__ = fitted.__dict__
        return self

    def adapt(self, X: ArrayLike, y: ArrayLike) -> Self:
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

        Returns
        -------
        self : object
            Itself, now speaking of the new task.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            For invalid rows or targets; the learner stays as it was.
        """
        rows = self._check_known_rows(X)
        self._adapt(rows, self._check_targets(y, rows))
        return self

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
        """Targets of checked rows."""

    @abstractmethod
    def _plan(
        self,
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        seeds: dict[str, int],
        envs: NDArray[Any] | None = None,
    ) -> EpisodePlan:
        """Which episodes to train and to validate on."""

    @abstractmethod
    def _make_net(
        self,
        backbone: torch.nn.Module,
        reader: RowReader,
        plan: EpisodePlan,
        arguments: dict[str, Any],
        hooked: HookedFeatures,
    ) -> BaseEpisodicNet:
        """The net around a backbone, not initialised."""

    def _prepare_backbone(
        self, backbone: torch.nn.Module, X: NDArray[Any], reader: RowReader
    ) -> None:
        """What has to be known of the data before training; nothing here."""

    @abstractmethod
    def _learn(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
    ) -> None:
        """Everything of `fit` on checked data."""

    @abstractmethod
    def _adapt(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        """Everything of `adapt` on checked data."""

    # -- net ---------------------------------------------------------------------------

    def _seeds(self) -> dict[str, int]:
        return named_seeds(
            self.random_state,
            "episodes",
            "validation",
            "held-out",
            "weights",
            "training",
            "augmentation",
            "head",
            "hook",
            "calibration",
        )

    def _train(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
    ) -> None:
        """Train the net on the episodes of the data; sets what training decides."""
        seeds = self._seeds()
        checkpoint = checkpoint_of(self, rows, targets, tasks, envs)
        if checkpoint is not None:
            seeds = checkpoint.open(seeds)
        plan = self._plan(targets, tasks, seeds, envs)
        self.net_, self.reader_ = self._train_net(rows, plan, seeds, checkpoint)
        self.n_features_out_ = self._features(rows[:2]).shape[1]
        self.history_ = history_of(self.net_)
        self.n_iter_ = len(self.history_)
        self._calibrate(rows, targets, tasks, envs, seeds)

    def _calibrate(
        self,
        rows: NDArray[Any],
        targets: NDArray[Any],
        tasks: NDArray[Any] | None,
        envs: NDArray[Any] | None,
        seeds: dict[str, int],
    ) -> None:
        """What has to be known of the trained net; nothing here."""

    def _train_net(
        self,
        X: NDArray[Any],
        plan: EpisodePlan,
        seeds: dict[str, int],
        checkpoint: TrainingCheckpoint | None,
    ) -> tuple[BaseEpisodicNet, RowReader]:
        """Build the net on the data at hand and train it."""
        if self.backbone != "identity":
            check_scale(X)
        reader = RowReader(X.shape[1:], self.input_shape, self.device)
        with isolated_torch_rng(seeds["weights"]):
            backbone = build_backbone(
                self.backbone, reader.sample_shape, params=self.backbone_params
            )
        if self.freeze_backbone:
            backbone.requires_grad_(False)
        self._prepare_backbone(backbone, X, reader)
        backbone = prepare_backbone(
            backbone,
            self.precision,
            self.compile,
            self.device,
            has_hook=self.hook is not None,
        )
        hooked = hooked_features(
            self.hook, backbone, reader.sample_shape, seeds["hook"]
        )
        arguments = self._net_arguments(plan.valid is not None)
        with isolated_torch_rng(seeds["head"]):
            net = self._make_net(backbone, reader, plan, arguments, hooked)
        with isolated_torch_rng(seeds["training"]):
            streams = self._streams(X, reader, plan, seeds)
            train(self, net, streams, checkpoint)
        return net, reader

    def _net_arguments(self, validated: bool) -> dict[str, Any]:
        callbacks = copied_callbacks(self.callbacks)
        if validated:
            # Without early stopping the best weights are still restored.
            patient = self.n_iter_no_change if self.early_stopping else self.max_epochs
            monitor, lower_is_better = self._monitor
            callbacks.append(
                best_weights(monitor, patient, lower_is_better=lower_is_better)
            )
        if self.verbose:
            callbacks.append(("progress", TaskProgress(self.batches_per_epoch)))
        return {
            "optimizer": OPTIMIZERS.get(self.optimizer, self.optimizer),
            "lr": self.lr,
            "max_epochs": self.max_epochs,
            "callbacks": callbacks,
            "device": self.device,
            "verbose": 0,
            "train_split": None,
            **(self.net_params or {}),
        }

    def _streams(
        self,
        X: NDArray[Any],
        reader: RowReader,
        plan: EpisodePlan,
        seeds: dict[str, int],
    ) -> tuple[EpisodeStream, EpisodeStream | None]:
        train = EpisodeStream(
            X,
            reader,
            plan.train,
            self.batches_per_epoch,
            self.tasks_per_batch,
            augment=build_augmentation(self.augment),
            seed=seeds["augmentation"],
        )
        if plan.valid is None:
            return train, None
        # The same episodes after every epoch, so that epochs can be compared.
        episodes = cycle(plan.valid(self.validation_episodes))

        def replay(n_episodes: int) -> list[Episode]:
            return list(islice(episodes, n_episodes))

        return train, EpisodeStream(X, reader, replay, self.validation_episodes, 1)

    # -- features ------------------------------------------------------------------

    def _features(self, X: NDArray[Any]) -> NDArray[Any]:
        """Backbone features of checked rows, float64 (n, d)."""
        self.net_._set_training(False)
        with torch.no_grad():
            found = self._in_passes(self._run, X)
        check_finite_rows(found, "features")
        return found

    def _in_passes(
        self, function: Callable[[NDArray[Any]], NDArray[Any]], X: NDArray[Any]
    ) -> NDArray[Any]:
        """Apply a function of rows by parts, where rows do not depend on each other."""
        if self.batch_norm == "episode":
            return function(X)
        parts = []
        for begin in range(0, len(X), _ROWS_PER_PASS):
            rows = X[begin : begin + _ROWS_PER_PASS]
            parts.append(in_blocks(function, rows, _ROWS_PER_BLOCK))
            release_pages(X)
        return np.concatenate(parts)

    def _task_features(self, X: NDArray[Any]) -> NDArray[Any]:
        """Features (n_tasks, n_rows, d) of rows with a leading task axis."""
        # Without validate_data: an array of tasks cannot carry feature names.
        rows = self._check_rows(X.reshape(-1, *X.shape[2:]))
        self.reader_.check(rows)
        if self.batch_norm == "episode":
            return np.stack([self._features(task) for task in rows.reshape(X.shape)])
        return self._features(rows).reshape(*X.shape[:2], -1)

    def _run(self, X: NDArray[Any]) -> NDArray[Any]:
        return self.net_.features(self.reader_(X)).double().cpu().numpy()

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Features of the backbone.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Features, in float64 as the heads take them.
        """
        return self._features(self._check_known_rows(X))

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")


def in_blocks(
    function: Callable[[NDArray[Any]], NDArray[Any]], rows: NDArray[Any], size: int
) -> NDArray[Any]:
    """Apply a function of rows to whole blocks of `size` rows.

    A product with one row takes another path through the processor than one with
    many. Filled up with copies of a row, the last digits of a result, and the
    class where two are tied, do not depend on which rows come together.
    """
    missing = -len(rows) % size
    if missing == 0:
        return function(rows)
    filled = np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)])
    return function(filled)[: len(rows)]


def history_of(net: BaseEpisodicNet) -> list[dict[str, Any]]:
    """One record per finished epoch."""
    keys = ("epoch", "train_loss", "valid_loss", "valid_accuracy", "dur")
    return [
        {key: row[key] for key in keys if key in row} | _facts_of(row["batches"])
        for row in net.history
        if "train_loss" in row
    ]


def _facts_of(batches: list[dict[str, Any]]) -> dict[str, float]:
    """What the hook told of the steps of an epoch, on average."""
    names = {key for batch in batches for key in batch if key.startswith(FACT_PREFIX)}
    return {
        name.removeprefix(FACT_PREFIX): float(
            np.mean([batch[name] for batch in batches if name in batch])
        )
        for name in sorted(names)
    }
