"""Choice of the statistics that batch norm uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..exceptions import InvalidInputError

BATCH_NORM_MODES = ("running", "episode")


@contextmanager
def batch_norm_mode(
    module: nn.Module, mode: str, *, vectorized: bool = False
) -> Iterator[None]:
    """Fix the statistics of all batch-norm layers inside a `with` block.

    Parameters
    ----------
    module : torch.nn.Module
        Searched for batch-norm layers at any depth. Its parameters, buffers, training
        flags and other layers stay as they are.

    mode : {"running", "episode"}
        "episode": every layer normalises with the mean and variance of the rows that
        it is given, in training and in evaluation alike, and leaves its running
        averages untouched. Predictions then depend on which rows come together.
        "running": the behaviour of torch, batch statistics in training and running
        averages in evaluation.

    vectorized : bool, default=False
        Weights apart from the normalisation, in mode "episode": exact inside
        `torch.vmap` too, and a little slower (see Notes).

    Yields
    ------
    None
        The layers are as before once the block is left, by an exception too.

    Raises
    ------
    InvalidInputError
        If `mode` is unknown, or in mode "episode" if a layer gets a single value per
        channel, which has no variance.

    Notes
    -----
    The layers are computed by `torch.nn.functional.batch_norm` with its weights. In
    torch 2.13 its second-order gradient is wrong inside `torch.vmap` when the weights
    differ between tasks; a loop over tasks is right, and so is ``vectorized=True``.

    The block changes what other threads see of the module: what threads share runs in
    a module `apart`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skcausalmeta.training import batch_norm_mode
    >>> layer = nn.BatchNorm1d(1, affine=False).eval()
    >>> with batch_norm_mode(layer, "episode"):
    ...     rows = layer(torch.tensor([[10.0], [30.0]]))
    >>> rows.round(decimals=3).tolist()
    [[-1.0], [1.0]]
    """
    if mode not in BATCH_NORM_MODES:
        raise InvalidInputError(
            "The batch-norm mode must be one of 'running' and 'episode'. "
            f"Got {mode!r} instead."
        )
    forward = _forward_with_weights_apart if vectorized else _forward_by_rows
    if mode != "episode":
        yield
        return
    with _replaced(module, forward):
        yield


@contextmanager
def _replaced(
    module: nn.Module, forward: Callable[..., torch.Tensor]
) -> Iterator[None]:
    """Replace the forward of the batch-norm layers inside a `with` block."""
    replaced: list[tuple[nn.Module, object]] = []
    try:
        for layer in module.modules():
            if isinstance(layer, _BatchNorm):
                replaced.append((layer, layer.__dict__.get("forward")))
                # A bound method, so that a deep copy is bound to the copied layer.
                layer.__dict__["forward"] = MethodType(forward, layer)
        yield
    finally:
        for layer, previous in reversed(replaced):
            if previous is None:
                del layer.__dict__["forward"]
            else:
                layer.__dict__["forward"] = previous


@contextmanager
def still_statistics(module: nn.Module) -> Iterator[None]:
    """Leave the running averages of batch norm as they are inside a `with` block.

    Parameters
    ----------
    module : torch.nn.Module
        Searched for batch-norm layers at any depth; normalisation is unchanged.

    Yields
    ------
    None

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skcausalmeta.training import still_statistics
    >>> layer = nn.BatchNorm1d(1)
    >>> with still_statistics(layer):
    ...     rows = layer(torch.tensor([[10.0], [30.0]]))
    >>> layer.running_mean.tolist()
    [0.0]
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    # A plain average (momentum None) weighs its batches by how many there were.
    counts = [(one, one.clone()) for layer in layers for one in _counts(layer)]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for count, before in counts:
            count.copy_(before)


def _counts(layer: _BatchNorm) -> list[torch.Tensor]:
    """Return the number of batches that a layer has seen, where it counts them."""
    return [] if layer.num_batches_tracked is None else [layer.num_batches_tracked]


def _forward_by_rows(layer: _BatchNorm, rows: torch.Tensor) -> torch.Tensor:
    """Normalise with the statistics of `rows`, whatever flags the layer has."""
    return _normalised(layer, rows, layer.weight, layer.bias)


def _forward_with_weights_apart(layer: _BatchNorm, rows: torch.Tensor) -> torch.Tensor:
    normalised = _normalised(layer, rows, None, None)
    if layer.weight is None:
        return normalised
    shape = (-1, *(1,) * (rows.ndim - 2))
    return normalised * layer.weight.view(shape) + layer.bias.view(shape)


def _normalised(
    layer: _BatchNorm,
    rows: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    layer._check_input_dim(rows)
    if rows.numel() == rows.shape[1]:
        raise InvalidInputError(
            "batch_norm='episode' needs at least two values per channel to take their "
            f"variance. Got rows of shape {tuple(rows.shape)}; pass more rows at once "
            "or use batch_norm='running'."
        )
    return F.batch_norm(rows, None, None, weight, bias, training=True, eps=layer.eps)
