"""The benchmark of tables: its jobs, scores and simple methods, against outsiders."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.tables import _offsets as offsets
from benchmarks.tables._contenders import CONTENDERS, SIMPLE
from benchmarks.tables._data import groups_of, small_table
from benchmarks.tables._jobs import Choice, Train, digest, divide
from benchmarks.tables._package import Package
from benchmarks.tables._pooled import Pooled
from benchmarks.tables._scores import (
    IN_USE,
    auc,
    balanced_accuracy,
    excess_share,
    run_jobs,
    score,
)
from benchmarks.tables._search import best_on_grid, choose_by_shots, nearest
from benchmarks.tables._summary import best_simple, by_task, differences

RNG = np.random.default_rng(0)
NAMES = ("tox21", "wisdm", "school")


def rows_of(table, jobs):
    return np.concatenate([rows for job in jobs for rows in job.support.values()])


@pytest.mark.parametrize("natural", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_supports_are_nested_and_apart_from_query_and_training(name, natural):
    table = small_table(name)
    train, jobs = divide(table, 1, 3, Choice(natural), 1)
    assert len(jobs) == 3 * table.n_new
    assert not set(table.tasks[train.index]) & {job.task for job in jobs}
    for job in jobs:
        few, many = (set(job.support[k]) for k in table.shots)
        assert few < many
        assert not many & set(job.query)
        assert len(many) + len(job.query) == (table.tasks == job.task).sum()
        assert set(table.tasks[[*many, *job.query]]) == {job.task}
    inner = {job.task for job in train.inner_jobs}
    assert inner <= set(table.tasks[train.index])
    assert not inner & set(table.tasks[train.inner_index])


def test_labels_are_counted_by_class_or_by_natural_shares():
    table = small_table("tox21")
    for natural in (False, True):
        _, jobs = divide(table, 0, 1, Choice(natural), 1)
        counts = np.array(
            [np.bincount(table.y[job.support[3]], minlength=2) for job in jobs]
        )
        assert (counts == 3).all() != natural
        assert (counts.sum(axis=1) == 6).all()


def test_a_job_without_query_rows_has_no_score():
    table = small_table("tox21")
    _, jobs = divide(table, 0, 1, Choice(), 1)
    empty = replace(jobs[0], query=jobs[0].query[:0])

    def first_column(rows):
        if not len(rows):  # as scikit-learn does
            raise ValueError("Found array with 0 sample(s)")
        return rows[:, 0].astype(float)

    model = Pooled(first_column, None)
    found, _ = run_jobs(model, table, [empty, *jobs[1:]], (0, 3), more=False)
    for scores in found["AUC"].values():
        assert np.isnan(scores[0])
        assert np.isfinite(scores[1:]).all()


def test_the_features_in_which_a_task_deviates_are_counted():
    class Learner:
        common_, used = "of all tasks", 0

        def adapt(self, X, y):
            self.used = len(y) // 2  # as many as labels of a class
            return self

        @property
        def support_features_(self):
            return np.arange(self.used)

        @property
        def deviation_(self):
            return np.zeros((2, 10))

        def decision_function(self, X):
            return np.zeros(len(X))

    table = small_table("tox21")
    _, jobs = divide(table, 0, 1, Choice(), 1)
    model = Package(Learner(), "binary", 2, True)
    found, _ = run_jobs(model, table, jobs, (0, 1, 3), more=False)
    n_jobs = len(jobs)
    assert found[IN_USE] == {1: [0.1] * n_jobs, 3: [0.3] * n_jobs}
    assert model.learner.used == 0


def test_jobs_are_the_same_again_and_others_for_another_split():
    table = small_table("wisdm")
    first, again, other = (
        digest(divide(table, split, 2, Choice(), 1)[1]) for split in (0, 0, 1)
    )
    assert first == again != other


def test_no_molecule_of_the_training_is_asked_for():
    table = small_table("tox21")
    # Half of the items occur twice, in tasks far apart.
    table = replace(table, source=table.source % (len(table.X) // 2))
    for disjoint in (False, True):
        train, jobs = divide(table, 0, 2, Choice(disjoint=disjoint), 1)
        groups = groups_of(table.X)[table.source]
        asked = np.concatenate([groups[job.query] for job in jobs])
        assert np.isin(asked, groups[train.index]).any() != disjoint
        if disjoint:
            assert not np.isin(asked, groups[rows_of(table, jobs)]).any()
            assert all(len(job.query) for job in jobs)


def test_rows_that_differ_are_weighted_like_all_rows():
    table = small_table("tox21")
    table = replace(table, source=table.source % 20)
    train, _ = divide(table, 0, 1, Choice(), 1)
    X, y, weight = train.merged(inner=False)
    rows, labels, _ = train.rows(inner=False)
    assert len(X) < len(rows) == weight.sum()
    whole = LogisticRegression(tol=1e-8).fit(rows, labels)
    short = LogisticRegression(tol=1e-8).fit(X, y, weight)
    np.testing.assert_allclose(short.coef_, whole.coef_, atol=1e-4)


def test_training_rows_of_a_class_can_be_bounded():
    table = replace(small_table("tox21"), max_train=4)
    train, _ = divide(table, 0, 1, Choice(), 1)
    pairs = np.column_stack([table.tasks[train.index], table.y[train.index]])
    assert np.unique(pairs, axis=0, return_counts=True)[1].max() == 4


def test_scores_are_those_of_scikit_learn():
    y, scores = RNG.integers(2, size=60), RNG.integers(-4, 5, size=60) / 2
    assert auc(y, scores) == pytest.approx(roc_auc_score(y, scores))
    wanted = balanced_accuracy_score(y, scores > 0)
    assert balanced_accuracy(y, scores) == pytest.approx(wanted)
    assert excess_share(y, np.zeros(60)) == pytest.approx(0.5 - y.mean())
    assert score("regression", y, y + 2.0) == pytest.approx(2.0)
    assert np.isnan(auc(np.ones(3), np.ones(3)))


@pytest.fixture
def regression():
    table = small_table("school")
    return divide(table, 0, 1, Choice(), 1)


def test_a_ridge_with_the_support_is_the_ridge_of_all_rows(regression):
    train, (job, *_) = regression
    table = train.table
    model = offsets.fit_refit(train)
    model.weight = 3.0
    X, y, _ = train.rows(inner=False)
    support = job.support[10]
    scaler = StandardScaler().fit(X)
    rows = np.concatenate([X, table.rows(support)])
    weight = np.repeat([1.0, 3.0], [len(X), len(support)])
    targets = np.concatenate([y, table.y[support]])
    strength = train.kept["linear"]
    wanted = Ridge(strength, tol=1e-10).fit(scaler.transform(rows), targets, weight)
    query = table.rows(job.query)
    found = model.predict_job(table.rows(support), table.y[support], query)
    # The intercept of the ridge is free, that of the refit has a prior of 1e-6.
    np.testing.assert_allclose(
        found, wanted.predict(scaler.transform(query)), rtol=1e-4, atol=1e-4
    )


def test_a_logistic_refit_is_near_that_of_all_rows():
    X = RNG.standard_normal((4000, 3))
    y = (X @ [1.0, -2.0, 0.5] + RNG.logistic(size=4000) > 0).astype(int)
    A = np.column_stack([np.ones(4000), X])
    penalty = np.diag([1e-6, 1.0, 1.0, 1.0])
    coef, inverse = offsets.newton(A, y == 1, np.ones(4000), penalty)
    plain = LogisticRegression(C=1.0, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(coef, [*plain.intercept_, *plain.coef_[0]], atol=1e-3)
    model = offsets.Refit([(coef, inverse)], ("binary", lambda X: _with_one(X)), 20.0)
    own, labels = RNG.standard_normal((12, 3)), np.tile([0, 1], 6)
    weight = np.repeat([1.0, 20.0], [4000, 12])
    both = LogisticRegression(C=1.0, tol=1e-8).fit(
        np.r_[X, own], np.r_[y, labels], weight
    )
    found = model.predict_job(own, labels, X[:50])
    moved = np.abs(both.decision_function(X[:50]) - plain.decision_function(X[:50]))
    error = np.abs(found - both.decision_function(X[:50]))
    assert error.max() < 0.1 * moved.max()


def _with_one(X):
    return np.column_stack([np.ones(len(X)), X])


def test_intercepts_of_classes_are_the_penalised_optimum():
    scores, labels = RNG.standard_normal((20, 4)), RNG.integers(4, size=20)

    def loss(move):
        moved = scores + move
        own = moved[np.arange(20), labels]
        return np.sum(np.log(np.exp(moved).sum(axis=1)) - own) + move @ move / 1.4

    found = offsets.class_intercepts(scores, labels, 0.7)
    np.testing.assert_allclose(found, minimize(loss, np.zeros(4)).x, atol=1e-4)


def test_an_offset_of_a_binary_task_is_that_of_its_two_classes():
    pooled = Pooled(lambda X: X[:, 0], None)
    model = offsets.ShrunkOffset(pooled, "binary", 0.5)
    X, labels = RNG.standard_normal((9, 1)), np.array([0, 0, 1, 0, 0, 0, 1, 0, 0])

    def loss(move):
        z = X[:, 0] + move[0]
        return np.sum(np.log1p(np.exp(z)) - labels * z) + move[0] ** 2 / (8 * 0.5)

    shift = model.predict_job(X, labels, X) - X[:, 0]
    np.testing.assert_allclose(shift, minimize(loss, [0.0]).x[0], atol=1e-4)


def test_variances_are_recovered():
    tasks = np.repeat(np.arange(300), 20)
    values = RNG.normal(scale=2.0, size=300)[tasks] + RNG.normal(scale=3.0, size=6000)
    between, within = offsets.variances(values, tasks)
    assert between == pytest.approx(4.0, rel=0.2)
    assert within == pytest.approx(9.0, rel=0.05)


def test_the_mixed_model_has_the_largest_likelihood(regression):
    train, (job, *_) = regression
    table = train.table
    model = offsets.fit_mixed(train)
    X, y, tasks = train.rows(inner=False)
    A = np.column_stack([np.ones(len(X)), X]).astype(float)
    same = (tasks[:, None] == tasks).astype(float)

    def loss(logs):
        between, within = np.exp(logs)
        cov = between * same + within * np.eye(len(y))
        solved = np.linalg.solve(cov, A)
        coef = np.linalg.solve(A.T @ solved, solved.T @ y)
        return -multivariate_normal.logpdf(y - A @ coef, cov=cov)

    found = np.log(model.variance)
    best = minimize(loss, found, method="Nelder-Mead")
    assert loss(found) <= best.fun + 1e-2
    support, query = job.support[10], table.rows(job.query)
    own = table.y[support] - model.pooled.predict(table.rows(support))
    between, within = model.variance
    shift = own.mean() * between / (between + within / 10)
    np.testing.assert_allclose(
        model.predict_job(table.rows(support), table.y[support], query),
        model.pooled.predict(query) + shift,
    )


class Constant:
    """Scores that are right by the nearness of a value to one that fits k labels."""

    uses_labels, zero_labels = True, False

    def __init__(self, wanted, value):
        self.wanted, self.value = wanted, value

    def predict_job(self, support, labels, query):
        distance = abs(np.log(self.value / self.wanted[len(labels)]))
        return np.full(len(query), 100.0 + distance)


def test_a_grid_is_widened_where_its_end_is_best(regression):
    train, _ = regression
    wanted = {5: 1000.0, 10: 1.0}
    grid = (0.1, 1.0, 10.0)
    chosen, _ = choose_by_shots(train, lambda v: Constant(wanted, v), grid)
    assert chosen == {5: pytest.approx(1000.0), 10: pytest.approx(1.0)}
    how = {"limits": (0, 150)}
    chosen, _ = choose_by_shots(train, lambda v: Constant(wanted, v), grid, **how)
    assert chosen[5] == pytest.approx(100.0)
    assert nearest(chosen, 7.5) == pytest.approx(chosen[10])
    best = best_on_grid(lambda v: -abs(np.log(v / 200.0)), grid)
    assert best == pytest.approx(100.0)


def line(name, split, scores, seed=0, supports=2):
    settings = {"contender": name, "split": split, "seed": seed, "supports": supports}
    return {"settings": settings, "result": {"scores": {"AUC": scores}}}


def test_a_task_counts_once_and_is_paired():
    nan = float("nan")
    lines = [
        line("a", 0, {"1": [0.5, 0.7, 0.9, nan]}),
        line("a", 0, {"1": [0.7, 0.9, 0.9, nan]}, seed=1),
        line("a", 1, {"1": [1.0, 1.0]}),
        line("b", 0, {"0": [0.6, 0.6, 0.6, 0.6], "1": [0.5, 0.5, nan, nan]}),
    ]
    scores = by_task(lines, "AUC")
    wanted = {(0, 0): pytest.approx(0.7), (0, 1): 0.9, (1, 0): 1.0}
    assert scores["a"]["1"] == wanted
    assert best_simple(scores, ["a", "b"], True) == {"0": "b", "1": "a"}
    assert best_simple(scores, ["a", "b"], False) == {"0": "b", "1": "b"}
    assert best_simple(scores, ["c"], False) == {}
    lead = differences(scores["a"]["1"], scores["b"]["1"])
    assert lead == {(0, 0): pytest.approx(0.2)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("natural", [False, True])
def test_every_simple_method_answers_every_job(name, natural):
    table = small_table(name)
    choice = Choice(natural)
    _, jobs = divide(table, 0, 1, choice, 1)
    index = np.flatnonzero(~np.isin(table.tasks, [job.task for job in jobs]))
    train = Train(table, index, choice, 0, 1, brief=True)
    shape = (table.n_classes,) if table.kind == "classes" else ()
    for contender in map(CONTENDERS.get, SIMPLE):
        if not contender.enters(table.kind, choice):
            continue
        model = contender.fit(train)
        job = jobs[0]
        for k in (0,) * model.zero_labels + table.shots:
            rows = job.support[k] if k else job.query[:0]
            query = table.rows(job.query)
            found = model.predict_job(table.rows(rows), table.y[rows], query)
            assert found.shape == (len(job.query), *shape)
            assert np.isfinite(found).all()


def test_pooled_linear_is_the_pipeline_of_scikit_learn(regression):
    train, (job, *_) = regression
    model = CONTENDERS["pooled linear"].fit(train)
    X, y, _ = train.rows(inner=False)
    plain = make_pipeline(StandardScaler(), Ridge(model.chosen)).fit(X, y)
    query = train.table.rows(job.query)
    np.testing.assert_allclose(
        model.predict_job(None, None, query), plain.predict(query), atol=1e-5
    )
