"""MTCRLClassifier and MTCRLRegressor: targets, environments, facts, grid search."""

import copy
import pickle

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcausalmeta.datasets import make_multi_sem
from skcausalmeta.exceptions import InvalidInputError, NotFittedError
from skcausalmeta.learners import (
    ConvExpert,
    MLPExpert,
    MTCRLClassifier,
    MTCRLRegressor,
)
from skcausalmeta.metrics import routing_f1, spurious_gradient_share
from skcausalmeta.training import SGD, Adam, Training, Validation

SEM = make_multi_sem(60, random_state=0)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4))
Z = X + 0.1 * RNG.standard_normal((120, 4))
MIXED = np.column_stack(
    [Z[:, 0] > 0, np.digitize(Z[:, 1], [-0.5, 0.5]) + 4, 10 * Z[:, 2]]
)
TYPES = ["binary", "multiclass", "regression"]


def make(cls=MTCRLClassifier, **params):
    small = {"n_modules": 3, "max_epochs": 2, "random_state": 0}
    return cls(**{**small, **params})


def make_trained(cls=MTCRLClassifier, **params):
    return make(cls, **{"max_epochs": 40, "batch_size": 60, "lr": 1e-2, **params})


def test_all_task_types_are_learned_together():
    learner = make_trained(task_types=TYPES).fit(X, MIXED)
    predicted = learner.predict(X)
    assert predicted.shape == (120, 3)
    assert accuracy_score(MIXED[:, 0], predicted[:, 0]) > 0.9
    assert accuracy_score(MIXED[:, 1], predicted[:, 1]) > 0.85
    assert r2_score(MIXED[:, 2], predicted[:, 2]) > 0.9
    binary, many, none = learner.predict_proba(X)
    assert none is None
    np.testing.assert_allclose(many.sum(axis=1), 1.0)
    np.testing.assert_array_equal(binary.argmax(axis=1), predicted[:, 0])
    np.testing.assert_array_equal(learner.classes_[1][many.argmax(1)], predicted[:, 1])
    by_hand = [
        accuracy_score(MIXED[:, 0], predicted[:, 0]),
        accuracy_score(MIXED[:, 1], predicted[:, 1]),
        r2_score(MIXED[:, 2], predicted[:, 2]),
    ]
    np.testing.assert_allclose(learner.score_tasks(X, MIXED), by_hand)
    np.testing.assert_allclose(learner.task_scores_, by_hand, atol=1e-5)
    assert learner.score(X, MIXED) == pytest.approx(np.mean(by_hand))
    half = np.repeat([1.0, 0.0], 60)
    weighted = learner.score_tasks(X, MIXED, sample_weight=half)
    np.testing.assert_allclose(weighted, learner.score_tasks(X[:60], MIXED[:60]))


def test_missing_labels_change_nothing_but_what_is_learned_from():
    Y = SEM.target.astype(float)
    Y[30:, 1] = np.nan
    other = Y.copy()
    first = make().fit(SEM.data, Y)
    assert first.predict(SEM.data).shape == Y.shape
    assert np.isin(first.predict(SEM.data), [0, 1]).all()
    other[30:, 1] = 7.0  # would be a third class if it were seen
    with pytest.raises(InvalidInputError, match=r"needs 2 classes\. Got 3 in task 1"):
        make(task_types="binary").fit(SEM.data, other)
    known = first.predict(SEM.data)[:30, 1] == Y[:30, 1]
    assert first.score_tasks(SEM.data, Y)[1] == known.mean()


def test_task_ids_are_columns_with_gaps():
    tasks = np.where(np.arange(120) % 3 == 0, "b", "a")
    y = np.where(tasks == "a", Z[:, 0] > 0, Z[:, 1] > 0).astype(int)
    columns = np.full((120, 2), np.nan)
    columns[np.arange(120), (tasks == "b").astype(int)] = y
    by_id = make().fit(X, y, tasks=tasks)
    by_column = make().fit(X, columns)
    assert by_id.tasks_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(by_id.predict(X), by_column.predict(X))
    own = by_id.predict(X, tasks=tasks)
    np.testing.assert_array_equal(
        own, by_id.predict(X)[np.arange(120), (tasks == "b").astype(int)]
    )
    np.testing.assert_allclose(
        by_id.score(X, y, tasks=tasks), by_column.score(X, columns)
    )


