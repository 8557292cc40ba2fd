"""PrototypeHead against NearestCentroid and numbers worked by hand."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.base import clone
from sklearn.neighbors import NearestCentroid
from torch.autograd import gradcheck, gradgradcheck

from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import HeadSolution, PrototypeHead
from skcausalmeta.learners import SparseMetaClassifier

EXACT = {"rtol": 1e-9, "atol": 1e-10}
METRICS = ["euclidean", "cosine"]


def make_data(n_samples=18, n_features=7, n_classes=3, seed=0):
    """Classes around different means, away from the origin; uneven row weights."""
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % n_classes
    X = rng.randn(n_samples, n_features) + rng.randn(n_classes, n_features)[y] + 1.0
    return X, y, rng.uniform(0.2, 2.0, n_samples)


def make_tasks(n_tasks=2, n_way=3, n_shot=2, n_features=5, seed=0):
    """Support features, targets and row weights, query features; float64."""
    rng = np.random.RandomState(seed)
    support = torch.from_numpy(rng.randn(n_tasks, n_way * n_shot, n_features) + 1.0)
    targets = torch.arange(n_way).repeat(n_shot).expand(n_tasks, -1)
    weights = torch.from_numpy(rng.uniform(0.5, 1.5, targets.shape))
    query = torch.from_numpy(rng.randn(n_tasks, 4, n_features) + 1.0)
    return support, targets, weights, query


# -- against an outsider ----------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_it_is_the_nearest_centroid_of_scikit_learn(n_classes):
    X, y, _ = make_data(60, 7, n_classes)
    names = np.array(list("fbdace"))[y]
    peer = NearestCentroid().fit(X[:30], names[:30])
    head = PrototypeHead().fit(X[:30], names[:30])
    np.testing.assert_allclose(head.prototypes_, peer.centroids_, **EXACT)
    np.testing.assert_array_equal(head.predict(X), peer.predict(X))
    assert head.classes_.tolist() == peer.classes_.tolist()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_logits_are_those_of_scipy(metric, temperature):
    X, y, weights = make_data()
    head = PrototypeHead(metric, temperature=temperature)
    head.fit(X, y, sample_weight=weights)
    centres = [np.average(X[y == k], axis=0, weights=weights[y == k]) for k in range(3)]
    np.testing.assert_allclose(head.prototypes_, centres, **EXACT)
    if metric == "euclidean":
        logits = -cdist(X, centres, "sqeuclidean") / temperature
    else:
        logits = (1 - cdist(X, centres, "cosine")) / temperature
    np.testing.assert_allclose(head.decision_function(X), logits, **EXACT)
    np.testing.assert_allclose(head.predict_proba(X), softmax(logits, axis=1), **EXACT)


def test_two_classes_by_hand():
    X, y = [[0.0, 1.0], [2.0, 3.0], [4.0, -3.0]], ["a", "a", "b"]
    head = PrototypeHead().fit(X, y, sample_weight=[3.0, 1.0, 2.0])
    assert head.prototypes_.tolist() == [[0.5, 1.5], [4.0, -3.0]]
    # from the origin: 2.5 to the first, 25 to the second
    np.testing.assert_allclose(head.decision_function([[0.0, 0.0]]), [-22.5])
    np.testing.assert_allclose(
        head.predict_proba([[0.0, 0.0]])[:, 1], [1 / (1 + np.exp(22.5))]
    )
    cosine = PrototypeHead("cosine").fit(X, y, sample_weight=[3.0, 1.0, 2.0])
    expected = 4 / 5 - 0.5 / np.sqrt(2.5)
    np.testing.assert_allclose(cosine.decision_function([[9.0, 0.0]]), [expected])
    assert cosine.predict([[9.0, 0.0]]).tolist() == ["b"]


def test_rows_far_from_the_origin_keep_their_digits():
    X, y, _ = make_data()
    near, far = PrototypeHead().fit(X, y), PrototypeHead().fit(X + 1e6, y)
    np.testing.assert_allclose(
        far.decision_function(X + 1e6), near.decision_function(X), rtol=1e-6, atol=1e-6
    )


# -- certificate ------------------------------------------------------------------


def test_certificate_measures_what_is_returned():
    X, y, weights = make_data()
    head = PrototypeHead().fit(X, y, sample_weight=weights)
    assert 0 <= head.dual_gap_ <= 1e-25
    assert 0 <= head.residual_ <= 1e-14
    assert head.sparsity_ == 0.0
    assert head.support_features_.tolist() == list(range(7))
    X[:, 3] = 0.0
    assert head.fit(X, y).support_features_.tolist() == [0, 1, 2, 4, 5, 6]
    assert head.sparsity_ == pytest.approx(1 / 7)


def test_certificate_of_other_points_is_the_excess_of_the_objective(monkeypatch):
    from skcausalmeta.heads import _prototype_head as module

    X, y, weights = make_data()
    best = PrototypeHead().fit(X, y, sample_weight=weights).prototypes_
    shift = np.random.RandomState(1).randn(*best.shape)
    means = module.class_means

    def moved_means(*args):
        found = means(*args)
        return found._replace(means=found.means + torch.from_numpy(shift))

    monkeypatch.setattr(module, "class_means", moved_means)
    head = PrototypeHead().fit(X, y, sample_weight=weights)

    def objective(centres):
        return weights @ ((X - centres[y]) ** 2).sum(1)

    np.testing.assert_allclose(head.prototypes_, best + shift)
    excess = objective(best + shift) - objective(best)
    assert head.dual_gap_ == pytest.approx(excess)
    totals = np.bincount(y, weights)[:, None]
    scale = np.sqrt(weights**2 @ (X**2).sum(1))
    assert head.residual_ == pytest.approx(np.linalg.norm(totals * shift) / scale)
    solution = head.solve_episodes(
        torch.from_numpy(X)[None],
        torch.from_numpy(y)[None],
        3,
        sample_weight=torch.from_numpy(weights)[None],
    )
    assert float(solution.gap) == pytest.approx(excess)
    assert float(solution.relative_gap) == pytest.approx(
        excess / (weights @ (X**2).sum(1))
    )


# -- layer ------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_the_layer_is_fit_task_by_task(metric):
    support, targets, weights, query = make_tasks(3, 3, 4)
    head = PrototypeHead(metric, temperature=2.0)
    logits = head.episode_logits(support, targets, query, 3, sample_weight=weights)
    for k in range(3):
        alone = clone(head).fit(
            support[k].numpy(), targets[k].numpy(), sample_weight=weights[k].numpy()
        )
        np.testing.assert_allclose(
            logits[k], alone.decision_function(query[k].numpy()), **EXACT
        )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_classes", [3, 4])
def test_solve_episodes_is_linear_in_the_query(metric, n_classes):
    support, targets, weights, query = make_tasks()
    head = PrototypeHead(metric, temperature=0.5)
    logits = head.episode_logits(
        support, targets, query, n_classes, sample_weight=weights
    )
    solution = head.solve_episodes(support, targets, n_classes, sample_weight=weights)
    assert isinstance(solution, HeadSolution)
    assert solution.n_iter.tolist() == [1, 1]
    assert bool((solution.gap <= 1e-25).all())
    lengths = query.norm(dim=-1, keepdim=True)
    rows = query if metric == "euclidean" else query / lengths
    own = lengths**2 / 0.5 if metric == "euclidean" else 0.0
    linear = rows @ solution.coef + solution.intercept[:, None] - own
    torch.testing.assert_close(linear, logits, **EXACT)
    prototypes = solution.dual.mT @ support
    expected = 4 * prototypes
    if metric == "cosine":
        expected = 2 * prototypes / prototypes.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(solution.coef.mT, expected, **EXACT)


@pytest.mark.parametrize("metric", METRICS)
def test_first_and_second_derivatives(metric):
    support, targets, weights, query = make_tasks()
    head = PrototypeHead(metric, temperature=2.0)

    def logits(support, query, weights):
        return head.episode_logits(support, targets, query, 3, sample_weight=weights)

    inputs = [tensor.requires_grad_() for tensor in (support, query, weights)]
    assert gradcheck(logits, inputs, fast_mode=True)
    assert gradgradcheck(logits, inputs, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_padded_rows_change_nothing(metric):
    support, targets, weights, query = make_tasks()
    rows = torch.full((2, 5, 5), 100.0).double()
    batch = (
        torch.cat([support, rows], dim=1),
        torch.cat([targets, torch.full((2, 5), 2)], dim=1),
    )
    weight = torch.cat([weights, torch.zeros(2, 5).double()], dim=1)
    head = PrototypeHead(metric)
    # with a class that has no row, whose logit depends on all rows
    padded = head.episode_logits(*batch, query, 4, sample_weight=weight)
    plain = head.episode_logits(support, targets, query, 4, sample_weight=weights)
    torch.testing.assert_close(padded, plain, **EXACT)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_a_class_without_rows_is_out_of_reach(metric, temperature, unit):
    support, targets, weights, query = make_tasks()
    support = (unit * support).requires_grad_()
    weights.requires_grad_()
    head = PrototypeHead(metric, temperature=temperature)
    # the last class has no row, the one before only rows of weight 0
    weight = weights * (targets != 2)
    query = 100 * unit * query
    logits = head.episode_logits(support, targets, query, 4, sample_weight=weight)
    assert bool(torch.isfinite(logits).all())
    probabilities = logits.softmax(-1)
    assert bool((logits.argmax(-1) < 2).all())
    assert not bool(probabilities[..., 2:].any())
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.arange(8) % 4)
    for gradient in torch.autograd.grad(loss, [support, weights]):
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("metric", METRICS)
def test_rows_of_zeros_have_finite_values_and_gradients(metric):
    support = torch.zeros(1, 4, 3).double().requires_grad_()
    query = torch.zeros(1, 2, 3).double().requires_grad_()
    targets = torch.tensor([[0, 1, 1, 1]])
    logits = PrototypeHead(metric).episode_logits(support, targets, query, 2)
    assert not bool(logits.any())
    for gradient in torch.autograd.grad(logits.square().sum(), [support, query]):
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("metric", METRICS)
def test_single_precision_and_inputs_are_kept(metric):
    support, targets, _, query = make_tasks()
    tensors = support.float(), targets, query.float()
    before = copy.deepcopy(tensors)
    exact = PrototypeHead(metric).episode_logits(support, targets, query, 3)
    found = PrototypeHead(metric).episode_logits(*tensors, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


def test_weights_are_repetitions():
    X, y, _ = make_data()
    counts = np.random.RandomState(1).randint(0, 4, size=len(X))
    rows = np.repeat(np.arange(len(X)), counts)
    weighted = PrototypeHead().fit(X, y, sample_weight=counts)
    repeated = PrototypeHead().fit(X[rows], y[rows])
    np.testing.assert_allclose(weighted.prototypes_, repeated.prototypes_, **EXACT)


def test_pickle_and_clone():
    X, y, _ = make_data()
    head = PrototypeHead("cosine", temperature=0.3).fit(X, y)
    again = pickle.loads(pickle.dumps(head))
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    assert clone(head).get_params() == head.get_params()


# -- as a base-predictor ----------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "logit_scale"), [("euclidean", 1.0), ("cosine", 10)]
)
def test_it_trains_a_backbone(metric, logit_scale):
    bunch = make_sparse_classes(10, 14, 8, n_factors=6, n_informative=3, random_state=0)
    X, y = bunch.data, bunch.target
    learner = SparseMetaClassifier(
        PrototypeHead(metric),
        net_params={"logit_scale": logit_scale},
        max_epochs=1,
        batches_per_epoch=5,
        verbose=0,
        random_state=0,
    ).fit(X[y < 6], y[y < 6])
    new = np.flatnonzero(y >= 6)
    support, query = new[::2], new[1::2]
    learner.adapt(X[support], y[support])
    assert learner.score(X[query], y[query]) > 0.6
    assert learner.dual_gap_ <= 1e-12
    assert 0 <= learner.sparsity_ < 1
    found = learner.predict_episodes(X[support][None], y[support][None], X[query][None])
    np.testing.assert_array_equal(found[0], learner.predict(X[query]))


# -- errors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"metric": "manhattan"}, "The 'metric' parameter of PrototypeHead must be"),
        ({"temperature": 0.0}, "The 'temperature' parameter of PrototypeHead must be"),
    ],
)
def test_invalid_parameters(keywords, match):
    X, y, _ = make_data()
    head = PrototypeHead(**keywords)
    with pytest.raises(ValueError, match=match):
        head.fit(X, y)
    support, targets, _, query = make_tasks()
    with pytest.raises(ValueError, match=match):
        head.episode_logits(support, targets, query, 3)


def test_invalid_data_leave_the_head_as_it_was():
    X, y, _ = make_data()
    head = PrototypeHead().fit(X, y)
    facts = {name: value for name, value in vars(head).items() if name.endswith("_")}
    names = np.array(["a", "b", "c"])[y]
    with pytest.raises(ValueError, match=r"in every class. Got .* rows of \['b'\]"):
        head.fit(X[:, :3], names, sample_weight=(y != 1).astype(float))
    with pytest.raises(ValueError, match="PrototypeHead needs at least 2 classes"):
        head.fit(X[:, :3], np.zeros(len(X)))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        head.fit(X[:, :3] * np.nan, y)
    assert {n: v for n, v in vars(head).items() if n.endswith("_")} == facts
    support, targets, _, query = make_tasks()
    with pytest.raises(InvalidInputError, match=r"must be class numbers 0\.\.1"):
        head.episode_logits(support, targets, query, 2)
