"""Learners around a common predictor: what they answer, and what it is made of."""

import copy
import pickle
from functools import cache
from unittest import mock

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import is_classifier
from sklearn.metrics import roc_auc_score

from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import GroupLassoLogistic, LassoHead
from skcausalmeta.learners import SparseMetaClassifier, SparseMetaRegressor
from skcausalmeta.learners._synergies import _sparsity
from skcausalmeta.persistence import load, save

pytestmark = pytest.mark.whole_common

N_TASKS, N_ROWS = 14, 30
KINDS = {"two": 2, "three": 3, "real": None}
# Nothing deviates: the strength that switches every column off.
OFF = {
    "two": GroupLassoLogistic(1.0, 1.0, reg_scale="ridge-absolute"),
    "three": GroupLassoLogistic(1.0, 1.0, reg_scale="ridge-absolute"),
    "real": LassoHead(1.0, 1.0, reg_scale="ridge-absolute"),
}


def make_data(kind, **params):
    small = {"n_samples": N_ROWS, "n_features": 5, "n_deviating": 1, "noise": 1.0}
    return make_shared_tasks(
        N_TASKS, n_classes=KINDS[kind], random_state=0, **{**small, **params}
    )


def make_learner(kind, **params):
    make = SparseMetaRegressor if kind == "real" else SparseMetaClassifier
    small = {
        "backbone": "identity",
        "max_epochs": 1,
        "batches_per_epoch": 3,
        "tasks_per_batch": 4,
        "verbose": 0,
        "random_state": 0,
    }
    return make(**{**small, **params})


def quickly_fitted(kind, X, y, tasks):
    """A learner with its default head, whose sparsity few episodes decide."""
    with mock.patch.object(_sparsity, "_N_BATCHES", 2):
        return make_learner(kind).fit(X, y, tasks=tasks)


class Fitted:
    """A learner of the first tasks of a kind; the last two are new to it."""

    def __init__(self, kind):
        self.kind, self.bunch = kind, make_data(kind)
        self.X, self.y, self.tasks = (
            self.bunch[name] for name in ("data", "target", "tasks")
        )
        self.old = self.tasks < N_TASKS - 2
        arrays = self.X[self.old], self.y[self.old], self.tasks[self.old]
        before = [array.copy() for array in arrays]
        self.learner = quickly_fitted(kind, *arrays)
        self.untouched = all(map(np.array_equal, before, arrays))
        self.support = np.flatnonzero(self.tasks == N_TASKS - 2)[:16]
        self.query = np.flatnonzero(self.tasks == N_TASKS - 2)[16:]

    def adapted(self, learner=None, rows=None):
        rows = self.support if rows is None else rows
        learner = copy.copy(self.learner if learner is None else learner)
        return learner.adapt(self.X[rows], self.y[rows])

    def off(self):
        """A copy whose tasks do not deviate."""
        return copy.copy(self.learner).set_params(head=OFF[self.kind])


@cache
def fitted_on(kind):
    return Fitted(kind)


@pytest.fixture(params=KINDS)
def fitted(request):
    return fitted_on(request.param)


CLASSES = pytest.mark.parametrize("kind", ["two", "three"])


def scores_of(learner, X):
    """Scores without what they have in common: (n, n_scores) of mean 0."""
    if not is_classifier(learner):
        return learner.predict(X).reshape(len(X), 1)
    found = learner.decision_function(X)
    if found.ndim == 1:
        return np.stack([-found / 2, found / 2], axis=1)
    return found - found.mean(axis=1, keepdims=True)


def in_target_units(learner, scores):
    if is_classifier(learner):
        return scores - scores.mean(axis=1, keepdims=True)
    return learner.target_center_ + learner.target_scale_ * scores


# -- what is answered ------------------------------------------------------------------


def test_without_labels_the_common_predictor_answers(fitted):
    learner, X = fitted.learner, fitted.X[fitted.query]
    common = learner.common_.scores(X)
    expected = in_target_units(learner, common)
    np.testing.assert_allclose(scores_of(learner, X), expected, atol=1e-12)
    if is_classifier(learner):
        found = learner.predict_proba(X)
        np.testing.assert_allclose(found, softmax(common, axis=1), atol=1e-12)
        known = learner.classes_[common.argmax(axis=1)]
        np.testing.assert_array_equal(learner.predict(X), known)
    assert learner.sparsity_ == 1.0
    assert learner.dual_gap_ == 0.0
    assert not learner.deviation_.any()
    np.testing.assert_array_equal(learner.common_gain_, np.eye(common.shape[1]))


