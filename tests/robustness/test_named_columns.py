"""Tables of pandas whose names or labels are there twice, or look as if they were."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold, KFold, cross_val_score

from skcausalmeta.heads import GroupLassoSVC, PrototypeHead, RidgeHead
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    MTCRLClassifier,
    MTCRLRegressor,
    SparseMetaClassifier,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 4))
Y = np.tile([0, 1], 20)
SMALL = {"max_epochs": 1, "batches_per_epoch": 1, "verbose": 0, "random_state": 0}
MULTI = MTCRLClassifier(max_epochs=1, random_state=0)
LEARNERS = {
    "sparse": SparseMetaClassifier(RidgeHead(), common=None, **SMALL),
    "maml": MAMLClassifier(inner_steps=1, **SMALL),
    "metacrl": MetaCRLClassifier(MAMLClassifier(inner_steps=1, **SMALL)),
    "mtcrl": MULTI,
}
HEADS = {"ridge": RidgeHead(), "svc": GroupLassoSVC(), "prototype": PrototypeHead()}
TWICE = {
    "a name twice": ["a", "b", "a", "c"],
    "all alike": ["a"] * 4,
    "levels": pd.MultiIndex.from_tuples([("a", 1), ("b", 1), ("a", 1), ("c", 2)]),
}


@pytest.mark.parametrize("names", TWICE.values(), ids=TWICE)
@pytest.mark.parametrize("name", [*LEARNERS, *HEADS])
def test_names_of_columns_that_repeat_are_refused(name, names):
    estimator = {**LEARNERS, **HEADS}[name]
    with pytest.raises(ValueError, match=r"(?i)unique column names"):
        estimator.fit(pd.DataFrame(X, columns=names), Y)
    estimator.fit(pd.DataFrame(X, columns=list("abcd")), Y)
    with pytest.raises(ValueError, match=r"(?i)unique column names"):
        estimator.predict(pd.DataFrame(X, columns=names))


@pytest.mark.parametrize("name", LEARNERS)
def test_labels_that_look_like_the_same_are_taken_apart_with_a_warning(name):
    labels = pd.Series(
        np.where(Y == 1, "yes", np.where(np.arange(40) < 20, "no", "no "))
    )
    with pytest.warns(UserWarning, match=r"'no' and 'no ' in y"):
        fitted = LEARNERS[name].fit(X, labels)
    assert list(fitted.classes_) == ["no", "no ", "yes"]


@pytest.mark.parametrize("name", LEARNERS)
def test_ids_that_look_like_the_same_are_warned_of(name):
    tasks = pd.Series(np.repeat(["1", "01", "2", "3"], 10))
    with pytest.warns(UserWarning, match=r"'1' and '01' in tasks"):
        LEARNERS[name].fit(X, Y, tasks=tasks)


def test_missing_labels_of_tasks_are_divided_by_rows():
    labels = np.where(RNG.random((40, 3)) < 0.3, np.nan, X[:, :3] > 0)
    groups = np.arange(40) % 5
    for cv, given in ((KFold(3), None), (GroupKFold(5), groups)):
        scores = cross_val_score(MULTI, X, labels, cv=cv, groups=given)
        assert np.isfinite(scores).all()
    values = np.where(np.isnan(labels), np.nan, X[:, :3])
    learner = MTCRLRegressor(max_epochs=1, random_state=0)
    assert np.isfinite(cross_val_score(learner, X, values, cv=3)).all()
    with pytest.raises(ValueError, match="Input y contains NaN"):  # see docs/traps.rst
        cross_val_score(MULTI, X, labels, cv=3)
