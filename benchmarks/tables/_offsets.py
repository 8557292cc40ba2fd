"""A pooled model moved by the few labels of a task, in closed form or nearly."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax

from ._data import Array
from ._jobs import Train
from ._pooled import Pooled, pooled_model
from ._search import choose_by_shots, nearest, shots_of

_STEPS = 30


class ShrunkOffset:
    """Scores of a pooled model and an intercept of the task, shrunk to 0.

    Regression: the mean residual times v / (v + s2 / n), the variances between and
    within the tasks being those of the inner split. Classes: an intercept a class,
    whose prior variance `variance` is chosen on the inner jobs by number of labels.
    """

    uses_labels, zero_labels = True, True

    def __init__(self, pooled: Pooled, kind: str, variance: Any) -> None:
        self.pooled, self.kind, self.variance = pooled, kind, variance
        self.chosen = {"pooled": pooled.chosen, "variance": variance}

    def predict_job(self, support: Array, labels: Array, query: Array) -> Array:
        scores = self.pooled.predict(query)
        if not len(labels):
            return scores
        own = self.pooled.predict(support)
        if self.kind == "regression":
            between, within = self.variance
            share = between / (between + within / len(labels))
            return scores + share * np.mean(labels - own)
        value = self.variance
        if isinstance(value, dict):
            value = nearest(value, shots_of(labels, self.kind))
        if self.kind == "binary":
            both = np.column_stack([np.zeros(len(own)), own])
            move = class_intercepts(both, labels, 2 * value)
            return scores + move[1] - move[0]
        return scores + class_intercepts(own, labels, value)


def class_intercepts(scores: Array, labels: Array, variance: float) -> Array:
    """Intercepts (n_classes,) by Newton's method on the penalised log-loss."""
    move = np.zeros(scores.shape[1])
    truth = np.eye(scores.shape[1])[labels]

    def loss(move: Array) -> float:
        moved = scores + move
        top = moved.max(axis=1)
        total = top + np.log(np.exp(moved - top[:, None]).sum(axis=1))
        fit = total - moved[np.arange(len(labels)), labels]
        return float(fit.sum() + move @ move / (2 * variance))

    for _ in range(_STEPS):
        p = softmax(scores + move, axis=1)
        slope = (p - truth).sum(axis=0) + move / variance
        curve = np.diag(p.sum(axis=0) + 1 / variance) - p.T @ p
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-4 and loss(move - size * step) > loss(move):
            size /= 2
        move = move - size * step
        if np.abs(size * step).max() < 1e-6:
            break
    return move


def variances(residuals: Array, tasks: Array) -> tuple[float, float]:
    """Variance between and within tasks by moments, for tasks of any size."""
    means, squares, sizes = [], 0.0, []
    for task in np.unique(tasks):
        own = residuals[tasks == task]
        means.append(own.mean())
        sizes.append(len(own))
        squares += np.square(own - own.mean()).sum()
    within = squares / max(1, len(residuals) - len(sizes))
    spread = np.var(means, ddof=1) - within * np.mean(1 / np.array(sizes))
    return max(float(spread), 1e-6 * float(within)), float(within)


def fit_offset(kind: str, train: Train) -> ShrunkOffset:
    """A pooled model of a kind with a shrunk intercept a task."""
    inner, pooled = (pooled_model(train, kind, inner=own) for own in (True, False))
    if train.kind == "regression":
        rows = np.setdiff1d(train.index, train.inner_index)
        table = train.table
        residuals = table.y[rows] - inner.predict(table.rows(rows))
        found: Any = variances(residuals, table.tasks[rows])
    else:
        model_of = partial(ShrunkOffset, inner, train.kind)
        found, _ = choose_by_shots(train, model_of, (0.01, 0.1, 1.0, 10.0))
    return ShrunkOffset(pooled, train.kind, found)


def fit_mixed(train: Train) -> ShrunkOffset:
    """Linear regression with a random intercept a task, by maximum likelihood."""
    X, y, tasks = train.rows(inner=False)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    scale = np.where(scale > 0, scale, 1)

    def design(X: Array) -> Array:
        return np.column_stack([np.ones(len(X)), (X - mean) / scale]).astype(float)

    A, (_, tasks, sizes) = design(X), np.unique(tasks, False, True, True)
    starts = np.argsort(tasks, kind="stable")
    cuts = np.cumsum(sizes)[:-1]

    def solve(ratio: float) -> tuple[Array, float, float]:
        """Coefficients, variance within and -2 log-likelihood at v / s2 = ratio."""
        # The rows of a task less a share of their mean are uncorrelated.
        share = 1 - 1 / np.sqrt(1 + ratio * sizes)
        parts = np.split(starts, cuts)
        B = np.column_stack([A, y])
        for part, own in zip(parts, share, strict=True):
            B[part] -= own * B[part].mean(axis=0)
        gram = B[:, :-1].T @ B[:, :-1] + 1e-6 * np.eye(A.shape[1])
        coef = np.linalg.solve(gram, B[:, :-1].T @ B[:, -1])
        within = float(np.mean(np.square(B[:, -1] - B[:, :-1] @ coef)))
        return coef, within, len(y) * np.log(within) + np.log1p(ratio * sizes).sum()

    found = minimize_scalar(
        lambda value: solve(np.exp(value))[2], bounds=(-12, 6), method="bounded"
    )
    ratio = float(np.exp(found.x))
    coef, within, _ = solve(ratio)
    pooled = Pooled(lambda X: design(X) @ coef, {"ratio": ratio})
    return ShrunkOffset(pooled, "regression", (ratio * within, within))


