"""TaskSampler: every task is its own problem."""

from itertools import islice

import numpy as np
import pytest
from scipy import stats
from sklearn.utils import check_random_state

from skcausalmeta.episodes import TaskSampler
from skcausalmeta.exceptions import EpisodeError, InvalidInputError

CLASSES = {"t0": ["a", "b"], "t1": ["b", "c", "d"], "t2": ["x", "y"]}


def make_tasks(n_rows=6, seed=0):
    """Tasks with classes of their own, rows in random order."""
    pairs = [(t, c) for t, cs in CLASSES.items() for c in cs for _ in range(n_rows)]
    pairs = np.random.default_rng(seed).permutation(pairs)
    return pairs[:, 0], pairs[:, 1]


def make_values(sizes=(8, 30, 12), seed=0):
    rng = np.random.default_rng(seed)
    tasks = rng.permutation(np.repeat([3, 5, 11], sizes))
    return tasks, rng.normal(size=len(tasks))


def rows_of(episode):
    return np.concatenate([episode.support, episode.query])


def test_task_has_its_own_classes_and_rows():
    tasks, y = make_tasks()
    sampler = TaskSampler(tasks, y, n_shot=2, n_query=3, random_state=0)
    np.testing.assert_array_equal(sampler.task_ids, list(CLASSES))
    for task, classes in CLASSES.items():
        episode = sampler.sample(task)
        assert episode.task == task
        assert set(episode.classes) == set(classes)
        assert episode.n_way == len(classes)
        assert (tasks[rows_of(episode)] == task).all()
        assert len(np.unique(rows_of(episode))) == len(classes) * 5
        for rows, targets, per_class in [
            (episode.support, episode.support_targets, 2),
            (episode.query, episode.query_targets, 3),
        ]:
            assert targets.dtype == np.int64
            np.testing.assert_array_equal(np.bincount(targets), per_class)
            np.testing.assert_array_equal(y[rows], episode.classes[targets])


def test_values_are_the_targets_of_the_rows():
    tasks, y = make_values()
    sampler = TaskSampler(
        tasks, y, n_shot=3, n_query=4, target_type="value", random_state=0
    )
    for episode in sampler.draw(9):
        assert episode.classes is None
        assert episode.n_way is None
        assert (episode.n_support, episode.n_query) == (3, 4)
        assert len(np.unique(rows_of(episode))) == 7
        assert (tasks[rows_of(episode)] == episode.task).all()
        np.testing.assert_array_equal(y[episode.support], episode.support_targets)
        np.testing.assert_array_equal(y[episode.query], episode.query_targets)


def test_integer_values_become_floats():
    sampler = TaskSampler(
        [0] * 6, range(6), n_shot=2, n_query=2, target_type="value", random_state=0
    )
    assert sampler.sample().support_targets.dtype == np.float64


def test_remapped_label_says_nothing_about_the_class():
    tasks, y = make_tasks()
    sampler = TaskSampler(tasks, y, n_shot=1, n_query=1, random_state=1)
    firsts = [sampler.sample("t1").classes[0] for _ in range(1500)]
    _, counts = np.unique(firsts, return_counts=True)
    assert len(counts) == 3
    assert stats.chisquare(counts).pvalue > 1e-4


def test_draw_passes_over_the_tasks():
    tasks, y = make_values()
    sampler = TaskSampler(
        tasks, y, n_shot=2, n_query=2, target_type="value", random_state=0
    )
    orders = [tuple(e.task for e in sampler.draw(3)) for _ in range(30)]
    assert all(sorted(order) == [3, 5, 11] for order in orders)
    assert len(set(orders)) > 1
    for _ in range(10):
        assert len({e.task for e in sampler.draw(2)}) == 2
    counts = np.unique([e.task for e in sampler.draw(7)], return_counts=True)[1]
    assert sorted(counts) == [2, 2, 3]
    assert sampler.draw(0) == []
    assert [e.task for e in islice(sampler, 6)].count(5) == 2


def test_random_tasks_are_uniform_whatever_their_size():
    tasks, y = make_values()
    sampler = TaskSampler(
        tasks, y, n_shot=2, n_query=2, target_type="value", random_state=0
    )
    drawn = [sampler.sample().task for _ in range(1500)]
    assert stats.chisquare(np.unique(drawn, return_counts=True)[1]).pvalue > 1e-4


def test_fresh_and_reproducible():
    tasks, y = make_tasks(n_rows=20)
    first = TaskSampler(tasks, y, random_state=4).draw(12)
    second = TaskSampler(tasks, y, random_state=4).draw(12)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(rows_of(a), rows_of(b))
        np.testing.assert_array_equal(a.classes, b.classes)
    assert len({tuple(rows_of(episode)) for episode in first}) == 12


def test_global_random_state_is_left_alone():
    shared = check_random_state(None)  # numpy's global state
    start = shared.get_state()
    tasks, y = make_tasks()
    TaskSampler(tasks, y, n_shot=1, n_query=1).draw(5)
    np.testing.assert_equal(shared.get_state(), start)


def test_class_with_too_few_rows_is_named():
    tasks, y = make_tasks()
    keep = np.ones(len(y), dtype=bool)
    keep[np.flatnonzero((tasks == "t1") & (y == "c"))[:2]] = False
    with pytest.raises(EpisodeError, match="task 't1', class 'c' with 4 rows"):
        TaskSampler(tasks[keep], y[keep], n_shot=2, n_query=3)


def test_task_with_one_class_is_named():
    tasks, y = make_tasks()
    keep = y != "y"
    with pytest.raises(EpisodeError, match="task 't2' with the single class 'x'"):
        TaskSampler(tasks[keep], y[keep], n_shot=2, n_query=3)


def test_task_with_too_few_rows_is_named():
    tasks, y = make_values()
    with pytest.raises(EpisodeError, match="task 3 with 8 rows for n_shot=5"):
        TaskSampler(tasks, y, n_shot=5, n_query=4, target_type="value")


def test_unknown_task():
    tasks, y = make_tasks()
    sampler = TaskSampler(tasks, y, n_shot=2, n_query=3)
    with pytest.raises(EpisodeError, match=r"one of the 3 ids in task_ids\. Got 't9'"):
        sampler.sample("t9")


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"n_shot": 0}, "n_shot"),
        ({"n_query": 2.0}, "n_query"),
        ({"target_type": "label"}, "target_type"),
        ({"random_state": "x"}, "random_state"),
    ],
)
def test_parameters_out_of_range(parameters, name):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of TaskSampler"):
        TaskSampler(*make_tasks(), **parameters)


@pytest.mark.parametrize(
    ("tasks", "y", "target_type", "message"),
    [
        ([0, 0, 1], [0, 1], "class", "3 task ids and 2 targets"),
        ([[0, 1]], [0, 1], "class", r"tasks must be one-dimensional.*\(1, 2\)"),
        ([0.0, np.nan], [0, 1], "class", "tasks must not hold NaN"),
        ([0, 0], [0.5, 1.0], "class", "y must hold labels"),
        ([0, 0], ["a", "b"], "value", "y must hold numbers"),
        ([0, 0], [[1.0], [2.0]], "value", "y must be one-dimensional"),
        ([0, 0], [1.0, np.nan], "value", "1 rows with NaN or infinity"),
    ],
)
def test_invalid_input(tasks, y, target_type, message):
    with pytest.raises(InvalidInputError, match=message):
        TaskSampler(tasks, y, target_type=target_type)
