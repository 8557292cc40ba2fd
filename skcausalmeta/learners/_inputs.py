"""Statistics of the training rows for backbones that standardise their inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbones import PreparedBackbone, entry_of
from ..exceptions import InvalidInputError
from ..training import RowReader, in_parts, in_passes
from ..utils import read_rows

# Rows, and values, that statistics are computed from, at most.
_MOST_ROWS = 100_000
_PART = 1000  # read at once
_MOST_VALUES = 2**25


def fit_inputs(backbone: nn.Module, rows: NDArray[Any], reader: RowReader) -> bool:
    """Give the training rows to the modules of a backbone that standardise by them.

    Those are the modules that have a method `fit_inputs`, and whose `inputs_fitted`
    is not true. A module that the rows reach first gets them in double precision
    where they are, any other what a pass through the backbone brings to it.

    Parameters
    ----------
    backbone : torch.nn.Module
        As it was built, prepared or not.
    rows : ndarray of shape (n, ...)
        Checked training rows, in memory or elsewhere; at most 100,000 of them, drawn
        evenly, are read.
    reader : RowReader
        From rows to samples.

    Returns
    -------
    bool
        Whether there was such a module.

    Raises
    ------
    InvalidInputError
        If single precision cannot hold what varies in a column.
    """
    waiting = [
        module
        for module in backbone.modules()
        if hasattr(module, "fit_inputs") and not getattr(module, "inputs_fitted", False)
    ]
    if not waiting:
        return False
    index = spread_rows(rows)
    parts = [read_rows(rows, index[part]) for part in in_parts(len(index), _PART)]
    some = parts[0] if len(parts) == 1 else np.concatenate(parts)
    for module in waiting:
        if module is entry_of(backbone):
            found = flat_rows(some, reader)
        else:
            found = _inputs_of(module, backbone, some, reader)
        module.fit_inputs(found)  # type: ignore[operator]
    return True


def spread_rows(rows: NDArray[Any]) -> NDArray[np.intp]:
    """Return the positions of all rows, or of as many as are read, drawn evenly."""
    most = min(_MOST_ROWS, max(1, _MOST_VALUES // math.prod(rows.shape[1:])))
    return np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.intp)


def flat_rows(rows: NDArray[Any], reader: RowReader) -> NDArray[Any]:
    """Return rows (n, p) with values in the order and the units of samples.

    Vectors keep the number type of the rows; samples with more axes are read.
    """
    if len(reader.sample_shape) == 1:
        return rows.reshape(len(rows), -1)
    return in_passes(lambda part: reader(part).flatten(1).cpu().numpy(), rows)


def _inputs_of(
    module: nn.Module, backbone: nn.Module, rows: NDArray[Any], reader: RowReader
) -> NDArray[Any]:
    """Return what a pass of rows brings to a module inside a backbone, (n, p)."""
    if isinstance(backbone, PreparedBackbone):
        backbone = backbone.backbone
    parts: list[NDArray[Any]] = []

    def keep(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        parts.append(given[0].detach().flatten(1).cpu().numpy())

    flags = [(layer, layer.training) for layer in backbone.modules()]
    handle = module.register_forward_pre_hook(keep)
    try:
        backbone.to(reader.device).eval()
        with torch.no_grad():
            in_passes(lambda part: backbone(reader(part)).cpu().numpy(), rows)
    finally:
        handle.remove()
        for layer, training in flags:
            layer.training = training
    return np.concatenate(parts)


def refuse_shared_statistics(backbone: nn.Module) -> None:
    """Refuse batch norm that has no running averages to predict each row alone.

    Raises
    ------
    InvalidInputError
        With the name of the layer.
    """
    for name, layer in backbone.named_modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is None:
            raise InvalidInputError(
                "With batch_norm='running' every row is predicted on its own, which "
                "needs running averages. Got a batch norm without "
                f"(track_running_stats=False): {name!r} of the backbone; build it "
                "with track_running_stats=True, or use batch_norm='episode'."
            )
