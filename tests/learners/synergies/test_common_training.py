"""Training around a common predictor: options, callbacks, wrappers, searches."""

import copy

import numpy as np
import pytest
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skcausalmeta.backbones import MLP, Conv4
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import (
    MetaCRLClassifier,
    MetaCRLRegressor,
    SparseMetaClassifier,
    SparseMetaRegressor,
)
from skcausalmeta.learners._synergies._around_common import _some_of_tasks
from skcausalmeta.learners._synergies._common import TrainingRows
from skcausalmeta.training import RowReader

RNG = np.random.default_rng(0)
N_TASKS, N_ROWS = 6, 12
TASKS = np.repeat(np.arange(N_TASKS), N_ROWS)
ENVS = np.tile([0, 1], len(TASKS) // 2)
X = RNG.standard_normal((len(TASKS), 4))
VALUES = 5 + X[:, 0] + X[:, 1] * (TASKS % 2) + 0.1 * RNG.standard_normal(len(TASKS))
LABELS = np.where(VALUES > 5, "yes", "no")
SMALL = {
    "backbone": MLP(hidden=(6,), out_features=5, skip=True),
    "max_epochs": 2,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "verbose": 0,
    "random_state": 0,
}


def classifier(*head, **params):
    return SparseMetaClassifier(*head, **{**SMALL, **params})


def regressor(*head, **params):
    return SparseMetaRegressor(*head, **{**SMALL, **params})


MAKERS = pytest.mark.parametrize(
    ("make", "y"), [(classifier, LABELS), (regressor, VALUES)]
)


def outcomes(learner, y):
    """Answers without labels, after adapting, and of many tasks."""
    yield learner.predict(X)
    yield copy.copy(learner).adapt(X[:8], y[:8]).predict(X)
    support = X.reshape(N_TASKS, N_ROWS, 4)[:, :8], y.reshape(N_TASKS, N_ROWS)[:, :8]
    yield learner.predict_episodes(*support, X.reshape(N_TASKS, N_ROWS, 4)[:, 8:])


# -- options of training ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "y", "net_params"),
    [
        (classifier, LABELS, {"precision": "bfloat16"}),
        (regressor, VALUES, {"precision": "bfloat16"}),
        pytest.param(
            classifier,
            LABELS,
            {"compile": {"backend": "eager"}},
            marks=pytest.mark.slow,
        ),
        (regressor, VALUES, {"micro_batch": 1, "accelerate": True}),
        (classifier, LABELS, {"head_tol": 1e-3, "optimizer__weight_decay": 0.1}),
    ],
)
def test_options_of_the_net(make, y, net_params):
    learner = make(net_params=net_params, validation=[0, 1]).fit(X, y, tasks=TASKS)
    assert learner.around_common_
    assert learner.n_iter_ == 2
    strengths = learner.net_.module_.strengths
    assert strengths.blocks == (5, 4)  # the columns beside the layers
    for found in outcomes(learner, y):
        assert (found == found).all()


@MAKERS
def test_a_fit_can_be_repeated_from_the_weights_before(make, y):
    learner = make(validation=[0, 1], max_epochs=1).fit(X, y, tasks=TASKS)
    before = learner.net_.module_.backbone.state_dict()
    learner.set_params(lr=1e-12, net_params={"warm_start": True})
    after = learner.fit(X, y, tasks=TASKS).net_.module_.backbone.state_dict()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-6, err_msg=name)


class Counter(Callback):
    """Counts trainings and epochs in a list that its user holds."""

    def __init__(self, seen):
        self.seen = seen

    def on_train_begin(self, net, **kwargs):
        self.seen.append("fit")

    def on_epoch_end(self, net, **kwargs):
        self.seen.append("epoch")


@MAKERS
def test_callbacks_see_one_training(make, y):
    """Not the trials that find strengths to begin with and the number of epochs."""
    seen = []
    learner = make(callbacks=[Counter(seen)]).fit(X, y, tasks=TASKS)
    assert seen.count("epoch") == learner.n_iter_
    assert seen.count("fit") == min(1, learner.n_iter_)


def test_images_are_augmented_and_features_are_not():
    shapes = set()

    def spy(rows, generator):
        shapes.add(tuple(rows.shape[1:]))
        return rows

    images = np.repeat(np.repeat(X[:, :, None], 2, axis=1), 8, axis=2)  # 8 x 8
    learner = classifier(backbone=Conv4(n_filters=2, n_blocks=1), augment=spy)
    learner.fit(images, LABELS, tasks=TASKS)
    assert learner.around_common_
    assert shapes <= {(1, 8, 8)}
    assert learner.adapt(images[:5], LABELS[:5]).predict(images).shape == (72,)


def test_a_scale_of_scores_is_refused_before_training():
    def backbone():
        pytest.fail("the net was built before the parameters were checked")

    learner = classifier(backbone=backbone, net_params={"logit_scale": 0.1})
    with pytest.raises(InvalidInputError, match=r"Got logit_scale=0\.1; remove it"):
        learner.fit(X, LABELS, tasks=TASKS)


# -- rare and missing classes ----------------------------------------------------------


