"""What is refused, with which words, and that a refusal changes nothing."""

import copy

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as scipy_sparse
from sklearn.exceptions import NotFittedError

from skcausalmeta.backbones import MLP
from skcausalmeta.exceptions import EpisodeError, InvalidInputError
from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.learners import MAMLClassifier, SparseMetaClassifier
from skcausalmeta.training import Adam, Training, Validation

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 4))
Y = np.repeat([0, 1, 2], 8)
X[np.arange(24), Y] += 3
TASKS = np.tile([0, 1], 12)


def make_learner(kind=SparseMetaClassifier, **params):
    small = {
        "max_epochs": 1,
        "batches_per_epoch": 1,
        "tasks_per_batch": 1,
        "verbose": 0,
        "random_state": 0,
    }
    return kind(**{**small, **params})


@pytest.fixture(scope="module", params=[SparseMetaClassifier, MAMLClassifier])
def fitted(request):
    return make_learner(request.param).fit(X, Y)


@pytest.fixture(scope="module")
def sparse():
    return make_learner().fit(X, Y)


def spoiled(value, where=(3, 1)):
    rows = X.copy()
    rows[where] = value
    return rows


def objects(rows):
    """An array that holds arrays."""
    found = np.empty(len(rows), dtype=object)
    for index, row in enumerate(rows):
        found[index] = row
    return found


BAD_ROWS = {
    "nan": (spoiled(np.nan), Y, "Input X contains NaN"),
    "inf": (spoiled(np.inf), Y, "Input X contains infinity"),
    "too-large": (spoiled(1e39), Y, "fit single precision"),
    "text": (np.full((24, 4), "a"), Y, r"hold numbers\. Got 'a' in row 0, column 0"),
    "numbers-as-text": (X.astype("U5"), Y, r"written as text \(<U5\); convert them by"),
    "bytes": (X.astype("S5"), Y, r"written as text \(\|S5\)"),
    "list-of-text": (X.round(1).astype(str).tolist(), Y, "written as text"),
    "complex": (X + 1j, Y, "Complex data not supported: .* Got complex128; give"),
    "complex-csr": (
        scipy_sparse.csr_array(X + 1j),
        Y,
        "must hold real numbers. Got complex",
    ),
    "uneven-lists": (
        [[1.0] * (2 + k % 3) for k in range(24)],
        Y,
        r"must have one shape. Got 3 shapes, from \(2,\) to \(4,\); fill them up",
    ),
    "uneven-sequences": (
        objects([np.ones((5 + k % 2, 4)) for k in range(24)]),
        Y,
        r"Got 2 shapes, from \(5, 4\) to \(6, 4\); .*pad_sequence",
    ),
    "masked": (np.ma.masked_less(X, -1.0), Y, r"not be missing. Got \d+ masked ones"),
    "array-of-arrays": (
        objects(list(X)),
        Y,
        r"of shape \(4,\); join them to one array",
    ),
    "frame-of-arrays": (
        pd.DataFrame({"series": list(X)}),
        Y,
        r"of shape \(4,\); join them to one array",
    ),
    "empty": (X[:0], Y[:0], r"Found array with 0 sample\(s\)"),
    "one-axis": (X[:, 0], Y, "Expected 2D array, got 1D"),
    "lengths": (X, Y[:-1], r"inconsistent numbers of samples: \[24, 23\]"),
    "one-class": (X, np.zeros(24), r"at least 2 classes. Got 1 class: .*0.0"),
    "y-none": (X, None, "requires y to be passed"),
    "y-nan": (X, np.where(Y == 1, np.nan, Y), "Input y contains NaN"),
    "y-inf": (X, np.where(Y == 1, np.inf, Y), "Input y contains infinity"),
    "y-continuous": (X, Y + 0.5, "Unknown label type: continuous"),
    "y-two-columns": (X, np.stack([Y, Y], axis=1), "y should be a 1d array"),
    "y-missing-text": (X, np.array(["a", None, "b"] * 8, object), "y must hold values"),
}


