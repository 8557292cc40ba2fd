"""Base class of the MetaCRL classifier and regressor."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ...exceptions import InvalidInputError
from ...training import Training
from ...utils import named_seeds
from .._adapt_tasks import adapt_tasks
from .._nested import Makers, all_or_nothing, fill_in
from ._factors import FactorHook

_WEIGHT = [Interval(Real, 0, None, closed="left")]
_RATE = [Interval(Real, 0, None, closed="neither")]
_COUNT = Interval(Integral, 1, None, closed="left")


class BaseMetaCRL(
    MetaEstimatorMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    ABC,
):
    """A learner of episodes with a `FactorHook` between its backbone and head."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "adapt", "predict_episodes"]), None],
        "n_factors": [_COUNT, None],
        "lambda_orth": _WEIGHT,
        "lambda_group": _WEIGHT,
        "lambda_inv": _WEIGHT,
        "lambda_swap": _WEIGHT,
        "causal_every": [_COUNT, None],
        "xi_lr": [*_RATE, StrOptions({"auto", "public"})],
        "group_lr": [*_RATE, StrOptions({"auto", "public"})],
        "level2_every": [_COUNT, None],
        "group_hidden": [_COUNT],
        "task_embedding": [StrOptions({"labels", "mean"})],
        "across_envs": ["boolean"],
        "verbose": ["verbose", None],
        "random_state": ["random_state"],
    }

    estimator_: Any

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_factors: int | None = None,
        lambda_orth: float = 1.0,
        lambda_group: float = 0.1,
        lambda_inv: float = 1.0,
        lambda_swap: float = 1.0,
        causal_every: int | None = 4,
        xi_lr: float | str = "auto",
        group_lr: float | str = "auto",
        level2_every: int | None = 1,
        group_hidden: int = 32,
        task_embedding: str = "labels",
        across_envs: bool = True,
        verbose: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_factors = n_factors
        self.lambda_orth = lambda_orth
        self.lambda_group = lambda_group
        self.lambda_inv = lambda_inv
        self.lambda_swap = lambda_swap
        self.causal_every = causal_every
        self.xi_lr = xi_lr
        self.group_lr = group_lr
        self.level2_every = level2_every
        self.group_hidden = group_hidden
        self.task_embedding = task_embedding
        self.across_envs = across_envs
        self.verbose = verbose
        self.random_state = random_state

    @staticmethod
    @abstractmethod
    def _default_estimator() -> Any:
        """Return the learner that `estimator=None` stands for."""

    @staticmethod
    @abstractmethod
    def _fits_kind(estimator: Any) -> bool:
        """Tell whether a learner predicts what this class predicts."""

    @abstractmethod
    def _encode(self, targets: NDArray[Any]) -> tuple[NDArray[Any], int]:
        """Encode support targets for a hook; return them and the number of classes."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``estimator__name=value`` fills in the default learner.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : object
            Itself.
        """
        filled = fill_in(self, params, self._parts)
        with all_or_nothing(self):
            super().set_params(**filled)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @property
    def _parts(self) -> Makers:
        return {"estimator": lambda _: self._default_estimator()}

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
        """Train the wrapped learner with factors and weights of tasks.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows, as the wrapped learner takes them.
        y : array-like of shape (n_samples,)
            Their labels or real targets.
        tasks : array-like of shape (n_samples,), default=None
            Task id of every row, as the wrapped learner takes them.
        envs : array-like of shape (n_samples,), default=None
            Environment of every row. Support and query of an episode then come from
            different ones (`across_envs`), which is where the second level sees
            what is invariant.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as the wrapped learner takes them.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        ValueError
            For invalid rows, targets or parameters, before any training. A learner
            that was fitted before stays as it was.
        """
        learner = self._new_learner(envs is not None)
        warm_start = Training.of(learner.net_params).warm_start
        if warm_start and "estimator_" in vars(self):
            learner.net_ = self.estimator_.net_
        weighed = {} if sample_weight is None else {"sample_weight": sample_weight}
        learner.fit(X, y, tasks=tasks, envs=envs, **weighed)
        self.estimator_ = learner
        return self

    def _new_learner(self, has_envs: bool) -> Any:
        given = self._default_estimator() if self.estimator is None else self.estimator
        learner = clone(given)
        accepted = learner.get_params(deep=False)
        missing = {"hook", "across_envs"} - accepted.keys()
        if missing or not self._fits_kind(learner):
            raise InvalidInputError(
                f"The 'estimator' parameter of {type(self).__name__} must be a learner "
                "of episodes of the same kind that takes a hook, such as "
                f"{type(self._default_estimator()).__name__}. Got "
                f"{type(learner).__name__}."
            )
        if learner.hook is not None:
            raise InvalidInputError(
                f"{type(self).__name__} sets the hook of the learner that it wraps. "
                f"Got one with hook={type(learner.hook).__name__}; remove it, or use "
                "that learner without the wrapper."
            )
        params: dict[str, Any] = {"hook": self._new_hook()}
        if has_envs and self.across_envs:
            params["across_envs"] = True
        if self.verbose is not None:
            params["verbose"] = self.verbose
        if self.random_state is not None:
            seed = named_seeds(self.random_state, "learner")["learner"]
            params["random_state"] = seed
        return learner.set_params(**params)

    def _new_hook(self) -> FactorHook:
        return FactorHook(
            self.n_factors,
            lambda_orth=self.lambda_orth,
            lambda_group=self.lambda_group,
            lambda_inv=self.lambda_inv,
            lambda_swap=self.lambda_swap,
            causal_every=self.causal_every,
            xi_lr=self.xi_lr,
            group_lr=self.group_lr,
            level2_every=self.level2_every,
            group_hidden=self.group_hidden,
            task_embedding=self.task_embedding,
        )

    def adapt(
        self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Solve a new task from its support rows; what `fit` learned stays as it is.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Support rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,)
            Their targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Refused by the wrapped learner, since the hook reads all rows alike.

        Returns
        -------
        self : object
            Itself, now speaking of the new task.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            For invalid rows or targets, or for weights; the learner stays as it was.
        """
        check_is_fitted(self)
        # A copy, so that copies of this object stay independent of each other.
        weighed = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.estimator_ = copy.copy(self.estimator_).adapt(X, y, **weighed)
        return self

    adapt_tasks = adapt_tasks

    @property
    def _task_learner(self) -> Any:
        """The learner that solves tasks."""
        return self._fitted()

    def _around_task(self, adapted: Any) -> Self:
        """Return a copy of itself around an adapted learner."""
        found = copy.copy(self)
        found.estimator_ = adapted
        return found

    # -- prediction --------------------------------------------------------------------

    def _answer(self, method: str, X: ArrayLike, tasks: ArrayLike | None) -> Any:
        """Return what the wrapped learner answers, by training tasks if given."""
        check_is_fitted(self)
        ask = getattr(self.estimator_, method)
        if tasks is None:
            return ask(X)
        if "tasks" not in inspect.signature(ask).parameters:
            raise InvalidInputError(
                "Predictions by task ids need a wrapped learner that keeps a head per "
                f"training task. Got {type(self.estimator_).__name__}; use adapt, or "
                f"wrap {type(self._default_estimator()).__name__}."
            )
        return ask(X, tasks=tasks)

    def predict_episodes(
        self,
        X_support: ArrayLike,
        y_support: ArrayLike,
        X_query: ArrayLike,
        *,
        max_memory: int | None = None,
    ) -> NDArray[Any]:
        """Solve and predict many tasks in one call.

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
            Labels or values of the query rows.
        """
        check_is_fitted(self)
        return self.estimator_.predict_episodes(
            X_support, y_support, X_query, max_memory=max_memory
        )

    def _can_stage(self) -> bool:
        wrapped = getattr(self, "estimator_", self.estimator)
        return hasattr(wrapped, "staged_predict_episodes")

    @available_if(_can_stage)
    def staged_predict_episodes(
        self, X_support: ArrayLike, y_support: ArrayLike, X_query: ArrayLike
    ) -> NDArray[Any]:
        """Predict before and after every inner step, if the wrapped learner has such.

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
            Labels or values of the query rows.
        """
        check_is_fitted(self)
        return self.estimator_.staged_predict_episodes(X_support, y_support, X_query)

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the factors ``Xi'z`` of rows, before the weights of any task.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_factors)
        """
        check_is_fitted(self)
        return self.estimator_.transform(X) @ self.factors_

    def task_weights(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[Any]:
        """Return the weights m_t of the factors for a task.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Support rows of the task.
        y : array-like of shape (n_samples,), default=None
            Their targets, needed with ``task_embedding="labels"``.

        Returns
        -------
        ndarray of shape (n_factors,)
            In (0, 1], the largest is 1.

        Raises
        ------
        InvalidInputError
            Without y where it is needed.
        """
        check_is_fitted(self)
        features = self.estimator_.transform(X)
        if y is not None:
            targets = column_or_1d(y)
            check_consistent_length(features, targets)
            encoded, n_way = self._encode(targets)
        elif self._hook.task_embedding == "mean":
            encoded, n_way = np.zeros(len(features)), 0
        else:
            raise InvalidInputError(
                "task_embedding='labels' weighs the factors by the targets of the "
                "support rows. Got y=None; pass y, or fit with task_embedding='mean'."
            )
        hook = self._hook
        device, kind = hook.xi.device, torch.int64 if n_way else torch.float32
        hook.eval()
        with torch.no_grad():
            weights = hook.task_code(
                torch.as_tensor(features[None], dtype=torch.float32, device=device),
                torch.as_tensor(encoded[None], dtype=kind, device=device),
                n_way,
            )
        return weights[0].double().cpu().numpy()

    # -- fitted facts ------------------------------------------------------------------

    @property
    def _hook(self) -> FactorHook:
        return self.estimator_.net_.module_.hooked.hook

    @property
    def factors_(self) -> NDArray[Any]:
        """The matrix Xi."""
        check_is_fitted(self)
        return self._hook.xi.detach().double().cpu().numpy()

    @property
    def n_features_in_(self) -> int:
        """Length of the second axis of X."""
        return self._fitted().n_features_in_

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the columns of X, where it had such."""
        return self._fitted().feature_names_in_

    def _fitted(self) -> Any:
        check_is_fitted(self)
        return self.estimator_

    @property
    def history_(self) -> list[dict[str, Any]]:
        """Losses and every term of the second level, by epoch."""
        return self.estimator_.history_

    @property
    def n_iter_(self) -> int:
        """Epochs trained."""
        return self.estimator_.n_iter_

    @property
    def _n_features_out(self) -> int:
        return self.factors_.shape[1]