def test_at_the_largest_strength_nothing_deviates(fitted):
    learner = fitted.adapted(fitted.off())
    assert learner.support_features_.size == 0
    assert not learner.deviation_.any()
    assert learner.sparsity_ == 1.0
    X = fitted.X[fitted.query]
    # The common scores are left, times their gain, beside an intercept.
    common = learner.common_.scores(X) @ learner.common_gain_.T
    moved = scores_of(learner, X) - in_target_units(learner, common)
    np.testing.assert_allclose(moved - moved[:1], 0.0, atol=1e-9)
    gain = learner.common_gain_
    np.testing.assert_allclose(gain, gain[0, 0] * np.eye(len(gain)), atol=1e-9)


def test_scores_are_gain_times_common_plus_deviation_plus_a_constant(fitted):
    learner, X = fitted.adapted(), fitted.X
    weights = learner.common_gain_ @ learner.common_coef_ + learner.deviation_
    assert weights.shape == learner.deviation_.shape == learner.common_coef_.shape
    linear = X @ weights.T
    if is_classifier(learner):
        linear -= linear.mean(axis=1, keepdims=True)
    constant = scores_of(learner, X) - linear
    np.testing.assert_allclose(constant - constant[0], 0.0, atol=1e-5)


def test_zero_labels_are_the_common_coefficients_alone(fitted):
    learner, X = fitted.learner, fitted.X
    linear = X @ learner.common_coef_.T
    if is_classifier(learner):
        linear -= linear.mean(axis=1, keepdims=True)
    constant = scores_of(learner, X) - linear
    np.testing.assert_allclose(constant - constant[0], 0.0, atol=1e-5)


def test_the_facts_of_a_task_agree(fitted):
    learner = fitted.adapted()
    used = np.flatnonzero((learner.deviation_ != 0).any(axis=0))
    np.testing.assert_array_equal(learner.support_features_, used)
    assert learner.sparsity_ == pytest.approx(1 - len(used) / 5)
    assert fitted.learner.sparsity_ == 1.0  # a copy was adapted
    assert fitted.untouched


# -- the certificate -------------------------------------------------------------------


def head_data(learner, X, y):
    """What the head of a task gets, by the formulas of `Strengths`."""
    values = {n: v.numpy() for n, v in learner.net_.module_.state_dict().items()}
    values = {n.removeprefix("strengths."): v.astype(float) for n, v in values.items()}
    common = learner.common_.scores(X)
    if is_classifier(learner):
        counts = np.unique(y, return_counts=True)[1]
        amount = 1 / np.mean(1 / (counts + 1)) - 1
    else:
        amount = len(y)
    step = np.log(amount) - 1
    center = values["score_center"]
    own = common - center
    if own.shape[1] == 2:
        own = own[:, 1:] - own[:, :1]
    variances = np.exp(values["level"] + values["growth"] * step)
    block = np.repeat([0, 1], [X.shape[1], own.shape[1]])
    scale = np.sqrt(variances[block])
    scale[: X.shape[1]] *= np.exp(values["relevance"])
    moved = (X - values["center"]) / values["spread"]
    gain = np.exp(values["gain"][0] + values["gain"][1] * step)
    return np.hstack([moved, own]) * scale, center + gain * (common - center)


def test_the_certificate_is_the_gap_of_the_problem_around_the_common_scores(fitted):
    learner = fitted.adapted()
    X, y = fitted.X[fitted.support], fitted.y[fitted.support]
    features, offset = head_data(learner, X, y)
    gap = logistic_gap if is_classifier(learner) else lasso_gap
    objective, found = gap(learner, features, offset, y)
    head = learner.head_
    assert head.objective_ == pytest.approx(objective, rel=1e-6)
    assert -1e-9 * objective <= found <= head.tol * objective + 1e-9
    assert learner.dual_gap_ == pytest.approx(found, abs=1e-6 * objective)


def what_is_certified(head, features):
    """Features, weights and strength of the problem that was solved last."""
    if not head.refit:
        return features, head.coef_, head.lambda1_
    assert head.selection_gap_ >= 0
    return (
        features[:, head.support_features_],
        head.coef_[..., head.support_features_],
        0.0,
    )


def logistic_gap(learner, features, offset, y):
    """Objective, and what it is above its dual at the certified point."""
    head = learner.head_
    features, coef, lambda1 = what_is_certified(head, features)
    middle = features.mean(axis=0)
    free = (head.intercept_ + coef @ middle) / head.intercept_scaling
    scores = features @ coef.T + head.intercept_ + offset
    truth = np.eye(scores.shape[1])[np.searchsorted(learner.classes_, y)]
    top = scores.max(axis=1, keepdims=True)
    loss = np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0]
    loss = (loss - (scores * truth).sum(axis=1)).sum()
    norms = np.linalg.norm(coef, axis=0)
    ridge = (norms**2).sum() + (free**2).sum()
    objective = loss + head.lambda2_ / 2 * ridge + lambda1 * norms.sum()
    shares = head.dual_coef_
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum()
    residual = shares - truth
    pulls = np.linalg.norm((features - middle).T @ residual, axis=1)
    beyond = np.maximum(pulls - lambda1, 0.0)
    constant = head.intercept_scaling * np.linalg.norm(residual.sum(axis=0))
    cost = ((beyond**2).sum() + constant**2) / (2 * head.lambda2_)
    return objective, objective - (entropy + (offset * residual).sum() - cost)


