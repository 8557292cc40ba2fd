"""A backbone in mixed precision, compiled, or both."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..exceptions import InvalidInputError

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# Otherwise all modules of a class share a limit on how often they are compiled, and
# run as they are beyond it.
_APART = {
    name: True
    for name in inspect.signature(torch.compile).parameters
    if name == "isolate_recompiles"
}

# Compiled code beside the modules, which are copied, pickled and saved without it.
_COMPILED: WeakKeyDictionary[nn.Module, Callable[[Tensor], Tensor]] = (
    WeakKeyDictionary()
)


class PreparedBackbone(nn.Module):
    """Runs a backbone under autocast, compiled, or both; features are float32.

    Weights stay what they are. Compiled code is no part of the module: copies,
    pickles and saved files hold the plain backbone, and compile it anew.

    Parameters
    ----------
    backbone : torch.nn.Module
        Maps samples to features (n, d).
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        Number type of its operations, where autocast finds it safe. On a CPU,
        "float16" runs in float32, so that a learner of a GPU can be used there.
    compile_with : dict, default=None
        Keywords of `torch.compile`; None runs the backbone as it is.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skcausalmeta.backbones import PreparedBackbone
    >>> backbone = PreparedBackbone(nn.Linear(3, 2), "bfloat16")
    >>> backbone(torch.ones(4, 3)).dtype
    torch.float32
    """

    def __init__(
        self,
        backbone: nn.Module,
        precision: str = "float32",
        compile_with: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.precision = precision
        self.compile_with = compile_with

    def forward(self, rows: Tensor) -> Tensor:
        """Return the features of rows."""
        half, device = _HALF.get(self.precision), rows.device.type
        run = self.backbone if self.compile_with is None else self._compiled()
        if half is None or (half is torch.float16 and device == "cpu"):
            return run(rows)
        with torch.autocast(device, dtype=half):
            features: Tensor = run(rows)
        return features.float()

    def _compiled(self) -> Callable[[Tensor], Tensor]:
        if self not in _COMPILED:
            keywords = {**_APART, **(self.compile_with or {})}
            _COMPILED[self] = torch.compile(self.backbone, **keywords)
        return _COMPILED[self]


def prepare_backbone(
    backbone: nn.Module,
    precision: str,
    compile: bool | Mapping[str, Any],
    device: str | torch.device,
) -> nn.Module:
    """Wrap a backbone where precision or compilation ask for it.

    Parameters
    ----------
    backbone : torch.nn.Module
        As `build_backbone` makes it.
    precision : {"float32", "bfloat16", "float16"}
        Number type of its operations.
    compile : bool or mapping
        Whether to compile, or keywords of `torch.compile`; shapes are dynamic unless
        they say otherwise.
    device : str or torch.device
        Where it will run.

    Returns
    -------
    torch.nn.Module
        The backbone itself in float32 without compilation.

    Raises
    ------
    InvalidInputError
        If the device does not go with float16, or a keyword is unknown.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.backbones import prepare_backbone
    >>> backbone = nn.Linear(3, 2)
    >>> prepare_backbone(backbone, "float32", False, "cpu") is backbone
    True
    """
    if precision == "float16":
        _check_float16(torch.device(device))
    keywords = None
    if compile is not False:
        keywords = {"dynamic": True, **({} if compile is True else compile)}
        known = [k for k in inspect.signature(torch.compile).parameters if k != "model"]
        unknown = [name for name in keywords if name not in known]
        if unknown:
            raise InvalidInputError(
                "The 'compile' parameter must hold keywords of torch.compile, "
                f"{known}. Got {unknown[0]!r}; remove it."
            )
    if precision == "float32" and keywords is None:
        return backbone
    return PreparedBackbone(backbone, precision, keywords)


def _check_float16(device: torch.device) -> None:
    if device.type == "cpu":
        raise InvalidInputError(
            "precision='float16' needs a GPU. Got device='cpu'; use "
            "precision='bfloat16', or device='cuda'."
        )
