"""SV4D's family in training: batches of latent grids as the network wants them, and the denoiser that takes them.

View 0 of a batch is the input video; the network makes the other views, conditioned on the input's latents and CLIP
embeddings, on one frame of every view (SV4D, section 3.2) and on the cameras. All of it comes precomputed from shards,
as the authors trained (appendix A.2). Sampling asks for both places of that frame: the anchors 4, 8, … 20 hang on frame
0, outside of their window; the dense windows on their first frame, or on the last with the order reversed (A.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from viewtime.configs.load import build
from viewtime.errors import UserError
from viewtime.log import log
from viewtime.model.conditioners.conditioner import NOISE_AUGMENTATION
from viewtime.model.conditioners.vector import azimuth_angle, embed_vector, polar_angle
from viewtime.model.denoiser import SCALINGS, NetworkDenoiser
from viewtime.model.published.presets import load_model_config
from viewtime.model.published.video_config import VideoModelConfig
from viewtime.model.sv4d.config import UNetConfig
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
    preset: str,
    start: str | None = None,
    gradient_checkpointing: bool = False,
    frame_context: Literal["views", "none", "clip"] | None = None,
) -> VideoGridDenoiser:
    """Model "viewtime.train.video_grids:video_grid_denoiser" of a training config.

    Args:
        preset: sv4d, sv4d2, … or a debug twin.
        start: published or own weights to fine-tune; without, the initialisation (`viewtime init` makes SV4D's own
            start out of SVD-xt and SV3D_p).
        frame_context: other than the preset's, for SV4D's table 7; layers whose shapes it changes begin anew.
    """
    config = load_model_config(preset)
    if config.family != "sv4d":
        raise UserError(f"{preset} makes no grids; presets that do: sv4d, sv4d2, sv4d2-8views")
    if start is None:
        network = VideoUNet(config.network, gradient_checkpointing=gradient_checkpointing)
    else:
        from viewtime.model.video_model import load_video_model

        loaded = load_video_model(
            start, preset, dtype=torch.float32, parts=("network",), gradient_checkpointing=gradient_checkpointing
        )
        config, network = loaded.config, loaded.network
        assert isinstance(network, VideoUNet)
    if frame_context in (None, config.network.frame_context):
        return VideoGridDenoiser(config, network)
    changed = {**asdict(config.network), "frame_context": frame_context}
    config = replace(config, network=build(UNetConfig, changed, "model.config"))
    other = VideoUNet(config.network, gradient_checkpointing=gradient_checkpointing)
    adopt(other, network)
    return VideoGridDenoiser(config, other)


def adopt(network: nn.Module, start: nn.Module) -> None:
    """Take over every tensor of the same name and shape, and say how many begin anew."""
    own = network.state_dict()
    fitting = {name: value for name, value in start.state_dict().items() if own[name].shape == value.shape}
    network.load_state_dict(fitting, strict=False)
    if len(fitting) < len(own):
        log.warning("%d of %d tensors have other shapes here and begin anew", len(own) - len(fitting), len(own))


class VideoGridStream:
    """Latent grids of another stream, cut into target views and conditions.

    Args:
        inner: gives one frame more than a window has, if there is to be a reference outside.
        outside: share of batches whose reference views are the frame before the window; None: the inner grids are
            windows, and their first frame is the reference.
    """

    def __init__(self, inner: Any, config: VideoModelConfig, outside: float | None = None, seed: int = 0) -> None:
        self.inner, self.config, self.outside, self.seed = inner, config, outside, seed
        self.drawn = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for raw in self.inner:
            fields = raw if isinstance(raw, dict) else vars(raw)
            first, count = self.window(fields["x0"].shape[2])
            x0, cond = video_conditions(fields["x0"], fields["cond"], self.config, first, count)
            self.drawn += 1
            yield {"x0": x0, "cond": cond, "ids": fields.get("ids")}

    def window(self, frames: int) -> tuple[int, int]:
        """(first frame, number of frames) of the next batch's window; the reference is frame 0."""
        if self.outside is None:
            return 0, frames
        return int(np.random.default_rng((self.seed, self.drawn)).random() < self.outside), frames - 1

    def state_dict(self) -> dict[str, Any]:
        """Of the inner stream, and how many batches were drawn."""
        return {"inner": self.inner.state_dict(), "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.inner.load_state_dict(state["inner"])
        self.drawn = state["drawn"]


def video_conditions(
    x0: Tensor, cond: dict[str, Tensor], config: VideoModelConfig, first: int = 0, count: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """(targets [B, V − 1, n, 4, h, w], the network's conditions) from latents [B, V, F, 4, h, w] with view 0 known.

    Args:
        first, count: the window of n frames; frame 0 of every view is its reference, inside or before it. Default: all.

    Raises:
        UserError: a single view, or no CLIP embeddings.
    """
    if x0.shape[1] < 2:
        raise UserError("SV4D needs the input view and at least one more: set data.options.views to 2 or more")
    if "clip" not in cond:
        raise UserError("the batch has no CLIP embeddings; encode the data with latents and CLIP (viewtime encode)")
    elevation, azimuth = cond["elevation"], cond["azimuth"]
    target, input_view = slice(1, None), slice(0, 1)
    reference = x0[:, target, 0]
    window = slice(first, None if count is None else first + count)
    x0, elevation, azimuth, clip = (value[:, :, window] for value in (x0, elevation, azimuth, cond["clip"]))
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
        "reference_views": reference / config.vae.scale,
        "image_tokens": clip[:, input_view],
        "frame_vector": vector[..., :of_frames],
        "camera_vector": vector[..., of_frames:],
    }


def video_grid_stream(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> VideoGridStream:
    """Stream "video-grids": grids for a video model out of a stream of latent grids.

    Options: `preset` names the model, `inner` the stream of latent grids ("grids" by default), `outside_reference` the
    share of batches whose reference views lie before the window; the rest is the inner stream's, its `frames` those of
    the window.

    Raises:
        UserError: `outside_reference` is no share.
    """
    rest = dict(options)
    config = load_model_config(rest.pop("preset", "sv4d"))
    outside = rest.pop("outside_reference", None)
    if outside is not None:
        if not isinstance(outside, (int, float)) or not 0 <= outside <= 1:
            raise UserError(f"data.options.outside_reference is {outside}; it is a share between 0 and 1")
        rest["frames"] = rest.get("frames", config.frames) + 1
    factory = resolve(rest.pop("inner", "grids"), STREAMS, "stream")
    inner = factory(rest, batch_size=batch_size, seed=seed, rank=rank, world=world)
    return VideoGridStream(inner, config, outside, seed * world + rank)
