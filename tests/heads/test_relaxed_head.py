"""RelaxedHead against scikit-learn and against its second head on fewer columns."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError
from torch.autograd import gradcheck

from skcausalmeta import persistence
from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    PrototypeHead,
    RelaxedHead,
    RidgeHead,
)
from skcausalmeta.learners import SparseMetaClassifier

EXACT = {"rtol": 1e-9, "atol": 1e-9}
HEADS = {
    "prototypes": PrototypeHead(),
    "cosine": PrototypeHead("cosine", temperature=0.5),
    "ridge": RidgeHead(0.3),
    "svc": GroupLassoSVC(0.0, 0.1, solver="newton", tol=1e-12),
}
of_all_heads = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())


def selector(group_reg=0.4, ridge_reg=0.1):
    return GroupLassoSVC(group_reg, ridge_reg, solver="newton", tol=1e-10)


def make_data(n_samples=40, n_features=12, n_classes=3, seed=0):
    """Four of the features tell the classes apart; uneven row weights."""
    rng = np.random.RandomState(seed)
    y = np.arange(n_samples) % n_classes
    X = rng.randn(n_samples, n_features)
    X[:, :4] += 2 * rng.randn(n_classes, 4)[y]
    return X, y, rng.uniform(0.5, 2.0, n_samples)


def make_tasks(n_tasks=3, n_rows=9, n_query=2):
    """Support rows, labels, weights and query rows of tasks; float64."""
    tasks = [make_data(n_rows + n_query, 8, seed=seed) for seed in range(n_tasks)]
    parts = zip(*tasks, strict=True)
    X, y, weights = (torch.from_numpy(np.array(part)) for part in parts)
    return X[:, :n_rows], y[:, :n_rows], weights[:, :n_rows], X[:, n_rows:]


def chosen(support, labels, weights, number):
    """Features that the selector keeps in a task, by `fit`."""
    fitted = selector().fit(support[number], labels[number], weights[number])
    return torch.from_numpy(fitted.support_features_)


# -- against outsiders ------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_it_is_scikit_learns_selection_and_nearest_centroid(n_classes):
    X, y, _ = make_data(90, n_classes=n_classes)
    names = np.array(list("fbdac"))[y]
    chooses = SelectFromModel(selector(), threshold=1e-12, norm_order=2)
    peer = make_pipeline(chooses, NearestCentroid()).fit(X[:45], names[:45])
    head = RelaxedHead(selector()).fit(X[:45], names[:45])
    used = peer[0].get_support(indices=True)
    assert 0 < len(used) < X.shape[1]
    np.testing.assert_array_equal(head.support_features_, used)
    np.testing.assert_array_equal(head.predict(X), peer.predict(X))
    assert head.sparsity_ == pytest.approx(1 - len(used) / X.shape[1])


@of_all_heads
def test_the_second_head_sees_the_chosen_columns_only(head):
    support, labels, weights, query = make_tasks()
    relaxed = RelaxedHead(selector(), head)
    given = {"sample_weight": weights}
    logits = relaxed.episode_logits(support, labels, query, 3, **given)
    solution = relaxed.solve_episodes(support, labels, 3, **given)
    sizes = set()
    for k in range(len(support)):
        used, task = chosen(support, labels, weights, k), slice(k, k + 1)
        sizes.add(tuple(used.tolist()))
        expected = head.episode_logits(
            support[task][..., used],
            labels[task],
            query[task][..., used],
            3,
            sample_weight=weights[task],
        )
        np.testing.assert_allclose(logits[task], expected, **EXACT)
        found = solution.coef[k].abs().sum(-1).nonzero()[:, 0]
        assert found.tolist() == used.tolist()
    assert len(sizes) == len(support)  # every task has features of its own


@of_all_heads
def test_fit_and_the_layer_agree(head):
    X, y, weights = make_data(60)
    relaxed = RelaxedHead(selector(), head).fit(X[:40], y[:40], weights[:40])
    inputs = (torch.from_numpy(part)[None] for part in (X[:40], y[:40], X[40:]))
    given = {"sample_weight": torch.from_numpy(weights[None, :40])}
    logits = relaxed.episode_logits(*inputs, 3, **given)[0].numpy()
    np.testing.assert_allclose(relaxed.decision_function(X[40:]), logits, atol=1e-6)
    np.testing.assert_array_equal(relaxed.predict(X[40:]), logits.argmax(1))
    assert relaxed.dual_gap_ == relaxed.selector_.dual_gap_


# -- limits -------------------------------------------------------------------------


@of_all_heads
def test_without_a_group_lasso_it_is_the_second_head(head):
    support, labels, weights, query = make_tasks()
    given = {"sample_weight": weights}
    relaxed = RelaxedHead(selector(0.0), head)
    expected = head.episode_logits(support, labels, query, 3, **given)
    found = relaxed.episode_logits(support, labels, query, 3, **given)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    X, y, _ = make_data()
    expected = clone(head).fit(X, y).decision_function(X)
    np.testing.assert_array_equal(relaxed.fit(X, y).decision_function(X), expected)


def test_without_any_feature_all_rows_have_the_same_scores():
    X, y, _ = make_data()
    head = RelaxedHead(selector(1.2)).fit(X, y)
    assert head.support_features_.tolist() == []
    assert head.sparsity_ == 1.0
    assert len(np.unique(head.decision_function(X))) == 1
    support, labels, _, query = make_tasks()
    logits = RelaxedHead(selector(1.2)).episode_logits(support, labels, query, 3)
    assert bool((logits == logits[:1, :1, :1]).all())


def test_the_weights_are_not_shrunk():
    """On the same features the second solution is closer to the rows' margins."""
    X, y, _ = make_data(60)
    sparse = selector(0.6).fit(X, y)
    dense = GroupLassoSVC(0.0, 0.1, solver="newton")
    head = RelaxedHead(selector(0.6), dense).fit(X, y)
    np.testing.assert_array_equal(head.support_features_, sparse.support_features_)
    norms = np.linalg.norm(sparse.coef_), np.linalg.norm(head.head_.coef_)
    assert norms[0] < 0.8 * norms[1]
    np.testing.assert_array_equal(
        head.coef_[:, head.support_features_],
        head.head_.coef_[:, head.support_features_],
    )
    np.testing.assert_array_equal(head.intercept_, head.head_.intercept_)


