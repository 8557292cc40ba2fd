"""Augmentations against images whose change can be worked out by hand."""

import copy
import pickle

import pytest
import torch
from sklearn.base import BaseEstimator, clone

from skcausalmeta.backbones import (
    RandomAffine,
    RandomColor,
    RandomFlip,
    RandomShift,
    build_augmentation,
    named_augmentation,
)
from skcausalmeta.backbones._augment import Compose
from skcausalmeta.exceptions import InvalidInputError

ALL = [
    RandomShift(max_shift=2),
    RandomFlip(),
    RandomAffine(max_rotation=20),
    RandomColor(saturation=0.2),
    Compose((RandomFlip(), RandomShift())),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(*shape):
    return torch.randn(*shape, generator=generator(7))


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
def test_only_the_given_generator_decides(augmentation):
    images = random_images(12, 2, 9, 7)
    before = images.clone()
    state = torch.random.get_rng_state()
    first = augmentation(images, generator(0))
    assert first.shape == images.shape
    assert first.dtype == images.dtype
    assert torch.equal(first, augmentation(images, generator(0)))
    assert not torch.equal(first, augmentation(images, generator(1)))
    assert torch.equal(images, before)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
def test_values_behave_like_scikit_learn_parameters(augmentation):
    class Holder(BaseEstimator):
        def __init__(self, augment=None):
            self.augment = augment

    cloned = clone(Holder(augmentation)).augment
    for other in (cloned, copy.deepcopy(augmentation)):
        assert other == augmentation
        assert hash(other) == hash(augmentation)
    restored = pickle.loads(pickle.dumps(augmentation))
    assert restored == augmentation
    images = random_images(3, 1, 8, 8)
    assert torch.equal(restored(images, generator()), augmentation(images, generator()))
    assert sum(augmentation == other for other in ALL) == 1


def test_shift_moves_each_image_by_whole_pixels_and_fills_with_zeros():
    images = random_images(300, 2, 5, 6)
    shifted = RandomShift(max_shift=2)(images, generator())
    seen = set()
    for before, after in zip(images, shifted, strict=True):
        matches = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                expected = before.new_zeros(2, 9, 10)
                expected[:, 2 + dy : 7 + dy, 2 + dx : 8 + dx] = before
                if torch.equal(after, expected[:, 2:7, 2:8]):
                    matches.append((dy, dx))
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) == 25


def test_shift_may_exceed_the_image():
    shifted = RandomShift(max_shift=4)(torch.ones(50, 1, 2, 2), generator())
    assert set(shifted.flatten().tolist()) == {0.0, 1.0}


def test_flip_mirrors_about_half_of_the_images_left_to_right():
    images = random_images(400, 1, 3, 4)
    flipped = RandomFlip()(images, generator())
    same = (flipped == images).flatten(1).all(dim=1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(dim=1)
    assert (same ^ mirrored).all()
    assert 150 < int(mirrored.sum()) < 250


def blob(h, w, y, x, radius=2.0):
    """One smooth spot, at (y, x) in pixels from the centre."""
    rows = torch.arange(h, dtype=torch.float64) - (h - 1) / 2
    columns = torch.arange(w, dtype=torch.float64) - (w - 1) / 2
    square = (rows[:, None] - y) ** 2 + (columns - x) ** 2
    return torch.exp(-square / (2 * radius**2)).expand(200, 1, h, w)


def centre_and_spread(images):
    """Centre of mass from the middle (n, 2) and root mean square radius (n,)."""
    h, w = images.shape[2:]
    rows = torch.arange(h, dtype=images.dtype) - (h - 1) / 2
    columns = torch.arange(w, dtype=images.dtype) - (w - 1) / 2
    mass = images[:, 0] / images[:, 0].sum(dim=(1, 2), keepdim=True)
    y = (mass.sum(dim=2) * rows).sum(dim=1)
    x = (mass.sum(dim=1) * columns).sum(dim=1)
    square = (rows - y[:, None]).square()[:, :, None]
    square = square + (columns - x[:, None]).square()[:, None, :]
    return torch.stack([y, x], dim=1), (mass * square).sum(dim=(1, 2)).sqrt()


def test_affine_without_change_is_the_identity():
    images = random_images(3, 2, 9, 6)
    same = RandomAffine(max_rotation=0, max_scale=0, max_shift=0)(images, generator())
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)


def test_affine_rotation_is_rigid_in_images_that_are_not_square():
    images = blob(41, 61, 0.0, 12.0)
    rotate = RandomAffine(max_rotation=30, max_scale=0, max_shift=0)
    centres, spread = centre_and_spread(rotate(images, generator()))
    radius = centres.norm(dim=1)
    torch.testing.assert_close(radius, torch.full_like(radius, 12), atol=0.05, rtol=0)
    torch.testing.assert_close(spread, centre_and_spread(images)[1], atol=0.1, rtol=0)
    angles = torch.rad2deg(torch.atan2(centres[:, 0], centres[:, 1]))
    assert -30.1 < angles.min() < -25
    assert 25 < angles.max() < 30.1


def test_affine_shift_is_a_share_of_each_side():
    move = RandomAffine(max_rotation=0, max_scale=0, max_shift=0.2)
    centres, _ = centre_and_spread(move(blob(41, 61, 0.0, 0.0), generator()))
    reach = centres.abs().amax(dim=0)
    assert 0.9 * 0.2 * 41 < reach[0] < 0.2 * 41 + 0.05
    assert 0.9 * 0.2 * 61 < reach[1] < 0.2 * 61 + 0.05


