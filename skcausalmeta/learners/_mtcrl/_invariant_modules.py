"""A new task with environments: modules that serve it everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ._new_task import RoutedTask, solve_tasks
from ._targets import TargetKind

# About what a ratio of variances exceeds in one of twenty cases by chance.
_CHANCE = 4.0


def solve_invariant(
    features: NDArray[np.float64],
    encoded: NDArray[np.float32],
    kind: TargetKind,
    groups: NDArray[np.int64],
    group_reg: float,
    envs: NDArray[np.int64],
    row_weights: NDArray[np.float64] | None = None,
) -> RoutedTask:
    """Solve a task on modules that serve it in all environments.

    The convex problem of `solve_tasks` is solved; of the modules k in use the one with
    the largest F_k gets it as the weight of its group, where F_k compares the gradients
    of the risks of the environments in the weights of the module with what chance makes
    of them; and so on, until no module in use differs by more than chance or one is
    left. Of these solutions the one with the smallest largest F_k is returned, with the
    certificate of its problem. One module at a time: where one that differs takes part,
    the others differ as well.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Support features in the units of `ModuleFeatures`.
    encoded : ndarray of shape (n,)
        Class numbers or standardised values, NaN where nothing is known.
    kind : TargetKind
        Kind of the targets.
    groups : ndarray of shape (n_features,)
        Module of every feature.
    group_reg : float
        Strength of the group Lasso, relative.
    envs : ndarray of shape (n,)
        Environment numbers 0..E-1.
    row_weights : ndarray of shape (n,), default=None
        Weights of the rows, in the problem and in the gradients. None: 1.

    Returns
    -------
    RoutedTask
    """
    weights = np.ones((1, int(groups.max()) + 1))
    own = None if row_weights is None else row_weights[None]
    solutions: list[tuple[float, RoutedTask]] = []
    for _ in range(weights.size):
        (task,) = solve_tasks(
            features[None], encoded[None], [kind], groups, group_reg, own, weights
        )
        used = task.routing > 0
        residuals = _residuals(task, features, encoded)
        if row_weights is not None:
            residuals = residuals * row_weights[:, None]
        ratios = np.where(used, differences(features, residuals, groups, envs), 0.0)
        worst = int(ratios.argmax())
        solutions.append((float(ratios[worst]), task))
        if ratios[worst] <= _CHANCE or used.sum() == 1:
            break
        weights[0, worst] *= ratios[worst]
    return min(solutions, key=lambda solution: solution[0])[1]


def _residuals(
    task: RoutedTask, features: NDArray[np.float64], encoded: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return gradients (n, n_outputs) of the losses in the scores, 0 where unknown."""
    scores = features @ task.coef + task.intercept
    known = np.isfinite(encoded)
    given = np.where(known, encoded, 0.0)
    if task.kind.n_classes:
        found = softmax(scores, axis=1)
        found -= np.eye(task.kind.n_classes)[given.astype(np.int64)]
    else:
        found = scores - given[:, None]
    residuals: NDArray[np.float64] = found * known[:, None]
    return residuals


def differences(
    features: NDArray[np.float64],
    residuals: NDArray[np.float64],
    groups: NDArray[np.int64],
    envs: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Compare the gradients of environments, module by module, with chance.

    With the gradients ``z_ik = x_ik r_i'`` of the rows in the weights of module k ::

        F_k = sum_e n_e || mean_e z_k - mean z_k ||^2 / ((E - 1) tr cov(z_k)),

    the ratio of variances between and within environments: about 1 where they agree,
    and growing with the number of rows where they do not.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Features x_i of all modules.
    residuals : ndarray of shape (n, n_outputs)
        Gradients r_i of the losses in the scores.
    groups : ndarray of shape (n_features,)
        Module of every feature.
    envs : ndarray of shape (n,)
        Environment numbers 0..E-1, all present.

    Returns
    -------
    ndarray of shape (n_modules,)
        0 for a module whose gradients do not vary at all.
    """
    members = np.eye(int(envs.max()) + 1)[envs]  # (n, E)
    counts = members.sum(axis=0)
    n, n_envs = len(features), len(counts)
    # Squared norms of outer products are products of squared norms.
    squares = (residuals**2).sum(axis=1)
    found = np.zeros(int(groups.max()) + 1)
    for k in range(len(found)):
        own = features[:, groups == k]
        sums = np.einsum("ie,ij,il->ejl", members, own, residuals, optimize=True)
        means = (sums / counts[:, None, None]).reshape(n_envs, -1)
        total = (own**2).sum(axis=1) @ squares
        inside = total - counts @ (means**2).sum(axis=1)
        mean = counts @ means / n
        between = counts @ ((means - mean) ** 2).sum(axis=1)
        if inside > 1e-12 * total and n > n_envs:
            found[k] = between / (n_envs - 1) / (inside / (n - n_envs))
    return found
