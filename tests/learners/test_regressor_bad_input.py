"""What the regressors refuse, with which words, and that nothing changes."""

import copy

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skcausalmeta.exceptions import EpisodeError, InvalidInputError
from skcausalmeta.heads import LassoHead, RidgeHead
from skcausalmeta.learners import MAMLRegressor, SparseMetaRegressor
from skcausalmeta.training import Validation

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 4))
Y = X[:, 0] + 2.0
TASKS = np.repeat([0, 1], 12)


def make_learner(head=None, **params):
    small = {
        "max_epochs": 1,
        "batches_per_epoch": 1,
        "tasks_per_batch": 1,
        "verbose": 0,
        "random_state": 0,
        "common": None,
    }
    return SparseMetaRegressor(head, **{**small, **params})


def make_maml(**params):
    return MAMLRegressor(max_epochs=1, batches_per_epoch=1, verbose=0, **params)


@pytest.fixture(scope="module")
def fitted():
    return make_learner().fit(X, Y, tasks=TASKS)


@pytest.fixture(scope="module", params=[make_learner, make_maml])
def either(request):
    return request.param().fit(X, Y, tasks=TASKS)


def spoiled(array, value):
    copied = array.copy()
    copied.flat[5] = value
    return copied


BAD_DATA = {
    "nan": (spoiled(X, np.nan), Y, "Input X contains NaN"),
    "inf": (spoiled(X, np.inf), Y, "Input X contains infinity"),
    "too-large": (spoiled(X, 1e39), Y, "fit single precision"),
    "text": (np.full((24, 4), "a"), Y, r"hold numbers\. Got 'a' in row 0, column 0"),
    "empty": (X[:0], Y[:0], r"Found array with 0 sample\(s\)"),
    "one-axis": (X[:, 0], Y, "Expected 2D array, got 1D"),
    "one-row": (X[:1], Y[:1], r"at least 2 rows\. Got 1 sample"),
    "lengths": (X, Y[:-1], r"inconsistent numbers of samples: \[24, 23\]"),
    "y-none": (X, None, "requires y to be passed"),
    "y-nan": (X, spoiled(Y, np.nan), "Input y contains NaN"),
    "y-inf": (X, spoiled(Y, np.inf), "Input y contains infinity"),
    "y-text": (X, np.array(["a"] * 24), r"y must hold numbers\. Got 'a' in row 0"),
    "y-two-columns": (X, np.stack([Y, Y], axis=1), "y should be a 1d array"),
}


@pytest.mark.parametrize("method", ["fit", "adapt"])
@pytest.mark.parametrize(("rows", "y", "message"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_refused_and_changes_nothing(either, method, rows, y, message):
    learner = copy.copy(either)
    before, predicted = vars(learner).copy(), learner.predict(X)
    with pytest.raises(ValueError, match=message):
        getattr(learner, method)(rows, y)
    assert vars(learner) == before
    np.testing.assert_array_equal(learner.predict(X), predicted)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lr": 0}, "The 'lr' parameter"),
        ({"split": "half"}, "The 'split' parameter"),
        ({"n_shot": 0}, "The 'n_shot' parameter"),
        ({"n_query": "all"}, "The 'n_query' parameter"),
        ({"normalize_codes": "yes"}, "The 'normalize_codes' parameter"),
        (
            {"net_params": {"head_tol": 0.0}},
            "The 'head_tol' parameter of RegressionNet",
        ),
        (
            {"net_params": {"logit_scale": 1.0}},
            "of RegressionNet: .* Got 'logit_scale'",
        ),
        ({"head": "lasso"}, "The 'head' parameter"),
        ({"head": LassoHead(-1.0)}, "The 'lasso_reg' parameter"),
        ({"head": RidgeHead(0.0)}, "The 'ridge_reg' parameter"),
        ({"head": RidgeHead(class_weight="balanced")}, "no meaning for real targets"),
        ({"backbone": "conv5"}, "Did you mean 'conv4'"),
        ({"n_shot": 9, "n_query": 4}, "Got task 0 with 12 rows for n_shot=9"),
        ({"validation": Validation(patience=0)}, "'patience' parameter of Validation"),
        ({"validation": [7]}, r"ids of tasks. Got \[7\], which are not there"),
        ({"validation": [0, 1]}, "Got 2 held out and 0 to train on"),
    ],
)
def test_bad_parameters_are_refused_and_change_nothing(fitted, params, message):
    learner = copy.copy(fitted).set_params(**params)
    before = vars(learner).copy()
    with pytest.raises(ValueError, match=message):
        learner.fit(X, Y, tasks=TASKS)
    assert vars(learner) == before


@pytest.mark.parametrize(
    "params", [{"lr": 0}, {"n_shot": 99}, {"head": LassoHead(-1.0)}]
)
def test_parameters_are_checked_before_any_training(params):
    def backbone():
        pytest.fail("the net was built before the parameters were checked")

    with pytest.raises(ValueError, match=r"parameter|n_shot"):
        make_learner(backbone=backbone, **params).fit(X, Y)


