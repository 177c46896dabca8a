"""One primitive of a glTF mesh as plain arrays: its vertices, triangles, influences of joints and morph targets.

As tolerant as Blender where real files need it: NaN skin weights count as zero, missing normals are computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .gltf_file import DRACO, GltfFile
from .materials import Material, TextureUse


@dataclass
class Skin:
    """Joint nodes [J] and their inverse bind matrices float32 [J, 4, 4]."""

    joints: np.ndarray
    inverse_bind: np.ndarray


@dataclass
class Part:
    """One primitive on one node: what is drawn with one material.

    Attributes:
        name: the node's name; parts of one node share it.
        positions, normals: float32 [N, 3] in the mesh's space.
        uvs, emissive_uvs: float32 [N, 2] of the base-colour and of the emissive texture, placed.
        colours: float32 [N, 4], COLOR_0 in linear RGBA or ones.
        triangles: int32 [T, 3].
        joints, weights: [N, K] indices into the skin's joints, and weights that sum to 1 (or are all 0);
            None without skin.
        morph_positions, morph_normals: float32 [M, N, 3] offsets (M may be 0).
        uv_sets: the file's own coordinates float32 [N, 2], TEXCOORD_0 first.
    """

    name: str
    node: int
    skin: int | None
    material: int
    positions: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    colours: np.ndarray
    triangles: np.ndarray
    joints: np.ndarray | None
    weights: np.ndarray | None
    morph_positions: np.ndarray
    morph_normals: np.ndarray
    emissive_uvs: np.ndarray | None = None
    uv_sets: tuple[np.ndarray, ...] = ()


def read_primitive(
    file: GltfFile,
    primitive: dict[str, Any],
    name: str,
    node: int,
    skin: int | None,
    skins: list[Skin],
    materials: list[Material],
) -> Part | None:
    """One primitive as a Part; None for points and lines, which a renderer of surfaces has nothing to do with."""
    mode = primitive.get("mode", 4)
    if mode not in (4, 5, 6):
        return None
    attributes, triangles = _geometry(file, primitive, mode)
    positions = attributes["POSITION"].astype(np.float32)
    if positions.shape[1] != 3:
        raise file.fail("accessor", f"part {name!r}: POSITION has {positions.shape[1]} components")
    if not np.isfinite(positions).all():
        bad = int((~np.isfinite(positions)).any(axis=1).sum())
        raise file.fail("non_finite", f"part {name!r}: {bad} of {len(positions)} positions are NaN or infinite")
    if any(len(values) != len(positions) for values in attributes.values()):
        raise file.fail("accessor", f"part {name!r}: vertex attributes of different lengths")
    if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(positions)):
        raise file.fail("accessor", f"part {name!r}: vertex index {triangles.max()} of {len(positions)}")
    if not len(triangles):
        return None
    morphs = [_morph(file, target, len(positions)) for target in primitive.get("targets", [])]
    if len(morphs) * len(positions) * 6 > file.limits.accessor_elements:
        raise file.fail("too_large", f"part {name!r}: {len(morphs)} morph targets of {len(positions):,} vertices")
    joints, weights = (None, None) if skin is None else _influences(file, attributes, len(skins[skin].joints))
    material = primitive.get("material", len(materials) - 1)
    if not isinstance(material, int) or not 0 <= material < len(materials):
        raise file.fail("bad_structure", f"part {name!r}: material {material} does not exist")
    uv_sets = _uv_sets(attributes)
    part = Part(
        name=name,
        node=node,
        skin=skin if joints is not None else None,
        material=material,
        positions=positions,
        normals=attributes.get("NORMAL", np.zeros((0, 3))).astype(np.float32),
        uvs=_placed(materials[material].base_texture, uv_sets, len(positions)),
        emissive_uvs=_placed(materials[material].emissive_texture, uv_sets, len(positions)),
        uv_sets=uv_sets,
        colours=_vertex_colours(attributes.get("COLOR_0"), len(positions)),
        triangles=triangles.astype(np.int32),
        joints=joints,
        weights=weights,
        morph_positions=np.array([m[0] for m in morphs], np.float32).reshape(-1, len(positions), 3),
        morph_normals=np.array([m[1] for m in morphs], np.float32).reshape(-1, len(positions), 3),
    )
    if part.normals.shape != positions.shape or not np.isfinite(part.normals).all():
        part = _flat_shaded(part)
    return part


def _geometry(file: GltfFile, primitive: dict[str, Any], mode: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    extension = primitive.get("extensions", {}).get(DRACO)
    if extension is not None:
        arrays, triangles = file.draco(extension)
        # A Draco attribute has its accessor's component type, and that says how integers map to [0, 1].
        for name in arrays:
            entry = file.item("accessors", primitive["attributes"][name])
            if entry.get("normalized") and arrays[name].dtype.kind in "iu":
                arrays[name] = arrays[name] / np.float32(np.iinfo(arrays[name].dtype).max)
        return arrays, triangles
    arrays = {name: file.array(accessor) for name, accessor in primitive["attributes"].items() if name[0] != "_"}
    count = len(arrays["POSITION"])
    indices = file.array(primitive["indices"])[:, 0].astype(np.int64) if "indices" in primitive else np.arange(count)
    return arrays, _triangles(indices, mode)


def _triangles(indices: np.ndarray, mode: int) -> np.ndarray:
    """Triangle lists [T, 3] of mode 4 (list), 5 (strip) or 6 (fan)."""
    if mode == 4:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if len(indices) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == 6:
        return np.stack([np.broadcast_to(indices[0], len(indices) - 2), indices[1:-1], indices[2:]], axis=1)
    strip = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    strip[1::2] = strip[1::2][:, [1, 0, 2]]
    return strip


def _morph(file: GltfFile, target: dict[str, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for name in ("POSITION", "NORMAL"):
        values = file.array(target[name]).astype(np.float32) if name in target else np.zeros((count, 3), np.float32)
        if values.shape != (count, 3):
            raise file.fail("accessor", f"a morph target's {name} is {values.shape}, the part has {count} vertices")
        if not np.isfinite(values).all():
            raise file.fail("non_finite", f"NaN or infinity in a morph target's {name}")
        found.append(values)
    return found[0], found[1]


def _influences(
    file: GltfFile, attributes: dict[str, np.ndarray], joint_count: int
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Joint indices and weights [N, K], K = 4 per set. NaN weights count as zero, and a vertex
    without any weight collapses to the origin: both as in Blender, so that the two engines agree."""
    sets = sorted(name for name in attributes if name.startswith("JOINTS_"))
    if not sets:
        return None, None
    joints = np.concatenate([attributes[name] for name in sets], axis=1).astype(np.int64)
    weights = np.concatenate([attributes[name.replace("JOINTS", "WEIGHTS")] for name in sets], axis=1)
    weights = np.nan_to_num(weights.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0.0)
    total = weights.sum(axis=1, keepdims=True)
    weights = weights / np.where(total > 0, total, 1.0)
    used = weights > 0
    if joints[used].max(initial=0) >= joint_count:
        raise file.fail("accessor", f"a vertex uses joint {joints[used].max()}, the skin has {joint_count}")
    return np.where(used, joints, 0), weights