def test_columns_are_the_tasks_whatever_their_ids():
    tasks = np.where(np.arange(120) % 2, "b", "a")
    y = (Z[:, 0] > 0).astype(int)
    learner = make().fit(X, y, tasks=tasks)
    columns = np.where(tasks[:, None] == ["a", "b"], y[:, None], np.nan)
    np.testing.assert_array_equal(
        learner.score_tasks(X, columns), learner.score_tasks(X, y, tasks=tasks)
    )
    one = make().fit(X, y, tasks=np.full(120, "a"))
    assert one.score(X, y) == one.score(X, y, tasks=np.full(120, "a"))


def test_strings_may_be_missing_as_none():
    Y = np.array([["a", "x"], ["b", None], ["a", "y"], ["b", "x"]] * 5, dtype=object)
    learner = make().fit(X[:20], Y)
    assert [c.tolist() for c in learner.classes_] == [["a", "b"], ["x", "y"]]
    assert set(learner.predict(X[:20])[:, 1]) <= {"x", "y"}
    assert 0 <= learner.score(X[:20], Y) <= 1


@pytest.mark.parametrize("modules", ["mtcrl", "mmoe", "shared", "single"])
def test_every_routing_learns_and_states_its_matrix(modules):
    learner = make_trained(modules=modules, max_epochs=15).fit(SEM.data, SEM.target)
    assert learner.score(SEM.data, SEM.target) > 0.7
    n_modules = 8 if modules == "single" else 3
    assert learner.routing_.shape == (8, n_modules)
    assert learner.module_correlation_.shape == (n_modules, n_modules)
    if modules == "mmoe":
        np.testing.assert_allclose(learner.routing_.sum(axis=1), 1.0, rtol=1e-5)
    if modules in ("shared", "single"):
        expected = np.eye(8) if modules == "single" else np.ones((8, 3))
        np.testing.assert_array_equal(learner.routing_, expected)


def test_single_task_nets_share_nothing():
    one = make(modules="single").fit(SEM.data, SEM.target[:, :2])
    gradients = one.input_gradients(SEM.data)
    module = one.net_.module_
    with torch.no_grad():
        module.experts.weights[0][1] += 1.0
    changed = one.input_gradients(SEM.data)
    np.testing.assert_array_equal(changed[0], gradients[0])
    assert not np.array_equal(changed[1], gradients[1])


def test_history_has_every_term():
    learner = make().fit(SEM.data, SEM.target, envs=SEM.envs)
    keys = {"epoch", "train_loss", "tasks", "decorrelation", "sparsity", "balance"}
    assert keys | {"irm", "dur"} <= learner.history_[-1].keys()
    assert learner.n_iter_ == len(learner.history_) == 2


