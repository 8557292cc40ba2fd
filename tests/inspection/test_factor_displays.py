"""What the pictures of task weights and of negative transfer show."""

import sys

import matplotlib as mpl
import numpy as np
import pytest
from scipy import stats

mpl.use("Agg")

from matplotlib import pyplot

from skcausalmeta.datasets import make_confounded_tasks
from skcausalmeta.exceptions import InvalidInputError
from skcausalmeta.inspection import FactorDisplay, NegativeTransferDisplay
from skcausalmeta.metrics import support_f1

TRUTH = np.array([[1, 0, 1], [0, 1, 1], [0, 1, 0]])
WEIGHTS = np.array([[0.1, 0.9, 0.2, 0.8], [0.7, 0.2, 0.3, 0.9], [0.8, 0.1, 0.1, 0.3]])


class MeanGate:
    """Weighs the columns of X whose mean over the rows is high."""

    def task_weights(self, X, y=None):
        factor = 1.0 if y is None else np.max(y)
        return (factor * (X.mean(axis=0) > 0.5))[None]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def check_png(display, tmp_path):
    path = tmp_path / "display.png"
    display.figure_.savefig(path, dpi=40)
    pixels = pyplot.imread(path)
    assert len(set(map(tuple, pixels.reshape(-1, pixels.shape[-1])))) > 3
    assert display.ax_.figure is display.figure_


def texts(labels):
    return [label.get_text() for label in labels]


# -- factors ---------------------------------------------------------------------------


def test_learned_factors_stand_beside_their_true_ones(tmp_path):
    display = FactorDisplay.from_weights(
        WEIGHTS, truth=TRUTH, factor_names=["a", "b", "c"], task_names=["x", "y", "z"]
    )
    check_png(display, tmp_path)
    assert display.order.tolist() == [1, 0, 3, 2]
    np.testing.assert_array_equal(display.im_.get_array(), WEIGHTS[:, [1, 0, 3, 2]].T)
    assert display.im_.get_clim() == (0, 1)
    assert texts(display.ax_.get_yticklabels()) == ["a", "b", "c", "factor 2"]
    assert texts(display.ax_.get_xticklabels()) == ["x", "y", "z"]
    places, factors = display.rings_.get_data()
    ringed = set(zip(factors.tolist(), places.tolist(), strict=True))
    assert ringed == {(f, t) for t, f in zip(*np.nonzero(TRUTH), strict=True)}
    assert display.ax_.get_title(loc="left") == "F1 1.00"
    assert texts(display.legend_.get_texts()) == ["true cause"]
    assert display.colorbar_.ax.get_ylabel() == "weight"


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.85])
def test_the_title_is_support_f1(threshold):
    display = FactorDisplay.from_weights(WEIGHTS, truth=TRUTH, threshold=threshold)
    used = np.greater(WEIGHTS, threshold)
    expected = support_f1(TRUTH, used, permute=True)
    assert display.score == expected
    assert display.ax_.get_title(loc="left") == f"F1 {expected:.2f}"


def test_without_a_truth_factors_stay_where_they_are(tmp_path):
    display = FactorDisplay.from_weights(WEIGHTS)
    check_png(display, tmp_path)
    np.testing.assert_array_equal(display.im_.get_array(), WEIGHTS.T)
    assert display.rings_ is display.legend_ is display.score is None
    assert display.ax_.get_title(loc="left") == ""


def test_an_estimator_is_asked_task_by_task():
    bunch = make_confounded_tasks(
        4, 100, mixing="identity", n_test_tasks=4, random_state=0
    )
    _, ax = pyplot.subplots()
    display = FactorDisplay.from_estimator(
        MeanGate(), bunch.data, bunch.tasks, truth=bunch.causal_sets, ax=ax
    )
    assert display.ax_ is ax
    assert display.score == 1.0
    np.testing.assert_array_equal(display.im_.get_array(), bunch.causal_sets.T)
    assert display.task_names == ["0", "1", "2", "3"]


def test_targets_are_passed_on_where_given():
    X, tasks = np.ones((6, 2)), ["b", "a", "a", "b", "b", "a"]
    y = [0.1, 0.3, 0.2, 0.4, 0.1, 0.1]
    display = FactorDisplay.from_estimator(MeanGate(), X, tasks, y=y)
    assert display.task_names == ["a", "b"]
    np.testing.assert_allclose(display.weights, [[0.3, 0.3], [0.4, 0.4]])


