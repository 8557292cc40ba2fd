"""Rotated images as classes of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InvalidInputError


def add_rotated_classes(
    images: ArrayLike, y: ArrayLike, *, n_rotations: int = 4
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Add images rotated by multiples of 90 degrees as new classes.

    The usual way to enlarge few-shot sets of characters: class c rotated k times
    becomes the class number ``k * n_classes + c``.

    Parameters
    ----------
    images : array-like of shape (n_samples, side, side) or (..., n_channels)
        Square images, channels last.
    y : array-like of shape (n_samples,)
        Class labels.
    n_rotations : {1, 2, 3, 4}, default=4
        Number of orientations, the original one included.

    Returns
    -------
    images : ndarray of shape (n_rotations * n_samples, side, side, ...)
        The images, orientation after orientation.
    y : ndarray of shape (n_rotations * n_samples,)
        Class numbers 0..n_rotations * n_classes - 1; the first n_classes belong
        to the sorted labels of `y`.

    Raises
    ------
    InvalidInputError
        If images are not square, lengths differ or `n_rotations` is not 1 to 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skcausalmeta.datasets import add_rotated_classes
    >>> images, y = add_rotated_classes(np.zeros((6, 8, 8)), [0, 0, 0, 1, 1, 1])
    >>> images.shape, np.unique(y).tolist()
    ((24, 8, 8), [0, 1, 2, 3, 4, 5, 6, 7])
    """
    images, labels = np.asarray(images), np.asarray(y)
    if images.ndim < 3 or images.shape[1] != images.shape[2]:
        raise InvalidInputError(
            "Images must be square with shape (n_samples, side, side, ...). Got "
            f"{images.shape}."
        )
    if labels.shape != images.shape[:1]:
        raise InvalidInputError(
            f"y must hold one label per image. Got shape {labels.shape} for "
            f"{len(images)} images."
        )
    if n_rotations not in (1, 2, 3, 4):
        raise InvalidInputError(
            f"n_rotations must be 1, 2, 3 or 4 quarter turns. Got {n_rotations!r}."
        )
    classes, codes = np.unique(labels, return_inverse=True)
    turned = [np.rot90(images, k, axes=(1, 2)) for k in range(n_rotations)]
    numbers = [codes + k * len(classes) for k in range(n_rotations)]
    return np.concatenate(turned), np.concatenate(numbers)
