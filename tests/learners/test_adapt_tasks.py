"""All tasks of a table at once, kept by their ids."""

import copy
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    LassoHead,
    PrototypeHead,
    RidgeHead,
)
from skcausalmeta.learners import (
    HeadBlock,
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MTCRLClassifier,
    SolvedTasks,
    SparseMetaClassifier,
    SparseMetaRegressor,
)

SMALL = {
    "backbone": "identity",
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "verbose": 0,
    "random_state": 0,
}


def table(n_tasks=16, n_samples=24, seed=0, **params):
    data = make_shared_tasks(
        n_tasks=n_tasks, n_samples=n_samples, n_features=6, random_state=seed, **params
    )
    rng = np.random.default_rng(seed)
    kept = rng.random(len(data.data)) < 0.7  # tasks of many sizes
    order = rng.permutation(np.flatnonzero(kept))
    return data.data[order], data.target[order], data.tasks[order]


def fitted(learner, **params):
    X, y, tasks = table(**params)
    return learner.fit(X, y, tasks=tasks)


@pytest.fixture(scope="module")
def around():
    return fitted(SparseMetaClassifier(common="linear", **SMALL))


def alone(learner, X, y, tasks, task):
    own = tasks == task
    return copy.copy(learner).adapt(X[own], y[own])


LEARNERS = {
    "around a common predictor": lambda: SparseMetaClassifier(common="linear", **SMALL),
    "around a forest": lambda: SparseMetaClassifier(
        common=RandomForestClassifier(5, random_state=0), **SMALL
    ),
    "around nets": lambda: SparseMetaClassifier(**{**SMALL, "backbone": "mlp"}),
    "by itself": lambda: SparseMetaClassifier(
        GroupLassoLogistic(0.1), common=None, **SMALL
    ),
    "not centred": lambda: SparseMetaClassifier(
        GroupLassoLogistic(0.1), common=None, center=False, **SMALL
    ),
    "hinge": lambda: SparseMetaClassifier(
        GroupLassoSVC(0.1, solver="newton"), common=None, **SMALL
    ),
    "ridge": lambda: SparseMetaClassifier(RidgeHead(), common=None, **SMALL),
    "means": lambda: SparseMetaClassifier(PrototypeHead(), common=None, **SMALL),
    "maml": lambda: MAMLClassifier(**{**SMALL, "backbone": "mlp"}),
    "factors": lambda: MetaCRLClassifier(
        SparseMetaClassifier(RidgeHead(), common=None, **SMALL)
    ),
    "scaled": lambda: make_meta_pipeline(
        StandardScaler(), SparseMetaClassifier(common="linear", **SMALL)
    ),
}


@pytest.mark.parametrize("kind", LEARNERS)
def test_tasks_are_those_of_adapt_to_the_bit(kind):
    learner = LEARNERS[kind]()
    if kind == "scaled":
        learner.set_params(sparsemetaclassifier__random_state=0)
        X, y, tasks = table()
        learner.fit(X, y, sparsemetaclassifier__tasks=tasks)
    else:
        fitted(learner)
    X, y, tasks = table(n_tasks=6, seed=1)
    solved = learner.adapt_tasks(X, y, tasks)
    assert solved.failed_ == {}
    np.testing.assert_array_equal(solved.ids_, np.unique(tasks))
    asked = np.concatenate([X[:40], X[:40]])
    for task in solved:
        one = alone(learner, X, y, tasks, task)
        again = solved[task]
        np.testing.assert_array_equal(again.classes_, one.classes_)
        for ask in ("decision_function", "predict_proba", "predict"):
            expected = getattr(one, ask)(asked)
            np.testing.assert_array_equal(getattr(again, ask)(asked), expected)
            found = getattr(solved, ask)(asked, np.full(len(asked), task))
            if ask == "predict":
                assert (found == expected).all()
            else:
                np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
        gap = getattr(getattr(one, "estimator_", one), "dual_gap_", np.nan)
        np.testing.assert_array_equal(solved.to_frame().loc[task, "certificate"], gap)