def test_affine_scale_changes_size_by_the_share():
    resize = RandomAffine(max_rotation=0, max_scale=0.3, max_shift=0)
    # Wide, as interpolation alone spreads a spot by a fraction of a pixel.
    images = blob(51, 61, 0.0, 0.0, radius=5.0)
    _, spread = centre_and_spread(resize(images, generator()))
    ratio = spread / centre_and_spread(images)[1]
    assert 0.69 < ratio.min() < 0.75
    assert 1.25 < ratio.max() < 1.31


def mild_images(channels=3):
    """Values in the middle of the range, which the last image spans."""
    images = 0.5 + 0.05 * random_images(40, channels, 6, 5).clamp(-2, 2)
    images[-1, :, 0, 0], images[-1, :, 0, 1] = 0.0, 1.0
    return images


def grey_of(images):
    return torch.einsum("nchw,c->nhw", images, torch.tensor([0.299, 0.587, 0.114]))


def test_brightness_scales_each_image_by_one_factor():
    images = mild_images()
    changed = RandomColor(0.3, 0, 0)(images, generator())[:-1]
    ratio = (changed / images[:-1]).flatten(1)
    torch.testing.assert_close(ratio.amax(1), ratio.amin(1))
    assert 0.7 <= ratio.min() < 0.75
    assert 1.25 < ratio.max() <= 1.3


def test_contrast_keeps_the_mean_grey_and_scales_the_distance_from_it():
    images = mild_images()
    changed = RandomColor(0, 0.5, 0)(images, generator())[:-1]
    mean = grey_of(images)[:-1].mean((1, 2))
    torch.testing.assert_close(grey_of(changed).mean((1, 2)), mean)
    centre = mean[:, None, None, None]
    before, after = (
        (part - centre).flatten(1).norm(dim=1) for part in (images[:-1], changed)
    )
    factor = after / before
    assert 0.5 <= factor.min() < 0.6
    assert 1.4 < factor.max() <= 1.5


def test_saturation_keeps_the_grey_of_every_pixel():
    images = mild_images()
    changed = RandomColor(0, 0, 0.5)(images, generator())
    torch.testing.assert_close(grey_of(changed)[:-1], grey_of(images)[:-1])
    assert (changed - images)[:-1].abs().amax((1, 2, 3)).min() > 0
    single = mild_images(1)
    torch.testing.assert_close(RandomColor(0, 0, 0.5)(single, generator()), single)


def test_colours_stay_in_the_range_of_the_images():
    images = torch.rand(20, 3, 4, 4, generator=generator())
    changed = RandomColor(0.9, 0.9, 0.9)(images, generator())
    assert images.min() <= changed.min() < changed.max() <= images.max()


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        (None, None),
        ([], None),
        ([None], None),
        ("shift", RandomShift(1)),
        ("flip", RandomFlip()),
        ("affine", RandomAffine(10.0, 0.1, 0.1)),
        ("color", RandomColor(0.4, 0.4, 0.4)),
        ("flip-shift", Compose((RandomFlip(), RandomShift(1)))),
        (["flip"], RandomFlip()),
        (("affine", RandomFlip()), Compose((RandomAffine(), RandomFlip()))),
        (abs, abs),
    ],
)
def test_build_augmentation(augment, expected):
    assert build_augmentation(augment) == expected


def test_steps_are_applied_in_order():
    def double(images, generator):
        return images * 2

    def add_draw(images, generator):
        return images + torch.rand(1, generator=generator)

    both = build_augmentation([double, add_draw])
    images = torch.ones(1, 1, 1, 1)
    expected = 2 + torch.rand(1, generator=generator(3)).item()
    assert both(images, generator(3)).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ("shfit", r"must be one of \['affine', .*'shfit'.*Did you mean 'shift'\?"),
        ("qqq", "Got 'qqq' instead.$"),
        (3, "must be None, a name among .* Got 3 instead"),
        (RandomFlip, r"pass an instance, RandomFlip\(\)"),
        (["flip", 3], "Got 3 instead"),
    ],
)
def test_build_augmentation_refuses(augment, message):
    with pytest.raises(ValueError, match=message):
        build_augmentation(augment)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (RandomShift, {"max_shift": 0}, "'max_shift' parameter of RandomShift"),
        (RandomShift, {"max_shift": 1.5}, "positive integer. Got 1.5"),
        (RandomAffine, {"max_rotation": 181}, r"\[0, 180\]. Got 181"),
        (RandomAffine, {"max_scale": 1.0}, r"'max_scale' .* \[0, 1\). Got 1.0"),
        (RandomAffine, {"max_shift": -0.1}, "'max_shift' parameter of RandomAffine"),
        (RandomColor, {"contrast": 1.0}, r"'contrast' .* \[0, 1\). Got 1.0"),
    ],
)
def test_parameters_out_of_range_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
def test_samples_that_are_not_images_are_refused(augmentation):
    with pytest.raises(ValueError, match=r"\(n, c, h, w\). Got shape \(4, 9\)"):
        augmentation(torch.zeros(4, 9), generator())


@pytest.mark.parametrize("kind", [RandomAffine, RandomColor])
def test_integers_are_refused(kind):
    with pytest.raises(ValueError, match=r"Got torch\.uint8; convert"):
        kind()(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), generator())


def test_parameters_of_no_augmentation_are_refused():
    with pytest.raises(InvalidInputError, match=r"one that is named. Got augment=None"):
        named_augmentation(None)
    assert named_augmentation("shift") is not named_augmentation("shift")
