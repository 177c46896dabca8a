"""Before a sample is rendered: which moments, which cameras, what scale. Both engines follow the same plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from viewtime.cameras import Cameras
from viewtime.configs.schema.render import Framing

from .framing import camera_distance, normalise, temporal_step
from .gl import GLRenderer
from .gltf import Scene
from .gltf_file import AssetError
from .materials import Material
from .motion import BACKGROUNDS, over
from .orbits import make_orbit, regular_views, with_distance
from .pose import Placement, Posed
from .primitives import Part

KEY_SIZE = 48  # pixels of the key renders that measure motion
LARGEST_MEASURED = 64  # key frames

PoseAt = Callable[[np.ndarray], Posed]


@dataclass(frozen=True)
class SamplePlan:
    """One sample: moments, cameras and placement, and why.

    Attributes:
        times: float64 [F] seconds in the clip.
        step: seconds between frames; motion: mean L1 between consecutive key renders at that step.
    """

    times: np.ndarray
    cameras: Cameras
    placement: Placement
    step: float
    motion: float


def plan_sample(
    pose_at: PoseAt,
    start: float,
    end: float,
    renderer: GLRenderer,
    framing: Framing,
    views: int,
    frames: int,
    orbit: str,
    seed: int,
) -> SamplePlan:
    """Choose moments, then cameras that hold every vertex of every chosen frame.

    Args:
        pose_at: posed vertices at seconds [F].
        start, end: the clip's range in seconds.
        orbit: "static" or "dynamic".

    Raises:
        AssetError: "no_motion" where key frames never differ by `framing.min_motion`, "no_geometry".
    """
    generator = np.random.default_rng(seed)
    times, motion = choose_times(pose_at, start, end, renderer, framing, frames, generator)
    if frames > 1 and motion < framing.min_motion:
        raise AssetError("no_motion", f"key frames differ by {motion:.4f}, at least {framing.min_motion:g} wanted")
    posed = pose_at(times)
    placement = normalise(posed.positions)
    cameras = make_orbit(
        "static" if orbit == "static" else "dynamic",
        views,
        frames,
        generator,
        elevation=(framing.elevation_min, framing.elevation_max),
        fov_y=framing.fov_y,
    )
    distance = camera_distance(
        placement.apply(posed.positions),
        cameras.camera_to_world().numpy()[..., :3, :3],
        fov_y=framing.fov_y,
        fit=framing.fit,
        base=framing.base_distance,
        growth=framing.growth,
        margin=framing.margin,
    )
    step = float(times[1] - times[0]) if frames > 1 else 0.0
    return SamplePlan(times, with_distance(cameras, distance), placement, step, motion)


def choose_times(
    pose_at: PoseAt,
    start: float,
    end: float,
    renderer: GLRenderer,
    framing: Framing,
    frames: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Seconds [F] and the mean L1 difference of consecutive key frames.

    A clip that lasts long enough is sampled at a step that grew until key frames differ enough, from a random
    start; a shorter one is spread evenly over its whole length.
    """
    unit = 1.0 / framing.base_fps
    available = int(np.floor((end - start) * framing.base_fps + 1e-6)) + 1
    keys = min(frames, LARGEST_MEASURED)

    def difference_at(times: np.ndarray) -> float:
        return key_difference(pose_at(times), renderer) if len(times) > 1 else 0.0

    if available <= frames:
        times = np.linspace(start, end, frames)
        return times, difference_at(times[:keys])
    step, motion = temporal_step(
        lambda step: difference_at(start + np.arange(keys) * step * unit),
        available,
        frames,
        threshold=framing.motion_threshold,
    )
    slack = available - 1 - step * (frames - 1)
    first = int(generator.integers(0, slack + 1)) if slack > 0 else 0
    return start + (first + np.arange(frames) * step) * unit, motion


def key_difference(posed: Posed, renderer: GLRenderer) -> float:
    """Mean over consecutive frames of the L1 distance of their key renders, from the front and the side.

    On white or on black, whichever shows more. The sum is divided by the area that the object covers in either frame,
    so that a small object's motion counts as much as a large one's.
    """
    placement = normalise(posed.positions)
    cameras = regular_views(2, len(posed.times), azimuth_range=180.0)
    turn = cameras.camera_to_world().numpy()[..., :3, :3]
    distance = camera_distance(placement.apply(posed.positions), turn, fit="projected")
    matrices = with_distance(cameras, distance).camera_to_world().numpy()
    images = renderer.draw(posed, matrices, cameras.fov_y, placement=placement).astype(np.float32) / 255
    alpha = images[..., 3:]
    flat = [over(images, grey) for grey in BACKGROUNDS]
    change = np.max([np.abs(shown[:, 1:] - shown[:, :-1]).mean(axis=-1).sum(axis=(2, 3)) for shown in flat], axis=0)
    area = np.maximum(alpha[:, 1:], alpha[:, :-1]).sum(axis=(2, 3, 4))
    return float((change / np.maximum(area, 1.0)).mean())


def posed_from_mesh(positions: np.ndarray, triangles: np.ndarray, times: np.ndarray) -> Posed:
    """A grey stand-in for a file that only Blender reads: vertices [F, N, 3] and triangles [T, 3] as it gave them."""
    count = len(positions[0])
    normals = np.zeros_like(positions)
    for frame, points in enumerate(positions):
        corners = points[triangles]
        face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        for corner in range(3):
            np.add.at(normals[frame], triangles[:, corner], face)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-20)
    empty = np.zeros((0, count, 3), np.float32)
    part = Part(
        name="mesh",
        node=0,
        skin=None,
        material=0,
        positions=positions[0],
        normals=normals[0],
        uvs=np.zeros((count, 2), np.float32),
        colours=np.ones((count, 4), np.float32),
        triangles=triangles,
        joints=None,
        weights=None,
        morph_positions=empty,
        morph_normals=empty,
    )
    one: dict[str, Any] = {
        "translations": np.zeros((1, 3), np.float32),
        "rotations": np.array([[0, 0, 0, 1]], np.float32),
        "scales": np.ones((1, 3), np.float32),
    }
    scene = Scene(
        path=Path("mesh"),
        names=["mesh"],
        parents=np.array([-1]),
        order=np.array([0]),
        matrices={},
        morph_weights={},
        parts=[part],
        skins=[],
        materials=[Material(base_colour=(0.6, 0.6, 0.6, 1.0))],
        textures=[],
        clips=[],
        **one,
    )
    return Posed(scene, [0], positions, normals, times)