class Refit:
    """A linear model of the training rows and the support, a row of it `weight` times.

    The training rows have their exact loss in regression and its second order at
    their optimum for classes (one against the others), so that a task costs a system
    of the size of its support.
    """

    uses_labels, zero_labels = True, True

    def __init__(self, prior: list[tuple[Array, Array]], of: Any, weight: Any) -> None:
        self.prior, self.of, self.weight = prior, of, weight
        self.chosen = {"weight": weight}

    def predict_job(self, support: Array, labels: Array, query: Array) -> Array:
        kind, design = self.of
        own, asked = design(support), design(query)
        regression = kind == "regression"
        truths = [labels] if regression else [labels == c for c in self._classes()]
        found = []
        for (coef, inverse), truth in zip(self.prior, truths, strict=True):
            scores = asked @ coef
            if len(labels):
                spread = own @ inverse
                weight = nearest_weight(self.weight, labels, kind)
                slope = dual_slope(
                    spread @ own.T, own @ coef, truth, weight, regression
                )
                scores = scores + asked @ (spread.T @ slope)
            found.append(scores)
        return np.column_stack(found) if len(found) > 1 else found[0]

    def _classes(self) -> Array:
        return np.arange(len(self.prior)) if len(self.prior) > 1 else np.array([1])


def nearest_weight(weight: Any, labels: Array, kind: str) -> float:
    """One weight, or that for the number of labels next to this one."""
    if not isinstance(weight, dict):
        return weight
    return nearest(weight, shots_of(labels, kind))


def dual_slope(
    gram: Array, scores: Array, truth: Array, weight: float, regression: bool
) -> Array:
    """Negative slopes of the weighted losses at the optimum of loss plus prior."""
    if regression:
        return np.linalg.solve(gram + np.eye(len(gram)) / weight, truth - scores)
    slope = np.zeros(len(gram))
    for _ in range(_STEPS):
        p = expit(scores + gram @ slope)
        curve = np.maximum(weight * p * (1 - p), 1e-10)
        # Newton's step on the scores, whose fixed point is slope = weight (truth - p).
        wanted = weight * (truth - p) + curve * (gram @ slope)
        root = np.sqrt(curve)
        inside = np.eye(len(gram)) + root[:, None] * gram * root
        new = wanted - root * np.linalg.solve(inside, root * (gram @ wanted))
        change = np.abs(new - slope).max()
        slope = new
        if change < 1e-8:
            break
    return slope


def fit_refit(train: Train) -> Refit:
    """The pooled linear model, refitted with the support rows of a job."""
    strength = pooled_model(train, "linear", inner=True).chosen
    X = train.rows(inner=False)[0]
    scaled = train.table.X.dtype != np.uint8
    mean = X.mean(axis=0) if scaled else np.zeros(X.shape[1])
    scale = np.where(X.std(axis=0) > 0, X.std(axis=0), 1) if scaled else 1.0

    def design(X: Array) -> Array:
        return np.column_stack([np.ones(len(X)), (X - mean) / scale]).astype(float)

    def prior(inner: bool) -> list[tuple[Array, Array]]:
        X, y, weight = train.merged(inner)
        A = design(X)
        penalty = strength * np.eye(A.shape[1])
        penalty[0, 0] = 1e-6
        if train.kind == "regression":
            inverse = np.linalg.inv(A.T @ A + penalty)
            return [(inverse @ (A.T @ y), inverse)]
        classes = range(train.table.n_classes) if train.kind == "classes" else (1,)
        return [newton(A, y == c, weight, penalty) for c in classes]

    of = (train.kind, design)
    model_of = partial(Refit, prior(True), of)
    weight, _ = choose_by_shots(train, model_of, (1.0, 4.0, 16.0, 64.0))
    return Refit(prior(False), of, weight)


def newton(A: Array, y: Array, weight: Array, penalty: Array) -> tuple[Array, Array]:
    """Coefficients of logistic regression and the inverse curvature there."""
    coef = np.zeros(A.shape[1])
    for _ in range(_STEPS):
        p = expit(A @ coef)
        slope = A.T @ (weight * (p - y)) + penalty @ coef
        curve = (A.T * (weight * p * (1 - p))) @ A + penalty
        step = np.linalg.solve(curve, slope)
        # Long steps away from a start at 0 are cut, which the convexity allows.
        longest = np.abs(A @ step).max()
        coef = coef - step * min(1.0, 4.0 / max(longest, 1e-12))
        if longest < 1e-4:
            break
    return coef, np.linalg.inv(curve)
