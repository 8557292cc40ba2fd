"""What can be a common predictor, and that it never saw the task of a row."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC
from skorch.callbacks import Callback

from skcausalmeta.backbones import MLP
from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import GroupLassoLogistic, LassoHead
from skcausalmeta.learners import SparseMetaClassifier, SparseMetaRegressor
from skcausalmeta.learners._synergies import _around_common
from skcausalmeta.learners._synergies._epochs import helping_epochs
from skcausalmeta.training import PooledData, PooledModel, RowReader, fit_pooled

SHARED = {"n_samples": 24, "n_features": 4, "n_deviating": 1, "noise": 1.0}
TWO = make_shared_tasks(9, random_state=0, **SHARED)
REAL = make_shared_tasks(9, n_classes=None, random_state=0, **SHARED)
CLASS_HEAD = GroupLassoLogistic(0.3, 1.0, reg_scale="ridge-absolute")
REAL_HEAD = LassoHead(0.3, 0.05, reg_scale="ridge-absolute")


def make_learner(make, head, common, **params):
    small = {
        "backbone": "identity",
        "max_epochs": 1,
        "batches_per_epoch": 2,
        "tasks_per_batch": 3,
        "verbose": 0,
        "random_state": 0,
    }
    return make(head, common=common, **{**small, **params})


def fit_two(common, **params):
    learner = make_learner(SparseMetaClassifier, CLASS_HEAD, common, **params)
    return learner.fit(TWO.data, TWO.target, tasks=TWO.tasks)


def fit_real(common, **params):
    learner = make_learner(SparseMetaRegressor, REAL_HEAD, common, **params)
    return learner.fit(REAL.data, REAL.target, tasks=REAL.tasks)


class Memory(ClassifierMixin, BaseEstimator):
    """Sure of the rows it was fitted on, and of no others."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.known_ = {row.tobytes(): label for row, label in zip(X, y, strict=True)}
        return self

    def predict_proba(self, X):
        found = [self.known_.get(row.tobytes()) for row in X]
        sure = [None if label is None else self.classes_ == label for label in found]
        even = np.full(len(self.classes_), 1 / len(self.classes_))
        return np.array([even if row is None else row.astype(float) for row in sure])


# -- estimators ------------------------------------------------------------------------


def test_no_row_is_scored_by_a_model_that_saw_its_task():
    learner = fit_two(Memory())
    shares = softmax(learner.common_.training_scores, axis=1)
    np.testing.assert_allclose(shares, 0.5)
    assert learner.score(TWO.data, TWO.target) == 1.0  # the model of all rows knows
    # Rows that other tasks hold too are known.
    whole = np.tile(TWO.data[:24], (9, 1))
    tiled = np.tile(TWO.target[:24], 9)
    learner.fit(whole, tiled, tasks=TWO.tasks)
    shares = softmax(learner.common_.training_scores, axis=1)
    assert shares.max(axis=1) == pytest.approx(1.0, abs=2e-4)  # the least is 1e-4


@pytest.mark.parametrize(
    "common",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        HistGradientBoostingClassifier(max_iter=5, random_state=0),
        LinearSVC(random_state=0),
    ],
    ids=["pipeline", "boosting", "decision values"],
)
def test_without_labels_an_estimator_answers_as_fitted_on_all_rows(common):
    learner = fit_two(common)
    alone = common.fit(TWO.data, TWO.target)
    np.testing.assert_array_equal(learner.predict(TWO.data), alone.predict(TWO.data))
    if hasattr(alone, "predict_proba"):
        expected = alone.predict_proba(TWO.data)
    else:
        expected = 1 / (1 + np.exp(-alone.decision_function(TWO.data)))
        expected = np.stack([1 - expected, expected], axis=1)
    np.testing.assert_allclose(learner.predict_proba(TWO.data), expected, atol=1e-3)
    learner.adapt(TWO.data[:20], TWO.target[:20])
    assert np.isfinite(learner.decision_function(TWO.data)).all()


def test_a_regressor_answers_in_the_units_of_the_targets():
    learner = make_learner(SparseMetaRegressor, REAL_HEAD, Ridge())
    y = 1e3 + 50 * REAL.target
    learner.fit(REAL.data, y, tasks=REAL.tasks)
    alone = Ridge().fit(REAL.data, y)
    found = learner.predict(REAL.data)
    np.testing.assert_allclose(found, alone.predict(REAL.data), rtol=1e-6)
    np.testing.assert_allclose(learner.common_coef_[0], alone.coef_, rtol=1e-6)


def test_common_weights_are_those_of_the_columns():
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    learner = fit_two(scaled)
    scaled.fit(TWO.data, TWO.target)
    expected = scaled[-1].coef_[0] / scaled[0].scale_
    found = learner.common_coef_
    np.testing.assert_allclose(found[1] - found[0], expected)
    np.testing.assert_allclose(found.sum(axis=0), 0.0, atol=1e-12)
    moved = make_pipeline(StandardScaler(with_std=False), LogisticRegression())
    plain = LogisticRegression().fit(TWO.data, TWO.target).coef_[0]
    found = fit_two(moved).common_coef_
    np.testing.assert_allclose(found[1] - found[0], plain, atol=1e-3)


