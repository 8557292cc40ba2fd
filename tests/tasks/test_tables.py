"""Tables of tasks from memory, files and Dask."""

import numpy as np
import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
import pytest

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.tasks import adapt_table, predict_table, update_table
from tests.tasks.test_stored_tasks import SMALL, same, table

NAMES = list("abcdef")


def frame_of(X, y, tasks):
    return pandas.DataFrame(X, columns=NAMES).assign(y=y, task=tasks)


@pytest.fixture(scope="module")
def learner():
    X, y, tasks = table()
    learner = SparseMetaClassifier(common="linear", **SMALL)
    return learner.fit(pandas.DataFrame(X, columns=NAMES), y, tasks=tasks)


@pytest.fixture(scope="module")
def expected(learner):
    X, y, tasks = table(seed=1)
    return learner.adapt_tasks(pandas.DataFrame(X, columns=NAMES), y, tasks)


def folder_of(frame, path, rows_per_file=31, row_group_size=7):
    path.mkdir()
    for number, begin in enumerate(range(0, len(frame), rows_per_file)):
        part = pyarrow.Table.from_pandas(frame[begin : begin + rows_per_file])
        name = path / f"part-{number:03d}.parquet"
        pyarrow.parquet.write_table(part, name, row_group_size=row_group_size)
    return path


TABLES = {
    "frame": lambda frame, path: frame.sample(frac=1.0, random_state=0),
    "folder": folder_of,
    "dataset": lambda frame, path: pyarrow.dataset.dataset(folder_of(frame, path)),
    "arrow": lambda frame, path: pyarrow.Table.from_pandas(frame),
    "polars": lambda frame, path: pytest.importorskip("polars").from_pandas(frame),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_all_kinds_give_the_same_tasks(kind, learner, expected, tmp_path):
    X, y, tasks = table(seed=1)
    frame = frame_of(X, y, tasks)[["y", "f", "task", "b", "a", "c", "d", "e"]]
    given = TABLES[kind](frame, tmp_path / "table")
    stored = adapt_table(learner, given, tmp_path / "store", tasks_per_part=5)
    named = pandas.DataFrame(X, columns=NAMES)
    found = stored.decision_function(named, tasks)
    if kind == "frame":  # the rows of a task come in another order
        np.testing.assert_allclose(
            found, expected.decision_function(named, tasks), atol=1e-9
        )
    else:
        np.testing.assert_allclose(
            found, expected.decision_function(named, tasks), rtol=1e-10, atol=1e-13
        )
    n_rows = predict_table(stored, given, tmp_path / "found.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "found.parquet").to_pandas()
    assert n_rows == len(frame) == len(found)
    if kind != "frame":  # whose rows are in another order
        assert (found["task"] == tasks).all()
        assert (found["prediction"] == expected.predict(named, tasks)).all()


def test_finished_parts_of_files_are_not_repeated(learner, tmp_path, monkeypatch):
    import skcausalmeta.tasks._adapt_table as room

    given = folder_of(frame_of(*table(seed=1)), tmp_path / "table")
    adapt_table(learner, given, tmp_path / "store", tasks_per_part=5)
    monkeypatch.setattr(room, "solve_batch", None)  # would fail
    stored = adapt_table(learner, given, tmp_path / "store", tasks_per_part=5)
    assert len(stored) == 12


def test_scattered_tasks_of_files_are_refused(learner, tmp_path):
    frame = frame_of(*table(seed=1)).sample(frac=1.0, random_state=0)
    given = folder_of(frame, tmp_path / "table")
    with pytest.raises(InvalidInputError, match="lie together"):
        adapt_table(learner, given, tmp_path / "store")


def test_missing_columns_are_named(learner, tmp_path):
    frame = frame_of(*table(seed=1))
    with pytest.raises(InvalidInputError, match="'c'"):
        adapt_table(learner, frame.drop(columns="c"), tmp_path / "store")
    with pytest.raises(InvalidInputError, match="customer"):
        adapt_table(learner, frame, tmp_path / "store", task="customer")
    with pytest.raises(InvalidInputError, match="Got dict"):
        adapt_table(learner, {"a": 1}, tmp_path / "store")


def test_probabilities_go_to_a_column_a_class(learner, expected, tmp_path):
    X, y, tasks = table(seed=1)
    frame = frame_of(X, y, tasks)
    predict_table(expected, frame, tmp_path / "found", method="predict_proba")
    found = pyarrow.parquet.read_table(tmp_path / "found").to_pandas()
    named = pandas.DataFrame(X, columns=NAMES)
    np.testing.assert_array_equal(
        found[["prediction_0", "prediction_1"]],
        expected.predict_proba(named, tasks),
    )
    with pytest.raises(InvalidInputError, match="method"):
        predict_table(expected, frame, tmp_path / "found", method="transform")


@pytest.mark.slow
def test_processes_give_the_same_tasks(learner, expected, tmp_path):
    X, y, tasks = table(seed=1)
    given = folder_of(frame_of(X, y, tasks), tmp_path / "table")
    stored = adapt_table(learner, given, tmp_path / "store", tasks_per_part=3, n_jobs=2)
    same(stored, expected, pandas.DataFrame(X, columns=NAMES), tasks)


@pytest.mark.slow
def test_dask_gives_the_same_tasks_though_a_worker_is_killed(
    learner, expected, tmp_path
):
    distributed = pytest.importorskip("distributed")
    dask_frame = pytest.importorskip("dask.dataframe")
    X, y, tasks = table(seed=1)
    frame = frame_of(X, y, tasks)
    mixed = frame.sample(frac=1.0, random_state=0)
    named = pandas.DataFrame(X, columns=NAMES)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        scattered = dask_frame.from_pandas(mixed, npartitions=4)
        stored = adapt_table(learner, scattered, tmp_path / "one", client=client)
        np.testing.assert_array_equal(stored.ids_, expected.ids_)
        np.testing.assert_allclose(  # the rows of a task come in another order
            stored.decision_function(named, tasks),
            expected.decision_function(named, tasks),
            atol=1e-9,
        )
        in_memory = learner.adapt_tasks(named, y, tasks, client=client, batch_size=4)
        same(in_memory, expected, named, tasks)
        pids = client.run(lambda: __import__("os").getpid())
        timer = kill_soon(next(iter(pids.values())))
        stored = adapt_table(
            learner, frame, tmp_path / "two", tasks_per_part=1, client=client
        )
        timer.join()
        same(stored, expected, named, tasks)


def kill_soon(pid):
    import os
    import signal
    import threading

    timer = threading.Timer(0.3, lambda: os.kill(pid, signal.SIGKILL))
    timer.start()
    return timer


def test_update_of_a_table_counts_once(learner, tmp_path):
    X, y, tasks = table(seed=1)
    adapt_table(learner, frame_of(X, y, tasks), tmp_path / "store")
    own = tasks < 4
    changed = frame_of(X[own], 1 - y[own], tasks[own])
    stored = update_table(tmp_path / "store", changed)
    n_files = len(list((tmp_path / "store").iterdir()))
    update_table(tmp_path / "store", changed)
    assert len(list((tmp_path / "store").iterdir())) == n_files
    again = learner.adapt_tasks(
        pandas.DataFrame(X[own], columns=NAMES), 1 - y[own], tasks[own]
    )
    named = pandas.DataFrame(X, columns=NAMES)
    np.testing.assert_allclose(
        stored.decision_function(named[own], tasks[own]),
        again.decision_function(named[own], tasks[own]),
        rtol=1e-10,
        atol=1e-13,
    )
