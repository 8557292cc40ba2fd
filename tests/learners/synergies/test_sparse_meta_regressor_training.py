"""SparseMetaRegressor in fit: episodes, gradients, seeds, validation, search."""

import copy

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn import config_context
from sklearn.linear_model import Lasso
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

from skcausalmeta.backbones import MLP
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.heads import LassoHead, RidgeHead
from skcausalmeta.learners import SparseMetaRegressor
from skcausalmeta.learners._training import FitStage, episode_streams
from skcausalmeta.training import Training, Validation
from skcausalmeta.utils import named_seeds

RNG = np.random.default_rng(0)


def sparse_tasks(n_tasks, n_rows, n_factors, seed=0, common=1.0):
    """Rows, targets, task ids and factors that share a common part."""
    rng = np.random.default_rng(seed)
    n = n_tasks * n_rows
    factors = rng.standard_normal((n, n_factors))
    factors += common * rng.standard_normal((n, 1))
    tasks = np.repeat(np.arange(n_tasks), n_rows)
    weights = rng.standard_normal((n_tasks, n_factors))
    weights *= rng.random((n_tasks, n_factors)) < 0.5
    y = (factors * weights[tasks]).sum(axis=1) + 0.1 * rng.standard_normal(n)
    X = factors @ rng.standard_normal((n_factors, n_factors))
    return X, y, tasks, factors


X, Y, TASKS, _ = sparse_tasks(6, 20, 4)


def make_learner(head=None, **params):
    small = {
        "max_epochs": 1,
        "batches_per_epoch": 3,
        "tasks_per_batch": 2,
        "verbose": 0,
        "random_state": 0,
        "common": None,
    }
    return SparseMetaRegressor(head, **{**small, **params})


def seeds_of(learner):
    """The seeds of what decides the episodes of a fit."""
    return named_seeds(learner.random_state, "episodes", "validation", "held-out")


def plan_of(learner, y=Y, tasks=TASKS):
    validation = Validation.of(learner.validation)
    return learner._plan(y, tasks, None, validation, seeds_of(learner))


def state(learner):
    return {k: v.clone() for k, v in learner.net_.module_.state_dict().items()}


