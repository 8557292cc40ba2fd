"""Evidence for sets of features in which a task deviates from the common scores.

With the common scores c, their mean m, standardised features x and an orthonormal basis
B of what the scores of classes may differ in (1 for real targets), a set S says ::

    z(x) = c(x) + u (c(x) - m) + B (b + sum_{j in S} d_j x_j)
    u ~ N(mu, s_u^2),  b ~ N(0, 9 I),  d_j ~ N(0, tau^2 I)
    P(S) = pi^|S| (1 - pi)^(p - |S|)

and is worth log P(S) + log p(y | S). The marginal likelihood is that of Laplace, with H
the curvature of the loss at the mode t and Q the precision of the prior ::

    log p(y | S) = log p(y | t) - |t - t_0|_Q^2 / 2 + log det(Q) / 2
                   - log det(H + Q) / 2

exact for real targets, whose noise is normal. The constants are `DeviationPrior`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import logsumexp, softmax

# Prior variance of an intercept, nearly free.
_FREE = 9.0
# Features that are tried of every set, by a quadratic; most of a set.
_TRIED, _MOST = 6, 40
# Sets whose logarithm is so much less than the best are no part of the mean.
_NEGLIGIBLE = 8.0
_MAX_ITER, _TOL = 50, 1e-6

Set = tuple[int, ...]


@dataclass(frozen=True)
class DeviationPrior:
    """How tasks deviate, as the training tasks do.

    Attributes
    ----------
    share : float
        Share pi of the features in which a task deviates.
    variance : float
        tau^2, of the deviation in a standardised feature, in units of the scores.
    rest : float
        Variance of the deviation in all features, of real targets.
    gain, gain_variance : float
        Of the factor on the common scores, less 1.
    noise : float
        Variance of real targets around their scores; 1 for classes.
    """

    share: float = 0.1
    variance: float = 4.0
    rest: float = 0.0
    gain: float = 0.0
    gain_variance: float = 1.0
    noise: float = 1.0


@dataclass(frozen=True, eq=False)
class LabelledTask:
    """Labelled rows of a task, as the evidence reads them; `of` makes one.

    Attributes
    ----------
    features : ndarray of shape (n_rows, n_features)
        Standardised.
    targets : ndarray of shape (n_rows,)
        Class numbers, or standardised real targets.
    known : ndarray of shape (n_rows, n_scores)
        Common scores.
    fixed : ndarray of shape (n_rows, n_scores, 1 + width)
        Derivatives of the scores by the gain and the intercepts.
    basis : ndarray of shape (n_scores, width)
        What the coefficients of a feature move.
    weights : ndarray of shape (n_rows,)
        Of the rows.
    n_classes : int
        0 for real targets.
    """

    features: NDArray[Any]
    targets: NDArray[Any]
    known: NDArray[Any]
    fixed: NDArray[Any]
    basis: NDArray[Any]
    weights: NDArray[Any]
    n_classes: int

    @classmethod
    def of(
        cls,
        features: NDArray[Any],
        targets: NDArray[Any],
        known: NDArray[Any],
        center: NDArray[Any],
        n_classes: int,
        weights: NDArray[Any] | None = None,
    ) -> LabelledTask:
        """Return the task of rows, with the mean (n_scores,) of the common scores.

        Rows without weight say nothing and are left out.
        """
        if weights is not None:
            some = weights > 0
            features, targets, known = features[some], targets[some], known[some]
            weights = weights[some]
        basis = contrasts(n_classes)
        gain = (known - center)[..., None]  # (n, n_scores, 1)
        free = np.broadcast_to(basis, (len(known), *basis.shape))
        fixed = np.concatenate([gain, free], axis=2)
        weights = np.ones(len(known)) if weights is None else weights
        return cls(features, targets, known, fixed, basis, weights, n_classes)

    @property
    def width(self) -> int:
        """Coefficients of a feature."""
        return self.basis.shape[1]

    def whitened(self, prior: DeviationPrior) -> LabelledTask:
        """Return the task of real targets without noise that its rows share.

        What deviates a little in all features is noise of covariance X X' * rest.
        """
        if self.n_classes:
            return self
        noise = np.diag(prior.noise / self.weights)
        root = np.linalg.cholesky(noise + prior.rest * self.features @ self.features.T)

        def white(values: NDArray[Any]) -> NDArray[Any]:
            return solve_triangular(root, values, lower=True)

        targets = white(self.targets - self.known[:, 0])
        return replace(
            self,
            features=white(self.features),
            targets=targets,
            known=np.zeros((len(targets), 1)),
            fixed=white(self.fixed[:, 0])[:, None],
            weights=np.ones(len(targets)),
        )

    def design(self, sets: NDArray[np.int64]) -> NDArray[Any]:
        """Return derivatives of the scores (n_sets, n, n_scores, n_coefs)."""
        n_sets, size = sets.shape
        n, n_scores, n_fixed = self.fixed.shape
        own = self.features[:, sets].transpose(1, 0, 2)  # (n_sets, n, size)
        parts = own[:, :, None, :, None] * self.basis[:, None]
        found = np.empty((n_sets, n, n_scores, n_fixed + size * self.width))
        found[..., :n_fixed] = self.fixed
        found[..., n_fixed:] = parts.reshape(n_sets, n, n_scores, -1)
        return found

    def likelihood(
        self, scores: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return log-likelihoods (n_sets,), residuals and shares (n_sets, n, n_scores).

        Residuals are the derivatives by the scores; shares the probabilities of the
        classes, or 1.
        """
        weights = self.weights
        if not self.n_classes:
            left = self.targets[:, None] - scores
            each = -(left[..., 0] ** 2) / 2
            return each @ weights, left * weights[:, None], np.ones_like(left)
        rows = np.arange(len(self.targets))
        each = scores[:, rows, self.targets] - logsumexp(scores, axis=2)
        shares = softmax(scores, axis=2)
        left = -shares
        left[:, rows, self.targets] += 1.0
        return each @ weights, left * weights[:, None], shares

    def roots(self, design: NDArray[Any], shares: NDArray[Any]) -> NDArray[Any]:
        """Return G (n_sets, n * n_scores, n_coefs) of the curvature G'G."""
        scale = np.sqrt(self.weights)[:, None, None]
        if self.n_classes:
            middle = (shares[..., None] * design).sum(axis=2, keepdims=True)
            design = np.sqrt(shares)[..., None] * (design - middle)
        found = design * scale
        return found.reshape(len(design), -1, design.shape[-1])