def test_correlation_of_modules_is_that_of_their_features():
    learner = make(expert=MLPExpert(out_features=2)).fit(SEM.data, SEM.target)
    squares = np.corrcoef(learner.transform(SEM.data).T) ** 2
    blocks = squares.reshape(3, 2, 3, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(learner.module_correlation_**2, blocks, atol=1e-3)
    assert len(learner.get_feature_names_out()) == 6


def test_input_gradients_are_finite_differences():
    learner = make_trained(task_types=TYPES).fit(X, MIXED)
    found = learner.input_gradients(X[:5])
    up, down = (learner._outputs(X[:5] + d * np.eye(4)[1]) for d in (1e-3, -1e-3))
    for task, width in enumerate((1, 3, 1)):
        best = learner._outputs(X[:5])[task, :, 0, :width].argmax(axis=1)
        rows = np.arange(5)
        slope = (up - down)[task, rows, 0, best] / 2e-3
        np.testing.assert_allclose(found[task, :, 1], slope, rtol=0.01)


def test_modules_read_their_group_only():
    groups = np.array([0, 0, 1, 1])
    learner = make(module_inputs=groups).fit(X, Z[:, 0] > 0)
    assert learner.routing_.shape == (1, 2)
    changed = X.copy()
    changed[:, 2:] += 1.0
    same = learner.transform(changed) == learner.transform(X)
    assert same.all(axis=0).tolist() == [True] * 8 + [False] * 8
    each = make(module_inputs="each").fit(X, Z[:, 0] > 0)
    assert each.routing_.shape == (1, 4)


def test_invariance_routes_the_spurious_modules_away():
    train = make_multi_sem(1000, random_state=0)
    shifted = make_multi_sem(2000, rho=-0.9, random_state=1)
    same = {
        "n_modules": 4,
        "module_inputs": "correlated",  # the true groups, without being told
        "expert": MLPExpert((16,), out_features=4),
        "batch_size": 1000,
        "max_epochs": 120,
        "lr": 1e-2,
        "random_state": 0,
    }
    penalties = {"lambda_dec": 0.0, "lambda_sps": 0.5, "lambda_irm": 20.0}
    ours = MTCRLClassifier(**same, **penalties)
    ours.fit(train.data, train.target, envs=train.envs)
    theirs = MTCRLClassifier("mmoe", **{**same, "max_epochs": 15})
    theirs.fit(train.data, train.target)
    np.testing.assert_array_equal(ours.module_inputs_.argmax(axis=0), train.groups)
    assert routing_f1(ours.routing_, train.graph) >= 0.8
    shares = [
        spurious_gradient_share(m.input_gradients(shifted.data), train.causal_mask)
        for m in (ours, theirs)
    ]
    assert shares[0] < 0.5 * shares[1]
    scores = [m.score(shifted.data, shifted.target) for m in (ours, theirs)]
    assert scores[0] > 1.04 * scores[1]


def test_grid_search_with_environments_in_a_pipeline():
    with sklearn.config_context(enable_metadata_routing=True):
        learner = make().set_fit_request(envs=True)
        pipe = make_pipeline(StandardScaler(), learner)
        search = GridSearchCV(
            pipe, {"mtcrlclassifier__lambda_irm": [0.0, 5.0]}, cv=GroupKFold(2)
        )
        search.fit(SEM.data, SEM.target, envs=SEM.envs, groups=SEM.envs)
    assert set(search.best_params_) == {"mtcrlclassifier__lambda_irm"}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    direct = make(**{"lambda_irm": search.best_params_["mtcrlclassifier__lambda_irm"]})
    scaled = StandardScaler().fit_transform(SEM.data)
    direct.fit(scaled, SEM.target, envs=SEM.envs)
    np.testing.assert_array_equal(search.predict(SEM.data), direct.predict(scaled))
    # Without the request the environments would have been folds of another kind.
    other = clone(direct).set_params(lambda_irm=5.0).fit(scaled, SEM.target)
    routed = clone(other).fit(scaled, SEM.target, envs=SEM.envs)
    assert not np.array_equal(other.routing_, routed.routing_)


@pytest.mark.parametrize(
    "params",
    [
        {"irm_form": "variance"},
        {"irm_form": "unbiased", "irm_scale": "absolute"},
        {"task_weights": "uncertainty"},
        {"task_weights": [1.0] + [0.0] * 7},
        {"expert": MLPExpert(head_hidden=5)},
        {"expert": MLPExpert((7,))},
        {"optimizer": "sgd", "net_params": {"optimizer__momentum": 0.9}},
        {"optimizer": Adam(weight_decay=0.1)},
        {"net_params": {"routing_lr": 1.0}},
        {"net_params": {"warmup": (0.2, 0.6)}},
        {"validation": 0.1},
    ],
)
def test_options_change_what_is_learned(params):
    early = {"net_params": {"warmup": (0, 0.1)}}
    plain = make(**early).fit(SEM.data, SEM.target)
    if "net_params" in params:
        params = {**params, "net_params": early["net_params"] | params["net_params"]}
    learner = make(**{**early, **params}).fit(SEM.data, SEM.target)
    assert not np.array_equal(plain._outputs(SEM.data), learner._outputs(SEM.data))


@pytest.mark.parametrize("modules", ["mtcrl", "shared"])
def test_the_net_is_told_of_its_keywords(modules):
    own = {"warmup": (0.0, 0.5), "routing_lr": 0.5, "gradient_clip_value": None}
    learner = make(modules=modules, net_params=own, max_epochs=1)
    with pytest.raises(ValueError, match="gradient_clip_value"):
        learner.fit(SEM.data, SEM.target)
    del own["gradient_clip_value"]
    net = learner.fit(SEM.data, SEM.target).net_
    assert net.warmup == (0.0, 0.5)
    groups = net.optimizer_.param_groups
    rates = [0.5, 5e-3] if modules == "mtcrl" else [5e-3]
    assert [group["lr"] for group in groups] == rates
    again = clone(learner).set_params(net_params=Training(keywords=own))
    found = again.fit(SEM.data, SEM.target).predict(SEM.data)
    np.testing.assert_array_equal(found, learner.predict(SEM.data))


def test_a_table_is_told_if_asked_for(capsys):
    make(max_epochs=1).fit(SEM.data, SEM.target)
    assert capsys.readouterr().out == ""
    make(max_epochs=1, verbose=1).fit(SEM.data, SEM.target)
    assert "train_loss" in capsys.readouterr().out


def test_nested_parameters_fill_in_what_is_named_or_left_out():
    learner = make(expert="mlp").set_params(
        expert__hidden=(5,),
        validation__patience=3,
        optimizer__weight_decay=0.1,
        net_params__warm_start=True,
    )
    assert learner.expert.hidden == (5,)
    assert learner.validation.patience == 3
    assert learner.optimizer.weight_decay == 0.1
    assert learner.net_params.warm_start
    assert clone(learner).get_params()["expert__hidden"] == (5,)
    direct = make(
        expert=MLPExpert((5,)),
        validation=Validation(patience=3),
        optimizer=Adam(weight_decay=0.1),
    ).fit(SEM.data, SEM.target)
    learner.fit(SEM.data, SEM.target)
    assert direct.n_iter_ == learner.n_iter_
    np.testing.assert_array_equal(learner._outputs(SEM.data), direct._outputs(SEM.data))
    learner.set_params(expert="conv", expert__n_filters=4)
    assert isinstance(learner.expert, ConvExpert)
    learner.set_params(optimizer="sgd", optimizer__momentum=0.5)
    assert isinstance(learner.optimizer, SGD)
    learner.set_params(net_params={"routing_lr": 1.0}, net_params__warm_start=True)
    assert learner.net_params.keywords == {"routing_lr": 1.0}


def test_nested_parameters_of_nothing_are_refused_and_change_nothing():
    learner = make()
    before = vars(learner).copy()
    with pytest.raises(InvalidInputError, match=r"expert='auto'; set expert='mlp'"):
        learner.set_params(expert__hidden=(5,), lr=1.0)
    with pytest.raises(ValueError, match="Invalid parameter 'width'"):
        learner.set_params(expert="mlp", expert__width=5, lr=1.0)
    assert vars(learner) == before


def test_grid_search_over_nested_parameters():
    grid = {"expert__hidden": [(3,), (4,)], "validation__held_out": [0.2, 0.4]}
    grid |= {"optimizer__weight_decay": [0.0], "net_params__warm_start": [False]}
    search = GridSearchCV(make(expert="mlp", max_epochs=1), grid, cv=2)
    search.fit(SEM.data, SEM.target)
    assert len(search.cv_results_["params"]) == 4
    best = search.best_estimator_
    assert best.expert.hidden == search.best_params_["expert__hidden"]
    held_out = search.best_params_["validation__held_out"]
    assert best.validation.held_out == held_out
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_weights_by_size_are_in_proportion_to_the_labels():
    Y = SEM.target.astype(float)
    Y[30:, 1] = np.nan
    learner = make(task_weights="size").fit(SEM.data, Y)
    weights = learner.net_.task_weights.numpy()
    np.testing.assert_allclose(weights[1] / weights[0], 30 / 120)
    np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-6)