@pytest.mark.parametrize(
    ("common", "name"),
    [
        (make_pipeline(MinMaxScaler(), LogisticRegression()), "LogisticRegression af"),
        (HistGradientBoostingClassifier(max_iter=2), "HistGradientBoostingClassifier"),
    ],
    ids=["another scale", "trees"],
)
def test_what_is_not_linear_in_the_columns_has_no_common_weights(common, name):
    learner = fit_two(common)
    assert not hasattr(learner, "common_coef_")
    with pytest.raises(AttributeError, match=rf"linear in the columns .*Got {name}"):
        learner.common_coef_  # noqa: B018


# -- what is refused -------------------------------------------------------------------


class Untouched(BaseEstimator):
    """A classifier that must not be fitted."""

    def fit(self, X, y):
        raise AssertionError("Training has begun.")

    def predict_proba(self, X):
        raise AssertionError("Training has begun.")


@pytest.mark.parametrize(
    "common", ["lineer", LogisticRegression, object(), 3, ["linear"], np.ones(2)]
)
@pytest.mark.parametrize("fit", [fit_two, fit_real])
def test_what_is_no_estimator_is_refused_before_training(fit, common):
    with pytest.raises(InvalidInputError, match=r"'common' parameter must be .*Got"):
        fit(common)


def test_estimators_of_the_other_kind_are_refused_before_training():
    with pytest.raises(InvalidInputError, match=r"must be a classifier .*Got Ridge\("):
        fit_two(Ridge())
    with pytest.raises(InvalidInputError, match=r"must be a regressor\. Got Logistic"):
        fit_real(LogisticRegression())
    with pytest.raises(InvalidInputError, match=r"must be a regressor\. Got Pipe"):
        fit_real(make_pipeline(StandardScaler(), LinearSVC()))


@pytest.mark.parametrize("common", ["linear", Untouched()])
def test_tasks_that_share_nothing_have_no_common_predictor(common):
    learner = make_learner(SparseMetaClassifier, None, common)
    for tasks in ({}, {"tasks": TWO.tasks}):
        labels = TWO.target + 2 * TWO.tasks  # every task has its own
        with pytest.raises(InvalidInputError, match=r"share their labels.*common=None"):
            learner.fit(TWO.data, labels, **tasks)
    learner.set_params(shared_labels=False)
    with pytest.raises(InvalidInputError, match=r"share their labels.*common=None"):
        learner.fit(TWO.data, TWO.target, tasks=TWO.tasks)


@pytest.mark.parametrize("common", ["linear", Untouched()])
def test_one_task_has_no_common_predictor(common):
    learner = make_learner(SparseMetaClassifier, CLASS_HEAD, common)
    learner.set_params(shared_labels=True)
    with pytest.raises(InvalidInputError, match=r"learned across tasks.*Got one; use"):
        learner.fit(TWO.data, TWO.target, tasks=np.zeros(len(TWO.data)))


@pytest.mark.parametrize(
    ("make", "head", "name"),
    [
        (SparseMetaClassifier, GroupLassoLogistic("learn"), "group_reg"),
        (SparseMetaClassifier, GroupLassoLogistic(0.1, "learn"), "ridge_reg"),
        (SparseMetaRegressor, LassoHead("learn"), "lasso_reg"),
    ],
)
def test_strengths_are_learned_around_a_common_predictor_only(make, head, name):
    learner = make_learner(make, head, None)
    with pytest.raises(InvalidInputError, match=rf'^{name}="learn" .*give a number'):
        learner.fit(TWO.data, TWO.target, tasks=TWO.tasks)


# -- nets ------------------------------------------------------------------------------


def make_pooled():
    return PooledModel(torch.nn.Linear(4, 3), 3, 2)


def test_rows_are_scored_by_the_net_that_did_not_see_their_task():
    reader = RowReader((4,))
    rows = TWO.data.astype(np.float32)
    data = PooledData(rows, TWO.target, TWO.tasks, 2, reader)
    found = fit_pooled(make_pooled, data, seed=0)
    assert len(found.members) == 4
    for fold in range(3):
        own = found.folds == fold
        assert len(np.unique(TWO.tasks[own])) == 3
        assert not np.isin(TWO.tasks[~own], TWO.tasks[own]).any()
        with torch.no_grad():
            expected = found.members[fold](reader(rows[own])).numpy()
        np.testing.assert_allclose(found.scores[own], expected, atol=1e-6)


@pytest.mark.usefixtures("whole_common")
def test_a_net_of_columns_is_trained_on_all_rows_first():
    backbone = MLP((6,), out_features=3, skip=True)
    learner = fit_two("auto", backbone=backbone, batches_per_epoch=1)
    assert learner.common_coef_.shape == learner.deviation_.shape == (2, 7)
    assert learner.score(TWO.data, TWO.target) > 0.6  # without a label of any task
    learner.adapt(TWO.data[:20], TWO.target[:20])
    assert set(learner.support_features_) <= set(range(7))