def contrasts(n_classes: int) -> NDArray[np.float64]:
    """Return an orthonormal basis (n_scores, width) of scores that sum to 0."""
    if not n_classes:
        return np.ones((1, 1))
    basis = np.zeros((n_classes, n_classes - 1))
    for k in range(1, n_classes):  # Helmert
        basis[:k, k - 1], basis[k, k - 1] = 1.0, -k
    return basis / np.linalg.norm(basis, axis=0)


@dataclass(frozen=True, eq=False)
class Modes:
    """Where the posteriors of some sets have their modes.

    Attributes
    ----------
    log_evidence : ndarray of shape (n_sets,)
    coefs : ndarray of shape (n_sets, n_coefs)
        The gain, intercepts, and coefficients feature by feature.
    curvature : ndarray of shape (n_sets, n_coefs, n_coefs)
        Of the posterior.
    """

    log_evidence: NDArray[Any]
    coefs: NDArray[Any]
    curvature: NDArray[Any]


def solve_sets(
    task: LabelledTask,
    sets: NDArray[np.int64],
    prior: DeviationPrior,
    begin: NDArray[Any] | None = None,
) -> Modes:
    """Find the modes and Laplace evidences of sets of as many features, by Newton.

    Parameters
    ----------
    task : LabelledTask
        Whitened.
    sets : ndarray of shape (n_sets, size)
    prior : DeviationPrior
    begin : ndarray of shape (n_sets, n_coefs), default=None
        Where to begin.
    """
    design = task.design(sets)
    n_sets, n_coefs = len(sets), design.shape[-1]
    mean, precision = np.zeros(n_coefs), _precision(prior, task.width, n_coefs)
    mean[0] = prior.gain
    flat = design.reshape(n_sets, -1, n_coefs)
    coefs = np.tile(mean, (n_sets, 1)) if begin is None else begin.copy()

    def value(at: NDArray[Any], some: Any) -> tuple[NDArray[Any], ...]:
        scores = (flat[some] @ at[..., None]).reshape(len(at), *task.known.shape)
        found = task.likelihood(scores + task.known)
        return (found[0] - ((at - mean) ** 2 @ precision) / 2, *found[1:])

    log_posterior, left, shares = value(coefs, slice(None))
    curvature = np.empty((n_sets, n_coefs, n_coefs))
    active = np.arange(n_sets)
    for _ in range(_MAX_ITER):
        root = task.roots(design[active], shares)
        bend = root.mT @ root + np.diag(precision)
        curvature[active] = bend
        slope = (flat[active].mT @ left.reshape(len(active), -1, 1))[..., 0]
        slope -= (coefs[active] - mean) * precision
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        gain = (step * slope).sum(axis=1)
        going = gain > _TOL
        if not going.any():
            break
        active, step, gain = active[going], step[going], gain[going]
        length = np.ones(len(active))
        for _ in range(30):
            trial = coefs[active] + length[:, None] * step
            new, left, shares = value(trial, active)
            short = new < log_posterior[active] + 1e-4 * length * gain - 1e-9
            if not short.any():
                break
            length[short] /= 2
        coefs[active], log_posterior[active] = trial, new
    _, logdet = np.linalg.slogdet(curvature)
    return Modes(
        log_posterior + np.log(precision).sum() / 2 - logdet / 2, coefs, curvature
    )


