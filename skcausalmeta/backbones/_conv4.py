"""Conv4: the four-block convolutional backbone of few-shot learning."""

from __future__ import annotations

import torch
from torch import nn

from ..exceptions import InvalidInputError
from ._checks import image_sides, positive_int
from ._contract import Backbone, check_image_shape
from ._layout import fastest_layout


class Conv4Module(nn.Module):
    """Convolutional module, four blocks of 64 filters by default.

    One block is conv3x3 -> batch norm -> max-pool 2 -> ReLU. The ReLU comes after the
    pooling: maximum and ReLU commute, so the function is that of the literature, with
    a quarter of the ReLU work. A block pools only while both sides of its map are at
    least 2, so images of any size pass. The convolutions have no bias because the
    batch norm that follows would remove it.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.

    image_size : int or pair of int
        Side of square images, or (height, width), in pixels.

    n_filters : int, default=64
        Number of filters of every block.

    n_blocks : int, default=4
        Number of blocks.

    out_filters : int, default=None
        Number of filters of the last block, where it is to differ: many features, of
        which a sparse head picks few, at little cost, since the last maps are small.

    global_pool : bool, default=False
        Average every filter over the last map, so that few blocks do not mean many
        features.

    Attributes
    ----------
    out_features : int
        Filters of the last block times the area of the last map: of 64 filters 64
        for 28 x 28 images, 256 for 32 x 32 and 1600 for 84 x 84. With `global_pool`:
        filters of the last block.

    blocks : torch.nn.Sequential
        The blocks in order.

    Raises
    ------
    InvalidInputError
        If a parameter is not a positive integer or images of another shape arrive.

    Notes
    -----
    On CPU the maps are laid out channels last inside. Forward and backward with 2
    threads and torch 2.13, medians in milliseconds, default layout -> channels last:
    1 x 28 x 28 with 80 images 109 -> 68; 3 x 32 x 32 with 55 images 96 -> 65 and with
    80 images 123 -> 89. On other devices, and in inner loops of the second order, the
    layout of the images is kept. The order of the features is the same for both.

    References
    ----------
    .. [1] O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra.
       "Matching networks for one shot learning". NeurIPS 2016.
    .. [2] J. Snell, K. Swersky, R. Zemel. "Prototypical networks for few-shot
       learning". NeurIPS 2017.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.backbones import Conv4Module
    >>> backbone = Conv4Module(3, 84)
    >>> backbone.out_features
    1600
    >>> backbone(torch.zeros(2, 3, 84, 84)).shape
    torch.Size([2, 1600])
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int | tuple[int, int],
        *,
        n_filters: int = 64,
        n_blocks: int = 4,
        out_filters: int | None = None,
        global_pool: bool = False,
    ) -> None:
        super().__init__()
        channels = positive_int("Conv4", "in_channels", in_channels)
        height, width = image_sides("Conv4", image_size)
        n_filters = positive_int("Conv4", "n_filters", n_filters)
        self.image_shape = (channels, height, width)
        filters = [n_filters] * positive_int("Conv4", "n_blocks", n_blocks)
        if out_filters is not None:
            filters[-1] = positive_int("Conv4", "out_filters", out_filters)
        blocks = []
        for wide in filters:
            pools = min(height, width) >= 2
            blocks.append(_block(channels, wide, pools))
            if pools:
                height, width = height // 2, width // 2
            channels = wide
        self.blocks = nn.Sequential(*blocks)
        self.global_pool = bool(global_pool)
        self.out_features = channels * (1 if global_pool else height * width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features of shape (n, out_features), filter by filter."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise InvalidInputError(
                f"Every image must have the shape {self.image_shape} (channels, "
                f"height, width) that this Conv4 was built for. Got "
                f"{tuple(images.shape[1:])}; resize the images or build another one."
            )
        maps = self.blocks(fastest_layout(images))
        return maps.mean((-2, -1)) if self.global_pool else maps.flatten(1)


class Conv4(Backbone):
    """Convolutional backbone of few-shot learning for images.

    The module is `Conv4Module`: blocks of convolution, batch norm, pooling and ReLU.

    Parameters
    ----------
    n_filters : int, default=64
        Number of filters of every block.
    n_blocks : int, default=4
        Number of blocks.
    out_filters : int, default=None
        Number of filters of the last block, where it is to differ.
    global_pool : bool, default=False
        Average every filter over the last map.

    Examples
    --------
    >>> from skcausalmeta.backbones import Conv4
    >>> Conv4(n_filters=32).build((3, 84, 84)).out_features
    800
    """

    def __init__(
        self,
        n_filters: int = 64,
        n_blocks: int = 4,
        *,
        out_filters: int | None = None,
        global_pool: bool = False,
    ) -> None:
        self.n_filters = n_filters
        self.n_blocks = n_blocks
        self.out_filters = out_filters
        self.global_pool = global_pool

    def build(self, input_shape: tuple[int, ...]) -> Conv4Module:
        """Build the module for images (channels, height, width)."""
        check_image_shape("conv4", input_shape)
        channels, height, width = input_shape
        return Conv4Module(channels, (height, width), **self.get_params())


def _block(in_channels: int, n_filters: int, pools: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, n_filters, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(n_filters),
    ]
    if pools:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.ReLU())
