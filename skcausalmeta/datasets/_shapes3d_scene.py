"""Ray casting of one object in a lit room, vectorised over images and pixels.

Lengths are in units of the room, z points up, the object stands on the floor at the
origin. A ray is ``origin + t * direction``; tensors of rays are triples (x, y, z) of
shapes that broadcast to (n_images, n_pixels).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

Vector = tuple[Tensor, Tensor, Tensor]

_ROOM = 3.2  # half of the side of the square room
_DISTANCE = 5.6  # of the camera from the axis of the room
_HEIGHT = 2.5  # of the camera
_AIM = 0.72  # height of the point that the camera looks at
_HALF_VIEW = math.tan(math.radians(21.0))
_LIGHT = (1.9, -2.6, 4.6)
_AMBIENT = 0.38  # with the direct light at most 1, so that no colour is cut off
_DIFFUSE = 0.72
_SPECULAR = 0.35
_SHADOW = 0.45  # part of the direct light that is left in the shadow
_SATURATION = 0.85
_HALF_SIDE = 0.62  # of the cube; radii and half heights of the others follow
_CYLINDER = (0.62, 1.24)  # radius, height
_CAPSULE = {2: (0.72, 0.0), 3: (0.46, 0.76)}  # radius, height between the centres
_FAR = 1e9


class Interval(NamedTuple):
    """Where a ray enters and leaves a convex body; not hit if far < near."""

    near: Tensor
    far: Tensor


def render_scene(
    hues: Tensor, scale: Tensor, shape: int, orientation: Tensor, size: int
) -> Vector:
    """Red, green and blue (n, size * size), at least 0, of objects of one shape.

    hues (n, 3) of floor, wall and object in turns; scale (n,); orientation (n,) of
    the camera in degrees.
    """
    origin, direction = _camera_rays(orientation, size)
    # Dividing rays by the scale of an object is the same as scaling the object.
    unit = scale.reshape(-1, 1)
    hit = _enter(shape, _divided(origin, unit), _divided(direction, unit))
    on_object = (hit.near < hit.far) & (hit.near > 0)

    t_room, on_floor, room_normal = _leave_room(origin, direction)
    point = _along(origin, direction, torch.where(on_object, hit.near, t_room))
    object_normal = _normal(shape, _divided(point, unit))
    normal = _where(on_object, object_normal, room_normal)

    albedo = _colours(hues)  # (n, 3, 3): surface, channel
    light, shine = _light(point, normal, direction, on_object)
    direct = _AMBIENT + _shadow(shape, point, unit, on_object) * light

    def channel(c: int) -> Tensor:
        floor, wall, thing = (albedo[:, part, c : c + 1] for part in range(3))
        surface = torch.where(on_object, thing, torch.where(on_floor, floor, wall))
        return surface * direct + shine

    return channel(0), channel(1), channel(2)


# -- geometry --------------------------------------------------------------------------


def _camera_rays(orientation: Tensor, size: int) -> tuple[Vector, Vector]:
    """Rays of all pixels for a camera that orbits the room by `orientation`."""
    middle = (torch.arange(size) + 0.5) / size * 2 - 1
    down, right = torch.meshgrid(
        middle * _HALF_VIEW, middle * _HALF_VIEW, indexing="ij"
    )
    right, up = right.reshape(1, -1), -down.reshape(1, -1)
    drop = math.atan2(_HEIGHT - _AIM, _DISTANCE)
    ahead = math.cos(drop) + up * math.sin(drop)
    above = -math.sin(drop) + up * math.cos(drop)
    angle = torch.deg2rad(orientation).reshape(-1, 1)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    origin = (_DISTANCE * sine, -_DISTANCE * cosine, torch.full_like(sine, _HEIGHT))
    direction = (
        cosine * right - sine * ahead,
        sine * right + cosine * ahead,
        above.expand(len(orientation), -1),
    )
    return origin, direction


def _slab(origin: Tensor, direction: Tensor, low: float, high: float) -> Interval:
    """Part of the rays between two planes of one coordinate."""
    inverse = 1 / torch.where(direction.abs() < 1e-9, 1e-9, direction)
    first, second = (low - origin) * inverse, (high - origin) * inverse
    return Interval(torch.minimum(first, second), torch.maximum(first, second))


def _tube(origin: Vector, direction: Vector, radius: float) -> Interval:
    """Part of the rays inside the endless upright cylinder of a radius."""
    (ox, oy, _), (dx, dy, _) = origin, direction
    return _roots(dx * dx + dy * dy, ox * dx + oy * dy, ox * ox + oy * oy - radius**2)


def _ball(origin: Vector, direction: Vector, radius: float, height: float) -> Interval:
    """Part of the rays inside the ball around (0, 0, height)."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    oz = oz - height
    return _roots(
        dx * dx + dy * dy + dz * dz,
        ox * dx + oy * dy + oz * dz,
        ox * ox + oy * oy + oz * oz - radius**2,
    )


