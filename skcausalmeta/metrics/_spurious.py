"""How far a predictor leans on features that do not cause its target."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from ..exceptions import InvalidInputError


def spurious_gradient_share(gradients: ArrayLike, causal_mask: ArrayLike) -> float:
    r"""Share of the input gradients that falls on features without an effect.

    .. math:: \frac1T \sum_t \frac{\sum_i \sum_{j \notin C_t} |\partial_j f_t(x_i)|}
              {\sum_i \sum_j |\partial_j f_t(x_i)|}

    Parameters
    ----------
    gradients : array-like of shape (n_tasks, n, n_features)
        Gradients of the outputs in the inputs, such as `input_gradients` of a
        multi-task learner.
    causal_mask : array-like of shape (n_tasks, n_features)
        True for the causes :math:`C_t` of a task.

    Returns
    -------
    float
        Between 0 and 1, the mean over tasks.

    Raises
    ------
    InvalidInputError
        If the shapes do not agree, or the gradients of a task are all 0.

    Examples
    --------
    >>> from skcausalmeta.metrics import spurious_gradient_share
    >>> gradients = [[[3.0, -1.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 2.0]]]
    >>> spurious_gradient_share(gradients, [[True, False], [False, True]])
    0.125
    """
    sizes = np.abs(np.asarray(gradients, dtype=float))
    causal = np.asarray(causal_mask, dtype=bool)
    if sizes.ndim != 3 or causal.shape != (sizes.shape[0], sizes.shape[2]):
        raise InvalidInputError(
            "gradients must have shape (n_tasks, n, n_features) and causal_mask "
            f"(n_tasks, n_features). Got {sizes.shape} and {causal.shape}."
        )
    mass = sizes.sum(axis=1)  # (n_tasks, n_features)
    total = mass.sum(axis=1)
    if not (np.isfinite(total).all() and (total > 0).all()):
        raise InvalidInputError(
            "The gradients of every task must be finite and not all 0. Got a total of "
            f"{total.min()} for task {int(total.argmin())}."
        )
    return float(np.mean((mass * ~causal).sum(axis=1) / total))


def routing_f1(
    routing: ArrayLike, graph: ArrayLike, *, threshold: float = 0.5
) -> float:
    """F1 of the edges of a learned routing, up to the order of the modules.

    A task uses a module if its weight is at least `threshold` times the largest
    weight of the task. Modules are matched with the columns of the graph so that
    most edges agree; edges of modules without a match count as wrong.

    Parameters
    ----------
    routing : array-like of shape (n_tasks, n_modules)
        Weights, not negative.
    graph : array-like of shape (n_tasks, n_true_modules)
        True edges.
    threshold : float, default=0.5
        Share of the largest weight of a task.

    Returns
    -------
    float
        1 if all edges agree.

    Raises
    ------
    InvalidInputError
        If the numbers of tasks differ or the graph has no edge.

    Examples
    --------
    >>> from skcausalmeta.metrics import routing_f1
    >>> print(round(routing_f1([[0.1, 0.9], [0.8, 0.6]], [[1, 0], [0, 1]]), 2))
    0.8
    """
    weights, edges = np.asarray(routing, dtype=float), np.asarray(graph, dtype=bool)
    if weights.ndim != 2 or edges.ndim != 2 or len(weights) != len(edges):
        raise InvalidInputError(
            "routing and graph must have one row per task. Got shapes "
            f"{weights.shape} and {edges.shape}."
        )
    if not edges.any():
        raise InvalidInputError("graph must have an edge. Got none.")
    largest = weights.max(axis=1, keepdims=True)
    used = (weights >= threshold * largest) & (weights > 0)
    agree = edges.T.astype(int) @ used.astype(int)  # (n_true_modules, n_modules)
    hits = agree[linear_sum_assignment(agree, maximize=True)].sum()
    return float(2 * hits / (used.sum() + edges.sum()))
