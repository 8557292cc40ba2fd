"""MAMLClassifier in fit: seeds, rules, validation, tasks, search, refusals."""

import copy

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skcausalmeta.backbones import MLP
from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.exceptions import DivergenceError
from skcausalmeta.learners import (
    KFOUpdate,
    MAMLClassifier,
    MetaSGDUpdate,
    SGDUpdate,
    UpdateRule,
)
from skcausalmeta.model_selection import ClassKFold, evaluate_few_shot, few_shot_scorer
from skcausalmeta.training import Validation

BUNCH = make_sparse_classes(9, 12, 8, n_factors=6, n_informative=3, random_state=0)
X, Y = BUNCH.data, BUNCH.target
# Three tasks of three classes each; within a task the classes are 0, 1, 2.
TASKS, Y_WITHIN = np.array(["ann", "bob", "cid"])[Y // 3], Y % 3


def make_learner(update="sgd", **params):
    small = {
        "n_way": 3,
        "max_epochs": 1,
        "batches_per_epoch": 3,
        "tasks_per_batch": 2,
        "backbone": MLP(hidden=(16,), out_features=12),
        "verbose": 0,
        "random_state": 0,
    }
    return MAMLClassifier(update, **{**small, **params})


def state(learner):
    return {k: v.clone() for k, v in learner.net_.module_.state_dict().items()}


def same_state(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def global_random_states():
    legacy = np.random.mtrand._rand.get_state()
    return legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()


@pytest.mark.parametrize("update", ["sgd", "kfo"])
def test_equal_seeds_give_equal_bits_and_leave_the_global_states(update):
    params = {
        "net_params": {"linear_layers": 1},
        "backbone": MLP(hidden=(9,), dropout=0.3),
    }
    before = global_random_states()
    one, two = (make_learner(update, **params).fit(X, Y) for _ in range(2))
    other = make_learner(update, **params, random_state=1).fit(X, Y)
    rows = np.isin(Y, (0, 4, 8))
    one.adapt(X[rows], Y[rows]), two.adapt(X[rows], Y[rows])
    assert global_random_states() == before
    assert same_state(state(one), state(two))
    np.testing.assert_array_equal(one.decision_function(X), two.decision_function(X))
    assert not same_state(state(one), state(other))


def test_chunks_and_steps_computed_again_do_not_change_the_weights():
    plain = {"optimizer": "sgd", "lr": 0.1, "tasks_per_batch": 4}
    one = make_learner(**plain, net_params={"task_chunk_size": 1})
    expected = state(one.fit(X, Y))
    for params in ({"task_chunk_size": 3}, {}, {"recompute": True}):
        found = state(make_learner(**plain, net_params=params).fit(X, Y))
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("update", "start"),
    [
        ("meta-sgd", 0.1),
        ("meta-curvature", None),
        (KFOUpdate(1, psd=True), None),
        (SGDUpdate(learn_lr=True), 0.1),
    ],
)
def test_outer_steps_learn_what_the_rule_learns(update, start):
    still, moved = (
        dict(make_learner(update, lr=lr).fit(X, Y).net_.module_.rule.state_dict())
        for lr in (1e-30, 0.01)
    )
    for name, value in still.items():
        assert not torch.equal(value, moved[name]), name
        if start is not None:
            torch.testing.assert_close(value, torch.full_like(value, start))


def test_rates_are_learned_by_step_and_tensor():
    learner = make_learner(SGDUpdate(learn_lr=True), inner_steps=3, lr=0.01)
    rates = learner.fit(X, Y).net_.module_.rule.rates
    assert rates.shape == (3, len(learner.net_.module_.adapted))
    assert len(rates.detach().unique()) > 3


class Halved(UpdateRule):
    """Half of the gradient, times a learned number."""

    def build(self, named, n_steps, lr):
        self.lr = lr
        self.number = torch.nn.Parameter(torch.tensor(0.5))

    def direction(self, gradients, fast, step):
        return {name: self.number * self.lr * g for name, g in gradients.items()}


def test_a_rule_of_the_user_is_copied_and_learned():
    rule = Halved()
    learner = make_learner(rule, inner_lr=0.2, lr=1e-30).fit(X, Y)
    plain = make_learner(inner_lr=0.1, lr=1e-30).fit(X, Y)
    assert not hasattr(rule, "number")
    assert learner.update is rule
    rows = np.isin(Y, (0, 4, 8))
    for one in (learner, plain):
        one.adapt(X[rows], Y[rows])
    np.testing.assert_allclose(
        learner.decision_function(X), plain.decision_function(X), atol=1e-5
    )
    trained = make_learner(rule, lr=0.01).fit(X, Y).net_.module_.rule
    assert float(trained.number.detach()) != 0.5
    ready, named = (
        make_learner(rule).fit(X, Y) for rule in (MetaSGDUpdate(), "meta-sgd")
    )
    assert same_state(state(ready), state(named))


def test_reptile_trains_and_differs_from_maml():
    start, one, two = (
        state(make_learner(optimizer="sgd", **params).fit(X, Y))
        for params in (
            {"lr": 1e-30},
            {"net_params": {"outer": "reptile"}, "lr": 0.5},
            {"lr": 0.5},
        )
    )
    names = [name for name in start if name.endswith(("weight", "bias"))]
    for name in names:
        assert not torch.equal(one[name], start[name])
        assert not torch.allclose(one[name], two[name])


REPTILE = {"net_params": {"outer": "reptile"}}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"update": "adam"}, "The 'update' parameter"),
        ({"inner_steps": 0}, "The 'inner_steps' parameter"),
        ({"inner_lr": 0.0}, "The 'inner_lr' parameter"),
        ({"adapt_steps": -1}, "The 'adapt_steps' parameter"),
        ({"adapt_layers": "tail"}, "The 'adapt_layers' parameter"),
        ({"net_params": {"linear_layers": -1}}, "The 'linear_layers' parameter"),
        ({"net_params": {"outer": "newton"}}, "The 'outer' parameter"),
        (
            {"net_params": {"multi_step_epochs": -1}},
            "The 'multi_step_epochs' parameter",
        ),
        ({"net_params": {"task_chunk_size": "all"}}, "The 'task_chunk_size' parameter"),
        ({"net_params": {"recompute": "yes"}}, "The 'recompute' parameter"),
        ({**REPTILE, "update": "kfo"}, "adapted parameters only"),
        ({**REPTILE, "update": SGDUpdate(learn_lr=True)}, "adapted parameters only"),
        ({**REPTILE, "adapt_layers": "head"}, "adapted parameters only"),
        (
            {"net_params": {"outer": "reptile", "multi_step_epochs": 2}},
            "no multi_step_epochs. Got 2",
        ),
        (
            {
                "update": KFOUpdate(adapt_transform=True),
                "net_params": {"recompute": True},
            },
            "recompute=True cannot be used",
        ),
        ({"adapt_layers": "body", "backbone": "identity"}, "needs a backbone with"),
    ],
)
def test_bad_parameters_are_refused_and_change_nothing(params, message):
    learner = make_learner(**{"backbone": "auto", **params})
    before = vars(learner).copy()
    with pytest.raises(ValueError, match=message):
        learner.fit(X, Y)
    assert vars(learner) == before


