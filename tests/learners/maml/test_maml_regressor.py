"""MAMLRegressor: lines and waves as tasks, units, steps, copies."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

from skcausalmeta.backbones import MLP, Conv4
from skcausalmeta.exceptions import DivergenceError, InvalidInputError
from skcausalmeta.heads import RidgeRegressionHead
from skcausalmeta.learners import MAMLRegressor
from skcausalmeta.training import Validation

RNG = np.random.default_rng(0)
N_TASKS, N_ROWS = 20, 15
TASKS = np.repeat(np.arange(N_TASKS), N_ROWS)
X = RNG.uniform(-1, 1, (N_TASKS * N_ROWS, 2))
SLOPES = RNG.normal(size=(N_TASKS, 2))
Y = (SLOPES[TASKS] * X).sum(axis=1) * 5 + 100


def make_learner(update="sgd", **params):
    small = {
        "inner_lr": 0.05,
        "max_epochs": 1,
        "batches_per_epoch": 3,
        "tasks_per_batch": 4,
        "backbone": MLP(hidden=(16,), out_features=12),
        "verbose": 0,
        "random_state": 0,
    }
    return MAMLRegressor(update, **{**small, **params})


@pytest.fixture(scope="module")
def fitted():
    return make_learner().fit(X, Y, tasks=TASKS)


@pytest.fixture
def learner(fitted):
    return copy.copy(fitted)


def state(learner):
    return {k: v.clone() for k, v in learner.net_.module_.state_dict().items()}


def plain_steps(learner, X_support, y_support, n_steps, rate=0.05):
    """Predictions of `X` before and after plain gradient steps, in units of y."""
    module = copy.deepcopy(learner.net_.module_).eval()
    rows, every = (torch.from_numpy(a).float() for a in (X_support, X))
    targets = torch.from_numpy((y_support - Y.mean()) / Y.std()).float()
    adapted = list(module.start().values())
    found = []
    for _ in range(n_steps + 1):
        with torch.no_grad():
            found.append(module(every, "all")[:, 0].double().numpy())
        loss = (module(rows, "all")[:, 0] - targets).square().mean()
        gradients = torch.autograd.grad(loss, adapted)
        with torch.no_grad():
            for parameter, gradient in zip(adapted, gradients, strict=True):
                parameter -= rate * gradient
    return Y.mean() + Y.std() * np.stack(found)


def test_fit_states_its_facts(fitted):
    assert fitted.n_features_in_ == 2
    assert fitted.n_features_out_ == fitted.transform(X[:1]).shape[1] == 12
    assert fitted.n_iter_ == len(fitted.history_) == 1
    assert {"epoch", "train_loss", "dur"} <= fitted.history_[0].keys()
    assert (fitted.target_mean_, fitted.target_scale_) == (Y.mean(), Y.std())


def test_after_fit_a_ridge_head_answers(fitted):
    head = RidgeRegressionHead(0.1).fit(fitted.transform(X), Y)
    expected = head.predict(fitted.transform(X))
    np.testing.assert_allclose(fitted.predict(X), expected, atol=1e-6)


@pytest.mark.parametrize("n_steps", [0, 1, 4])
def test_adapt_takes_plain_gradient_steps(learner, n_steps):
    before = state(learner)
    learner.set_params(adapt_steps=n_steps)
    assert learner.adapt(X[:9], Y[:9]) is learner
    expected = plain_steps(learner, X[:9], Y[:9], n_steps)
    np.testing.assert_allclose(learner.predict(X), expected[-1], atol=1e-4)
    staged = learner.staged_predict_episodes(X[None, :9], Y[None, :9], X[None])
    assert staged.shape == (n_steps + 1, 1, len(X))
    np.testing.assert_allclose(staged[:, 0], expected, atol=1e-4)
    moves = np.abs(np.diff(staged[:, 0], axis=0)).max(axis=1)
    assert (moves > 0.01).all()
    for name, value in learner.net_.module_.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("batch_norm", ["running", "episode"])
@pytest.mark.parametrize("update", ["sgd", "meta-curvature"])
@pytest.mark.parametrize("adapt_layers", ["all", "head", "body"])
def test_predict_episodes_is_adapt_and_predict_of_every_task(
    update, adapt_layers, batch_norm
):
    learner = make_learner(
        update,
        adapt_layers=adapt_layers,
        batch_norm=batch_norm,
        net_params={"linear_layers": 1},
    ).fit(X, Y, tasks=TASKS)
    rows, y = X.reshape(N_TASKS, N_ROWS, 2), Y.reshape(N_TASKS, N_ROWS)
    before = vars(learner).copy()
    found = learner.predict_episodes(rows[:, :6], y[:, :6], rows[:, 6:])
    assert vars(learner) == before
    assert found.shape == (N_TASKS, N_ROWS - 6)
    for k in range(0, N_TASKS, 7):
        alone = copy.copy(learner).adapt(rows[k, :6], y[k, :6])
        np.testing.assert_allclose(found[k], alone.predict(rows[k, 6:]), atol=1e-4)


def test_targets_in_other_units_give_the_same(fitted):
    other = make_learner().fit(X, 3e-4 * (Y - 90), tasks=TASKS)
    found = copy.copy(other).adapt(X[:9], 3e-4 * (Y[:9] - 90)).predict(X)
    expected = copy.copy(fitted).adapt(X[:9], Y[:9]).predict(X)
    np.testing.assert_allclose(found / 3e-4 + 90, expected, atol=1e-3)
    raw = make_learner(normalize_targets=False).fit(X, Y / 100, tasks=TASKS)
    assert (raw.target_mean_, raw.target_scale_) == (0.0, 1.0)
    equal = make_learner().fit(X[:30], np.ones(30))
    assert equal.target_scale_ == 1.0
    np.testing.assert_allclose(equal.predict(X), 1.0, atol=1e-5)


def test_a_copy_adapts_by_itself_and_shares_the_net(fitted):
    before = fitted.predict(X)
    first = copy.copy(fitted).adapt(X[:9], Y[:9])
    predicted = first.predict(X)
    second = copy.copy(first).adapt(X[:9], 200 - Y[:9])
    assert first.net_ is second.net_ is fitted.net_
    assert np.abs(second.predict(X) - predicted).max() > 0.5
    np.testing.assert_array_equal(first.predict(X), predicted)
    np.testing.assert_array_equal(fitted.predict(X), before)
    assert not hasattr(first, "head_")


@pytest.mark.parametrize("update", ["sgd", "kfo"])
def test_pickles_and_deep_copies_predict_the_same(update):
    learner = make_learner(update).fit(X, Y, tasks=TASKS)
    for adapt in (False, True):
        if adapt:
            learner.adapt(X[:9], Y[:9])
        for twin in (pickle.loads(pickle.dumps(learner)), copy.deepcopy(learner)):
            assert twin.net_ is not learner.net_
            np.testing.assert_array_equal(twin.predict(X), learner.predict(X))
            np.testing.assert_array_equal(
                twin.adapt(X[9:15], Y[9:15]).predict(X),
                copy.copy(learner).adapt(X[9:15], Y[9:15]).predict(X),
            )


def test_clone_is_unfitted_with_equal_parameters(fitted):
    twin = clone(fitted)
    assert not hasattr(twin, "net_")
    params, others = twin.get_params(), fitted.get_params()
    spec, other = params.pop("backbone"), others.pop("backbone")
    assert params == others  # those of the backbone among them
    assert type(spec) is type(other)
    assert spec is not other


def test_predictions_do_not_depend_on_which_rows_come_together(learner):
    for adapted in (learner, copy.copy(learner).adapt(X[:9], Y[:9])):
        together = adapted.predict(X)
        alone = [adapted.predict(row[None]) for row in X[:20]]
        np.testing.assert_array_equal(np.concatenate(alone), together[:20])


def test_fit_head_false_leaves_the_task_to_adapt():
    learner = make_learner(fit_head=False).fit(X, Y)
    with pytest.raises(NotFittedError, match="Call 'adapt' with the support rows"):
        learner.predict(X)
    assert learner.adapt(X[:9], Y[:9]).predict(X).shape == (len(X),)


def test_equal_seeds_give_equal_bits():
    one, two, other = (
        state(make_learner(random_state=seed).fit(X, Y, tasks=TASKS))
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_identity_backbone_is_a_linear_model():
    learner = make_learner(
        backbone="identity", net_params={"linear_layers": 2}, adapt_layers="all"
    ).fit(X, Y, tasks=TASKS)
    assert len(learner.adapt(X[:9], Y[:9]).adapted_) == 6
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    zero, one, two, both = learner.predict(corners)
    assert both - zero == pytest.approx(one - zero + two - zero, abs=1e-4)


class Spoil(Callback):
    """Takes all knowledge from the net, from the second epoch on."""

    def on_batch_end(self, net, training=None, **kwargs):
        if training and len(net.history) >= 2:
            for parameter in net.module_.parameters():
                parameter.data.zero_()


def test_the_best_epoch_is_restored():
    learner = make_learner(
        validation=Validation([1, 4, 7], n_episodes=5, patience=None),
        callbacks=[Spoil()],
        max_epochs=3,
    ).fit(X, Y, tasks=TASKS)
    losses = [row["valid_loss"] for row in learner.history_]
    assert losses[0] == min(losses) < losses[-1]
    assert "valid_accuracy" not in learner.history_[0]
    assert all(p.abs().max() > 0 for p in learner.net_.module_.parameters())


def test_divergence_names_the_step(learner):
    before = vars(learner).copy()
    message = "Got (inf|nan) in step 1 of epoch 1; lower inner_lr"
    with pytest.raises(DivergenceError, match=message):
        learner.set_params(inner_lr=1e20).fit(X, Y, tasks=TASKS)
    learner.set_params(inner_lr=0.05)
    assert vars(learner) == before
    learner.net_ = copy.deepcopy(learner.net_)
    learner.net_.module_.rule.lr = 1e20
    with pytest.raises(DivergenceError, match="after 5 steps on 9 rows"):
        learner.adapt(X[:9], Y[:9])
    assert hasattr(learner, "head_")


def test_steps_before_fit_and_reptile_with_learned_parts_are_refused():
    with pytest.raises(NotFittedError, match="not fitted yet"):
        make_learner().staged_predict_episodes(X[None], Y[None], X[None])
    with pytest.raises(InvalidInputError, match="adapted parameters only"):
        make_learner("meta-sgd", net_params={"outer": "reptile"}).fit(X, Y)


@pytest.mark.slow
def test_meta_learning_finds_what_the_tasks_share():
    """Waves of one frequency: five gradient steps from a trained start suffice."""
    rng = np.random.default_rng(1)
    tasks = np.repeat(np.arange(200), 20)
    rows = rng.uniform(-3, 3, (4000, 1))
    size, phase = rng.uniform(0.5, 2, 200), rng.uniform(0, np.pi, 200)
    y = size[tasks] * np.sin(rows[:, 0] + phase[tasks])
    old = tasks < 150
    shape = rows[~old].reshape(50, 20, 1), y[~old].reshape(50, 20)
    errors = []
    for lr in (1e-30, 1e-2):
        learner = make_learner(
            lr=lr,
            n_shot=10,
            n_query=10,
            batches_per_epoch=150,
            tasks_per_batch=16,
            backbone=MLP(hidden=(32,), out_features=32),
            fit_head=False,
        ).fit(rows[old], y[old], tasks=tasks[old])
        found = learner.predict_episodes(
            shape[0][:, :10], shape[1][:, :10], shape[0][:, 10:]
        )
        errors.append(np.square(found - shape[1][:, 10:]).mean())
    assert errors[1] < 0.4 * errors[0]


def test_a_pipeline_scales_and_fits():
    pipeline = make_pipeline(StandardScaler(), make_learner(batches_per_epoch=5))
    assert pipeline.fit(X, Y).predict(X).shape == (len(X),)


def test_images_take_a_convolutional_net():
    images = RNG.integers(256, size=(40, 8, 8), dtype=np.uint8)
    y = images[:, :4].mean(axis=(1, 2)) / 255
    learner = make_learner(
        backbone=Conv4(n_filters=4, n_blocks=1), batches_per_epoch=1
    ).fit(images, y)
    assert any(isinstance(m, nn.Conv2d) for m in learner.net_.module_.modules())
    assert learner.adapt(images[:10], y[:10]).predict(images).shape == (40,)
