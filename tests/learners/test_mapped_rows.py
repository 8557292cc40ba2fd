"""Learners on memory maps: the same results, and little memory."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import (
    MAMLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.learners._mtcrl import _streams
from skcausalmeta.utils import _stored_rows

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(6), 12)
IMAGES = RNG.integers(256, size=(72, 8, 8), dtype=np.uint8)
TABLE = RNG.standard_normal((72, 5)).astype(np.float32) + Y[:, None]
SMALL = {"max_epochs": 1, "verbose": 0, "random_state": 0}
EPISODIC = {**SMALL, "batches_per_epoch": 2, "tasks_per_batch": 2}
LEARNERS = [
    SparseMetaClassifier(**EPISODIC),
    MAMLClassifier(**EPISODIC, inner_steps=1),
    SparseMetaRegressor(**EPISODIC),
    MTCRLClassifier(**SMALL),
]


def on_disk(array, path):
    mapped = np.memmap(path, dtype=array.dtype, mode="w+", shape=array.shape)
    mapped[:] = array
    mapped.flush()
    return np.memmap(path, dtype=array.dtype, mode="r", shape=array.shape)


class Store:
    """What zarr and HDF5 offer: a shape, a dtype, and slices."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.most = 0

    def __getitem__(self, index):
        assert isinstance(index, slice | int)
        self.most = max(self.most, len(np.atleast_1d(self.array[index])))
        return self.array[index]


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda k: type(k).__name__)
@pytest.mark.parametrize("rows", [IMAGES, TABLE], ids=["images", "table"])
def test_a_store_gives_what_the_array_gives(learner, rows):
    if isinstance(learner, MTCRLClassifier) and rows.ndim > 2:
        rows = rows.reshape(72, -1)
    X, learner = Store(rows), clone(learner)
    y = Y.astype(float) if isinstance(learner, SparseMetaRegressor) else Y
    expected = learner.fit(rows, y).predict(rows)
    np.testing.assert_array_equal(learner.fit(X, y).predict(X), expected)
    np.testing.assert_array_equal(learner.transform(X), learner.transform(rows))
    few, more = Store(rows[:24]), Store(rows[24:])
    found = learner.adapt(few, y[:24]).predict(more)
    expected = learner.adapt(rows[:24], y[:24]).predict(rows[24:])
    np.testing.assert_array_equal(found, expected)
    tasks = Store(np.stack([rows[:24], rows[24:48]]))
    labels = np.stack([y[:24], y[24:48]])
    np.testing.assert_array_equal(
        learner.predict_episodes(tasks, labels, tasks, max_memory=2**30),
        learner.predict_episodes(tasks.array, labels, tasks.array),
    )


def test_a_store_is_read_in_parts_and_checked(monkeypatch):
    monkeypatch.setattr(_stored_rows, "_BYTES_PER_BLOCK", 1000 * TABLE[0].nbytes)
    monkeypatch.setattr(_streams, "_MOST_VALUES", 1000 * TABLE[0].size)
    rows = np.repeat(TABLE, 400, axis=0)  # (28800, 5)
    y, X = np.repeat(Y, 400), Store(rows)
    for learner in (
        SparseMetaClassifier(**EPISODIC, fit_head=False),
        MTCRLClassifier(**SMALL),
    ):
        learner.fit(X, y)
    assert X.most == 1000
    X.array = X.array.copy()
    X.array[-1, 0] = np.nan
    with pytest.raises(InvalidInputError, match="Input X contains NaN or infinity"):
        learner.fit(X, y)
    with pytest.raises(ValueError, match=r"X has 4 features, but .* expecting 5"):
        learner.predict(Store(TABLE[:, :4]))


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda k: type(k).__name__)
@pytest.mark.parametrize("rows", [IMAGES, TABLE], ids=["images", "table"])
def test_a_map_gives_what_the_array_gives(tmp_path, learner, rows):
    if isinstance(learner, MTCRLClassifier) and rows.ndim > 2:
        rows = rows.reshape(72, -1)
    X = on_disk(rows, tmp_path / "rows")
    y = Y.astype(float) if isinstance(learner, SparseMetaRegressor) else Y
    expected = learner.fit(rows, y).predict(rows)
    np.testing.assert_array_equal(learner.fit(X, y).predict(X), expected)
    np.testing.assert_array_equal(learner.transform(X), learner.transform(rows))
    assert learner.n_features_in_ == rows.shape[1]
    if hasattr(learner, "adapt"):
        few = learner.adapt(X[:24], y[:24]).predict(X[24:])
        expected = learner.adapt(rows[:24], y[:24]).predict(rows[24:])
        np.testing.assert_array_equal(few, expected)


def test_a_map_is_checked_like_an_array(tmp_path):
    spoiled = TABLE.copy()
    spoiled[70, 3] = np.nan
    bad, good = on_disk(spoiled, tmp_path / "bad"), on_disk(TABLE, tmp_path / "good")
    learner = SparseMetaClassifier(**EPISODIC)
    with pytest.raises(NotFittedError):
        learner.predict(good)
    message = r"Input X contains NaN or infinity\. SparseMetaClassifier needs finite"
    with pytest.raises(InvalidInputError, match=message):
        learner.fit(bad, Y)
    learner.fit(good, Y)
    with pytest.raises(InvalidInputError, match="Input X contains NaN or infinity"):
        learner.predict(bad)
    with pytest.raises(ValueError, match=r"X has 4 features, but .* expecting 5"):
        learner.predict(good[:, :4])


@pytest.mark.slow
def test_fit_keeps_a_large_file_on_disk(tmp_path):
    """Half a gigabyte of zeros, which take no place on disk, in half of it."""
    program = f"""
        import resource
        import numpy as np
        import torch
        from skcausalmeta.backbones import Conv4
        from skcausalmeta.learners import SparseMetaClassifier

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

        def learn(X):
            y = np.arange(len(X)) % 50
            learner = SparseMetaClassifier(
                backbone=Conv4(n_filters=4), max_epochs=1, batches_per_epoch=10,
                fit_head=False, verbose=0, random_state=0,
            )
            learner.fit(X, y)
            learner.adapt(X[:10], y[:10] % 2).predict(X[:1000])

        torch.set_num_threads(1)
        shape = (2**29 // (4 * 1024), 1, 32, 32)
        with open({str(tmp_path / "rows")!r}, "wb") as file:
            file.truncate(2**29)
        X = np.memmap(file.name, dtype=np.float32, mode="r", shape=shape)
        learn(np.zeros((1000, *shape[1:]), dtype=np.float32))
        before = peak()
        learn(X)
        print(peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 2**28
