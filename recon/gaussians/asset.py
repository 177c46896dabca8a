"""The 4D asset on disk and in memory: canonical Gaussians with their path over the frames."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.grid import FrameGrid
from viewtime.recon.render.renderer import Picture, render
from viewtime.recon.render.splats import SCREEN_BLUR, Viewpoints

FORMAT_VERSION = 1
# What lies between the fit's pixel centres was never compared with anything and shows as dots in finer pictures: there
# the colours are smoothed, and the outline a little, by so many square pixels of the fit.
FINER_COLOUR_BLUR, FINER_OUTLINE_BLUR = 0.3, 0.03


class Renderable(Protocol):
    """What films and previews need of an asset, however it is represented."""

    @property
    def frames(self) -> int: ...

    @property
    def fps(self) -> float: ...

    @property
    def info(self) -> dict[str, Any]: ...

    def render(self, views: Viewpoints, times: list[float], with_depth: bool = False) -> Picture: ...

    def render_grid(self, cameras: Cameras, height: int, width: int) -> FrameGrid: ...


@dataclass(frozen=True)
class GaussianAsset:
    """Gaussians that move, independent of how they were fitted.

    Attributes:
        means: [F, N, 3] world. covariance: [N, 1] variances or canonical matrices [N, 3, 3]. opacity: [N] in (0, 1).
        colour: [N, 3] in [0, 1]. linear: [F, N, 3, 3], what each frame does to the neighbourhood of a Gaussian.
        fps: frames per second. info: plain values (fov_y, distance, elevation of the grid, scores).
    """

    means: Tensor
    covariance: Tensor
    opacity: Tensor
    colour: Tensor
    linear: Tensor
    fps: float
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """F."""
        return self.means.shape[0]

    def at(self, time: float) -> tuple[Tensor, Tensor]:
        """Means [N, 3] and covariance at any time in frames (0 … F-1), linear between frames."""
        time = min(max(time, 0.0), self.frames - 1.0)
        low = min(int(time), max(0, self.frames - 2))
        high, weight = min(low + 1, self.frames - 1), time - low
        means = torch.lerp(self.means[low], self.means[high], weight)
        if self.covariance.shape[-1] == 1:
            return means, self.covariance
        linear = torch.lerp(self.linear[low], self.linear[high], weight)
        return means, linear @ self.covariance @ linear.transpose(-1, -2)

    def finer(self, views: Viewpoints) -> float:
        """Square pixels of these pictures in one of the fit, less one; 0 where these are no finer."""
        if "size" not in self.info or "fov_y" not in self.info:
            return 0.0
        fitted = 0.5 * self.info["size"][0] / math.tan(math.radians(self.info["fov_y"] / 2))
        square = (float(views.focal.mean()) / fitted) ** 2
        return square - 1 if square > 1.01 else 0.0

    @torch.no_grad()
    def render(self, views: Viewpoints, times: list[float], with_depth: bool = False) -> Picture:
        """Picture b from viewpoint b at times[b]."""
        posed = [self.at(time) for time in times]
        means, covariance = (torch.stack(values) for values in zip(*posed))
        finer = self.finer(views)
        blurs = [FINER_OUTLINE_BLUR, FINER_COLOUR_BLUR] if finer else [0.0]
        drawn = [
            render(
                means, covariance[:1] if covariance.shape[-1] == 1 else covariance, self.opacity[None],
                self.colour[None], views, with_depth=with_depth, screen_blur=SCREEN_BLUR + finer * blur,
            )
            for blur in blurs
        ]  # fmt: skip
        picture, smooth = drawn[0], drawn[-1]
        if not finer:
            return picture
        return Picture(smooth.rgb / smooth.alpha.clamp(min=1e-4) * picture.alpha, picture.alpha, picture.depth)

    def render_grid(self, cameras: Cameras, height: int, width: int) -> FrameGrid:
        """RGBA grid [V, F, 4, H, W] from the given cameras, frame f at time f."""
        V, F = cameras.shape
        views = Viewpoints.of(cameras, height, width)
        rows = []
        for view in range(V):
            cells = torch.arange(view * F, (view + 1) * F)
            picture = self.render(views[cells], [float(f) for f in range(F)])
            straight = picture.rgb / picture.alpha.clamp(min=1e-4)
            rows.append(torch.cat([straight.clamp(0, 1), picture.alpha.clamp(0, 1)], dim=1))
        known = torch.zeros(V, F, dtype=torch.bool)
        return FrameGrid(torch.stack(rows), known, cameras, self.fps, {"source": "gaussians"})

    def save(self, folder: Path) -> list[Path]:
        """Write gaussians.safetensors and asset.json."""
        tensors = {
            name: getattr(self, name).contiguous() for name in ("means", "covariance", "opacity", "colour", "linear")
        }
        record = {
            "format": "viewtime-asset", "version": FORMAT_VERSION, "method": "gaussians", "fps": self.fps,
            "frames": self.frames, "gaussians": self.means.shape[1], "info": self.info,
        }  # fmt: skip
        with atomic_path(folder / "gaussians.safetensors") as path:
            save_file(tensors, path)
        with atomic_path(folder / "asset.json") as path:
            path.write_text(json.dumps(record, indent=1))
        return [folder / "asset.json", folder / "gaussians.safetensors"]

    @staticmethod
    def load(folder: str | Path) -> GaussianAsset:
        """Read an asset folder.

        Raises:
            UserError: no asset there, a newer format, another method, or a damaged file.
        """
        folder = Path(folder)
        record = read_record(folder)
        if record.get("method") == "nerf" and (folder / "gaussians" / "asset.json").is_file():
            return GaussianAsset.load(folder / "gaussians")
        if record.get("method") != "gaussians":
            raise UserError(
                f"{folder} holds a {record.get('method')} asset; this needs Gaussians: fit with --method gaussians"
            )
        try:
            tensors = load_file(folder / "gaussians.safetensors")
            return GaussianAsset(**tensors, fps=float(record["fps"]), info=record["info"])
        except (SafetensorError, FileNotFoundError, KeyError, TypeError) as error:
            raise UserError(f"{folder} is damaged: {error}; reconstruct it again") from error


def read_record(folder: Path) -> dict[str, Any]:
    """asset.json of an asset folder.

    Raises:
        UserError: missing, not JSON, or a newer format.
    """
    path = folder / "asset.json"
    if not path.is_file():
        raise UserError(f"{folder} is no asset folder: it has no asset.json")
    try:
        record = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if record.get("version") != FORMAT_VERSION:
        raise UserError(f"{folder} has asset format {record.get('version')}; this version reads {FORMAT_VERSION}")
    return record
