"""What a backbone wants of rows: the axes of images, numbers or integers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ..exceptions import InvalidInputError
from ..utils import isolated_torch_rng
from ._contract import Backbone
from ._conv4 import Conv4
from ._factory import Identity, build_backbone, zero_rows
from ._mlp import MLP
from ._prepared_backbone import PreparedBackbone
from ._resnet12 import ResNet12

_OWN = (MLP, Conv4, ResNet12, Identity)
_TABLES = (nn.Embedding, nn.EmbeddingBag)
# More than two, so that rows are not taken for the two channels of one image.
_N_ROWS = 3


def takes_images(
    backbone: str | Backbone | nn.Module | Callable[..., nn.Module],
    shape: tuple[int, ...],
    image_shape: tuple[int, ...],
) -> bool:
    """Tell whether a backbone takes rows of two or three axes for images.

    The backbones of this package do, and modules with layers for images, those of
    torch whose names end with "2d". Any other module (recurrent layers, attention,
    one-dimensional convolutions) gets rows as they are, if it runs on them.

    Parameters
    ----------
    backbone : str, Backbone, module or callable
        As for `build_backbone`.
    shape : tuple of int
        Shape of a row as it was given.
    image_shape : tuple of int
        The same with channels first.

    Returns
    -------
    bool

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.backbones import takes_images
    >>> takes_images(nn.Conv2d(1, 4, 3), (28, 28), (1, 28, 28))
    True
    >>> takes_images(nn.Conv1d(20, 8, 3), (20, 4), (1, 20, 4))
    False
    """
    if isinstance(backbone, (str, *_OWN)):
        return True

    def runs(shape: tuple[int, ...]) -> bool | None:
        """Tell whether it runs on rows of a shape; None: it has layers for images."""
        try:
            with isolated_torch_rng(0):  # built to be looked at only
                module = build_backbone(backbone, shape)
        except Exception:  # of the user's code: it may raise anything
            return False
        if any(_is_two_dimensional(layer) for layer in module.modules()):
            return None
        return any(_accepts(module, shape, whole) for whole in (False, True))

    as_given = runs(shape)
    return as_given is None or (not as_given and runs(image_shape) is not False)


def wants_integers(
    module: nn.Module, sample_shape: tuple[int, ...], dtype: np.dtype[Any] | None
) -> bool:
    """Tell whether rows reach a module as whole numbers, int64, and not as float32.

    What the module itself says by an attribute ``integer_rows`` (True or False)
    decides. Else integer rows stay integers for a module with a table of embeddings
    that runs on them, and rows of any type are integers for a module that runs on
    nothing else. Bytes with two axes or more are images, and integers for no module
    that runs on numbers.

    Parameters
    ----------
    module : torch.nn.Module
        As `build_backbone` makes it.
    sample_shape : tuple of int
        Shape of one sample.
    dtype : dtype
        Type of the rows of training. None: not known.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skcausalmeta.backbones import build_backbone, wants_integers
    >>> words = build_backbone(nn.Embedding(1000, 8), (20,))
    >>> wants_integers(words, (20,), np.dtype(int))
    True
    >>> wants_integers(build_backbone(nn.Linear(20, 8), (20,)), (20,), np.dtype(int))
    False
    """
    if isinstance(module, PreparedBackbone):
        module = module.backbone
    given = getattr(module, "backbone", None)  # what `build_backbone` wrapped
    if given is None or isinstance(given, nn.Identity):
        return False
    said = getattr(given, "integer_rows", None)
    if said is not None:
        return bool(said)
    has_table = any(isinstance(layer, _TABLES) for layer in module.modules())
    are_integers = dtype is not None and dtype.kind in "iu"
    are_pixels = dtype == np.uint8 and len(sample_shape) > 1
    if has_table and are_integers and not are_pixels:
        return _accepts(module, sample_shape, whole=True)
    return not _accepts(module, sample_shape, whole=False) and _accepts(
        module, sample_shape, whole=True
    )


def refuse_other_numbers(module: nn.Module, sample_shape: tuple[int, ...]) -> None:
    """Refuse a module whose parameters are not of single precision, nor take it.

    Parameters
    ----------
    module : torch.nn.Module
        As `build_backbone` makes it.
    sample_shape : tuple of int
        Shape of one sample.

    Raises
    ------
    InvalidInputError
        With the name and the type of the first such parameter.

    Examples
    --------
    >>> from torch import nn
    >>> from skcausalmeta.backbones import build_backbone, refuse_other_numbers
    >>> refuse_other_numbers(build_backbone(nn.Linear(20, 8), (20,)), (20,))
    """
    others = [
        (name.removeprefix("backbone."), parameter.dtype)
        for name, parameter in module.named_parameters()
        if parameter.is_floating_point() and parameter.dtype != torch.float32
    ]
    if not others or _accepts(module, sample_shape, whole=False, dtype=torch.float32):
        return
    name, dtype = others[0]
    raise InvalidInputError(
        "A backbone gets rows in single precision (float32), so its parameters must "
        f"have that type, or it must convert its rows. Got {dtype} in {name!r}; pass "
        "module.float(), or set precision='bfloat16' in net_params for half numbers."
    )


def _accepts(
    module: nn.Module,
    shape: tuple[int, ...],
    whole: bool,
    dtype: torch.dtype | None = None,
) -> bool:
    """Tell whether a copy of a module gives a row of features a sample."""
    try:
        with isolated_torch_rng(0), torch.no_grad():
            twin = copy.deepcopy(module).eval()
            twin(zero_rows(twin, shape, _N_ROWS, whole=whole).to(dtype=dtype))
    except Exception:  # of the user's code: it may raise anything
        return False
    return True


def _is_two_dimensional(layer: nn.Module) -> bool:
    return getattr(layer, "original_name", type(layer).__name__).endswith("2d")
