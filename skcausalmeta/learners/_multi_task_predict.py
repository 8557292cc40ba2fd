"""Predictions and scores of the multi-task learners."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d

from ..exceptions import InvalidInputError
from ..nets import MultiTaskNet, RoutedExperts
from ._data_checks import DataChecksMixin
from ._task_targets import Task, TaskTargets, known_labels, to_columns

_ROWS_PER_PASS = 512


class MultiTaskPredictions(DataChecksMixin):
    """`predict`, scores and features of a learner that holds a `MultiTaskNet`."""

    net_: MultiTaskNet
    targets_: TaskTargets
    tasks_: NDArray[Any]

    def predict(self, X: ArrayLike, *, tasks: ArrayLike | None = None) -> NDArray[Any]:
        """Labels or values of all tasks.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the kind seen in `fit`.
        tasks : array-like of shape (n_samples,), default=None
            Task id of every row; the prediction of that task only.

        Returns
        -------
        ndarray of shape (n_samples,), (n_samples, n_tasks) or \
(n_samples, n_tasks, height, width)
            One column after `fit` on one column, or with `tasks`; else one per task.
        """
        rows = self._check_known_rows(X)
        decoded = [
            task.decode(out)
            for task, out in zip(self.targets_.tasks, self._outputs(rows), strict=True)
        ]
        if tasks is not None:
            return self._of_tasks(decoded, tasks, rows)
        if self.targets_.layout == "single":
            return decoded[0][:, 0]
        stacked = np.stack(decoded, axis=1)  # (n, n_tasks, n_pixels)
        if self.targets_.layout == "pixels":
            return stacked.reshape(*stacked.shape[:2], *self.targets_.pixels)
        return stacked[:, :, 0]

    def _of_tasks(
        self, decoded: list[NDArray[Any]], tasks: ArrayLike, rows: NDArray[Any]
    ) -> NDArray[Any]:
        ids = self._check_known_ids(tasks, rows)
        position = np.searchsorted(self.tasks_, ids)
        return np.stack(decoded)[position, np.arange(len(rows)), 0]

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
        return float(np.nanmean(self.score_tasks(X, y, sample_weight, tasks=tasks)))

    def score_tasks(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        tasks: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Accuracy or R^2 of every task.

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
        weights = None
        if sample_weight is not None:
            weights = np.broadcast_to(
                column_or_1d(sample_weight)[:, None], columns.shape[1:]
            )
        scores = np.full(len(self.tasks_), np.nan)
        outputs = self._outputs(rows)
        for column, name in zip(columns, found, strict=True):
            position = int(np.flatnonzero(self.tasks_ == name)[0])
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
        rows = self._check_known_rows(X)
        return np.concatenate([_module_features(*part) for part in self._passes(rows)])

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

    def _outputs(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Outputs (n_tasks, n, n_pixels, n_outputs) of checked rows."""
        parts = [_row_outputs(*part) for part in self._passes(rows)]
        return np.concatenate(parts, axis=1)

    def _passes(
        self, rows: NDArray[Any]
    ) -> Iterator[tuple[RoutedExperts, torch.Tensor]]:
        """The net in double precision with some rows at a time.

        In single precision the last digits would depend on which rows come together.
        """
        module = copy.deepcopy(self.net_.module_).double().eval()
        for begin in range(0, len(rows), _ROWS_PER_PASS):
            yield module, self.reader_(rows[begin : begin + _ROWS_PER_PASS]).double()


def _row_outputs(module: RoutedExperts, rows: torch.Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        outputs = module(rows).outputs
    n_tasks, _, width = outputs.shape
    return outputs.reshape(n_tasks, len(rows), -1, width).cpu().numpy()


def _module_features(module: RoutedExperts, rows: torch.Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        features = module.experts(rows)
    n_modules, _, h = features.shape
    pooled = features.view(n_modules, len(rows), -1, h).mean(dim=2)
    return pooled.permute(1, 0, 2).flatten(1).cpu().numpy()


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
