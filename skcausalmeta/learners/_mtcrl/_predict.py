"""Predictions and scores of the multi-task learners."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import r2_score
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _check_sample_weight

from ...exceptions import InvalidInputError
from ...utils import read_rows
from .._checks import DataChecksMixin, check_finite_rows
from ._net import MultiTaskNet
from ._new_task import ModuleFeatures, RoutedTask
from ._routing import RoutedExperts
from ._targets import Task, TaskTargets, as_targets, known_labels, to_columns

_ROWS_PER_PASS = 512


class Answers(NamedTuple):
    """What a learner speaks of."""

    tasks: list[Task]
    outputs: list[NDArray[np.float64]]  # (n, n_pixels, n_outputs) of every task
    single: bool  # one task, whose predictions have no task axis


class MultiTaskPredictions(DataChecksMixin):
    """`predict`, scores and features of a learner that holds a `MultiTaskNet`."""

    net_: MultiTaskNet
    targets_: TaskTargets
    tasks_: NDArray[Any]
    module_units_: ModuleFeatures
    new_task_: RoutedTask

    def predict(self, X: ArrayLike, *, tasks: ArrayLike | None = None) -> NDArray[Any]:
        """Labels or values of all tasks.

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
        rows = self._check_known_rows(X)
        if tasks is not None:
            position = np.searchsorted(self.tasks_, self._check_known_ids(tasks, rows))
        answers = self._answers(rows, new=tasks is None)
        decoded = [
            task.decode(out)
            for task, out in zip(answers.tasks, answers.outputs, strict=True)
        ]
        stacked = np.stack(decoded, axis=1)  # (n, n_tasks, n_pixels)
        if tasks is not None:
            found = stacked[np.arange(len(rows)), position]
        else:
            found = stacked[:, 0] if answers.single else stacked
        return found.reshape(*found.shape[:-1], *self.targets_.pixels)

    def _check_known_ids(self, tasks: ArrayLike, rows: NDArray[Any]) -> NDArray[Any]:
        ids = self._check_given_ids(tasks, rows, "tasks")
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
        """Mean over tasks of accuracy (classification) or R^2 (regression).

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
        if not hasattr(self, "new_task_") or tasks is not None:
            return float(np.nanmean(self.score_tasks(X, y, sample_weight, tasks=tasks)))
        rows = self._check_known_rows(X)
        answers = self._answers(rows)
        truth = as_targets(y)
        check_consistent_length(rows, truth)
        decoded = answers.tasks[0].decode(answers.outputs[0])
        if truth.size != decoded.size:
            raise InvalidInputError(
                "After adapt, y must hold the targets of the new task. Got shape "
                f"{truth.shape} for {len(rows)} rows; pass one column."
            )
        weights = _row_weights(sample_weight, rows, decoded.shape)
        return _score(truth.reshape(decoded.shape), decoded, answers.tasks[0], weights)

    def score_tasks(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        tasks: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Accuracy or R^2 of every task of `fit`.

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
        rows = self._check_known_rows(X)
        ids = None if tasks is None else self._check_known_ids(tasks, rows)
        columns, found, _, _ = to_columns(y, len(rows), ids)
        if ids is None and len(columns) != len(self.tasks_):
            raise InvalidInputError(
                "y must have one column per task seen in fit. Got "
                f"{len(columns)} columns for {len(self.tasks_)} tasks."
            )
        weights = _row_weights(sample_weight, rows, columns.shape[1:])
        # Columns are the tasks in their order, whatever these are called.
        positions = found if ids is None else np.searchsorted(self.tasks_, found)
        scores = np.full(len(self.tasks_), np.nan)
        outputs = self._outputs(rows)
        for column, position in zip(columns, positions.tolist(), strict=True):
            task = self.targets_.tasks[position]
            decoded = task.decode(outputs[position])
            scores[position] = _score(column, decoded, task, weights)
        return scores

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Features of the modules, side by side.

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
        return self._features(self._check_known_rows(X))

    def input_gradients(self, X: ArrayLike) -> NDArray[np.float32]:
        """Gradient of the output of every task in the inputs.

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
        rows = self._check_known_rows(X)
        tensor = self.reader_(rows).requires_grad_()
        outputs = self.net_.module_(tensor).outputs
        gradients = []
        for task, scores in zip(self.targets_.tasks, outputs, strict=True):
            width = task.n_classes if task.kind == "multiclass" else 1
            total = scores[:, :width].max(dim=1).values.sum()
            (slope,) = torch.autograd.grad(total, tensor, retain_graph=True)
            gradients.append(slope.flatten(1).cpu().numpy())
        return np.stack(gradients)

    def _outputs(
        self, rows: NDArray[Any], where: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        """Outputs (n_tasks, n, n_pixels, n_outputs) of checked rows, or of some."""
        n_rows = len(rows) if where is None else len(where)
        parts = (
            _row_outputs(*part).swapaxes(0, 1) for part in self._passes(rows, where)
        )
        outputs = _joined(parts, n_rows).swapaxes(0, 1)
        check_finite_rows(outputs.swapaxes(0, 1), "outputs")
        return outputs

    def _features(
        self, rows: NDArray[Any], *, pooled: bool = True
    ) -> NDArray[np.float64]:
        """Features of checked rows, (n, d), or (n, n_pixels, d) if not pooled."""
        parts = (_module_features(*part) for part in self._passes(rows))
        if pooled:
            parts = (part.mean(axis=1) for part in parts)
        features = _joined(parts, len(rows))
        check_finite_rows(features, "features")
        return features

    def _answers(self, rows: NDArray[Any], *, new: bool = True) -> Answers:
        """Outputs of the new task if there is one, else of the tasks of `fit`."""
        if new and hasattr(self, "new_task_"):
            features = self.module_units_(self._features(rows, pooled=False))
            outputs = [self.new_task_.outputs(features)]
            return Answers([self.new_task_.task], outputs, True)
        single = self.targets_.layout == "single"
        return Answers(self.targets_.tasks, list(self._outputs(rows)), single)

    def _passes(
        self, rows: NDArray[Any], where: NDArray[Any] | None = None
    ) -> Iterator[tuple[RoutedExperts, torch.Tensor]]:
        """The net in double precision with some rows at a time.

        In single precision the last digits would depend on which rows come together.
        """
        module = copy.deepcopy(self.net_.module_).double().eval()
        where = np.arange(len(rows)) if where is None else where
        for begin in range(0, len(where), _ROWS_PER_PASS):
            part = read_rows(rows, where[begin : begin + _ROWS_PER_PASS])
            yield module, self.reader_(part).double()


def _row_weights(
    sample_weight: ArrayLike | None, rows: NDArray[Any], shape: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """Weights of rows spread over their pixels, (n, n_pixels)."""
    if sample_weight is None:
        return None
    weights: NDArray[np.float64] = _check_sample_weight(sample_weight, rows)
    return np.broadcast_to(weights[:, None], shape)


def _joined(parts: Iterable[NDArray[Any]], n_rows: int) -> NDArray[Any]:
    """Parts one after the other.

    They are copied to their place at once: small results kept among large passing ones
    would scatter over the heap, and hold gigabytes of it for millions of rows.
    """
    joined, begin = np.empty(0), 0
    for part in parts:
        if begin == 0:
            joined = np.empty((n_rows, *part.shape[1:]), part.dtype)
        joined[begin : begin + len(part)] = part
        begin += len(part)
    return joined


def _row_outputs(module: RoutedExperts, rows: torch.Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        outputs = module(rows).outputs
    n_tasks, _, width = outputs.shape
    return outputs.reshape(n_tasks, len(rows), -1, width).cpu().numpy()


def _module_features(module: RoutedExperts, rows: torch.Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        features = module.experts(rows)
    n_modules, _, h = features.shape
    by_row = features.view(n_modules, len(rows), -1, h)
    return by_row.permute(1, 2, 0, 3).flatten(2).cpu().numpy()


def _score(
    column: NDArray[Any],
    predicted: NDArray[Any],
    task: Task,
    weights: NDArray[Any] | None = None,
) -> float:
    """Score of one task where labels are known; NaN without any."""
    known = known_labels(column)
    if not known.any():
        return float("nan")
    truth, found = column[known], predicted[known]
    weights = None if weights is None else weights[known]
    if task.classes is not None:
        return float(np.average(truth == found, weights=weights))
    return float(r2_score(truth.astype(float), found, sample_weight=weights))


def score_codes(task: Task, outputs: NDArray[Any], codes: NDArray[Any]) -> float:
    known = np.isfinite(codes)
    values = np.full(codes.shape, np.nan)
    if task.classes is None:
        values[known] = codes[known] * task.spread + task.center
        return _score(values, task.decode(outputs), task) if known.sum() > 1 else np.nan
    labels = task.classes[codes[known].astype(int)]
    found = task.decode(outputs)[known]
    return float((labels == found).mean()) if known.any() else float("nan")
