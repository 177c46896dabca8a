"""Facts about one animated asset, from its file alone: geometry, clips, motion, content hashes.

Runs in a guarded process (`guard`): the file may be hostile. Only numpy; the motion in pixels is `pixel_motion`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from viewtime.render_objaverse.animation import Clip
from viewtime.render_objaverse.gltf import Scene, load_scene
from viewtime.render_objaverse.gltf_file import Limits
from viewtime.render_objaverse.pose import pose_scene

FRAMES_PER_SECOND = 24  # of Blender's importer: the frames that an animation gives
POSES = 16  # instants at which a clip is looked at
HASH_STEPS = 1000  # positions are compared in thousandths of the object's diagonal
VERTEX_BUDGET = 4_000_000  # posed vertices held at once


@dataclass(frozen=True)
class ClipFacts:
    """One clip.

    Attributes:
        frames: animated frames at 24 per second; 1 for a pose.
        duration_s: seconds from the first to the last key.
        displacement: largest distance of a vertex from its place in the first frame, in first-frame bounding-box
            diagonals; over at most 16 instants.
        content: hash of the moving geometry, equal for a clip that is stored twice.
        error: why the clip cannot be posed, or "".
    """

    name: str
    frames: int
    duration_s: float
    displacement: float
    content: str
    error: str = ""


@dataclass(frozen=True)
class AssetFacts:
    """One asset; `content` is the hash of its geometry, its look and all its clips."""

    bytes: int
    sha256: str
    vertices: int
    triangles: int
    content: str
    clips: list[ClipFacts] = field(default_factory=list)


def probe_asset(path: str, max_bytes: int, max_clips: int = 200) -> AssetFacts:
    """Read and pose an asset.

    Raises:
        AssetError: the file cannot be used; with a reason.
    """
    scene = load_scene(path, Limits(file_bytes=max_bytes))
    clips = [probe_clip(scene, clip) for clip in scene.clips[:max_clips]]
    digest = hashlib.sha256(_rest_hash(scene))
    for content in sorted(clip.content for clip in clips):
        digest.update(content.encode())
    clips += [ClipFacts(bad.name, 0, 0.0, 0.0, f"unposed {bad.name}", bad.message) for bad in scene.bad_clips]
    with Path(path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size = Path(path).stat().st_size
    return AssetFacts(size, sha256, scene.vertices, scene.triangles, digest.hexdigest(), clips)


def _rest_hash(scene: Scene) -> bytes:
    """Of geometry and look: one body in another texture is another asset."""
    digest = hashlib.sha256(repr(scene.materials).encode())
    for texture in scene.textures:
        digest.update(np.ascontiguousarray(texture.pixels).tobytes())
    for part in scene.parts:
        digest.update(np.ascontiguousarray(part.positions).tobytes())
        digest.update(np.ascontiguousarray(part.triangles).tobytes())
    return digest.digest()


def probe_clip(scene: Scene, clip: Clip) -> ClipFacts:
    """Pose a clip at 16 instants, few at a time where the mesh is large."""
    frames = int(np.floor(clip.duration * FRAMES_PER_SECOND + 1e-3)) + 1
    times = clip.frame_times(POSES if clip.duration > 0 else 1)
    step = max(1, VERTEX_BUDGET // max(scene.vertices, 1))
    first, diagonal, largest = np.zeros((0, 3)), 1.0, 0.0
    digest = hashlib.sha256(f"{clip.duration:.3f}".encode())
    try:
        for start in range(0, len(times), step):
            positions = pose_scene(scene, clip, times[start : start + step]).positions
            if start == 0:
                first = positions[0]
                diagonal = float(np.linalg.norm(first.max(0) - first.min(0))) or 1.0
            largest = max(largest, float(np.linalg.norm(positions - first, axis=-1).max()))
            digest.update(np.rint(positions * (HASH_STEPS / diagonal)).astype(np.int32).tobytes())
    except ValueError as error:
        return ClipFacts(clip.name, frames, clip.duration, 0.0, f"unposed {clip.name}", str(error))
    return ClipFacts(clip.name, frames, clip.duration, largest / diagonal, digest.hexdigest()[:32])
