"""viewtime-mini behind the runner: RGBA pixels, known cells inside the grid, no latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.model.denoiser import Conditioning, Denoiser, NetworkDenoiser
from viewtime.model.mini.frustum import SolidCameras
from viewtime.model.mini.network import MiniNetwork
from viewtime.model.mini.rays import camera_axes, slope_of
from viewtime.model.registry import build_denoiser, resolved_config
from viewtime.weights import load_weights, read_header, save_weights

from .grid_model import ModelTraits, Request, SamplerDefaults

MINI_STEPS = 12
MINI_OBJECT_SHARE = 0.75  # its training data is framed so that the clip fits from all sides
TRAINED_VIEWS, TRAINED_FRAMES = 9, 12  # rows (with the input view) and frames of a window unless the file says more


def encode_cells(cells: Tensor) -> Tensor:
    """RGBA in [0, 1], straight alpha [..., 4, H, W] -> RGB on white and alpha, in [-1, 1]."""
    rgb, alpha = cells[..., :3, :, :], cells[..., 3:, :, :]
    return torch.cat([rgb * alpha + 1 - alpha, alpha], dim=-3) * 2 - 1


def decode_cells(values: Tensor) -> Tensor:
    """Inverse of `encode_cells`, clamped to [0, 1]; white where nothing is visible."""
    values = (values.float() / 2 + 0.5).clamp(0, 1)
    on_white, alpha = values[..., :3, :, :], values[..., 3:, :, :]
    straight = (on_white - (1 - alpha)) / alpha.clamp_min(1e-3)
    return torch.cat([torch.where(alpha > 1e-3, straight, 1.0).clamp(0, 1), alpha], dim=-3)


class MiniModel:
    """See `GridModel`."""

    def __init__(self, denoiser: Denoiser, size: int, record: dict[str, Any] | None = None, name: str = "mini") -> None:
        trained = (record or {}).get("trained", {})
        self.denoiser = denoiser
        self.traits = ModelTraits(
            name=name,
            window_views=int(trained.get("views", TRAINED_VIEWS)),
            window_frames=int(trained.get("frames", TRAINED_FRAMES)),
            size=size,
            channels=4,
            plan=str(trained.get("plan", "joint")),
            plan_frames=trained.get("plan_frames"),
            elevation=float(trained.get("elevation", 12.0)),
            object_share=float(trained.get("object_share", MINI_OBJECT_SHARE)),
            sampler=SamplerDefaults(steps=MINI_STEPS).of_file(trained),
        )
        self._record = record or {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        if isinstance(self.denoiser, torch.nn.Module):
            return next(self.denoiser.parameters()).device
        return torch.device("cpu")

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> MiniModel:
        """Move the weights."""
        if isinstance(self.denoiser, torch.nn.Module):
            self.denoiser.to(device=device, dtype=dtype)
        return self

    def save(self, folder: Path) -> Path:
        """One safetensors file."""
        assert isinstance(self.denoiser, NetworkDenoiser)
        record = {**self._record, "model": {"name": "mini", "config": resolved_config(self.denoiser.network)}}
        return save_weights(folder / "mini.safetensors", self.denoiser.network.state_dict(), record)

    def resize(self, size: int) -> None:
        """Cells of another size: a network that is a solid alone is shown at any multiple of what it sees.

        Raises:
            UserError: layers correct the solid's pictures, or the size is no such multiple.
        """
        network = self.network
        if network.config.depth:
            raise UserError(f"{self.traits.name} makes cells of {self.traits.size} pixels; size {size} is not possible")
        seen = network.config.frustum_size or network.config.size
        if size < seen or size % seen:
            raise UserError(f"{self.traits.name} makes cells of {seen} pixels or a multiple of it; size {size} is none")
        network.resize(size)
        self.traits = replace(self.traits, size=size)

    @torch.no_grad()
    def solids(self, cells: Tensor, cameras: Cameras) -> Tensor:
        """The solid that the network sees behind each frame of a video: colour in [0, 1] and density per cell of the
        input camera's frustum, [F, 4, D, R, R] (`model.mini.frustum`).

        Args:
            cells: RGBA in [0, 1], straight alpha [F, 4, H, W]. cameras: of the video, [1, F].

        Raises:
            UserError: the network has no solid.
        """
        frustum = self.network.frustum
        if frustum is None:
            raise UserError(f"{self.traits.name} has no solid to take an asset from; use --weights mini-generalist")
        picture = encode_cells(cells).to(self.device)
        axes = camera_axes(cameras.elevation[0], cameras.azimuth[0]).to(picture)
        slope = slope_of(torch.tensor(cameras.fov_y)).expand(len(cells)).to(picture)
        seen = SolidCameras(axes, cameras.elevation[0].to(picture), axes[:, None], slope)
        windows = torch.arange(len(cells)).split(self.traits.window_frames)
        parts = [frustum.fill(picture[w], SolidCameras(*(value[w] for value in seen)), len(w)) for w in windows]
        return torch.cat(parts).cpu()

    @property
    def network(self) -> MiniNetwork:
        """What the weights are of."""
        assert isinstance(self.denoiser, NetworkDenoiser)
        assert isinstance(self.denoiser.network, MiniNetwork)
        return self.denoiser.network

    def latent_shape(self) -> tuple[int, int, int]:
        """A cell is its own latent."""
        return (4, self.traits.size, self.traits.size)

    def clean(self, request: Request) -> tuple[Tensor, Tensor]:
        """Known cells of the rectangle."""
        known = request.known()
        return known, encode_cells(request.known_cells()) * known[..., None, None, None]

    def conditions(self, request: Request) -> tuple[Conditioning, Conditioning | None]:
        """Known cells and cameras; without guidance there is no unconditional branch, with it no cell is known."""
        known, values = self.clean(request)
        cameras = request.cameras
        views, frames = torch.tensor(request.views), torch.tensor(request.frames)
        azimuth = torch.remainder(cameras.azimuth - cameras.azimuth[:1], 360.0)
        cond = {
            "known": known[None],
            "known_frames": values[None],
            "elevation": cameras.elevation[views][:, frames][None],
            "azimuth": azimuth[views][:, frames][None],
            "fov_y": torch.tensor([cameras.fov_y]),
        }
        cond = {name: value.to(self.device) for name, value in cond.items()}
        empty = {
            "known": torch.zeros_like(cond["known"]),
            "known_frames": torch.zeros_like(cond["known_frames"]),
        }
        return cond, {**cond, **empty}

    def decode(self, latents: Tensor) -> Tensor:
        """[V, F, 4, S, S] in [-1, 1] -> RGBA in [0, 1]."""
        return decode_cells(latents.cpu())


def load_mini(path: Path, device: torch.device, dtype: torch.dtype) -> MiniModel:
    """A weight file that `viewtime train` wrote for the mini network.

    Raises:
        UserError: its metadata or tensors do not fit.
    """
    config, _ = read_header(path)
    section = config.get("model")
    if not isinstance(section, dict) or section.get("name") != "mini":
        raise UserError(f"{path} holds no mini model; its metadata names {section!r}")
    options = section.get("config", {})
    with torch.device("meta"):
        denoiser = build_denoiser("mini", options)
    load_weights(denoiser.network, path, device, dtype)
    denoiser.eval().requires_grad_(False)
    assert isinstance(denoiser, NetworkDenoiser)
    return MiniModel(denoiser, denoiser.network.config.size, record=config)  # type: ignore[union-attr]
