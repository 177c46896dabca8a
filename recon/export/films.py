"""Pictures of an asset: orbit videos, fixed views, turntables, depth and normals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from viewtime.cameras import DEFAULT_DISTANCE, DEFAULT_FOV_Y, Cameras
from viewtime.free_cameras import FreeCameras
from viewtime.recon.render.moving import Renderable
from viewtime.recon.render.splats import Viewpoints
from viewtime.video import write_gif, write_video, write_webm

AT_ONCE = 8
FPS = 24.0


def orbit_cameras(info: dict[str, Any], pictures: int, turn: float = 360.0, azimuth: float = 0.0) -> Cameras:
    """One view, `pictures` instants: the camera turns by `turn` degrees in all, starting at `azimuth`.

    A scene, which nobody saw from behind, has the path of its cameras instead: there and back, or its middle.
    """
    if "path" in info:
        phase = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(pictures) / pictures) if turn else np.full(pictures, 0.5)
        return path_cameras(info, phase)
    shape = (1, pictures)
    return Cameras(
        torch.full(shape, float(info.get("elevation", 12.0))),
        (azimuth + turn * torch.arange(pictures) / pictures)[None],
        torch.full(shape, float(info.get("distance", DEFAULT_DISTANCE))),
        float(info.get("fov_y", DEFAULT_FOV_Y)),
    )


def path_cameras(info: dict[str, Any], phase: np.ndarray) -> Cameras:
    """One view, T instants: at shares `phase` [T] of the way from a scene's first camera to its last."""
    path = np.asarray(info["path"], np.float64)
    at = np.clip(phase, 0, 1) * (len(path) - 1)
    stops = np.arange(len(path))
    matrices = np.tile(np.eye(4), (len(at), 1, 1))
    matrices[:, :3, :3] = Slerp(stops, Rotation.from_matrix(path[:, :3, :3]))(at).as_matrix()
    matrices[:, :3, 3] = np.stack([np.interp(at, stops, path[:, axis, 3]) for axis in range(3)], axis=1)
    return FreeCameras.of(torch.from_numpy(matrices)[None], float(info.get("fov_y", DEFAULT_FOV_Y)))


def film(
    asset: Renderable, cameras: Cameras, times: list[float], size: int | tuple[int, int], kind: str = "colour"
) -> np.ndarray:
    """uint8 [T, H, W, 3]: colour on white, depth (near is bright) or normals (camera axes).

    With `kind` transparent [T, H, W, 4], straight alpha.

    Args:
        size: pixels; side of a square, or (height, width).
    """
    height, width = (size, size) if isinstance(size, int) else size
    views = Viewpoints.of(cameras, height, width)
    frames = []
    for first in range(0, len(times), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        picture = asset.render(views[part], times[part], with_depth=kind in ("depth", "normal"))
        if kind == "colour":
            frames.append(picture.on(1.0))
            continue
        if kind == "transparent":
            straight = picture.rgb / picture.alpha.clamp(min=1e-4)
            frames.append(torch.cat([straight.clamp(0, 1), picture.alpha], dim=1))
            continue
        assert picture.depth is not None
        depth = picture.depth / picture.alpha.clamp(min=1e-4)
        shown = depth_colour(depth, cameras) if kind == "depth" else normal_colour(depth, views[part])
        frames.append(torch.where(picture.alpha > 0.5, shown, torch.ones(())))
    pixels = rearrange(torch.cat(frames).clamp(0, 1), "t c h w -> t h w c")
    return (pixels.numpy() * 255 + 0.5).astype(np.uint8)


def depth_colour(depth: Tensor, cameras: Cameras) -> Tensor:
    """[B, 1, H, W] -> grey [B, 3, H, W], white half a unit before the object's centre, black half a unit behind."""
    return (0.5 + (float(cameras.distance.mean()) - depth)).clamp(0, 1).expand(-1, 3, -1, -1)


def normal_colour(depth: Tensor, views: Viewpoints) -> Tensor:
    """Normals of the depth map in camera axes (x right, y up, z towards the camera), mapped to [0, 1]."""
    H, W = depth.shape[-2:]
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    focal = views.focal[:, None, None]
    u = (x - views.centre[:, 0, None, None]) / focal
    v = (y - views.centre[:, 1, None, None]) / focal
    points = torch.stack([u, v, torch.ones_like(u)], dim=1) * depth
    padded = F.pad(points, (1, 1, 1, 1), mode="replicate")
    along_x = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    along_y = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    normal = F.normalize(torch.linalg.cross(along_y, along_x, dim=1), dim=1)
    return 0.5 + 0.5 * normal * torch.tensor([1.0, -1.0, -1.0])[:, None, None]


def write_orbit(asset: Renderable, path: Path, *, seconds: float = 4.0, size: int = 256, kind: str = "colour") -> Path:
    """The camera goes round once while the clip plays to and fro; mp4, GIF or WebM with alpha by suffix."""
    times = _to_and_fro(asset, seconds)
    pictures = len(times)
    writers = {".gif": write_gif, ".webm": write_webm}
    frames = film(
        asset, orbit_cameras(asset.info, pictures), times, size, "transparent" if path.suffix == ".webm" else kind
    )
    return writers.get(path.suffix, write_video)(path, frames, FPS)


def _to_and_fro(asset: Renderable, seconds: float) -> list[float]:
    """Times in frames, one for each picture of a film of that length."""
    pictures = max(2, round(seconds * FPS))
    cycle = max(1, asset.frames - 1)
    phase = (torch.arange(pictures) / FPS * asset.fps) % (2 * cycle)
    return torch.where(phase <= cycle, phase, 2 * cycle - phase).tolist()


def write_path_film(asset: Renderable, path: Path, *, seconds: float = 4.0, height: int = 256) -> Path:
    """The camera goes along a scene's cameras and back while the clip plays to and fro; mp4, in the grid's shape."""
    times = _to_and_fro(asset, seconds)
    H, W = asset.info["size"]
    size = (height, 2 * round(height * W / H / 2))
    return write_video(path, film(asset, orbit_cameras(asset.info, len(times)), times, size), FPS)


def write_fixed_view(asset: Renderable, path: Path, azimuth: float, size: int = 256, kind: str = "colour") -> Path:
    """One camera, the whole clip."""
    times = [float(f) for f in range(asset.frames)]
    frames = film(asset, orbit_cameras(asset.info, len(times), 0.0, azimuth), times, size, kind)
    return write_video(path, frames, asset.fps)