def test_early_stopping_restores_the_best_weights():
    learner = make(
        validation=Validation(0.3, patience=3), max_epochs=60, lr=0.05,
    ).fit(SEM.data, SEM.target)  # fmt: skip
    losses = [row["valid_loss"] for row in learner.history_]
    assert len(losses) < 60
    assert np.argmin(losses) == len(losses) - 4
    assert not learner.net_.interrupted_


def test_regression_gives_the_units_back():
    Y = 1000.0 + 50.0 * Z[:, :2]
    learner = make_trained(MTCRLRegressor).fit(X, Y)
    assert r2_score(Y, learner.predict(X)) > 0.9
    assert learner.score(X, Y) == pytest.approx(r2_score(Y, learner.predict(X)))
    one = make_trained(MTCRLRegressor).fit(X, Y[:, 0])
    assert one.predict(X).shape == (120,)


def test_targets_per_pixel():
    images = RNG.standard_normal((6, 8, 10)).astype(np.float32)
    Y = np.stack([images > 0, images * 3], axis=1)
    Y[0, 0, 2, 3] = np.nan
    expert = ConvExpert(4, out_features=4)
    learner = make(task_types=["binary", "regression"], expert=expert)
    learner.set_params(max_epochs=60, batch_size=3, lr=2e-2).fit(images, Y)
    predicted = learner.predict(images)
    assert predicted.shape == (6, 2, 8, 10)
    known = np.isfinite(Y[:, 0])
    right = (predicted[:, 0] == Y[:, 0])[known].mean()
    assert right > 0.85
    assert learner.score_tasks(images, Y)[0] == pytest.approx(right)
    assert learner.predict_proba(images)[0].shape == (6, 2, 8, 10)
    assert learner.transform(images).shape == (6, 12)


