"""A multi-layer perceptron for tables, short sequences and small images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from ..exceptions import InvalidInputError
from ._checks import positive_int, positive_ints, positive_real, real_between
from ._contract import Backbone
from ._inputs import input_statistics


class MLPModule(nn.Module):
    """Fully connected module with ReLU between its linear layers.

        f(x) = A_L relu(... relu(A_1 s(x) + b_1) ...) + b_L

    where ``s(x) = clip((x - m) / d)`` standardises every input column with the centre
    m and the scale d of the training rows, so that units and offsets of the columns do
    not matter, nor does one wild value. The last layer has no activation: features may
    have either sign.

    Parameters
    ----------
    in_features : int
        Number of values per sample, after flattening.

    hidden : sequence of int, default=(64,)
        Widths of the hidden layers. An empty sequence gives a linear backbone.

    out_features : int, default=64
        Number of features of the last layer.

    standardize : bool, default=True
        Whether inputs are standardised, as soon as `fit_inputs` was called. A learner
        calls it. Before, and with False, they are taken as they are.

    clip : float or None, default=5.0
        Standard deviations that a standardised input is clipped to, > 0; None: not
        clipped.

    skip : bool, default=False
        Whether the standardised inputs are features too, after those of the last
        layer: what is linear in the columns need not pass through hidden layers.

    dropout : float, default=0.0
        Probability in [0, 1) that a hidden unit is dropped in training.

    Attributes
    ----------
    out_features : int
        Number of features that come out: those of the last layer, and the inputs
        with `skip`.

    blocks : tuple of int
        Number of features of the last layer, and of inputs with `skip`.

    inputs_fitted : bool
        Whether nothing is left to do for `fit_inputs`.

    input_mean, input_scale : Tensor of shape (in_features,)
        Centre and scale of the columns, 0 and 1 before `fit_inputs`; buffers.

    input_bound : Tensor of shape ()
        What standardised inputs are clipped to, infinity before `fit_inputs`; a
        buffer.

    layers : torch.nn.Sequential
        The layers in order.

    Raises
    ------
    InvalidInputError
        If a width is not a positive integer, `clip` is not positive, `dropout` lies
        outside [0, 1), or rows with another number of values arrive.

    Notes
    -----
    Rows arrive in single precision, of which the standardised inputs keep every digit:
    the difference to the centre is exact for values within a factor 2 of it. What is
    small against its own mean has lost digits before: a column ``1e5 + z`` holds z to
    .004, ``1e7 + z`` to .5.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skcausalmeta.backbones import MLPModule
    >>> backbone = MLPModule(10, hidden=(32, 16), out_features=5, skip=True)
    >>> backbone(torch.zeros(4, 10)).shape, backbone.blocks
    (torch.Size([4, 15]), (5, 10))
    >>> rows = 1000 + np.arange(20.0).reshape(2, 10)
    >>> backbone.fit_inputs(rows)
    >>> backbone(torch.as_tensor(rows).float())[:, -1].tolist()
    [-1.0, 1.0]
    """

    input_mean: torch.Tensor
    input_scale: torch.Tensor
    input_bound: torch.Tensor

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (64,),
        out_features: int = 64,
        *,
        standardize: bool = True,
        clip: float | None = 5.0,
        skip: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features = positive_int("MLP", "in_features", in_features)
        width_out = positive_int("MLP", "out_features", out_features)
        dropout = real_between("MLP", "dropout", dropout, 0, 1, closed=False)
        self.standardize, self.skip = bool(standardize), bool(skip)
        self.clip = None if clip is None else positive_real("MLP", "clip", clip)
        self.blocks = (width_out, self.in_features) if skip else (width_out,)
        self.out_features = sum(self.blocks)
        if self.standardize:
            self.register_buffer("input_mean", torch.zeros(self.in_features))
            self.register_buffer("input_scale", torch.ones(self.in_features))
            self.register_buffer("input_bound", torch.tensor(math.inf))
        layers: list[nn.Module] = []
        width_in = self.in_features
        for width in positive_ints("MLP", "hidden", hidden):
            layers += [nn.Linear(width_in, width), nn.ReLU()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width_in = width
        layers.append(nn.Linear(width_in, width_out))
        self.layers = nn.Sequential(*layers)

    @property
    def inputs_fitted(self) -> bool:
        """Whether nothing is left to do for `fit_inputs`."""
        return not self.standardize or bool(torch.isfinite(self.input_bound))

    def fit_inputs(self, rows: NDArray[Any]) -> None:
        """Take centre and scale of the inputs from training rows, once.

        Learners call it for a backbone that has such a method, and whose
        `inputs_fitted` is not true.

        Parameters
        ----------
        rows : ndarray of shape (n, in_features)
            Finite rows, as doubles where they are: the statistics are taken in double
            precision.

        Raises
        ------
        InvalidInputError
            If the rows have another width, or a column cannot be held by single
            precision.

        See Also
        --------
        input_statistics : Centre and scale, and how outliers count.
        """
        if self.inputs_fitted:
            return
        if rows.shape[1:] != (self.in_features,):
            raise InvalidInputError(_width_rule(self.in_features, rows.shape[1:]))
        center, scale = input_statistics(rows)
        self.input_mean.copy_(torch.from_numpy(center))
        self.input_scale.copy_(torch.from_numpy(scale))
        largest = torch.finfo(self.input_bound.dtype).max
        self.input_bound.fill_(largest if self.clip is None else self.clip)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return features of shape (n, out_features); trailing axes are flattened."""
        flat = rows.flatten(1)  # (n, in_features)
        if flat.shape[1] != self.in_features:
            raise InvalidInputError(_width_rule(self.in_features, rows.shape[1:]))
        if self.standardize:
            flat = (flat - self.input_mean) / self.input_scale
            flat = torch.clamp(flat, -self.input_bound, self.input_bound)
        features = self.layers(flat)
        return torch.cat([features, flat], dim=1) if self.skip else features