def same_state(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def global_random_states():
    legacy = np.random.mtrand._rand.get_state()
    return legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()


def test_episodes_divide_rows_of_one_task():
    for episode in plan_of(make_learner(n_shot=7, n_query=4)).train(12):
        assert (episode.n_support, episode.n_query) == (7, 4)
        rows = np.concatenate([episode.support, episode.query])
        assert len(set(rows)) == 11
        assert set(TASKS[rows]) == {episode.task}
        np.testing.assert_array_equal(episode.support_targets, Y[episode.support])
        np.testing.assert_array_equal(episode.query_targets, Y[episode.query])


def test_without_split_all_rows_are_support_and_query():
    for episode in plan_of(make_learner(n_shot=7, n_query=4, split="none")).train(6):
        assert episode.query is episode.support
        assert len(set(episode.support)) == 11


@pytest.mark.parametrize(
    ("params", "n_rows", "sizes"),
    [
        ({}, 20, (10, 10)),
        ({}, 2, (1, 1)),
        ({}, 90, (25, 25)),
        ({"n_query": 4}, 20, (16, 4)),
        ({"n_shot": 3}, 20, (3, 17)),
    ],
)
def test_auto_sizes_follow_the_smallest_task(params, n_rows, sizes):
    y = RNG.standard_normal(n_rows + 100)
    tasks = np.repeat([0, 1], [n_rows, 100])
    episode = plan_of(make_learner(**params), y, tasks).train(1)[0]
    assert (episode.n_support, episode.n_query) == sizes


def normal(rows):
    return (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)


def first_batch(learner):
    """Net at its first weights and the first meta-batch."""
    net, plan = learner.net_, plan_of(learner)
    seeds = {"augmentation": 0}
    stage = FitStage(
        X, Y, TASKS, None, learner.reader_, Training.of(None), None, seeds, None
    )
    streams = episode_streams(learner, stage, plan)
    net._set_training(True)
    return net, next(iter(streams[0]))


@pytest.mark.parametrize("split", ["none", "support-query"])
@pytest.mark.parametrize("micro_batch", [1, "auto", 3])
def test_loss_is_that_of_scikit_learn_on_codes_of_the_whole_batch(split, micro_batch):
    learner = make_learner(
        LassoHead(0.2, tol=1e-12),
        backbone="identity",
        split=split,
        tasks_per_batch=3,
        net_params={"micro_batch": micro_batch, "head_tol": 1e-12},
    ).fit(X, Y, tasks=TASKS)
    net, batch = first_batch(learner)
    tasks = batch.tasks
    parts = [task.support for task in tasks]
    if split != "none":
        parts += [task.query for task in tasks]
    codes = normal(torch.cat(parts).double().numpy())
    codes = np.split(codes, np.cumsum([len(part) for part in parts])[:-1])
    losses = []
    for k, task in enumerate(tasks):
        support, y = codes[k], task.support_targets.numpy()
        query = codes[k] if split == "none" else codes[3 + k]
        centred = support - support.mean(0)
        strength = 0.2 * np.abs(centred.T @ (y - y.mean())).max() / len(y)
        other = Lasso(strength, tol=1e-14, max_iter=100_000).fit(support, y)
        losses.append(np.square(other.predict(query) - task.query_targets.numpy()))
    expected = np.mean(losses) / 2
    np.testing.assert_allclose(net._batch_loss(batch)[0].item(), expected, rtol=1e-5)


@pytest.mark.parametrize("split", ["none", "support-query"])
def test_gradient_is_that_of_finite_differences(split):
    # reg_gradient: finite differences move the units of the strength too.
    head = LassoHead(0.3, reg_gradient=True, tol=1e-13)
    learner = make_learner(
        head, backbone=nn.Linear(4, 3), split=split, net_params={"head_tol": 1e-13}
    ).fit(X, Y, tasks=TASKS)
    net, batch = first_batch(learner)
    net.module_.double()
    tasks = [
        t._replace(support=s, query=s if split == "none" else t.query.double())
        for t in batch.tasks
        for s in [t.support.double()]
    ]
    batch.tasks[:] = tasks
    weight = net.module_.backbone.backbone.weight
    net.module_.zero_grad()
    net.train_step_single(batch)
    found = weight.grad.clone()
    for i, j in [(0, 0), (1, 2), (2, 3)]:
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[i, j] += step
                values.append(net._batch_loss(batch)[0].item())
                weight[i, j] -= step
        difference = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(found[i, j], difference, rtol=1e-4, atol=1e-8)


def test_strength_is_a_constant_of_the_gradient_by_default():
    constant, moving = (
        make_learner(LassoHead(0.3, reg_gradient=flag), backbone=nn.Linear(4, 3))
        for flag in (False, True)
    )
    gradients = []
    for learner in (constant, moving):
        net, batch = first_batch(learner.fit(X, Y, tasks=TASKS))
        net.module_.load_state_dict(state(constant))
        net.module_.zero_grad()
        net.train_step_single(batch)
        gradients.append(net.module_.backbone.backbone.weight.grad.clone())
    assert (gradients[0] - gradients[1]).abs().max() > 1e-4


def test_an_unused_code_gets_no_gradient_through_its_weight():
    # Without standardisation codes do not touch each other.
    learner = make_learner(
        LassoHead(0.9), backbone=nn.Linear(4, 3), normalize_codes=False
    ).fit(X, Y, tasks=TASKS)
    net, batch = first_batch(learner)
    net.module_.zero_grad()
    net.train_step_single(batch)
    support, targets = (
        torch.stack([getattr(task, name) for task in batch.tasks])
        for name in ("support", "support_targets")
    )
    codes = net.features(support.flatten(0, 1)).view(*support.shape[:2], -1)
    solution = LassoHead(0.9).solve_episodes(codes.double(), targets)
    unused = (solution.coef[..., 0] == 0).all(0)
    gradient = net.module_.backbone.backbone.weight.grad
    assert unused.any()
    assert not unused.all()
    assert (gradient[unused] == 0).all()
    assert (gradient[~unused] != 0).any()


@pytest.mark.parametrize("head", [LassoHead(), RidgeHead()], ids=["lasso", "ridge"])
def test_equal_seeds_give_equal_bits_and_leave_the_global_states(head):
    params = {"backbone": MLP(dropout=0.3)}
    before = global_random_states()
    one, two = (make_learner(head, **params).fit(X, Y, tasks=TASKS) for _ in range(2))
    other = make_learner(head, **params, random_state=1).fit(X, Y, tasks=TASKS)
    assert global_random_states() == before
    assert same_state(state(one), state(two))
    np.testing.assert_array_equal(one.task_coef_, two.task_coef_)
    assert not same_state(state(one), state(other))


@pytest.mark.parametrize("micro_batch", [1, 2, "auto"])
def test_micro_batches_do_not_change_the_weights(micro_batch):
    plain = {"backbone": MLP(standardize=False), "tasks_per_batch": 4}
    plain |= {"optimizer": "sgd", "lr": 0.01}
    expected, found = (
        state(
            make_learner(**plain, net_params={"micro_batch": size}).fit(
                X, Y, tasks=TASKS
            )
        )
        for size in (4, micro_batch)
    )
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5)


class Spoil(Callback):
    """Takes all knowledge from the net, from the third epoch on."""

    def on_batch_end(self, net, training=None, **kwargs):
        if training and len(net.history) >= 3:
            for parameter in net.module_.backbone.parameters():
                parameter.data.zero_()


@pytest.mark.parametrize("tasks", [TASKS, None], ids=["tasks", "rows"])
def test_the_best_epoch_is_restored(tasks):
    learner = make_learner(
        validation=Validation(0.4, n_episodes=10),
        callbacks=[Spoil()],
        max_epochs=4,
    ).fit(X, Y if tasks is not None else X[:, 0], tasks=tasks)
    losses = [row["valid_loss"] for row in learner.history_]
    assert min(losses) < losses[-1] / 1.5
    assert np.abs(learner.transform(X)).max() > 0.1


