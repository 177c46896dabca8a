"""Read a glTF 2.0 file into plain numpy: parts to draw, skins, morph targets, materials, node tree, every clip.

The reader is as tolerant as Blender where real files need it (NaN skin weights count as zero, missing normals
are computed) and refuses what would silently draw nonsense. Scenes are kept in glTF's own axes (Y up); `pose.py`
turns posed vertices into this project's world (Z up).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .animation import Clip, read_clips
from .gltf_file import DRACO, AssetError, GltfFile, Limits
from .materials import Material, Texture, read_materials

SUPPORTED_EXTENSIONS = {
    DRACO,
    "KHR_lights_punctual",
    "KHR_materials_unlit",
    "KHR_materials_pbrSpecularGlossiness",
    "KHR_mesh_quantization",
    "KHR_texture_transform",
}


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
        uvs: float32 [N, 2] of the base-colour texture.
        colours: float32 [N, 4], COLOR_0 in linear RGBA or ones.
        triangles: int32 [T, 3].
        joints, weights: [N, K] indices into the skin's joints, and weights that sum to 1 (or are all 0);
            None without skin.
        morph_positions, morph_normals: float32 [M, N, 3] offsets (M may be 0).
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


@dataclass(eq=False)
class Scene:
    """A loaded asset. Identity is object identity, so that engines can cache by scene.

    Attributes:
        parents: int [n], -1 for roots; order: node indices, parents before children.
        translations [n, 3], rotations [n, 4] (x, y, z, w), scales [n, 3]: rest pose.
        matrices: rest matrices of the nodes that store one instead (those are never animated).
        morph_weights: rest weights by node.
        textures: decoded images, by the index that materials use.
    """

    path: Path
    names: list[str]
    parents: np.ndarray
    order: np.ndarray
    translations: np.ndarray
    rotations: np.ndarray
    scales: np.ndarray
    matrices: dict[int, np.ndarray]
    morph_weights: dict[int, np.ndarray]
    parts: list[Part]
    skins: list[Skin]
    materials: list[Material]
    textures: list[Texture]
    clips: list[Clip]
    asset: dict[str, Any] = field(default_factory=dict)

    @property
    def vertices(self) -> int:
        return sum(len(part.positions) for part in self.parts)

    @property
    def triangles(self) -> int:
        return sum(len(part.triangles) for part in self.parts)

    def clip(self, which: int | str | Clip | None) -> Clip | None:
        """A clip by index or name; None is the rest pose. Raises AssetError("no_clip") naming what there is."""
        if which is None or isinstance(which, Clip):
            return which
        if isinstance(which, int):
            if 0 <= which < len(self.clips):
                return self.clips[which]
        else:
            for clip in self.clips:
                if clip.name == which:
                    return clip
        known = ", ".join(clip.name for clip in self.clips[:20]) or "none"
        raise AssetError("no_clip", f"{self.path.name} has no clip {which!r}; it has: {known}")


def load_scene(path: str | Path, limits: Limits | None = None) -> Scene:
    """Read a .glb or .gltf file.

    Raises:
        AssetError: with `.reason` one of missing, empty, too_large, truncated, not_gltf, bad_json, unsupported,
            bad_structure, accessor, node_cycle, key_times, non_finite, no_geometry, draco.
    """
    file = GltfFile(path, limits)
    try:
        return _Reader(file).scene()
    except AssetError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        # The document is untrusted: a field of the wrong kind anywhere ends here, with its own words.
        if error.__class__.__module__.startswith("viewtime"):
            raise
        words = f"{type(error).__name__}: {str(error)[:120]}"
        raise file.fail("bad_structure", f"malformed document ({words})") from error


class _Reader:
    def __init__(self, file: GltfFile) -> None:
        self.file = file
        unknown = sorted(set(file.json.get("extensionsRequired", [])) - SUPPORTED_EXTENSIONS)
        if unknown:
            raise file.fail("unsupported", f"requires extensions that are not read: {', '.join(unknown)[:200]}")

    def scene(self) -> Scene:
        file = self.file
        nodes = file.items("nodes")
        if len(nodes) > file.limits.nodes:
            raise file.fail("too_large", f"{len(nodes):,} nodes, limit {file.limits.nodes:,}")
        parents, order = self._tree(nodes)
        drawn = self._drawn(parents, order)
        skins = [self._skin(entry, len(nodes)) for entry in file.items("skins")]
        materials, textures = read_materials(file)
        parts = self._parts(nodes, drawn, skins, materials)
        if not parts:
            raise file.fail("no_geometry", "no triangle is drawn by the default scene")
        morph_counts = {p.node: len(p.morph_positions) for p in parts if len(p.morph_positions)}
        matrices = {i: self._matrix(node) for i, node in enumerate(nodes) if "matrix" in node}
        return Scene(
            path=file.path,
            names=[str(node.get("name") or f"node_{i}") for i, node in enumerate(nodes)],
            parents=parents,
            order=order,
            translations=self._rest(nodes, "translation", (0, 0, 0)),
            rotations=self._rest(nodes, "rotation", (0, 0, 0, 1)),
            scales=self._rest(nodes, "scale", (1, 1, 1)),
            matrices=matrices,
            morph_weights={i: self._morph_rest(nodes[i], count) for i, count in morph_counts.items()},
            parts=parts,
            skins=skins,
            materials=materials,
            textures=textures,
            clips=read_clips(file, morph_counts),
            asset=dict(file.json["asset"]),
        )

    def _tree(self, nodes: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        parents = np.full(len(nodes), -1, np.int64)
        for index, node in enumerate(nodes):
            for child in node.get("children", []):
                self.file.item("nodes", child)
                if parents[child] != -1:
                    raise self.file.fail("node_cycle", f"node {child} has two parents, {parents[child]} and {index}")
                parents[child] = index
        order = [int(i) for i in np.flatnonzero(parents == -1)]
        for index in order:  # grows while it is walked: breadth first
            order.extend(nodes[index].get("children", []))
        if len(order) < len(nodes):
            lost = sorted(set(range(len(nodes))) - set(order))
            raise self.file.fail("node_cycle", f"nodes {lost[:8]} are their own ancestors")
        return parents, np.array(order, np.int64)

    def _drawn(self, parents: np.ndarray, order: np.ndarray) -> set[int]:
        """Nodes of the default scene (all nodes where the file names no scene)."""
        scenes = self.file.items("scenes")
        if not scenes:
            return {int(i) for i in order}
        drawn = set(self.file.item("scenes", self.file.json.get("scene", 0)).get("nodes", []))
        for index in order:
            if int(parents[index]) in drawn:
                drawn.add(int(index))
        return drawn

    def _rest(self, nodes: list[dict[str, Any]], name: str, default: tuple[float, ...]) -> np.ndarray:
        values = np.array([node.get(name, default) for node in nodes], np.float32)
        values = values.reshape(len(nodes), len(default))
        if not np.isfinite(values).all():
            raise self.file.fail("non_finite", f"NaN or infinity in a node's {name}")
        return values

    def _matrix(self, node: dict[str, Any]) -> np.ndarray:
        matrix = np.array(node["matrix"], np.float32).reshape(4, 4).T
        if not np.isfinite(matrix).all():
            raise self.file.fail("non_finite", "NaN or infinity in a node's matrix")
        return matrix

    def _morph_rest(self, node: dict[str, Any], count: int) -> np.ndarray:
        mesh = self.file.item("meshes", node["mesh"])
        values = np.asarray(node.get("weights", mesh.get("weights", [0.0] * count)), np.float32)
        if values.shape != (count,) or not np.isfinite(values).all():
            raise self.file.fail("bad_structure", f"{values.size} morph weights for {count} targets")
        return values

    def _skin(self, entry: dict[str, Any], nodes: int) -> Skin:
        joints = np.array(entry["joints"], np.int64)
        if joints.ndim != 1 or len(joints) == 0 or joints.min() < 0 or joints.max() >= nodes:
            raise self.file.fail("bad_structure", "a skin names joints that do not exist")
        inverse = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
        if "inverseBindMatrices" in entry:
            flat = self.file.array(entry["inverseBindMatrices"])
            if flat.shape[1] != 16 or len(flat) < len(joints):
                raise self.file.fail("bad_structure", f"{len(flat)} bind matrices for {len(joints)} joints")
            inverse = flat[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1).astype(np.float32)
        if not np.isfinite(inverse).all():
            raise self.file.fail("non_finite", "NaN or infinity in inverse bind matrices")
        return Skin(joints, inverse)

    def _parts(
        self, nodes: list[dict[str, Any]], drawn: set[int], skins: list[Skin], materials: list[Material]
    ) -> list[Part]:
        parts: list[Part] = []
        vertices = triangles = 0
        for index in sorted(drawn):
            node = nodes[index]
            if "mesh" not in node:
                continue
            skin = node.get("skin")
            if skin is not None:
                self.file.item("skins", skin)
            name = str(node.get("name") or f"node_{index}")
            for primitive in self.file.item("meshes", node["mesh"])["primitives"]:
                part = read_primitive(self.file, primitive, name, index, skin, skins, materials)
                if part is None:
                    continue
                vertices, triangles = vertices + len(part.positions), triangles + len(part.triangles)
                for count, limit, what in (
                    (vertices, self.file.limits.vertices, "vertices"),
                    (triangles, self.file.limits.triangles, "triangles"),
                ):
                    if count > limit:
                        raise self.file.fail("too_large", f"over {limit:,} {what}")
                parts.append(part)
        return parts


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
    uvs = attributes.get(f"TEXCOORD_{materials[material].uv_set}", np.zeros((len(positions), 2), np.float32))
    part = Part(
        name=name,
        node=node,
        skin=skin if joints is not None else None,
        material=material,
        positions=positions,
        normals=attributes.get("NORMAL", np.zeros((0, 3))).astype(np.float32),
        uvs=np.nan_to_num(materials[material].transform_uv(uvs.astype(np.float32))),
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
    )