def test_missing_pixels_teach_nothing_and_are_not_scored():
    # Blocks of 2 x 2 equal pixels, so that what is learned on the left holds.
    images = RNG.standard_normal((8, 4, 8)).repeat(2, 1).repeat(2, 2)
    Y = np.stack([images > 0, images * 3, images], axis=1)
    hidden = np.zeros((8, 1, 8, 16), dtype=bool)
    hidden[:, :, :, 8:] = True
    seen = np.where(hidden, np.nan, Y)
    seen[:4, 1] = np.nan  # a task of half of the images
    wrong = np.where(hidden, np.stack([images < 0, -9 * images, images], axis=1), Y)
    params = {"task_types": ["binary", "regression", "regression"]}
    params |= {"expert": ConvExpert(4), "net_params": {"warmup": (1, 1)}}
    params |= {"max_epochs": 60, "batch_size": 4, "lr": 2e-2}
    learner = make(**params).fit(images, seen)
    predicted = learner.predict(images)
    known = np.isfinite(seen)
    right = (predicted[:, 0] == Y[:, 0])[known[:, 0]].mean()
    values = r2_score(Y[:, 1][known[:, 1]], predicted[:, 1][known[:, 1]])
    assert right > 0.85
    assert values > 0.8
    np.testing.assert_allclose(learner.score_tasks(images, seen)[:2], [right, values])
    assert learner.score(images, seen) == learner.score_tasks(images, seen).mean()
    np.testing.assert_allclose(
        learner.task_scores_, learner.score_tasks(images, seen), rtol=1e-5
    )
    # The hidden half has the rule of the other, unless it is taught another one.
    taught = make(**params).fit(images, wrong).predict(images)
    right, wrong = ((found[:, 0] == Y[:, 0])[:, :, 8:] for found in (predicted, taught))
    assert right.mean() > 0.8
    assert wrong.mean() < 0.6


def test_a_noisy_task_gets_a_larger_variance():
    noise = RNG.standard_normal(120)
    params = {"task_types": "regression", "task_weights": "uncertainty"}
    learner = make_trained(**params).fit(X, np.column_stack([Z[:, 0], noise]))
    clean, noisy = learner.net_.module_.log_variances.tolist()
    assert clean < -0.5 < noisy


def test_facts_are_of_rows_all_over():
    rows = np.repeat(np.linspace(-1, 1, 20), 200)[:, None] + np.zeros(3)
    learner = make(modules="mmoe", max_epochs=3, lr=0.1)
    learner.fit(rows, (rows[:, :2] > 0).astype(int))
    gates = learner.net_.module_.gate(learner.reader_(rows)).mean(dim=0)
    np.testing.assert_allclose(learner.routing_, gates.detach(), atol=1e-4)


def test_seeds_repeat_and_leave_the_global_states_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (make().fit(SEM.data, SEM.target) for _ in range(2))
    np.testing.assert_array_equal(first._outputs(SEM.data), again._outputs(SEM.data))
    other = make(random_state=1).fit(SEM.data, SEM.target)
    assert not np.array_equal(first.routing_, other.routing_)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_a_learner_can_be_pickled():
    learner = make().fit(SEM.data, SEM.target)
    found = pickle.loads(pickle.dumps(learner)).predict(SEM.data)
    np.testing.assert_array_equal(found, learner.predict(SEM.data))


IMAGES = RNG.standard_normal((4, 8, 8))


