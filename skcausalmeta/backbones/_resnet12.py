"""ResNet-12: the residual backbone of few-shot learning."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..exceptions import InvalidInputError
from ._checks import image_sides, positive_int, positive_ints, real_between
from ._contract import Backbone, check_image_shape
from ._drop_block import DropBlock

_SLOPE = 0.1


class ResNet12Module(nn.Module):
    """Residual module: blocks of three convolutions with a 1x1 shortcut.

    One block computes, for a map x,

        drop(lrelu(pool(r(x) + bn(conv1x1(x)))))
        r(x) = bn(conv(lrelu(bn(conv(lrelu(bn(conv(x))))))))

    with 3x3 convolutions in r, leaky ReLU of slope 0.1, and max-pooling by 2 while both
    sides of the map are at least 2. `drop` is dropout in the first blocks and
    `DropBlock` in the last two. With the default widths the backbone has 12.4 million
    parameters.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.

    n_filters : sequence of int, default=(64, 160, 320, 640)
        Width of every block; its length is the number of blocks.

    drop_rate : float, default=0.1
        Share of units, in [0, 1), dropped by dropout and DropBlock in training.

    drop_block_size : int, default=5
        Side of the dropped blocks, clipped to the map.

    avg_pool : bool, default=True
        Whether the last map is averaged over its area. If False it is flattened, and
        `image_size` must be given.

    image_size : int or pair of int or None, default=None
        Side of square images, or (height, width), in pixels. With `avg_pool` it is
        not needed and images of any size pass.

    Attributes
    ----------
    out_features : int
        Last width, times the area of the last map if `avg_pool` is False: 640, or
        16000 for 84 x 84 images.

    blocks : torch.nn.Sequential
        The blocks in order.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range, if `image_size` is needed and missing, or if
        images of another shape arrive.

    Notes
    -----
    Unlike `Conv4`, no memory layout is chosen inside: channels last was measured to
    gain nothing here, as the wide convolutions dominate.

    References
    ----------
    .. [1] K. Lee, S. Maji, A. Ravichandran, S. Soatto. "Meta-learning with
       differentiable convex optimization". CVPR 2019.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.backbones import ResNet12Module
    >>> backbone = ResNet12Module(3, n_filters=(8, 16), avg_pool=False, image_size=12)
    >>> backbone(torch.zeros(2, 3, 12, 12)).shape
    torch.Size([2, 144])
    """

    def __init__(
        self,
        in_channels: int,
        *,
        n_filters: Sequence[int] = (64, 160, 320, 640),
        drop_rate: float = 0.1,
        drop_block_size: int = 5,
        avg_pool: bool = True,
        image_size: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = positive_int("ResNet12", "in_channels", in_channels)
        widths = positive_ints("ResNet12", "n_filters", n_filters)
        if not widths:
            raise InvalidInputError(
                "The 'n_filters' parameter of ResNet12 must name the width of at least "
                f"one block. Got {n_filters!r} instead."
            )
        drop_rate = real_between("ResNet12", "drop_rate", drop_rate, 0, 1, closed=False)
        self.avg_pool = bool(avg_pool)
        self.image_size = (
            None if image_size is None else image_sides("ResNet12", image_size)
        )
        self.out_features = self._count_features(widths)
        blocks = []
        channels = self.in_channels
        for index, width in enumerate(widths):
            drop: nn.Module = nn.Dropout(drop_rate)
            if index >= len(widths) - 2:
                drop = DropBlock(drop_rate, drop_block_size)
            blocks.append(_ResidualBlock(channels, width, drop))
            channels = width
        self.blocks = nn.Sequential(*blocks)

    def _count_features(self, widths: tuple[int, ...]) -> int:
        if self.avg_pool:
            return widths[-1]
        if self.image_size is None:
            raise InvalidInputError(
                "ResNet12 needs 'image_size' to count its features when avg_pool=False."
                " Got image_size=None; pass (height, width) or set avg_pool=True."
            )
        height, width = self.image_size
        for _ in widths:
            if min(height, width) >= 2:
                height, width = height // 2, width // 2
        return widths[-1] * height * width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features of shape (n, out_features)."""
        self._check_shape(images)
        maps = self.blocks(images)  # (n, c, h, w)
        return maps.mean(dim=(2, 3)) if self.avg_pool else maps.flatten(1)

    def _check_shape(self, images: torch.Tensor) -> None:
        fits = images.ndim == 4 and images.shape[1] == self.in_channels
        if fits and not self.avg_pool:
            fits = tuple(images.shape[2:]) == self.image_size
        if not fits:
            sides = ("height", "width") if self.avg_pool else self.image_size
            expected = ", ".join(str(v) for v in (self.in_channels, *(sides or ())))
            raise InvalidInputError(
                f"Every image must have the shape ({expected}) that this ResNet12 was "
                f"built for. Got {tuple(images.shape[1:])}; reshape the images or "
                "build another one."
            )


class ResNet12(Backbone):
    """Residual backbone of few-shot learning for images.

    The module is `ResNet12Module`: blocks of three convolutions with a shortcut.

    Parameters
    ----------
    n_filters : sequence of int, default=(64, 160, 320, 640)
        Width of every block; its length is the number of blocks.
    drop_rate : float, default=0.1
        Share of units, in [0, 1), dropped by dropout and DropBlock in training.
    drop_block_size : int, default=5
        Side of the dropped blocks, clipped to the map.
    avg_pool : bool, default=True
        Whether the last map is averaged over its area, or flattened.

    Examples
    --------
    >>> from skcausalmeta.backbones import ResNet12
    >>> ResNet12(n_filters=(8, 16)).build((3, 32, 32)).out_features
    16
    """

    def __init__(
        self,
        n_filters: Sequence[int] = (64, 160, 320, 640),
        *,
        drop_rate: float = 0.1,
        drop_block_size: int = 5,
        avg_pool: bool = True,
    ) -> None:
        self.n_filters = n_filters
        self.drop_rate = drop_rate
        self.drop_block_size = drop_block_size
        self.avg_pool = avg_pool

    def build(self, input_shape: tuple[int, ...]) -> ResNet12Module:
        """Build the module for images (channels, height, width)."""
        check_image_shape("resnet12", input_shape)
        channels, height, width = input_shape
        size = (height, width)
        return ResNet12Module(channels, image_size=size, **self.get_params())


class _ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, width: int, drop: nn.Module) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv_bn(in_channels, width, 3),
            nn.LeakyReLU(_SLOPE),
            *_conv_bn(width, width, 3),
            nn.LeakyReLU(_SLOPE),
            *_conv_bn(width, width, 3),
        )
        self.shortcut = nn.Sequential(*_conv_bn(in_channels, width, 1))
        self.drop = drop

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = self.residual(maps) + self.shortcut(maps)
        if min(maps.shape[2:]) >= 2:
            maps = F.max_pool2d(maps, 2)
        # Leaky ReLU increases, so after the pooling it gives the same at less work.
        return self.drop(F.leaky_relu(maps, _SLOPE))


def _conv_bn(in_channels: int, width: int, side: int) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(in_channels, width, side, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(
        conv.weight, a=_SLOPE, mode="fan_out", nonlinearity="leaky_relu"
    )
    return conv, nn.BatchNorm2d(width)
