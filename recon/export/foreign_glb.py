"""A GLB of any origin as a mesh whose vertices move, for the page that plays it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from viewtime.recon.surface.mesh import MovingMesh
from viewtime.render_objaverse.gltf import Scene, load_scene
from viewtime.render_objaverse.pose import pose_scene

FPS = 24.0
MOST_FRAMES = 120


def read_glb(path: Path) -> MovingMesh:
    """The first clip at 24 frames a second, or the rest pose, inside the unit cube about the origin.

    Colours are the material's and the vertices' own; a texture is read at the vertices.

    Raises:
        UserError: not a glTF file that can be read.
    """
    scene = load_scene(path)
    clip = scene.clips[0] if scene.clips else None
    count = 1 if clip is None else int(np.clip(round(clip.duration * FPS), 1, MOST_FRAMES))
    times = np.zeros(1) if clip is None else clip.start + np.arange(count) / FPS
    posed = pose_scene(scene, clip, times)
    triangles, colours, first = [], [], 0
    for which, index in enumerate(posed.parts):
        triangles.append(posed.outward(which) + first)
        colours.append(_colours(scene, index))
        first += len(colours[-1])
    low, high = posed.positions.min(axis=(0, 1)), posed.positions.max(axis=(0, 1))
    positions = (posed.positions - (low + high) / 2) / max(float((high - low).max()), 1e-9)
    return MovingMesh(positions.astype(np.float32), np.concatenate(triangles), np.concatenate(colours), FPS)


def _colours(scene: Scene, index: int) -> np.ndarray:
    """sRGB [N, 3] in [0, 1] of a part's vertices."""
    part = scene.parts[index]
    material = scene.materials[part.material]
    linear = part.colours[:, :3] * np.array(material.base_colour[:3], np.float32)
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    if material.base_texture is not None:
        pixels = scene.textures[material.base_texture.texture].pixels
        place = (part.uvs % 1.0) * np.array([pixels.shape[1], pixels.shape[0]])
        x, y = np.minimum(place.astype(int), np.array([pixels.shape[1] - 1, pixels.shape[0] - 1])).T
        shown = shown * pixels[y, x, :3] / 255.0
    return shown.clip(0, 1).astype(np.float32)
