"""Linear models of two weights: their loss and the paths that descend on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..exceptions import DivergenceError, InvalidInputError
from ._canvas import call_method

Loss = Callable[[Tensor], Tensor]

_MARGIN = 0.15  # of the extent of the paths
_LINEAR_TOL = 1e-3


def task_loss(X: NDArray[np.float64], y: NDArray[np.float64], kind: str) -> Loss:
    """Mean loss of a linear model without intercept, as a function of its weights.

    Parameters
    ----------
    X : ndarray of shape (n_samples, 2)
        Rows.
    y : ndarray of shape (n_samples,)
        Real targets, or 0 and 1 for "logistic".
    kind : {"squared", "logistic"}
        Squared error, or cross-entropy.

    Returns
    -------
    callable
        From weights (..., 2) to losses (...).

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skcausalmeta.inspection._linear_descent import task_loss
    >>> loss = task_loss(np.eye(2), np.array([1.0, 3.0]), "squared")
    >>> float(loss(torch.ones(2, dtype=torch.float64)))
    2.0
    """
    rows, targets = torch.from_numpy(X), torch.from_numpy(y)

    def loss(weights: Tensor) -> Tensor:
        scores = weights @ rows.mT  # (..., n_samples)
        if kind == "squared":
            return (scores - targets).square().mean(-1)
        signs = 2 * targets - 1
        return torch.nn.functional.softplus(-signs * scores).mean(-1)

    return loss


def descend(
    loss: Loss, start: NDArray[np.float64], depth: int, n_steps: int, lr: float
) -> NDArray[np.float64]:
    """Path of the effective weights under gradient descent on the layers.

    The model is ``w = a_d ... a_2 v`` with a vector v and numbers a_k, all of the
    norm ``|start| ** (1 / depth)`` at first. Layers of any width with a balanced
    start take the same path, so one unit a layer stands for all of them.

    Parameters
    ----------
    loss : callable
        Loss of the effective weights.
    start : ndarray of shape (2,)
        Effective weights to start from, not 0 for depths above 1.
    depth : int
        Number of layers.
    n_steps : int
        Number of steps.
    lr : float
        Learning rate.

    Returns
    -------
    ndarray of shape (n_steps + 1, 2)

    Raises
    ------
    DivergenceError
        If the weights leave the range of finite numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.inspection._linear_descent import descend
    >>> path = descend(lambda w: w.square().sum() / 2, np.array([3.0, 4.0]), 1, 2, 0.5)
    >>> path.tolist()
    [[3.0, 4.0], [1.5, 2.0], [0.75, 1.0]]
    """
    norm = float(np.linalg.norm(start))
    size = norm ** (1 / depth)
    direction = start / norm if norm else start
    vector = torch.from_numpy(size * direction).requires_grad_()
    numbers = torch.full((depth - 1,), size, dtype=torch.float64, requires_grad=True)
    path = [np.array(start, dtype=np.float64)]
    for _ in range(n_steps):
        value = loss(numbers.prod() * vector)
        gradients = torch.autograd.grad(value, [vector, numbers], allow_unused=True)
        with torch.no_grad():
            for layer, gradient in zip((vector, numbers), gradients, strict=True):
                if gradient is not None:
                    layer -= lr * gradient
            path.append((numbers.prod() * vector).numpy())
        if not np.isfinite(path[-1]).all():
            raise DivergenceError(
                "Gradient descent must stay finite. Got infinite or undefined weights "
                f"after {len(path) - 1} steps at depth {depth}; lower lr or scale X."
            )
    return np.array(path)


def surround(
    surface: Loss,
    paths: dict[str, NDArray[np.float64]],
    minimum: NDArray[Any] | None,
    resolution: int,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Grid of weights around all paths, and the losses there.

    Parameters
    ----------
    surface : callable
        Loss of the weights.
    paths : dict of str to ndarray of shape (n_points, 2)
        Weights to be in the picture.
    minimum : ndarray of shape (2,) or None
        One more point.
    resolution : int
        Values of each weight.

    Returns
    -------
    first, second : ndarray of shape (resolution,)
        Values of the two weights.
    losses : ndarray of shape (resolution, resolution)
        The second weight along the first axis.
    """
    ends = [] if minimum is None else [minimum[None]]
    points = np.concatenate([*paths.values(), *ends])
    low, high = points.min(axis=0), points.max(axis=0)
    # A path along one axis still gets a surface on both sides.
    margin = _MARGIN * np.maximum(high - low, (high - low).max() / 2 or 1.0)
    first, second = np.linspace(low - margin, high + margin, resolution).T
    weights = np.stack(np.meshgrid(first, second), axis=-1)  # (n_second, n_first, 2)
    losses = np.stack([surface(torch.from_numpy(row)).numpy() for row in weights])
    return first, second, losses


def effective_weights(
    estimator: Any, rows: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights (n_points, 2) of a linear learner, from its answers to four rows.

    Parameters
    ----------
    estimator : estimator
        With ``staged_predict_episodes``.
    rows : ndarray of shape (n_samples, 2)
        Support rows.
    targets : ndarray of shape (n_samples,)
        Their targets.

    Raises
    ------
    InvalidInputError
        If the answers are not linear in the two columns.
    """
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1.0
    probes = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * scale
    staged = call_method(
        estimator,
        "staged_predict_episodes",
        rows[None],
        targets[None],
        probes[None],
    )  # (n_points, 1, 4)
    zero, one, two, both = np.moveaxis(staged[:, 0], -1, 0)
    largest = np.abs(staged).max()
    if np.abs(both - one - two + zero).max() > _LINEAR_TOL * largest:
        raise InvalidInputError(
            "The estimator must be linear in the two columns. Got a "
            f"{type(estimator).__name__} that is not; use backbone='identity'."
        )
    return np.stack([one - zero, two - zero], axis=-1) / scale
