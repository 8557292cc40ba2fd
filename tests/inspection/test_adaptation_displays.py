"""Adaptation curves and loss surfaces, drawn; artists are compared with arrays."""

import copy
import sys

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error
from sklearn.preprocessing import StandardScaler

from skcausalmeta.compose import make_meta_pipeline
from skcausalmeta.datasets import make_sparse_classes
from skcausalmeta.episodes import EpisodeSampler, TaskSampler
from skcausalmeta.exceptions import DivergenceError, EpisodeError, InvalidInputError
from skcausalmeta.inspection import AdaptationCurveDisplay, LossSurfaceDisplay
from skcausalmeta.learners import MAMLClassifier, MAMLRegressor, SparseMetaClassifier

RNG = np.random.default_rng(0)
TASKS = np.repeat(np.arange(10), 14)
X = RNG.normal(size=(140, 2))
Y = (RNG.normal(size=(10, 2))[TASKS] * X).sum(axis=1) + 3
BUNCH = make_sparse_classes(6, 12, 5, n_factors=4, n_informative=2, random_state=0)
SMALL = {
    "max_epochs": 1,
    "batches_per_epoch": 2,
    "tasks_per_batch": 2,
    "verbose": 0,
    "random_state": 0,
}
SIZES = {"n_shot": 4, "n_query": 5, "n_episodes": 40, "random_state": 1}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def classifier():
    return MAMLClassifier(n_way=3, **SMALL).fit(BUNCH.data, BUNCH.target)


@pytest.fixture(scope="module")
def regressor():
    learner = MAMLRegressor(
        backbone="identity",
        net_params={"linear_layers": 1},
        inner_lr=0.1,
        n_shot=5,
        **SMALL,
    )
    return learner.fit(X, Y, tasks=TASKS)


def check_png(display, tmp_path):
    """The figure is saved and is no blank sheet."""
    path = tmp_path / "display.png"
    display.figure_.savefig(path, dpi=40)
    pixels = plt.imread(path)
    assert len(set(map(tuple, pixels.reshape(-1, pixels.shape[-1])))) > 3
    assert display.ax_.figure is display.figure_


# -- curves ----------------------------------------------------------------------------


def test_a_curve_is_the_mean_with_its_interval(tmp_path):
    scores = RNG.random((7, 4))
    display = AdaptationCurveDisplay.from_arrays(scores, score_name="accuracy")
    check_png(display, tmp_path)
    np.testing.assert_array_equal(display.line_.get_xdata(), [0, 1, 2, 3])
    np.testing.assert_allclose(display.line_.get_ydata(), scores.mean(axis=0))
    low, high = stats.t.interval(
        0.95, 6, scores.mean(axis=0), stats.sem(scores, axis=0)
    )
    corners = display.band_.get_paths()[0].vertices
    for step in range(4):
        ends = corners[corners[:, 0] == step, 1]
        assert (ends.min(), ends.max()) == pytest.approx((low[step], high[step]))
    assert display.ax_.get_xlabel() == "inner step"
    assert display.ax_.get_ylabel() == "accuracy"
    assert display.ax_.get_legend() is None


def test_a_single_episode_has_no_band():
    display = AdaptationCurveDisplay.from_arrays([[0.1, 0.2]])
    assert display.band_ is None
    assert np.isnan(display.half_width).all()
    more = AdaptationCurveDisplay([[0.1], [0.2]]).plot(band=False)
    assert more.band_ is None


def test_accuracy_of_a_classifier_on_class_episodes(classifier, tmp_path):
    names = np.array(["a", "b", "c", "d", "e", "f"])[BUNCH.target]
    before = vars(classifier).copy()
    display = AdaptationCurveDisplay.from_estimator(
        classifier, BUNCH.data, names, n_way=3, **SIZES
    )
    check_png(display, tmp_path)
    assert vars(classifier) == before
    assert display.scores.shape == (40, 6)
    assert display.ax_.get_ylabel() == "accuracy"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["MAMLClassifier"]
    sampler = EpisodeSampler(names, n_way=3, n_shot=4, n_query=5, random_state=1)
    for episode, scores in zip(sampler.draw(40)[:5], display.scores, strict=False):
        for steps in (0, 5):
            alone = copy.copy(classifier).set_params(adapt_steps=steps)
            alone.adapt(BUNCH.data[episode.support], names[episode.support])
            expected = alone.score(BUNCH.data[episode.query], names[episode.query])
            assert scores[steps] == pytest.approx(expected)


