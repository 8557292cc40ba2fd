"""Solved tasks in a folder."""

import copy
import json
import os
import shutil

import numpy as np
import pytest

from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.exceptions import InvalidInputError, PersistenceError
from skcausalmeta.heads import (
    GroupLassoLogistic,
    LassoHead,
    PrototypeHead,
    RidgeHead,
)
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MTCRLClassifier,
    Rejection,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.tasks import adapt_table, open_tasks, save_tasks, update_table
from skcausalmeta.tasks._manifest import sealed
from skcausalmeta.tasks._store import Store

SMALL = {
    "backbone": "identity",
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "verbose": 0,
    "random_state": 0,
}


def table(seed=0, n_tasks=12, **params):
    data = make_shared_tasks(
        n_tasks=n_tasks, n_samples=14, n_features=6, random_state=seed, **params
    )
    kept = np.random.default_rng(seed).random(len(data.data)) < 0.7
    return data.data[kept], data.target[kept], data.tasks[kept]


@pytest.fixture(scope="module")
def learner():
    X, y, tasks = table()
    return SparseMetaClassifier(common="linear", **SMALL).fit(X, y, tasks=tasks)


@pytest.fixture
def solved(learner):
    return learner.adapt_tasks(*table(seed=1))


def same(one, other, X, tasks):
    np.testing.assert_array_equal(one.ids_, other.ids_)
    for k in one.ids_.tolist():  # solutions are the same to the bit
        np.testing.assert_array_equal(one[k].head_.coef_, other[k].head_.coef_)
    # Sums of many rows at once may round by the place of a row.
    found, asked = (tasks_.decision_function(X, tasks) for tasks_ in (one, other))
    np.testing.assert_allclose(found, asked, rtol=1e-12, atol=1e-14)


def test_a_folder_answers_to_the_bit_as_what_was_saved(solved, tmp_path):
    X, _, tasks = table(seed=1)
    save_tasks(solved, tmp_path / "store")
    again = open_tasks(tmp_path / "store")
    same(again, solved, X, tasks)
    for task in solved:
        np.testing.assert_allclose(
            again[task].decision_function(X),
            solved[task].decision_function(X),
            rtol=1e-10,
            atol=1e-13,
        )
        assert again[task].dual_gap_ == solved[task].dual_gap_
    assert again.to_frame().equals(solved.to_frame())


