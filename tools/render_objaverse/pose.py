"""From a scene and times to world-space vertices: node tree, skinning, morph targets. Numpy only.

The whole clip is posed at once. Skinning is one matrix product per part: row n of the influence matrix holds
w_nj * (x, y, z, 1) for every joint j the part uses, and its product with the joints' matrices of all frames is
every frame's vertices. BLAS does that faster than any gather, and faster than a shader would on a CPU.

World axes are Blender's (Z up): glTF's (x, y, z) becomes (x, -z, y).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .animation import Clip
from .gltf import Scene
from .gltf_file import AssetError
from .primitives import Part

WORLD_FROM_GLTF = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)
CHUNK_ELEMENTS = 8_000_000  # influence-matrix entries held at once, 32 MB


@dataclass(frozen=True)
class Placement:
    """Where the object stands: world = (file - centre) * scale. `framing.normalise` makes it."""

    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Normalised points [..., 3]."""
        return (points - np.asarray(self.centre, np.float32)) * np.float32(self.scale)


@dataclass
class Posed:
    """A scene's visible parts at F times.

    Attributes:
        positions, normals: float32 [F, N, 3] in Blender's world axes; normals have unit length.
        parts: indices into `scene.parts`, in vertex order.
        times: float64 [F] seconds.
        mirrored: for each of `parts`, whether its matrices turn it inside out, so that its triangles' corners run
            the other way round (glTF 3.7.4); none where empty.
    """

    scene: Scene
    parts: list[int]
    positions: np.ndarray
    normals: np.ndarray
    times: np.ndarray
    mirrored: tuple[bool, ...] = ()

    def first(self, frames: int) -> Posed:
        """The first `frames` times alone."""
        return replace(
            self, positions=self.positions[:frames], normals=self.normals[:frames], times=self.times[:frames]
        )

    def outward(self, which: int) -> np.ndarray:
        """Triangles [T, 3] of the part at place `which` of `parts`, counter-clockwise where seen from outside."""
        triangles = self.scene.parts[self.parts[which]].triangles
        return triangles[:, ::-1] if self.mirrored and self.mirrored[which] else triangles


def pose_scene(
    scene: Scene,
    clip: int | str | Clip | None,
    times: Sequence[float] | np.ndarray,
    *,
    parts: Sequence[int] | None = None,
    node_scale: Mapping[int, float | Sequence[float]] | None = None,
) -> Posed:
    """Vertices of every visible part at `times` [F] (seconds of the clip; clamped to its keys).

    Args:
        clip: index, name or Clip; None shows the rest pose at every time.
        parts: indices of the parts to draw, all by default (characters often carry every weapon at once).
        node_scale: node index -> factor on the node's local scale, inherited by its children: changed
            proportions.

    Raises:
        AssetError: "no_clip"; "non_finite" where the pose overflows; "no_geometry" where no part is visible.
    """
    times = np.asarray(times, np.float64).reshape(-1)
    chosen = list(range(len(scene.parts))) if parts is None else [int(index) for index in parts]
    if not chosen:
        raise AssetError("no_geometry", f"{scene.path.name}: no part is visible")
    clip = scene.clip(clip)
    node_matrices = world_matrices(scene, clip, times, node_scale)
    weights = _morph_weights(scene, clip, times)
    count = sum(len(scene.parts[index].positions) for index in chosen)
    positions = np.empty((len(times), count, 3), np.float32)
    normals = np.empty_like(positions)
    first, mirrored = 0, []
    for index in chosen:
        part = scene.parts[index]
        span = slice(first, first + len(part.positions))
        first = span.stop
        matrices = _part_matrices(scene, part, node_matrices)
        mirrored.append(_is_mirrored(part, matrices))
        _transform(part, matrices, weights.get(part.node), positions[:, span], normals[:, span])
    if not np.isfinite(positions).all():
        raise AssetError("non_finite", f"{scene.path.name}: the posed vertices are not finite")
    length = np.sqrt(np.einsum("fnc,fnc->fn", normals, normals))
    normals /= np.maximum(length, 1e-20)[..., None]
    return Posed(scene, chosen, positions, normals, times, tuple(mirrored))


def world_matrices(
    scene: Scene,
    clip: Clip | None,
    times: np.ndarray,
    node_scale: Mapping[int, float | Sequence[float]] | None = None,
) -> np.ndarray:
    """World matrix of every node at every time, Blender axes: float32 [n, F, 4, 4]."""
    frames, nodes = len(times), len(scene.names)
    local = {
        "translation": np.repeat(scene.translations[:, None], frames, axis=1),
        "rotation": np.repeat(scene.rotations[:, None], frames, axis=1),
        "scale": np.repeat(scene.scales[:, None], frames, axis=1),
    }
    for track in clip.tracks if clip else []:
        if track.property != "weights":
            local[track.property][track.nodes] = track.sample(times)
    for node, factor in (node_scale or {}).items():
        local["scale"][node] *= np.asarray(factor, np.float32)
    matrices = compose(local["translation"], local["rotation"], local["scale"])
    for node, matrix in scene.matrices.items():
        matrices[node] = matrix
    depth = np.zeros(nodes, np.int64)
    for node in scene.order:
        parent = scene.parents[node]
        depth[node] = depth[parent] + 1 if parent >= 0 else 0
    for level in range(int(depth.max(initial=0)) + 1):
        here = np.flatnonzero(depth == level)
        above = WORLD_FROM_GLTF if level == 0 else matrices[scene.parents[here]]
        matrices[here] = above @ matrices[here]
    return matrices


