"""Scenes rendered by the project's engine: an animated asset in a furnished room, forward-facing cameras, all known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from viewtime.free_cameras import FreeCameras
from viewtime.grid import FrameGrid
from viewtime.render_objaverse.framing import normalise
from viewtime.render_objaverse.gl import GLRenderer
from viewtime.render_objaverse.gltf import load_scene
from viewtime.render_objaverse.pose import pose_scene
from viewtime.render_objaverse.room import furnished

FOV_Y = 40.0  # degrees
DISTANCE = 2.4
SPREAD = 0.45  # of the camera's places to the left and right
SLIDE = 0.45  # way of the asset through the room over the clip, as an animated character walks in place


def forward_cameras(views: int, seed: int = 0) -> Tensor:
    """Camera-to-world [V, 4, 4]: places beside each other, all looking about the same way, slightly turned."""
    generator = torch.Generator().manual_seed(seed)
    across = torch.linspace(-SPREAD, SPREAD, views)
    wobble = torch.rand(views, 4, generator=generator) - 0.5
    place = torch.stack([across, -DISTANCE + 0.2 * wobble[:, 0], 0.15 + 0.25 * wobble[:, 1]], dim=1)
    aim = torch.stack([0.45 * across, torch.full((views,), 0.3), 0.1 * wobble[:, 2]], dim=1)
    forward = F.normalize(aim - place, dim=1)
    roll = math.radians(3) * wobble[:, 3]
    up = torch.stack([roll.sin(), torch.zeros(views), roll.cos()], dim=1)
    right = F.normalize(torch.linalg.cross(forward, up), dim=1)
    matrix = torch.eye(4).repeat(views, 1, 1)
    matrix[:, :3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=2)
    matrix[:, :3, 3] = place
    return matrix


def room_grid(
    asset: Path, views: int, frames: int, size: tuple[int, int], *, seed: int = 0, still: bool = False
) -> FrameGrid:
    """RGB grid [V, F, 3, H, W] with its true cameras; the asset plays its first clip and slides through the room.

    Args:
        size: (height, width). still: all frames show the first instant.
    """
    scene = load_scene(asset)
    clip = scene.clips[0]
    times = clip.start + clip.duration * np.linspace(0, 0.7, frames)
    posed = pose_scene(scene, clip, np.repeat(times[:1], frames) if still else times)
    placement = normalise(posed.positions)
    rng = np.random.default_rng(seed)
    way = np.linspace(-0.5, 0.5, frames)[:, None, None] * np.array([SLIDE, 0.0, 0.0]) / placement.scale
    if not still:
        posed.positions = (posed.positions + way).astype(np.float32)
    posed = furnished(posed, placement, rng)
    cameras = FreeCameras.of_views(forward_cameras(views, seed), frames, FOV_Y)
    with GLRenderer((2 * size[0], 2 * size[1])) as engine:
        pixels = engine.draw(posed, cameras.camera_to_world().numpy(), FOV_Y, placement=placement)
    fine = rearrange(torch.from_numpy(pixels[..., :3]).float() / 255, "v f (h a) (w b) c -> v f c h w (a b)", a=2, b=2)
    known = torch.ones(views, frames, dtype=torch.bool)
    return FrameGrid(fine.mean(-1), known, cameras, 12.0, {"source": "room", "asset": asset.name})


def bent(grid: FrameGrid, strength: float, seed: int = 0) -> FrameGrid:
    """The grid with an inconsistency of its own in every view, the same at all frames, as generated freeze-time videos
    have: each view's pictures are resampled by a smooth random flow of this size (pixels, rms). The flows' mean over
    the views is zero: what all views shared would be another scene and no inconsistency."""
    V, frames, _, H, W = grid.shape
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(V, 2, 3, 4, generator=generator)
    flow = F.interpolate(coarse, (H, W), mode="bicubic", align_corners=True)
    flow = flow - flow.mean(dim=0)
    flow = flow / flow.square().mean().sqrt() * strength
    identity = F.affine_grid(torch.eye(2, 3)[None], [1, 1, H, W], align_corners=False)
    places = identity + rearrange(flow, "v c h w -> v h w c") * 2 / torch.tensor([W, H])
    places = repeat(places, "v h w c -> (v f) h w c", f=frames)
    pictures = rearrange(grid.frames, "v f c h w -> (v f) c h w")
    moved = F.grid_sample(pictures, places, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)
    return FrameGrid(rearrange(moved, "(v f) c h w -> v f c h w", v=V), grid.known, grid.cameras, grid.fps)
