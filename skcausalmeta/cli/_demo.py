"""Learn some digits, then tell new ones apart from one or five labels each."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from skorch.callbacks import LRScheduler

from ..backbones import Conv4
from ..datasets import add_rotated_classes, fetch_omniglot
from ..heads import GroupLassoSVC
from ..learners import SparseMetaClassifier
from ..model_selection import FewShotResult, evaluate_few_shot

SHOTS = (1, 2, 5, 10)
_TABLE_SHOTS = (1, 5)
_PICTURE_TASKS = 40

Results = dict[tuple[str, int], FewShotResult]


class Problem(NamedTuple):
    """Rows to learn from, rows of new classes, and the learner."""

    old: tuple[NDArray[Any], NDArray[Any]]
    new: tuple[NDArray[Any], NDArray[Any]]
    n_way: int
    learner: SparseMetaClassifier


def digits(smoke: bool) -> Problem:
    """The digits 0 to 5 with rotations, the digits 6 to 9, a small learner."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16.0).astype(np.float32).reshape(-1, 8, 8)
    old = y < 6
    # Settings chosen by cross-validation over the six training digits alone.
    learner = SparseMetaClassifier(
        GroupLassoSVC(group_reg=0.2, solver="auto"),
        backbone=Conv4(n_blocks=1, n_filters=32),
        augment="shift",
        max_epochs=1,
        batches_per_epoch=3 if smoke else 40,
        fit_head=False,
        random_state=0,
    )
    return Problem(add_rotated_classes(X[old], y[old]), (X[~old], y[~old]), 4, learner)


def omniglot(smoke: bool, folder: Path | None) -> Problem:
    """Characters of the training alphabets, those of the test alphabet, a learner."""
    train = fetch_omniglot(
        data_home=folder, split="train", download_if_missing=folder is None
    )
    test = fetch_omniglot(
        data_home=folder, split="test", download_if_missing=folder is None
    )
    epochs = 1 if smoke else 15
    learner = SparseMetaClassifier(
        GroupLassoSVC(group_reg=0.3, solver="auto"),
        backbone="conv4",
        augment="affine",
        n_way=5,
        n_shot=1,
        n_query=5,
        max_epochs=epochs,
        batches_per_epoch=3 if smoke else 100,
        fit_head=False,
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=epochs)],
        random_state=0,
    )
    old = add_rotated_classes(train.data, train.target)
    return Problem(old, (test.data, test.target), 5, learner)


def run_demo(problem: Problem, smoke: bool, picture: Path | None) -> str:
    """Train, evaluate, and draw where a file is given; the table as text."""
    if picture is not None:
        # Before the minutes of training: is there something to draw with?
        from ._demo_picture import draw
    learner, (X, y) = problem.learner, problem.new
    learner.fit(*problem.old)
    results = _evaluate(learner, X, y, problem.n_way, smoke)
    lines = _table(results, problem.n_way)
    if picture is not None:
        draw(learner, X, y, problem.n_way, results, picture, n_tasks=_PICTURE_TASKS)
        lines.append(f"picture: {picture}")
    return "\n".join(lines)


def _evaluate(
    learner: Any, X: NDArray[Any], y: NDArray[Any], n_way: int, smoke: bool
) -> Results:
    """Every contender at every number of shots, over the same episodes."""
    flat = X.reshape(len(X), -1) / float(X.max())
    contenders = {
        "SparseMetaClassifier": (learner, X),
        "nearest centroid, pixels": (NearestCentroid(), flat),
        "1-NN, pixels": (KNeighborsClassifier(1), flat),
        "logistic regression, pixels": (LogisticRegression(max_iter=200), flat),
    }
    results = {}
    for shots in SHOTS:
        n_episodes = 5 if smoke else 600 if shots in _TABLE_SHOTS else 100
        n_query = min(15, min(np.unique(y, return_counts=True)[1]) - shots)
        for name, (estimator, rows) in contenders.items():
            with warnings.catch_warnings():
                # NearestCentroid remarks on pixels that are always blank.
                warnings.simplefilter("ignore")
                results[name, shots] = evaluate_few_shot(
                    estimator,
                    rows,
                    y,
                    n_way=n_way,
                    n_shot=shots,
                    n_query=n_query,
                    n_episodes=n_episodes,
                    random_state=0,
                )
    return results


def _table(results: Results, n_way: int) -> list[str]:
    """Accuracy with intervals, features used and time to adapt."""
    names = list(dict.fromkeys(name for name, _ in results))
    heading = "".join(f"{f'{shots} shot':>16}" for shots in _TABLE_SHOTS)
    title = f"{n_way}-way accuracy, %"
    lines = [f"{title:<30}{heading}{'features used':>16}{'adapt':>10}"]
    for name in names:
        row = [results[name, shots] for shots in _TABLE_SHOTS]
        cells = "".join(
            f"{f'{100 * r.mean:.1f} +- {100 * r.half_width:.1f}':>16}" for r in row
        )
        used = row[-1].sparsity
        share = "all" if np.isnan(used) else f"{100 * (1 - used):.0f}%"
        time = f"{1e3 * row[-1].adapt_time:.1f} ms"
        lines.append(f"{name:<30}{cells}{share:>16}{time:>10}")
    first = results[names[0], _TABLE_SHOTS[-1]]
    lines.append(
        f"{first.n_episodes} episodes, 95% intervals; features used and time at "
        f"{_TABLE_SHOTS[-1]} shots; largest duality gap {first.max_dual_gap:.1e}"
    )
    return lines