def test_styles_reach_the_artists():
    display = FactorDisplay(WEIGHTS[:, :3], truth=TRUTH).plot(
        cmap="Blues", im_kw={"alpha": 0.5}, ring_kw={"color": "red", "markersize": 3}
    )
    assert display.im_.get_cmap().name == "Blues"
    assert display.im_.get_alpha() == 0.5
    assert display.rings_.get_color() == "red"


# -- negative transfer -----------------------------------------------------------------


def test_curves_bands_and_references_hold_the_numbers(tmp_path):
    rng = np.random.default_rng(0)
    sizes = [1, 2, 8]
    scores = {"MAML": rng.random((3, 20)), "MAML + MetaCRL": rng.random((3, 30))}
    display = NegativeTransferDisplay.from_scores(sizes, scores)
    check_png(display, tmp_path)
    for name, table in scores.items():
        line = display.lines_[name]
        np.testing.assert_allclose(line.get_data(), [sizes, table.mean(axis=1)])
        assert display.references_[name].get_ydata()[0] == table[0].mean()
        assert display.references_[name].get_color() == line.get_color()
        interval = stats.ttest_1samp(table[1], 0).confidence_interval()
        half = display.half_width[name][1]
        assert 2 * half == pytest.approx(interval.high - interval.low)
        heights = display.bands_[name].get_paths()[0].vertices
        assert heights[heights[:, 0] == 2][:, 1].max() == pytest.approx(interval.high)
        gain = stats.ttest_rel(table[2], table[0]).confidence_interval()
        mean, half = display.transfer[name][2]
        assert (mean - half, mean + half) == pytest.approx((gain.low, gain.high))
        np.testing.assert_array_equal(display.transfer[name][0], [0, 0])
    assert texts(display.ax_.get_legend().get_texts()) == list(scores)
    assert texts(display.ax_.get_xticklabels()) == ["1", "2", "8"]
    assert display.ax_.get_ylabel() == "accuracy"


def test_single_scores_have_no_band_and_references_can_go():
    _, ax = pyplot.subplots()
    display = NegativeTransferDisplay.from_scores(
        [2, 4], {"a": [[0.5], [0.4]]}, score_name="R2", ax=ax, reference=False
    )
    assert display.ax_ is ax
    assert display.bands_ == display.references_ == {}
    assert display.ax_.get_ylabel() == "R2"


# -- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FactorDisplay([0.5]), "2 axes. Got shape"),
        (lambda: FactorDisplay([[0.5, 1.5]]), "between 0 and 1. Got .* 0.5 to 1.5"),
        (lambda: FactorDisplay(WEIGHTS, truth=TRUTH), "use from_weights to match"),
        (
            lambda: FactorDisplay.from_weights(WEIGHTS[:, :2], truth=TRUTH),
            r"at most as many factors.*\(3, 3\) and \(3, 2\)",
        ),
        (
            lambda: FactorDisplay.from_weights(WEIGHTS, task_names=["a"]),
            "task_names must hold one name for each of the 3. Got 1",
        ),
        (
            lambda: FactorDisplay.from_estimator(object(), WEIGHTS, [0, 0, 1]),
            "must have a method 'task_weights'",
        ),
        (
            lambda: NegativeTransferDisplay([2, 1], {"a": [[0.5], [0.5]]}),
            "positive and increase. Got",
        ),
        (lambda: NegativeTransferDisplay([1], {}), "at least one learner"),
        (
            lambda: NegativeTransferDisplay([1, 2], {"a": [[0.5]]}),
            r"scores\['a'\] must have one row for each of the 2 numbers.*Got 1",
        ),
        (
            lambda: NegativeTransferDisplay([1], {"a": [[np.nan]]}),
            r"scores\['a'\] must be finite",
        ),
    ],
)
def test_bad_arrays_are_refused(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()


def test_threshold_is_checked():
    with pytest.raises(ValueError, match="'threshold' parameter of"):
        FactorDisplay.from_weights(WEIGHTS, threshold=1.0)


@pytest.mark.parametrize(
    "display",
    [FactorDisplay(WEIGHTS), NegativeTransferDisplay([1], {"a": [[0.5]]})],
    ids=lambda display: type(display).__name__,
)
def test_without_matplotlib_the_error_says_what_to_install(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install skcausalmeta\[plot\]"):
        display.plot()
