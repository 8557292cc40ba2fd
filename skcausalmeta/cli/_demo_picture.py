"""Picture of the demo: features in use, and accuracy against labels."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from ..episodes import EpisodeSampler
from ..model_selection import FewShotResult


def draw(
    learner: Any,
    X: NDArray[Any],
    y: NDArray[Any],
    n_way: int,
    results: dict[tuple[str, int], FewShotResult],
    path: Path,
    *,
    n_tasks: int,
) -> None:
    """Mask of features x tasks, and accuracy against shots, in one file."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    masks = _supports(learner, X, y, n_way, n_tasks)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    order = np.argsort(-masks.mean(axis=1))
    left.imshow(masks[order], aspect="auto", cmap="Greys", interpolation="nearest")
    left.set(
        xlabel="task",
        ylabel="feature, most used first",
        title=f"features in use (black): {100 * masks.mean():.0f}%",
    )
    shots = sorted({shots for _, shots in results})
    for name in dict.fromkeys(name for name, _ in results):
        row = [results[name, k] for k in shots]
        right.errorbar(
            shots,
            [100 * r.mean for r in row],
            [100 * r.half_width for r in row],
            marker="o",
            capsize=3,
            label=name,
        )
    right.set(xscale="log", xlabel="labels per class", ylabel="accuracy, %")
    right.set_xticks(shots, [str(k) for k in shots])
    right.minorticks_off()
    right.legend()
    right.set_title(f"new classes, {n_way}-way, 95% intervals")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _supports(
    learner: Any, X: NDArray[Any], y: NDArray[Any], n_way: int, n_tasks: int
) -> NDArray[Any]:
    """Which features each task uses, (n_features, n_tasks)."""
    sampler = EpisodeSampler(y, n_way=n_way, n_shot=5, n_query=1, random_state=1)
    masks = np.zeros((learner.n_features_out_, n_tasks), dtype=bool)
    for task, episode in enumerate(sampler.draw(n_tasks)):
        adapted = copy.copy(learner).adapt(X[episode.support], y[episode.support])
        masks[adapted.support_features_, task] = True
    return masks
