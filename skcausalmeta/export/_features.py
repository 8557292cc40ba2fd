"""Layers from rows to features: what a learner does before a head."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..backbones import PreparedBackbone
from ..exceptions import InvalidInputError
from ..training import HookedFeatures, RowReader


class Samples(nn.Module):
    """Rows as the backbone takes them: in its shape and its numbers.

    Parameters
    ----------
    reader : RowReader
        Of the learner.
    shift, scale : ndarray of shape (n_features,), default=None
        What steps before the learner take from a column, and divide it by.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, reader: RowReader, shift: Any = None, scale: Any = None) -> None:
        super().__init__()
        self._reader = copy.copy(reader)
        self._reader.device = torch.device("cpu")
        self.standardizes = shift is not None
        if self.standardizes:
            self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float64))
            self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))

    @property
    def input_dtype(self) -> torch.dtype:
        """Type of the rows that the graph takes."""
        if self.standardizes:
            return torch.float64
        if self._reader.integers:
            return torch.int64
        seen = getattr(self._reader, "seen_dtype", None)
        return torch.uint8 if seen == np.uint8 else torch.float32

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a row that the graph takes."""
        return self._reader.row_shape

    def forward(self, rows: Tensor) -> Tensor:
        """Return samples (n, *sample_shape)."""
        if self.standardizes:
            rows = (rows - self.shift) / self.scale
        if not self._reader.integers:
            pixels = self._reader.scales_bytes and self.input_dtype == torch.uint8
            rows = rows.float() / 255.0 if pixels else rows.float()
        return self._reader.arranged(rows)


class HeadFeatures(nn.Module):
    """Features of a backbone, as the head of a task gets them, in double precision.

    Parameters
    ----------
    net : HeadNet
        Of the learner.
    task : HeadTask
        Has the code and the centre of the task.
    """

    code: Tensor | None
    center: Tensor

    def __init__(self, net: Any, task: Any) -> None:
        super().__init__()
        module = copied(net.module_)
        self.backbone = plain_backbone(module.backbone)
        # Features of a regressor may be standardised.
        self.standardize = getattr(module, "standardize", nn.Identity())
        self.hooked = module.hooked
        active = self.hooked.is_active and task.code is not None
        code = torch.as_tensor(task.code, dtype=torch.float32) if active else None
        self.register_buffer("code", code)
        center = 0.0 if task.center is None else task.center
        center = torch.as_tensor(center, dtype=torch.float64).clone()
        self.register_buffer("center", center)

    def forward(self, samples: Tensor) -> Tensor:
        """Return features (n, d)."""
        features = self.standardize(self.backbone(samples))
        if self.code is not None:
            features = self.hooked.transform(features.float(), self.code)
        return features.double() - self.center


class AdaptedScores(nn.Module):
    """Scores of a network that adapted to a task by gradient steps, in double.

    Parameters
    ----------
    net : GradientNet
        Of the learner.
    task : AdaptedTask
        Has the adapted parameters and the code.
    """

    code: Tensor | None

    def __init__(self, net: Any, task: Any) -> None:
        super().__init__()
        module = copied(net.module_)
        named = dict(module.named_parameters())
        with torch.no_grad():
            for name, value in task.parameters.items():
                named[name].copy_(value)
        self.backbone = plain_backbone(module.backbone)
        self.hooked: HookedFeatures = module.hooked
        self.output = module.output
        code = None if task.code is None else task.code.detach().cpu()[0]
        self.register_buffer("code", code)
        self.n_classes = None if task.classes is None else len(task.classes)
        self.center, self.scale = float(task.center), float(task.scale)

    def forward(self, samples: Tensor) -> Tensor:
        """Return scores (n, n_classes), or targets (n,)."""
        features = self.backbone(samples)
        if self.code is not None:
            features = self.hooked.transform(features, self.code)
        found = self.output(features).double()
        if self.n_classes is not None:
            return found[:, : self.n_classes]
        return self.center + self.scale * found[:, 0]


class RoutedScores(nn.Module):
    """Scores of a task on the features of frozen modules, in double precision.

    Parameters
    ----------
    net : MultiTaskNet
        Of the learner.
    task : RoutedTask
        Has the weights of the features.
    units : ModuleFeatures
        Centre and scale of the features.
    """

    coef: Tensor
    intercept: Tensor

    def __init__(self, net: Any, task: Any, units: Any) -> None:
        super().__init__()
        self.experts = copied(net.module_).double().experts
        kind = task.kind
        coef, intercept = np.array(task.coef), np.array(task.intercept)
        if kind.name == "binary":  # no score of the first class, odds of the second
            coef = np.stack([np.zeros(len(coef)), coef[:, 1] - coef[:, 0]], axis=1)
            intercept = np.array([0.0, intercept[1] - intercept[0]])
        elif kind.classes is None:
            coef = coef * kind.spread
            intercept = intercept * kind.spread + kind.center
        coef = coef / units.scale[units.groups][:, None]
        intercept = intercept - units.center @ coef
        self.register_buffer("coef", torch.from_numpy(coef))
        self.register_buffer("intercept", torch.from_numpy(intercept))
        self.is_regression = kind.classes is None

    def forward(self, samples: Tensor) -> Tensor:
        """Return scores (n, n_classes), or targets (n,)."""
        found = self.experts(samples.double())  # (n_modules, n, h)
        scores = found.permute(1, 0, 2).flatten(1) @ self.coef + self.intercept
        return scores[:, 0] if self.is_regression else scores


def copied(module: nn.Module) -> Any:
    """Return a copy of a module on the CPU, in evaluation, without gradients."""
    return copy.deepcopy(module).cpu().eval().requires_grad_(False)


def plain_backbone(backbone: nn.Module) -> nn.Module:
    """Return a backbone without what compiles it.

    Raises
    ------
    InvalidInputError
        If it runs in half precision.
    """
    if not isinstance(backbone, PreparedBackbone):
        return backbone
    if backbone.precision != "float32":
        raise InvalidInputError(
            "A graph computes in single precision, with answers other than those of "
            f"a backbone in half. Got precision={backbone.precision!r}; fit with "
            "precision='float32'."
        )
    return backbone.backbone
