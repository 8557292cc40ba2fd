"""Evaluation on tasks, each a problem of its own, as a function and as a scorer."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.neighbors import NearestCentroid

from skcausalmeta.episodes import TaskSampler
from skcausalmeta.exceptions import EpisodeError
from skcausalmeta.learners import SparseMetaClassifier, SparseMetaRegressor
from skcausalmeta.model_selection import (
    FewShotReport,
    evaluate_few_shot,
    few_shot_scorer,
)

RNG = np.random.default_rng(0)
N_TASKS, N_ROWS = 8, 30
TASKS = np.repeat([f"customer {k}" for k in range(N_TASKS)], N_ROWS)
X = RNG.normal(size=(len(TASKS), 4))
SLOPES = np.repeat(RNG.normal(size=(N_TASKS, 4)), N_ROWS, axis=0)
VALUES = (X * SLOPES).sum(axis=1)
LABELS = np.where(VALUES > 0, "yes", "no")
SIZES = {"n_shot": 4, "n_query": 3, "n_episodes": 12, "random_state": 0}
SMALL = {
    "n_shot": 4,
    "n_query": 3,
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "verbose": 0,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def learner():
    return SparseMetaClassifier(**SMALL).fit(X, LABELS, tasks=TASKS)


def by_hand(estimator, y, score, **kind):
    """Scores of the same episodes, one by one."""
    sizes = {name: SIZES[name] for name in ("n_shot", "n_query", "random_state")}
    episodes = TaskSampler(TASKS, y, **sizes, **kind).draw(SIZES["n_episodes"])
    scores = []
    for episode in episodes:
        solve = getattr(copy.copy(estimator), "adapt", estimator.fit)
        solved = solve(X[episode.support], y[episode.support])
        scores.append(score(y[episode.query], solved.predict(X[episode.query])))
    return scores, [episode.task for episode in episodes]


def test_a_learner_agrees_with_a_loop_by_hand(learner):
    result = evaluate_few_shot(learner, X, LABELS, tasks=TASKS, **SIZES)
    scores, tasks = by_hand(learner, LABELS, lambda y, found: np.mean(y == found))
    np.testing.assert_array_equal(result.scores, scores)
    assert result.by_episode["task"].tolist() == tasks
    assert (result.n_way, result.n_tasks, result.n_shot) == (None, N_TASKS, 4)


def test_a_plain_classifier_is_fitted_on_the_support():
    result = evaluate_few_shot(NearestCentroid(), X, LABELS, tasks=TASKS, **SIZES)
    scores, _ = by_hand(NearestCentroid(), LABELS, lambda y, f: np.mean(y == f))
    np.testing.assert_array_equal(result.scores, scores)


def test_regressors_are_judged_by_r2():
    sizes = {**SIZES, "n_shot": 10, "n_query": 15}
    result = evaluate_few_shot(LinearRegression(), X, VALUES, tasks=TASKS, **sizes)
    np.testing.assert_allclose(result.scores, 1.0)  # as many rows as unknowns
    assert result.scoring == "r2"
    learner = SparseMetaRegressor(**SMALL).fit(X, VALUES, tasks=TASKS)
    result = evaluate_few_shot(learner, X, VALUES, tasks=TASKS, **SIZES)
    scores, _ = by_hand(learner, VALUES, r2_score, target_type="value")
    np.testing.assert_allclose(result.scores, scores)


def test_text_and_json_name_tasks_and_score(learner):
    sizes = {**SIZES, "tasks": TASKS}
    shares = evaluate_few_shot(learner, X, LABELS, **sizes)
    losses = evaluate_few_shot(learner, X, LABELS, scoring="neg_log_loss", **sizes)
    ending = "(12 episodes of 8 tasks, 4-shot, 95% interval)"
    assert str(shares) == (
        f"{100 * shares.mean:.1f} +- {100 * shares.half_width:.1f}% {ending}"
    )
    assert str(losses) == f"{losses.mean:.3f} +- {losses.half_width:.3f} {ending}"
    record = json.loads(json.dumps(losses.to_dict(), allow_nan=False))
    assert record["n_way"] is None
    assert (record["n_tasks"], record["scoring"]) == (N_TASKS, "neg_log_loss")


@pytest.mark.slow
def test_tasks_of_a_frame_and_of_several_processes(learner):
    table = pd.DataFrame({"label": LABELS, "task": TASKS}, index=range(9, 9 + len(X)))
    alone = evaluate_few_shot(learner, X, LABELS, tasks=TASKS, **SIZES)
    framed = evaluate_few_shot(
        learner, X, table.label, tasks=table.task.astype("category"), n_jobs=2, **SIZES
    )
    np.testing.assert_array_equal(framed.scores, alone.scores)


def test_a_report_of_tasks_counts_the_query_rows(learner):
    report = FewShotReport.from_estimator(learner, X, LABELS, tasks=TASKS, **SIZES)
    assert report.confusion.sum() == 12 * 2 * 3
    right = np.trace(report.confusion) / report.confusion.sum()
    assert right == pytest.approx(report.result.mean)
    assert "% (12 episodes of 8 tasks" in report.to_html()


def test_what_does_not_fit_is_refused(learner):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
        evaluate_few_shot(learner, X, LABELS, tasks=TASKS[:-1])
    with pytest.raises(EpisodeError, match="lower n_shot or n_query, or drop the task"):
        evaluate_few_shot(learner, X, LABELS, tasks=TASKS, n_shot=25)


def test_all_rows_are_one_task_for_a_regressor_without_tasks():
    y = X @ [1.0, 2, 3, 4]
    result = evaluate_few_shot(LinearRegression(), X, y, n_shot=10, n_episodes=4)
    np.testing.assert_allclose(result.scores, 1.0)
    assert result.n_tasks == 1
    scorer = few_shot_scorer(n_shot=10, n_query=None, n_episodes=4)
    assert scorer(LinearRegression(), X, y) == pytest.approx(1.0)


@pytest.mark.parametrize("n_query", [3, None])
def test_the_scorer_is_the_mean_of_the_evaluation(learner, n_query):
    scorer = few_shot_scorer(n_shot=4, n_query=n_query, n_episodes=12)
    counts = pd.crosstab(TASKS, LABELS).to_numpy()
    n_query = n_query or min(15, int(counts.min()) - 4)
    result = evaluate_few_shot(
        learner, X, LABELS, tasks=TASKS, **{**SIZES, "n_query": n_query}
    )
    assert scorer(learner, X, LABELS, tasks=TASKS) == result.mean


def test_the_scorer_counts_the_rows_of_tasks_for_a_regressor():
    scorer = few_shot_scorer(n_shot=20, n_query=None, n_episodes=5)
    assert scorer(LinearRegression(), X, VALUES, tasks=TASKS) == pytest.approx(1.0)


def test_searches_hold_tasks_out_and_pass_them_on():
    head = SparseMetaClassifier(**SMALL, common=None)  # nine fits
    scorer = few_shot_scorer(n_shot=4, n_query=3, n_episodes=6)
    with config_context(enable_metadata_routing=True):
        routed = head.set_fit_request(tasks=True)
        folds = {"tasks": TASKS, "groups": TASKS}
        found = cross_validate(
            routed,
            X,
            LABELS,
            cv=GroupKFold(4),
            scoring=scorer,
            params=folds,
            return_estimator=True,
            return_indices=True,
        )
        search = GridSearchCV(
            routed, {"n_shot": [2, 4]}, cv=GroupKFold(2), scoring=scorer
        ).fit(X, LABELS, **folds)
    assert set(search.cv_results_["param_n_shot"]) == {2, 4}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    parts = zip(
        found["estimator"],
        found["indices"]["train"],
        found["indices"]["test"],
        found["test_score"],
        strict=True,
    )
    for fitted, train, test, score in parts:
        assert not set(TASKS[train]) & set(TASKS[test])
        assert score == scorer(fitted, X[test], LABELS[test], tasks=TASKS[test])


def test_without_tasks_a_search_is_over_classes():
    y = np.repeat(np.arange(12), 20)
    scorer = few_shot_scorer(n_way=3, n_shot=4, n_query=3, n_episodes=6)
    with config_context(enable_metadata_routing=True):
        found = cross_validate(
            NearestCentroid(), X, y, cv=2, scoring=scorer, return_indices=True
        )
    for test, score in zip(found["indices"]["test"], found["test_score"], strict=True):
        sizes = {"n_way": 3, "n_shot": 4, "n_query": 3, "n_episodes": 6}
        drawn = evaluate_few_shot(
            NearestCentroid(), X[test], y[test], random_state=0, **sizes
        )
        assert score == drawn.mean
