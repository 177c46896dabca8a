"""VSD's trainable copy: a Stable Diffusion network with a LoRA of rank 4 and the camera as class embedding.

peft carries the LoRA. The carrier may be a network of its own (4D-fy's SD 2.1, which predicts velocity) or the
guidance's own network, which then answers without LoRA and camera in the guidance's calls and needs no second copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from viewtime.cameras import Cameras
from viewtime.errors import require

from ..losses.guided import noise_from_velocity
from ..losses.vsd import Prediction
from .base import NoisePrediction, NoiseSchedule
from .diffusion import Branch, evaluate, joined
from .multi_view import CameraEmbedding, add_camera_embedding
from .prompts import TextPrompt
from .published_cameras import angles, camera_matrix, extrinsics

RANK = 4
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
ADAPTER = "vsd"


def add_lora(network: Any, rank: int = RANK) -> None:
    """Put a LoRA on every attention of a diffusers network: down N(0, 1 / rank²), up zero, no scaling; float32.

    Everything else is frozen.
    """
    config = require("peft", "train").LoraConfig(
        r=rank, lora_alpha=rank, target_modules=list(PROJECTIONS), init_lora_weights="gaussian"
    )
    network.requires_grad_(False)
    network.add_adapter(config, adapter_name=ADAPTER)
    for parameter in lora_parameters(network).values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)


def lora_parameters(network: Any) -> dict[str, nn.Parameter]:
    """The LoRA of a network by name."""
    return {name: parameter for name, parameter in network.named_parameters() if f".{ADAPTER}." in name}


class LoraCopy:
    """See `CameraCopy`.

    Args:
        network: the carrier, a frozen `UNet2DConditionModel`.
        schedule: its noise; predicts: noise or velocity.
        shared: the carrier is also the guidance's network.
    """

    def __init__(
        self, network: Any, schedule: NoiseSchedule, predicts: Prediction = "noise", *, shared: bool = False
    ) -> None:
        self.network, self.schedule, self.shared = network, schedule, shared
        self.predicts: Prediction = predicts
        add_lora(network)
        self.camera: CameraEmbedding = add_camera_embedding(network, torch.float32)
        self.camera.requires_grad_(True)
        self._layers = [module for module in network.modules() if ADAPTER in getattr(module, "lora_A", {})]
        if shared:
            self._switch(False)

    def parameters(self) -> list[nn.Parameter]:
        """See `CameraCopy`."""
        return [*lora_parameters(self.network).values(), *self.camera.parameters()]

    def state_dict(self) -> dict[str, Tensor]:
        """What was trained, by the network's names."""
        camera = {f"class_embedding.{name}": value for name, value in self.camera.state_dict().items()}
        return {name: value.detach() for name, value in lora_parameters(self.network).items()} | camera

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state_dict`; raises KeyError for a state of another network."""
        own = self.state_dict()
        if set(own) != set(state):
            raise KeyError(f"the copy's state has other names: {sorted(set(own) ^ set(state))[:3]}")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])

    @torch.no_grad()
    def predict(
        self, noisy: Tensor, timesteps: Tensor, cameras: Sequence[Cameras], prompt: TextPrompt
    ) -> NoisePrediction:
        """See `CameraCopy`."""
        x, t, branch = self._entries(noisy, timesteps, cameras, prompt)
        empty = Branch(
            prompt.unconditional.expand_as(branch.tokens),
            {"class_labels": torch.zeros_like(branch.named["class_labels"])},
        )
        with self._on():
            found = evaluate(self.network, torch.cat([x, x]), t.repeat(2), joined([branch, empty])).chunk(2)
        if self.predicts == "velocity":
            a = self.schedule.at(t.to(x.device))
            found = [noise_from_velocity(x, value, a) for value in found]
        return NoisePrediction(*(value.reshape(noisy.shape) for value in found))

    def train_prediction(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        cameras: Sequence[Cameras],
        prompt: TextPrompt,
        *,
        drop_camera: bool,
    ) -> Tensor:
        """See `CameraCopy`."""
        x, t, branch = self._entries(noisy, timesteps, cameras, prompt)
        if drop_camera:
            branch.named["class_labels"] = torch.zeros_like(branch.named["class_labels"])
        with self._on():
            return evaluate(self.network, x, t, branch).reshape(noisy.shape)

    def _entries(
        self, noisy: Tensor, timesteps: Tensor, cameras: Sequence[Cameras], prompt: TextPrompt
    ) -> tuple[Tensor, Tensor, Branch]:
        """Images [N, C, h, w], timesteps [N], and the conditions of each."""
        elevation, azimuth, distance = (value.flatten() for value in angles(cameras))
        matrices = extrinsics(camera_matrix(elevation, azimuth, distance))
        tokens = prompt.conditional(elevation, azimuth)
        x = rearrange(noisy, "b v f c h w -> (b v f) c h w")
        return x, timesteps.flatten(), Branch(tokens, {"class_labels": matrices})

    @contextmanager
    def _on(self) -> Iterator[None]:
        """LoRA and camera in effect; a shared carrier answers without them everywhere else."""
        if not self.shared:
            yield
            return
        self._switch(True)
        try:
            yield
        finally:
            self._switch(False)

    def _switch(self, on: bool) -> None:
        self.network.class_embedding = self.camera if on else None
        for layer in self._layers:
            layer.set_scale(ADAPTER, float(on))