CASES = {
    "classes of each task": (
        SparseMetaClassifier(
            GroupLassoLogistic(0.1), common=None, shared_labels=False, **SMALL
        ),
        {},
    ),
    "real targets": (
        SparseMetaRegressor(common="linear", **SMALL),
        {"n_classes": None},
    ),
    "a lasso": (
        SparseMetaRegressor(LassoHead(0.1), common=None, **SMALL),
        {"n_classes": None},
    ),
    "three classes": (
        SparseMetaClassifier(common="linear", **SMALL),
        {"n_classes": 3},
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ids", ["numbers", "texts"])
def test_tasks_of_all_kinds(case, ids, tmp_path):
    learner, params = CASES[case]
    X, y, tasks = table(**params)
    learner.fit(X, y, tasks=tasks)
    X, y, tasks = table(seed=1, **params)
    names = tasks if ids == "numbers" else np.array([f"task {k}" for k in tasks])
    if case == "classes of each task":
        y = np.array([f"{k}-{label}" for k, label in zip(tasks, y, strict=True)])
        y[tasks == 2] = [f"2-{k % 3}" for k in range((tasks == 2).sum())]
    solved = learner.adapt_tasks(X, y, names)
    save_tasks(solved, tmp_path / "store")
    again = open_tasks(tmp_path / "store")
    np.testing.assert_array_equal(again.ids_, solved.ids_)
    np.testing.assert_array_equal(again.predict(X, names), solved.predict(X, names))
    for task in solved:
        np.testing.assert_array_equal(again[task].predict(X), solved[task].predict(X))


def test_changes_are_those_in_memory(solved, learner, tmp_path):
    X, y, tasks = table(seed=1)
    stored = save_tasks(solved, tmp_path / "store")
    reader = open_tasks(tmp_path / "store")
    own = tasks < 3
    for one in (solved, stored):
        one.update(X[own], 1 - y[own], tasks[own])
        one.drop([2, 5])
    same(open_tasks(tmp_path / "store"), solved, X, tasks)
    assert 5 in reader  # as it was opened, beside the writer
    reader.predict(X, tasks)
    same(reader.refresh(), solved, X, tasks)
    stored.update(X[tasks == 5], y[tasks == 5], tasks[tasks == 5])
    assert 5 in stored
    before = stored.decision_function(X, tasks)
    stored.compact()
    np.testing.assert_allclose(
        stored.decision_function(X, tasks), before, rtol=1e-10, atol=1e-13
    )
    with pytest.raises(InvalidInputError, match="unknown"):
        stored.drop([2])
    n_parts = len(list((tmp_path / "store").glob("part-*")))
    stored.drop([0])  # the next writer deletes what nobody names
    assert len(list((tmp_path / "store").glob("part-*"))) < n_parts


def test_a_second_store_and_a_second_writer_are_refused(solved, tmp_path):
    stored = save_tasks(solved, tmp_path / "store")
    with pytest.raises(InvalidInputError, match="new store"):
        save_tasks(solved, tmp_path / "store")
    with (
        Store(tmp_path / "store").writing(),
        pytest.raises(PersistenceError, match="one writer"),
    ):
        stored.drop([1])
    stored.drop([1])


@pytest.mark.parametrize("damage", ["list", "short part", "part", "missing", "newer"])
def test_damage_is_told(solved, tmp_path, damage):
    X, _, tasks = table(seed=1)
    save_tasks(solved, tmp_path / "store")
    (part,) = (tmp_path / "store").glob("part-*")
    manifest = tmp_path / "store" / "manifest.json"
    if damage == "list":
        manifest.write_text(manifest.read_text().replace('"bytes": ', '"bytes": 1'))
    elif damage == "short part":
        os.truncate(part, part.stat().st_size - 9)
    elif damage == "missing":
        part.unlink()
    elif damage == "newer":
        body = {**json.loads(manifest.read_text())["store"], "format": 99}
        manifest.write_bytes(sealed(body))
    else:
        content = bytearray(part.read_bytes())
        for place in range(200, len(content) // 2, 37):
            content[place] ^= 0xFF
        part.write_bytes(bytes(content))
    with pytest.raises(PersistenceError):
        open_tasks(tmp_path / "store").predict(X, tasks)


NETS = {**SMALL, "backbone": "mlp"}
FAR = Rejection(0.5, score="distance", n_episodes=5)
LEARNERS = {
    "means": lambda: SparseMetaClassifier(PrototypeHead(), common=None, **SMALL),
    "parameters of a net": lambda: MAMLClassifier(**NETS),
    "parameters of its last layer": lambda: MAMLClassifier(adapt_layers="head", **NETS),
    "parameters for targets": lambda: MAMLRegressor(**NETS),
    "weights of modules": lambda: MTCRLClassifier(
        max_epochs=1, verbose=0, random_state=0
    ),
    "codes": lambda: MetaCRLClassifier(
        SparseMetaClassifier(RidgeHead(), common=None, **SMALL)
    ),
    "rejection": lambda: SparseMetaClassifier(common="linear", reject=0.5, **SMALL),
    "rejection by distance": lambda: MAMLClassifier(
        reject=FAR, shared_labels=False, n_way=2, **NETS
    ),
}


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_folder_keeps_tasks_of_all_learners(kind, tmp_path):
    params = {"n_classes": 4} if kind.startswith("rejection") else {}
    if kind == "parameters for targets":
        params = {"n_classes": None}
    learner = LEARNERS[kind]()
    X, y, tasks = table(**params)
    learner.fit(X, y, tasks=tasks)
    X, y, tasks = table(seed=1, n_tasks=3, **params)
    solved = learner.adapt_tasks(X, y, tasks)
    asked, ids = np.concatenate([X[:20], 9 + X[:20]]), np.resize([2, 0, 1], 40)
    save_tasks(solved, tmp_path / "store")
    stored = open_tasks(tmp_path / "store")
    found, expected = stored.predict(asked, ids), solved.predict(asked, ids)
    np.testing.assert_array_equal(found, expected)
    assert stored.to_frame().equals(solved.to_frame())
    for task in solved:
        own = tasks == task
        alone = copy.copy(learner).adapt(X[own], y[own])
        np.testing.assert_array_equal(stored[task].predict(asked), alone.predict(asked))
        np.testing.assert_array_equal(
            found[ids == task], alone.predict(asked)[ids == task]
        )
        if hasattr(alone, "predict_proba"):
            np.testing.assert_array_equal(
                stored[task].predict_proba(asked), alone.predict_proba(asked)
            )
    if kind.startswith("rejection"):
        assert (expected == alone.rejected_label_).any()


def test_tasks_that_adapt_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("skcausalmeta.tasks._parquet._MOST_BYTES", 1000)
    X, y, tasks = table()
    learner = MAMLClassifier(**NETS).fit(X, y, tasks=tasks)
    with pytest.raises(InvalidInputError, match='adapt_layers="head"'):
        save_tasks(learner.adapt_tasks(X[:40], y[:40], tasks[:40]), tmp_path / "store")


class NotedHead(PrototypeHead):
    """A head that keeps more than numbers."""

    def _fit(self, task):
        return {**super()._fit(task), "note_": {1: "by number"}}


def test_copies_of_a_learner_are_not_stored(tmp_path):
    X, y, tasks = table()
    learner = SparseMetaClassifier(NotedHead(), common=None, **SMALL)
    solved = learner.fit(X, y, tasks=tasks).adapt_tasks(X, y, tasks)
    assert solved[3].head_.note_ == {1: "by number"}
    with pytest.raises(InvalidInputError, match="whose predictor is numbers"):
        save_tasks(solved, tmp_path / "store")


def test_a_table_goes_to_a_folder_and_on_after_a_stop(learner, tmp_path, monkeypatch):
    X, y, tasks = table(seed=1)
    whole = learner.adapt_tasks(X, y, tasks)
    import skcausalmeta.tasks._adapt_table as room

    seen = []
    solve = room.solve_batch

    def counted(learner, rows):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.extend([rows.ids.tolist()])
        return solve(learner, rows)

    monkeypatch.setattr(room, "solve_batch", counted)
    arguments = (learner, (X, y, tasks), tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        adapt_table(*arguments, tasks_per_part=3)
    assert len(open_tasks(tmp_path / "store")) == 6
    seen.append("go on")
    stored = adapt_table(*arguments, tasks_per_part=3)
    assert seen[3:] == [[6, 7, 8], [9, 10, 11]]  # finished parts are not repeated
    same(stored, whole, X, tasks)
    adapt_table(*arguments, tasks_per_part=3)
    assert len(seen) == 5


def test_the_store_of_another_learner_is_refused(learner, solved, tmp_path):
    X, y, tasks = table(seed=1)
    save_tasks(solved, tmp_path / "store")
    other = SparseMetaClassifier(common="linear", **{**SMALL, "random_state": 1})
    other.fit(*table(seed=3)[:2], tasks=table(seed=3)[2])
    with pytest.raises(InvalidInputError, match="one learner"):
        update_table(tmp_path / "store", (X, y, tasks), learner=other)
    stored = update_table(tmp_path / "store", (X, 1 - y, tasks))
    again = learner.adapt_tasks(X, 1 - y, tasks)
    same(stored, again, X, tasks)


def test_failures_are_kept_until_they_are_solved(learner, tmp_path):
    X, y, tasks = table(seed=1)
    bad = X.copy()
    bad[np.flatnonzero(tasks == 4)[0], 0] = np.nan
    with pytest.warns(UserWarning, match="left out 1"):
        stored = adapt_table(learner, (bad, y, tasks), tmp_path / "store")
    assert set(stored.failed_) == {4}
    assert "1 tasks left out" in stored.summary()
    own = tasks == 4
    stored = update_table(tmp_path / "store", (X[own], y[own], tasks[own]))
    assert stored.failed_ == {}
    assert len(stored) == 12


def test_a_deployment_moves_as_a_folder(solved, tmp_path):
    X, _, tasks = table(seed=1)
    save_tasks(solved, tmp_path / "store")
    shutil.move(tmp_path / "store", tmp_path / "elsewhere")
    same(open_tasks(tmp_path / "elsewhere"), solved, X, tasks)
