"""MVDream as diffusers' Stable Diffusion network: joint attention of a scene's views, the camera as class embedding."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from viewtime.errors import require

from .diffusion import Branch, NetworkGuidance
from .prompts import TextPrompt
from .published_cameras import camera_matrix, normalised_extrinsics

CAMERA_NUMBERS = 16


class JointViewAttention:
    """Attention processor of diffusers that lets all views of a scene attend to each other (MVDream, section 3.1).

    Args:
        views: adjacent entries of the batch that are one scene.
    """

    def __init__(self, views: int) -> None:
        self.views = views
        self.inner: Any = require("diffusers.models.attention_processor", "train").AttnProcessor2_0()

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """hidden_states [S · V, L, C], views fastest; the result has the same shape."""
        joined = rearrange(hidden_states, "(s v) l c -> s (v l) c", v=self.views)
        attended = self.inner(attn, joined, *args, **kwargs)
        return rearrange(attended, "s (v l) c -> (s v) l c", v=self.views)


def join_views(network: Any, views: int) -> None:
    """Make every self-attention of a `UNet2DConditionModel` joint over `views` views; cross-attention stays."""
    joint = JointViewAttention(views)
    plain = joint.inner
    network.set_attn_processor(
        {name: joint if name.endswith("attn1.processor") else plain for name in network.attn_processors}
    )


class CameraEmbedding(nn.Module):
    """Linear, SiLU, Linear: a camera's numbers [N, 16] to what is added to the time embedding [N, D]."""

    def __init__(self, width: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(CAMERA_NUMBERS, width, device=device, dtype=dtype)
        self.linear_2 = nn.Linear(width, width, device=device, dtype=dtype)

    def forward(self, cameras: Tensor) -> Tensor:
        return self.linear_2(nn.functional.silu(self.linear_1(cameras.to(self.linear_1.weight.dtype))))


def add_camera_embedding(network: Any, dtype: torch.dtype | None = None) -> CameraEmbedding:
    """Give a `UNet2DConditionModel` a camera embedding as its class embedding; its call then wants `class_labels`.

    It gets the network's device, and its dtype unless another is given.
    """
    width = network.time_embedding.linear_2.out_features
    network.class_embedding = CameraEmbedding(width, network.device, dtype or network.dtype)
    return network.class_embedding


class MultiViewGuidance(NetworkGuidance):
    """MVDream: a network with `join_views` and `add_camera_embedding`. One timestep for the views of a scene."""

    def branches(self, prompt: TextPrompt, elevation: Tensor, azimuth: Tensor, distance: Tensor) -> list[Branch]:
        """Text, and the negative prompt; both see the cameras."""
        cameras = normalised_extrinsics(camera_matrix(elevation, azimuth, distance))
        return [Branch(tokens, {"class_labels": cameras}) for tokens in prompt.pair(elevation, azimuth)]
