"""New motions out of an asset's own: each limb moves as in another clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from viewtime.render_objaverse.animation import Clip, Track, key_rounding
from viewtime.render_objaverse.gltf import Scene

TURN_SAMPLES = 8  # keys between two turns of a limb, where slerps are multiplied


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
    """`clip`, but each named node is turned, about its own axes, with all that hangs on it.

    Args:
        turns: node -> unit quaternions [K, 4] (x, y, z, w) at K evenly spaced times from the clip's start to its end,
            interpolated between them; a single one turns the node by the same rotation all the time.
    """
    tracks = []
    moved: set[int] = set()
    for track in clip.tracks:
        if track.property != "rotation":
            tracks.append(track)
            continue
        for node in set(track.nodes.tolist()) & turns.keys():
            tracks.append(_turned_track(_only(track, track.nodes == node), clip, turns[node]))
            moved.add(node)
        kept = ~np.isin(track.nodes, list(turns))
        if kept.any():
            tracks.append(_only(track, kept))
    for node in turns.keys() - moved:  # a node that rests in this clip
        resting = Track("rotation", "STEP", np.array([node]), np.array([clip.start]), scene.rotations[node][None, None])
        tracks.append(_turned_track(resting, clip, turns[node]))
    return Clip(clip.name, clip.start, clip.end, tracks)


def _only(track: Track, channels: np.ndarray) -> Track:
    return replace(track, nodes=track.nodes[channels], values=track.values[channels])


def _turned_track(track: Track, clip: Clip, turns: np.ndarray) -> Track:
    """The rotation track with `turns` [K, 4] applied first, keyed at its own times and at a few between the turns'."""
    own = np.linspace(clip.start, clip.end, len(turns))
    between = np.linspace(clip.start, clip.end, TURN_SAMPLES * (len(turns) - 1) + 1)
    jumps = track.times[1:] if track.interpolation == "STEP" else track.times[:0]
    held = jumps - 2 * key_rounding(jumps)
    times = np.unique(np.concatenate([track.times, held, between]))
    turn = Track("rotation", "LINEAR", track.nodes[:1], own, turns[None].astype(np.float32)).sample(times)
    return Track("rotation", "LINEAR", track.nodes, times, quaternion_product(track.sample(times), turn))


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
