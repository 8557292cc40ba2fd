"""Displays drawn to PNG; what the artists hold is compared with the arrays."""

import ast
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Lasso

from skcausalmeta import inspection
from skcausalmeta.datasets import make_sparse_tasks
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.inspection import (
    LatentCorrelationDisplay,
    LatentTraversalDisplay,
    SupportDisplay,
)
from skcausalmeta.learners import SparseMetaClassifier
from skcausalmeta.metrics import mean_corr_coef

FACTORS = np.random.default_rng(0).normal(size=(60, 3))
CODES = np.column_stack([FACTORS[:, [2, 0, 1]] * [1, -2, 3], np.ones(60)])
VALUES = np.tile(np.linspace(-1, 1, 4), (3, 1))


class Reverse:
    """Encoder that returns the latents in reversed order."""

    def transform(self, X):
        return np.asarray(X)[:, ::-1]


class LassoLearner:
    """Learner whose features are the columns of X."""

    def adapt(self, X, y):
        coef = Lasso(alpha=0.05).fit(X, y).coef_
        self.support_features_ = np.flatnonzero(coef)
        self.n_features_out_ = len(coef)
        return self


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def check_png(display, tmp_path):
    """The figure is saved and is no blank sheet."""
    path = tmp_path / "display.png"
    display.figure_.savefig(path, dpi=40)
    pixels = plt.imread(path)
    assert len(set(map(tuple, pixels.reshape(-1, pixels.shape[-1])))) > 3
    assert display.ax_.figure is display.figure_


def drawn_by_hand():
    return [
        LatentCorrelationDisplay(np.eye(2)),
        SupportDisplay(np.eye(2)),
        LatentTraversalDisplay(VALUES, codes=np.zeros((3, 4, 2))),
    ]


# -- correlations ----------------------------------------------------------------------


def test_matched_codes_make_a_diagonal(tmp_path):
    display = LatentCorrelationDisplay.from_arrays(
        FACTORS, CODES, factor_names=["floor", "wall", "shape"]
    )
    check_png(display, tmp_path)
    assert display.order.tolist() == [1, 2, 0, 3]
    table = np.asarray(display.im_.get_array())
    np.testing.assert_array_equal(np.diag(table), [-1.0, 1.0, 1.0])
    np.testing.assert_array_equal(table[:, 3], 0.0)
    assert display.im_.get_clim() == (-1, 1)
    texts = [text.get_text() for text in display.text_[0]]
    assert texts == [f"{value:.2f}" for value in table[0]]
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["floor", "wall", "shape"]
    codes = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert codes == ["1", "2", "0", "3"]
    assert display.ax_.get_title() == "mean correlation 1.000"
    assert display.colorbar_ is not None


def test_correlations_of_a_scikit_learn_transformer(tmp_path):
    rows = FACTORS @ np.random.default_rng(1).normal(size=(3, 5))
    pca = PCA(3).fit(rows)
    figure, (left, right) = plt.subplots(1, 2)
    display = LatentCorrelationDisplay.from_estimator(
        pca,
        rows,
        FACTORS,
        method="spearman",
        match=False,
        ax=left,
        include_values=False,
        colorbar=False,
        im_kw={"alpha": 0.5},
    )
    assert (display.figure_, display.ax_) == (figure, left)
    assert not right.images
    assert display.text_ is None
    assert display.colorbar_ is None
    assert display.im_.get_alpha() == 0.5
    assert display.order.tolist() == [0, 1, 2]
    expected = mean_corr_coef(FACTORS, pca.transform(rows), method="spearman")
    assert display.score == pytest.approx(expected)
    check_png(display, tmp_path)


def test_values_can_be_read_on_their_background():
    display = LatentCorrelationDisplay([[1.0, 0.0], [-1.0, 0.3]]).plot()
    colours = [[text.get_color() for text in row] for row in display.text_]
    assert colours == [["white", "black"], ["white", "black"]]
    assert display.ax_.get_title() == ""


# -- supports --------------------------------------------------------------------------


def test_supports_are_features_by_tasks(tmp_path):
    coef = np.array([[0.0, 1.0, 0.0], [0.2, -3.0, 0.0]])
    display = SupportDisplay.from_arrays(
        coef, feature_names=["a", "b", "c"], task_names=["x", "y"]
    )
    check_png(display, tmp_path)
    np.testing.assert_array_equal(display.cells, [[0, 1], [1, 1], [0, 0]])
    np.testing.assert_array_equal(display.im_.get_array(), display.cells)
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["x", "y"]
    assert display.ax_.get_title() == "50% of the features in use"
    assert display.legend_ is None
    # White where unused, dark where used.
    colours = display.im_.cmap(display.im_.norm(display.cells))[..., :3]
    np.testing.assert_array_equal(colours[2], np.ones((2, 3)))
    assert colours[1].max() < 0.2