def test_rows_of_the_first_trial_are_of_every_class():
    """Classes are numbered by the rows at hand: none may be missing among them."""
    tasks = np.arange(3200) % 4
    classes = 1 + np.arange(3200) // 4 % 2
    classes[[5, 6, 7]] = 0  # the second rows of their tasks, where every other is taken
    reader = RowReader((1,))
    rows = np.zeros((3200, 1))
    some = _some_of_tasks(TrainingRows(rows, classes, tasks, 3, reader, 0))
    assert {5, 6, 7} <= set(some)
    assert len(some) == len(set(some)) == 4 * 400 + 3
    values = _some_of_tasks(TrainingRows(rows, classes * 1.0, tasks, 0, reader, 0))
    assert len(values) == 4 * 400


@pytest.mark.parametrize("common", ["linear", LogisticRegression()])
def test_tasks_of_a_fold_may_have_one_class(common):
    tasks = np.repeat([0, 1], 36)
    y = np.where(tasks == 1, "no", LABELS)  # a fold trains on "no" alone
    learner = classifier(backbone="identity", common=common, shared_labels=True)
    learner.fit(X, y, tasks=tasks)
    assert np.isfinite(learner.common_.training_scores).all()
    assert set(learner.predict(X)) <= {"no", "yes"}


# -- around MetaCRL --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "y"),
    [
        (MetaCRLClassifier(classifier()), LABELS),
        (MetaCRLClassifier(classifier(RidgeHead())), LABELS),
        (MetaCRLRegressor(regressor(), task_embedding="labels"), VALUES),
    ],
    ids=["lasso", "ridge", "values"],
)
def test_metacrl_solves_weighted_factors_around_the_common_scores(model, y):
    model.set_params(xi_lr=0.05, group_lr=0.05, causal_every=1)
    model.fit(X, y, tasks=TASKS, envs=ENVS)
    learner = model.estimator_
    assert learner.around_common_
    terms = {"train_loss", "swapped", "invariance", "orthogonality", "l1", "entropy"}
    assert terms <= model.history_[-1].keys()
    assert np.abs(model.factors_ - np.eye(9)).max() > 1e-3
    weights = model.task_weights(X[:8], y[:8])
    assert 0 < weights.min() < weights.max() == pytest.approx(1.0)
    nothing, alone, together = outcomes(model, y)
    scores = learner.common_.scores(X)
    if y is LABELS:
        np.testing.assert_array_equal(nothing, learner.classes_[scores.argmax(axis=1)])
        np.testing.assert_array_equal(together[0], alone[8:12])
    else:
        np.testing.assert_allclose(nothing, learner._in_units(scores[:, 0]))
        np.testing.assert_allclose(together[0], alone[8:12], rtol=1e-5)
    # The code that the task was solved with is the one that is told.
    adapted = copy.copy(model).adapt(X[:8], y[:8]).estimator_
    np.testing.assert_allclose(adapted.task_code_, weights, rtol=1e-5)
    by_task = model.predict(X, tasks=TASKS)
    assert by_task.shape == y.shape
    unknown = model.predict(X[:3], tasks=[99, 99, 99])
    if y is LABELS:
        np.testing.assert_array_equal(unknown, nothing[:3])
    else:  # nets in single precision: last digits depend on which rows come together
        np.testing.assert_allclose(unknown, nothing[:3], rtol=1e-6)


def test_fewer_factors_than_features():
    model = MetaCRLClassifier(classifier(), n_factors=3, task_embedding="mean")
    model.fit(X, LABELS, tasks=TASKS)
    learner = model.adapt(X[:8], LABELS[:8]).estimator_
    assert learner.deviation_.shape == (2, 3)
    # Deviations are from the mean of the factors that tasks weigh, not of features.
    assert learner.net_.module_.strengths.center.abs().max() > 0
    assert model.predict(X).shape == LABELS.shape


# -- searches and pipelines ------------------------------------------------------------


@MAKERS
def test_task_ids_travel_through_pipeline_and_search(make, y):
    with config_context(enable_metadata_routing=True):
        learner = make(max_epochs=1)
        for request in ("fit", "predict", "score"):
            getattr(learner, f"set_{request}_request")(tasks=True)
        pipeline = make_pipeline(StandardScaler(), learner)
        name = f"{type(learner).__name__.lower()}__lr"
        folds = KFold(2, shuffle=True, random_state=0)
        search = GridSearchCV(pipeline, {name: [1e-3]}, cv=folds, error_score="raise")
        search.fit(X, y, tasks=TASKS)
        best = search.best_estimator_
        found = best.predict(X, tasks=TASKS)
        score = best.score(X, y, tasks=TASKS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    rows = best[0].transform(X)
    np.testing.assert_array_equal(found, best[-1].predict(rows, tasks=TASKS))
    assert score == best[-1].score(rows, y, tasks=TASKS)
    for task in (1, 4):
        own = task == TASKS
        alone = copy.copy(best[-1])
        alone.task_ = alone.known_tasks_.solved[task]
        np.testing.assert_array_equal(found[own], alone.predict(rows[own]))


def test_probabilities_of_tasks_that_share_labels_are_calibrated():
    learner = classifier(max_epochs=1, calibrate=5).fit(X, LABELS, tasks=TASKS)
    assert learner.temperature_ > 0
    shares = learner.predict_proba(X, tasks=TASKS)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