def _width_rule(in_features: int, got: Sequence[int]) -> str:
    return (
        f"Every row must have in_features={in_features} values. Got rows of shape "
        f"{tuple(got)}; build the MLP for that width."
    )


class MLP(Backbone):
    """Fully connected backbone for tables, short sequences and small images.

    The module is `MLPModule`: linear layers with ReLU between them, on inputs that
    are standardised by the training rows and clipped, so that a change of units or
    offsets of the columns changes nothing.

    Parameters
    ----------
    hidden : sequence of int, default=(64,)
        Widths of the hidden layers. An empty sequence gives a linear backbone.
    out_features : int, default=64
        Number of features of the last layer.
    standardize : bool, default=True
        Whether inputs are standardised by the centre and scale of the training rows.
        Switch it off for rows whose values mean the same at 0, such as a spectrum, or
        that were standardised before.
    clip : float or None, default=5.0
        Standard deviations that a standardised input is clipped to, > 0; None: not
        clipped.
    skip : bool, default=False
        Whether the standardised inputs are features too, after those of the last
        layer: what is linear in the columns need not pass through hidden layers.
    dropout : float, default=0.0
        Probability in [0, 1) that a hidden unit is dropped in training.

    Examples
    --------
    >>> from skcausalmeta.backbones import MLP
    >>> MLP(hidden=(32,), out_features=5).build((10,)).out_features
    5
    >>> MLP(hidden=(32,), out_features=5, skip=True).build((10,)).out_features
    15
    """

    def __init__(
        self,
        hidden: Sequence[int] = (64,),
        out_features: int = 64,
        *,
        standardize: bool = True,
        clip: float | None = 5.0,
        skip: bool = False,
        dropout: float = 0.0,
    ) -> None:
        self.hidden = hidden
        self.out_features = out_features
        self.standardize = standardize
        self.clip = clip
        self.skip = skip
        self.dropout = dropout

    def build(self, input_shape: tuple[int, ...]) -> MLPModule:
        """Build the module for samples of any shape, which it flattens."""
        return MLPModule(math.prod(input_shape), **self.get_params())
