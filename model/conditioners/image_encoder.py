"""OpenCLIP image embedding with the published preprocessing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viewtime.model.conditioners.vision_transformer import VisionTransformer
from viewtime.model.published.video_config import ImageEncoderConfig

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SMALLEST_BLUR = 0.001


def clip_preprocess(frames: Tensor, size: int = 224) -> Tensor:
    """Resize and normalise frames as the published conditioners do.

    A Gaussian blur where the frame shrinks, bicubic with aligned corners, CLIP's mean and standard deviation;
    bicubic overshoot is not clamped.

    Args:
        frames: [N, 3, H, W] in [-1, 1].

    Returns:
        [N, 3, size, size].
    """
    frames = _blur(frames, (frames.shape[-2] / size, frames.shape[-1] / size))
    resized = F.interpolate(frames, (size, size), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(values).to(resized)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return ((resized + 1) / 2 - mean) / std


def _blur(frames: Tensor, factors: tuple[float, float]) -> Tensor:
    """Anti-aliasing: separable Gaussian of sigma (factor - 1) / 2 along y and x, if either axis shrinks."""
    if max(factors) <= 1:
        return frames
    kernels = [_gaussian(factor).to(frames) for factor in factors]
    pad_y, pad_x = (len(kernel) // 2 for kernel in kernels)
    padded = F.pad(frames, (pad_x, pad_x, pad_y, pad_y), mode="reflect")
    channels = frames.shape[1]
    along_y = kernels[0][None, None, :, None].expand(channels, 1, -1, 1)
    along_x = kernels[1][None, None, None, :].expand(channels, 1, 1, -1)
    return F.conv2d(F.conv2d(padded, along_y, groups=channels), along_x, groups=channels)


def _gaussian(factor: float) -> Tensor:
    sigma = max((factor - 1) / 2, SMALLEST_BLUR)
    length = int(max(4 * sigma, 3))
    length += 1 - length % 2
    offset = torch.arange(length, dtype=torch.float32) - length // 2
    weight = torch.exp(-offset.square() / (2 * sigma**2))
    return weight / weight.sum()


class ImageEncoder(nn.Module):
    """OpenCLIP's image tower; the embedding is not normalised."""

    def __init__(self, config: ImageEncoderConfig):
        super().__init__()
        self.config = config
        self.visual = VisionTransformer(config)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [N, 3, H, W] in [-1, 1] -> [N, out_dim]."""
        dtype = self.visual.proj.dtype
        return self.visual(clip_preprocess(frames.float(), self.config.image_size).to(dtype))
