"""Random changes of images that keep their class, drawn from a given generator."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator

from ..exceptions import InvalidInputError
from ._checks import positive_int, real_between

Augmentation = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


class _Augmentation(BaseEstimator):
    """Parameters of an augmentation: read, searched and set, refused where invalid."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters, all of them or none."""
        unknown = params.keys() - self.get_params(deep=False).keys()
        if not unknown:
            type(self)(**{**self.get_params(deep=False), **params})  # refuses
        return super().set_params(**params)


@dataclass(unsafe_hash=True)
class RandomShift(_Augmentation):
    """Shift every image by a whole number of pixels, filling with zeros.

    Parameters
    ----------
    max_shift : int, default=1
        Largest shift in pixels along each axis. Every shift from -max_shift to
        max_shift has the same probability, for each image and axis by itself.

    Raises
    ------
    InvalidInputError
        If `max_shift` is not a positive integer or the images have not four axes.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.backbones import RandomShift
    >>> images = torch.ones(1, 1, 3, 3)
    >>> shifted = RandomShift(1)(images, torch.Generator().manual_seed(0))
    >>> shifted.shape
    torch.Size([1, 1, 3, 3])
    """

    max_shift: int = 1

    def __post_init__(self) -> None:
        positive_int("RandomShift", "max_shift", self.max_shift)

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return shifted copies of images (n, c, h, w)."""
        n, c, h, w = _check_images(images)
        reach = int(self.max_shift)
        padded = F.pad(images, (reach, reach, reach, reach))
        # Offset 0 of the padded image is a shift by `reach`, 2 * reach by -reach.
        offsets = torch.randint(
            0, 2 * reach + 1, (2, n, 1), generator=generator, device=generator.device
        ).to(images.device)
        rows = offsets[0] + torch.arange(h, device=images.device)  # (n, h)
        columns = offsets[1] + torch.arange(w, device=images.device)  # (n, w)
        image = torch.arange(n, device=images.device)[:, None, None, None]
        channel = torch.arange(c, device=images.device)[None, :, None, None]
        return padded[image, channel, rows[:, None, :, None], columns[:, None, None]]


@dataclass(unsafe_hash=True)
class RandomFlip(_Augmentation):
    """Mirror every image left to right with probability one half.

    Raises
    ------
    InvalidInputError
        If the images have not four axes.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.backbones import RandomFlip
    >>> images = torch.tensor([[[[1.0, 2.0]]]]).expand(4, 1, 1, 2)
    >>> flipped = RandomFlip()(images, torch.Generator().manual_seed(0))
    >>> sorted(set(flipped[:, 0, 0, 0].tolist()))
    [1.0, 2.0]
    """

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return images (n, c, h, w), some of them mirrored."""
        n = _check_images(images)[0]
        flips = _uniform((n, 1, 1, 1), generator, images.device) < 0.5
        return torch.where(flips, images.flip(-1), images)


@dataclass(unsafe_hash=True)
class RandomAffine(_Augmentation):
    """Rotate, scale and shift every image, with bilinear interpolation.

    The three changes are drawn uniformly for each image by itself. Places that come
    from outside an image are zero. Rotations are rigid for any aspect ratio.

    Parameters
    ----------
    max_rotation : float, default=10.0
        Largest rotation to either side, in degrees, at most 180.

    max_scale : float, default=0.1
        Objects become up to this share larger or smaller, in [0, 1).

    max_shift : float, default=0.1
        Largest shift to either side, as a share of the height and of the width, in
        [0, 1).

    Raises
    ------
    InvalidInputError
        If a parameter is out of range, or the images are not floating-point tensors
        with four axes.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.backbones import RandomAffine
    >>> RandomAffine(max_rotation=20)
    RandomAffine(max_rotation=20, max_scale=0.1, max_shift=0.1)
    >>> images = torch.zeros(2, 3, 8, 8)
    >>> RandomAffine()(images, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 8])
    """

    max_rotation: float = 10.0
    max_scale: float = 0.1
    max_shift: float = 0.1

    def __post_init__(self) -> None:
        owner = "RandomAffine"
        real_between(owner, "max_rotation", self.max_rotation, 0, 180, closed=True)
        real_between(owner, "max_scale", self.max_scale, 0, 1, closed=False)
        real_between(owner, "max_shift", self.max_shift, 0, 1, closed=False)

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return changed copies of images (n, c, h, w)."""
        n, _, h, w = _check_images(images)
        _check_floating("RandomAffine interpolates", images)
        draws = 2 * _uniform((4, n), generator, images.device) - 1  # in [-1, 1)
        angle = math.radians(self.max_rotation) * draws[0]
        scale = 1 + self.max_scale * draws[1]
        # grid_sample counts in half sides, hence 2 for a share of the whole side.
        shift_x, shift_y = 2 * self.max_shift * draws[2], 2 * self.max_shift * draws[3]
        cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
        maps = torch.stack(
            [
                torch.stack([cos, -sin * (h / w), shift_x], dim=-1),
                torch.stack([sin * (w / h), cos, shift_y], dim=-1),
            ],
            dim=1,
        ).to(images.dtype)  # (n, 2, 3)
        grid = F.affine_grid(maps, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)


@dataclass(unsafe_hash=True)
class RandomColor(_Augmentation):
    """Change brightness, contrast and saturation of every image.

    For each image a factor is drawn uniformly from [1 - strength, 1 + strength] for
    each change. Brightness scales the values, contrast their distance from the mean
    grey of the image, saturation their distance from the grey of the pixel. Values
    are then cut to the range that the images of the call had.

    Parameters
    ----------
    brightness : float, default=0.4
        Strength of the change of brightness, in [0, 1).

    contrast : float, default=0.4
        Strength of the change of contrast, in [0, 1).

    saturation : float, default=0.4
        Strength of the change of saturation, in [0, 1). Without effect on images
        with other than three channels.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range, or the images are not floating-point tensors
        with four axes.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.backbones import RandomColor
    >>> images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> changed = RandomColor(saturation=0)(images, torch.Generator().manual_seed(0))
    >>> bool(changed.max() <= images.max())
    True
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            real_between("RandomColor", name, value, 0, 1, closed=False)

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return changed copies of images (n, c, h, w)."""
        n, c, _, _ = _check_images(images)
        _check_floating("RandomColor changes values", images)
        strengths = images.new_tensor(
            [self.brightness, self.contrast, self.saturation]
        )[:, None, None, None, None]
        draws = 2 * _uniform((3, n, 1, 1, 1), generator, images.device) - 1
        brightness, contrast, saturation = 1 + strengths * draws.to(images.dtype)
        changed = images * brightness
        changed = _away_from(_grey(changed).mean((-2, -1), True), changed, contrast)
        if c == 3:
            changed = _away_from(_grey(changed), changed, saturation)
        return changed.clamp(images.min(), images.max())


@dataclass(unsafe_hash=True)
class Compose(_Augmentation):
    """Apply augmentations one after the other.

    Parameters
    ----------
    steps : tuple of callable
        Called in order with (images, generator).
    """

    steps: tuple[Augmentation, ...]

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return the images after every step."""
        for step in self.steps:
            images = step(images, generator)
        return images