def _uv_sets(attributes: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    found = []
    while (values := attributes.get(f"TEXCOORD_{len(found)}")) is not None and values.shape[1] == 2:
        found.append(np.nan_to_num(values.astype(np.float32)))
    return tuple(found)


def _placed(use: TextureUse | None, uv_sets: tuple[np.ndarray, ...], count: int) -> np.ndarray:
    """Coordinates [N, 2] by which a material's texture is looked up."""
    if use is None or not 0 <= use.uv_set < len(uv_sets):
        return np.zeros((count, 2), np.float32)
    return np.nan_to_num(use.place(uv_sets[use.uv_set]))


def _vertex_colours(colours: np.ndarray | None, count: int) -> np.ndarray:
    result = np.ones((count, 4), np.float32)
    if colours is not None:
        width = min(colours.shape[1], 4)
        scale = 1.0 if colours.dtype == np.float32 else 1.0 / np.iinfo(colours.dtype).max
        result[:, :width] = np.nan_to_num(colours[:, :width].astype(np.float32) * scale).clip(0.0, 1.0)
    return result


def _flat_shaded(part: Part) -> Part:
    """Give every triangle its own vertices and face normal (glTF 3.7.2.1: flat where normals are absent)."""
    corner = part.triangles.reshape(-1)
    points = part.positions[corner].reshape(-1, 3, 3)
    normals = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    return Part(
        name=part.name,
        node=part.node,
        skin=part.skin,
        material=part.material,
        positions=part.positions[corner],
        normals=np.repeat(normals, 3, axis=0).astype(np.float32),
        uvs=part.uvs[corner],
        colours=part.colours[corner],
        triangles=np.arange(len(corner), dtype=np.int32).reshape(-1, 3),
        joints=None if part.joints is None else part.joints[corner],
        weights=None if part.weights is None else part.weights[corner],
        morph_positions=part.morph_positions[:, corner],
        morph_normals=part.morph_normals[:, corner],
        emissive_uvs=None if part.emissive_uvs is None else part.emissive_uvs[corner],
        uv_sets=tuple(values[corner] for values in part.uv_sets),
    )
