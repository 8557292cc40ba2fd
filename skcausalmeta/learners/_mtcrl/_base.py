"""Base class of the multi-task learners: parameters, training, predictions."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import (
    Tags,
    _safe_indexing,
    check_consistent_length,
    column_or_1d,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ...exceptions import InvalidInputError, NotFittedError
from ...training import (
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    RowReader,
    Training,
    Validation,
    fitting,
    named_optimizer,
)
from ...utils import refuse_other_index, warn_of_look_alikes
from .._adapt_tasks import adapt_tasks
from .._checks import (
    check_device,
    check_given_ids,
    check_ids,
    check_known_rows,
    check_rows,
    refuse_none,
)
from .._nested import Makers, NestedParametersMixin
from .._row_weights import check_row_weights, rows_with_weight
from .._training import adopt
from ._adapt import predict_episodes, solve_new_task
from ._experts import EXPERTS, ConvExpert, Expert, MLPExpert, named_expert
from ._fit import train_learner
from ._gradients import GRADIENTS
from ._net import MultiTaskNet
from ._new_task import ModuleFeatures, RoutedTask
from ._objective import IRM_FORMS, IRM_SCALES
from ._passes import features_of, input_gradients, outputs_of
from ._routing import ROUTINGS
from ._targets import (
    TargetKind,
    TaskTargets,
    as_targets,
    pixel_weights,
    read_targets,
    to_columns,
)

_WEIGHT = Interval(Real, 0, None, closed="left")
_COUNT = Interval(Integral, 1, None, closed="left")


class Answers(NamedTuple):
    """Outputs of a learner for rows, task by task."""

    kinds: list[TargetKind]
    outputs: list[NDArray[np.float64]]  # (n, n_pixels, n_outputs) of every task
    single: bool  # one task, whose predictions have no task axis


class BaseMultiTask(
    NestedParametersMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    ABC,
):
    """Modules routed to tasks, trained by a skorch net that is held."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "modules": [StrOptions(set(ROUTINGS))],
        "n_modules": [_COUNT],
        "expert": [StrOptions({"auto", *EXPERTS}), MLPExpert, ConvExpert],
        "module_inputs": ["array-like", StrOptions({"each", "correlated"}), None],
        "input_shape": [tuple, list, None],
        "task_types": ["array-like", str, None],
        "task_weights": ["array-like", StrOptions({"equal", "size", "uncertainty"})],
        "lambda_dec": [_WEIGHT],
        "lambda_sps": [_WEIGHT],
        "lambda_bal": [_WEIGHT],
        "lambda_irm": [_WEIGHT],
        "irm_form": [StrOptions(set(IRM_FORMS))],
        "irm_scale": [StrOptions(set(IRM_SCALES))],
        "gradients": [StrOptions(set(GRADIENTS))],
        "adapt_reg": [_WEIGHT],
        "batch_size": [_COUNT],
        "max_epochs": [_COUNT],
        "optimizer": [StrOptions(set(OPTIMIZERS)), Adam, AdamW, SGD, callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "validation": [Interval(Real, 0, 1, closed="neither"), Validation, None],
        "callbacks": [list, None],
        "net_params": [dict, Training, None],
        "device": [str, torch.device],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    # Makers of parts given by name or None, used when a parameter of a part is set.
    _parts: ClassVar[Makers] = {
        "expert": named_expert,
        "optimizer": named_optimizer,
        "validation": lambda given: Validation.of(given) or Validation(),
        "net_params": Training.named,
    }

    net_: MultiTaskNet
    reader_: RowReader
    targets_: TaskTargets
    tasks_: NDArray[Any]
    module_units_: ModuleFeatures
    module_inputs_: NDArray[np.bool_] | None
    task_: RoutedTask | None

    def __init__(
        self,
        modules: str = "mtcrl",
        *,
        n_modules: int = 8,
        expert: str | Expert = "auto",
        module_inputs: ArrayLike | str | None = None,
        input_shape: tuple[int, ...] | None = None,
        task_types: Sequence[str] | str | None = None,
        task_weights: ArrayLike | str = "equal",
        lambda_dec: float = 0.01,
        lambda_sps: float = 0.1,
        lambda_bal: float = 0.1,
        lambda_irm: float = 1.0,
        irm_form: str = "norm",
        irm_scale: str = "relative",
        gradients: str = "sum",
        adapt_reg: float = 0.1,
        batch_size: int = 256,
        max_epochs: int = 40,
        optimizer: Any = "adam",
        lr: float = 5e-3,
        validation: float | Validation | None = None,
        callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | Training | None = None,
        device: str | torch.device = "cpu",
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.modules = modules
        self.n_modules = n_modules
        self.expert = expert
        self.module_inputs = module_inputs
        self.input_shape = input_shape
        self.task_types = task_types
        self.task_weights = task_weights
        self.lambda_dec = lambda_dec
        self.lambda_sps = lambda_sps
        self.lambda_bal = lambda_bal
        self.lambda_irm = lambda_irm
        self.irm_form = irm_form
        self.irm_scale = irm_scale
        self.gradients = gradients
        self.adapt_reg = adapt_reg
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.optimizer = optimizer
        self.lr = lr
        self.validation = validation
        self.callbacks = callbacks
        self.net_params = net_params
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @property
    @abstractmethod
    def _default_type(self) -> str:
        """Type of the tasks without `task_types`."""

    # -- learning ----------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        tasks: ArrayLike | None = None,
        envs: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Learn modules, routing and heads of all tasks together.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows: vectors, or images (height, width) or with channels first or last.
        y : array-like of shape (n_samples,), (n_samples, n_tasks) or \
(n_samples, n_tasks, height, width)
            One column per task, NaN (None among strings) where a label is missing;
            or one column with `tasks`; or targets per pixel.
        tasks : array-like of shape (n_samples,), default=None
            Task id of every row, with one label column.
        envs : array-like of shape (n_samples,), default=None
            Environment id of every row (time, site, user group...). None: random
            folds stand in for environments.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the losses, >= 0; rows of weight 0 are not there.

        Returns
        -------
        estimator
            Itself.

        Raises
        ------
        ValueError
            For invalid rows, targets or parameters, before any training. A learner
            that was fitted before stays as it was.

        Warns
        -----
        InterruptedFitWarning
            If `KeyboardInterrupt` ends the epochs early; the weights so far, or the
            best ones of a validation, are kept. Elsewhere it goes on, and a learner
            that was fitted before stays as it was.
        """
        if y is None:
            refuse_none(self, "label")
        refuse_other_index(
            X=X, y=y, tasks=tasks, envs=envs, sample_weight=sample_weight
        )
        warn_of_look_alikes(y=y, tasks=tasks, envs=envs)
        check_device(self.device)
        rows = check_rows(self, X)
        task_ids = check_ids(tasks, rows, "tasks")
        env_ids = check_ids(envs, rows, "envs")
        weights = check_row_weights(self, sample_weight, rows)
        kept = None if weights is None else rows_with_weight(weights, rows)
        if kept is not None and weights is not None:
            check_consistent_length(rows, y)
            rows, y, weights = rows[kept], _safe_indexing(y, kept), weights[kept]
            task_ids = None if task_ids is None else task_ids[kept]
            env_ids = None if env_ids is None else env_ids[kept]
        types = self._default_type if self.task_types is None else self.task_types
        targets = read_targets(y, len(rows), task_ids, types)
        fitted = copy.copy(self)  # a failure leaves self as it was
        validate_data(fitted, X, skip_check_array=True)
        with fitting(self):
            train_learner(fitted, rows, targets, env_ids, weights)
        fitted.task_ = None
        adopt(self, fitted)
        return self

    # -- new tasks ---------------------------------------------------------------------

    def adapt(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        envs: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Solve a new task from its support rows; what `fit` learned stays as it is.

        The modules are frozen. The new task gets weights of all their features by a
        convex problem: logistic regression for a classifier, least squares of the
        standardised values for a regressor, with a group Lasso that has the modules
        as its groups. It takes the place of the sparsity of the routing in `fit`:
        the task reads few modules, and the certificate `dual_gap_` proves that the
        problem was solved. With `envs` the modules whose gradients differ between
        the environments by more than chance are penalised more, the worst first (a
        rule of ours), so that the task rests on those that serve it everywhere.
        `predict`, `score`, `classes_` and the like then speak of the new task;
        ``predict(X, tasks=...)`` still answers for those of `fit`.

        Attributes are rebound, never changed in place, so
        ``copy.copy(learner).adapt(X, y)`` is a predictor of its own that shares the
        modules.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Support rows of the kind seen in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, height, width)
            Labels of at least two classes, or values; after `fit` on targets per
            pixel the same per pixel, NaN where one is missing.
        envs : array-like of shape (n_samples,), default=None
            Environment id of every row. None, or one environment: all modules are
            penalised alike.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, >= 0, as of repeated rows. None: 1.

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
        refuse_other_index(X=X, y=y, envs=envs)
        rows = check_known_rows(self, X)
        if y is None:
            refuse_none(self, "label" if self._classifies else "real number")
        targets = as_targets(y if self.targets_.pixels else column_or_1d(y, warn=True))
        env_ids = check_ids(envs, rows, "envs")
        weights = check_row_weights(self, sample_weight, rows)
        self.task_ = solve_new_task(self, rows, targets, env_ids, weights)
        return self

    def predict_episodes(
        self,
        X_support: ArrayLike,
        y_support: ArrayLike,
        X_query: ArrayLike,
        *,
        max_memory: int | None = None,
    ) -> NDArray[Any]:
        """Solve and predict many new tasks in one batched call.

        The answers are those of `adapt` and `predict` task by task. The learner
        itself stays as it is.

        Parameters
        ----------
        X_support : array-like of shape (n_tasks, n_support, ...)
            Support rows.
        y_support : array-like of shape (n_tasks, n_support) or \
(n_tasks, n_support, height, width)
            Their labels, at least two classes in every task, or their values.
        X_query : array-like of shape (n_tasks, n_query, ...)
            Query rows.
        max_memory : int, default=None
            Bytes that the work may take beside the arguments and the answer, as
            estimated from the shapes: tasks are then solved in chunks, and stored
            arrays and memory maps are read by chunk. None: a thousand tasks at once.

        Returns
        -------
        ndarray of shape (n_tasks, n_query) or (n_tasks, n_query, height, width)
            Labels or values of the query rows.

        Raises
        ------
        ValueError
            If the shapes do not agree, a task has one class or a missing label, or
            `max_memory` is less than one task takes.
        """
        check_is_fitted(self)
        return predict_episodes(self, X_support, y_support, X_query, max_memory)

    adapt_tasks = adapt_tasks

    @property
    def _classifies(self) -> bool:
        return self._default_type == "classification"

    def _task_in_use(self) -> RoutedTask:
        if self.task_ is None:
            raise NotFittedError(
                f"This {type(self).__name__} speaks of the tasks of 'fit'. Call "
                "'adapt' with the support rows of a new task first."
            )
        return self.task_

    @property
    def dual_gap_(self) -> float:
        """Certificate of the new task: objective minus its lower bound."""
        return self._task_in_use().dual_gap

    @property
    def sparsity_(self) -> float:
        """Share of the modules that the new task leaves out."""
        return self._task_in_use().sparsity

    # -- prediction --------------------------------------------------------------------

    def predict(self, X: ArrayLike, *, tasks: ArrayLike | None = None) -> NDArray[Any]:
        """Predict the labels or values of all tasks.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Task of `fit` of every row; the prediction of that task only.

        Returns
        -------
        ndarray of shape (n_samples,), (n_samples, n_tasks) or \
(n_samples, n_tasks, height, width)
            One column after `fit` on one column, after `adapt`, or with `tasks`; else
            one per task. With targets per pixel, the shape of the pixels is added.
        """
        refuse_other_index(X=X, tasks=tasks)
        rows = check_known_rows(self, X)
        if tasks is not None:
            position = np.searchsorted(self.tasks_, self._known_ids(tasks, rows))
        answers = self._answers(rows, new=tasks is None)
        decoded = [
            kind.decode(outputs)
            for kind, outputs in zip(answers.kinds, answers.outputs, strict=True)
        ]
        stacked = np.stack(decoded, axis=1)  # (n, n_tasks, n_pixels)
        if tasks is not None:
            found = stacked[np.arange(len(rows)), position]
        else:
            found = stacked[:, 0] if answers.single else stacked
        return found.reshape(*found.shape[:-1], *self.targets_.pixels)

    def _known_ids(self, tasks: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        ids = check_given_ids(tasks, rows, "tasks")
        strange = np.setdiff1d(ids, self.tasks_)
        if len(strange):
            raise InvalidInputError(
                f"tasks must hold ids seen in fit, {self.tasks_.tolist()}. Got "
                f"{strange.tolist()[0]!r}."
            )
        return ids

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        tasks: ArrayLike | None = None,
    ) -> float:
        """Return the mean over tasks of accuracy (classification) or R^2 (regression).

        After `adapt`, that of the new task.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        y : array-like
            Targets in the layout of `fit`; missing labels are left out.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        tasks : array-like of shape (n_samples,), default=None
            Task id of every row, with one label column.

        Returns
        -------
        float
            Mean score of the tasks that have labels.
        """
        check_is_fitted(self)
        refuse_other_index(X=X, y=y, sample_weight=sample_weight, tasks=tasks)
        if self.task_ is None or tasks is not None:
            return float(np.nanmean(self.score_tasks(X, y, sample_weight, tasks=tasks)))
        rows = check_known_rows(self, X)
        predicted = self.task_.kind.decode(
            self.task_.outputs(self._unit_features(rows))
        )
        truth = as_targets(y)
        check_consistent_length(rows, truth)
        if truth.size != predicted.size:
            raise InvalidInputError(
                "After adapt, y must hold the targets of the new task. Got shape "
                f"{truth.shape} for {len(rows)} rows; pass one column."
            )
        weights = pixel_weights(sample_weight, rows, predicted.shape)
        truth = truth.reshape(predicted.shape)
        return self.task_.kind.score(truth, predicted, weights)

    def score_tasks(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        tasks: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Return the accuracy or R^2 of every task of `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        y : array-like
            Targets in the layout of `fit`; missing labels are left out.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        tasks : array-like of shape (n_samples,), default=None
            Task id of every row, with one label column.

        Returns
        -------
        ndarray of shape (n_tasks,)
            NaN for a task without labels.
        """
        refuse_other_index(X=X, y=y, sample_weight=sample_weight, tasks=tasks)
        rows = check_known_rows(self, X)
        ids = None if tasks is None else self._known_ids(tasks, rows)
        columns, found, _, _ = to_columns(y, len(rows), ids)
        if ids is None and len(columns) != len(self.tasks_):
            raise InvalidInputError(
                "y must have one column per task seen in fit. Got "
                f"{len(columns)} columns for {len(self.tasks_)} tasks."
            )
        weights = pixel_weights(sample_weight, rows, columns.shape[1:])
        # Without ids, columns are the tasks in their order.
        positions = found if ids is None else np.searchsorted(self.tasks_, found)
        scores = np.full(len(self.tasks_), np.nan)
        outputs = self._outputs(rows)
        for column, position in zip(columns, positions.tolist(), strict=True):
            kind = self.targets_.kinds[position]
            scores[position] = kind.score(
                column, kind.decode(outputs[position]), weights
            )
        return scores

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the features of the modules, side by side.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Features of the first module, then of the second...; for targets per
            pixel their means over the image.
        """
        return self._features(check_known_rows(self, X))

    def input_gradients(self, X: ArrayLike) -> NDArray[np.float32]:
        """Differentiate the output of every task in the inputs.

        Of a multiclass task, the gradient of the largest score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the kind seen in `fit`.

        Returns
        -------
        ndarray of shape (n_tasks, n_samples, n_features)
            For `metrics.spurious_gradient_share`.
        """
        rows = check_known_rows(self, X)
        return input_gradients(self.net_.module_, self.reader_, rows, self.targets_)

    def _answers(self, rows: NDArray[Any], *, new: bool = True) -> Answers:
        """Return the outputs of the new task, if there is one, or of those of `fit`."""
        if new and self.task_ is not None:
            outputs = self.task_.outputs(self._unit_features(rows))
            return Answers([self.task_.kind], [outputs], True)
        single = self.targets_.layout == "single"
        return Answers(self.targets_.kinds, list(self._outputs(rows)), single)

    def _outputs(
        self, rows: NDArray[Any], where: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        """Return outputs (n_tasks, n, n_pixels, n_outputs) of checked rows, or some."""
        return outputs_of(self.net_.module_, self.reader_, rows, where)

    def _features(
        self, rows: NDArray[Any], *, pooled: bool = True
    ) -> NDArray[np.float64]:
        """Return features of checked rows, pooled (n, d), or (n, n_pixels, d)."""
        return features_of(self.net_.module_, self.reader_, rows, pooled=pooled)

    def _unit_features(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Return features (n, n_pixels, d) of checked rows in units of a new task."""
        return self.module_units_(self._features(rows, pooled=False))

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __sklearn_is_fitted__(self) -> bool:
        return "net_" in vars(self)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags
