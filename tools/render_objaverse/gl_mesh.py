"""Posed vertices as GPU buffers, and the groups of triangles that share one texture and alpha mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .gltf import Scene
from .pose import Posed


@dataclass(frozen=True)
class Group:
    """Triangles drawn in one call. `first` and `count` are in indices of one frame."""

    texture: int | None
    alpha_mode: str
    cutoff: float
    first: int
    count: int


@dataclass
class FlatMesh:
    """Attributes that do not change over time, and the index list sorted by group.

    Attributes:
        attributes: float32 [N, 10]: uv, linear RGBA, emission RGB, 1 where light applies.
        indices: int32 [T * 3].
    """

    attributes: np.ndarray
    indices: np.ndarray
    groups: list[Group]


def flatten(scene: Scene, parts: Sequence[int], part_colours: Mapping[int, Sequence[float]] | None) -> FlatMesh:
    """Join the visible parts into one vertex list.

    Args:
        part_colours: part index -> factors on its linear RGB.
    """
    attributes, batches = [], []
    first = 0
    for index in parts:
        part = scene.parts[index]
        material = scene.materials[part.material]
        block = np.empty((len(part.positions), 10), np.float32)
        block[:, 0:2] = part.uvs
        block[:, 2:6] = part.colours * np.array(material.base_colour, np.float32)
        if part_colours and index in part_colours:
            block[:, 2:5] *= np.asarray(part_colours[index], np.float32)
        block[:, 6:9] = material.emission
        block[:, 9] = 0.0 if material.unlit else 1.0
        attributes.append(block)
        key = (material.alpha_mode == "BLEND", material.texture, material.alpha_mode, material.alpha_cutoff)
        batches.append((key, part.triangles.reshape(-1) + first))
        first += len(block)
    # Blended surfaces come last, over everything opaque.
    batches.sort(key=lambda item: (item[0][0], -1 if item[0][1] is None else item[0][1], item[0][2], item[0][3]))
    groups: list[Group] = []
    offset, previous = 0, None
    for key, indices in batches:
        if key == previous:
            last = groups[-1]
            groups[-1] = Group(last.texture, last.alpha_mode, last.cutoff, last.first, last.count + len(indices))
        else:
            groups.append(Group(key[1], key[2], key[3], offset, len(indices)))
        offset, previous = offset + len(indices), key
    indices = np.concatenate([indices for _, indices in batches]).astype(np.int32)
    return FlatMesh(np.concatenate(attributes), indices, groups)


def repeat_over_frames(mesh: FlatMesh, frames: int, vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Attributes [F * N, 10] and indices [F * T * 3] so that frame f owns one range of each.

    OpenGL 3.3 through moderngl has no base vertex per draw; repeating the static half costs a memory copy and
    lets every frame of a chunk be uploaded at once.
    """
    attributes = np.tile(mesh.attributes, (frames, 1))
    shift = (np.arange(frames, dtype=np.int32) * vertices)[:, None]
    return attributes, (mesh.indices[None] + shift).reshape(-1)


def interleave(posed: Posed, frames: slice) -> np.ndarray:
    """Positions and normals side by side, float32 [F * N, 6], of some frames."""
    return np.concatenate([posed.positions[frames], posed.normals[frames]], axis=2).reshape(-1, 6)
