"""Grid search and evaluation by the engines of joblib: the serial results."""

import pickle

import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skcausalmeta.backbones import MLP
from skcausalmeta.learners import MAMLClassifier, SparseMetaClassifier
from skcausalmeta.model_selection import ClassKFold, evaluate_few_shot, few_shot_scorer
from skcausalmeta.utils import RowsOnDisk

RNG = np.random.default_rng(0)
Y = np.repeat(np.arange(8), 10)
X = (RNG.standard_normal((80, 5)) + Y[:, None]).astype(np.float32)
SMALL = {"max_epochs": 1, "batches_per_epoch": 2, "verbose": 0, "random_state": 0}
DROPOUT = MLP(hidden=(8,), out_features=8, dropout=0.2)
SEARCH = GridSearchCV(
    SparseMetaClassifier(backbone=DROPOUT, n_way=3, fit_head=False, **SMALL),
    {"head__group_reg": [0.1, 0.5]},
    cv=ClassKFold(2),
    scoring=few_shot_scorer(n_way=3, n_shot=3, n_query=3, n_episodes=4),
)


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(processes=True, **options) as workers, Client(workers) as client:
        yield client


@pytest.fixture
def engine(request):
    """Parameters of joblib.parallel_config by name."""
    if request.param == "dask":
        request.getfixturevalue("cluster")
    return {"backend": request.param, "n_jobs": 2}


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.npy"
    np.save(path, X)
    return RowsOnDisk(np.load(path, mmap_mode="r"))


@pytest.fixture(scope="module")
def serial():
    return clone(SEARCH).fit(X, Y).cv_results_


# Starting processes takes longer than the work.
ENGINES = [
    "threading",
    pytest.param("loky", marks=pytest.mark.slow),
    pytest.param("dask", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_grid_search_is_the_serial_one(engine, serial, mapped):
    for rows in (X, mapped):
        with joblib.parallel_config(**engine):
            found = clone(SEARCH).fit(rows, Y).cv_results_
        for name in serial:
            if "time" not in name:
                np.testing.assert_array_equal(found[name], serial[name])


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_an_evaluation_is_the_serial_one(engine, mapped):
    learner = MAMLClassifier(n_way=3, inner_steps=1, **SMALL).fit(X, Y)
    params = {"n_way": 3, "n_shot": 2, "n_query": 3, "n_episodes": 6, "random_state": 0}
    alone = evaluate_few_shot(learner, X, Y, **params)
    for rows in (X, mapped):
        with joblib.parallel_config(**engine):
            found = evaluate_few_shot(learner, rows, Y, n_jobs=2, **params)
        np.testing.assert_array_equal(found.scores, alone.scores)


def test_rows_on_disk_travel_by_name(mapped):
    fold = mapped[np.array([5, -1, 2])]
    assert fold.shape == (3, 5)
    np.testing.assert_array_equal(fold[:], X[[5, -1, 2]])
    np.testing.assert_array_equal(fold[1], X[-1])
    np.testing.assert_array_equal(mapped[::-7], X[::-7])
    np.testing.assert_array_equal(mapped[X[:, 0] > 2][:4], X[X[:, 0] > 2][:4])
    twin = pickle.loads(pickle.dumps(mapped))
    np.testing.assert_array_equal(twin[:], X)
    assert len(pickle.dumps(mapped)) < 500 < X.nbytes


def test_rows_on_disk_are_whole_files(mapped, tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, X)
    part = np.load(path, mmap_mode="r")[3:]
    for rows in (X, part, X.tolist()):
        with pytest.raises(TypeError, match="a memory map of a whole file in C order"):
            RowsOnDisk(rows)
    shifted = np.memmap(path, np.float32, "r", offset=128, shape=X.shape)
    np.testing.assert_array_equal(RowsOnDisk(shifted)[7:9], X[7:9])
