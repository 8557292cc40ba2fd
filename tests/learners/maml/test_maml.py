"""MAMLClassifier after fit: adapt, predict, steps, copies."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler
from torch import nn

from skcausalmeta.backbones import MLP, Conv4
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.exceptions import DivergenceError, InvalidInputError
from skcausalmeta.heads import RidgeHead
from skcausalmeta.learners import MAMLClassifier
from skcausalmeta.utils import isolated_torch_rng

BUNCH = make_sparse_classes(10, 14, 8, n_factors=6, n_informative=3, random_state=0)
OLD, NEW = BUNCH.target < 6, BUNCH.target >= 6
X_OLD, Y_OLD = BUNCH.data[OLD], BUNCH.target[OLD]
X_NEW, Y_NEW = BUNCH.data[NEW], BUNCH.target[NEW]
NAMES = np.array(["oboe", "harp", "viola", "flute"])


def make_learner(update="sgd", **params):
    small = {
        "n_way": 4,
        "max_epochs": 1,
        "batches_per_epoch": 3,
        "tasks_per_batch": 2,
        "backbone": MLP(hidden=(16,), out_features=12),
        "verbose": 0,
        "random_state": 0,
    }
    return MAMLClassifier(update, **{**small, **params})


@pytest.fixture(scope="module")
def fitted():
    return make_learner().fit(X_OLD, Y_OLD)


@pytest.fixture
def learner(fitted):
    return copy.copy(fitted)


def weights(learner):
    return {k: v.clone() for k, v in learner.net_.module_.state_dict().items()}


def layers_of(learner, kind):
    return [m for m in learner.net_.module_.backbone.modules() if isinstance(m, kind)]


def rows_of(*labels, n=5, skip=0):
    index = [np.flatnonzero(c == Y_NEW)[skip : skip + n] for c in labels]
    return np.concatenate(index)


def plain_steps(learner, X, y, n_steps, rate=0.1):
    """Scores of `X_NEW` before and after plain gradient steps on (X, y)."""
    module = copy.deepcopy(learner.net_.module_).eval()
    rows = torch.from_numpy(X).float()
    targets = torch.from_numpy(np.unique(y, return_inverse=True)[1])
    every = torch.from_numpy(X_NEW).float()
    adapted = list(module.start().values())
    found = []
    for _ in range(n_steps + 1):
        with torch.no_grad():
            found.append(module(every, "all").double().numpy())
        scores = module(rows, "all")[:, : int(targets.max()) + 1]
        loss = nn.functional.cross_entropy(scores, targets)
        gradients = torch.autograd.grad(loss, adapted)
        with torch.no_grad():
            for parameter, gradient in zip(adapted, gradients, strict=True):
                parameter -= rate * gradient
    return np.stack(found)


def test_fit_states_its_facts(fitted):
    assert fitted.classes_.tolist() == [0, 1, 2, 3, 4, 5]
    assert fitted.n_features_in_ == 8
    assert fitted.n_features_out_ == fitted.transform(X_NEW[:1]).shape[1] == 12
    assert fitted.n_iter_ == len(fitted.history_) == 1
    assert {"epoch", "train_loss", "dur"} <= fitted.history_[0].keys()
    assert fitted.get_feature_names_out()[0] == "mamlclassifier0"


def test_after_fit_a_ridge_head_tells_all_training_classes_apart(fitted):
    head = RidgeHead().fit(fitted.transform(X_OLD), Y_OLD)
    expected = head.decision_function(fitted.transform(X_OLD))
    np.testing.assert_allclose(fitted.decision_function(X_OLD), expected, atol=1e-9)
    assert fitted.score(X_OLD, Y_OLD) > 0.6


def test_adapt_speaks_of_the_new_task_and_leaves_the_start(learner):
    before, net = weights(learner), learner.net_
    labels = NAMES[Y_NEW - 6]
    assert learner.adapt(X_NEW, labels) is learner
    assert learner.classes_.tolist() == sorted(NAMES)
    assert set(learner.predict(X_NEW)) <= set(NAMES)
    assert not hasattr(learner, "head_")
    assert learner.net_ is net
    first = {name: value.clone() for name, value in learner.adapted_.items()}
    shared = learner.adapted_
    learner.adapt(X_OLD[Y_OLD < 2], Y_OLD[Y_OLD < 2])
    for name, value in shared.items():
        assert torch.equal(value, first[name]), name
        assert not torch.equal(value, before[name]), name
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_copy_adapts_by_itself_and_shares_the_net(fitted):
    before = fitted.decision_function(X_OLD)
    first = copy.copy(fitted).adapt(X_NEW, Y_NEW)
    scores = first.decision_function(X_NEW)
    second = copy.copy(first).adapt(X_NEW, NAMES[Y_NEW - 6])
    assert first.net_ is second.net_ is fitted.net_
    assert first.classes_.tolist() == [6, 7, 8, 9]
    assert second.classes_.tolist() == sorted(NAMES)
    assert fitted.classes_.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(first.decision_function(X_NEW), scores)
    np.testing.assert_array_equal(fitted.decision_function(X_OLD), before)


@pytest.mark.parametrize("labels", [(6, 7, 8, 9), (9, 7)])
def test_adapt_takes_plain_gradient_steps(learner, labels):
    rows = np.isin(Y_NEW, labels)
    learner.adapt(X_NEW[rows], Y_NEW[rows])
    assert learner.classes_.tolist() == sorted(labels)
    expected = plain_steps(learner, X_NEW[rows], Y_NEW[rows], 5)[-1]
    expected = expected[:, : len(labels)]
    found = learner.decision_function(X_NEW)
    if len(labels) == 2:
        np.testing.assert_allclose(found, expected[:, 1] - expected[:, 0], atol=1e-5)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-5)
    proba = learner.predict_proba(X_NEW)
    np.testing.assert_allclose(proba, softmax(expected, axis=1), atol=1e-5)
    winners = learner.classes_[proba.argmax(axis=1)]
    np.testing.assert_array_equal(learner.predict(X_NEW), winners)


def test_staged_predictions_are_those_of_every_number_of_steps(fitted):
    few = copy.copy(fitted).set_params(adapt_steps=4)
    rows = rows_of(6, 8, 9)
    staged = few.staged_predict_episodes(
        X_NEW[rows][None], Y_NEW[rows][None], X_NEW[None]
    )
    assert staged.shape == (5, 1, len(X_NEW))
    scores = plain_steps(fitted, X_NEW[rows], Y_NEW[rows], 4)
    for step in range(5):
        alone = copy.copy(fitted).set_params(adapt_steps=step)
        alone.adapt(X_NEW[rows], Y_NEW[rows])
        np.testing.assert_array_equal(staged[step, 0], alone.predict(X_NEW))
        by_hand = np.array([6, 8, 9])[scores[step, :, :3].argmax(axis=1)]
        np.testing.assert_array_equal(staged[step, 0], by_hand)
    assert (staged[0] != staged[1]).any()


def test_no_steps_leave_the_start_as_it_is(learner):
    learner.set_params(adapt_steps=0).adapt(X_NEW, Y_NEW)
    for name, value in learner.net_.module_.start().items():
        assert torch.equal(learner.adapted_[name], value)
    scores = plain_steps(learner, X_NEW, Y_NEW, 0)[0]
    np.testing.assert_allclose(learner.decision_function(X_NEW), scores, atol=1e-6)
    learner.set_params(adapt_steps=30).adapt(X_NEW, Y_NEW)
    assert learner.score(X_NEW, Y_NEW) > 0.7


@pytest.mark.parametrize("batch_norm", ["running", "episode"])
@pytest.mark.parametrize("update", ["sgd", "kfo"])
@pytest.mark.parametrize("adapt_layers", ["all", "head"])
def test_predict_episodes_is_adapt_and_predict_of_every_task(
    update, adapt_layers, batch_norm
):
    learner = make_learner(update, adapt_layers=adapt_layers, batch_norm=batch_norm)
    learner.fit(X_OLD, Y_OLD)
    tasks = [(6, 7, 8), (9, 7, 6), (8, 8, 9), (7, 9, 8)]  # the third has two classes
    support = np.stack([rows_of(*labels, n=4) for labels in tasks])
    query = np.stack([rows_of(*labels, n=5, skip=6) for labels in tasks])
    labels = NAMES[Y_NEW - 6]
    before = vars(learner).copy()
    found = learner.predict_episodes(X_NEW[support], labels[support], X_NEW[query])
    assert vars(learner) == before
    assert found.shape == query.shape
    assert found.dtype == labels.dtype
    for k in range(len(tasks)):
        alone = copy.copy(learner).adapt(X_NEW[support[k]], labels[support[k]])
        np.testing.assert_array_equal(found[k], alone.predict(X_NEW[query[k]]))


def test_predictions_do_not_depend_on_which_rows_come_together(learner):
    for adapted in (learner, copy.copy(learner).adapt(X_NEW, Y_NEW)):
        for method in ("transform", "decision_function", "predict"):
            apply = getattr(adapted, method)
            together = apply(X_NEW)
            alone = np.concatenate([apply(row[None]) for row in X_NEW])
            np.testing.assert_array_equal(alone, together, err_msg=method)


def test_more_classes_than_outputs_are_refused(learner):
    before = vars(learner).copy()
    message = r"at most the 4 classes .* Got 6 classes; fit with n_way=6"
    with pytest.raises(InvalidInputError, match=message):
        learner.adapt(X_OLD, Y_OLD)
    with pytest.raises(InvalidInputError, match=message):
        learner.predict_episodes(X_OLD[None], Y_OLD[None], X_OLD[None])
    assert vars(learner) == before


def test_an_inner_loop_that_diverges_is_refused(learner):
    learner.net_ = copy.deepcopy(learner.net_)
    learner.net_.module_.rule.lr = 1e30
    before = vars(learner).copy()
    with pytest.raises(DivergenceError, match=r"after 5 steps on 56 rows; lower adapt"):
        learner.adapt(X_NEW, Y_NEW)
    two = np.stack([X_NEW, X_NEW]), np.stack([Y_NEW, Y_NEW])
    with pytest.raises(DivergenceError, match=r"for 2 of 2 tasks \(first: task 0\)"):
        learner.predict_episodes(*two, two[0])
    assert vars(learner) == before


def test_fit_head_false_leaves_the_task_to_adapt(fitted):
    learner = make_learner(fit_head=False).fit(X_OLD, Y_OLD)
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError, match="Call 'adapt' with the support rows"):
            getattr(learner, method)(X_NEW)
    np.testing.assert_array_equal(learner.transform(X_NEW), fitted.transform(X_NEW))
    assert learner.adapt(X_NEW, Y_NEW).predict(X_NEW).shape == (56,)
    learner.fit(X_OLD, Y_OLD)
    assert not hasattr(learner, "adapted_")


@pytest.mark.parametrize("update", ["sgd", "meta-sgd", "meta-curvature", "kfo"])
def test_pickles_and_deep_copies_predict_the_same(update):
    learner = make_learner(update).fit(X_OLD, Y_OLD)
    for adapt in (False, True):
        if adapt:
            learner.adapt(X_NEW, Y_NEW)
        for twin in (pickle.loads(pickle.dumps(learner)), copy.deepcopy(learner)):
            assert twin.net_ is not learner.net_
            np.testing.assert_array_equal(
                twin.decision_function(X_NEW), learner.decision_function(X_NEW)
            )
            twin.adapt(X_NEW, NAMES[Y_NEW - 6])
            again = copy.copy(learner).adapt(X_NEW, NAMES[Y_NEW - 6])
            np.testing.assert_array_equal(twin.predict(X_NEW), again.predict(X_NEW))


def test_clone_is_unfitted_with_equal_parameters(fitted):
    twin = clone(fitted)
    assert not hasattr(twin, "net_")
    params, others = twin.get_params(), fitted.get_params()
    spec, other = params.pop("backbone"), others.pop("backbone")
    assert params == others  # those of the backbone among them
    assert type(spec) is type(other)
    assert spec is not other


def test_a_pipeline_adapts_and_predicts_many_tasks():
    pipeline = make_meta_pipeline(
        StandardScaler(),
        make_learner(backbone=MLP((16,), out_features=12, standardize=False)),
    ).fit(X_OLD, Y_OLD)
    rows = rows_of(6, 7, 9)
    adapted = copy.copy(pipeline).adapt(X_NEW[rows], Y_NEW[rows])
    found = pipeline.predict_episodes(X_NEW[rows][None], Y_NEW[rows][None], X_NEW[None])
    np.testing.assert_array_equal(found[0], adapted.predict(X_NEW))
    assert pipeline.classes_.tolist() == [0, 1, 2, 3, 4, 5]
    scaled = pipeline[0].transform(X_NEW)
    inside = copy.copy(pipeline[-1]).adapt(scaled[rows], Y_NEW[rows])
    np.testing.assert_array_equal(found[0], inside.predict(scaled))


def test_standardisation_of_the_input_is_fixed_before_training():
    net = nn.Sequential(
        nn.BatchNorm1d(X_OLD.shape[1], affine=False), nn.Linear(X_OLD.shape[1], 8)
    )
    one, two = (
        make_learner(backbone=net, batches_per_epoch=n).fit(X_OLD, Y_OLD)
        for n in (1, 4)
    )
    for learner in (one, two, two.adapt(X_NEW, Y_NEW)):
        (layer,) = layers_of(learner, nn.BatchNorm1d)
        np.testing.assert_allclose(layer.running_mean, X_OLD.mean(axis=0), atol=1e-5)
        variance = X_OLD.var(axis=0, ddof=1)
        np.testing.assert_allclose(layer.running_var, variance, rtol=1e-4)


def test_an_mlp_keeps_the_statistics_of_the_training_rows():
    one, two = (make_learner(batches_per_epoch=n).fit(X_OLD, Y_OLD) for n in (1, 4))
    for learner in (one, two, two.adapt(X_NEW, Y_NEW)):
        mlp = learner.net_.module_.backbone
        assert not any("input_" in name for name in learner.net_.module_.adapted)
        np.testing.assert_allclose(mlp.input_mean, X_OLD.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(mlp.input_scale, X_OLD.std(axis=0), rtol=1e-6)


IMAGES = np.random.default_rng(0).integers(256, size=(48, 8, 8), dtype=np.uint8)
IMAGES[::2, :4] //= 4
IMAGE_LABELS = np.tile([0, 1], 24)


def image_learner(**params):
    small = {"n_way": 2, "backbone": Conv4(n_filters=4, n_blocks=1)}
    return make_learner(**{**small, **params})


@pytest.mark.parametrize("mode", ["running", "episode"])
def test_running_averages_are_learned_and_used_or_left_alone(mode):
    learner = image_learner(batch_norm=mode).fit(IMAGES, IMAGE_LABELS)
    (norm,) = layers_of(learner, nn.BatchNorm2d)
    moved = bool(norm.running_mean.abs().max() > 0)
    before = weights(learner)
    learner.adapt(IMAGES[:10], IMAGE_LABELS[:10])
    together = learner.decision_function(IMAGES)
    parts = [learner.decision_function(IMAGES[k : k + 12]) for k in range(0, 48, 12)]
    apart = np.abs(np.concatenate(parts) - together).max()
    assert moved == (mode == "running")
    assert (apart < 1e-6) == (mode == "running")
    for name, value in learner.net_.module_.state_dict().items():
        assert torch.equal(value, before[name]), name
    if mode == "episode":
        net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 8))
        with pytest.raises(InvalidInputError, match="or use batch_norm='running'"):
            image_learner(batch_norm=mode, backbone=net).fit(
                IMAGES, IMAGE_LABELS
            ).predict(IMAGES[:1])


def test_frozen_backbone_is_neither_adapted_nor_learned():
    with isolated_torch_rng(0):
        norms = nn.BatchNorm1d(8, affine=False), nn.BatchNorm1d(5)
        module = nn.Sequential(norms[0], nn.Linear(8, 5), norms[1], nn.ReLU())
        module(torch.randn(9, 8))
    before = module.state_dict().values()
    learner = make_learner(
        backbone=module.requires_grad_(False), net_params={"linear_layers": 1}
    ).fit(X_OLD, Y_OLD)
    found = learner.net_.module_.backbone.state_dict().values()
    for one, two in zip(found, before, strict=True):
        assert torch.equal(one, two)
    learner.adapt(X_NEW, Y_NEW)
    assert {name.split(".")[0] for name in learner.adapted_} == {"output"}
    assert len(learner.adapted_) == 4
    with pytest.raises(InvalidInputError, match="needs a backbone with parameters"):
        learner.set_params(adapt_layers="body").fit(X_OLD, Y_OLD)
