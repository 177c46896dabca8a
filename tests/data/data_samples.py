"""Small grids with a known content, as samples, grid folders and shards."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from viewtime.cameras import Cameras, regular_orbit
from viewtime.data.samples import GridSample
from viewtime.grid import FrameGrid
from viewtime.video import write_video


def coded_frames(views: int, frames: int, size: int = 32, shade: int = 0) -> torch.Tensor:
    """uint8 RGBA [V, F, 4, H, W]: an opaque square whose red tells the view, green the frame, blue the shade."""
    pixels = torch.zeros(views, frames, 4, size, size, dtype=torch.uint8)
    inside = slice(size // 4, 3 * size // 4)
    for view in range(views):
        for frame in range(frames):
            colour = torch.tensor([10 + 11 * view, 20 + 11 * frame, shade, 255], dtype=torch.uint8)
            pixels[view, frame, :, inside, inside] = colour[:, None, None]
    return pixels


def coded_sample(views: int = 6, frames: int = 5, size: int = 32, id: str = "coded") -> GridSample:
    return GridSample(id, "test", coded_frames(views, frames, size), regular_orbit(views, frames), 12.0)


def moving_cameras(views: int, frames: int) -> Cameras:
    """Azimuth and elevation differ in every cell."""
    base = regular_orbit(views, frames)
    step = torch.arange(frames, dtype=torch.float32)[None]
    return Cameras(base.elevation + step, torch.remainder(base.azimuth + 2 * step, 360), base.distance)


def save_grids(folder: Path, count: int, views: int = 6, frames: int = 5, size: int = 32) -> None:
    """Lossless grid folders grid_00 … with the number as shade."""
    for number in range(count):
        pixels = coded_frames(views, frames, size, shade=8 * number).float() / 255
        grid = FrameGrid(
            pixels,
            torch.zeros(views, frames, dtype=torch.bool),
            regular_orbit(views, frames),
            12.0,
            {"asset": f"a{number}"},
        )
        grid.save(folder / f"grid_{number:02d}", lossless=True)


def shard_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that `viewtime encode` leaves for readers."""
    names = [*folder.glob("shard-*"), folder / "dataset.json", folder / "plan.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


def video_of_dots(folder: Path, frames: int = 12) -> None:
    pixels = np.full((frames, 48, 64, 3), 40, np.uint8)
    for frame in range(frames):
        pixels[frame, 20:28, 4 + 4 * frame : 12 + 4 * frame] = [250, 60, 60]
    write_video(folder / "dots.mp4", pixels, 10.0)
