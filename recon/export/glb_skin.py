"""The joints of a skinned GLB: a tree of nodes with their paths over time, and four weighted joints per vertex."""

from __future__ import annotations

from typing import Any

import numpy as np

from viewtime.recon.surface.skeleton import skeleton_of
from viewtime.recon.surface.skinning import Skin, quaternions

from .glb_file import FLOAT, UNSIGNED_BYTE, UNSIGNED_SHORT, VERTICES, Buffer


def to_gltf_axes(points: np.ndarray) -> np.ndarray:
    """World (Z up, front at -Y) -> glTF (Y up, front at +Z), [..., 3]."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1).astype(np.float32)


def add_skin(document: dict[str, Any], buffer: Buffer, skin: Skin, corner: np.ndarray, times: int) -> None:
    """Write the skin of node 0 into a document.

    Args:
        corner: [C] the skin's vertex of each vertex in the file. times: accessor of the frames' seconds.
    """
    J = len(skin.centres)
    index, weight = np.zeros((len(skin.index), 4)), np.zeros((len(skin.index), 4))
    index[:, : skin.index.shape[1]] = skin.index
    weight[:, : skin.weight.shape[1]] = skin.weight
    index[weight == 0] = 0
    kind, limit = (UNSIGNED_BYTE, np.uint8) if J <= 256 else (UNSIGNED_SHORT, np.uint16)
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    attributes["JOINTS_0"] = buffer.add(index.astype(limit)[corner], kind, "VEC4", VERTICES)
    attributes["WEIGHTS_0"] = buffer.add(weight.astype(np.float32)[corner], FLOAT, "VEC4", VERTICES)
    skeleton = skeleton_of(skin)
    bind = np.tile(np.eye(4, dtype=np.float32), (J, 1, 1))
    bind[:, 3, :3] = -to_gltf_axes(skeleton.pivots)  # column-major
    places, rotations = local_paths(skin, skeleton.parents, skeleton.pivots)
    places, turns = to_gltf_axes(places), quaternions(rotations)
    turns = np.concatenate([to_gltf_axes(turns[..., :3]), turns[..., 3:]], axis=-1).astype(np.float32)
    nodes = [
        {"name": f"joint_{j:03d}", "translation": places[0, j].tolist(), "rotation": turns[0, j].tolist()}
        for j in range(J)
    ]
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            nodes[parent].setdefault("children", []).append(1 + joint)
    root = 1 + int(np.flatnonzero(skeleton.parents < 0)[0])
    document["nodes"][0]["skin"] = 0
    document["nodes"] += nodes
    document["scenes"][0]["nodes"] = [0, root]
    document["skins"] = [{
        "joints": list(range(1, 1 + J)), "skeleton": root,
        "inverseBindMatrices": buffer.add(bind.reshape(J, 16), FLOAT, "MAT4"),
    }]  # fmt: skip
    samplers, channels = [], []
    for joint in range(J):
        for name, values, shape in (("translation", places, "VEC3"), ("rotation", turns, "VEC4")):
            channels.append({"sampler": len(samplers), "target": {"node": 1 + joint, "path": name}})
            output = buffer.add(values[:, joint], FLOAT, shape)
            samplers.append({"input": times, "output": output, "interpolation": "LINEAR"})
    document["animations"] = [{"name": "motion", "samplers": samplers, "channels": channels}]


def local_paths(skin: Skin, parents: np.ndarray, pivots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places [F, J, 3] of the pivots and rotations [F, J, 3, 3], each in its parent's axes."""
    world = np.einsum("fjik,jk->fji", skin.rotations, pivots - skin.centres) + skin.places
    above = np.where(parents < 0, 0, parents)
    axes = np.where((parents < 0)[None, :, None, None], np.eye(3), skin.rotations[:, above])
    start = np.where((parents < 0)[None, :, None], 0.0, world[:, above])
    places = np.einsum("fjki,fjk->fji", axes, world - start)
    return places, np.einsum("fjki,fjkl->fjil", axes, skin.rotations)
