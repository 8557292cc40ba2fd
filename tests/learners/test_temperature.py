"""Temperatures learned on held-out episodes, and probabilities that follow them."""

import copy
import pickle
from typing import ClassVar

import numpy as np
import pytest
import sklearn
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from skcausalmeta.backbones import MLP
from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.heads import PrototypeHead, RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    SparseMetaClassifier,
)
from skcausalmeta.learners._temperature import best_temperature
from skcausalmeta.model_selection import evaluate_few_shot
from skcausalmeta.persistence import load, save
from skcausalmeta.training import Validation

BUNCH = make_sparse_classes(
    16, 14, 8, n_factors=6, n_informative=2, noise=1.0, random_state=0
)
OLD = BUNCH.target < 10
X_OLD, Y_OLD = BUNCH.data[OLD], BUNCH.target[OLD]
X_NEW, Y_NEW = BUNCH.data[~OLD], BUNCH.target[~OLD]
TASK = BUNCH.target > 12  # three new classes
X_TASK, Y_TASK = BUNCH.data[TASK], BUNCH.target[TASK]
HELD_OUT = [6, 7, 8, 9]
SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "n_way": 3,
    "backbone": MLP(hidden=(12,)),
    "n_shot": 3,
    "n_query": 5,
    "verbose": 0,
    "random_state": 0,
}


def sparse(**params):
    return SparseMetaClassifier(**{"head": RidgeHead(), **SMALL, **params})


def maml(**params):
    return MAMLClassifier(**{**SMALL, "inner_steps": 2, **params})


def wrapped(**params):
    return MetaCRLClassifier(sparse(**params))


MAKERS = pytest.mark.parametrize("make", [sparse, maml, wrapped])


class Recorded:
    """A learner that keeps the episodes it is calibrated on."""

    def _plan(self, *args, **kwargs):
        plan = super()._plan(*args, **kwargs)
        self.plans = [*getattr(self, "plans", []), plan]

        def draw(n, source=plan.valid or plan.train):
            self.drawn = source(n)
            return self.drawn

        return plan if len(self.plans) < 2 else plan._replace(valid=draw)


class RecordedSparse(Recorded, SparseMetaClassifier):
    _parts: ClassVar = {
        **SparseMetaClassifier._parts,
        "head": lambda _: RidgeHead(),
    }


class RecordedMAML(Recorded, MAMLClassifier):
    pass


def episode_parts(learner):
    """Logits and class numbers of the episodes of a recorded learner, by adapting."""
    logits, numbers = [], []
    for episode in learner.drawn:
        task = copy.copy(learner).adapt(X_OLD[episode.support], Y_OLD[episode.support])
        scale = getattr(task.net_.module_, "scale", 1.0)
        logits.append(scale * task.decision_function(X_OLD[episode.query]))
        numbers.append(np.searchsorted(task.classes_, Y_OLD[episode.query]))
    return logits, numbers


def loss_at(temperature, logits, numbers):
    losses = [
        -log_softmax(z / temperature, axis=1)[np.arange(len(y)), y]
        for z, y in zip(logits, numbers, strict=True)
    ]
    return np.concatenate(losses).mean()


def best_by_scipy(logits, numbers):
    found = minimize_scalar(
        lambda u: loss_at(np.exp(u), logits, numbers),
        bounds=(np.log(1e-4), np.log(1e5)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return np.exp(found.x)


def random_logits(scale, seed=0):
    """Logits whose softmax over the temperature `scale` is the truth."""
    rng = np.random.default_rng(seed)
    logits, numbers = [], []
    for n_classes in (2, 3, 5):
        z = rng.standard_normal((400, n_classes))
        gumbel = rng.gumbel(size=z.shape)
        logits.append(scale * z)
        numbers.append((z + gumbel).argmax(axis=1))
    return logits, numbers


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 7.0, 60.0])
def test_temperature_is_the_optimum_that_scipy_finds(scale):
    logits, numbers = random_logits(scale)
    found = best_temperature(logits, numbers)
    assert found == pytest.approx(best_by_scipy(logits, numbers), rel=1e-6)
    assert found == pytest.approx(scale, rel=0.2)  # the truth the labels came from
    assert loss_at(found, logits, numbers) <= loss_at(1.0, logits, numbers)