class Record(Callback):
    """Counts the steps before training fails."""

    def __init__(self):
        self.steps = []

    def __deepcopy__(self, memo):
        return self

    def on_batch_begin(self, net, training=None, **kwargs):
        self.steps.append((len(net.history), len(net.history[-1]["batches"])))


def test_divergence_is_told_and_leaves_the_learner_as_it_was():
    learner = make_learner().fit(X, Y)
    before, scores = vars(learner).copy(), learner.decision_function(X)
    record = Record()
    params = {"lr": 1e18, "optimizer": "sgd", "max_epochs": 3, "callbacks": [record]}
    diverging = copy.copy(learner).set_params(**params, batches_per_epoch=2)
    after = vars(diverging).copy()
    with pytest.raises(DivergenceError, match="must stay finite") as caught:
        diverging.fit(X, Y)
    epoch, step = record.steps[-1]
    assert (epoch, step) != (1, 1)
    assert f"in step {step} of epoch {epoch}; lower inner_lr" in str(caught.value)
    assert vars(diverging) == after
    assert vars(learner) == before
    np.testing.assert_array_equal(learner.decision_function(X), scores)


class Spoil(Callback):
    """Takes all knowledge from the net, from the third epoch on."""

    def on_batch_end(self, net, training=None, **kwargs):
        if training and len(net.history) >= 3:
            for parameter in net.module_.parameters():
                parameter.data.zero_()


@pytest.mark.parametrize("patience", [5, None])
def test_the_best_epoch_is_restored(patience):
    learner = make_learner(
        validation=Validation([1, 4, 7], n_episodes=10, patience=patience),
        callbacks=[Spoil()],
        max_epochs=4,
    ).fit(X, Y)
    accuracies = [row["valid_accuracy"] for row in learner.history_]
    assert max(accuracies) > accuracies[-1] == pytest.approx(1 / 3)
    assert all(p.abs().max() > 0 for p in learner.net_.module_.parameters())


