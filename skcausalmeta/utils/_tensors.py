"""Tensors where arrays are expected."""

from __future__ import annotations

from typing import Any

import torch


def without_graph(values: Any) -> Any:
    """Return a tensor as numpy takes it: apart from its graph, in host memory.

    Parameters
    ----------
    values : array-like
        Anything but a tensor is returned as it is. Numbers of 16 bits that numpy does
        not have come in single precision, which holds them all.

    Returns
    -------
    array-like

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skcausalmeta.utils import without_graph
    >>> rows = torch.ones(1, 2, dtype=torch.bfloat16, requires_grad=True)
    >>> np.asarray(without_graph(rows)).tolist()
    [[1.0, 1.0]]
    """
    if not isinstance(values, torch.Tensor):
        return values
    found = values.detach().cpu()
    return found.float() if found.dtype is torch.bfloat16 else found
