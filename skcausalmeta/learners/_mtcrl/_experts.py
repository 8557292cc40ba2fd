"""Modules of a multi-task net, each layer of all of them one batched operation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from torch import Tensor, nn
from torch.nn import functional

from ...backbones import input_statistics, positive_int, positive_ints
from ...exceptions import InvalidInputError

_COUNT = Interval(Integral, 1, None, closed="left")
_HIDDEN = Interval(Integral, 0, None, closed="left")


class MLPExpert(BaseEstimator):
    """Fully connected modules of a multi-task learner, and the head of a task.

    Parameters
    ----------
    hidden : sequence of int, default=(32,)
        Widths of the hidden layers of a module.
    out_features : int, default=8
        Features h of a module.
    head_hidden : int, default=0
        Width of the hidden layer of every head f_t; 0: linear heads.
    clip : float or None, default=5.0
        Standard deviations that a standardised input is clipped to, > 0; None: not
        clipped.

    See Also
    --------
    ConvExpert : Modules for images and targets per pixel.

    Examples
    --------
    >>> from skcausalmeta.learners import MLPExpert, MTCRLClassifier
    >>> MTCRLClassifier(expert=MLPExpert(hidden=(16,))).get_params()["expert__hidden"]
    (16,)
    """

    _constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden": [tuple, list],
        "out_features": [_COUNT],
        "head_hidden": [_HIDDEN],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        hidden: Sequence[int] = (32,),
        *,
        out_features: int = 8,
        head_hidden: int = 0,
        clip: float | None = 5.0,
    ) -> None:
        self.hidden = hidden
        self.out_features = out_features
        self.head_hidden = head_hidden
        self.clip = clip

    def build(
        self,
        input_shape: Sequence[int],
        n_modules: int,
        inputs: Tensor | None = None,
        *,
        dense: bool = False,
    ) -> MLPExperts:
        """Build the modules, with fresh weights.

        Parameters
        ----------
        input_shape : sequence of int
            Shape of a sample, which is flattened.
        n_modules : int
            Number of modules.
        inputs : Tensor of shape (n_modules, n_values), default=None
            1 where a module reads a value, else 0. None: all modules read all.
        dense : bool, default=False
            Whether targets are per pixel, which these modules refuse.

        Returns
        -------
        MLPExperts

        Raises
        ------
        InvalidInputError
            For targets per pixel.
        """
        _check(self)
        if dense:
            raise InvalidInputError(
                f"Targets per pixel need convolutional modules. Got {self!r}; pass "
                "expert='conv' or 'auto'."
            )
        return MLPExperts(
            math.prod(input_shape),
            n_modules,
            tuple(self.hidden),
            self.out_features,
            inputs,
            clip=self.clip,
        )


class ConvExpert(BaseEstimator):
    """Convolutional modules of a multi-task learner, and the head of a task.

    Parameters
    ----------
    n_filters : int, default=32
        Channels of a module inside.
    out_features : int, default=8
        Features h of a module, at every pixel where targets are.
    head_hidden : int, default=0
        Width of the hidden layer of every head f_t; 0: linear heads.

    See Also
    --------
    MLPExpert : Modules for rows of values.

    Examples
    --------
    >>> from skcausalmeta.learners import ConvExpert, MTCRLClassifier
    >>> learner = MTCRLClassifier(expert="conv").set_params(expert__n_filters=4)
    >>> learner.expert
    ConvExpert(n_filters=4)
    """

    _constraints: ClassVar[dict[str, list[Any]]] = {
        "n_filters": [_COUNT],
        "out_features": [_COUNT],
        "head_hidden": [_HIDDEN],
    }

    def __init__(
        self,
        n_filters: int = 32,
        *,
        out_features: int = 8,
        head_hidden: int = 0,
    ) -> None:
        self.n_filters = n_filters
        self.out_features = out_features
        self.head_hidden = head_hidden

    def build(
        self,
        input_shape: Sequence[int],
        n_modules: int,
        inputs: Tensor | None = None,
        *,
        dense: bool = False,
    ) -> ConvExperts:
        """Build the modules, with fresh weights.

        Parameters
        ----------
        input_shape : sequence of int
            Shape (channels, height, width) of an image.
        n_modules : int
            Number of modules.
        inputs : Tensor, default=None
            Refused: every module reads the whole image.
        dense : bool, default=False
            Whether targets are per pixel.

        Returns
        -------
        ConvExperts

        Raises
        ------
        InvalidInputError
            If the samples are no images, or `inputs` is given.
        """
        _check(self)
        if inputs is not None:
            raise InvalidInputError(
                f"module_inputs needs fully connected modules. Got {self!r}, whose "
                "modules read the whole image; leave module_inputs out."
            )
        if len(input_shape) != 3:
            raise InvalidInputError(
                f"{self!r} needs images. Got rows of shape {tuple(input_shape)}; set "
                "input_shape or use expert='mlp'."
            )
        channels = input_shape[0]
        return ConvExperts(
            channels, n_modules, self.n_filters, self.out_features, dense
        )


Expert = MLPExpert | ConvExpert
EXPERTS: dict[str, type[Expert]] = {"mlp": MLPExpert, "conv": ConvExpert}


def named_expert(name: str) -> Expert:
    """Return the modules that a name stands for, with their default parameters.

    Raises
    ------
    InvalidInputError
        If there is no such name, or it is "auto", which waits for the data.
    """
    if name not in EXPERTS:
        raise InvalidInputError(
            f"The parameters of an expert need one of {list(EXPERTS)}. Got "
            f"expert={name!r}; set expert='mlp', or 'conv' for images, as well."
        )
    return EXPERTS[name]()


def _check(expert: Expert) -> None:
    params = expert.get_params(deep=False)
    validate_parameter_constraints(
        expert._constraints, params, caller_name=type(expert).__name__
    )


class MLPExperts(nn.Module):
    """Fully connected modules, one batched product per layer.

    ``phi_k(x) = B_k relu(A_k x + a_k) + b_k`` for k = 1..K at once, on inputs that
    are standardised by the rows given to `fit_inputs`, and clipped.

    Parameters
    ----------
    in_features : int
        Number of values per sample, after flattening.
    n_modules : int
        Number K of modules.
    hidden : sequence of int, default=(32,)
        Widths of the hidden layers.
    out_features : int, default=16
        Number h of features of a module.
    inputs : Tensor of shape (n_modules, in_features), default=None
        1 where a module reads a value, else 0. None: all modules read all.
    clip : float, default=None
        Standard deviations that a standardised input is clipped to; None: not
        clipped.

    Attributes
    ----------
    gate_features : int
        Length of the rows that `standardize` gives.

    Raises
    ------
    InvalidInputError
        If a width is not a positive integer.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners._mtcrl._experts import MLPExperts
    >>> MLPExperts(10, n_modules=4, out_features=3)(torch.zeros(5, 10)).shape
    torch.Size([4, 5, 3])
    """

    inputs: Tensor
    center: Tensor
    spread: Tensor

    def __init__(
        self,
        in_features: int,
        n_modules: int,
        hidden: Sequence[int] = (32,),
        out_features: int = 16,
        inputs: Tensor | None = None,
        *,
        clip: float | None = None,
    ) -> None:
        super().__init__()
        widths = [
            positive_int("MLPExperts", "in_features", in_features),
            *positive_ints("MLPExperts", "hidden", hidden),
            positive_int("MLPExperts", "out_features", out_features),
        ]
        self.n_modules = positive_int("MLPExperts", "n_modules", n_modules)
        self.in_features, self.out_features = widths[0], widths[-1]
        self.gate_features = self.in_features
        self.clip = clip
        read = (
            torch.ones(1, 1) if inputs is None else inputs.to(torch.get_default_dtype())
        )
        self.register_buffer("inputs", read.unsqueeze(-1))  # (n_modules, in, 1)
        self.register_buffer("center", torch.zeros(self.in_features))
        self.register_buffer("spread", torch.ones(self.in_features))
        n_read = read.sum(dim=1) if inputs is not None else None
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for layer, (n_in, n_out) in enumerate(pairwise(widths)):
            weight = torch.randn(self.n_modules, n_in, n_out)
            if layer == 0 and n_read is not None:
                weight *= (2.0 / n_read.clamp_min(1.0)).sqrt().view(-1, 1, 1)
            else:
                weight *= math.sqrt(2.0 / n_in)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(self.n_modules, 1, n_out)))

    def fit_inputs(self, rows: NDArray[Any]) -> None:
        """Take centre and spread of the inputs from training rows (n, in_features).

        Raises
        ------
        InvalidInputError
            If single precision cannot hold what varies in a column.
        """
        center, spread = input_statistics(rows)
        self.center.copy_(torch.from_numpy(center))
        self.spread.copy_(torch.from_numpy(spread))

    def standardize(self, rows: Tensor) -> Tensor:
        """Return flat standardised rows (n, in_features)."""
        flat = rows.flatten(1)
        if flat.shape[1] != self.in_features:
            raise InvalidInputError(
                f"Every row must have {self.in_features} values. Got rows of "
                f"shape {tuple(rows.shape[1:])}; build the modules for that width."
            )
        scaled = (flat - self.center) / self.spread
        return scaled if self.clip is None else scaled.clamp(-self.clip, self.clip)

    def centred(self, rows: Tensor) -> Tensor:
        """Return flat rows minus the centre of the training rows."""
        return rows.flatten(1) - self.center

    def inputs_read(self) -> NDArray[np.bool_] | None:
        """Return what every module reads, (n_modules, in_features); None: all."""
        if self.inputs.shape[:2] != (self.n_modules, self.in_features):
            return None
        return self.inputs[..., 0].cpu().numpy() > 0

    def forward(self, rows: Tensor) -> Tensor:
        """Return the features of all modules, (n_modules, n, out_features)."""
        values = self.standardize(rows)
        last = len(self.weights) - 1
        first = self.weights[0] * self.inputs
        hidden = torch.matmul(values, first) + self.biases[0]  # (n_modules, n, width)
        for layer in range(1, last + 1):
            hidden = torch.baddbmm(
                self.biases[layer], functional.relu(hidden), self.weights[layer]
            )
        return hidden


class ConvExperts(nn.Module):
    """Convolutional encoder-decoder modules, one grouped convolution per layer.

    Two convolutions of stride 2, one in between, two steps of up-sampling with a
    skip connection: features at every pixel. Pixels become rows, so that heads
    and the routing treat them as they treat samples.

    Parameters
    ----------
    in_channels : int
        Channels of an image.
    n_modules : int
        Number K of modules.
    width : int, default=8
        Channels of a module inside.
    out_features : int, default=8
        Number h of features per pixel.
    dense : bool, default=True
        Features at every pixel; else their mean over the image.

    Attributes
    ----------
    gate_features : int
        Length of the rows that `standardize` gives.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.learners._mtcrl._experts import ConvExperts
    >>> ConvExperts(3, n_modules=4)(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([4, 512, 8])
    """

    center: Tensor
    spread: Tensor

    def __init__(
        self,
        in_channels: int,
        n_modules: int,
        width: int = 8,
        out_features: int = 8,
        dense: bool = True,
    ) -> None:
        super().__init__()
        self.n_modules = positive_int("ConvExperts", "n_modules", n_modules)
        self.out_features = positive_int("ConvExperts", "out_features", out_features)
        wide = positive_int("ConvExperts", "width", width) * self.n_modules
        self.gate_features, self.dense = in_channels, dense
        self.register_buffer("center", torch.zeros(in_channels))
        self.register_buffer("spread", torch.ones(in_channels))
        narrow = self.out_features * self.n_modules
        # All modules see the same image, so the first layer needs no groups.
        self.down1 = nn.Conv2d(in_channels, wide, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(wide, wide, 3, 2, padding=1, groups=n_modules)
        self.middle = nn.Conv2d(wide, wide, 3, padding=1, groups=n_modules)
        self.up1 = nn.Conv2d(wide, wide, 3, padding=1, groups=n_modules)
        self.up2 = nn.Conv2d(wide, narrow, 3, padding=1, groups=n_modules)

    def set_statistics(self, rows: Tensor) -> None:
        """Take centre and spread of the channels from the training images."""
        self.center.copy_(rows.mean(dim=(0, 2, 3)))
        largest = rows.abs().amax(dim=(0, 2, 3))
        self.spread.copy_(_scale(rows.std(dim=(0, 2, 3)), largest))

    def standardize(self, rows: Tensor) -> Tensor:
        """Return the mean of every standardised channel, (n, in_channels)."""
        return self._scaled(rows).mean(dim=(2, 3))

    def centred(self, rows: Tensor) -> Tensor:
        """Return flat rows minus the centres of the channels."""
        return (rows - self.center.view(-1, 1, 1)).flatten(1)

    def inputs_read(self) -> None:
        """Return None: every module reads the whole image."""

    def _scaled(self, rows: Tensor) -> Tensor:
        return (rows - self.center.view(-1, 1, 1)) / self.spread.view(-1, 1, 1)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the features of all modules, (n_modules, n_pixels, out_features)."""
        size = rows.shape[2:]
        half = functional.relu(self.down1(self._scaled(rows)))
        deep = functional.relu(self.down2(half))
        deep = functional.relu(self.middle(deep))
        deep = functional.interpolate(deep, size=half.shape[2:])
        half = functional.relu(self.up1(deep + half))
        full = self.up2(functional.interpolate(half, size=size))
        maps = full.view(len(rows), self.n_modules, self.out_features, -1)
        if not self.dense:
            return maps.mean(dim=-1).transpose(0, 1)
        return maps.permute(1, 0, 3, 2).flatten(1, 2)


def _scale(spread: Tensor, largest: Tensor) -> Tensor:
    """Return the spread, 1 for a constant value, of which only rounding is left."""
    return torch.where(spread > 1e-6 * largest, spread, 1.0)