def test_squared_error_of_regressors_on_one_axes(regressor):
    options = {"tasks": TASKS, **SIZES}
    first = AdaptationCurveDisplay.from_estimator(regressor, X, Y, **options)
    second = AdaptationCurveDisplay.from_estimator(
        regressor,
        X,
        Y,
        **options,
        n_steps=8,
        scoring=mean_absolute_error,
        ax=first.ax_,
        name="absolute",
        line_kw={"color": "red"},
        band_kw={"alpha": 0.5},
    )
    assert second.ax_ is first.ax_
    assert first.scores.shape == (40, 6)
    assert second.scores.shape == (40, 9)
    assert regressor.adapt_steps is None
    assert len(first.ax_.lines) == 2
    assert second.line_.get_color() == "red"
    assert second.band_.get_alpha() == 0.5
    labels = [text.get_text() for text in first.ax_.get_legend().get_texts()]
    assert labels == ["MAMLRegressor", "absolute"]
    assert first.score_name == "mean squared error"
    assert second.score_name == "mean absolute error"
    sampler = TaskSampler(
        TASKS, Y, n_shot=4, n_query=5, target_type="value", random_state=1
    )
    for k, episode in enumerate(sampler.draw(40)[:3]):
        alone = copy.copy(regressor).adapt(X[episode.support], Y[episode.support])
        found = alone.predict(X[episode.query])
        error = mean_squared_error(Y[episode.query], found)
        assert first.scores[k, 5] == pytest.approx(error, rel=1e-4)
        error = mean_absolute_error(Y[episode.query], found)
        assert second.scores[k, 5] == pytest.approx(error, rel=1e-4)


def test_rows_without_tasks_are_one_regression_task(regressor):
    display = AdaptationCurveDisplay.from_estimator(regressor, X, Y, **SIZES)
    assert display.scores.shape == (40, 6)


def test_tasks_with_different_numbers_of_classes(classifier):
    tasks = BUNCH.target // 3
    keep = BUNCH.target != 4
    display = AdaptationCurveDisplay.from_estimator(
        classifier, BUNCH.data[keep], BUNCH.target[keep], tasks=tasks[keep], **SIZES
    )
    assert display.scores.shape == (40, 6)
    sampler = TaskSampler(
        tasks[keep], BUNCH.target[keep], n_shot=4, n_query=5, random_state=1
    )
    episodes = sampler.draw(40)
    assert {episode.n_way for episode in episodes} == {2, 3}
    for episode, scores in zip(episodes, display.scores, strict=True):
        hits = scores * 5 * episode.n_way
        np.testing.assert_allclose(hits, hits.round(), atol=1e-9)


def test_a_pipeline_that_adapts_has_a_curve():
    pipeline = make_meta_pipeline(StandardScaler(), MAMLClassifier(n_way=3, **SMALL))
    pipeline.fit(BUNCH.data, BUNCH.target)
    display = AdaptationCurveDisplay.from_estimator(
        pipeline, BUNCH.data, BUNCH.target, n_way=3, **SIZES
    )
    inside = AdaptationCurveDisplay.from_estimator(
        pipeline[-1], pipeline[0].transform(BUNCH.data), BUNCH.target, n_way=3, **SIZES
    )
    np.testing.assert_array_equal(display.scores, inside.scores)


# -- surfaces --------------------------------------------------------------------------

