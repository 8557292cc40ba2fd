"""Ids of tasks and environments in any form: as one column, or refused by name."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.episodes import EpisodeSampler, TaskSampler, make_sampler
from skcausalmeta.heads import GroupLassoLogistic, LassoHead, RidgeHead
from skcausalmeta.inspection import (
    AdaptationCurveDisplay,
    DeviationDisplay,
    EnvironmentScoreDisplay,
    FactorDisplay,
    SupportDisplay,
)
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    MTCRLClassifier,
    SparseMetaClassifier,
    SparseMetaRegressor,
    rows_by_task,
)
from skcausalmeta.metrics import environment_scores, worst_environment_score
from skcausalmeta.model_selection import evaluate_few_shot, few_shot_scorer

RNG = np.random.default_rng(0)
Y = np.tile([0, 1, 2], 16)
IDS = np.repeat(np.arange(4), 12)
X = RNG.standard_normal((48, 5)) + 4 * np.eye(3, 5)[Y]
SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 1,
    "tasks_per_batch": 1,
    "verbose": 0,
    "random_state": 0,
}
LINEAR = {**SMALL, "backbone": "identity", "common": "linear"}
DRAWN = {"n_way": 2, "n_shot": 1, "n_query": 1}
FEW = {**DRAWN, "n_episodes": 1, "random_state": 0}
MAKERS = {
    "own": lambda: SparseMetaClassifier(
        RidgeHead(), shared_labels=False, common=None, **SMALL
    ),
    "common": lambda: SparseMetaClassifier(
        GroupLassoLogistic(), shared_labels=True, **LINEAR
    ),
    "values": lambda: SparseMetaRegressor(LassoHead(), **LINEAR),
    "maml": lambda: MAMLClassifier(inner_steps=1, **SMALL),
    "factors": lambda: MetaCRLClassifier(
        MAMLClassifier(inner_steps=1, **SMALL), task_embedding="mean"
    ),
    "multi": lambda: MTCRLClassifier(max_epochs=1, random_state=0),
}


def _y(name):
    return X[:, 0] if name == "values" else Y


def _state(learner):
    learner = getattr(learner, "estimator_", learner)
    return [value.numpy() for value in learner.net_.module_.state_dict().values()]


@pytest.fixture(scope="module")
def fitted():
    found = {}
    for name, make in MAKERS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = make().fit(X, _y(name), tasks=IDS)
    found["solved"] = found["common"].adapt_tasks(X, Y, IDS)
    found["pipeline"] = make_meta_pipeline(MAKERS["common"]()).fit(
        X, Y, sparsemetaclassifier__tasks=IDS
    )
    return found


def _picture(display, *names):
    return [np.asarray(getattr(display, name)) for name in names]


def _episode(sampler):
    return [*next(iter(sampler.draw(1)))[:2]]


# Whatever takes ids of tasks, by what it returns of them.
TASKS = {
    **{
        f"fit {name}": lambda t, f, name=name: _state(
            MAKERS[name]().fit(X, _y(name), tasks=t)
        )
        for name in MAKERS
    },
    "predict multi": lambda t, f: f["multi"].predict(X, tasks=t),
    "score multi": lambda t, f: f["multi"].score(X, Y, tasks=t),
    "score_tasks": lambda t, f: f["multi"].score_tasks(X, Y, tasks=t),
    "predict": lambda t, f: f["common"].predict(X, tasks=t),
    "predict values": lambda t, f: f["values"].predict(X, tasks=t),
    "predict_proba": lambda t, f: f["common"].predict_proba(X, tasks=t),
    "decision_function": lambda t, f: f["common"].decision_function(X, tasks=t),
    "score": lambda t, f: f["common"].score(X, Y, tasks=t),
    "adapt_tasks": lambda t, f: f["common"].adapt_tasks(X, Y, t).ids_,
    "adapt_tasks singly": lambda t, f: f["own"].adapt_tasks(X, Y, t).ids_,
    "pipeline": lambda t, f: f["pipeline"].adapt_tasks(X, Y, t).ids_,
    "rows_by_task": lambda t, f: next(rows_by_task(X, Y, t, 9)).ids,
    "solved predict": lambda t, f: f["solved"].predict(X, t),
    "solved proba": lambda t, f: f["solved"].predict_proba(X, t),
    "solved score": lambda t, f: f["solved"].score(X, Y, t),
    "update": lambda t, f: copy.copy(f["solved"]).update(X, Y, t).ids_,
    "evaluate": lambda t, f: evaluate_few_shot(f["own"], X, Y, tasks=t, **FEW).scores,
    "scorer": lambda t, f: few_shot_scorer(**FEW)(f["own"], X, Y, tasks=t),
    "scorer, most": lambda t, f: few_shot_scorer(**{**FEW, "n_query": None})(
        f["own"], X, Y, tasks=t
    ),
    "TaskSampler": lambda t, f: TaskSampler(t, Y, n_shot=1, n_query=1).task_ids,
    "make_sampler": lambda t, f: (
        make_sampler(Y, t, regression=False, random_state=0, **DRAWN).task_ids
    ),
    "curve": lambda t, f: _picture(
        AdaptationCurveDisplay.from_estimator(f["maml"], X, Y, tasks=t, **FEW), "scores"
    ),
    "supports": lambda t, f: _picture(
        SupportDisplay.from_estimator(f["own"], X, Y, tasks=t), "task_names"
    ),
    "factors": lambda t, f: _picture(
        FactorDisplay.from_estimator(f["factors"], X, t), "task_names"
    ),
    "deviations": lambda t, f: _picture(
        DeviationDisplay.from_estimator(f["common"], X, Y, t, score=0), "task_names"
    ),
}
ENVS = {
    "fit": lambda t, f: _state(
        MAKERS["own"]().set_params(across_envs=True).fit(X, Y, tasks=Y % 1, envs=t)
    ),
    "fit multi": lambda t, f: _state(MAKERS["multi"]().fit(X, Y, tasks=IDS, envs=t)),
    "adapt": lambda t, f: copy.copy(f["multi"]).adapt(X, Y, envs=t).predict(X),
    "EpisodeSampler": lambda t, f: (
        EpisodeSampler(Y, envs=t, random_state=0, **DRAWN).classes_
    ),
    "TaskSampler": lambda t, f: (
        TaskSampler(Y % 1, Y, envs=t, n_shot=1, n_query=1, random_state=0).task_ids
    ),
    "scores": lambda t, f: list(environment_scores(Y, Y, t)),
    "worst": lambda t, f: worst_environment_score(Y, Y, t),
    "picture": lambda t, f: _picture(
        EnvironmentScoreDisplay.from_predictions(Y, Y, t), "worst"
    ),
}
CALLS = [
    *(pytest.param("tasks", call, id=f"tasks, {name}") for name, call in TASKS.items()),
    *(pytest.param("envs", call, id=f"envs, {name}") for name, call in ENVS.items()),
]
COLUMNS = {
    "column": IDS[:, None],
    "frame": pd.DataFrame({"task": IDS}),
    "list": [[one] for one in IDS.tolist()],
    "nullable": pd.Series(IDS, dtype="Int64"),
    "categories": pd.Series(pd.Categorical(IDS)),
}
NO_COLUMNS = {
    "two columns": np.c_[IDS, IDS],
    "a row": IDS[None],
    "three axes": IDS[:, None, None],
    "pairs": list(zip(IDS.tolist(), IDS.tolist(), strict=True)),
    "uneven": [[1], [1, 2]] * 24,
    "sparse": sparse.csr_array(IDS[:, None]),
    "dict": dict(enumerate(IDS)),
    "one too few": IDS[:-1],
    "text": "task",
}
NOT_ONE_TYPE = {
    "numbers and text": [1, "1"] * 24,
    "masked": np.ma.masked_equal(IDS, 3),
    "NA": pd.Series([pd.NA, *IDS[1:]], dtype="Int64"),
}


@pytest.fixture(autouse=True)
def quiet():
    plt = pytest.importorskip("matplotlib.pyplot")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    plt.close("all")


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_one_column_is_a_column(fitted, name, call):
    expected = call(IDS, fitted)
    for form, ids in COLUMNS.items():
        assert _same(call(ids, fitted), expected), form


def _same(one, other):
    if isinstance(one, list):
        return all(map(_same, one, other))
    return bool(np.all(np.asarray(one) == np.asarray(other)))


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_anything_else_is_refused_by_name(fitted, name, call):
    for ids in {**NO_COLUMNS, **NOT_ONE_TYPE}.values():
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            call(ids, fitted)


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_pairs_of_an_index_are_ids(fitted, name, call):
    pairs = pd.MultiIndex.from_arrays([IDS, IDS])
    told = ""
    try:
        assert call(pairs, fitted) is not None
    except ValueError as error:  # where ids are numbers already
        told = str(error)
    assert "numbers" in told or "seen in fit" in told or not told
