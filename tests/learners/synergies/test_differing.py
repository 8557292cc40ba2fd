"""In which features a task differs: evidence beside that of all sets by hand."""

import copy
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logsumexp
from scipy.stats import multivariate_normal

from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.learners import SparseMetaClassifier, SparseMetaRegressor
from skcausalmeta.learners._synergies._deviation_prior import learn_prior
from skcausalmeta.learners._synergies._evidence import (
    DeviationPrior,
    LabelledTask,
    search_sets,
    solve_sets,
)
from skcausalmeta.persistence import load, save

P, N = 5, 80
SETS = [own for size in range(P + 1) for own in combinations(range(P), size)]
PRIOR = DeviationPrior(
    share=0.2, variance=2.0, rest=0.05, gain=0.3, gain_variance=0.2, noise=0.4
)


def labelled(real, seed=0, weights=None):
    """A task whose columns 1 and 3 differ, and the common scores less their mean."""
    rng = np.random.default_rng(seed)
    X, c = rng.standard_normal((N, P)), rng.standard_normal(N)
    z = 1.4 * c + 1.5 * X[:, 1] - 2.0 * X[:, 3]
    if real:
        y, known, middle = z + 0.6 * rng.standard_normal(N), c[:, None], np.zeros(1)
        return X, c, y, LabelledTask.of(X, y, known, middle, 0, weights)
    y = (rng.random(N) < expit(z)).astype(int)
    known, middle = np.stack([-c / 2, c / 2], axis=1), np.zeros(2)
    return X, c, y, LabelledTask.of(X, y, known, middle, 2, weights)


def evidence_of_targets(X, c, y, own, weights):
    """The density of all targets at once."""
    some = X[:, list(own)]
    cov = PRIOR.rest * X @ X.T + 9.0 + PRIOR.gain_variance * np.outer(c, c)
    cov += PRIOR.variance * some @ some.T + np.diag(PRIOR.noise / weights)
    return multivariate_normal((1 + PRIOR.gain) * c, cov).logpdf(y)


def evidence_of_classes(X, c, y, own, weights):
    """Laplace for the score of class 1 minus that of class 0."""
    A = np.column_stack([c, np.full(len(c), 2**0.5), 2**0.5 * X[:, list(own)]])
    mean = np.r_[PRIOR.gain, np.zeros(len(own) + 1)]
    precision = np.r_[1 / PRIOR.gain_variance, 1 / 9, [1 / PRIOR.variance] * len(own)]
    sign = 2 * y - 1

    def cost(at):
        z = c + A @ at
        slope = A.T @ (weights * (expit(z) - y)) + precision * (at - mean)
        fit = weights @ np.logaddexp(0, -sign * z)
        return fit + precision @ (at - mean) ** 2 / 2, slope

    found = minimize(cost, mean, jac=True, method="BFGS", options={"gtol": 1e-8})
    share = expit(c + A @ found.x)
    bend = (A.T * (weights * share * (1 - share))) @ A + np.diag(precision)
    return -found.fun + (np.log(precision).sum() - np.linalg.slogdet(bend)[1]) / 2


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_evidence_and_probabilities_of_all_sets(real, weighted):
    weights = np.arange(N) % 3 + 0.5 if weighted else np.ones(N)
    X, c, y, task = labelled(real, weights=weights if weighted else None)
    by_hand = evidence_of_targets if real else evidence_of_classes
    wanted = np.array([by_hand(X, c, y, own, weights) for own in SETS])
    white = task.whitened(PRIOR)
    found = [
        solve_sets(white, np.array([own], dtype=int), PRIOR).log_evidence[0]
        for own in SETS
    ]
    # Newton stops where a step would gain less than 1e-6. A constant apart: that of
    # the normal density, the same for all sets.
    difference = np.array(found) - wanted
    np.testing.assert_allclose(difference, difference[0], atol=1e-3)
    sizes = np.array([len(own) for own in SETS])
    odds = np.log(PRIOR.share / (1 - PRIOR.share))
    posterior = np.exp(wanted + sizes * odds - logsumexp(wanted + sizes * odds))
    inside = np.array([[j in own for j in range(P)] for own in SETS])
    wanted = posterior @ inside
    found = search_sets(task, PRIOR).inclusion(P)
    np.testing.assert_allclose(found, wanted, atol=0.05)
    np.testing.assert_array_equal(found > 0.5, wanted > 0.5)
    assert found[3] > 0.5


@pytest.mark.parametrize("real", [True, False])
def test_rows_without_weight_are_as_if_left_out(real):
    weights = (np.arange(N) % 4 > 0) * 2.0
    X, c, y, task = labelled(real, weights=weights)
    some = weights > 0
    known = c[:, None] if real else np.stack([-c / 2, c / 2], axis=1)
    parts = X[some], y[some], known[some], np.zeros(known.shape[1])
    other = LabelledTask.of(*parts, 0 if real else 2, weights[some])
    found, expected = search_sets(task, PRIOR), search_sets(other, PRIOR)
    np.testing.assert_array_equal(found.inclusion(P), expected.inclusion(P))
    assert np.isfinite(found.inclusion(P)).all()


