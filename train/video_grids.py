"""SV4D's family in training: batches of latent grids as the network wants them, and the denoiser that takes them.

View 0 of a batch is the input video; the network makes the other views, conditioned on the input's latents and CLIP
embeddings, on the first frame of every view (SV4D, section 3.2) and on the cameras. All of it comes precomputed from
shards, as the authors trained (appendix A.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from viewtime.errors import UserError
from viewtime.model.conditioners.conditioner import NOISE_AUGMENTATION
from viewtime.model.conditioners.vector import azimuth_angle, embed_vector, polar_angle
from viewtime.model.denoiser import SCALINGS, NetworkDenoiser
from viewtime.model.published.presets import load_model_config
from viewtime.model.published.video_config import VideoModelConfig
from viewtime.model.sv4d.unet import VideoUNet
from viewtime.train.registry import STREAMS, resolve


class VideoGridDenoiser(nn.Module):
    """The network alone (encoders are not needed in training), called as every denoiser.

    The conditioning vector comes in two parts, so that guidance's dropout can zero what belongs to the input frames
    (`frame_vector`) and leave the cameras (`camera_vector`).

    Attributes:
        exported_model: the `model` entry of exported weights' metadata.
        export_prefix: in front of the network's names in exported weights.
    """

    export_prefix = "network."

    def __init__(self, config: VideoModelConfig, network: VideoUNet) -> None:
        super().__init__()
        self.inner = NetworkDenoiser(network, SCALINGS[config.prediction](), config.network.out_channels)
        self.exported_model = asdict(config)

    @property
    def network(self) -> nn.Module:
        """The UNet."""
        return self.inner.network

    def forward(self, x: Tensor, sigma: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """See `viewtime.model.denoiser.Denoiser`."""
        rest = {key: value for key, value in cond.items() if key not in ("frame_vector", "camera_vector")}
        vector = torch.cat([cond["frame_vector"], cond["camera_vector"]], dim=-1)
        return self.inner(x, sigma, {**rest, "vector": vector})


def video_grid_denoiser(
    preset: str, start: str | None = None, gradient_checkpointing: bool = False
) -> VideoGridDenoiser:
    """Model "viewtime.train.video_grids:video_grid_denoiser" of a training config.

    Args:
        preset: sv4d, sv4d2, … or a debug twin.
        start: published or own weights to fine-tune; without, the initialisation (`viewtime init` makes SV4D's own
            start out of SVD-xt and SV3D_p).
    """
    config = load_model_config(preset)
    if config.family != "sv4d":
        raise UserError(f"{preset} makes no grids; presets that do: sv4d, sv4d2, sv4d2-8views")
    if start is None:
        return VideoGridDenoiser(config, VideoUNet(config.network, gradient_checkpointing=gradient_checkpointing))
    from viewtime.model.video_model import load_video_model

    loaded = load_video_model(
        start, preset, dtype=torch.float32, parts=("network",), gradient_checkpointing=gradient_checkpointing
    )
    network = loaded.network
    assert isinstance(network, VideoUNet)
    return VideoGridDenoiser(loaded.config, network)


class VideoGridStream:
    """Latent grids of another stream, cut into target views and conditions."""

    def __init__(self, inner: Any, config: VideoModelConfig) -> None:
        self.inner, self.config = inner, config

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for raw in self.inner:
            fields = raw if isinstance(raw, dict) else vars(raw)
            x0, cond = video_conditions(fields["x0"], fields["cond"], self.config)
            yield {"x0": x0, "cond": cond, "ids": fields.get("ids")}

    def state_dict(self) -> dict[str, Any]:
        """Of the inner stream."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of the inner stream."""
        self.inner.load_state_dict(state)


def video_conditions(x0: Tensor, cond: dict[str, Tensor], config: VideoModelConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """(targets [B, V − 1, F, 4, h, w], the network's conditions) from latents [B, V, F, 4, h, w] with view 0 known.

    Raises:
        UserError: a single view, or no CLIP embeddings.
    """
    if x0.shape[1] < 2:
        raise UserError("SV4D needs the input view and at least one more: set data.options.views to 2 or more")
    if "clip" not in cond:
        raise UserError("the batch has no CLIP embeddings; encode the data with latents and CLIP (viewtime encode)")
    elevation, azimuth = cond["elevation"], cond["azimuth"]
    target, input_view = slice(1, None), slice(0, 1)
    level = torch.tensor(NOISE_AUGMENTATION["sv4d"])
    angles = {
        "polar": polar_angle(config, elevation[:, target], elevation[:, input_view]),
        "azimuth": azimuth_angle(azimuth[:, target], azimuth[:, input_view]),
    }
    vector = embed_vector(config, {**angles, "noise_augmentation": level})
    of_frames = config.vector[0].dim
    unscaled = x0 / config.vae.scale
    return x0[:, target], {
        "concat": unscaled[:, input_view],
        "reference_views": unscaled[:, target, 0],
        "image_tokens": cond["clip"][:, input_view],
        "frame_vector": vector[..., :of_frames],
        "camera_vector": vector[..., of_frames:],
    }


def video_grid_stream(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> VideoGridStream:
    """Stream "video-grids": `preset` names the model, `inner` the stream of latent grids ("grids" by default)."""
    rest = dict(options)
    config = load_model_config(rest.pop("preset", "sv4d"))
    factory = resolve(rest.pop("inner", "grids"), STREAMS, "stream")
    return VideoGridStream(factory(rest, batch_size=batch_size, seed=seed, rank=rank, world=world), config)
