"""Read a glTF 2.0 file into plain numpy: parts to draw, skins, morph targets, materials, node tree, every clip.

The reader refuses what would silently draw nonsense. Scenes are kept in glTF's own axes (Y up); `pose.py` turns posed
vertices into this project's world (Z up).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .animation import BadClip, Clip, read_clips
from .document import INSTANCING, VISIBILITY, hidden, simplify
from .gltf_file import DRACO, MESHOPT, AssetError, GltfFile, Limits
from .materials import Material, read_materials
from .primitives import Part, Skin, read_primitive
from .textures import KTX2, Texture

SUPPORTED_EXTENSIONS = {
    DRACO,
    *MESHOPT,
    INSTANCING,
    VISIBILITY,
    "EXT_texture_webp",
    "KHR_lights_punctual",
    "KHR_materials_emissive_strength",
    "KHR_materials_unlit",
    "KHR_materials_pbrSpecularGlossiness",
    "KHR_mesh_quantization",
    "KHR_texture_transform",
    KTX2,  # refused where a texture that is shown has no other image
}


@dataclass(eq=False)
class Scene:
    """A loaded asset. Identity is object identity, so that engines can cache by scene.

    Attributes:
        parents: int [n], -1 for roots; order: node indices, parents before children.
        translations [n, 3], rotations [n, 4] (x, y, z, w), scales [n, 3]: rest pose.
        matrices: rest matrices of the nodes that store one instead (those are never animated).
        morph_weights: rest weights by node.
        textures: decoded images, by the index that materials use.
        bad_clips: animations of the file that cannot be played, with reasons.
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
    bad_clips: list[BadClip] = field(default_factory=list)
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
            bad_structure, accessor, node_cycle, key_times, non_finite, no_geometry, draco, meshopt, texture.
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
        simplify(file)
        nodes = file.items("nodes")
        if len(nodes) > file.limits.nodes:
            raise file.fail("too_large", f"{len(nodes):,} nodes, limit {file.limits.nodes:,}")
        parents, order = self._tree(nodes)
        drawn = self._drawn(nodes, parents, order)
        skins = [self._skin(entry, len(nodes)) for entry in file.items("skins")]
        materials, textures = read_materials(file)
        parts = self._parts(nodes, drawn, skins, materials)
        if not parts:
            raise file.fail("no_geometry", "no triangle is drawn by the default scene")
        morph_counts: dict[int, int] = {}
        for part in parts:
            morph_counts[part.node] = max(morph_counts.get(part.node, 0), len(part.morph_positions))
        morph_counts = {node: count for node, count in morph_counts.items() if count}
        clips, bad_clips = read_clips(file, morph_counts)
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
            clips=clips,
            bad_clips=bad_clips,
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

    def _drawn(self, nodes: list[dict[str, Any]], parents: np.ndarray, order: np.ndarray) -> set[int]:
        """Visible nodes of the default scene (of all nodes where the file names no scene)."""
        roots = {int(i) for i in np.flatnonzero(parents == -1)}
        if self.file.items("scenes"):
            roots = set(self.file.item("scenes", self.file.json.get("scene", 0)).get("nodes", []))
        drawn: set[int] = set()
        for index in map(int, order):
            if (index in roots or int(parents[index]) in drawn) and not hidden(nodes[index]):
                drawn.add(index)
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
        if values.ndim != 1 or len(values) > count or not np.isfinite(values).all():
            raise self.file.fail("bad_structure", f"{values.size} morph weights for {count} targets")
        return np.pad(values, (0, count - len(values)))

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