def test_temperature_of_overconfident_logits_lowers_the_loss_strictly():
    logits, numbers = random_logits(8.0)
    found = best_temperature(logits, numbers)
    assert found > 4
    before, after = (loss_at(t, logits, numbers) for t in (1.0, found))
    assert after < before - 0.5


@pytest.mark.parametrize(("right", "share"), [(True, 0.01), (False, 100.0)])
def test_optimum_out_of_bounds_is_told(right, share):
    logits = np.array([[3.0, 0.0], [0.0, 3.0]])
    numbers = np.array([0, 1] if right else [1, 0])
    end = share * 3 / np.sqrt(2)
    with pytest.warns(UserWarning, match=f"grows up to {end:.3g}, which is taken"):
        assert best_temperature([logits], [numbers]) == pytest.approx(end)


def test_equal_logits_have_no_temperature():
    assert best_temperature([np.ones((4, 2))], [np.array([0, 1, 1, 0])]) == 1.0


@pytest.mark.parametrize("cls", [RecordedSparse, RecordedMAML])
@pytest.mark.parametrize("held_out", [None, HELD_OUT])
def test_learned_on_episodes_of_held_out_classes(cls, held_out):
    validation = held_out and Validation(held_out, n_episodes=4, patience=None)
    learner = cls(**SMALL, validation=validation, calibrate=12).fit(X_OLD, Y_OLD)
    assert len(learner.drawn) == 12
    classes = {int(c) for e in learner.drawn for c in e.classes}
    assert classes <= set(range(10) if held_out is None else held_out)
    for episode in learner.drawn:
        assert not set(episode.support) & set(episode.query)
    logits, numbers = episode_parts(learner)
    assert learner.temperature_ != 1.0
    wanted = best_by_scipy(logits, numbers)
    assert learner.temperature_ == pytest.approx(wanted, rel=1e-5)
    before, after = (loss_at(t, logits, numbers) for t in (1.0, learner.temperature_))
    assert after < before


def test_learned_on_tasks_with_task_ids():
    tasks = Y_OLD // 2
    remapped = {"n_shot": 1, "shared_labels": False, "common": None}
    learner = RecordedSparse(**{**SMALL, **remapped}, validation=[2, 3, 4])
    learner.set_params(calibrate=20).fit(X_OLD, Y_OLD % 2, tasks=tasks)
    assert len(learner.drawn) == 20
    for episode in learner.drawn:
        assert set(tasks[episode.support]) | set(tasks[episode.query]) <= {2, 3, 4}
    assert learner.temperature_ > 0


@MAKERS
def test_only_the_probabilities_change(make):
    validation = Validation(HELD_OUT, n_episodes=2, patience=None)
    plain = make(validation=validation).fit(X_OLD, Y_OLD)
    warm = make(validation=validation, calibrate=8).fit(X_OLD, Y_OLD)
    assert plain.temperature_ == 1.0 != warm.temperature_
    for learner in (plain, warm):
        learner.adapt(X_TASK[::2], Y_TASK[::2])
    for method in ("predict", "decision_function", "transform"):
        found, wanted = getattr(warm, method)(X_TASK), getattr(plain, method)(X_TASK)
        np.testing.assert_array_equal(found, wanted, err_msg=method)
    scaled = np.log(plain.predict_proba(X_TASK)) / warm.temperature_
    wanted = softmax(scaled, axis=1)
    np.testing.assert_allclose(warm.predict_proba(X_TASK), wanted, atol=1e-10)


def test_the_ridge_head_after_fit_of_maml_keeps_its_probabilities():
    plain, warm = (maml(calibrate=c).fit(X_OLD, Y_OLD) for c in (None, 5))
    assert warm.temperature_ != 1.0
    np.testing.assert_array_equal(warm.predict_proba(X_NEW), plain.predict_proba(X_NEW))


def test_calibration_error_on_new_classes_goes_down():
    # Prototypes of a small temperature are far too sure of themselves.
    head = PrototypeHead(temperature=0.02)
    sizes = {"n_way": 3, "n_shot": 3, "n_query": 8, "n_episodes": 40}
    errors, accuracies = [], []
    for calibrate in (None, 40):
        learner = sparse(
            head=head,
            validation=Validation(HELD_OUT, n_episodes=2, patience=None),
            calibrate=calibrate,
            net_params={"logit_scale": 10.0},
        ).fit(X_OLD, Y_OLD)
        result = evaluate_few_shot(
            learner, X_NEW, Y_NEW, calibration=True, random_state=0, **sizes
        )
        errors.append(result.calibration_error)
        accuracies.append(result.mean)
    assert accuracies[0] == accuracies[1] < 0.97
    assert errors[1] < errors[0] / 2


