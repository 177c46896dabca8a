"""A glTF document said in fewer words: instances become nodes, matrices that move become translation, rotation, scale.

What is rewritten here needs no case of its own in the reader, in framing or in either engine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .gltf_file import GltfFile

INSTANCING = "EXT_mesh_gpu_instancing"
VISIBILITY = "KHR_node_visibility"
TRANSFORMS = {"TRANSLATION": ("translation", 3), "ROTATION": ("rotation", 4), "SCALE": ("scale", 3)}


def simplify(file: GltfFile) -> None:
    """Rewrite the document in place.

    Raises:
        AssetError: "accessor" (instance attributes that do not fit), "too_large", "bad_structure", "non_finite".
    """
    nodes = file.items("nodes")
    for index in range(len(nodes)):
        if INSTANCING in nodes[index].get("extensions", {}) and "mesh" in nodes[index]:
            _expand_instances(file, index)
    for index in _moving_nodes(file):
        if 0 <= index < len(nodes) and "matrix" in nodes[index]:
            node = nodes[index]
            matrix = np.array(node.pop("matrix"), np.float64).reshape(4, 4).T
            if not np.isfinite(matrix).all():
                raise file.fail("non_finite", f"NaN or infinity in the matrix of node {index}")
            parts = decompose(matrix)
            node.update({name: [float(value) for value in values] for name, values in parts.items()})


def hidden(node: dict[str, Any]) -> bool:
    """Whether KHR_node_visibility hides the node and everything below it."""
    return node.get("extensions", {}).get(VISIBILITY, {}).get("visible", True) is False


def decompose(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """translation [3], rotation [4] (x, y, z, w) and scale [3] of a matrix [4, 4] without shear.

    A mirroring matrix gets a negative scale along x, as in three.js.
    """
    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    if np.linalg.det(matrix[:3, :3]) < 0:
        scale[0] = -scale[0]
    turn = matrix[:3, :3] / np.where(scale == 0, 1.0, scale)
    return {"translation": matrix[:3, 3].copy(), "rotation": _quaternion(turn), "scale": scale}


def _quaternion(turn: np.ndarray) -> np.ndarray:
    """(x, y, z, w) of a rotation [3, 3]: the eigenvector of Bar-Itzhack's matrix, exact for rounded input too."""
    m = turn
    matrix = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    vector = np.linalg.eigh(matrix / 3)[1][:, -1]
    return vector if vector[3] >= 0 else -vector


def _moving_nodes(file: GltfFile) -> set[int]:
    """Nodes that a channel of some animation places."""
    found = set()
    for entry in file.items("animations"):
        channels = entry.get("channels", [])
        for channel in channels if isinstance(channels, list) else []:
            target = channel.get("target", {}) if isinstance(channel, dict) else {}
            if isinstance(target.get("node"), int) and target.get("path") in ("translation", "rotation", "scale"):
                found.add(target["node"])
    return found


def _expand_instances(file: GltfFile, index: int) -> None:
    """One child node for each instance of the node's mesh; what plays its morph weights plays theirs."""
    nodes = file.items("nodes")
    node = nodes[index]
    accessors = node["extensions"].pop(INSTANCING)["attributes"]
    values = {}
    for name, (target, width) in TRANSFORMS.items():
        if name in accessors:
            values[target] = file.array(accessors[name]).astype(np.float32)
            if values[target].shape[1] != width:
                raise file.fail("accessor", f"instances of node {index}: {name} has {values[target].shape[1]} columns")
    counts = {len(array) for array in values.values()}
    if len(counts) != 1:
        raise file.fail("accessor", f"instances of node {index}: attributes of {sorted(counts)} entries")
    (count,) = counts
    if len(nodes) + count > file.limits.nodes:
        raise file.fail("too_large", f"{count:,} instances of node {index}, limit {file.limits.nodes:,} nodes")
    carried = {name: node.pop(name) for name in ("mesh", "skin", "weights") if name in node}
    name = str(node.get("name") or f"node_{index}")
    first = len(nodes)
    for number in range(count):
        place = {target: array[number].tolist() for target, array in values.items()}
        nodes.append({"name": f"{name}.{number}", **carried, **place})
    node["children"] = [*node.get("children", []), *range(first, first + count)]
    for entry in file.items("animations"):
        for channel in list(entry.get("channels", [])):
            target = channel["target"]
            if target.get("node") == index and target.get("path") == "weights":
                copies = [channel | {"target": target | {"node": first + number}} for number in range(count)]
                entry["channels"] += copies
