"""Tasks that cannot be solved, tables that change, and writes that fail."""

import numpy as np
import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
import pytest
from scipy import sparse

from skcausalmeta.exceptions import InvalidInputError, PersistenceError
from skcausalmeta.heads import GroupLassoLogistic
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.tasks import adapt_table, open_tasks, update_table
from skcausalmeta.tasks._store import Store
from tests.tasks.test_stored_tasks import SMALL, same, table

N_TASKS = 8


@pytest.fixture(scope="module")
def learner():
    X, y, tasks = table()
    return SparseMetaClassifier(common="linear", **SMALL).fit(X, y, tasks=tasks)


@pytest.fixture(scope="module")
def rows():
    return table(seed=1, n_tasks=N_TASKS)


def frame_of(X, y, tasks):
    return pandas.DataFrame(X, columns=list("abcdef")).assign(y=y, task=tasks)


def alike(stored, learner, X, y, tasks):
    """Compare with solving everything anew."""
    same(stored, learner.adapt_tasks(X, y, tasks), X, tasks)


@pytest.mark.parametrize("kind", ["frame", "folder"])
def test_bad_tasks_are_named_and_all_others_solved(kind, learner, rows, tmp_path):
    X, y, tasks = rows
    bad, labels = X.copy(), y.astype(float)
    bad[np.flatnonzero(tasks == 1)[0], 2] = np.nan
    bad[np.flatnonzero(tasks == 2)[-1], 0] = np.inf
    labels[np.flatnonzero(tasks == 3)[0]] = 7
    labels[np.flatnonzero(tasks == 4)[0]] = np.nan
    labels[tasks == 5] = 1  # of a single class, which the common predictor completes
    given = frame_of(bad, labels, tasks)
    if kind == "folder":
        given.to_parquet(tmp_path / "table.parquet", row_group_size=9)
        given = tmp_path / "table.parquet"
    with pytest.warns(UserWarning, match="left out 4"):
        stored = adapt_table(learner, given, tmp_path / "store", tasks_per_part=3)
    assert list(stored) == [0, 5, 6, 7]
    again = open_tasks(tmp_path / "store")
    assert again.failed_ == stored.failed_
    assert set(stored.failed_) == {1, 2, 3, 4}
    for task, word in {1: "NaN", 2: "infinity", 3: "7", 4: "NaN"}.items():
        assert word in stored.failed_[task]
    good = np.isin(tasks, [0, 5, 6, 7])
    alike(stored, learner, X[good], labels[good].astype(int), tasks[good])


def test_a_single_class_fails_where_nothing_completes_it(tmp_path):
    X, y, tasks = table()
    learner = SparseMetaClassifier(
        GroupLassoLogistic(0.1), common=None, shared_labels=False, **SMALL
    ).fit(X, y, tasks=tasks)
    y = np.where(tasks == 6, 1, y)
    with pytest.warns(UserWarning, match="at least 2 classes"):
        stored = adapt_table(learner, (X, y, tasks), tmp_path / "store")
    assert set(stored.failed_) == {6}
    assert len(stored) == len(np.unique(tasks)) - 1


def test_a_task_that_fails_in_an_update_stays_as_it_was(learner, rows, tmp_path):
    X, y, tasks = rows
    stored = adapt_table(learner, rows, tmp_path / "store")
    own = tasks == 3
    before = stored.decision_function(X[own], tasks[own])
    bad = X[own].copy()
    bad[0] = np.nan
    with pytest.warns(UserWarning, match="left out 1"):
        stored = update_table(tmp_path / "store", (bad, y[own], tasks[own]))
    assert set(stored.failed_) == {3}
    after = open_tasks(tmp_path / "store").decision_function(X[own], tasks[own])
    np.testing.assert_array_equal(after, before)
    stored = update_table(tmp_path / "store", (X[own], y[own], tasks[own]))
    assert stored.failed_ == open_tasks(tmp_path / "store").failed_ == {}


