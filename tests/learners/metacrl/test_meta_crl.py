"""MetaCRL around learners: equivalence, recovery, contract and errors."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from skcausalmeta.backbones import MLP
from skcausalmeta.datasets import make_confounded_tasks
from skcausalmeta.exceptions import InvalidInputError, NotFittedError
from skcausalmeta.heads import GroupLassoSVC, LassoHead, PrototypeHead, RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MAMLRegressor,
    MetaCRLClassifier,
    MetaCRLRegressor,
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.model_selection import ClassKFold, few_shot_scorer
from skcausalmeta.training import EpisodeHook

SMALL = {
    "backbone": MLP(hidden=(6,), out_features=5),
    "max_epochs": 1,
    "batches_per_epoch": 3,
    "tasks_per_batch": 2,
    "fit_head": False,
    "verbose": 0,
    "random_state": 0,
}
RNG = np.random.RandomState(0)
N_TASKS, PER_TASK = 8, 24
TASKS = np.repeat(np.arange(N_TASKS), PER_TASK)
ENVS = np.tile(np.repeat([0, 1], PER_TASK // 2), N_TASKS)
X = RNG.standard_normal((len(TASKS), 4))
LABELS = np.tile([0, 1], len(TASKS) // 2)
X[np.arange(len(TASKS)), TASKS % 3] += 2 * LABELS
VALUES = X[np.arange(len(TASKS)), TASKS % 3]


def frozen_mlp(input_shape):
    return SMALL["backbone"].build(input_shape).requires_grad_(False)


# Tasks by themselves, of labels that are told apart; around a common predictor: below.
SPARSE = {**SMALL, "shared_labels": False, "common": None}
CLASSIFIERS = {
    "maml": MAMLClassifier(**SMALL),
    "maml-first-order": MAMLClassifier(first_order=True, **SMALL),
    "maml-checkpoint": MAMLClassifier(net_params={"recompute": True}, **SMALL),
    "maml-multi-step": MAMLClassifier(net_params={"multi_step_epochs": 1}, **SMALL),
    "maml-linear-layers": MAMLClassifier(net_params={"linear_layers": 1}, **SMALL),
    "maml-episode": MAMLClassifier(batch_norm="episode", **SMALL),
    "maml-chunks": MAMLClassifier(net_params={"task_chunk_size": 1}, **SMALL),
    "anil": MAMLClassifier(adapt_layers="head", **SMALL),
    "anil-episode": MAMLClassifier(adapt_layers="head", batch_norm="episode", **SMALL),
    "boil": MAMLClassifier(adapt_layers="body", **SMALL),
    "meta-sgd": MAMLClassifier("meta-sgd", **SMALL),
    "meta-curvature": MAMLClassifier("meta-curvature", **SMALL),
    "kfo": MAMLClassifier("kfo", **SMALL),
    "prototype": SparseMetaClassifier(PrototypeHead(), **SPARSE),
    "ridge": SparseMetaClassifier(RidgeHead(), **SPARSE),
    "svc": SparseMetaClassifier(GroupLassoSVC(solver="newton"), **SPARSE),
    "svc-episode": SparseMetaClassifier(batch_norm="episode", center=False, **SPARSE),
    "frozen": SparseMetaClassifier(RidgeHead(), **{**SPARSE, "backbone": frozen_mlp}),
}
REGRESSORS = {
    "maml": MAMLRegressor(**SMALL),
    "anil": MAMLRegressor(adapt_layers="head", **SMALL),
    "kfo": MAMLRegressor("kfo", **SMALL),
    "ridge": SparseMetaRegressor(RidgeHead(0.1), common=None, **SMALL),
    "lasso": SparseMetaRegressor(LassoHead(), common=None, **SMALL),
    "undivided": SparseMetaRegressor(split="none", common=None, **SMALL),
}


def episodes(targets):
    """Two tasks with a leading axis: 12 support and 12 query rows each."""
    rows, wanted = X[:48].reshape(2, 24, 4), targets[:48].reshape(2, 24)
    return rows[:, :12], wanted[:, :12], rows[:, 12:]


def outcomes(learner, targets):
    support, wanted, query = episodes(targets)
    yield learner.predict_episodes(support, wanted, query)
    yield copy.copy(learner).adapt(support[0], wanted[0]).predict(query[0])


# -- every learner, by the same wrapper ------------------------------------------------


# One for every way through the wrapper: all layers adapted or the last one, step
# sizes with parameters of their own, a solved head; classes or values.
EVERY_WAY = {"maml", "anil", "kfo", "ridge", "maml-regressor", "lasso-regressor"}


def case(wrapper, learner, targets, name):
    marks = () if name in EVERY_WAY else pytest.mark.slow
    return pytest.param(wrapper, learner, targets, id=name, marks=marks)


def cases():
    for name, learner in CLASSIFIERS.items():
        yield case(MetaCRLClassifier, learner, LABELS, name)
    for name, learner in REGRESSORS.items():
        yield case(MetaCRLRegressor, learner, VALUES, f"{name}-regressor")


@pytest.mark.parametrize(("wrapper", "learner", "targets"), list(cases()))
def test_without_second_level_it_is_the_wrapped_learner(wrapper, learner, targets):
    plain = clone(learner).fit(X, targets, tasks=TASKS)
    same = wrapper(learner, level2_every=None).fit(X, targets, tasks=TASKS)
    for expected, found in zip(
        outcomes(plain, targets), outcomes(same, targets), strict=True
    ):
        np.testing.assert_array_equal(expected, found)
    losses = [[row["train_loss"] for row in x.history_] for x in (plain, same)]
    assert losses[0] == losses[1]
    weights = same.task_weights(X[:12], targets[:12])
    np.testing.assert_array_equal(weights, np.ones(len(weights)))


@pytest.mark.parametrize(("wrapper", "learner", "targets"), list(cases()))
def test_every_learner_trains_with_both_levels(wrapper, learner, targets):
    params = {"xi_lr": 0.05, "group_lr": 0.05, "causal_every": 1}
    model = wrapper(learner, task_embedding="labels", **params)
    model.fit(X, targets, tasks=TASKS, envs=ENVS)
    terms = {"train_loss", "invariance", "orthogonality", "l1", "entropy"}
    assert terms <= model.history_[-1].keys()
    divided = getattr(learner, "split", "support-query") != "none"
    assert ("swapped" in model.history_[-1]) == divided
    assert np.abs(model.factors_ - np.eye(5)).max() > 1e-3
    weights = model.task_weights(X[:12], targets[:12])
    assert weights.max() == pytest.approx(1.0)
    assert 0 < weights.min() < 1
    together, alone = outcomes(model, targets)
    np.testing.assert_allclose(together[0], alone, rtol=1e-4, atol=1e-4)
    again = clone(model).fit(X, targets, tasks=TASKS, envs=ENVS)
    for expected, found in zip(
        outcomes(model, targets), outcomes(again, targets), strict=True
    ):
        np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("name", ["maml", "ridge"])
def test_published_embedding_and_fewer_factors(name):
    model = MetaCRLClassifier(CLASSIFIERS[name], n_factors=3, task_embedding="mean")
    model.fit(X, LABELS, tasks=TASKS)
    np.testing.assert_allclose(model.factors_.T @ model.factors_, np.eye(3), atol=0.05)
    assert model.transform(X).shape == (len(X), 3)
    assert list(model.get_feature_names_out()) == [
        f"metacrlclassifier{k}" for k in range(3)
    ]
    # It sees the rows alone: no labels are needed, and none change anything.
    weights = model.task_weights(X[:12])
    np.testing.assert_array_equal(weights, model.task_weights(X[:12], LABELS[:12]))


def test_the_public_embedding_and_rates_by_name():
    named = {"xi_lr": "public", "group_lr": "public", "task_embedding": "mean"}
    model = MetaCRLClassifier(CLASSIFIERS["ridge"], **named)
    model.fit(X, LABELS, tasks=TASKS)
    # Adam's first step is the rate, and the others are not much smaller.
    assert 0.4 < np.abs(model.factors_ - np.eye(5)).max() < 3 * 0.41
    numbers = {"xi_lr": 0.4, "group_lr": 0.01}
    same = clone(model).set_params(**numbers).fit(X, LABELS, tasks=TASKS)
    np.testing.assert_array_equal(model.factors_, same.factors_)


def test_levels_alternate():
    learner = clone(CLASSIFIERS["ridge"]).set_params(batches_per_epoch=3)
    seldom = MetaCRLClassifier(learner, level2_every=3).fit(X, LABELS, tasks=TASKS)
    once = clone(learner).set_params(batches_per_epoch=1)
    first = MetaCRLClassifier(once).fit(X, LABELS, tasks=TASKS)
    np.testing.assert_array_equal(seldom.factors_, first.factors_)


# -- causes and confounders ------------------------------------------------------------


def test_it_finds_the_causes_and_beats_the_wrapped_learner():
    bunch = make_confounded_tasks(
        200, mixing="identity", n_features=8, n_test_tasks=60, random_state=3
    )
    learner = SparseMetaClassifier(
        PrototypeHead(),
        backbone="identity",
        n_shot=10,
        n_query=10,
        tasks_per_batch=8,
        batches_per_epoch=100,
        max_epochs=2,
        net_params={"logit_scale": 0.1},
        lr=3e-3,
        fit_head=False,
        shared_labels=False,
        common=None,
        verbose=0,
        random_state=0,
    )
    test = bunch.test
    parts = test.X_support, test.y_support, test.X_query
    plain = clone(learner).fit(bunch.data, bunch.target, tasks=bunch.tasks)
    model = MetaCRLClassifier(learner, group_lr=0.03)
    model.fit(bunch.data, bunch.target, tasks=bunch.tasks, envs=bunch.envs)
    weights = np.stack(
        [
            model.task_weights(rows, labels)
            for rows, labels in zip(test.X_support, test.y_support, strict=True)
        ]
    )
    used = weights > 0.5
    hits = (used & test.causal_sets).sum()
    assert 2 * hits / (used.sum() + test.causal_sets.sum()) > 0.8
    scores = [
        (fitted.predict_episodes(*parts) == test.y_query).mean()
        for fitted in (plain, model)
    ]
    assert scores[1] > scores[0] + 0.05


def test_environments_are_what_the_episodes_differ_in():
    seen = []

    class Watch(EpisodeHook):
        def transform(self, features, code):
            seen.append(features.detach())
            return features

    rows = np.stack([ENVS, TASKS], axis=1).astype(float)
    learner = SparseMetaClassifier(
        RidgeHead(),
        hook=Watch(),
        across_envs=True,
        **{**SPARSE, "backbone": "identity"},
    )
    learner.fit(rows, LABELS, tasks=TASKS, envs=ENVS)
    for support, query in zip(seen[:-1:2], seen[1::2], strict=False):
        if support.ndim == 3 and len(support) == len(query) == 2:
            assert (support[..., 0].std(1) == 0).all()
            assert (support[:, 0, 0] + query[:, 0, 0] == 1).all()
            assert (support[:, 0, 1] == query[:, 0, 1]).all()


# -- an estimator like others ----------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    model = MetaCRLClassifier(clone(CLASSIFIERS["ridge"]).set_params(fit_head=True))
    return model.fit(X, LABELS, tasks=TASKS, envs=ENVS)


def test_pickle_and_copies_are_predictors_of_their_own(fitted):
    copied = copy.copy(fitted)
    loaded = pickle.loads(pickle.dumps(fitted))
    before = fitted.predict_proba(X)
    copied.adapt(X[:12], np.where(LABELS[:12], "yes", "no"))
    assert list(copied.classes_) == ["no", "yes"]
    np.testing.assert_array_equal(fitted.predict_proba(X), before)
    np.testing.assert_array_equal(loaded.predict_proba(X), before)
    np.testing.assert_array_equal(
        loaded.task_weights(X[:12], LABELS[:12]),
        fitted.task_weights(X[:12], LABELS[:12]),
    )
    assert fitted.decision_function(X).shape == (len(X),)


def test_grid_search_reaches_the_wrapped_learner():
    y = np.arange(len(X)) % 8
    search = GridSearchCV(
        MetaCRLClassifier(clone(CLASSIFIERS["maml"]).set_params(n_way=2)),
        {"estimator__inner_lr": [0.05, 0.2], "lambda_inv": [0.0]},
        cv=ClassKFold(2),
        scoring=few_shot_scorer(n_way=2, n_shot=3, n_episodes=3),
        error_score="raise",
    ).fit(X, y)
    assert search.best_estimator_.estimator_.inner_lr in (0.05, 0.2)


def test_data_frames_keep_their_names(fitted):
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = clone(fitted).fit(frame, LABELS, tasks=TASKS)
    assert list(model.feature_names_in_) == list("abcd")
    assert not hasattr(model.fit(X, LABELS, tasks=TASKS), "feature_names_in_")


def test_parameters_of_the_default_learner_are_reached():
    model = MetaCRLRegressor().set_params(estimator__max_epochs=2)
    assert isinstance(model.estimator, SparseMetaRegressor)
    assert model.estimator.max_epochs == 2


def test_it_is_silent_and_repeats_by_its_own_seed(capsys):
    learner = clone(CLASSIFIERS["ridge"]).set_params(verbose=1, random_state=None)
    one, two = (
        MetaCRLClassifier(learner, verbose=0, random_state=7).fit(
            X, LABELS, tasks=TASKS
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.factors_, two.factors_)
    assert capsys.readouterr() == ("", "")


def test_interrupted_training_keeps_what_was_learned():
    class Stop(Callback):
        def on_batch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    learner = clone(CLASSIFIERS["ridge"]).set_params(callbacks=[Stop()], fit_head=True)
    model = MetaCRLClassifier(learner).fit(X, LABELS, tasks=TASKS)
    assert model.predict(X[:5]).shape == (5,)


def test_inner_steps_can_be_watched():
    model = MetaCRLClassifier(CLASSIFIERS["anil"]).fit(X, LABELS, tasks=TASKS)
    stages = model.staged_predict_episodes(*episodes(LABELS))
    assert stages.shape == (6, 2, 12)
    assert not hasattr(
        MetaCRLClassifier(CLASSIFIERS["ridge"]), "staged_predict_episodes"
    )


def test_training_tasks_are_answered_by_id():
    learner = clone(REGRESSORS["ridge"]).set_params(fit_head=True)
    model = MetaCRLRegressor(learner).fit(X, VALUES, tasks=TASKS)
    by_task = model.predict(X, tasks=TASKS)
    for task in (0, 5):
        rows = np.equal(TASKS, task)
        alone = copy.copy(model).adapt(X[rows], VALUES[rows]).predict(X[rows])
        np.testing.assert_allclose(by_task[rows], alone, rtol=1e-4, atol=1e-4)


# -- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (MTCRLClassifier(), "'estimator' parameter of MetaCRLClassifier must be"),
        (MAMLRegressor(), "same kind that takes a hook, .* Got MAMLRegressor"),
        (MAMLClassifier(hook=EpisodeHook()), "Got one with hook=EpisodeHook"),
        (MAMLClassifier(net_params={"outer": "reptile"}), "'reptile' follows no query"),
    ],
)
def test_learners_that_do_not_fit_are_refused(estimator, message):
    with pytest.raises(ValueError, match=message):
        MetaCRLClassifier(estimator).fit(X, LABELS, tasks=TASKS)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_factors": 0}, "'n_factors' parameter"),
        ({"n_factors": 6}, "n_factors=6 for 5 features"),
        ({"lambda_inv": -1.0}, "'lambda_inv' parameter"),
        ({"task_embedding": "median"}, "'task_embedding' parameter"),
        ({"level2_every": 0}, "'level2_every' parameter"),
    ],
)
def test_bad_parameters_leave_the_object_as_it_was(fitted, params, message):
    model = copy.copy(fitted).set_params(**params)
    before = model.predict(X)
    with pytest.raises(ValueError, match=message):
        model.fit(X, LABELS, tasks=TASKS)
    np.testing.assert_array_equal(model.predict(X), before)


def test_other_errors(fitted):
    with pytest.raises(NotFittedError):
        MetaCRLClassifier().adapt(X, LABELS)
    with pytest.raises(InvalidInputError, match="Got y=None; pass y"):
        fitted.task_weights(X)
    with pytest.raises(ValueError, match="expecting 4 features"):
        fitted.predict(X[:, :3])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.task_weights(X, LABELS[:5])
    with pytest.raises(InvalidInputError, match="across_envs=True draws"):
        clone(CLASSIFIERS["maml"]).set_params(across_envs=True).fit(X, LABELS)
    model = MetaCRLRegressor(REGRESSORS["anil"]).fit(X, VALUES, tasks=TASKS)
    with pytest.raises(InvalidInputError, match="Got MAMLRegressor; use adapt"):
        model.predict(X, tasks=TASKS)
