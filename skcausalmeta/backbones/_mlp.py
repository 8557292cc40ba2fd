"""A multi-layer perceptron for tables, short sequences and small images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from ..exceptions import InvalidInputError
from ._checks import positive_int, positive_ints, real_between
from ._contract import Backbone


class MLPModule(nn.Module):
    """Fully connected module with ReLU between its linear layers.

        f(x) = A_L relu(... relu(A_1 s(x) + b_1) ...) + b_L

    where s standardises every input feature, so that the units of the raw columns
    do not matter. The last layer has no activation: features may have either sign.

    Parameters
    ----------
    in_features : int
        Number of values per sample, after flattening.

    hidden : sequence of int, default=(64,)
        Widths of the hidden layers. An empty sequence gives a linear backbone.

    out_features : int, default=64
        Number of features that come out.

    standardize : bool, default=True
        Whether a batch norm without weights standardises the input first.

    dropout : float, default=0.0
        Probability in [0, 1) that a hidden unit is dropped in training.

    Attributes
    ----------
    out_features : int
        Number of features that come out.

    layers : torch.nn.Sequential
        The layers in order.

    Raises
    ------
    InvalidInputError
        If a width is not a positive integer, `dropout` lies outside [0, 1), or rows
        with another number of values arrive.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.backbones import MLPModule
    >>> backbone = MLPModule(10, hidden=(32, 16), out_features=5)
    >>> backbone(torch.zeros(4, 10)).shape
    torch.Size([4, 5])
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (64,),
        out_features: int = 64,
        *,
        standardize: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features = positive_int("MLP", "in_features", in_features)
        self.out_features = positive_int("MLP", "out_features", out_features)
        dropout = real_between("MLP", "dropout", dropout, 0, 1, closed=False)
        layers: list[nn.Module] = []
        if standardize:
            layers.append(nn.BatchNorm1d(self.in_features, affine=False))
        width_in = self.in_features
        for width in positive_ints("MLP", "hidden", hidden):
            layers += [nn.Linear(width_in, width), nn.ReLU()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width_in = width
        layers.append(nn.Linear(width_in, self.out_features))
        self.layers = nn.Sequential(*layers)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return features of shape (n, out_features); trailing axes are flattened."""
        flat = rows.flatten(1)  # (n, in_features)
        if flat.shape[1] != self.in_features:
            raise InvalidInputError(
                f"Every row must have in_features={self.in_features} values. Got rows "
                f"of shape {tuple(rows.shape[1:])}; build the MLP for that width."
            )
        return self.layers(flat)


class MLP(Backbone):
    """Fully connected backbone for tables, short sequences and small images.

    The module is `MLPModule`: linear layers with ReLU between them, on inputs that
    are standardised by the training rows.

    Parameters
    ----------
    hidden : sequence of int, default=(64,)
        Widths of the hidden layers. An empty sequence gives a linear backbone.
    out_features : int, default=64
        Number of features that come out.
    standardize : bool, default=True
        Whether a batch norm without weights standardises the input first.
    dropout : float, default=0.0
        Probability in [0, 1) that a hidden unit is dropped in training.

    Examples
    --------
    >>> from skcausalmeta.backbones import MLP
    >>> MLP(hidden=(32,), out_features=5).build((10,)).out_features
    5
    """

    def __init__(
        self,
        hidden: Sequence[int] = (64,),
        out_features: int = 64,
        *,
        standardize: bool = True,
        dropout: float = 0.0,
    ) -> None:
        self.hidden = hidden
        self.out_features = out_features
        self.standardize = standardize
        self.dropout = dropout

    def build(self, input_shape: tuple[int, ...]) -> MLPModule:
        """Build the module for samples of any shape, which it flattens."""
        return MLPModule(math.prod(input_shape), **self.get_params())
