"""A solved task as one torch module: rows in, scores and probabilities out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ..exceptions import InvalidInputError, NotFittedError
from ..learners import SolvedTask
from ._common import CommonScores
from ._features import AdaptedScores, HeadFeatures, RoutedScores, Samples
from ._scores import score_layer

_N_TRIED = 5
_MOST_APART = 1e-5


class ExportedTask(nn.Module):
    """What a learner answers for the task in use, as one graph.

    Made by `to_module`; its weights are fixed.

    Parameters
    ----------
    samples : torch.nn.Module
        From rows to what the backbone takes; has `input_shape` and `input_dtype`.
    scores : torch.nn.Module
        From there to scores (n, n_classes), or targets (n,).
    classes : ndarray of shape (n_classes,) or None
        Labels of the classes, in the order of the scores; None in regression.
    factor : float
        What scores are multiplied by before the softmax; 0 in regression.

    Attributes
    ----------
    input_shape : tuple of int
        Shape of a row.
    input_dtype : torch.dtype
        Type of the rows: float32; uint8 where `fit` saw images of bytes; int64 where
        the backbone takes integers; float64 behind steps that scale columns.
    output_names : tuple of str
        ("scores", "probabilities"), or ("predictions",) in regression.

    See Also
    --------
    to_module : Makes one of a learner.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from skcausalmeta.export import to_module
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> learner = SparseMetaClassifier(max_epochs=1, verbose=0, random_state=0)
    >>> task = to_module(learner.fit(*load_iris(return_X_y=True)))
    >>> task.output_names, task.input_shape, task(task.example(2))[0].shape
    (('scores', 'probabilities'), (4,), torch.Size([2, 3]))
    """

    def __init__(
        self,
        samples: Samples,
        scores: nn.Module,
        classes: NDArray[Any] | None,
        factor: float,
    ) -> None:
        super().__init__()
        self.samples, self.scores = samples, scores
        self.classes, self.factor = classes, factor
        self.input_shape, self.input_dtype = samples.input_shape, samples.input_dtype
        regression = ("predictions",)
        self.output_names = ("scores", "probabilities") if factor else regression

    def forward(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return scores and probabilities (n, n_classes), or predictions (n,)."""
        found = self.scores(self.samples(rows))
        if not self.factor:
            return (found,)
        if self.classes is not None and len(self.classes) == 2:
            # As the learner: the second class against a first that scores 0.
            found = found - found[:, :1]
        return found, torch.softmax(self.factor * found, dim=1)

    def example(self, n_rows: int) -> Tensor:
        """Return rows of the shape and type that the graph takes, always the same."""
        shape, rng = (n_rows, *self.input_shape), np.random.default_rng(0)
        if self.input_dtype == torch.int64:
            return torch.zeros(shape, dtype=torch.int64)
        if self.input_dtype == torch.uint8:
            return torch.from_numpy(rng.integers(256, size=shape, dtype=np.uint8))
        return torch.from_numpy(rng.standard_normal(shape)).to(self.input_dtype)


def to_module(learner: Any) -> ExportedTask:
    """Return what a learner answers for the task in use as one torch module.

    Everything between rows and answers is in it: the layout of images, the backbone,
    the hook of MetaCRL, and the solved head or the adapted network. It was compared
    with the learner on rows of noise before it is returned.

    Parameters
    ----------
    learner : estimator
        Fitted, and adapted to the task: a learner of this package, or a MetaPipeline
        of one behind steps that scale columns (`StandardScaler`, `MinMaxScaler`,
        `MaxAbsScaler`).

    Returns
    -------
    ExportedTask
        A module on the CPU that shares nothing with the learner. It maps rows
        (n, ...) to scores and probabilities (n, n_classes), both float64, or to
        predictions (n,). The score of the first of two classes is 0, that of the
        second is `decision_function`.

    Raises
    ------
    NotFittedError
        If the learner has solved no task.
    InvalidInputError
        If it cannot be one graph; the message says why.

    See Also
    --------
    to_onnx : The same as a file for onnxruntime.
    to_torch : The same as a program of torch.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skcausalmeta.export import to_module
    >>> from skcausalmeta.learners import SparseMetaClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> learner = SparseMetaClassifier(max_epochs=1, verbose=0, random_state=0)
    >>> learner = learner.fit(X[y < 6], y[y < 6]).adapt(X[y > 5], y[y > 5])
    >>> scores, probabilities = to_module(learner)(torch.from_numpy(X[:2]).float())
    >>> probabilities.shape
    torch.Size([2, 4])
    """
    check_is_fitted(learner)
    shift, scale = None, None
    asked = learner
    if isinstance(learner, Pipeline):
        shift, scale = _scaling(learner)
        learner = learner.steps[-1][1]
    learner = getattr(learner, "estimator_", learner)  # of MetaCRL
    task = _task_of(learner)
    _refuse_rows_together(learner)
    samples = Samples(learner.reader_, shift, scale)
    module = ExportedTask(
        samples, _scores(learner, task), task.classes, _factor(learner, task)
    ).eval()
    _compare(module, asked)
    return module