@pytest.mark.parametrize("method", ["fit", "adapt"])
@pytest.mark.parametrize(("rows", "y", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_data_is_refused_and_changes_nothing(fitted, method, rows, y, message):
    learner = copy.copy(fitted)
    before, scores = vars(learner).copy(), learner.decision_function(X)
    with pytest.raises(ValueError, match=message):
        getattr(learner, method)(rows, y)
    assert vars(learner) == before
    np.testing.assert_array_equal(learner.decision_function(X), scores)


def net(params):
    return {"net_params": params}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lr": 0}, "The 'lr' parameter"),
        ({"n_way": 1}, "The 'n_way' parameter"),
        ({"n_shot": "all"}, "The 'n_shot' parameter"),
        ({"max_epochs": 0}, "The 'max_epochs' parameter"),
        ({"optimizer": "x"}, "The 'optimizer' parameter"),
        ({"batch_norm": "x"}, "The 'batch_norm' parameter"),
        (net({"micro_batch": 0}), "The 'micro_batch' parameter of EpisodicNet must be"),
        (net({"head_tol": 0.0}), "The 'head_tol' parameter of EpisodicNet must be"),
        (net({"logit_scale": -1.0}), "The 'logit_scale' parameter of EpisodicNet must"),
        (net({"logit_scale": "big"}), "a str among {'auto'}. Got 'big' instead"),
        (net({"head_toll": 1}), "Got 'head_toll'. Did you mean 'head_tol'"),
        (net({"outer": "reptile"}), "'net_params' .* of EpisodicNet: .* Got 'outer'"),
        (net({"frozen": True}), "Got 'frozen'"),
        (net({"precision": "half"}), "'precision' parameter of Training .* Got 'half'"),
        (net({"compile": "yes"}), "The 'compile' parameter of Training must be"),
        (net({"warm_start": 1}), "The 'warm_start' parameter of Training must be"),
        (net({"checkpoint_path": 3}), "The 'checkpoint_path' parameter of Training"),
        (net("half"), "The 'net_params' parameter"),
        (net(Training(keywords={"precision": "half"})), "give those to Training"),
        ({"validation": 1.0}, "The 'validation' parameter .* Got 1.0 instead"),
        ({"validation": True}, "The 'validation' parameter .* Got True instead"),
        ({"validation": "a"}, "The 'validation' parameter .* Got 'a' instead"),
        ({"validation": Validation(1.0)}, "The 'held_out' parameter of Validation"),
        ({"validation": Validation(True)}, "'held_out' parameter .* Got True instead"),
        ({"validation": Validation(patience=0)}, "The 'patience' parameter of Valid"),
        ({"validation": Validation(n_episodes=0)}, "The 'n_episodes' parameter of Va"),
        ({"device": 3}, "The 'device' parameter"),
        ({"head": "svm"}, "The 'head' parameter"),
        ({"head": GroupLassoSVC(ridge_reg=0.0)}, "The 'ridge_reg' parameter"),
        ({"augment": "x"}, "name of an augmentation must be one of"),
        ({"augment": "shift"}, "images of shape"),
        ({"backbone": "conv5"}, "Did you mean 'conv4'"),
        ({"backbone": "conv4"}, "needs images"),
        ({"backbone": MLP(hidden=0)}, "'hidden' parameter of MLP must .* Got 0 inst"),
        ({"optimizer": Adam(weight_decay=-1.0)}, "Invalid weight_decay value: -1.0"),
        ({"input_shape": (3, 3)}, "as many entries as a row"),
        ({"n_way": 4}, "n_way=4 for 3 classes"),
        ({"n_shot": 5, "n_query": 4}, "Got class 0 with 8 rows for n_shot=5"),
        ({"validation": 0.2}, "Got 2 held out and 1 to train on"),
        ({"validation": [7]}, r"Got \[7\], which are not there"),
        ({"validation": [1]}, "Got 1 held out and 2 to train on"),
    ],
)
def test_bad_parameters_are_refused_and_change_nothing(sparse, params, message):
    learner = copy.copy(sparse).set_params(**params)
    before = vars(learner).copy()
    with pytest.raises(ValueError, match=message):
        learner.fit(X, Y)
    assert vars(learner) == before