Z = RNG.normal(size=(40, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
TARGETS = Z @ [2.0, -1.0] + 0.3 * RNG.normal(size=40)


def test_the_surface_is_the_squared_error(tmp_path):
    display = LossSurfaceDisplay.from_data(Z, TARGETS, resolution=31, n_steps=12)
    check_png(display, tmp_path)
    assert display.losses.shape == (31, 31)
    for i, j in ((0, 0), (4, 20), (30, 7)):
        scores = Z @ [display.first[j], display.second[i]]
        expected = mean_squared_error(TARGETS, scores)
        assert display.losses[i, j] == pytest.approx(expected)
    best = LinearRegression(fit_intercept=False).fit(Z, TARGETS).coef_
    np.testing.assert_allclose(display.minimum, best)
    np.testing.assert_allclose(display.minimum_.get_xydata(), [best])
    assert display.contour_.levels[0] == pytest.approx(display.losses.min())
    assert display.contour_.levels[-1] == pytest.approx(display.losses.max())
    assert (
        list(display.paths) == list(display.lines_) == [f"depth {d}" for d in (1, 2, 3)]
    )
    for name, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xydata(), display.paths[name])
        assert line.get_marker() == "."
        assert len(display.paths[name]) == 13
        np.testing.assert_allclose(display.paths[name][0], [0.5, 0.5])
        low, high = display.first[0], display.first[-1]
        assert (low < display.paths[name][:, 0]).all()
        assert (display.paths[name][:, 0] < high).all()
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == list(display.paths)


def test_one_layer_takes_the_steps_of_the_closed_form():
    display = LossSurfaceDisplay.from_data(
        Z, TARGETS, depths=[1], lr=0.2, n_steps=9, start=[-1.0, 0.5]
    )
    best = display.minimum
    step = np.eye(2) - 0.2 * 2 * Z.T @ Z / len(Z)
    expected = [
        best + np.linalg.matrix_power(step, k) @ ([-1.0, 0.5] - best) for k in range(10)
    ]
    np.testing.assert_allclose(display.paths["depth 1"], expected, atol=1e-12)


def wide_layers(start, depth, width):
    """Layers of a wide deep linear net, balanced, with the product `start`."""
    size = np.linalg.norm(start) ** (1 / depth)
    unit = np.random.default_rng(4).normal(size=width)
    unit /= np.linalg.norm(unit)
    first = size * np.outer(start / np.linalg.norm(start), unit)
    middle = [size * np.outer(unit, unit)] * (depth - 2)
    layers = [first, *middle, size * unit[:, None]]
    return [torch.tensor(layer, requires_grad=True) for layer in layers]


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_deep_models_take_the_path_of_wide_layers(depth):
    start = np.array([-0.5, 0.8])
    display = LossSurfaceDisplay.from_data(
        Z, TARGETS, depths=(depth,), start=start, n_steps=15, lr=0.05
    )
    layers = wide_layers(start, depth, width=4)
    rows, targets = torch.from_numpy(Z), torch.from_numpy(TARGETS)
    path = []
    for _ in range(16):
        product = torch.linalg.multi_dot(layers)[:, 0]
        path.append(product.detach().numpy())
        loss = (rows @ product - targets).square().mean()
        gradients = torch.autograd.grad(loss, layers)
        with torch.no_grad():
            for layer, gradient in zip(layers, gradients, strict=True):
                layer -= 0.05 * gradient
    np.testing.assert_allclose(display.paths[f"depth {depth}"], path, atol=1e-10)


def test_a_small_step_follows_the_end_to_end_dynamics():
    """Arora, Cohen, Hazan (2018): the gradient, stretched along the weights."""
    w = np.array([-0.5, 0.8])
    gradient = 2 * Z.T @ (Z @ w - TARGETS) / len(Z)
    norm = np.linalg.norm(w)
    for depth in (1, 2, 4):
        display = LossSurfaceDisplay.from_data(
            Z, TARGETS, depths=[depth], start=w, n_steps=1, lr=1e-7
        )
        moved = (display.paths[f"depth {depth}"][1] - w) / 1e-7
        along = w * (w @ gradient) / norm**2
        expected = -(norm ** (2 - 2 / depth)) * (gradient + (depth - 1) * along)
        np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_labels_give_a_logistic_surface(tmp_path):
    labels = np.where(TARGETS > 0, "yes", "no")
    display = LossSurfaceDisplay.from_data(
        Z, labels, resolution=11, lr=0.5, colorbar=False, line_kw={"linewidth": 3}
    )
    check_png(display, tmp_path)
    assert display.minimum is display.minimum_ is display.colorbar_ is None
    assert display.lines_["depth 2"].get_linewidth() == 3
    scores = Z @ [display.first[2], display.second[9]]
    expected = log_loss(labels, 1 / (1 + np.exp(-scores)))
    assert display.losses[9, 2] == pytest.approx(expected)
    squared = LossSurfaceDisplay.from_data(Z, labels == "yes", loss="squared")
    assert squared.minimum is not None


def test_steps_of_meta_trained_linear_models(regressor, tmp_path):
    figure, ax = plt.subplots()
    rows, y = X[TASKS == 3], Y[TASKS == 3]
    moved = copy.copy(regressor).set_params(adapt_steps=2)
    before = vars(regressor).copy()
    display = LossSurfaceDisplay.from_estimator(
        {"five": regressor, "two": moved}, rows, y, ax=ax
    )
    check_png(display, tmp_path)
    assert vars(regressor) == before
    assert (display.figure_, display.ax_) == (figure, ax)
    assert [len(path) for path in display.paths.values()] == [6, 3]
    alone = copy.copy(regressor).adapt(rows, y)
    zero, one, two = alone.predict([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(
        display.paths["five"][-1], [one - zero, two - zero], rtol=1e-3
    )
    np.testing.assert_allclose(display.paths["two"], display.paths["five"][:3])
    linear = LinearRegression().fit(rows, y)
    np.testing.assert_allclose(display.minimum, linear.coef_)
    near = np.abs(display.first - linear.coef_[0]).argmin()
    assert display.losses[:, near].min() == pytest.approx(
        mean_squared_error(y, linear.predict(rows)), abs=1e-2
    )
    single = LossSurfaceDisplay.from_estimator(regressor, rows, y)
    assert list(single.paths) == ["MAMLRegressor"]


# -- errors ----------------------------------------------------------------------------


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    displays = [
        AdaptationCurveDisplay([[0.5]]),
        LossSurfaceDisplay([0, 1], [0, 1], np.eye(2), {}),
    ]
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for display in displays:
        name = type(display).__name__
        with pytest.raises(ImportError, match=rf"{name}.plot needs .*\[plot\]"):
            display.plot()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AdaptationCurveDisplay([0.5]), "scores must be .* 2 axes"),
        (lambda: AdaptationCurveDisplay([[np.nan]]), "scores must be finite"),
        (
            lambda: LossSurfaceDisplay([0, 1], [0, 1, 2], np.eye(2), {}),
            r"Got shape \(2, 2\) for 3 and 2 values",
        ),
        (
            lambda: LossSurfaceDisplay([0, 1], [0, 1], np.eye(2), {"a": np.eye(3)}),
            r"The path 'a' must hold points of two weights. Got shape \(3, 3\)",
        ),
        (lambda: LossSurfaceDisplay.from_data(np.eye(3), [1, 2, 3]), "two columns"),
        (lambda: LossSurfaceDisplay.from_data(Z, TARGETS[:-1]), "inconsistent"),
        (lambda: LossSurfaceDisplay.from_data(Z, TARGETS, depths=[0]), "ints >= 1"),
        (lambda: LossSurfaceDisplay.from_data(Z, TARGETS, depths=[1.5]), "ints >= 1"),
        (
            lambda: LossSurfaceDisplay.from_data(Z, TARGETS, start=(0, 0)),
            "not both 0, where the gradients",
        ),
        (
            lambda: LossSurfaceDisplay.from_data(Z, TARGETS, loss="logistic"),
            "labels of two classes. Got 40",
        ),
        (lambda: LossSurfaceDisplay.from_data(Z, TARGETS, lr=0), "'lr' parameter"),
    ],
)
def test_what_cannot_be_drawn_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_descent_that_diverges_names_the_depth():
    with pytest.raises(DivergenceError, match=r"steps at depth 3; lower lr"):
        LossSurfaceDisplay.from_data(Z, TARGETS, depths=[3], lr=50.0)


def test_learners_that_do_not_fit_are_refused(classifier, regressor):
    other = SparseMetaClassifier(**SMALL)
    curve, surface = AdaptationCurveDisplay, LossSurfaceDisplay
    with pytest.raises(InvalidInputError, match="'staged_predict_episodes'"):
        curve.from_estimator(other, BUNCH.data, BUNCH.target, n_way=3, **SIZES)
    with pytest.raises(EpisodeError, match="n_way=7"):
        curve.from_estimator(classifier, BUNCH.data, BUNCH.target, n_way=7)
    with pytest.raises(ValueError, match="The 'n_steps' parameter"):
        curve.from_estimator(regressor, X, Y, n_steps=-1)
    with pytest.raises(ValueError, match="The 'scoring' parameter"):
        curve.from_estimator(regressor, X, Y, scoring="r2")
    bent = MAMLRegressor(**SMALL).fit(X, Y)
    with pytest.raises(InvalidInputError, match="linear in the two columns"):
        surface.from_estimator(bent, X[:9], Y[:9])
