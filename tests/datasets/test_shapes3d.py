"""The renderer against the definition of its solids, and the draws of its factors."""

import colorsys
import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from skcausalmeta.datasets import make_shapes3d, render_shapes3d
from skcausalmeta.datasets._shapes3d_scene import _enter, _normal
from skcausalmeta.exceptions import InvalidInputError

CUBE, CYLINDER, SPHERE, CAPSULE = range(4)
SHAPES = [CUBE, CYLINDER, SPHERE, CAPSULE]
ORIENTATION = 5


def factors(shape=SPHERE, floor=0.0, wall=0.3, thing=0.6, scale=1.0, orientation=0.0):
    return [floor, wall, thing, scale, shape, orientation]


def render(size=32, **values):
    return render_shapes3d([factors(**values)], size=size)[0].astype(int)


def changed(size=32, **values):
    """Pixels that a second value of a factor changes, and the other factors."""
    ((name, (first, second)),) = (
        (key, value) for key, value in values.items() if isinstance(value, tuple)
    )
    rest = {key: value for key, value in values.items() if key != name}
    one, other = (render(size, **rest, **{name: value}) for value in (first, second))
    return (one != other).any(axis=-1)


def inside(shape, points):
    """The solids by their definition, in units of the object."""
    x, y, z = points
    if shape == CUBE:
        return (abs(x) < 0.62) & (abs(y) < 0.62) & (z > 0) & (z < 1.24)
    if shape == CYLINDER:
        return (x**2 + y**2 < 0.62**2) & (z > 0) & (z < 1.24)
    radius, top = (0.72, 0.72) if shape == SPHERE else (0.46, 0.46 + 0.76)
    on_axis = np.clip(z, radius, top)
    return x**2 + y**2 + (z - on_axis) ** 2 < radius**2


