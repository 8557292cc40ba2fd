"""Pooled models: running means of weights, and what unseen tasks choose."""

import numpy as np
import pytest
import torch
from torch import nn

from skcausalmeta.training import PooledData, PooledModel, RowReader, fit_pooled
from skcausalmeta.training import _pooled as pooled

pytestmark = pytest.mark.whole_common


def make_data(n_columns, n_informative, seed=0):
    """Twelve tasks of fifty rows, of which few columns say the class."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((600, n_columns)).astype(np.float32)
    noise = rng.logistic(size=600)
    targets = (2 * rows[:, :n_informative].sum(axis=1) + noise > 0).astype(int)
    tasks = np.repeat(np.arange(12), 50)
    return PooledData(rows, targets, tasks, 2, RowReader((n_columns,)))


def trained(monkeypatch, data, decays):
    """The models, and every fit with the epochs that it was given."""
    monkeypatch.setattr(pooled, "_WEIGHT_DECAYS", decays)
    monkeypatch.setattr(pooled, "_MOST_STEPS", 12 * 32)  # a dozen epochs
    seen = []
    fit = pooled._fit

    def spy(*args):
        found = fit(*args)
        seen.append((found, args[6:]))
        return found

    monkeypatch.setattr(pooled, "_fit", spy)
    width = data.rows.shape[1]
    models = fit_pooled(lambda: PooledModel(nn.Identity(), width, 2), data)
    return models, seen


def test_the_mean_of_the_weights_is_that_of_the_steps():
    model = PooledModel(nn.Identity(), 2, 2)
    mean = pooled._RunningMean(model)
    first = model.scores.weight.detach().clone()
    expected = first.clone()
    for step in range(1, 40):
        with torch.no_grad():
            model.scores.weight.fill_(float(step))
        mean.follow()
        share = 1 - min(0.998, step / (step + 9))
        expected = (1 - share) * expected + share * step
    torch.testing.assert_close(mean.model.scores.weight.detach(), expected)
    assert not torch.equal(mean.model.scores.weight, model.scores.weight)


def test_statistics_of_a_batch_norm_are_those_of_the_last_step():
    model = PooledModel(nn.BatchNorm1d(3), 3, 2)
    mean = pooled._RunningMean(model)
    model(torch.randn(8, 3) + 5.0)
    mean.follow()
    kept, now = mean.model.backbone.running_mean, model.backbone.running_mean
    assert torch.equal(kept, now)
    assert now.abs().max() > 0


@pytest.mark.parametrize("order", [(0.1, 3.0), (3.0, 0.1)])
def test_tasks_of_the_first_fold_choose_the_decay(monkeypatch, order):
    models, seen = trained(monkeypatch, make_data(20, 2), order)
    fits = [fit for fit, _ in seen]
    assert [fit.weight_decay for fit in fits[:2]] == list(order)
    best = min(fits[:2], key=lambda fit: fit.loss)
    assert {fit.weight_decay for fit in fits[2:]} == {best.weight_decay}
    assert models.members[0] is best.model
    assert len(models.members) == 4
    # The model of all rows is trained for the median of the epochs of the folds.
    epochs = [best.n_epochs, *(fit.n_epochs for fit in fits[2:4])]
    assert [given for _, given in seen] == [(), (), (), (), (int(np.median(epochs)),)]


def test_scores_are_of_a_model_that_did_not_see_the_task(monkeypatch):
    data = make_data(5, 2)
    models, _ = trained(monkeypatch, data, (0.1,))
    for fold in range(3):
        own = models.folds == fold
        found = pooled.scores_of([models.members[fold]], data.reader, data.rows[own])
        np.testing.assert_allclose(models.scores[own], found, rtol=1e-6)
