"""Latents and targets of tasks that confound each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert
from sklearn.utils import Bunch

from ._confounding import draw_tied_classes
from ._mixing import mixed_rows


class GroupPlan(NamedTuple):
    """What the tasks of a group depend on."""

    n_factors: int
    set_size: int
    tasks_per_group: int
    sets: str
    n_scores: int

    def draw(self, rng: np.random.RandomState, n_tasks: int) -> Bunch:
        """Causal sets, weights and confounders of that many tasks."""
        groups = np.arange(n_tasks) // self.tasks_per_group
        parts = [self._parts(rng) for _ in range(groups[-1] + 1)]
        members = np.concatenate(parts)  # (n_tasks, set_size)
        normal = rng.standard_normal((n_tasks, self.set_size, self.n_scores))
        inside = np.linalg.qr(normal)[0]  # orthonormal columns
        weights = np.zeros((n_tasks, self.n_scores, self.n_factors))
        places = np.arange(n_tasks)[:, None], slice(None), members
        weights[places] = inside
        causal = np.zeros((n_tasks, self.n_factors), dtype=bool)
        np.put_along_axis(causal, members, True, axis=1)
        first = groups * self.tasks_per_group
        confounders = first + (np.arange(n_tasks) - first + 1) % self.tasks_per_group
        return Bunch(
            causal_sets=causal,
            confounder_sets=causal[confounders],
            groups=groups,
            confounders=confounders,
            weights=weights,
        )

    def _parts(self, rng: np.random.RandomState) -> NDArray[np.int64]:
        """Disjoint sets of factors (tasks_per_group, set_size)."""
        if self.sets == "random":
            count = self.tasks_per_group * self.set_size
            return rng.permutation(self.n_factors)[:count].reshape(-1, self.set_size)
        blocks = rng.permutation(self.n_factors // self.set_size)
        chosen = blocks[: self.tasks_per_group, None]
        return chosen * self.set_size + np.arange(self.set_size)


class FactorRule(NamedTuple):
    """How targets come from the factors."""

    classes: bool
    n_classes: int
    noise: float
    signature: float
    mixing: Callable[[NDArray[Any]], NDArray[Any]]

    def draw(
        self,
        rng: np.random.RandomState,
        tasks: Bunch,
        strengths: NDArray[np.float64],
        n_rows: int,
    ) -> Bunch:
        """Rows (n_tasks, n_envs * n_rows, ...), environment by environment."""
        draw = self._classify if self.classes else self._regress
        shift = self.signature * tasks.causal_sets[:, None]
        latents, targets = [], []
        for rho in strengths:
            shape = len(tasks.weights), n_rows, tasks.weights.shape[2]
            rows = rng.standard_normal(shape)
            y, score, other = draw(rng, shape[:2], rho)
            _set_scores(rows, tasks.weights, score)
            _set_scores(rows, tasks.weights[tasks.confounders], other)
            latents.append(rows + shift)
            targets.append(y)
        joint = np.concatenate(latents, axis=1)
        seen = mixed_rows(self.mixing, joint.reshape(-1, joint.shape[2]))
        return Bunch(
            data=seen.reshape(*joint.shape[:2], *seen.shape[1:]),
            target=np.concatenate(targets, axis=1),
            latents=joint,
        )

    def _classify(
        self, rng: np.random.RandomState, shape: tuple[int, int], rho: float
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        labels, causal, spurious = draw_tied_classes(
            rng, shape, self.n_classes, rho, self.noise
        )
        return labels, self._scores_of(rng, causal), self._scores_of(rng, spurious)

    def _regress(
        self, rng: np.random.RandomState, shape: tuple[int, int], rho: float
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        score, noise, own = rng.standard_normal((3, *shape))
        y = score + self.noise * noise
        other = rho * y / np.sqrt(1 + self.noise**2) + np.sqrt(1 - rho**2) * own
        return y, score[..., None], other[..., None]

    def _scores_of(
        self, rng: np.random.RandomState, classes: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Standard normal scores (..., n_classes - 1), given their class."""
        # A swap of two corners maps the simplex and the normal law to themselves.
        corners = rng.standard_normal((*classes.shape, self.n_classes))
        wanted, largest = classes[..., None], corners.argmax(axis=-1)[..., None]
        best = np.take_along_axis(corners, largest, axis=-1)
        replaced = np.take_along_axis(corners, wanted, axis=-1)
        np.put_along_axis(corners, largest, replaced, axis=-1)
        np.put_along_axis(corners, wanted, best, axis=-1)
        return -corners @ helmert(self.n_classes).T  # minus: class 1 is u > 0


def _set_scores(
    latents: NDArray[np.float64],
    weights: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> None:
    """Move latents along orthonormal weights, so that they have given scores."""
    wrong = scores - latents @ weights.swapaxes(1, 2)  # (n_tasks, n_rows, n_scores)
    latents += wrong @ weights