@pytest.mark.parametrize(
    "params",
    [
        {"lr": 0},
        {"n_way": 9},
        {"head": GroupLassoSVC(group_reg=-1.0)},
        {"validation": Validation(patience=0)},
        net({"head_tol": 0.0}),
        net({"head_toll": 1e-4}),
        net({"precision": "half"}),
    ],
)
def test_parameters_are_checked_before_any_training(params):
    def backbone():
        pytest.fail("the net was built before the parameters were checked")

    with pytest.raises(ValueError, match=r"parameter|n_way"):
        make_learner(backbone=backbone, **params).fit(X, Y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"task_chunk_size": 0}, "The 'task_chunk_size' parameter of GradientNet must"),
        ({"outer": "sgd"}, "The 'outer' parameter of GradientNet must be a str among"),
        ({"linear_layers": -1}, "The 'linear_layers' parameter of GradientNet must be"),
        ({"head_tol": 1e-4}, "of GradientNet: .* Got 'head_tol'. Remove it"),
        ({"recompute": 1}, "The 'recompute' parameter of GradientNet must be"),
    ],
)
def test_keywords_of_the_net_of_maml_are_checked_first(params, message):
    def backbone():
        pytest.fail("the net was built before the parameters were checked")

    learner = make_learner(MAMLClassifier, backbone=backbone, net_params=params)
    before = vars(learner).copy()
    with pytest.raises(ValueError, match=message):
        learner.fit(X, Y)
    assert vars(learner) == before


def test_small_classes_are_named():
    y = np.array(["harp"] * 20 + ["oboe"] * 4)
    with pytest.raises(EpisodeError, match="class 'oboe' with 4 rows for n_shot=3"):
        make_learner(n_shot=3, n_query=2).fit(X, y)
    with pytest.raises(EpisodeError, match=r"2 rows each\. Got 1 such"):
        make_learner().fit(X[:9], [0] * 8 + [1])