def test_laplace_is_close_to_the_integral():
    X, c, y, task = labelled(False)
    found = solve_sets(task, np.array([[3]]), PRIOR).log_evidence[0]
    points, heights = np.polynomial.hermite_e.hermegauss(60)
    u = PRIOR.gain + points * PRIOR.gain_variance**0.5
    b, d = 3 * points, points * PRIOR.variance**0.5
    z = (1 + u)[:, None, None, None] * c
    z = z + 2**0.5 * (b[:, None, None] + d[:, None] * X[:, 3])
    logs = -np.logaddexp(0, -(2 * y - 1) * z).sum(axis=-1)
    each = np.log(heights / heights.sum())
    total = logs + each[:, None, None] + each[:, None] + each
    assert found == pytest.approx(logsumexp(total), abs=0.4)


@pytest.mark.parametrize("n_classes", [None, 2, 3])
def test_the_prior_is_that_of_the_tasks(n_classes):
    """Scores are known but for what is asked: a fifth of columns, of this variance."""
    data = make_shared_tasks(30, 60, 10, n_classes=n_classes, noise=1.0, random_state=0)
    center = np.zeros(n_classes or 1)
    tasks = []
    for k in range(30):
        own = np.flatnonzero(data.tasks == k)
        known = data.data[own] @ data.common_coef.reshape(10, -1)
        if n_classes == 2:
            known = np.hstack([-known / 2, known / 2])
        rows = data.data[own], data.target[own]
        tasks.append(LabelledTask.of(*rows, known, center, n_classes or 0))
    prior = learn_prior(tasks)
    # Of two classes each moves by half of 2, times the length of the basis.
    variance = {None: 4.0, 2: 2.0, 3: 2.0}[n_classes]
    # A normal variance takes some columns in that differ by chance.
    assert 0.1 < prior.share < 0.4
    assert prior.variance == pytest.approx(variance, rel=0.4)
    assert abs(prior.gain) < 0.3
    if n_classes is None:
        assert prior.noise == pytest.approx(1.0, rel=0.15)


@pytest.fixture(scope="module", params=[2, 3, None])
def adapted(request):
    """A learner, adapted to a new task that differs in one of five columns."""
    data = make_shared_tasks(
        14, 60, 5, 1, n_classes=request.param, deviation_size=3.0, random_state=0
    )
    make = SparseMetaRegressor if request.param is None else SparseMetaClassifier
    learner = make(
        backbone="identity",
        fit_head=False,
        max_epochs=1,
        batches_per_epoch=2,
        verbose=0,
        random_state=0,
    )
    old, new = data.tasks < 12, data.tasks == 12
    learner.fit(data.data[old], data.target[old], tasks=data.tasks[old])
    X, y = data.data[new], data.target[new]
    return learner.adapt(X, y), X, y, np.flatnonzero(data.support[12])


def test_the_column_of_a_new_task_is_found_also_by_a_saved_learner(adapted, tmp_path):
    learner, X, y, true = adapted
    found = learner.deviation_probabilities_
    assert found.shape == (5,)
    assert (found[true] > 0.9).all()
    assert found.min() < 0.5
    differing = learner.differing_features()
    np.testing.assert_array_equal(np.flatnonzero(found > 0.5), differing)
    save(learner, tmp_path / "learner.skcm")
    again = load(tmp_path / "learner.skcm")
    np.testing.assert_array_equal(again.deviation_probabilities_, found)
    twice = copy.copy(learner).adapt(X, y, sample_weight=np.full(len(y), 2.0))
    repeated = copy.copy(learner).adapt(np.tile(X, (2, 1)), np.tile(y, 2))
    np.testing.assert_allclose(
        twice.deviation_probabilities_, repeated.deviation_probabilities_, atol=1e-6
    )


def test_rows_that_are_changed_afterwards_do_not_matter(adapted):
    learner, X, y, _ = adapted
    wanted = copy.copy(learner).adapt(X, y).differing_features()
    rows = X.copy()
    one = copy.copy(learner).adapt(rows, y)
    rows[:] = 0.0
    np.testing.assert_array_equal(one.differing_features(), wanted)


def test_nothing_differs_without_labels_or_with_one_class(adapted):
    learner, X, y, _ = adapted
    none = copy.copy(learner)
    none.task_ = learner._task_without_labels()
    assert not none.deviation_probabilities_.any()
    assert len(none.differing_features()) == 0
    if hasattr(learner, "training_classes_"):
        one = copy.copy(learner).adapt(X[y == 0], y[y == 0])
        assert not one.deviation_probabilities_.any()


def test_tasks_whose_rows_are_not_kept_are_asked_by_their_head(adapted):
    learner, X, y, _ = adapted
    one = learner.adapt_tasks(X, y, np.full(len(y), "a"))["a"]
    np.testing.assert_array_equal(
        one.differing_features(), one.differing_features(least=0.5)
    )
    with pytest.raises(AttributeError, match="asks the rows of a task"):
        _ = one.deviation_probabilities_