def _task_of(learner: Any) -> SolvedTask:
    if not hasattr(learner, "reader_") or not hasattr(learner, "net_"):
        raise InvalidInputError(
            "A learner of this package is exported, or a MetaPipeline of one. Got "
            f"{type(learner).__name__}; use the tools of its own library."
        )
    task: SolvedTask | None = learner.task_
    if task is None:
        raise NotFittedError(
            "A graph answers for one task. Got a learner that has solved none; call "
            "adapt with its support rows first."
        )
    return task


def _refuse_rows_together(learner: Any) -> None:
    if getattr(learner, "batch_norm", "running") == "episode":
        raise InvalidInputError(
            "A graph answers for every row on its own. Got batch_norm='episode', with "
            "which answers depend on the rows that come together; fit with "
            "batch_norm='running'."
        )


def _scores(learner: Any, task: SolvedTask) -> nn.Module:
    if hasattr(task, "parameters"):
        return AdaptedScores(learner.net_, task)
    if hasattr(task, "trust"):
        return CommonScores(learner, task)
    if hasattr(task, "head"):
        return nn.Sequential(HeadFeatures(learner.net_, task), _of_head(task))
    if hasattr(task, "routing"):
        if learner.targets_.pixels:
            raise InvalidInputError(
                "A graph gives one answer a row. Got targets per pixel of shape "
                f"{learner.targets_.pixels}; use the learner itself."
            )
        return RoutedScores(learner.net_, task, learner.module_units_)
    raise InvalidInputError(
        "A task must be solved by a head, by gradient steps or on routed modules to "
        f"be exported. Got {type(task).__name__}; build a torch.nn.Module of it."
    )


def _of_head(task: Any) -> nn.Module:
    layer = score_layer(task.head)
    return layer if task.classes is None else _ScoresOfClasses(layer)


class _ScoresOfClasses(nn.Module):
    """Scores of all classes, also where a layer has those of the second alone."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.layer(features)
        found = found[:, None] if found.ndim == 1 else found
        if found.shape[1] == 1:
            found = torch.cat([torch.zeros_like(found), found], dim=1)
        return found


def _factor(learner: Any, task: SolvedTask) -> float:
    """Return what scores are multiplied by in probabilities; 0 in regression."""
    if not is_classifier(learner) or task.classes is None:
        return 0.0
    factor = 1.0
    if hasattr(task, "head"):
        factor = float(getattr(learner.net_.module_, "scale", 1.0))
    calibrated = getattr(learner, "_is_calibrated", lambda task: False)
    if calibrated(task):
        factor /= learner.temperature_
    return factor


def _scaling(pipeline: Pipeline) -> tuple[Any, Any]:
    """Return what the steps before the last take from columns and divide them by."""
    shift: Any = 0.0
    scale: Any = 1.0
    for name, step in pipeline.steps[:-1]:
        if step is None or step == "passthrough":
            continue
        if not isinstance(step, StandardScaler | MinMaxScaler | MaxAbsScaler):
            raise InvalidInputError(
                "Steps before an exported learner must scale columns: StandardScaler, "
                f"MinMaxScaler or MaxAbsScaler. Got {name!r}, a {type(step).__name__}; "
                "export the last step alone, pipeline[-1], and transform rows before."
            )
        if getattr(step, "clip", False):
            raise InvalidInputError(
                "A scaler before an exported learner must be linear. Got "
                f"{name!r} with clip=True; fit with clip=False."
            )
        width = np.zeros((1, step.n_features_in_))
        # Of any linear map of columns, by what it makes of zeros and of ones.
        zero, one = step.transform(width)[0], step.transform(width + 1)[0]
        # x -> a x + b after x -> (x - shift) / scale
        slope = one - zero
        scale, shift = scale / slope, shift - scale * zero / slope
    if np.ndim(scale) == 0:
        return None, None
    return np.asarray(shift), np.asarray(scale)


def _compare(module: ExportedTask, learner: Any) -> None:
    """Refuse a module that answers otherwise than the learner.

    Raises
    ------
    InvalidInputError
        With the largest difference.
    """
    rows = module.example(_N_TRIED)
    with torch.no_grad():
        found = [part.numpy() for part in module(rows)]
    X = rows.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noise has no names of columns
        expected = [learner.predict(X)] if len(found) == 1 else _answers(learner, X)
    for name, one, other in zip(module.output_names, found, expected, strict=True):
        apart = np.abs(one - other).max() / (1.0 + np.abs(other).max())
        if not apart <= _MOST_APART:
            raise InvalidInputError(
                "A graph must answer as its learner. Got "
                f"{name} that differ by {apart:.1e}: {type(learner).__name__} does "
                "more than its backbone, its head and its softmax; override less, or "
                "export a torch.nn.Module of your own."
            )


def _answers(learner: Any, X: NDArray[Any]) -> list[NDArray[Any]]:
    """Return scores and probabilities as the graph gives them."""
    scores = learner.decision_function(X)
    if scores.ndim == 1:
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    return [scores, learner.predict_proba(X)]
