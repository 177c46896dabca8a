"""Ground-truth grids of the reconstruction benchmarks: rendered once by the project's own engine, then kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange

from viewtime.cameras import Cameras, regular_orbit
from viewtime.errors import UserError
from viewtime.grid import FrameGrid

CLIPS = {
    "q_animals__Horse": "gallop", "q_dinosaurs__Trex": "walk", "q_fish__Shark": "swim", "q_mech__George": "dance",
    "q_easy_enemies__Spider": "walk", "q_single_knight__KnightCharacter": "run_swordattack", "khronos_Fox": "run",
    "q_animals__Stag": "gallop",
}  # fmt: skip
FRAMES, SIZE, ELEVATION = 21, 128, 15.0
SUPERSAMPLE = 5  # odd: with an even number many pixels are exactly half covered, and the mask is a matter of rounding


def truth(asset: Path, wanted: str, cameras: Cameras, size: int = SIZE) -> FrameGrid:
    """RGBA grid of the first clip whose name holds `wanted`, normalised to the unit cube.

    Raises:
        UserError: no clip has such a name.
    """
    from viewtime.render_objaverse.framing import normalise
    from viewtime.render_objaverse.gl import GLRenderer
    from viewtime.render_objaverse.gltf import load_scene
    from viewtime.render_objaverse.pose import pose_scene

    scene = load_scene(asset)
    clip = next((c for c in scene.clips if wanted in c.name.lower()), None)
    if clip is None:
        raise UserError(f"{asset.name}: no clip is called *{wanted}*; has {', '.join(c.name for c in scene.clips)}")
    times = clip.start + np.linspace(0.0, clip.duration, cameras.shape[1], endpoint=False)
    posed = pose_scene(scene, clip, times)
    with GLRenderer(size, supersample=SUPERSAMPLE) as renderer:
        images = renderer.draw(
            posed, cameras.camera_to_world().numpy(), cameras.fov_y, placement=normalise(posed.positions)
        )
    frames = rearrange(torch.from_numpy(images), "v f h w c -> v f c h w").float() / 255
    fps = max(1.0, cameras.shape[1] / max(clip.duration, 1e-3))
    return FrameGrid(
        frames, torch.ones(cameras.shape, dtype=torch.bool), cameras, fps, {"asset": asset.name, "clip": clip.name}
    )


def orbit_of(
    assets: Path, cache: Path, name: str, views: int, *, start: float = 0.0, frames: int = FRAMES, size: int = SIZE
) -> FrameGrid:
    """`views` evenly around from azimuth `start` at 15 degrees, from the cache if they were rendered before.

    Raises:
        UserError: the asset is not there.
    """
    clip = CLIPS.get(name, "")
    kept = cache / f"{name}-{clip}-{views}views-{start:g}deg-{frames}x{size}px"
    if (kept / "grid.json").is_file():
        return FrameGrid.load(kept)
    path = assets / f"{name}.glb"
    if not path.is_file():
        raise UserError(f"no such asset: {path}; give --assets FOLDER")
    cameras = regular_orbit(views, frames, elevation=ELEVATION, azimuth_start=start)
    grid = truth(path, clip, cameras, size)
    grid.save(kept, lossless=True)
    return grid
