"""DropBlock: dropout of contiguous regions of a feature map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..exceptions import InvalidInputError
from ._checks import positive_int, real_between


class DropBlock(nn.Module):
    """Drop square blocks of feature maps in training, every channel by itself.

    Each position where a block fits starts one with probability

        gamma = drop_rate / b^2 * (h w) / ((h - b + 1) (w - b + 1)),

    the rate for which about a share `drop_rate` of the map is dropped. The units that
    are left are multiplied by (number of units / number of units left), counted on
    the mask that was drawn. In eval mode the module is the identity.

    Parameters
    ----------
    drop_rate : float, default=0.1
        Share of the units to drop, in [0, 1).

    block_size : int, default=5
        Side b of a block in units of the map. It is clipped to each side of the map,
        so that on a 1 x 1 map this is plain dropout.

    Raises
    ------
    InvalidInputError
        If `drop_rate` or `block_size` is out of range, or the input has not 4 axes.

    References
    ----------
    .. [1] G. Ghiasi, T.-Y. Lin, Q. V. Le. "DropBlock: a regularization method for
       convolutional networks". NeurIPS 2018.

    Examples
    --------
    >>> import torch
    >>> from skcausalmeta.backbones import DropBlock
    >>> drop = DropBlock(0.2, block_size=3).eval()
    >>> float(drop(torch.ones(2, 4, 7, 7)).mean())
    1.0
    """

    def __init__(self, drop_rate: float = 0.1, block_size: int = 5) -> None:
        super().__init__()
        self.drop_rate = real_between(
            "DropBlock", "drop_rate", drop_rate, 0, 1, closed=False
        )
        self.block_size = positive_int("DropBlock", "block_size", block_size)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the maps (n, c, h, w) with blocks set to zero and the rest scaled."""
        if maps.ndim != 4:
            raise InvalidInputError(
                "DropBlock works on feature maps of shape (n, c, h, w). Got shape "
                f"{tuple(maps.shape)}; use torch.nn.Dropout for other shapes."
            )
        if not self.training or self.drop_rate == 0:
            return maps
        kept = self._draw_kept(maps)
        # Clamped because every unit of a small map may have been dropped.
        return maps * kept * (kept.numel() / kept.sum().clamp(min=1))

    @torch.no_grad()
    def _draw_kept(self, maps: torch.Tensor) -> torch.Tensor:
        n, c, h, w = maps.shape
        block_h, block_w = min(self.block_size, h), min(self.block_size, w)
        starts_h, starts_w = h - block_h + 1, w - block_w + 1
        gamma = self.drop_rate / (block_h * block_w) * (h * w) / (starts_h * starts_w)
        starts = (maps.new_empty(n, c, starts_h, starts_w).uniform_() < gamma).to(
            maps.dtype
        )
        # A unit is dropped when a block starts at most one block above and left of it.
        padding = (block_w - 1, block_w - 1, block_h - 1, block_h - 1)
        dropped = F.max_pool2d(F.pad(starts, padding), (block_h, block_w), stride=1)
        return 1 - dropped  # (n, c, h, w)

    def extra_repr(self) -> str:
        """Show the parameters in the printed module."""
        return f"drop_rate={self.drop_rate}, block_size={self.block_size}"