def test_the_most_used_features_come_first():
    display = SupportDisplay.from_arrays(
        [[0, 1, 0], [1, 1, 0]], sort=True, feature_names=["a", "b", "c"]
    )
    assert display.order.tolist() == [1, 0, 2]
    assert display.feature_names == ["b", "a", "c"]
    np.testing.assert_array_equal(display.cells, [[1, 1], [0, 1], [0, 0]])


def test_the_truth_gives_hits_misses_and_what_is_too_much(tmp_path):
    truth = np.array([[1, 0], [0, 1], [1, 1], [1, 0]])
    # Feature 2 is factor 0 with a miss, feature 0 is factor 1 with one too much.
    found = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 0]])
    display = SupportDisplay.from_arrays(found, truth=truth, feature_names=["a", "b"])
    check_png(display, tmp_path)
    assert display.order.tolist() == [2, 0, 1]
    assert display.feature_names == ["a", "b", "feature 1"]
    np.testing.assert_array_equal(
        display.cells, [[1, 0, 1, 2], [0, 1, 1, 3], [0, 0, 0, 0]]
    )
    labels = [text.get_text() for text in display.legend_.get_texts()]
    assert labels == ["used and needed", "missed", "used without need"]
    assert display.ax_.get_title() == "42% of the features in use"


def test_supports_of_a_learner_that_adapts_to_every_task(tmp_path):
    bunch = make_sparse_tasks(
        12, 60, 4, mixing="identity", support="fixed", noise=0.01, random_state=0
    )
    learner = LassoLearner()
    display = SupportDisplay.from_estimator(
        learner, bunch.data, bunch.target, bunch.tasks, truth=bunch.supports
    )
    check_png(display, tmp_path)
    assert not hasattr(learner, "support_features_")
    assert display.cells.shape == (4, 12)
    right = (display.cells == 1).sum() / bunch.supports.sum()
    assert right > 0.9
    # Ids need not be numbers; columns are sorted by id.
    named = np.array(["b", "a"])[bunch.tasks[:120] % 2]
    two = SupportDisplay.from_estimator(
        learner, bunch.data[:120], bunch.target[:120], named
    )
    assert two.task_names == ["a", "b"]


def test_supports_of_a_meta_learner():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 6)), np.tile([0, 1, 2], 20)
    X[:, 2] += 4 * y
    learner = SparseMetaClassifier(
        backbone="identity", max_epochs=1, batches_per_epoch=1, verbose=0
    ).fit(X, y)
    before = learner.head_
    display = SupportDisplay.from_estimator(learner, X, y, np.arange(60) // 30)
    assert display.cells.shape == (6, 2)
    assert display.cells[2].all()
    assert learner.head_ is before


# -- traversals ------------------------------------------------------------------------


@pytest.mark.parametrize("n_factors", [2, 3, 5])
def test_codes_are_lines_in_a_panel_per_factor(tmp_path, n_factors):
    mixing = make_sparse_tasks(2, 3, n_factors, mixing="identity").mixing
    display = LatentTraversalDisplay.from_estimator(
        Reverse(), mixing, low=-1, high=2, n_steps=7
    )
    check_png(display, tmp_path)
    assert display.im_ is None
    assert display.axes_.shape == (n_factors,)
    assert display.lines_.shape == (n_factors, n_factors)
    for factor, panel in enumerate(display.axes_):
        assert panel.get_title() == f"factor {factor}"
        moved = [np.ptp(line.get_ydata()) > 1 for line in display.lines_[factor]]
        assert np.flatnonzero(moved).tolist() == [n_factors - 1 - factor]
        x = display.lines_[factor, 0].get_xdata()
        np.testing.assert_allclose(x, np.linspace(-1, 2, 7))
    np.testing.assert_allclose(display.codes[0, :, -1], np.linspace(-1, 2, 7))
    assert display.images is None


def test_images_are_a_table_of_factors_by_steps(tmp_path):
    mixing = make_sparse_tasks(1, 2, mixing="shapes3d", size=8, random_state=0).mixing

    class Pixels:
        def transform(self, X):
            return X.reshape(len(X), -1)[:, :2]

    names = ["floor", "wall", "object", "scale", "shape", "orientation"]
    display = LatentTraversalDisplay.from_estimator(
        Pixels(), mixing, n_steps=5, factor_names=names, kind="images"
    )
    check_png(display, tmp_path)
    table = np.asarray(display.im_.get_array())
    assert table.shape == (48, 40, 3)
    np.testing.assert_array_equal(table[8:16, 16:24], display.images[1, 2])
    latents = np.zeros((1, 6))
    latents[0, 1] = 0.75
    np.testing.assert_array_equal(table[8:16, 24:32], mixing(latents)[0])
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == names
    assert display.lines_ is None
    assert display.codes.shape == (6, 5, 2)
    assert display.plot().lines_.shape == (6, 2)  # "auto" prefers codes


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 4, 5, 6, 1)])
def test_grey_images(shape):
    images = np.random.default_rng(0).random(shape)
    figure, ax = plt.subplots()
    display = LatentTraversalDisplay.from_arrays(VALUES, images=images, ax=ax)
    assert (display.figure_, display.ax_) == (figure, ax)
    table = np.asarray(display.im_.get_array())
    assert table.shape == (15, 24)
    np.testing.assert_array_equal(table[5:10, :6], images.reshape(3, 4, 5, 6)[1, 0])


