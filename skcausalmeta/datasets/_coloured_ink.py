"""Characters in coloured ink whose shape or colour follows the label."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ._confounding import draw_tied_classes


class PairPlan(NamedTuple):
    """Pairs of tasks on the same characters and hues; pool: positions of classes."""

    pool: NDArray[np.int64]
    n_classes: int

    def draw(self, rng: np.random.RandomState, n_tasks: int) -> Bunch:
        """Characters and hues of the tasks, and which of the two is the cause."""
        pairs = n_tasks // 2
        ranks = rng.uniform(size=(pairs, len(self.pool))).argsort(axis=1)
        starts = rng.uniform(size=(pairs, 1))
        hues = (starts + np.arange(self.n_classes) / self.n_classes) % 1
        order = rng.uniform(size=hues.shape).argsort(axis=1)
        numbers = np.arange(n_tasks)
        causal = np.eye(2, dtype=bool)[numbers % 2]  # (shape, colour)
        return Bunch(
            causal_sets=causal,
            confounder_sets=~causal,
            groups=numbers // 2,
            confounders=numbers ^ 1,
            characters=np.repeat(self.pool[ranks[:, : self.n_classes]], 2, axis=0),
            hues=np.repeat(np.take_along_axis(hues, order, axis=1), 2, axis=0),
        )


class Painter(NamedTuple):
    """Draws rows of tasks from the characters."""

    ink: NDArray[np.float32]
    codes: NDArray[np.int64]
    n_classes: int
    hue_noise: float
    label_noise: float
    signature: float

    def draw(
        self,
        rng: np.random.RandomState,
        tasks: Bunch,
        strengths: NDArray[np.float64],
        n_rows: int,
    ) -> Bunch:
        """Rows (n_tasks, n_envs * n_rows, ...), environment by environment."""
        shape = len(tasks.characters), n_rows
        drawn = [
            draw_tied_classes(rng, shape, self.n_classes, rho, self.label_noise)
            for rho in strengths
        ]
        target, cause, other = (
            np.concatenate(parts, axis=1) for parts in zip(*drawn, strict=True)
        )
        of_colour = tasks.causal_sets[:, 1:]
        shapes = np.take_along_axis(
            tasks.characters, np.where(of_colour, other, cause), axis=1
        )
        hues = np.take_along_axis(
            tasks.hues, np.where(of_colour, cause, other), axis=1
        ) + self.hue_noise * rng.standard_normal(target.shape)
        index = self._draw_images(rng, shapes)
        background = np.where(of_colour, self.signature, 0.0)
        return Bunch(
            data=_paint(self.ink[index], hues % 1, background),
            target=target,
            latents=np.stack([shapes, hues % 1], axis=2),
            index=index,
        )

    def _draw_images(
        self, rng: np.random.RandomState, wanted: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """A random image of every wanted class."""
        order = np.argsort(self.codes, kind="stable")
        counts = np.bincount(self.codes)
        first = np.cumsum(counts) - counts
        return order[first[wanted] + rng.randint(counts[wanted])]


def _paint(
    ink: NDArray[np.float32], hues: NDArray[np.float64], background: NDArray[Any]
) -> NDArray[np.float32]:
    """Ink (n_tasks, n_rows, height, width) in pure colours on grey."""
    # Red, green and blue lie at 0, 1/3 and 2/3 of the wheel.
    distance = np.abs((hues[..., None] - np.arange(3) / 3 + 0.5) % 1 - 0.5)
    colours = np.clip(2 - 6 * distance, 0, 1)[:, :, None, None]  # (..., 1, 1, 3)
    paper = background[:, :, None, None, None]
    painted: NDArray[Any] = ink[..., None] * (colours - paper) + paper
    return painted.astype(np.float32)
