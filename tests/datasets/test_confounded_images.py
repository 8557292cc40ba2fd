"""make_confounded_images on scikit-learn's digits."""

import colorsys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from skcausalmeta.datasets import make_confounded_images
from skcausalmeta.exceptions import InvalidInputError

DIGITS = load_digits()
IMAGES, LABELS = DIGITS.images, DIGITS.target


def make(n_tasks=4, n_per_env=20, **params):
    params = {"n_test_tasks": 4, "random_state": 0} | params
    return make_confounded_images(IMAGES, LABELS, n_tasks, n_per_env, **params)


def test_pictures_are_ink_in_the_hue_on_the_background_of_the_task():
    bunch = make(signature=0.25)
    assert bunch.data.shape == (160, 8, 8, 3)
    assert bunch.data.dtype == np.float32
    for row, index, task, hue in zip(
        bunch.data, bunch.index, bunch.tasks, bunch.latents[:, 1], strict=True
    ):
        grey = 0.25 if bunch.causal_sets[task, 1] else 0.0
        ink = IMAGES[index][..., None] / 16
        colour = np.array(colorsys.hsv_to_rgb(hue, 1, 1))
        np.testing.assert_allclose(row, ink * colour + (1 - ink) * grey, atol=1e-6)
    shapes = bunch.classes[bunch.latents[:, 0].astype(int)]
    np.testing.assert_array_equal(LABELS[bunch.index], shapes)


def test_pairs_share_characters_and_hues_and_swap_cause_and_confounder():
    bunch = make(8, n_classes=3)
    np.testing.assert_array_equal(bunch.groups, [0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(bunch.confounders, [1, 0, 3, 2, 5, 4, 7, 6])
    np.testing.assert_array_equal(bunch.confounder_sets, ~bunch.causal_sets)
    assert bunch.causal_sets[:2].tolist() == [[True, False], [False, True]]
    for name in ("characters", "hues"):
        np.testing.assert_array_equal(bunch[name][::2], bunch[name][1::2])
    gaps = np.diff(np.sort(bunch.hues, axis=1), axis=1)
    np.testing.assert_allclose(gaps, 1 / 3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_cause_and_confounder_show_the_label_as_often_as_stated(n_classes):
    strengths = (0.8, -0.5)
    bunch = make(
        20,
        300,
        n_classes=n_classes,
        rho_train=strengths,
        label_noise=0.1,
        hue_noise=0.0,
    )
    shape = bunch.latents[:, :1] == bunch.characters[bunch.tasks]
    hue = np.isclose(bunch.latents[:, 1:], bunch.hues[bunch.tasks])
    assert (shape.sum(axis=1) == 1).all()
    assert (hue.sum(axis=1) == 1).all()
    shown = np.stack([shape.argmax(axis=1), hue.argmax(axis=1)], axis=1)
    rows = np.arange(len(shown))
    cause = shown[rows, bunch.causal_sets[bunch.tasks].argmax(axis=1)]
    other = shown[rows, bunch.confounder_sets[bunch.tasks].argmax(axis=1)]
    assert (cause == bunch.target).mean() == pytest.approx(0.9, abs=0.01)
    for env, rho in enumerate(strengths):
        here = bunch.envs == env
        tied = (bunch.target[here] + (rho < 0)) % n_classes
        expected = abs(rho) + (1 - abs(rho)) / n_classes
        assert (other[here] == tied).mean() == pytest.approx(expected, abs=0.02)


def test_test_tasks_have_characters_of_their_own():
    bunch = make(20, test_classes=[3, 7, 9], n_test_tasks=20)
    assert bunch.test_classes.tolist() == [3, 7, 9]
    assert set(bunch.characters.ravel()) == {0, 1, 2, 4, 5, 6, 8}
    assert set(bunch.test.characters.ravel()) == {3, 7, 9}
    assert set(bunch.test.latents_query[..., 0].ravel()) == {3, 7, 9}
    assert len(make(test_classes=0.3).test_classes) == 3


def test_episodes_of_new_tasks_have_a_leading_axis():
    bunch = make(rho_test=(-0.9, 0.0), n_support=6, n_query=9)
    test = bunch.test
    assert test.X_support.shape == (4, 12, 8, 8, 3)
    assert test.X_query.shape == (4, 18, 8, 8, 3)
    np.testing.assert_array_equal(test.envs_support, np.repeat([0, 1], 6))
    np.testing.assert_array_equal(test.rho_query, np.repeat([-0.9, 0.0], 9))
    np.testing.assert_array_equal(bunch.tasks, np.repeat(np.arange(4), 40))
    counts = [np.bincount(y[:6]) for y in test.y_support]
    assert np.unique(counts).tolist() == [3]


def test_pixels_lose_where_the_colour_turns_and_the_shape_does_not():
    test = make(n_test_tasks=60, n_query=40).test

    def score(view):
        model, scores = LogisticRegression(), []
        for t in np.flatnonzero(test.causal_sets[:, 0]):
            model.fit(view(test.X_support[t]), test.y_support[t])
            scores.append(model.score(view(test.X_query[t]), test.y_query[t]))
        return np.mean(scores)

    shape = score(lambda rows: rows.max(axis=3).reshape(len(rows), -1))
    pixels = score(lambda rows: rows.reshape(len(rows), -1))
    assert shape > 0.85
    assert shape > pixels + 0.2


def test_it_repeats_with_the_seed():
    first, again, other = make(), make(), make(random_state=1)
    np.testing.assert_array_equal(first.data, again.data)
    assert (first.data != other.data).any()


@pytest.mark.parametrize(
    ("arrays", "params", "message"),
    [
        ((IMAGES[0], LABELS), {}, r"\(n_images, height, width\).*Got \(8, 8\)"),
        ((IMAGES, LABELS[:-1]), {}, r"Got \(1796,\) for 1797 images"),
        ((0 * IMAGES, LABELS), {}, "must hold ink.*from 0.0 to 0.0"),
        ((IMAGES - 1, LABELS), {}, "must hold ink.*from -1.0"),
        ((IMAGES, LABELS), {"n_tasks": 3}, "Got n_tasks=3; take 4"),
        ((IMAGES, LABELS), {"n_query": 1}, "Got n_query=1"),
        ((IMAGES, LABELS), {"rho_test": 2}, "rho_test must hold .*Got 2"),
        ((IMAGES, LABELS), {"test_classes": [1, 77]}, r"labels that occur.*\[77\]"),
        ((IMAGES, LABELS), {"test_classes": [1]}, "Got 1 for n_classes=2"),
    ],
)
def test_impossible_pictures_are_refused(arrays, params, message):
    with pytest.raises(InvalidInputError, match=message):
        make_confounded_images(*arrays, **params)