# -- gradients ----------------------------------------------------------------------


@of_all_heads
def test_the_gradient_is_that_of_finite_differences(head):
    support, labels, weights, query = make_tasks(1)
    relaxed = RelaxedHead(selector(), head)

    def logits(support, query, weights):
        given = {"sample_weight": weights}
        return relaxed.episode_logits(support, labels, query, 3, **given)

    inputs = tuple(part.clone().requires_grad_() for part in (support, query, weights))
    assert gradcheck(logits, inputs, eps=1e-6, atol=1e-5, fast_mode=True)


def test_features_that_are_not_used_get_no_gradient():
    support, labels, weights, query = make_tasks()
    support.requires_grad_()
    logits = RelaxedHead(selector()).episode_logits(
        support, labels, query, 3, sample_weight=weights
    )
    logits[..., 0].sum().backward()
    for k in range(len(support)):
        used = chosen(support.detach(), labels, weights, k)
        moved = support.grad[k].abs().sum(0).nonzero()[:, 0]
        assert moved.tolist() == used.tolist()


# -- as an estimator ----------------------------------------------------------------


def test_parameters_of_both_parts_are_reached_by_their_names():
    head = RelaxedHead(selector(), RidgeHead())
    head.set_params(selector__group_reg=0.7, head__ridge_reg=3.0)
    copied = clone(head)
    assert copied.selector.group_reg == 0.7
    assert copied.head.ridge_reg == 3.0
    X, y, _ = make_data()
    fitted = copied.fit(X, y)
    assert fitted.selector_ is not fitted.selector
    assert not hasattr(fitted.selector, "coef_")