@MAKERS
def test_temperature_is_copied_pickled_and_saved(make, tmp_path):
    learner = make(calibrate=5).fit(X_OLD, Y_OLD).adapt(X_TASK, Y_TASK)
    proba = learner.predict_proba(X_TASK)
    save(learner, tmp_path / "learner")
    others = (
        copy.copy(learner),
        pickle.loads(pickle.dumps(learner)),
        load(tmp_path / "learner"),
    )
    for other in others:
        assert other.temperature_ == learner.temperature_ != 1.0
        np.testing.assert_array_equal(other.predict_proba(X_TASK), proba)
    fresh = clone(learner)
    assert not hasattr(fresh, "temperature_")
    refitted = fresh.fit(X_OLD, Y_OLD)
    assert refitted.temperature_ == learner.temperature_


def test_a_fit_without_forgets_the_temperature():
    learner = sparse(calibrate=5).fit(X_OLD, Y_OLD)
    assert learner.temperature_ != 1.0
    assert learner.set_params(calibrate=None).fit(X_OLD, Y_OLD).temperature_ == 1.0


@pytest.mark.parametrize("value", [0, 1.5, "yes"])
def test_wrong_number_of_episodes(value):
    with pytest.raises(ValueError, match="'calibrate' parameter of Sparse"):
        sparse(calibrate=value).fit(X_OLD, Y_OLD)


# -- scikit-learn's own calibration ----------------------------------------------------


def rows_alternating():
    """Two halves of the new rows, every class in both."""
    position = np.arange(len(Y_NEW)) % 2 == 0
    return position, ~position


@pytest.mark.parametrize("make", [sparse, maml, wrapped])
@pytest.mark.parametrize("method", ["sigmoid", "temperature"])
def test_inside_a_calibrated_classifier(make, method):
    model = CalibratedClassifierCV(make(n_query=2), method=method, cv=2)
    model.fit(X_OLD, Y_OLD)
    proba = model.predict_proba(X_OLD)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    assert model.score(X_OLD, Y_OLD) > 0.2  # chance is 0.1


def test_a_frozen_adapted_learner_is_calibrated_on_rows_of_its_task():
    first, second = rows_alternating()
    # The temperature of scikit-learn 1.9 takes labels for positions.
    labels = Y_NEW - Y_NEW.min()
    head = PrototypeHead(temperature=2.0)
    learner = sparse(head=head, net_params={"logit_scale": 100.0}, fit_head=False)
    learner.fit(X_OLD, Y_OLD).adapt(X_NEW[first], labels[first])
    before = learner.predict_proba(X_NEW[second])
    model = CalibratedClassifierCV(FrozenEstimator(learner), method="temperature")
    model.fit(X_NEW[second], labels[second])
    assert model.classes_.tolist() == learner.classes_.tolist()
    after = model.predict_proba(X_NEW[second])
    loss, n_classes = log_loss(labels[second], after), len(learner.classes_)
    assert loss < min(log_loss(labels[second], before), 0.9 * np.log(n_classes))
    np.testing.assert_array_equal(learner.predict_proba(X_NEW[second]), before)


def test_task_ids_reach_the_learner_by_metadata_routing():
    seen = []

    class Watching(SparseMetaClassifier):
        def _train(self, rows, targets, tasks, envs):
            seen.append(np.unique(tasks).tolist())
            return super()._train(rows, targets, tasks, envs)

    tasks = np.arange(len(Y_OLD)) % 5
    learner = Watching(RidgeHead(), **{**SMALL, "n_query": 2}, common=None)
    with sklearn.config_context(enable_metadata_routing=True):
        learner.set_fit_request(tasks=True)
        model = CalibratedClassifierCV(learner, method="sigmoid", cv=2)
        model.fit(X_OLD, Y_OLD % 2, tasks=tasks)
        proba = model.predict_proba(X_OLD)
    assert seen == [[0, 1, 2, 3, 4]] * 2
    assert proba.shape == (len(X_OLD), 2)