@pytest.mark.parametrize("kind", ["around", "itself", "maml"])
def test_tasks_of_real_targets(kind):
    learner = {
        "around": SparseMetaRegressor(common="linear", **SMALL),
        "itself": SparseMetaRegressor(LassoHead(0.1), common=None, **SMALL),
        "maml": MAMLRegressor(**{**SMALL, "backbone": "mlp"}),
    }[kind]
    fitted(learner, n_classes=None)
    X, y, tasks = table(seed=1, n_classes=None)
    solved = learner.adapt_tasks(X, y, tasks)
    for task in solved.ids_[:5]:
        own = tasks == task
        expected = alone(learner, X, y, tasks, task).predict(X[own])
        np.testing.assert_array_equal(solved[task].predict(X[own]), expected)
        found = solved.predict(X[own], tasks[own])
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    expected = r2_score(y, solved.predict(X, tasks))
    assert solved.score(X, y, tasks) == expected


def test_new_tasks_of_modules():
    learner = MTCRLClassifier(max_epochs=1, verbose=0, random_state=0)
    fitted(learner)
    X, y, tasks = table(seed=1, n_tasks=3)
    solved = learner.adapt_tasks(X, y, tasks)
    for task in solved:
        own = tasks == task
        expected = alone(learner, X, y, tasks, task).predict(X[own])
        np.testing.assert_array_equal(solved.predict(X[own], tasks[own]), expected)
    with pytest.raises(InvalidInputError, match="no common predictor"):
        solved.predict(X[:2], [99, 98])


def test_rows_are_answered_by_their_own_task_in_any_order(around):
    X, y, tasks = table(seed=2)
    solved = around.adapt_tasks(X, y, tasks)
    found = solved.decision_function(X, tasks)
    for task in solved:
        own = tasks == task
        np.testing.assert_allclose(
            found[own], solved[task].decision_function(X[own]), atol=1e-9
        )
    assert solved.score(X, y, tasks) == (solved.predict(X, tasks) == y).mean()


