"""SparseMetaClassifier after fit: adapt, predict, transform, copies."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from skcausalmeta.backbones import Conv4
from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.heads import GroupLassoSVC
from skcausalmeta.learners import SparseMetaClassifier

BUNCH = make_sparse_classes(10, 14, 8, n_factors=6, n_informative=3, random_state=0)
OLD, NEW = BUNCH.target < 6, BUNCH.target >= 6
X_OLD, Y_OLD = BUNCH.data[OLD], BUNCH.target[OLD]
X_NEW, Y_NEW = BUNCH.data[NEW], BUNCH.target[NEW]
NAMES = np.array(["oboe", "harp", "viola", "flute"])


def make_learner(**params):
    small = {
        "max_epochs": 1,
        "batches_per_epoch": 3,
        "tasks_per_batch": 2,
        "verbose": 0,
        "random_state": 0,
    }
    return SparseMetaClassifier(**{**small, **params})


@pytest.fixture(scope="module")
def fitted():
    return make_learner().fit(X_OLD, Y_OLD)


@pytest.fixture
def learner(fitted):
    return copy.copy(fitted)


def weights(learner):
    return {k: v.clone() for k, v in learner.net_.module_.state_dict().items()}


def rows_of(*labels, n=5, skip=0):
    index = [np.flatnonzero(c == Y_NEW)[skip : skip + n] for c in labels]
    return np.concatenate(index)


def test_fit_states_its_facts(fitted):
    assert fitted.classes_.tolist() == [0, 1, 2, 3, 4, 5]
    assert fitted.n_features_in_ == 8
    assert fitted.n_features_out_ == fitted.transform(X_NEW[:1]).shape[1]
    assert fitted.n_iter_ == len(fitted.history_) == 1
    assert {"epoch", "train_loss", "dur"} <= fitted.history_[0].keys()


def test_adapt_speaks_of_the_new_task_and_leaves_the_backbone(learner):
    before, net = weights(learner), learner.net_
    labels = NAMES[Y_NEW - 6]
    assert learner.adapt(X_NEW, labels) is learner
    assert learner.classes_.tolist() == sorted(NAMES)
    assert set(learner.predict(X_NEW)) <= set(NAMES)
    assert learner.score(X_NEW, labels) > 0.8
    assert learner.net_ is net
    for name, value in learner.net_.module_.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_copy_adapts_by_itself_and_shares_the_net(fitted):
    before = fitted.predict(X_OLD)
    first = copy.copy(fitted).adapt(X_NEW, Y_NEW)
    second = copy.copy(fitted).adapt(X_NEW, NAMES[Y_NEW - 6])
    assert first.net_ is second.net_ is fitted.net_
    assert first.classes_.tolist() == [6, 7, 8, 9]
    assert second.classes_.tolist() == sorted(NAMES)
    assert fitted.classes_.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(fitted.predict(X_OLD), before)


@pytest.mark.parametrize("center", [True, False])
def test_head_is_the_svc_of_centred_features(center):
    learner = make_learner(center=center).fit(X_OLD, Y_OLD).adapt(X_NEW, Y_NEW)
    features = learner.transform(X_NEW)
    means = [features[label == Y_NEW].mean(axis=0) for label in np.unique(Y_NEW)]
    middle = np.mean(means, axis=0) if center else 0.0
    svc = GroupLassoSVC(solver="newton").fit(features - middle, Y_NEW)
    np.testing.assert_allclose(learner.head_.coef_, svc.coef_, atol=1e-8)
    scores = svc.decision_function(features - middle)
    np.testing.assert_allclose(learner.decision_function(X_NEW), scores, atol=1e-6)
    middle = middle * np.ones(features.shape[1])
    # But for the order of a sum: of class means, of classes with as many rows.
    np.testing.assert_allclose(learner.center_, middle, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "head", [None, GroupLassoSVC(fit_intercept=False, solver="newton")]
)
@pytest.mark.parametrize("counts", [(100, 1), (20, 5)])
def test_a_class_of_few_rows_and_one_of_many(head, counts):
    means = np.random.default_rng(0).normal(size=(8, 20)) * 3.0 + 5

    def rows_of(*numbers, seed):
        labels = np.repeat(np.arange(8)[-len(numbers) :], numbers)
        noise = np.random.default_rng(seed).normal(size=(len(labels), 20))
        return means[labels] + noise, labels

    learner = SparseMetaClassifier(
        head,
        backbone="identity",
        max_epochs=1,
        batches_per_epoch=1,
        fit_head=False,
        verbose=0,
        random_state=0,
    ).fit(*rows_of(*[20] * 6, 0, 0, seed=0))
    support, labels = rows_of(*counts, seed=1)
    query, expected = rows_of(200, 200, seed=2)
    found = learner.adapt(support, labels).predict(query)
    assert balanced_accuracy_score(expected, found) >= 0.98
    many = learner.predict_episodes(support[None], labels[None], query[None])[0]
    assert balanced_accuracy_score(expected, many) >= 0.98


def test_facts_of_the_head_are_those_of_its_weights(learner):
    learner.adapt(X_NEW, Y_NEW)
    used = np.flatnonzero(np.abs(learner.head_.coef_).max(axis=0) > 0)
    np.testing.assert_array_equal(learner.support_features_, used)
    assert learner.sparsity_ == 1 - len(used) / learner.n_features_out_
    assert 0 <= learner.sparsity_ < 1
    assert learner.dual_gap_ <= 1e-6 * learner.head_.objective_


@pytest.mark.parametrize("labels", [(6, 7, 8, 9), (7, 9)])
def test_probabilities_are_the_softmax_of_scaled_scores(learner, labels):
    rows = np.isin(Y_NEW, labels)
    learner.adapt(X_NEW[rows], Y_NEW[rows])
    proba, scores = learner.predict_proba(X_NEW), learner.decision_function(X_NEW)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    winners = learner.classes_[proba.argmax(axis=1)]
    np.testing.assert_array_equal(winners, learner.predict(X_NEW))
    scale = learner.net_.module_.scale
    if len(labels) == 2:
        expected = 1 / (1 + np.exp(-scale * scores))
        np.testing.assert_allclose(proba[:, 1], expected, atol=1e-9)
    else:
        expected = np.exp(scale * (scores - scores.max(axis=1, keepdims=True)))
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(proba, expected, atol=1e-9)


def test_predictions_do_not_depend_on_which_rows_come_together(learner):
    learner.adapt(X_NEW, Y_NEW)
    for method in ("transform", "decision_function", "predict"):
        apply = getattr(learner, method)
        together = apply(X_NEW)
        alone = np.concatenate([apply(row[None]) for row in X_NEW])
        np.testing.assert_array_equal(alone, together, err_msg=method)


@pytest.mark.parametrize("names", [np.arange(4), NAMES], ids=["int", "str"])
def test_predict_episodes_is_adapt_and_predict_of_every_task(fitted, names):
    tasks = [(6, 7, 8), (9, 7, 6), (8, 8, 9), (7, 9, 8)]  # the third has two classes
    support = np.stack([rows_of(*labels, n=4) for labels in tasks])
    query = np.stack([rows_of(*labels, n=5, skip=6) for labels in tasks])
    labels = names[Y_NEW - 6]
    before = vars(fitted).copy()
    found = fitted.predict_episodes(X_NEW[support], labels[support], X_NEW[query])
    assert vars(fitted) == before
    assert found.shape == query.shape
    assert found.dtype == labels.dtype
    for k in range(len(tasks)):
        alone = copy.copy(fitted).adapt(X_NEW[support[k]], labels[support[k]])
        np.testing.assert_array_equal(found[k], alone.predict(X_NEW[query[k]]))


def test_predict_episodes_with_episode_statistics():
    learner = make_learner(batch_norm="episode").fit(X_OLD, Y_OLD)
    tasks = [(6, 7), (9, 8)]
    support = np.stack([rows_of(*labels) for labels in tasks])
    query = np.stack([rows_of(*labels, skip=5) for labels in tasks])
    found = learner.predict_episodes(X_NEW[support], Y_NEW[support], X_NEW[query])
    for k in range(2):
        alone = copy.copy(learner).adapt(X_NEW[support[k]], Y_NEW[support[k]])
        np.testing.assert_array_equal(found[k], alone.predict(X_NEW[query[k]]))


def test_transform_names_its_features(learner):
    names = learner.get_feature_names_out()
    features = learner.transform(X_NEW)
    assert features.dtype == np.float64
    assert len(names) == features.shape[1] == learner.n_features_out_
    assert names[0] == "sparsemetaclassifier0"
    frame = learner.set_output(transform="pandas").transform(X_NEW)
    assert frame.columns.tolist() == names.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), features)


def test_fit_head_false_leaves_the_head_to_adapt():
    learner = make_learner(fit_head=False).fit(X_OLD, Y_OLD)
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError, match="Call 'adapt' with the support rows"):
            getattr(learner, method)(X_NEW)
    assert not hasattr(learner, "sparsity_")
    assert not hasattr(learner, "center_")
    assert learner.transform(X_NEW).shape[0] == len(X_NEW)
    assert learner.adapt(X_NEW, Y_NEW).score(X_NEW, Y_NEW) > 0.5


def test_refit_forgets_the_head_of_before():
    learner = make_learner().fit(X_OLD, Y_OLD)
    learner.set_params(fit_head=False).fit(X_NEW, Y_NEW)
    assert not hasattr(learner, "head_")
    assert learner.classes_.tolist() == [6, 7, 8, 9]


@pytest.mark.parametrize("verbose", [0, 1])
def test_pickles_and_deep_copies_predict_the_same(verbose):
    learner = make_learner(verbose=verbose).fit(X_OLD, Y_OLD).adapt(X_NEW, Y_NEW)
    for twin in (pickle.loads(pickle.dumps(learner)), copy.deepcopy(learner)):
        assert twin.net_ is not learner.net_
        np.testing.assert_array_equal(
            twin.decision_function(X_NEW), learner.decision_function(X_NEW)
        )
        twin.adapt(X_OLD, Y_OLD)
        assert learner.classes_.tolist() == [6, 7, 8, 9]


def test_clone_is_unfitted_with_equal_parameters(fitted):
    twin = clone(fitted)
    assert not hasattr(twin, "net_")
    assert twin.get_params() == fitted.get_params()


def test_identity_backbone_hands_the_rows_on():
    learner = make_learner(backbone="identity").fit(X_OLD, Y_OLD)
    np.testing.assert_allclose(learner.transform(X_NEW), X_NEW, rtol=1e-6)
    assert learner.n_features_out_ == 8


def test_ready_module_is_copied_with_its_weights():
    module = nn.Linear(8, 4)
    before = copy.deepcopy(module.state_dict())
    still = copy.deepcopy(module).requires_grad_(False)
    frozen = make_learner(backbone=still).fit(X_OLD, Y_OLD)
    trained = make_learner(backbone=module, lr=0.1).fit(X_OLD, Y_OLD)
    with torch.no_grad():
        features = module(torch.from_numpy(X_NEW).float()).double().numpy()
    np.testing.assert_allclose(frozen.transform(X_NEW), features, atol=1e-5)
    assert np.abs(trained.transform(X_NEW) - features).max() > 1e-2
    assert trained.backbone is module
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_callable_backbone_gets_the_shape_of_a_row():
    def backbone(input_shape, width=3):
        return nn.Linear(input_shape[0], width)

    learner = make_learner(backbone=backbone)
    assert learner.fit(X_OLD, Y_OLD).n_features_out_ == 3


IMAGES = np.random.default_rng(0).integers(256, size=(40, 8, 8), dtype=np.uint8)
IMAGES[::2, :4] //= 4
IMAGE_LABELS = np.tile([0, 1], 20)


def image_learner(**params):
    return make_learner(backbone=Conv4(n_filters=4, n_blocks=1), **params)


def test_images_in_every_layout_are_the_same_images():
    X = IMAGES / 255.0
    scores = [
        image_learner(input_shape=shape).fit(rows, IMAGE_LABELS).decision_function(rows)
        for rows, shape in [
            (X, None),
            (X[:, None], None),
            (X[..., None], None),
            (X.reshape(40, 64), (8, 8)),
            (X.reshape(40, 64), [1, 8, 8]),
            (IMAGES, None),
            (IMAGES.reshape(40, 64), (8, 8)),
        ]
    ]
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=1e-4)


def test_auto_backbone_takes_images_for_images():
    learner = make_learner(batches_per_epoch=1).fit(IMAGES, IMAGE_LABELS)
    layers = [type(layer).__name__ for layer in learner.net_.module_.modules()]
    assert "Conv4Module" in layers
    assert learner.adapt(IMAGES, IMAGE_LABELS).predict(IMAGES).shape == (40,)


def test_image_tasks_are_predicted_in_one_call():
    learner = image_learner().fit(IMAGES, IMAGE_LABELS)
    support, query = IMAGES[:20].reshape(2, 10, 8, 8), IMAGES[20:].reshape(2, 10, 8, 8)
    labels = IMAGE_LABELS[:20].reshape(2, 10)
    found = learner.predict_episodes(support, labels, query)
    alone = learner.adapt(support[1], labels[1])
    np.testing.assert_array_equal(found[1], alone.predict(query[1]))