# -- geometry --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_rays_enter_and_leave_the_solid_where_its_definition_says(shape):
    rng = np.random.default_rng(shape)
    origins, aims = rng.normal(size=(2, 3, 300)) * np.array([[[2.0]], [[0.4]]])
    directions = aims + np.array([[0], [0], [0.6]]) - origins
    interval = _enter(
        shape,
        tuple(torch.from_numpy(origins)),
        tuple(torch.from_numpy(directions)),
    )
    near, far = interval.near.numpy(), interval.far.numpy()
    t = np.linspace(-4, 4, 4001)
    points = origins[:, :, None] + t * directions[:, :, None]  # (3, n_rays, n_steps)
    within = inside(shape, points)
    hit = within.any(axis=1)
    assert 100 < hit.sum() < 280
    # Between two steps a ray can graze the solid unseen.
    grazes = (near < far) & ~hit
    assert (far - near)[grazes].max(initial=0) < t[1] - t[0]
    assert not (hit & (near >= far)).any()
    first, last = t[within.argmax(axis=1)], t[::-1][within[:, ::-1].argmax(axis=1)]
    seen = hit & (first > t[0]) & (last < t[-1])
    assert np.abs(first - near)[seen].max() < 1.01 * (t[1] - t[0])
    assert np.abs(last - far)[seen].max() < 1.01 * (t[1] - t[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_normals_have_length_one_and_point_out_of_the_solid(shape):
    rng = np.random.default_rng(0)
    origins = np.array([[4.0], [3.0], [2.5]]) * rng.choice([-1, 1], size=(3, 400))
    origins[2] = abs(origins[2])
    aims = rng.uniform(-0.4, 0.4, size=(3, 400)) + np.array([[0], [0], [0.6]])
    origin, direction = torch.from_numpy(origins), torch.from_numpy(aims - origins)
    hit = _enter(shape, tuple(origin), tuple(direction))
    points = origin + hit.near * direction
    normals = torch.stack(_normal(shape, tuple(points)))
    met = (hit.near < hit.far).numpy()
    points, normals = points.numpy()[:, met], normals.numpy()[:, met]
    assert met.sum() > 200
    np.testing.assert_allclose(np.linalg.norm(normals, axis=0), 1, atol=1e-6)
    assert not inside(shape, points + 1e-3 * normals).any()
    assert inside(shape, points - 1e-3 * normals).mean() > 0.97  # all but at edges


# -- pictures --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_every_hue_paints_a_part_of_its_own(shape):
    parts = [
        changed(shape=shape, **{name: (0.15, 0.55)})
        for name in ("floor", "wall", "thing")
    ]
    assert (np.sum(parts, axis=0) == 1).all()
    floor, wall, thing = parts
    assert wall[0].all()
    assert floor[-1].all()
    assert thing[16, 16]
    assert 0.05 < thing.mean() < 0.35
    # The object stands on the floor: floor below it, its foot in front of the wall.
    foot = np.nonzero(thing.any(axis=1))[0].max()
    assert floor[foot + 1, 16]
    assert floor[foot, 0]


@pytest.mark.parametrize("hue", [0.0, 0.1, 0.45, 0.6, 0.9])
def test_pixels_have_the_hue_of_their_surface(hue):
    image = render(floor=hue, wall=hue, thing=hue + 0.5)
    for pixel in (image[0, 0], image[31, 0], image[31, 31]):
        found = colorsys.rgb_to_hsv(*(pixel / 255))[0]
        assert abs((found - hue + 0.5) % 1 - 0.5) < 0.01


def test_the_room_is_lit_and_the_object_throws_a_shadow():
    image = render(size=64, shape=CAPSULE)
    floor = changed(size=64, shape=CAPSULE, floor=(0.0, 0.5))
    brightness = image.sum(axis=-1)[floor]
    # The object is blue on red: only light and shadow change the red floor.
    assert np.quantile(brightness, 0.02) < 0.75 * np.median(brightness)
    wall = image.sum(axis=-1)[0]
    assert len(np.unique(wall)) > 5


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_grow_with_their_scale(shape):
    sizes = [
        changed(shape=shape, scale=scale, thing=(0.1, 0.6)).sum()
        for scale in np.linspace(0.75, 1.25, 8)
    ]
    assert (np.diff(sizes) > 0).all()


def test_shapes_differ_and_the_nearest_one_is_drawn():
    images = [render(shape=shape) for shape in SHAPES]
    for first in SHAPES:
        for second in SHAPES[:first]:
            assert (images[first] != images[second]).any(axis=-1).mean() > 0.02
    for value, shape in [(-0.5, CUBE), (0.6, CYLINDER), (2.4, SPHERE), (3.5, CAPSULE)]:
        np.testing.assert_array_equal(render(shape=value), images[shape])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_camera_orbits_the_object(shape):
    thing = changed(shape=shape, thing=(0.1, 0.6))
    turned = changed(shape=shape, thing=(0.1, 0.6), orientation=30.0)
    # Only a cube has another outline from the side.
    assert (thing != turned).any() == (shape == CUBE)
    views = [render(shape=shape, orientation=o) for o in np.linspace(-30, 30, 15)]
    for one, other in itertools.pairwise(views):
        assert (np.abs(one - other) > 2).any(axis=-1).mean() > 0.02


def test_hues_and_turns_are_periodic():
    image = render(floor=0.1, orientation=-20.0)
    np.testing.assert_array_equal(image, render(floor=1.1, orientation=-20.0))
    np.testing.assert_array_equal(image, render(floor=-0.9, orientation=340.0))


def test_images_do_not_depend_on_what_is_drawn_with_them():
    values = make_shapes3d(70, size=4, continuous=True, random_state=0).factors
    together = render_shapes3d(values, size=48)
    alone = np.concatenate([render_shapes3d(row[None], size=48) for row in values])
    np.testing.assert_array_equal(together, alone)


def test_supersampling_is_the_mean_of_finer_pixels():
    row = [factors(shape=CUBE, orientation=12.0)]
    fine = render_shapes3d(row, size=48)[0].reshape(24, 2, 24, 2, 3)
    smooth = render_shapes3d(row, size=24, supersampling=2)[0]
    assert np.abs(fine.mean(axis=(1, 3)) - smooth).max() <= 1


def test_no_rows_give_no_images():
    assert render_shapes3d(np.empty((0, 6)), size=8).shape == (0, 8, 8, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.0] * 5], r"shape \(n_samples, 6\).*'floor_hue'.*Got shape \(1, 5\)"),
        ([factors(floor=np.nan)], "must be finite. Got 1 NaN"),
        ([factors(scale=0.0)], r"in \(0, 2\]. Got values from 0 to 0"),
        ([factors(scale=2.5)], "Got values from 2.5 to 2.5"),
        ([factors(shape=3.6)], "must round to 0 .*capsule.* Got values from 3.6"),
        ([factors(shape=-1)], "must round to 0"),
    ],
)
def test_factors_that_cannot_be_drawn_are_refused(values, message):
    with pytest.raises(InvalidInputError, match=message):
        render_shapes3d(values)


