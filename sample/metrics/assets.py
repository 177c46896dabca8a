"""An animated GLB seen by the truth's cameras, so that an asset is scored like any grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange

from viewtime.errors import UserError
from viewtime.grid import FrameGrid


def render_asset(path: Path, gt: FrameGrid) -> FrameGrid:
    """RGBA grid of the asset at the truth's cameras, size and instants.

    The first animation clip plays at its own speed, frame f at f / fps seconds (held at its end). Colours are
    taken as they are, without light: a reconstruction has its shading in its colours. Scale and place are the
    file's own.

    Raises:
        UserError: not a GLB, the truth has no cameras, or the asset cannot be read.
    """
    from viewtime.render_objaverse.gl import GLRenderer, Light
    from viewtime.render_objaverse.gltf import load_scene

    if path.suffix.lower() not in (".glb", ".gltf"):
        raise UserError(f"{path.name}: assets are scored as animated GLB; export it (viewtime export) first")
    if gt.cameras is None:
        raise UserError(f"the truth has no cameras: {path.name} cannot be rendered from its views")
    V, F, _, H, W = gt.shape
    if H != W:
        raise UserError(f"assets are rendered in square images; the truth is {H}×{W}")
    scene = load_scene(path)
    clip = scene.clips[0] if scene.clips else None
    times = np.arange(F) / gt.fps
    if clip is not None:
        times = clip.start + np.minimum(times, clip.duration)
    flat = Light(intensity=0.0, ambient=(1.0, 1.0, 1.0), ground=(1.0, 1.0, 1.0))
    with GLRenderer(H) as renderer:
        images = renderer.render(scene, clip, times, gt.cameras.camera_to_world().numpy(), gt.cameras.fov_y, light=flat)
    frames = rearrange(torch.from_numpy(images), "v f h w c -> v f c h w").float() / 255.0
    provenance = {"source": "asset", "file": path.name}
    return FrameGrid(frames, torch.zeros(V, F, dtype=torch.bool), gt.cameras, gt.fps, provenance)