def test_the_default_is_a_group_lasso_svc_and_prototypes():
    X, y, _ = make_data()
    head = RelaxedHead().fit(X, y)
    expected = RelaxedHead(GroupLassoSVC(solver="newton"), PrototypeHead()).fit(X, y)
    np.testing.assert_array_equal(head.predict_proba(X), expected.predict_proba(X))


def test_probabilities_are_there_if_the_second_head_has_them():
    assert hasattr(RelaxedHead(), "predict_proba")
    assert hasattr(RelaxedHead(head=PrototypeHead()), "predict_proba")
    assert not hasattr(RelaxedHead(head=RidgeHead()), "predict_proba")
    X, y, _ = make_data()
    head = RelaxedHead(GroupLassoLogistic(0.2)).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X).sum(1), 1.0)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"selector": LogisticRegression()}, "selector"),
        ({"selector": 0.3}, "selector"),
        ({"head": NearestCentroid()}, "head"),
    ],
)
def test_parts_that_are_no_heads_are_refused(params, name):
    X, y, _ = make_data()
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter"):
        RelaxedHead(**params).fit(X, y)
    support, labels, _, query = make_tasks()
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter"):
        RelaxedHead(**params).episode_logits(support, labels, query, 3)


def test_a_refused_fit_leaves_it_as_it_was():
    X, y, _ = make_data()
    head = RelaxedHead(selector()).fit(X, y)
    before = head.predict(X)
    broken = X.copy()
    broken[3, 2] = np.nan
    for rows, labels in ((broken, y), (X, np.zeros(len(y))), (X[:, :3], y[:-1])):
        with pytest.raises(ValueError, match=r"NaN|2 classes|inconsistent"):
            head.fit(rows, labels)
    np.testing.assert_array_equal(head.predict(X), before)
    with pytest.raises(ValueError, match="12 features"):
        head.predict(X[:, :3])
    support, labels, _, query = make_tasks()
    with pytest.raises(InvalidInputError, match=r"0\.\.2"):
        head.episode_logits(support, labels + 1, query, 3)


# -- in a learner -------------------------------------------------------------------


BUNCH = make_sparse_classes(10, 14, 8, n_factors=6, n_informative=3, random_state=0)
OLD, NEW = BUNCH.target < 6, BUNCH.target >= 6


@pytest.fixture(scope="module")
def learner():
    return SparseMetaClassifier(
        RelaxedHead(selector(0.5)),
        n_way=3,
        n_shot=3,
        n_query=4,
        max_epochs=2,
        batches_per_epoch=5,
        tasks_per_batch=2,
        verbose=0,
        random_state=0,
    ).fit(BUNCH.data[OLD], BUNCH.target[OLD])


@pytest.fixture(scope="module")
def rows():
    """Support and query rows of the new classes."""
    X, y = BUNCH.data[NEW], BUNCH.target[NEW]
    first = np.concatenate([np.flatnonzero(y == c)[:4] for c in np.unique(y)])
    rest = np.setdiff1d(np.arange(len(y)), first)
    return X[first], y[first], X[rest], y[rest]


def test_a_learner_adapts_with_few_features(learner, rows):
    X, y, query, labels = rows
    adapted = copy.copy(learner).adapt(X, y)
    assert 0 < len(adapted.support_features_) < learner.n_features_out_
    assert adapted.sparsity_ > 0
    assert adapted.dual_gap_ >= 0
    assert adapted.score(query, labels) > 0.5
    many = learner.predict_episodes(X[None], y[None], query[None])[0]
    np.testing.assert_array_equal(many, adapted.predict(query))


def test_a_learner_with_it_is_copied_pickled_and_saved(learner, rows, tmp_path):
    X, y, query, _ = rows
    adapted = copy.copy(learner).adapt(X, y)
    expected = adapted.decision_function(query)
    path = tmp_path / "learner.skcm"
    persistence.save(adapted, path)
    for again in (pickle.loads(pickle.dumps(adapted)), persistence.load(path)):
        np.testing.assert_array_equal(again.decision_function(query), expected)
        assert again.sparsity_ == adapted.sparsity_
        assert again.get_params()["head__selector__group_reg"] == 0.5
