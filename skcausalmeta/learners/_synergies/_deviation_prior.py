"""How tasks deviate, learned from the training tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ._evidence import DeviationPrior, LabelledTask, Modes, solve_sets

# Rounds, steps of the mixture, and how far apart its variances are.
_ROUNDS, _MIXTURE_STEPS, _APART = 3, 100, 4.0
_LEAST, _LEAST_GAIN = 1e-8, 1e-3


def learn_prior(tasks: list[LabelledTask]) -> DeviationPrior:
    """Learn how tasks deviate from training tasks: a mixture of what they need.

    A dense model of every task says what its rows tell about the deviation in each
    feature: a normal likelihood N(d_j; m_j, S_j), the other features integrated out
    under the variance that deviations have on average. They are those of a mixture ::

        d_j ~ (1 - pi) N(0, rest I) + pi N(0, (rest + tau^2) I)

    whose constants are of maximum likelihood, by expectation and maximisation.

    Parameters
    ----------
    tasks : list of LabelledTask
    """
    n_features, real = tasks[0].features.shape[1], not tasks[0].n_classes
    every = np.arange(n_features)[None]
    total, prior = 1.0, DeviationPrior()
    if real:
        left = [np.var(task.targets - task.known[:, 0]) for task in tasks]
        noise = max(float(np.mean(left)) / 2, _LEAST)
        total, prior = noise / n_features, replace(prior, noise=noise)
    modes: list[Modes] = []
    for _ in range(_ROUNDS):
        dense = replace(prior, variance=total, rest=0.0)
        begins: list[Any] = [mode.coefs for mode in modes] or [None] * len(tasks)
        modes = [
            solve_sets(task.whitened(dense), every, dense, begin)
            for task, begin in zip(tasks, begins, strict=True)
        ]
        parts = [
            _told(task, mode, total) for task, mode in zip(tasks, modes, strict=True)
        ]
        means, variances = (np.concatenate(each) for each in zip(*parts, strict=True))
        noise = _noise(tasks, modes, dense) if real else 1.0
        share, slab, rest, on = _mixture(means, variances)
        prior = DeviationPrior(share, slab, rest, noise=noise)
        total = share * slab + rest
        on = on.reshape(len(tasks), n_features)
    for _ in range(_ROUNDS):
        prior = _refined(tasks, on > 0.5, prior)
    return prior


def _refined(
    tasks: list[LabelledTask], on: NDArray[np.bool_], prior: DeviationPrior
) -> DeviationPrior:
    """Return the variance and the gains of models with these features alone.

    A dense model shrinks them all: scores of classes are flatter at its mode.
    """
    square, gains, gain_squares, width = prior.variance, 0.0, 0.0, tasks[0].width
    for task, own in zip(tasks, on, strict=True):
        modes = solve_sets(task.whitened(prior), np.flatnonzero(own)[None], prior)
        coefs, inverse = modes.coefs[0], np.linalg.inv(modes.curvature[0])
        second = coefs**2 + np.diag(inverse)
        square += float(second[1 + width :].sum()) / width
        gains += float(coefs[0]) / len(tasks)
        gain_squares += float(second[0]) / len(tasks)
    return replace(
        prior,
        variance=square / (int(on.sum()) + 1),
        gain=gains,
        gain_variance=max(gain_squares - gains**2, _LEAST_GAIN),
    )


def _told(
    task: LabelledTask, modes: Modes, total: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return means and variances (n_features, width), along axes of their own."""
    width, inverse = task.width, np.linalg.inv(modes.curvature[0])
    begin = 1 + width
    n_features = task.features.shape[1]
    blocks = inverse[begin:, begin:].reshape(n_features, width, n_features, width)
    own = blocks[np.arange(n_features), :, np.arange(n_features)]
    variances, axes = np.linalg.eigh(own)
    coefs = modes.coefs[0, begin:].reshape(n_features, 1, width)
    along = (coefs @ axes)[:, 0]
    # Without the prior of the feature itself.
    variances = np.clip(variances, 1e-9 * total, (1 - 1e-6) * total)
    precision = 1.0 / variances - 1.0 / total
    return along / variances / precision, 1.0 / precision


def _mixture(
    means: NDArray[Any], variances: NDArray[Any]
) -> tuple[float, float, float, NDArray[Any]]:
    """Return pi, tau^2, rest and memberships (n,), from likelihoods (n, width)."""
    weights = 1.0 / variances**2
    total = float((weights * (means**2 - variances)).sum() / weights.sum())
    total = max(total, _LEAST)
    share, wide, narrow = 0.1, 5 * total, total / 10

    def log_density(variance: float) -> NDArray[Any]:
        both = variances + variance
        return -(np.log(both) + means**2 / both).sum(axis=1) / 2

    def second(variance: float) -> NDArray[Any]:
        kept = variance / (variances + variance)
        return ((kept * means) ** 2 + kept * variances).mean(axis=1)

    for _ in range(_MIXTURE_STEPS):
        odds = np.log(share) - np.log1p(-share)
        on = expit(odds + log_density(wide) - log_density(narrow))
        wide_sum, narrow_sum = on @ second(wide), (1 - on) @ second(narrow)
        # A feature of either kind is known before, so that neither dies out.
        share = float((on.sum() + 0.5) / (len(on) + 1.0))
        narrow = float((narrow_sum + narrow) / ((1 - on).sum() + 1.0))
        wide = float((wide_sum + wide) / (on.sum() + 1.0))
        narrow = max(narrow, _LEAST)
        wide = max(wide, _APART * narrow)
    return share, wide - narrow, narrow, on


def _noise(
    tasks: list[LabelledTask], modes: list[Modes], prior: DeviationPrior
) -> float:
    """Return the variance of real targets: squares over what degrees are left."""
    squares, degrees = 0.0, 0.0
    for task, mode in zip(tasks, modes, strict=True):
        design = task.design(np.arange(task.features.shape[1])[None])[0, :, 0]
        left = task.targets - task.known[:, 0] - design @ mode.coefs[0]
        squares += float(task.weights @ left**2)
        bend = (design * task.weights[:, None]).T @ design / prior.noise
        used = np.trace(np.linalg.solve(mode.curvature[0], bend))
        degrees += max(len(left) - float(used), 0.0)
    return max(squares / max(degrees, 1.0), _LEAST)
