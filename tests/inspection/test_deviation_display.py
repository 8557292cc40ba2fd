"""What the picture of deviations shows: which, how many, in which order."""

import copy
import sys

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

mpl.use("Agg")

from matplotlib import pyplot

from skcausalmeta.datasets import make_shared_tasks
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.heads import GroupLassoLogistic
from skcausalmeta.inspection import DeviationDisplay, SupportDisplay
from skcausalmeta.learners import SparseMetaClassifier

A = np.array([[0.0, 0.5, 0.0, 0.1], [0.0, -2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class Deviating(BaseEstimator):
    """Deviates by the mean rows of its classes, one a class."""

    def __init__(self, n_classes=2):
        self.n_classes = n_classes

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def adapt(self, X, y):
        self.deviation_ = np.array([X[y == c].mean(0) for c in range(self.n_classes)])
        return self


# -- what is drawn ---------------------------------------------------------------------


def test_rows_are_the_features_that_deviate_largest_first(tmp_path):
    names = {"feature_names": list("abcd"), "task_names": ["ann", "bob", "cid"]}
    display = DeviationDisplay.from_arrays(A, **names)
    np.testing.assert_array_equal(display.cells, A[:, [1, 3]].T)
    np.testing.assert_array_equal(display.im_.get_array(), display.cells)
    assert display.features.tolist() == [1, 3]
    assert ticks(display.ax_.yaxis) == ["b", "d"]
    assert ticks(display.ax_.xaxis) == ["ann", "bob", "cid"]
    assert display.ax_.get_title() == ("What differs: 2 of 4 features, in 2 of 3 tasks")
    low, high = display.im_.get_clim()
    assert (low, high) == (-2.0, 2.0)  # white is 0
    display.figure_.savefig(tmp_path / "display.png", dpi=40)
    assert (tmp_path / "display.png").stat().st_size > 1000


def test_of_many_the_largest_are_shown_and_the_title_says_so():
    rng = np.random.default_rng(0)
    many = rng.standard_normal((50, 60))
    display = DeviationDisplay.from_arrays(many)
    assert display.cells.shape == (30, 40)
    sizes = np.abs(many)
    assert set(display.features) == set(np.argsort(sizes.sum(axis=0))[-30:])
    assert set(display.tasks) == set(np.argsort(sizes.sum(axis=1))[-40:])
    assert (np.diff(display.tasks) > 0).all()  # tasks stay in their order
    np.testing.assert_array_equal(
        display.cells, many[display.tasks][:, display.features].T
    )
    assert display.ax_.get_title() == (
        "What differs: 60 of 60 features, in 50 of 50 tasks\n"
        "shown: the 30 largest features and the 40 tasks that deviate most"
    )
    few = DeviationDisplay.from_arrays(many, max_features=2, max_tasks=3)
    assert few.cells.shape == (2, 3)


def test_where_nothing_differs_the_title_says_that():
    display = DeviationDisplay.from_arrays(np.zeros((2, 3)))
    assert display.cells.shape == (0, 2)
    assert display.ax_.get_title().startswith("What differs: 0 of 3 features")
    assert ticks(display.ax_.yaxis) == []
    display.figure_.canvas.draw()


def test_given_axes_and_keywords_are_used():
    _, ax = pyplot.subplots()
    display = DeviationDisplay.from_arrays(A, ax=ax, im_kw={"cmap": "PuOr"})
    assert display.ax_ is ax
    assert display.im_.get_cmap().name == "PuOr"


# -- of learners -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def learner():
    bunch = make_shared_tasks(6, 20, 4, n_deviating=1, random_state=0)
    head = GroupLassoLogistic(0.2, "learn")
    learner = SparseMetaClassifier(
        head,
        backbone="identity",
        max_epochs=1,
        batches_per_epoch=2,
        verbose=0,
        random_state=0,
    )
    tasks = np.array(list("abcdef"))[bunch.tasks]
    return learner.fit(bunch.data, bunch.target, tasks=tasks), bunch


def test_the_training_tasks_of_a_learner(learner):
    learner, _ = learner
    before = learner.task_
    display = DeviationDisplay.from_estimator(learner)
    assert display.task_names == list("abcdef")
    for task, column in zip(display.tasks, display.cells.T, strict=True):
        one = copy.copy(learner)
        one.task_ = learner.known_tasks_.solved[task]
        weights = one.deviation_[1] - one.deviation_[0]
        np.testing.assert_allclose(column, weights[display.features])
    assert learner.task_ is before


def test_new_tasks_of_a_learner(learner):
    learner, bunch = learner
    X, y, tasks = bunch.data[:40], bunch.target[:40], bunch.tasks[:40]
    display = DeviationDisplay.from_estimator(learner, X, y, tasks)
    assert display.task_names == ["0", "1"]
    copies = [copy.copy(learner).adapt(X[tasks == t], y[tasks == t]) for t in (0, 1)]
    again = DeviationDisplay.from_tasks(copies)
    np.testing.assert_array_equal(again.cells, display.cells)
    alone = DeviationDisplay.from_estimator(learner, X[:20], y[:20])
    assert alone.task_names == ["0"]
    assert not learner.deviation_.any()  # of the task in use, none


def test_one_of_several_classes_is_chosen():
    X, y = np.arange(12.0).reshape(6, 2), np.arange(6) % 3
    learner = Deviating(3).fit(X, y)
    display = DeviationDisplay.from_estimator(learner, X, y, score=2)
    expected = X[y == 2].mean(axis=0)
    np.testing.assert_array_equal(display.cells[:, 0], expected[display.features])
    for score in (None, 3, -1, "a"):
        with pytest.raises(InvalidInputError, match=r"from 0 to 2.*choose one of"):
            DeviationDisplay.from_estimator(learner, X, y, score=score)


def test_columns_that_had_names_keep_them():
    learner = Deviating().fit(None, None)
    learner.feature_names_in_ = np.array(["age", "dose"])
    X, y = np.array([[0.0, 0.0], [0.0, 3.0]]), np.array([0, 1])
    display = DeviationDisplay.from_estimator(learner, X, y)
    assert ticks(display.ax_.yaxis) == ["dose"]
    learner.backbone = "mlp"  # features are no columns
    display = DeviationDisplay.from_estimator(learner, X, y)
    assert ticks(display.ax_.yaxis) == ["1"]


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DeviationDisplay([0.5]), r"deviations must be .* 2 axes\. Got shape"),
        (lambda: DeviationDisplay([[np.nan]]), "deviations must be finite"),
        (lambda: DeviationDisplay(A, feature_names=["a"]), "each of the 4. Got 1"),
        (lambda: DeviationDisplay(A, task_names=["a"]), "each of the 3. Got 1"),
        (lambda: DeviationDisplay(A, max_tasks=0), "max_tasks must be an int of at l"),
        (
            lambda: DeviationDisplay(A, max_features=1.5),
            r"max_features must .*Got 1\.5",
        ),
        (lambda: DeviationDisplay.from_tasks([]), "at least one. Got none"),
        (
            lambda: DeviationDisplay.from_tasks([PCA()]),
            "must have 'deviation_'. Got a PCA",
        ),
        (
            lambda: DeviationDisplay.from_estimator(PCA().fit(A)),
            "must have 'known_tasks_'. Got a PCA",
        ),
        (
            lambda: DeviationDisplay.from_estimator(PCA().fit(A), A, [0, 0, 1]),
            "must have a method 'adapt'. Got a PCA",
        ),
        (
            lambda: DeviationDisplay.from_estimator(Deviating().fit(A, 0), A),
            "Got X without y",
        ),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()


def test_a_learner_without_solved_tasks_is_refused(learner):
    one = copy.copy(learner[0])
    one.known_tasks_ = None
    with pytest.raises(InvalidInputError, match=r"fit_head=True\. Got .*; fit it so"):
        DeviationDisplay.from_estimator(one)
    with pytest.raises(NotFittedError):
        DeviationDisplay.from_estimator(SparseMetaClassifier())


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install skcausalmeta\[plot\]"):
        DeviationDisplay(A).plot()


def test_solved_tasks_are_drawn_by_their_ids():
    data = make_shared_tasks(15, 30, 6, random_state=0)
    learner = SparseMetaClassifier(
        backbone="identity",
        max_epochs=1,
        batches_per_epoch=2,
        verbose=0,
        random_state=0,
    ).fit(data.data, data.target, tasks=data.tasks)
    solved = learner.adapt_tasks(data.data, data.target, data.tasks)
    display = DeviationDisplay.from_solved(solved, [3, 11])
    copies = [solved[3], solved[11]]
    expected = DeviationDisplay.from_tasks(copies, task_names=["3", "11"])
    np.testing.assert_allclose(display.cells, expected.cells)
    assert display.task_names == expected.task_names
    assert len(DeviationDisplay.from_solved(solved).task_names) == 15
    drawn = SupportDisplay.from_solved(solved, [11, 3])
    used = [np.flatnonzero(column).tolist() for column in drawn.cells.T]
    assert used == [copies[1].support_features_.tolist(), used[1]]
    assert used[1] == copies[0].support_features_.tolist()
    assert drawn.task_names == ["11", "3"]
    assert SupportDisplay.from_solved(solved, sort=True).cells.shape[1] == 15
    with pytest.raises(InvalidInputError, match="99"):
        SupportDisplay.from_solved(solved, [3, 99])
    with pytest.raises(InvalidInputError, match="99"):
        DeviationDisplay.from_solved(solved, [3, 99])
