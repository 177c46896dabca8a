"""What a scene looks like: as a grid of views × frames, and as a small picture of where a run stands."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from viewtime.cameras import Cameras, regular_orbit
from viewtime.configs.schema.distill import ResultOptions
from viewtime.grid import FrameGrid
from viewtime.images import write_image

from ..fields.scene import Scene, Shot, paint, shown
from ..guidance.base import SeededDraws

PREVIEW_VIEWS, PREVIEW_FRAMES, PREVIEW_SIZE = 4, 4, 64


@torch.no_grad()
def scene_grid(scene: Scene, cameras: Cameras, times: Tensor, size: tuple[int, int], fps: float = 12.0) -> FrameGrid:
    """RGBA grid [V, F, 4, H, W] of a scene at instants [F] in [0, 1], one cell at a time; nothing in it is random."""
    V, F = cameras.shape
    cells = torch.empty(V, F, 4, *size)
    for view in range(V):
        for frame in range(F):
            shot = Shot((cameras[view, frame],), times[frame : frame + 1], *size)
            pixels, _ = paint(scene, scene.plan(shot, SeededDraws(0), training=False))
            rendered = shown(pixels, shot).rendered
            opacity = rendered.opacity[0, 0, 0].cpu()
            straight = rendered.foreground[0, 0, 0].cpu() / opacity.clamp_min(1e-4)
            cells[view, frame] = torch.cat([straight, opacity]).clamp(0, 1)
    return FrameGrid(cells, torch.zeros(V, F, dtype=torch.bool), cameras, fps, {"source": "distill"})


def result_grid(scene: Scene, options: ResultOptions) -> FrameGrid:
    """The finished scene from cameras evenly around, over the whole clip."""
    o = options
    cameras = regular_orbit(o.views, o.frames, elevation=o.elevation, distance=o.distance, fov_y=o.fov_y)
    times = torch.arange(o.frames, dtype=torch.float64) / o.frames
    return scene_grid(scene, cameras, times, (o.size, o.size), o.fps)


def write_sheet(scene: Scene, options: ResultOptions, path: Path) -> Path:
    """Views are rows, instants run to the right; one instant for a scene that stands still."""
    frames = PREVIEW_FRAMES if scene.moving else 1
    o = options
    cameras = regular_orbit(PREVIEW_VIEWS, frames, elevation=o.elevation, distance=o.distance, fov_y=o.fov_y)
    times = torch.arange(frames, dtype=torch.float64) / frames
    grid = scene_grid(scene, cameras, times, (PREVIEW_SIZE, PREVIEW_SIZE))
    return write_image(path, rearrange(grid.rgb(), "v f c h w -> (v h) (f w) c"))