_NAMED: dict[str, Augmentation] = {
    "shift": RandomShift(),
    "flip": RandomFlip(),
    "flip-shift": Compose((RandomFlip(), RandomShift())),
    "affine": RandomAffine(),
    "color": RandomColor(),
}


def build_augmentation(
    augment: str | Augmentation | Sequence[Any] | None,
) -> Augmentation | None:
    """Turn the `augment` parameter of a learner into one callable.

    Parameters
    ----------
    augment : str, callable, list of these or None
        One of "shift", "flip", "flip-shift", "affine" and "color", with the default
        parameters of the classes. A callable gets (images, generator), a tensor
        (n, c, h, w) and a torch.Generator to draw from, and returns a tensor of the
        same shape. The members of a list or tuple are applied in order.

    Returns
    -------
    augmentation : callable or None
        None if there is nothing to do.

    Raises
    ------
    InvalidInputError
        If a name is unknown or `augment` is none of these.

    Examples
    --------
    >>> from skcausalmeta.backbones import RandomShift, build_augmentation
    >>> build_augmentation(["flip", RandomShift(max_shift=2)])
    Compose(steps=(RandomFlip(), RandomShift(max_shift=2)))
    """
    if augment is None:
        return None
    if isinstance(augment, str):
        return named_augmentation(augment)
    if isinstance(augment, (list, tuple)):
        built = [build_augmentation(member) for member in augment]
        steps = tuple(step for step in built if step is not None)
        return steps[0] if len(steps) == 1 else (Compose(steps) if steps else None)
    if callable(augment) and not isinstance(augment, type):
        return augment
    hint = (
        f"; pass an instance, {augment.__name__}()" if isinstance(augment, type) else ""
    )
    raise InvalidInputError(
        "The 'augment' parameter must be None, a name among "
        f"{sorted(_NAMED)}, a callable (images, generator) -> images, or a list of "
        f"these. Got {augment!r} instead{hint}."
    )


def named_augmentation(name: str | None) -> Augmentation:
    """Return the augmentation that a name stands for, with its default parameters.

    Parameters
    ----------
    name : {"shift", "flip", "flip-shift", "affine", "color"}
        Its name.

    Returns
    -------
    callable

    Raises
    ------
    InvalidInputError
        If there is no such name.

    Examples
    --------
    >>> from skcausalmeta.backbones import named_augmentation
    >>> named_augmentation("shift")
    RandomShift(max_shift=1)
    """
    if not isinstance(name, str):
        raise InvalidInputError(
            "The parameters of an augmentation need one that is named. Got "
            f"augment={name!r}; set augment to one of {sorted(_NAMED)} as well."
        )
    if name in _NAMED:
        return copy.copy(_NAMED[name])
    close = get_close_matches(name.lower(), _NAMED, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise InvalidInputError(
        f"The name of an augmentation must be one of {sorted(_NAMED)}. "
        f"Got {name!r} instead.{hint}"
    )


def _check_floating(what: str, images: torch.Tensor) -> None:
    if not images.is_floating_point():
        raise InvalidInputError(
            f"{what}, so images must be floating-point numbers. "
            f"Got {images.dtype}; convert them with images.float()."
        )


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Return the luma (n, 1, h, w) of colour images, by the weights of ITU-R BT.601."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def _away_from(
    origin: torch.Tensor, images: torch.Tensor, factor: torch.Tensor
) -> torch.Tensor:
    return origin + factor * (images - origin)


def _uniform(
    shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    # Drawn where the generator lives: the same numbers whatever holds the images.
    return torch.rand(shape, generator=generator, device=generator.device).to(device)


def _check_images(images: torch.Tensor) -> torch.Size:
    if images.ndim != 4:
        raise InvalidInputError(
            "Augmentations work on images of shape (n, c, h, w). Got shape "
            f"{tuple(images.shape)}; set augment=None or reshape the samples."
        )
    return images.shape
