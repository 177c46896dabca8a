"""The user's picture as a teacher: what the scene shows from its camera is compared with it (Dream-in-4D, 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as nnF
from einops import rearrange
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.configs.schema.distill import ReferenceOptions
from viewtime.errors import UserError
from viewtime.images import read_image

from ..fields.scene import Shot
from ..guidance.base import Draws, Rendered

OPAQUE = 0.5  # alpha above which a pixel is the object


@dataclass(frozen=True)
class Reference:
    """A picture [4, H, W], RGB and alpha in [0, 1], with its options."""

    picture: Tensor
    options: ReferenceOptions

    @staticmethod
    def read(path: Path, options: ReferenceOptions) -> Reference:
        """Read a square RGBA picture.

        Raises:
            UserError: no alpha channel, an empty one, or one that is the object everywhere.
        """
        pixels = read_image(path)
        if pixels.ndim != 3 or pixels.shape[2] != 4:
            raise UserError(
                f"{path} has no alpha channel, which says what the object is: give an RGBA PNG "
                "(any background remover makes one)"
            )
        picture = rearrange(torch.from_numpy(pixels.copy()).float() / 255, "h w c -> c h w")
        share = float((picture[3] > OPAQUE).float().mean())
        if not 0 < share < 1:
            raise UserError(f"{path}: alpha marks {share:.0%} of the picture as the object; it must leave a background")
        return Reference(_squared(picture), options)

    def shot(self, size: tuple[int, int], draws: Draws) -> Shot:
        """From the picture's camera, at t = 0; all rays are moved by one small random step against patterns."""
        o = self.options
        nudge = o.ray_noise * draws.normal("ray_noise", torch.empty(2, 3)) if o.ray_noise else None
        angle, turn, distance = (torch.full((1, 1), value) for value in (o.elevation, o.azimuth, o.distance))
        return Shot((Cameras(angle, turn, distance, o.fov_y),), torch.zeros(1, dtype=torch.float64), *size, nudge)

    def losses(self, rendered: Rendered) -> dict[str, Tensor]:
        """Mean squared errors of colours, over the render's own background, and of the mask."""
        size = rendered.color.shape[-2:]
        small = nnF.interpolate(self.picture[None], size=size, mode="area")[0].to(rendered.color)
        mask = (small[3:] > OPAQUE).to(small)
        behind = (rendered.color - rendered.foreground) / (1 - rendered.opacity).clamp_min(1e-6)
        target = small[:3] * mask + behind.detach() * (1 - mask)
        return {
            "color": (rendered.color - target).square().mean(),
            "mask": (rendered.opacity - mask).square().mean(),
        }

    def weights(self) -> dict[str, float]:
        """Of `losses`."""
        return {"color": self.options.color, "mask": self.options.mask}


def _squared(picture: Tensor) -> Tensor:
    """Padded with transparency to a square."""
    _, H, W = picture.shape
    side = max(H, W)
    left, top = (side - W) // 2, (side - H) // 2
    return nnF.pad(picture, (left, side - W - left, top, side - H - top))