def test_training_stops_when_nothing_improves():
    learner = make_learner(
        lr=1e-30,
        validation=Validation(0.4, n_episodes=5, patience=2),
        max_epochs=9,
    ).fit(X, Y)
    assert learner.n_iter_ == 3
    assert not learner.net_.interrupted_
    assert len({row["valid_accuracy"] for row in learner.history_}) == 1


def test_tasks_with_different_numbers_of_classes_train_together():
    keep = (TASKS != "bob") | (Y_WITHIN < 2)
    learner = make_learner(
        tasks_per_batch=4, n_way="auto", shared_labels=False, validation=["cid"]
    )
    learner.fit(X[keep], Y_WITHIN[keep], tasks=TASKS[keep])
    assert np.isfinite(learner.history_[0]["train_loss"])
    assert learner.net_.module_.output[-1].out_features == 3
    two = np.isin(Y, (3, 4))
    assert learner.adapt(X[two], Y[two]).classes_.tolist() == [3, 4]
    # Validation tasks may have more classes than those trained on.
    learner = make_learner(shared_labels=False, validation=["ann", "cid"])
    learner.fit(X[keep], Y_WITHIN[keep], tasks=TASKS[keep])
    assert learner.net_.module_.output[-1].out_features == 3


def test_task_ids_travel_through_pipeline_and_search():
    seen = {}

    class Recorder(MAMLClassifier):
        def fit(self, X, y, *, tasks=None, envs=None):
            seen[len(X)] = (tasks, envs)
            return super().fit(X, y, tasks=tasks, envs=envs)

    rows = np.arange(len(X))
    with config_context(enable_metadata_routing=True):
        learner = Recorder(**make_learner().get_params(deep=False))
        learner.set_fit_request(tasks=True, envs=True)
        pipeline = make_pipeline(StandardScaler(), learner)
        search = GridSearchCV(
            pipeline, {"recorder__inner_lr": [0.1]}, cv=2, error_score="raise"
        )
        search.fit(X, Y_WITHIN, tasks=TASKS, envs=rows)
    np.testing.assert_array_equal(seen[len(X)][0], TASKS)
    tasks, picked = seen[len(X) // 2]
    np.testing.assert_array_equal(tasks, TASKS[picked])


def test_grid_search_over_the_inner_rate_on_held_out_classes():
    search = GridSearchCV(
        make_learner(fit_head=False, inner_steps=2),
        {"inner_lr": [1e-9, 0.5]},
        cv=ClassKFold(3),
        scoring=few_shot_scorer(n_way=3, n_shot=5, n_query=5, n_episodes=10),
        error_score="raise",
    ).fit(X, Y)
    still, moving = search.cv_results_["mean_test_score"]
    assert search.best_params_ == {"inner_lr": 0.5}
    assert still < 0.5 < moving


class Interrupt(Callback):
    """Presses Ctrl-C in the given epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, training=None, **kwargs):
        if training and len(net.history) == self.epoch:
            raise KeyboardInterrupt


def test_interrupted_training_keeps_what_was_learned(capsys):
    learner = make_learner(max_epochs=5, callbacks=[Interrupt(2)]).fit(X, Y)
    once = make_learner().fit(X, Y)
    assert learner.n_iter_ == 1
    assert learner.predict(X).shape == Y.shape
    assert learner.adapt(X[Y < 3], Y[Y < 3]).classes_.tolist() == [0, 1, 2]
    start = state(make_learner(lr=1e-30).fit(X, Y))
    assert not same_state(state(learner), start)
    assert not same_state(state(learner), state(once))  # a step of epoch 2 is kept


def test_verbose_zero_is_silent(capfd):
    learner = make_learner(validation=Validation([0, 1, 2], n_episodes=2))
    learner.fit(X, Y).adapt(X[Y < 3], Y[Y < 3]).predict(X)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_verbose_shows_a_bar_on_stderr(capsys):
    make_learner(verbose=1).fit(X, Y)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err


def test_meta_learning_helps_on_new_classes():
    bunch = make_sparse_classes(
        40, 12, 10, n_factors=10, n_informative=3, random_state=0
    )
    noise = np.random.default_rng(0).standard_normal((len(bunch.data), 60))
    rows, old = np.hstack([bunch.data, 2 * noise]), bunch.target < 30
    means = []
    for lr in (1e-30, 3e-3):
        learner = make_learner(
            n_shot=3, n_query=5, batches_per_epoch=60, lr=lr, fit_head=False
        ).fit(rows[old], bunch.target[old])
        result = evaluate_few_shot(
            learner,
            rows[~old],
            bunch.target[~old],
            n_way=3,
            n_shot=3,
            n_query=5,
            n_episodes=60,
            random_state=0,
        )
        means.append(result.mean)
    untrained, trained = means
    assert trained > untrained + 0.1