def test_training_stops_when_nothing_improves():
    learner = make_learner(
        backbone="identity",
        normalize_codes=False,
        validation=Validation(n_episodes=5, patience=2),
        max_epochs=9,
    ).fit(X, Y, tasks=TASKS)
    assert learner.n_iter_ == 3
    assert not learner.net_.interrupted_


def test_held_out_tasks_are_not_trained_on():
    learner = make_learner(validation=[1, 4])
    plan = plan_of(learner)
    assert {episode.task for episode in plan.train(12)} == {0, 2, 3, 5}
    assert {episode.task for episode in plan.valid(12)} == {1, 4}


def test_held_out_rows_are_not_trained_on():
    plan = plan_of(make_learner(validation=0.2), tasks=None)
    seen = [
        {row for e in draw(60) for row in (*e.support, *e.query)}
        for draw in (plan.train, plan.valid)
    ]
    assert not seen[0] & seen[1]
    assert len(seen[1]) == 24


def test_task_ids_travel_through_pipeline_and_search():
    with config_context(enable_metadata_routing=True):
        learner = make_learner()
        for request in ("fit", "predict", "score"):
            getattr(learner, f"set_{request}_request")(tasks=True)
        learner.set_fit_request(tasks=True, envs=True)
        pipeline = make_pipeline(StandardScaler(), learner)
        pipeline.fit(X, Y, tasks=TASKS, envs=TASKS)
        predicted = pipeline.predict(X, tasks=TASKS)
        search = GridSearchCV(
            pipeline,
            {"sparsemetaregressor__head__lasso_reg": [0.1, 1.0]},
            cv=2,  # rows alternate, so that every fold knows every task
            error_score="raise",
        )
        order = np.argsort(np.arange(len(X)) % 2, kind="stable")
        search.fit(X[order], Y[order], tasks=TASKS[order], envs=TASKS[order])
    alone = make_learner().fit(pipeline[0].transform(X), Y, tasks=TASKS)
    found = alone.predict(pipeline[0].transform(X), tasks=TASKS)
    np.testing.assert_array_equal(predicted, found)
    assert search.best_params_ == {"sparsemetaregressor__head__lasso_reg": 0.1}
    few, none = search.cv_results_["mean_test_score"]
    assert few > none + 0.2  # at 1 every code is off


def test_meta_pipeline_adapts_to_held_out_tasks():
    pipeline = make_meta_pipeline(StandardScaler(), make_learner())
    (train, test), *_ = GroupKFold(3).split(X, groups=TASKS)
    with config_context(enable_metadata_routing=True):
        pipeline[-1].set_fit_request(tasks=True)
        pipeline.fit(X[train], Y[train], tasks=TASKS[train])
    new = test[TASKS[test] == TASKS[test][0]]
    adapted = copy.copy(pipeline).adapt(X[new], Y[new])
    assert adapted.score(X[new], Y[new]) > 0.5
    assert adapted.sparsity_ > 0


class Interrupt(Callback):
    """Presses Ctrl-C in the given epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, training=None, **kwargs):
        if training and len(net.history) == self.epoch:
            raise KeyboardInterrupt


def test_interrupted_training_leaves_a_usable_learner(capsys):
    learner = make_learner(max_epochs=5, callbacks=[Interrupt(2)])
    learner.fit(X, Y, tasks=TASKS)
    assert learner.n_iter_ == 1
    assert learner.predict(X, tasks=TASKS).shape == Y.shape
    assert learner.adapt(X[:20], Y[:20]).score(X[:20], Y[:20]) > 0


def test_verbose_zero_is_silent_and_one_shows_a_bar(capfd):
    validation = Validation([0], n_episodes=2, patience=None)
    params = {"validation": validation, "max_epochs": 2}
    make_learner(**params).fit(X, Y, tasks=TASKS)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    make_learner(**params, verbose=1).fit(X, Y, tasks=TASKS)
    captured = capfd.readouterr()
    assert captured.out == ""
    for figure in ("6/6", "loss=", "valid="):
        assert figure in captured.err


def test_sparse_heads_find_correlated_factors_where_dense_ones_mix_them():
    rows, y, tasks, factors = sparse_tasks(200, 40, 3, common=2.0)
    scores = {}
    for name, head in {"lasso": LassoHead(), "ridge": RidgeHead(1e-6)}.items():
        learner = make_learner(
            head,
            backbone=MLP(hidden=(), out_features=3, standardize=False),
            split="none",
            tasks_per_batch=8,
            net_params={"micro_batch": 8},
            batches_per_epoch=200,
            lr=0.03,
            fit_head=False,
        ).fit(rows, y, tasks=tasks)
        # Evaluated where the factors are independent.
        fresh = np.random.default_rng(1).uniform(-1, 1, size=(500, 3))
        mixing = np.linalg.lstsq(factors, rows, rcond=None)[0]
        codes = learner.transform(fresh @ mixing)
        found = np.abs(np.corrcoef(fresh.T, codes.T)[:3, 3:])
        scores[name] = found[linear_sum_assignment(-found)].mean()
    assert scores["lasso"] > 0.95
    assert scores["ridge"] < scores["lasso"] - 0.15