@pytest.mark.parametrize("kind", ["frame", "folder", "arrays"])
def test_tables_without_rows(kind, learner, rows, tmp_path):
    X, y, tasks = (part[:0] for part in rows)
    given = X, y, tasks
    if kind != "arrays":
        given = frame_of(*given)
    if kind == "folder":
        given.to_parquet(tmp_path / "table.parquet")
        given = tmp_path / "table.parquet"
    stored = adapt_table(learner, given, tmp_path / "store")
    assert len(stored) == len(stored.to_frame()) == 0
    assert stored.failed_ == {}
    stored.update(*rows)
    assert len(open_tasks(tmp_path / "store")) == N_TASKS


TABLES = {
    "arrays": lambda *given: given,
    "sparse rows": lambda X, y, tasks: (sparse.csr_array(X), y, tasks),
    "a dataset in memory": lambda *given: pyarrow.dataset.dataset(
        pyarrow.Table.from_pandas(frame_of(*given))
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_the_latest_table_counts_though_it_was_there_before(
    kind, learner, rows, tmp_path
):
    X, y, tasks = rows
    first, changed = TABLES[kind](X, y, tasks), TABLES[kind](X, 1 - y, tasks)
    moved = X.copy()
    moved[-1] += 1.0
    for given, data in [
        (first, (X, y)),
        (changed, (X, 1 - y)),
        (first, (X, y)),
        (TABLES[kind](moved, y, tasks), (moved, y)),
    ]:
        stored = adapt_table(learner, given, tmp_path / "store", tasks_per_part=3)
        alike(stored, learner, *data, tasks)
    stored.drop([5])
    assert 5 in adapt_table(learner, given, tmp_path / "store", tasks_per_part=3)


def test_a_table_in_any_order_in_many_files(learner, rows, tmp_path):
    X, y, tasks = rows
    order = np.concatenate([np.flatnonzero(tasks == k) for k in (5, 0, 7, 3)])
    frame = frame_of(X[order], y[order], tasks[order])
    (tmp_path / "table").mkdir()
    for k, begin in enumerate(range(0, len(frame), 4)):  # a task is in many of them
        path = tmp_path / "table" / f"{k:03d}.parquet"
        frame[begin : begin + 4].to_parquet(path, row_group_size=3)
    stored = adapt_table(
        learner, tmp_path / "table", tmp_path / "store", tasks_per_part=1
    )
    alike(stored, learner, X[order], y[order], tasks[order])


@pytest.fixture
def small_files():
    """Let files grow to some bytes only, as on a disk that is full; None: to any."""
    resource = pytest.importorskip("resource")  # which Windows has not
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(n_bytes):
        own = before[0] if n_bytes is None else n_bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (own, before[1]))

    yield limit
    limit(None)


@pytest.mark.parametrize("n_bytes", [0, 500])
def test_a_full_disk_changes_nothing(n_bytes, learner, rows, small_files, tmp_path):
    X, y, tasks = rows
    stored = adapt_table(learner, rows, tmp_path / "store", tasks_per_part=4)
    files = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    for change in (
        lambda: stored.update(X, 1 - y, tasks),
        lambda: stored.drop([1, 2]),
        stored.compact,
        lambda: update_table(tmp_path / "store", (X, 1 - y, tasks), learner=learner),
    ):
        small_files(n_bytes)
        with pytest.raises((OSError, PersistenceError)):
            change()
        small_files(None)
        left = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
        manifest = "manifest.json"  # a table that has begun is noted in it
        assert {k: v for k, v in left.items() if k != manifest} == {
            k: v for k, v in files.items() if k != manifest
        }
        alike(open_tasks(tmp_path / "store"), learner, *rows)
    stored = update_table(tmp_path / "store", (X, 1 - y, tasks))
    alike(stored, learner, X, 1 - y, tasks)


def test_two_writers_of_tables(learner, rows, tmp_path):
    stored = adapt_table(learner, rows, tmp_path / "store")
    changes = (
        lambda: update_table(tmp_path / "store", rows),
        lambda: adapt_table(learner, rows, tmp_path / "store"),
        lambda: stored.update(*rows),
        stored.compact,
    )
    with Store(tmp_path / "store").writing():
        for change in changes:
            with pytest.raises(PersistenceError, match="one writer"):
                change()
        alike(open_tasks(tmp_path / "store"), learner, *rows)  # readers go on
    for change in changes:
        change()
    with pytest.raises(InvalidInputError, match="unknown"):
        stored.drop([99])