@pytest.mark.parametrize(
    ("params", "arguments", "message"),
    [
        ({}, (X, None), "requires y to be passed"),
        ({}, (X, MIXED[:-1] > 0), "inconsistent numbers of samples"),
        ({}, (X, np.zeros((120, 2))), "Got 1 class in task 0"),
        ({}, (X, np.full((120, 2), np.nan)), "Got none for task 0"),
        ({}, (X, np.zeros((120, 2, 2))), r"Got \(120, 2, 2\)"),
        ({}, (X, np.where(Z > 0, 1, np.inf)), "contains infinity"),
        ({}, (X, np.where(Z[:, 0] > 0, 1, np.nan)), "contains NaN. A single task"),
        ({"task_types": "ordinal"}, (X, Z > 0), "among .* Got 'ordinal'"),
        ({"task_types": ["binary"]}, (X, Z > 0), "Got 1 types for 4 tasks"),
        ({"task_weights": [1.0]}, (X, Z > 0), r"Got \[1.0\] for 4 tasks"),
        (
            {"net_params": {"warmup": (0.8, 0.2)}},
            (X, Z > 0),
            r"begin <= end <= 1. Got \(0.8, 0.2\)",
        ),
        ({"net_params": {"routing_lr": -1.0}}, (X, Z > 0), "'routing_lr' parameter"),
        ({"net_params": {"compile": True}}, (X, Z > 0), "Got .* compile=True"),
        ({"expert": MLPExpert(out_features=0)}, (X, Z > 0), "'out_features' param"),
        ({"expert": "tree"}, (X, Z > 0), "The 'expert' parameter"),
        ({"module_inputs": [0, 1]}, (X, Z > 0), r"Got shape \(2,\) for rows of 4"),
        ({"module_inputs": np.zeros((2, 4))}, (X, Z > 0), "read at least one value"),
        ({"expert": "conv"}, (X, Z > 0), "needs images"),
        ({"expert": "mlp"}, (IMAGES, IMAGES[:, None] > 0), "convolutional modules"),
        ({}, (IMAGES, IMAGES[:, None, :4] > 0), r"Got \(4, 8\) for images"),
        ({"lambda_irm": -1.0}, (X, Z > 0), "The 'lambda_irm' parameter"),
        ({"modules": "moe"}, (X, Z > 0), "The 'modules' parameter"),
        (
            {"validation": 0.001},
            (X, Z > 0),
            "rows on both sides",
        ),
        ({"validation": [0, 1]}, (X, Z > 0), "The 'validation' parameter"),
        ({"validation": Validation([0, 1])}, (X, Z > 0), r"a share in .* Got \[0, 1\]"),
        ({"validation": Validation(patience=0)}, (X, Z > 0), "'patience' parameter"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(params, arguments, message):
    learner = make(max_epochs=1).fit(X, Z[:, 0] > 0)
    learner.set_params(**params)
    before = vars(learner).copy()
    with pytest.raises(ValueError, match=message):
        learner.fit(*arguments)
    assert vars(learner) == before


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"envs": [0] * 5}, "inconsistent numbers"),
        ({"envs": [np.nan] * 120}, "envs must not hold NaN"),
        ({"tasks": [0] * 5}, "inconsistent numbers"),
    ],
)
def test_bad_ids_are_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        make().fit(X, Z[:, 0] > 0, **keywords)


def test_bad_rows_and_tasks_of_predictions_are_refused():
    tasks = np.arange(120) % 2
    learner = make().fit(X, Z[:, 0] > 0, tasks=tasks)
    with pytest.raises(InvalidInputError, match=r"seen in fit, \[0, 1\]. Got 2"):
        learner.predict(X, tasks=tasks + 1)
    with pytest.raises(InvalidInputError, match="Got 2"):
        learner.score(X, Z[:, 0] > 0, tasks=tasks + 1)
    with pytest.raises(InvalidInputError, match="Got 4 columns for 2 tasks"):
        learner.score(X, Z > 0)
    with pytest.raises(ValueError, match=r"3 features.* expecting 4 features"):
        learner.predict(X[:, :3])
    with pytest.raises(NotFittedError):
        make().predict(X)
    values = make(task_types="regression").fit(X, Z[:, 0])
    with pytest.raises(InvalidInputError, match="needs a classification task"):
        values.predict_proba(X)


def test_a_copy_is_refitted_alone():
    learner = make().fit(X, Z[:, 0] > 0)
    before = learner.predict(X)
    copy.copy(learner).fit(X, Z[:, 1] > 0)
    np.testing.assert_array_equal(learner.predict(X), before)
