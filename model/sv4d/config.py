"""What distinguishes SVD, SV3D, SV4D and SV4D 2.0. Imports no torch, so that presets are read fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class UNetConfig:
    """Sizes and variants of the UNet; the defaults are the published sizes."""

    axes: Literal["frame", "view", "view-frame"] = "view-frame"
    """What the grid attention runs over: frames (SVD), views (SV3D), or views and then frames (SV4D)."""
    vector_dim: int = 1280
    """Width of the vector conditioning."""
    view_attention: Literal["pixel", "raster", "joint"] = "pixel"
    """`pixel`: over the views at one pixel and frame (SV4D; SV4D 2.0 with 8 views). `raster`: over groups of V
    consecutive pixels, which is what the published SV4D 2.0 code does in place of 3D attention. `joint`: over all
    views and pixels of a frame, the 3D attention of the SV4D 2.0 paper. The weights have the same shapes."""
    view_embedding: Literal["index", "conditioning"] = "index"
    """What tells views apart in view attention: the view's index (SV4D), or the noise and vector embedding of the
    first frame, which holds the camera (SV4D 2.0)."""
    separate_blend: bool = False
    """Frame attention has a blend factor of its own (SV4D 2.0); otherwise it shares that of view attention."""
    in_channels: int = 8
    """Noisy latent channels, then those of the input frame's latent."""
    out_channels: int = 4
    channels: int = 320
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    residual_blocks: int = 2
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    head_dim: int = 64
    context_dim: int = 1024
    """Width of the image embedding."""
    frame_context: Literal["views", "none", "clip"] = "views"
    """What frame attention is told of the first frame (SV4D, table 7): every view's own latent; nothing; or, in place
    of the views, the image embedding of the input, for which its cross-attention has other shapes."""
    reference_channels: int = 4
    """Channels of the reference views' latents that frame attention is conditioned on."""
