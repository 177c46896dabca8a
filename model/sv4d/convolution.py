"""Convolutions over images and along sequences of images; small ones run as one matrix product on the CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.sv4d.linear import product


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]) -> Tensor:
    """Convolution over the last two axes of x [N, C_in, H, W] by weight [C_out, C_in, h, w].

    A library's convolution rearranges its weight at every call, which takes longer than the sum itself where there
    are fewer output pixels than output channels, as in the lower levels of the network. There, all windows are laid
    out as rows and multiplied by the weight as it lies (see `viewtime.model.memory_layout`). Only without gradients:
    the rows would be kept for them. A 1 × 1 convolution needs no windows.

    Returns:
        [N, C_out, H', W'].
    """
    kernel = weight.shape[-2:]
    size = [(x.shape[axis] + 2 * padding[axis] - kernel[axis]) // stride + 1 for axis in (-2, -1)]
    point = kernel == (1, 1) and stride == 1
    few = x.shape[0] * size[0] * size[1] < weight.shape[0]
    if not (few or point) or x.device.type != "cpu" or torch.is_grad_enabled():
        return F.conv2d(x, weight, bias, stride, padding)
    if point:
        return rearrange(product(rearrange(x, "n c h w -> n h w c"), weight[..., 0, 0], bias), "n h w c -> n c h w")
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    windows = padded.unfold(2, kernel[0], stride).unfold(3, kernel[1], stride)
    rows = rearrange(windows, "n c h w i j -> (n h w) (i j c)")
    flat = product(rows, rearrange(weight, "o c i j -> o (i j c)"), bias)
    return rearrange(flat, "(n h w) c -> n c h w", h=size[0], w=size[1])


class ImageConvolution(nn.Conv2d):
    """3 × 3 convolution of each image that keeps its size, or halves it with stride 2."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(in_channels, out_channels, 3, stride, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, H', W']."""
        return convolve(input, self.weight, self.bias, self.stride[0], (1, 1))


class PointConvolution(nn.Conv2d):
    """1 × 1 convolution of each image."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1)

    def forward(self, input: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, H, W]."""
        return convolve(input, self.weight, self.bias, 1, (0, 0))


class SequenceConvolution(nn.Conv3d):
    """Convolution of width 3 along a sequence of images, position by position.

    The weight has the published shape [C_out, C_in, 3, 1, 1]; it runs as a two-dimensional convolution over
    [sequence, position], which is the faster kernel on every device and the same sum.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, input: Tensor) -> Tensor:
        """[B, C_in, L, S] -> [B, C_out, L, S]."""
        return convolve(input, self.weight.squeeze(-1), self.bias, 1, (1, 0))