def _roots(a: Tensor, b: Tensor, c: Tensor) -> Interval:
    """Interval of t where a t^2 + 2 b t + c < 0; near > far where there is none."""
    a = a.clamp_min(1e-9)
    square = b * b - a * c
    # torch shares sqrt out to threads at any size, which is slow where one must wait.
    root = square * square.clamp_min(1e-12).rsqrt()
    near = torch.where(square > 0, (-b - root) / a, _FAR)
    return Interval(near, torch.where(square > 0, (root - b) / a, -_FAR))


def _enter(shape: int, origin: Vector, direction: Vector) -> Interval:
    """Part of the rays inside the object of scale 1."""
    if shape == 0:
        sides = (
            _slab(origin[0], direction[0], -_HALF_SIDE, _HALF_SIDE),
            _slab(origin[1], direction[1], -_HALF_SIDE, _HALF_SIDE),
            _slab(origin[2], direction[2], 0.0, 2 * _HALF_SIDE),
        )
        return _common(_common(sides[0], sides[1]), sides[2])
    if shape == 1:
        radius, height = _CYLINDER
        caps = _slab(origin[2], direction[2], 0.0, height)
        return _common(_tube(origin, direction, radius), caps)
    radius, length = _CAPSULE[shape]
    lower = _ball(origin, direction, radius, radius)
    if length == 0:
        return lower
    upper = _ball(origin, direction, radius, radius + length)
    body = _common(
        _tube(origin, direction, radius),
        _slab(origin[2], direction[2], radius, radius + length),
    )
    return _union(_union(lower, upper), body)


def _common(one: Interval, other: Interval) -> Interval:
    return Interval(
        torch.maximum(one.near, other.near), torch.minimum(one.far, other.far)
    )


def _union(one: Interval, other: Interval) -> Interval:
    """Hull of two intervals, of which empty ones do not count."""
    near = [torch.where(part.near < part.far, part.near, _FAR) for part in (one, other)]
    far = [torch.where(part.near < part.far, part.far, -_FAR) for part in (one, other)]
    return Interval(torch.minimum(*near), torch.maximum(*far))


def _normal(shape: int, point: Vector) -> Vector:
    """Outward unit normal at points on the surface of the object of scale 1."""
    x, y, z = point
    if shape == 0:
        return _largest(x, y, z - _HALF_SIDE)
    if shape == 1:
        radius, height = _CYLINDER
        on_top = z >= height * (1 - 1e-4)
        zero = torch.zeros_like(z)
        return _where(on_top, (zero, zero, zero + 1), (x / radius, y / radius, zero))
    radius, length = _CAPSULE[shape]
    return x / radius, y / radius, (z - z.clamp(radius, radius + length)) / radius