# -- draws -----------------------------------------------------------------------------


def test_draws_come_from_the_official_grid():
    bunch = make_shapes3d(3000, size=4, random_state=0)
    assert bunch.data.shape == (3000, 4, 4, 3)
    assert bunch.factor_names[ORIENTATION] == "orientation"
    assert bunch.factor_sizes == (10, 10, 10, 8, 4, 15)
    for column, size in enumerate(bunch.factor_sizes):
        values = np.unique(bunch.factors[:, column])
        assert len(values) == size
        np.testing.assert_allclose(np.diff(values, n=2), 0, atol=1e-12)
        counts = np.bincount(bunch.levels[:, column], minlength=size)
        assert stats.chisquare(counts).pvalue > 1e-3
    lows, highs = bunch.factors.min(axis=0), bunch.factors.max(axis=0)
    np.testing.assert_allclose(lows, [0, 0, 0, 0.75, 0, -30])
    np.testing.assert_allclose(highs, [0.9, 0.9, 0.9, 1.25, 3, 30])
    np.testing.assert_allclose(bunch.latents.mean(axis=0), 0, atol=0.08)
    np.testing.assert_allclose(bunch.latents.std(axis=0), 1, atol=0.05)
    np.testing.assert_array_equal(bunch.data, render_shapes3d(bunch.factors, size=4))


def test_gaussian_draws_have_the_stated_frequencies():
    bunch = make_shapes3d(5000, size=4, correlation=0.0, random_state=1)
    for column, size in enumerate(bunch.factor_sizes):
        latent = (np.arange(size) - (size - 1) / 2) / np.sqrt((size**2 - 1) / 12)
        expected = np.exp(-(latent**2) / 2)
        counts = np.bincount(bunch.levels[:, column], minlength=size)
        assert stats.chisquare(counts, 5000 * expected / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize("as_matrix", [False, True])
def test_correlated_draws_are_correlated(as_matrix):
    correlation = 0.9 * np.ones((6, 6)) + 0.1 * np.eye(6) if as_matrix else 0.9
    bunch = make_shapes3d(2000, size=4, correlation=correlation, random_state=0)
    found = np.corrcoef(bunch.latents.T)[np.triu_indices(6, 1)]
    # The grid ends at 1.3 to 1.6 standard deviations, which cuts the correlation.
    assert 0.7 < found.min() <= found.max() < 0.95


def test_continuous_draws_move_within_their_cell():
    fixed, moved = (
        make_shapes3d(500, size=4, continuous=c, random_state=3) for c in (False, True)
    )
    np.testing.assert_array_equal(fixed.levels, moved.levels)
    steps = np.array([0.1, 0.1, 0.1, 0.5 / 7, 1.0, 60 / 14])
    offsets = (moved.factors - fixed.factors) / steps
    reach = np.array([0.25, 0.25, 0.25, 0.5, 0.0, 0.5])
    found = np.abs(offsets).max(axis=0)
    assert (found <= reach + 1e-12).all()
    assert (found >= 0.95 * reach).all()
    assert (moved.data != fixed.data).any()


def test_draws_repeat_with_the_seed_and_leave_the_global_states_alone():
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state = torch.get_rng_state()
    first, again, other = (
        make_shapes3d(20, size=8, continuous=True, random_state=seed).data
        for seed in (0, 0, None)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("correlation", "message"),
    [
        (1.0, "positive definite.*between -0.2 and 1"),
        (-0.3, "positive definite"),
        (np.eye(5), r"of shape \(6, 6\). Got an array of shape \(5, 5\)"),
        (2 * np.eye(6), "ones on the diagonal"),
        (np.nan, "must be one number or a symmetric matrix.*Got nan"),
    ],
)
def test_what_is_no_correlation_is_refused(correlation, message):
    with pytest.raises(InvalidInputError, match=message):
        make_shapes3d(2, correlation=correlation)


@pytest.mark.parametrize(
    "params", [{"n_samples": 0}, {"size": 3}, {"correlation": "a"}]
)
def test_parameters_are_checked(params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
        make_shapes3d(**params)