def test_small_tasks_are_named():
    tasks = np.repeat(["harp", "oboe"], [20, 4])
    with pytest.warns(UserWarning, match=r"at least 5 rows\. Got less in 1 \('oboe'\)"):
        make_learner(n_shot=3, n_query=2).fit(X, Y, tasks=tasks)
    with pytest.raises(
        EpisodeError, match="task 0 with 4 rows for n_shot=3, n_query=2"
    ):
        make_learner(n_shot=3, n_query=2).fit(X, Y, tasks=np.arange(24) // 4)
    with pytest.raises(EpisodeError, match="lower n_shot or n_query, or drop the task"):
        make_learner(n_shot=20, n_query=4).fit(X, Y, tasks=np.arange(24) // 23)
    with pytest.raises(EpisodeError, match=r"1 rows .* collect more rows, or drop the"):
        make_learner().fit(X, Y, tasks=np.arange(24))


@pytest.mark.parametrize(
    ("tasks", "error", "message"),
    [
        (np.where(TASKS == 0, np.nan, 1), InvalidInputError, "must not hold NaN"),
        (np.array(["a", None] * 12, object), InvalidInputError, "must hold values"),
        (TASKS[:-1], ValueError, "inconsistent numbers of samples"),
        (
            np.stack([TASKS, TASKS], axis=1),
            InvalidInputError,
            r"tasks must be one-dimensional, one id per row\. Got shape \(24, 2\)",
        ),
        (
            np.where(TASKS == 0, "NaT", "2026-01-05").astype("M8[D]"),
            InvalidInputError,
            "tasks must not hold NaN, NaT or None. Got 12",
        ),
    ],
)
def test_bad_tasks_are_refused(fitted, tasks, error, message):
    learner = copy.copy(fitted)
    before = vars(learner).copy()
    with pytest.raises(error, match=message):
        learner.fit(X, Y, tasks=tasks)
    with pytest.raises(error, match=message):
        learner.predict(X, tasks=tasks)
    assert vars(learner) == before


def test_unknown_tasks_and_tasks_after_a_fit_without_are_refused(fitted):
    with pytest.raises(InvalidInputError, match=r"Got \[5\], which were not there"):
        fitted.predict(X, tasks=np.where(TASKS == 1, 5, TASKS))
    plain = make_learner().fit(X, Y)
    with pytest.raises(InvalidInputError, match="Got tasks after a fit without"):
        plain.predict(X, tasks=TASKS)
    with pytest.raises(InvalidInputError, match="Got ids for a fit without tasks"):
        plain.set_params(validation=[0]).fit(X, Y)


def test_too_few_rows_to_hold_out_are_refused():
    with pytest.raises(InvalidInputError, match="at least 2 of the rows held out"):
        make_learner(validation=0.9).fit(X[:4], Y[:4])


@pytest.mark.parametrize(
    ("envs", "message"),
    [(TASKS[:-1], "inconsistent numbers"), (TASKS * np.nan, "envs must not hold NaN")],
)
def test_environments_are_checked(envs, message):
    with pytest.raises(ValueError, match=message):
        make_learner().fit(X, Y, envs=envs)


@pytest.mark.parametrize("make", [make_learner, make_maml])
def test_every_method_before_fit_says_so(make):
    learner = make()
    for method, arguments in {
        "adapt": (X, Y),
        "predict": (X,),
        "score": (X, Y),
        "transform": (X,),
        "predict_episodes": (X[None], Y[None], X[None]),
    }.items():
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(learner, method)(*arguments)
    assert learner.fit(X, Y).predict(X).shape == (24,)


@pytest.mark.parametrize("method", ["adapt", "predict", "transform"])
def test_rows_of_another_width_are_refused(either, method):
    learner = copy.copy(either)
    before = vars(learner).copy()
    arguments = (X[:, :3], Y) if method == "adapt" else (X[:, :3],)
    with pytest.raises(ValueError, match=r"3 features.* expecting 4 features"):
        getattr(learner, method)(*arguments)
    assert vars(learner) == before


TASK_X, TASK_Y = X.reshape(2, 12, 4), Y.reshape(2, 12)


@pytest.mark.parametrize(
    ("support", "targets", "query", "message"),
    [
        (X, Y, X, r"takes X_support \(n_tasks, n_support, \.\.\.\)"),
        (TASK_X, TASK_Y, X, "takes X_support"),
        (TASK_X, TASK_Y[:, :5], TASK_X, "must agree in the number"),
        (TASK_X, TASK_Y, TASK_X[:1], "must agree in the number of tasks"),
        (TASK_X, spoiled(TASK_Y, np.nan), TASK_X, "Input y contains NaN"),
        (
            TASK_X,
            TASK_Y.astype(str).astype(object) + "a",
            TASK_X,
            "y must hold numbers",
        ),
        (TASK_X[..., :3], TASK_Y, TASK_X, r"seen in fit, \(4,\). Got \(3,\)"),
        (TASK_X * np.nan, TASK_Y, TASK_X, "Input X contains NaN"),
        (TASK_X, TASK_Y, TASK_X[:, :0], r"0 sample\(s\)"),
    ],
)
def test_bad_task_arrays_are_refused(either, support, targets, query, message):
    before = vars(either).copy()
    with pytest.raises(ValueError, match=message):
        either.predict_episodes(support, targets, query)
    assert vars(either) == before


def test_an_interrupted_refit_keeps_the_old_learner(fitted, monkeypatch):
    learner = copy.copy(fitted)
    before = vars(learner).copy()

    def broken(self, X, y):
        raise RuntimeError("no solver")

    monkeypatch.setattr(LassoHead, "fit", broken)
    with pytest.raises(RuntimeError, match="no solver"):
        learner.fit(X[:, :3], Y)
    with pytest.raises(RuntimeError, match="no solver"):
        learner.adapt(X, Y)
    assert vars(learner) == before
