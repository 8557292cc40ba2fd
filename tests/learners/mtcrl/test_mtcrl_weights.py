"""Weights of rows: in the losses of fit, and in the problem of a new task."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.learners import MLPExpert, MTCRLClassifier, MTCRLRegressor
from skcausalmeta.learners._mtcrl._experts import MLPExperts
from skcausalmeta.learners._mtcrl._net import MultiTaskNet
from skcausalmeta.learners._mtcrl._routing import RoutedExperts
from skcausalmeta.learners._mtcrl._streams import RowStream
from skcausalmeta.utils import isolated_torch_rng

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4))
VALUES = X[:, :2] + 0.1 * RNG.standard_normal((120, 2))
LABELS = (VALUES > 0).astype(int)
COUNTS = RNG.integers(0, 4, 120)
SMALL = {
    "max_epochs": 3,
    "lr": 0.02,
    "expert": MLPExpert((8,), out_features=2),
    "random_state": 0,
}
KINDS = {MTCRLClassifier: LABELS, MTCRLRegressor: VALUES}


@pytest.mark.parametrize("form", ["norm", "variance"])
def test_losses_and_invariance_take_a_weight_for_repeated_rows(form):
    rows, envs = torch.tensor(X, dtype=torch.float32), torch.arange(120) // 2 % 2
    targets = torch.tensor(LABELS.T[..., None], dtype=torch.float32)
    targets[1, 90:] = torch.nan
    counts = torch.tensor(COUNTS)
    some = counts > 0
    weights = counts[some].float()
    streams = [
        RowStream(
            rows[some],
            targets[:, some],
            envs[some],
            1000,
            weights=weights / weights.mean(),
        ),
        RowStream(
            rows.repeat_interleave(counts, 0),
            targets.repeat_interleave(counts, 1),
            envs.repeat_interleave(counts),
            1000,
        ),
    ]
    with isolated_torch_rng(0):
        net = MultiTaskNet(
            RoutedExperts(MLPExperts(4, 4), 2, routing="mtcrl"),
            kinds=[("binary", 2)] * 2,
            task_weights=torch.ones(2),
            weights={"irm": 1.0},
            irm_form=form,
            warmup=(0.0, 0.0),
            train_split=None,
            verbose=0,
        ).initialize()
    found = []
    for stream in streams:
        net.get_split_datasets((stream, None))
        net.step_ = 1
        (batch,) = stream
        found.append(net.terms(net.module_(batch.rows), batch))
    for name in ("tasks", "irm"):
        one, two = (float(terms[name]) for terms in found)
        assert one == pytest.approx(two, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_weight_zero_are_not_there(kind):
    learner, kept = kind(**SMALL), COUNTS > 0
    weights = np.where(kept, 1.0, 0.0)
    spoilt = np.where(kept[:, None], X, 1e4)
    one = copy.copy(learner).fit(spoilt, KINDS[kind], sample_weight=weights)
    two = copy.copy(learner).fit(X[kept], KINDS[kind][kept])
    np.testing.assert_allclose(one.transform(X), two.transform(X), atol=1e-6)
    frame = pd.DataFrame(KINDS[kind])
    three = copy.copy(learner).fit(spoilt, frame, sample_weight=weights)
    np.testing.assert_array_equal(one.transform(X), three.transform(X))


def test_weights_decide_which_labels_are_learned():
    wrong = np.arange(120) % 3 == 0
    labels = np.where(wrong[:, None], 1 - LABELS, LABELS)
    learner = MTCRLClassifier(**{**SMALL, "max_epochs": 30})
    scores = []
    for heavy in (wrong, ~wrong):
        weights = np.where(heavy, 1.0, 1e-3)
        scores.append(learner.fit(X, labels, sample_weight=weights).score(X, LABELS))
    assert scores[0] < 0.3
    assert scores[1] > 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_in_adapt_is_a_row_repeated(kind):
    learner, targets = kind(**SMALL).fit(X, KINDS[kind]), KINDS[kind][:, 0]
    one = copy.copy(learner).adapt(X, targets, sample_weight=COUNTS)
    rows, wanted = (np.repeat(each, COUNTS, axis=0) for each in (X, targets))
    two = copy.copy(learner).adapt(rows, wanted)
    np.testing.assert_allclose(one.task_.coef, two.task_.coef, atol=1e-3)
    plain = copy.copy(learner).adapt(X, targets)
    assert abs(plain.task_.coef - one.task_.coef).max() > 1e-2


def test_weights_are_checked():
    learner = MTCRLClassifier(**SMALL)
    for bad in (-np.ones(120), np.zeros(120), np.ones(119)):
        with pytest.raises(InvalidInputError, match=r"(?i)weight"):
            learner.fit(X, LABELS, sample_weight=bad)
    learner.fit(X, LABELS)
    with pytest.raises(InvalidInputError, match=r"(?i)weight"):
        learner.adapt(X, LABELS[:, 0], sample_weight=np.zeros(120))
