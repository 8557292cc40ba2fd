"""adapt(keep_classes=True): classes and shots that come later."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from skcausalmeta.backbones import MLP
from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import (
    GroupLassoLogistic,
    GroupLassoSVC,
    PrototypeHead,
    RelaxedHead,
    RidgeHead,
)
from skcausalmeta.learners import (
    MAMLClassifier,
    MetaCRLClassifier,
    SparseMetaClassifier,
)
from skcausalmeta.persistence import load, save

BUNCH = make_sparse_classes(11, 14, 8, n_factors=6, n_informative=3, random_state=0)
OLD = BUNCH.target < 6
X_OLD, Y_OLD = BUNCH.data[OLD], BUNCH.target[OLD]
X_NEW, Y_NEW = BUNCH.data[~OLD], BUNCH.target[~OLD]
SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "backbone": MLP(hidden=(12,)),
    "verbose": 0,
    "random_state": 0,
}
LEARNERS = {
    "svc": SparseMetaClassifier(GroupLassoSVC(solver="newton"), **SMALL),
    "logistic": SparseMetaClassifier(GroupLassoLogistic(), **SMALL),
    "ridge": SparseMetaClassifier(RidgeHead(), **SMALL),
    "prototypes": SparseMetaClassifier(PrototypeHead(), **SMALL),
    "relaxed": SparseMetaClassifier(RelaxedHead(), **SMALL),
    "episode-statistics": SparseMetaClassifier(
        RidgeHead(), batch_norm="episode", **SMALL
    ),
    "maml": MAMLClassifier(n_way=5, **SMALL),
    "anil": MAMLClassifier("meta-sgd", adapt_layers="head", n_way=5, **SMALL),
    "metacrl": MetaCRLClassifier(SparseMetaClassifier(RidgeHead(), **SMALL)),
    "metacrl-anil": MetaCRLClassifier(
        MAMLClassifier(adapt_layers="head", n_way=5, **SMALL)
    ),
}


@pytest.fixture(scope="module", params=LEARNERS)
def fitted(request):
    return LEARNERS[request.param].fit(X_OLD, Y_OLD)


@pytest.fixture(scope="module")
def ridge():
    return LEARNERS["ridge"].fit(X_OLD, Y_OLD)


def rows_of(*classes, n=4, skip=0):
    index = [np.flatnonzero(c == Y_NEW)[skip : skip + n] for c in classes]
    index = np.concatenate(index)
    return X_NEW[index], Y_NEW[index]


def test_in_parts_is_all_at_once(fitted):
    parts = [rows_of(8, 7), rows_of(10), rows_of(7, 6, n=2, skip=4), rows_of(8, n=1)]
    learner = copy.copy(fitted).adapt(*parts[0])
    for part in parts[1:]:
        assert learner.adapt(*part, keep_classes=True) is learner
    X, y = (np.concatenate(values) for values in zip(*parts, strict=True))
    together = copy.copy(fitted).adapt(X, y)
    assert learner.classes_.tolist() == together.classes_.tolist() == [6, 7, 8, 10]
    for method in ("predict", "decision_function", "predict_proba"):
        found, wanted = (
            getattr(learner, method)(X_NEW),
            getattr(together, method)(X_NEW),
        )
        np.testing.assert_array_equal(found, wanted, err_msg=method)
    assert learner.score(*rows_of(6, 7, 8, 10, n=8, skip=6)) > 0.5  # chance is 0.25


def test_a_copy_grows_alone_and_a_plain_adapt_starts_anew(fitted):
    base = copy.copy(fitted).adapt(*rows_of(6, 7))
    before = base.predict_proba(X_NEW)
    grown = copy.copy(base).adapt(*rows_of(9), keep_classes=True)
    assert grown.classes_.tolist() == [6, 7, 9]
    assert base.classes_.tolist() == [6, 7]
    np.testing.assert_array_equal(base.predict_proba(X_NEW), before)
    anew = copy.copy(grown).adapt(*rows_of(8, 9))
    assert anew.classes_.tolist() == [8, 9]
    wanted = copy.copy(fitted).adapt(*rows_of(8, 9)).predict_proba(X_NEW)
    np.testing.assert_array_equal(anew.predict_proba(X_NEW), wanted)


def test_saved_and_pickled_learners_go_on(fitted, tmp_path):
    base = copy.copy(fitted).adapt(*rows_of(6, 7))
    save(base, tmp_path / "base")
    wanted = copy.copy(base).adapt(*rows_of(9), keep_classes=True)
    for other in (load(tmp_path / "base"), pickle.loads(pickle.dumps(base))):
        other.adapt(*rows_of(9), keep_classes=True)
        assert other.classes_.tolist() == [6, 7, 9]
        found = other.predict_proba(X_NEW)
        np.testing.assert_array_equal(found, wanted.predict_proba(X_NEW))


def test_prototypes_in_parts_are_the_centroids_of_all_rows():
    learner = LEARNERS["prototypes"].fit(X_OLD, Y_OLD)
    parts = [rows_of(9, 6), rows_of(6, 10, n=3, skip=4)]
    learner.adapt(*parts[0]).adapt(*parts[1], keep_classes=True)
    X, y = (np.concatenate(values) for values in zip(*parts, strict=True))
    outsider = NearestCentroid().fit(learner.transform(X), y)
    means = learner.head_.prototypes_ + learner.center_
    np.testing.assert_allclose(means, outsider.centroids_, atol=1e-10)
    wanted = outsider.predict(learner.transform(X_NEW))
    np.testing.assert_array_equal(learner.predict(X_NEW), wanted)


def test_training_classes_and_new_ones_together():
    learner = LEARNERS["prototypes"].fit(X_OLD, Y_OLD).adapt(X_OLD, Y_OLD)
    learner.adapt(*rows_of(6, 7), keep_classes=True)
    assert learner.classes_.tolist() == list(range(8))
    assert learner.score(X_OLD, Y_OLD) > 0.6
    assert learner.score(*rows_of(6, 7, n=8, skip=5)) > 0.6


def test_kept_rows_are_those_given_and_nobody_elses(ridge):
    X, y = rows_of(6, 7)
    X, wanted = X.astype(np.float32), X.astype(np.float32)
    learner = copy.copy(ridge).adapt(X, y)
    before = learner.predict_proba(X_NEW)
    X[:], y[:] = 0.0, 6
    np.testing.assert_array_equal(learner.support_rows_, wanted)
    assert learner.support_rows_.dtype == np.float32
    assert learner.support_labels_.tolist() == [6] * 4 + [7] * 4
    np.testing.assert_array_equal(learner.predict_proba(X_NEW), before)


def test_a_memory_map_is_not_copied(ridge, tmp_path):
    X, y = rows_of(6, 7)
    mapped = np.memmap(tmp_path / "rows", dtype=X.dtype, mode="w+", shape=X.shape)
    mapped[:] = X
    learner = copy.copy(ridge).adapt(mapped, y)
    assert np.shares_memory(learner.support_rows_, mapped)
    learner.adapt(*rows_of(8), keep_classes=True)
    wanted = copy.copy(ridge).adapt(*rows_of(6, 7, 8)).predict_proba(X_NEW)
    np.testing.assert_array_equal(learner.predict_proba(X_NEW), wanted)


def test_labels_may_be_text_of_any_length(ridge):
    X, y = rows_of(6, 7)
    learner = copy.copy(ridge).adapt(X, np.where(y == 6, "oboe", "harp"))
    X, y = rows_of(8)
    learner.adapt(X, ["double bass"] * len(y), keep_classes=True)
    assert learner.classes_.tolist() == ["double bass", "harp", "oboe"]
    learner.adapt(X[:1], np.array(["viola"], dtype=object), keep_classes=True)
    assert learner.classes_.tolist() == ["double bass", "harp", "oboe", "viola"]


def test_through_a_pipeline(ridge):
    pipeline = make_meta_pipeline(StandardScaler(), LEARNERS["ridge"])
    pipeline.fit(X_OLD, Y_OLD).adapt(*rows_of(6, 7))
    grown = copy.copy(pipeline).adapt(*rows_of(8), keep_classes=True)
    assert grown.classes_.tolist() == [6, 7, 8]
    assert pipeline.classes_.tolist() == [6, 7]


# -- refusals --------------------------------------------------------------------------


def refused(learner, X, y, match, error=InvalidInputError):
    """A refused call leaves the learner and its rows as they were."""
    before = vars(learner).copy()
    with pytest.raises(error, match=match):
        learner.adapt(X, y, keep_classes=True)
    assert vars(learner) == before


def test_not_before_fit():
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        SparseMetaClassifier().adapt(*rows_of(6, 7), keep_classes=True)
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        MetaCRLClassifier().adapt(*rows_of(6, 7), keep_classes=True)


def test_not_before_the_first_adapt(fitted):
    learner = copy.copy(fitted)
    match = "has not adapted since fit, which keeps no rows; call adapt"
    refused(learner, *rows_of(6), match, error=NotFittedError)


def test_a_fit_forgets_the_task_with_and_without_task_ids():
    for tasks in (None, Y_OLD // 2):
        learner = copy.copy(LEARNERS["ridge"]).fit(X_OLD, Y_OLD, tasks=tasks)
        learner.adapt(*rows_of(6, 7)).adapt(*rows_of(8), keep_classes=True)
        assert learner.classes_.tolist() == [6, 7, 8]
        learner.fit(X_OLD, Y_OLD, tasks=tasks)
        refused(learner, *rows_of(9), "has not adapted since fit", error=NotFittedError)


def test_more_classes_than_outputs_of_maml():
    learner = MAMLClassifier(n_way=2, **SMALL).fit(X_OLD, Y_OLD)
    learner.adapt(*rows_of(6, 7))
    refused(learner, *rows_of(8), "at most the 2 classes .* fit with n_way=3")
    learner.adapt(*rows_of(7), keep_classes=True)  # more shots are fine
    assert len(learner.support_labels_) == 12


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (["8", "8"], "Got text after numbers"),
        ([True, True], "Got booleans after numbers"),
        (np.array(["8", "9"], dtype=object), "y must hold values of one type"),
        ([0.5, 1.5], "Unknown label type"),
        ([8], "inconsistent numbers of samples"),
        (None, "requires y to be passed"),
    ],
)
def test_labels_that_do_not_go_with_those_of_the_task(ridge, labels, match):
    learner = copy.copy(ridge).adapt(*rows_of(6, 7))
    refused(learner, rows_of(8)[0][:2], labels, match, error=ValueError)


def test_rows_that_do_not_go_with_those_of_the_task(ridge):
    learner = copy.copy(ridge).adapt(*rows_of(6, 7))
    X, y = rows_of(8)
    refused(learner, X[:, :5], y, "X has 5 features", error=ValueError)
    match = "Got uint8 rows after float64 rows; convert them"
    refused(learner, X.astype(np.uint8), y, match)


def test_a_task_of_one_class_needs_another(ridge):
    learner = copy.copy(ridge)
    with pytest.raises(InvalidInputError, match=r"at least 2 classes\. Got 1 class"):
        learner.adapt(*rows_of(6))
    assert not hasattr(learner, "support_rows_")
