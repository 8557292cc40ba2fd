"""Outputs, features and gradients of trained modules, some rows at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...training import in_parts, refuse_infinite_rows
from ...utils import read_rows
from ._routing import RoutedExperts
from ._targets import TaskTargets

_ROWS_PER_PASS = 512

Reader = Callable[[NDArray[Any]], Tensor]


def outputs_of(
    module: RoutedExperts,
    reader: Reader,
    rows: NDArray[Any],
    where: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Return the outputs (n_tasks, n, n_pixels, n_outputs) of checked rows, or of some.

    Raises
    ------
    DivergenceError
        If one is not finite.
    """
    n_rows = len(rows) if where is None else len(where)
    parts = (
        _row_outputs(*part).swapaxes(0, 1)
        for part in _passes(module, reader, rows, where)
    )
    outputs = _joined(parts, n_rows)
    refuse_infinite_rows(outputs, "outputs")
    return outputs.swapaxes(0, 1)


def features_of(
    module: RoutedExperts, reader: Reader, rows: NDArray[Any], *, pooled: bool = True
) -> NDArray[np.float64]:
    """Return the features of checked rows, (n, d), or (n, n_pixels, d) if not pooled.

    Raises
    ------
    DivergenceError
        If one is not finite.
    """
    parts = (_row_features(*part) for part in _passes(module, reader, rows))
    if pooled:
        parts = (part.mean(axis=1) for part in parts)
    features = _joined(parts, len(rows))
    refuse_infinite_rows(features, "features")
    return features


def input_gradients(
    module: RoutedExperts, reader: Reader, rows: NDArray[Any], targets: TaskTargets
) -> NDArray[np.float32]:
    """Return gradients (n_tasks, n, n_features) of the outputs of tasks in the rows.

    Of a multiclass task, those of the largest score.
    """
    tensor = reader(rows).requires_grad_()
    outputs = module(tensor).outputs
    gradients = []
    for kind, scores in zip(targets.kinds, outputs, strict=True):
        total = scores[:, : kind.n_outputs].max(dim=1).values.sum()
        (slope,) = torch.autograd.grad(total, tensor, retain_graph=True)
        gradients.append(slope.flatten(1).cpu().numpy())
    return np.stack(gradients)


def _passes(
    module: RoutedExperts,
    reader: Reader,
    rows: NDArray[Any],
    where: NDArray[Any] | None = None,
) -> Iterator[tuple[RoutedExperts, Tensor]]:
    """Yield the module in double precision with some rows at a time.

    In single precision the last digits would depend on which rows come together.
    """
    module = copy.deepcopy(module).double().eval()
    where = np.arange(len(rows)) if where is None else where
    for part in in_parts(len(where), _ROWS_PER_PASS):
        yield module, reader(read_rows(rows, where[part])).double()


def _joined(parts: Iterable[NDArray[Any]], n_rows: int) -> NDArray[Any]:
    """Join parts of `n_rows` rows in all.

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


def _row_outputs(module: RoutedExperts, rows: Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        outputs = module(rows).outputs
    n_tasks, _, width = outputs.shape
    return outputs.reshape(n_tasks, len(rows), -1, width).cpu().numpy()


def _row_features(module: RoutedExperts, rows: Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        features = module.experts(rows)
    n_modules, _, h = features.shape
    by_row = features.view(n_modules, len(rows), -1, h)
    return by_row.permute(1, 2, 0, 3).flatten(2).cpu().numpy()