def test_a_base_of_your_own_and_style_of_lines():
    def mixing(latents):
        return latents**2

    display = LatentTraversalDisplay.from_estimator(
        Reverse(), mixing, base=[1.0, 2.0], n_steps=3, line_kw={"linewidth": 4}
    )
    np.testing.assert_allclose(display.codes[0, :, 0], 4.0)  # the second stays at 2
    np.testing.assert_allclose(display.codes[0, :, 1], [2.25, 0, 2.25])
    assert display.lines_[0, 0].get_linewidth() == 4


# -- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("display", drawn_by_hand(), ids=lambda d: type(d).__name__)
def test_without_matplotlib_the_extra_is_named(display, monkeypatch):
    name = type(display).__name__
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf"{name}.plot needs .*skcausalmeta\[plot\]"):
        display.plot()


def test_no_module_imports_matplotlib_before_a_picture_is_drawn():
    files = sorted(Path(inspection.__file__).parent.glob("*.py"))
    assert len(files) >= 4
    for file in files:
        body = ast.parse(file.read_text(encoding="utf-8")).body
        imports = [
            ast.unparse(x) for x in body if isinstance(x, ast.Import | ast.ImportFrom)
        ]
        assert not any("matplotlib" in line for line in imports), file


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LatentCorrelationDisplay([0.5]), "correlation must be .* 2 axes"),
        (lambda: LatentCorrelationDisplay([[np.nan]]), "correlation must be finite"),
        (
            lambda: LatentCorrelationDisplay(np.eye(2), factor_names=["a"]),
            "factor_names must hold one name for each of the 2. Got 1",
        ),
        (
            lambda: LatentCorrelationDisplay.from_estimator(object(), CODES, FACTORS),
            "must have a method 'transform'. Got a object without; use from_arrays",
        ),
        (
            lambda: LatentCorrelationDisplay.from_arrays(FACTORS, CODES[:-1]),
            "same samples",
        ),
        (lambda: SupportDisplay([["a"]]), "supports must be an array of numbers"),
        (
            lambda: SupportDisplay(np.eye(3), truth=np.eye(3)[:, :2]),
            r"truth must have the shape of supports, \(3, 3\). Got \(3, 2\)",
        ),
        (
            lambda: SupportDisplay.from_arrays(np.eye(3)[:, :2], truth=np.eye(3)),
            r"at most as many factors .* Got shapes \(3, 3\) and \(3, 2\)",
        ),
        (
            lambda: SupportDisplay.from_estimator(PCA(), CODES, CODES[:, 0], [0] * 60),
            "must have a method 'adapt'",
        ),
        (lambda: LatentTraversalDisplay(VALUES), "codes, images or both. Got neither"),
        (
            lambda: LatentTraversalDisplay(VALUES, codes=np.zeros((3, 5, 2))),
            r"codes must begin with the axes of values, \(3, 4\)",
        ),
        (
            lambda: LatentTraversalDisplay(VALUES, images=np.zeros((3, 4, 5))),
            "images must have shape",
        ),
        (
            lambda: LatentTraversalDisplay.from_estimator(Reverse(), np.tanh),
            "base must hold one value per factor",
        ),
        (
            lambda: LatentTraversalDisplay.from_estimator(
                Reverse(), np.tanh, base=[0.0], n_steps=1
            ),
            "n_steps must be at least 2. Got 1",
        ),
        (
            lambda: LatentTraversalDisplay.from_estimator(
                Reverse(), np.tanh, base=[0.0, 1.0], kind="images"
            ),
            "holds no images. Pass images",
        ),
        (
            lambda: LatentTraversalDisplay(VALUES, codes=np.zeros((3, 4, 1))).plot(
                kind="sound"
            ),
            "'auto', 'codes' or 'images'. Got 'sound'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()


def test_the_method_is_checked():
    with pytest.raises(ValueError, match="'method' parameter"):
        LatentCorrelationDisplay.from_arrays(FACTORS, CODES, method="kendall")
