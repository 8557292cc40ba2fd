"""Tasks solved each by itself, without a common predictor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._row_weights import weighing_keywords, weighted_class_middle
from .._task_batches import chunk_of, encode_tasks, in_task_chunks
from ._head_task import HeadTask
from ._task_heads import classify_tasks, middle_of, predict_tasks, tasks_within


def solve_classes(
    learner: Any,
    rows: NDArray[Any],
    labels: NDArray[Any],
    weights: NDArray[np.float64] | None,
) -> HeadTask:
    """Solve a head on rows with labels, of these weights; None: 1."""
    features = learner.net_.features_of(learner.reader_, rows)
    hooked, code = learner.net_.module_.hooked, None
    if hooked.is_active:
        classes, numbers = np.unique(labels, return_inverse=True)
        code = hooked.codes_of(features[None], numbers[None], len(classes))[0]
        features = hooked.features_of(features, code)
    if weights is None:
        center = middle_of(features[None], labels[None])[0, 0] * learner.center
    else:
        center = weighted_class_middle(features, labels, weights) * learner.center
    head = learner._new_head()
    head.fit(features - center, labels, **weighing_keywords(learner, head, weights))
    return HeadTask(classes=head.classes_, head=head, code=code, center=center)


def solve_values(
    learner: Any,
    features: NDArray[Any],
    targets: NDArray[Any],
    weights: NDArray[np.float64] | None,
) -> HeadTask:
    """Solve a head on features with real targets, of these weights; None: 1."""
    hooked = learner.net_.module_.hooked
    codes = hooked.codes_of(features[None], targets[None], 0)
    code = None if codes is None else codes[0]
    head = learner._new_head()
    keywords = weighing_keywords(learner, head, weights)
    head.fit(hooked.features_of(features, code), targets, **keywords)
    return HeadTask(head=head, code=code)


def classify_episodes(
    learner: Any,
    support: NDArray[Any],
    labels: NDArray[Any],
    query: NDArray[Any],
    max_memory: int | None,
) -> NDArray[Any]:
    """Solve checked tasks of classes; return the labels (n_tasks, n_query)."""
    numbers, classes = encode_tasks(labels)
    ways = np.array([len(names) for names in classes])

    def solve(part: slice) -> NDArray[Any]:
        one = learner._task_features(chunk_of(support, part))
        two = learner._task_features(chunk_of(query, part))
        hooked = learner.net_.module_.hooked
        one, two = hooked.episodes_of(one, numbers[part], two, ways[part])
        if learner.center:
            middle = middle_of(one, numbers[part])
            one, two = one - middle, two - middle
        head = learner._new_head()
        return classify_tasks(head, one, numbers[part], two, classes[part])

    size = tasks_within(learner, support, query, int(ways.max()), max_memory)
    winners = in_task_chunks(solve, len(support), size)
    return np.stack([names[k] for names, k in zip(classes, winners, strict=True)])


def predict_values(
    learner: Any,
    support: NDArray[Any],
    targets: NDArray[Any],
    query: NDArray[Any],
    max_memory: int | None,
) -> NDArray[Any]:
    """Solve checked tasks of real targets; return predictions (n_tasks, n_query)."""

    def solve(part: slice) -> NDArray[Any]:
        wanted = targets[part]
        one, two = learner.net_.module_.hooked.episodes_of(
            learner._task_features(chunk_of(support, part)),
            wanted,
            learner._task_features(chunk_of(query, part)),
            np.zeros(len(wanted), dtype=np.intp),
        )
        return predict_tasks(learner._new_head(), one, wanted, two)

    size = tasks_within(learner, support, query, 1, max_memory)
    return in_task_chunks(solve, len(support), size)