def _precision(prior: DeviationPrior, width: int, n_coefs: int) -> NDArray[Any]:
    """Return the precisions (n_coefs,) of the gain, intercepts and deviations."""
    found = np.full(n_coefs, 1.0 / prior.variance)
    found[0] = 1.0 / prior.gain_variance
    found[1 : 1 + width] = 1.0 / _FREE
    return found


def promising(
    task: LabelledTask, own: Set, coefs: NDArray[Any], prior: DeviationPrior, most: int
) -> NDArray[np.int64]:
    """Return features to add to a set: by the evidence of a quadratic at its mode."""
    others = np.setdiff1d(np.arange(task.features.shape[1]), own)
    if len(others) <= most:
        return others
    width, n = task.width, len(task.targets)
    design = task.design(np.array([own], dtype=np.int64).reshape(1, -1))
    scores = (design[0] @ coefs + task.known)[None]
    _, left, shares = task.likelihood(scores)
    root = task.roots(design, shares)[0]
    basis = np.broadcast_to(task.basis, (1, n, *task.basis.shape))
    unit = task.roots(basis, shares)[0].reshape(n, -1, width)
    x = task.features[:, others]
    slope = x.T @ (left[0] @ task.basis)  # (n_others, width)
    bend = np.einsum("nj,nab->jab", x**2, unit.mT @ unit)
    both = unit.mT @ root.reshape(n, -1, root.shape[1])  # (n, width, n_coefs)
    cross = np.tensordot(x.T, both, axes=1)
    whole = root.T @ root + np.diag(_precision(prior, width, root.shape[1]))
    bend = bend - cross @ np.linalg.solve(whole, cross.mT)
    eye = np.eye(width)
    step = np.linalg.solve(bend + eye / prior.variance, slope[..., None])[..., 0]
    worth = (step * slope).sum(axis=1)
    worth -= np.linalg.slogdet(eye + prior.variance * bend)[1]
    return others[np.argsort(-worth, kind="stable")[:most]]