def compose(translation: np.ndarray, rotation: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Matrices [..., 4, 4] = T R S from [..., 3], unit quaternions x y z w [..., 4] and [..., 3]."""
    norm = np.maximum(np.linalg.norm(rotation, axis=-1, keepdims=True), 1e-12)
    x, y, z, w = np.moveaxis(rotation / norm, -1, 0)
    result = np.zeros((*rotation.shape[:-1], 4, 4), np.float32)
    result[..., 0, 0] = 1 - 2 * (y * y + z * z)
    result[..., 0, 1] = 2 * (x * y - w * z)
    result[..., 0, 2] = 2 * (x * z + w * y)
    result[..., 1, 0] = 2 * (x * y + w * z)
    result[..., 1, 1] = 1 - 2 * (x * x + z * z)
    result[..., 1, 2] = 2 * (y * z - w * x)
    result[..., 2, 0] = 2 * (x * z - w * y)
    result[..., 2, 1] = 2 * (y * z + w * x)
    result[..., 2, 2] = 1 - 2 * (x * x + y * y)
    result[..., :3, :3] *= scale[..., None, :]
    result[..., :3, 3] = translation
    result[..., 3, 3] = 1
    return result


def cofactor(matrices: np.ndarray) -> np.ndarray:
    """Cofactor matrices of [..., 3, 3]: they turn normals as the matrices turn surfaces, singular ones too."""
    first, second, third = matrices[..., 0, :], matrices[..., 1, :], matrices[..., 2, :]
    return np.stack([np.cross(second, third), np.cross(third, first), np.cross(first, second)], axis=-2)


def _morph_weights(scene: Scene, clip: Clip | None, times: np.ndarray) -> dict[int, np.ndarray]:
    """Morph weights [F, M] by node."""
    weights = {node: np.repeat(rest[None], len(times), axis=0) for node, rest in scene.morph_weights.items()}
    for track in clip.tracks if clip else []:
        if track.property == "weights":
            for node, values in zip(track.nodes, track.sample(times)):
                weights[int(node)] = values
    return weights


def _part_matrices(scene: Scene, part: Part, node_matrices: np.ndarray) -> np.ndarray:
    """World matrices that move the part: one per joint [J, F, 4, 4], or its node's alone [1, F, 4, 4]."""
    if part.skin is None:
        return node_matrices[part.node][None]
    skin = scene.skins[part.skin]
    return node_matrices[skin.joints] @ skin.inverse_bind[:, None]


def _is_mirrored(part: Part, matrices: np.ndarray) -> bool:
    """Whether most of the joints that the part hangs on (or its node) mirror it in the first frame."""
    used = [0] if part.joints is None or part.weights is None else np.unique(part.joints[part.weights > 0])
    return bool(np.median(_mirrors(matrices[used, 0, :3, :3])) > 0.5) if len(used) else False


def _mirrors(matrices: np.ndarray) -> np.ndarray:
    """Whether each of [..., 3, 3] mirrors: bool [...]; no, where a broken clip left NaN."""
    with np.errstate(invalid="ignore"):
        return np.linalg.det(matrices.astype(np.float64)) < 0


def _transform(
    part: Part,
    matrices: np.ndarray,
    morph_weights: np.ndarray | None,
    positions: np.ndarray,
    normals: np.ndarray,
) -> None:
    """Write the part's world positions and (unscaled) normals [F, N, 3] into the two outputs."""
    count = len(part.positions)
    if part.weights is None or part.joints is None:
        used, weights = np.array([0]), np.ones((count, 1), np.float32)
    else:
        used, inverse = np.unique(part.joints[part.weights > 0], return_inverse=True)
        weights = np.zeros((count, len(used)), np.float32)
        rows, columns = np.nonzero(part.weights > 0)
        np.add.at(weights, (rows, inverse.reshape(-1)), part.weights[rows, columns])
    affine = matrices[used][..., :3, :]
    linear = affine[..., :3]
    turn = np.where(_mirrors(linear)[..., None, None], -1, 1) * cofactor(linear)  # what faces out stays outside
    step = max(1, CHUNK_ELEMENTS // (4 * len(used)))
    for start in range(0, count, step):
        span = slice(start, min(start + step, count))
        if morph_weights is None or not len(part.morph_positions):
            points, directions = part.positions[span], part.normals[span]
            _blend(weights[span], points, affine, positions[:, span])
            _blend(weights[span], directions, turn, normals[:, span])
            continue
        # Primitives of one mesh may have fewer targets than others: the missing ones move nothing.
        for frame, amounts in enumerate(morph_weights[:, : len(part.morph_positions)]):
            points = part.positions[span] + np.tensordot(amounts, part.morph_positions[:, span], 1)
            directions = part.normals[span] + np.tensordot(amounts, part.morph_normals[:, span], 1)
            _blend(weights[span], points, affine[:, frame : frame + 1], positions[frame : frame + 1, span])
            _blend(weights[span], directions, turn[:, frame : frame + 1], normals[frame : frame + 1, span])


def _blend(weights: np.ndarray, vectors: np.ndarray, matrices: np.ndarray, out: np.ndarray) -> None:
    """out [F, N, 3] = sum over j of weights [N, J] * matrices [J, F, 3, C] applied to vectors [N, 3].

    C = 4 transforms points (the last column is the translation), C = 3 directions.
    """
    joints, frames, _, width = matrices.shape
    if width == 4:
        vectors = np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1)
    influence = (weights[:, :, None] * vectors[:, None, :]).reshape(len(vectors), joints * width)
    stacked = matrices.transpose(1, 2, 0, 3).reshape(frames * 3, joints * width)
    out[:] = (influence @ stacked.T).reshape(len(vectors), frames, 3).transpose(1, 0, 2)