def lasso_gap(learner, features, offset, y):
    """The same for a Lasso with a ridge, whose rows are averaged."""
    head, n = learner.head_, len(y)
    features, coef, lambda1 = what_is_certified(head, features)
    standard = (y - learner.target_center_) / learner.target_scale_
    left = standard - offset[:, 0]
    rest = left - features @ coef - head.intercept_
    sizes = np.abs(coef)
    objective = (rest**2).sum() / (2 * n) + lambda1 * sizes.sum()
    objective += head.lambda2_ / 2 * (sizes**2).sum()
    dual = (rest - rest.mean()) / n
    pulls = np.abs((features - features.mean(axis=0)).T @ dual)
    cost = (np.maximum(pulls - lambda1, 0) ** 2).sum() / (2 * head.lambda2_)
    return objective, objective - (dual @ left - n / 2 * dual @ dual - cost)


# -- whatever there is -----------------------------------------------------------------


@CLASSES
def test_one_row_one_class_and_missing_classes_will_do(kind):
    fitted = fitted_on(kind)
    rows = np.flatnonzero(fitted.tasks == N_TASKS - 1)
    labels = fitted.y[rows]
    for support in (rows[:1], rows[labels == 1], rows[labels == 0], rows[labels < 2]):
        learner = fitted.adapted(rows=support)
        np.testing.assert_array_equal(learner.classes_, np.unique(fitted.y))
        shares = learner.predict_proba(fitted.X)
        assert shares.shape == (len(fitted.X), KINDS[kind])
        assert np.isfinite(shares).all()
        assert (shares.max(axis=0) > 0.05).all()  # no class is lost
        assert 0 <= learner.dual_gap_ < 1e-4


def test_one_row_of_a_regression_will_do():
    fitted = fitted_on("real")
    learner = fitted.adapted(rows=fitted.support[:1])
    assert np.isfinite(learner.predict(fitted.X)).all()


def test_a_hundred_rows_against_one_lose_no_class():
    fitted = fitted_on("two")
    task = make_data("two", n_samples=260)
    own = np.flatnonzero(task.tasks == N_TASKS - 1)
    X, y = task.data[own], task.target[own]
    no, yes = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    support = np.r_[no[:100], yes[:1]]
    query = np.setdiff1d(np.arange(len(y)), support)
    learner = copy.copy(fitted.learner).adapt(X[support], y[support])
    before = roc_auc_score(y[query], fitted.learner.decision_function(X[query]))
    after = roc_auc_score(y[query], learner.decision_function(X[query]))
    assert after > before - 0.02
    assert set(learner.predict(X[query])) == {0, 1}


@CLASSES
def test_labels_that_fit_did_not_see_are_refused_by_name(kind):
    fitted, learner = fitted_on(kind), copy.copy(fitted_on(kind).learner)
    task = learner.task_
    with pytest.raises(InvalidInputError, match=r"Got 2 \(7, 9\) unknown; fit with"):
        learner.adapt(fitted.X[:3], [7, 0, 9])
    assert learner.task_ is task
    with pytest.raises(InvalidInputError, match=r"Got 1 \('yes'\) unknown"):
        learner.adapt(fitted.X[:2], ["yes", "yes"])
    with pytest.raises(InvalidInputError, match=r"Got 1 \(7\) unknown"):
        learner.predict_episodes(fitted.X[None, :2], [[0, 7]], fitted.X[None, :3])


# -- many tasks ------------------------------------------------------------------------


def test_known_tasks_answer_for_themselves_and_the_common_predictor_for_others(fitted):
    learner, X, y, tasks = fitted.learner, fitted.X, fitted.y, fitted.tasks
    found = learner.predict(X, tasks=tasks)
    new = ~fitted.old
    np.testing.assert_array_equal(found[new], learner.predict(X[new]))
    for task in (0, 5):
        own = tasks == task
        alone = learner.predict(X[own], tasks=tasks[own])
        np.testing.assert_allclose(found[own], alone)
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = learner.predict(X[order], tasks=tasks[order])
    np.testing.assert_allclose(shuffled, found[order])
    strange = learner.predict(X, tasks=[f"new {task}" for task in tasks])
    np.testing.assert_array_equal(strange, learner.predict(X))
    if not is_classifier(learner):
        errors = [np.mean((y - p)[fitted.old] ** 2) for p in (found, strange)]
        assert errors[0] < errors[1]
        return
    shares = learner.predict_proba(X, tasks=tasks)
    np.testing.assert_array_equal(learner.classes_[shares.argmax(axis=1)], found)
    losses = [
        -np.log(p[fitted.old, np.searchsorted(learner.classes_, y[fitted.old])]).mean()
        for p in (shares, learner.predict_proba(X))
    ]
    assert losses[0] < losses[1]


