"""A fitted dynamic NeRF on disk and in memory: renders any view at any time."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from einops import rearrange
from msgspec import Meta
from safetensors.torch import save_file

from viewtime.cameras import Cameras
from viewtime.configs.load import build
from viewtime.configs.schema.reconstruct_nerf import NerfOptions
from viewtime.errors import UserError, first_line
from viewtime.files import atomic_path
from viewtime.grid import FrameGrid
from viewtime.json_files import finite_json, read_json
from viewtime.recon.gaussians.asset import FORMAT_VERSION, AssetRecord, read_record
from viewtime.recon.render.renderer import Picture
from viewtime.recon.render.splats import Viewpoints
from viewtime.run_folder import plain
from viewtime.weights import open_weights, read_tensors

from .field import DynamicField
from .marching import Block
from .rays import cast
from .rendering import RayPicture, render_rays

RAYS_AT_ONCE = 1 << 15
WEIGHTS = "nerf.safetensors"


@dataclass(frozen=True)
class NerfRecord(AssetRecord):
    """asset.json of a NeRF."""

    step: Annotated[float, Meta(gt=0)]
    side: Annotated[float, Meta(gt=0)]
    low: Annotated[list[float], Meta(min_length=3, max_length=3)]
    options: dict[str, Any]


@dataclass(frozen=True)
class NerfAsset:
    """A dynamic NeRF, independent of how it was fitted.

    Attributes:
        field: density and colour over space and time. block: occupied voxels of the F frames.
        options: those of the fit. fps: frames per second. step: world units between samples.
        info: plain values (fov_y, distance, elevation and size of the grid, scores).
    """

    field: DynamicField
    block: Block
    options: NerfOptions
    fps: float
    step: float
    info: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def frames(self) -> int:
        """F."""
        return self.block.occupied.shape[0]

    def voxels(self, times: list[float]) -> Block:
        """Occupied voxels at K times in frames; between two frames, those of both."""
        occupied, density = [], []
        for time in times:
            below = min(int(time), self.frames - 1)
            above = below if time == below else min(below + 1, self.frames - 1)
            occupied.append(torch.maximum(self.block.occupied[below], self.block.occupied[above]))
            density.append(torch.minimum(self.block.density[below], self.block.density[above]))
        return Block(torch.stack(occupied), torch.stack(density), self.block.low, self.block.side)

    @torch.no_grad()
    def render(self, views: Viewpoints, times: list[float], with_depth: bool = False) -> Picture:
        """Picture b, on the CPU, from viewpoint b at times[b]; the depth lies along the view axis, times alpha."""
        times = [min(max(time, 0.0), self.frames - 1.0) for time in times]
        B, H, W = len(views), views.height, views.width
        device = self.block.low.device
        views = views.to(device)
        block, instant = self.voxels(times), self.field.at(torch.tensor(times))
        y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
        place = torch.stack([x, y], dim=-1).reshape(-1, 2).to(device)
        pictures: list[RayPicture] = []
        cosine = []
        for b in range(B):
            for first in range(0, len(place), RAYS_AT_ONCE):
                part = place[first : first + RAYS_AT_ONCE]
                which = torch.full((len(part),), b, device=device)
                rays = cast(views, which, part, which)
                jitter = torch.full((len(part),), 0.5, device=device)
                slots = torch.arange(B, device=device)
                pictures.append(render_rays(instant, block, slots, rays, jitter, self.step, self.options.samples))
                cosine.append(rays.directions @ views.world_to_camera[b, 2, :3])
        rgb, alpha, depth = (
            torch.cat([getattr(picture, name) for picture in pictures]) for name in ("rgb", "alpha", "depth")
        )
        rgb, alpha, depth = (value.cpu() for value in (rgb, alpha, depth * torch.cat(cosine)))
        return Picture(
            rearrange(rgb, "(b h w) c -> b c h w", b=B, h=H),
            rearrange(alpha, "(b h w) -> b 1 h w", b=B, h=H),
            rearrange(depth, "(b h w) -> b 1 h w", b=B, h=H) if with_depth else None,
        )

    def render_grid(self, cameras: Cameras, height: int, width: int) -> FrameGrid:
        """RGBA grid [V, F, 4, H, W] from the given cameras, frame f at time f."""
        V, F = cameras.shape
        views = Viewpoints.of(cameras, height, width)
        columns = []
        for frame in range(F):  # by instant: the tables of a frame are gathered once
            picture = self.render(views[torch.arange(V) * F + frame], [float(frame)] * V)
            straight = picture.rgb / picture.alpha.clamp(min=1e-4)
            columns.append(torch.cat([straight.clamp(0, 1), picture.alpha.clamp(0, 1)], dim=1))
        known = torch.zeros(V, F, dtype=torch.bool)
        return FrameGrid(torch.stack(columns, dim=1), known, cameras, self.fps, {"source": "nerf"})

    def save(self, folder: Path) -> list[Path]:
        """Write nerf.safetensors and asset.json."""
        tensors = {f"field.{name}": value.cpu().contiguous() for name, value in self.field.state_dict().items()}
        bits = np.packbits(self.block.occupied.cpu().numpy().reshape(-1))
        tensors |= {"occupied": torch.from_numpy(bits), "density": self.block.density.cpu().half()}
        record = {
            "format": "viewtime-asset", "version": FORMAT_VERSION, "method": "nerf", "fps": self.fps,
            "frames": self.frames, "step": self.step, "side": self.block.side, "low": self.block.low.tolist(),
            "options": plain(asdict(self.options)), "info": self.info,
        }  # fmt: skip
        with atomic_path(folder / WEIGHTS) as path:
            save_file(tensors, path)
        with atomic_path(folder / "asset.json") as path:
            path.write_text(json.dumps(finite_json(record), indent=1))
        return [folder / "asset.json", folder / WEIGHTS]

    @staticmethod
    def load(folder: str | Path) -> NerfAsset:
        """Read an asset folder.

        Raises:
            UserError: no NeRF asset there, a newer format, or a damaged file.
        """
        folder = Path(folder)
        method = read_record(folder).method
        if method != "nerf":
            raise UserError(f"{folder} holds a {method} asset; this needs one of --method nerf")
        record = read_json(folder / "asset.json", NerfRecord)
        low, frames = torch.tensor(record.low), record.frames
        options: NerfOptions = build(NerfOptions, record.options, where=str(folder / "asset.json"))
        opened = open_weights(folder / WEIGHTS)
        tensors = dict(read_tensors(opened))
        try:
            with torch.device("meta"):
                DynamicField(options, frames, low, record.side)  # refuses what makes no field, before memory is taken
            dynamic = DynamicField(options, frames, low, record.side)
            dynamic.load_state_dict(
                {name.removeprefix("field."): value for name, value in tensors.items() if name.startswith("field.")}
            )
            dynamic.moving = True
            density = tensors["density"].float()
            bits = np.unpackbits(tensors["occupied"].numpy())[: density.numel()]
            block = Block(torch.from_numpy(bits).view(density.shape), density, low, record.side)
        except UserError:
            raise
        except Exception as error:  # whatever tensors of other shapes lead to
            reason = first_line(error)
            raise UserError(f"{folder} is damaged: {reason}; reconstruct it again") from error
        if density.ndim != 4 or density.shape[0] != frames or not torch.isfinite(density).all():
            raise UserError(f"{folder} is damaged: density {list(density.shape)}; reconstruct it again")
        return NerfAsset(dynamic, block, options, record.fps, record.step, record.info)
