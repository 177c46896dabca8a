"""New motions out of an asset's own: each limb moves as in another clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from viewtime.render_objaverse.animation import Clip, Track
from viewtime.render_objaverse.gltf import Scene


def recombine(scene: Scene, base: Clip, limbs: Mapping[int, Clip]) -> Clip:
    """`base`, but every limb follows its own clip, played at the speed that makes it last as long as `base`.

    Args:
        limbs: root node of the limb -> the clip that it and everything below it follow. The limb nearest to a node
            counts, so that an arm can differ from the chest that carries it. Roots come before limbs below them.
    """
    owner = np.full(len(scene.names), -1)
    for root in limbs:
        owner[_below(scene, root)] = root
    tracks = _tracks_of(base, owner == -1, base)
    for root, clip in limbs.items():
        tracks += _tracks_of(clip, owner == root, base)
    return Clip(base.name, base.start, base.end, tracks)


def turned(scene: Scene, clip: Clip, turns: Mapping[int, np.ndarray]) -> Clip:
    """`clip`, but each named node is turned by a constant rotation, about its own axes, with all that hangs on it.

    Args:
        turns: node -> unit quaternion (x, y, z, w).
    """
    tracks = []
    moved: set[int] = set()
    for track in clip.tracks:
        if track.property == "rotation":
            values = track.values.copy()
            for channel, node in enumerate(track.nodes):
                if node in turns:
                    values[channel] = quaternion_product(values[channel], turns[node])
                    moved.add(int(node))
            track = replace(track, values=values)
        tracks.append(track)
    for node in turns.keys() - moved:  # a node that rests in this clip
        resting = quaternion_product(scene.rotations[node], turns[node])[None, None]
        tracks.append(Track("rotation", "STEP", np.array([node]), np.array([clip.start]), resting))
    return Clip(clip.name, clip.start, clip.end, tracks)


def random_turn(rng: np.random.Generator, largest: float) -> np.ndarray:
    """Unit quaternion (x, y, z, w) of a rotation by up to `largest` degrees about a random axis."""
    axis = rng.standard_normal(3)
    half = np.radians(largest * float(rng.uniform())) / 2
    return np.array([*(np.sin(half) * axis / np.linalg.norm(axis)), np.cos(half)], np.float32)


def quaternion_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Hamilton product [..., 4] of quaternions (x, y, z, w): first `right`, then `left`."""
    a, b = left[..., :3], right[..., :3]
    vector = left[..., 3:] * b + right[..., 3:] * a + np.cross(a, b)
    scalar = left[..., 3:] * right[..., 3:] - np.sum(a * b, axis=-1, keepdims=True)
    return np.concatenate([vector, scalar], axis=-1).astype(np.float32)


def _below(scene: Scene, root: int) -> np.ndarray:
    """Mask [n] of the node and all its descendants."""
    inside = np.zeros(len(scene.names), bool)
    for node in scene.order:
        parent = scene.parents[node]
        inside[node] = node == root or (parent >= 0 and inside[parent])
    return inside


def _tracks_of(clip: Clip, nodes: np.ndarray, base: Clip) -> list[Track]:
    """The clip's tracks for the masked nodes alone, its key times stretched over the range of `base`."""
    speed = base.duration / clip.duration if clip.duration > 0 else 1.0
    tracks = []
    for track in clip.tracks:
        kept = nodes[track.nodes]
        if kept.any():
            values = track.values[kept]
            if track.interpolation == "CUBICSPLINE":  # tangents are per second
                values = values * np.array([1 / speed, 1, 1 / speed], np.float32)[:, None]
            times = base.start + speed * (track.times - clip.start)
            tracks.append(replace(track, nodes=track.nodes[kept], times=times, values=values))
    return tracks
