"""zero123, zero123-xl and Stable Zero123: what another view of a reference picture should look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnF
from einops import repeat
from torch import Tensor, nn

from viewtime.errors import UserError
from viewtime.model.conditioners.image_encoder import CLIP_MEAN, CLIP_STD
from viewtime.model.conditioners.vision_transformer import VisionTransformer

from .base import Kind, NoiseSchedule, Rendered
from .codec import Autoencoder
from .diffusion import Branch, NetworkGuidance
from .published_cameras import relative_pose

CLIP_SIZE = 224
POSE_NUMBERS = 4


@dataclass(frozen=True)
class ReferencePrompt:
    """A reference picture and its camera.

    Attributes:
        text: of what, for records.
        embedding: [D], CLIP's image embedding, not normalised; latent: [C, h, w], the autoencoder's mode, unscaled.
        elevation, azimuth, distance: of its camera, degrees and world units.
    """

    text: str
    embedding: Tensor
    latent: Tensor
    elevation: float
    azimuth: float
    distance: float


def pose_projection(width: int) -> nn.Linear:
    """`cc_projection`: embedding and pose [..., width + 4] -> [..., width]; starts as the identity of the embedding."""
    layer = nn.Linear(width + POSE_NUMBERS, width)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(width, width + POSE_NUMBERS))
        layer.bias.zero_()
    return layer


class Zero123Guidance(NetworkGuidance):
    """See `Guidance`; the render is shown over white, and the condition is a `ReferencePrompt`.

    Args:
        network: `UNet2DConditionModel` with twice the latent's channels as input.
        image_encoder: CLIP's image tower.
        projection: see `pose_projection`.
        stable: Stable Zero123's form of the pose.
        others: see `NetworkGuidance`.
    """

    def __init__(
        self,
        name: str,
        network: Any,
        schedule: NoiseSchedule,
        codec: Autoencoder,
        size: tuple[int, int],
        *,
        image_encoder: VisionTransformer,
        projection: nn.Module,
        stable: bool = False,
        split: bool = False,
    ) -> None:
        super().__init__(name, Kind.IMAGE, network, schedule, codec, size, split=split, wants_reference=True)
        self.autoencoder, self.image_encoder, self.projection, self.stable = codec, image_encoder, projection, stable

    @torch.no_grad()
    def reference(
        self, picture: Tensor, elevation: float, azimuth: float, distance: float, text: str = ""
    ) -> ReferencePrompt:
        """Embed a picture once.

        Args:
            picture: RGBA in [0, 1], straight alpha, [4, H, W], square.
            elevation, azimuth, distance: of its camera; `elevation` in degrees above the horizon.

        Raises:
            UserError: the picture has no alpha channel.
        """
        if len(picture) != 4:
            raise UserError(
                f"the reference picture has {len(picture)} channels; it needs an alpha channel that cuts the object "
                "out: save it as an RGBA PNG, with any background remover"
            )
        color, alpha = picture[:3], picture[3:]
        white = (color * alpha + 1 - alpha)[None]
        white = nnF.interpolate(white, self.traits.size, mode="bilinear", antialias=True, align_corners=False)
        device = self.network.device
        shown = 2 * white.to(device) - 1
        embedding = self.image_encoder(clip_pixels(shown).to(self.image_encoder.proj.dtype))[0]
        return ReferencePrompt(text, embedding.to(shown), self.autoencoder.mode(shown)[0], elevation, azimuth, distance)

    def pictures(self, rendered: Rendered) -> Tensor:
        """See `NetworkGuidance`."""
        return rendered.on_white()

    def branches(self, prompt: ReferencePrompt, elevation: Tensor, azimuth: Tensor, distance: Tensor) -> list[Branch]:
        """Reference and pose; and zeros for both."""
        weight = next(self.projection.parameters())
        place = (prompt.elevation, prompt.azimuth, prompt.distance)
        pose = relative_pose(elevation, azimuth, distance, place, stable=self.stable).to(weight)
        embedding = prompt.embedding.to(weight).expand(len(pose), -1)
        tokens = self.projection(torch.cat([embedding, pose], dim=-1))[:, None]
        latent = repeat(prompt.latent, "c h w -> n c h w", n=len(pose))
        return [Branch(tokens, beside=latent), Branch(torch.zeros_like(tokens), beside=torch.zeros_like(latent))]


def clip_pixels(pictures: Tensor) -> Tensor:
    """[N, 3, H, W] in [-1, 1] to CLIP's input of 224 pixels: bicubic, corners aligned, no antialiasing."""
    small = nnF.interpolate(pictures, (CLIP_SIZE, CLIP_SIZE), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(values).to(small)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return ((small + 1) / 2 - mean) / std