@pytest.mark.parametrize(
    ("tasks", "error", "message"),
    [
        (
            np.where(TASKS == 0, np.nan, 1.0),
            InvalidInputError,
            "tasks must not hold NaN",
        ),
        (
            np.array(["a", None] * 12, object),
            InvalidInputError,
            "tasks must hold values",
        ),
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
        (
            np.where(TASKS == 0, np.nan, 1.0).astype(object),
            InvalidInputError,
            "tasks must not hold NaN, NaT or None. Got 12",
        ),
        (Y, EpisodeError, "task 0 with the single class 0"),
        (np.arange(24), EpisodeError, "task 0 with the single class 0"),
        (np.arange(24) // 3 * 2 + TASKS, EpisodeError, "task 0 with the single"),
    ],
)
def test_bad_tasks_are_refused(fitted, tasks, error, message):
    learner = copy.copy(fitted)
    before = vars(learner).copy()
    with pytest.raises(error, match=message):
        learner.set_params(n_shot=2, n_query=2).fit(X, Y, tasks=tasks)
    learner.set_params(n_shot="auto", n_query="auto")
    assert vars(learner) == before


@pytest.mark.parametrize(
    ("envs", "message"),
    [(Y[:-1], "inconsistent numbers"), (Y * np.nan, "envs must not hold NaN")],
)
def test_environments_are_checked(envs, message):
    with pytest.raises(ValueError, match=message):
        make_learner().fit(X, Y, envs=envs)


@pytest.mark.parametrize("kind", [SparseMetaClassifier, MAMLClassifier])
def test_every_method_before_fit_says_so(kind):
    learner = make_learner(kind)
    for method, arguments in {
        "adapt": (X, Y),
        "predict": (X,),
        "predict_proba": (X,),
        "decision_function": (X,),
        "transform": (X,),
        "predict_episodes": (X[None], Y[None], X[None]),
    }.items():
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(learner, method)(*arguments)
    assert learner.fit(X, Y).predict(X).shape == (24,)


@pytest.mark.parametrize("method", ["adapt", "predict", "transform"])
def test_rows_of_another_width_are_refused(fitted, method):
    learner = copy.copy(fitted)
    before = vars(learner).copy()
    arguments = (X[:, :3], Y) if method == "adapt" else (X[:, :3],)
    with pytest.raises(ValueError, match=r"3 features.* expecting 4 features"):
        getattr(learner, method)(*arguments)
    assert vars(learner) == before


def test_images_of_another_shape_are_refused():
    images = RNG.standard_normal((24, 4, 5))
    learner = make_learner(backbone="mlp").fit(images, Y)
    before = learner.predict(images)
    with pytest.raises(InvalidInputError, match=r"seen in fit, \(4, 5\). Got \(4, 6\)"):
        learner.adapt(RNG.standard_normal((24, 4, 6)), Y)
    with pytest.raises(InvalidInputError, match=r"seen in fit, \(4, 5\). Got \(4,\)"):
        learner.adapt(X, Y)
    np.testing.assert_array_equal(learner.predict(images), before)


TASK_X, TASK_Y = X.reshape(2, 12, 4), np.array([Y[:12], Y[12:]])


@pytest.mark.parametrize(
    ("support", "labels", "query", "message"),
    [
        (X, Y, X, r"takes X_support \(n_tasks, n_support, \.\.\.\)"),
        (TASK_X, TASK_Y, X, "takes X_support"),
        (TASK_X, TASK_Y[:, :5], TASK_X, "must agree in the number"),
        (TASK_X, TASK_Y, TASK_X[:1], "must agree in the number of tasks"),
        (TASK_X, TASK_Y * [[1], [0]], TASK_X, "Got 1 class in task 1"),
        (TASK_X, TASK_Y + 0.5, TASK_X, "Unknown label type: continuous"),
        (TASK_X, np.where(TASK_Y == 1, np.nan, TASK_Y), TASK_X, "contains NaN"),
        (TASK_X[..., :3], TASK_Y, TASK_X, r"seen in fit, \(4,\). Got \(3,\)"),
        (TASK_X * np.nan, TASK_Y, TASK_X, "Input X contains NaN"),
        (TASK_X, TASK_Y, TASK_X[:, :0], r"0 sample\(s\)"),
        (TASK_X[:, :0], TASK_Y[:, :0], TASK_X, r"no rows in task 0|0 sample\(s\)"),
        (TASK_X[:, :0], TASK_Y[:, :0], TASK_X[:, :0], "no rows in task 0|0 sample"),
        (TASK_X[:0], TASK_Y[:0], TASK_X[:0], "at least one task"),
        (TASK_X[..., :0], TASK_Y, TASK_X[..., :0], "at least one task, of rows with"),
    ],
)
def test_bad_task_arrays_are_refused(fitted, support, labels, query, message):
    before = vars(fitted).copy()
    with pytest.raises(ValueError, match=message):
        fitted.predict_episodes(support, labels, query)
    assert vars(fitted) == before


def test_an_interrupted_refit_keeps_the_old_learner(sparse, monkeypatch):
    learner = copy.copy(sparse)
    before = vars(learner).copy()

    def broken(self, X, y):
        raise RuntimeError("no solver")

    monkeypatch.setattr(GroupLassoSVC, "fit", broken)
    with pytest.raises(RuntimeError, match="no solver"):
        learner.fit(X[:, :3], Y)
    with pytest.raises(RuntimeError, match="no solver"):
        learner.adapt(X, Y)
    assert vars(learner) == before
