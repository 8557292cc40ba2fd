"""Rendered scenes with targets at every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from ..exceptions import InvalidInputError

_FLOOR, _WALL, _SPHERE, _BOX = range(4)
_NEAR_WALL, _FAR_WALL = 4.0, 8.0
_NAMES = ("segmentation", "depth", "normal x", "normal y", "normal z")


class _Scene(NamedTuple):
    wall: float
    sphere: NDArray[np.float64]  # centre and radius
    box: NDArray[np.float64]  # two corners
    light: NDArray[np.float64]
    brightness: float
    colors: NDArray[np.float64]  # (4, 3)


def make_dense_scenes(
    n_samples: int = 100,
    *,
    size: int = 32,
    rho: float | Sequence[float] = (0.9, 0.2),
    noise: float = 0.02,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Small rendered scenes: segmentation, depth and normals at every pixel.

    A camera looks over a floor at a wall, a sphere and a box, lit from above with
    Lambert shading. The wall is near or far; a confounder ties it to bright or dim
    light with correlation rho_e, so that brightness tells the depth in training.

    Parameters
    ----------
    n_samples : int, default=100
        Scenes of every environment.
    size : int, default=32
        Height and width, at least 4.
    rho : float or sequence of float, default=(0.9, 0.2)
        Correlation in [-1, 1] of a near wall and bright light, one environment
        each. Negative values turn the tie around.
    noise : float, default=0.02
        Standard deviation of the noise of a pixel.
    random_state : int, RandomState instance or None, default=None
        Decides the scenes.

    Returns
    -------
    Bunch
        ``data`` (n, 3, size, size) float32 images from 0 to 1; ``target``
        (n, 5, size, size) float32: class (0 floor, 1 wall, 2 sphere, 3 box), depth
        along the viewing axis, and the three parts of the normal (right, up,
        towards the camera); ``target_names``; ``task_types`` for the learners;
        ``envs`` (n,).

    Raises
    ------
    InvalidInputError
        If `size` or `rho` is out of range.

    Examples
    --------
    >>> from skcausalmeta.datasets import make_dense_scenes
    >>> bunch = make_dense_scenes(3, size=16, random_state=0)
    >>> bunch.data.shape, bunch.target.shape
    ((6, 3, 16, 16), (6, 5, 16, 16))
    """
    if size < 4:
        raise InvalidInputError(f"size must be at least 4 pixels. Got {size}.")
    strengths = np.atleast_1d(np.asarray(rho, dtype=float))
    if strengths.ndim != 1 or not (np.abs(strengths) <= 1).all():
        raise InvalidInputError(f"rho must hold correlations in [-1, 1]. Got {rho!r}.")
    rng = check_random_state(random_state)
    rays = _rays(size)
    images, targets = [], []
    for strength in strengths:
        for _ in range(n_samples):
            image, target = _render(_draw_scene(rng, strength), rays)
            images.append(image + noise * rng.standard_normal(image.shape))
            targets.append(target)
    return Bunch(
        data=np.clip(np.stack(images), 0, 1).astype(np.float32),
        target=np.stack(targets).astype(np.float32),
        target_names=list(_NAMES),
        task_types=["multiclass"] + ["regression"] * 4,
        envs=np.repeat(np.arange(len(strengths)), n_samples),
    )


def _rays(size: int) -> NDArray[np.float64]:
    """Directions (size, size, 3) with unit depth; x right, y up, z away."""
    steps = (np.arange(size) + 0.5) / size * 2 - 1
    right, down = np.meshgrid(steps, steps)
    # A little downwards: the horizon lies in the upper half.
    return np.stack([0.8 * right, -0.8 * down - 0.2, np.ones_like(right)], axis=-1)


def _draw_scene(rng: Any, rho: float) -> _Scene:
    near = rng.uniform() < 0.5
    bright = near == (rng.uniform() < (1 + rho) / 2)
    wall = (_NEAR_WALL if near else _FAR_WALL) + rng.uniform(-0.3, 0.3)
    radius = rng.uniform(0.4, 0.7)
    left, right = np.sign(rng.uniform(-1, 1)) * np.array([-1, 1])
    depth = rng.uniform(2.4, 3.2, size=2)
    sphere = [left * rng.uniform(0.5, 1.1), radius - 1, depth[0], radius]
    middle, half = right * rng.uniform(0.5, 1.1), rng.uniform(0.25, 0.45, size=3)
    box = [
        [middle - half[0], -1.0, depth[1] - half[2]],
        [middle + half[0], 2 * half[1] - 1, depth[1] + half[2]],
    ]
    light = np.array([rng.uniform(-0.6, 0.6), 1.0, rng.uniform(-1.0, -0.5)])
    return _Scene(
        wall,
        np.array(sphere),
        np.array(box),
        light / np.linalg.norm(light),
        rng.uniform(0.85, 1.0) if bright else rng.uniform(0.45, 0.6),
        rng.uniform(0.4, 1.0, size=(4, 3)),
    )


def _render(
    scene: _Scene, rays: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Image (3, h, w) and targets (5, h, w): the nearest surface of every ray."""
    shape = rays.shape[:2]
    up, back = [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]
    floor = np.where(rays[..., 1] < 0, -1 / np.minimum(rays[..., 1], -1e-9), np.inf)
    ball, ball_normals = _hit_sphere(scene.sphere, rays)
    box, box_normals = _hit_box(scene.box, rays)
    depths = np.stack([floor, np.full(shape, scene.wall), ball, box])
    normals = np.stack(
        [
            np.broadcast_to(up, rays.shape),
            np.broadcast_to(back, rays.shape),
            ball_normals,
            box_normals,
        ]
    )
    nearest = depths.argmin(axis=0)
    depth = np.take_along_axis(depths, nearest[None], axis=0)[0]
    normal = np.take_along_axis(normals, nearest[None, ..., None], axis=0)[0]
    shade = 0.35 + 0.65 * np.clip(normal @ scene.light, 0, None)
    image = scene.brightness * shade[..., None] * scene.colors[nearest]
    seen = normal * [1, 1, -1]  # towards the camera
    target = np.concatenate([nearest[None], depth[None], np.moveaxis(seen, -1, 0)])
    return np.moveaxis(image, -1, 0), target


def _hit_sphere(
    sphere: NDArray[np.float64], rays: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    center, radius = sphere[:3], sphere[3]
    a, b = (rays**2).sum(axis=-1), rays @ center
    root = b**2 - a * (center @ center - radius**2)
    depth = np.where(root >= 0, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    points = np.where(np.isfinite(depth), depth, 0.0)[..., None] * rays
    return depth, (points - center) / radius


def _hit_box(
    box: NDArray[np.float64], rays: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slabs: a ray is inside where the last entry comes before the first exit."""
    safe = np.where(np.abs(rays) < 1e-12, 1e-12, rays)
    crossings = np.sort(box[:, None, None, :] / safe, axis=0)
    entry = crossings[0].max(axis=-1)
    inside = (entry <= crossings[1].min(axis=-1)) & (entry > 0)
    side = crossings[0].argmax(axis=-1)
    normals = -np.sign(rays) * (side[..., None] == np.arange(3))
    return np.where(inside, entry, np.inf), normals
