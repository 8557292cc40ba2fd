"""Two digits in one image whose labels are tied in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch, check_random_state

from ..exceptions import InvalidInputError


def make_multi_mnist(
    images: ArrayLike,
    labels: ArrayLike,
    n_samples: int = 1000,
    *,
    rho: float | Sequence[float] = (0.9, 0.2),
    canvas: int | None = None,
    permutation: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Multi-MNIST: overlaid digits, one task left-top, one right-bottom.

    Two images are drawn and overlaid by the larger value of every pixel, one in
    the left-top corner of the canvas, one in the right-bottom corner. Their labels
    are tied: with probability rho_e the second is the permuted first one, else it
    is any label.

    Parameters
    ----------
    images : array-like of shape (n_images, side, side)
        Single digits, such as those of `fetch_mnist` or of scikit-learn's
        `load_digits().images`.
    labels : array-like of shape (n_images,)
        Their labels.
    n_samples : int, default=1000
        Rows of every environment.
    rho : float or sequence of float, default=(0.9, 0.2)
        Probability of the tie, one environment each. 0: no tie, a shifted test.
    canvas : int, default=None
        Side of the images made, at least that of the digits. None: 9/7 of the
        side, which is 36 for digits of 28 pixels.
    permutation : array-like of shape (n_classes,), default=None
        Position in the sorted labels that a label is tied to. None: the next one.
    random_state : int, RandomState instance or None, default=None
        Decides which images meet.

    Returns
    -------
    Bunch
        ``data`` (n, canvas, canvas) of the type of `images`, ``target`` (n, 2) of
        labels left and right, ``envs`` (n,), ``index`` (n, 2) positions in `images`.

    Raises
    ------
    InvalidInputError
        If a shape, a probability or the permutation is impossible.

    References
    ----------
    .. [1] S. Sabour, N. Frosst, G. Hinton (2017). Dynamic routing between capsules.
       NeurIPS.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcausalmeta.datasets import make_multi_mnist
    >>> digits = load_digits()
    >>> bunch = make_multi_mnist(digits.images, digits.target, 50, random_state=0)
    >>> bunch.data.shape, bunch.target.shape
    ((100, 10, 10), (100, 2))
    """
    pictures, names = np.asarray(images), np.asarray(labels)
    if pictures.ndim != 3 or pictures.shape[1] != pictures.shape[2]:
        raise InvalidInputError(
            f"images must have shape (n, side, side). Got {pictures.shape}."
        )
    if names.shape != pictures.shape[:1]:
        raise InvalidInputError(
            f"labels must hold one label per image. Got {names.shape} for "
            f"{len(pictures)} images."
        )
    side = pictures.shape[1]
    size = round(side * 9 / 7) if canvas is None else canvas
    if size < side:
        raise InvalidInputError(
            f"canvas must be at least the side of the digits, {side}. Got {size}."
        )
    strengths = np.atleast_1d(np.asarray(rho, dtype=float))
    if strengths.ndim != 1 or not ((strengths >= 0) & (strengths <= 1)).all():
        raise InvalidInputError(f"rho must hold probabilities. Got {rho!r}.")
    classes, codes = np.unique(names, return_inverse=True)
    tied = _permutation(permutation, len(classes))
    rng = check_random_state(random_state)
    left = rng.randint(len(classes), size=n_samples * len(strengths))
    envs = np.repeat(np.arange(len(strengths)), n_samples)
    right = np.where(
        rng.uniform(size=len(left)) < strengths[envs],
        tied[left],
        rng.randint(len(classes), size=len(left)),
    )
    pairs = np.stack([left, right], axis=1)
    index = _draw_images(rng, codes, pairs)
    data = np.zeros((len(left), size, size), dtype=pictures.dtype)
    data[:, :side, :side] = pictures[index[:, 0]]
    corner = data[:, size - side :, size - side :]
    np.maximum(corner, pictures[index[:, 1]], out=corner)
    return Bunch(data=data, target=classes[pairs], envs=envs, index=index)


def _permutation(permutation: ArrayLike | None, n_classes: int) -> NDArray[np.intp]:
    if permutation is None:
        return np.roll(np.arange(n_classes), -1)
    order = np.asarray(permutation)
    if sorted(order.tolist()) != list(range(n_classes)):
        raise InvalidInputError(
            f"permutation must hold 0..{n_classes - 1} once each. Got {order.tolist()}."
        )
    return order


def _draw_images(
    rng: Any, codes: NDArray[np.intp], wanted: NDArray[np.intp]
) -> NDArray[np.intp]:
    """A random image of every wanted class."""
    index = np.empty(wanted.shape, dtype=np.intp)
    for code in range(codes.max() + 1):
        members = np.flatnonzero(codes == code)
        places = wanted == code
        index[places] = rng.choice(members, size=int(places.sum()))
    return index