def test_given_strengths_on_the_columns_leave_nothing_to_train():
    learner = fit_two("linear")  # its head has numbers for both strengths
    assert learner.n_iter_ == 0
    assert not list(learner.net_.module_.parameters())
    np.testing.assert_array_equal(learner.common_gain_, np.eye(2))
    learner.adapt(TWO.data[:20], TWO.target[:20])
    weights = learner.head_.coef_[:, :4] / TWO.data.std(axis=0)
    np.testing.assert_allclose(learner.deviation_, weights, rtol=1e-5)


# -- interruption ----------------------------------------------------------------------


class Interrupt(Callback):
    """Presses Ctrl-C at the first step."""

    def on_batch_end(self, net, training=None, **kwargs):
        if training:
            raise KeyboardInterrupt


def test_interrupted_training_leaves_a_usable_learner():
    learner = make_learner(
        SparseMetaClassifier, GroupLassoLogistic(0.3, "learn"), "auto"
    )
    learner.set_params(max_epochs=4, callbacks=[Interrupt()])
    learner.fit(TWO.data, TWO.target, tasks=TWO.tasks)
    assert learner.n_iter_ == 0
    learner.adapt(TWO.data[:10], TWO.target[:10])
    assert np.isfinite(learner.decision_function(TWO.data)).all()


def test_an_interrupted_common_predictor_leaves_the_learner_as_it_was(monkeypatch):
    learner = fit_two("linear")
    before, common = vars(learner).copy(), learner.common_

    def step(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    learner.set_params(backbone=MLP((4,), out_features=3))
    with pytest.raises(KeyboardInterrupt):
        learner.fit(TWO.data, TWO.target, tasks=TWO.tasks)
    assert learner.common_ is common
    assert {**vars(learner), "backbone": before["backbone"]} == before
    fresh = make_learner(SparseMetaClassifier, CLASS_HEAD, "auto")
    fresh.set_params(backbone=MLP((4,), out_features=3))
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(TWO.data, TWO.target, tasks=TWO.tasks)
    assert not hasattr(fresh, "net_")


class Scripted:
    """A trial whose held-out loss after every epoch is known."""

    def __init__(self, *losses, interrupted_at=None):
        self.losses, self.epoch, self.interrupted_at = losses, 0, interrupted_at

    def take(self):
        self.epoch += 1
        return self.epoch == self.interrupted_at

    def loss(self):
        return self.losses[min(self.epoch, len(self.losses) - 1)]


@pytest.mark.usefixtures("whole_common")
def test_epochs_are_those_of_the_mean_of_folds():
    rising, falling = Scripted(1.0, 1.1, 1.2, 1.3), Scripted(3.0, 2.5, 2.3, 2.25)
    # Least at 2 with two folds; all tasks are twice those of a training.
    assert helping_epochs([rising, falling], 30, 2) == 4
    assert rising.epoch == falling.epoch == 2 + 5
    assert helping_epochs([Scripted(3.0, 2.5, 2.3), Scripted(1.0, 1.0)], 3, 2) == 3
    # Of one fold no training was possible.
    assert helping_epochs([Scripted(3.0, 2.5, 2.3), Scripted(1.0, 1.0)], 30, 3) == 3


@pytest.mark.parametrize("losses", [(1.0, 1.1), (1.0, 0.999), (1.0, 1.0)])
def test_no_epochs_where_none_lowers_the_loss_by_half_a_percent(losses):
    assert helping_epochs([Scripted(*losses)], 30, 2) == 0


def test_an_interrupted_search_says_so():
    trials = [Scripted(1.0, 0.9), Scripted(1.0, 0.9, interrupted_at=2)]
    assert helping_epochs(trials, 30, 2) is None


def test_what_helped_held_out_folds_is_what_is_trained(monkeypatch):
    seen = []

    def spy(trials, most, n_folds, verbose):
        seen.extend(trials)
        found = helping_epochs(trials[:2], 2, n_folds)
        seen.append(found)
        return found

    monkeypatch.setattr(_around_common, "helping_epochs", spy)
    learner = SparseMetaClassifier(
        batches_per_epoch=2, tasks_per_batch=3, verbose=0, random_state=0
    ).fit(TWO.data, TWO.target, tasks=TWO.tasks)
    *trials, n_epochs = seen
    assert len(trials) == 3
    assert [len(trial.net.history) for trial in trials] == [2, 2, 0]
    assert learner.n_iter_ == n_epochs


def test_the_generator_of_torch_is_neither_asked_nor_moved(monkeypatch):
    monkeypatch.setattr(_around_common, "helping_epochs", lambda t, *_: search(t))
    found = []

    def search(trials):
        helping_epochs(trials, 1, 3)
        found.append([trial.loss() for trial in trials])
        return 1

    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        learner = SparseMetaClassifier(
            batches_per_epoch=2, tasks_per_batch=3, verbose=0, random_state=0
        ).fit(TWO.data, TWO.target, tasks=TWO.tasks)
        assert torch.equal(torch.get_rng_state(), before)
        found.append(learner.transform(TWO.data).tolist())
    assert found[:2] == found[2:]
