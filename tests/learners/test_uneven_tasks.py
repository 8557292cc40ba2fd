"""One small class, task or environment costs itself only; shots that are drawn."""

import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.base import clone

from skcausalmeta.exceptions import EpisodeError, InvalidInputError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.learners._episode_plan import plan_episodes
from skcausalmeta.learners._episode_sizes import EpisodeSizes
from skcausalmeta.persistence import load, save
from skcausalmeta.training import Validation
from skcausalmeta.utils import named_seeds

SMALL = {
    "backbone": "identity",
    "max_epochs": 1,
    "batches_per_epoch": 3,
    "tasks_per_batch": 4,
    "verbose": 0,
    "random_state": 0,
}


def sparse(**params):
    remapped = {"shared_labels": False, "common": None}
    return SparseMetaClassifier(RidgeHead(), **{**SMALL, **remapped, **params})


def maml(**params):
    remapped = {"backbone": "mlp", "shared_labels": False}
    return MAMLClassifier(inner_steps=1, **{**SMALL, **remapped, **params})


def sparse_values(**params):
    return SparseMetaRegressor(RidgeHead(), **{**SMALL, "common": None, **params})


def maml_values(**params):
    return MAMLRegressor(inner_steps=1, **{**SMALL, "backbone": "mlp", **params})


CLASSIFIERS = pytest.mark.parametrize("make", [sparse, maml])
REGRESSORS = pytest.mark.parametrize("make", [sparse_values, maml_values])


def rows_for(y):
    rows = np.random.default_rng(0).standard_normal((len(y), 4))
    rows[:, 0] += np.asarray(y, dtype=float)
    return rows


def plan_of(learner, y, tasks=None, envs=None):
    seeds = named_seeds(0, "episodes", "validation", "held-out")
    validation = Validation.of(learner.validation)
    return learner._plan(np.asarray(y), tasks, envs, validation, seeds)


def sizes_of(source, n_episodes=40):
    """Support and query rows of every class (or task), over some episodes."""
    found = {}
    for episode in source(n_episodes):
        if episode.classes is None:
            found[episode.task] = episode.n_support, episode.n_query
            continue
        one = np.bincount(episode.support_targets).tolist()
        two = np.bincount(episode.query_targets).tolist()
        for name, *sizes in zip(episode.classes.tolist(), one, two, strict=True):
            found[episode.task, name] = tuple(sizes)
    return found


