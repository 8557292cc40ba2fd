"""SparseMetaClassifier in fit: seeds, validation, tasks, search, interruption."""

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skcausalmeta.backbones import MLP
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.learners._training import FitStage, episode_streams
from skcausalmeta.model_selection import ClassKFold, evaluate_few_shot, few_shot_scorer
from skcausalmeta.training import Training, Validation
from skcausalmeta.utils import named_seeds

BUNCH = make_sparse_classes(9, 12, 8, n_factors=6, n_informative=3, random_state=0)
X, Y = BUNCH.data, BUNCH.target
# Three tasks of three classes each; within a task the classes are 0, 1, 2.
TASKS, Y_WITHIN = np.array(["ann", "bob", "cid"])[Y // 3], Y % 3


def make_learner(**params):
    small = {
        "max_epochs": 1,
        "batches_per_epoch": 3,
        "tasks_per_batch": 2,
        "verbose": 0,
        "random_state": 0,
    }
    return SparseMetaClassifier(**{**small, **params})


def state(learner):
    return {k: v.clone() for k, v in learner.net_.module_.state_dict().items()}


def same_state(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def global_random_states():
    legacy = np.random.mtrand._rand.get_state()
    return legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()


def test_equal_seeds_give_equal_bits_and_leave_the_global_states():
    params = {"backbone": MLP(dropout=0.3)}
    before = global_random_states()
    one, two = (make_learner(**params).fit(X, Y) for _ in range(2))
    other = make_learner(**params, random_state=1).fit(X, Y)
    assert global_random_states() == before
    assert same_state(state(one), state(two))
    np.testing.assert_array_equal(one.head_.coef_, two.head_.coef_)
    assert not same_state(state(one), state(other))


def test_no_seed_differs_from_fit_to_fit_and_leaves_the_global_states():
    before = global_random_states()
    one, two = (make_learner(random_state=None).fit(X, Y) for _ in range(2))
    assert global_random_states() == before
    assert not same_state(state(one), state(two))


def test_single_and_double_precision_rows_give_the_same():
    rows = X.astype(np.float32)
    one, two = make_learner().fit(rows, Y), make_learner().fit(rows.astype(float), Y)
    assert same_state(state(one), state(two))
    np.testing.assert_array_equal(one.predict(rows), two.predict(rows))


@pytest.mark.parametrize("micro_batch", [1, 2, "auto"])
def test_micro_batches_do_not_change_the_weights(micro_batch):
    plain = {"backbone": MLP(standardize=False), "tasks_per_batch": 4}
    # With sgd a difference of gradients is not blown up to a step of full length.
    plain |= {"optimizer": "sgd", "lr": 0.1}
    expected, found = (
        state(make_learner(**plain, net_params={"micro_batch": size}).fit(X, Y))
        for size in (4, micro_batch)
    )
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)


def test_frozen_backbone_learns_the_scale_alone():
    def still(input_shape):
        return MLP().build(input_shape).requires_grad_(False)

    def free(input_shape):
        return MLP().build(input_shape)

    start = state(make_learner(lr=1e-12, backbone=still).fit(X, Y))
    frozen = state(make_learner(lr=0.1, backbone=still).fit(X, Y))
    trained = state(make_learner(lr=0.1, backbone=free).fit(X, Y))
    changed = [name for name in start if not torch.equal(start[name], frozen[name])]
    assert changed == ["log_scale"]
    assert len([n for n in start if not torch.equal(start[n], trained[n])]) > 3


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", torch.optim.RMSprop])
def test_optimizers_move_the_weights(optimizer):
    start = state(make_learner(lr=1e-12).fit(X, Y))
    learner = make_learner(optimizer=optimizer, lr=0.01).fit(X, Y)
    assert not torch.equal(state(learner)["log_scale"], start["log_scale"])
    kind = optimizer if isinstance(optimizer, str) else "RMSprop"
    assert type(learner.net_.optimizer_).__name__.lower() == kind.lower()


def test_augmentation_is_for_training_rows_only():
    seen = []

    def spy(rows, generator):
        seen.append(len(rows))
        return rows

    images = np.repeat(X[:, :4, None], 4, axis=2)
    validation = Validation([0, 1, 2], n_episodes=2, patience=None)
    params = {"augment": spy, "validation": validation, "n_way": 3}
    params |= {"n_shot": 2, "n_query": 3}
    learner = make_learner(**params).fit(images, Y)
    learner.adapt(images, Y).predict(images)
    # Support and query of 2 tasks, for the logit scale and in 3 batches.
    assert seen == [6, 9] * 8


def plan_of(learner, y, tasks=None):
    """The episodes of a fit."""
    names = ("episodes", "validation", "held-out")
    seeds = named_seeds(learner.random_state, *names)
    return learner._plan(y, tasks, None, Validation.of(learner.validation), seeds)


def validation_accuracy(learner, y):
    """Accuracy of the net as it is on the validation episodes of `fit`."""
    validation, plan = Validation.of(learner.validation), plan_of(learner, y)
    seeds, settings = {"augmentation": 0}, Training.of(None)
    stage = FitStage(
        X, y, None, None, learner.reader_, settings, validation, seeds, None
    )
    stream = episode_streams(learner, stage, plan)[1]
    learner.net_._set_training(False)
    with torch.no_grad():
        return np.mean([learner.net_._batch_loss(batch)[1] for batch in stream])


class Spoil(Callback):
    """Takes all knowledge from the net, from the third epoch on."""

    def on_batch_end(self, net, training=None, **kwargs):
        if training and len(net.history) >= 3:
            for parameter in net.module_.backbone.parameters():
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
    assert validation_accuracy(learner, Y) == pytest.approx(max(accuracies), abs=1e-9)


def test_training_stops_when_nothing_improves():
    learner = make_learner(
        backbone="identity",  # the scale alone is learned: accuracy cannot change
        validation=Validation(0.4, n_episodes=5, patience=2),
        max_epochs=9,
    ).fit(X, Y)
    assert learner.n_iter_ == 3
    assert not learner.net_.interrupted_
    assert len({row["valid_accuracy"] for row in learner.history_}) == 1


def test_validation_classes_are_not_trained_on():
    plan = plan_of(make_learner(validation=[0, 1, 2]), Y)
    trained = np.concatenate([e.classes for e in plan.train(30)])
    validated = np.concatenate([e.classes for e in plan.valid(30)])
    assert set(trained) == {3, 4, 5, 6, 7, 8}
    assert set(validated) == {0, 1, 2}
    for episode in plan.train(5):
        labels = episode.classes[episode.support_targets]
        np.testing.assert_array_equal(Y[episode.support], labels)


def test_auto_sizes_leave_out_classes_of_one_row():
    y = np.array([0] * 8 + [1] * 7 + [2] * 4 + [3])
    learner = make_learner()
    episode = plan_of(learner, y).train(1)[0]
    assert sorted(episode.classes) == [0, 1, 2]
    # 3 and 4 rows of the two large classes, 2 and 2 of the small one.
    assert (episode.n_support, episode.n_query) == (8, 10)
    rows = np.random.default_rng(0).standard_normal((20, 3))
    with pytest.warns(UserWarning, match=r"at least 2 rows\. Got less in 1 \(3\) of 4"):
        learner.fit(rows, y)
    assert learner.classes_.tolist() == [0, 1, 2, 3]


def test_tasks_are_problems_of_their_own():
    learner = make_learner()
    plan = plan_of(learner, Y_WITHIN, TASKS)
    for episode in plan.train(9):
        rows = np.concatenate([episode.support, episode.query])
        assert set(TASKS[rows]) == {episode.task}
        assert episode.classes[episode.support_targets].tolist() == (
            Y_WITHIN[episode.support].tolist()
        )
    learner.fit(X, Y_WITHIN, tasks=TASKS, envs=np.zeros(len(X)))
    assert learner.classes_.tolist() == [0, 1, 2]
    assert learner.adapt(X[TASKS == "bob"], Y_WITHIN[TASKS == "bob"]).score(X, Y) >= 0


def test_tasks_with_different_numbers_of_classes_train_together():
    keep = (TASKS != "bob") | (Y_WITHIN < 2)
    learner = make_learner(tasks_per_batch=3)
    learner.fit(X[keep], Y_WITHIN[keep], tasks=TASKS[keep])
    assert np.isfinite(learner.history_[0]["train_loss"])


def test_tasks_are_held_out_by_their_ids():
    learner = make_learner(validation=["cid"])
    plan = plan_of(learner, Y_WITHIN, TASKS)
    assert {episode.task for episode in plan.train(9)} == {"ann", "bob"}
    assert {episode.task for episode in plan.valid(9)} == {"cid"}


def test_task_ids_travel_through_pipeline_and_search():
    seen = {}

    class Recorder(SparseMetaClassifier):
        def fit(self, X, y, *, tasks=None, envs=None):
            seen[len(X)] = (tasks, envs)
            return super().fit(X, y, tasks=tasks, envs=envs)

    rows = np.arange(len(X))
    with config_context(enable_metadata_routing=True):
        learner = Recorder(**make_learner(common=None).get_params())
        learner.set_fit_request(tasks=True, envs=True)
        learner.set_score_request(tasks=False)
        pipeline = make_pipeline(StandardScaler(), learner)
        pipeline.fit(X, Y_WITHIN, tasks=TASKS, envs=rows)
        np.testing.assert_array_equal(seen[len(X)][0], TASKS)
        search = GridSearchCV(
            pipeline, {"recorder__lr": [1e-3]}, cv=2, error_score="raise"
        )
        search.fit(X, Y_WITHIN, tasks=TASKS, envs=rows)
    tasks, picked = seen[len(X) // 2]
    np.testing.assert_array_equal(tasks, TASKS[picked])


class Interrupt(Callback):
    """Presses Ctrl-C in the given epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, training=None, **kwargs):
        if training and len(net.history) == self.epoch:
            raise KeyboardInterrupt


def test_interrupted_training_leaves_a_usable_learner(capsys):
    learner = make_learner(max_epochs=5, callbacks=[Interrupt(2)]).fit(X, Y)
    assert learner.n_iter_ == 1
    assert learner.predict(X).shape == Y.shape
    assert learner.adapt(X[Y < 3], Y[Y < 3]).classes_.tolist() == [0, 1, 2]


def test_verbose_zero_is_silent(capfd):
    validation = Validation([0, 1], n_episodes=2, patience=None)
    make_learner(validation=validation).fit(X, Y)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_verbose_shows_a_bar_on_stderr(capsys):
    validation = Validation([0, 1], n_episodes=2, patience=None)
    make_learner(verbose=1, max_epochs=2, validation=validation).fit(X, Y)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "6/6" in captured.err
    for figure in ("loss=", "tasks/s=", "valid="):
        assert figure in captured.err


def test_device_may_be_a_torch_device():
    learner = make_learner(device=torch.device("cpu")).fit(X, Y)
    np.testing.assert_array_equal(
        learner.predict(X), make_learner(device="cpu").fit(X, Y).predict(X)
    )


def test_net_params_reach_the_net():
    learner = make_learner(net_params={"optimizer__weight_decay": 0.25}).fit(X, Y)
    assert learner.net_.optimizer_.param_groups[0]["weight_decay"] == 0.25


def test_parameters_of_the_head_are_reached_without_naming_it():
    learner = make_learner()
    assert learner.set_params(head__group_reg=0.7) is learner
    assert learner.head.group_reg == 0.7
    assert learner.head.solver == "auto"
    learner.set_params(head__tol=1e-5)
    assert (learner.head.group_reg, learner.head.tol) == (0.7, 1e-5)
    given = GroupLassoSVC(group_reg=0.2)
    learner.set_params(head=given, head__ridge_reg=2.0)
    assert learner.head is given
    assert given.ridge_reg == 2.0
    with pytest.raises(ValueError, match="Invalid parameter 'sparsity'"):
        learner.set_params(head__sparsity=1)


def test_the_given_head_is_left_unfitted():
    head = GroupLassoSVC(group_reg=0.4, solver="newton")
    learner = make_learner(head=head).fit(X, Y)
    assert not hasattr(head, "coef_")
    assert learner.head_.group_reg == 0.4


def test_grid_search_over_the_head_on_held_out_classes():
    search = GridSearchCV(
        make_meta_pipeline(StandardScaler(), make_learner(fit_head=False)),
        {"sparsemetaclassifier__head__group_reg": [0.1, 1.0]},
        cv=ClassKFold(3),
        scoring=few_shot_scorer(n_way=3, n_shot=5, n_query=5, n_episodes=10),
        error_score="raise",
    ).fit(X, Y)
    assert search.best_params_ == {"sparsemetaclassifier__head__group_reg": 0.1}
    few, none = search.cv_results_["mean_test_score"]
    assert few > none + 0.1  # at 1 every feature is off
    best = search.best_estimator_.adapt(X[Y < 3], Y[Y < 3])
    assert best.classes_.tolist() == [0, 1, 2]
    assert best.score(X[Y < 3], Y[Y < 3]) > 0.8


def test_meta_learning_helps_on_new_classes():
    bunch = make_sparse_classes(
        40, 12, 10, n_factors=10, n_informative=3, random_state=0
    )
    noise = np.random.default_rng(0).standard_normal((len(bunch.data), 60))
    rows, old = np.hstack([bunch.data, 2 * noise]), bunch.target < 30
    accuracies = []
    for lr in (1e-12, 3e-3):
        learner = make_learner(
            n_shot=3, n_query=5, batches_per_epoch=40, lr=lr, fit_head=False
        ).fit(rows[old], bunch.target[old])
        result = evaluate_few_shot(
            learner,
            rows[~old],
            bunch.target[~old],
            n_way=3,
            n_shot=3,
            n_query=5,
            n_episodes=40,
            random_state=0,
        )
        accuracies.append(result.mean)
    untrained, trained = accuracies
    assert trained > untrained + 0.12
