"""MAML on tasks that share their labels: a start that answers, and steps from it."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from torch import nn

from skcausalmeta.backbones import MLP
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.exceptions import InvalidInputError, NotFittedError
from skcausalmeta.learners import MAMLClassifier, MAMLRegressor
from skcausalmeta.persistence import load, save
from skcausalmeta.training import EpisodeHook, Validation

SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 4,
    "tasks_per_batch": 3,
    "inner_steps": 3,
    "backbone": MLP(hidden=(8,), out_features=6),
    "fit_head": False,
    "verbose": 0,
    "random_state": 0,
}
N_FEATURES = 5


def make_learner(update="sgd", **params):
    return MAMLClassifier(update, **{**SMALL, **params})


def make_tasks(n_tasks=12, n_rows=30, *, spread=0.5, seed=0):
    """Rows, labels and task ids: common weights, of which two differ in a task."""
    rng = np.random.default_rng(seed)
    weights = np.tile(rng.standard_normal(N_FEATURES), (n_tasks, 1))
    for own in weights:
        own[rng.choice(N_FEATURES, 2, replace=False)] += spread * rng.normal(size=2)
    offsets = spread * rng.normal(size=n_tasks)
    tasks = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.standard_normal((len(tasks), N_FEATURES))
    scores = (X * weights[tasks]).sum(1) + offsets[tasks]
    y = np.where(scores + 0.3 * rng.standard_normal(len(scores)) > 0, "yes", "no")
    return X, y, tasks


X, Y, TASKS = make_tasks()
# Tasks as they come: another label in four of them, one class only, and three rows.
Y = Y.astype("<U5")
Y[(TASKS < 4) & (np.arange(len(Y)) % 6 == 0)] = "maybe"
Y[TASKS == 5] = "no"
KEPT = (TASKS != 7) | (np.cumsum(TASKS == 7) <= 3)
X, Y, TASKS = X[KEPT], Y[KEPT], TASKS[KEPT]
LABELS = ["maybe", "no", "yes"]
X_NEW, Y_NEW, _ = make_tasks(1, 40, seed=3)
YES, NO = (np.flatnonzero(label == Y_NEW) for label in ("yes", "no"))
SUPPORTS = {
    "one row": YES[:1],
    "one class": NO[:4],
    "unequal": np.concatenate([YES[:7], NO[:1]]),
    "balanced": np.concatenate([NO[:3], YES[:3]]),
}


@pytest.fixture(scope="module", params=["all", "head"])
def fitted(request):
    return make_learner(adapt_layers=request.param).fit(X, Y, tasks=TASKS)


@pytest.fixture
def learner(fitted):
    return copy.copy(fitted)


def steps_by_hand(learner, rows, numbers, n_steps=3, rate=0.1):
    """Scores of `X_NEW` after plain steps on the loss over all three outputs."""
    module = copy.deepcopy(learner.net_.module_).eval()
    adapted = list(module.start().values())
    for _ in range(n_steps):
        scores = module(torch.from_numpy(rows).float(), "all")
        loss = nn.functional.cross_entropy(scores, torch.as_tensor(numbers))
        gradients = torch.autograd.grad(loss, adapted)
        with torch.no_grad():
            for parameter, gradient in zip(adapted, gradients, strict=True):
                parameter -= rate * gradient
    with torch.no_grad():
        return module(torch.from_numpy(X_NEW).float(), "all").double().numpy()


# -- what fit makes of tasks as they come ----------------------------------------------


def test_every_label_has_an_output_and_every_task_serves(fitted):
    assert fitted.shared_labels_
    assert fitted.net_.module_.output[-1].out_features == 3
    assert fitted.classes_.tolist() == LABELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = clone(fitted).fit(X, Y, tasks=TASKS)
    assert np.isfinite(again.history_[0]["train_loss"])


def test_a_task_of_one_row_is_named():
    tasks = np.where(np.arange(len(X)) == 0, 99, TASKS)
    with pytest.warns(UserWarning, match=r"at least 2 rows.* 1 \(99\) of 13 tasks"):
        make_learner().fit(X, Y, tasks=tasks)


@pytest.mark.parametrize("fit_head", [True, False])
def test_the_start_answers_for_a_task_without_labels(fit_head):
    learner = make_learner(fit_head=fit_head).fit(X, Y, tasks=TASKS)
    scores = steps_by_hand(learner, X_NEW, np.zeros(40, dtype=int), n_steps=0)
    np.testing.assert_allclose(learner.decision_function(X_NEW), scores, atol=1e-6)
    proba = learner.predict_proba(X_NEW)
    np.testing.assert_allclose(proba, softmax(scores, axis=1), atol=1e-6)
    labels = np.array(LABELS)[scores.argmax(1)]
    np.testing.assert_array_equal(learner.predict(X_NEW), labels)
    alone = [learner.predict(row[None]) for row in X_NEW]
    np.testing.assert_array_equal(np.concatenate(alone), labels)
    assert learner.task_code_ is None
    assert not hasattr(learner, "head_")
    assert not hasattr(learner, "adapted_")
    with pytest.raises(NotFittedError, match="has not adapted since fit"):
        learner.adapt(X_NEW[:2], Y_NEW[:2], keep_classes=True)


@pytest.mark.parametrize("name", SUPPORTS)
def test_steps_from_the_start_follow_the_loss_over_all_labels(learner, name):
    rows = SUPPORTS[name]
    labels = Y_NEW[rows]
    learner.adapt(X_NEW[rows], labels)
    assert learner.classes_.tolist() == LABELS
    expected = steps_by_hand(learner, X_NEW[rows], np.searchsorted(LABELS, labels))
    np.testing.assert_allclose(learner.decision_function(X_NEW), expected, atol=1e-5)
    moved = expected - steps_by_hand(learner, X_NEW[rows], np.zeros(len(rows), int), 0)
    assert np.abs(moved).max() > 1e-3


@pytest.mark.parametrize("update", ["meta-sgd", "meta-curvature", "kfo"])
def test_every_update_rule_takes_one_class(update):
    learner = make_learner(update).fit(X, Y, tasks=TASKS)
    before = learner.predict_proba(X_NEW)[:, 1].mean()
    rows = SUPPORTS["one class"]
    after = learner.adapt(X_NEW[rows], Y_NEW[rows]).predict_proba(X_NEW)[:, 1].mean()
    assert after > before


def test_many_tasks_are_solved_as_each_alone(learner):
    pairs = [(YES[:4], NO[:4]), (NO[4:8], YES[8:12])]
    support = np.stack([np.concatenate(pair) for pair in pairs])
    support = np.concatenate([support, [NO[:8], YES[:8]]])  # two of one class
    labels = Y_NEW[support].astype("<U5")
    labels[1, :2] = "maybe"
    query = np.stack([X_NEW] * len(support))
    staged = learner.staged_predict_episodes(X_NEW[support], labels, query)
    found = learner.predict_episodes(X_NEW[support], labels, query)
    assert staged.shape == (4, 4, 40)
    np.testing.assert_array_equal(staged[-1], found)
    for k in range(len(support)):
        np.testing.assert_array_equal(staged[0, k], learner.predict(X_NEW))
        alone = copy.copy(learner).adapt(X_NEW[support[k]], labels[k])
        np.testing.assert_array_equal(found[k], alone.predict(X_NEW))
    single = learner.predict_episodes(X_NEW[None, :1], Y_NEW[None, :1], query[:1])
    alone = copy.copy(learner).adapt(X_NEW[:1], Y_NEW[:1])
    np.testing.assert_array_equal(single[0], alone.predict(X_NEW))


def test_labels_in_parts_are_labels_at_once(learner):
    parts = [SUPPORTS["one row"], NO[:3], YES[1:4]]
    at_once = copy.copy(learner)
    learner.adapt(X_NEW[parts[0]], Y_NEW[parts[0]])
    for part in parts[1:]:
        learner.adapt(X_NEW[part], Y_NEW[part], keep_classes=True)
    rows = np.concatenate(parts)
    at_once.adapt(X_NEW[rows], Y_NEW[rows])
    np.testing.assert_array_equal(
        learner.decision_function(X_NEW), at_once.decision_function(X_NEW)
    )


# -- labels that nobody knows ----------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["no", "never"], r"1 \('never'\) unknown"),
        ([0, 1], r"2 \(0, 1\) unknown"),
        (list("abcdefg"), r"7 \('a', 'b', 'c', 'd', 'e' and 2 more\) unknown"),
    ],
)
def test_unknown_labels_are_named_and_change_nothing(learner, labels, names):
    learner.adapt(X_NEW, Y_NEW)
    before = vars(learner).copy()
    message = rf"among these 3 \('maybe', 'no', 'yes'\). Got {names}; fit with rows"
    rows = X_NEW[: len(labels)]
    for call in (
        lambda: learner.adapt(rows, labels),
        lambda: learner.predict_episodes(rows[None], [labels], X_NEW[None]),
        lambda: learner.staged_predict_episodes(rows[None], [labels], X_NEW[None]),
    ):
        with pytest.raises(InvalidInputError, match=message):
            call()
    with pytest.raises(ValueError, match=r"never|unknown|of the same type"):
        learner.adapt(rows, labels, keep_classes=True)
    assert vars(learner) == before


def test_numbers_are_labels_whatever_their_type():
    numbers = np.searchsorted(LABELS, Y) + 5
    learner = make_learner().fit(X, numbers, tasks=TASKS)
    expected = learner.adapt(X_NEW[:6], [5, 6, 7, 7, 7, 7]).predict(X_NEW)
    for kind in (np.float64, np.int8):
        labels = np.array([5, 6, 7, 7, 7, 7], dtype=kind)
        found = copy.copy(learner).adapt(X_NEW[:6], labels).predict(X_NEW)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == numbers.dtype
    with pytest.raises(InvalidInputError, match=r"Got 2 \('5', '6'\) unknown"):
        learner.adapt(X_NEW[:2], ["5", "6"])


# -- when labels are shared ------------------------------------------------------------


def test_labels_of_their_own_are_told_apart_as_before():
    own = np.char.add(Y, TASKS.astype(str))
    rows = ~np.isin(TASKS, (5, 7))
    learner = make_learner().fit(X[rows], own[rows], tasks=TASKS[rows])
    plain = make_learner(shared_labels=False).fit(X[rows], own[rows], tasks=TASKS[rows])
    assert not learner.shared_labels_
    for one in (learner, plain):
        one.adapt(X_NEW, np.where(Y_NEW == "yes", "new", "other"))
    assert learner.classes_.tolist() == ["new", "other"]
    np.testing.assert_array_equal(
        learner.decision_function(X_NEW), plain.decision_function(X_NEW)
    )


def test_no_task_ids_no_shared_labels():
    one, two = (
        make_learner(shared_labels=shared, fit_head=True).fit(X, Y)
        for shared in ("auto", False)
    )
    assert not one.shared_labels_
    np.testing.assert_array_equal(
        one.decision_function(X_NEW), two.decision_function(X_NEW)
    )
    with pytest.raises(InvalidInputError, match="shared_labels=True keeps the labels"):
        make_learner(shared_labels=True).fit(X, Y)
    with pytest.raises(InvalidInputError, match="at least 2 classes"):
        two.adapt(X_NEW[NO], Y_NEW[NO])


def test_the_parameter_decides_against_the_data():
    own = np.char.add(Y, TASKS.astype(str))
    learner = make_learner(shared_labels=True).fit(X, own, tasks=TASKS)
    assert len(learner.classes_) == len(np.unique(own))
    learner = make_learner(shared_labels=False)
    with pytest.warns(UserWarning, match=r"less in 2 \(5, 7\) of 12 tasks"):
        learner.fit(X, Y, tasks=TASKS)
    assert not learner.shared_labels_
    with pytest.raises(NotFittedError):
        learner.predict(X_NEW)


# -- with everything that training has -------------------------------------------------

WAYS = {
    "validation": {"validation": Validation([1, 2, 5], n_episodes=6)},
    "share": {"validation": 0.3},
    "drawn": {"n_shot": (1, 8)},
    "calibrated": {"calibrate": 12, "validation": 0.4},
    "reptile": {"net_params": {"outer": "reptile"}},
    "recompute": {"net_params": {"recompute": True, "task_chunk_size": 1}},
    "multi-step": {"net_params": {"multi_step_epochs": 1}, "first_order": True},
    "episode": {"batch_norm": "episode", "backbone": nn.Sequential(nn.Linear(5, 6))},
    "boil": {"adapt_layers": "body"},
}


@pytest.mark.parametrize("way", WAYS)
def test_it_repeats_to_the_bit_and_travels(way, tmp_path):
    learner = make_learner(**{"n_shot": 2, "n_query": 6, **WAYS[way]})
    learner.fit(X, Y, tasks=TASKS)
    again = clone(learner).fit(X, Y, tasks=TASKS)
    save(learner, tmp_path / "learner.scm")
    twins = [
        again,
        pickle.loads(pickle.dumps(learner)),
        copy.deepcopy(learner),
        load(tmp_path / "learner.scm"),
    ]
    for rows in (None, *SUPPORTS.values()):
        expected = _proba(learner, rows)
        for twin in twins:
            np.testing.assert_array_equal(_proba(twin, rows), expected)
    if way == "calibrated":
        assert learner.temperature_ not in (0.0, 1.0)


def _proba(learner, rows):
    one = copy.copy(learner)
    if rows is not None:
        one.adapt(X_NEW[rows], Y_NEW[rows])
    return one.predict_proba(X_NEW)


def test_the_temperature_is_that_of_adapted_tasks():
    plain = make_learner().fit(X, Y, tasks=TASKS)
    warm = make_learner(calibrate=10).fit(X, Y, tasks=TASKS)
    np.testing.assert_array_equal(warm.predict_proba(X_NEW), plain.predict_proba(X_NEW))
    for one in (plain, warm):
        one.adapt(X_NEW[:5], Y_NEW[:5])
    wanted = softmax(plain.decision_function(X_NEW) / warm.temperature_, axis=1)
    np.testing.assert_allclose(warm.predict_proba(X_NEW), wanted, atol=1e-12)


@pytest.mark.parametrize("adapt_layers", ["all", "head"])
def test_a_support_of_one_row_needs_no_variance(adapt_layers):
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU())
    pairs = np.minimum(np.arange(len(X)) // 2, 150)  # one row of two to learn from
    learner = make_learner(
        adapt_layers=adapt_layers, backbone=module, batches_per_epoch=10
    )
    learner.fit(X, Y, tasks=pairs)
    (layer,) = (
        one for one in learner.net_.module_.modules() if isinstance(one, nn.BatchNorm1d)
    )
    assert "forward" not in vars(layer)
    assert torch.isfinite(layer.running_var).all()
    assert np.isfinite(learner.adapt(X_NEW[:1], Y_NEW[:1]).predict_proba(X_NEW)).all()
    with pytest.raises(InvalidInputError, match="or use batch_norm='running'"):
        learner.set_params(batch_norm="episode").fit(X, Y, tasks=pairs)


def test_validation_tasks_may_have_labels_that_training_lacks():
    y = np.where(TASKS == 3, "only", Y)
    learner = make_learner(validation=[3, 4]).fit(X, y, tasks=TASKS)
    assert learner.classes_.tolist() == ["maybe", "no", "only", "yes"]
    assert 0 <= learner.history_[0]["valid_accuracy"] <= 1


def test_a_pipeline_answers_before_the_first_label():
    learner = make_learner(backbone=MLP((8,), standardize=False))
    pipeline = make_meta_pipeline(StandardScaler(), learner)
    pipeline.fit(X, Y, mamlclassifier__tasks=TASKS)
    assert set(pipeline.predict(X_NEW)) <= set(LABELS)
    assert pipeline.adapt(X_NEW[:1], Y_NEW[:1]).classes_.tolist() == LABELS


class MeanRow(EpisodeHook):
    """Adds the mean support row of a task to all its rows."""

    def task_code(self, support, targets, n_way):
        assert n_way in (0, 3)
        return support.mean(1)

    def transform(self, features, code):
        return features + code.unsqueeze(-2)


def test_without_labels_the_hook_sees_all_tasks_as_one():
    learner = make_learner(hook=MeanRow()).fit(X, Y, tasks=TASKS)
    mean = learner.transform(X).mean(0)
    np.testing.assert_allclose(learner.task_code_.numpy()[0], mean, atol=1e-5)
    output = learner.net_.module_.output
    with torch.no_grad():
        features = torch.from_numpy(learner.transform(X_NEW) + mean).float()
        expected = output(features).double().numpy()
    np.testing.assert_allclose(learner.decision_function(X_NEW), expected, atol=1e-5)
    twin = pickle.loads(pickle.dumps(learner))
    np.testing.assert_array_equal(twin.predict(X_NEW), learner.predict(X_NEW))
    rows = SUPPORTS["one row"]
    code = learner.adapt(X_NEW[rows], Y_NEW[rows]).task_code_
    np.testing.assert_allclose(code.numpy(), learner.transform(X_NEW[rows]), atol=1e-5)


# -- real targets ----------------------------------------------------------------------


@pytest.mark.parametrize("hook", [None, MeanRow()])
def test_a_regressor_answers_by_its_start_where_tasks_were_given(hook):
    targets = 100 * X[:, 0] + 50
    params = {k: v for k, v in SMALL.items() if k != "fit_head"}
    learner = MAMLRegressor(hook=hook, fit_head=False, **params)
    learner.fit(X, targets, tasks=TASKS)
    found = learner.predict(X_NEW)
    still = copy.copy(learner).set_params(adapt_steps=0).adapt(X, targets)
    np.testing.assert_allclose(found, still.predict(X_NEW), rtol=1e-4, atol=1e-3)
    twin = pickle.loads(pickle.dumps(learner))
    np.testing.assert_array_equal(twin.predict(X_NEW), found)
    assert not hasattr(learner, "adapted_")
    learner.fit(X, targets)
    with pytest.raises(NotFittedError, match="Call 'adapt' with the support rows"):
        learner.predict(X_NEW)


# -- what it is for --------------------------------------------------------------------


def make_classes(n_tasks=80, n_rows=80, n_classes=4, seed=0):
    """Rows, labels and tasks: the largest of common scores, each with its own part."""
    rng = np.random.default_rng(seed)
    tasks = np.repeat(np.arange(n_tasks), n_rows)
    weights = rng.standard_normal((N_FEATURES, n_classes))
    own = 0.4 * rng.standard_normal((n_tasks, N_FEATURES, n_classes))
    rows = rng.standard_normal((len(tasks), N_FEATURES))
    scores = np.einsum("ij,ijk->ik", rows, weights + own[tasks])
    return rows, scores.argmax(1), tasks


@pytest.mark.slow
def test_known_before_the_first_label_and_ahead_of_labels_at_random():
    rows, labels, tasks = make_classes()
    train, accuracies = tasks < 60, {}
    for shared in (True, False):
        learner = MAMLClassifier(
            shared_labels=shared,
            inner_lr=0.5,
            fit_head=False,
            verbose=0,
            random_state=0,
        ).fit(rows[train], labels[train], tasks=tasks[train])
        for n_shot in (0, 1, 5, 10) if shared else (1, 5, 10):
            found = [
                _accuracy(learner, rows[tasks == t], labels[tasks == t], n_shot)
                for t in range(60, 80)
            ]
            accuracies[n_shot, shared] = np.mean(found)
    assert accuracies[0, True] > 0.6
    assert accuracies[10, True] > accuracies[0, True]
    assert accuracies[1, True] > accuracies[1, False] + 0.05
    for n_shot in (5, 10):
        assert accuracies[n_shot, True] > accuracies[n_shot, False] - 0.01
    assert accuracies[0, True] > accuracies[1, False] + 0.05


def _accuracy(learner, X, y, n_shot):
    """Accuracy on a task after rows of each class, or before any."""
    support = [np.flatnonzero(label == y)[:n_shot] for label in np.unique(y)]
    index = np.concatenate(support)
    one = copy.copy(learner)
    if n_shot:
        one.adapt(X[index], y[index])
    rest = np.setdiff1d(np.arange(len(y)), index)
    return one.score(X[rest], y[rest])
