"""Masks of the values of a row that every module reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...exceptions import InvalidInputError


def module_masks(module_inputs: Any, shape: Sequence[int]) -> Tensor | None:
    """Return masks (n_modules, n_values) of ones and zeros, or None if all read all.

    Parameters
    ----------
    module_inputs : None, "each", "correlated" or array-like
        "each": one module per value. "correlated": groups that are found elsewhere,
        which is None here. An array of shape (n_values,) names the group
        of every value, one module per group; an array (n_modules, n_values) of
        booleans says which values a module reads.
    shape : sequence of int
        Shape of a row as the net gets it.

    Raises
    ------
    InvalidInputError
        If the array does not fit a row, or a module reads nothing.
    """
    if module_inputs is None:
        return None
    n_values = int(np.prod(tuple(shape)))
    if isinstance(module_inputs, str):
        return torch.eye(n_values) if module_inputs == "each" else None
    array = np.asarray(module_inputs)
    if array.ndim == 1 and len(array) == n_values:
        masks = np.unique(array)[:, None] == array
    elif array.ndim == 2 and array.shape[1] == n_values:
        masks = array.astype(bool)
    else:
        raise InvalidInputError(
            "module_inputs must hold one group per value of a row, or one row of "
            f"booleans per module. Got shape {array.shape} for rows of {n_values} "
            "values."
        )
    if not masks.any(axis=1).all():
        raise InvalidInputError(
            "Every module must read at least one value. Got a row of module_inputs "
            "without any; drop it."
        )
    return torch.from_numpy(masks.astype(np.float32))