@dataclass(frozen=True, eq=False)
class Found:
    """Sets that a search has met, those that matter, best first.

    Attributes
    ----------
    sets : list of tuple of int
    shares : ndarray of shape (n_sets,)
        Their posterior probabilities among these.
    """

    sets: list[Set]
    shares: NDArray[Any]

    def inclusion(self, n_features: int) -> NDArray[np.float64]:
        """Return the posterior probabilities that features deviate."""
        found = np.zeros(n_features)
        for own, share in zip(self.sets, self.shares, strict=True):
            found[list(own)] += share
        return found


def search_sets(task: LabelledTask, prior: DeviationPrior) -> Found:
    """Search sets by their evidence: grow the best one, then drop from the winner.

    Parameters
    ----------
    task : LabelledTask
    prior : DeviationPrior
    """
    return _Search(task.whitened(prior), prior).run()


class _Search:
    """Sets that were met: logarithm of the posterior, coefficients, curvature."""

    def __init__(self, task: LabelledTask, prior: DeviationPrior) -> None:
        self.task, self.prior = task, prior
        self.odds = float(np.log(prior.share) - np.log1p(-prior.share))
        self.worth: dict[Set, float] = {}
        self.coefs: dict[Set, NDArray[Any]] = {}

    def run(self) -> Found:
        """Return the sets that matter."""
        self._solve((), [()])
        best = self._dropped(self._grown())
        least = self.worth[best] - _NEGLIGIBLE
        sets = sorted(self.worth, key=lambda own: -self.worth[own])
        sets = [own for own in sets if self.worth[own] > least]
        shares = softmax(np.array([self.worth[own] for own in sets]))
        return Found(sets, shares)

    def _grown(self) -> Set:
        """Return the best of sets that grow feature by feature, past a bad one."""
        best: Set = ()
        own: Set = ()
        while len(own) < min(_MOST, self.task.features.shape[1]):
            more = promising(self.task, own, self.coefs[own], self.prior, _TRIED)
            sets = [tuple(sorted((*own, j))) for j in more.tolist()]
            self._solve(own, sets)
            own = max(sets, key=self.worth.__getitem__)
            if self.worth[own] > self.worth[best]:
                best = own
            elif len(own) > len(best) + 1:
                break
        return best

    def _dropped(self, best: Set) -> Set:
        """Return the best set after dropping features, as long as it helps."""
        while best:
            fewer = [best[:k] + best[k + 1 :] for k in range(len(best))]
            self._solve(best, fewer)
            top = max(fewer, key=self.worth.__getitem__)
            if self.worth[top] <= self.worth[best]:
                break
            best = top
        return best

    def _solve(self, parent: Set, sets: list[Set]) -> None:
        """Solve new sets of as many features, each from the mode of its parent."""
        sets = [own for own in sets if own not in self.worth]
        if not sets:
            return
        table = np.array(sets, dtype=np.int64).reshape(len(sets), -1)
        begin = self._begin(parent, sets) if parent in self.coefs else None
        modes = solve_sets(self.task, table, self.prior, begin)
        for own, worth, coefs in zip(
            sets, modes.log_evidence.tolist(), modes.coefs, strict=True
        ):
            self.worth[own] = worth + len(own) * self.odds
            self.coefs[own] = coefs

    def _begin(self, parent: Set, sets: list[Set]) -> NDArray[Any]:
        """Return coefficients (n_sets, n_coefs), those of the parent where it has."""
        width, coefs = self.task.width, self.coefs[parent]
        fixed = 1 + width
        by_feature = dict(zip(parent, coefs[fixed:].reshape(-1, width), strict=True))
        nothing = np.zeros(width)
        rows = [[by_feature.get(j, nothing) for j in own] for own in sets]
        own = np.array(rows).reshape(len(sets), -1)
        return np.hstack([np.tile(coefs[:fixed], (len(sets), 1)), own])
