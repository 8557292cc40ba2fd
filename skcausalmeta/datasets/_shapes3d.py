"""Pictures of one object in a room, drawn from six known factors."""

from __future__ import annotations

from itertools import product
from numbers import Integral, Real

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from ..utils import named_seeds
from ._shapes3d_factors import (
    FACTOR_NAMES,
    FACTOR_SIZES,
    SHAPE_NAMES,
    check_factors,
    draw_levels,
    jitter,
    latents_of_factors,
    shape_numbers,
    values_of_levels,
)
from ._shapes3d_scene import render_scene

# Rays of one pass stay in the cache of the processor, and torch leaves operations on
# fewer than 32,768 values to one thread: to share out ones so short gains little, and
# where another process holds a core, it makes them a hundred times slower.
_PIXELS_PER_PASS = 32_767
_COUNT = [Interval(Integral, 1, None, closed="left")]
_SIZE = [Interval(Integral, 4, None, closed="left")]


@validate_params(
    {"factors": ["array-like"], "size": _SIZE, "supersampling": _COUNT},
    prefer_skip_nested_validation=True,
)
def render_shapes3d(
    factors: ArrayLike, *, size: int = 64, supersampling: int = 1
) -> NDArray[np.uint8]:
    """Draw scenes of the 3D shapes family from their six factors.

    A lit room with a cube, cylinder, sphere or capsule on its floor; the camera
    orbits the object. The pictures are ours, computed by ray casting: they show
    the factors of the published set [1]_, not its pixels.

    Parameters
    ----------
    factors : array-like of shape (n_samples, 6)
        In this order: hue of floor, wall and object (turns of the colour circle,
        so that 1.1 is 0.1), scale of the object in (0, 2], shape (0 cube,
        1 cylinder, 2 sphere, 3 capsule; other values take the nearest) and
        orientation of the camera in degrees.
    size : int, default=64
        Height and width in pixels, at least 4.
    supersampling : int, default=1
        Rays per pixel and axis; 2 smooths edges in 4 times the time.

    Returns
    -------
    ndarray of shape (n_samples, size, size, 3)
        RGB images of bytes. Equal factors give equal images.

    Raises
    ------
    InvalidInputError
        If factors have another shape, are not finite or out of range.

    References
    ----------
    .. [1] C. Burgess, H. Kim (2018). 3D shapes dataset.
       https://github.com/deepmind/3dshapes-dataset

    Examples
    --------
    >>> from skcausalmeta.datasets import render_shapes3d
    >>> red_ball_on_blue = [[0.6, 0.3, 0.0, 1.0, 2, 0.0]]
    >>> image = render_shapes3d(red_ball_on_blue, size=32)[0]
    >>> ball, floor = image[18, 16], image[31, 0]
    >>> image.shape, int(ball.argmax()), int(floor.argmax())
    ((32, 32, 3), 0, 2)
    """
    values = check_factors(factors)
    images = np.empty((len(values), size, size, 3), dtype=np.uint8)
    per_pass = max(1, _PIXELS_PER_PASS // (size * supersampling) ** 2)
    shapes = shape_numbers(values)
    for shape in range(len(SHAPE_NAMES)):
        (rows,) = np.nonzero(shapes == shape)
        for begin in range(0, len(rows), per_pass):
            part = rows[begin : begin + per_pass]
            for c, channel in enumerate(
                _render(values[part], shape, size, supersampling)
            ):
                images[part, :, :, c] = channel
    return images


def _render(
    values: NDArray[np.float64], shape: int, size: int, supersampling: int
) -> list[NDArray[np.uint8]]:
    """Channels (n, size, size) of images of one shape, in one pass."""
    # Whole turns are taken off before the loss of digits in single precision.
    values = np.column_stack([values[:, :3] % 1.0, values[:, 3], values[:, 5] % 360.0])
    rows = torch.from_numpy(values.astype(np.float32))
    with torch.no_grad():
        channels = render_scene(
            rows[:, :3], rows[:, 3], shape, rows[:, 4], size * supersampling
        )
        return [_to_bytes(channel, size, supersampling) for channel in channels]


def _to_bytes(
    channel: torch.Tensor, size: int, supersampling: int
) -> NDArray[np.uint8]:
    cells = (len(channel), size, supersampling, size, supersampling)
    pixels = channel.clamp(0, 1).reshape(cells)
    total = torch.zeros_like(pixels[:, :, 0, :, 0])
    for i, j in product(range(supersampling), repeat=2):
        total += pixels[:, :, i, :, j]
    return (total * (255 / supersampling**2) + 0.5).to(torch.uint8).numpy()


@validate_params(
    {
        "n_samples": _COUNT,
        "size": _SIZE,
        "correlation": [Real, "array-like", None],
        "continuous": ["boolean"],
        "supersampling": _COUNT,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_shapes3d(
    n_samples: int = 1000,
    *,
    size: int = 64,
    correlation: float | ArrayLike | None = None,
    continuous: bool = False,
    supersampling: int = 1,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Scenes of the 3D shapes family with their six factors.

    The factors come from the official grid of 10 x 10 x 10 x 8 x 4 x 15 levels,
    either uniformly or with probability proportional to a Gaussian density with
    unit variances over the standardised factors [2]_.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of images.
    size : int, default=64
        Height and width in pixels, at least 4.
    correlation : float or array-like of shape (6, 6), default=None
        Correlation of the Gaussian density: of every pair, or a matrix. None: all
        levels are equally likely. Note that 0.0 still prefers the middle.
    continuous : bool, default=False
        Move scale and orientation by a uniform draw of up to half a step of the
        grid, and hues by up to a quarter, so that the ends of the colour circle
        keep apart. The shape stays. The images show the moved factors.
    supersampling : int, default=1
        Rays per pixel and axis.
    random_state : int, RandomState instance or None, default=None
        Decides the factors.

    Returns
    -------
    Bunch
        ``data`` (n_samples, size, size, 3) uint8; ``factors`` (n_samples, 6) in
        the units of `render_shapes3d`; ``latents`` (n_samples, 6), the factors in
        standard units, which have mean 0 and variance 1 on the uniform grid;
        ``levels`` (n_samples, 6), numbers of the grid values; ``factor_names``
        and ``factor_sizes``.

    Raises
    ------
    InvalidInputError
        If `correlation` is no positive definite correlation.

    References
    ----------
    .. [1] H. Kim, A. Mnih (2018). Disentangling by factorising. ICML.
    .. [2] S. Lachapelle et al. (2023). Synergies between disentanglement and
       sparsity: generalization and identifiability in multi-task learning.
       ICML.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_shapes3d
    >>> bunch = make_shapes3d(100, size=16, random_state=0)
    >>> bunch.data.shape, bunch.data.dtype, bunch.factor_names[3]
    ((100, 16, 16, 3), dtype('uint8'), 'scale')
    """
    seeds = named_seeds(random_state, "levels", "jitter")
    levels = draw_levels(np.random.RandomState(seeds["levels"]), n_samples, correlation)
    factors = values_of_levels(levels)
    if continuous:
        factors = jitter(np.random.RandomState(seeds["jitter"]), factors)
    return Bunch(
        data=render_shapes3d(factors, size=size, supersampling=supersampling),
        factors=factors,
        latents=latents_of_factors(factors),
        levels=levels,
        factor_names=list(FACTOR_NAMES),
        factor_sizes=FACTOR_SIZES,
    )
