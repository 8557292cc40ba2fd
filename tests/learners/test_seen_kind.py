"""The kind, scale and index of rows: as in fit, converted, or refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_val_score
from torch import nn

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import RidgeHead, RidgeRegressionHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
)
from skcausalmeta.model_selection import ClassKFold, evaluate_few_shot

SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "verbose": 0,
    "random_state": 0,
}
Y = np.repeat(np.arange(4), 10)
IMAGES = np.random.default_rng(0).integers(0, 60, size=(40, 6, 6)).astype(np.uint8)
IMAGES[np.arange(40), Y, Y] = 250
ROWS = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32)
ROWS[np.arange(40), Y] += 4
LEARNERS = {
    "sparse": SparseMetaClassifier(RidgeHead(), backbone="mlp", **SMALL),
    "maml": MAMLClassifier(backbone="mlp", inner_steps=1, **SMALL),
    "mtcrl": MTCRLClassifier(max_epochs=1, random_state=0),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_the_same_numbers_give_the_same_answers(name):
    learner = LEARNERS[name].fit(IMAGES.astype(float), Y)
    expected = learner.predict(IMAGES.astype(float))
    np.testing.assert_array_equal(learner.predict(IMAGES), expected)
    learner.fit(IMAGES, Y)
    expected = learner.predict(IMAGES)
    for same in (IMAGES.astype(float), IMAGES.astype(int), IMAGES / 255):
        np.testing.assert_array_equal(learner.predict(same), expected)
    for other in (IMAGES + 0.5, (IMAGES > 100).astype(float)):
        with pytest.raises(InvalidInputError, match="Images must come as in fit"):
            learner.predict(other)
    learner.fit(IMAGES / 255, Y)
    with pytest.raises(InvalidInputError, match="in the units of those seen"):
        learner.predict(IMAGES)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, rows):
        return self.layer(rows.sub_(8.0))


@pytest.mark.parametrize("cls", [SparseMetaClassifier, MAMLClassifier])
@pytest.mark.parametrize(
    "module", [InPlace(), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4))]
)
def test_rows_of_the_caller_are_never_written_to(cls, module):
    rows = ROWS.copy()
    learner = cls(backbone=module, **SMALL).fit(rows, Y)
    first = learner.decision_function(rows)
    np.testing.assert_array_equal(learner.decision_function(rows), first)
    learner.adapt(rows, Y).predict_episodes(rows[None], Y[None], rows[None])
    np.testing.assert_array_equal(rows, ROWS)


def test_indices_must_agree():
    frame, labels = pd.DataFrame(ROWS), pd.Series(Y)
    learner = LEARNERS["sparse"]
    for other in (labels.iloc[::-1], labels.set_axis(labels.index + 1)):
        with pytest.raises(InvalidInputError, match="one index, in the same order"):
            learner.fit(frame, other)
    with pytest.raises(InvalidInputError, match="X and tasks must have one index"):
        learner.fit(frame, Y, tasks=labels.iloc[::-1])
    learner.fit(frame, labels)
    with pytest.raises(InvalidInputError, match="one index"):
        learner.adapt(frame, labels.iloc[::-1])
    with pytest.raises(InvalidInputError, match="one index"):
        learner.score(frame, labels.iloc[::-1])
    with pytest.raises(InvalidInputError, match="one index"):
        evaluate_few_shot(learner, frame, labels.iloc[::-1], n_way=2)


@pytest.mark.parametrize("name", [*LEARNERS, "head", "values"])
def test_indices_of_scores_and_weights_must_agree(name):
    learner = {**LEARNERS, "head": RidgeHead(), "values": RidgeRegressionHead()}[name]
    frame, labels = pd.DataFrame(ROWS), pd.Series(Y)
    weights = pd.Series(np.ones(40), index=frame.index[::-1])
    with pytest.raises(InvalidInputError, match="X and sample_weight must have one"):
        learner.fit(frame, labels, sample_weight=weights)
    learner.fit(frame, labels)
    found = learner.score(frame, labels)
    assert found == learner.score(ROWS, Y)
    assert found == learner.score(frame, labels.set_axis(frame.index.astype(float)))
    with pytest.raises(InvalidInputError, match="X and y must have one index"):
        learner.score(frame, labels[::-1])


def test_indices_of_many_tasks_must_agree():
    frame, tasks = pd.DataFrame(ROWS), pd.Series(Y // 2)
    learner = SparseMetaClassifier(
        RidgeHead(), backbone="identity", common="linear", shared_labels=True, **SMALL
    ).fit(frame, Y % 2, tasks=tasks)
    solved = learner.adapt_tasks(frame, Y % 2, tasks)
    other = tasks.astype("category")[::-1]
    for ask in (learner, solved):
        np.testing.assert_array_equal(
            ask.predict(frame, tasks=tasks), ask.predict(ROWS, tasks=Y // 2)
        )
        for method in ("predict", "predict_proba", "decision_function"):
            with pytest.raises(InvalidInputError, match="X and tasks must have one"):
                getattr(ask, method)(frame, tasks=other)
    for strange in (frame[[3, 2, 1, 0]], frame.rename(columns={0: 9})):
        named, known = strange.add_prefix("c"), frame.add_prefix("c")
        again = clone(learner).fit(known, Y % 2, tasks=tasks)
        kept = again.adapt_tasks(known, Y % 2, tasks)
        for method in (again.adapt_tasks, kept.update):
            with pytest.raises(InvalidInputError, match="feature names should match"):
                method(named, Y % 2, tasks)
        assert len(kept) == 2
    for method in (learner.adapt_tasks, solved.update, solved.score):
        with pytest.raises(InvalidInputError, match="X and tasks must have one"):
            method(frame, Y % 2, other)


def test_missing_labels_are_cross_validated():
    labels = np.c_[Y % 2, Y // 2].astype(float)
    labels[::7, 0] = np.nan
    learner = MTCRLClassifier(max_epochs=1, random_state=0)
    scores = cross_val_score(
        learner, ROWS, labels, cv=KFold(3, shuffle=True, random_state=0)
    )
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", [*LEARNERS, "head"])
def test_tensors_of_a_graph_and_of_few_bits_are_rows(name):
    learner = {**LEARNERS, "head": RidgeHead()}[name]
    rows = torch.as_tensor(np.round(ROWS), dtype=torch.bfloat16)
    expected = learner.fit(np.round(ROWS), Y).predict(np.round(ROWS))
    for tensor in (rows, rows.float().requires_grad_(), rows.half()):
        np.testing.assert_array_equal(learner.predict(tensor), expected)
        np.testing.assert_array_equal(learner.fit(tensor, Y).predict(tensor), expected)


@pytest.mark.parametrize("name", [*LEARNERS, "head"])
def test_values_behind_a_mask_are_refused(name):
    learner = {**LEARNERS, "head": RidgeHead()}[name].fit(ROWS, Y)
    hidden = np.ma.masked_less(ROWS, -1)
    for fail in (
        lambda: learner.fit(hidden, Y),
        lambda: learner.predict(hidden),
        lambda: learner.fit(ROWS, np.ma.masked_equal(Y, 3)),
    ):
        with pytest.raises(InvalidInputError, match="behind a mask"):
            fail()
    shown = np.ma.masked_array(ROWS)
    np.testing.assert_array_equal(learner.predict(shown), learner.predict(ROWS))


@pytest.mark.parametrize("device", ["cuda", "meta", "nonsense"])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_device_that_is_not_there_is_named(name, device):
    learner = type(LEARNERS[name])(device=device)
    if device == "cuda" and __import__("torch").cuda.is_available():
        return
    with pytest.raises(InvalidInputError, match=f"Got '{device}'"):
        learner.fit(ROWS, Y)


@pytest.mark.parametrize("number", ["double", "half"])
def test_modules_of_other_numbers_are_refused(number):
    module = getattr(nn.Linear(4, 4), number)()
    with pytest.raises(InvalidInputError, match="single precision"):
        SparseMetaClassifier(backbone=module, **SMALL).fit(ROWS, Y)


def test_a_failed_set_params_changes_nothing():
    learner = SparseMetaClassifier()
    with pytest.raises(ValueError, match="nope"):
        learner.set_params(lr=0.5, head__nope=1)
    assert learner.head == SparseMetaClassifier().head
    assert learner.lr != 0.5


def test_groups_and_repeats_are_named():
    with pytest.warns(UserWarning, match="does not keep groups together"):
        list(ClassKFold(2).split(ROWS, Y, groups=Y))
    twice, labels = np.r_[ROWS, ROWS], np.r_[Y, Y]
    learner = LEARNERS["sparse"].fit(ROWS, Y)
    with pytest.warns(UserWarning, match="Rows of X are repeated"):
        evaluate_few_shot(learner, twice, labels, n_way=3, n_query=3, n_episodes=5)
