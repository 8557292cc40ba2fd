"""What all meta-learners share: data, net, features."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import cycle, islice
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.callbacks import EarlyStopping

from ..episodes import Episode
from ..exceptions import InvalidInputError
from ..nets import (
    EpisodeStream,
    EpisodicModule,
    EpisodicNet,
    RowReader,
    TaskProgress,
    build_augmentation,
    build_backbone,
)
from ..utils import isolated_torch_rng, named_seeds
from ._plan import EpisodePlan

_OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
_ROWS_PER_PASS = 256
_ROWS_PER_BLOCK = 4


class BaseMetaLearner(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC
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
        "optimizer": [StrOptions(set(_OPTIMIZERS)), callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "augment": [str, callable, list, tuple, None],
        "batch_norm": [StrOptions({"running", "episode"})],
        "micro_batch": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "center": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "validation_classes": ["array-like", None],
        "validation_episodes": [Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "callbacks": [list, None],
        "net_params": [dict, None],
        "device": [str, torch.device],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    @abstractmethod
    def adapt(self, X: ArrayLike, y: ArrayLike) -> Any:
        """Solve a new task from its support rows and return self."""

    # -- data -------------------------------------------------------------------------

    def _check_rows(self, X: ArrayLike) -> NDArray[Any]:
        """Numeric, finite rows; matrices or arrays with more axes."""
        rows: NDArray[Any] = check_array(
            X, allow_nd=True, ensure_min_features=1, estimator=self, input_name="X"
        )
        return rows

    def _check_known_rows(self, X: ArrayLike) -> NDArray[Any]:
        """Rows of the kind seen in fit."""
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False, allow_nd=True)
        self.reader_.check(rows)
        return rows

    def _check_ids(
        self, ids: ArrayLike | None, X: NDArray[Any], name: str
    ) -> NDArray[Any] | None:
        if ids is None:
            return None
        values: NDArray[Any] = column_or_1d(ids)
        check_consistent_length(X, values)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InvalidInputError(f"{name} must not hold NaN. Drop or fill the rows.")
        check_sortable(values, name)
        return values

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
        )

    def _train_net(
        self,
        X: NDArray[Any],
        plan: EpisodePlan,
        head: Any,
        seeds: dict[str, int],
        *,
        logit_scale: float,
        head_tol: float,
    ) -> tuple[EpisodicNet, RowReader]:
        """Build the net on the data at hand and train it."""
        reader = RowReader(X.shape[1:], self.input_shape, self.device)
        with isolated_torch_rng(seeds["weights"]):
            backbone = build_backbone(
                self.backbone, reader.sample_shape, params=self.backbone_params
            )
        if self.freeze_backbone:
            backbone.requires_grad_(False)
        net = EpisodicNet(
            EpisodicModule(backbone, logit_scale),
            head=head,
            head_tol=head_tol,
            batch_norm=self.batch_norm,
            micro_batch=self.micro_batch,
            center=self.center,
            frozen=self.freeze_backbone,
            **self._net_arguments(plan.valid is not None),
        )
        with isolated_torch_rng(seeds["training"]):
            net.fit(self._streams(X, reader, plan, seeds))
        return net, reader

    def _net_arguments(self, validated: bool) -> dict[str, Any]:
        # Copies: skorch changes callbacks, parameters must stay as given.
        callbacks = copy.deepcopy(list(self.callbacks or []))
        if validated:
            # Without early stopping the best weights are still restored.
            patient = self.n_iter_no_change if self.early_stopping else self.max_epochs
            best_weights = EarlyStopping(
                monitor="valid_accuracy",
                lower_is_better=False,
                patience=patient,
                threshold=0.0,
                load_best=True,
                sink=_silent,
            )
            callbacks.append(("best_weights", best_weights))
        if self.verbose:
            callbacks.append(("progress", TaskProgress(self.batches_per_epoch)))
        return {
            "optimizer": _OPTIMIZERS.get(self.optimizer, self.optimizer),
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
            if self.batch_norm == "episode":
                return self._run(X)
            parts = [
                in_blocks(self._run, X[begin : begin + _ROWS_PER_PASS], _ROWS_PER_BLOCK)
                for begin in range(0, len(X), _ROWS_PER_PASS)
            ]
        return np.concatenate(parts)

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


def check_sortable(labels: NDArray[Any], name: str) -> None:
    """Refuse labels of mixed types, missing ones among strings included."""
    try:
        np.unique(labels)
    except TypeError as error:
        raise InvalidInputError(
            f"{name} must hold values of one type, none of them missing. Got a mix "
            "that cannot be sorted; drop the rows without a value and convert the "
            "rest to one type."
        ) from error


def _silent(*args: Any) -> None:
    """Sink of messages."""


def history_of(net: EpisodicNet) -> list[dict[str, Any]]:
    """One record per finished epoch."""
    keys = ("epoch", "train_loss", "valid_loss", "valid_accuracy", "dur")
    return [
        {key: row[key] for key in keys if key in row}
        for row in net.history
        if "train_loss" in row
    ]
