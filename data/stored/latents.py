"""VAE latents and CLIP embeddings of a grid's images, made once before training (SV4D A.1, A.2)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from viewtime.data.collate import pixels_for_model
from viewtime.errors import UserError
from viewtime.model.video_model import VideoModel, load_video_model
from viewtime.model.weight_names import find_weights


class PublishedLatents:
    """The encoders of a published model.

    Args:
        weights: SVD, SV3D or SV4D weights, or a diffusers folder: a path, or a name as `find_weights` takes it.
        chunk: images at a time.
    """

    def __init__(self, weights: str, device: str | torch.device = "cpu", chunk: int = 8) -> None:
        if chunk < 1:
            raise UserError(f"--chunk {chunk}; must be at least 1")
        self.model: VideoModel = load_video_model(
            find_weights(weights), device=device, parts=("frame_encoder", "image_encoder")
        )
        self.model.eval().requires_grad_(False)
        self.device, self.chunk = device, chunk

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [V, F, 3 or 4, H, W], composited on white -> scaled latents [V, F, 4, h, w], embeddings [V, F, D].

        Raises:
            UserError: the size is no multiple of the VAE's downscale.
        """
        V, _, _, H, W = frames.shape
        downscale = self.model.config.vae.downscale
        if H % downscale or W % downscale:
            raise UserError(f"frames of {W} × {H} px; the VAE needs multiples of {downscale} (--resolution)")
        rows = rearrange(pixels_for_model(frames, 3), "v f c h w -> (v f) c h w")
        dtype = next(self.model.parameters()).dtype
        latents, embeddings = [], []
        for part in rows.split(self.chunk):
            part = part.to(self.device, dtype)
            latents.append(self.model.frame_encoder(part).float().cpu() * self.model.config.vae.scale)
            embeddings.append(self.model.image_encoder(part).float().cpu())
        return (
            rearrange(torch.cat(latents), "(v f) c h w -> v f c h w", v=V),
            rearrange(torch.cat(embeddings), "(v f) d -> v f d", v=V),
        )