@contextmanager
def one_note(message):
    """Expect one warning about what is left out, and others as they come."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    notes = [str(w.message) for w in caught if "Episodes take" in str(w.message)]
    assert len(notes) == 1
    assert message in notes[0]


# -- classes ---------------------------------------------------------------------------


@CLASSIFIERS
def test_a_class_of_two_rows_does_not_shrink_the_others(make):
    y = np.repeat(np.arange(8), [40] * 7 + [2])
    plan = plan_of(make(), y)
    wanted = {(None, label): (5, 10) for label in range(7)} | {(None, 7): (1, 1)}
    assert sizes_of(plan.train) == wanted
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert len(make().fit(rows_for(y), y).classes_) == 8


@pytest.mark.parametrize("counts", [[40, 40, 2], [40] * 4 + [3, 3, 2], [40, 2]])
def test_few_large_classes_keep_their_size(counts):
    found = sizes_of(plan_of(sparse(), np.repeat(np.arange(len(counts)), counts)).train)
    for label, n_rows in enumerate(counts):
        shot = min(5, n_rows // 2)
        assert found[None, label] == (shot, min(10, n_rows - shot))


def test_a_class_of_one_row_is_left_out_with_one_warning():
    y = np.repeat(["a", "b", "c", "solo"], [20, 20, 20, 1])
    rows = rows_for(np.arange(61))
    with one_note("classes of at least 2 rows. Got less in 1 ('solo') of 4 classes"):
        sparse(calibrate=3).fit(rows, y)
    with one_note("while the others keep their size; add rows."):
        sparse(calibrate=3, validation=["a", "b"], n_way=2).fit(
            np.concatenate([rows, rows]), np.concatenate([y, np.char.add(y, "2")])
        )


@CLASSIFIERS
def test_numbers_that_a_class_cannot_give_cost_that_class(make):
    y = np.repeat(np.arange(6), [30] * 5 + [8])
    learner = make(n_way=3, n_shot=5, n_query=4)
    with pytest.warns(
        UserWarning, match=r"at least 9 rows.* 1 \(5\) of 6.*lower n_shot"
    ):
        learner.fit(rows_for(y), y)
    assert set(sizes_of(plan_of(learner, y).train)) == {(None, k) for k in range(5)}
    with pytest.raises(EpisodeError, match="Got class 5 with 8 rows for n_shot=5"):
        learner.set_params(n_way=6).fit(rows_for(y), y)


# -- tasks of classes ------------------------------------------------------------------

TASKS = np.repeat(np.arange(6), 40)
LABELS = np.tile([0, 1], 120)


def with_one_class(labels):
    return np.where(TASKS == 2, 1, labels)


def with_one_row(labels):
    spoiled = with_one_class(labels)
    spoiled[np.flatnonzero(TASKS == 2)[0]] = 0
    return spoiled


@CLASSIFIERS
@pytest.mark.parametrize("spoil", [with_one_class, with_one_row])
@pytest.mark.parametrize("params", [{}, {"n_shot": 1}, {"n_shot": 3, "n_query": 5}])
def test_a_task_without_two_classes_costs_itself(make, spoil, params):
    y = spoil(LABELS)
    learner = make(calibrate=3, **params)
    with one_note("Got less in 1 (2) of 6 tasks, which are left out"):
        learner.fit(rows_for(y), y, tasks=TASKS)
    found = sizes_of(plan_of(learner, y, TASKS).train)
    sizes = (params.get("n_shot", 5), params.get("n_query", 10))
    assert found == {(t, c): sizes for t in (0, 1, 3, 4, 5) for c in (0, 1)}


def test_a_small_class_of_a_task_costs_itself():
    y = LABELS.copy()
    y[np.flatnonzero(TASKS == 4)[0]] = 7
    with one_note("fewer in classes of 1 (4) of 6 tasks, whose other classes are used"):
        sparse().fit(rows_for(y), y, tasks=TASKS)
    found = sizes_of(plan_of(sparse(), y, TASKS).train)
    assert found == {(t, c): (5, 10) for t in range(6) for c in (0, 1)}


def test_many_small_tasks_are_counted():
    y = np.where(TASKS == 5, LABELS, 0)
    y[TASKS == 4] = LABELS[TASKS == 4]
    ids = np.where(TASKS < 4, np.arange(240) // 20, 100 + TASKS)
    with pytest.warns(UserWarning, match=r"8 \(0, 1, 2, 3, 4 and 3 more\) of 10 tasks"):
        sparse().fit(rows_for(y), y, tasks=ids)


@CLASSIFIERS
def test_nothing_that_serves_is_an_error(make):
    with pytest.raises(EpisodeError, match="Got task 0 with the single class 0"):
        make().fit(rows_for(LABELS), LABELS, tasks=TASKS * 2 + LABELS)
    with pytest.raises(
        EpisodeError, match="task 0, class 0 with 20 rows for n_shot=15"
    ):
        make(n_shot=15, n_query=9).fit(rows_for(LABELS), LABELS, tasks=TASKS)


def test_tasks_to_hold_out_may_be_too_small():
    y = with_one_class(LABELS)
    plan = plan_of(sparse(validation=[1, 2, 3]), y, TASKS)
    assert {task for task, _ in sizes_of(plan.valid)} == {1, 3}
    assert {task for task, _ in sizes_of(plan.train)} == {0, 4, 5}
    for seed in range(20):
        seeds = named_seeds(seed, "episodes", "validation", "held-out")
        share = Validation.of(0.34)
        plan = sparse()._plan(y, TASKS, None, share, seeds)
        held_out = {task for task, _ in sizes_of(plan.valid)}
        assert len(held_out) == 2
        assert 2 not in held_out
    with pytest.raises(InvalidInputError, match="Got 0 held out and 5 to train on"):
        plan_of(sparse(validation=[2]), y, TASKS)


# -- tasks of real targets -------------------------------------------------------------


@REGRESSORS
def test_a_task_of_three_rows_does_not_shrink_the_others(make):
    tasks = np.repeat(np.arange(5), [60, 60, 3, 60, 1])
    y = np.random.default_rng(1).standard_normal(len(tasks))
    plan = plan_of(make(), y, tasks)
    assert sizes_of(plan.train) == {
        **dict.fromkeys((0, 1, 3), (25, 25)),
        2: (1, 2),
    }
    with one_note("tasks of at least 2 rows. Got less in 1 (4) of 5 tasks"):
        learner = make().fit(rows_for(y), y, tasks=tasks)
    assert np.isfinite(learner.history_[0]["train_loss"])
    if make is sparse_values:  # which knows the training tasks, all of them
        known = learner.predict(rows_for(y), tasks=tasks)
        assert np.isfinite(known).all()


@REGRESSORS
def test_numbers_that_a_task_cannot_give_cost_that_task(make):
    tasks = np.repeat(np.arange(4), [60, 60, 3, 60])
    y = np.arange(183.0)
    learner = make(n_shot=4, n_query=6)
    with pytest.warns(
        UserWarning, match=r"at least 10 rows\. Got less in 1 \(2\) of 4"
    ):
        learner.fit(rows_for(y), y, tasks=tasks)
    with pytest.raises(EpisodeError, match="task 0 with 60 rows for n_shot=60"):
        make(n_shot=60, n_query=6).fit(rows_for(y), y, tasks=tasks)


# -- environments ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [sparse, sparse_values])
def test_a_small_environment_does_not_shrink_the_others(make):
    envs = np.tile(np.repeat([0, 1], 20), 6)
    envs[TASKS == 3] = np.repeat([0, 1], [36, 4])
    learner = make(across_envs=True)
    y = LABELS if make is sparse else np.arange(240.0)
    found = {}
    for episode in plan_of(learner, y, TASKS, envs).train(200):
        (one,), (two,) = set(envs[episode.support]), set(envs[episode.query])
        assert one != two
        sizes = episode.n_support, episode.n_query
        found.setdefault(episode.task, {})[one] = sizes
    full = (10, 20) if make is sparse else (20, 20)
    assert all(found[t] == {0: full, 1: full} for t in range(6) if t != 3)
    few = {0: (10, 4), 1: (4, 20)} if make is sparse else {0: (20, 4), 1: (4, 20)}
    assert found[3] == few


# -- shots that are drawn --------------------------------------------------------------


@pytest.mark.parametrize("make", [sparse, maml, sparse_values, maml_values])
def test_every_learner_takes_a_range(make, tmp_path):
    y = LABELS if make in (sparse, maml) else LABELS * 1.5
    X = rows_for(y)
    learner = make(n_shot=(1, 8), validation=Validation([0, 1], n_episodes=30))
    assert clone(learner).n_shot == (1, 8)
    source = plan_of(learner, y, TASKS)
    steps = [{e.n_support for e in source.train(4)} for _ in range(40)]
    assert all(len(found) == 1 for found in steps)
    assert len(set.union(*steps)) > 4
    assert len({e.n_support for e in source.valid(30)}) > 4
    learner.fit(X, y, tasks=TASKS)
    again = clone(learner).fit(X, y, tasks=TASKS)
    assert again.history_[0]["train_loss"] == learner.history_[0]["train_loss"]
    save(learner, tmp_path / "learner.scm")
    assert load(tmp_path / "learner.scm").n_shot == (1, 8)


@pytest.mark.parametrize("make", [sparse, sparse_values])
def test_a_range_takes_what_a_small_task_has(make):
    tasks = np.repeat(np.arange(6), [40] * 5 + [4])
    y = np.tile([0, 1], 102)
    plan = plan_of(make(n_shot=(6, 12)), y if make is sparse else y * 1.0, tasks)
    assert plan.note is None
    found = {}
    for _ in range(40):
        found |= sizes_of(plan.train, 6)
    if make is sparse:
        assert found.pop((5, 0)) == found.pop((5, 1)) == (1, 1)
    else:
        assert found.pop(5) == (2, 2)
    assert min(shot for shot, _ in found.values()) >= 6


@pytest.mark.parametrize("make", [sparse, maml, sparse_values, maml_values])
@pytest.mark.parametrize("n_shot", [(4, 1), (0, 3), (1, 2, 3), [2.0, 3]])
def test_a_pair_that_is_none_is_refused_before_training(make, n_shot):
    def backbone():
        pytest.fail("the net was built before the parameters were checked")

    learner = make(n_shot=n_shot, backbone=backbone)
    with pytest.raises(InvalidInputError, match=r"n_shot must be an int, or a pair"):
        learner.fit(rows_for(LABELS), LABELS, tasks=TASKS)


# -- labels that mean the same ---------------------------------------------------------


def test_a_plan_that_keeps_labels():
    y = np.where(TASKS == 2, 1, LABELS)
    y[TASKS == 5] = 3
    tasks = np.concatenate([TASKS, [9]])
    y = np.concatenate([y, [0]])
    seeds = named_seeds(0, "episodes", "validation", "held-out")
    plan = plan_episodes(
        y,
        tasks,
        EpisodeSizes("auto", "auto", "auto"),
        Validation.of([2, 3]),
        seeds,
        shared_labels=True,
        natural=0.0,
    )
    assert plan.n_way == 3
    assert "tasks of at least 2 rows. Got less in 1 (9) of 7 tasks" in plan.note
    for source, ids in ((plan.train, {0, 1, 4, 5}), (plan.valid, {2, 3})):
        episodes = source(20)
        assert {episode.task for episode in episodes} == ids
        for episode in episodes:
            assert episode.classes.tolist() == [0, 1, 3]
            assert episode.n_query == 20  # half of a task; at most 10 of every label
            np.testing.assert_array_equal(
                y[episode.query], episode.classes[episode.query_targets]
            )
            shots = np.bincount(episode.support_targets, minlength=3)
            assert set(shots) <= {0, 5}
