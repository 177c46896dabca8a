"""Posed vertices as GPU buffers, and the groups of triangles that share textures, alpha mode and sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .gltf import Scene
from .materials import Material
from .pose import Posed

SOLID_ALPHA = 0.995  # what is blended but lets nothing through is drawn like any other surface


@dataclass(frozen=True)
class Look:
    """What one draw call needs to know: textures (None: none), alpha and sides."""

    texture: int | None
    emissive: int | None
    alpha_mode: str
    cutoff: float
    culled: bool

    @property
    def translucent(self) -> bool:
        """Whether other surfaces may shine through."""
        return self.alpha_mode == "BLEND"


@dataclass(frozen=True)
class Group:
    """Triangles drawn in one call. `first` and `count` are in indices of one frame."""

    look: Look
    first: int
    count: int


@dataclass
class FlatMesh:
    """Attributes that do not change over time, and the index list sorted by group, translucent groups last.

    Attributes:
        attributes: float32 [N, 12]: base uv, emissive uv, linear RGBA, emission RGB, 1 where light applies.
        indices: int32 [T * 3].
    """

    attributes: np.ndarray
    indices: np.ndarray
    groups: list[Group]

    @property
    def translucent(self) -> bool:
        """Whether anything may shine through."""
        return any(group.look.translucent for group in self.groups)


def flatten(posed: Posed, part_colours: Mapping[int, Sequence[float]] | None) -> FlatMesh:
    """Join the visible parts into one vertex list.

    Args:
        part_colours: part index -> factors on its linear RGB.
    """
    scene = posed.scene
    attributes, batches = [], []
    first = 0
    for place, index in enumerate(posed.parts):
        part = scene.parts[index]
        material = scene.materials[part.material]
        block = np.zeros((len(part.positions), 12), np.float32)
        block[:, 0:2] = part.uvs
        if part.emissive_uvs is not None:
            block[:, 2:4] = part.emissive_uvs
        block[:, 4:8] = part.colours * np.array(material.base_colour, np.float32)
        if part_colours and index in part_colours:
            block[:, 4:7] *= np.asarray(part_colours[index], np.float32)
        block[:, 8:11] = material.emission
        block[:, 11] = 0.0 if material.unlit else 1.0
        attributes.append(block)
        batches.append((_look(scene, material, block[:, 7]), posed.outward(place).reshape(-1) + first))
        first += len(block)
    batches.sort(key=lambda batch: _order(batch[0]))
    groups: list[Group] = []
    offset = 0
    for look, indices in batches:
        if groups and groups[-1].look == look:
            groups[-1] = Group(look, groups[-1].first, groups[-1].count + len(indices))
        else:
            groups.append(Group(look, offset, len(indices)))
        offset += len(indices)
    indices = np.concatenate([indices for _, indices in batches]).astype(np.int32)
    return FlatMesh(np.concatenate(attributes), indices, groups)


def _look(scene: Scene, material: Material, alpha: np.ndarray) -> Look:
    base, emissive = material.base_texture, material.emissive_texture
    mode = material.alpha_mode
    # Many exporters write BLEND for everything.
    if mode == "BLEND" and alpha.min() >= SOLID_ALPHA and (base is None or scene.textures[base.texture].solid):
        mode = "OPAQUE"
    return Look(
        None if base is None else base.texture,
        None if emissive is None else emissive.texture,
        mode,
        material.alpha_cutoff if mode == "MASK" else 0.0,
        not material.double_sided,
    )


def _order(look: Look) -> tuple[object, ...]:
    numbers = tuple(-1 if index is None else index for index in (look.texture, look.emissive))
    return (look.translucent, *numbers, look.alpha_mode, look.cutoff, look.culled)


def repeat_over_frames(mesh: FlatMesh, frames: int, vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Attributes [F * N, 12] and indices [F * T * 3] so that frame f owns one range of each.

    OpenGL 3.3 through moderngl has no base vertex per draw; repeating the static half costs a memory copy and
    lets every frame of a chunk be uploaded at once.
    """
    attributes = np.tile(mesh.attributes, (frames, 1))
    shift = (np.arange(frames, dtype=np.int32) * vertices)[:, None]
    return attributes, (mesh.indices[None] + shift).reshape(-1)


def interleave(posed: Posed, frames: slice) -> np.ndarray:
    """Positions and normals side by side, float32 [F * N, 6], of some frames."""
    return np.concatenate([posed.positions[frames], posed.normals[frames]], axis=2).reshape(-1, 6)