def test_a_known_task_answers_when_another_one_is_in_use(fitted):
    X, tasks = fitted.X[:40], fitted.tasks[:40]
    adapted = fitted.adapted()
    found = adapted.predict(X, tasks=tasks)
    np.testing.assert_array_equal(found, fitted.learner.predict(X, tasks=tasks))


def test_task_ids_are_one_a_row(fitted):
    with pytest.raises(ValueError, match="tasks"):
        fitted.learner.predict(fitted.X[:3], tasks=[0, 1])


def test_many_tasks_at_once_answer_like_one_by_one(fitted):
    X, y = fitted.X.reshape(N_TASKS, N_ROWS, -1), fitted.y.reshape(N_TASKS, N_ROWS)
    support, labels, query = X[:5, :9], y[:5, :9], X[:5, 9:]
    together = fitted.learner.predict_episodes(support, labels, query)
    for number in range(5):
        one = copy.copy(fitted.learner).adapt(support[number], labels[number])
        expected = one.predict(query[number])
        if is_classifier(one):
            np.testing.assert_array_equal(together[number], expected)
        else:
            np.testing.assert_allclose(together[number], expected, rtol=1e-6, atol=1e-6)


# -- kept, repeated, set otherwise -----------------------------------------------------


def test_a_pickle_and_a_file_answer_alike(fitted, tmp_path):
    learner = fitted.adapted()
    save(learner, tmp_path / "learner.skcm")
    expected = learner.predict(fitted.X)
    known = learner.predict(fitted.X, tasks=fitted.tasks)
    for one in (pickle.loads(pickle.dumps(learner)), load(tmp_path / "learner.skcm")):
        np.testing.assert_array_equal(one.predict(fitted.X), expected)
        again = one.predict(fitted.X, tasks=fitted.tasks)
        np.testing.assert_array_equal(again, known)


def global_random_states():
    legacy = np.random.mtrand._rand.get_state()
    return legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()


@pytest.mark.parametrize("kind", ["two", "real"])
def test_equal_seeds_give_equal_bits_and_leave_the_global_states(kind):
    one, arrays = fitted_on(kind), make_data(kind)
    before = global_random_states()
    old = arrays.tasks < N_TASKS - 2
    again = quickly_fitted(
        kind, arrays.data[old], arrays.target[old], arrays.tasks[old]
    )
    assert global_random_states() == before
    states = [m.net_.module_.state_dict() for m in (one.learner, again)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert again.sparse_reg_ == one.learner.sparse_reg_
    for learner in (one.learner, again):
        learner_of_task = one.adapted(learner)
        np.testing.assert_array_equal(
            learner_of_task.deviation_, one.adapted().deviation_
        )


@pytest.mark.parametrize("kind", ["two", "real"])
def test_drawn_shots_validation_and_no_heads_of_known_tasks(kind):
    fitted = fitted_on(kind)
    learner = make_learner(kind, n_shot=(1, 5), validation=0.25, fit_head=False)
    X, y, tasks = (a[fitted.old] for a in (fitted.X, fitted.y, fitted.tasks))
    learner.fit(X, y, tasks=tasks)
    assert "valid_loss" in learner.history_[0]
    np.testing.assert_array_equal(
        scores_of(learner, X),
        in_target_units(learner, learner.common_.scores(X)),
    )
    with pytest.raises(InvalidInputError, match="fit_head=True"):
        learner.predict(X, tasks=tasks)
    assert fitted.adapted(learner).dual_gap_ >= 0


def test_differing_features_are_large_beside_the_largest(fitted):
    """By hand: norms of weights, of columns in standard units of the training rows."""
    one = fitted.adapted()
    rows = fitted.X[fitted.old]
    sizes = np.linalg.norm(one.deviation_, axis=0) * rows.std(axis=0)
    for least in (0.0, 0.3, 0.5, 1.0):
        wanted = np.flatnonzero(
            (sizes > 0) & (sizes >= (1 - 1e-6) * least * sizes.max())
        )
        np.testing.assert_array_equal(one.differing_features(least=least), wanted)
    np.testing.assert_array_equal(
        one.differing_features(least=0.0), one.support_features_
    )
    none = fitted.adapted(fitted.off())
    assert len(none.differing_features(least=0.5)) == 0
    for wrong in (-0.1, 1.5, "half", float("nan")):
        with pytest.raises(InvalidInputError, match="must be from 0 to 1"):
            one.differing_features(least=wrong)