def _largest(x: Tensor, y: Tensor, z: Tensor) -> Vector:
    """Unit vector of the coordinate that is largest in size."""
    x_wins = (x.abs() >= y.abs()) & (x.abs() >= z.abs())
    y_wins = ~x_wins & (y.abs() >= z.abs())
    z_wins = ~(x_wins | y_wins)
    return x.sign() * x_wins, y.sign() * y_wins, z.sign() * z_wins


def _leave_room(origin: Vector, direction: Vector) -> tuple[Tensor, Tensor, Vector]:
    """Where rays meet floor or wall, whether it is the floor, and the normal.

    Walls are seen from inside only, so that the camera may stand behind one.
    """
    x_wall = _slab(origin[0], direction[0], -_ROOM, _ROOM).far
    y_wall = _slab(origin[1], direction[1], -_ROOM, _ROOM).far
    wall = torch.minimum(x_wall, y_wall)
    floor = torch.where(direction[2] < 0, -origin[2] / direction[2], _FAR)
    on_floor = floor < wall
    on_x = ~on_floor & (x_wall <= y_wall)
    on_y = ~on_floor & ~on_x
    normal = (
        -direction[0].sign() * on_x,
        -direction[1].sign() * on_y,
        on_floor.to(floor.dtype),
    )
    return torch.minimum(floor, wall), on_floor, normal


# -- light -----------------------------------------------------------------------------


def _light(
    point: Vector, normal: Vector, direction: Vector, on_object: Tensor
) -> tuple[Tensor, Tensor]:
    """Direct light and highlight at every point, before shadows."""
    to_light = _to_light(point)
    squared = _dot(to_light, to_light)
    facing = (_dot(to_light, normal) * squared.rsqrt()).clamp_min_(0)
    # The light gets weaker with the distance, by a third over the room.
    diffuse = _DIFFUSE * facing / (1 + 0.012 * squared)
    # Blinn's highlight: the normal against the middle of light and camera.
    shorten, view = squared.rsqrt(), _dot(direction, direction).rsqrt()
    middle = tuple(
        p * shorten - d * view for p, d in zip(to_light, direction, strict=True)
    )
    glance = _dot(middle, normal) * _dot(middle, middle).rsqrt()
    shine = glance.clamp_min_(0)
    for _ in range(5):  # to the power 32
        shine = shine * shine
    return diffuse, _SPECULAR * shine * on_object


def _to_light(point: Vector) -> Vector:
    x, y, z = (lamp - p for lamp, p in zip(_LIGHT, point, strict=True))
    return x, y, z


def _shadow(shape: int, point: Vector, unit: Tensor, on_object: Tensor) -> Tensor:
    """Share of the direct light that passes the object."""
    to_light = _to_light(point)
    part = _enter(shape, _divided(point, unit), _divided(to_light, unit))
    blocked = (part.near < part.far) & (part.far > 0) & (part.near < 1) & ~on_object
    return 1 - (1 - _SHADOW) * blocked


def _colours(hues: Tensor) -> Tensor:
    """RGB (n, 3, 3) of hues (n, 3) in turns, at fixed saturation and full value."""
    offsets = torch.tensor([0.0, 2 / 3, 1 / 3], dtype=hues.dtype)
    phase = torch.remainder(hues[..., None] + offsets, 1.0) * 6
    pure = ((phase - 3).abs() - 1).clamp(0, 1)
    return 1 - _SATURATION * (1 - pure)


# -- triples ---------------------------------------------------------------------------


def _along(origin: Vector, direction: Vector, t: Tensor) -> Vector:
    x, y, z = (o + t * d for o, d in zip(origin, direction, strict=True))
    return x, y, z


def _divided(vector: Vector, unit: Tensor) -> Vector:
    x, y, z = (part / unit for part in vector)
    return x, y, z


def _where(condition: Tensor, one: Vector, other: Vector) -> Vector:
    x, y, z = (torch.where(condition, a, b) for a, b in zip(one, other, strict=True))
    return x, y, z


def _dot(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> Tensor:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