def test_batches_of_any_size_give_the_same_bits(around):
    X, y, tasks = table(seed=2)
    rows = X[:9]
    found = [
        around.adapt_tasks(X, y, tasks, batch_size=size).decision_function(
            rows, tasks[:9]
        )
        for size in (1, 5, 1000)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_new_classes_of_every_task():
    X, y, tasks = table()
    learner = fitted(
        SparseMetaClassifier(
            GroupLassoLogistic(0.1), common=None, shared_labels=False, **SMALL
        )
    )
    names = np.array([f"{task}:{label}" for task, label in zip(tasks, y, strict=True)])
    names[tasks == 3] = [f"3:{k % 3}" for k in range((tasks == 3).sum())]
    solved = learner.adapt_tasks(X, names, tasks)
    for task in solved:
        own = tasks == task
        one = alone(learner, X, names, tasks, task)
        assert solved.to_frame().loc[task, "classes"] == tuple(one.classes_)
        np.testing.assert_array_equal(
            solved.predict(X[own], tasks[own]), one.predict(X[own])
        )
    with pytest.raises(InvalidInputError, match="as many classes"):
        solved.predict_proba(X, tasks)


def test_failing_tasks_are_named_and_others_solved(around):
    X, y, tasks = table(seed=2)
    X, y = X.copy(), y.astype(object)
    X[np.flatnonzero(tasks == 4)[0], 2] = np.nan
    y[np.flatnonzero(tasks == 6)[0]] = 7
    with pytest.warns(UserWarning, match="left out 2") as record:
        solved = around.adapt_tasks(X, y.astype(int), tasks)
    assert len(record) == 1
    assert set(solved.failed_) == {4, 6}
    assert "NaN" in solved.failed_[4]
    assert "7" in solved.failed_[6]
    assert set(solved) == set(np.unique(tasks)) - {4, 6}
    assert "2 tasks left out" in solved.summary()


def test_a_single_class_is_refused_without_a_common_predictor_only(around):
    X, y, tasks = table(seed=2)
    y = np.where(tasks == 5, 1, y)
    assert 5 in around.adapt_tasks(X, y, tasks)
    learner = fitted(
        SparseMetaClassifier(
            GroupLassoLogistic(0.1), common=None, shared_labels=False, **SMALL
        )
    )
    with pytest.warns(UserWarning, match="at least 2 classes"):
        solved = learner.adapt_tasks(X, y, tasks)
    assert set(solved.failed_) == {5}
    assert len(solved) == 15


def test_unknown_ids_are_answered_by_what_tasks_share_and_counted(around):
    X, y, tasks = table(seed=2)
    solved = around.adapt_tasks(X, y, tasks)
    ids = np.where(np.arange(len(X)) < 7, 10_000, tasks)
    found = solved.decision_function(X, ids)
    np.testing.assert_allclose(found[:7], around.decision_function(X[:7]))
    assert solved.n_unknown_ == 7
    with pytest.raises(KeyError, match="10000"):
        solved[10_000]


def test_update_solves_the_tasks_of_its_rows_only(around):
    X, y, tasks = table(seed=2)
    solved = around.adapt_tasks(X, y, tasks)
    before = solved.decision_function(X, tasks)
    new = 1 - y
    own = tasks == 3
    extra = np.where(own, 3, 77)[own | (tasks == 4)]
    chosen = own | (tasks == 4)
    solved.update(X[chosen], new[chosen], extra)
    after = solved.decision_function(X, tasks)
    np.testing.assert_array_equal(after[~own], before[~own])
    expected = alone(around, X, new, tasks, 3).decision_function(X[own])
    np.testing.assert_allclose(after[own], expected, atol=1e-9)
    assert 77 in solved
    assert len(solved) == 17


def test_dropped_tasks_are_unknown(around):
    X, y, tasks = table(seed=2)
    solved = around.adapt_tasks(X, y, tasks).drop([2, 9])
    assert 2 not in solved
    assert len(solved) == 14
    solved.predict(X[tasks == 2], tasks[tasks == 2])
    assert solved.n_unknown_ == (tasks == 2).sum()
    with pytest.raises(InvalidInputError, match="unknown"):
        solved.drop([2, 3])
    assert 3 in solved


def test_frame_tells_what_differs(around):
    pandas = pytest.importorskip("pandas")
    X, y, tasks = table(seed=2)
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    learner = SparseMetaClassifier(common="linear", **SMALL)
    learner.fit(frame, y, tasks=tasks)
    solved = learner.adapt_tasks(frame, y, tasks)
    facts = solved.to_frame()
    assert facts["n_labels"].to_dict() == dict(
        zip(*np.unique(tasks, return_counts=True), strict=True)
    )
    for task in solved.ids_[:4]:
        one = solved[task]
        expected = tuple("abcdef"[k] for k in one.support_features_)
        assert facts.loc[task, "features"] == expected
        np.testing.assert_allclose(solved.deviations([task])[0], one.deviation_)
    assert solved.largest_gap_ == facts["certificate"].max()


def test_ids_of_text_and_of_another_type(around):
    X, y, tasks = table(seed=2)
    names = np.array([f"task {task}" for task in tasks])
    solved = around.adapt_tasks(X, y, names)
    assert "task 3" in solved
    assert 3 not in solved
    with pytest.raises(InvalidInputError, match="one type"):
        solved.update(X, y, tasks)
    assert len(solved) == 16


@pytest.mark.parametrize("rows", ["y", "tasks"])
def test_lengths_must_agree(around, rows):
    X, y, tasks = table(seed=2)
    given = {"y": y, "tasks": tasks}
    given[rows] = given[rows][:-1]
    with pytest.raises(ValueError, match=rows if rows == "tasks" else "one target"):
        around.adapt_tasks(X, given["y"], given["tasks"])


def test_the_learner_stays_as_it_is(around):
    X, y, tasks = table(seed=2)
    before = around.decision_function(X[:5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        around.adapt_tasks(X, y, tasks)
    np.testing.assert_array_equal(around.decision_function(X[:5]), before)


def test_tasks_are_grouped_by_what_differs():
    # The first three differ in column 0, two in column 3, the last in nothing.
    weights = np.array([0.1, 2.0, 0.5, -0.3, -4.0])
    block = HeadBlock(
        ids=np.arange(6) + 10,
        n_labels=np.full(6, 5),
        begins=np.array([0, 1, 2, 3, 4, 5, 5]),
        columns=np.array([0, 0, 0, 3, 3], dtype=np.int32),
        values=np.stack([-weights, weights], axis=1) / 2,
        intercepts=np.zeros((6, 2)),
        gaps=np.zeros(6),
        width=4,
        flat=False,
    )
    solved = SolvedTasks(BaseEstimator(), [block])
    assert solved.groups(2, random_state=0).tolist() == [0, 0, 0, 1, 1, -1]
    assert SolvedTasks(BaseEstimator(), []).groups(2).tolist() == []
